//! The log-determinant of a cell from the entries of its Jacobian.

// Loop variables are the indices of the formulas.
#![allow(clippy::needless_range_loop)]

use pulp::Simd;

use super::{Matrix, Narrow, V};
use crate::ddnf::LogDet;
use crate::lanes::Real;

impl<F: Real, const D: usize> Narrow<F, D> {
    /// The log-determinant of one cell from `J / T`.
    #[inline(always)]
    pub(super) fn cell_log_det<S: Simd>(&self, simd: S, jacobian: &Matrix<V<F, S>, D>) -> V<F, S> {
        match self.log_det {
            LogDet::None => F::splat(simd, F::default()),
            LogDet::Exact => {
                let (_, determinant) = cofactors::<F, S, D>(simd, jacobian);
                F::ln_abs(simd, determinant)
            }
            LogDet::Taylor1 => trace::<F, S, D>(simd, jacobian),
            LogDet::Taylor2 => {
                let mut square = F::splat(simd, F::default());
                for i in 0..D {
                    for l in 0..D {
                        square = F::fma(simd, jacobian[i][l], jacobian[l][i], square);
                    }
                }
                let half = F::splat(simd, F::of(0.5));
                F::fnma(simd, half, square, trace::<F, S, D>(simd, jacobian))
            }
        }
    }

    /// Its gradient with respect to `J / T`, times `scale`.
    #[inline(always)]
    pub(super) fn cell_log_det_gradient<S: Simd>(
        &self,
        simd: S,
        jacobian: &Matrix<V<F, S>, D>,
        scale: V<F, S>,
    ) -> Matrix<V<F, S>, D> {
        let mut gradient = [[F::splat(simd, F::default()); D]; D];
        match self.log_det {
            LogDet::None => {}
            LogDet::Exact => {
                let (cofactors, determinant) = cofactors::<F, S, D>(simd, jacobian);
                let scale = F::div(simd, scale, determinant);
                for i in 0..D {
                    for l in 0..D {
                        gradient[i][l] = F::mul(simd, scale, cofactors[i][l]);
                    }
                }
            }
            LogDet::Taylor1 => {
                for i in 0..D {
                    gradient[i][i] = scale;
                }
            }
            LogDet::Taylor2 => {
                for i in 0..D {
                    gradient[i][i] = scale;
                    for l in 0..D {
                        gradient[i][l] = F::fnma(simd, scale, jacobian[l][i], gradient[i][l]);
                    }
                }
            }
        }
        gradient
    }
}

#[inline(always)]
fn trace<F: Real, S: Simd, const D: usize>(simd: S, jacobian: &Matrix<V<F, S>, D>) -> V<F, S> {
    let mut sum = jacobian[0][0];
    for i in 1..D {
        sum = F::add(simd, sum, jacobian[i][i]);
    }
    sum
}

/// Cofactors and determinant of `I + J`, for `D` up to 3.
#[inline(always)]
fn cofactors<F: Real, S: Simd, const D: usize>(
    simd: S,
    jacobian: &Matrix<V<F, S>, D>,
) -> (Matrix<V<F, S>, D>, V<F, S>) {
    const { assert!(D >= 1 && D <= 3) };
    let one = F::splat(simd, F::of(1.0));
    let zero = F::splat(simd, F::default());
    let mut a = *jacobian;
    for i in 0..D {
        a[i][i] = F::add(simd, a[i][i], one);
    }
    let mut cofactors = [[one; D]; D];
    if D == 2 {
        cofactors[0][0] = a[1][1];
        cofactors[1][1] = a[0][0];
        cofactors[0][1] = F::sub(simd, zero, a[1][0]);
        cofactors[1][0] = F::sub(simd, zero, a[0][1]);
    }
    if D == 3 {
        for i in 0..D {
            for l in 0..D {
                // Cyclic indices carry the sign.
                let (i1, i2, l1, l2) = ((i + 1) % D, (i + 2) % D, (l + 1) % D, (l + 2) % D);
                let minor = F::mul(simd, a[i1][l1], a[i2][l2]);
                cofactors[i][l] = F::fnma(simd, a[i1][l2], a[i2][l1], minor);
            }
        }
    }
    let mut determinant = F::mul(simd, a[0][0], cofactors[0][0]);
    for l in 1..D {
        determinant = F::fma(simd, a[0][l], cofactors[0][l], determinant);
    }
    (cofactors, determinant)
}
