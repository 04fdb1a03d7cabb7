//! Maximum likelihood on a table, stopped by held-out rows.
//!
//! The batches of an epoch are slices of one permutation, a function of seed and epoch; everything
//! else random is a function of seed and step. So a resumed run ends with the same bits.

use std::path::Path;
use std::time::Instant;

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use flows_core::autodiff::exclusive;
use flows_core::distributions::LogProb;
use flows_core::random::shuffle;
use flows_core::state::{State, state};
use flows_core::visit::{LayerVisit, has_statistics};
use serde::{Deserialize, Deserializer, Serialize};

use super::adam::Adam;
use super::clip::clip_norm;
use super::config::{Schedule, TrainConfig};
use super::fit::{Identity, TrainError};
use super::saved::{INCOMPLETE, Saved, SavedHeader, restore, unusable};
use super::solved::MOST_UNSOLVED;
use super::{stream, stream_seed};
use crate::data::Rows;
use crate::state_file;

/// Rows that a flow sees, in its own units, with their context.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// The rows.
    pub x: Rows,
    /// The context of each, for a conditional flow.
    pub context: Option<Rows>,
}

impl Examples {
    /// The rows at these indices as tensors.
    ///
    /// # Shapes
    /// - `[indices, dim]` and `[indices, context_dim]`
    pub fn batch<B: Backend>(
        &self,
        indices: &[usize],
        device: &B::Device,
    ) -> (Tensor<B, 2>, Option<Tensor<B, 2>>) {
        let part = |rows: &Rows| tensor(&rows.pick(indices), device);
        (part(&self.x), self.context.as_ref().map(part))
    }
}

/// Rows as a tensor, `[rows, width]`.
pub(crate) fn tensor<B: Backend>(rows: &Rows, device: &B::Device) -> Tensor<B, 2> {
    let data = TensorData::new(rows.values().to_vec(), [rows.len(), rows.width()]);
    Tensor::from_data(data, device)
}

/// How long and how fast to train, and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Course {
    /// Most gradient steps.
    pub steps: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Adam's learning rate at its peak.
    pub learning_rate: f64,
    /// How the learning rate moves over the most steps.
    pub schedule: Schedule,
    /// Largest norm of the whole gradient; `0` leaves it as it is.
    pub clip_norm: f64,
    /// Rate at which parameters shrink towards 0, in units of the learning rate
    /// ([`Adam::with_weight_decay`]). A flow whose parameters are all 0 is, for most layers, the identity.
    pub weight_decay: f64,
    /// Steps between two looks at the validation rows; `0` chooses: an epoch, but at least 50 steps
    /// and at most 500, and no look that takes longer than the steps between.
    pub evaluate_every: usize,
    /// Looks without an improvement after which training stops.
    pub patience: usize,
    /// Least seconds between two checkpoints.
    pub checkpoint_seconds: f64,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            steps: 4000,
            batch: 256,
            learning_rate: 2e-3,
            schedule: Schedule::Cosine,
            clip_norm: 5.0,
            weight_decay: 0.0,
            evaluate_every: 0,
            patience: 15,
            checkpoint_seconds: 10.0,
        }
    }
}

impl Course {
    /// Says what is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.patience == 0 {
            return Some("patience is 0, expected at least 1".to_owned());
        }
        let decay = self.weight_decay;
        if !(decay >= 0.0 && decay.is_finite()) {
            return Some(format!("weight_decay is {decay}, expected >= 0"));
        }
        let problem = self.as_train_config().problem()?;
        Some(problem.trim_start_matches("training.").to_owned())
    }

    fn as_train_config(&self) -> TrainConfig {
        TrainConfig {
            steps: self.steps,
            batch: self.batch,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            clip_norm: self.clip_norm,
            log_every: 1,
            checkpoint_seconds: self.checkpoint_seconds,
        }
    }

    /// Steps between two looks at `validation` rows, with `train` rows to train on.
    fn interval(&self, train: usize, validation: usize) -> usize {
        match self.evaluate_every {
            0 => {
                let batch = self.batch.min(train).max(1);
                let epoch = train / batch;
                epoch.clamp(50, 500).max(validation.div_ceil(batch))
            }
            n => n,
        }
    }
}

/// A look at the validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Steps done.
    pub step: usize,
    /// Mean loss of the steps since the look before, in the flow's own units; not there at the start.
    pub loss: Option<f64>,
    /// Mean log-likelihood of the validation rows, as the caller scores it.
    #[serde(deserialize_with = "number_or_nan")]
    pub validation: f64,
    /// Whether it is the best so far.
    pub improved: bool,
}

