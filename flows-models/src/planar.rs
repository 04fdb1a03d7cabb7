//! Planar flow.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::base::BaseConfig;
use flows_core::bijectors::{LayerConfig, PlanarConfig};
use flows_core::error::Error;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::model::{BaseToDataFlow, base_to_data, is_default};

/// K planar layers, behind one another.
///
/// Rezende & Mohamed, *Variational Inference with DataToBase Flows*, arXiv:1505.05770, section 4.1;
/// its figure 3 has K = 2, 8 and 32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanarFlowConfig {
    /// Number of columns.
    pub dim: usize,
    /// Number of layers.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
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
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        vec![LayerConfig::Planar(PlanarConfig::new(self.dim)); self.layers]
    }

    /// The flow that pushes the base through the layers.
    ///
    /// # Errors
    /// [`Error`] where a layer refuses its configuration.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<BaseToDataFlow<B>, Error> {
        base_to_data(&self.layers(), &self.base, options, rng)
    }
}
