//! A masked affine layer over a batch: network, scale, shift and log-determinant, and their gradients.
//!
//! Forward, a chunk of rows goes through the whole layer while it is in the cache. Backward, chunks give the
//! gradients of all units first, then blocks of weight rows are computed, each over the whole batch: no sum
//! depends on which thread did what. Between the two the activations are kept.

use pulp::Arch;
use rayon::prelude::*;

use super::backward::{BackwardChunk, WeightBlock};
use super::buffer::Buffer;
use super::forward::ForwardChunk;
use super::packed::Packed;
use super::pattern::{PANEL, Pattern, copy};
use crate::bijectors::LogScale;
use crate::kernels::lanes::{Real, dispatch};
use crate::nn::ConditionerActivation;

/// Rows of a chunk at most: a multiple of the tallest tile. Activations and weights of a layer with two times
/// 512 units fit the second-level cache together.
const CHUNK_ROWS: usize = 96;

/// Panels of weight rows that one task sums: they share what they read of the gradients.
const WEIGHT_PANELS: usize = 2;

/// Products below which threads cost more than they bring.
const PRODUCTS: usize = 2_000_000;

/// One masked linear layer.
pub(super) struct Layer<'a, F> {
    pub(super) pattern: &'a Pattern,
    /// `[inputs, outputs]`; read inside the mask only.
    pub(super) weight: &'a [F],
    /// Bias `[outputs]`, or bias and context `[batch, outputs]`.
    pub(super) offset: &'a [F],
    /// Whether the offset has a row for each sample.
    pub(super) with_context: bool,
}

/// A masked affine layer and its batch.
pub(super) struct Network<'a, F> {
    /// In the order of application; the last gives shifts, then raw scales.
    pub(super) layers: Vec<Layer<'a, F>>,
    pub(super) activation: ConditionerActivation,
    pub(super) scale: LogScale,
    /// `[batch, dim]`
    pub(super) x: &'a [F],
}

/// The input and what each layer computed, units after their activation, raw outputs at last. Each holds one
/// chunk after the other, `[panel][row][PANEL]`.
pub(super) struct Trace<F>(pub(super) Vec<Buffer<F>>);

/// Gradients in the shapes of what they belong to.
pub(super) struct Gradients<F> {
    pub(super) x: Vec<F>,
    /// Weight and offset of each layer.
    pub(super) layers: Vec<(Vec<F>, Vec<F>)>,
}

/// Works on the items, over the threads where that pays, with results in their order.
fn map<T: Send, R: Send>(
    threads: bool,
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    if threads {
        items.into_par_iter().map(work).collect()
    } else {
        items.into_iter().map(work).collect()
    }
}

