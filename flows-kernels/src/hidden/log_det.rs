//! The log-determinant of a cell in its hidden units.

// Loop variables are the indices of the formulas.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;

use super::elimination::eliminate;
use super::{Elimination, Hidden, Sums, V, add_to};
use crate::ddnf::LogDet;
use crate::lanes::{CHUNK, Real};
use crate::tiles::product;

impl<F: Real> Hidden<F> {
    /// Adds the log-determinant of a cell with slopes `D` to `log_det`.
    #[inline(always)]
    pub(super) fn add_log_det<S: Simd, const NV: usize>(
        &self,
        simd: S,
        slopes: &[V<F, S>],
        matrix: &mut [V<F, S>],
        log_det: &mut [V<F, S>],
    ) {
        let row = CHUNK / F::lanes::<S>();
        match self.log_det {
            LogDet::None => {}
            LogDet::Exact if self.is_eliminated() => {
                let size = self.matrix_size();
                for (v, log_det) in log_det.iter_mut().enumerate() {
                    let cell = eliminate::<F, S, false>(
                        simd,
                        matrix,
                        size,
                        #[inline(always)]
                        |matrix| self.fill_matrix::<S>(simd, slopes, v, matrix),
                    );
                    *log_det = F::add(simd, *log_det, cell);
                }
            }
            LogDet::Exact => {
                for (v, log_det) in log_det.iter_mut().enumerate() {
                    let [determinant, ..] = self.small_determinant::<S>(simd, slopes, v);
                    *log_det = F::add(simd, *log_det, F::ln_abs(simd, determinant));
                }
            }
            LogDet::Taylor1 => {
                for (slopes, &m) in slopes.chunks_exact(row).zip(&self.diagonal) {
                    let m = F::splat(simd, m);
                    for (log_det, &slope) in log_det.iter_mut().zip(slopes) {
                        *log_det = F::fma(simd, m, slope, *log_det);
                    }
                }
            }
            LogDet::Taylor2 => product::<F, S, NV, true>(
                simd,
                &self.lower,
                self.hidden,
                slopes,
                #[inline(always)]
                |j, column, sum| {
                    let m = F::splat(simd, self.diagonal[j]);
                    for (v, sum) in sum.into_iter().enumerate() {
                        let at = column + v;
                        let term = F::sub(simd, m, sum);
                        log_det[at] = F::fma(simd, slopes[j * row + at], term, log_det[at]);
                    }
                },
            ),
        }
    }

    /// `D M / T` of vector `v` of the rows.
    #[inline(always)]
    fn fill_matrix<S: Simd>(&self, simd: S, slopes: &[V<F, S>], v: usize, matrix: &mut [V<F, S>]) {
        let row = CHUNK / F::lanes::<S>();
        let (h, size) = (self.hidden, self.matrix_size());
        for (j, entries) in matrix.chunks_exact_mut(size).enumerate() {
            entries.fill(F::splat(simd, F::default()));
            if j < h {
                let slope = slopes[j * row + v];
                for (entry, &m) in entries.iter_mut().zip(&self.m[j * h..(j + 1) * h]) {
                    *entry = F::mul(simd, slope, F::splat(simd, m));
                }
            }
        }
    }

    /// For one or two hidden units and vector `v` of the rows, with `m_j = M_jj / T`: the determinant
    /// of `I + D M / T`, its two diagonal factors `1 + D_j m_j`, and `D_1 D_2`.
    #[inline(always)]
    pub(super) fn small_determinant<S: Simd>(
        &self,
        simd: S,
        slopes: &[V<F, S>],
        v: usize,
    ) -> [V<F, S>; 4] {
        let row = CHUNK / F::lanes::<S>();
        let one = F::splat(simd, F::of(1.0));
        let m = |q: usize| F::splat(simd, self.m[q]);
        let first = F::fma(simd, slopes[v], m(0), one);
        if self.hidden == 1 {
            return [first, first, one, F::splat(simd, F::default())];
        }
        let both = F::mul(simd, slopes[v], slopes[row + v]);
        let second = F::fma(simd, slopes[row + v], m(3), one);
        let corner = F::mul(simd, m(1), m(2));
        let determinant = F::fnma(simd, both, corner, F::mul(simd, first, second));
        [determinant, first, second, both]
    }

