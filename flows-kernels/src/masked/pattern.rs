//! Which blocks of a masked matrix hold weights.
//!
//! Units are sorted by level, so a mask is a staircase: cut into blocks of [`PANEL`] by [`PANEL`], about half
//! of them are empty, and the products leave those out. Inside a block the mask is a word of bits for each row.

use std::ops::Range;

use super::packed::Packing;

/// Side of a block, and columns that are worked on together: one word of mask bits, two of the widest vectors.
pub(super) const PANEL: usize = 32;

/// Columns of one kind that lie side by side at most: the widest vector holds a single kind.
const GROUP: usize = 16;

/// How the columns of a layer lie in the memory of the kernels: groups of each kind in turn, so that all
/// parameters of a variable need the same units, padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Columns {
    kinds: usize,
    width: usize,
    /// Columns of one kind that lie side by side: a power of two, with few columns no larger than they need.
    group: usize,
}

impl Columns {
    /// `kinds` times `width` columns, such as all shifts, then all scales.
    pub(super) fn new(kinds: usize, width: usize) -> Self {
        let group = GROUP.min(width.next_power_of_two());
        Self {
            kinds,
            width,
            group,
        }
    }

    /// Parameters of each variable.
    pub(super) fn kinds(self) -> usize {
        self.kinds
    }

    /// Columns of each kind.
    pub(super) fn width(self) -> usize {
        self.width
    }

    /// Columns without padding.
    pub(super) fn count(self) -> usize {
        self.kinds * self.width
    }

    /// Blocks of columns with padding.
    pub(super) fn panels(self) -> usize {
        (self.width.div_ceil(self.group) * self.kinds * self.group).div_ceil(PANEL)
    }

    /// Columns of one kind that lie side by side.
    #[inline(always)]
    pub(super) fn group(self) -> usize {
        self.group
    }

    /// Where column `index` of kind `kind` lies.
    #[inline(always)]
    pub(super) fn stored(self, kind: usize, index: usize) -> usize {
        (index / self.group * self.kinds + kind) * self.group + index % self.group
    }

    /// The true columns of a panel: first within the panel, first true one, how many. Neighbours are one segment.
    pub(super) fn segments(self, panel: usize) -> Vec<(usize, usize, usize)> {
        let mut segments: Vec<(usize, usize, usize)> = Vec::with_capacity(PANEL / self.group);
        for within in (0..PANEL).step_by(self.group) {
            let group = (panel * PANEL + within) / self.group;
            let first = group / self.kinds * self.group;
            let column = group % self.kinds * self.width + first;
            let count = self.group.min(self.width.saturating_sub(first));
            match segments.last_mut() {
                _ if count == 0 => {}
                Some((w, c, n)) if (*w + *n, *c + *n) == (within, column) => *n += count,
                _ => segments.push((within, column, count)),
            }
        }
        segments
    }

    /// Columns of a panel up to its last true one.
    pub(super) fn end(self, panel: usize) -> usize {
        let segments = self.segments(panel);
        let last = segments.last();
        last.map_or(0, |&(within, _, count)| within + count)
    }
}

/// A block that is not empty.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) row_panel: usize,
    pub(super) column_panel: usize,
    /// The rows within the block that hold weights.
    pub(super) rows: Range<usize>,
    /// The columns within the block that hold weights.
    pub(super) columns: Range<usize>,
}

/// The blocks of one masked matrix `[inputs, outputs]`.
#[derive(Debug, Clone)]
pub struct Pattern {
    inputs: usize,
    pub(super) columns: Columns,
    /// For each panel of columns, a word for each row: which of the columns read it.
    bits: Vec<u32>,
    /// By panels of columns.
    blocks: Vec<Block>,
    /// How the matrix is packed, and its transpose.
    pub(super) direct: Packing,
    pub(super) transposed: Packing,
}

impl Pattern {
    /// The pattern of the weights `(row, column)` that are allowed, with columns of `kinds` kinds.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        kinds: usize,
        allowed: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let columns = Columns::new(kinds, outputs / kinds);
        let mut bits = Vec::with_capacity(columns.panels() * inputs);
        for panel in 0..columns.panels() {
            let segments = columns.segments(panel);
            for row in 0..inputs {
                let mut word = 0;
                for &(within, column, count) in &segments {
                    for c in 0..count {
                        word |= u32::from(allowed(row, column + c)) << (within + c);
                    }
                }
                bits.push(word);
            }
        }
        let mut blocks = Vec::new();
        for column_panel in 0..columns.panels() {
            for row_panel in 0..inputs.div_ceil(PANEL) {
                let first = row_panel * PANEL;
                let words = &bits[column_panel * inputs..][first..inputs.min(first + PANEL)];
                let all = words.iter().fold(0, |a, b| a | b);
                if all == 0 {
                    continue;
                }
                let used = |word: &u32| *word != 0;
                let rows = words
                    .iter()
                    .position(used)
                    .zip(words.iter().rposition(used));
                let (low, high) = rows.expect("a block that is not empty");
                let columns = all.trailing_zeros() as usize..32 - all.leading_zeros() as usize;
                blocks.push(Block {
                    row_panel,
                    column_panel,
                    rows: low..high + 1,
                    columns,
                });
            }
        }
        Self {
            inputs,
            columns,
            bits,
            direct: Packing::direct(&blocks, columns),
            transposed: Packing::transposed(&blocks, inputs),
            blocks,
        }
    }

    /// Rows of the matrix.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the matrix.
    pub fn outputs(&self) -> usize {
        self.columns.count()
    }

    /// Which columns of a panel read each row.
    pub(super) fn bits(&self, panel: usize) -> &[u32] {
        &self.bits[panel * self.inputs..(panel + 1) * self.inputs]
    }

    /// For a true column, a word for each row and the place of the bit that says whether it reads the row.
    pub(super) fn readers(&self, column: usize) -> (&[u32], usize) {
        let width = self.columns.width;
        let stored = self.columns.stored(column / width, column % width);
        (self.bits(stored / PANEL), stored % PANEL)
    }

    /// The blocks that are not empty, by panels of columns.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }
}
