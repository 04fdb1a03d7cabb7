//! Masked layers one after the other over a batch: value, log-determinant, and their gradients.
//!
//! Forward, a chunk of rows goes through all layers while it is in the cache. Backward, chunks give the
//! gradients of all units first, then blocks of weight rows are computed, each over the whole batch: no sum
//! depends on which thread did what. Between the two the activations are kept.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::backward::{BackwardChunk, WeightBlock};
use super::buffer::Buffer;
use super::forward::ForwardChunk;
use super::network::{Layer, Network};
use super::pattern::PANEL;
use crate::lanes::{Real, copy, dispatch};

/// Rows of a chunk at most: a multiple of the tallest tile. Activations and weights of a layer with two times
/// 512 units fit the second-level cache together.
const CHUNK_ROWS: usize = 96;

/// Panels of weight rows that one task sums: they share what they read of the gradients.
const WEIGHT_PANELS: usize = 2;

/// Products below which threads cost more than they bring.
const PRODUCTS: usize = 20_000_000;

/// Numbers of all levels of the layers that are worked on together at most: small layers share the cost of
/// handing out work, and of large ones each has the cache for itself.
const TOGETHER: usize = 1 << 17;

/// Layers and their batch.
pub struct Run<'a, F> {
    /// In the order of application, at least one.
    pub networks: Vec<Network<'a, F>>,
    /// The column that each column of the result is, where they are not in their order.
    pub order: Option<&'a [usize]>,
    /// `[batch, dim]`
    pub x: &'a [F],
}

/// The levels of each layer.
pub struct Trace<F>(Vec<Vec<Buffer<F>>>);

/// Gradients in the shapes of what they belong to.
pub struct Gradients<F> {
    /// `[batch, dim]`, or nothing where it was not asked for.
    pub x: Vec<F>,
    /// Weight and offset of each linear layer of each network.
    pub layers: Vec<(Vec<F>, Vec<F>)>,
}

/// The part of each level of each layer that one chunk of rows fills.
type Parts<'a, F> = Vec<Vec<&'a mut [F]>>;

/// Works on the items, over the threads where that pays, with results in their order.
fn map<T: Send, R: Send>(
    threads: bool,
    items: impl Iterator<Item = T>,
    work: impl Fn(T) -> R + Sync + Send,
) -> Vec<R> {
    if threads {
        items
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(work)
            .collect()
    } else {
        items.map(work).collect()
    }
}

