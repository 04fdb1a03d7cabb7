//! Matrices with orthonormal columns for Sylvester flows (arXiv:1803.05649, section 3).

use burn::tensor::{Bool, Tensor, backend::Backend};

use crate::expand::product;
use crate::solve::epsilon;

/// `Q` of a Sylvester map, `dim x m` with orthonormal columns.
#[derive(Debug, Clone)]
pub enum Basis<B: Backend> {
    /// Any such matrix, `[sets, dim, m]`; see [`orthonormalize`] and [`householder`].
    Columns(Tensor<B, 3>),
    /// The product of the reflections `I - 2 v v^T` with the rows of `[sets, reflections, dim]` as `v`,
    /// the first one leftmost, `m = dim`; see [`reflections`]. Applied one by one, without `Q`.
    Reflections(Tensor<B, 3>),
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
            Self::Reflections(v) => v.dims()[2],
            Self::Identity | Self::Reversal => m,
        }
    }

    /// `Q^T z` of each row: `[batch, dim]` to `[batch, m]`.
    pub(super) fn project(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Columns(q) => times(z, q.clone()),
            Self::Reflections(v) => (0..v.dims()[1]).fold(z, |z, k| reflect(z, v, k)),
            Self::Identity => z,
            Self::Reversal => z.flip([1]),
        }
    }

    /// `Q v` of each row: `[batch, m]` to `[batch, dim]`.
    pub(super) fn embed(&self, v: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Columns(q) => times_transposed(v, q),
            Self::Reflections(u) => (0..u.dims()[1]).rev().fold(v, |v, k| reflect(v, u, k)),
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
    let norm = raw.clone().square().sum_dim(1).sum_dim(2).sqrt();
    let mut q = raw / norm;
    let close_enough = epsilon(q.dtype()).sqrt();
    for _ in 0..MAX_STEPS {
        let gram = q.clone().swap_dims(1, 2).matmul(q.clone());
        let deviation = gram.clone().neg() + identity(&gram);
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
    let unit = unit_rows(v);
    let start = identity(&unit).expand([rows, dim, dim]);
    (0..reflections).fold(start, |q, k| {
        let row = unit.clone().narrow(1, k, 1);
        let along = q.clone().matmul(row.clone().swap_dims(1, 2));
        q - along.matmul(row) * 2.0
    })
}

/// The same product, not multiplied out: what vectors cost less with where there are few reflections.
///
/// # Shapes
/// - `v`: `[sets, reflections, dim]`
pub fn reflections<B: Backend>(v: Tensor<B, 3>) -> Basis<B> {
    Basis::Reflections(unit_rows(v))
}

/// Rows of length 1, or 0 where they were.
fn unit_rows<B: Backend>(v: Tensor<B, 3>) -> Tensor<B, 3> {
    let squared_norm = v.clone().square().sum_dim(2);
    // The divisor is only reached by rows whose own norm is below the rounding of anything.
    v / squared_norm.clamp_min(1e-36).sqrt()
}

/// `(I - 2 v v^T) x` of each row with the `k`-th `v` of its set.
fn reflect<B: Backend>(x: Tensor<B, 2>, unit: &Tensor<B, 3>, k: usize) -> Tensor<B, 2> {
    let [rows, _] = x.dims();
    let v = spread(unit.clone().narrow(1, k, 1).squeeze_dim(1), rows);
    let along = (x.clone() * v.clone()).sum_dim(1) * 2.0;
    x - v * along
}

/// The identity matrix, `[1, m, m]`, on the device and of the type of `like`, `[.., m]`.
pub(super) fn identity<B: Backend>(like: &Tensor<B, 3>) -> Tensor<B, 3> {
    let (m, device) = (like.dims()[2], like.device());
    let on_diagonal = Tensor::<B, 2, Bool>::diag_mask([m, m], 0, &device).bool_not();
    let zeros = Tensor::<B, 2>::zeros([m, m], (&device, like.dtype()));
    zeros.mask_fill(on_diagonal, 1.0).unsqueeze()
}

/// Every row over, one after the other, until there are `rows`; one row is left to broadcasting.
pub(super) fn spread<B: Backend>(x: Tensor<B, 2>, rows: usize) -> Tensor<B, 2> {
    let [sets, k] = x.dims();
    if sets == 1 || sets == rows {
        return x;
    }
    let x = x.unsqueeze_dim::<3>(1).expand([sets, rows / sets, k]);
    x.reshape([rows, k])
}

/// `x M^T` row by row: `M x` for each row of `x`.
pub(super) fn times_transposed<B: Backend>(x: Tensor<B, 2>, matrix: &Tensor<B, 3>) -> Tensor<B, 2> {
    let [rows, k] = x.dims();
    let [sets, m, _] = matrix.dims();
    if sets == 1 || sets < rows {
        return times(x, matrix.clone().swap_dims(1, 2));
    }
    // A matrix a row: the gradient of a transposed one would have to be turned.
    matrix
        .clone()
        .matmul(x.reshape([rows, k, 1]))
        .reshape([rows, m])
}

/// `x M` row by row. Rows that share a matrix are a single product.
pub(super) fn times<B: Backend>(x: Tensor<B, 2>, matrix: Tensor<B, 3>) -> Tensor<B, 2> {
    let [rows, k] = x.dims();
    let [sets, _, m] = matrix.dims();
    if sets == 1 {
        return product(x, matrix.squeeze_dim(0));
    }
    let product = x.reshape([sets, rows / sets, k]).matmul(matrix);
    product.reshape([rows, m])
}
