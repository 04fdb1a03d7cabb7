//! Small matrix products over a chunk in register tiles, and the way between samples and rows.

use pulp::Simd;

use super::lanes::{CHUNK, Real};

/// `out_m = sum_k w[k, m] in_k` for rows `in_k`, `w` of `[inputs, outputs]`; every finished tile of
/// `NV` vectors goes to `sink(m, column, sum)`.
///
/// With `LOWER`, `w[k, m]` is zero for `k > m` and those products are left out.
#[inline(always)]
pub(crate) fn product<F: Real, S: Simd, const NV: usize, const LOWER: bool>(
    simd: S,
    w: &[F],
    outputs: usize,
    rows: &[F::V<S>],
    mut sink: impl FnMut(usize, usize, [F::V<S>; NV]),
) {
    let row = CHUNK / F::lanes::<S>();
    for column in (0..row).step_by(NV) {
        let mut m = 0;
        while m + 8 <= outputs {
            product_tile::<F, S, NV, 8, LOWER>(simd, w, outputs, rows, column, m, &mut sink);
            m += 8;
        }
        if m + 4 <= outputs {
            product_tile::<F, S, NV, 4, LOWER>(simd, w, outputs, rows, column, m, &mut sink);
            m += 4;
        }
        if m + 2 <= outputs {
            product_tile::<F, S, NV, 2, LOWER>(simd, w, outputs, rows, column, m, &mut sink);
            m += 2;
        }
        if m < outputs {
            product_tile::<F, S, NV, 1, LOWER>(simd, w, outputs, rows, column, m, &mut sink);
        }
    }
}

