//! Couplings: RealNVP, and couplings of splines.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{AutoregressiveConfig, LayerConfig};
use flows_core::masks::Untouched;
use flows_core::nn::{ConditionerActivation, Connections};
use flows_core::transforms::{AnyTransform, CircularSpline, RqSpline};
use serde::{Deserialize, Serialize};

use crate::maf::NamedTransform;
use crate::mixing::{Mixing, stacked};
use crate::model::is_default;

/// Couplings with the map `T` of each variable, that swap halves from layer to layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(bound(deserialize = "T: NamedTransform"))]
pub struct CouplingFlowConfig<T> {
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
    /// How the variables are mixed between couplings, besides the swap of halves.
    #[serde(default = "defaults::mixing")]
    pub mixing: Mixing,
    /// Whether batch normalization follows each coupling (arXiv:1605.08803, section 3.7). The inverse
    /// then needs statistics fixed by `LayerVisit::freeze_statistics`.
    #[serde(default)]
    pub batch_norm: bool,
    /// Map of each variable; for a [`RealNvpConfig`] it is affine by default.
    #[serde(default)]
    pub transform: T,
    /// Activation of the conditioners.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks in the conditioners.
    #[serde(default)]
    pub connections: Connections,
    /// The base distribution.
    #[serde(default = "T::base", skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

/// RealNVP: affine couplings, unless another map is named.
///
/// Dinh, Sohl-Dickstein & Bengio, *Density estimation using Real NVP*, arXiv:1605.08803, equations 7 and 8.
pub type RealNvpConfig = CouplingFlowConfig<AnyTransform>;

/// Neural spline flow by couplings: a [rational-quadratic spline](RqSpline) of each variable that is moved.
///
/// Durkan, Bekasov, Murray & Papamakarios, *Neural Spline Flows*, arXiv:1906.04032, section 3.2.
pub type NsfCouplingConfig = CouplingFlowConfig<RqSpline>;

/// Neural circular spline flow: a [spline of the circle](CircularSpline) of each angle that is moved, in radians
/// between `-pi` and `pi`, over the uniform density of the torus. A single angle has layers without a coupling.
///
/// Rezende et al., *Normalizing Flows on Tori and Spheres*, arXiv:2002.02428, sections 2.1.3 and 2.2. With another
/// `bound` of the transform, `base` is a torus of the same bound.
pub type NcsfConfig = CouplingFlowConfig<CircularSpline>;

mod defaults {
    use crate::mixing::Mixing;

    pub(super) fn mixing() -> Mixing {
        Mixing::Nothing
    }
    pub(super) fn layers() -> usize {
        8
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![64, 64]
    }
    pub(super) fn context_dim() -> usize {
        0
    }
}

impl<T: NamedTransform> CouplingFlowConfig<T> {
    /// Eight couplings with two hidden layers of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: defaults::context_dim(),
            mixing: defaults::mixing(),
            batch_norm: false,
            transform: T::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            base: T::base(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let transform: AnyTransform = self.transform.clone().into();
        let alone = self.dim == 1 && matches!(transform, AnyTransform::CircularSpline(_));
        let couplings = alternating(self.layers, |untouched| {
            let hidden = self.hidden.clone();
            let layer = match alone {
                true => AutoregressiveConfig::new(self.dim, hidden),
                false => AutoregressiveConfig::coupling(self.dim, hidden, untouched),
            };
            AutoregressiveConfig {
                transform: transform.clone(),
                activation: self.activation,
                connections: self.connections,
                context_dim: self.context_dim,
                ..layer
            }
        });
        stacked(couplings, self.dim, self.mixing, self.batch_norm)
    }
}

/// Couplings that leave the first half untouched, then the second, and so on.
pub(crate) fn alternating(
    layers: usize,
    coupling: impl Fn(Untouched) -> AutoregressiveConfig,
) -> Vec<LayerConfig> {
    let halves = [Untouched::FirstHalf, Untouched::SecondHalf];
    let halves = halves.into_iter().cycle().take(layers);
    let layers = halves.map(coupling).map(LayerConfig::Autoregressive);
    layers.collect()
}
