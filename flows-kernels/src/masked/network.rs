//! A masked layer: its weights, and how its units lie in memory.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::Activation;
use super::Map;
use super::buffer::Buffer;
use super::map::Room;
use super::packed::Packed;
use super::pattern::{Columns, PANEL, Pattern};
use super::tile::Tile;
use crate::lanes::{Real, copy, dispatch};

/// One masked linear layer.
pub struct Layer<'a, F> {
    /// Which weights there are.
    pub pattern: &'a Pattern,
    /// `[inputs, outputs]`; read inside the mask only.
    pub weight: &'a [F],
    /// Bias `[outputs]`, or bias and context `[batch, outputs]`.
    pub offset: &'a [F],
    /// Whether the offset has a row for each sample.
    pub with_context: bool,
}

impl<F: Real> Layer<'_, F> {
    /// The bias as the units lie, `[panel][PANEL]`, zeros between.
    pub(super) fn bias(&self) -> Vec<F> {
        let columns = self.pattern.columns;
        let mut bias = vec![F::default(); columns.panels() * PANEL];
        for (panel, bias) in bias.chunks_exact_mut(PANEL).enumerate() {
            for (within, column, count) in columns.segments(panel) {
                copy(
                    &mut bias[within..within + count],
                    &self.offset[column..column + count],
                );
            }
        }
        bias
    }
}

/// A masked layer. Its *levels* are the input, and what each linear layer computes, units after their activation, raw
/// outputs at last; a level holds one chunk of rows after the other, `[panel][row][PANEL]`.
///
/// With untouched variables it is a coupling: these are what the network reads, and all others are moved. At the input
/// level the moved ones then begin a panel of their own.
pub struct Network<'a, F> {
    /// The column that each input is, where they are not in their order.
    pub order: Option<&'a [usize]>,
    /// Variables that are left as they are, the first ones; none where the network reads all and moves all.
    pub untouched: usize,
    /// In the order of application; the last gives the raw parameters, all of the first kind, then all of the second.
    pub layers: Vec<Layer<'a, F>>,
    /// Between the layers.
    pub activation: Activation,
    /// The map of each moved variable.
    pub map: Map,
    /// Whether that map is inverted: for couplings, whose network reads nothing that moves.
    pub inverted: bool,
}

impl<F: Real> Network<'_, F> {
    /// Variables.
    pub fn dim(&self) -> usize {
        self.untouched + self.moved()
    }

    /// Variables that are moved.
    pub(super) fn moved(&self) -> usize {
        self.layers[self.layers.len() - 1].pattern.columns.width()
    }

    /// The untouched and the moved variables, each with the panel of the input level at which they begin.
    pub(super) fn parts(&self) -> [(Range<usize>, usize); 2] {
        let first = self.untouched.div_ceil(PANEL);
        [(0..self.untouched, 0), (self.untouched..self.dim(), first)]
    }

    /// Numbers of a row at level `level`: 0 is the input, `l + 1` what layer `l` computes.
    pub(super) fn width(&self, level: usize) -> usize {
        let panels = match level.checked_sub(1) {
            None => self.untouched.div_ceil(PANEL) + self.moved().div_ceil(PANEL),
            Some(layer) => self.layers[layer].pattern.columns.panels(),
        };
        panels * PANEL
    }

    /// Numbers of a row at all levels.
    pub(super) fn widths(&self) -> usize {
        (0..=self.layers.len()).map(|level| self.width(level)).sum()
    }

    /// Blocks of the weights that are not empty.
    pub(super) fn blocks(&self) -> usize {
        self.layers.iter().map(|l| l.pattern.blocks().len()).sum()
    }

    /// Room for all levels of `rows` rows from level `first` on.
    pub(super) fn levels(&self, first: usize, rows: usize) -> Vec<Buffer<F>> {
        (first..=self.layers.len())
            .map(|level| Buffer::any(rows * self.width(level)))
            .collect()
    }

    pub(super) fn pack(&self, arch: Arch) -> Vec<Packed<'_, F>> {
        let layers = self.layers.iter();
        layers.map(|layer| dispatch(arch, Pack(layer))).collect()
    }

    /// The transposed weights of the layers from `first` on.
    pub(super) fn transpose(&self, arch: Arch, first: usize) -> Vec<Packed<'_, F>> {
        let layers = self.layers[first..].iter();
        layers
            .map(|layer| dispatch(arch, Transpose(layer)))
            .collect()
    }
}

struct Pack<'a, F>(&'a Layer<'a, F>);

impl<'a, F: Real> WithSimd for Pack<'a, F> {
    type Output = Packed<'a, F>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Packed<'a, F> {
        Packed::new(self.0.pattern, self.0.weight)
    }
}

struct Transpose<'a, F>(&'a Layer<'a, F>);

impl<'a, F: Real> WithSimd for Transpose<'a, F> {
    type Output = Packed<'a, F>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Packed<'a, F> {
        Packed::transposed(self.0.pattern, self.0.weight)
    }
}

/// Where column `column` of row `row` lies in a chunk of `rows` rows.
#[inline(always)]
pub(super) fn position(rows: usize, row: usize, column: usize) -> usize {
    (column / PANEL * rows + row) * PANEL + column % PANEL
}

/// Brings the raw parameters of one tile of moved variables together, from the moved variable `first` on.
#[inline(always)]
pub(super) fn collect<F: Real, S: Simd>(
    columns: Columns,
    tile: Tile,
    raw: &[F],
    (rows, row): (usize, usize),
    first: usize,
    room: &mut Room<F, S>,
) {
    for (kind, vector) in room.raw[..columns.kinds()].iter_mut().enumerate() {
        let at = position(rows, row, columns.stored(kind, first));
        tile.load_all::<F, S>(&raw[at..], PANEL, vector);
    }
}
