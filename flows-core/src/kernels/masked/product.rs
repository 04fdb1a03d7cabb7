//! Products of a block of rows with packed weights, and the products that give weight gradients, in register
//! tiles.

use pulp::Simd;

use super::packed::Packed;
use super::pattern::PANEL;
use crate::kernels::lanes::Real;

/// Rows of numbers, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, F> {
    pub(super) numbers: &'a [F],
    pub(super) stride: usize,
}

/// Calls `tile` for tiles that cover `count` rows: as tall as the registers allow, then smaller ones.
macro_rules! tiles {
    ($simd:ty, $count:expr, $tile:ident, $($arguments:expr),*) => {{
        let mut row = 0;
        // Two vectors of sums for each row, beside the two that are multiplied.
        if <$simd>::REGISTER_COUNT >= 32 {
            while row + 12 <= $count {
                $tile::<F, S, 12>(row, $($arguments),*);
                row += 12;
            }
        }
        while row + 6 <= $count {
            $tile::<F, S, 6>(row, $($arguments),*);
            row += 6;
        }
        while row + 2 <= $count {
            $tile::<F, S, 2>(row, $($arguments),*);
            row += 2;
        }
        if row < $count {
            $tile::<F, S, 1>(row, $($arguments),*);
        }
    }};
}

/// `out += a W` for `rows` rows.
#[inline(always)]
pub(super) fn product<F: Real, S: Simd>(
    simd: S,
    a: Rows<'_, F>,
    weights: &Packed<F>,
    rows: usize,
    out: &mut [F],
    out_stride: usize,
) {
    let step = 2 * F::lanes::<S>();
    for (piece, w) in weights.pieces() {
        for lane in (0..PANEL).step_by(step) {
            let from = Rows {
                numbers: &a.numbers[piece.rows.start..],
                ..a
            };
            let out = &mut out[piece.column + lane..];
            tiles!(S, rows, product_tile, simd, from, w, lane, out, out_stride);
        }
    }
}

/// [`product`] for `MR` rows and two vectors of columns.
#[inline(always)]
fn product_tile<F: Real, S: Simd, const MR: usize>(
    row: usize,
    simd: S,
    a: Rows<'_, F>,
    w: &[F],
    lane: usize,
    out: &mut [F],
    out_stride: usize,
) {
    let step = 2 * F::lanes::<S>();
    let depth = w.len() / PANEL;
    let out = &mut out[row * out_stride..];
    let mut rows: [&[F]; MR] = [&[]; MR];
    let mut sums = [[F::splat(simd, F::default()); 2]; MR];
    for r in 0..MR {
        let first = (row + r) * a.stride;
        rows[r] = &a.numbers[first..first + depth];
        let out = F::vectors::<S>(&out[r * out_stride..r * out_stride + step]);
        sums[r] = [out[0], out[1]];
    }
    for (k, w) in w.chunks_exact(PANEL).enumerate() {
        let w = F::vectors::<S>(&w[lane..lane + step]);
        for r in 0..MR {
            let x = F::splat(simd, rows[r][k]);
            sums[r][0] = F::fma(simd, x, w[0], sums[r][0]);
            sums[r][1] = F::fma(simd, x, w[1], sums[r][1]);
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let out = F::vectors_mut::<S>(&mut out[r * out_stride..r * out_stride + step]);
        out[0] = sum[0];
        out[1] = sum[1];
    }
}

/// `out[k] += sum_s a[s, k] d[s]` for `inputs` columns of `a` and one panel of `d`.
#[inline(always)]
pub(super) fn outer<F: Real, S: Simd>(
    simd: S,
    a: Rows<'_, F>,
    inputs: usize,
    d: Rows<'_, F>,
    out: &mut [F],
    out_stride: usize,
) {
    let step = 2 * F::lanes::<S>();
    for lane in (0..PANEL).step_by(step) {
        tiles!(S, inputs, outer_tile, simd, a, d, lane, out, out_stride);
    }
}

/// [`outer`] for `MR` columns of `a` and two vectors of columns of `d`.
#[inline(always)]
fn outer_tile<F: Real, S: Simd, const MR: usize>(
    first: usize,
    simd: S,
    a: Rows<'_, F>,
    d: Rows<'_, F>,
    lane: usize,
    out: &mut [F],
    out_stride: usize,
) {
    let step = 2 * F::lanes::<S>();
    let out = &mut out[first * out_stride..];
    let mut sums = [[F::splat(simd, F::default()); 2]; MR];
    for (r, sum) in sums.iter_mut().enumerate() {
        let at = r * out_stride + lane;
        let out = F::vectors::<S>(&out[at..at + step]);
        *sum = [out[0], out[1]];
    }
    let samples = a.numbers.chunks(a.stride).zip(d.numbers.chunks(d.stride));
    for (a, d) in samples {
        let a = &a[first..first + MR];
        let d = F::vectors::<S>(&d[lane..lane + step]);
        for r in 0..MR {
            let x = F::splat(simd, a[r]);
            sums[r][0] = F::fma(simd, x, d[0], sums[r][0]);
            sums[r][1] = F::fma(simd, x, d[1], sums[r][1]);
        }
    }
    for (r, sum) in sums.into_iter().enumerate() {
        let at = r * out_stride + lane;
        let out = F::vectors_mut::<S>(&mut out[at..at + step]);
        out[0] = sum[0];
        out[1] = sum[1];
    }
}
