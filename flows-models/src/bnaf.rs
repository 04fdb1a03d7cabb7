//! Block neural autoregressive flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{BnafConfig, LayerConfig};
use serde::{Deserialize, Serialize};

use crate::mixing::{Mixing, stacked};
use crate::model::is_default;

/// Block neural autoregressive maps, with the variables mixed between them, by default reversed; `log_prob` takes one pass
/// a layer, samples a root find for each variable.
///
/// N. De Cao et al., *Block Neural Autoregressive Flow*, arXiv:1904.04676.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BnafFlowConfig {
    /// Number of columns.
    pub dim: usize,
    /// Number of layers.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// Units of each variable in the hidden layers of each.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// Where the activation goes on straight, see [`BnafConfig::bound`].
    #[serde(default = "defaults::bound")]
    pub bound: f64,
    /// Context columns, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// How the variables are mixed between layers.
    #[serde(default = "defaults::mixing")]
    pub mixing: Mixing,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    use crate::mixing::Mixing;

    pub(super) fn layers() -> usize {
        2
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![16]
    }
    pub(super) fn bound() -> f64 {
        3.0
    }
    pub(super) fn mixing() -> Mixing {
        Mixing::Reversal
    }
}

impl BnafFlowConfig {
    /// Two layers with one hidden layer of 16 units for each variable.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            bound: defaults::bound(),
            context_dim: 0,
            mixing: defaults::mixing(),
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let layer = BnafConfig {
            bound: self.bound,
            context_dim: self.context_dim,
            ..BnafConfig::new(self.dim, self.hidden.clone())
        };
        let layers = vec![LayerConfig::Bnaf(layer); self.layers];
        stacked(layers, self.dim, self.mixing, false)
    }
}
