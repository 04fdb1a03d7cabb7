//! The block for few dimensions: the state `z` and the Jacobian of a chunk stay in registers.
//!
//! With `s_j = tanh(a_j)`, `a = z W1 + b1` and `D_j = 1 - s_j^2`, one cell is `z <- z + v / T`,
//! `v = s W2 + b2`, and the Jacobian of `v` is a sum of `D`-weighted rank-one tables,
//! `J_il = dv_l / dz_i = sum_j D_j P_j,il` with `P_j,il = W1_ij W2_jl`: `h d^2` products instead of
//! the `h^2` of the form in the hidden units.

// Loop variables are the indices of the formulas.
#![allow(clippy::needless_range_loop)]

mod log_det;

use pulp::Simd;

use crate::ddnf::LogDet;
use crate::ddnf::{Block, Gradients, Kernel, ScratchParts, TaskGradients, TaskRows};
use crate::lanes::{CHUNK, Real};
use crate::tiles::{from_rows, to_gradient_rows, to_rows};

/// A block with `D` dimensions, its weights in the order in which the loop reads them.
pub(crate) struct Narrow<F, const D: usize> {
    hidden: usize,
    cells: usize,
    log_det: LogDet,
    /// For every hidden unit `W1_:j`, `W2_j: / T` and `P_j / T`.
    table: Vec<F>,
    b1: Vec<F>,
    /// `b2 / T`
    shift: [F; D],
    /// `1 / T`
    step: F,
}

type V<F, S> = <F as Real>::V<S>;
type Lanes<F, S, const NV: usize> = [V<F, S>; NV];
type Matrix<T, const D: usize> = [[T; D]; D];
/// `v / T` and `J / T`.
type Field<T, const D: usize> = ([T; D], Matrix<T, D>);

impl<F: Real, const D: usize> Narrow<F, D> {
    /// Numbers in one record of the table.
    const RECORD: usize = 2 * D + D * D;
    /// Gradients kept for one hidden unit: those of the record and of `b1`.
    const SUMS: usize = Self::RECORD + 1;

    pub(crate) fn new(block: &Block<'_, F>) -> Self {
        let h = block.hidden;
        let step = F::of(1.0 / block.cells as f64);
        let mut table = Vec::with_capacity(h * Self::RECORD);
        for j in 0..h {
            let w1 = |i: usize| block.w1[i * h + j];
            let w2 = |l: usize| block.w2[j * D + l].times(step);
            table.extend((0..D).map(w1));
            table.extend((0..D).map(w2));
            table.extend((0..D * D).map(|q| w1(q / D).times(w2(q % D))));
        }
        Self {
            hidden: h,
            cells: block.cells,
            log_det: block.log_det,
            table,
            b1: block.b1.to_vec(),
            shift: std::array::from_fn(|l| block.b2[l].times(step)),
            step,
        }
    }

    /// Rows of `b1`, plus the context's where there is one.
    fn fill_bias(&self, context: Option<&[F]>, bias: &mut [F]) {
        match context {
            Some(context) => {
                to_rows(context, self.hidden, self.hidden, bias);
                for (row, &b1) in bias.chunks_exact_mut(CHUNK).zip(&self.b1) {
                    row.iter_mut().for_each(|v| *v = v.plus(b1));
                }
            }
            None => {
                for (row, &b1) in bias.chunks_exact_mut(CHUNK).zip(&self.b1) {
                    row.fill(b1);
                }
            }
        }
    }

