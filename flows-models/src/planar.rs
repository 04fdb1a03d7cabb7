//! Planar flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{ConditionedConfig, LayerConfig, PlanarConfig};
use serde::{Deserialize, Serialize};

use crate::model::is_default;

/// K planar layers, behind one another.
///
/// Rezende & Mohamed, *Variational Inference with Normalizing Flows*, arXiv:1505.05770, section 4.1;
/// its figure 3 has K = 2, 8 and 32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanarFlowConfig {
    /// Number of columns.
    pub dim: usize,
    /// Number of layers.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// Context columns, 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub context_dim: usize,
    /// Widths of the hidden layers of the networks that read the context.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    pub(super) fn hidden() -> Vec<usize> {
        vec![32]
    }
    pub(super) fn layers() -> usize {
        8
    }
}

impl PlanarFlowConfig {
    /// Eight layers.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            context_dim: 0,
            hidden: defaults::hidden(),
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let map = PlanarConfig::new(self.dim);
        let layer = match self.context_dim {
            0 => LayerConfig::Planar(map),
            context_dim => LayerConfig::Conditioned(ConditionedConfig {
                hidden: self.hidden.clone(),
                ..ConditionedConfig::new(map, context_dim)
            }),
        };
        vec![layer; self.layers]
    }
}
