//! Products of units with packed weights, and the products that give weight gradients, in register tiles.
//!
//! Units of a chunk lie panel by panel, `[panel][row][PANEL]`: the tile that a product reads is one piece of
//! memory, and the sums over rows read two streams.

use std::ops::Range;

use pulp::Simd;

use super::Activation;
use super::packed::{Packed, PackedBlock};
use super::pattern::PANEL;
use crate::lanes::Real;

/// What a product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a, F> {
    /// The numbers that lie where the result goes.
    There,
    /// One row, `[panel][PANEL]`, to every row of the result.
    Row(&'a [F]),
    Zero,
}

/// What becomes of a product before it is stored.
#[derive(Clone, Copy)]
pub(super) enum Finish<'a, F> {
    Nothing,
    /// Units get their activation.
    Activation(Activation),
    /// Gradients of these units, which lie as the result does, get the slope of the activation.
    Slope(Activation, &'a [F]),
}

/// `a W` for `rows` rows.
#[inline(always)]
pub(super) fn product<F: Real, S: Simd>(
    simd: S,
    a: &[F],
    weights: &Packed<'_, F>,
    rows: usize,
    (start, finish): (Start<'_, F>, Finish<'_, F>),
    out: &mut [F],
) {
    let lanes = F::lanes::<S>();
    let outs = out.chunks_exact_mut(rows * PANEL).enumerate();
    for ((panel, out), blocks) in outs.zip(weights.panels()) {
        let at = panel * rows * PANEL;
        let width = weights.width(panel);
        let panel = Panel {
            a,
            weights,
            blocks,
            rows,
            start: match start {
                Start::Row(row) => Start::Row(&row[panel * PANEL..][..PANEL]),
                other => other,
            },
            finish: match finish {
                Finish::Slope(activation, units) => {
                    Finish::Slope(activation, &units[at..][..rows * PANEL])
                }
                other => other,
            },
        };
        for lane in (0..PANEL).step_by(2 * lanes) {
            if width <= lane + lanes {
                panel.columns::<S, 1>(simd, lane, out);
            } else {
                panel.columns::<S, 2>(simd, lane, out);
            }
        }
    }
}

/// A panel of the result.
struct Panel<'a, F> {
    a: &'a [F],
    weights: &'a Packed<'a, F>,
    blocks: &'a [PackedBlock],
    rows: usize,
    /// As of [`product`], for this panel.
    start: Start<'a, F>,
    finish: Finish<'a, F>,
}

impl<F: Real> Panel<'_, F> {
    /// All rows of two vectors of columns from `lane` on, of which the first `NV` hold columns.
    #[inline(always)]
    fn columns<S: Simd, const NV: usize>(&self, simd: S, lane: usize, out: &mut [F]) {
        let mut row = 0;
        // Two vectors of sums for each row, beside the two that are multiplied.
        if S::REGISTER_COUNT >= 32 {
            while row + 12 <= self.rows {
                self.tile::<S, 12, NV>(simd, row, lane, out);
                row += 12;
            }
        }
        while row + 4 <= self.rows {
            self.tile::<S, 4, NV>(simd, row, lane, out);
            row += 4;
        }
        while row < self.rows {
            self.tile::<S, 1, NV>(simd, row, lane, out);
            row += 1;
        }
    }

    /// `MR` rows and two vectors of columns, from `row` and `lane` on, of which the first `NV` hold columns.
    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        simd: S,
        row: usize,
        lane: usize,
        out: &mut [F],
    ) {
        let lanes = F::lanes::<S>();
        assert!(lane + 2 * lanes <= PANEL);
        let out = &mut out[row * PANEL..][..MR * PANEL];
        let mut sums = [[F::splat(simd, F::default()); NV]; MR];
        match self.start {
            Start::Zero => {}
            Start::There => {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let out = F::vectors::<S>(&out[r * PANEL + lane..][..2 * lanes]);
                    sum.copy_from_slice(&out[..NV]);
                }
            }
            Start::Row(start) => {
                let start = F::vectors::<S>(&start[lane..][..2 * lanes]);
                for sum in &mut sums {
                    sum.copy_from_slice(&start[..NV]);
                }
            }
        }
        for block in self.blocks {
            let a = &self.a[(block.from * self.rows + row) * PANEL..][..MR * PANEL];
            let (a, _) = a.as_chunks::<PANEL>();
            let w = self.weights.numbers(block).chunks_exact(PANEL);
            for (k, w) in block.rows.clone().zip(w) {
                let w = F::vectors::<S>(&w[lane..lane + 2 * lanes]);
                // Tells the compiler that no index below needs a check.
                let k = k % PANEL;
                for r in 0..MR {
                    let x = F::splat(simd, a[r][k]);
                    for v in 0..NV {
                        sums[r][v] = F::fma(simd, x, w[v], sums[r][v]);
                    }
                }
            }
        }
        match self.finish {
            Finish::Nothing => {}
            Finish::Activation(activation) => {
                for sum in sums.as_flattened_mut() {
                    *sum = activate::<F, S>(simd, activation, *sum);
                }
            }
            Finish::Slope(activation, units) => {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let at = (row + r) * PANEL + lane;
                    let units = F::vectors::<S>(&units[at..][..2 * lanes]);
                    for v in 0..NV {
                        sum[v] = times_slope::<F, S>(simd, activation, units[v], sum[v]);
                    }
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            let out = F::vectors_mut::<S>(&mut out[r * PANEL + lane..][..2 * lanes]);
            out[..NV].copy_from_slice(sum);
            out[NV..].fill(F::splat(simd, F::default()));
        }
    }
}

