//! The two objectives of the toy targets.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use flows_core::distributions::{LogProb, Sample};
use flows_core::visit::{LayerVisit, has_statistics};
use rand::Rng;

use super::config::Annealing;
use crate::targets::{Energy, SampleSet, SoftWall};
use crate::train::{Objective, Step, Terms, UNSOLVED, mean_of_solved};

/// `-mean log p(x)` over fresh samples of a set, in nats.
#[derive(Debug, Clone, Copy)]
pub struct MaximumLikelihood {
    /// Where the samples come from.
    pub set: &'static dyn SampleSet,
}

impl<B: AutodiffBackend, M: LogProb<B>> Objective<B, M> for MaximumLikelihood {
    fn loss(
        &self,
        model: &M,
        _at: Step,
        rows: usize,
        device: &B::Device,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 1>, Terms<B>) {
        let x = points(&self.set.sample(rows, rng), device);
        let (mean, unsolved) = mean_of_solved(model.log_prob(x, None));
        (mean.neg(), vec![(UNSOLVED, unsolved)])
    }

    fn initialize(&self, model: &mut M, rows: usize, device: &B::Device, rng: &mut dyn Rng) {
        let x = points(&self.set.sample(rows, rng), device);
        model.visit_layers(&mut LayerVisit::init_from_data(x, None));
    }

    fn before_step(&self, model: &mut M, seed: u64) {
        model.visit_layers(&mut LayerVisit::resample_noise(seed));
    }

    fn after_step(&self, model: &mut M, rows: usize, device: &B::Device, rng: &mut dyn Rng) {
        if has_statistics(|visit| model.visit_layers(visit)) {
            let x = points(&self.set.sample(rows, rng), device);
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
    pub fn free_energy<B: Backend>(
        &self,
        at: Step,
        x: Tensor<B, 2>,
        log_q: Tensor<B, 1>,
    ) -> Tensor<B, 1> {
        let potential = self.energy.potential_tensor(x.clone());
        let beta = self.annealing.beta(at.progress());
        log_q + potential * beta + self.wall.penalty_tensor(x)
    }
}

impl<B: AutodiffBackend, M: Sample<B> + LogProb<B>> Objective<B, M> for ReverseKl {
    fn loss(
        &self,
        model: &M,
        at: Step,
        rows: usize,
        _device: &B::Device,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 1>, Terms<B>) {
        let (x, log_q) = model.sample_and_log_prob(rows, None, rng);
        let (mean, unsolved) = mean_of_solved(self.free_energy(at, x, log_q));
        (mean, vec![(UNSOLVED, unsolved)])
    }

    fn before_step(&self, model: &mut M, seed: u64) {
        model.visit_layers(&mut LayerVisit::resample_noise(seed));
    }
}

/// Points of the plane as a batch, `[n, 2]`.
pub(crate) fn points<B: Backend>(points: &[[f64; 2]], device: &B::Device) -> Tensor<B, 2> {
    let data = TensorData::new(points.as_flattened().to_vec(), [points.len(), 2]);
    Tensor::from_data(data, device)
}
