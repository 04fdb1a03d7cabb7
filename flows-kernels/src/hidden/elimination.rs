//! Determinants and inverses of one small matrix a lane.
//!
//! Gauss-Jordan elimination in blocks of four: a pass over the matrix does the work of four pivots, so
//! that it is loaded and stored a quarter as often. Rows are not exchanged, as every lane would
//! exchange others. For `I + D M / T` that is hardly ever needed; lanes where it is are found by
//! the size of the reduced rows and done again, one by one, with pivots.

// Loop variables are the indices of the formulas.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use pulp::Simd;

use super::V;
use crate::lanes::Real;
use crate::linalg::invert;

/// Rows of a block.
const BLOCK: usize = 4;

/// Largest entry of a reduced row; larger ones cost that many digits.
const LARGEST: f64 = 64.0;

/// Rows and columns of the matrix that holds one of `n` rows, padded by zeros.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(BLOCK)
}

/// `log |det(I + E)|` of every lane, with `E` row-major in `matrix` and [`padded`] to `n`; with
/// `INVERSE`, which takes three times as long, `matrix` becomes `(I + E)^-1`, otherwise it is spoiled.
/// Where `E` is small, its digits count: nothing is rounded to those of `1 + E`.
///
/// `fill` fills a matrix with `E`.
#[inline(always)]
pub(super) fn eliminate<F: Real, S: Simd, const INVERSE: bool>(
    simd: S,
    matrix: &mut [V<F, S>],
    n: usize,
    fill: impl Fn(&mut [V<F, S>]),
) -> V<F, S> {
    assert!(n.is_multiple_of(BLOCK) && matrix.len() == n * n);
    fill(matrix);
    let zero = F::splat(simd, F::default());
    let (mut log, mut largest) = (zero, zero);
    for k in (0..n).step_by(BLOCK) {
        let before = if INVERSE { 0..k } else { 0..0 };
        let columns = [before, k + BLOCK..n];
        let (above, rest) = matrix.split_at_mut(k * n);
        let (own, below) = rest.split_at_mut(BLOCK * n);

        let mut pivot = square::<F, S>(own, n, k);
        let excess = invert_block::<F, S>(simd, &mut pivot, &mut largest);
        log = F::add(simd, log, F::ln_abs_1p(simd, excess));
        for columns in columns.clone() {
            reduce::<F, S>(simd, &pivot, own, n, columns, &mut largest);
        }
        let above = if INVERSE { above } else { &mut [] };
        for part in [above, below] {
            for rows in part.chunks_exact_mut(BLOCK * n) {
                let factors = square::<F, S>(rows, n, k);
                for columns in columns.clone() {
                    subtract::<F, S>(simd, &factors, own, rows, n, columns);
                }
                if INVERSE {
                    for r in 0..BLOCK {
                        for j in 0..BLOCK {
                            let mut entry = zero;
                            for q in 0..BLOCK {
                                entry = F::fnma(simd, factors[r][q], pivot[q][j], entry);
                            }
                            rows[r * n + k + j] = entry;
                        }
                    }
                }
            }
        }
        if INVERSE {
            for r in 0..BLOCK {
                own[r * n + k..r * n + k + BLOCK].copy_from_slice(&pivot[r]);
            }
        }
    }
    for lane in 0..F::lanes::<S>() {
        let number = |v: &V<F, S>| F::numbers::<S>(std::slice::from_ref(v))[lane].wide();
        let (largest, log_is_nan) = (number(&largest), number(&log).is_nan());
        if largest > LARGEST || largest.is_nan() || log_is_nan {
            eliminate_lane::<F, S, INVERSE>(matrix, n, lane, &mut log, &fill);
        }
    }
    log
}

/// Columns `k..k + BLOCK` of `BLOCK` rows.
#[inline(always)]
fn square<F: Real, S: Simd>(rows: &[V<F, S>], n: usize, k: usize) -> [[V<F, S>; BLOCK]; BLOCK] {
    let mut square = [[rows[0]; BLOCK]; BLOCK];
    for r in 0..BLOCK {
        for q in 0..BLOCK {
            square[r][q] = rows[r * n + k + q];
        }
    }
    square
}

