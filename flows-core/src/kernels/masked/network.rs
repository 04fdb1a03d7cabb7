//! A masked affine layer over a batch: network, scale, shift and log-determinant, and their gradients.
//!
//! Forward, a chunk of rows goes through the whole layer while it is in the cache. Backward, chunks give the
//! gradients of all units first, then blocks of weight rows are computed, each over the whole batch: no sum
//! depends on which thread did what. Between the two the activations are kept.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::affine::Affine;
use super::buffer::Buffer;
use super::packed::{Packed, retain};
use super::pattern::{PANEL, Pattern};
use super::product::{Rows, outer, product};
use crate::bijectors::LogScale;
use crate::kernels::lanes::{Real, dispatch, load, store};
use crate::nn::ConditionerActivation;

/// Rows of a chunk at most: a multiple of the tallest tile. Its activations fit the second-level cache.
const CHUNK_ROWS: usize = 96;

/// Rows over which a block of weight gradients is summed before the next block comes to them.
const SAMPLES: usize = 128;

/// Rows of a block of weight gradients: with all columns they fit the second-level cache.
const WEIGHT_ROWS: usize = 96;

/// Products below which threads cost more than they bring.
const PRODUCTS: usize = 2_000_000;

/// One masked linear layer.
pub(crate) struct Layer<'a, F> {
    pub(crate) pattern: &'a Pattern,
    /// `[inputs, outputs]`; read inside the mask only.
    pub(crate) weight: &'a [F],
    /// Bias and context, `[batch, outputs]` or `[1, outputs]`.
    pub(crate) offset: &'a [F],
}

/// A masked affine layer and its batch.
pub(crate) struct Network<'a, F> {
    /// In the order of application; the last gives shifts, then raw scales.
    pub(crate) layers: Vec<Layer<'a, F>>,
    pub(crate) activation: ConditionerActivation,
    pub(crate) scale: LogScale,
    /// `[batch, dim]`
    pub(crate) x: &'a [F],
}

/// What each layer computed, rows of padded columns: units after their activation, raw outputs at last.
pub(crate) struct Trace<F>(Vec<Buffer<F>>);

/// Gradients in the shapes of what they belong to.
pub(crate) struct Gradients<F> {
    pub(crate) x: Vec<F>,
    /// Weight and offset of each layer.
    pub(crate) layers: Vec<(Vec<F>, Vec<F>)>,
}

/// Hands out the items, over the threads where that pays.
fn for_each<T: Send>(threads: bool, items: Vec<T>, work: impl Fn(T) + Sync + Send) {
    if threads {
        items.into_par_iter().for_each(work);
    } else {
        items.into_iter().for_each(work);
    }
}

