//! The inverse of a masked layer, each hidden unit computed once, samples as SIMD lanes.
//!
//! A chunk of samples goes through all levels at once, so that its activations stay in cache; chunks are spread
//! over threads. Levels are taken in stages. What was known before a stage reaches all units of the stage in
//! one product with large tiles; what becomes known within it is added level by level, which is little. Weights
//! are packed once in the order in which they are read.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Activation;
use super::Map;
use super::buffer::Buffer;
use super::map::Room;
use super::pattern::Pattern;
use super::product::activate;
use crate::lanes::{CHUNK, Real};

/// Stages at most: each adds about `1 / (2 STAGES)` of the work in small products.
const STAGES: usize = 32;

/// Units of the widest tile.
const TILE: usize = 8;

/// A masked layer. Its inputs and outputs are counted sorted by level.
pub struct Layer<'a, F> {
    /// The mask.
    pub pattern: &'a Pattern,
    /// As stored, `[inputs, outputs]`; what lies outside the mask is not read.
    pub weight: &'a [F],
    /// Bias and context as stored, `[batch, outputs]` or `[outputs]`.
    pub offset: &'a [F],
    /// The stored row of each input, where that is another.
    pub rows: Option<&'a [usize]>,
    /// The stored column of each output, where that is another.
    pub columns: Option<&'a [usize]>,
    /// The outputs of each level.
    pub groups: Vec<Range<usize>>,
}

impl<F: Real> Layer<'_, F> {
    fn column(&self, output: usize) -> usize {
        self.columns.map_or(output, |columns| columns[output])
    }

    /// Appends the weights between `inputs` and a tile of outputs, zero outside the mask.
    fn pack(&self, inputs: Range<usize>, tile: Range<usize>, packed: &mut Vec<F>) {
        let outputs = self.pattern.outputs();
        let columns = tile.map(|output| self.column(output));
        let columns: Vec<_> = columns.map(|c| (c, self.pattern.readers(c))).collect();
        for input in inputs {
            let row = self.rows.map_or(input, |rows| rows[input]);
            let weights = &self.weight[row * outputs..(row + 1) * outputs];
            packed.extend(columns.iter().map(|&(column, (bits, place))| {
                let read = bits[row] >> place & 1 == 1;
                if read { weights[column] } else { F::default() }
            }));
        }
    }
}

/// A layer with its weights in the order in which the levels read them.
struct Packed<'a, F> {
    layer: Layer<'a, F>,
    /// How many inputs are known at each level.
    known: Vec<usize>,
    /// For each stage its tiles `[inputs, units of the tile]`: those of all its units and of what is known before it,
    /// then for each of its levels those of the level's units and of what became known since.
    weights: Vec<Vec<F>>,
}

impl<'a, F: Real> Packed<'a, F> {
    fn new(layer: Layer<'a, F>, known: Vec<usize>, stages: &[Range<usize>]) -> Self {
        let of_stage = |stage: &Range<usize>| {
            let before = known_before(&known, stage);
            let all = units(&layer.groups, stage);
            let mut weights = Vec::with_capacity(all.len() * known[stage.end - 1]);
            let mut pack = |units: Range<usize>, inputs: Range<usize>| {
                for tile in tiles(units) {
                    layer.pack(inputs.clone(), tile, &mut weights);
                }
            };
            pack(all, 0..before);
            for t in stage.clone() {
                pack(layer.groups[t].clone(), before..known[t]);
            }
            weights
        };
        let weights = stages.par_iter().map(of_stage).collect();
        Self {
            layer,
            known,
            weights,
        }
    }
}

/// How many inputs no level of the stage makes known.
fn known_before(known: &[usize], stage: &Range<usize>) -> usize {
    stage.start.checked_sub(1).map_or(0, |t| known[t])
}

/// The units of a stage.
fn units(groups: &[Range<usize>], stage: &Range<usize>) -> Range<usize> {
    groups[stage.start].start..groups[stage.end - 1].end
}

