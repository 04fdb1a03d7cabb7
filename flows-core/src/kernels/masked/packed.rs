//! Weights in the order in which the products read them.

use std::ops::Range;

use super::buffer::Buffer;
use super::pattern::{PANEL, Pattern};
use crate::kernels::lanes::Real;

/// Rows of one pass over a panel: `DEPTH * PANEL` numbers stay in the first-level cache.
const DEPTH: usize = 256;

/// A piece of a panel that one pass multiplies.
pub(super) struct Piece {
    /// First column of the result.
    pub(super) column: usize,
    /// The columns of the left factor, rows of this matrix.
    pub(super) rows: Range<usize>,
    /// First number of the piece, `[rows, PANEL]`.
    start: usize,
}

/// The blocks of a masked matrix, or of its transpose, panel by panel; zero outside the mask.
pub(super) struct Packed<F> {
    pieces: Vec<Piece>,
    numbers: Buffer<F>,
}

impl<F: Real> Packed<F> {
    fn zeros(runs: &[Vec<Range<usize>>]) -> Self {
        let mut pieces = Vec::new();
        let mut start = 0;
        for (panel, runs) in runs.iter().enumerate() {
            for run in runs {
                for first in run.clone().step_by(DEPTH) {
                    let rows = first..run.end.min(first + DEPTH);
                    let size = rows.len() * PANEL;
                    let column = panel * PANEL;
                    pieces.push(Piece {
                        column,
                        rows,
                        start,
                    });
                    start += size;
                }
            }
        }
        Self {
            pieces,
            numbers: Buffer::zeros(start),
        }
    }

    /// `weight` of `[inputs, outputs]`, to be multiplied by what the layer reads.
    pub(super) fn new(pattern: &Pattern, weight: &[F]) -> Self {
        let outputs = pattern.columns.count();
        let mut packed = Self::zeros(&pattern.runs);
        let mut rest: &mut [F] = &mut packed.numbers;
        for piece in &packed.pieces {
            let (own, next) = rest.split_at_mut(piece.rows.len() * PANEL);
            rest = next;
            let first = piece.column;
            let bits = pattern.bits(first / PANEL);
            for (row, out) in piece.rows.clone().zip(own.chunks_exact_mut(PANEL)) {
                for (stored, column, count) in pattern.columns.segments(first..first + PANEL) {
                    let from = row * outputs + column;
                    let to = stored - first;
                    out[to..to + count].copy_from_slice(&weight[from..from + count]);
                }
                retain(out, bits[row]);
            }
        }
        packed
    }

    /// The transpose of `weight`, to be multiplied by gradients of what the layer computes.
    pub(super) fn transposed(pattern: &Pattern, weight: &[F]) -> Self {
        let outputs = pattern.columns.count();
        let mut packed = Self::zeros(&pattern.transposed_runs);
        let mut rest: &mut [F] = &mut packed.numbers;
        for piece in &packed.pieces {
            let (own, next) = rest.split_at_mut(piece.rows.len() * PANEL);
            rest = next;
            let inputs = piece.column..pattern.inputs.min(piece.column + PANEL);
            let mut first = piece.rows.start;
            // Square by square, so that both sides stay in the cache.
            while first < piece.rows.end {
                let panel = first / PANEL;
                let last = piece.rows.end.min((panel + 1) * PANEL);
                for (stored, column, count) in pattern.columns.segments(first..last) {
                    for (lane, input) in inputs.clone().enumerate() {
                        let from = input * outputs + column;
                        let bits = pattern.bits(panel)[input] >> (stored % PANEL);
                        let at = (stored - piece.rows.start) * PANEL;
                        let targets = own[at..].chunks_exact_mut(PANEL);
                        for (c, (out, &w)) in targets.zip(&weight[from..from + count]).enumerate() {
                            if bits >> c & 1 == 1 {
                                out[lane] = w;
                            }
                        }
                    }
                }
                first = last;
            }
        }
        packed
    }

    /// The pieces, panel by panel, and their numbers.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (&Piece, &[F])> {
        self.pieces.iter().map(|piece| {
            let size = piece.rows.len() * PANEL;
            (piece, &self.numbers[piece.start..piece.start + size])
        })
    }
}

/// Sets the numbers whose bit is not set to zero.
pub(super) fn retain<F: Real>(numbers: &mut [F], bits: u32) {
    if bits != u32::MAX {
        for (c, number) in numbers.iter_mut().enumerate() {
            if bits >> c & 1 == 0 {
                *number = F::default();
            }
        }
    }
}
