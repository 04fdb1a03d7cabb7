//! Deep sigmoidal maps: neural autoregressive flows.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::inverse::monotone_inverse;
use super::simplex::log_sum_exp;
use super::transform::{Elementwise, Transform, parameter_block};
use crate::error::Error;
use crate::softplus::{softplus, softplus_inverse};

/// `y = (1 - m) logit(sum_j w_j sigmoid(a_j x + b_j)) + m x` with `a_j > 0` and weights `w_j` that sum to one.
///
/// With `s_j = sigmoid(a_j x + b_j)`, `S = sum_j w_j s_j`, `p_j = w_j s_j / S` and `q_j = w_j (1 - s_j) / (1 - S)`, the
/// slope of the first term is `(1 - m) sum_j a_j p_j q_j / w_j`. All of it is computed in logarithms, without overflow
/// or underflow. The inverse is a root find.
///
/// The paper has `m = 0`. Between sigmoids far apart the slope then falls off exponentially, and no inverse in f32 gets
/// across; `m` is the least slope.
///
/// Huang, Krueger, Lacoste & Courville, *Neural Autoregressive Flows*, arXiv:1804.00779, equation 8. The rates `a_j` are
/// `m + softplus(raw)`, and `w` is a softmax.
#[derive(Module, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeepSigmoidal {
    /// Number of sigmoids, at least 1.
    #[module(skip)]
    pub units: usize,
    /// Least slope `m`, and least rate of a sigmoid.
    #[module(skip)]
    pub min_slope: f64,
}

impl Default for DeepSigmoidal {
    /// Eight sigmoids.
    fn default() -> Self {
        Self {
            units: 8,
            min_slope: 1e-3,
        }
    }
}

impl<B: Backend> Transform<B> for DeepSigmoidal {
    fn parameters(&self) -> usize {
        3 * self.units
    }

    /// All rates 1 and all shifts 0: `logit` undoes one sigmoid.
    fn identity(&self) -> Vec<f64> {
        let rate = softplus_inverse(1.0 - self.min_slope);
        [vec![rate; self.units], vec![0.0; 2 * self.units]].concat()
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        let ([rows, k], units) = (x.dims(), self.units);
        let rate = softplus(parameter_block(&raw, 0, units)) + self.min_slope;
        let shift = parameter_block(&raw, units, units);
        let spread = |t: Tensor<B, 2>| t.reshape([rows, 1, k]).repeat_dim(1, units);
        let logits = parameter_block(&raw, 2 * units, units);
        let log_w = logits.clone() - spread(log_sum_exp(logits));
        let at = rate.clone() * spread(x.clone()) + shift;
        let up = log_w.clone() - softplus(at.clone().neg());
        let down = log_w.clone() - softplus(at);
        let (log_s, log_rest) = (log_sum_exp(up.clone()), log_sum_exp(down.clone()));
        let log_p = up - spread(log_s.clone());
        let log_q = down - spread(log_rest.clone());
        let least = self.min_slope;
        let log_slope = log_sum_exp(rate.log() + log_p + log_q - log_w);
        Elementwise {
            value: (log_s - log_rest) * (1.0 - least) + x * least,
            // `log((1 - m) e^s + m)`.
            log_slope: softplus(log_slope + ((1.0 - least) / least).ln()) + least.ln(),
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        monotone_inverse(self, raw, y)
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        if !(1..=1000).contains(&self.units) {
            return Err(Error::config(layer, "units", self.units, "1 to 1000"));
        }
        super::rq_spline::validate_slope(layer, self.min_slope)
    }
}
