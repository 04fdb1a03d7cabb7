//! Learning the graph of one data set.

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use flows_core::bijectors::{Autoregressive, AutoregressiveConfig, ConditionerConfig};
use flows_core::conditioners::{Soft, SoftStart};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::flow::Flow;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering};
use flows_core::nn::Encoding;
use flows_core::transforms::AnyTransform;
use flows_core::visit::LayerVisit;
use flows_train::{Loss, Objective, Step, Training, fit, stream};
use rand::RngExt;

use super::GraphConfig;
use super::structural::StructuralModel;
use crate::runner::Run;

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

/// Rows of the fresh sample behind each negative log-likelihood.
const EVALUATION_ROWS: usize = 10_000;
/// Steps between two readings of the loss.
const READ_EVERY: usize = 25;

/// Draws a model by `seed`, learns its graph from a sample, and measures what was learned.
///
/// # Errors
/// Where a layer refuses its configuration or the loss is not finite any more.
pub fn learn<B: AutodiffBackend>(
    config: &GraphConfig,
    seed: u64,
    run: &mut Run<'_, B>,
) -> anyhow::Result<(StructuralModel, Learned)> {
    let device = run.device;
    let model = StructuralModel::draw(config, &mut stream(seed, "graph", 0));
    let rows = model.sample(config.samples, &mut stream(seed, "data", 0));

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
    let flow = Flow::data_to_base(layer, base())?;
    // What the loss has beside the likelihood, so that a mask is learned.
    let penalty = |flow: &Flow<B, Autoregressive<B, Soft<B>, AnyTransform>, _>| {
        let soft = flow.bijector().conditioner();
        soft.l1() * config.penalty + soft.reading_weights().square().sum() * config.decay
    };
    let mut objective = Likelihood {
        rows: &rows,
        config,
        done: 0,
        penalty: Some(&penalty),
    };
    let training = Training {
        steps: config.steps,
        batch: config.batch,
        learning_rate: config.learning_rate,
        clip_norm: 0.0,
        log_every: READ_EVERY,
        ..Training::default()
    };
    let soft = fit::<B, _, _>(flow, &mut objective, &training, run.training(seed))?;
    let mut seconds = soft.seconds;
    let flow = soft.model;
    let soft = flow.bijector().conditioner().soft_mask().into_data();
    let soft: Vec<f64> = soft.iter::<f64>().collect();
    let hard = flow.bijector().harden(config.threshold)?;
    let graph = hard.mask().clone();

    let mut hard = Flow::data_to_base(hard, base())?;
    if config.hard_steps > 0 {
        let mut objective = Likelihood {
            rows: &rows,
            config,
            done: config.steps,
            penalty: None,
        };
        let training = Training {
            steps: config.hard_steps,
            ..training
        };
        let stage = run.stage("hard", config.steps, seed);
        let fitted = fit::<B, _, _>(hard, &mut objective, &training, stage)?;
        seconds += fitted.seconds;
        hard = fitted.model;
    }
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

type Penalty<'a, B, M> = dyn Fn(&M) -> Tensor<B, 1> + 'a;

/// `-mean log p(x)` over rows drawn from the training set, and a penalty, in nats.
struct Likelihood<'a, B: AutodiffBackend, M> {
    rows: &'a [f64],
    config: &'a GraphConfig,
    /// Steps of the training before.
    done: usize,
    /// With it, a mask is learned, whose temperature falls.
    penalty: Option<&'a Penalty<'a, B, M>>,
}

impl<B: AutodiffBackend, M: AutodiffModule<B> + LogProb<B>> Objective<B, M>
    for Likelihood<'_, B, M>
{
    fn before_step(&mut self, model: &mut M, at: &Step<'_, B>) {
        if self.penalty.is_some() {
            let visit = LayerVisit::set_temperature(self.config.temperature_at(at.index));
            model.visit_layers(
                &mut visit.expect("a temperature between those of the configuration"),
            );
        }
    }

    fn loss(&mut self, model: &M, at: &Step<'_, B>) -> Loss<B> {
        let dim = self.config.dim;
        let rng = &mut stream(at.seed, "batch", (self.done + at.index) as u64);
        let picked = (0..at.batch).map(|_| rng.random_range(0..self.config.samples));
        let picked = picked.flat_map(|row| &self.rows[row * dim..(row + 1) * dim]);
        let x = batch::<B>(
            &picked.copied().collect::<Vec<_>>(),
            dim,
            &at.options.device,
        );
        let penalty = self.penalty.map(|penalty| penalty(model));
        let loss = model.log_prob(x, None).mean().neg();
        Loss::new(match penalty {
            Some(penalty) => loss + penalty,
            None => loss,
        })
    }
}

fn batch<B: Backend>(rows: &[f64], dim: usize, device: &B::Device) -> Tensor<B, 2> {
    let data = TensorData::new(rows.to_vec(), [rows.len() / dim, dim]);
    Tensor::from_data(data, device)
}

fn number<B: Backend>(scalar: Tensor<B, 1>) -> f64 {
    scalar.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
