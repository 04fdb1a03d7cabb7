//! Any layer of this crate, so that a configuration can name a mixed stack.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{
    ActNorm, ActNormConfig, AffineCoupling, AffineCouplingConfig, AsDdnfBlock, BatchNorm,
    BatchNormConfig, BlockAffine, BlockAffineConfig, Chain, DdnfBlock, DdnfBlockConfig,
    ElementwiseAffine, ElementwiseAffineConfig, LuLinear, LuLinearConfig, MaskedAffine,
    MaskedAffineConfig, Permutation, PermutationConfig, Planar, PlanarConfig, Radial, RadialConfig,
    SharedAffine, SharedAffineConfig, SoftMaskedAffine, SoftMaskedAffineConfig, Sylvester,
    SylvesterConfig,
};
use crate::bijector::{Bijector, Invert, Mapped};
use crate::error::Error;
use crate::visit::{LayerVisit, Task};

/// Layers of any kind, one after the other.
pub type Stack<B> = Chain<B, Layer<B>>;

/// Any layer of this crate.
///
/// A stack of your own layers needs none of this: [`Chain`] takes any one type, and
/// [`Pair`](super::Pair) any two.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // a stack holds a handful of layers, whose tensors are elsewhere
pub enum Layer<B: Backend> {
    /// Activation normalization.
    ActNorm(ActNorm<B>),
    /// Batch normalization.
    BatchNorm(BatchNorm<B>),
    /// Affine map with dense blocks.
    BlockAffine(BlockAffine<B>),
    /// Affine or additive coupling.
    Coupling(AffineCoupling<B>),
    /// Block of a deep diffeomorphic flow.
    Ddnf(DdnfBlock<B>),
    /// Elementwise affine map.
    ElementwiseAffine(ElementwiseAffine<B>),
    /// Learned linear map.
    LuLinear(LuLinear<B>),
    /// MADE-masked affine autoregressive map.
    MaskedAffine(MaskedAffine<B>),
    /// Fixed permutation.
    Permutation(Permutation<B>),
    /// Planar map.
    Planar(Planar<B>),
    /// Radial map.
    Radial(Radial<B>),
    /// Affine autoregressive map with one shared network.
    SharedAffine(SharedAffine<B>),
    /// Affine autoregressive map that learns its mask.
    SoftMaskedAffine(SoftMaskedAffine<B>),
    /// Sylvester map.
    Sylvester(Sylvester<B>),
}

/// Configuration of any layer, as a table with its kind under `layer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "layer", rename_all = "kebab-case")]
pub enum LayerConfig {
    /// Activation normalization.
    ActNorm(ActNormConfig),
    /// Batch normalization.
    BatchNorm(BatchNormConfig),
    /// Affine map with dense blocks.
    BlockAffine(BlockAffineConfig),
    /// Affine or additive coupling.
    Coupling(AffineCouplingConfig),
    /// Block of a deep diffeomorphic flow.
    Ddnf(DdnfBlockConfig),
    /// Elementwise affine map.
    ElementwiseAffine(ElementwiseAffineConfig),
    /// Learned linear map.
    LuLinear(LuLinearConfig),
    /// MADE-masked affine autoregressive map.
    MaskedAffine(MaskedAffineConfig),
    /// Fixed permutation.
    Permutation(PermutationConfig),
    /// Planar map.
    Planar(PlanarConfig),
    /// Radial map.
    Radial(RadialConfig),
    /// Affine autoregressive map with one shared network.
    SharedAffine(SharedAffineConfig),
    /// Affine autoregressive map that learns its mask.
    SoftMaskedAffine(SoftMaskedAffineConfig),
    /// Sylvester map.
    Sylvester(SylvesterConfig),
}

impl LayerConfig {
    /// Builds the layer.
    ///
    /// # Errors
    /// The [`Error`] of the layer's own configuration.
    pub fn init<B: Backend>(
        &self,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> Result<Layer<B>, Error> {
        Ok(match self {
            Self::ActNorm(c) => Layer::ActNorm(c.init(device, rng)?),
            Self::BatchNorm(c) => Layer::BatchNorm(c.init(device, rng)?),
            Self::BlockAffine(c) => Layer::BlockAffine(c.init(device, rng)?),
            Self::Coupling(c) => Layer::Coupling(c.init(device, rng)?),
            Self::Ddnf(c) => Layer::Ddnf(c.init(device, rng)?),
            Self::ElementwiseAffine(c) => Layer::ElementwiseAffine(c.init(device, rng)?),
            Self::LuLinear(c) => Layer::LuLinear(c.init(device, rng)?),
            Self::MaskedAffine(c) => Layer::MaskedAffine(c.init(device, rng)?),
            Self::Permutation(c) => Layer::Permutation(c.init()?),
            Self::Planar(c) => Layer::Planar(c.init(device, rng)?),
            Self::Radial(c) => Layer::Radial(c.init(device, rng)?),
            Self::SharedAffine(c) => Layer::SharedAffine(c.init(device, rng)?),
            Self::SoftMaskedAffine(c) => Layer::SoftMaskedAffine(c.init(device, rng)?),
            Self::Sylvester(c) => Layer::Sylvester(c.init(device, rng)?),
        })
    }
}

/// Calls the same on whichever layer it is.
macro_rules! each {
    ($self:expr, $layer:ident => $body:expr) => {
        match $self {
            Layer::ActNorm($layer) => $body,
            Layer::BatchNorm($layer) => $body,
            Layer::BlockAffine($layer) => $body,
            Layer::Coupling($layer) => $body,
            Layer::Ddnf($layer) => $body,
            Layer::ElementwiseAffine($layer) => $body,
            Layer::LuLinear($layer) => $body,
            Layer::MaskedAffine($layer) => $body,
            Layer::Permutation($layer) => $body,
            Layer::Planar($layer) => $body,
            Layer::Radial($layer) => $body,
            Layer::SharedAffine($layer) => $body,
            Layer::SoftMaskedAffine($layer) => $body,
            Layer::Sylvester($layer) => $body,
        }
    };
}

impl<B: Backend> Bijector<B> for Layer<B> {
    fn name(&self) -> &'static str {
        each!(self, layer => layer.name())
    }

    fn dim(&self) -> usize {
        each!(self, layer => layer.dim())
    }

    fn context_dim(&self) -> usize {
        each!(self, layer => layer.context_dim())
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        each!(self, layer => layer.forward_and_log_det(x, context))
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        each!(self, layer => layer.forward(x, context))
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        each!(self, layer => layer.adapt(task))
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        each!(self, layer => layer.visit_layers(visit))
    }
}

impl<B: Backend> AsDdnfBlock<B> for Layer<B> {
    fn as_ddnf_block(&self) -> Option<&DdnfBlock<B>> {
        match self {
            Self::Ddnf(block) => Some(block),
            _ => None,
        }
    }
}

impl<B: Backend> Invert<B> for Layer<B> {
    fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
        each!(self, layer => layer.visit_layers_inverse(visit))
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        each!(self, layer => layer.inverse_and_log_det(y, context))
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        each!(self, layer => layer.inverse(y, context))
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        each!(self, layer => layer.inverse_and_passes(y, context))
    }
}
