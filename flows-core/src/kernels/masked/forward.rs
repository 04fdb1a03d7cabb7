//! The forward pass of some rows through a masked affine layer.

use pulp::{Simd, WithSimd};

use super::affine::Affine;
use super::network::{Layer, Network, position};
use super::packed::Packed;
use super::pattern::{Columns, PANEL, copy};
use super::product::{Start, product};
use crate::kernels::lanes::{Real, store, sum_of};
use crate::nn::ConditionerActivation;

/// The rows from `first_row` on.
pub(super) struct ForwardChunk<'a, F> {
    pub(super) network: &'a Network<'a, F>,
    /// The weights of each layer.
    pub(super) packed: &'a [Packed<F>],
    pub(super) first_row: usize,
    /// Room for the input and for what each layer computes, `[panel][row][PANEL]`.
    pub(super) levels: Vec<&'a mut [F]>,
    /// Value and log-determinant, `[rows, dim + 1]`.
    pub(super) out: &'a mut [F],
}

impl<F: Real> WithSimd for ForwardChunk<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            network,
            packed,
            first_row,
            mut levels,
            out,
        } = self;
        let dim = network.dim();
        let rows = out.len() / (dim + 1);
        let x = &network.x[first_row * dim..(first_row + rows) * dim];
        for (panel, to) in levels[0].chunks_exact_mut(rows * PANEL).enumerate() {
            clear_padding(Columns::new(1, dim), panel, to);
            for (x, to) in x.chunks_exact(dim).zip(to.chunks_exact_mut(PANEL)) {
                for (within, column, count) in Columns::new(1, dim).segments(panel) {
                    copy(&mut to[within..within + count], &x[column..column + count]);
                }
            }
        }
        let last = network.layers.len() - 1;
        for (l, layer) in network.layers.iter().enumerate() {
            let (read, computed) = levels.split_at_mut(l + 1);
            preset(layer, first_row, rows, computed[0]);
            product::<F, S>(simd, read[l], &packed[l], (rows, Start::There), computed[0]);
            if l < last {
                activate::<F, S>(simd, network.activation, computed[0]);
            }
        }
        let columns = network.layers[last].pattern.columns;
        let lanes = F::lanes::<S>();
        for (row, out) in out.chunks_exact_mut(dim + 1).enumerate() {
            let mut sum = F::default();
            for first in (0..dim).step_by(lanes) {
                let count = lanes.min(dim - first);
                let vector = |level: usize, column: usize| {
                    let at = position(rows, row, column);
                    F::vectors::<S>(&levels[level][at..at + lanes])[0]
                };
                let x = vector(0, first);
                let m = vector(last + 1, columns.stored(0, first));
                let s = vector(last + 1, columns.stored(columns.kinds() - 1, first));
                let affine = Affine::<F, S>::new(simd, network.scale, m, s);
                let scale = F::exp(simd, affine.log_scale);
                let y = F::fma(simd, x, scale, affine.shift);
                store::<F, S>(y, &mut out[first..first + count]);
                sum = sum.plus(sum_of::<F, S>(simd, affine.log_scale, count));
            }
            out[dim] = sum;
        }
    }
}

/// Zeros where a panel has no columns: nothing reads them, but what was left there might be no number, or one
/// that takes long to multiply.
#[inline(always)]
fn clear_padding<F: Real>(columns: Columns, panel: usize, units: &mut [F]) {
    let count: usize = columns.segments(panel).map(|(_, _, count)| count).sum();
    if count < PANEL {
        units.fill(F::default());
    }
}

/// Bias and context of the units.
#[inline(always)]
fn preset<F: Real>(layer: &Layer<'_, F>, first_row: usize, rows: usize, units: &mut [F]) {
    let columns = layer.pattern.columns;
    let count = columns.count();
    let stride = if layer.with_context { count } else { 0 };
    let offset = &layer.offset[first_row * stride..];
    for (panel, units) in units.chunks_exact_mut(rows * PANEL).enumerate() {
        clear_padding(columns, panel, units);
        for (row, units) in units.chunks_exact_mut(PANEL).enumerate() {
            let offset = &offset[row * stride..];
            for (within, column, count) in columns.segments(panel) {
                copy(
                    &mut units[within..within + count],
                    &offset[column..column + count],
                );
            }
        }
    }
}

/// Applies the activation to each unit.
#[inline(always)]
pub(super) fn activate<F: Real, S: Simd>(
    simd: S,
    activation: ConditionerActivation,
    units: &mut [F],
) {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    let units = F::vectors_mut::<S>(units);
    match activation {
        ConditionerActivation::Relu => {
            for u in units {
                // Not a maximum, which would hide a NaN.
                *u = F::where_less(simd, *u, zero, zero, *u);
            }
        }
        ConditionerActivation::Tanh => {
            for u in units {
                *u = F::tanh(simd, *u);
            }
        }
        ConditionerActivation::Elu => {
            for u in units {
                let below = F::sub(simd, F::exp(simd, *u), one);
                *u = F::where_less(simd, *u, zero, below, *u);
            }
        }
    }
}
