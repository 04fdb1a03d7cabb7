//! What is minimised.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;

#[cfg(doc)]
use super::UNSOLVED;

/// Where in a run a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The step, from 0.
    pub index: usize,
    /// Steps of the whole run.
    pub of: usize,
}

impl Step {
    /// Fraction of the run that lies behind, in `[0, 1)`.
    pub fn progress(self) -> f64 {
        self.index as f64 / self.of.max(1) as f64
    }
}

/// Parts of a loss by name, each a tensor of one element, for reports.
pub type Terms<B> = Vec<(&'static str, Tensor<B, 1>)>;

/// A loss on one batch.
pub trait Objective<B: AutodiffBackend, M> {
    /// The loss of `model` on `rows` rows drawn from `rng`, a tensor of one element, and parts of it that are
    /// reported beside it. The term [`UNSOLVED`] counts rows that the loss leaves out.
    fn loss(
        &self,
        model: &M,
        at: Step,
        rows: usize,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 1>, Terms<B>);

    /// Called once before the first step of a fresh run: data-dependent initialization.
    fn initialize(&self, _model: &mut M, _rows: usize, _device: &B::Device, _rng: &mut dyn Rng) {}

    /// Called before each step with a seed of its own, for layers with random estimators.
    fn before_step(&self, _model: &mut M, _seed: u64) {}

    /// Called after each step with the generator that the step's batch was drawn from, for layers with running
    /// statistics.
    fn after_step(&self, _model: &mut M, _rows: usize, _device: &B::Device, _rng: &mut dyn Rng) {}
}
