//! The backward pass through a masked affine layer: gradients of the units for some rows, then gradients of
//! some weights for all rows.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::affine::Affine;
use super::buffer::Buffer;
use super::network::{Network, Trace, position};
use super::packed::{Packed, retain};
use super::pattern::{PANEL, Pattern, copy};
use super::product::{Start, outer, product};
use crate::bijectors::LogScale;
use crate::kernels::lanes::{Real, load, store};
use crate::nn::ConditionerActivation;

/// The rows from `first_row` on, down to the gradients of all units. Returns their sums over these rows, for each
/// layer.
pub(super) struct BackwardChunk<'a, F> {
    pub(super) network: &'a Network<'a, F>,
    pub(super) trace: &'a Trace<F>,
    /// The transposed weights of all layers, or of all but the first.
    pub(super) transposed: &'a [Packed<F>],
    pub(super) first_row: usize,
    /// Of value and log-determinant, for the whole batch, `[batch, dim + 1]`.
    pub(super) output: &'a [F],
    /// Room for those of what each layer computes, `[panel][row][PANEL]`.
    pub(super) gradients: Vec<&'a mut [F]>,
    /// Of these rows of the input, `[rows, dim]`; empty if not asked for.
    pub(super) x: &'a mut [F],
}

impl<F: Real> WithSimd for BackwardChunk<'_, F> {
    type Output = Vec<Vec<F>>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Vec<Vec<F>> {
        let network = self.network;
        let last = network.layers.len() - 1;
        let rows = self.gradients[last].len() / network.width(last + 1);
        self.affine::<S>(simd, rows);
        let skipped = network.layers.len() - self.transposed.len();
        for l in (0..last).rev() {
            let (own, above) = self.gradients.split_at_mut(l + 1);
            let weights = &self.transposed[l + 1 - skipped];
            product::<F, S>(simd, above[0], weights, (rows, Start::Zero), own[l]);
            let units = level(network, self.trace, l + 1, self.first_row, rows);
            slope::<F, S>(simd, network.activation, units, own[l]);
        }
        if !self.x.is_empty() {
            let mut through = Buffer::any(rows * network.width(0));
            product::<F, S>(
                simd,
                self.gradients[0],
                &self.transposed[0],
                (rows, Start::Zero),
                &mut through,
            );
            for (row, x) in self.x.chunks_exact_mut(network.dim()).enumerate() {
                for (i, x) in x.iter_mut().enumerate() {
                    *x = x.plus(through[position(rows, row, i)]);
                }
            }
        }
        let mut sums = Vec::with_capacity(self.gradients.len());
        for units in &self.gradients {
            sums.push(column_sums::<F, S>(simd, units, rows));
        }
        sums
    }
}

impl<F: Real> BackwardChunk<'_, F> {
    /// Gradients of the raw outputs, and what reaches `x` directly.
    #[inline(always)]
    fn affine<S: Simd>(&mut self, simd: S, rows: usize) {
        let network = self.network;
        let (dim, last) = (network.dim(), network.layers.len() - 1);
        let columns = network.layers[last].pattern.columns;
        let input = level(network, self.trace, 0, self.first_row, rows);
        let raw = level(network, self.trace, last + 1, self.first_row, rows);
        let output = &self.output[self.first_row * (dim + 1)..];
        let lanes = F::lanes::<S>();
        // Between the columns of the parameters there may be padding.
        self.gradients[last].fill(F::default());
        for (row, output) in output.chunks_exact(dim + 1).take(rows).enumerate() {
            let log_det = F::splat(simd, output[dim]);
            for first in (0..dim).step_by(lanes) {
                let count = lanes.min(dim - first);
                let at = |kind| position(rows, row, columns.stored(kind, first));
                let (m_at, s_at) = (at(0), at(columns.kinds() - 1));
                let m = F::vectors::<S>(&raw[m_at..m_at + lanes])[0];
                let s = F::vectors::<S>(&raw[s_at..s_at + lanes])[0];
                let x_at = position(rows, row, first);
                let x = F::vectors::<S>(&input[x_at..x_at + lanes])[0];
                let y = load::<F, S>(simd, &output[first..first + count]);
                let affine = Affine::<F, S>::new(simd, network.scale, m, s);
                let scaled = F::mul(simd, y, F::exp(simd, affine.log_scale));
                let by_log_scale = F::fma(simd, scaled, x, log_det);
                let by_shift = F::mul(simd, y, affine.shift_by_s);
                let by_s = F::fma(simd, by_log_scale, affine.slope, by_shift);
                let by_m = F::mul(simd, y, affine.shift_by_m);
                let gradients = &mut self.gradients[last];
                if network.scale != LogScale::Additive {
                    store::<F, S>(by_s, &mut gradients[s_at..s_at + count]);
                }
                store::<F, S>(by_m, &mut gradients[m_at..m_at + count]);
                if !self.x.is_empty() {
                    let x_at = row * dim + first;
                    store::<F, S>(scaled, &mut self.x[x_at..x_at + count]);
                }
            }
        }
    }
}