impl<F: Real> Run<'_, F> {
    /// Variables.
    pub fn dim(&self) -> usize {
        self.networks[0].dim()
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.x.len() / self.dim()
    }

    /// Rows of a chunk: an even number of chunks of nearly equal size, whatever the number of threads.
    fn chunk_rows(&self) -> usize {
        let rows = self.rows();
        let chunks = rows.div_ceil(CHUNK_ROWS).next_multiple_of(2);
        rows.div_ceil(chunks).next_multiple_of(4).min(CHUNK_ROWS)
    }

    fn threads(&self) -> bool {
        let blocks: usize = self.networks.iter().map(Network::blocks).sum();
        let products = blocks * PANEL * PANEL * self.rows();
        rayon::current_num_threads() > 1 && products >= PRODUCTS
    }

    /// The layers that are worked on together, in the order of application.
    fn groups(&self) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        let mut numbers = 0;
        for (n, network) in self.networks.iter().enumerate() {
            let own = self.rows() * network.widths();
            match groups.last_mut() {
                Some(group) if numbers + own <= TOGETHER => {
                    group.end += 1;
                    numbers += own;
                }
                _ => {
                    groups.push(n..n + 1);
                    numbers = own;
                }
            }
        }
        groups
    }

    /// The parts of all levels, chunk by chunk.
    fn chunks<'b>(&self, levels: &'b mut [Vec<Buffer<F>>]) -> Vec<Parts<'b, F>> {
        let count = self.rows().div_ceil(self.chunk_rows());
        let mut chunks: Vec<Parts<'b, F>> = Vec::new();
        chunks.resize_with(count, || {
            let mut parts = Vec::new();
            parts.resize_with(levels.len(), Vec::new);
            parts
        });
        for (n, levels) in levels.iter_mut().enumerate() {
            for level in levels {
                let size = level.len() / self.rows() * self.chunk_rows();
                for (chunk, part) in chunks.iter_mut().zip(level.chunks_mut(size)) {
                    chunk[n].push(part);
                }
            }
        }
        chunks
    }

    /// Value and log-determinant side by side, `[batch, dim + 1]`.
    pub fn forward(&self) -> Vec<F> {
        let arch = Arch::new();
        let mut out = vec![F::default(); self.rows() * (self.dim() + 1)];
        for group in self.groups() {
            self.forward_group(arch, group, std::iter::repeat_with(|| None), &mut out);
        }
        out
    }

    /// As [`forward`](Self::forward), with what [`backward`](Self::backward) needs.
    pub fn forward_traced(&self) -> (Vec<F>, Trace<F>) {
        let arch = Arch::new();
        let mut out = vec![F::default(); self.rows() * (self.dim() + 1)];
        let mut trace = Vec::with_capacity(self.networks.len());
        for group in self.groups() {
            let networks = self.networks[group.clone()].iter();
            let mut levels: Vec<_> = networks.map(|n| n.levels(0, self.rows())).collect();
            let chunks = self.chunks(&mut levels).into_iter().map(Some);
            self.forward_group(arch, group, chunks, &mut out);
            trace.extend(levels);
        }
        (out, Trace(trace))
    }

    /// Some layers, of which the first reads the input and all others what lies in `out`.
    fn forward_group<'b>(
        &self,
        arch: Arch,
        group: Range<usize>,
        levels: impl Iterator<Item = Option<Parts<'b, F>>>,
        out: &mut [F],
    ) where
        F: 'b,
    {
        let threads = self.threads();
        let (rows, dim) = (self.chunk_rows(), self.dim());
        let order = self.order.filter(|_| group.end == self.networks.len());
        let is_first = group.start == 0;
        let networks = &self.networks[group];
        let packed = map(threads, networks.iter(), |network| network.pack(arch));
        let xs = self.x.chunks(rows * dim).map(|x| is_first.then_some(x));
        let outs = out.chunks_mut(rows * (dim + 1));
        let items = outs.zip(xs).zip(levels).enumerate();
        map(threads, items, |(index, ((out, x), levels))| {
            let chunk = ForwardChunk {
                networks,
                packed: &packed,
                first_row: index * rows,
                x,
                levels,
                out,
                order,
            };
            dispatch(arch, chunk);
        });
    }

    /// Gradients from the gradient of [`forward`](Self::forward)'s result; the one for `x` costs a product with
    /// the first layer, and is left empty where nobody asked for it.
    pub fn backward(&self, trace: &Trace<F>, output: &[F], wants_x: bool) -> Gradients<F> {
        let (arch, dim) = (Arch::new(), self.dim());
        let mut value = vec![F::default(); self.x.len()];
        for (value, output) in value
            .chunks_exact_mut(dim)
            .zip(output.chunks_exact(dim + 1))
        {
            value.copy_from_slice(&output[..dim]);
        }
        let mut layers = Vec::new();
        for group in self.groups().into_iter().rev() {
            let own = self.backward_group(arch, group, trace, output, wants_x, &mut value);
            layers.push(own);
        }
        Gradients {
            x: if wants_x { value } else { Vec::new() },
            layers: layers.into_iter().rev().flatten().collect(),
        }
    }

    /// Weight and offset gradients of some layers; `value` holds the gradient of their value, then that of their
    /// input.
    fn backward_group(
        &self,
        arch: Arch,
        group: Range<usize>,
        trace: &Trace<F>,
        output: &[F],
        wants_x: bool,
        value: &mut [F],
    ) -> Vec<(Vec<F>, Vec<F>)> {
        let threads = self.threads();
        let (rows, dim) = (self.chunk_rows(), self.dim());
        let order = self.order.filter(|_| group.end == self.networks.len());
        let networks = &self.networks[group.clone()];
        let trace = &trace.0[group.clone()];
        let skips_first = |n: usize| group.start + n == 0 && !wants_x;
        let items = networks.iter().enumerate();
        let transposed = map(threads, items, |(n, network): (usize, &Network<'_, F>)| {
            network.transpose(arch, usize::from(skips_first(n)))
        });
        let levels = networks.iter().map(|n| n.levels(1, self.rows()));
        let mut units: Vec<_> = levels.collect();
        let outputs = output.chunks(rows * (dim + 1));
        let values = value.chunks_mut(rows * dim).zip(outputs);
        let items = self.chunks(&mut units).into_iter().zip(values).enumerate();
        let sums = map(threads, items, |(index, (gradients, (value, output)))| {
            let chunk = BackwardChunk {
                networks,
                trace,
                transposed: &transposed,
                first_row: index * rows,
                output,
                gradients,
                value,
                order,
            };
            dispatch(arch, chunk)
        });
        let mut linear = Vec::new();
        for (n, network) in networks.iter().enumerate() {
            for (l, layer) in network.layers.iter().enumerate() {
                let sums = sums.iter().map(|chunk: &Vec<Vec<Vec<F>>>| &chunk[n][l][..]);
                linear.push(LinearGradient {
                    layer,
                    read: &trace[n][l],
                    computed: &units[n][l],
                    sums: sums.collect(),
                });
            }
        }
        let weights = self.weight_gradients(arch, &linear, threads);
        let offsets = linear.iter().map(|linear| self.offset_gradient(linear));
        weights.into_iter().zip(offsets).collect()
    }

    /// `dW = a^T d` for each linear layer, with `a` what it read and `d` the gradients of what it computed.
    fn weight_gradients(
        &self,
        arch: Arch,
        linear: &[LinearGradient<'_, F>],
        threads: bool,
    ) -> Vec<Vec<F>> {
        let weights = linear
            .iter()
            .map(|l| vec![F::default(); l.layer.weight.len()]);
        let mut weights: Vec<Vec<F>> = weights.collect();
        let items = weights.iter_mut().zip(linear).flat_map(|(weight, linear)| {
            let pattern = linear.layer.pattern;
            let size = WEIGHT_PANELS * PANEL * pattern.outputs();
            let blocks = weight.chunks_mut(size).enumerate();
            blocks.map(move |(block, out)| WeightBlock {
                pattern,
                rows: self.rows(),
                chunk_rows: self.chunk_rows(),
                read: linear.read,
                computed: linear.computed,
                panels: block * WEIGHT_PANELS..(block + 1) * WEIGHT_PANELS,
                out,
            })
        });
        map(threads, items, |block| dispatch(arch, block));
        weights
    }

    /// The gradient of the offset of a linear layer: that of its units, for a bias summed over the batch.
    fn offset_gradient(&self, linear: &LinearGradient<'_, F>) -> Vec<F> {
        let Layer {
            pattern,
            offset,
            with_context,
            ..
        } = linear.layer;
        let columns = pattern.columns;
        let mut gradient = vec![F::default(); offset.len()];
        if !with_context {
            for sums in &linear.sums {
                for (panel, sums) in sums.chunks_exact(PANEL).enumerate() {
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
        let chunks = linear.computed.chunks(rows * columns.panels() * PANEL);
        for (out, units) in gradient.chunks_mut(rows * columns.count()).zip(chunks) {
            let rows = out.len() / columns.count();
            for (panel, units) in units.chunks_exact(rows * PANEL).enumerate() {
                let segments = columns.segments(panel);
                let out = out.chunks_exact_mut(columns.count());
                for (out, units) in out.zip(units.chunks_exact(PANEL)) {
                    for &(within, column, count) in &segments {
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

/// What the gradients of a linear layer are made of, for the whole batch.
struct LinearGradient<'a, F> {
    layer: &'a Layer<'a, F>,
    /// What it read.
    read: &'a [F],
    /// Gradients of what it computed.
    computed: &'a [F],
    /// Their sums over each chunk.
    sums: Vec<&'a [F]>,
}