    /// `v / T` and `J / T` at `z`, for `NV` vectors at `column` of the rows; `keep(j, s_j)` sees the
    /// hidden units.
    #[inline(always)]
    fn field<S: Simd, const NV: usize, const JACOBIAN: bool>(
        &self,
        simd: S,
        bias: &[V<F, S>],
        column: usize,
        z: &[Lanes<F, S, NV>; D],
        mut keep: impl FnMut(usize, Lanes<F, S, NV>),
    ) -> Field<Lanes<F, S, NV>, D> {
        let row = CHUNK / F::lanes::<S>();
        let one = F::splat(simd, F::of(1.0));
        let mut velocity = self.shift.map(|b| [F::splat(simd, b); NV]);
        let mut jacobian = [[[F::splat(simd, F::default()); NV]; D]; D];
        for (j, (record, bias)) in self
            .table
            .chunks_exact(Self::RECORD)
            .zip(bias.chunks_exact(row))
            .enumerate()
        {
            let mut s: Lanes<F, S, NV> = std::array::from_fn(
                #[inline(always)]
                |v| bias[column + v],
            );
            for i in 0..D {
                let w1 = F::splat(simd, record[i]);
                for v in 0..NV {
                    s[v] = F::fma(simd, w1, z[i][v], s[v]);
                }
            }
            for v in 0..NV {
                s[v] = F::tanh(simd, s[v]);
            }
            for l in 0..D {
                let w2 = F::splat(simd, record[D + l]);
                for v in 0..NV {
                    velocity[l][v] = F::fma(simd, w2, s[v], velocity[l][v]);
                }
            }
            if JACOBIAN {
                let mut slope = s;
                for v in 0..NV {
                    slope[v] = F::fnma(simd, s[v], s[v], one);
                }
                for i in 0..D {
                    for l in 0..D {
                        let p = F::splat(simd, record[2 * D + i * D + l]);
                        for v in 0..NV {
                            jacobian[i][l][v] = F::fma(simd, p, slope[v], jacobian[i][l][v]);
                        }
                    }
                }
            }
            keep(j, s);
        }
        (velocity, jacobian)
    }

    #[inline(always)]
    fn forward_chunk<S: Simd, const NV: usize, const JACOBIAN: bool>(
        &self,
        simd: S,
        bias: &[V<F, S>],
        state: &mut [V<F, S>],
        log_det: &mut [V<F, S>],
    ) {
        let row = CHUNK / F::lanes::<S>();
        for column in (0..row).step_by(NV) {
            let mut z = read::<F, S, NV, D>(state, column);
            let mut sum = [F::splat(simd, F::default()); NV];
            for _ in 0..self.cells {
                let (velocity, jacobian) = self.field::<S, NV, JACOBIAN>(
                    simd,
                    bias,
                    column,
                    &z,
                    #[inline(always)]
                    |_, _| {},
                );
                for v in 0..NV {
                    if JACOBIAN {
                        let one = self.cell_log_det(simd, &lane::<F, S, NV, D>(&jacobian, v));
                        sum[v] = F::add(simd, sum[v], one);
                    }
                    for i in 0..D {
                        z[i][v] = F::add(simd, z[i][v], velocity[i][v]);
                    }
                }
            }
            write::<F, S, NV, D>(&z, state, column);
            log_det[column..column + NV].copy_from_slice(&sum);
        }
    }

