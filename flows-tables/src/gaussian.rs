//! The normal distribution with a full covariance: the baseline of every density table, in closed form.

use std::f64::consts::PI;

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::Rows;

/// The normal distribution with the mean and the covariance of a table, the maximum-likelihood fit.
///
/// `log p(x) = -|L^-1 (x - mean)|^2 / 2 - sum_i log L_ii - dim/2 log(2 pi)` with the Cholesky factor `L` of
/// the covariance, in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct FullGaussian {
    mean: Vec<f64>,
    cholesky: Cholesky,
}

impl FullGaussian {
    /// Fits rows; `None` where their covariance is singular.
    pub fn fit(rows: &Rows) -> Option<Self> {
        Self::weighted(rows, |_| 1.0)
    }

    /// As [`fit`](Self::fit), with a weight for each row.
    pub fn weighted(rows: &Rows, weight: impl Fn(usize) -> f64) -> Option<Self> {
        let (mean, covariance) = weighted_moments(rows, weight);
        let cholesky = Cholesky::new(&covariance, mean.len(), 1e-13).ok()?;
        Some(Self { mean, cholesky })
    }

    /// `log p` of one row, in nats.
    pub fn log_prob(&self, row: &[f64]) -> f64 {
        let dim = self.mean.len();
        let Cholesky { lower, .. } = &self.cholesky;
        let mut z = vec![0.0; dim];
        for i in 0..dim {
            let sum: f64 = (0..i).map(|j| lower[i * dim + j] * z[j]).sum();
            z[i] = (row[i] - self.mean[i] - sum) / lower[i * (dim + 1)];
        }
        let quadratic: f64 = z.iter().map(|v| v * v).sum();
        let log_det: f64 = (0..dim).map(|i| lower[i * (dim + 1)].ln()).sum();
        -0.5 * quadratic - log_det - 0.5 * dim as f64 * (2.0 * PI).ln()
    }

    /// Draws `n` rows.
    pub fn sample(&self, n: usize, rng: &mut dyn Rng) -> Rows {
        let dim = self.mean.len();
        let mut values = Vec::with_capacity(n * dim);
        for _ in 0..n {
            let z: Vec<f64> = (0..dim).map(|_| StandardNormal.sample(rng)).collect();
            for i in 0..dim {
                let row = &self.cholesky.lower[i * dim..];
                let sum: f64 = row.iter().zip(&z[..=i]).map(|(a, z)| a * z).sum();
                values.push(self.mean[i] + sum);
            }
        }
        Rows::new(values, dim)
    }
}

/// Mean, and population covariance row-major, of the columns; two passes in `f64`.
pub fn moments(rows: &Rows) -> (Vec<f64>, Vec<f64>) {
    weighted_moments(rows, |_| 1.0)
}

/// As [`moments`], with a weight for each row.
pub(super) fn weighted_moments(rows: &Rows, weight: impl Fn(usize) -> f64) -> (Vec<f64>, Vec<f64>) {
    let dim = rows.width();
    let n: f64 = (0..rows.len()).map(&weight).sum();
    let mut mean = vec![0.0; dim];
    for (i, row) in rows.iter().enumerate() {
        let w = weight(i);
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += w * v);
    }
    mean.iter_mut().for_each(|m| *m /= n);
    let mut covariance = vec![0.0; dim * dim];
    let mut centred = vec![0.0; dim];
    for (k, row) in rows.iter().enumerate() {
        let w = weight(k);
        for ((c, v), m) in centred.iter_mut().zip(row).zip(&mean) {
            *c = v - m;
        }
        for i in 0..dim {
            let products = covariance[i * dim..].iter_mut().zip(&centred[..=i]);
            products.for_each(|(sum, c)| *sum += w * centred[i] * c);
        }
    }
    for i in 0..dim {
        for j in 0..=i {
            let value = covariance[i * dim + j] / n;
            covariance[i * dim + j] = value;
            covariance[j * dim + i] = value;
        }
    }
    (mean, covariance)
}

