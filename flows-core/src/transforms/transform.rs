//! What a transform is.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

use crate::bijector::Mapped;
use crate::domain::Interval;
use crate::error::Error;

/// What a transform gives back, variable by variable.
#[derive(Debug, Clone)]
pub struct Elementwise<B: Backend> {
    /// Mapped variables, `[batch, k]`.
    pub value: Tensor<B, 2>,
    /// Logarithm of the slope of the direction called, in nats, `[batch, k]`.
    pub log_slope: Tensor<B, 2>,
}

impl<B: Backend> Elementwise<B> {
    /// The map of the `k` variables together: its log-determinant is the sum of their log-slopes.
    pub fn into_mapped(self) -> Mapped<B> {
        Mapped {
            value: self.value,
            log_det: self.log_slope.sum_dim(1).squeeze_dim(1),
        }
    }
}

/// A monotone map `y = f(x; theta)` of one variable, with its parameters `theta` as raw numbers from a network.
///
/// It has to be monotone, onto the reals or [its domain](Self::domain), and finite for any finite raw parameters. A
/// transform is a module, since some own weights; one without any derives it, and holds its configuration in fields
/// marked `#[module(skip)]`, so that a saved model can tell it from others.
pub trait Transform<B: Backend>: Module<B> + ModuleDisplay + 'static {
    /// Raw parameters of each variable, at least 1.
    fn parameters(&self) -> usize;

    /// The raw parameters at which a new layer starts, one number each: those of a map near the identity.
    fn identity(&self) -> Vec<f64>;

    /// The variables that it takes, and gives: the reals, unless it maps an interval onto itself.
    fn domain(&self) -> Interval {
        Interval::REALS
    }

    /// The period of the variables, where they are angles.
    fn period(&self) -> Option<f64> {
        None
    }

    /// `y = f(x)` and `log f'(x)`.
    ///
    /// # Shapes
    /// - `raw`: `[batch, parameters, k]`, see [`parameter`]; `x`, value and log-slope: `[batch, k]`
    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B>;

    /// `x` with `f(x) = y`, and the log-slope of the inverse, `-log f'(x)`.
    ///
    /// # Shapes
    /// As in [`forward`](Self::forward).
    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B>;

    /// Checks the configuration.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, for `layer`.
    fn validate(&self, _layer: &'static str) -> Result<(), Error> {
        Ok(())
    }
}

/// Raw parameter `p` of every variable.
///
/// # Shapes
/// - `raw`: `[batch, parameters, k]`; output `[batch, k]`
pub fn parameter<B: Backend>(raw: &Tensor<B, 3>, p: usize) -> Tensor<B, 2> {
    let [rows, _, k] = raw.dims();
    raw.clone()
        .slice([0..rows, p..p + 1, 0..k])
        .reshape([rows, k])
}

/// Raw parameters `from`, `from + 1`, and so on, `count` of them, of every variable.
///
/// # Shapes
/// - `raw`: `[batch, parameters, k]`; output `[batch, count, k]`
pub fn parameter_block<B: Backend>(raw: &Tensor<B, 3>, from: usize, count: usize) -> Tensor<B, 3> {
    let [rows, _, k] = raw.dims();
    raw.clone().slice([0..rows, from..from + count, 0..k])
}
