//! MADE: one network whose outputs each depend on the inputs that a mask lets them see.

use std::sync::{Arc, OnceLock};

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::conditioner::{Conditioner, ConditionerActivation, Connections};
use crate::error::Error;
use crate::fused::plan::{Linear, Patterns};
use crate::masks::{MadeLayout, MaskConfig, WeightMask};
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
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> Result<Made<B>, Error> {
        if self.parameters == 0 {
            return Err(Error::config("made", "parameters", 0, "at least 1"));
        }
        let mask = self.mask.build(self.dim)?;
        let layout = MadeLayout::new(mask, &self.hidden, self.context_dim > 0)?;
        let wiring = Wiring::new(&layout, self.connections);
        let network = Conditioner::init(
            &wiring.masks(&layout),
            &layout.to_parameters(wiring.last, self.parameters),
            self.context_dim,
            (self.activation, self.connections),
            device,
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
    pub(super) network: Conditioner<B>,
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
        network: Conditioner<B>,
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

    pub(crate) fn connections(&self) -> Connections {
        self.network.connections
    }

    pub(crate) fn activation(&self) -> ConditionerActivation {
        self.network.activation
    }

    /// The linear layers in the order of application, for the kernels.
    pub(crate) fn linear_layers(
        &self,
        context: Option<&Tensor<B, 2>>,
    ) -> impl Iterator<Item = Linear<B>> {
        let layers = self.network.layers.iter().chain([&self.network.output]);
        layers.map(move |layer| layer.linear(context))
    }

    /// The blocks of each of these weights.
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

    /// Computes all parameters.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`, `context`: `[batch, context_dim]`
    /// - output: `[batch, parameters * dim]`, column `p * dim + i` being parameter `p` of variable `i`
    pub fn forward(&self, x: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Tensor<B, 2> {
        self.network.forward(x, context)
    }
}
