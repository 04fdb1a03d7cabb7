//! The body shared by masked and plain conditioner networks.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, activation, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::linear::NetworkLinear;
use crate::fused;
use crate::fused::plan::Linear;
use crate::masks::WeightMask;

/// The activation between the layers of a conditioner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionerActivation {
    /// `max(a, 0)`, as in MAF (arXiv:1705.07057, section 5).
    #[default]
    Relu,
    /// `tanh(a)`.
    Tanh,
    /// `a` where positive, `exp(a) - 1` elsewhere, as in IAF (arXiv:1606.04934, section 6).
    Elu,
}

impl ConditionerActivation {
    /// Applies the activation to each element.
    pub fn apply<B: Backend, const D: usize>(self, a: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Relu => activation::relu(a),
            Self::Tanh => fused::tanh(a),
            // The exponential never sees a positive number, so that neither its value nor its
            // gradient can overflow in the branch that is not taken.
            Self::Elu => activation::relu(a.clone()) + a.clamp_max(0.0).exp() - 1.0,
        }
    }

    /// Standard deviation times `sqrt(fan_in)` at which a layer keeps the size of its input.
    fn gain(self) -> f64 {
        match self {
            Self::Relu => std::f64::consts::SQRT_2,
            Self::Tanh | Self::Elu => 1.0,
        }
    }
}

/// How the hidden layers of a conditioner are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    /// Each layer reads the one before it: `h_l = act(h_(l-1) W_l + b_l)`. A context is added to the
    /// first layer.
    #[default]
    Plain,
    /// Pre-activation residual blocks (He et al., arXiv:1603.05027): the first width is that of the
    /// stream `h = x W + b + act(c C + d)`, every further one that of the inner layer of a block
    /// `h <- h + act(act(h) W_1 + c C_1 + b_1) W_2 + b_2`.
    Residual,
}

/// Standard deviation times `sqrt(fan_in)` of the last layer of a conditioner: small, so that a
/// new layer is close to the identity, and not zero, so that every weight has a gradient.
const OUTPUT_GAIN: f64 = 0.1;

/// A fully connected network with an optional context, masked or not.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// Hidden layers in the order in which they are applied.
    pub(super) layers: Vec<NetworkLinear<B>>,
    pub(super) output: NetworkLinear<B>,
    /// `act(c C + d)`, added to the first layer of a residual network.
    pub(super) embedding: Option<NetworkLinear<B>>,
    #[module(skip)]
    pub(super) activation: ConditionerActivation,
    #[module(skip)]
    pub(super) connections: Connections,
}

impl<B: Backend> Network<B> {
    /// Draws parameters for layers with the given masks, listed in the order of application.
    pub(super) fn init(
        hidden: &[WeightMask],
        output: &WeightMask,
        context_dim: usize,
        (activation, connections): (ConditionerActivation, Connections),
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let residual = connections == Connections::Residual;
        let embeds = residual && context_dim > 0 && !hidden.is_empty();
        let layers = hidden.iter().enumerate().map(|(l, mask)| {
            // A residual network reads its context through the embedding and in every block.
            let reads = if residual { l % 2 == 1 } else { l == 0 };
            let context_dim = if reads { context_dim } else { 0 };
            // The last layer of a block starts small, so that depth does not add up.
            let ends_block = residual && l > 0 && l % 2 == 0;
            let gain = if ends_block {
                OUTPUT_GAIN
            } else {
                activation.gain()
            };
            NetworkLinear::init(mask, context_dim, gain, 1.0, options, rng)
        });
        let layers = layers.collect();
        let embedding = embeds.then(|| {
            let mask = WeightMask::full(context_dim, hidden[0].outputs);
            NetworkLinear::init(&mask, 0, activation.gain(), 1.0, options, rng)
        });
        let direct = if hidden.is_empty() { context_dim } else { 0 };
        let output = NetworkLinear::init(output, direct, OUTPUT_GAIN, 0.0, options, rng);
        Self {
            layers,
            output,
            embedding,
            activation,
            connections,
        }
    }

    /// The linear layers in the order of application, for the kernels.
    pub(crate) fn linear_layers(
        &self,
        context: Option<&Tensor<B, 2>>,
    ) -> impl Iterator<Item = Linear<B>> {
        let layers = self.layers.iter().chain([&self.output]);
        layers.map(move |layer| layer.linear(context))
    }

    pub(crate) fn connections(&self) -> Connections {
        self.connections
    }

    pub(crate) fn activation(&self) -> ConditionerActivation {
        self.activation
    }

    pub(super) fn shift_output_bias(self, offsets: Vec<f64>) -> Self {
        let output = self.output.shift_bias(offsets);
        Self { output, ..self }
    }

    /// The embedded context that a residual network adds to its first layer.
    pub(super) fn embed(&self, context: Option<&Tensor<B, 2>>) -> Option<Tensor<B, 2>> {
        let embedding = self.embedding.as_ref()?;
        let embedded = embedding.forward(context?.clone(), None);
        Some(self.activation.apply(embedded))
    }

    /// The layer that reads the variables.
    pub(super) fn first(&self) -> &NetworkLinear<B> {
        self.layers.first().unwrap_or(&self.output)
    }

    /// Applies the network.
    ///
    /// # Shapes
    /// - `x`: `[batch, inputs]`, `context`: `[batch, context_dim]`
    /// - output: `[batch, outputs]`
    pub fn forward(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.forward_by(self.first().weight(), x, context)
    }

    /// The same with other weights in the layer that reads the variables.
    pub(super) fn forward_by(
        &self,
        first: Tensor<B, 2>,
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let act = self.activation;
        let read = self.first().forward_by(first, x, context);
        let Some((_, layers)) = self.layers.split_first() else {
            return read;
        };
        let h = match self.connections {
            Connections::Plain => layers.iter().fold(act.apply(read), |h, layer| {
                act.apply(layer.forward(h, context))
            }),
            Connections::Residual => {
                let start = match self.embed(context) {
                    Some(embedded) => read + embedded,
                    None => read,
                };
                layers.chunks_exact(2).fold(start, |h, block| {
                    let inner = block[0].forward(act.apply(h.clone()), context);
                    h + block[1].forward(act.apply(inner), context)
                })
            }
        };
        self.output.forward(h, context)
    }
}
