//! Spectral radii of batches of square matrices.

use burn::tensor::{Tensor, backend::Backend};

use crate::linalg::det2;

/// Squarings in Gelfand's formula.
const SQUARINGS: usize = 10;

/// `rho(A) = max_i |lambda_i(A)|` of each matrix.
///
/// Sizes 1 and 2 from the characteristic polynomial. Larger ones by Gelfand's formula
/// `rho = lim |A^k|^{1/k}` at `k = 2^10` in the Frobenius norm, by repeated squaring: never below
/// `rho`, and above it by at most a factor `(sqrt(m) kappa)^{1/1024}` for a matrix diagonalized with
/// condition number `kappa` (1.003 at `m = 8, kappa = 10`). Complex eigenvalues are no trouble, as
/// they would be for power iteration. 0 where a power vanishes.
///
/// # Shapes
/// - `a`: `[n, m, m]`; output `[n]`
pub fn spectral_radius<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let [n, m, _] = a.dims();
    match m {
        1 => a.reshape([n]).abs(),
        2 => quadratic(a),
        _ => gelfand(a),
    }
}

/// `|tr A / 2| + sqrt(tr^2 / 4 - det)` for real eigenvalues, `sqrt(det)` for complex ones.
fn quadratic<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let flat = a.clone().reshape([a.dims()[0], 4]);
    let trace: Tensor<B, 1> = (flat.clone().narrow(1, 0, 1) + flat.narrow(1, 3, 1)).squeeze_dim(1);
    let half = trace * 0.5;
    let det = det2(a);
    let discriminant = half.clone().square() - det.clone();
    let complex = discriminant.clone().lower_elem(0.0);
    let real_radius = half.abs() + discriminant.clamp_min(0.0).sqrt();
    real_radius.mask_where(complex, det.clamp_min(0.0).sqrt())
}

fn gelfand<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let (mut log_norm, mut power) = normalized(a);
    let mut vanished = log_norm.clone().equal_elem(f64::NEG_INFINITY);
    for _ in 0..SQUARINGS {
        let (log_factor, next) = normalized(power.clone().matmul(power));
        vanished = vanished.bool_or(log_factor.clone().equal_elem(f64::NEG_INFINITY));
        log_norm = log_norm * 2.0 + log_factor;
        power = next;
    }
    let exponent = (1_u32 << SQUARINGS) as f64;
    (log_norm * exponent.recip()).exp().mask_fill(vanished, 0.0)
}

/// The logarithm of the Frobenius norm, and the matrix divided by it (NaN for the zero matrix).
fn normalized<B: Backend>(a: Tensor<B, 3>) -> (Tensor<B, 1>, Tensor<B, 3>) {
    let norm: Tensor<B, 1> = a.clone().square().sum_dims_squeeze::<1, _>(&[1, 2]).sqrt();
    let divisor: Tensor<B, 3> = norm.clone().reshape([a.dims()[0], 1, 1]);
    (norm.log(), a / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, TensorData};
    use burn_flex::{Flex, FlexDevice};
    use nalgebra::DMatrix;
    use rand::{SeedableRng, rngs::StdRng};
    use rand_distr::{Distribution, StandardNormal};

    fn radius(a: &DMatrix<f64>) -> f64 {
        let m = a.nrows();
        let data = TensorData::new(a.transpose().as_slice().to_vec(), [1, m, m]);
        let a = Tensor::<Flex, 3>::from_data(data, (&FlexDevice, DType::F64));
        spectral_radius(a).into_data().iter::<f64>().next().unwrap()
    }

    #[test]
    fn agrees_with_the_eigenvalues_real_and_complex() {
        let mut rng = StdRng::seed_from_u64(1);
        for m in [1, 2, 3, 5, 12] {
            for _ in 0..20 {
                let a = DMatrix::from_fn(m, m, |_, _| StandardNormal.sample(&mut rng));
                let eigenvalues = a.complex_eigenvalues();
                let expected = eigenvalues.iter().map(|l| l.norm()).fold(0.0, f64::max);
                let ratio = radius(&a) / expected;
                assert!((1.0 - 1e-9..1.01).contains(&ratio), "m = {m}: {ratio}");
            }
        }
    }

    #[test]
    fn of_nothing_left_is_zero() {
        assert_eq!(radius(&DMatrix::zeros(3, 3)), 0.0);
        let mut nilpotent = DMatrix::zeros(3, 3);
        (nilpotent[(0, 1)], nilpotent[(1, 2)]) = (5.0, 7.0);
        assert_eq!(radius(&nilpotent), 0.0);
        assert!((radius(&DMatrix::from_diagonal_element(3, 3, -2.0)) - 2.0).abs() < 0.01);
    }
}
