//! Weights in the order in which the products read them.

use std::ops::Range;

use super::buffer::Buffer;
use super::pattern::{Block, PANEL, Pattern, copy};
use crate::kernels::lanes::Real;

/// A block of a packed matrix.
#[derive(Clone)]
pub(super) struct PackedBlock {
    /// Panel of the left factor's columns.
    pub(super) from: usize,
    /// Panel of the result's columns.
    pub(super) to: usize,
    /// Rows within the block; the others are zero, and not stored.
    pub(super) rows: Range<usize>,
    /// Where the first row starts.
    start: usize,
}

/// The blocks of a masked matrix, or of its transpose, zero outside the mask.
pub(super) struct Packed<F> {
    /// By panels of the result.
    blocks: Vec<PackedBlock>,
    /// The blocks of each panel of the result.
    panels: Vec<Range<usize>>,
    numbers: Buffer<F>,
}

impl<F: Real> Packed<F> {
    /// Room for blocks sorted by `to`, of which there are `panels`.
    fn room(blocks: impl Iterator<Item = (usize, usize, Range<usize>)>, panels: usize) -> Self {
        let mut start = 0;
        let blocks = blocks.map(|(from, to, rows)| {
            let size = rows.len() * PANEL;
            start += size;
            PackedBlock {
                from,
                to,
                rows,
                start: start - size,
            }
        });
        let blocks: Vec<PackedBlock> = blocks.collect();
        let bound = |to| blocks.partition_point(|block| block.to < to);
        Self {
            panels: (0..panels).map(|to| bound(to)..bound(to + 1)).collect(),
            numbers: Buffer::any(start),
            blocks,
        }
    }

    /// `weight` of `[inputs, outputs]`, to be multiplied by what the layer reads.
    pub(super) fn new(pattern: &Pattern, weight: &[F]) -> Self {
        let outputs = pattern.outputs();
        let blocks = pattern.blocks().iter();
        let blocks = blocks.map(|b| (b.row_panel, b.column_panel, b.rows.clone()));
        let mut packed = Self::room(blocks, pattern.columns.panels());
        for block in &packed.blocks {
            let bits = pattern.bits(block.to);
            let own = &mut packed.numbers[block.start..][..block.rows.len() * PANEL];
            let first = block.from * PANEL + block.rows.start;
            for (row, out) in (first..).zip(own.chunks_exact_mut(PANEL)) {
                for (within, column, count) in pattern.columns.segments(block.to) {
                    let from = row * outputs + column;
                    copy(
                        &mut out[within..within + count],
                        &weight[from..from + count],
                    );
                }
                retain(out, bits[row]);
            }
        }
        packed
    }

    /// The transpose of `weight`, to be multiplied by gradients of what the layer computes.
    pub(super) fn transposed(pattern: &Pattern, weight: &[F]) -> Self {
        let (inputs, outputs) = (pattern.inputs(), pattern.outputs());
        let mut blocks: Vec<&Block> = pattern.blocks().iter().collect();
        blocks.sort_by_key(|block| block.row_panel);
        let blocks = blocks.into_iter();
        let blocks = blocks.map(|b| (b.column_panel, b.row_panel, b.columns.clone()));
        let mut packed = Self::room(blocks, inputs.div_ceil(PANEL));
        let mut square = [F::default(); PANEL * PANEL];
        for block in &packed.blocks {
            let bits = pattern.bits(block.from);
            let first = block.to * PANEL;
            square.fill(F::default());
            let rows = (first..inputs).zip(square.chunks_exact_mut(PANEL));
            for (row, out) in rows {
                for (within, column, count) in pattern.columns.segments(block.from) {
                    let from = row * outputs + column;
                    copy(
                        &mut out[within..within + count],
                        &weight[from..from + count],
                    );
                }
                retain(out, bits[row]);
            }
            let own = &mut packed.numbers[block.start..][..block.rows.len() * PANEL];
            for (column, out) in block.rows.clone().zip(own.chunks_exact_mut(PANEL)) {
                for (row, out) in out.iter_mut().enumerate() {
                    *out = square[row * PANEL + column];
                }
            }
        }
        packed
    }

    /// For each panel of the result its blocks.
    #[inline(always)]
    pub(super) fn panels(&self) -> impl Iterator<Item = &[PackedBlock]> {
        self.panels.iter().map(|range| &self.blocks[range.clone()])
    }

    /// The numbers of a block, `[rows, PANEL]`.
    #[inline(always)]
    pub(super) fn numbers(&self, block: &PackedBlock) -> &[F] {
        &self.numbers[block.start..][..block.rows.len() * PANEL]
    }
}

/// Sets the numbers whose bit is not set to zero.
#[inline(always)]
pub(super) fn retain<F: Real>(numbers: &mut [F], bits: u32) {
    if bits != u32::MAX {
        for (c, number) in numbers.iter_mut().enumerate() {
            if bits >> c & 1 == 0 {
                *number = F::default();
            }
        }
    }
}