    /// `ga_t` from `ga_(t+1)`: adds `D (gs - 2 s gD)`, `gs` in `pulled` and `gD` the gradient of the
    /// log-determinant with respect to the slopes. `weighted` becomes `g D`.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn pull_back<S: Simd, const NV: usize>(
        &self,
        simd: S,
        units: &[V<F, S>],
        slopes: &[V<F, S>],
        log_det: &[V<F, S>],
        pulled: &[V<F, S>],
        after: &[V<F, S>],
        before: &mut [V<F, S>],
        weighted: &mut [V<F, S>],
        elimination: Elimination<'_, V<F, S>>,
    ) {
        let row = CHUNK / F::lanes::<S>();
        let h = self.hidden;
        match self.log_det {
            LogDet::None => {
                for at in 0..h * row {
                    before[at] = unit_gradient::<F, S>(
                        simd,
                        units,
                        slopes,
                        pulled,
                        after,
                        at,
                        F::splat(simd, F::default()),
                    );
                }
            }
            LogDet::Exact if self.is_eliminated() => {
                // With A = I + D M / T and g dlog|det A| = g tr(A^-1 dA): g (M A^-1)_jj / T for D_j, and
                // g (A^-1)_kj D_j for M_jk / T.
                let size = self.matrix_size();
                let Elimination { matrix, sums } = elimination;
                for v in 0..row {
                    let g = log_det[v];
                    eliminate::<F, S, true>(
                        simd,
                        matrix,
                        size,
                        #[inline(always)]
                        |matrix| self.fill_matrix::<S>(simd, slopes, v, matrix),
                    );
                    for j in 0..h {
                        weighted[j * row + v] = F::splat(simd, F::default());
                    }
                    for k in 0..h {
                        let inverse = &matrix[k * size..k * size + h];
                        let sums = &mut sums[k * size..k * size + h];
                        let m = &self.m_t[k * h..(k + 1) * h];
                        for j in 0..h {
                            let at = j * row + v;
                            let entry = F::mul(simd, g, inverse[j]);
                            weighted[at] = F::fma(simd, F::splat(simd, m[j]), entry, weighted[at]);
                            sums[j] = F::fma(simd, slopes[at], entry, sums[j]);
                        }
                    }
                    for j in 0..h {
                        let at = j * row + v;
                        before[at] = unit_gradient::<F, S>(
                            simd,
                            units,
                            slopes,
                            pulled,
                            after,
                            at,
                            weighted[at],
                        );
                    }
                }
            }
            LogDet::Exact => {
                // d det / d D_1 = m_1 (1 + D_2 m_2) - D_2 M_12 M_21 / T^2, and likewise D_2.
                let m = |q: usize| F::splat(simd, self.m[q]);
                for v in 0..row {
                    let [determinant, first, second, _] =
                        self.small_determinant::<S>(simd, slopes, v);
                    let g = F::div(simd, log_det[v], determinant);
                    weighted[v] = g;
                    if h == 1 {
                        before[v] = unit_gradient::<F, S>(
                            simd,
                            units,
                            slopes,
                            pulled,
                            after,
                            v,
                            F::mul(simd, g, m(0)),
                        );
                    } else {
                        let corner = F::mul(simd, m(1), m(2));
                        let one = F::mul(simd, m(0), second);
                        let one = F::fnma(simd, slopes[row + v], corner, one);
                        let two = F::mul(simd, m(3), first);
                        let two = F::fnma(simd, slopes[v], corner, two);
                        before[v] = unit_gradient::<F, S>(
                            simd,
                            units,
                            slopes,
                            pulled,
                            after,
                            v,
                            F::mul(simd, g, one),
                        );
                        before[row + v] = unit_gradient::<F, S>(
                            simd,
                            units,
                            slopes,
                            pulled,
                            after,
                            row + v,
                            F::mul(simd, g, two),
                        );
                    }
                }
            }
            LogDet::Taylor1 => {
                for j in 0..h {
                    let m = F::splat(simd, self.diagonal[j]);
                    for (v, &g) in log_det.iter().enumerate() {
                        let at = j * row + v;
                        weighted[at] = F::mul(simd, g, slopes[at]);
                        before[at] = unit_gradient::<F, S>(
                            simd,
                            units,
                            slopes,
                            pulled,
                            after,
                            at,
                            F::mul(simd, g, m),
                        );
                    }
                }
            }
            LogDet::Taylor2 => product::<F, S, NV, false>(
                simd,
                &self.squares,
                h,
                slopes,
                #[inline(always)]
                |j, column, sum| {
                    let m = F::splat(simd, self.diagonal[j]);
                    for (v, sum) in sum.into_iter().enumerate() {
                        let at = j * row + column + v;
                        let g = log_det[column + v];
                        weighted[at] = F::mul(simd, g, slopes[at]);
                        before[at] = unit_gradient::<F, S>(
                            simd,
                            units,
                            slopes,
                            pulled,
                            after,
                            at,
                            F::mul(simd, g, F::sub(simd, m, sum)),
                        );
                    }
                },
            ),
        }
    }

    /// The sums of [`add_log_det`](Self::add_log_det)'s exact form: gradients with respect to
    /// `M_jj / T` and to `M_12 M_21 / T^2`.
    #[inline(always)]
    pub(super) fn add_small_sums<S: Simd>(
        &self,
        simd: S,
        slopes: &[V<F, S>],
        scales: &[V<F, S>],
        sums: &Sums,
        partial: &mut [F],
    ) {
        let row = CHUNK / F::lanes::<S>();
        let size = self.hidden * row;
        let mut total = [F::splat(simd, F::default()); 3];
        for (slopes, scales) in slopes.chunks_exact(size).zip(scales.chunks_exact(size)) {
            for v in 0..row {
                let [_, first, second, both] = self.small_determinant::<S>(simd, slopes, v);
                let scale = scales[v];
                let one = F::mul(simd, slopes[v], second);
                total[0] = F::fma(simd, scale, one, total[0]);
                if self.hidden == 2 {
                    let two = F::mul(simd, slopes[row + v], first);
                    total[1] = F::fma(simd, scale, two, total[1]);
                    total[2] = F::fnma(simd, scale, both, total[2]);
                }
            }
        }
        for (j, &sum) in total.iter().enumerate().take(self.hidden) {
            add_to(partial, sums.slopes + j, F::sum(simd, sum));
        }
        add_to(partial, sums.pairs, F::sum(simd, total[2]));
    }
}

/// `ga_(t+1) + D (gs - 2 s gD)` at one place of the rows.
#[inline(always)]
fn unit_gradient<F: Real, S: Simd>(
    simd: S,
    units: &[V<F, S>],
    slopes: &[V<F, S>],
    pulled: &[V<F, S>],
    after: &[V<F, S>],
    at: usize,
    g_slope: V<F, S>,
) -> V<F, S> {
    let s = units[at];
    let g = F::fnma(simd, F::add(simd, s, s), g_slope, pulled[at]);
    F::fma(simd, slopes[at], g, after[at])
}
