//! Gauss-Jordan elimination with partial pivoting, batched: in tensor operations without a
//! synchronization, or, on the CPU backends, matrix by matrix in memory.
//!
//! # Method in tensor operations
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

use std::ops::{Add, Div, Mul, Sub};

use burn::tensor::{DType, Element, Int, Tensor, TensorData, backend::Backend};
use pulp::Arch;
use rayon::prelude::*;

use crate::kernels::fused_kernels_enabled;
use crate::kernels::host::{Host, is_host};
use crate::kernels::lanes::Real;

/// What elimination leaves of a batch of square matrices.
#[derive(Debug, Clone)]
pub struct Eliminated<B: Backend> {
    /// `A^{-1}`, `[n, m, m]`; infinite or NaN for a singular matrix.
    pub inverse: Tensor<B, 3>,
    /// The pivots in order, `[n, m]`; for a singular matrix a zero, then NaN.
    pub pivots: Tensor<B, 2>,
    /// Row of each pivot, `[n, m]`.
    pub rows: Tensor<B, 2, Int>,
}

impl<B: Backend> Eliminated<B> {
    /// Eliminates `a`.
    ///
    /// Meant for tensors outside the autodiff graph: what is differentiable is built from the
    /// inverse, see [`log_abs_det`](super::log_abs_det).
    ///
    /// # Shapes
    /// - `a`: `[n, m, m]`
    pub fn new(a: Tensor<B, 3>) -> Self {
        Self::in_memory(&a).unwrap_or_else(|| Self::by_operations(a))
    }