/// The activation of a vector of units.
#[inline(always)]
pub(super) fn activate<F: Real, S: Simd>(
    simd: S,
    activation: Activation,
    unit: F::V<S>,
) -> F::V<S> {
    let zero = F::splat(simd, F::default());
    match activation {
        // Not a maximum, which would hide a NaN.
        Activation::Relu => F::where_less(simd, unit, zero, zero, unit),
        Activation::Tanh => F::tanh(simd, unit),
        Activation::Elu => {
            let below = F::sub(simd, F::exp(simd, unit), F::splat(simd, F::of(1.0)));
            F::where_less(simd, unit, zero, below, unit)
        }
    }
}

/// A gradient times the slope of the activation, which follows from its value.
#[inline(always)]
fn times_slope<F: Real, S: Simd>(
    simd: S,
    activation: Activation,
    unit: F::V<S>,
    gradient: F::V<S>,
) -> F::V<S> {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    match activation {
        Activation::Relu => F::where_less(simd, zero, unit, gradient, zero),
        Activation::Tanh => F::mul(simd, gradient, F::fnma(simd, unit, unit, one)),
        Activation::Elu => {
            let below = F::mul(simd, gradient, F::add(simd, unit, one));
            F::where_less(simd, unit, zero, below, gradient)
        }
    }
}

/// Rows of an [`outer`] tile.
const OUTER_ROWS: usize = 8;

/// `out[k] += sum_s a[s, k] d[s]` for one panel of `a` and one of `d`, `out` of `[PANEL, PANEL]`; at least for
/// each `k` of `rows` and the first `width` columns.
#[inline(always)]
pub(super) fn outer<F: Real, S: Simd>(
    simd: S,
    a: &[F],
    d: &[F],
    (rows, width): (Range<usize>, usize),
    out: &mut [F],
) {
    let lanes = F::lanes::<S>();
    let tiles = rows.start / OUTER_ROWS..rows.end.div_ceil(OUTER_ROWS);
    let outs = out.chunks_exact_mut(OUTER_ROWS * PANEL).enumerate();
    for (tile, out) in outs.take(tiles.end).skip(tiles.start) {
        for lane in (0..width).step_by(2 * lanes) {
            let first = (tile * OUTER_ROWS, lane);
            if width <= lane + lanes {
                outer_tile::<F, S, 1>(simd, a, d, first, out);
            } else {
                outer_tile::<F, S, 2>(simd, a, d, first, out);
            }
        }
    }
}

/// [`outer`] for a few columns of `a` and `NV` vectors of columns of `d`, from `first` and `lane` on.
#[inline(always)]
fn outer_tile<F: Real, S: Simd, const NV: usize>(
    simd: S,
    a: &[F],
    d: &[F],
    (first, lane): (usize, usize),
    out: &mut [F],
) {
    let step = 2 * F::lanes::<S>();
    assert!(lane + step <= PANEL && first + OUTER_ROWS <= PANEL);
    let mut sums = [[F::splat(simd, F::default()); NV]; OUTER_ROWS];
    for (r, sum) in sums.iter_mut().enumerate() {
        let out = F::vectors::<S>(&out[r * PANEL + lane..][..step]);
        sum.copy_from_slice(&out[..NV]);
    }
    for (a, d) in a.chunks_exact(PANEL).zip(d.chunks_exact(PANEL)) {
        let a = &a[first..first + OUTER_ROWS];
        let d = F::vectors::<S>(&d[lane..lane + step]);
        for r in 0..OUTER_ROWS {
            let x = F::splat(simd, a[r]);
            for v in 0..NV {
                sums[r][v] = F::fma(simd, x, d[v], sums[r][v]);
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        let out = F::vectors_mut::<S>(&mut out[r * PANEL + lane..][..step]);
        out[..NV].copy_from_slice(sum);
    }
}
