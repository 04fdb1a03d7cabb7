//! What stands between the layers of couplings and autoregressive flows.

use flows_core::bijectors::{BatchNormConfig, LayerConfig, LuLinearConfig, PermutationConfig};
use flows_core::masks::Ordering;
use serde::{Deserialize, Serialize};

/// How the variables are mixed between two layers, so that each gets to see the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Mixing {
    /// They stay where they are.
    Nothing,
    /// Their order is reversed (MAF and IAF).
    Reversal,
    /// They are shuffled, by another permutation between each two layers.
    Random {
        /// Seed of the first permutation; the next ones follow it.
        seed: u64,
    },
    /// A learned linear map `L U`, the generalization of a permutation (Glow, arXiv:1807.03039).
    Lu,
}

flows_core::one_key!(Mixing);

impl Mixing {
    /// The layer after layer `index`, if any.
    fn layer(self, dim: usize, index: usize) -> Option<LayerConfig> {
        let permutation = |ordering| {
            let config = PermutationConfig::new(dim, ordering);
            Some(LayerConfig::Permutation(config))
        };
        match self {
            Self::Nothing => None,
            Self::Reversal => permutation(Ordering::Reversed),
            Self::Random { seed } => permutation(Ordering::Random {
                seed: seed.wrapping_add(index as u64),
            }),
            Self::Lu => Some(LayerConfig::LuLinear(LuLinearConfig::new(dim))),
        }
    }
}

/// `layers` with batch normalization after each, if asked for, and `mixing` between each two.
pub(crate) fn stacked(
    layers: Vec<LayerConfig>,
    dim: usize,
    mixing: Mixing,
    batch_norm: bool,
) -> Vec<LayerConfig> {
    let last = layers.len().saturating_sub(1);
    let mut stack = Vec::new();
    for (k, layer) in layers.into_iter().enumerate() {
        stack.push(layer);
        if batch_norm {
            stack.push(LayerConfig::BatchNorm(BatchNormConfig::new(dim)));
        }
        if k < last {
            stack.extend(mixing.layer(dim, k));
        }
    }
    stack
}