    /// On any backend: every step is an operation on the whole batch.
    fn by_operations(a: Tensor<B, 3>) -> Self {
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

    /// One matrix after the other, where they lie in this process's memory.
    fn in_memory(a: &Tensor<B, 3>) -> Option<Self> {
        let dtype = a.dtype();
        if !fused_kernels_enabled() || !is_host::<B>() {
            return None;
        }
        match dtype {
            DType::F32 => Some(Self::of_numbers::<f32>(a)),
            DType::F64 => Some(Self::of_numbers::<f64>(a)),
            _ => None,
        }
    }

    fn of_numbers<F: Number + Real + Element>(a: &Tensor<B, 3>) -> Self {
        let ([n, m, _], device, dtype) = (a.dims(), a.device(), a.dtype());
        let mut inverse = Host::new(a.clone()).numbers::<F>().to_vec();
        let mut pivots = vec![F::default(); n * m];
        let mut rows = vec![0_i64; n * m];
        let pieces = inverse.par_chunks_mut(MATRICES * m * m);
        let of_piece = pivots.par_chunks_mut(MATRICES * m);
        let of_piece = of_piece.zip(rows.par_chunks_mut(MATRICES * m));
        pieces.zip(of_piece).for_each(|(a, (pivots, rows))| {
            Arch::new().dispatch(|| {
                let of_matrix = pivots.chunks_exact_mut(m).zip(rows.chunks_exact_mut(m));
                for (a, (pivots, rows)) in a.chunks_exact_mut(m * m).zip(of_matrix) {
                    invert(a, pivots, rows);
                }
            });
        });
        Self {
            inverse: Tensor::from_data(TensorData::new(inverse, [n, m, m]), (&device, dtype)),
            pivots: Tensor::from_data(TensorData::new(pivots, [n, m]), (&device, dtype)),
            rows: Tensor::from_data(TensorData::new(rows, [n, m]), &device),
        }
    }

    /// `log |det A| = sum_k log |pivot_k|`, `[n]`; not finite for a singular matrix.
    pub fn log_abs_det(&self) -> Tensor<B, 1> {
        self.pivots.clone().abs().log().sum_dim(1).squeeze_dim(1)
    }

    /// The sign of each determinant, -1 or 1, or 0 for zero and NaN. Reads the pivots back from the device.
    pub fn signs(&self) -> Vec<i8> {
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
        let candidates = column.clone().abs() * (-self.used.clone() + 1.0) - self.used.clone();
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

/// `log |det A_i|` of `n` matrices, `m x m`, which `fill(i, a)` writes over what it finds in `a`: by LU with
/// partial pivoting, one after the other. On a CPU these are a few numbers in the first-level cache instead
/// of passes over the whole batch. Not finite for a singular matrix.
pub(super) fn log_abs_dets<F: Number>(
    n: usize,
    m: usize,
    fill: impl Fn(usize, &mut [F]) + Sync,
) -> Vec<F> {
    let mut found = vec![F::default(); n];
    let pieces = found.par_chunks_mut(MATRICES).enumerate();
    pieces.for_each(|(piece, found)| {
        let mut a = vec![F::default(); m * m];
        // One choice of instructions for all matrices of the piece.
        Arch::new().dispatch(|| {
            for (i, found) in found.iter_mut().enumerate() {
                fill(piece * MATRICES + i, &mut a);
                *found = log_abs_det(&mut a, m);
            }
        });
    });
    found
}

/// Inverts `a`, row-major, by Gauss-Jordan elimination with partial pivoting; writes the pivots in
/// their order and the row of each.
#[inline(always)]
pub(crate) fn invert<F: Number>(a: &mut [F], pivots: &mut [F], rows: &mut [i64]) {
    let m = pivots.len();
    let mut row_of_pivot = vec![F::default(); m];
    (0..m).for_each(|k| rows[k] = k as i64);
    // The other row of each exchange.
    let mut exchanged = vec![0; m];
    for k in 0..m {
        let mut p = k;
        for i in k + 1..m {
            if a[i * m + k].abs() > a[p * m + k].abs() {
                p = i;
            }
        }
        exchanged[k] = p;
        if p != k {
            let (above, below) = a.split_at_mut(p * m);
            above[k * m..(k + 1) * m].swap_with_slice(&mut below[..m]);
            rows.swap(k, p);
        }
        let pivot = a[k * m + k];
        pivots[k] = pivot;
        a[k * m + k] = F::one();
        for (own, entry) in row_of_pivot.iter_mut().zip(&mut a[k * m..(k + 1) * m]) {
            *entry = *entry / pivot;
            *own = *entry;
        }
        for (i, row) in a.chunks_exact_mut(m).enumerate() {
            if i != k {
                let factor = row[k];
                row[k] = F::default();
                for (entry, own) in row.iter_mut().zip(&row_of_pivot) {
                    *entry = *entry - factor * *own;
                }
            }
        }
    }
    // The inverse of the matrix with its rows exchanged has its columns exchanged.
    for k in (0..m).rev().filter(|k| exchanged[*k] != *k) {
        a.chunks_exact_mut(m)
            .for_each(|row| row.swap(k, exchanged[k]));
    }
}

/// Matrices that a thread takes at a time.
const MATRICES: usize = 64;

/// A number that lies in memory.
pub(crate) trait Number:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    fn one() -> Self;
    fn abs(self) -> Self;
    fn ln(self) -> Self;
}

impl Number for f32 {
    fn one() -> Self {
        1.0
    }
    fn abs(self) -> Self {
        self.abs()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

impl Number for f64 {
    fn one() -> Self {
        1.0
    }
    fn abs(self) -> Self {
        self.abs()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

#[inline(always)]
fn log_abs_det<F: Number>(a: &mut [F], m: usize) -> F {
    let mut sum = F::default();
    for k in 0..m {
        // `>` is false for NaN, which then stays where it is and reaches the sum.
        let mut p = k;
        for i in k + 1..m {
            if a[i * m + k].abs() > a[p * m + k].abs() {
                p = i;
            }
        }
        if p != k {
            let (above, below) = a.split_at_mut(p * m);
            above[k * m + k..(k + 1) * m].swap_with_slice(&mut below[k..m]);
        }
        let (done, left) = a.split_at_mut((k + 1) * m);
        let row = &done[k * m + k..];
        let pivot = row[0];
        sum = sum + pivot.abs().ln();
        for other in left.chunks_exact_mut(m) {
            let factor = other[k] / pivot;
            for (x, y) in other[k + 1..].iter_mut().zip(&row[1..]) {
                *x = *x - factor * *y;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let by_operations = Eliminated::by_operations(a.clone());
            for eliminated in [by_operations, Eliminated::in_memory(&a).unwrap()] {
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
    fn matrices_in_memory_have_the_same_log_determinants() {
        let mut rng = StdRng::seed_from_u64(2);
        for m in [3, 5, 16, 63] {
            let mut draw = || DMatrix::from_fn(m, m, |_, _| StandardNormal.sample(&mut rng));
            let mut matrices: Vec<DMatrix<f64>> = (0..70).map(|_| draw()).collect();
            let mut shifted = DMatrix::zeros(m, m);
            (0..m).for_each(|i| shifted[(i, (i + 1) % m)] = 1.0 + i as f64);
            matrices.push(shifted);
            let rows = matrices
                .iter()
                .flat_map(|a| a.transpose().as_slice().to_vec());
            let numbers: Vec<f64> = rows.collect();
            let n = matrices.len();
            let copy = |i: usize, a: &mut [f64]| a.copy_from_slice(&numbers[i * m * m..][..m * m]);
            let found = log_abs_dets(n, m, copy);
            let generic = Eliminated::by_operations(batch(&matrices)).log_abs_det();
            let generic: Vec<f64> = generic.into_data().iter().collect();
            for (found, generic) in found.iter().zip(&generic) {
                assert!(
                    (found - generic).abs() < 1e-10 * (1.0 + generic.abs()),
                    "m = {m}"
                );
            }
            let singles = |i: usize, a: &mut [f32]| {
                let from = numbers[i * m * m..].iter();
                a.iter_mut().zip(from).for_each(|(a, v)| *a = *v as f32);
            };
            for (single, double) in log_abs_dets(n, m, singles).iter().zip(&found) {
                assert!((f64::from(*single) - double).abs() < 1e-2, "m = {m}");
            }
        }
        assert!(!log_abs_dets(1, 3, |_, a: &mut [f64]| a.fill(0.0))[0].is_finite());
        let with_nan = |_, a: &mut [f64]| {
            a.copy_from_slice(&[1.0, 0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0, 0.0, 1.0]);
        };
        assert!(log_abs_dets(1, 3, with_nan)[0].is_nan());
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