/// As [`for_each`], with results in the order of the items.
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
    fn dim(&self) -> usize {
        self.layers[0].pattern.inputs
    }

    fn rows(&self) -> usize {
        self.x.len() / self.dim()
    }

    /// Rows of a chunk: an even number of chunks of nearly equal size, whatever the number of threads.
    fn chunk_rows(&self) -> usize {
        let rows = self.rows();
        let chunks = rows.div_ceil(CHUNK_ROWS).next_multiple_of(2);
        rows.div_ceil(chunks).next_multiple_of(12).min(CHUNK_ROWS)
    }

    fn threads(&self) -> bool {
        let products: usize = self.layers.iter().map(|l| l.pattern.products()).sum();
        rayon::current_num_threads() > 1 && products * self.rows() >= PRODUCTS
    }

    fn stride(&self, layer: usize) -> usize {
        self.layers[layer].pattern.columns.stride()
    }

    /// Zeros for what each layer computes from `rows` rows.
    fn buffers(&self, rows: usize) -> Vec<Buffer<F>> {
        let layers = 0..self.layers.len();
        layers
            .map(|l| Buffer::zeros(rows * self.stride(l)))
            .collect()
    }

    /// Parts of each layer's buffer, chunk by chunk.
    fn chunks<'b>(&self, buffers: &'b mut [Buffer<F>]) -> Vec<Vec<&'b mut [F]>> {
        let rows = self.chunk_rows();
        let mut chunks: Vec<Vec<&mut [F]>> = Vec::new();
        chunks.resize_with(self.rows().div_ceil(rows), Vec::new);
        for (l, buffer) in buffers.iter_mut().enumerate() {
            for (chunk, part) in chunks
                .iter_mut()
                .zip(buffer.chunks_mut(rows * self.stride(l)))
            {
                chunk.push(part);
            }
        }
        chunks
    }

    fn pack(&self, threads: bool) -> Vec<Packed<F>> {
        let layers: Vec<_> = self.layers.iter().collect();
        map(threads, layers, |l| Packed::new(l.pattern, l.weight))
    }

    /// Value and log-determinant side by side, `[batch, dim + 1]`.
    pub(crate) fn forward(&self, arch: Arch) -> Vec<F> {
        let threads = self.threads();
        let packed = self.pack(threads);
        let (rows, columns) = (self.chunk_rows(), self.dim() + 1);
        let mut out = vec![F::default(); self.rows() * columns];
        let chunks = out.chunks_mut(rows * columns).enumerate().collect();
        for_each(threads, chunks, |(index, out)| {
            let mut buffers = self.buffers(out.len() / columns);
            let computed = buffers.iter_mut().map(|buffer| &mut **buffer).collect();
            self.forward_chunk(arch, &packed, index, computed, out);
        });
        out
    }

    /// As [`forward`](Self::forward), with what [`backward`](Self::backward) needs.
    pub(crate) fn forward_traced(&self, arch: Arch) -> (Vec<F>, Trace<F>) {
        let threads = self.threads();
        let packed = self.pack(threads);
        let (rows, columns) = (self.chunk_rows(), self.dim() + 1);
        let mut out = vec![F::default(); self.rows() * columns];
        let mut trace = self.buffers(self.rows());
        let outs = out.chunks_mut(rows * columns).enumerate();
        let chunks = outs.zip(self.chunks(&mut trace)).collect();
        for_each(threads, chunks, |((index, out), computed)| {
            self.forward_chunk(arch, &packed, index, computed, out);
        });
        (out, Trace(trace))
    }

    fn forward_chunk(
        &self,
        arch: Arch,
        packed: &[Packed<F>],
        index: usize,
        computed: Vec<&mut [F]>,
        out: &mut [F],
    ) {
        let network = self;
        let chunk = ForwardChunk {
            network,
            packed,
            first_row: index * self.chunk_rows(),
            computed,
            out,
        };
        dispatch(arch, chunk);
    }

    /// Gradients from the gradient of [`forward`](Self::forward)'s result; the one for `x` costs a product with
    /// the first layer, and is left empty where nobody asked for it.
    pub(crate) fn backward(
        &self,
        arch: Arch,
        trace: &Trace<F>,
        output: &[F],
        wants_x: bool,
    ) -> Gradients<F> {
        let threads = self.threads();
        let skipped = usize::from(!wants_x);
        let transposed: Vec<Packed<F>> = map(
            threads,
            self.layers.iter().skip(skipped).collect(),
            |layer| Packed::transposed(layer.pattern, layer.weight),
        );
        let (rows, dim) = (self.chunk_rows(), self.dim());
        let mut units = self.buffers(self.rows());
        let mut x = vec![F::default(); if wants_x { self.x.len() } else { 0 }];
        let mut parts: Vec<&mut [F]> = x.chunks_mut(rows * dim).collect();
        let chunks = self.chunks(&mut units);
        parts.resize_with(chunks.len(), Default::default);
        let items = chunks.into_iter().zip(parts).enumerate().collect();
        let biases = map(threads, items, |(index, (gradients, x))| {
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
        let offsets = (0..self.layers.len()).map(|l| self.offset_gradient(l, &units[l], &biases));
        Gradients {
            x,
            layers: weights.into_iter().zip(offsets).collect(),
        }
    }

    /// `dW = a^T d` for each layer, with `a` what it read and `d` the gradients of what it computed.
    fn weight_gradients(
        &self,
        arch: Arch,
        trace: &Trace<F>,
        units: &[Buffer<F>],
        threads: bool,
    ) -> Vec<Vec<F>> {
        let zeros = self
            .layers
            .iter()
            .map(|l| vec![F::default(); l.weight.len()]);
        let mut gradients: Vec<Vec<F>> = zeros.collect();
        let mut blocks = Vec::new();
        for (l, gradient) in gradients.iter_mut().enumerate() {
            let pattern = self.layers[l].pattern;
            let read = match l.checked_sub(1) {
                None => Rows {
                    numbers: self.x,
                    stride: self.dim(),
                },
                Some(before) => Rows {
                    numbers: &trace.0[before],
                    stride: self.stride(before),
                },
            };
            let computed = Rows {
                numbers: &units[l],
                stride: self.stride(l),
            };
            let size = WEIGHT_ROWS * pattern.columns.count();
            for (block, out) in gradient.chunks_mut(size).enumerate() {
                blocks.push(WeightBlock {
                    pattern,
                    read,
                    computed,
                    first: block * WEIGHT_ROWS,
                    out,
                });
            }
        }
        for_each(threads, blocks, |block| dispatch(arch, block));
        gradients
    }

    /// The gradient of a layer's offset: that of its units, summed over the batch for a bias.
    fn offset_gradient(&self, layer: usize, units: &[F], biases: &[Vec<Vec<F>>]) -> Vec<F> {
        let Layer {
            pattern, offset, ..
        } = &self.layers[layer];
        let columns = pattern.columns;
        let mut gradient = vec![F::default(); offset.len()];
        if offset.len() == columns.count() {
            for chunk in biases {
                for (stored, column, count) in columns.segments(0..columns.stored()) {
                    let sums = &chunk[layer][stored..stored + count];
                    for (out, &sum) in gradient[column..column + count].iter_mut().zip(sums) {
                        *out = out.plus(sum);
                    }
                }
            }
            return gradient;
        }
        let rows = gradient.chunks_exact_mut(columns.count());
        for (out, units) in rows.zip(units.chunks_exact(columns.stride())) {
            for (stored, column, count) in columns.segments(0..columns.stored()) {
                out[column..column + count].copy_from_slice(&units[stored..stored + count]);
            }
        }
        gradient
    }
}

/// The forward pass of some rows.
struct ForwardChunk<'a, F> {
    network: &'a Network<'a, F>,
    packed: &'a [Packed<F>],
    first_row: usize,
    /// What each layer computes, for these rows.
    computed: Vec<&'a mut [F]>,
    out: &'a mut [F],
}

