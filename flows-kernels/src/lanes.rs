//! Samples as SIMD lanes: the number type and the functions of one vector.
//!
//! Buffers are flat; a *row* is one feature of all [`CHUNK`] samples of a chunk, so a row is
//! `CHUNK / lanes` vectors long, and everything below works on `NV` neighbouring vectors of it.

use std::cell::RefCell;

use pulp::bytemuck::{self, Pod};
use pulp::{Simd, WithSimd};

/// Samples that are worked on together. A multiple of `2 * lanes` on every instruction set, so
/// that rows split evenly into pairs of vectors.
pub(crate) const CHUNK: usize = 32;

/// Alignment of every scratch buffer in bytes: a cache line, the widest vector there is.
const ALIGNMENT: usize = 64;

/// Element types the kernels are compiled for.
pub trait Real: Pod + Default + PartialEq + Send + Sync + std::fmt::Debug {
    /// One vector of an instruction set.
    type V<S: Simd>: Pod;

    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// As f64.
    fn wide(self) -> f64;
    /// Sum of two numbers.
    fn plus(self, other: Self) -> Self;
    /// Product of two numbers.
    fn times(self, other: Self) -> Self;
    /// The number in every lane.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::V<S>;
    /// `a + b`
    fn add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a - b`
    fn sub<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a b`
    fn mul<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a / b`
    fn div<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `a b + c`, in one rounding where the machine has it.
    fn fma<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// `c - a b`, in one rounding where the machine has it.
    fn fnma<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// The larger of `|a|` and `b`; where one is no number, either.
    fn max_abs<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// `then` in the lanes where `a < b`, `otherwise` in the others.
    fn where_less<S: Simd>(
        simd: S,
        a: Self::V<S>,
        b: Self::V<S>,
        then: Self::V<S>,
        otherwise: Self::V<S>,
    ) -> Self::V<S>;
    /// Square root.
    fn sqrt<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S>;
    /// Hyperbolic tangent.
    fn tanh<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S>;
    /// Exponential.
    fn exp<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S>;
    /// `log |x|`.
    fn ln_abs<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S>;
    /// `log |1 + x|`, to the digits of a small `x`.
    #[inline(always)]
    fn ln_abs_1p<S: Simd>(simd: S, x: Self::V<S>) -> Self::V<S> {
        let one = Self::splat(simd, Self::of(1.0));
        let sum = Self::add(simd, one, x);
        // What the sum has lost, to first order.
        let lost = Self::sub(simd, x, Self::sub(simd, sum, one));
        Self::add(simd, Self::ln_abs(simd, sum), Self::div(simd, lost, sum))
    }
    /// Sum of all lanes.
    fn sum<S: Simd>(simd: S, x: Self::V<S>) -> Self;

    /// Runs `work` on `len` numbers of this thread's scratch memory, aligned to cache lines and
    /// holding whatever the last call left there.
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;

    /// Numbers as vectors.
    fn vectors<S: Simd>(row: &[Self]) -> &[Self::V<S>] {
        bytemuck::cast_slice(row)
    }

    /// Numbers as vectors.
    fn vectors_mut<S: Simd>(row: &mut [Self]) -> &mut [Self::V<S>] {
        bytemuck::cast_slice_mut(row)
    }

    /// Vectors as numbers.
    fn numbers<S: Simd>(vectors: &[Self::V<S>]) -> &[Self] {
        bytemuck::cast_slice(vectors)
    }

    /// Vectors as numbers.
    fn numbers_mut<S: Simd>(vectors: &mut [Self::V<S>]) -> &mut [Self] {
        bytemuck::cast_slice_mut(vectors)
    }

    /// Numbers in one vector.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::V<S>>() / size_of::<Self>()
    }
}

/// Odd numerator over even denominator of `tanh` on `[-8, 8]`: a weighted least-squares fit
/// iterated to equal ripples, relative error 1.9e-8 before rounding. In `f32` the result is within
/// 4e-7 of `tanh` everywhere and never beyond 1 in magnitude.
const TANH_NUMERATOR: [f32; 6] = [
    1.0,
    0.129_792_21,
    0.002_985_859_8,
    9.878_641e-6,
    -1.470_416_3e-8,
    2.350_846_3e-11,
];
const TANH_DENOMINATOR: [f32; 4] = [1.0, 0.463_125_38, 0.024_027_916, 0.000_237_202_94];
const TANH_LIMIT: f32 = 8.0;

/// `log((1 + s) / (1 - s)) = 2 s + s z (2/3 + 2/5 z + 2/7 z^2 + 2/9 z^3 + ...)` with `z = s^2`; on the
/// reduced range `z <= 0.0295` and the terms left out stay below 1e-8.
const LN_SERIES: [f32; 4] = [2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0];
/// `log 2` in two parts; the first has trailing zeros, so that an exponent times it is exact.
const LN_2_HIGH: f32 = 0.693_138_1;
const LN_2_LOW: f32 = 9.058_001e-6;

/// `exp(r) = 1 + r + r^2 (1/2 + r/6 + ...)`: the series to the seventh power; what it leaves out stays
/// below 6e-9 for `|r| <= log(2) / 2`.
const EXP_SERIES: [f32; 6] = [
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
];
/// Beyond these the exponential is infinite, or zero, rather than the last numbers of the format.
const EXP_LARGEST: f32 = 88.0;
const EXP_SMALLEST: f32 = -87.0;
/// `1.5 * 2^23`: a number of moderate size plus this is rounded to an integer, which then stands in the
/// lowest bits.
const ROUNDING: f32 = 12_582_912.0;

thread_local! {
    static SCRATCH_F32: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static SCRATCH_F64: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

fn aligned<F: Real, R>(
    buffer: &RefCell<Vec<F>>,
    len: usize,
    work: impl FnOnce(&mut [F]) -> R,
) -> R {
    let mut buffer = buffer.borrow_mut();
    let slack = ALIGNMENT / size_of::<F>();
    if buffer.len() < len + slack {
        buffer.resize(len + slack, F::default());
    }
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(slack);
    work(&mut buffer[start..start + len])
}

impl Real for f32 {
    type V<S: Simd> = S::f32s;

    fn of(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f32s {
        simd.splat_f32s(value)
    }
    #[inline(always)]
    fn add<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }
    #[inline(always)]
    fn sub<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.sub_f32s(a, b)
    }
    #[inline(always)]
    fn mul<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.mul_f32s(a, b)
    }
    #[inline(always)]
    fn div<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.div_f32s(a, b)
    }
    #[inline(always)]
    fn fma<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }
    #[inline(always)]
    fn fnma<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.negate_mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn max_abs<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.max_f32s(b, simd.abs_f32s(a))
    }
    #[inline(always)]
    fn sqrt<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        simd.sqrt_f32s(x)
    }
    #[inline(always)]
    fn where_less<S: Simd>(
        simd: S,
        a: S::f32s,
        b: S::f32s,
        then: S::f32s,
        otherwise: S::f32s,
    ) -> S::f32s {
        simd.select_f32s(simd.less_than_f32s(a, b), then, otherwise)
    }

    #[inline(always)]
    fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let (low, high) = (simd.splat_f32s(EXP_SMALLEST), simd.splat_f32s(EXP_LARGEST));
        let magic = simd.splat_f32s(ROUNDING);
        // exp(x) = 2^k exp(r) with |r| <= log(2) / 2.
        let shifted = simd.mul_add_e_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), magic);
        let k = simd.sub_f32s(shifted, magic);
        let r = simd.negate_mul_add_e_f32s(k, simd.splat_f32s(LN_2_HIGH), x);
        let r = simd.negate_mul_add_e_f32s(k, simd.splat_f32s(LN_2_LOW), r);
        let tail = horner(simd, r, &EXP_SERIES);
        let power = simd.mul_add_e_f32s(simd.mul_f32s(r, r), tail, r);
        let power = simd.add_f32s(power, simd.splat_f32s(1.0));
        // 2^k by its bits: the shift leaves nothing but k, in the place of the exponent.
        let exponent = simd.wrapping_dyn_shl_u32s(
            simd.transmute_u32s_f32s(shifted),
            simd.splat_u32s(f32::MANTISSA_DIGITS - 1),
        );
        let two =
            simd.transmute_f32s_u32s(simd.add_u32s(exponent, simd.splat_u32s(1.0f32.to_bits())));
        let value = simd.mul_f32s(power, two);
        let infinity = simd.splat_f32s(f32::INFINITY);
        let value = Self::where_less(simd, high, x, infinity, value);
        let value = Self::where_less(simd, x, low, simd.splat_f32s(0.0), value);
        // A NaN is its own exponential.
        simd.select_f32s(simd.equal_f32s(x, x), value, x)
    }

    #[inline(always)]
    fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let x = clamp(simd, x, TANH_LIMIT);
        let s = simd.mul_f32s(x, x);
        let p = horner(simd, s, &TANH_NUMERATOR);
        let q = horner(simd, s, &TANH_DENOMINATOR);
        simd.div_f32s(simd.mul_f32s(x, p), q)
    }

    #[inline(always)]
    fn ln_abs<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let (one, half) = (simd.splat_f32s(1.0), simd.splat_f32s(0.5));
        let x = simd.abs_f32s(x);
        // Subnormal numbers are scaled into the normal range first.
        let tiny = simd.less_than_f32s(x, simd.splat_f32s(f32::MIN_POSITIVE));
        let scaled = simd.mul_f32s(x, simd.splat_f32s(33_554_432.0));
        let normal = simd.select_f32s(tiny, scaled, x);
        let shift = simd.select_f32s(tiny, simd.splat_f32s(25.0), simd.splat_f32s(0.0));
        // x = 2^k m with m in [sqrt(1/2), sqrt(2)).
        let root = std::f32::consts::FRAC_1_SQRT_2.to_bits();
        let bits = simd.add_u32s(
            simd.transmute_u32s_f32s(normal),
            simd.splat_u32s(1.0f32.to_bits() - root),
        );
        let m = simd.transmute_f32s_u32s(simd.add_u32s(
            simd.and_u32s(bits, simd.splat_u32s(0x007f_ffff)),
            simd.splat_u32s(root),
        ));
        // An integer below 2^23 in the mantissa of 2^23 is that integer plus 2^23.
        let k = simd.sub_f32s(
            simd.transmute_f32s_u32s(simd.or_u32s(
                simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(23)),
                simd.splat_u32s(8_388_608.0f32.to_bits()),
            )),
            simd.splat_f32s(8_388_608.0 + 127.0),
        );
        let k = simd.sub_f32s(k, shift);
        let f = simd.sub_f32s(m, one);
        let s = simd.div_f32s(f, simd.add_f32s(f, simd.splat_f32s(2.0)));
        let z = simd.mul_f32s(s, s);
        let r = simd.mul_f32s(z, horner(simd, z, &LN_SERIES));
        let h = simd.mul_f32s(half, simd.mul_f32s(f, f));
        // log(1 + f) = f - (h - s (h + r)).
        let tail = simd.mul_add_e_f32s(
            s,
            simd.add_f32s(h, r),
            simd.mul_f32s(k, simd.splat_f32s(LN_2_LOW)),
        );
        let log = simd.sub_f32s(f, simd.sub_f32s(h, tail));
        let log = simd.mul_add_e_f32s(k, simd.splat_f32s(LN_2_HIGH), log);
        let zero = simd.equal_f32s(x, simd.splat_f32s(0.0));
        let log = simd.select_f32s(zero, simd.splat_f32s(f32::NEG_INFINITY), log);
        // Infinity and NaN are their own logarithms.
        let finite = simd.less_than_f32s(x, simd.splat_f32s(f32::INFINITY));
        simd.select_f32s(finite, log, x)
    }

    #[inline(always)]
    fn sum<S: Simd>(simd: S, x: S::f32s) -> Self {
        simd.reduce_sum_f32s(x)
    }
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
        SCRATCH_F32.with(|buffer| aligned(buffer, len, work))
    }
}

impl Real for f64 {
    type V<S: Simd> = S::f64s;

    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self * other
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f64s {
        simd.splat_f64s(value)
    }
    #[inline(always)]
    fn add<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }
    #[inline(always)]
    fn sub<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.sub_f64s(a, b)
    }
    #[inline(always)]
    fn mul<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.mul_f64s(a, b)
    }
    #[inline(always)]
    fn div<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.div_f64s(a, b)
    }
    #[inline(always)]
    fn fma<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }
    #[inline(always)]
    fn fnma<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.negate_mul_add_e_f64s(a, b, c)
    }
    #[inline(always)]
    fn max_abs<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.max_f64s(b, simd.abs_f64s(a))
    }
    #[inline(always)]
    fn sqrt<S: Simd>(simd: S, x: S::f64s) -> S::f64s {
        simd.sqrt_f64s(x)
    }
    #[inline(always)]
    fn where_less<S: Simd>(
        simd: S,
        a: S::f64s,
        b: S::f64s,
        then: S::f64s,
        otherwise: S::f64s,
    ) -> S::f64s {
        simd.select_f64s(simd.less_than_f64s(a, b), then, otherwise)
    }
    // Double precision is for checking: the library's own functions, lane by lane.
    #[inline(always)]
    fn exp<S: Simd>(_simd: S, mut x: S::f64s) -> S::f64s {
        let lanes: &mut [f64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut x));
        lanes.iter_mut().for_each(|v| *v = v.exp());
        x
    }
    #[inline(always)]
    fn tanh<S: Simd>(_simd: S, mut x: S::f64s) -> S::f64s {
        let lanes: &mut [f64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut x));
        lanes.iter_mut().for_each(|v| *v = v.tanh());
        x
    }
    #[inline(always)]
    fn ln_abs<S: Simd>(_simd: S, mut x: S::f64s) -> S::f64s {
        let lanes: &mut [f64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut x));
        lanes.iter_mut().for_each(|v| *v = v.abs().ln());
        x
    }
    #[inline(always)]
    fn sum<S: Simd>(simd: S, x: S::f64s) -> Self {
        simd.reduce_sum_f64s(x)
    }
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
        SCRATCH_F64.with(|buffer| aligned(buffer, len, work))
    }
}

/// `x` clamped to `[-limit, limit]`, NaN kept.
#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::f32s, limit: f32) -> S::f32s {
    let (low, high) = (simd.splat_f32s(-limit), simd.splat_f32s(limit));
    if cfg!(any(target_arch = "x86", target_arch = "x86_64")) && !S::IS_SCALAR {
        // These two give their second operand where either is NaN.
        simd.max_f32s(low, simd.min_f32s(high, x))
    } else {
        let x = simd.select_f32s(simd.greater_than_f32s(x, high), high, x);
        simd.select_f32s(simd.less_than_f32s(x, low), low, x)
    }
}

#[inline(always)]
fn horner<S: Simd, const N: usize>(simd: S, x: S::f32s, coefficients: &[f32; N]) -> S::f32s {
    let mut sum = simd.splat_f32s(coefficients[N - 1]);
    for &c in coefficients[..N - 1].iter().rev() {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(c));
    }
    sum
}

/// Runs `work` with the best instruction set of `arch`.
pub(crate) fn dispatch<W: WithSimd>(arch: pulp::Arch, work: W) -> W::Output {
    arch.dispatch(work)
}

/// Copies a few numbers. Most often these are whole vectors or parts of one, and a copy of known length is no call.
#[inline(always)]
pub(crate) fn copy<F: Copy>(to: &mut [F], from: &[F]) {
    match to.len() {
        1 => copy_exactly::<F, 1>(to, from),
        2 => copy_exactly::<F, 2>(to, from),
        4 => copy_exactly::<F, 4>(to, from),
        8 => copy_exactly::<F, 8>(to, from),
        16 => copy_exactly::<F, 16>(to, from),
        32 => copy_exactly::<F, 32>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn copy_exactly<F: Copy, const N: usize>(to: &mut [F], from: &[F]) {
    match (<&mut [F; N]>::try_from(&mut *to), <&[F; N]>::try_from(from)) {
        (Ok(to), Ok(from)) => *to = *from,
        _ => to.copy_from_slice(from),
    }
}

/// One vector from at most as many numbers, zeros behind them.
#[inline(always)]
pub(crate) fn load<F: Real, S: Simd>(simd: S, numbers: &[F]) -> F::V<S> {
    let lanes = F::lanes::<S>();
    if numbers.len() == lanes {
        return F::vectors::<S>(numbers)[0];
    }
    let mut vector = F::splat(simd, F::default());
    let all: &mut [F] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut vector));
    copy(&mut all[..numbers.len()], numbers);
    vector
}

/// The first numbers of a vector.
#[inline(always)]
pub(crate) fn store<F: Real, S: Simd>(vector: F::V<S>, numbers: &mut [F]) {
    let all: &[F] = bytemuck::cast_slice(std::slice::from_ref(&vector));
    let count = numbers.len();
    copy(numbers, &all[..count]);
}
