//! Rational-quadratic splines of a vector of variables, with their slopes.
//!
//! Durkan, Bekasov, Murray & Papamakarios, arXiv:1906.04032, equations 4 to 8, without a branch: the bins are gone
//! through from left to right, and every lane keeps the last one that begins at or before its number.

use std::ops::Range;

use pulp::Simd;

use super::affine::{abs, sigmoid, softplus};
use crate::lanes::Real;

/// Bins at most: their widths, heights and knots lie in the first-level cache.
pub(super) const MOST_BINS: usize = 32;

/// A monotone rational-quadratic spline on `[-bound, bound]`, the identity outside. Raw parameters are those of the
/// widths, of the heights, and of the slopes at the knots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spline {
    /// Number of bins, 2 to [`most_bins`](Self::most_bins).
    pub bins: usize,
    /// Half the length of the interval.
    pub bound: f64,
    /// Least fraction of the interval that a bin takes, on both axes.
    pub least: [f64; 2],
    /// How a slope comes from its raw parameter.
    pub slope: KnotSlope,
    /// Whether the slopes at both ends have raw parameters; otherwise they are 1.
    pub free_ends: bool,
}

/// The slope at a knot from a raw parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KnotSlope {
    /// `softplus(r) + floor`
    Softplus {
        /// Least slope.
        floor: f64,
    },
    /// `exp(r / (1 + |r / bound|))`; the raw parameters of widths and heights are clipped likewise, at half the bound.
    SoftClip {
        /// Largest logarithm of a slope.
        bound: f64,
    },
}

/// The exponentials of one softmax, and what makes them a distribution.
struct Softmax<F: Real, S: Simd> {
    exps: [F::V<S>; MOST_BINS],
    /// One over their sum.
    norm: F::V<S>,
}

/// What a spline computes on the way.
pub(super) struct SplineRoom<F: Real, S: Simd> {
    widths: Softmax<F, S>,
    heights: Softmax<F, S>,
    /// Where the bins begin on the axis that is searched, and where the last one ends.
    knots: [F::V<S>; MOST_BINS + 1],
}

impl<F: Real, S: Simd> SplineRoom<F, S> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        let zero = F::splat(simd, F::default());
        let softmax = || Softmax {
            exps: [zero; MOST_BINS],
            norm: zero,
        };
        Self {
            widths: softmax(),
            heights: softmax(),
            knots: [zero; MOST_BINS + 1],
        }
    }
}

/// The bin of each lane.
struct Bin<F: Real, S: Simd> {
    left: F::V<S>,
    width: F::V<S>,
    bottom: F::V<S>,
    height: F::V<S>,
    /// Height over width.
    steepness: F::V<S>,
    /// Raw parameters of the slopes at both ends.
    raw: [F::V<S>; 2],
    /// The slopes.
    slopes: [F::V<S>; 2],
}

/// Which axis is searched.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    X,
    Y,
}

impl Spline {
    /// Bins for which there is a kernel.
    pub fn most_bins() -> usize {
        MOST_BINS
    }

    /// Raw parameters of each variable.
    pub(super) fn kinds(self) -> usize {
        if self.free_ends {
            3 * self.bins + 1
        } else {
            3 * self.bins - 1
        }
    }

    /// Which knots have a raw parameter for their slope.
    fn knots(self) -> Range<usize> {
        if self.free_ends {
            0..self.bins + 1
        } else {
            1..self.bins
        }
    }

    /// Value and log-slope.
    #[inline(always)]
    pub(super) fn forward<F: Real, S: Simd>(
        self,
        simd: S,
        raw: &[F::V<S>],
        room: &mut SplineRoom<F, S>,
        x: F::V<S>,
    ) -> [F::V<S>; 2] {
        let zero = F::splat(simd, F::default());
        let at = self.inside::<F, S>(simd, x, x, zero);
        let bin = self.bin::<F, S>(simd, raw, room, Axis::X, at);
        let u = F::div(simd, F::sub(simd, at, bin.left), bin.width);
        let y = F::fma(simd, bin.rise(simd, u), bin.height, bin.bottom);
        let log_slope = bin.log_slope(simd, u);
        [
            self.inside::<F, S>(simd, x, y, x),
            self.inside::<F, S>(simd, x, log_slope, zero),
        ]
    }

