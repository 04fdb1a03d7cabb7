//! The backward pass through masked layers: gradients of the units for some rows, then gradients of
//! some weights for all rows.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::buffer::Buffer;
use super::map::Room;
use super::network::{Network, collect, position};
use super::packed::{Packed, retain};
use super::pattern::{PANEL, Pattern};
use super::product::{Finish, Start, outer, product};
use super::tile::Tile;
use crate::lanes::{Real, copy};

/// The rows from `first_row` on, down to the gradients of all units. Returns their sums over these rows, for each
/// network and layer.
pub(super) struct BackwardChunk<'a, F> {
    pub(super) networks: &'a [Network<'a, F>],
    /// The levels of each network for the whole batch.
    pub(super) trace: &'a [Vec<Buffer<F>>],
    /// The transposed weights of each network: of all layers, or of all but the first where nobody asks for the
    /// gradient of the input.
    pub(super) transposed: &'a [Vec<Packed<'a, F>>],
    pub(super) first_row: usize,
    /// Those of value and log-determinant of these rows, `[rows, dim + 1]`; only the latter is read.
    pub(super) output: &'a [F],
    /// Room for those of what each layer of each network computes, `[panel][row][PANEL]`.
    pub(super) gradients: Vec<Vec<&'a mut [F]>>,
    /// Those of the value of these rows, which become those of the input, `[rows, dim]`.
    pub(super) value: &'a mut [F],
    /// The column that each column of the value is, where they are not in their order.
    pub(super) order: Option<&'a [usize]>,
}

impl<F: Real> WithSimd for BackwardChunk<'_, F> {
    type Output = Vec<Vec<Vec<F>>>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Self::Output {
        let dim = self.networks[0].dim();
        let rows = self.value.len() / dim;
        let value = self.value;
        undo(self.order, dim, value);
        let mut room = Room::<F, S>::new(simd);
        for (n, network) in self.networks.iter().enumerate().rev() {
            let levels = |level: usize| {
                let width = network.width(level);
                &self.trace[n][level][self.first_row * width..][..rows * width]
            };
            let gradients = &mut self.gradients[n];
            let last = network.layers.len() - 1;
            let ends = (levels(0), levels(last + 1));
            let ends = (ends, self.output);
            maps(simd, network, ends, &mut room, value, gradients[last]);
            let transposed = &self.transposed[n];
            let skipped = network.layers.len() - transposed.len();
            for l in (0..last).rev() {
                let (own, above) = gradients.split_at_mut(l + 1);
                let weights = &transposed[l + 1 - skipped];
                let finish = Finish::Slope(network.activation, levels(l + 1));
                let ends = (Start::Zero, finish);
                product::<F, S>(simd, above[0], weights, rows, ends, own[l]);
            }
            if skipped == 0 {
                let reads = network.layers[0].pattern.inputs();
                let mut through = Buffer::any(rows * reads.next_multiple_of(PANEL));
                let ends = (Start::Zero, Finish::Nothing);
                let weights = &transposed[0];
                product::<F, S>(simd, gradients[0], weights, rows, ends, &mut through);
                for (row, value) in value.chunks_exact_mut(dim).enumerate() {
                    for (i, value) in value[..reads].iter_mut().enumerate() {
                        *value = value.plus(through[position(rows, row, i)]);
                    }
                }
                undo(network.order, dim, value);
            }
        }
        // Loops, and no closures: those are compiled without this function's instruction set.
        let mut sums = Vec::with_capacity(self.gradients.len());
        for gradients in &self.gradients {
            let mut own = Vec::with_capacity(gradients.len());
            for units in gradients {
                own.push(column_sums::<F, S>(simd, units, rows));
            }
            sums.push(own);
        }
        sums
    }
}

/// Gradients of columns taken in some order become gradients of the columns.
#[inline(always)]
fn undo<F: Real>(order: Option<&[usize]>, dim: usize, gradients: &mut [F]) {
    let Some(order) = order else { return };
    let mut own = vec![F::default(); dim];
    for gradients in gradients.chunks_exact_mut(dim) {
        own.copy_from_slice(gradients);
        for (&g, &k) in own.iter().zip(order) {
            gradients[k] = g;
        }
    }
}

/// Gradients of the raw outputs from those of value and log-determinant; `value` becomes what reaches the input
/// directly.
#[inline(always)]
fn maps<F: Real, S: Simd>(
    simd: S,
    network: &Network<'_, F>,
    ((input, raw), output): ((&[F], &[F]), &[F]),
    room: &mut Room<F, S>,
    value: &mut [F],
    gradients: &mut [F],
) {
    assert!(!network.inverted, "an inverse has no backward pass");
    let (dim, last) = (network.dim(), network.layers.len() - 1);
    let columns = network.layers[last].pattern.columns;
    let rows = value.len() / dim;
    let whole = Tile::new(columns, F::lanes::<S>());
    let [_, (moved, panel)] = network.parts();
    if moved.len() % columns.group() != 0 {
        // Between the columns of the parameters there is padding, which the products read.
        gradients.fill(F::default());
    }
    let values = value.chunks_mut(whole.rows * dim);
    let pieces = values.zip(output.chunks(whole.rows * (dim + 1)));
    for (row, (value, output)) in (0..rows).step_by(whole.rows).zip(pieces) {
        let log_det = whole.of(rows - row, moved.len());
        let log_det = log_det.spread::<F, S>(simd, &output[dim..], dim + 1);
        for first in (0..moved.len()).step_by(whole.width) {
            let tile = whole.of(rows - row, moved.len() - first);
            let at = position(rows, row, panel * PANEL + first);
            let mut x = F::splat(simd, F::default());
            tile.load_all::<F, S>(&input[at..], PANEL, &mut x);
            collect(columns, tile, raw, (rows, row), first, room);
            let value = &mut value[moved.start + first..];
            let outer = [tile.load::<F, S>(simd, value, dim), log_det];
            let by_x = network.map.backward(simd, room, x, outer);
            for (kind, &gradient) in room.raw[..columns.kinds()].iter().enumerate() {
                let at = position(rows, row, columns.stored(kind, first));
                tile.store::<F, S>(gradient, &mut gradients[at..], PANEL);
            }
            tile.store::<F, S>(by_x, value, dim);
        }
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
            let width = self.pattern.columns.end(blocks[0].column_panel);
            for first in (0..self.rows).step_by(self.chunk_rows) {
                let rows = self.chunk_rows.min(self.rows - first);
                let d = self.panel(self.computed, first, rows, blocks[0].column_panel);
                for block in blocks {
                    if self.panels.contains(&block.row_panel) {
                        let a = self.panel(self.read, first, rows, block.row_panel);
                        let at = (block.row_panel - self.panels.start) * PANEL * PANEL;
                        let sums = &mut sums[at..at + PANEL * PANEL];
                        let needed = (block.rows.clone(), width);
                        outer::<F, S>(simd, a, d, needed, sums);
                    }
                }
            }
            let panel = blocks[0].column_panel;
            let segments = self.pattern.columns.segments(panel);
            let bits = &self.pattern.bits(panel)[self.panels.start * PANEL..];
            let outs = self.out.chunks_exact_mut(self.pattern.outputs());
            for ((out, sums), &bits) in outs.zip(sums.chunks_exact_mut(PANEL)).zip(bits) {
                retain(sums, bits);
                for &(within, column, count) in &segments {
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