/// Cuts units into tiles of [`TILE`], 4, 2 and 1.
fn tiles(units: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = units.start;
    std::iter::from_fn(move || {
        let width = match units.end - start {
            0 => return None,
            1 => 1,
            2 | 3 => 2,
            4..TILE => 4,
            _ => TILE,
        };
        start += width;
        Some(start - width..start)
    })
}

/// The inverse of a layer for any batch.
pub struct Incremental<'a, F> {
    layers: Vec<Packed<'a, F>>,
    variables: &'a [Range<usize>],
    /// Ranges of levels.
    stages: Vec<Range<usize>>,
    activation: Activation,
    map: Map,
}

/// Memory of one thread, [`CHUNK`] numbers for each unit.
struct Scratch<F> {
    /// What each layer reads.
    inputs: Vec<Buffer<F>>,
    /// The parameters of a stage.
    parameters: Buffer<F>,
}

impl<'a, F: Real> Incremental<'a, F> {
    /// `layers` in the order of application, the last one giving the parameters of each level's
    /// variables side by side.
    pub fn new(
        layers: Vec<Layer<'a, F>>,
        variables: &'a [Range<usize>],
        activation: Activation,
        map: Map,
    ) -> Self {
        let depth = variables.len();
        let size = depth.div_ceil(STAGES);
        let stages = (0..depth).step_by(size).map(|t| t..depth.min(t + size));
        let stages: Vec<_> = stages.collect();
        let mut known: Vec<usize> = variables.iter().map(|own| own.start).collect();
        let layers = layers.into_iter().map(|layer| {
            let next = layer.groups.iter().map(|group| group.end).collect();
            Packed::new(layer, std::mem::replace(&mut known, next), &stages)
        });
        Self {
            layers: layers.collect(),
            variables,
            stages,
            activation,
            map,
        }
    }

    /// `x` and its log-determinant for `y`, `[batch, dim]`.
    pub fn solve(&self, y: &[F]) -> (Vec<F>, Vec<F>) {
        let dim = self.layers[0].layer.pattern.inputs();
        let rows = y.len() / dim;
        let zeros = |len| vec![F::default(); len];
        let (mut x, mut log_det) = (zeros(y.len()), zeros(rows));
        let arch = Arch::new();
        y.par_chunks(CHUNK * dim)
            .zip(x.par_chunks_mut(CHUNK * dim))
            .zip(log_det.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each_init(
                || self.scratch(),
                |scratch, (chunk, ((y, x), log_det))| {
                    let first_row = chunk * CHUNK;
                    let incremental = self;
                    arch.dispatch(Chunk {
                        incremental,
                        scratch,
                        first_row,
                        y,
                        x,
                        log_det,
                    });
                },
            );
        (x, log_det)
    }

    fn scratch(&self) -> Scratch<F> {
        let rows = |count: usize| Buffer::zeros(count * CHUNK);
        let parameters = self.layers.last().into_iter().flat_map(|last| {
            let groups = &last.layer.groups;
            self.stages.iter().map(|stage| units(groups, stage).len())
        });
        let inputs = self.layers.iter().map(|l| l.layer.pattern.inputs());
        Scratch {
            inputs: inputs.map(rows).collect(),
            parameters: rows(parameters.max().unwrap_or(0)),
        }
    }
}

/// Up to [`CHUNK`] rows of a batch.
struct Chunk<'a, F> {
    incremental: &'a Incremental<'a, F>,
    scratch: &'a mut Scratch<F>,
    first_row: usize,
    y: &'a [F],
    x: &'a mut [F],
    log_det: &'a mut [F],
}

