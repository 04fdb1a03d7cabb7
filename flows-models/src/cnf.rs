//! Continuous normalizing flow.

use flows_core::base::BaseConfig;
use flows_core::bijectors::{CnfConfig, ElementwiseAffineConfig, LayerConfig};
use flows_core::continuous::{Solver, Trace};
use flows_core::nn::Activation;
use serde::{Deserialize, Serialize};

use crate::model::is_default;

/// K continuous flows, each of a velocity field of its own that depends on time, behind an elementwise affine map that
/// takes location and scale off the fields.
///
/// W. Grathwohl et al., *FFJORD*, arXiv:1810.01367. Both directions cost the same: a solution of the equation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CnfFlowConfig {
    /// Number of columns.
    pub dim: usize,
    /// Continuous flows (K), each with a field of its own.
    #[serde(default = "defaults::blocks")]
    pub blocks: usize,
    /// Widths of the hidden layers of each field.
    #[serde(default = "defaults::hidden")]
    pub hidden: Vec<usize>,
    /// Activation of the fields.
    #[serde(default)]
    pub activation: Activation,
    /// How the trace of the Jacobian is computed.
    #[serde(default)]
    pub trace: Trace,
    /// How the equation is solved.
    #[serde(default)]
    pub solver: Solver,
    /// Another solver for where nothing is differentiated, such as `{ dormand_prince = {} }` for densities and samples of
    /// a model that was trained in eight steps of RK4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Solver>,
    /// Context columns, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// Rank of the update that the context gives to every weight matrix of the fields, 0 for none.
    #[serde(default)]
    pub context_rank: usize,
    /// Whether the elementwise affine map is there.
    #[serde(default = "defaults::affine")]
    pub affine: bool,
    /// The base distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub base: BaseConfig,
}

mod defaults {
    pub(super) fn blocks() -> usize {
        1
    }
    pub(super) fn hidden() -> Vec<usize> {
        vec![64, 64]
    }
    pub(super) fn affine() -> bool {
        true
    }
}

impl CnfFlowConfig {
    /// One continuous flow, with two hidden layers of 64, the exact trace, and eight steps of RK4.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            blocks: defaults::blocks(),
            hidden: defaults::hidden(),
            activation: Activation::default(),
            trace: Trace::default(),
            solver: Solver::default(),
            evaluation: None,
            context_dim: 0,
            context_rank: 0,
            affine: defaults::affine(),
            base: BaseConfig::default(),
        }
    }

    /// The same, with densities and samples by Dormand-Prince steps where nothing is differentiated: within a
    /// tolerance, whatever the field that training found.
    pub fn to_tolerance(dim: usize) -> Self {
        Self {
            evaluation: Some(Solver::dormand_prince()),
            ..Self::new(dim)
        }
    }

    /// The layers, first to last.
    pub fn layers(&self) -> Vec<LayerConfig> {
        let affine = LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(self.dim));
        let flow = LayerConfig::Cnf(CnfConfig {
            activation: self.activation,
            trace: self.trace,
            solver: self.solver,
            evaluation: self.evaluation,
            context_dim: self.context_dim,
            context_rank: self.context_rank,
            ..CnfConfig::new(self.dim, self.hidden.clone())
        });
        let affine = self.affine.then_some(affine);
        let flows = std::iter::repeat_n(flow, self.blocks);
        affine.into_iter().chain(flows).collect()
    }
}
