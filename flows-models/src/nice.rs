//! NICE.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{AutoregressiveConfig, ElementwiseAffineConfig, LayerConfig};
use flows_core::transforms::LogScale;
use serde::{Deserialize, Serialize};

use crate::model::is_default;
use crate::real_nvp::alternating;

/// Additive couplings that swap halves from layer to layer, then a scaling of each column.
///
/// Dinh, Krueger & Bengio, *NICE*, arXiv:1410.8516, sections 3.2 and 3.3: the couplings preserve
/// volume, the last layer is the only one that does not. It has a shift as well here, as the toy
/// targets are not centred.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NiceConfig {
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
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
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

impl NiceConfig {
    /// Eight couplings with two hidden layers of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: defaults::context_dim(),
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let mut layers = alternating(self.layers, |untouched| AutoregressiveConfig {
            transform: LogScale::Additive.into(),
            context_dim: self.context_dim,
            ..AutoregressiveConfig::coupling(self.dim, self.hidden.clone(), untouched)
        });
        let affine = ElementwiseAffineConfig::new(self.dim);
        layers.push(LayerConfig::ElementwiseAffine(affine));
        layers
    }
}
