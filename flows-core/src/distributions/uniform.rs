//! The uniform distribution on a box, or on a torus.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{LogProb, Sample, assert_sample_context};
use crate::bijector::{assert_ok, check_shapes};
use crate::domain::Interval;
use crate::error::{Error, check_positive};
use crate::expand::expand;
use crate::init::{options_of, uniform_tensor};

/// Configuration of a uniform distribution on a box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UniformConfig {
    /// Lower ends: one for each column, or one for all.
    pub low: Vec<f64>,
    /// Upper ends: one for each column, or one for all.
    pub high: Vec<f64>,
}

impl Default for UniformConfig {
    /// From -1 to 1 in each column.
    fn default() -> Self {
        Self {
            low: vec![-1.0],
            high: vec![1.0],
        }
    }
}

impl UniformConfig {
    /// The distribution in `dim` dimensions. Nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] for another number of ends, and as [`Uniform::new`].
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<Uniform<B>, Error> {
        let ends = |field, ends: &[f64]| match ends {
            [all] => Ok(vec![*all; dim]),
            each if each.len() == dim => Ok(each.to_vec()),
            _ => {
                let actual = format!("{} values", ends.len());
                let expected = format!("{dim}, one for each column, or one for all");
                Err(Error::config(NAME, field, actual, expected))
            }
        };
        let (low, high) = (ends("low", &self.low)?, ends("high", &self.high)?);
        Uniform::new(&low, &high, options)
    }
}

/// Configuration of the uniform distribution of angles: on a torus, the product of circles.
///
/// An angle is a number of `[-bound, bound]`, whose ends are one point.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TorusConfig {
    /// Half of the period, the same for each column.
    pub bound: f64,
}

impl Default for TorusConfig {
    /// Radians, from `-pi` to `pi`.
    fn default() -> Self {
        Self {
            bound: std::f64::consts::PI,
        }
    }
}

impl TorusConfig {
    /// The distribution in `dim` dimensions. Nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0 or `bound` not positive and finite.
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<Uniform<B>, Error> {
        check_positive("torus", "bound", self.bound)?;
        Uniform::new(&vec![-self.bound; dim], &vec![self.bound; dim], options)
    }
}

const NAME: &str = "uniform";

/// The uniform distribution on the box `low_i <= x_i <= high_i`, faces included.
///
/// `log p(x) = -sum_i log(high_i - low_i)` inside, and minus infinity outside; NaN for a row that
/// holds NaN. The gradient is zero on both sides, so nothing pulls an outside point back in.
///
/// Its bounds are fixed: they come from the constructor, not from a record.
#[derive(Module, Debug)]
pub struct Uniform<B: Backend> {
    /// `[1, dim]`.
    low: Tensor<B, 2>,
    /// `[1, dim]`.
    high: Tensor<B, 2>,
    /// `sum_i log(high_i - low_i)`.
    log_volume: f64,
    /// The corners as they were given, so that a state tells distributions apart.
    #[module(skip)]
    given: [Vec<f64>; 2],
}

impl<B: Backend> Uniform<B> {
    /// The uniform distribution between two corners.
    ///
    /// # Errors
    /// [`Error::Config`] where the lengths differ, or some `low < high` does not hold in f32 with a
    /// finite difference.
    pub fn new(
        low: &[f64],
        high: &[f64],
        options: impl Into<TensorCreationOptions<B>>,
    ) -> Result<Self, Error> {
        if low.is_empty() || low.len() != high.len() {
            let expected = format!("{} values, as many as in low, at least one", low.len());
            return Err(Error::config(NAME, "high", high.len(), expected));
        }
        let mut log_volume = 0.0;
        for (l, h) in low.iter().zip(high) {
            if !((*l as f32) < *h as f32 && ((h - l) as f32).is_finite()) {
                let expected = format!("finite and larger than {l}, its low, in f32 too");
                return Err(Error::config(NAME, "high", h, expected));
            }
            log_volume += (h - l).ln();
        }
        let options = options.into();
        let row = |values: &[f64]| Tensor::<B, 1>::from_data(values, options.clone()).unsqueeze();
        Ok(Self {
            low: row(low),
            high: row(high),
            log_volume,
            given: [low.to_vec(), high.to_vec()],
        })
    }
}

impl<B: Backend> LogProb<B> for Uniform<B> {
    fn dim(&self) -> usize {
        self.low.dims()[1]
    }

    fn support(&self) -> Vec<Interval> {
        let [low, high] = self.given.clone();
        let ends = low.into_iter().zip(high);
        ends.map(|(low, high)| Interval { low, high }).collect()
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        let checked = check_shapes(NAME, self.dim(), 0, &x, context.as_ref());
        assert_ok(checked);
        let shape = x.dims();
        if shape[0] == 0 {
            return x.sum_dim(1).squeeze_dim(1);
        }
        let (low, high) = (
            self.low.clone().expand(shape),
            self.high.clone().expand(shape),
        );
        let below = x.clone().lower(low.clone()).any_dim(1);
        let above = x.clone().greater(high.clone()).any_dim(1);
        let nowhere = x.clone().is_nan().any_dim(1);
        let in_range = x
            .clone()
            .greater_equal(low)
            .bool_and(x.clone().lower_equal(high));
        let outside = below.bool_or(above).bool_and(nowhere.bool_not());
        // Filling the row sums keeps the graph connected and lets a NaN through: it is neither
        // inside nor outside.
        let log_p = x
            .sum_dim(1)
            .mask_fill(in_range.all_dim(1), -self.log_volume)
            .mask_fill(outside, f64::NEG_INFINITY);
        log_p.squeeze_dim(1)
    }
}

impl<B: Backend> Sample<B> for Uniform<B> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        assert_sample_context(NAME, n, 0, context.as_ref());
        let unit = uniform_tensor([n, self.dim()], 0.0, 1.0, options_of(&self.low), rng);
        // Rounding may carry a draw over the far face.
        let width = self.high.clone() - self.low.clone();
        (self.low.clone() + unit * width).min_pair(expand(self.high.clone(), [n, self.dim()]))
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let x = self.sample(n, context, rng);
        let log_p = x.zeros_like().sum_dim(1).squeeze_dim(1) - self.log_volume;
        (x, log_p)
    }
}
