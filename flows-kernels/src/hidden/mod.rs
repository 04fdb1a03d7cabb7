//! The block in its hidden units: `h^2` products a cell, whatever the dimension.
//!
//! A cell changes the pre-activations `a_t = z_t W1 + b1` by a product with the small matrix
//! `M = W2 W1`, so the state need not be followed at all:
//!
//! ```text
//! s_t     = tanh(a_t)
//! a_(t+1) = a_t + (s_t M + b2 W1) / T
//! z_T     = z_0 + b2 + (sum_t s_t) W2 / T
//! ```
//!
//! The log-determinant of a cell needs `M` alone as well: `det(I_h + D M / T)` with
//! `D = diag(1 - s_t^2)`, and `tr J = sum_j D_j M_jj`, `tr J^2 = sum_jk D_j D_k M_jk M_kj`. The determinant is
//! written out for one and two hidden units, and found by elimination for more: `h^3 / 3` products a
//! cell forward, `h^3` backward.

mod elimination;
mod log_det;
mod matrices;

use pulp::{Arch, Simd};

use crate::ddnf::LogDet;
use crate::ddnf::{Block, Gradients, Kernel, ScratchParts, TaskGradients, TaskRows};
use crate::lanes::{CHUNK, Real};
use crate::tiles::{from_rows, outer, product, rank_update, to_gradient_rows, to_rows};

/// Columns of sample matrices are padded to a multiple of this, the widest vector there is.
const WIDEST: usize = 16;

use matrices::{add_product, pad_samples, transposed};

type V<F, S> = <F as Real>::V<S>;

/// The matrices of a block, `W2`, `M` and `b2 W1` divided by `T`, with the transposes that the
/// products need.
pub(crate) struct Hidden<F> {
    arch: Arch,
    dim: usize,
    hidden: usize,
    cells: usize,
    log_det: LogDet,
    w1: Vec<F>,
    w1_t: Vec<F>,
    b1: Vec<F>,
    w2: Vec<F>,
    w2_t: Vec<F>,
    b2: Vec<F>,
    m: Vec<F>,
    m_t: Vec<F>,
    /// `M_jj / T`
    diagonal: Vec<F>,
    /// `M_jk M_kj / T^2`
    squares: Vec<F>,
    /// Its part `k <= j` with half the diagonal, in the order `[k, j]`.
    lower: Vec<F>,
    /// `b2 W1 / T`
    drift: Vec<F>,
    /// `1 / T`
    step: F,
}

/// What the backward pass of the elimination works on, one matrix a lane.
struct Elimination<'a, V> {
    matrix: &'a mut [V],
    /// Gradients with respect to `M / T`, transposed.
    sums: &'a mut [V],
}

/// Offsets of a task's sums.
struct Sums {
    m: usize,
    pairs: usize,
    slopes: usize,
    drift: usize,
    b1: usize,
    w1: usize,
    w2: usize,
    b2: usize,
    len: usize,
}

impl<F: Real> Hidden<F> {
    pub(crate) fn new(arch: Arch, block: &Block<'_, F>) -> Self {
        let (d, h) = (block.dim, block.hidden);
        let step = F::of(1.0 / block.cells as f64);
        let w2: Vec<F> = block.w2.iter().map(|w| w.times(step)).collect();
        let shift: Vec<F> = block.b2.iter().map(|b| b.times(step)).collect();
        let mut m = vec![F::default(); h * h];
        add_product(arch, &w2, block.w1, h, &mut m);
        let mut drift = vec![F::default(); h];
        add_product(arch, &shift, block.w1, h, &mut drift);
        let m_t = transposed(&m, h);
        let (squares, lower) = if block.log_det == LogDet::Taylor2 {
            let squares: Vec<F> = m.iter().zip(&m_t).map(|(a, b)| a.times(*b)).collect();
            let mut lower = vec![F::default(); h * h];
            for k in 0..h {
                lower[k * h + k] = squares[k * h + k].times(F::of(0.5));
                lower[k * h + k + 1..(k + 1) * h]
                    .copy_from_slice(&squares[k * h + k + 1..(k + 1) * h]);
            }
            (squares, lower)
        } else {
            (Vec::new(), Vec::new())
        };
        Self {
            arch,
            dim: d,
            hidden: h,
            cells: block.cells,
            log_det: block.log_det,
            w1: block.w1.to_vec(),
            w1_t: transposed(block.w1, h),
            b1: block.b1.to_vec(),
            w2_t: transposed(&w2, d),
            w2,
            b2: block.b2.to_vec(),
            diagonal: (0..h).map(|j| m[j * h + j]).collect(),
            m,
            m_t,
            squares,
            lower,
            drift,
            step,
        }
    }

