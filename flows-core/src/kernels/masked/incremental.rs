//! The inverse of a masked affine layer, each hidden unit computed once, samples as SIMD lanes.
//!
//! A chunk of [`LANES`] samples goes through all levels at once, so that its activations stay in
//! cache; chunks are spread over threads. Each group of units is a small product of the units known so
//! far with a block of the weights, which are packed once in the order in which they are read.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::bijectors::LogScale;
use crate::nn::ConditionerActivation;

/// Samples that are worked on together: two vectors of 16, or four of 8.
const LANES: usize = 32;

/// One value of each sample of a chunk.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes([f32; LANES]);

const ZERO: Lanes = Lanes([0.0; LANES]);

/// A masked layer with units sorted by level.
pub(super) struct Layer {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// `[inputs, outputs]`, zero outside the mask.
    pub(super) weight: Vec<f32>,
    /// Bias and context, `[batch, outputs]` or `[1, outputs]`.
    pub(super) offset: Vec<f32>,
    /// The units of each level.
    pub(super) groups: Vec<Range<usize>>,
}

/// A layer with its weights in the order in which the levels read them.
struct Packed {
    layer: Layer,
    /// How many inputs are known at each level.
    known: Vec<usize>,
    /// For each level, tiles of up to four units: `[known inputs, units of the tile]`.
    weights: Vec<f32>,
}

impl Packed {
    fn new(layer: Layer, known: Vec<usize>) -> Self {
        let mut weights = Vec::new();
        for (group, &read) in layer.groups.iter().zip(&known) {
            for tile in tiles(group.clone()) {
                for row in layer.weight.chunks_exact(layer.outputs).take(read) {
                    weights.extend_from_slice(&row[tile.clone()]);
                }
            }
        }
        Self {
            layer,
            known,
            weights,
        }
    }
}