impl<F: Real> WithSimd for ForwardChunk<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            network,
            packed,
            first_row,
            mut computed,
            out,
        } = self;
        let dim = network.dim();
        let rows = out.len() / (dim + 1);
        let x = &network.x[first_row * dim..(first_row + rows) * dim];
        let last = network.layers.len() - 1;
        for (l, layer) in network.layers.iter().enumerate() {
            let (before, own) = computed.split_at_mut(l);
            let read = match before.last() {
                None => Rows {
                    numbers: x,
                    stride: dim,
                },
                Some(units) => Rows {
                    numbers: units,
                    stride: network.stride(l - 1),
                },
            };
            let stride = network.stride(l);
            preset(layer, first_row, own[0]);
            product::<F, S>(simd, read, &packed[l], rows, own[0], stride);
            if l < last {
                activate::<F, S>(simd, network.activation, own[0]);
            }
        }
        let columns = network.layers[last].pattern.columns;
        let raw = computed[last].chunks_exact(columns.stride());
        let samples = x.chunks_exact(dim).zip(out.chunks_exact_mut(dim + 1));
        for (raw, (x, out)) in raw.zip(samples) {
            let lanes = F::lanes::<S>();
            let mut sum = F::default();
            for first in (0..dim).step_by(lanes) {
                let count = lanes.min(dim - first);
                let (m, s) = raw_outputs::<F, S>(raw, columns.start(1), first);
                let affine = Affine::<F, S>::new(simd, network.scale, m, s);
                let scale = F::exp(simd, affine.log_scale);
                let x = load::<F, S>(simd, &x[first..first + count]);
                let y = F::fma(simd, x, scale, affine.shift);
                store::<F, S>(y, &mut out[first..first + count]);
                sum = sum.plus(sum_of::<F, S>(simd, affine.log_scale, count));
            }
            out[dim] = sum;
        }
    }
}

/// The backward pass of some rows, down to the gradients of all units. Returns their sums over these rows.
struct BackwardChunk<'a, F> {
    network: &'a Network<'a, F>,
    trace: &'a Trace<F>,
    /// Of all layers, or of all but the first.
    transposed: &'a [Packed<F>],
    first_row: usize,
    output: &'a [F],
    /// Of what each layer computes, for these rows.
    gradients: Vec<&'a mut [F]>,
    /// Empty if not asked for.
    x: &'a mut [F],
}