    fn padded(&self) -> usize {
        self.dim.next_multiple_of(WIDEST)
    }

    /// Whether the determinant is found by elimination.
    fn is_eliminated(&self) -> bool {
        self.log_det == LogDet::Exact && self.hidden > 2
    }

    /// Rows and columns of the matrices of the elimination; 0 where there is none.
    fn matrix_size(&self) -> usize {
        if self.is_eliminated() {
            elimination::padded(self.hidden)
        } else {
            0
        }
    }

    /// Rows of scratch memory for one matrix a lane, of the widest vectors there are.
    fn matrix_rows(&self) -> usize {
        (self.matrix_size().pow(2) * WIDEST).div_ceil(CHUNK)
    }

    fn sums(&self) -> Sums {
        let (h, padded) = (self.hidden, self.padded());
        let pairs = match self.log_det {
            LogDet::Taylor2 => h * h,
            LogDet::Exact if self.is_eliminated() => h * h,
            _ => 1,
        };
        let m = 0;
        let pairs_at = m + h * h;
        let slopes = pairs_at + pairs;
        let drift = slopes + h;
        let b1 = drift + h;
        let w1 = b1 + h;
        let w2 = w1 + h * padded;
        let b2 = w2 + h * padded;
        Sums {
            m,
            pairs: pairs_at,
            slopes,
            drift,
            b1,
            w1,
            w2,
            b2,
            len: b2 + self.dim,
        }
    }

    /// `b1` plus the context, row by row, to `bias`.
    fn fill_bias(&self, context: Option<&[F]>, bias: &mut [F]) {
        match context {
            Some(context) => to_rows(context, self.hidden, self.hidden, bias),
            None => bias.fill(F::default()),
        }
        for (row, &b1) in bias.chunks_exact_mut(CHUNK).zip(&self.b1) {
            row.iter_mut().for_each(|v| *v = v.plus(b1));
        }
    }

