//! Matrices with orthonormal columns for Sylvester flows (arXiv:1803.05649, section 3).

use burn::tensor::{Bool, Tensor, backend::Backend};

use super::{times, times_transposed};
use crate::solve::epsilon;

/// `Q` of a Sylvester map, `dim x m` with orthonormal columns.
#[derive(Debug, Clone)]
pub enum Basis<B: Backend> {
    /// Any such matrix, `[batch, dim, m]` or `[1, dim, m]`; see [`orthonormalize`] and
    /// [`householder`].
    Columns(Tensor<B, 3>),
    /// The identity, `m = dim`.
    Identity,
    /// The permutation that reverses the order, `m = dim`.
    Reversal,
}

impl<B: Backend> Basis<B> {
    /// Rows of `Q`, which has `m` columns.
    pub(super) fn dim(&self, m: usize) -> usize {
        match self {
            Self::Columns(q) => q.dims()[1],
            Self::Identity | Self::Reversal => m,
        }
    }

    /// `Q^T z` of each row: `[batch, dim]` to `[batch, m]`.
    pub(super) fn project(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Columns(q) => times(z, q.clone()),
            Self::Identity => z,
            Self::Reversal => z.flip([1]),
        }
    }

    /// `Q v` of each row: `[batch, m]` to `[batch, dim]`.
    pub(super) fn embed(&self, v: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Columns(q) => times_transposed(v, q),
            Self::Identity => v,
            Self::Reversal => v.flip([1]),
        }
    }
}

/// No full-rank matrix that a network would give needs as many: singular values grow by half a step.
const MAX_STEPS: usize = 200;

/// The matrix with orthonormal columns that is nearest to `raw`, differentiable.
///
/// Iterates `Q <- Q (I + (I - Q^T Q) / 2)` from `raw` divided by its Frobenius norm (Björck & Bowie
/// 1971; arXiv:1803.05649, section 3). Singular values in `(0, 1]` go to 1, in the end
/// quadratically, so the iteration stops one step after `|Q^T Q - I|` has fallen to the square root
/// of the precision of the type. Gradients flow through the steps.
///
/// Columns that are linearly dependent cannot be made orthonormal and stay dependent.
///
/// # Shapes
/// - `raw`: `[batch, dim, m]` with `m <= dim`; output the same
pub fn orthonormalize<B: Backend>(raw: Tensor<B, 3>) -> Tensor<B, 3> {
    let [rows, _, m] = raw.dims();
    let norm = raw.clone().square().sum_dim(1).sum_dim(2).sqrt();
    let mut q = raw / norm;
    let close_enough = epsilon(q.dtype()).sqrt();
    for _ in 0..MAX_STEPS {
        let gram = q.clone().swap_dims(1, 2).matmul(q.clone());
        let deviation = identity(&gram, rows, m) - gram;
        let worst = deviation.clone().detach().abs().max();
        q = q.clone() + q.matmul(deviation) * 0.5;
        // A NaN ends it as well: it will not get better.
        let worst = worst.into_data().iter::<f64>().next().unwrap_or(0.0);
        if worst <= close_enough || worst.is_nan() {
            break;
        }
    }
    q
}

/// The product of the reflections `I - 2 v v^T / |v|^2`, the first row of `v` leftmost.
///
/// A row of zeros gives the identity in place of a reflection.
///
/// # Shapes
/// - `v`: `[batch, reflections, dim]`; output `[batch, dim, dim]`, orthogonal
pub fn householder<B: Backend>(v: Tensor<B, 3>) -> Tensor<B, 3> {
    let [rows, reflections, dim] = v.dims();
    let squared_norm = v.clone().square().sum_dim(2);
    // The divisor is only reached by rows whose own norm is below the rounding of anything.
    let unit = v / squared_norm.clamp_min(1e-36).sqrt();
    (0..reflections).fold(identity(&unit, rows, dim), |q, k| {
        let row = unit.clone().narrow(1, k, 1);
        let along = q.clone().matmul(row.clone().swap_dims(1, 2));
        q - along.matmul(row) * 2.0
    })
}

/// `rows` identity matrices on the device and of the type of `like`.
fn identity<B: Backend>(like: &Tensor<B, 3>, rows: usize, m: usize) -> Tensor<B, 3> {
    let device = like.device();
    let on_diagonal = Tensor::<B, 2, Bool>::diag_mask([m, m], 0, &device).bool_not();
    let zeros = Tensor::<B, 2>::zeros([m, m], (&device, like.dtype()));
    let identity = zeros.mask_fill(on_diagonal, 1.0);
    identity.unsqueeze::<3>().expand([rows, m, m])
}
