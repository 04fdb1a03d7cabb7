//! Scale and shift: RealNVP, MAF, IAF, NICE.

use burn::module::Module;
use burn::tensor::{Tensor, activation, backend::Backend};
use serde::{Deserialize, Serialize};

use super::transform::{Elementwise, Transform, parameter};
use crate::error::Error;
use crate::magnitude::magnitude;
use crate::softplus::{sigmoid, softplus, softplus_inverse};

/// The log-scale `a` and shift `t` of `y = x exp(a) + t`, from the raw outputs `(m, s)` of a
/// conditioner.
///
/// Every choice gives finite values and finite gradients for any finite `(m, s)`; they differ in the
/// range of the scale and in how gradients fade at its ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogScale {
    /// `a = s, t = m` within `|s| <= 20`, constant beyond: RealNVP (arXiv:1605.08803, eq. 8) and
    /// MAF (arXiv:1705.07057, eq. 3), with an exponential that cannot overflow.
    Exp,
    /// `a = bound tanh(s / bound), t = m`: scales in `(exp(-bound), exp(bound))`. A smooth function that is
    /// the identity near 0, and the default at `bound = 3`.
    TanhBounded {
        /// Largest `|a|`, in nats; at most 40, so that f32 holds the square of the scale.
        bound: f64,
    },
    /// `a = s / (1 + |s / bound|), t = m`: the same range, left more slowly. Zuko uses
    /// `bound = -ln 1e-3`.
    SoftClip {
        /// Largest `|a|`, in nats, at most 40.
        bound: f64,
    },
    /// `exp(a) = softplus(s) + floor, t = m`: linear for large `s`. Nflows' autoregressive layers use
    /// `floor = 1e-3`.
    Softplus {
        /// Smallest scale, at least `1e-17`.
        floor: f64,
    },
    /// `exp(a) = sigmoid(s + offset) + floor, t = m`: scales below `1 + floor`. Nflows' couplings use
    /// `offset = 2, floor = 1e-3`.
    Sigmoid {
        /// Shift of the raw scale, at most 40 either way.
        offset: f64,
        /// Smallest scale, at least `1e-17`.
        floor: f64,
    },
    /// `g = sigmoid(s + 1), y = g x + (1 - g) m`: the gate of IAF (arXiv:1606.04934, eq. 13 and 14,
    /// with a forget-gate bias of 1). Below `s = -31` the gate stays where it is.
    SigmoidGate,
    /// `a = 0, t = m`: volume-preserving, NICE (arXiv:1410.8516, eq. 5). The conditioner gives no `s`.
    Additive,
}

crate::one_key!(LogScale);

impl Default for LogScale {
    fn default() -> Self {
        Self::TanhBounded { bound: 3.0 }
    }
}

/// Largest `|a|` of [`LogScale::Exp`]: squares of scaled values stay finite in f32.
pub(crate) const EXP_LIMIT: f64 = 20.0;

/// Largest `|a|` that a configuration may ask for: squares of the scales `e^a` are finite, and not 0, in f32.
const LARGEST: f64 = 40.0;

/// Smallest floor of a scale: above `e^-40`, as [`LARGEST`] asks.
const SMALLEST_FLOOR: f64 = 1e-17;

/// Below this the gate of [`LogScale::SigmoidGate`] is constant, so that a scale is never 0.
pub(crate) const GATE_LIMIT: f64 = -30.0;

