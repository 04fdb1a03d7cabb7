//! The distribution under test, behind a trait object, as the [`layer`](super::layer) is.

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;

use super::built::{Built, Edit, Input};
use super::differentiate;
use crate::distributions::{LogProb, Sample};
use crate::domain::Interval;
use crate::error::Error;
use crate::random::generator;

/// Rows `[n, dim]` and their `log p`, `[n]`.
pub(super) type Draws<B> = (Tensor<B, 2>, Tensor<B, 1>);

/// What the properties ask of a distribution. A draw takes a context of as many rows, and a seed.
pub(super) trait Distribution<B: AutodiffBackend> {
    fn dim(&self) -> usize;
    fn context_dim(&self) -> usize;
    fn support(&self) -> Vec<Interval>;
    fn log_prob(&self, input: Input<B>) -> Tensor<B, 1>;
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, seed: u64) -> Tensor<B, 2>;
    fn sample_and_log_prob(&self, n: usize, context: Option<Tensor<B, 2>>, seed: u64) -> Draws<B>;
    /// `log_prob` on the backend without automatic differentiation.
    fn log_prob_by_valid(&self, input: Input<B>) -> Tensor<B::InnerBackend, 1>;
    /// `sample_and_log_prob` there.
    fn draws_by_valid(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        seed: u64,
    ) -> Draws<B::InnerBackend>;
    /// The gradient of every parameter by path, as [`differentiate::gradients`].
    fn gradients(&self, of: &B::Gradients) -> Vec<(String, Option<Vec<f64>>)>;
    /// The distribution with other parameters.
    fn edited(&self, edit: &mut Edit<'_>) -> Box<dyn Distribution<B> + '_>;
    /// The distribution built anew from another seed.
    fn rebuilt(&self, seed: u64) -> Result<Box<dyn Distribution<B> + '_>, String>;
    /// The distribution built anew from another seed, with this one's state loaded.
    fn reloaded(&self, seed: u64) -> Result<Box<dyn Distribution<B> + '_>, String>;
}

impl<B, D, F> Distribution<B> for Built<'_, B, D, F>
where
    B: AutodiffBackend,
    D: LogProb<B> + Sample<B> + AutodiffModule<B>,
    D::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
    F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<D, Error>,
{
    fn dim(&self) -> usize {
        self.module.dim()
    }

    fn context_dim(&self) -> usize {
        self.module.context_dim()
    }

    fn support(&self) -> Vec<Interval> {
        self.module.support()
    }

    fn log_prob(&self, input: Input<B>) -> Tensor<B, 1> {
        self.module.log_prob(input.x, input.context)
    }

    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, seed: u64) -> Tensor<B, 2> {
        self.module.sample(n, context, &mut generator(seed))
    }

    fn sample_and_log_prob(&self, n: usize, context: Option<Tensor<B, 2>>, seed: u64) -> Draws<B> {
        let rng = &mut generator(seed);
        self.module.sample_and_log_prob(n, context, rng)
    }

    fn log_prob_by_valid(&self, input: Input<B>) -> Tensor<B::InnerBackend, 1> {
        let context = input.context.map(Tensor::inner);
        self.module.valid().log_prob(input.x.inner(), context)
    }

    fn draws_by_valid(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        seed: u64,
    ) -> Draws<B::InnerBackend> {
        let (context, rng) = (context.map(Tensor::inner), &mut generator(seed));
        self.module.valid().sample_and_log_prob(n, context, rng)
    }

    fn gradients(&self, of: &B::Gradients) -> Vec<(String, Option<Vec<f64>>)> {
        differentiate::gradients(&self.module, of)
    }

    fn edited(&self, edit: &mut Edit<'_>) -> Box<dyn Distribution<B> + '_> {
        Box::new(Built::edited(self, edit))
    }

    fn rebuilt(&self, seed: u64) -> Result<Box<dyn Distribution<B> + '_>, String> {
        Ok(Box::new(Built::rebuilt(self, seed)?))
    }

    fn reloaded(&self, seed: u64) -> Result<Box<dyn Distribution<B> + '_>, String> {
        Ok(Box::new(Built::reloaded(self, seed)?))
    }
}
