//! The map of each variable, from its raw parameters: one vector of variables, or of samples, at a time.

use pulp::Simd;

use super::Scale;
use super::affine::Affine;
use super::spline::{MOST_BINS, Spline, SplineRoom};
use crate::lanes::Real;

/// Raw parameters of a variable at most: those of a spline with free ends.
const MOST_KINDS: usize = 3 * MOST_BINS + 1;

/// The map of each variable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Map {
    /// `y = x exp(a) + t`.
    Affine(Scale),
    /// A rational-quadratic spline.
    Spline(Spline),
}

/// Where one vector of raw parameters is brought together, with room for what a map computes on the way.
pub(super) struct Room<F: Real, S: Simd> {
    /// The raw parameters; a backward pass puts their gradients in their place.
    pub(super) raw: [F::V<S>; MOST_KINDS],
    spline: SplineRoom<F, S>,
}

impl<F: Real, S: Simd> Room<F, S> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        Self {
            raw: [F::splat(simd, F::default()); MOST_KINDS],
            spline: SplineRoom::new(simd),
        }
    }
}

impl Map {
    /// Raw parameters of each variable.
    pub fn kinds(self) -> usize {
        match self {
            Self::Affine(Scale::Additive) => 1,
            Self::Affine(_) => 2,
            Self::Spline(spline) => spline.kinds(),
        }
    }

    /// Value and log-slope.
    #[inline(always)]
    pub(super) fn forward<F: Real, S: Simd>(
        self,
        simd: S,
        room: &mut Room<F, S>,
        x: F::V<S>,
    ) -> [F::V<S>; 2] {
        match self {
            Self::Affine(scale) => {
                let affine = affine::<F, S>(simd, scale, room);
                let y = F::fma(simd, x, F::exp(simd, affine.log_scale), affine.shift);
                [y, affine.log_scale]
            }
            Self::Spline(spline) => {
                spline.forward::<F, S>(simd, &room.raw[..spline.kinds()], &mut room.spline, x)
            }
        }
    }

    /// Value and log-slope of the inverse.
    #[inline(always)]
    pub(super) fn inverse<F: Real, S: Simd>(
        self,
        simd: S,
        room: &mut Room<F, S>,
        y: F::V<S>,
    ) -> [F::V<S>; 2] {
        match self {
            Self::Affine(scale) => {
                let affine = affine::<F, S>(simd, scale, room);
                let minus = F::sub(simd, F::splat(simd, F::default()), affine.log_scale);
                let x = F::mul(simd, F::sub(simd, y, affine.shift), F::exp(simd, minus));
                [x, minus]
            }
            Self::Spline(spline) => {
                spline.inverse::<F, S>(simd, &room.raw[..spline.kinds()], &mut room.spline, y)
            }
        }
    }

    /// The gradient of `x` from those of value and log-slope; those of the raw parameters take their place.
    #[inline(always)]
    pub(super) fn backward<F: Real, S: Simd>(
        self,
        simd: S,
        room: &mut Room<F, S>,
        x: F::V<S>,
        [value, log_slope]: [F::V<S>; 2],
    ) -> F::V<S> {
        match self {
            Self::Affine(scale) => {
                let affine = affine::<F, S>(simd, scale, room);
                let scaled = F::mul(simd, value, F::exp(simd, affine.log_scale));
                if scale != Scale::Additive {
                    let by_log_scale = F::fma(simd, scaled, x, log_slope);
                    let by_shift = F::mul(simd, value, affine.shift_by_s);
                    room.raw[1] = F::fma(simd, by_log_scale, affine.slope, by_shift);
                }
                room.raw[0] = F::mul(simd, value, affine.shift_by_m);
                scaled
            }
            Self::Spline(spline) => {
                let raw = &mut room.raw[..spline.kinds()];
                spline.backward::<F, S>(simd, raw, &mut room.spline, x, [value, log_slope])
            }
        }
    }
}

#[inline(always)]
fn affine<F: Real, S: Simd>(simd: S, scale: Scale, room: &Room<F, S>) -> Affine<F, S> {
    // Without a scale there is no second parameter, and it is not read.
    Affine::new(simd, scale, room.raw[0], room.raw[1])
}
