//! The normal distribution with a diagonal covariance.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

use super::{LogProb, Sample, assert_sample_context};
use crate::bijector::{assert_ok, check_shapes};
use crate::error::{Error, fits_f32};
use crate::init::{normal_tensor, options_of};

/// Configuration of a standard normal distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardNormalConfig {}

impl StandardNormalConfig {
    /// `N(0, I)` in `dim` dimensions. Nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0.
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<DiagonalNormal<B>, Error> {
        match dim {
            0 => Err(Error::config("diagonal normal", "dim", 0, "at least 1")),
            _ => Ok(DiagonalNormal::standard(dim, options)),
        }
    }
}

/// `N(loc, diag(scale^2))` with fixed location and scale.
///
/// `log p(x) = -1/2 sum_i ((x_i - loc_i) / scale_i)^2 - sum_i log scale_i - dim/2 log(2 pi)`
///
/// Trained ones: [`NormalConfig`](super::NormalConfig), or an elementwise affine layer.
#[derive(Module, Debug)]
pub struct DiagonalNormal<B: Backend> {
    loc: Tensor<B, 2>,
    scale: Tensor<B, 2>,
    /// `-sum_i log scale_i - dim/2 log(2 pi)`.
    log_normalizer: f64,
    /// Location and scale as they were given, so that a state tells distributions apart.
    #[module(skip)]
    given: [Vec<f64>; 2],
}

impl<B: Backend> DiagonalNormal<B> {
    /// `N(0, I)` in `dim` dimensions.
    pub fn standard(dim: usize, options: impl Into<TensorCreationOptions<B>>) -> Self {
        let options = &options.into();
        Self {
            loc: Tensor::zeros([1, dim], options.clone()),
            scale: Tensor::ones([1, dim], options.clone()),
            log_normalizer: -0.5 * dim as f64 * (2.0 * PI).ln(),
            given: [vec![0.0; dim], vec![1.0; dim]],
        }
    }

    /// `N(loc, diag(scale^2))`.
    ///
    /// # Errors
    /// [`Error::Config`] where the lengths differ, or f32 does not hold a location, or a positive scale.
    pub fn new(
        loc: &[f64],
        scale: &[f64],
        options: impl Into<TensorCreationOptions<B>>,
    ) -> Result<Self, Error> {
        let options = &options.into();
        let name = "diagonal normal";
        if loc.is_empty() || loc.len() != scale.len() {
            let expected = format!("{} values, as many as in loc, at least one", loc.len());
            return Err(Error::config(name, "scale", scale.len(), expected));
        }
        if let Some(bad) = scale.iter().find(|s| !(**s > 0.0 && fits_f32(**s))) {
            return Err(Error::config(
                name,
                "scale",
                bad,
                "positive and finite, in f32 too",
            ));
        }
        if let Some(bad) = loc.iter().find(|m| !fits_f32(**m)) {
            return Err(Error::config(name, "loc", bad, "finite, in f32 too"));
        }
        let standard = Self::standard(loc.len(), options.clone());
        let row = |values: &[f64]| Tensor::<B, 1>::from_data(values, options.clone()).unsqueeze();
        Ok(Self {
            loc: row(loc),
            scale: row(scale),
            log_normalizer: standard.log_normalizer - scale.iter().map(|s| s.ln()).sum::<f64>(),
            given: [loc.to_vec(), scale.to_vec()],
        })
    }

    fn log_density(&self, standardized: Tensor<B, 2>) -> Tensor<B, 1> {
        let quadratic = standardized.square().sum_dim(1).squeeze_dim(1);
        quadratic * -0.5 + self.log_normalizer
    }
}

impl<B: Backend> LogProb<B> for DiagonalNormal<B> {
    fn dim(&self) -> usize {
        self.loc.dims()[1]
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        assert_ok(check_shapes(
            "diagonal normal",
            self.dim(),
            0,
            &x,
            context.as_ref(),
        ));
        self.log_density((x - self.loc.clone()) / self.scale.clone())
    }
}

impl<B: Backend> Sample<B> for DiagonalNormal<B> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        self.sample_and_log_prob(n, context, rng).0
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        assert_sample_context("diagonal normal", n, 0, context.as_ref());
        let eps = normal_tensor([n, self.dim()], 1.0, options_of(&self.loc), rng);
        let x = eps.clone() * self.scale.clone() + self.loc.clone();
        (x, self.log_density(eps))
    }
}
