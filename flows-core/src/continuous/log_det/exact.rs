//! The exact log-determinant, and the linear solve that goes with it.

use burn::tensor::{Tensor, backend::Backend};

use crate::continuous::Linearization;
use crate::continuous::field_weight::constant;
use crate::fused;
use crate::linalg::{Eliminated, det2, det2_identity_plus, identity_plus, inverse2};

/// `log |det(I + B)|` from the core of `B`, see [`LogDet::Exact`](super::LogDet::Exact).
pub(super) fn log_det<B: Backend>(b: &Linearization<'_, B>) -> Tensor<B, 1> {
    if let (1, 2, Some(c)) = (b.depth(), b.width(1), b.shared_closing()) {
        return two_units(b, c).abs().log();
    }
    if let Some(value) = one_layer_in_memory(b) {
        return value;
    }
    let core = b.core();
    match core.dims()[1] {
        1 => (flat(core) + 1.0).abs().log(),
        2 => det2_identity_plus(core).abs().log(),
        _ => log_abs_det(identity_plus(core)),
    }
}

/// `det(I + D C) = 1 + D_1 C_11 + D_2 C_22 + D_1 D_2 det C` for one hidden layer of two units, with
/// `C = W_2 W_1`: as `1 + D . (g + D Q)`, without any matrix per point.
fn two_units<B: Backend>(b: &Linearization<'_, B>, c: Tensor<B, 2>) -> Tensor<B, 1> {
    let det = det2(c.clone().unsqueeze::<3>()).reshape([1, 1]);
    let options = (&c.device(), c.dtype());
    // D Q = (0, D_1 det C).
    let q = Tensor::<B, 2>::from_data([[0.0, 1.0], [0.0, 0.0]], options) * det;
    let identity = Tensor::<B, 2>::from_data([[1.0, 0.0], [0.0, 1.0]], options);
    let g = (c * identity).sum_dim(0);
    let d = b.slope(1);
    let sum: Tensor<B, 1> = (d.clone() * (d.matmul(q) + g)).sum_dim(1).squeeze_dim(1);
    sum + 1.0
}

/// `log |det A|` of a batch of square matrices, differentiable once.
///
/// Sizes 1 and 2 by formula. Larger ones by elimination outside the autodiff graph, with the
/// derivative `d log |det A| = tr(A^{-1} dA)` attached: the value of
/// `log |det A0| + sum_ij (A0^{-1})_ji (A - A0)_ij` at `A0 = A` is the first term, its gradient the
/// second. That stores one `m x m` matrix a row for the backward pass, where differentiating through
/// the elimination would store `m` of them. Its second derivative is not that of the determinant.
///
/// Not finite for a singular matrix.
///
/// # Shapes
/// - `a`: `[n, m, m]`; output `[n]`
pub fn log_abs_det<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    match a.dims()[1] {
        1 => flat(a).abs().log(),
        2 => det2(a).abs().log(),
        _ => {
            if let Some(value) = fused::log_abs_dets(&a) {
                return value;
            }
            let fixed = constant(a.clone());
            let eliminated = eliminate(fixed.clone());
            let slope = eliminated.inverse.clone().swap_dims(1, 2);
            let tangent: Tensor<B, 1> = (slope * (a - fixed)).sum_dims_squeeze(&[1, 2]);
            eliminated.log_abs_det() + tangent
        }
    }
}

/// Inverses and pivots, matrix by matrix where they lie in memory.
pub(crate) fn eliminate<B: Backend>(a: Tensor<B, 3>) -> Eliminated<B> {
    fused::invert(&a).unwrap_or_else(|| Eliminated::new(a))
}

/// `log |det(I + D C)|` for one hidden layer about as wide as the input or narrower, with `C = W_2 W_1`
/// shared by all points, or by those of a row: each matrix is written where it is eliminated.
fn one_layer_in_memory<B: Backend>(b: &Linearization<'_, B>) -> Option<Tensor<B, 1>> {
    let (m, dim) = (b.width(1), b.width(0));
    if b.depth() != 1 || m < 3 || m > dim + dim / 4 {
        return None;
    }
    let d = b.slope(1);
    // Asked first: what is recorded is not to be computed in vain.
    if !fused::makes_log_dets(&d) {
        return None;
    }
    let c: Tensor<B, 3> = match b.shared_closing() {
        Some(c) => c.unsqueeze(),
        None => b.by_row()?.1,
    };
    fused::log_dets_of_one_layer(&d, c)
}

/// `u` with `(I + B) u = r`, row by row: Newton's step for `z + B(z) = y`.
///
/// With the ring of factors cut at the narrowest place, `B^T = F G` and `G F` the core, it is
/// `u = r - r F (I + G F)^{-1} G` (Woodbury): no matrix larger than the core is inverted. Meant for
/// tensors outside the autodiff graph.
///
/// # Shapes
/// - `r` and output: `[n, dim]`
pub fn solve_identity_plus<B: Backend>(b: &Linearization<'_, B>, r: Tensor<B, 2>) -> Tensor<B, 2> {
    let inverse = invert(identity_plus(b.core()));
    let times = |row: Tensor<B, 2>, m: Tensor<B, 3>| -> Tensor<B, 2> {
        row.unsqueeze_dim::<3>(1).matmul(m).squeeze_dim(1)
    };
    match b.narrowest() {
        0 => times(r, inverse),
        l => {
            let inner = times(b.push_to(r.clone(), l), inverse);
            r - b.pull_through(inner, l)
        }
    }
}

/// `A^{-1}` of a batch of square matrices.
fn invert<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 3> {
    match a.dims()[1] {
        1 => a.recip(),
        2 => inverse2(a),
        _ => eliminate(a).inverse,
    }
}

fn flat<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let n = a.dims()[0];
    a.reshape([n])
}
