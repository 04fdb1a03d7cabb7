//! The exact log-determinant, and the linear solve that goes with it.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use super::elimination::Eliminated;
use super::small::{det2, det2_identity_plus, inverse2};
use crate::kernels::is_plain_host;
use crate::nn::Linearization;
use crate::nn::field::constant;

/// `log |det(I + B)|` from the core of `B`, see [`LogDet::Exact`](super::LogDet::Exact).
pub(super) fn log_det<B: Backend>(b: &Linearization<'_, B>) -> Tensor<B, 1> {
    if let (1, 2, Some(c)) = (b.depth(), b.width(1), b.shared_closing()) {
        return two_units(b, c).abs().log();
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
        _ if is_plain_host::<B>() => log_abs_det_in_memory(a),
        _ => {
            let fixed = constant(a.clone());
            let eliminated = Eliminated::new(fixed.clone());
            let slope = eliminated.inverse.clone().swap_dims(1, 2);
            let tangent: Tensor<B, 1> = (slope * (a - fixed)).sum_dims_squeeze(&[1, 2]);
            eliminated.log_abs_det() + tangent
        }
    }
}

/// The same for numbers in this process's memory, without a history: matrix by matrix in f64, a
/// hundred times faster than by tensor operations.
fn log_abs_det_in_memory<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let [n, m, _] = a.dims();
    let options = (&a.device(), a.dtype());
    let mut numbers: Vec<f64> = a.to_data().iter().collect();
    let values: Vec<f64> = numbers
        .par_chunks_mut(m * m)
        .map(|a| log_abs_det_of(a, m))
        .collect();
    Tensor::from_data(TensorData::new(values, [n]), options)
}

/// By elimination with partial pivoting, in place.
fn log_abs_det_of(a: &mut [f64], m: usize) -> f64 {
    let mut sum = 0.0;
    for k in 0..m {
        let size = |row: &usize| a[row * m + k].abs();
        let largest = (k..m).max_by(|i, j| size(i).total_cmp(&size(j)));
        let pivot_row = largest.expect("a column has rows left");
        sum += size(&pivot_row).ln();
        if pivot_row != k {
            (k..m).for_each(|j| a.swap(k * m + j, pivot_row * m + j));
        }
        let (done, left) = a.split_at_mut((k + 1) * m);
        let pivot = &done[k * m + k..];
        for row in left.chunks_exact_mut(m) {
            let factor = row[k] / pivot[0];
            for (entry, above) in row[k + 1..].iter_mut().zip(&pivot[1..]) {
                *entry -= factor * above;
            }
        }
    }
    sum
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
        _ => Eliminated::new(a).inverse,
    }
}

/// `I + A`, `[n, m, m]`.
pub(crate) fn identity_plus<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 3> {
    let m = a.dims()[1];
    let identity = Tensor::<B, 2>::eye(m, &a.device()).cast(a.dtype());
    a + identity.unsqueeze()
}

fn flat<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let n = a.dims()[0];
    a.reshape([n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DType;
    use burn_autodiff::Autodiff;
    use burn_flex::{Flex, FlexDevice};
    use rand::{SeedableRng, rngs::StdRng};
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn both_eliminations_agree() {
        let rng = &mut StdRng::seed_from_u64(3);
        for m in [3, 8, 17] {
            let n = 20;
            let mut numbers: Vec<f64> = StandardNormal
                .sample_iter(&mut *rng)
                .take(n * m * m)
                .collect();
            // No entry of a diagonal of the first matrix can be a pivot.
            (0..m).for_each(|i| numbers[i * m + i] = 0.0);
            let data = TensorData::new(numbers, [n, m, m]);
            let options = (&FlexDevice, DType::F64);
            let in_memory = log_abs_det(Tensor::<Flex, 3>::from_data(data.clone(), options));
            let recorded = log_abs_det(Tensor::<Autodiff<Flex>, 3>::from_data(data, options));
            let recorded: Vec<f64> = recorded.into_data().iter().collect();
            for (a, b) in in_memory.into_data().iter::<f64>().zip(recorded) {
                assert!((a - b).abs() < 1e-10, "{m}: {a} and {b}");
            }
        }
        let singular = Tensor::<Flex, 3>::zeros([1, 3, 3], &FlexDevice);
        let value: f32 = log_abs_det(singular).into_scalar();
        assert!(!value.is_finite());
    }
}