impl<F: Real> WithSimd for BackwardChunk<'_, F> {
    type Output = Vec<Vec<F>>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Vec<Vec<F>> {
        self.affine::<S>(simd);
        let Self {
            network,
            trace,
            transposed,
            first_row,
            mut gradients,
            x,
            ..
        } = self;
        let dim = network.dim();
        let last = network.layers.len() - 1;
        let skipped = network.layers.len() - transposed.len();
        let rows = gradients[last].len() / network.stride(last);
        for l in (0..last).rev() {
            let (own, above) = gradients.split_at_mut(l + 1);
            let (stride, stride_above) = (network.stride(l), network.stride(l + 1));
            let from = Rows {
                numbers: &*above[0],
                stride: stride_above,
            };
            product::<F, S>(
                simd,
                from,
                &transposed[l + 1 - skipped],
                rows,
                own[l],
                stride,
            );
            let units = &trace.0[l][first_row * stride..(first_row + rows) * stride];
            slope::<F, S>(simd, network.activation, units, own[l]);
        }
        if !x.is_empty() {
            let stride = network.dim().next_multiple_of(PANEL);
            let mut through = Buffer::zeros(rows * stride);
            let from = Rows {
                numbers: &*gradients[0],
                stride: network.stride(0),
            };
            product::<F, S>(simd, from, &transposed[0], rows, &mut through, stride);
            for (x, through) in x.chunks_exact_mut(dim).zip(through.chunks_exact(stride)) {
                for (x, &through) in x.iter_mut().zip(through) {
                    *x = x.plus(through);
                }
            }
        }
        let sums = gradients.iter().enumerate().map(|(l, units)| {
            let stride = network.stride(l);
            let mut sums = vec![F::default(); stride];
            for row in units.chunks_exact(stride) {
                let row = F::vectors::<S>(row).iter();
                for (sum, &value) in F::vectors_mut::<S>(&mut sums).iter_mut().zip(row) {
                    *sum = F::add(simd, *sum, value);
                }
            }
            sums
        });
        sums.collect()
    }
}

impl<F: Real> BackwardChunk<'_, F> {
    /// Gradients of the raw outputs, and what reaches `x` directly.
    #[inline(always)]
    fn affine<S: Simd>(&mut self, simd: S) {
        let network = self.network;
        let dim = network.dim();
        let last = network.layers.len() - 1;
        let columns = network.layers[last].pattern.columns;
        let (stride, scales) = (columns.stride(), columns.start(1));
        let additive = network.scale == LogScale::Additive;
        let lanes = F::lanes::<S>();
        for (r, gradient) in self.gradients[last].chunks_exact_mut(stride).enumerate() {
            let row = self.first_row + r;
            let raw = &self.trace.0[last][row * stride..(row + 1) * stride];
            let input = &network.x[row * dim..(row + 1) * dim];
            let output = &self.output[row * (dim + 1)..(row + 1) * (dim + 1)];
            let log_det = F::splat(simd, output[dim]);
            for first in (0..dim).step_by(lanes) {
                let count = lanes.min(dim - first);
                let (m, s) = raw_outputs::<F, S>(raw, scales, first);
                let affine = Affine::<F, S>::new(simd, network.scale, m, s);
                let scale = F::exp(simd, affine.log_scale);
                let x = load::<F, S>(simd, &input[first..first + count]);
                let y = load::<F, S>(simd, &output[first..first + count]);
                let scaled = F::mul(simd, y, scale);
                let by_log_scale = F::fma(simd, scaled, x, log_det);
                let by_shift = F::mul(simd, y, affine.shift_by_s);
                let by_s = F::fma(simd, by_log_scale, affine.slope, by_shift);
                let by_m = F::mul(simd, y, affine.shift_by_m);
                store::<F, S>(by_m, &mut gradient[first..first + count]);
                if !additive {
                    store::<F, S>(by_s, &mut gradient[scales + first..scales + first + count]);
                }
                if !self.x.is_empty() {
                    let at = r * dim + first;
                    store::<F, S>(scaled, &mut self.x[at..at + count]);
                }
            }
        }
    }
}

/// Some rows of a layer's weight gradient.
struct WeightBlock<'a, F> {
    pattern: &'a Pattern,
    /// What the layer read, for the whole batch.
    read: Rows<'a, F>,
    /// Gradients of what it computed.
    computed: Rows<'a, F>,
    /// The first row of the block.
    first: usize,
    /// The rows, without padding.
    out: &'a mut [F],
}