    /// Value and log-slope of the inverse.
    #[inline(always)]
    pub(super) fn inverse<F: Real, S: Simd>(
        self,
        simd: S,
        raw: &[F::V<S>],
        room: &mut SplineRoom<F, S>,
        y: F::V<S>,
    ) -> [F::V<S>; 2] {
        let zero = F::splat(simd, F::default());
        let at = self.inside::<F, S>(simd, y, y, zero);
        let bin = self.bin::<F, S>(simd, raw, room, Axis::Y, at);
        let v = F::div(simd, F::sub(simd, at, bin.bottom), bin.height);
        let u = bin.place(simd, v);
        let x = F::fma(simd, u, bin.width, bin.left);
        let log_slope = F::sub(simd, zero, bin.log_slope(simd, u));
        [
            self.inside::<F, S>(simd, y, x, y),
            self.inside::<F, S>(simd, y, log_slope, zero),
        ]
    }

    /// The gradient of `x` from those of value and log-slope; those of the raw parameters take their place.
    #[inline(always)]
    pub(super) fn backward<F: Real, S: Simd>(
        self,
        simd: S,
        raw: &mut [F::V<S>],
        room: &mut SplineRoom<F, S>,
        x: F::V<S>,
        [outer, log_slope]: [F::V<S>; 2],
    ) -> F::V<S> {
        let number = |value: f64| F::splat(simd, F::of(value));
        let (zero, one) = (number(0.0), number(1.0));
        let at = self.inside::<F, S>(simd, x, x, zero);
        // Outside nothing reaches the parameters.
        let value = self.inside::<F, S>(simd, x, outer, zero);
        let log_slope = self.inside::<F, S>(simd, x, log_slope, zero);
        let bin = self.bin::<F, S>(simd, raw, room, Axis::X, at);
        let u = F::div(simd, F::sub(simd, at, bin.left), bin.width);

        // With p = u (1 - u): rise R = (s u^2 + d_0 p) / den, den = s (1 - 2 p) + (d_0 + d_1) p, and
        // log-slope L = 2 log s - 2 log den + log w, w = d_1 u^2 + 2 s p + d_0 (1 - u)^2.
        let s = bin.steepness;
        let [first, last] = bin.slopes;
        let rest = F::sub(simd, one, u);
        let p = F::mul(simd, u, rest);
        let [denominator, weighted] = bin.terms(simd, u);
        let by_den = F::div(simd, one, denominator);
        let by_weighted = F::div(simd, one, weighted);
        let rise = bin.rise(simd, u);
        let (u_2, rest_2) = (F::mul(simd, u, u), F::mul(simd, rest, rest));
        let straight = F::fnma(simd, number(2.0), p, one);
        let turn = F::fnma(simd, number(2.0), u, one);

        let up = F::mul(simd, value, bin.height);
        let steep = F::mul(simd, log_slope, by_weighted);
        let flat = F::mul(simd, F::mul(simd, number(-2.0), log_slope), by_den);
        // dR/du = s w / den^2.
        let slope = F::mul(
            simd,
            F::mul(simd, s, weighted),
            F::mul(simd, by_den, by_den),
        );
        let excess = F::fnma(simd, number(2.0), s, F::add(simd, first, last));
        let weighted_by_u = {
            let ends = F::sub(simd, F::mul(simd, last, u), F::mul(simd, first, rest));
            F::mul(simd, number(2.0), F::fma(simd, s, turn, ends))
        };
        let by_u = F::mul(simd, up, slope);
        let by_u = F::fma(simd, flat, F::mul(simd, excess, turn), by_u);
        let by_u = F::fma(simd, steep, weighted_by_u, by_u);

        let up_by_den = F::mul(simd, up, by_den);
        // dR/ds = (u^2 - R (1 - 2 p)) / den.
        let by_s = F::mul(simd, up_by_den, F::fnma(simd, rise, straight, u_2));
        let by_s = F::fma(simd, flat, straight, by_s);
        let by_s = F::fma(simd, steep, F::add(simd, p, p), by_s);
        let by_s = F::add(
            simd,
            by_s,
            F::div(simd, F::add(simd, log_slope, log_slope), s),
        );
        // dR/dd_0 = p (1 - R) / den, dR/dd_1 = -p R / den.
        let shared = F::mul(simd, flat, p);
        let risen = F::mul(simd, up_by_den, p);
        let by_first = F::fma(simd, steep, rest_2, shared);
        let by_first = F::fma(simd, risen, F::sub(simd, one, rise), by_first);
        let by_last = F::fma(simd, steep, u_2, shared);
        let by_last = F::fnma(simd, risen, rise, by_last);

        // s = height / width, u = (x - left) / width.
        let by_width = F::div(simd, one, bin.width);
        let by_x = F::mul(simd, by_u, by_width);
        let by_height = F::fma(simd, value, rise, F::mul(simd, by_s, by_width));
        let narrower = F::fma(simd, by_s, s, F::mul(simd, by_u, u));
        let by_right = F::sub(simd, zero, F::mul(simd, narrower, by_width));
        let by_left = F::sub(simd, F::sub(simd, zero, by_x), by_right);
        let by_bottom = F::sub(simd, value, by_height);

        let raw_slopes = [
            F::mul(
                simd,
                by_first,
                self.slope_of_slope::<F, S>(simd, bin.raw[0]),
            ),
            F::mul(simd, by_last, self.slope_of_slope::<F, S>(simd, bin.raw[1])),
        ];
        let knots = &room.knots[..=self.bins];
        for (k, raw) in self.knots().zip(&mut raw[2 * self.bins..]) {
            // The bin of a lane ends at knot k, or begins there.
            let mut gradient = zero;
            if k > 0 {
                let here = self.from::<F, S>(simd, knots, k - 1, at, raw_slopes[1], zero);
                gradient = self.from::<F, S>(simd, knots, k, at, zero, here);
            }
            if k < self.bins {
                let here = self.from::<F, S>(simd, knots, k, at, raw_slopes[0], gradient);
                gradient = self.from::<F, S>(simd, knots, k + 1, at, zero, here);
            }
            *raw = gradient;
        }
        let ends = [[by_left, by_right], [by_bottom, by_height]];
        let softmaxes = [&room.widths, &room.heights];
        let clip = self.clip();
        for (axis, (softmax, [begin, end])) in softmaxes.into_iter().zip(ends).enumerate() {
            let raw = &mut raw[axis * self.bins..][..self.bins];
            let span = 2.0 * self.bound * (1.0 - self.bins as f64 * self.least[axis]);
            let norm = F::mul(simd, softmax.norm, number(span));
            // A fraction moves every knot on its right: both ends of the bins behind it, the end of its own.
            let end = self.from::<F, S>(simd, knots, self.bins - 1, at, zero, end);
            let both = {
                let begin = self.from::<F, S>(simd, knots, 1, at, begin, zero);
                F::add(simd, begin, end)
            };
            let mut mean = zero;
            for (k, &exp) in softmax.exps[..self.bins].iter().enumerate() {
                let own = self.from::<F, S>(simd, knots, k, at, end, zero);
                let own = self.from::<F, S>(simd, knots, k + 1, at, both, own);
                mean = F::fma(simd, exp, own, mean);
            }
            let mean = F::mul(simd, mean, softmax.norm);
            for (k, (raw, &exp)) in raw.iter_mut().zip(&softmax.exps).enumerate() {
                let own = self.from::<F, S>(simd, knots, k, at, end, zero);
                let own = self.from::<F, S>(simd, knots, k + 1, at, both, own);
                let share = F::mul(simd, exp, norm);
                let gradient = F::mul(simd, share, F::sub(simd, own, mean));
                *raw = match clip {
                    None => gradient,
                    Some(bound) => {
                        let [_, slope] = soft_clip::<F, S>(simd, *raw, bound);
                        F::mul(simd, gradient, slope)
                    }
                };
            }
        }
        self.inside::<F, S>(simd, x, by_x, outer)
    }

