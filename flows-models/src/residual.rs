//! Residual flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{DdnfBlockConfig, ElementwiseAffineConfig, LayerConfig};
use flows_core::log_det::LogDet;
use flows_core::nn::Activation;
use serde::{Deserialize, Serialize};

use crate::model::is_default;

/// Residual blocks `x + g(x)` with `Lip(g) <= lipschitz < 1`, each behind an elementwise affine map: DDNF blocks of one
/// cell whose weights are bounded.
///
/// J. Behrmann et al., *Invertible Residual Networks*, arXiv:1811.00995; R. T. Q. Chen et al., *Residual Flows*,
/// arXiv:1906.02735, with `log_det = "russian_roulette"`. `log_prob` takes one pass a block, samples a solver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidualFlowConfig {
    /// Number of columns.
    pub dim: usize,
    /// Number of blocks.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// Widths of the hidden layers of each `g`.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// Activation; a swish is LipSwish, as the bound accounts for its slope.
    #[serde(default = "defaults::activation")]
    pub activation: Activation,
    /// Bound on the Lipschitz constant of each `g`, between 0 and 1.
    #[serde(default = "defaults::lipschitz")]
    pub lipschitz: f64,
    /// How the log-determinants are computed. An estimate keeps its noise until a visit resamples it.
    #[serde(default)]
    pub log_det: LogDet,
    /// Context columns, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    use flows_core::nn::Activation;

    pub(super) fn layers() -> usize {
        8
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![64, 64]
    }
    pub(super) fn activation() -> Activation {
        Activation::Swish
    }
    pub(super) fn lipschitz() -> f64 {
        0.97
    }
}

impl ResidualFlowConfig {
    /// Eight blocks with two hidden layers of 64, LipSwish, a bound of 0.97, and exact log-determinants.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            activation: defaults::activation(),
            lipschitz: defaults::lipschitz(),
            log_det: LogDet::default(),
            context_dim: 0,
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let affine = LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(self.dim));
        let block = LayerConfig::Ddnf(DdnfBlockConfig {
            activation: self.activation,
            cells: 1,
            log_det: self.log_det.clone(),
            context_dim: self.context_dim,
            lipschitz: Some(self.lipschitz),
            ..DdnfBlockConfig::new(self.dim, self.hidden.clone())
        });
        let pairs = std::iter::repeat_n([affine, block], self.layers);
        pairs.flatten().collect()
    }
}
