//! RealNVP that lets go of half of the variables at each scale.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::base::{AnyBase, BaseConfig};
use flows_core::bijectors::{AutoregressiveConfig, MultiScale, MultiScaleConfig, Stack};
use flows_core::error::Error;
use flows_core::flow::{DataToBase, Flow};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::mixing::{Mixing, stacked};
use crate::model::is_default;
use crate::real_nvp::alternating;

/// A flow of stages, of which each maps half of the variables of the one before.
pub type MultiScaleFlow<B> = Flow<B, MultiScale<B, Stack<B>>, AnyBase<B>, DataToBase>;

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

    /// The layers of each scale.
    ///
    /// # Errors
    /// [`Error::Config`] without scales, and with so many that one has less than two columns.
    pub fn stages(&self) -> Result<MultiScaleConfig, Error> {
        let halved = |k: usize| (0..k).fold(self.dim, |dim, _| dim - dim / 2);
        let last = halved(self.scales.saturating_sub(1));
        if self.scales == 0 || last < 2 {
            let expected = "at least 1, and such that the last has two columns or more";
            let name = "multi-scale realnvp";
            return Err(Error::config(name, "scales", self.scales, expected));
        }
        let stages = (0..self.scales).map(|k| {
            let dim = halved(k);
            let couplings = alternating(self.layers, |untouched| AutoregressiveConfig {
                context_dim: self.context_dim,
                ..AutoregressiveConfig::coupling(dim, self.hidden.clone(), untouched)
            });
            stacked(couplings, dim, self.mixing, self.batch_norm)
        });
        Ok(MultiScaleConfig::new(stages.collect()))
    }

    /// The flow that maps data to the base.
    ///
    /// # Errors
    /// As [`stages`](Self::stages), and [`Error`] where a layer refuses its configuration.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<MultiScaleFlow<B>, Error> {
        let options = &options.into();
        let layers = self.stages()?.init(options.clone(), rng)?;
        let base = self.base.init(self.dim, options.clone(), rng)?;
        Flow::data_to_base(layers, base)
    }
}