/// Makes the inverse of `I + E` of a block `E`, and returns `det(I + E) - 1`.
#[inline(always)]
fn invert_block<F: Real, S: Simd>(
    simd: S,
    block: &mut [[V<F, S>; BLOCK]; BLOCK],
    largest: &mut V<F, S>,
) -> V<F, S> {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    let mut excess = zero;
    for k in 0..BLOCK {
        // (1 + x) (1 + e) - 1 = x + (e + x e).
        let e = block[k][k];
        excess = F::add(simd, excess, F::fma(simd, excess, e, e));
        let factor = F::div(simd, one, F::add(simd, one, e));
        block[k][k] = one;
        for j in 0..BLOCK {
            block[k][j] = F::mul(simd, block[k][j], factor);
            if j != k {
                *largest = F::max_abs(simd, block[k][j], *largest);
            }
        }
        for i in 0..BLOCK {
            if i != k {
                let factor = block[i][k];
                block[i][k] = zero;
                for j in 0..BLOCK {
                    block[i][j] = F::fnma(simd, factor, block[k][j], block[i][j]);
                }
            }
        }
    }
    excess
}

/// These columns of each row of a block, all of one length, which spares the loops their checks.
#[inline(always)]
fn rows_of_block<T>(block: &mut [T], n: usize, columns: Range<usize>) -> [&mut [T]; BLOCK] {
    let count = columns.len();
    let (first, rest) = block.split_at_mut(n);
    let (second, rest) = rest.split_at_mut(n);
    let (third, fourth) = rest.split_at_mut(n);
    [
        &mut first[columns.clone()][..count],
        &mut second[columns.clone()][..count],
        &mut third[columns.clone()][..count],
        &mut fourth[columns][..count],
    ]
}

/// The rows of a block times the inverse on its diagonal.
#[inline(always)]
fn reduce<F: Real, S: Simd>(
    simd: S,
    inverse: &[[V<F, S>; BLOCK]; BLOCK],
    own: &mut [V<F, S>],
    n: usize,
    columns: Range<usize>,
    largest: &mut V<F, S>,
) {
    let count = columns.len();
    let [first, second, third, fourth] = rows_of_block(own, n, columns);
    for j in 0..count {
        let old = [first[j], second[j], third[j], fourth[j]];
        let mut new = [F::splat(simd, F::default()); BLOCK];
        for r in 0..BLOCK {
            for q in 0..BLOCK {
                new[r] = F::fma(simd, inverse[r][q], old[q], new[r]);
            }
            *largest = F::max_abs(simd, new[r], *largest);
        }
        [first[j], second[j], third[j], fourth[j]] = new;
    }
}

/// Subtracts `factors` times the reduced rows `own` from `rows`.
#[inline(always)]
fn subtract<F: Real, S: Simd>(
    simd: S,
    factors: &[[V<F, S>; BLOCK]; BLOCK],
    own: &[V<F, S>],
    rows: &mut [V<F, S>],
    n: usize,
    columns: Range<usize>,
) {
    let count = columns.len();
    let [first, second, third, fourth] = rows_of_block(rows, n, columns.clone());
    let own0 = &own[columns.start..columns.end][..count];
    let own1 = &own[n + columns.start..n + columns.end][..count];
    let own2 = &own[2 * n + columns.start..2 * n + columns.end][..count];
    let own3 = &own[3 * n + columns.start..3 * n + columns.end][..count];
    for j in 0..count {
        let reduced = [own0[j], own1[j], own2[j], own3[j]];
        let mut entries = [first[j], second[j], third[j], fourth[j]];
        for q in 0..BLOCK {
            for r in 0..BLOCK {
                entries[r] = F::fnma(simd, factors[r][q], reduced[q], entries[r]);
            }
        }
        [first[j], second[j], third[j], fourth[j]] = entries;
    }
}

