//! MADE: one network whose outputs each depend on the inputs that a mask lets them see.

use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::columns::pick;
use super::network::{ConditionerActivation, Connections, Network};
use crate::error::Error;
use crate::fused::plan::Patterns;
use crate::init::options_of;
use crate::masks::{DependencyMask, HiddenUnits, MadeLayout, MaskConfig, WeightMask};
use crate::state::Transient;

/// Configuration of a [`Made`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeConfig {
    /// Number of variables.
    pub dim: usize,
    /// Widths of the hidden layers; none makes the network linear.
    pub hidden: Vec<usize>,
    /// Which variables the parameters of each variable may see.
    #[serde(default)]
    pub mask: MaskConfig,
    /// Parameters of each variable.
    pub parameters: usize,
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

impl MadeConfig {
    /// Natural order, two parameters for each variable, plain rectified linear layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            mask: MaskConfig::default(),
            parameters: 2,
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
        }
    }

    /// Draws a network whose output is small.
    ///
    /// # Errors
    /// As [`MaskConfig::build`] and [`MadeLayout::new`].
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Made<B>, Error> {
        let mask = self.mask.build(self.dim)?;
        let layout = MadeLayout::new(mask, &self.hidden, self.context_dim > 0)?;
        self.init_with(layout, options, rng)
    }

    /// Draws a network of a given layout, in place of that of the mask and the widths.
    ///
    /// # Errors
    /// [`Error::Config`] without parameters.
    pub fn init_with<B: Backend>(
        &self,
        layout: MadeLayout,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Made<B>, Error> {
        if self.parameters == 0 {
            return Err(Error::config("made", "parameters", 0, "at least 1"));
        }
        let wiring = Wiring::new(&layout, self.connections);
        let network = Network::init(
            &wiring.masks(&layout),
            &layout.to_parameters(wiring.last, self.parameters),
            self.context_dim,
            (self.activation, self.connections),
            &options.into(),
            rng,
        );
        Ok(Made::new(
            network,
            layout,
            self.parameters,
            self.context_dim,
        ))
    }
}

/// Which hidden layer of a layout each linear layer of a network reads and computes.
pub(super) struct Wiring {
    /// Source, none for the variables, and target of each layer.
    pub(super) layers: Vec<(Option<usize>, usize)>,
    /// The hidden layer that the output reads, none for the variables.
    pub(super) last: Option<usize>,
}

impl Wiring {
    pub(super) fn new(layout: &MadeLayout, connections: Connections) -> Self {
        Self::for_depth(layout.hidden().len(), connections)
    }

    /// The weight masks of the hidden layers, in the order of application.
    fn masks(&self, layout: &MadeLayout) -> Vec<WeightMask> {
        let masks = self.layers.iter().map(|layer| match *layer {
            (None, to) => layout.from_variables(to),
            (Some(from), to) => layout.between(from, to),
        });
        masks.collect()
    }

    /// For a number of hidden layers, or of residual blocks and one.
    pub(super) fn for_depth(depth: usize, connections: Connections) -> Self {
        match connections {
            Connections::Plain => Self {
                layers: (0..depth).map(|l| (l.checked_sub(1), l)).collect(),
                last: depth.checked_sub(1),
            },
            Connections::Residual => {
                let first = (0..depth.min(1)).map(|l| (None, l));
                let blocks = (1..depth).flat_map(|l| [(Some(0), l), (Some(l), 0)]);
                Self {
                    layers: first.chain(blocks).collect(),
                    last: (depth > 0).then_some(0),
                }
            }
        }
    }
}

/// A masked network (Germain et al., arXiv:1502.03509): one pass gives the parameters of every
/// variable, those of variable `i` computed from the variables that `i` may see.
///
/// Hidden units lie sorted by level (see [`MadeLayout`]), so that what becomes computable when a
/// variable becomes known is one contiguous group of each layer.
#[derive(Module, Debug)]
pub struct Made<B: Backend> {
    pub(super) network: Network<B>,
    #[module(skip)]
    pub(super) layout: Arc<MadeLayout>,
    pub(super) parameters: usize,
    pub(super) context_dim: usize,
    /// Blocks of each weight matrix, for the kernels; made when first asked for.
    #[module(skip)]
    patterns: Transient<Arc<OnceLock<Arc<Patterns>>>>,
}

