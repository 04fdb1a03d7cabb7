//! The two objectives of the toy targets.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use flows_core::distributions::{LogProb, Sample};
use flows_core::visit::{LayerVisit, has_statistics};
use flows_train::{Loss, Objective, Step};
use serde::{Deserialize, Serialize};

use crate::targets::{Energy, SampleSet, SoftWall};

/// The weight `beta` of an energy rises linearly from `start` to 1 over the fraction `until` of the
/// steps, and stays there.
///
/// Rezende & Mohamed (arXiv:1505.05770, section 6.1) use `min(1, 0.01 + t / 10000)`; a fraction of
/// the run does the same for runs of any length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Annealing {
    /// `beta` at the first step.
    pub start: f64,
    /// Fraction of the steps after which `beta` is 1.
    pub until: f64,
}

impl Default for Annealing {
    fn default() -> Self {
        Self {
            start: 0.1,
            until: 0.5,
        }
    }
}

impl Annealing {
    /// `beta` after the fraction `progress` of the run.
    pub fn beta(&self, progress: f64) -> f64 {
        if progress >= self.until {
            1.0
        } else {
            self.start + (1.0 - self.start) * progress / self.until
        }
    }
}

/// `-mean log p(x)` over fresh samples of a set, in nats.
#[derive(Debug, Clone, Copy)]
pub struct MaximumLikelihood {
    /// Where the samples come from.
    pub set: &'static dyn SampleSet,
}

impl MaximumLikelihood {
    /// The batch of a step.
    fn batch<B: AutodiffBackend>(&self, at: &Step<'_, B>, purpose: &str) -> Tensor<B, 2> {
        points(
            &self.set.sample(at.batch, &mut at.rng(purpose)),
            &at.options.device,
        )
    }
}

impl<B: AutodiffBackend, M: AutodiffModule<B> + LogProb<B>> Objective<B, M> for MaximumLikelihood {
    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B> {
        Loss::of_solved(model.log_prob(self.batch(at, "batch"), None).neg())
    }

    fn initialize(&mut self, model: &mut M, at: &Step<'_, B>) {
        let x = self.batch(at, "initialize");
        model.visit_layers(&mut LayerVisit::init_from_data(x, None));
    }

    fn before_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        model.visit_layers(&mut at.resample_noise());
    }

    fn after_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        if has_statistics(|visit| model.visit_layers(visit)) {
            let x = self.batch(at, "batch");
            model.visit_layers(&mut LayerVisit::update_statistics(x, None));
        }
    }
}

/// `mean(log q(x) + beta U(x) + wall(x))` over samples of the model, in nats: the reverse KL up to
/// `log Z`, annealed (Rezende & Mohamed, arXiv:1505.05770, equations 15 and 20).
#[derive(Debug, Clone, Copy)]
pub struct ReverseKl {
    /// The target's energy.
    pub energy: Energy,
    /// The wall that makes it a density. It is not annealed: mass that strayed comes back slowly.
    pub wall: SoftWall,
    /// `beta` over the run.
    pub annealing: Annealing,
}

impl ReverseKl {
    /// `log q(x) + beta U(x) + wall(x)` of samples `x` of the model with their `log q`.
    ///
    /// # Shapes
    /// - `x`: `[n, 2]`, `log_q`: `[n]`; output `[n]`
    pub fn free_energy<B: AutodiffBackend>(
        &self,
        at: &Step<'_, B>,
        x: Tensor<B, 2>,
        log_q: Tensor<B, 1>,
    ) -> Tensor<B, 1> {
        let potential = self.energy.potential_tensor(x.clone());
        let beta = self.annealing.beta(at.progress());
        log_q + potential * beta + self.wall.penalty_tensor(x)
    }
}

impl<B: AutodiffBackend, M: AutodiffModule<B> + Sample<B> + LogProb<B>> Objective<B, M>
    for ReverseKl
{
    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B> {
        let (x, log_q) = model.sample_and_log_prob(at.batch, None, &mut at.rng("batch"));
        Loss::of_solved(self.free_energy(at, x, log_q))
    }

    fn before_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        model.visit_layers(&mut at.resample_noise());
    }
}

/// Points of the plane as a batch, `[n, 2]`.
pub(crate) fn points<B: Backend>(points: &[[f64; 2]], device: &B::Device) -> Tensor<B, 2> {
    let data = TensorData::new(points.as_flattened().to_vec(), [points.len(), 2]);
    Tensor::from_data(data, device)
}
