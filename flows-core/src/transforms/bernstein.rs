//! Bernstein polynomials with increasing coefficients.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use super::inverse::monotone_inverse;
use super::simplex::softmax;
use super::transform::{Elementwise, Transform};
use crate::error::Error;
use crate::solve::without_graph;

/// `y = sum_i theta_i C(n, i) t^i (1 - t)^(n - i)` with `t = (x + bound) / (2 bound)`, on `[-bound, bound]`, and the
/// identity outside.
///
/// The coefficients `theta_0 = -bound < theta_1 < .. < theta_n = bound` increase, so the map does. Its slope at both ends
/// is 1 and bends nowhere there: the first two and the last two steps are `2 bound / n`, and those between are a softmax of
/// raw numbers. The inverse is a root find.
///
/// Arpogaus et al., *Short-Term Density Forecasting of Low-Voltage Load using Bernstein-Polynomial Normalizing Flows*,
/// arXiv:2204.13939, section 3.2; the ends are those of zuko's `BoundedBernsteinTransform`.
#[derive(Module, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bernstein {
    /// Steps of the coefficients that are free, at least 2; the polynomial has degree `steps + 4`.
    #[module(skip)]
    pub steps: usize,
    /// The interval is `[-bound, bound]`, on both axes.
    #[module(skip)]
    pub bound: f64,
}

impl Default for Bernstein {
    /// Seventeen steps on `[-5, 5]`.
    fn default() -> Self {
        Self {
            steps: 17,
            bound: 5.0,
        }
    }
}

/// Steps at each end of the coefficients that are fixed.
const FIXED: usize = 2;

impl Bernstein {
    fn degree(&self) -> usize {
        self.steps + 2 * FIXED
    }
}

/// `x^0` to `x^count`, `[batch, 1, k]` each.
fn powers<B: Backend>(x: &Tensor<B, 3>, count: usize) -> Vec<Tensor<B, 3>> {
    let mut powers = vec![x.ones_like()];
    for i in 0..count {
        powers.push(powers[i].clone() * x.clone());
    }
    powers
}

/// `C(n, i)` for `i` from 0 to `n`.
fn binomials(n: usize) -> Vec<f64> {
    let mut row = vec![1.0];
    for i in 0..n {
        row.push(row[i] * (n - i) as f64 / (i + 1) as f64);
    }
    row
}

/// The powers of `t` and of `1 - t`.
struct Powers<B: Backend>([Vec<Tensor<B, 3>>; 2]);

impl<B: Backend> Powers<B> {
    /// `sum_i coefficients_i C(n, i) t^i (1 - t)^(n - i)`, of `[batch, n + 1, k]` coefficients: an average of them.
    fn average(&self, coefficients: Tensor<B, 3>) -> Tensor<B, 2> {
        let Self([t, rest]) = self;
        let count = coefficients.dims()[1];
        let rest = rest[..count].iter().rev().cloned().collect();
        let basis = Tensor::cat(t[..count].to_vec(), 1) * Tensor::cat(rest, 1);
        let numbers = TensorData::new(binomials(count - 1), [1, count, 1]);
        let binomials = Tensor::from_data(numbers, (&basis.device(), basis.dtype()));
        (basis * binomials * coefficients).sum_dim(1).squeeze_dim(1)
    }
}

impl<B: Backend> Transform<B> for Bernstein {
    fn parameters(&self) -> usize {
        self.steps
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0; self.steps]
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        let [rows, k] = x.dims();
        let (degree, length) = (self.degree() as f64, 2.0 * self.bound);
        let at = without_graph(x.clone());
        let right = at.clone().greater_elem(self.bound);
        let outside = at.lower_elem(-self.bound).bool_or(right);
        // Neither branch sees what is not its own.
        let inside = x.clone().mask_fill(outside.clone(), 0.0);
        let t = ((inside + self.bound) * length.recip()).reshape([rows, 1, k]);

        let free = softmax(raw) * (length * self.steps as f64 / degree);
        let first = without_graph(free.clone().slice([0..rows, 0..1, 0..k])).zeros_like();
        let ends = (first.clone() + length / degree).repeat_dim(1, FIXED);
        let steps = Tensor::cat(vec![ends.clone(), free, ends], 1);
        let coefficients = Tensor::cat(vec![first, steps.clone().cumsum(1)], 1) - self.bound;
        let rest = t.clone().neg() + 1.0;
        let powers = Powers([t, rest].map(|x| powers(&x, self.degree())));
        let slope = powers.average(steps) * (degree / length);
        Elementwise {
            value: powers.average(coefficients).mask_where(outside.clone(), x),
            log_slope: slope.log().mask_fill(outside, 0.0),
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        monotone_inverse(self, raw, y)
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        // The slope inside is at least that of the fixed steps, of the order of `2^-degree`, which f32 holds.
        if !(2..=64).contains(&self.steps) {
            return Err(Error::config(layer, "steps", self.steps, "2 to 64"));
        }
        super::rq_spline::validate_interval(layer, self.steps, self.bound)
    }
}
