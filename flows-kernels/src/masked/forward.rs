//! The forward pass of some rows through masked layers.

use pulp::{Simd, WithSimd};

use super::map::Room;
use super::network::{Layer, Network, collect, position};
use super::packed::Packed;
use super::pattern::{Columns, PANEL};
use super::product::{Finish, Start, product};
use super::tile::Tile;
use crate::lanes::{Real, copy};

/// The rows from `first_row` on.
pub(super) struct ForwardChunk<'a, F> {
    pub(super) networks: &'a [Network<'a, F>],
    /// The weights of each network.
    pub(super) packed: &'a [Vec<Packed<'a, F>>],
    pub(super) first_row: usize,
    /// The input of these rows, `[rows, dim]`; none where it is the value in `out`.
    pub(super) x: Option<&'a [F]>,
    /// Room for the levels of each network, where they are read later.
    pub(super) levels: Option<Vec<Vec<&'a mut [F]>>>,
    /// Value and log-determinant, `[rows, dim + 1]`.
    pub(super) out: &'a mut [F],
    /// The column that each column of the value is, where they are not in their order.
    pub(super) order: Option<&'a [usize]>,
}

impl<F: Real> WithSimd for ForwardChunk<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let dim = self.networks[0].dim();
        let rows = self.out.len() / (dim + 1);
        let mut kept = self.levels.into_iter().flatten();
        let mut x = self.x;
        let mut map = Room::<F, S>::new(simd);
        for (network, packed) in self.networks.iter().zip(self.packed) {
            // The memory that one network gives back is in the cache for the next.
            let mut room = Vec::new();
            let mut levels = kept.next().unwrap_or_else(|| {
                room = network.levels(0, rows);
                room.iter_mut().map(|level| &mut **level).collect()
            });
            let x = x.take();
            match x {
                Some(x) => enter(network, x, dim, rows, levels[0]),
                None => enter(network, self.out, dim + 1, rows, levels[0]),
            }
            let last = network.layers.len() - 1;
            for (l, layer) in network.layers.iter().enumerate() {
                let (read, computed) = levels.split_at_mut(l + 1);
                let bias;
                let start = if layer.with_context {
                    preset(layer, self.first_row, rows, computed[0]);
                    Start::There
                } else {
                    bias = layer.bias();
                    Start::Row(&bias)
                };
                let finish = if l < last {
                    Finish::Activation(network.activation)
                } else {
                    Finish::Nothing
                };
                let ends = (start, finish);
                product::<F, S>(simd, read[l], &packed[l], rows, ends, computed[0]);
            }
            leave(simd, network, &levels, x.is_some(), &mut map, self.out);
        }
        if let Some(order) = self.order {
            let mut value = vec![F::default(); dim];
            for out in self.out.chunks_exact_mut(dim + 1) {
                value.copy_from_slice(&out[..dim]);
                for (out, &k) in out.iter_mut().zip(order) {
                    *out = value[k];
                }
            }
        }
    }
}

/// The input level of `rows` rows, from the first `dim` of every `stride` values.
#[inline(always)]
fn enter<F: Real>(
    network: &Network<'_, F>,
    values: &[F],
    stride: usize,
    rows: usize,
    level: &mut [F],
) {
    for (variables, first) in network.parts() {
        let columns = Columns::new(1, variables.len());
        let panels = level[first * rows * PANEL..].chunks_exact_mut(rows * PANEL);
        for (panel, to) in panels.take(columns.panels()).enumerate() {
            let segments = columns.segments(panel);
            clear_padding(&segments, to);
            for (from, to) in values.chunks_exact(stride).zip(to.chunks_exact_mut(PANEL)) {
                for &(within, column, count) in &segments {
                    let to = &mut to[within..within + count];
                    let column = variables.start + column;
                    match network.order {
                        None => copy(to, &from[column..column + count]),
                        Some(order) => {
                            for (to, &k) in to.iter_mut().zip(&order[column..column + count]) {
                                *to = from[k];
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Value and log-determinant from input and raw outputs; the log-determinant is added to that of the networks
/// before.
#[inline(always)]
fn leave<F: Real, S: Simd>(
    simd: S,
    network: &Network<'_, F>,
    levels: &[&mut [F]],
    is_first: bool,
    room: &mut Room<F, S>,
    out: &mut [F],
) {
    let (dim, last) = (network.dim(), network.layers.len() - 1);
    let columns = network.layers[last].pattern.columns;
    let rows = out.len() / (dim + 1);
    let whole = Tile::new(columns, F::lanes::<S>());
    let [(untouched, _), (moved, panel)] = network.parts();
    for (row, out) in out.chunks_exact_mut(dim + 1).enumerate() {
        if is_first {
            out[dim] = F::default();
        }
        for (column, out) in out[untouched.clone()].iter_mut().enumerate() {
            *out = levels[0][position(rows, row, column)];
        }
    }
    let outs = out.chunks_mut(whole.rows * (dim + 1));
    for (row, out) in (0..rows).step_by(whole.rows).zip(outs) {
        for first in (0..moved.len()).step_by(whole.width) {
            let tile = whole.of(rows - row, moved.len() - first);
            let at = position(rows, row, panel * PANEL + first);
            let mut x = F::splat(simd, F::default());
            tile.load_all::<F, S>(&levels[0][at..], PANEL, &mut x);
            collect(columns, tile, levels[last + 1], (rows, row), first, room);
            let [y, log_slope] = if network.inverted {
                network.map.inverse(simd, room, x)
            } else {
                network.map.forward(simd, room, x)
            };
            tile.store::<F, S>(y, &mut out[moved.start + first..], dim + 1);
            tile.add_sums(simd, log_slope, &mut out[dim..], dim + 1);
        }
    }
}

/// Zeros where a panel has no columns: nothing reads them, but what was left there might be no number, or one
/// that takes long to multiply.
#[inline(always)]
fn clear_padding<F: Real>(segments: &[(usize, usize, usize)], units: &mut [F]) {
    let count: usize = segments.iter().map(|(_, _, count)| count).sum();
    if count < PANEL {
        units.fill(F::default());
    }
}

/// Offsets with a row for each sample.
#[inline(always)]
fn preset<F: Real>(layer: &Layer<'_, F>, first_row: usize, rows: usize, units: &mut [F]) {
    let columns = layer.pattern.columns;
    let stride = columns.count();
    let offset = &layer.offset[first_row * stride..];
    for (panel, units) in units.chunks_exact_mut(rows * PANEL).enumerate() {
        let segments = columns.segments(panel);
        clear_padding(&segments, units);
        for (row, units) in units.chunks_exact_mut(PANEL).enumerate() {
            let offset = &offset[row * stride..];
            for &(within, column, count) in &segments {
                copy(
                    &mut units[within..within + count],
                    &offset[column..column + count],
                );
            }
        }
    }
}
