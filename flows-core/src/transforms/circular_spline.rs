//! Rational-quadratic splines on the circle.

use std::f64::consts::PI;

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::rq_spline::{Knots, fractions, validate_fraction, validate_interval, validate_slope};
use super::transform::{Elementwise, Transform, parameter, parameter_block};
use crate::domain::Interval;
use crate::error::Error;
use crate::softplus::{softplus, softplus_inverse};
use crate::solve::without_graph;

/// Least fraction of the period that a bin takes, on both axes.
const MIN_FRACTION: f64 = 1e-3;

/// A map of the circle onto itself: a [rational-quadratic spline](super::RqSpline) with the same slope at both ends
/// of the period, then a rotation.
///
/// An angle is a number of `[-bound, bound]`, whose ends are one point. With the spline `S` of that interval onto
/// itself, `y = S(x) + shift`, brought back by whole periods, and `dy/dx = S'(x)`: both are continuous across the
/// seam. Widths and heights of the bins are `min + (1 - bins min) softmax(raw)` of the period with `min = 1e-3`;
/// slopes are `min_slope + softplus(raw)` at each knot, that at the last knot the one at the first.
///
/// As the domain is open, an angle of exactly `bound` has no density under a flow; there is none in theory, and in
/// f32 it takes rounding of the data to meet one.
///
/// Rezende et al., *Normalizing Flows on Tori and Spheres*, arXiv:2002.02428, section 2.1.3 and equation 14.
#[derive(Module, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircularSpline {
    /// Number of bins, at least 2.
    #[module(skip)]
    pub bins: usize,
    /// Half of the period.
    #[module(skip)]
    pub bound: f64,
    /// Least slope at a knot.
    #[module(skip)]
    pub min_slope: f64,
}

impl Default for CircularSpline {
    /// Eight bins over angles in radians, from `-pi` to `pi`.
    fn default() -> Self {
        Self {
            bins: 8,
            bound: PI,
            min_slope: 1e-3,
        }
    }
}

impl CircularSpline {
    fn knots<B: Backend>(&self, raw: &Tensor<B, 3>) -> Knots<B> {
        let bins = self.bins;
        let slopes = softplus(parameter_block(raw, 2 * bins, bins)) + self.min_slope;
        let [rows, _, k] = slopes.dims();
        let first = slopes.clone().slice([0..rows, 0..1, 0..k]);
        Knots::new(
            fractions(parameter_block(raw, 0, bins), MIN_FRACTION),
            fractions(parameter_block(raw, bins, bins), MIN_FRACTION),
            Tensor::cat(vec![slopes, first], 1),
            self.bound,
        )
    }

    fn shift<B: Backend>(&self, raw: &Tensor<B, 3>) -> Tensor<B, 2> {
        self.wrap(parameter(raw, 3 * self.bins))
    }

    /// The angle in `[-bound, bound]`.
    fn wrap<B: Backend>(&self, angle: Tensor<B, 2>) -> Tensor<B, 2> {
        let period = 2.0 * self.bound;
        let periods = (without_graph(angle.clone()) + self.bound) * period.recip();
        // Rounding may leave the interval by its last digit.
        (angle - periods.floor() * period).clamp(-self.bound, self.bound)
    }
}

impl<B: Backend> Transform<B> for CircularSpline {
    fn parameters(&self) -> usize {
        3 * self.bins + 1
    }

    fn identity(&self) -> Vec<f64> {
        let slope = softplus_inverse(1.0 - self.min_slope);
        let mut identity = vec![0.0; 3 * self.bins + 1];
        identity[2 * self.bins..3 * self.bins].fill(slope);
        identity
    }

    fn domain(&self) -> Interval {
        Interval {
            low: -self.bound,
            high: self.bound,
        }
    }

    fn period(&self) -> Option<f64> {
        Some(2.0 * self.bound)
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        let there = self.knots(&raw).rise(self.wrap(x));
        Elementwise {
            value: self.wrap(there.value + self.shift(&raw)),
            ..there
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        let turned = self.wrap(y - self.shift(&raw));
        self.knots(&raw).fall(turned)
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        validate_interval(layer, self.bins, self.bound)?;
        validate_fraction(layer, "bins", MIN_FRACTION, self.bins, 1.0)?;
        validate_slope(layer, self.min_slope)
    }
}
