//! Masked autoregressive flow.

use burn::tensor::backend::Backend;
use flows_core::bijectors::{LayerConfig, MaskedAffineConfig, PermutationConfig};
use flows_core::error::Error;
use flows_core::masks::Ordering;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::model::{NormalizingFlow, build_normalizing};

/// MADE-masked affine autoregressive layers with the order reversed between them; the network pass
/// maps data to base, so `log_prob` takes one pass a layer.
///
/// Papamakarios, Pavlakou & Murray, *Masked Autoregressive Flow for Density Estimation*,
/// arXiv:1705.07057, equations 3 to 5. Sampling runs the incremental inverse: the work of one pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MafConfig {
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
}

mod defaults {
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

impl MafConfig {
    /// Five layers with two hidden layers of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: defaults::context_dim(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let layer = LayerConfig::MaskedAffine(MaskedAffineConfig {
            context_dim: self.context_dim,
            ..MaskedAffineConfig::new(self.dim, self.hidden.clone())
        });
        let reversal = PermutationConfig::new(self.dim, Ordering::Reversed);
        let reversal = LayerConfig::Permutation(reversal);
        let mut layers = vec![layer; self.layers];
        let between = self.layers.saturating_sub(1);
        for k in (0..between).rev() {
            layers.insert(k + 1, reversal.clone());
        }
        layers
    }

    /// The flow that maps data to a standard normal in one pass.
    ///
    /// # Errors
    /// [`Error`] where a layer refuses its configuration.
    pub fn init<B: Backend>(
        &self,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> Result<NormalizingFlow<B>, Error> {
        build_normalizing(&self.layers(), device, rng)
    }
}
