//! RealNVP.

use burn::tensor::backend::Backend;
use flows_core::bijectors::{AffineCouplingConfig, LayerConfig, Untouched};
use flows_core::error::Error;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::mixing::{Mixing, stacked};
use crate::model::{NormalizingFlow, build_normalizing};

/// Affine couplings that swap halves from layer to layer.
///
/// Dinh, Sohl-Dickstein & Bengio, *Density estimation using Real NVP*, arXiv:1605.08803,
/// equations 7 and 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealNvpConfig {
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
}

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

impl RealNvpConfig {
    /// Eight couplings with two hidden layers of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: defaults::context_dim(),
            mixing: defaults::mixing(),
            batch_norm: false,
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let couplings = alternating(self.layers, |untouched| AffineCouplingConfig {
            untouched,
            context_dim: self.context_dim,
            ..AffineCouplingConfig::new(self.dim, self.hidden.clone())
        });
        stacked(couplings, self.dim, self.mixing, self.batch_norm)
    }

    /// The flow that maps data to a standard normal.
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

/// Couplings that leave the first half untouched, then the second, and so on.
pub(crate) fn alternating(
    layers: usize,
    coupling: impl Fn(Untouched) -> AffineCouplingConfig,
) -> Vec<LayerConfig> {
    let halves = [Untouched::FirstHalf, Untouched::SecondHalf];
    let halves = halves.into_iter().cycle().take(layers);
    halves.map(coupling).map(LayerConfig::Coupling).collect()
}
