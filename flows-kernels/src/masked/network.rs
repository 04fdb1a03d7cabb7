//! A masked affine layer: its weights, and how its units lie in memory.

use pulp::{Arch, Simd, WithSimd};

use super::Activation;
use super::Scale;
use super::buffer::Buffer;
use super::packed::Packed;
use super::pattern::{PANEL, Pattern};
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

/// A masked affine layer. Its *levels* are the input, and what each linear layer computes, units after their
/// activation, raw outputs at last; a level holds one chunk of rows after the other, `[panel][row][PANEL]`.
pub struct Network<'a, F> {
    /// The column that each input is, where they are not in their order.
    pub order: Option<&'a [usize]>,
    /// In the order of application; the last gives shifts, then raw scales.
    pub layers: Vec<Layer<'a, F>>,
    /// Between the layers.
    pub activation: Activation,
    /// What the raw outputs mean.
    pub scale: Scale,
}

impl<F: Real> Network<'_, F> {
    /// Variables.
    pub fn dim(&self) -> usize {
        self.layers[0].pattern.inputs()
    }

    /// Numbers of a row at level `level`: 0 is the input, `l + 1` what layer `l` computes.
    pub(super) fn width(&self, level: usize) -> usize {
        let panels = match level.checked_sub(1) {
            None => self.dim().div_ceil(PANEL),
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