/// Some rows of a level.
#[inline(always)]
fn level<'a, F: Real>(
    network: &Network<'_, F>,
    trace: &'a Trace<F>,
    level: usize,
    first_row: usize,
    rows: usize,
) -> &'a [F] {
    let width = network.width(level);
    &trace.0[level][first_row * width..(first_row + rows) * width]
}

/// Multiplies by the slope of the activation, which follows from its value.
#[inline(always)]
fn slope<F: Real, S: Simd>(
    simd: S,
    activation: ConditionerActivation,
    units: &[F],
    gradients: &mut [F],
) {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    let gradients = F::vectors_mut::<S>(gradients).iter_mut();
    for (g, &u) in gradients.zip(F::vectors::<S>(units)) {
        *g = match activation {
            ConditionerActivation::Relu => F::where_less(simd, zero, u, *g, zero),
            ConditionerActivation::Tanh => F::mul(simd, *g, F::fnma(simd, u, u, one)),
            ConditionerActivation::Elu => {
                let below = F::mul(simd, *g, F::add(simd, u, one));
                F::where_less(simd, u, zero, below, *g)
            }
        };
    }
}

/// Sums over the rows of a chunk.
#[inline(always)]
fn column_sums<F: Real, S: Simd>(simd: S, units: &[F], rows: usize) -> Vec<F> {
    let mut sums = vec![F::default(); units.len() / rows];
    let panels = units.chunks_exact(rows * PANEL);
    for (sums, units) in sums.chunks_exact_mut(PANEL).zip(panels) {
        for row in units.chunks_exact(PANEL) {
            let row = F::vectors::<S>(row).iter();
            for (sum, &value) in F::vectors_mut::<S>(sums).iter_mut().zip(row) {
                *sum = F::add(simd, *sum, value);
            }
        }
    }
    sums
}

/// Some rows of a layer's weight gradient.
pub(super) struct WeightBlock<'a, F> {
    pub(super) pattern: &'a Pattern,
    /// Rows of the batch.
    pub(super) rows: usize,
    pub(super) chunk_rows: usize,
    /// What the layer read, for the whole batch.
    pub(super) read: &'a [F],
    /// Gradients of what it computed.
    pub(super) computed: &'a [F],
    /// The panels of rows of the gradient.
    pub(super) panels: Range<usize>,
    /// These rows, without padding.
    pub(super) out: &'a mut [F],
}

impl<F: Real> WithSimd for WeightBlock<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut sums: Buffer<F> = Buffer::zeros(self.panels.len() * PANEL * PANEL);
        let blocks = self.pattern.blocks();
        for blocks in blocks.chunk_by(|a, b| a.column_panel == b.column_panel) {
            sums.fill(F::default());
            for first in (0..self.rows).step_by(self.chunk_rows) {
                let rows = self.chunk_rows.min(self.rows - first);
                let d = self.panel(self.computed, first, rows, blocks[0].column_panel);
                for block in blocks {
                    if self.panels.contains(&block.row_panel) {
                        let a = self.panel(self.read, first, rows, block.row_panel);
                        let at = (block.row_panel - self.panels.start) * PANEL * PANEL;
                        let sums = &mut sums[at..at + PANEL * PANEL];
                        outer::<F, S>(simd, a, d, block.rows.clone(), sums);
                    }
                }
            }
            let panel = blocks[0].column_panel;
            let bits = &self.pattern.bits(panel)[self.panels.start * PANEL..];
            let outs = self.out.chunks_exact_mut(self.pattern.outputs());
            for ((out, sums), &bits) in outs.zip(sums.chunks_exact_mut(PANEL)).zip(bits) {
                retain(sums, bits);
                for (within, column, count) in self.pattern.columns.segments(panel) {
                    copy(
                        &mut out[column..column + count],
                        &sums[within..within + count],
                    );
                }
            }
        }
    }
}

impl<F: Real> WeightBlock<'_, F> {
    /// One panel of the chunk of `rows` rows from `first` on.
    #[inline(always)]
    fn panel<'b>(&self, all: &'b [F], first: usize, rows: usize, panel: usize) -> &'b [F] {
        let width = all.len() / self.rows;
        &all[first * width + panel * rows * PANEL..][..rows * PANEL]
    }
}
