//! Planar flow.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::bijectors::{LayerConfig, PlanarConfig};
use flows_core::error::Error;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::model::{BaseToDataFlow, build_base_to_data};

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
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        vec![LayerConfig::Planar(PlanarConfig::new(self.dim)); self.layers]
    }

    /// The flow that pushes a standard normal through the layers.
    ///
    /// # Errors
    /// [`Error`] where a layer refuses its configuration.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<BaseToDataFlow<B>, Error> {
        build_base_to_data(&self.layers(), options, rng)
    }
}
