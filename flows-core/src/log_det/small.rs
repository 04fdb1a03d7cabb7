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
pub fn det2<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let [a11, a12, a21, a22] = entries(a);
    (a11 * a22 - a12 * a21).squeeze_dim(1)
}

/// `det(I + A) = 1 + tr A + det A`, written `(1 + a_11) (1 + a_22) - a_12 a_21`.
///
/// # Shapes
/// - `a`: `[n, 2, 2]`; output `[n]`
pub fn det2_identity_plus<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let [a11, a12, a21, a22] = entries(a);
    ((a11 + 1.0) * (a22 + 1.0) - a12 * a21).squeeze_dim(1)
}

/// `A^{-1} = [[a_22, -a_12], [-a_21, a_11]] / det A`; infinite or NaN for a singular matrix.
///
/// # Shapes
/// - `a` and output: `[n, 2, 2]`
pub fn inverse2<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 3> {
    let n = a.dims()[0];
    let [a11, a12, a21, a22] = entries(a);
    let det = a11.clone() * a22.clone() - a12.clone() * a21.clone();
    let adjugate = Tensor::cat(vec![a22, -a12, -a21, a11], 1);
    (adjugate / det).reshape([n, 2, 2])
}
