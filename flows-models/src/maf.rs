//! Masked autoregressive flows: MAF, and those that are named after another map of each variable.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{AutoregressiveConfig, AutoregressiveInverse, LayerConfig};
use flows_core::distributions::TorusConfig;
use flows_core::masks::MaskConfig;
use flows_core::nn::{ConditionerActivation, Connections};
use flows_core::transforms::{
    AnyTransform, Bernstein, CircularSpline, DeepSigmoidal, LogScale, RqSpline, SumOfSquares, Umnn,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::mixing::{Mixing, stacked};
use crate::model::is_default;

/// Masked autoregressive layers with the map `T` of each variable, and the variables mixed between them, by default
/// reversed; the network pass maps data to base, so `log_prob` takes one pass a layer.
///
/// Sampling runs the incremental inverse: the work of one pass, and of the inverse of each map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(deserialize = "T: NamedTransform"))]
pub struct MaskedFlowConfig<T> {
    /// Number of columns.
    pub dim: usize,
    /// Number of layers.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// Widths of the hidden layers of each conditioner.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// Context columns, 0 for none.
    #[serde(default = "defaults::context_dim")]
    pub context_dim: usize,
    /// Which variables each variable may see, in every layer: an order, blocks or a graph.
    #[serde(default)]
    pub mask: MaskConfig,
    /// How the variables are mixed between layers. A mask that means something, such as a graph of
    /// causes, wants [`Mixing::Nothing`].
    #[serde(default = "defaults::mixing")]
    pub mixing: Mixing,
    /// Whether batch normalization follows each layer (arXiv:1705.07057, appendix B). Sampling then
    /// needs statistics fixed by `LayerVisit::freeze_statistics`.
    #[serde(default)]
    pub batch_norm: bool,
    /// Map of each variable. For a [`MafConfig`] it is affine by default; the paper's has
    /// [`LogScale::Exp`](flows_core::transforms::LogScale::Exp).
    #[serde(default, alias = "scale", deserialize_with = "T::read")]
    pub transform: T,
    /// Activation of the conditioners.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks in the conditioners.
    #[serde(default)]
    pub connections: Connections,
    /// How the sequential direction is computed.
    #[serde(default)]
    pub inverse: AutoregressiveInverse,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

/// Masked autoregressive flow, with an affine map of each variable unless another one is named.
///
/// Papamakarios, Pavlakou & Murray, *Masked Autoregressive Flow for Density Estimation*, arXiv:1705.07057, equations 3
/// to 5.
pub type MafConfig = MaskedFlowConfig<AnyTransform>;

/// Neural spline flow: a [rational-quadratic spline](RqSpline) of each variable, eight bins on `[-5, 5]`.
///
/// Durkan, Bekasov, Murray & Papamakarios, *Neural Spline Flows*, arXiv:1906.04032, section 3.2.
pub type NsfConfig = MaskedFlowConfig<RqSpline>;

/// Neural autoregressive flow: a [deep sigmoidal map](DeepSigmoidal) of each variable.
///
/// Huang, Krueger, Lacoste & Courville, *Neural Autoregressive Flows*, arXiv:1804.00779.
pub type NafConfig = MaskedFlowConfig<DeepSigmoidal>;

/// Sum-of-squares polynomial flow: a [polynomial](SumOfSquares) of each variable.
///
/// Jaini, Selby & Yu, *Sum-of-Squares Polynomial Flow*, arXiv:1905.02325.
pub type SosConfig = MaskedFlowConfig<SumOfSquares>;

/// Bernstein polynomial flow: a [Bernstein polynomial](Bernstein) of each variable.
///
/// Arpogaus et al., *Short-Term Density Forecasting of Low-Voltage Load using Bernstein-Polynomial Normalizing Flows*,
/// arXiv:2204.13939.
pub type BernsteinConfig = MaskedFlowConfig<Bernstein>;

/// Unconstrained monotonic neural network flow: the [integral of a positive network](Umnn) of each variable.
///
/// Wehenkel & Louppe, *Unconstrained Monotonic Neural Networks*, arXiv:1908.05164.
pub type UmnnConfig = MaskedFlowConfig<Umnn>;

/// A map of each variable as the configuration of a model holds it.
pub trait NamedTransform: Clone + Default + Into<AnyTransform> + for<'de> Deserialize<'de> {
    /// The base of a model that names none.
    fn base() -> BaseConfig {
        BaseConfig::default()
    }

    /// Reads it from a configuration.
    ///
    /// # Errors
    /// Those of serde.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <Self as Deserialize>::deserialize(from)
    }
}

impl NamedTransform for RqSpline {}
impl NamedTransform for CircularSpline {
    fn base() -> BaseConfig {
        BaseConfig::Torus(TorusConfig::default())
    }
}
impl NamedTransform for DeepSigmoidal {}
impl NamedTransform for SumOfSquares {}
impl NamedTransform for Bernstein {}
impl NamedTransform for Umnn {}

impl NamedTransform for AnyTransform {
    /// Configurations of before hold the scale of an affine map in the place of a transform.
    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = <serde_json::Value as Deserialize>::deserialize(from)?;
        if let Ok(scale) = <LogScale as Deserialize>::deserialize(&value) {
            return Ok(scale.into());
        }
        <AnyTransform as Deserialize>::deserialize(value).map_err(D::Error::custom)
    }
}

mod defaults {
    use crate::mixing::Mixing;

    pub(super) fn mixing() -> Mixing {
        Mixing::Reversal
    }
    pub(super) fn layers() -> usize {
        5
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![64, 64]
    }
    pub(super) fn context_dim() -> usize {
        0
    }
}

impl<T: NamedTransform> MaskedFlowConfig<T> {
    /// Five layers with two hidden layers of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: defaults::context_dim(),
            mask: MaskConfig::default(),
            mixing: defaults::mixing(),
            batch_norm: false,
            transform: T::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            inverse: AutoregressiveInverse::default(),
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let layer = LayerConfig::Autoregressive(AutoregressiveConfig {
            transform: self.transform.clone().into(),
            mask: self.mask.clone(),
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            inverse: self.inverse,
            ..AutoregressiveConfig::new(self.dim, self.hidden.clone())
        });
        let layers = vec![layer; self.layers];
        stacked(layers, self.dim, self.mixing, self.batch_norm)
    }
}
