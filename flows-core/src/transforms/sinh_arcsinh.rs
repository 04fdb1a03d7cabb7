//! Skewness and heaviness of tails.

use burn::module::Module;
use burn::tensor::{Tensor, activation, backend::Backend};
use serde::{Deserialize, Serialize};

use super::hyperbolic::{arcsinh, log_cosh, sinh};
use super::transform::{Elementwise, Transform, parameter};

/// Largest `|a|` and `|b|`: f32 holds the map of numbers up to `1e15`.
const BOUNDS: [f64; 2] = [4.0, std::f64::consts::LN_2];

/// `y = sinh((arcsinh(x) + a) exp(b))`: `a` moves mass to one side, `b` makes tails heavier or lighter, with
/// `|a| < 4` and `|b| < log 2`. Of a normal variable it is Jones and Pewsey's sinh-arcsinh distribution (Biometrika 96 (2009) 761).
///
/// With `u = (arcsinh(x) + a) exp(b)`, `log dy/dx = log cosh u + b - log sqrt(1 + x^2)`.
#[derive(Module, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinhArcsinh {}

fn bounded<B: Backend>(raw: &Tensor<B, 3>) -> [Tensor<B, 2>; 2] {
    [0, 1].map(|p| {
        let bound = BOUNDS[p];
        activation::tanh(parameter(raw, p) * bound.recip()) * bound
    })
}

impl<B: Backend> Transform<B> for SinhArcsinh {
    fn parameters(&self) -> usize {
        2
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0, 0.0]
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        let [a, b] = bounded(&raw);
        let inner = arcsinh(x);
        let u = (inner.clone() + a) * b.clone().exp();
        Elementwise {
            log_slope: log_cosh(u.clone()) + b - log_cosh(inner),
            value: sinh(u),
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        let [a, b] = bounded(&raw);
        let u = arcsinh(y);
        let inner = u.clone() * b.clone().neg().exp() - a;
        Elementwise {
            log_slope: log_cosh(inner.clone()) - b - log_cosh(u),
            value: sinh(inner),
        }
    }
}