#[inline(always)]
fn product_tile<F: Real, S: Simd, const NV: usize, const MR: usize, const LOWER: bool>(
    simd: S,
    w: &[F],
    outputs: usize,
    rows: &[F::V<S>],
    column: usize,
    m: usize,
    sink: &mut impl FnMut(usize, usize, [F::V<S>; NV]),
) {
    let row = CHUNK / F::lanes::<S>();
    let mut sums = [[F::splat(simd, F::default()); NV]; MR];
    let inputs = if LOWER { m + MR } else { usize::MAX };
    for (x, w) in rows
        .chunks_exact(row)
        .zip(w.chunks_exact(outputs))
        .take(inputs)
    {
        let x = &x[column..column + NV];
        let w = &w[m..m + MR];
        for r in 0..MR {
            let c = F::splat(simd, w[r]);
            for v in 0..NV {
                sums[r][v] = F::fma(simd, c, x[v], sums[r][v]);
            }
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        sink(m + r, column, sum);
    }
}

/// `sum_(s, lanes) a_(s, j) b_(s, k)` for row blocks `a` of `[steps, ja]` and `b` of `[steps, kb]`.
///
/// With `SYMMETRIC` the product is known to be symmetric, and the tiles below the diagonal are
/// left to the caller to mirror.
#[inline(always)]
pub(crate) fn outer<F: Real, S: Simd, const SYMMETRIC: bool>(
    simd: S,
    a: &[F::V<S>],
    ja: usize,
    b: &[F::V<S>],
    kb: usize,
    mut sink: impl FnMut(usize, usize, F),
) {
    let mut j = 0;
    while j + 4 <= ja {
        outer_band::<F, S, 4, SYMMETRIC>(simd, a, ja, b, kb, j, &mut sink);
        j += 4;
    }
    while j < ja {
        outer_band::<F, S, 1, SYMMETRIC>(simd, a, ja, b, kb, j, &mut sink);
        j += 1;
    }
}

#[inline(always)]
fn outer_band<F: Real, S: Simd, const JR: usize, const SYMMETRIC: bool>(
    simd: S,
    a: &[F::V<S>],
    ja: usize,
    b: &[F::V<S>],
    kb: usize,
    j: usize,
    sink: &mut impl FnMut(usize, usize, F),
) {
    let mut k = if SYMMETRIC { j } else { 0 };
    while k + 4 <= kb {
        outer_tile::<F, S, JR, 4>(simd, a, ja, b, kb, j, k, sink);
        k += 4;
    }
    while k < kb {
        outer_tile::<F, S, JR, 1>(simd, a, ja, b, kb, j, k, sink);
        k += 1;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn outer_tile<F: Real, S: Simd, const JR: usize, const KR: usize>(
    simd: S,
    a: &[F::V<S>],
    ja: usize,
    b: &[F::V<S>],
    kb: usize,
    j: usize,
    k: usize,
    sink: &mut impl FnMut(usize, usize, F),
) {
    let row = CHUNK / F::lanes::<S>();
    let mut sums = [[F::splat(simd, F::default()); KR]; JR];
    for (a, b) in a.chunks_exact(ja * row).zip(b.chunks_exact(kb * row)) {
        let a = &a[j * row..(j + JR) * row];
        let b = &b[k * row..(k + KR) * row];
        for v in 0..row {
            for q in 0..KR {
                let y = b[q * row + v];
                for r in 0..JR {
                    sums[r][q] = F::fma(simd, a[r * row + v], y, sums[r][q]);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (q, sum) in sums.into_iter().enumerate() {
            sink(j + r, k + q, F::sum(simd, sum));
        }
    }
}

/// `out_j += sum_r a_(j, r) samples_r` for rows `a` and row-major `samples` of `[CHUNK, columns]`,
/// `columns` a multiple of the vector's length: sums over samples without sums across lanes.
#[inline(always)]
pub(crate) fn rank_update<F: Real, S: Simd>(
    simd: S,
    a: &[F],
    samples: &[F],
    columns: usize,
    out: &mut [F],
) {
    let outputs = a.len() / CHUNK;
    let mut j = 0;
    while j + 8 <= outputs {
        rank_update_band::<F, S, 8>(simd, a, samples, columns, j, out);
        j += 8;
    }
    while j + 2 <= outputs {
        rank_update_band::<F, S, 2>(simd, a, samples, columns, j, out);
        j += 2;
    }
    if j < outputs {
        rank_update_band::<F, S, 1>(simd, a, samples, columns, j, out);
    }
}

#[inline(always)]
fn rank_update_band<F: Real, S: Simd, const JR: usize>(
    simd: S,
    a: &[F],
    samples: &[F],
    columns: usize,
    j: usize,
    out: &mut [F],
) {
    let lanes = F::lanes::<S>();
    let a = &a[j * CHUNK..(j + JR) * CHUNK];
    let out = &mut out[j * columns..(j + JR) * columns];
    for column in (0..columns).step_by(lanes) {
        let mut sums = [F::splat(simd, F::default()); JR];
        for (r, sample) in samples.chunks_exact(columns).enumerate() {
            let x = F::vectors::<S>(&sample[column..column + lanes])[0];
            for (q, sum) in sums.iter_mut().enumerate() {
                *sum = F::fma(simd, F::splat(simd, a[q * CHUNK + r]), x, *sum);
            }
        }
        for (q, sum) in sums.into_iter().enumerate() {
            let at = q * columns + column;
            let out = &mut F::vectors_mut::<S>(&mut out[at..at + lanes])[0];
            *out = F::add(simd, *out, sum);
        }
    }
}

/// Row-major samples `[rows, stride]`, columns `0..features`, to one row per feature. Lanes beyond
/// the last sample repeat it, so that they meet no number the samples don't meet.
pub(crate) fn to_rows<F: Real>(samples: &[F], stride: usize, features: usize, rows: &mut [F]) {
    let count = samples.len() / stride;
    for (i, row) in rows.chunks_exact_mut(CHUNK).take(features).enumerate() {
        for (r, out) in row.iter_mut().enumerate() {
            *out = samples[r.min(count - 1) * stride + i];
        }
    }
}

/// As [`to_rows`], with zeros in the lanes beyond the last sample: the form gradients have.
pub(crate) fn to_gradient_rows<F: Real>(
    samples: &[F],
    stride: usize,
    features: std::ops::Range<usize>,
    rows: &mut [F],
) {
    for (i, row) in features.zip(rows.chunks_exact_mut(CHUNK)) {
        row.fill(F::default());
        for (sample, out) in samples.chunks_exact(stride).zip(row) {
            *out = sample[i];
        }
    }
}

/// One row per feature back to row-major samples, columns `first..first + rows.len() / CHUNK`.
pub(crate) fn from_rows<F: Real>(rows: &[F], samples: &mut [F], stride: usize, first: usize) {
    for (i, row) in rows.chunks_exact(CHUNK).enumerate() {
        for (sample, &value) in samples.chunks_exact_mut(stride).zip(row) {
            sample[first + i] = value;
        }
    }
}
