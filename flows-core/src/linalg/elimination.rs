//! Gauss-Jordan elimination with partial pivoting of a batch of matrices, in tensor operations without a
//! synchronization.
//!
//! # Method
//! A step turns one column of the `m x m` matrix into a unit vector: with the largest entry `A_pk`
//! of column `k` in the rows not used before as its pivot, `G = I - (A e_k - e_p) e_p^T / A_pk`.
//! Rows are never exchanged, only marked as used. After `m` steps `G_m ... G_1 A = P`, the
//! permutation with `P e_k = e_{p_k}`; so `|det A| = prod_k |A_{p_k k}|`, and
//! `A^{-1} = P^T Y P^T`, where column `k` of `Y` is what the steps made of `e_{p_k}`.
//!
//! A product of steps with pivots `p_1..p_b` differs from the identity only in those columns:
//! `I + (Y_b - E_b) E_b^T`, `E_b` the unit vectors. So the columns are halved recursively: eliminate
//! the left half, apply it to the right half by two matrix products, eliminate that, apply it to
//! what the left half became. Most of the work is matrix products, and of the `m` steps only
//! the pivot search touches single columns.

use burn::tensor::{Int, Tensor, backend::Backend};

use crate::magnitude::magnitude;

/// What elimination leaves of a batch of square matrices.
#[derive(Debug, Clone)]
pub(crate) struct Eliminated<B: Backend> {
    /// `A^{-1}`, `[n, m, m]`; infinite or NaN for a singular matrix.
    pub(crate) inverse: Tensor<B, 3>,
    /// The pivots in order, `[n, m]`; for a singular matrix a zero, then NaN.
    pub(crate) pivots: Tensor<B, 2>,
    /// Row of each pivot, `[n, m]`.
    pub(crate) rows: Tensor<B, 2, Int>,
}

impl<B: Backend> Eliminated<B> {
    /// Eliminates `a`.
    ///
    /// Meant for tensors outside the autodiff graph: what is differentiable is built from the
    /// inverse, see [`log_abs_det`](crate::log_det::log_abs_det).
    ///
    /// # Shapes
    /// - `a`: `[n, m, m]`
    pub(crate) fn new(a: Tensor<B, 3>) -> Self {
        let mut steps = Steps {
            used: a.clone().narrow(2, 0, 1).zeros_like(),
            index: row_index(&a),
            pivots: Vec::new(),
            rows: Vec::new(),
        };
        let reduced = steps.reduce(a);
        let back = reduced.units.swap_dims(1, 2);
        Self {
            inverse: back.clone().matmul(reduced.columns).matmul(back),
            pivots: Tensor::cat(steps.pivots, 1).squeeze_dim(2),
            rows: Tensor::cat(steps.rows, 1).squeeze_dim(2),
        }
    }

    /// `log |det A| = sum_k log |pivot_k|`, `[n]`; not finite for a singular matrix.
    pub(crate) fn log_abs_det(&self) -> Tensor<B, 1> {
        magnitude(self.pivots.clone())
            .log()
            .sum_dim(1)
            .squeeze_dim(1)
    }

    /// The sign of each determinant, -1 or 1, or 0 for zero and NaN. Reads the pivots back from the device.
    pub(crate) fn signs(&self) -> Vec<i8> {
        let m = self.pivots.dims()[1];
        let pivots: Vec<f64> = self.pivots.to_data().iter().collect();
        let rows: Vec<i64> = self.rows.to_data().iter().collect();
        let sign = |(pivots, rows): (&[f64], &[i64])| {
            let defined = pivots.iter().all(|p| *p != 0.0 && !p.is_nan());
            let negative = pivots.iter().filter(|p| **p < 0.0).count();
            match (defined, (negative + inversions(rows)) % 2) {
                (false, _) => 0,
                (true, 0) => 1,
                (true, _) => -1,
            }
        };
        pivots.chunks(m).zip(rows.chunks(m)).map(sign).collect()
    }
}

/// Pairs of `rows` out of order: odd for an odd permutation.
fn inversions(rows: &[i64]) -> usize {
    let after = |i: usize| {
        rows[i + 1..]
            .iter()
            .filter(|&&later| later < rows[i])
            .count()
    };
    (0..rows.len()).map(after).sum()
}

/// `0..m` down the rows, `[1, m, 1]`.
fn row_index<B: Backend>(a: &Tensor<B, 3>) -> Tensor<B, 3, Int> {
    let m = a.dims()[1] as i64;
    Tensor::<B, 1, Int>::arange(0..m, &a.device()).reshape([1, m, 1])
}

/// Columns after their elimination.
struct Reduced<B: Backend> {
    /// `Y`: what the steps made of the unit vectors of their pivots, `[n, m, b]`.
    columns: Tensor<B, 3>,
    /// `E`: those unit vectors, `[n, m, b]`.
    units: Tensor<B, 3>,
}