/// Cuts a group of units into tiles of 4, 2 and 1.
fn tiles(group: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = group.start;
    std::iter::from_fn(move || {
        let width = match group.end - start {
            0 => return None,
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        start += width;
        Some(start - width..start)
    })
}

/// The inverse of a layer for any batch.
pub(super) struct Incremental {
    layers: Vec<Packed>,
    variables: Vec<Range<usize>>,
    activation: ConditionerActivation,
    scale: LogScale,
}

/// Memory of one thread.
struct Scratch {
    /// What each layer reads.
    inputs: Vec<Vec<Lanes>>,
    parameters: Vec<Lanes>,
}

impl Incremental {
    /// `layers` in the order of application, the last one giving the parameters of each level's
    /// variables side by side.
    pub(super) fn new(
        layers: Vec<Layer>,
        variables: Vec<Range<usize>>,
        activation: ConditionerActivation,
        scale: LogScale,
    ) -> Self {
        let mut known: Vec<usize> = variables.iter().map(|own| own.start).collect();
        let layers = layers.into_iter().map(|layer| {
            let next = layer.groups.iter().map(|group| group.end).collect();
            Packed::new(layer, std::mem::replace(&mut known, next))
        });
        Self {
            layers: layers.collect(),
            variables,
            activation,
            scale,
        }
    }

    /// `x` and its log-determinant for `y`, `[batch, dim]`.
    pub(super) fn solve(&self, y: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let dim = self.layers[0].layer.inputs;
        let rows = y.len() / dim;
        let (mut x, mut log_det) = (vec![0.0; y.len()], vec![0.0; rows]);
        let arch = Arch::new();
        y.par_chunks(LANES * dim)
            .zip(x.par_chunks_mut(LANES * dim))
            .zip(log_det.par_chunks_mut(LANES))
            .enumerate()
            .for_each_init(
                || self.scratch(),
                |scratch, (chunk, ((y, x), log_det))| {
                    let first_row = chunk * LANES;
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

    fn scratch(&self) -> Scratch {
        let inputs = self.layers.iter().map(|l| vec![ZERO; l.layer.inputs]);
        let widest = self.layers.last().map_or(0, |l| l.layer.outputs);
        Scratch {
            inputs: inputs.collect(),
            parameters: vec![ZERO; widest],
        }
    }
}

/// Up to [`LANES`] rows of a batch.
struct Chunk<'a> {
    incremental: &'a Incremental,
    scratch: &'a mut Scratch,
    first_row: usize,
    y: &'a [f32],
    x: &'a mut [f32],
    log_det: &'a mut [f32],
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Incremental {
            layers,
            variables,
            activation,
            scale,
        } = self.incremental;
        let Scratch { inputs, parameters } = self.scratch;
        let dim = inputs[0].len();
        let rows = self.log_det.len();
        let last = layers.len() - 1;
        let mut cursors = vec![0; layers.len()];
        let mut log_det = ZERO;
        for (t, own) in variables.iter().enumerate() {
            for (l, layer) in layers.iter().enumerate() {
                let group = layer.layer.groups[t].clone();
                let (read, computed) = inputs.split_at_mut(l + 1);
                let read = &read[l][..layer.known[t]];
                let target = if l == last {
                    &mut parameters[..group.len()]
                } else {
                    &mut computed[0][group.clone()]
                };
                preset(&layer.layer, group.clone(), self.first_row, rows, target);
                let size = read.len() * group.len();
                let weights = &layer.weights[cursors[l]..cursors[l] + size];
                cursors[l] += size;
                accumulate(simd, read, weights, target);
                if l < last {
                    activate(*activation, target);
                }
            }
            let count = own.len();
            for (k, i) in own.clone().enumerate() {
                let mut y = ZERO;
                for (lane, row) in y.0.iter_mut().zip(self.y.chunks_exact(dim)) {
                    *lane = row[i];
                }
                let m = parameters[k];
                // Without a scale there is no second parameter.
                let s = parameters.get(count + k).copied().unwrap_or(ZERO);
                let x = &mut inputs[0][i];
                for lane in 0..LANES {
                    let (a, shift) = scale.affine_f32(m.0[lane], s.0[lane]);
                    x.0[lane] = (y.0[lane] - shift) * (-a).exp();
                    log_det.0[lane] -= a;
                }
                for (lane, row) in x.0.iter().zip(self.x.chunks_exact_mut(dim)) {
                    row[i] = *lane;
                }
            }
        }
        self.log_det.copy_from_slice(&log_det.0[..rows]);
    }
}

/// Bias and context of the units of a group.
#[inline(always)]
fn preset(layer: &Layer, group: Range<usize>, first_row: usize, rows: usize, target: &mut [Lanes]) {
    if layer.offset.len() == layer.outputs {
        for (unit, bias) in target.iter_mut().zip(&layer.offset[group]) {
            *unit = Lanes([*bias; LANES]);
        }
        return;
    }
    for (unit, u) in target.iter_mut().zip(group) {
        for (lane, row) in unit.0[..rows].iter_mut().zip(first_row..) {
            *lane = layer.offset[row * layer.outputs + u];
        }
    }
}

#[inline(always)]
fn activate(activation: ConditionerActivation, units: &mut [Lanes]) {
    for lane in units.iter_mut().flat_map(|unit| &mut unit.0) {
        *lane = match activation {
            // Not `max`, which would hide a NaN.
            ConditionerActivation::Relu => {
                if *lane < 0.0 {
                    0.0
                } else {
                    *lane
                }
            }
            ConditionerActivation::Tanh => lane.tanh(),
            ConditionerActivation::Elu => {
                if *lane < 0.0 {
                    lane.exp_m1()
                } else {
                    *lane
                }
            }
        };
    }
}

/// Adds to each unit of `target` the product of what is known with its weights.
#[inline(always)]
fn accumulate<S: Simd>(simd: S, known: &[Lanes], mut weights: &[f32], target: &mut [Lanes]) {
    for range in tiles(0..target.len()) {
        let (own, rest) = weights.split_at(known.len() * range.len());
        weights = rest;
        let tile = &mut target[range];
        match tile.len() {
            4 => accumulate_tile::<S, 4>(simd, known, own, tile),
            2 => accumulate_tile::<S, 2>(simd, known, own, tile),
            _ => accumulate_tile::<S, 1>(simd, known, own, tile),
        }
    }
}

/// [`accumulate`] for `U` units, whose sums stay in registers for two vectors of samples at a time.
#[inline(always)]
fn accumulate_tile<S: Simd, const U: usize>(
    simd: S,
    known: &[Lanes],
    weights: &[f32],
    target: &mut [Lanes],
) {
    let vectors = LANES / S::F32_LANES;
    for v in (0..vectors).step_by(2) {
        let mut sums = [[simd.splat_f32s(0.0); 2]; U];
        for (sum, unit) in sums.iter_mut().zip(target.iter()) {
            let unit = S::as_simd_f32s(&unit.0).0;
            *sum = [unit[v], unit[v + 1]];
        }
        for (x, weights) in known.iter().zip(weights.chunks_exact(U)) {
            let x = S::as_simd_f32s(&x.0).0;
            let (first, second) = (x[v], x[v + 1]);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                let weight = simd.splat_f32s(*weight);
                sum[0] = simd.mul_add_e_f32s(weight, first, sum[0]);
                sum[1] = simd.mul_add_e_f32s(weight, second, sum[1]);
            }
        }
        for (sum, unit) in sums.iter().zip(target.iter_mut()) {
            let unit = S::as_mut_simd_f32s(&mut unit.0).0;
            unit[v] = sum[0];
            unit[v + 1] = sum[1];
        }
    }
}