    /// All cells of a chunk. `activations` is `b1` and the context on entry and the last
    /// pre-activation on return; `units` holds `s_t` and `slopes` `D` of the last cells that fit;
    /// `each(t, D)` sees every cell's slopes.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn cells<S: Simd, const NV: usize>(
        &self,
        simd: S,
        x: &[V<F, S>],
        activations: &mut [V<F, S>],
        units: &mut [V<F, S>],
        slopes: &mut [V<F, S>],
        total: &mut [V<F, S>],
        mut each: impl FnMut(&[V<F, S>]),
    ) {
        let row = CHUNK / F::lanes::<S>();
        let (h, size) = (self.hidden, self.hidden * row);
        let slots = units.len() / size;
        let one = F::splat(simd, F::of(1.0));
        for cell in 0..self.cells {
            let slot = cell % slots;
            let slopes = &mut slopes[slot * size..(slot + 1) * size];
            if cell == 0 {
                let units = &mut units[..size];
                product::<F, S, NV, false>(
                    simd,
                    &self.w1,
                    h,
                    x,
                    #[inline(always)]
                    |j, column, sum| {
                        for (v, sum) in sum.into_iter().enumerate() {
                            let at = j * row + column + v;
                            let a = F::add(simd, activations[at], sum);
                            let s = F::tanh(simd, a);
                            activations[at] = a;
                            units[at] = s;
                            slopes[at] = F::fnma(simd, s, s, one);
                            total[at] = s;
                        }
                    },
                );
            } else {
                let previous = (cell - 1) % slots;
                let (before, units) = two_slots(units, size, previous, slot);
                product::<F, S, NV, false>(
                    simd,
                    &self.m,
                    h,
                    before,
                    #[inline(always)]
                    |j, column, sum| {
                        let drift = F::splat(simd, self.drift[j]);
                        for (v, sum) in sum.into_iter().enumerate() {
                            let at = j * row + column + v;
                            let a = F::add(simd, activations[at], F::add(simd, sum, drift));
                            let s = F::tanh(simd, a);
                            activations[at] = a;
                            units[at] = s;
                            slopes[at] = F::fnma(simd, s, s, one);
                            total[at] = F::add(simd, total[at], s);
                        }
                    },
                );
            }
            each(slopes);
        }
    }

    #[inline(always)]
    fn forward_with<S: Simd, const NV: usize>(
        &self,
        simd: S,
        rows: TaskRows<'_, F>,
        out: &mut [F],
        scratch: &mut [F],
    ) {
        let (d, h) = (self.dim, self.hidden);
        let row = CHUNK / F::lanes::<S>();
        let mut parts = ScratchParts(scratch);
        let x = parts.take(d);
        let value = parts.take(d);
        let log_det = parts.take(1);
        let activations = parts.take(h);
        let units = parts.take(2 * h);
        let slopes = parts.take(2 * h);
        let total = parts.take(h);
        let matrix = F::vectors_mut::<S>(parts.take(self.matrix_rows()));
        let matrix = &mut matrix[..self.matrix_size().pow(2)];
        for (chunk, out) in rows.chunks().zip(out.chunks_mut(CHUNK * (d + 1))) {
            self.fill_bias(chunk.context, activations);
            to_rows(chunk.x, d, d, x);
            log_det.fill(F::default());
            let sum = F::vectors_mut::<S>(log_det);
            self.cells::<S, NV>(
                simd,
                F::vectors::<S>(x),
                F::vectors_mut::<S>(activations),
                F::vectors_mut::<S>(units),
                F::vectors_mut::<S>(slopes),
                F::vectors_mut::<S>(total),
                #[inline(always)]
                |slopes| self.add_log_det::<S, NV>(simd, slopes, matrix, sum),
            );
            let (x, z) = (F::vectors::<S>(x), F::vectors_mut::<S>(value));
            product::<F, S, NV, false>(
                simd,
                &self.w2,
                d,
                F::vectors::<S>(total),
                #[inline(always)]
                |l, column, sum| {
                    let b2 = F::splat(simd, self.b2[l]);
                    for (v, sum) in sum.into_iter().enumerate() {
                        let at = l * row + column + v;
                        z[at] = F::add(simd, x[at], F::add(simd, sum, b2));
                    }
                },
            );
            from_rows(value, out, d + 1, 0);
            from_rows(log_det, out, d + 1, d);
        }
    }

    #[inline(always)]
    fn backward_with<S: Simd, const NV: usize>(
        &self,
        simd: S,
        rows: TaskRows<'_, F>,
        gradients: TaskGradients<'_, F>,
        scratch: &mut [F],
    ) {
        let (d, h, cells, padded) = (self.dim, self.hidden, self.cells, self.padded());
        let row = CHUNK / F::lanes::<S>();
        let size = h * row;
        let mut parts = ScratchParts(scratch);
        let x = parts.take(d);
        let gradient = parts.take(d);
        let log_det = parts.take(1);
        let activations = parts.take(h);
        let total = parts.take(h);
        let direct = parts.take(h);
        let pulled = parts.take(h);
        let units = parts.take(cells * h);
        let slopes = parts.take(cells * h);
        let weighted = parts.take(cells * h);
        let back = parts.take((cells + 1) * h);
        let samples = parts.take(padded);
        let entries = self.matrix_size().pow(2);
        let matrix = &mut F::vectors_mut::<S>(parts.take(self.matrix_rows()))[..entries];
        let matrix_sums = &mut F::vectors_mut::<S>(parts.take(self.matrix_rows()))[..entries];
        matrix_sums.fill(F::splat(simd, F::default()));
        let sums = self.sums();
        let mut context_out = gradients.context.map(|g| g.chunks_mut(CHUNK * h));
        let partial = gradients.partial;
        for ((chunk, g), gx) in rows
            .chunks()
            .zip(gradients.output.chunks(CHUNK * (d + 1)))
            .zip(gradients.x.chunks_mut(CHUNK * d))
        {
            self.fill_bias(chunk.context, activations);
            to_rows(chunk.x, d, d, x);
            to_gradient_rows(g, d + 1, 0..d, gradient);
            to_gradient_rows(g, d + 1, d..d + 1, log_det);
            self.cells::<S, NV>(
                simd,
                F::vectors::<S>(x),
                F::vectors_mut::<S>(activations),
                F::vectors_mut::<S>(units),
                F::vectors_mut::<S>(slopes),
                F::vectors_mut::<S>(total),
                #[inline(always)]
                |_| {},
            );

            // Every s_t receives the same gradient through z_T.
            let through = F::vectors_mut::<S>(direct);
            product::<F, S, NV, false>(
                simd,
                &self.w2_t,
                h,
                F::vectors::<S>(gradient),
                #[inline(always)]
                |j, column, sum| {
                    through[j * row + column..j * row + column + NV].copy_from_slice(&sum);
                },
            );
            back[cells * h * CHUNK..].fill(F::default());
            for cell in (0..cells).rev() {
                let own = cell * h * CHUNK..(cell + 1) * h * CHUNK;
                let (before, after) = back.split_at_mut((cell + 1) * h * CHUNK);
                let after = F::vectors::<S>(&after[..h * CHUNK]);
                let direct = F::vectors::<S>(direct);
                let pulled = F::vectors_mut::<S>(pulled);
                if cell + 1 == cells {
                    pulled.copy_from_slice(direct);
                } else {
                    product::<F, S, NV, false>(
                        simd,
                        &self.m_t,
                        h,
                        after,
                        #[inline(always)]
                        |j, column, sum| {
                            for (v, sum) in sum.into_iter().enumerate() {
                                let at = j * row + column + v;
                                pulled[at] = F::add(simd, direct[at], sum);
                            }
                        },
                    );
                }
                self.pull_back::<S, NV>(
                    simd,
                    F::vectors::<S>(&units[own.clone()]),
                    F::vectors::<S>(&slopes[own.clone()]),
                    F::vectors::<S>(log_det),
                    pulled,
                    after,
                    F::vectors_mut::<S>(&mut before[own.clone()]),
                    F::vectors_mut::<S>(&mut weighted[own]),
                    Elimination {
                        matrix: &mut *matrix,
                        sums: &mut *matrix_sums,
                    },
                );
            }

            // Sums over cells and samples.
            let (us, gs) = (F::vectors::<S>(units), F::vectors::<S>(back));
            let (ds, ws) = (F::vectors::<S>(slopes), F::vectors::<S>(weighted));
            outer::<F, S, false>(
                simd,
                &us[..(cells - 1) * size],
                h,
                &gs[size..cells * size],
                h,
                #[inline(always)]
                |j, k, sum| add_to(partial, sums.m + j * h + k, sum),
            );
            match self.log_det {
                LogDet::None => {}
                // Their sums are over the whole task.
                LogDet::Exact if self.is_eliminated() => {}
                LogDet::Exact => self.add_small_sums(simd, ds, ws, &sums, partial),
                LogDet::Taylor1 => self.add_row_sums(simd, ws, sums.slopes, partial),
                LogDet::Taylor2 => {
                    self.add_row_sums(simd, ws, sums.slopes, partial);
                    outer::<F, S, true>(
                        simd,
                        ds,
                        h,
                        ws,
                        h,
                        #[inline(always)]
                        |j, k, sum| add_to(partial, sums.pairs + j * h + k, sum),
                    );
                }
            }
            self.add_row_sums(simd, &gs[size..cells * size], sums.drift, partial);
            self.add_row_sums(simd, &gs[..size], sums.b1, partial);
            pad_samples(chunk.x, d, d, padded, samples);
            rank_update::<F, S>(
                simd,
                &back[..h * CHUNK],
                samples,
                padded,
                &mut partial[sums.w1..sums.w2],
            );
            pad_samples(g, d + 1, d, padded, samples);
            rank_update::<F, S>(simd, total, samples, padded, &mut partial[sums.w2..sums.b2]);
            for sample in g.chunks_exact(d + 1) {
                for (sum, &g) in partial[sums.b2..].iter_mut().zip(sample) {
                    *sum = sum.plus(g);
                }
            }

            if let Some(out) = context_out.as_mut().and_then(Iterator::next) {
                from_rows(&back[..h * CHUNK], out, h, 0);
            }
            let g = F::vectors_mut::<S>(gradient);
            product::<F, S, NV, false>(
                simd,
                &self.w1_t,
                d,
                F::vectors::<S>(&back[..h * CHUNK]),
                #[inline(always)]
                |i, column, sum| {
                    for (v, sum) in sum.into_iter().enumerate() {
                        let at = i * row + column + v;
                        g[at] = F::add(simd, g[at], sum);
                    }
                },
            );
            from_rows(gradient, gx, d, 0);
        }
        let size = self.matrix_size();
        for j in 0..h.min(size) {
            for k in 0..h {
                let sum = F::sum(simd, matrix_sums[k * size + j]);
                add_to(partial, sums.pairs + j * h + k, sum);
            }
        }
    }

    /// Adds the sums over cells and samples of blocks of `h` rows to `partial[at..at + h]`.
    #[inline(always)]
    fn add_row_sums<S: Simd>(&self, simd: S, blocks: &[V<F, S>], at: usize, partial: &mut [F]) {
        let row = CHUNK / F::lanes::<S>();
        for j in 0..self.hidden {
            let mut sum = F::splat(simd, F::default());
            for block in blocks.chunks_exact(self.hidden * row) {
                for &value in &block[j * row..(j + 1) * row] {
                    sum = F::add(simd, sum, value);
                }
            }
            add_to(partial, at + j, F::sum(simd, sum));
        }
    }
}