/// The lower factor `L` of a symmetric positive definite `L L^T`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cholesky {
    pub(super) lower: Vec<f64>,
}

impl Cholesky {
    /// Factors `matrix`; the index of the first row whose pivot is below `tolerance` times its
    /// diagonal where it is not definite.
    pub(super) fn new(matrix: &[f64], dim: usize, tolerance: f64) -> Result<Self, usize> {
        let mut lower = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..=i {
                let known = (0..j).map(|k| lower[i * dim + k] * lower[j * dim + k]);
                let rest = matrix[i * dim + j] - known.sum::<f64>();
                lower[i * dim + j] = if i > j {
                    rest / lower[j * (dim + 1)]
                } else if rest > tolerance * matrix[i * (dim + 1)] {
                    rest.sqrt()
                } else {
                    return Err(i);
                };
            }
        }
        Ok(Self { lower })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_train::stream;
    use nalgebra::{DMatrix, DVector};

    /// Against nalgebra: mean, covariance, determinant and inverse by other algorithms.
    #[test]
    fn it_agrees_with_an_independent_computation() {
        let rng = &mut stream(3, "test", 0);
        let (n, dim) = (500, 7);
        let mixing = DMatrix::from_fn(dim, dim, |_, _| StandardNormal.sample(rng));
        let noise: DMatrix<f64> = DMatrix::from_fn(dim, n, |_, _| StandardNormal.sample(rng));
        // Columns of very different size, as in real tables.
        let size = DVector::from_fn(dim, |i, _| 10f64.powi(2 * i as i32 - 6));
        let data = DMatrix::from_diagonal(&size) * mixing * noise;
        let rows = Rows::new(data.as_slice().to_vec(), dim);
        let fitted = FullGaussian::fit(&rows).unwrap();

        let mean = data.column_mean();
        let centred = DMatrix::from_fn(dim, n, |i, j| data[(i, j)] - mean[i]);
        let covariance = &centred * centred.transpose() / n as f64;
        // Scaled to a matrix of ordinary size, whose determinant and inverse are benign.
        let scaled = DMatrix::from_fn(dim, dim, |i, j| covariance[(i, j)] / (size[i] * size[j]));
        let log_det =
            scaled.clone().lu().determinant().ln() + 2.0 * size.iter().map(|s| s.ln()).sum::<f64>();
        let inverse = scaled.try_inverse().unwrap();
        for (j, row) in rows.iter().enumerate() {
            let z = DVector::from_fn(dim, |i, _| centred[(i, j)] / size[i]);
            let quadratic = (z.transpose() * &inverse * &z)[(0, 0)];
            let expected = -0.5 * (quadratic + log_det + dim as f64 * (2.0 * PI).ln());
            let actual = fitted.log_prob(row);
            assert!((actual - expected).abs() < 1e-6, "{actual} {expected}");
        }
    }

    #[test]
    fn samples_have_the_moments_of_the_table() {
        let table = Rows::new(vec![0.0, 1.0, 2.0, 2.0, 4.0, 7.0, 1.0, 1.0], 2);
        let fitted = FullGaussian::fit(&table).unwrap();
        let samples = fitted.sample(200_000, &mut stream(0, "samples", 0));
        let (mean, covariance) = moments(&table);
        let (sample_mean, sample_covariance) = moments(&samples);
        for (a, b) in mean.iter().zip(&sample_mean) {
            assert!((a - b).abs() < 0.03, "{a} {b}");
        }
        for (a, b) in covariance.iter().zip(&sample_covariance) {
            assert!((a - b).abs() < 0.06, "{a} {b}");
        }
    }

    #[test]
    fn a_singular_covariance_has_no_density() {
        let line = Rows::new(vec![0.0, 0.0, 1.0, 2.0, 2.0, 4.0], 2);
        assert_eq!(FullGaussian::fit(&line), None);
    }
}
