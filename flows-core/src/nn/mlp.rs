//! A plain fully connected conditioner, as used by couplings.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::network::{ConditionerActivation, Connections, Network};
use crate::error::Error;
use crate::fused::plan::Patterns;
use crate::init::options_of;
use crate::masks::WeightMask;

/// Configuration of an [`Mlp`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpConfig {
    /// Columns of the input.
    pub inputs: usize,
    /// Columns of the output.
    pub outputs: usize,
    /// Widths of the hidden layers; none makes the network linear.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    #[serde(default)]
    pub connections: Connections,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
}

impl MlpConfig {
    /// Plain rectified linear hidden layers, no context.
    pub fn new(inputs: usize, hidden: Vec<usize>, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            hidden,
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
        }
    }

    /// Draws a network whose output is small.
    ///
    /// # Errors
    /// [`Error::Config`] for widths of 0.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Mlp<B>, Error> {
        let widths = [&[self.inputs][..], &self.hidden, &[self.outputs]].concat();
        if widths.contains(&0) {
            let actual = format!("{widths:?}");
            return Err(Error::config("mlp", "widths", actual, "at least 1 each"));
        }
        let (hidden, last) = match self.connections {
            Connections::Plain => {
                let pairs = widths[..widths.len() - 1].windows(2);
                let hidden = pairs.map(|pair| WeightMask::full(pair[0], pair[1]));
                (hidden.collect(), widths[widths.len() - 2])
            }
            Connections::Residual => residual_masks(self.inputs, &self.hidden),
        };
        Ok(Mlp {
            network: Network::init(
                &hidden,
                &WeightMask::full(last, self.outputs),
                self.context_dim,
                (self.activation, self.connections),
                &options.into(),
                rng,
            ),
            inputs: self.inputs,
            outputs: self.outputs,
            context_dim: self.context_dim,
        })
    }
}

/// The layers of a residual network and the width of its stream.
fn residual_masks(inputs: usize, hidden: &[usize]) -> (Vec<WeightMask>, usize) {
    let Some((&stream, inner)) = hidden.split_first() else {
        return (Vec::new(), inputs);
    };
    let blocks = inner.iter().flat_map(|&width| {
        [
            WeightMask::full(stream, width),
            WeightMask::full(width, stream),
        ]
    });
    let first = WeightMask::full(inputs, stream);
    ([first].into_iter().chain(blocks).collect(), stream)
}

/// A fully connected network, see [`Connections`] for its formula.
#[derive(Module, Debug)]
pub struct Mlp<B: Backend> {
    pub(super) network: Network<B>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) context_dim: usize,
}

impl<B: Backend> Mlp<B> {
    /// Columns of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        self.context_dim
    }

    /// The weights of the first layer, `[inputs, width]`.
    pub fn first_weight(&self) -> Tensor<B, 2> {
        self.network.first().weight()
    }

    pub(crate) fn network(&self) -> &Network<B> {
        &self.network
    }

    /// The blocks of the weights of each linear layer, for the kernels: all of them.
    pub(crate) fn patterns(&self, parameters: usize) -> Patterns {
        let layers = self.network.layers.iter().chain([&self.network.output]);
        let shapes = layers.map(|layer| layer.weight().dims());
        let masks: Vec<_> = shapes.map(|[i, o]| WeightMask::full(i, o)).collect();
        let last = masks.len() - 1;
        let kinds = |l: usize| if l == last { parameters } else { 1 };
        Patterns::new(masks.iter().enumerate().map(|(l, mask)| (mask, kinds(l))))
    }

    /// Where its parameters are.
    pub(crate) fn options(&self) -> TensorCreationOptions<B> {
        options_of(&self.first_weight())
    }

    /// Adds `offsets`, one for each output, to the bias of the last layer.
    pub(crate) fn shift_output_bias(self, offsets: Vec<f64>) -> Self {
        let network = self.network.shift_output_bias(offsets);
        Self { network, ..self }
    }

    /// Applies the network.
    ///
    /// # Shapes
    /// - `x`: `[batch, inputs]`, `context`: `[batch, context_dim]`
    /// - output: `[batch, outputs]`
    pub fn forward(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.network.forward(x, context)
    }
}