impl<F: Real> Kernel<F> for Hidden<F> {
    fn forward_scratch(&self) -> usize {
        (2 * self.dim + 6 * self.hidden + 1 + self.matrix_rows()) * CHUNK
    }

    fn backward_scratch(&self) -> usize {
        let units = (4 * self.cells + 5) * self.hidden;
        (2 * self.dim + 1 + units + self.padded() + 2 * self.matrix_rows()) * CHUNK
    }

    fn partial_len(&self) -> usize {
        self.sums().len
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, rows: TaskRows<'_, F>, out: &mut [F], scratch: &mut [F]) {
        if S::REGISTER_COUNT >= 32 {
            self.forward_with::<S, 2>(simd, rows, out, scratch);
        } else {
            self.forward_with::<S, 1>(simd, rows, out, scratch);
        }
    }

    #[inline(always)]
    fn backward<S: Simd>(
        &self,
        simd: S,
        rows: TaskRows<'_, F>,
        gradients: TaskGradients<'_, F>,
        scratch: &mut [F],
    ) {
        if S::REGISTER_COUNT >= 32 {
            self.backward_with::<S, 2>(simd, rows, gradients, scratch);
        } else {
            self.backward_with::<S, 1>(simd, rows, gradients, scratch);
        }
    }

    fn finish(&self, block: &Block<'_, F>, sum: &[F]) -> Gradients<F> {
        let (d, h, padded) = (self.dim, self.hidden, self.padded());
        let at = self.sums();
        let mut gradients = Gradients::zeros(block);
        // Gradient with respect to M / T.
        let mut gm = sum[at.m..at.pairs].to_vec();
        match self.log_det {
            LogDet::None => {}
            LogDet::Exact if self.is_eliminated() => {
                for (gm, &sum) in gm.iter_mut().zip(&sum[at.pairs..at.slopes]) {
                    *gm = gm.plus(sum);
                }
            }
            LogDet::Exact => {
                for j in 0..h {
                    add_to(&mut gm, j * h + j, sum[at.slopes + j]);
                }
                if h == 2 {
                    add_to(&mut gm, 1, sum[at.pairs].times(self.m[2]));
                    add_to(&mut gm, 2, sum[at.pairs].times(self.m[1]));
                }
            }
            LogDet::Taylor1 | LogDet::Taylor2 => {
                for j in 0..h {
                    add_to(&mut gm, j * h + j, sum[at.slopes + j]);
                }
            }
        }
        if self.log_det == LogDet::Taylor2 {
            // d (-1/2 tr J^2) / d M_jk = -D_j D_k M_kj, and D_j D_k is symmetric.
            for j in 0..h {
                for k in 0..h {
                    let pair = sum[at.pairs + j.min(k) * h + j.max(k)];
                    add_to(
                        &mut gm,
                        j * h + k,
                        pair.times(self.m_t[j * h + k]).times(F::of(-1.0)),
                    );
                }
            }
        }
        gradients.b1.copy_from_slice(&sum[at.b1..at.w1]);
        let drift = &sum[at.drift..at.b1];
        for j in 0..h {
            for i in 0..d {
                let shift = self.b2[i].times(self.step);
                gradients.w1[i * h + j] = sum[at.w1 + j * padded + i].plus(shift.times(drift[j]));
                gradients.w2[j * d + i] = sum[at.w2 + j * padded + i];
            }
        }
        add_product(self.arch, &self.w2_t, &gm, h, &mut gradients.w1);
        add_product(self.arch, &gm, &self.w1_t, d, &mut gradients.w2);
        gradients
            .w2
            .iter_mut()
            .for_each(|g| *g = g.times(self.step));
        add_product(self.arch, drift, &self.w1_t, d, &mut gradients.b2);
        for (g, &sum) in gradients.b2.iter_mut().zip(&sum[at.b2..]) {
            *g = g.times(self.step).plus(sum);
        }
        gradients
    }
}

#[inline(always)]
fn add_to<F: Real>(sums: &mut [F], at: usize, value: F) {
    sums[at] = sums[at].plus(value);
}

/// Slots `read` and `write` of a buffer of slots of `size`.
#[inline(always)]
fn two_slots<T>(buffer: &mut [T], size: usize, read: usize, write: usize) -> (&[T], &mut [T]) {
    if read < write {
        let (low, high) = buffer.split_at_mut(write * size);
        (&low[read * size..(read + 1) * size], &mut high[..size])
    } else {
        let (low, high) = buffer.split_at_mut(read * size);
        (&high[..size], &mut low[write * size..(write + 1) * size])
    }
}