/// JSON has no NaN and no infinity: they are written as `null`, and come back as NaN.
pub(crate) fn number_or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// All steps were done.
    Steps,
    /// The validation rows saw no improvement for long enough.
    Patience,
    /// The loss stopped being a number; the best parameters from before are kept.
    Diverged,
    /// Too many rows had no inverse; the best parameters from before are kept.
    Unsolved,
}

/// The parameters that were best on the validation rows.
#[derive(Debug, Clone)]
pub struct BestFit<M> {
    /// The model with them.
    pub model: M,
    /// Every look.
    pub curve: Vec<Evaluated>,
    /// Steps after which they were reached.
    pub best_step: usize,
    /// Their score.
    pub best: f64,
    /// Steps done in all.
    pub steps: usize,
    /// Why no more.
    pub stopped: Stopped,
    /// Seconds, over all sittings.
    pub seconds: f64,
    /// Times that a row of a batch was left out, as it had no finite log-density.
    pub not_finite: usize,
}

/// What decides when training stops.
#[derive(Clone, Copy)]
pub struct HeldOut<'a, M> {
    /// Rows that `score` looks at: how much a look costs.
    pub rows: usize,
    /// The mean log-likelihood of held-out rows under a model.
    pub score: &'a dyn Fn(&M) -> f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    run: String,
    step: usize,
    seconds: f64,
    curve: Vec<Evaluated>,
    #[serde(default)]
    not_finite: usize,
}

impl SavedHeader for Header {
    const KEY: &'static str = "flows-fit-1";

    fn run(&self) -> &str {
        &self.run
    }
}

/// The name of the run that a checkpoint is of, where there is one.
pub(crate) fn run_of(checkpoint: &Path) -> Option<String> {
    let bytes = state_file::read(checkpoint).ok()??;
    let (header, _) = state_file::decode(&bytes, Header::KEY).ok()?;
    Some(serde_json::from_str::<Header>(&header).ok()?.run)
}

/// Whether a mean over rows still stands for them where these many were left out: a hundredth, or one of
/// few.
fn may_be_left_out(count: usize, rows: usize) -> bool {
    count <= (rows / 100).max(1) && count < rows
}

/// The mean without log-densities that are not finite, of rows far outside; NaN where they are too many.
pub(crate) fn mean_of_finite(scores: &[f64]) -> f64 {
    let finite: Vec<f64> = scores.iter().copied().filter(|s| s.is_finite()).collect();
    if !may_be_left_out(scores.len() - finite.len(), scores.len()) {
        return f64::NAN;
    }
    finite.iter().sum::<f64>() / finite.len() as f64
}

/// Rows from which layers that start from data are initialized.
const INIT_ROWS: usize = 4096;

/// Steps before a share of unsolved rows means something.
const LEAST_STEPS: usize = 10;

