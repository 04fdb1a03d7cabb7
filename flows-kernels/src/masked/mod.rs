//! Autoregressive layers, whose weights a mask leaves out: affine maps and splines of each variable.

mod affine;
mod backward;
mod buffer;
mod forward;
mod incremental;
mod map;
mod network;
mod packed;
mod pattern;
mod product;
mod run;
mod spline;
mod tile;

pub use buffer::release_memory;
pub use incremental::{Incremental, Layer as SortedLayer};
pub use map::Map;
pub use network::{Layer, Network};
pub use pattern::Pattern;
pub use run::{Gradients, Run, Trace};
pub use spline::{KnotSlope, Spline};

/// The activation between the layers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(a, 0)`.
    Relu,
    /// `tanh(a)`.
    Tanh,
    /// `a` where positive, `exp(a) - 1` elsewhere.
    Elu,
}

/// The log-scale `a` and shift `t` of `y = x exp(a) + t`, from raw outputs `m` and `s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// `a = s`, constant beyond `|s| = limit`; `t = m`.
    Exp {
        /// Largest `|a|`.
        limit: f64,
    },
    /// `a = bound tanh(s / bound), t = m`.
    TanhBounded {
        /// Largest `|a|`.
        bound: f64,
    },
    /// `a = s / (1 + |s / bound|), t = m`.
    SoftClip {
        /// Largest `|a|`.
        bound: f64,
    },
    /// `exp(a) = softplus(s) + floor, t = m`.
    Softplus {
        /// Smallest scale.
        floor: f64,
    },
    /// `exp(a) = sigmoid(s + offset) + floor, t = m`.
    Sigmoid {
        /// Shift of the raw scale.
        offset: f64,
        /// Smallest scale.
        floor: f64,
    },
    /// `g = sigmoid(max(s + 1, lowest)), y = g x + (1 - g) m`.
    SigmoidGate {
        /// Where the gate stays as it is.
        lowest: f64,
    },
    /// `a = 0, t = m`; there is no `s`.
    Additive,
}
