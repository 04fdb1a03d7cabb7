//! Determinants and inverses of batches of 1 x 1 and 2 x 2 matrices, by their formulas.

use burn::tensor::{Tensor, backend::Backend};

/// The entries `a_11, a_12, a_21, a_22` of a batch `[n, 2, 2]`, each `[n, 1]`.
fn entries<B: Backend>(a: Tensor<B, 3>) -> [Tensor<B, 2>; 4] {
    let n = a.dims()[0];
    let flat = a.reshape([n, 4]);
    core::array::from_fn(|i| flat.clone().narrow(1, i, 1))
}

/// `det A = a_11 a_22 - a_12 a_21`.
///
/// # Shapes
/// - `a`: `[n, 2, 2]`; output `[n]`
pub(crate) fn det2<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let [a11, a12, a21, a22] = entries(a);
    (a11 * a22 - a12 * a21).squeeze_dim(1)
}

/// `det(I + A) = 1 + tr A + det A`.
///
/// With `e` the four entries as a row, `1 + e . (g + e Q)` for a constant row `g` and matrix `Q`:
/// two small products instead of four strided slices, whose backward passes are dear.
///
/// # Shapes
/// - `a`: `[n, 2, 2]`; output `[n]`
pub(crate) fn det2_identity_plus<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let n = a.dims()[0];
    let options = (&a.device(), a.dtype());
    let g = Tensor::<B, 2>::from_data([[1.0, 0.0, 0.0, 1.0]], options);
    // e Q = (0, 0, -a_12, a_11).
    let q = [
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, -1.0, 0.0],
        [0.0; 4],
        [0.0; 4],
    ];
    let q = Tensor::<B, 2>::from_data(q, options);
    let e = a.reshape([n, 4]);
    let sum: Tensor<B, 1> = (e.clone() * (e.matmul(q) + g)).sum_dim(1).squeeze_dim(1);
    sum + 1.0
}

/// `A^{-1} = [[a_22, -a_12], [-a_21, a_11]] / det A`; infinite or NaN for a singular matrix.
///
/// # Shapes
/// - `a` and output: `[n, 2, 2]`
pub(crate) fn inverse2<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 3> {
    let n = a.dims()[0];
    let [a11, a12, a21, a22] = entries(a);
    let det: Tensor<B, 2> = a11.clone() * a22.clone() - a12.clone() * a21.clone();
    let adjugate = Tensor::cat(vec![a22, -a12, -a21, a11], 1);
    (adjugate / det).reshape([n, 2, 2])
}
