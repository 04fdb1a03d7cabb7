//! Measuring a fitted model against its target, on fresh samples.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use flows_core::distributions::{LogProb, Sample};
use serde::{Deserialize, Serialize};

use super::Evaluation;
use super::objective::points;
use crate::report::density_plot::grid_points;
use crate::targets::{Energy, SampleSet, SoftWall, Target, quadrature};
use flows_train::stream;

/// Rows in one pass: bounds the memory of an evaluation.
const CHUNK: usize = 5000;

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// `KL(q || p)` in nats from the model to the walled density of an energy.
    Kl,
    /// Mean negative log-likelihood of held-out samples, in nats.
    Nll,
    /// `KL(p || q)` in nats: the negative log-likelihood above the entropy of the sample set.
    EntropyGap,
}

impl Metric {
    /// As tables write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Kl => "KL",
            Self::Nll => "NLL",
            Self::EntropyGap => "gap",
        }
    }

    /// The name in `results.jsonl` and `summary.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kl => "kl",
            Self::Nll => "nll",
            Self::EntropyGap => "entropy_gap",
        }
    }
}

/// One number with the standard error of its own Monte-Carlo mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimated {
    /// What it is.
    pub metric: Metric,
    /// The mean over the evaluation's samples.
    pub value: f64,
    /// Standard error of that mean.
    pub stderr: f64,
}

/// What an evaluation gives besides its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The metrics that the target allows; the first is the one that tables show.
    pub metrics: Vec<Estimated>,
    /// Share of the model's samples outside the box of an energy.
    pub mass_outside: Option<f64>,
    /// Samples whose log-density was not a finite number, left out of the means.
    pub not_finite: usize,
}

/// Measures `model` on `evaluation.samples` fresh samples drawn from `seed`.
pub fn measure<B: Backend, M: LogProb<B> + Sample<B>>(
    model: &M,
    target: Target,
    wall: &SoftWall,
    evaluation: Evaluation,
    seed: u64,
    device: &B::Device,
) -> Measurement {
    match target {
        Target::Energy(energy) => measure_energy(model, energy, wall, evaluation.samples, seed),
        Target::Samples(set) => measure_set(model, set, evaluation.samples, seed, device),
    }
}

/// `KL(q || p) = E_q[log q + U + wall] + log Z`.
fn measure_energy<B: Backend, M: LogProb<B> + Sample<B>>(
    model: &M,
    energy: Energy,
    wall: &SoftWall,
    samples: usize,
    seed: u64,
) -> Measurement {
    let log_z = quadrature::normalize_walled(energy, wall, quadrature::DEFAULT_CELL).log_z;
    let rng = &mut stream(seed, "evaluate", 0);
    let mut mean = Mean::default();
    let (mut outside, mut drawn) = (0_usize, 0_usize);
    for rows in chunks(samples) {
        let (x, log_q) = model.sample_and_log_prob(rows, None, rng);
        // The target in f64 on the host: it is the yardstick.
        let x = pairs(&x);
        for (x, log_q) in x.iter().zip(numbers(&log_q)) {
            mean.add(log_q + energy.potential(*x) + wall.penalty(*x) + log_z);
            outside += usize::from(x.iter().any(|x| x.abs() > wall.half_width));
            drawn += 1;
        }
    }
    Measurement {
        metrics: vec![mean.measured(Metric::Kl)],
        mass_outside: Some(outside as f64 / drawn as f64),
        not_finite: mean.not_finite,
    }
}

fn measure_set<B: Backend, M: LogProb<B>>(
    model: &M,
    set: &dyn SampleSet,
    samples: usize,
    seed: u64,
    device: &B::Device,
) -> Measurement {
    let rng = &mut stream(seed, "evaluate", 0);
    let (mut nll, mut gap) = (Mean::default(), Mean::default());
    for rows in chunks(samples) {
        let x = set.sample(rows, rng);
        let log_q = numbers(&model.log_prob(points(&x, device), None));
        for (x, log_q) in x.iter().zip(log_q) {
            nll.add(-log_q);
            // The paired difference has a fraction of the variance of the two means apart.
            if let Some(log_p) = set.log_density(*x) {
                gap.add(log_p - log_q);
            }
        }
    }
    let mut metrics = vec![nll.measured(Metric::Nll)];
    if set.entropy().is_some() {
        metrics.insert(0, gap.measured(Metric::EntropyGap));
    }
    Measurement {
        metrics,
        mass_outside: None,
        not_finite: nll.not_finite,
    }
}

/// The model's density on a grid over the target's picture, row by row from the lowest `y`.
pub fn density_grid<B: Backend, M: LogProb<B>>(
    model: &M,
    range: [[f64; 2]; 2],
    n: usize,
    device: &B::Device,
) -> Vec<f64> {
    let grid = grid_points(range, n);
    let of = |chunk: &[[f64; 2]]| numbers(&model.log_prob(points(chunk, device), None));
    // A point that the inverse cannot reach carries no density.
    grid.chunks(CHUNK)
        .flat_map(of)
        .map(|log_q| if log_q.is_nan() { 0.0 } else { log_q.exp() })
        .collect()
}

/// Running mean and variance (Welford) of the finite values.
#[derive(Debug, Default)]
struct Mean {
    count: usize,
    mean: f64,
    squares: f64,
    not_finite: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.not_finite += 1;
            return;
        }
        self.count += 1;
        let step = value - self.mean;
        self.mean += step / self.count as f64;
        self.squares += step * (value - self.mean);
    }

    fn measured(&self, metric: Metric) -> Estimated {
        let n = self.count as f64;
        Estimated {
            metric,
            value: self.mean,
            stderr: (self.squares / (n - 1.0).max(1.0) / n.max(1.0)).sqrt(),
        }
    }
}

fn chunks(total: usize) -> impl Iterator<Item = usize> {
    (0..total)
        .step_by(CHUNK)
        .map(move |start| CHUNK.min(total - start))
}

fn numbers<B: Backend>(tensor: &Tensor<B, 1>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

fn pairs<B: Backend>(tensor: &Tensor<B, 2>) -> Vec<[f64; 2]> {
    let flat = tensor.to_data().iter::<f64>().collect::<Vec<_>>();
    flat.chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welford_agrees_with_the_definition() {
        let values = [1.0, 4.0, 2.5, -3.0];
        let mut mean = Mean::default();
        values.iter().for_each(|v| mean.add(*v));
        mean.add(f64::INFINITY);
        let expected = values.iter().sum::<f64>() / 4.0;
        let variance = values.iter().map(|v| (v - expected).powi(2)).sum::<f64>() / 3.0;
        let got = mean.measured(Metric::Nll);
        assert!((got.value - expected).abs() < 1e-14);
        assert!((got.stderr - (variance / 4.0).sqrt()).abs() < 1e-14);
        assert_eq!(mean.not_finite, 1);
    }

    #[test]
    fn chunks_add_up() {
        assert_eq!(chunks(12_001).collect::<Vec<_>>(), [5000, 5000, 2001]);
    }
}