impl<F: Real> WithSimd for Chunk<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Incremental {
            layers,
            stages,
            activation,
            ..
        } = self.incremental;
        let rows = self.log_det.len();
        let last = layers.len() - 1;
        let mut rest: Vec<&[F]> = vec![&[]; layers.len()];
        let mut log_det = [F::default(); CHUNK];
        let mut room = Room::<F, S>::new(simd);
        for (s, stage) in stages.iter().enumerate() {
            for (rest, layer) in rest.iter_mut().zip(layers) {
                *rest = &layer.weights[s];
            }
            for (l, layer) in layers.iter().enumerate() {
                let all = units(&layer.layer.groups, stage);
                let before = known_before(&layer.known, stage);
                let own = self.place(l, stage, &all);
                let (read, target) = self.scratch.ends(l, own);
                preset(&layer.layer, all, self.first_row, rows, target);
                accumulate::<F, S>(simd, &read[..before * CHUNK], &mut rest[l], target);
            }
            for t in stage.clone() {
                for (l, layer) in layers.iter().enumerate() {
                    let since = known_before(&layer.known, stage)..layer.known[t];
                    let own = self.place(l, stage, &layer.layer.groups[t]);
                    let (read, target) = self.scratch.ends(l, own);
                    let read = &read[since.start * CHUNK..since.end * CHUNK];
                    accumulate::<F, S>(simd, read, &mut rest[l], target);
                    if l < last {
                        for unit in F::vectors_mut::<S>(target) {
                            *unit = activate::<F, S>(simd, *activation, *unit);
                        }
                    }
                }
                let first = self.place(last, stage, &layers[last].layer.groups[t]).start;
                self.reveal::<S>(simd, (t, first), &mut room, &mut log_det);
            }
        }
        self.log_det.copy_from_slice(&log_det[..rows]);
    }
}

impl<F: Real> Scratch<F> {
    /// What layer `layer` reads, and some of what it computes.
    #[inline(always)]
    fn ends(&mut self, layer: usize, own: Range<usize>) -> (&[F], &mut [F]) {
        let (read, computed) = self.inputs.split_at_mut(layer + 1);
        let target = computed.first_mut().unwrap_or(&mut self.parameters);
        (
            &read[layer],
            &mut target[own.start * CHUNK..own.end * CHUNK],
        )
    }
}

impl<F: Real> Chunk<'_, F> {
    /// Where units of layer `layer` lie in the scratch memory: parameters are kept for one stage only.
    #[inline(always)]
    fn place(&self, layer: usize, stage: &Range<usize>, own: &Range<usize>) -> Range<usize> {
        let layers = &self.incremental.layers;
        if layer + 1 < layers.len() {
            return own.clone();
        }
        let first = units(&layers[layer].layer.groups, stage).start;
        own.start - first..own.end - first
    }

    /// Computes the variables of level `t` from their parameters, which start at unit `first`.
    #[inline(always)]
    fn reveal<S: Simd>(
        &mut self,
        simd: S,
        (t, first): (usize, usize),
        room: &mut Room<F, S>,
        log_det: &mut [F],
    ) {
        let Incremental { variables, map, .. } = self.incremental;
        let Scratch { inputs, parameters } = &mut *self.scratch;
        let dim = inputs[0].len() / CHUNK;
        let own = variables[t].clone();
        let lanes = F::lanes::<S>();
        for (k, i) in own.clone().enumerate() {
            let x = &mut inputs[0][i * CHUNK..(i + 1) * CHUNK];
            for (lane, row) in x.iter_mut().zip(self.y.chunks_exact(dim)) {
                *lane = row[i];
            }
            for at in (0..CHUNK).step_by(lanes) {
                for (kind, vector) in room.raw[..map.kinds()].iter_mut().enumerate() {
                    let start = (first + kind * own.len() + k) * CHUNK + at;
                    *vector = F::vectors::<S>(&parameters[start..start + lanes])[0];
                }
                let x = &mut F::vectors_mut::<S>(&mut x[at..at + lanes])[0];
                let sum = &mut F::vectors_mut::<S>(&mut log_det[at..at + lanes])[0];
                let [value, log_slope] = map.inverse(simd, room, *x);
                *x = value;
                *sum = F::add(simd, *sum, log_slope);
            }
            for (lane, row) in x.iter().zip(self.x.chunks_exact_mut(dim)) {
                row[i] = *lane;
            }
        }
    }
}