impl<B: Backend> Made<B> {
    pub(super) fn new(
        network: Network<B>,
        layout: MadeLayout,
        parameters: usize,
        context_dim: usize,
    ) -> Self {
        Self {
            network,
            layout: Arc::new(layout),
            parameters,
            context_dim,
            patterns: Transient::default(),
        }
    }

    /// Number of variables.
    pub fn dim(&self) -> usize {
        self.layout.mask().dim()
    }

    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        self.context_dim
    }

    /// Parameters of each variable.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Masks and degrees.
    pub fn layout(&self) -> &MadeLayout {
        &self.layout
    }

    pub(crate) fn network(&self) -> &Network<B> {
        &self.network
    }

    /// The blocks of the weights of each linear layer, for the kernels.
    pub(crate) fn patterns(&self) -> &Arc<Patterns> {
        self.patterns.0.get_or_init(|| {
            let wiring = Wiring::new(&self.layout, self.network.connections);
            let output = self.layout.to_parameters(wiring.last, self.parameters);
            let hidden = wiring.masks(&self.layout);
            let hidden = hidden.iter().map(|mask| (mask, 1));
            Arc::new(Patterns::new(hidden.chain([(&output, self.parameters)])))
        })
    }

    /// Adds `offsets[p]` to the bias of parameter `p` of every variable.
    pub(crate) fn shift_output_bias(self, offsets: &[f64]) -> Self {
        let offsets = offsets.iter().flat_map(|&o| vec![o; self.dim()]).collect();
        let network = self.network.shift_output_bias(offsets);
        Self { network, ..self }
    }

    /// Where its parameters are.
    pub(crate) fn options(&self) -> TensorCreationOptions<B> {
        options_of(&self.first_weight())
    }

    /// The weights that read the variables, `[dim, width]`.
    pub(crate) fn first_weight(&self) -> Tensor<B, 2> {
        self.network.first().weight()
    }

    /// The same, those of units that are dealt to variable `i` times row `i` of `mask`, `[dim, dim]`.
    pub(crate) fn first_weight_under(&self, mask: Tensor<B, 2>) -> Tensor<B, 2> {
        let dim = self.dim();
        let owners: Vec<usize> = match self.layout.hidden().first().map(HiddenUnits::owners) {
            Some(owners) => owners.expect("units dealt to variables").to_vec(),
            None => (0..self.parameters * dim).map(|k| k % dim).collect(),
        };
        self.first_weight() * pick(mask.transpose(), &owners)
    }

    /// The network, whose units are dealt to variables, under a smaller mask.
    pub(crate) fn under(&self, mask: DependencyMask) -> Self {
        let (layout, orders) = self.layout.under(mask);
        let wiring = Wiring::new(&layout, self.network.connections);
        let masks = wiring.masks(&layout);
        let order = |l: usize| orders[l].as_slice();
        let layers = self.network.layers.iter().zip(&wiring.layers).zip(&masks);
        let layers = layers.map(|((layer, &(from, to)), mask)| {
            layer.reordered(from.map(order), Some(order(to)), mask)
        });
        let output = layout.to_parameters(wiring.last, self.parameters);
        let network = Network {
            layers: layers.collect(),
            output: self
                .network
                .output
                .reordered(wiring.last.map(order), None, &output),
            embedding: self.network.embedding.as_ref().map(|layer| {
                let [inputs, outputs] = layer.weight().dims();
                let all = WeightMask::full(inputs, outputs);
                layer.reordered(None, orders.first().map(Vec::as_slice), &all)
            }),
            ..self.network.clone()
        };
        Self::new(network, layout, self.parameters, self.context_dim)
    }

    /// [`forward`](Self::forward) with other weights in the layer that reads the variables.
    pub(crate) fn forward_by(
        &self,
        first: Tensor<B, 2>,
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        self.network.forward_by(first, x, context)
    }

    /// Computes all parameters.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, `context`: `[batch, context_dim]`
    /// - output: `[batch, parameters * dim]`, column `p * dim + i` being parameter `p` of variable `i`
    pub fn forward(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.network.forward(x, context)
    }
}