/// Trains `model` by maximum likelihood on `train`, and returns it with the parameters that scored
/// best on the held-out rows. Goes on from the run's checkpoint where there is one.
///
/// # Errors
/// [`TrainError`] where a checkpoint cannot be used, or the loss was never finite.
pub fn fit_to_best<B, M>(
    mut model: M,
    train: &Examples,
    held_out: HeldOut<'_, M::InnerModule>,
    course: &Course,
    identity: Identity<'_>,
    device: &B::Device,
    on_look: &mut dyn FnMut(Evaluated),
) -> Result<BestFit<M::InnerModule>, TrainError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + LogProb<B>,
{
    let seed = identity.seed;
    let rows = train.x.len();
    let batch = course.batch.min(rows).max(1);
    let per_epoch = (rows / batch).max(1);
    let every = course.interval(rows, held_out.rows);
    let rates = course.as_train_config();
    let mut optimizer = Adam::default().with_weight_decay(course.weight_decay);
    let mut header = Header {
        run: identity.name.to_owned(),
        ..Header::default()
    };
    let mut best = State::new();

    if let Some(found) = Saved::<Header>::of(identity)? {
        model = restore(model, &found.model, identity)?;
        optimizer = Adam::from_state(&found.optimizer, device)
            .ok_or_else(|| unusable(identity, INCOMPLETE.to_owned()))?
            .with_weight_decay(course.weight_decay);
        header = found.header;
        best = found.best;
    } else {
        let first: Vec<usize> = (0..rows.min(INIT_ROWS)).collect();
        let (x, context) = train.batch::<B>(&first, device);
        model.visit_layers(&mut LayerVisit::init_from_data(x, context));
    }

    let (begun, earlier) = (Instant::now(), header.seconds);
    let mut saved = Instant::now();
    let mut stopped = Stopped::Steps;
    let mut order: Vec<usize> = Vec::new();
    let mut order_epoch = usize::MAX;
    // Of the steps since the last evaluation: their losses, and rows left out of them.
    let mut losses: Vec<f64> = Vec::new();
    let mut unsolved = 0;
    let keeps_statistics = has_statistics(|visit| model.visit_layers(visit));
    loop {
        let step = header.step;
        let due = step.is_multiple_of(every) || step >= course.steps;
        if due && header.curve.last().is_none_or(|last| last.step < step) {
            let validation = (held_out.score)(&model.valid());
            let so_far = best_of(&header.curve);
            let improved =
                validation.is_finite() && so_far.is_none_or(|b| validation > b.validation);
            let loss = losses.iter().sum::<f64>() / losses.len() as f64;
            let look = Evaluated {
                step,
                loss: (!losses.is_empty()).then_some(loss),
                validation,
                improved,
            };
            losses.clear();
            unsolved = 0;
            if improved {
                best = state::<B, M>(&model);
            }
            header.curve.push(look);
            on_look(look);
            header.seconds = earlier + begun.elapsed().as_secs_f64();
            if let Some(path) = identity.checkpoint
                && (saved.elapsed().as_secs_f64() >= course.checkpoint_seconds
                    || step >= course.steps)
            {
                let now = Saved {
                    header: header.clone(),
                    model: state::<B, M>(&model),
                    best: best.clone(),
                    optimizer: optimizer.state(),
                };
                now.save(path)?;
                saved = Instant::now();
            }
        }
        if step >= course.steps {
            break;
        }
        let since = header.curve.iter().rev().take_while(|look| !look.improved);
        if since.count() >= course.patience {
            stopped = Stopped::Patience;
            break;
        }

        let epoch = step / per_epoch;
        if epoch != order_epoch {
            order = (0..rows).collect();
            shuffle(&mut order, &mut stream(seed, "epoch", epoch as u64));
            order_epoch = epoch;
        }
        let from = step % per_epoch * batch;
        let picked = &order[from..from + batch];
        let noise = stream_seed(seed, "noise", step as u64);
        model.visit_layers(&mut LayerVisit::resample_noise(noise));
        let alone = exclusive();
        let log_prob = |rows: &[usize]| {
            let (x, context) = train.batch::<B>(rows, device);
            model.log_prob(x, context)
        };
        let number = |loss: &Tensor<B, 1>| {
            let value = loss.clone().inner().into_data().iter::<f64>().next();
            value.unwrap_or(f64::NAN)
        };
        let scores = log_prob(picked);
        let mut loss = scores.clone().mean().neg();
        let mut value = number(&loss);
        if !value.is_finite() {
            // Rows without a finite log-density are left out; their gradients would not be finite either.
            let scores = scores.inner().into_data();
            let rows = picked.iter().zip(scores.iter::<f64>());
            let finite = rows.filter(|(_, s)| s.is_finite()).map(|(row, _)| *row);
            let finite: Vec<usize> = finite.collect();
            let without = picked.len() - finite.len();
            let nan = scores.iter::<f64>().filter(|s| s.is_nan()).count();
            if may_be_left_out(without, picked.len()) {
                loss = log_prob(&finite).mean().neg();
                value = number(&loss);
                header.not_finite += without;
            }
            // Where a solver finds no inverse, a row is NaN; where parameters are lost, all rows are.
            unsolved += if nan < picked.len() { nan } else { 0 };
            let share = unsolved as f64 / ((losses.len() + 1) * batch) as f64;
            if share > MOST_UNSOLVED && losses.len() >= LEAST_STEPS {
                if best_of(&header.curve).is_none() {
                    return Err(TrainError::Unsolved { step, share });
                }
                stopped = Stopped::Unsolved;
                break;
            }
        }
        if !value.is_finite() {
            if best_of(&header.curve).is_none() {
                return Err(TrainError::Diverged { step, loss: value });
            }
            stopped = Stopped::Diverged;
            break;
        }
        losses.push(value);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        drop(alone);
        let gradients = if course.clip_norm > 0.0 {
            clip_norm::<B, M>(&model, gradients, course.clip_norm)
        } else {
            gradients
        };
        model = optimizer.step(rates.learning_rate_at(step), model, gradients);
        if keeps_statistics {
            let (x, context) = train.batch::<B>(picked, device);
            model.visit_layers(&mut LayerVisit::update_statistics(x, context));
        }
        header.step += 1;
    }

    let found = best_of(&header.curve).ok_or(TrainError::Diverged {
        step: header.step,
        loss: f64::NAN,
    })?;
    let model = restore(model, &best, identity)?;
    Ok(BestFit {
        model: model.valid(),
        best_step: found.step,
        best: found.validation,
        steps: header.step,
        stopped,
        seconds: earlier + begun.elapsed().as_secs_f64(),
        not_finite: header.not_finite,
        curve: header.curve,
    })
}

