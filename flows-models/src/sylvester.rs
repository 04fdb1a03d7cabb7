//! Sylvester flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::sylvester::BasisConfig;
use flows_core::bijectors::{ConditionedConfig, LayerConfig, SylvesterConfig};
use serde::{Deserialize, Serialize};

use crate::model::is_default;

/// K Sylvester layers, behind one another.
///
/// Van den Berg et al., *Sylvester Normalizing Flows for Variational Inference*, arXiv:1803.05649.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SylvesterFlowConfig {
    /// Number of columns.
    pub dim: usize,
    /// Number of layers.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// How each layer keeps its `Q` orthonormal.
    #[serde(default = "defaults::basis")]
    pub basis: BasisConfig,
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
    pub(super) fn basis() -> super::BasisConfig {
        super::BasisConfig::Householder { reflections: 2 }
    }
}

impl SylvesterFlowConfig {
    /// Eight layers with two Householder reflections each.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            basis: defaults::basis(),
            context_dim: 0,
            hidden: defaults::hidden(),
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let map = SylvesterConfig::new(self.dim, self.basis);
        let layer = match self.context_dim {
            0 => LayerConfig::Sylvester(map),
            context_dim => LayerConfig::Conditioned(ConditionedConfig {
                hidden: self.hidden.clone(),
                ..ConditionedConfig::new(map, context_dim)
            }),
        };
        vec![layer; self.layers]
    }
}
