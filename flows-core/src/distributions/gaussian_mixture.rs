//! A mixture of normal distributions with diagonal covariances.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand::distr::weighted::WeightedIndex;
use rand_distr::{Distribution, StandardNormal};
use std::f64::consts::PI;

use super::components::log_sum_exp;
use super::{LogProb, Sample, assert_sample_context};
use crate::bijector::{assert_ok, check_shapes};
use crate::error::{Error, fits_f32};

/// `p(x) = sum_k weight_k N(x; loc_k, diag(scale_k^2))`, with fixed components.
///
/// `log p` is a log-sum-exp over components, finite for every finite `x` that f32 can square, and minus
/// infinity beyond.
/// Weights are divided by their sum. All of it comes from the constructor, not from a record.
///
/// Memory for `log p` is `batch x components x dim` numbers.
#[derive(Module, Debug)]
pub struct GaussianMixture<B: Backend> {
    /// `[1, components, dim]`.
    loc: Tensor<B, 3>,
    /// `[1, components, dim]`.
    scale: Tensor<B, 3>,
    /// `log weight_k - sum_i log scale_ki - dim/2 log(2 pi)`, `[1, components]`.
    log_factor: Tensor<B, 2>,
    #[module(skip)]
    weights: Vec<f64>,
    /// Locations and scales as they were given, so that a state tells distributions apart.
    #[module(skip)]
    given: [Vec<Vec<f64>>; 2],
}

impl<B: Backend> GaussianMixture<B> {
    /// A mixture with one weight, one row of `loc` and one row of `scale` for each component.
    ///
    /// # Errors
    /// [`Error::Config`] without components or columns, where lengths differ, where a weight is
    /// negative or not finite or all are 0, a scale is not positive and finite, or a location is
    /// not finite.
    pub fn new(
        weights: &[f64],
        loc: &[Vec<f64>],
        scale: &[Vec<f64>],
        options: impl Into<TensorCreationOptions<B>>,
    ) -> Result<Self, Error> {
        let options = &options.into();
        let refuse = |field, actual: String, expected: String| {
            Err(Error::config("gaussian mixture", field, actual, expected))
        };
        let (components, dim) = (weights.len(), loc.first().map_or(0, Vec::len));
        if components == 0 {
            return refuse("weights", "empty".into(), "at least one".into());
        }
        if let Some(bad) = weights.iter().find(|w| !(**w >= 0.0 && w.is_finite())) {
            return refuse("weights", bad.to_string(), "finite and at least 0".into());
        }
        let total: f64 = weights.iter().sum();
        if !(total > 0.0 && total.is_finite()) {
            return refuse(
                "weights",
                format!("a sum of {total}"),
                "a positive, finite sum".into(),
            );
        }
        for (field, rows) in [("loc", loc), ("scale", scale)] {
            if rows.len() != components {
                let expected = format!("{components}, one for each weight");
                return refuse(field, format!("{} rows", rows.len()), expected);
            }
            if let Some(bad) = rows.iter().find(|r| r.is_empty() || r.len() != dim) {
                let expected = format!("rows of {} columns, as the first of loc", dim.max(1));
                return refuse(field, format!("a row of {}", bad.len()), expected);
            }
        }
        if let Some(bad) = loc.iter().flatten().find(|m| !fits_f32(**m)) {
            return refuse("loc", bad.to_string(), "finite, in f32 too".into());
        }
        if let Some(bad) = scale
            .iter()
            .flatten()
            .find(|s| !(**s > 0.0 && fits_f32(**s)))
        {
            let expected = "positive and finite, in f32 too";
            return refuse("scale", bad.to_string(), expected.into());
        }
        let weights: Vec<f64> = weights.iter().map(|w| w / total).collect();
        let log_factor: Vec<f64> = weights
            .iter()
            .zip(scale)
            .map(|(w, s)| {
                let log_scales: f64 = s.iter().map(|s| s.ln()).sum();
                w.ln() - log_scales - 0.5 * dim as f64 * (2.0 * PI).ln()
            })
            .collect();
        let table = |rows: &[Vec<f64>]| {
            let data = TensorData::new(rows.concat(), [1, components, dim]);
            Tensor::from_data(data, options.clone())
        };
        Ok(Self {
            loc: table(loc),
            scale: table(scale),
            log_factor: Tensor::from_data(
                TensorData::new(log_factor, [1, components]),
                options.clone(),
            ),
            weights,
            given: [loc.to_vec(), scale.to_vec()],
        })
    }

    /// Weight of each component; they sum to 1.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }
}

impl<B: Backend> LogProb<B> for GaussianMixture<B> {
    fn dim(&self) -> usize {
        self.loc.dims()[2]
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        let checked = check_shapes("gaussian mixture", self.dim(), 0, &x, context.as_ref());
        assert_ok(checked);
        let standardized = (x.unsqueeze_dim::<3>(1) - self.loc.clone()) / self.scale.clone();
        let quadratic = standardized.square().sum_dim(2).squeeze_dim::<2>(2);
        let log_joint = quadratic * -0.5 + self.log_factor.clone();
        log_sum_exp(log_joint)
    }
}

impl<B: Backend> Sample<B> for GaussianMixture<B> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        assert_sample_context("gaussian mixture", n, 0, context.as_ref());
        let dim = self.dim();
        let choice = WeightedIndex::new(&self.weights).expect("weights were checked when built");
        let mut components = Vec::with_capacity(n);
        let mut noise = Vec::with_capacity(n * dim);
        for _ in 0..n {
            components.push(choice.sample(rng) as i64);
            noise.extend((0..dim).map(|_| -> f64 { StandardNormal.sample(rng) }));
        }
        let device = self.loc.device();
        let index = Tensor::from_data(TensorData::new(components, [n]), &device);
        let chosen = |table: &Tensor<B, 3>| {
            let rows: Tensor<B, 2> = table.clone().squeeze_dim(0);
            rows.select(0, index.clone())
        };
        let eps = Tensor::from_data(
            TensorData::new(noise, [n, dim]),
            (&device, self.loc.dtype()),
        );
        chosen(&self.loc) + eps * chosen(&self.scale)
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let x = self.sample(n, context, rng);
        let log_p = self.log_prob(x.clone(), None);
        (x, log_p)
    }
}
