//! Scale and shift of a vector of raw outputs, with their slopes.
//!
//! The formulas of [`Scale`], written out with their derivatives.

use pulp::Simd;

use super::Scale;
use crate::lanes::Real;

/// `y = x exp(a) + t` with `a(s)` and `t(m, s)`.
pub(super) struct Affine<F: Real, S: Simd> {
    /// `a`
    pub(super) log_scale: F::V<S>,
    /// `da/ds`
    pub(super) slope: F::V<S>,
    /// `t`
    pub(super) shift: F::V<S>,
    /// `dt/dm`
    pub(super) shift_by_m: F::V<S>,
    /// `dt/ds`
    pub(super) shift_by_s: F::V<S>,
}

impl<F: Real, S: Simd> Affine<F, S> {
    /// Scale and shift from raw outputs `m` and `s`; of [`Scale::Additive`] `s` is not read.
    #[inline(always)]
    pub(super) fn new(simd: S, scale: Scale, m: F::V<S>, s: F::V<S>) -> Self {
        let number = |value: f64| F::splat(simd, F::of(value));
        let (zero, one) = (number(0.0), number(1.0));
        let (log_scale, slope) = match scale {
            Scale::Additive => (zero, zero),
            Scale::Exp { limit } => {
                let (low, high) = (number(-limit), number(limit));
                let a = F::where_less(simd, s, low, low, s);
                let a = F::where_less(simd, high, s, high, a);
                let slope = F::where_less(simd, s, low, zero, one);
                (a, F::where_less(simd, high, s, zero, slope))
            }
            Scale::TanhBounded { bound } => {
                let t = F::tanh(simd, F::mul(simd, s, number(1.0 / bound)));
                (F::mul(simd, t, number(bound)), F::fnma(simd, t, t, one))
            }
            Scale::SoftClip { bound } => {
                let size = abs::<F, S>(simd, s);
                let d = F::fma(simd, size, number(1.0 / bound), one);
                let inverse = F::div(simd, one, d);
                let slope = F::mul(simd, inverse, inverse);
                (F::mul(simd, s, inverse), slope)
            }
            Scale::Softplus { floor } => {
                let g = F::add(simd, softplus::<F, S>(simd, s), number(floor));
                let slope = F::div(simd, sigmoid::<F, S>(simd, s), g);
                (F::ln_abs(simd, g), slope)
            }
            Scale::Sigmoid { offset, floor } => {
                let s = F::add(simd, s, number(offset));
                let gate = sigmoid::<F, S>(simd, s);
                let rest = sigmoid::<F, S>(simd, F::sub(simd, zero, s));
                let g = F::add(simd, gate, number(floor));
                let slope = F::div(simd, F::mul(simd, gate, rest), g);
                (F::ln_abs(simd, g), slope)
            }
            Scale::SigmoidGate { lowest } => {
                let s = F::add(simd, s, one);
                let low = number(lowest);
                let u = F::where_less(simd, s, low, low, s);
                let minus = F::sub(simd, zero, u);
                let a = F::sub(simd, zero, softplus::<F, S>(simd, minus));
                let rest = sigmoid::<F, S>(simd, minus);
                let open = F::where_less(simd, s, low, zero, one);
                // The gate moves with s as g (1 - g), and what it leaves of m against it.
                let change = F::mul(simd, F::mul(simd, F::exp(simd, a), rest), open);
                return Self {
                    log_scale: a,
                    slope: F::mul(simd, rest, open),
                    shift: F::mul(simd, rest, m),
                    shift_by_m: rest,
                    shift_by_s: F::sub(simd, zero, F::mul(simd, change, m)),
                };
            }
        };
        Self {
            log_scale,
            slope,
            shift: m,
            shift_by_m: one,
            shift_by_s: zero,
        }
    }
}

#[inline(always)]
pub(super) fn abs<F: Real, S: Simd>(simd: S, x: F::V<S>) -> F::V<S> {
    let zero = F::splat(simd, F::default());
    F::where_less(simd, x, zero, F::sub(simd, zero, x), x)
}

/// `max(x, 0) + log(1 + e)` with `e = exp(-|x|)`. With `w = 1 + e` as rounded, `log(w) e / (w - 1)` has the
/// relative error of `e` and not of `w` (Higham, *Accuracy and Stability*, section 1.14.1).
#[inline(always)]
pub(super) fn softplus<F: Real, S: Simd>(simd: S, x: F::V<S>) -> F::V<S> {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    let e = F::exp(simd, F::sub(simd, zero, abs::<F, S>(simd, x)));
    let w = F::add(simd, one, e);
    let rounded = F::sub(simd, w, one);
    let log = F::div(simd, F::mul(simd, F::ln_abs(simd, w), e), rounded);
    let log = F::where_less(simd, zero, rounded, log, e);
    F::add(simd, F::where_less(simd, x, zero, zero, x), log)
}

/// `1 / (1 + exp(-x))`, from the exponential that does not overflow.
#[inline(always)]
pub(super) fn sigmoid<F: Real, S: Simd>(simd: S, x: F::V<S>) -> F::V<S> {
    let (zero, one) = (F::splat(simd, F::default()), F::splat(simd, F::of(1.0)));
    let e = F::exp(simd, F::sub(simd, zero, abs::<F, S>(simd, x)));
    let inverse = F::div(simd, one, F::add(simd, one, e));
    F::where_less(simd, x, zero, F::mul(simd, e, inverse), inverse)
}
