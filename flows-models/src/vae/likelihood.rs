//! Distributions of pixels.

use burn::tensor::{Tensor, activation::log_softmax, backend::Backend};
use flows_core::error::{Error, check_positive};
use flows_core::softplus::{sigmoid, softplus};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// `p(x|z)`: pixels that are independent given `z`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Likelihood {
    /// Black or white, one logit a pixel.
    // With braces, as serde lets any key pass in a unit variant.
    Bernoulli {},
    /// One of several levels, a pixel of level `k` having intensity `k / (levels - 1)`.
    Categorical {
        /// Number of levels, at least 2.
        levels: usize,
    },
    /// `N(mean, std^2)` with the decoder's output as the mean.
    Gaussian {
        /// Standard deviation of every pixel.
        std: f64,
    },
}

impl Default for Likelihood {
    fn default() -> Self {
        Self::Bernoulli {}
    }
}

impl Likelihood {
    /// 256 grey levels.
    pub const GREY: Self = Self::Categorical { levels: 256 };

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than two levels, and a deviation that is not positive and
    /// finite.
    pub fn validate(self) -> Result<(), Error> {
        match self {
            Self::Categorical { levels } if levels < 2 => {
                Err(Error::config("likelihood", "levels", levels, "at least 2"))
            }
            Self::Gaussian { std } => check_positive("likelihood", "std", std),
            _ => Ok(()),
        }
    }

    /// Numbers that the decoder gives for a pixel.
    pub fn parameters(self) -> usize {
        match self {
            Self::Categorical { levels } => levels,
            Self::Bernoulli {} | Self::Gaussian { .. } => 1,
        }
    }

    /// `log p(x|z)` in nats. A `clamp` of `c` keeps the probabilities of
    /// [`Bernoulli`](Self::Bernoulli) within `[c, 1 - c]`; other distributions take no notice of
    /// it.
    ///
    /// # Shapes
    /// - `parameters`: `[batch, parameters, pixels]`, as the decoder gives them
    /// - `x`: `[batch, pixels]`, intensities; output `[batch]`
    pub fn log_prob<B: Backend>(
        self,
        parameters: Tensor<B, 3>,
        x: Tensor<B, 2>,
        clamp: Option<f64>,
    ) -> Tensor<B, 1> {
        let pixels = match self {
            Self::Bernoulli {} => {
                let logits = parameters.squeeze_dim::<2>(1);
                let logits = match clamp {
                    Some(clamp) => {
                        let bound = ((1.0 - clamp) / clamp).ln();
                        logits.clamp(-bound, bound)
                    }
                    None => logits,
                };
                x * logits.clone() - softplus(logits)
            }
            Self::Categorical { levels } => {
                let level = (x * (levels - 1) as f64).round().int();
                let log_p = log_softmax(parameters, 1).gather(1, level.unsqueeze_dim(1));
                log_p.squeeze_dim(1)
            }
            Self::Gaussian { std } => {
                let deviation = (x - parameters.squeeze_dim::<2>(1)) * std.recip();
                deviation.square() * -0.5 - (std.ln() + 0.5 * (2.0 * PI).ln())
            }
        };
        pixels.sum_dim(1).squeeze_dim(1)
    }

    /// The expected intensity of every pixel.
    ///
    /// # Shapes
    /// - `parameters`: `[batch, parameters, pixels]`; output `[batch, pixels]`
    pub fn mean<B: Backend>(self, parameters: Tensor<B, 3>) -> Tensor<B, 2> {
        match self {
            Self::Bernoulli {} => sigmoid(parameters.squeeze_dim(1)),
            Self::Gaussian { .. } => parameters.squeeze_dim(1),
            Self::Categorical { levels } => {
                let device = parameters.device();
                let dtype = parameters.dtype();
                let level = Tensor::<B, 1, burn::tensor::Int>::arange(0..levels as i64, &device);
                let intensity = level.float().cast(dtype) * ((levels - 1) as f64).recip();
                let p = log_softmax(parameters, 1).exp();
                (p * intensity.reshape([1, levels, 1]))
                    .sum_dim(1)
                    .squeeze_dim(1)
            }
        }
    }
}
