//! Products of units with packed weights, and the products that give weight gradients, in register tiles.
//!
//! Units of a chunk lie panel by panel, `[panel][row][PANEL]`: the tile that a product reads is one piece of
//! memory, and the sums over rows read two streams.

use std::ops::Range;

use pulp::Simd;

use super::packed::{Packed, PackedBlock};
use super::pattern::PANEL;
use crate::kernels::lanes::Real;

/// What a product does with the numbers that lie where its result goes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Start {
    /// Adds to them.
    There,
    /// Writes over them.
    Zero,
}

/// `a W` for `rows` rows, added to `out` or written over it.
#[inline(always)]
pub(super) fn product<F: Real, S: Simd>(
    simd: S,
    a: &[F],
    weights: &Packed<F>,
    (rows, start): (usize, Start),
    out: &mut [F],
) {
    let outs = out.chunks_exact_mut(rows * PANEL);
    for (blocks, out) in weights.panels().zip(outs) {
        for lane in (0..PANEL).step_by(2 * F::lanes::<S>()) {
            let mut row = 0;
            // Two vectors of sums for each row, beside the two that are multiplied.
            if S::REGISTER_COUNT >= 32 {
                while row + 12 <= rows {
                    product_tile::<F, S, 12>(
                        simd,
                        a,
                        weights,
                        blocks,
                        (rows, start),
                        (row, lane),
                        out,
                    );
                    row += 12;
                }
            }
            while row + 4 <= rows {
                product_tile::<F, S, 4>(simd, a, weights, blocks, (rows, start), (row, lane), out);
                row += 4;
            }
            while row < rows {
                product_tile::<F, S, 1>(simd, a, weights, blocks, (rows, start), (row, lane), out);
                row += 1;
            }
        }
    }
}

#[allow(clippy::too_many_arguments)]
/// [`product`] for `MR` rows and two vectors of columns, from `row` and `lane` on.
#[inline(always)]
fn product_tile<F: Real, S: Simd, const MR: usize>(
    simd: S,
    a: &[F],
    weights: &Packed<F>,
    blocks: &[PackedBlock],
    (rows, start): (usize, Start),
    (row, lane): (usize, usize),
    out: &mut [F],
) {
    let step = 2 * F::lanes::<S>();
    assert!(lane + step <= PANEL);
    let out = &mut out[row * PANEL..][..MR * PANEL];
    let mut sums = [[F::splat(simd, F::default()); 2]; MR];
    if start == Start::There {
        for (r, sum) in sums.iter_mut().enumerate() {
            let out = F::vectors::<S>(&out[r * PANEL + lane..][..step]);
            *sum = [out[0], out[1]];
        }
    }
    for block in blocks {
        let a = &a[(block.from * rows + row) * PANEL..][..MR * PANEL];
        let (a, _) = a.as_chunks::<PANEL>();
        let w = weights.numbers(block).chunks_exact(PANEL);
        for (k, w) in block.rows.clone().zip(w) {
            let w = F::vectors::<S>(&w[lane..lane + step]);
            // Tells the compiler that no index below needs a check.
            let k = k % PANEL;
            for r in 0..MR {
                let x = F::splat(simd, a[r][k]);
                sums[r][0] = F::fma(simd, x, w[0], sums[r][0]);
                sums[r][1] = F::fma(simd, x, w[1], sums[r][1]);
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        let out = F::vectors_mut::<S>(&mut out[r * PANEL + lane..][..step]);
        out[0] = sum[0];
        out[1] = sum[1];
    }
}

/// Rows of an [`outer`] tile.
const OUTER_ROWS: usize = 8;

/// `out[k] += sum_s a[s, k] d[s]` for one panel of `a` and one of `d`, `out` of `[PANEL, PANEL]`; at least for
/// each `k` of `rows`.
#[inline(always)]
pub(super) fn outer<F: Real, S: Simd>(
    simd: S,
    a: &[F],
    d: &[F],
    rows: Range<usize>,
    out: &mut [F],
) {
    let step = 2 * F::lanes::<S>();
    let tiles = rows.start / OUTER_ROWS..rows.end.div_ceil(OUTER_ROWS);
    let outs = out.chunks_exact_mut(OUTER_ROWS * PANEL).enumerate();
    for (tile, out) in outs.take(tiles.end).skip(tiles.start) {
        for lane in (0..PANEL).step_by(step) {
            outer_tile::<F, S>(simd, a, d, (tile * OUTER_ROWS, lane), out);
        }
    }
}

/// [`outer`] for a few columns of `a` and two vectors of columns of `d`, from `first` and `lane` on.
#[inline(always)]
fn outer_tile<F: Real, S: Simd>(
    simd: S,
    a: &[F],
    d: &[F],
    (first, lane): (usize, usize),
    out: &mut [F],
) {
    let step = 2 * F::lanes::<S>();
    assert!(lane + step <= PANEL && first + OUTER_ROWS <= PANEL);
    let mut sums = [[F::splat(simd, F::default()); 2]; OUTER_ROWS];
    for (r, sum) in sums.iter_mut().enumerate() {
        let out = F::vectors::<S>(&out[r * PANEL + lane..][..step]);
        *sum = [out[0], out[1]];
    }
    for (a, d) in a.chunks_exact(PANEL).zip(d.chunks_exact(PANEL)) {
        let a = &a[first..first + OUTER_ROWS];
        let d = F::vectors::<S>(&d[lane..lane + step]);
        for r in 0..OUTER_ROWS {
            let x = F::splat(simd, a[r]);
            sums[r][0] = F::fma(simd, x, d[0], sums[r][0]);
            sums[r][1] = F::fma(simd, x, d[1], sums[r][1]);
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        let out = F::vectors_mut::<S>(&mut out[r * PANEL + lane..][..step]);
        out[0] = sum[0];
        out[1] = sum[1];
    }
}
