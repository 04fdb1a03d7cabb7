//! Normal distributions with trained or conditional parameters.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::parametric::{Family, HALF_LOG_TWO_PI, Parametric};
use crate::error::{Error, check_not_negative};
use crate::init::{normal_tensor, options_of};
use crate::nn::{ParametersConfig, columns, log_scale, scattered};

/// The covariance of a [`Normal`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// One scale for each column.
    #[default]
    Diagonal,
    /// `L L^T` with a lower triangular `L` that has a positive diagonal.
    Full,
}

/// Configuration of a normal distribution that starts as the standard one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NormalConfig {
    /// Diagonal or full.
    pub covariance: Covariance,
    /// Whether location and covariance are fixed, trained, or given by a context.
    pub parameters: ParametersConfig,
}

impl NormalConfig {
    /// The distribution in `dim` dimensions.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0, and as [`ParametersConfig::init`].
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Parametric<B, Normal>, Error> {
        let family = Normal::new(dim, self.covariance)?;
        Parametric::new(family, &self.parameters, options, rng)
    }
}

/// `N(loc, L L^T)`, with the diagonal `exp(s)` of `L`, `s = 10 tanh(raw / 10)`, and for a full covariance the numbers
/// below it.
///
/// With `z = L^-1 (x - loc)`, by forward substitution,
/// `log p(x) = -|z|^2 / 2 - sum_i s_i - dim/2 log(2 pi)`. Samples are `loc + L eps`, so gradients reach all
/// parameters.
///
/// Raw parameters: `dim` locations, `dim` log-scales, then the rows of `L` below its diagonal.
#[derive(Module, Clone, Debug, PartialEq)]
pub struct Normal {
    #[module(skip)]
    dim: usize,
    #[module(skip)]
    covariance: Covariance,
    /// Standard deviation of the locations at the start.
    #[module(skip)]
    spread: f64,
}

const NAME: &str = "normal";

impl Normal {
    /// A normal distribution that starts as the standard one.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0.
    pub fn new(dim: usize, covariance: Covariance) -> Result<Self, Error> {
        if dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        Ok(Self {
            dim,
            covariance,
            spread: 0.0,
        })
    }

    /// The same with locations that start at draws of `N(0, spread^2)`.
    ///
    /// # Errors
    /// [`Error::Config`] where `spread` is negative or not finite.
    pub fn scattered(self, spread: f64) -> Result<Self, Error> {
        check_not_negative(NAME, "spread", spread)?;
        Ok(Self { spread, ..self })
    }

    /// Row `i` of `L` left of its diagonal, `[rows, i]`; `None` where it is 0.
    fn left_of_diagonal<B: Backend>(&self, raw: &Tensor<B, 2>, i: usize) -> Option<Tensor<B, 2>> {
        let there = self.covariance == Covariance::Full && i > 0;
        there.then(|| columns(raw, 2 * self.dim + i * (i - 1) / 2, i))
    }

    fn loc_and_log_scale<B: Backend>(&self, raw: &Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        let log_scale = log_scale(columns(raw, self.dim, self.dim));
        [columns(raw, 0, self.dim), log_scale]
    }
}

impl<B: Backend> Family<B> for Normal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, rng: &mut dyn Rng) -> Vec<f64> {
        let below = match self.covariance {
            Covariance::Diagonal => 0,
            Covariance::Full => self.dim * (self.dim - 1) / 2,
        };
        let mut start = scattered(self.dim, self.spread, rng);
        start.resize(2 * self.dim + below, 0.0);
        start
    }

    fn log_prob(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Tensor<B, 1> {
        let [loc, s] = self.loc_and_log_scale(&raw);
        let centred = x - loc;
        let shrink = s.clone().neg().exp();
        let z = match self.covariance {
            Covariance::Diagonal => centred * shrink,
            Covariance::Full => {
                let mut z: Vec<Tensor<B, 2>> = Vec::with_capacity(self.dim);
                for i in 0..self.dim {
                    let own = columns(&centred, i, 1);
                    let own = match self.left_of_diagonal(&raw, i) {
                        Some(row) => own - (row * Tensor::cat(z.clone(), 1)).sum_dim(1),
                        None => own,
                    };
                    z.push(own * columns(&shrink, i, 1));
                }
                Tensor::cat(z, 1)
            }
        };
        let log_p = z.square().sum_dim(1) * -0.5 - s.sum_dim(1);
        (log_p - HALF_LOG_TWO_PI * self.dim as f64).squeeze_dim(1)
    }

    fn sample(&self, raw: Tensor<B, 2>, n: usize, rng: &mut dyn Rng) -> Tensor<B, 2> {
        let eps = normal_tensor([n, self.dim], 1.0, options_of(&raw), rng);
        let [loc, s] = self.loc_and_log_scale(&raw);
        let x = eps.clone() * s.exp() + loc;
        if self.covariance == Covariance::Diagonal {
            return x;
        }
        let columns = (0..self.dim).map(|i| {
            let own = columns(&x, i, 1);
            match self.left_of_diagonal(&raw, i) {
                Some(row) => own + (row * columns(&eps, 0, i)).sum_dim(1),
                None => own,
            }
        });
        Tensor::cat(columns.collect(), 1)
    }
}
