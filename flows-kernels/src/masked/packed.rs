//! Weights in the order in which the products read them.

use std::ops::Range;

use super::buffer::Buffer;
use super::pattern::{Block, Columns, PANEL, Pattern};
use crate::lanes::{Real, copy};

/// A block of a packed matrix.
#[derive(Debug, Clone)]
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

/// Where the blocks of a packed matrix lie.
#[derive(Debug, Clone)]
pub(super) struct Packing {
    /// By panels of the result.
    blocks: Vec<PackedBlock>,
    /// The blocks of each panel of the result.
    panels: Vec<Range<usize>>,
    /// Columns up to the last true one of each panel of the result.
    widths: Vec<usize>,
    /// Numbers in all.
    len: usize,
}

impl Packing {
    /// Of blocks sorted by `to`.
    fn new(
        blocks: impl Iterator<Item = (usize, usize, Range<usize>)>,
        widths: impl Iterator<Item = usize>,
    ) -> Self {
        let mut len = 0;
        let blocks = blocks.map(|(from, to, rows)| {
            let start = len;
            len += rows.len() * PANEL;
            PackedBlock {
                from,
                to,
                rows,
                start,
            }
        });
        let blocks: Vec<PackedBlock> = blocks.collect();
        let bound = |to| blocks.partition_point(|block| block.to < to);
        let widths: Vec<usize> = widths.collect();
        let panels = (0..widths.len()).map(|to| bound(to)..bound(to + 1));
        Self {
            panels: panels.collect(),
            widths,
            len,
            blocks,
        }
    }

    /// For a matrix of these blocks and columns.
    pub(super) fn direct(blocks: &[Block], columns: Columns) -> Self {
        let blocks = blocks.iter();
        let blocks = blocks.map(|b| (b.row_panel, b.column_panel, b.rows.clone()));
        let widths = (0..columns.panels()).map(|panel| columns.end(panel));
        Self::new(blocks, widths)
    }

    /// For the transpose of a matrix of these blocks and rows.
    pub(super) fn transposed(blocks: &[Block], inputs: usize) -> Self {
        let mut blocks: Vec<&Block> = blocks.iter().collect();
        blocks.sort_by_key(|block| block.row_panel);
        let blocks = blocks.into_iter();
        let blocks = blocks.map(|b| (b.column_panel, b.row_panel, b.columns.clone()));
        let widths = (0..inputs).step_by(PANEL);
        let widths = widths.map(|first| PANEL.min(inputs - first));
        Self::new(blocks, widths)
    }
}

/// A masked matrix, or its transpose, zero outside the mask.
pub(super) struct Packed<'a, F> {
    packing: &'a Packing,
    numbers: Buffer<F>,
}

impl<'a, F: Real> Packed<'a, F> {
    /// `weight` of `[inputs, outputs]`, to be multiplied by what the layer reads.
    #[inline(always)]
    pub(super) fn new(pattern: &'a Pattern, weight: &[F]) -> Self {
        let outputs = pattern.outputs();
        let packing = &pattern.direct;
        let mut numbers = Buffer::any(packing.len);
        for block in &packing.blocks {
            let bits = pattern.bits(block.to);
            let segments = pattern.columns.segments(block.to);
            let own = &mut numbers[block.start..][..block.rows.len() * PANEL];
            let first = block.from * PANEL + block.rows.start;
            for (row, out) in (first..).zip(own.chunks_exact_mut(PANEL)) {
                for &(within, column, count) in &segments {
                    let from = row * outputs + column;
                    copy(
                        &mut out[within..within + count],
                        &weight[from..from + count],
                    );
                }
                retain(out, bits[row]);
            }
        }
        Self { packing, numbers }
    }

    /// The transpose of `weight`, to be multiplied by gradients of what the layer computes.
    #[inline(always)]
    pub(super) fn transposed(pattern: &'a Pattern, weight: &[F]) -> Self {
        let (inputs, outputs) = (pattern.inputs(), pattern.outputs());
        let packing = &pattern.transposed;
        let mut numbers = Buffer::any(packing.len);
        let mut square = [F::default(); PANEL * PANEL];
        for block in &packing.blocks {
            let bits = pattern.bits(block.from);
            let segments = pattern.columns.segments(block.from);
            square.fill(F::default());
            let first = block.to * PANEL;
            let rows = (first..inputs).zip(square.chunks_exact_mut(PANEL));
            for (input, row) in rows {
                for &(within, column, count) in &segments {
                    let from = input * outputs + column;
                    copy(
                        &mut row[within..within + count],
                        &weight[from..from + count],
                    );
                }
                retain(row, bits[input]);
            }
            let own = &mut numbers[block.start..][..block.rows.len() * PANEL];
            for (column, out) in block.rows.clone().zip(own.chunks_exact_mut(PANEL)) {
                for (row, out) in out.iter_mut().enumerate() {
                    *out = square[row * PANEL + column];
                }
            }
        }
        Self { packing, numbers }
    }

    /// For each panel of the result its blocks.
    #[inline(always)]
    pub(super) fn panels(&self) -> impl Iterator<Item = &[PackedBlock]> {
        let Packing { panels, blocks, .. } = self.packing;
        panels.iter().map(|range| &blocks[range.clone()])
    }

    /// Columns up to the last true one of a panel of the result.
    #[inline(always)]
    pub(super) fn width(&self, panel: usize) -> usize {
        self.packing.widths[panel]
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
