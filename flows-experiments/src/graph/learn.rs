//! Learning the graph of one data set.

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use flows_core::autodiff::exclusive;
use flows_core::bijectors::{Autoregressive, AutoregressiveConfig, ConditionerConfig};
use flows_core::conditioners::{Soft, SoftStart};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::error::Error;
use flows_core::flow::Flow;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering};
use flows_core::nn::Encoding;
use flows_core::transforms::AnyTransform;
use rand::{Rng, RngExt};

use super::config::GraphConfig;
use super::structural::StructuralModel;
use crate::train::{Adam, Schedule, TrainConfig, stream};

/// What was learned from one data set.
#[derive(Debug, Clone)]
pub struct Learned {
    /// The mask after training, row by row.
    pub soft: Vec<Vec<f64>>,
    /// The mask cut at the threshold.
    pub graph: DependencyMask,
    /// Negative log-likelihood of fresh rows under the flow with the soft mask, nats.
    pub nll_soft: f64,
    /// The same under the flow with the hard mask, trained on.
    pub nll_hard: f64,
    /// The same under the model that the rows come from.
    pub nll_truth: f64,
    /// Seconds of training.
    pub seconds: f64,
}

/// Where the training of one data set stands.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Steps done, of both trainings.
    pub step: usize,
    /// The latest loss read, nats.
    pub loss: f64,
}

/// Rows of the fresh sample behind each negative log-likelihood.
const EVALUATION_ROWS: usize = 10_000;
/// Steps between two readings of the loss.
const READ_EVERY: usize = 25;

/// Draws a model by `seed`, learns its graph from a sample, and measures what was learned.
///
/// # Errors
/// [`LearnError`] where a layer refuses its configuration or the loss is no number any more.
pub fn learn<B: AutodiffBackend>(
    config: &GraphConfig,
    seed: u64,
    device: &B::Device,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(StructuralModel, Learned), LearnError> {
    let model = StructuralModel::draw(config, &mut stream(seed, "graph", 0));
    let rows = model.sample(config.samples, &mut stream(seed, "data", 0));
    let begun = Instant::now();

    let start = SoftStart {
        temperature: config.temperature[0],
        ..SoftStart::default()
    };
    let layer = AutoregressiveConfig {
        mask: MaskConfig::Autoregressive(Ordering::Explicit(model.order().to_vec())),
        conditioner: ConditionerConfig::Soft {
            start,
            encoding: Encoding::default(),
        },
        ..AutoregressiveConfig::new(config.dim, config.hidden.clone())
    };
    let layer = layer.init_soft::<B>(device, &mut stream(seed, "parameters", 0))?;
    let base = || DiagonalNormal::<B>::standard(config.dim, device);
    let mut flow = Flow::normalizing(layer, base())?;
    let mut training = Training {
        adam: Adam::default(),
        rows: &rows,
        config,
        seed,
        device,
        done: 0,
    };
    for step in 0..config.steps {
        flow.bijector_mut()
            .conditioner_mut()
            .set_temperature(config.temperature_at(step))?;
        let loss = |flow: &Flow<B, _, _>, x| {
            let layer: &Autoregressive<B, Soft<B>, AnyTransform> = flow.bijector();
            let soft = layer.conditioner();
            let decay = soft.reading_weights().square().sum() * config.decay;
            let penalty = soft.l1() * config.penalty + decay;
            flow.log_prob(x, None).mean().neg() + penalty
        };
        flow = training.step(flow, config.steps, step, loss, on_progress)?;
    }
    let soft = flow.bijector().conditioner().soft_mask().into_data();
    let soft: Vec<f64> = soft.iter::<f64>().collect();
    let hard = flow.bijector().harden(config.threshold)?;
    let graph = hard.mask().clone();

    let mut hard = Flow::normalizing(hard, base())?;
    training.adam = Adam::default();
    for step in 0..config.hard_steps {
        let loss = |flow: &Flow<B, _, _>, x| flow.log_prob(x, None).mean().neg();
        hard = training.step(hard, config.hard_steps, step, loss, on_progress)?;
    }
    let seconds = begun.elapsed().as_secs_f64();

    let fresh = model.sample(EVALUATION_ROWS, &mut stream(seed, "evaluation", 0));
    let x = batch::<B::InnerBackend>(&fresh, config.dim, device);
    let terms = fresh.chunks(config.dim).map(|x| -model.log_prob(x));
    let learned = Learned {
        soft: soft.chunks(config.dim).map(<[f64]>::to_vec).collect(),
        graph,
        nll_soft: number(flow.valid().log_prob(x.clone(), None).mean().neg()),
        nll_hard: number(hard.valid().log_prob(x, None).mean().neg()),
        nll_truth: terms.sum::<f64>() / EVALUATION_ROWS as f64,
        seconds,
    };
    Ok((model, learned))
}

/// Why nothing was learned.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A layer refused its configuration.
    #[error(transparent)]
    Layer(#[from] Error),
    /// The loss is no number any more.
    #[error("the loss became {loss} by step {step}; a smaller learning rate may help")]
    Diverged {
        /// Step at which it was read.
        step: usize,
        /// What it was.
        loss: f64,
    },
}

/// The training set and the optimizer.
struct Training<'a, B: AutodiffBackend> {
    adam: Adam<B>,
    rows: &'a [f64],
    config: &'a GraphConfig,
    seed: u64,
    device: &'a B::Device,
    done: usize,
}

impl<B: AutodiffBackend> Training<'_, B> {
    /// Step `index` of `steps`, on a batch drawn from the training set.
    fn step<M: AutodiffModule<B>>(
        &mut self,
        model: M,
        steps: usize,
        index: usize,
        loss: impl Fn(&M, Tensor<B, 2>) -> Tensor<B, 1>,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<M, LearnError> {
        let config = self.config;
        let schedule = TrainConfig {
            steps,
            batch: config.batch,
            learning_rate: config.learning_rate,
            schedule: Schedule::Cosine,
            clip_norm: 0.0,
            log_every: READ_EVERY,
            checkpoint_seconds: 0.0,
        };
        let rng = &mut stream(self.seed, "batch", self.done as u64);
        let x = batch::<B>(&self.draw(rng), config.dim, self.device);
        let alone = exclusive();
        let loss = loss(&model, x);
        self.done += 1;
        if self.done.is_multiple_of(READ_EVERY) {
            let (step, loss) = (self.done, number(loss.clone()));
            if !loss.is_finite() {
                return Err(LearnError::Diverged { step, loss });
            }
            on_progress(Progress { step, loss });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        drop(alone);
        let rate = schedule.learning_rate_at(index);
        Ok(self.adam.step(rate, model, gradients))
    }

    fn draw(&self, rng: &mut impl Rng) -> Vec<f64> {
        let dim = self.config.dim;
        let picked = (0..self.config.batch).map(|_| rng.random_range(0..self.config.samples));
        picked
            .flat_map(|row| &self.rows[row * dim..(row + 1) * dim])
            .copied()
            .collect()
    }
}

fn batch<B: Backend>(rows: &[f64], dim: usize, device: &B::Device) -> Tensor<B, 2> {
    let data = TensorData::new(rows.to_vec(), [rows.len() / dim, dim]);
    Tensor::from_data(data, device)
}

fn number<B: Backend>(scalar: Tensor<B, 1>) -> f64 {
    scalar.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
