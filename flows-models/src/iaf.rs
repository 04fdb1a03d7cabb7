//! Inverse autoregressive flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{AutoregressiveInverse, LayerConfig};
use flows_core::masks::MaskConfig;
use flows_core::nn::{ConditionerActivation, Connections};
use flows_core::transforms::AnyTransform;
use serde::{Deserialize, Serialize};

use crate::MafConfig;
use crate::mixing::Mixing;
use crate::model::is_default;

/// Masked autoregressive layers, affine by default, with the variables mixed between them, by default
/// reversed; the network pass maps base to data, so a sample takes one pass a layer.
///
/// Kingma et al., *Improving Variational Inference with Inverse Autoregressive Flow*,
/// arXiv:1606.04934, algorithm 1. `log_prob` of given data runs the incremental inverse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IafConfig {
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
    /// Which variables each variable may see, in every layer: an order, blocks or a graph.
    #[serde(default)]
    pub mask: MaskConfig,
    /// How the variables are mixed between layers.
    #[serde(default = "defaults::mixing")]
    pub mixing: Mixing,
    /// Map of each variable.
    #[serde(default)]
    pub transform: AnyTransform,
    /// Activation of the conditioners.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks in the conditioners.
    #[serde(default)]
    pub connections: Connections,
    /// How the sequential direction is computed.
    #[serde(default)]
    pub inverse: AutoregressiveInverse,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    use crate::mixing::Mixing;

    pub(super) fn mixing() -> Mixing {
        Mixing::Reversal
    }
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

impl IafConfig {
    /// Five layers with two hidden layers of 64.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            layers: defaults::layers(),
            hidden: defaults::hidden(),
            context_dim: defaults::context_dim(),
            mask: MaskConfig::default(),
            mixing: defaults::mixing(),
            transform: AnyTransform::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            inverse: AutoregressiveInverse::default(),
            base: BaseConfig::default(),
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        // The same layers as a MAF's: what differs is which end is data.
        let Self {
            dim,
            layers,
            hidden,
            context_dim,
            mask,
            mixing,
            transform,
            activation,
            connections,
            inverse,
            base,
        } = self.clone();
        MafConfig {
            dim,
            layers,
            hidden,
            context_dim,
            mask,
            mixing,
            // Its statistics are those of data, which a flow from base to data meets at its other end.
            batch_norm: false,
            transform,
            activation,
            connections,
            inverse,
            base,
        }
        .layers()
    }
}