impl LogScale {
    /// Checks bounds and floors.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, for `layer`.
    pub fn validate(&self, layer: &'static str) -> Result<(), Error> {
        let within = |field, value: f64, fits: bool, range: String| match fits {
            true => Ok(()),
            false => Err(Error::config(layer, field, value, range)),
        };
        let check_floor = |floor: f64| {
            let range = format!("{SMALLEST_FLOOR:e} to {:e}", SMALLEST_FLOOR.recip());
            let fits = (SMALLEST_FLOOR..=SMALLEST_FLOOR.recip()).contains(&floor);
            within("floor", floor, fits, range)
        };
        match *self {
            Self::TanhBounded { bound } | Self::SoftClip { bound } => {
                let fits = bound > 0.0 && bound <= LARGEST;
                within("bound", bound, fits, format!("positive, at most {LARGEST}"))
            }
            Self::Softplus { floor } => check_floor(floor),
            Self::Sigmoid { offset, floor } => {
                let fits = offset.abs() <= LARGEST;
                within("offset", offset, fits, format!("-{LARGEST} to {LARGEST}"))?;
                check_floor(floor)
            }
            Self::Exp | Self::SigmoidGate | Self::Additive => Ok(()),
        }
    }

    /// Raw outputs for each variable: 2, or 1 where there is no scale.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Additive => 1,
            _ => 2,
        }
    }

    /// The raw outputs at which a new layer starts: the identity where the range of the scale
    /// has 1 well inside it, otherwise `(0, 0)` as published.
    fn start(&self) -> Vec<f64> {
        match self {
            Self::Additive => vec![0.0],
            Self::Softplus { floor } if *floor < 1.0 => vec![0.0, softplus_inverse(1.0 - floor)],
            _ => vec![0.0, 0.0],
        }
    }

    /// `(a, t)` from raw outputs `(m, s)`, `[batch, k]` each; no `a` for a scale of 1.
    fn affine<B: Backend>(self, raw: &Tensor<B, 3>) -> (Option<Tensor<B, 2>>, Tensor<B, 2>) {
        let m = parameter(raw, 0);
        if self == Self::Additive {
            return (None, m);
        }
        let s = parameter(raw, 1);
        let (log_scale, shift) = match self {
            Self::Exp => (s.clamp(-EXP_LIMIT, EXP_LIMIT), m),
            // Not `s / bound`: Burn takes the gradient of a division by a scalar through f32.
            Self::TanhBounded { bound } => (activation::tanh(s * (1.0 / bound)) * bound, m),
            Self::SoftClip { bound } => (s.clone() / (magnitude(s * (1.0 / bound)) + 1.0), m),
            Self::Softplus { floor } => ((softplus(s) + floor).log(), m),
            Self::Sigmoid { offset, floor } => ((sigmoid(s + offset) + floor).log(), m),
            Self::SigmoidGate => {
                let s = (s + 1.0).clamp_min(GATE_LIMIT);
                let rest = sigmoid(s.clone().neg());
                (softplus(s.neg()).neg(), rest * m)
            }
            Self::Additive => unreachable!("handled above"),
        };
        (Some(log_scale), shift)
    }
}

/// `y = x exp(a) + t`, `log dy/dx = a`, with `a` and `t` from two raw parameters as [`LogScale`] says, or from one
/// where there is no scale.
#[derive(Module, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Affine {
    /// Parameterization of the scale.
    #[module(skip)]
    pub scale: LogScale,
}

impl From<LogScale> for Affine {
    fn from(scale: LogScale) -> Self {
        Self { scale }
    }
}

impl<B: Backend> Transform<B> for Affine {
    fn parameters(&self) -> usize {
        self.scale.parameters()
    }

    fn identity(&self) -> Vec<f64> {
        self.scale.start()
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        match self.scale.affine(&raw) {
            (None, shift) => Elementwise {
                log_slope: x.zeros_like(),
                value: x + shift,
            },
            (Some(a), shift) => Elementwise {
                value: x * a.clone().exp() + shift,
                log_slope: a,
            },
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        match self.scale.affine(&raw) {
            (None, shift) => Elementwise {
                log_slope: y.zeros_like(),
                value: y - shift,
            },
            (Some(a), shift) => Elementwise {
                value: (y - shift) * a.clone().neg().exp(),
                log_slope: a.neg(),
            },
        }
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        self.scale.validate(layer)
    }
}
