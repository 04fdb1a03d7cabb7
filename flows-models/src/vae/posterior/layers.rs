//! Posteriors made of layers that take `h` as their context.

use flows_core::bijectors::{AutoregressiveConfig, LayerConfig, PermutationConfig};
use flows_core::masks::Ordering;
use flows_core::nn::ConditionerActivation;
use flows_core::transforms::LogScale;
use serde::{Deserialize, Serialize};

use super::{PosteriorConfig, Size};
use crate::{DdnfConfig, MafConfig, RealNvpConfig};

/// How the velocity fields of a DDNF posterior depend on the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DdnfContext {
    /// Not at all: the same fields for all images.
    #[default]
    Shared,
    /// Through the biases of the first layer.
    Bias,
    /// Through those, and updates of low rank of every weight matrix (FFJORD, arXiv:1810.01367,
    /// section 4.2).
    LowRank {
        /// Their rank, at least 1.
        rank: usize,
    },
}
flows_core::one_key!(DdnfContext);

/// The layers of a posterior, first to last in their one-pass direction.
pub(super) fn layers(
    config: &PosteriorConfig,
    Size { latent, features }: Size,
) -> Vec<LayerConfig> {
    match config {
        PosteriorConfig::Iaf { flows, hidden } => {
            let layer = LayerConfig::Autoregressive(AutoregressiveConfig {
                activation: ConditionerActivation::Elu,
                transform: LogScale::SigmoidGate.into(),
                context_dim: features,
                ..AutoregressiveConfig::new(latent, hidden.clone())
            });
            let reversal = PermutationConfig::new(latent, Ordering::Reversed);
            let mut layers = vec![layer.clone()];
            for _ in 1..*flows {
                layers.push(LayerConfig::Permutation(reversal.clone()));
                layers.push(layer.clone());
            }
            layers
        }
        PosteriorConfig::Maf { flows, hidden } => MafConfig {
            layers: *flows,
            hidden: hidden.clone(),
            context_dim: features,
            ..MafConfig::new(latent)
        }
        .layers(),
        PosteriorConfig::RealNvp { flows, hidden } => RealNvpConfig {
            layers: *flows,
            hidden: hidden.clone(),
            context_dim: features,
            ..RealNvpConfig::new(latent)
        }
        .layers(),
        PosteriorConfig::Ddnf {
            blocks,
            cells,
            hidden,
            log_det,
            context,
        } => DdnfConfig {
            blocks: *blocks,
            cells: *cells,
            hidden: hidden.clone(),
            log_det: log_det.clone(),
            context_dim: match context {
                DdnfContext::Shared => 0,
                DdnfContext::Bias | DdnfContext::LowRank { .. } => features,
            },
            context_rank: match context {
                DdnfContext::LowRank { rank } => *rank,
                DdnfContext::Shared | DdnfContext::Bias => 0,
            },
            affine: false,
            ..DdnfConfig::new(latent)
        }
        .layers(),
        _ => unreachable!("the caller asks for layers"),
    }
}