impl<F: Real> Network<'_, F> {
    pub(super) fn dim(&self) -> usize {
        self.layers[0].pattern.inputs()
    }

    pub(super) fn rows(&self) -> usize {
        self.x.len() / self.dim()
    }

    /// Rows of a chunk: an even number of chunks of nearly equal size, whatever the number of threads.
    pub(super) fn chunk_rows(&self) -> usize {
        let rows = self.rows();
        let chunks = rows.div_ceil(CHUNK_ROWS).next_multiple_of(2);
        rows.div_ceil(chunks).next_multiple_of(4).min(CHUNK_ROWS)
    }

    /// Numbers of a row at level `level`: 0 is the input, `l + 1` what layer `l` computes.
    pub(super) fn width(&self, level: usize) -> usize {
        let panels = match level.checked_sub(1) {
            None => self.dim().div_ceil(PANEL),
            Some(layer) => self.layers[layer].pattern.columns.panels(),
        };
        panels * PANEL
    }

    fn threads(&self) -> bool {
        let blocks: usize = self.layers.iter().map(|l| l.pattern.blocks().len()).sum();
        let products = blocks * PANEL * PANEL * self.rows();
        rayon::current_num_threads() > 1 && products >= PRODUCTS
    }

    /// Room for the levels of `rows` rows.
    pub(super) fn buffers(
        &self,
        levels: std::ops::RangeInclusive<usize>,
        rows: usize,
    ) -> Vec<Buffer<F>> {
        levels.map(|l| Buffer::any(rows * self.width(l))).collect()
    }

    /// The parts of each buffer, chunk by chunk.
    pub(super) fn chunks<'b>(&self, buffers: &'b mut [Buffer<F>]) -> Vec<Vec<&'b mut [F]>> {
        let count = self.rows().div_ceil(self.chunk_rows());
        let mut chunks: Vec<Vec<&mut [F]>> = Vec::new();
        chunks.resize_with(count, Vec::new);
        for buffer in buffers {
            let size = buffer.len() / self.rows() * self.chunk_rows();
            for (chunk, part) in chunks.iter_mut().zip(buffer.chunks_mut(size)) {
                chunk.push(part);
            }
        }
        chunks
    }

    pub(super) fn pack(&self, threads: bool) -> Vec<Packed<F>> {
        let layers: Vec<_> = self.layers.iter().collect();
        map(threads, layers, |l| Packed::new(l.pattern, l.weight))
    }

    /// Value and log-determinant side by side, `[batch, dim + 1]`.
    pub(super) fn forward(&self, arch: Arch) -> Vec<F> {
        let threads = self.threads();
        let packed = self.pack(threads);
        let (rows, columns) = (self.chunk_rows(), self.dim() + 1);
        let mut out = vec![F::default(); self.rows() * columns];
        let chunks = out.chunks_mut(rows * columns).enumerate().collect();
        map(threads, chunks, |(index, out)| {
            let mut buffers = self.buffers(0..=self.layers.len(), out.len() / columns);
            let chunk = ForwardChunk {
                network: self,
                packed: &packed,
                first_row: index * rows,
                levels: buffers.iter_mut().map(|buffer| &mut **buffer).collect(),
                out,
            };
            dispatch(arch, chunk);
        });
        out
    }

    /// As [`forward`](Self::forward), with what [`backward`](Self::backward) needs.
    pub(super) fn forward_traced(&self, arch: Arch) -> (Vec<F>, Trace<F>) {
        let threads = self.threads();
        let packed = self.pack(threads);
        let (rows, columns) = (self.chunk_rows(), self.dim() + 1);
        let mut out = vec![F::default(); self.rows() * columns];
        let mut trace = self.buffers(0..=self.layers.len(), self.rows());
        let outs = out.chunks_mut(rows * columns).enumerate();
        let chunks = outs.zip(self.chunks(&mut trace)).collect();
        map(threads, chunks, |((index, out), levels)| {
            let chunk = ForwardChunk {
                network: self,
                packed: &packed,
                first_row: index * rows,
                levels,
                out,
            };
            dispatch(arch, chunk);
        });
        (out, Trace(trace))
    }

    /// Gradients from the gradient of [`forward`](Self::forward)'s result; the one for `x` costs a product with
    /// the first layer, and is left empty where nobody asked for it.
    pub(super) fn backward(
        &self,
        arch: Arch,
        trace: &Trace<F>,
        output: &[F],
        wants_x: bool,
    ) -> Gradients<F> {
        let threads = self.threads();
        let layers = self.layers.iter().skip(usize::from(!wants_x));
        let transposed = map(threads, layers.collect(), |layer| {
            Packed::transposed(layer.pattern, layer.weight)
        });
        let (rows, dim) = (self.chunk_rows(), self.dim());
        let mut units = self.buffers(1..=self.layers.len(), self.rows());
        let mut x = vec![F::default(); if wants_x { self.x.len() } else { 0 }];
        let mut parts: Vec<&mut [F]> = x.chunks_mut(rows * dim).collect();
        let chunks = self.chunks(&mut units);
        parts.resize_with(chunks.len(), Default::default);
        let items = chunks.into_iter().zip(parts).enumerate().collect();
        let sums = map(threads, items, |(index, (gradients, x))| {
            let chunk = BackwardChunk {
                network: self,
                trace,
                transposed: &transposed,
                first_row: index * rows,
                output,
                gradients,
                x,
            };
            dispatch(arch, chunk)
        });
        let weights = self.weight_gradients(arch, trace, &units, threads);
        let offsets = (0..self.layers.len()).map(|l| self.offset_gradient(l, &units[l], &sums));
        Gradients {
            x,
            layers: weights.into_iter().zip(offsets).collect(),
        }
    }

    /// `dW = a^T d` for each layer, with `a` what it read and `d` the gradients of what it computed.
    pub(super) fn weight_gradients(
        &self,
        arch: Arch,
        trace: &Trace<F>,
        units: &[Buffer<F>],
        threads: bool,
    ) -> Vec<Vec<F>> {
        let layers = self.layers.iter();
        let mut gradients: Vec<Vec<F>> =
            layers.map(|l| vec![F::default(); l.weight.len()]).collect();
        let mut blocks = Vec::new();
        for (l, gradient) in gradients.iter_mut().enumerate() {
            let pattern = self.layers[l].pattern;
            let size = WEIGHT_PANELS * PANEL * pattern.outputs();
            for (block, out) in gradient.chunks_mut(size).enumerate() {
                blocks.push(WeightBlock {
                    pattern,
                    rows: self.rows(),
                    chunk_rows: self.chunk_rows(),
                    read: &trace.0[l],
                    computed: &units[l],
                    panels: block * WEIGHT_PANELS..(block + 1) * WEIGHT_PANELS,
                    out,
                });
            }
        }
        map(threads, blocks, |block| dispatch(arch, block));
        gradients
    }

    /// The gradient of a layer's offset: that of its units, for a bias summed over the batch. `sums` are those
    /// of each chunk and layer.
    fn offset_gradient(&self, layer: usize, units: &[F], sums: &[Vec<Vec<F>>]) -> Vec<F> {
        let Layer {
            pattern,
            offset,
            with_context,
            ..
        } = &self.layers[layer];
        let columns = pattern.columns;
        let mut gradient = vec![F::default(); offset.len()];
        if !with_context {
            for chunk in sums {
                for (panel, sums) in chunk[layer].chunks_exact(PANEL).enumerate() {
                    for (within, column, count) in columns.segments(panel) {
                        let sums = &sums[within..within + count];
                        for (out, &sum) in gradient[column..column + count].iter_mut().zip(sums) {
                            *out = out.plus(sum);
                        }
                    }
                }
            }
            return gradient;
        }
        let rows = self.chunk_rows();
        let chunks = units.chunks(rows * self.width(layer + 1));
        for (out, units) in gradient.chunks_mut(rows * columns.count()).zip(chunks) {
            let rows = out.len() / columns.count();
            for (panel, units) in units.chunks_exact(rows * PANEL).enumerate() {
                let out = out.chunks_exact_mut(columns.count());
                for (out, units) in out.zip(units.chunks_exact(PANEL)) {
                    for (within, column, count) in columns.segments(panel) {
                        copy(
                            &mut out[column..column + count],
                            &units[within..within + count],
                        );
                    }
                }
            }
        }
        gradient
    }
}

/// Where column `column` of row `row` lies in a chunk of `rows` rows.
#[inline(always)]
pub(super) fn position(rows: usize, row: usize, column: usize) -> usize {
    (column / PANEL * rows + row) * PANEL + column % PANEL
}