/// One lane anew, with pivots and in double precision.
#[inline(never)]
fn eliminate_lane<F: Real, S: Simd, const INVERSE: bool>(
    matrix: &mut [V<F, S>],
    n: usize,
    lane: usize,
    log: &mut V<F, S>,
    fill: &impl Fn(&mut [V<F, S>]),
) {
    let lanes = F::lanes::<S>();
    let mut original = matrix.to_vec();
    fill(&mut original);
    let numbers = F::numbers::<S>(&original).iter();
    let mut a: Vec<f64> = numbers
        .skip(lane)
        .step_by(lanes)
        .map(|v| v.wide())
        .collect();
    (0..n).for_each(|i| a[i * n + i] += 1.0);
    let mut pivots = vec![0.0; n];
    invert(&mut a, &mut pivots, &mut vec![0; n]);
    let determinant: f64 = pivots.iter().map(|p| p.abs().ln()).sum();
    F::numbers_mut::<S>(std::slice::from_mut(log))[lane] = F::of(determinant);
    if INVERSE {
        let entries = F::numbers_mut::<S>(matrix).iter_mut();
        for (entry, inverse) in entries.skip(lane).step_by(lanes).zip(a) {
            *entry = F::of(inverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;
    use pulp::WithSimd;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::lanes::{CHUNK, dispatch};
    use crate::tests::arches;

    /// One matrix a lane, `[n, n]`, as many as a vector has lanes; its logarithms and inverses.
    struct Run<'a, F> {
        matrices: &'a [DMatrix<f64>],
        n: usize,
        out: &'a mut Vec<(f64, f64, DMatrix<f64>)>,
        zero: F,
    }

    impl<F: Real> WithSimd for Run<'_, F> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            let (lanes, size) = (F::lanes::<S>(), padded(self.n));
            for group in self.matrices.chunks_exact(lanes) {
                let fill = |into: &mut [V<F, S>]| {
                    for (at, vector) in into.iter_mut().enumerate() {
                        let (i, j) = (at / size, at % size);
                        for (lane, entry) in F::numbers_mut::<S>(std::slice::from_mut(vector))
                            .iter_mut()
                            .enumerate()
                        {
                            *entry = F::of(match i.max(j) < self.n {
                                true => group[lane][(i, j)] - f64::from(u8::from(i == j)),
                                false => 0.0,
                            });
                        }
                    }
                };
                let mut matrix = vec![F::splat(simd, self.zero); size * size];
                let alone = eliminate::<F, S, false>(simd, &mut matrix, size, fill);
                let log = eliminate::<F, S, true>(simd, &mut matrix, size, fill);
                let number = |v: &V<F, S>, lane: usize| {
                    F::numbers::<S>(std::slice::from_ref(v))[lane].wide()
                };
                for lane in 0..lanes {
                    let inverse = DMatrix::from_fn(self.n, self.n, |i, j| {
                        number(&matrix[i * size + j], lane)
                    });
                    self.out
                        .push((number(&alone, lane), number(&log, lane), inverse));
                }
            }
        }
    }

    fn check<F: Real>(matrices: &[DMatrix<f64>], tolerance: f64, residual_tolerance: f64) {
        let n = matrices[0].nrows();
        for arch in arches() {
            let mut out = Vec::new();
            let (zero, out_mut) = (F::default(), &mut out);
            dispatch(
                arch,
                Run {
                    matrices,
                    n,
                    out: out_mut,
                    zero,
                },
            );
            assert_eq!(out.len(), matrices.len());
            for (a, (alone, log, inverse)) in matrices.iter().zip(&out) {
                let expected = a.determinant().abs().ln();
                assert!(
                    (alone - expected).abs() <= tolerance,
                    "{arch:?} {n}: {alone} {expected}"
                );
                assert!(
                    (log - expected).abs() <= tolerance,
                    "{arch:?} {n}: {log} {expected}"
                );
                let residual = (inverse * a - DMatrix::identity(n, n)).amax();
                assert!(
                    residual <= residual_tolerance,
                    "{arch:?} {n}: residual {residual}"
                );
            }
        }
    }

    #[test]
    fn determinants_and_inverses_are_those_of_lu() {
        let mut rng = StdRng::seed_from_u64(2);
        for n in [1, 3, 4, 7, 8, 13, 32] {
            let draw = |_| {
                let noise = DMatrix::from_fn(n, n, |_, _| rng.random_range(-1.0..1.0));
                DMatrix::identity(n, n) + noise * (1.0 / n as f64).sqrt()
            };
            let matrices: Vec<_> = (0..CHUNK).map(draw).collect();
            check::<f64>(&matrices, 1e-9, 1e-9);
        }
    }

    /// The logarithm of what is close to the identity, relative to the difference.
    #[test]
    fn small_differences_from_the_identity_keep_their_digits() {
        let (n, mut rng) = (16, StdRng::seed_from_u64(4));
        let draw = |_| {
            DMatrix::identity(n, n)
                + DMatrix::from_fn(n, n, |_, _| 1e-6 * rng.random_range(0.5..1.0))
        };
        let matrices: Vec<_> = (0..CHUNK).map(draw).collect();
        check::<f32>(&matrices, 1e-10, 1e-6);
    }

    /// Zeros where the first pivots would be, in some lanes.
    #[test]
    fn lanes_that_need_exchanges_get_them() {
        let n = 6;
        let mut rng = StdRng::seed_from_u64(3);
        let draw = |lane: usize| {
            let order: Vec<usize> = match lane % 3 {
                0 => (0..n).collect(),
                1 => (0..n).rev().collect(),
                _ => (0..n).map(|i| (i + 1) % n).collect(),
            };
            DMatrix::from_fn(n, n, |i, j| {
                let small = match i == j {
                    true => 0.0,
                    false => rng.random_range(-0.1..0.1),
                };
                small + f64::from(u8::from(order[i] == j))
            })
        };
        let matrices: Vec<_> = (0..CHUNK).map(draw).collect();
        check::<f64>(&matrices, 1e-12, 1e-12);
        check::<f32>(&matrices, 1e-5, 1e-5);
    }
}