impl<F: Real> WithSimd for WeightBlock<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.pattern.columns;
        let stride = columns.stride();
        let rows = self.out.len() / columns.count();
        let mut sums = Buffer::zeros(rows * stride);
        let samples = self.computed.numbers.chunks(SAMPLES * stride);
        let reads = self.read.numbers.chunks(SAMPLES * self.read.stride);
        for (computed, read) in samples.zip(reads) {
            for (panel, runs) in self.pattern.runs.iter().enumerate() {
                let column = panel * PANEL;
                for run in runs {
                    let from = run.start.max(self.first);
                    let to = run.end.min(self.first + rows);
                    if from >= to {
                        continue;
                    }
                    let read = Rows {
                        numbers: &read[from..],
                        ..self.read
                    };
                    let computed = Rows {
                        numbers: &computed[column..],
                        stride,
                    };
                    let out = &mut sums[(from - self.first) * stride + column..];
                    outer::<F, S>(simd, read, to - from, computed, out, stride);
                }
            }
        }
        let outputs = self.out.chunks_exact_mut(columns.count());
        for (row, (out, sums)) in outputs.zip(sums.chunks_exact_mut(stride)).enumerate() {
            for panel in 0..self.pattern.runs.len() {
                let range = panel * PANEL..(panel + 1) * PANEL;
                let bits = self.pattern.bits(panel)[self.first + row];
                retain(&mut sums[range.clone()], bits);
                for (stored, column, count) in columns.segments(range) {
                    out[column..column + count].copy_from_slice(&sums[stored..stored + count]);
                }
            }
        }
    }
}

/// Bias and context of the units, zeros in the padding.
#[inline(always)]
fn preset<F: Real>(layer: &Layer<'_, F>, first_row: usize, units: &mut [F]) {
    let columns = layer.pattern.columns;
    let count = columns.count();
    for (row, units) in units.chunks_exact_mut(columns.stride()).enumerate() {
        let offset = if layer.offset.len() == count {
            layer.offset
        } else {
            &layer.offset[(first_row + row) * count..]
        };
        for (stored, column, count) in columns.segments(0..columns.stored()) {
            units[stored..stored + count].copy_from_slice(&offset[column..column + count]);
        }
    }
}

#[inline(always)]
fn activate<F: Real, S: Simd>(simd: S, activation: ConditionerActivation, units: &mut [F]) {
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

/// Multiplies by the slope of the activation, which follows from its value.
#[inline(always)]
fn slope<F: Real, S: Simd>(
    simd: S,
    activation: ConditionerActivation,
    units: &[F],
    gradients: &mut [F],
) {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    let gradients = F::vectors_mut::<S>(gradients).iter_mut();
    for (g, &u) in gradients.zip(F::vectors::<S>(units)) {
        *g = match activation {
            ConditionerActivation::Relu => F::where_less(simd, zero, u, *g, zero),
            ConditionerActivation::Tanh => F::mul(simd, *g, F::fnma(simd, u, u, one)),
            ConditionerActivation::Elu => {
                let below = F::mul(simd, *g, F::add(simd, u, one));
                F::where_less(simd, u, zero, below, *g)
            }
        };
    }
}

/// Raw shifts and scales of one vector of variables; without scales the shifts stand in.
#[inline(always)]
fn raw_outputs<F: Real, S: Simd>(raw: &[F], scales: usize, first: usize) -> (F::V<S>, F::V<S>) {
    let lanes = F::lanes::<S>();
    let vector = |at: usize| F::vectors::<S>(&raw[at..at + lanes])[0];
    let m = vector(first);
    let s = if scales + first + lanes <= raw.len() {
        vector(scales + first)
    } else {
        m
    };
    (m, s)
}

/// The sum of the first `count` numbers of a vector.
#[inline(always)]
fn sum_of<F: Real, S: Simd>(simd: S, vector: F::V<S>, count: usize) -> F {
    if count == F::lanes::<S>() {
        return F::sum(simd, vector);
    }
    let all: &[F] = pulp::bytemuck::cast_slice(std::slice::from_ref(&vector));
    all[..count].iter().fold(F::default(), |a, &b| a.plus(b))
}
