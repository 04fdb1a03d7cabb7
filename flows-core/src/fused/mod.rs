//! The bridge to the CPU kernels of `flows-kernels`, which are found at run time by the type of the backend.
//!
//! A DDNF block as Burn operations is `T` cells of about ten small operations, each with its own pass over memory and
//! its own saved activations; here a block is one operation, and so is a run of masked affine layers, a batch of
//! determinants, a step of Adam. Nothing outside this folder names a kernel.
//!
//! Backends: `Flex` (feature `flex`, `f32` and `f64`) and `NdArray` (feature `ndarray`), plain and with autodiff.
//! Everything else takes the generic path, and so does everything where neither feature is on: then the kernels
//! are not even compiled.

pub(crate) mod plan;

#[cfg(feature = "kernels")]
mod adam;
#[cfg(feature = "kernels")]
mod ddnf;
#[cfg(feature = "kernels")]
mod host;
#[cfg(feature = "kernels")]
mod linalg;
#[cfg(feature = "kernels")]
mod masked;
#[cfg(not(feature = "kernels"))]
mod none;
#[cfg(feature = "kernels")]
mod operation;
#[cfg(feature = "kernels")]
mod split;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Tensor, backend::Backend};

use crate::nn::Made;
use crate::transforms::LogScale;

#[cfg(not(feature = "kernels"))]
pub(crate) use none::{
    adam_in_place, ddnf_block, has_ddnf_block, incremental_inverse, invert, log_abs_dets,
    log_dets_of_one_layer, makes_log_dets, run,
};
#[cfg(feature = "kernels")]
pub(crate) use {
    adam::adam_in_place,
    ddnf::{ddnf_block, has_ddnf_block},
    linalg::{invert, log_abs_dets, log_dets_of_one_layer, makes_log_dets},
    masked::{incremental_inverse, run},
};

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Whether fused kernels are used where there is one. They are unless
/// [`set_fused_kernels`] switched them off.
pub fn fused_kernels_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Switches the fused kernels of the whole process on or off, to compare them with the generic
/// path. The two agree to rounding, not to the last bit.
pub fn set_fused_kernels(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Gives the memory that the kernels keep for their next call, at most 256 MiB, back to the system.
pub fn release_memory() {
    #[cfg(feature = "kernels")]
    flows_kernels::release_memory();
}

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
    /// An affine autoregressive layer.
    Masked(Masked<'a, B>),
}

/// The network of an affine autoregressive layer, and what its outputs mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masked<'a, B: Backend> {
    pub(crate) made: &'a Made<B>,
    pub(crate) scale: LogScale,
    pub(crate) context: Option<&'a Tensor<B, 2>>,
}
