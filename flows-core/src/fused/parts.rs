//! What layers hand to the kernels.

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};

use super::plan::Patterns;
use crate::nn::Network;
use crate::transforms::{LogScale, RqSpline};

/// Log-determinants of a cell `z + v(z) / T` that have a fused form; `J` is the Jacobian of `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FusedLogDet {
    /// `log |det(I + J / T)|`.
    Exact,
    /// `tr(J) / T`.
    Taylor1,
    /// `tr(J) / T - tr(J^2) / (2 T^2)`.
    Taylor2,
    /// Not needed: zero.
    None,
}

/// `cells` Euler steps `z <- z + v(z) / cells` of the field `v(z) = tanh(z W1 + b1 + context) W2 + b2`, with the sum
/// of the cells' log-determinants.
#[derive(Debug, Clone)]
pub(crate) struct DdnfCells<B: Backend> {
    /// `[dim, hidden]`
    pub(crate) w1: Tensor<B, 2>,
    /// `[hidden]`
    pub(crate) b1: Tensor<B, 1>,
    /// `[hidden, dim]`
    pub(crate) w2: Tensor<B, 2>,
    /// `[dim]`
    pub(crate) b2: Tensor<B, 1>,
    /// `[batch, hidden]`, added to `b1` row by row.
    pub(crate) context: Option<Tensor<B, 2>>,
    pub(crate) cells: usize,
    pub(crate) log_det: FusedLogDet,
}

/// A layer as part of a run of layers.
#[derive(Debug, Clone)]
pub(crate) enum Part<'a, B: Backend> {
    /// Column `k` of the result is column `order[k]`.
    Permutation(&'a [usize]),
    /// An autoregressive layer.
    Masked(Masked<'a, B>),
}

/// The network of an autoregressive layer, and what its outputs mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masked<'a, B: Backend> {
    pub(crate) network: &'a Network<B>,
    pub(crate) patterns: &'a Arc<Patterns>,
    /// Of a coupling.
    pub(crate) coupling: Option<Untouched<'a>>,
    pub(crate) map: Map<'a>,
    pub(crate) context: Option<&'a Tensor<B, 2>>,
}

/// The variables that a coupling leaves as they are, which are all that its network reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Untouched<'a> {
    pub(crate) count: usize,
    /// The variables, these first, then those that are moved.
    pub(crate) order: &'a [usize],
}

/// The maps of a variable that the kernels know.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Map<'a> {
    Affine(LogScale),
    Spline(&'a RqSpline),
}
