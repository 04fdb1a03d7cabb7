//! RealNVP that lets go of half of the variables at each scale.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{AutoregressiveConfig, LayerConfig, MultiScaleConfig};
use serde::{Deserialize, Serialize};

use crate::mixing::{Mixing, stacked};
use crate::model::is_default;
use crate::real_nvp::alternating;

/// Couplings at several scales: after each scale half of the variables are done, the rest goes on.
///
/// Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803, section 3.6, for rows instead of images: there a scale
/// is a resolution, here it is half of the columns. Both directions cost the same, and less than with
/// all couplings at full width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiScaleRealNvpConfig {
    /// Number of columns.
    pub dim: usize,
    /// Number of scales; the last one has at least two columns.
    #[serde(default = "defaults::scales")]
    pub scales: usize,
    /// Number of couplings at each scale.
    #[serde(default = "defaults::layers")]
    pub layers: usize,
    /// Widths of the hidden layers of each conditioner.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// Context columns, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// How the variables are mixed between couplings.
    #[serde(default = "defaults::mixing")]
    pub mixing: Mixing,
    /// Whether batch normalization follows each coupling.
    #[serde(default)]
    pub batch_norm: bool,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    use crate::mixing::Mixing;

    pub(super) fn scales() -> usize {
        2
    }
    pub(super) fn layers() -> usize {
        4
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![64, 64]
    }
    pub(super) fn mixing() -> Mixing {
        Mixing::Random { seed: 0 }
    }
}

impl MultiScaleRealNvpConfig {
    /// Two scales of four couplings with two hidden layers of 64, shuffled in between.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            scales: defaults::scales(),
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: 0,
            mixing: defaults::mixing(),
            batch_norm: false,
            base: BaseConfig::default(),
        }
    }

    /// One layer, whose stages are the scales. With so many that one is left with a single column, its coupling is
    /// refused when it is built.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let halved = |k: usize| (0..k).fold(self.dim, |dim, _| dim - dim / 2);
        let stages = (0..self.scales).map(|k| {
            let dim = halved(k);
            let couplings = alternating(self.layers, |untouched| AutoregressiveConfig {
                context_dim: self.context_dim,
                ..AutoregressiveConfig::coupling(dim, self.hidden.clone(), untouched)
            });
            stacked(couplings, dim, self.mixing, self.batch_norm)
        });
        let stages = MultiScaleConfig::new(stages.collect());
        vec![LayerConfig::MultiScale(stages)]
    }
}