fn best_of(curve: &[Evaluated]) -> Option<Evaluated> {
    curve.iter().rev().find(|look| look.improved).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_that_is_no_number_survives_the_checkpoint() {
        let look = Evaluated {
            step: 3,
            loss: None,
            validation: f64::NEG_INFINITY,
            improved: false,
        };
        let text = serde_json::to_string(&look).unwrap();
        let back: Evaluated = serde_json::from_str(&text).unwrap();
        assert!(back.validation.is_nan() && back.step == 3);
    }

    #[test]
    fn looks_cost_no_more_than_the_steps_between() {
        let course = Course::default();
        assert_eq!(course.interval(1000, 100), 50);
        assert_eq!(course.interval(51_200, 100), 200);
        assert_eq!(course.interval(10_000_000, 100), 500);
        assert_eq!(course.interval(1000, 256_000), 1000);
        let every = Course {
            evaluate_every: 7,
            ..course
        };
        assert_eq!(every.interval(1000, 256_000), 7);
    }

    #[test]
    fn a_hundredth_of_the_rows_may_be_left_out_of_a_mean() {
        let mut scores = vec![1.0; 200];
        scores[3] = f64::NEG_INFINITY;
        scores[7] = f64::NAN;
        assert_eq!(mean_of_finite(&scores), 1.0);
        scores[9] = f64::NAN;
        assert!(mean_of_finite(&scores).is_nan());
        assert_eq!(mean_of_finite(&[2.0, f64::NAN]), 2.0);
        assert!(mean_of_finite(&[f64::NAN]).is_nan());
    }

    /// What a MAF makes of normal rows of which some are beyond the square root of the largest f32.
    #[cfg(feature = "flex")]
    fn fit_with_far_rows(far: usize) -> Result<usize, TrainError> {
        use burn::backend::{Autodiff, Flex};
        use flows_models::{MafConfig, ModelConfig, build_normalizing};
        use rand::RngExt;

        type B = Autodiff<Flex>;
        let device = Default::default();
        let rng = &mut stream(0, "test", 0);
        let mut values: Vec<f64> = (0..400).map(|_| 2.0 * rng.random::<f64>() - 1.0).collect();
        values[..2 * far].fill(1e30);
        let train = Examples {
            x: Rows::new(values, 2),
            context: None,
        };
        let model = ModelConfig::Maf(MafConfig {
            layers: 1,
            hidden: vec![4],
            ..MafConfig::new(2)
        });
        let model = build_normalizing::<B>(&model.layers(), &device, rng).unwrap();
        let score = |_: &_| mean_of_finite(&[-1.0, f64::NEG_INFINITY]);
        let held_out = HeldOut {
            rows: 2,
            score: &score,
        };
        let course = Course {
            steps: 4,
            batch: 200,
            ..Course::default()
        };
        let identity = Identity {
            name: "test",
            seed: 0,
            checkpoint: None,
        };
        let best = fit_to_best::<B, _>(
            model,
            &train,
            held_out,
            &course,
            identity,
            &device,
            &mut |_| {},
        )?;
        let expected = if far > 2 {
            Stopped::Diverged
        } else {
            Stopped::Steps
        };
        assert_eq!(best.stopped, expected);
        Ok(best.not_finite)
    }

    #[cfg(feature = "flex")]
    #[test]
    fn few_far_rows_do_not_end_a_fit_and_are_counted_and_many_do() {
        assert_eq!(fit_with_far_rows(0).unwrap(), 0);
        assert_eq!(fit_with_far_rows(1).unwrap(), 4);
        assert_eq!(fit_with_far_rows(2).unwrap(), 8);
        assert_eq!(fit_with_far_rows(3).unwrap(), 0);
    }
}