impl<B: Backend> Reduced<B> {
    /// `(I + (Y - E) E^T) other`.
    fn apply(&self, other: Tensor<B, 3>) -> Tensor<B, 3> {
        let pivot_rows = self.units.clone().swap_dims(1, 2).matmul(other.clone());
        other + (self.columns.clone() - self.units.clone()).matmul(pivot_rows)
    }
}

/// The state of an elimination.
struct Steps<B: Backend> {
    /// 1 for the rows that held a pivot, `[n, m, 1]`.
    used: Tensor<B, 3>,
    index: Tensor<B, 3, Int>,
    /// Each `[n, 1, 1]`.
    pivots: Vec<Tensor<B, 3>>,
    rows: Vec<Tensor<B, 3, Int>>,
}

impl<B: Backend> Steps<B> {
    fn reduce(&mut self, block: Tensor<B, 3>) -> Reduced<B> {
        let width = block.dims()[2];
        if width == 1 {
            return self.step(block);
        }
        let half = width / 2;
        let left = self.reduce(block.clone().narrow(2, 0, half));
        let right = self.reduce(left.apply(block.narrow(2, half, width - half)));
        Reduced {
            columns: Tensor::cat(vec![right.apply(left.columns), right.columns], 2),
            units: Tensor::cat(vec![left.units, right.units], 2),
        }
    }

    fn step(&mut self, column: Tensor<B, 3>) -> Reduced<B> {
        // Used rows get -1, below every magnitude.
        let candidates = magnitude(column.clone()) * (-self.used.clone() + 1.0) - self.used.clone();
        let row = candidates.argmax(1);
        let unit = self
            .index
            .clone()
            .equal(row.clone())
            .float()
            .cast(column.dtype());
        let pivot = (column.clone() * unit.clone()).sum_dim(1);
        self.used = self.used.clone() + unit.clone();
        self.pivots.push(pivot.clone());
        self.rows.push(row);
        Reduced {
            columns: unit.clone() - (column - unit.clone()) / pivot,
            units: unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, TensorData};
    use burn_flex::{Flex, FlexDevice};
    use nalgebra::DMatrix;
    use rand::{SeedableRng, rngs::StdRng};
    use rand_distr::{Distribution, StandardNormal};

    fn batch(matrices: &[DMatrix<f64>]) -> Tensor<Flex, 3> {
        let m = matrices[0].nrows();
        let rows = matrices
            .iter()
            .flat_map(|a| a.transpose().as_slice().to_vec());
        let data = TensorData::new(rows.collect::<Vec<f64>>(), [matrices.len(), m, m]);
        Tensor::from_data(data, (&FlexDevice, DType::F64))
    }

    #[test]
    fn agrees_with_lu_for_matrices_that_need_pivoting() {
        let mut rng = StdRng::seed_from_u64(1);
        for m in [1, 2, 3, 4, 7, 16, 33] {
            let mut draw = || DMatrix::from_fn(m, m, |_, _| StandardNormal.sample(&mut rng));
            let mut matrices: Vec<DMatrix<f64>> = (0..6).map(|_| draw()).collect();
            // Zeros down the diagonal, so that without pivoting every step divides by zero.
            let mut shifted = DMatrix::zeros(m, m);
            (0..m).for_each(|i| shifted[(i, (i + 1) % m)] = 1.0 + i as f64);
            matrices.push(shifted);
            let a = batch(&matrices);
            let in_memory = crate::fused::invert(&a).unwrap();
            for eliminated in [Eliminated::new(a), in_memory] {
                let log_dets: Vec<f64> = eliminated.log_abs_det().into_data().iter().collect();
                let inverses: Vec<f64> = eliminated.inverse.to_data().iter().collect();
                let signs = eliminated.signs();
                for (i, a) in matrices.iter().enumerate() {
                    let det = a.determinant();
                    assert!((log_dets[i] - det.abs().ln()).abs() < 1e-10, "m = {m}");
                    assert_eq!(f64::from(signs[i]), det.signum(), "m = {m}");
                    let inverse = &inverses[i * m * m..(i + 1) * m * m];
                    let product = a * DMatrix::from_row_slice(m, m, inverse);
                    let error = (product - DMatrix::identity(m, m)).amax();
                    assert!(error < 1e-10, "m = {m}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_singular_matrix_has_sign_zero() {
        let a = DMatrix::from_row_slice(3, 3, &[1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 0.0, 0.0, 1.0]);
        let eliminated = Eliminated::new(batch(&[a, DMatrix::identity(3, 3)]));
        assert_eq!(eliminated.signs(), [0, 1]);
        let log_dets: Vec<f64> = eliminated.log_abs_det().into_data().iter().collect();
        assert!(!log_dets[0].is_finite() && log_dets[1] == 0.0);
    }
}
