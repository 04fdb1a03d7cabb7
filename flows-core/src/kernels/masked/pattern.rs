//! Which blocks of a masked matrix hold weights.
//!
//! Units are sorted by level, so a mask is a staircase: a panel of [`PANEL`] neighbouring columns reads few
//! runs of rows, mostly one, and everything outside them is left out of the products. Inside the runs the mask
//! is a word of bits per row and panel.

use std::ops::Range;

use crate::masks::WeightMask;

/// Columns that are worked on together: one word of mask bits, two of the widest vectors.
pub(super) const PANEL: usize = 32;

/// Columns of one kind start at a multiple of this, so that every vector holds a single kind.
const GROUP: usize = 16;

/// Runs of rows closer than this become one: a few products with zero cost less than a new loop.
const GAP: usize = 8;

/// How the columns of a layer lie in the memory of the kernels: kinds side by side, each padded with zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Columns {
    kinds: usize,
    width: usize,
}

impl Columns {
    /// `kinds` times `width` columns, such as all shifts, then all scales.
    pub(super) fn new(kinds: usize, width: usize) -> Self {
        Self { kinds, width }
    }

    /// Columns without padding.
    pub(super) fn count(self) -> usize {
        self.kinds * self.width
    }

    /// Where columns of kind `kind` start.
    pub(super) fn start(self, kind: usize) -> usize {
        kind * self.width.next_multiple_of(GROUP)
    }

    /// Columns with padding.
    pub(super) fn stored(self) -> usize {
        self.start(self.kinds).next_multiple_of(PANEL)
    }

    /// From one row to the next. An odd number of groups: with a power of two the same columns of all rows
    /// would compete for a few lines of the cache.
    pub(super) fn stride(self) -> usize {
        self.stored() + GROUP
    }

    /// The true columns among the stored ones in `range`: first stored, first true, how many.
    pub(super) fn segments(
        self,
        range: Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.kinds).filter_map(move |kind| {
            let start = self.start(kind);
            let from = range.start.max(start);
            let to = range.end.min(start + self.width);
            (from < to).then(|| (from, kind * self.width + from - start, to - from))
        })
    }
}

/// The blocks of one masked matrix `[inputs, outputs]`.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub(super) inputs: usize,
    pub(super) columns: Columns,
    /// For each panel, a word for each row: which of the panel's columns read it.
    bits: Vec<u32>,
    /// For each panel of columns, the rows that one of them reads.
    pub(super) runs: Vec<Vec<Range<usize>>>,
    /// For each [`PANEL`] of rows, the stored columns that read one of them.
    pub(super) transposed_runs: Vec<Vec<Range<usize>>>,
}

impl Pattern {
    /// The pattern of a mask whose columns are of `kinds` kinds.
    pub(crate) fn new(mask: &WeightMask, kinds: usize) -> Self {
        let (inputs, columns) = (mask.inputs, Columns::new(kinds, mask.outputs / kinds));
        let panels = columns.stored() / PANEL;
        let mut bits = vec![0; panels * inputs];
        for (panel, words) in bits.chunks_exact_mut(inputs.max(1)).enumerate() {
            let first = panel * PANEL;
            for (stored, column, count) in columns.segments(first..first + PANEL) {
                for (i, word) in words.iter_mut().enumerate() {
                    for c in 0..count {
                        *word |= u32::from(mask.allows(i, column + c)) << (stored - first + c);
                    }
                }
            }
        }
        let words = |panel: usize| &bits[panel * inputs..(panel + 1) * inputs];
        let rows = |panel| runs(words(panel).iter().map(|&word| word != 0));
        let readers = |first: usize| {
            let last = inputs.min(first + PANEL);
            runs((0..columns.stored()).map(|c| {
                let word = words(c / PANEL)[first..last].iter().fold(0, |a, b| a | b);
                word >> (c % PANEL) & 1 == 1
            }))
        };
        Self {
            inputs,
            columns,
            runs: (0..panels).map(rows).collect(),
            transposed_runs: (0..inputs).step_by(PANEL).map(readers).collect(),
            bits,
        }
    }

    /// Rows of the matrix.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Columns of the matrix.
    pub(super) fn outputs(&self) -> usize {
        self.columns.count()
    }

    /// Which columns of panel `panel` read each row.
    pub(super) fn bits(&self, panel: usize) -> &[u32] {
        &self.bits[panel * self.inputs..(panel + 1) * self.inputs]
    }

    /// Products of one row of a batch with the blocks of this matrix.
    pub(super) fn products(&self) -> usize {
        let rows: usize = self.runs.iter().flatten().map(Range::len).sum();
        rows * PANEL
    }
}

/// The ranges in which `present` holds, bridged over gaps shorter than [`GAP`].
fn runs(present: impl Iterator<Item = bool>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (k, _) in present.enumerate().filter(|(_, present)| *present) {
        match runs.last_mut() {
            Some(run) if k - run.end < GAP => run.end = k + 1,
            _ => runs.push(k..k + 1),
        }
    }
    runs
}
