//! Determinants and inverses of many small matrices, by elimination with partial pivoting.

use std::ops::{Add, Div, Mul, Sub};

use pulp::Arch;
use rayon::prelude::*;

use crate::lanes::Real;

/// A number with its arithmetic.
pub trait Number:
    Real
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// `|x|`
    fn abs(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
}

impl Number for f32 {
    fn abs(self) -> Self {
        self.abs()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

impl Number for f64 {
    fn abs(self) -> Self {
        self.abs()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

/// Matrices that a thread takes at a time.
const MATRICES: usize = 64;

/// Inverts each `m x m` matrix of `a`, row-major, in its place; gives the pivots in their order and the row of each,
/// `[n, m]`. A singular matrix leaves numbers that are not finite.
pub fn invert_all<F: Number>(a: &mut [F], m: usize) -> (Vec<F>, Vec<i64>) {
    let n = a.len() / (m * m);
    let mut pivots = vec![F::default(); n * m];
    let mut rows = vec![0_i64; n * m];
    let pieces = a.par_chunks_mut(MATRICES * m * m);
    let of_piece = pivots.par_chunks_mut(MATRICES * m);
    let of_piece = of_piece.zip(rows.par_chunks_mut(MATRICES * m));
    pieces.zip(of_piece).for_each(|(a, (pivots, rows))| {
        // One choice of instructions for all matrices of the piece.
        Arch::new().dispatch(|| {
            let of_matrix = pivots.chunks_exact_mut(m).zip(rows.chunks_exact_mut(m));
            for (a, (pivots, rows)) in a.chunks_exact_mut(m * m).zip(of_matrix) {
                invert(a, pivots, rows);
            }
        });
    });
    (pivots, rows)
}

/// `log |det A_i|` of `n` matrices, `m x m`, which `fill(i, a)` writes over what it finds in `a`: by LU, one after the
/// other. These are a few numbers in the first-level cache instead of passes over the whole batch. Not finite for a
/// singular matrix.
pub fn log_abs_dets<F: Number>(
    n: usize,
    m: usize,
    fill: impl Fn(usize, &mut [F]) + Sync,
) -> Vec<F> {
    let mut found = vec![F::default(); n];
    let pieces = found.par_chunks_mut(MATRICES).enumerate();
    pieces.for_each(|(piece, found)| {
        let mut a = vec![F::default(); m * m];
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
        a[k * m + k] = F::of(1.0);
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
    use nalgebra::DMatrix;
    use rand::{SeedableRng, rngs::StdRng};
    use rand_distr::{Distribution, StandardNormal};

    /// Random matrices, and one with zeros down the diagonal, which needs every exchange; row-major.
    fn matrices(m: usize, rng: &mut StdRng) -> (Vec<DMatrix<f64>>, Vec<f64>) {
        let mut draw = || DMatrix::from_fn(m, m, |_, _| StandardNormal.sample(rng));
        let mut matrices: Vec<DMatrix<f64>> = (0..70).map(|_| draw()).collect();
        let mut shifted = DMatrix::zeros(m, m);
        (0..m).for_each(|i| shifted[(i, (i + 1) % m)] = 1.0 + i as f64);
        matrices.push(shifted);
        let rows = matrices.iter().map(|a| a.transpose().as_slice().to_vec());
        let numbers = rows.collect::<Vec<_>>().concat();
        (matrices, numbers)
    }

    #[test]
    fn log_determinants_are_those_of_lu() {
        let mut rng = StdRng::seed_from_u64(2);
        for m in [1, 3, 5, 16, 63] {
            let (matrices, numbers) = matrices(m, &mut rng);
            let n = matrices.len();
            let copy = |i: usize, a: &mut [f64]| a.copy_from_slice(&numbers[i * m * m..][..m * m]);
            let singles = |i: usize, a: &mut [f32]| {
                let from = numbers[i * m * m..].iter();
                a.iter_mut().zip(from).for_each(|(a, v)| *a = *v as f32);
            };
            let (doubles, singles) = (log_abs_dets(n, m, copy), log_abs_dets(n, m, singles));
            for ((a, double), single) in matrices.iter().zip(doubles).zip(singles) {
                let exact = a.determinant().abs().ln();
                let error = (double - exact).abs();
                assert!(error < 1e-10 * (1.0 + exact.abs()), "m = {m}: {error}");
                assert!((f64::from(single) - exact).abs() < 1e-2, "m = {m}");
            }
        }
        assert!(!log_abs_dets(1, 3, |_, a: &mut [f64]| a.fill(0.0))[0].is_finite());
        let with_nan = |_, a: &mut [f64]| {
            a.copy_from_slice(&[1.0, 0.0, 0.0, 0.0, f64::NAN, 0.0, 0.0, 0.0, 1.0]);
        };
        assert!(log_abs_dets(1, 3, with_nan)[0].is_nan());
    }

    #[test]
    fn inverses_undo_their_matrices() {
        let mut rng = StdRng::seed_from_u64(3);
        for m in [1, 2, 7, 33] {
            let (matrices, mut numbers) = matrices(m, &mut rng);
            let (pivots, _) = invert_all(&mut numbers, m);
            let inverses = numbers.chunks_exact(m * m).zip(pivots.chunks_exact(m));
            for (a, (inverse, pivots)) in matrices.iter().zip(inverses) {
                let product = a * DMatrix::from_row_slice(m, m, inverse);
                let error = (product - DMatrix::identity(m, m)).amax();
                assert!(error < 1e-9, "m = {m}: {error}");
                let det = pivots.iter().product::<f64>().abs();
                assert!(
                    (det - a.determinant().abs()).abs() < 1e-9 * (1.0 + det),
                    "m = {m}"
                );
            }
        }
    }
}