    /// Runs the chunk forward, keeping its states, and back. `gradient` holds that of the value and
    /// becomes that of the input.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn backward_chunk<S: Simd, const NV: usize, const JACOBIAN: bool>(
        &self,
        simd: S,
        bias: &[V<F, S>],
        state: &[V<F, S>],
        gradient: &mut [V<F, S>],
        log_det: &[V<F, S>],
        states: &mut [V<F, S>],
        jacobians: &mut [V<F, S>],
        units: &mut [V<F, S>],
        mut context: Option<&mut [V<F, S>]>,
        sums: &mut [V<F, S>],
    ) {
        let row = CHUNK / F::lanes::<S>();
        let h = self.hidden;
        let zero = F::splat(simd, F::default());
        let one = F::splat(simd, F::of(1.0));
        let (sums, shift_sums) = sums.split_at_mut(h * Self::SUMS);
        for column in (0..row).step_by(NV) {
            let mut z = read::<F, S, NV, D>(state, column);
            for cell in 0..self.cells {
                write_packed::<F, S, NV, D>(&z, &mut states[cell * D * NV..]);
                let units = &mut units[cell * h * NV..(cell + 1) * h * NV];
                let (velocity, jacobian) = self.field::<S, NV, JACOBIAN>(
                    simd,
                    bias,
                    column,
                    &z,
                    #[inline(always)]
                    |j, s| units[j * NV..(j + 1) * NV].copy_from_slice(&s),
                );
                for i in 0..D {
                    for v in 0..NV {
                        z[i][v] = F::add(simd, z[i][v], velocity[i][v]);
                    }
                    if JACOBIAN {
                        for l in 0..D {
                            let at = ((cell * D + i) * D + l) * NV;
                            jacobians[at..at + NV].copy_from_slice(&jacobian[i][l]);
                        }
                    }
                }
            }

            let mut gz = read::<F, S, NV, D>(gradient, column);
            for cell in (0..self.cells).rev() {
                let z = read_packed::<F, S, NV, D>(&states[cell * D * NV..]);
                // Gradient with respect to J / T.
                let mut gj = [[[zero; NV]; D]; D];
                if JACOBIAN {
                    for v in 0..NV {
                        let jacobian: Matrix<V<F, S>, D> = std::array::from_fn(
                            #[inline(always)]
                            |i| {
                                std::array::from_fn(
                                    #[inline(always)]
                                    |l| jacobians[((cell * D + i) * D + l) * NV + v],
                                )
                            },
                        );
                        let g = self.cell_log_det_gradient(simd, &jacobian, log_det[column + v]);
                        for i in 0..D {
                            for l in 0..D {
                                gj[i][l][v] = g[i][l];
                            }
                        }
                    }
                }
                let mut next = gz;
                let units = &units[cell * h * NV..(cell + 1) * h * NV];
                for (j, ((record, s), sums)) in self
                    .table
                    .chunks_exact(Self::RECORD)
                    .zip(units.chunks_exact(NV))
                    .zip(sums.chunks_exact_mut(Self::SUMS))
                    .enumerate()
                {
                    let mut slope = [zero; NV];
                    let mut g_unit = [zero; NV];
                    for v in 0..NV {
                        slope[v] = F::fnma(simd, s[v], s[v], one);
                    }
                    for l in 0..D {
                        let w2 = F::splat(simd, record[D + l]);
                        for v in 0..NV {
                            g_unit[v] = F::fma(simd, w2, gz[l][v], g_unit[v]);
                        }
                    }
                    if JACOBIAN {
                        let mut g_slope = [zero; NV];
                        for i in 0..D {
                            for l in 0..D {
                                let p = F::splat(simd, record[2 * D + i * D + l]);
                                for v in 0..NV {
                                    g_slope[v] = F::fma(simd, p, gj[i][l][v], g_slope[v]);
                                }
                            }
                        }
                        for v in 0..NV {
                            let twice = F::add(simd, s[v], s[v]);
                            g_unit[v] = F::fnma(simd, twice, g_slope[v], g_unit[v]);
                        }
                    }
                    // From here on the gradient with respect to a_j.
                    for v in 0..NV {
                        g_unit[v] = F::mul(simd, g_unit[v], slope[v]);
                    }
                    for i in 0..D {
                        let w1 = F::splat(simd, record[i]);
                        for v in 0..NV {
                            next[i][v] = F::fma(simd, w1, g_unit[v], next[i][v]);
                        }
                    }
                    if let Some(context) = &mut context {
                        for v in 0..NV {
                            let at = &mut context[j * row + column + v];
                            *at = F::add(simd, *at, g_unit[v]);
                        }
                    }
                    for v in 0..NV {
                        for i in 0..D {
                            sums[i] = F::fma(simd, z[i][v], g_unit[v], sums[i]);
                            sums[D + i] = F::fma(simd, s[v], gz[i][v], sums[D + i]);
                        }
                        if JACOBIAN {
                            for q in 0..D * D {
                                let at = 2 * D + q;
                                sums[at] = F::fma(simd, slope[v], gj[q / D][q % D][v], sums[at]);
                            }
                        }
                        sums[Self::RECORD] = F::add(simd, sums[Self::RECORD], g_unit[v]);
                    }
                }
                for l in 0..D {
                    for v in 0..NV {
                        shift_sums[l] = F::add(simd, shift_sums[l], gz[l][v]);
                    }
                }
                gz = next;
            }
            write::<F, S, NV, D>(&gz, gradient, column);
        }
    }
}