    /// `then` in the lanes whose bin begins at knot `k` or on its right. None begins at the last knot.
    #[inline(always)]
    fn from<F: Real, S: Simd>(
        self,
        simd: S,
        knots: &[F::V<S>],
        k: usize,
        at: F::V<S>,
        then: F::V<S>,
        otherwise: F::V<S>,
    ) -> F::V<S> {
        match k {
            0 => then,
            k if k == self.bins => otherwise,
            k => F::where_less(simd, at, knots[k], otherwise, then),
        }
    }

    /// `then` in the lanes where `x` lies in the interval, or is NaN.
    #[inline(always)]
    fn inside<F: Real, S: Simd>(
        self,
        simd: S,
        x: F::V<S>,
        then: F::V<S>,
        otherwise: F::V<S>,
    ) -> F::V<S> {
        let bound = F::splat(simd, F::of(self.bound));
        let low = F::splat(simd, F::of(-self.bound));
        let then = F::where_less(simd, bound, x, otherwise, then);
        F::where_less(simd, x, low, otherwise, then)
    }

    /// At what the raw parameters of widths and heights are clipped.
    fn clip(self) -> Option<f64> {
        match self.slope {
            KnotSlope::Softplus { .. } => None,
            KnotSlope::SoftClip { bound } => Some(0.5 * bound),
        }
    }