/// Bias and context of some units.
#[inline(always)]
fn preset<F: Real>(
    layer: &Layer<'_, F>,
    units: Range<usize>,
    first_row: usize,
    rows: usize,
    target: &mut [F],
) {
    let outputs = layer.pattern.outputs();
    for (unit, u) in target.chunks_exact_mut(CHUNK).zip(units) {
        let column = layer.column(u);
        if layer.offset.len() == outputs {
            unit.fill(layer.offset[column]);
            continue;
        }
        for (lane, row) in unit[..rows].iter_mut().zip(first_row..) {
            *lane = layer.offset[row * outputs + column];
        }
    }
}

/// Adds to each unit of `target` the product of `known` with the next of the packed weights.
#[inline(always)]
fn accumulate<F: Real, S: Simd>(simd: S, known: &[F], weights: &mut &[F], target: &mut [F]) {
    if known.is_empty() {
        return;
    }
    for range in tiles(0..target.len() / CHUNK) {
        let size = known.len() / CHUNK * range.len();
        let (own, rest) = weights.split_at(size);
        *weights = rest;
        let tile = &mut target[range.start * CHUNK..range.end * CHUNK];
        match range.len() {
            TILE if S::REGISTER_COUNT >= 32 => {
                accumulate_tile::<F, S, TILE, 2, 1>(simd, known, own, tile);
            }
            TILE => accumulate_tile::<F, S, TILE, 1, 1>(simd, known, own, tile),
            4 => accumulate_tile::<F, S, 4, 2, 1>(simd, known, own, tile),
            2 => accumulate_tile::<F, S, 2, 2, 2>(simd, known, own, tile),
            _ => accumulate_tile::<F, S, 1, 2, 4>(simd, known, own, tile),
        }
    }
}

/// [`accumulate`] for `U` units, whose sums stay in registers for `NV` vectors of samples at a time. Few units
/// have `SUMS` sums each: one alone would wait for itself.
#[inline(always)]
fn accumulate_tile<F: Real, S: Simd, const U: usize, const NV: usize, const SUMS: usize>(
    simd: S,
    known: &[F],
    weights: &[F],
    target: &mut [F],
) {
    let step = NV * F::lanes::<S>();
    for at in (0..CHUNK).step_by(step) {
        assert!(at + step <= CHUNK);
        let mut sums = [[[F::splat(simd, F::default()); NV]; U]; SUMS];
        for (sum, unit) in sums[0].iter_mut().zip(target.chunks_exact(CHUNK)) {
            sum.copy_from_slice(F::vectors::<S>(&unit[at..at + step]));
        }
        let inputs = known.chunks_exact(SUMS * CHUNK);
        let left = inputs.remainder().chunks_exact(CHUNK);
        let weights = weights.chunks_exact(SUMS * U);
        let weights_left = weights.remainder().chunks_exact(U);
        for (x, w) in inputs.zip(weights) {
            for (k, sums) in sums.iter_mut().enumerate() {
                let x = F::vectors::<S>(&x[k * CHUNK + at..][..step]);
                for u in 0..U {
                    let w = F::splat(simd, w[k * U + u]);
                    for v in 0..NV {
                        sums[u][v] = F::fma(simd, w, x[v], sums[u][v]);
                    }
                }
            }
        }
        for (x, w) in left.zip(weights_left) {
            let x = F::vectors::<S>(&x[at..at + step]);
            for u in 0..U {
                let w = F::splat(simd, w[u]);
                for v in 0..NV {
                    sums[0][u][v] = F::fma(simd, w, x[v], sums[0][u][v]);
                }
            }
        }
        let (total, others) = sums.split_at_mut(1);
        for other in others.iter() {
            for u in 0..U {
                for v in 0..NV {
                    total[0][u][v] = F::add(simd, total[0][u][v], other[u][v]);
                }
            }
        }
        for (sum, unit) in total[0].iter().zip(target.chunks_exact_mut(CHUNK)) {
            F::vectors_mut::<S>(&mut unit[at..at + step]).copy_from_slice(sum);
        }
    }
}