/// Vectors worked on at a time: two hide the latency of the sums, where they fit the registers.
const fn pair<S: Simd>(dim: usize) -> bool {
    S::REGISTER_COUNT >= 32 && dim <= 2
}

impl<F: Real, const D: usize> Kernel<F> for Narrow<F, D> {
    fn forward_scratch(&self) -> usize {
        (self.hidden + D + 1) * CHUNK
    }

    fn backward_scratch(&self) -> usize {
        // Two rows per sum is enough for a vector of any width.
        let sums = self.hidden * Self::SUMS + D;
        (2 * self.hidden + 2 * D + 1 + self.cells * (D + D * D + self.hidden) + sums) * CHUNK
    }

    fn partial_len(&self) -> usize {
        self.hidden * Self::SUMS + D
    }

    #[inline(always)]
    fn forward<S: Simd>(&self, simd: S, rows: TaskRows<'_, F>, out: &mut [F], scratch: &mut [F]) {
        let mut parts = ScratchParts(scratch);
        let bias = parts.take(self.hidden);
        let state = parts.take(D);
        let log_det = parts.take(1);
        for (chunk, out) in rows.chunks().zip(out.chunks_mut(CHUNK * (D + 1))) {
            self.fill_bias(chunk.context, bias);
            to_rows(chunk.x, D, D, state);
            let (bias, z) = (F::vectors::<S>(bias), F::vectors_mut::<S>(state));
            let sum = F::vectors_mut::<S>(log_det);
            match (self.log_det, pair::<S>(D)) {
                (LogDet::None, true) => {
                    self.forward_chunk::<S, 2, false>(simd, bias, z, sum);
                }
                (LogDet::None, false) => {
                    self.forward_chunk::<S, 1, false>(simd, bias, z, sum);
                }
                (_, true) => self.forward_chunk::<S, 2, true>(simd, bias, z, sum),
                (_, false) => self.forward_chunk::<S, 1, true>(simd, bias, z, sum),
            }
            from_rows(state, out, D + 1, 0);
            from_rows(log_det, out, D + 1, D);
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
        let h = self.hidden;
        let mut parts = ScratchParts(scratch);
        let bias = parts.take(h);
        let context = parts.take(h);
        let state = parts.take(D);
        let gradient = parts.take(D);
        let log_det = parts.take(1);
        let states = parts.take(self.cells * D);
        let jacobians = parts.take(self.cells * D * D);
        let units = parts.take(self.cells * h);
        let sums = parts.take(h * Self::SUMS + D);
        sums.fill(F::default());
        let mut context_out = gradients.context.map(|g| g.chunks_mut(CHUNK * h));
        for ((chunk, g), gx) in rows
            .chunks()
            .zip(gradients.output.chunks(CHUNK * (D + 1)))
            .zip(gradients.x.chunks_mut(CHUNK * D))
        {
            self.fill_bias(chunk.context, bias);
            to_rows(chunk.x, D, D, state);
            to_gradient_rows(g, D + 1, 0..D, gradient);
            to_gradient_rows(g, D + 1, D..D + 1, log_det);
            let keep = context_out.is_some();
            context.fill(F::default());
            let arguments = (
                F::vectors::<S>(bias),
                F::vectors::<S>(state),
                F::vectors_mut::<S>(gradient),
                F::vectors::<S>(log_det),
                F::vectors_mut::<S>(states),
                F::vectors_mut::<S>(jacobians),
                F::vectors_mut::<S>(units),
                keep.then_some(F::vectors_mut::<S>(context)),
                F::vectors_mut::<S>(sums),
            );
            let (bias, z, gz, gl, zs, js, us, gc, gs) = arguments;
            match (self.log_det, pair::<S>(D)) {
                (LogDet::None, true) => {
                    self.backward_chunk::<S, 2, false>(simd, bias, z, gz, gl, zs, js, us, gc, gs);
                }
                (LogDet::None, false) => {
                    self.backward_chunk::<S, 1, false>(simd, bias, z, gz, gl, zs, js, us, gc, gs);
                }
                (_, true) => {
                    self.backward_chunk::<S, 2, true>(simd, bias, z, gz, gl, zs, js, us, gc, gs);
                }
                (_, false) => {
                    self.backward_chunk::<S, 1, true>(simd, bias, z, gz, gl, zs, js, us, gc, gs);
                }
            }
            from_rows(gradient, gx, D, 0);
            if let Some(out) = context_out.as_mut().and_then(Iterator::next) {
                from_rows(context, out, h, 0);
            }
        }
        for (out, &sum) in gradients.partial.iter_mut().zip(F::vectors::<S>(sums)) {
            *out = F::sum(simd, sum);
        }
    }

    fn finish(&self, block: &Block<'_, F>, sum: &[F]) -> Gradients<F> {
        let h = self.hidden;
        let mut gradients = Gradients::zeros(block);
        for (j, sum) in sum[..h * Self::SUMS].chunks_exact(Self::SUMS).enumerate() {
            gradients.b1[j] = sum[Self::RECORD];
            for i in 0..D {
                // P_j / T = W1_:j W2_j: / T feeds both factors.
                let (mut w1, mut w2) = (sum[i], sum[D + i]);
                for l in 0..D {
                    let p = |a: usize, b: usize| sum[2 * D + a * D + b];
                    w1 = w1.plus(p(i, l).times(block.w2[j * D + l].times(self.step)));
                    w2 = w2.plus(p(l, i).times(block.w1[l * h + j]));
                }
                gradients.w1[i * h + j] = w1;
                gradients.w2[j * D + i] = w2.times(self.step);
            }
        }
        for (out, &sum) in gradients.b2.iter_mut().zip(&sum[h * Self::SUMS..]) {
            *out = sum.times(self.step);
        }
        gradients
    }
}

#[inline(always)]
fn lane<F: Real, S: Simd, const NV: usize, const D: usize>(
    matrix: &Matrix<Lanes<F, S, NV>, D>,
    v: usize,
) -> Matrix<V<F, S>, D> {
    matrix.map(
        #[inline(always)]
        |row| {
            row.map(
                #[inline(always)]
                |entry| entry[v],
            )
        },
    )
}

#[inline(always)]
fn read<F: Real, S: Simd, const NV: usize, const D: usize>(
    rows: &[V<F, S>],
    column: usize,
) -> [Lanes<F, S, NV>; D] {
    let row = CHUNK / F::lanes::<S>();
    std::array::from_fn(
        #[inline(always)]
        |i| {
            std::array::from_fn(
                #[inline(always)]
                |v| rows[i * row + column + v],
            )
        },
    )
}

#[inline(always)]
fn write<F: Real, S: Simd, const NV: usize, const D: usize>(
    values: &[Lanes<F, S, NV>; D],
    rows: &mut [V<F, S>],
    column: usize,
) {
    let row = CHUNK / F::lanes::<S>();
    for (values, row) in values.iter().zip(rows.chunks_exact_mut(row)) {
        row[column..column + NV].copy_from_slice(values);
    }
}

#[inline(always)]
fn read_packed<F: Real, S: Simd, const NV: usize, const D: usize>(
    packed: &[V<F, S>],
) -> [Lanes<F, S, NV>; D] {
    std::array::from_fn(
        #[inline(always)]
        |i| {
            std::array::from_fn(
                #[inline(always)]
                |v| packed[i * NV + v],
            )
        },
    )
}

#[inline(always)]
fn write_packed<F: Real, S: Simd, const NV: usize, const D: usize>(
    values: &[Lanes<F, S, NV>; D],
    packed: &mut [V<F, S>],
) {
    for (values, packed) in values.iter().zip(packed.chunks_exact_mut(NV)) {
        packed.copy_from_slice(values);
    }
}
