//! Polynomials whose derivative is a sum of squares.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::inverse::monotone_inverse;
use super::quadrature::integral;
use super::transform::{Elementwise, Transform, parameter, parameter_block};
use crate::error::Error;

/// `y = c + integral_0^x (min_slope + mean_k (1 + sum_l a_kl (u / bound)^l)^2) du` on `[-bound, bound]`, and on with the
/// slope at the end beyond it.
///
/// The integrand is a polynomial of degree `2 degree`, which Gauss-Legendre quadrature on `degree + 1` nodes integrates
/// exactly. The inverse is a root find. Jaini, Selby & Yu, *Sum-of-Squares Polynomial Flow*, arXiv:1905.02325, equation 8;
/// the `1 +`, the least slope and the scale of `u` are zuko's, whose polynomials go on beyond the bound.
#[derive(Module, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SumOfSquares {
    /// Number of polynomials, at least 1.
    #[module(skip)]
    pub polynomials: usize,
    /// Degree of each, at least 1.
    #[module(skip)]
    pub degree: usize,
    /// Half the length of the interval, the same for every variable.
    #[module(skip)]
    pub bound: f64,
    /// Least slope.
    #[module(skip)]
    pub min_slope: f64,
}

impl Default for SumOfSquares {
    /// Three polynomials of degree 4 on `[-10, 10]`.
    fn default() -> Self {
        Self {
            polynomials: 3,
            degree: 4,
            bound: 10.0,
            min_slope: 1e-3,
        }
    }
}

impl SumOfSquares {
    /// The slope at points `[batch, points, k]`.
    fn slope<B: Backend>(&self, raw: &Tensor<B, 3>, points: Tensor<B, 3>) -> Tensor<B, 3> {
        let u = points * self.bound.recip();
        let count = u.dims()[1];
        let square = |polynomial: usize| {
            let from = polynomial * (self.degree + 1);
            let coefficient = |l| parameter_block(raw, from + l, 1).repeat_dim(1, count);
            // From the highest power down, as Horner does.
            let highest = coefficient(self.degree);
            let lower = (0..self.degree).rev();
            let sum = lower.fold(highest, |sum, l| sum * u.clone() + coefficient(l));
            (sum + 1.0).square()
        };
        let squares = (1..self.polynomials).fold(square(0), |sum, k| sum + square(k));
        squares * (self.polynomials as f64).recip() + self.min_slope
    }
}

impl<B: Backend> Transform<B> for SumOfSquares {
    fn parameters(&self) -> usize {
        self.polynomials * (self.degree + 1) + 1
    }

    fn identity(&self) -> Vec<f64> {
        let constant = (1.0 - self.min_slope).sqrt() - 1.0;
        let polynomial = |i| {
            if i % (self.degree + 1) == 0 {
                constant
            } else {
                0.0
            }
        };
        let coefficients = (0..self.polynomials * (self.degree + 1)).map(polynomial);
        coefficients.chain([0.0]).collect()
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        let constant = parameter(&raw, Transform::<B>::parameters(self) - 1);
        let slope = |points| self.slope(&raw, points);
        let rising = integral(slope, x, self.bound, self.degree + 1);
        Elementwise {
            value: rising.value + constant,
            ..rising
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        monotone_inverse(self, raw, y)
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        for (field, value) in [("polynomials", self.polynomials), ("degree", self.degree)] {
            if !(1..=64).contains(&value) {
                return Err(Error::config(layer, field, value, "1 to 64"));
            }
        }
        if !(self.bound >= 1e-3 && self.bound <= 1e6) {
            let expected = "1e-3 to 1e6";
            return Err(Error::config(layer, "bound", self.bound, expected));
        }
        super::rq_spline::validate_slope(layer, self.min_slope)
    }
}