    /// The bin in which each lane lies, that on its right at a knot.
    #[inline(always)]
    fn bin<F: Real, S: Simd>(
        self,
        simd: S,
        raw: &[F::V<S>],
        room: &mut SplineRoom<F, S>,
        axis: Axis,
        at: F::V<S>,
    ) -> Bin<F, S> {
        let number = |value: f64| F::splat(simd, F::of(value));
        let (zero, one) = (number(0.0), number(1.0));
        let (bins, bound) = (self.bins, number(self.bound));
        let low = F::sub(simd, zero, bound);
        let clip = self.clip();
        softmax(simd, &raw[..bins], clip, &mut room.widths);
        softmax(simd, &raw[bins..2 * bins], clip, &mut room.heights);
        let slopes = &raw[2 * bins..];
        let step = |softmax: &Softmax<F, S>, least: f64| {
            let length = 2.0 * self.bound;
            let scale = number(length * (1.0 - bins as f64 * least));
            [F::mul(simd, softmax.norm, scale), number(length * least)]
        };
        let [x_scale, x_least] = step(&room.widths, self.least[0]);
        let [y_scale, y_least] = step(&room.heights, self.least[1]);
        let slope_at = |k: usize| {
            let range = self.knots();
            slopes[k.clamp(range.start, range.end - 1) - range.start]
        };

        let (mut x, mut y) = (low, low);
        let mut found = [low, low, bound, bound, zero, zero];
        for k in 0..bins {
            // The last knot is not summed up: it would not lie at the bound exactly.
            let (next_x, next_y) = if k + 1 < bins {
                let width = F::fma(simd, room.widths.exps[k], x_scale, x_least);
                let height = F::fma(simd, room.heights.exps[k], y_scale, y_least);
                (F::add(simd, x, width), F::add(simd, y, height))
            } else {
                (bound, bound)
            };
            let knot = if axis == Axis::X { x } else { y };
            room.knots[k] = knot;
            let own = [x, y, next_x, next_y, slope_at(k), slope_at(k + 1)];
            for (found, own) in found.iter_mut().zip(own) {
                *found = if k == 0 {
                    own
                } else {
                    F::where_less(simd, at, knot, *found, own)
                };
            }
            (x, y) = (next_x, next_y);
        }
        room.knots[bins] = bound;

        let [left, bottom, right, top, first, last] = found;
        let mut slopes = [
            self.slope_at::<F, S>(simd, first),
            self.slope_at::<F, S>(simd, last),
        ];
        if !self.free_ends {
            slopes[0] = F::where_less(simd, at, room.knots[1], one, slopes[0]);
            slopes[1] = F::where_less(simd, at, room.knots[bins - 1], slopes[1], one);
        }
        let (width, height) = (F::sub(simd, right, left), F::sub(simd, top, bottom));
        Bin {
            left,
            width,
            bottom,
            height,
            steepness: F::div(simd, height, width),
            raw: [first, last],
            slopes,
        }
    }

    /// The slope at a knot from its raw parameter.
    #[inline(always)]
    fn slope_at<F: Real, S: Simd>(self, simd: S, raw: F::V<S>) -> F::V<S> {
        match self.slope {
            KnotSlope::Softplus { floor } => {
                let floor = F::splat(simd, F::of(floor));
                F::add(simd, softplus::<F, S>(simd, raw), floor)
            }
            KnotSlope::SoftClip { bound } => F::exp(simd, soft_clip::<F, S>(simd, raw, bound)[0]),
        }
    }

    /// How that slope changes with the parameter.
    #[inline(always)]
    fn slope_of_slope<F: Real, S: Simd>(self, simd: S, raw: F::V<S>) -> F::V<S> {
        match self.slope {
            KnotSlope::Softplus { .. } => sigmoid::<F, S>(simd, raw),
            KnotSlope::SoftClip { bound } => {
                let [clipped, slope] = soft_clip::<F, S>(simd, raw, bound);
                F::mul(simd, F::exp(simd, clipped), slope)
            }
        }
    }
}

/// `r / (1 + |r / bound|)` and its derivative.
#[inline(always)]
fn soft_clip<F: Real, S: Simd>(simd: S, r: F::V<S>, bound: f64) -> [F::V<S>; 2] {
    let one = F::splat(simd, F::of(1.0));
    let size = F::mul(
        simd,
        abs::<F, S>(simd, r),
        F::splat(simd, F::of(1.0 / bound)),
    );
    let inverse = F::div(simd, one, F::add(simd, one, size));
    [F::mul(simd, r, inverse), F::mul(simd, inverse, inverse)]
}

