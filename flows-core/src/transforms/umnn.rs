//! Integrals of a positive network.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::inverse::monotone_inverse;
use super::quadrature::integral;
use super::transform::{Elementwise, Transform, parameter, parameter_block};
use crate::error::Error;

/// Nodes of the quadrature.
const NODES: usize = 40;

/// Steepest unit, over `u / bound`: a steeper one would need more nodes.
const STEEPEST: f64 = 4.0;

/// Largest size of either part of the logarithm of the slope.
const LARGEST: f64 = 3.0;

/// `y = c + integral_0^x f(u) du` on `[-bound, bound]`, and on with the slope at the end beyond it, where `f` is the
/// exponential of a network with one hidden layer:
///
/// ```text
/// log f(u) = 3 tanh(b / 3) + 3 / units sum_j tanh(a_j) tanh(4 tanh(w_j) u / bound + d_j)
/// ```
///
/// The integral is Gauss-Legendre quadrature `Q` on 40 nodes, the log-slope is `log f(x)`, not that of `Q`. All
/// weights are parameters of the variable, and the bounds on them keep the singularities of `f` so far from the reals
/// that the two agree to rounding, `|dQ/dx - f(x)| < 1e-8` in f64 with any weights. The inverse is a root find of `Q`
/// itself.
///
/// Wehenkel & Louppe, *Unconstrained Monotonic Neural Networks*, arXiv:1908.05164, equations 1 and 4. There `f` is
/// `ELU(net) + 1` of a deep network with weights shared by all variables; its kink is what quadrature does not
/// follow.
#[derive(Module, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Umnn {
    /// Hidden units, at least 1.
    #[module(skip)]
    pub units: usize,
    /// Half the length of the interval, the same for every variable.
    #[module(skip)]
    pub bound: f64,
}

impl Default for Umnn {
    /// Eight units on `[-5, 5]`.
    fn default() -> Self {
        Self {
            units: 8,
            bound: 5.0,
        }
    }
}

impl Umnn {
    /// `f` at points `[batch, points, k]`.
    fn slope<B: Backend>(&self, raw: &Tensor<B, 3>, points: Tensor<B, 3>) -> Tensor<B, 3> {
        let u = points * (STEEPEST / self.bound);
        let count = u.dims()[1];
        let weight =
            |kind: usize, unit: usize| parameter_block(raw, 2 + kind * self.units + unit, 1);
        let unit = |j: usize| {
            let rate = weight(1, j).tanh().repeat_dim(1, count);
            let bend = (rate * u.clone() + weight(2, j).repeat_dim(1, count)).tanh();
            bend * weight(0, j).tanh().repeat_dim(1, count)
        };
        let sum = (1..self.units).fold(unit(0), |sum, j| sum + unit(j));
        let constant = (parameter_block(raw, 1, 1) * LARGEST.recip()).tanh();
        let network = sum * (self.units as f64).recip() + constant.repeat_dim(1, count);
        (network * LARGEST).exp()
    }
}

impl<B: Backend> Transform<B> for Umnn {
    fn parameters(&self) -> usize {
        2 + 3 * self.units
    }

    fn identity(&self) -> Vec<f64> {
        // Bends spread over the interval, of height 0.
        let place = |j: usize| (2.0 * j as f64 + 1.0) / self.units as f64 - 1.0;
        let rate: f64 = 1.0;
        let shifts = (0..self.units).map(|j| -STEEPEST * rate.tanh() * place(j));
        let rates = vec![rate; self.units];
        [vec![0.0; 2 + self.units], rates, shifts.collect()].concat()
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        let slope = |points| self.slope(&raw, points);
        let rising = integral(slope, x, self.bound, NODES);
        Elementwise {
            value: rising.value + parameter(&raw, 0),
            ..rising
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        monotone_inverse(self, raw, y)
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        if !(1..=64).contains(&self.units) {
            return Err(Error::config(layer, "units", self.units, "1 to 64"));
        }
        if !(self.bound >= 1e-3 && self.bound <= 1e6) {
            let expected = "1e-3 to 1e6";
            return Err(Error::config(layer, "bound", self.bound, expected));
        }
        Ok(())
    }
}
