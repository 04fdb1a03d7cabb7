//! Fused CPU kernels, found at run time by the type of the backend.
//!
//! A DDNF block as Burn operations is `T` cells of about ten small operations, each with its own
//! pass over memory and its own saved activations. Here a block is one operation: 32 samples at a
//! time, one sample per SIMD lane, go through all cells while they are in the cache, and the
//! backward pass runs the block again instead of storing it. Chunks go over the threads of rayon's
//! current pool; the gradients of the parameters are summed in an order that depends on the batch
//! size alone, so results don't depend on the number of threads.
//!
//! A masked affine layer is one operation as well: products leave out the empty blocks of the masks,
//! and the backward pass keeps the activations, which are few beside the work. Its inverse computes
//! each hidden unit once. A step of Adam is one pass over memory.
//!
//! Backends: `Flex` (feature `flex`, `f32` and `f64`) and `NdArray` (feature `ndarray`), plain and
//! with autodiff. Everything else takes the generic path. Instruction sets are chosen at run time.

// Without a CPU backend nothing calls the kernels, and they still compile.
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray")),
    allow(dead_code, unused)
)]

mod adam;
mod ddnf;
mod hidden;
pub(crate) mod host;
pub(crate) mod lanes;
pub(crate) mod masked;
mod narrow;
mod operation;
mod split;
#[cfg(test)]
mod tests;
mod tiles;

use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Tensor, backend::Backend};

use crate::bijector::Mapped;

pub use adam::{AdamNorm, AdamParameter, AdamStep};
#[doc(hidden)]
pub use masked::Stage;

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

/// Log-determinants of a cell `z + v(z) / T` that have a fused form; `J` is the Jacobian of `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusedLogDet {
    /// `log |det(I + J / T)|`.
    Exact,
    /// `tr(J) / T`.
    Taylor1,
    /// `tr(J) / T - tr(J^2) / (2 T^2)`.
    Taylor2,
    /// Not needed: zero.
    None,
}

/// Whether [`ddnf_block`] has a kernel for these sizes, on the backends that have any.
pub fn has_ddnf_block(dim: usize, hidden: usize, log_det: FusedLogDet) -> bool {
    ddnf::Plan::choose(dim, hidden, log_det).is_some()
}

/// `cells` Euler steps `z <- z + v(z) / cells` of the field
/// `v(z) = tanh(z W1 + b1 + context) W2 + b2`, with the sum of the cells' log-determinants, as one
/// differentiable operation.
///
/// `None` where no kernel applies and the generic path has to run: another backend, mixed or
/// half-precision numbers, a batch without rows, or more than three dimensions and a hidden layer
/// beyond eight times as many, with [`FusedLogDet::Exact`] beyond four times as many or 64 units.
///
/// # Shapes
/// - `x`: `[batch, dim]`; `w1`: `[dim, hidden]`; `b1`: `[hidden]`; `w2`: `[hidden, dim]`; `b2`: `[dim]`
/// - `context`: `[batch, hidden]`, added to the hidden layer's bias row by row
/// - value `[batch, dim]`, log-determinant `[batch]`, in nats
///
/// # Panics
/// If `cells` is zero or the shapes don't fit together.
#[allow(clippy::too_many_arguments)]
pub fn ddnf_block<B: Backend>(
    x: &Tensor<B, 2>,
    w1: &Tensor<B, 2>,
    b1: &Tensor<B, 1>,
    w2: &Tensor<B, 2>,
    b2: &Tensor<B, 1>,
    context: Option<&Tensor<B, 2>>,
    cells: usize,
    log_det: FusedLogDet,
) -> Option<Mapped<B>> {
    let ([rows, dim], [_, hidden]) = (x.dims(), w1.dims());
    assert!(cells > 0, "ddnf kernel: no cells");
    assert!(
        w1.dims() == [dim, hidden]
            && b1.dims() == [hidden]
            && w2.dims() == [hidden, dim]
            && b2.dims() == [dim]
            && context.is_none_or(|c| c.dims() == [rows, hidden]),
        "ddnf kernel: shapes x {:?}, w1 {:?}, b1 {:?}, w2 {:?}, b2 {:?}, context {:?} don't fit together",
        x.dims(),
        w1.dims(),
        b1.dims(),
        w2.dims(),
        b2.dims(),
        context.map(Tensor::dims),
    );
    if !fused_kernels_enabled() || rows == 0 {
        return None;
    }
    let inputs = operation::Inputs {
        x: x.clone(),
        w1: w1.clone(),
        b1: b1.clone(),
        w2: w2.clone(),
        b2: b2.clone(),
        context: context.cloned(),
        cells,
        log_det,
    };
    let out = operation::run(inputs)?;
    Some(Mapped {
        value: out.clone().slice([0..rows, 0..dim]),
        log_det: out.slice([0..rows, dim..dim + 1]).squeeze_dim(1),
    })
}