/// Exponentials of the raw parameters, the largest 1.
#[inline(always)]
fn softmax<F: Real, S: Simd>(simd: S, raw: &[F::V<S>], clip: Option<f64>, out: &mut Softmax<F, S>) {
    let exps = &mut out.exps[..raw.len()];
    let mut largest = raw[0];
    for (exp, &raw) in exps.iter_mut().zip(raw) {
        let raw = match clip {
            None => raw,
            Some(bound) => soft_clip::<F, S>(simd, raw, bound)[0],
        };
        *exp = raw;
    }
    for (k, &raw) in exps.iter().enumerate() {
        largest = if k == 0 {
            raw
        } else {
            F::where_less(simd, largest, raw, raw, largest)
        };
    }
    let mut sum = F::splat(simd, F::default());
    for exp in exps {
        *exp = F::exp(simd, F::sub(simd, *exp, largest));
        sum = F::add(simd, sum, *exp);
    }
    out.norm = F::div(simd, F::splat(simd, F::of(1.0)), sum);
}

impl<F: Real, S: Simd> Bin<F, S> {
    /// `s (1 - 2 p) + (d_0 + d_1) p` and `d_1 u^2 + 2 s p + d_0 (1 - u)^2` with `p = u (1 - u)`: sums of what is not
    /// negative.
    #[inline(always)]
    fn terms(&self, simd: S, u: F::V<S>) -> [F::V<S>; 2] {
        let number = |value: f64| F::splat(simd, F::of(value));
        let [first, last] = self.slopes;
        let rest = F::sub(simd, number(1.0), u);
        let p = F::mul(simd, u, rest);
        let straight = F::fnma(simd, number(2.0), p, number(1.0));
        let bent = F::mul(simd, F::add(simd, first, last), p);
        let denominator = F::fma(simd, self.steepness, straight, bent);
        let twice = F::mul(simd, F::add(simd, p, p), self.steepness);
        let weighted = F::fma(simd, last, F::mul(simd, u, u), twice);
        let weighted = F::fma(simd, first, F::mul(simd, rest, rest), weighted);
        [denominator, weighted]
    }

    /// How far up the bin, from 0 to 1, at `u` of the way through it.
    #[inline(always)]
    fn rise(&self, simd: S, u: F::V<S>) -> F::V<S> {
        let one = F::splat(simd, F::of(1.0));
        let p = F::mul(simd, u, F::sub(simd, one, u));
        let [denominator, _] = self.terms(simd, u);
        let above = F::mul(simd, self.steepness, F::mul(simd, u, u));
        F::div(simd, F::fma(simd, self.slopes[0], p, above), denominator)
    }

    /// `log dy/dx` there.
    #[inline(always)]
    fn log_slope(&self, simd: S, u: F::V<S>) -> F::V<S> {
        let [denominator, weighted] = self.terms(simd, u);
        let ratio = F::div(simd, self.steepness, denominator);
        let twice = F::ln_abs(simd, ratio);
        F::add(simd, F::add(simd, twice, twice), F::ln_abs(simd, weighted))
    }

    /// Where the bin has risen to `v`: the root of `a u^2 + b u + c` in `[0, 1]`, with `a = s - d_0 + v e`,
    /// `b = d_0 - v e`, `c = -s v` and `e = d_1 + d_0 - 2 s`, by the form of the solution that subtracts nothing of
    /// nearly the same size.
    #[inline(always)]
    fn place(&self, simd: S, v: F::V<S>) -> F::V<S> {
        let number = |value: f64| F::splat(simd, F::of(value));
        let (zero, one, two) = (number(0.0), number(1.0), number(2.0));
        let (s, [first, last]) = (self.steepness, self.slopes);
        let bent = F::mul(simd, v, F::fnma(simd, two, s, F::add(simd, first, last)));
        let a = F::add(simd, F::sub(simd, s, first), bent);
        let b = F::sub(simd, first, bent);
        let minus_c = F::mul(simd, s, v);
        let four = F::mul(simd, number(4.0), F::mul(simd, a, minus_c));
        let inner = F::fma(simd, b, b, four);
        // The root is real; rounding may make it seem otherwise.
        let root = F::sqrt(simd, F::where_less(simd, inner, zero, zero, inner));
        let above = F::where_less(
            simd,
            b,
            zero,
            F::sub(simd, root, b),
            F::mul(simd, two, minus_c),
        );
        let below = F::where_less(simd, b, zero, F::mul(simd, two, a), F::add(simd, b, root));
        let u = F::div(simd, above, below);
        let u = F::where_less(simd, u, zero, zero, u);
        F::where_less(simd, one, u, one, u)
    }
}
