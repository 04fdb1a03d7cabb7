//! The loop: loss, gradient, Adam, checkpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::module::{AutodiffModule, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use flows_core::autodiff::exclusive;
use flows_core::state::{load_state, state};
use serde::{Deserialize, Serialize};

use super::adam::Adam;
use super::checkpoint::{Checkpoint, CheckpointError, Header};
use super::clip::clip_norm;
use super::config::TrainConfig;
use super::objective::{Objective, Step};
use super::solved::{MOST_UNSOLVED, UNSOLVED};
use super::{stream, stream_seed};

/// A trained model.
#[derive(Debug, Clone)]
pub struct Fitted<M> {
    /// The model after the last step.
    pub model: M,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
    /// The same of each part of the loss that the objective names.
    pub terms: Curves,
    /// Seconds of training, over all sittings.
    pub seconds: f64,
    /// Seconds of a step between the two readings of the loss that lay closest: what a step takes
    /// where nothing disturbs it. `None` for a run of a single reading.
    pub step_seconds: Option<f64>,
}

impl<M> Fitted<M> {
    /// The same run with what `f` makes of the model.
    pub fn map<N>(self, f: impl FnOnce(M) -> N) -> Fitted<N> {
        Fitted {
            model: f(self.model),
            losses: self.losses,
            terms: self.terms,
            seconds: self.seconds,
            step_seconds: self.step_seconds,
        }
    }
}

/// Curves by name, each of steps and values.
pub type Curves = BTreeMap<String, Vec<(usize, f64)>>;

/// News from a run under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Steps done.
    pub step: usize,
    /// The latest loss read.
    pub loss: f64,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss is not a number any more. The last checkpoint holds the state before.
    #[error("the loss became {loss} by step {step}; a smaller learning rate may help")]
    Diverged {
        /// Step at which the loss was read.
        step: usize,
        /// What it was.
        loss: f64,
    },
    /// Too many rows have no inverse. The last checkpoint holds the state before.
    #[error(
        "{:.1} % of the rows had no inverse by step {step}, more than {:.0} %: the solver found no solution \
         for them; a smaller learning rate, more cells or a penalty on the field may help",
        100.0 * share, 100.0 * MOST_UNSOLVED
    )]
    Unsolved {
        /// Step at which they were counted.
        step: usize,
        /// Rows without an inverse, as a share of all since the count before.
        share: f64,
    },
    /// The checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint belongs to another run.
    #[error("{path} holds the run '{found}', not '{expected}'")]
    OtherRun {
        /// The file.
        path: String,
        /// The run in the file.
        found: String,
        /// The run asked for.
        expected: String,
    },
}

/// Where a run is kept and what it is called.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The run's name, checked on resumption.
    pub name: &'a str,
    /// Seed of everything random in it.
    pub seed: u64,
    /// File of its checkpoint; `None` keeps none.
    pub checkpoint: Option<&'a Path>,
}

/// Trains `model` on `objective`, going on from the run's checkpoint where there is one.
///
/// The batch of a step is a function of seed and step, so a resumed run ends with the same bits as
/// an uninterrupted one.
///
/// # Errors
/// [`TrainError`] where the loss is not finite, or the checkpoint cannot be used.
pub fn fit<B, M, O>(
    mut model: M,
    objective: &O,
    config: &TrainConfig,
    identity: Identity<'_>,
    device: &B::Device,
    on_event: &mut dyn FnMut(Event),
) -> Result<Fitted<M>, TrainError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + ModuleDisplay,
    O: Objective<B, M>,
{
    let seed = identity.seed;
    let mut optimizer = Adam::default();
    let mut losses = Vec::new();
    let mut terms = Curves::new();
    let (mut start, mut seconds, mut step_seconds) = (0, 0.0, None);

    match identity.checkpoint.map(Checkpoint::load).transpose()? {
        Some(Some(found)) => {
            let path = identity.checkpoint.expect("it was just loaded");
            if found.header.run != identity.name {
                return Err(TrainError::OtherRun {
                    path: path.display().to_string(),
                    found: found.header.run,
                    expected: identity.name.to_owned(),
                });
            }
            let other = |reason: String| CheckpointError::Format {
                path: path.to_owned(),
                reason,
            };
            model = load_state::<B, M>(model, &found.model).map_err(|e| other(e.to_string()))?;
            optimizer = Adam::from_state(&found.optimizer, device)
                .ok_or_else(|| other("the optimizer's state is incomplete".to_owned()))?;
            start = found.header.step;
            seconds = found.header.seconds;
            step_seconds = found.header.step_seconds;
            losses = found.header.losses;
            terms = found.header.terms;
        }
        _ => {
            let rng = &mut stream(seed, "initialize", 0);
            objective.initialize(&mut model, config.batch, device, rng);
        }
    }

    let begun = Instant::now();
    let mut saved = Instant::now();
    let mut last_reading: Option<(usize, Instant)> = None;
    // Rows left out of the loss since the last reading.
    let mut unsolved = Tensor::<B::InnerBackend, 1>::zeros([1], device);
    for index in start..config.steps {
        let alone = exclusive();
        objective.before_step(&mut model, stream_seed(seed, "noise", index as u64));
        let at = Step {
            index,
            of: config.steps,
        };
        let rng = &mut stream(seed, "batch", index as u64);
        let (loss, mut parts) = objective.loss(&model, at, config.batch, device, rng);
        if let Some(k) = parts.iter().position(|(name, _)| *name == UNSOLVED) {
            let (_, count) = parts.swap_remove(k);
            unsolved = unsolved + count.inner();
        }
        let read = (index % config.log_every == 0 || index + 1 == config.steps)
            .then(|| (loss.clone().inner(), parts));
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        drop(alone);
        let gradients = if config.clip_norm > 0.0 {
            clip_norm::<B, M>(&model, gradients, config.clip_norm)
        } else {
            gradients
        };
        model = optimizer.step(config.learning_rate_at(index), model, gradients);
        let rng = &mut stream(seed, "batch", index as u64);
        objective.after_step(&mut model, config.batch, device, rng);

        // Reading the loss waits for the device, so only now and then.
        if let Some((loss, parts)) = read {
            let loss = number::<B::InnerBackend>(loss);
            let step = index + 1;
            for (name, part) in parts {
                let curve = terms.entry(name.to_owned()).or_default();
                curve.push((index, number::<B::InnerBackend>(part.inner())));
            }
            if let Some((before, since)) = last_reading {
                let each = since.elapsed().as_secs_f64() / (step - before) as f64;
                step_seconds = Some(step_seconds.map_or(each, |best: f64| best.min(each)));
            }
            if !loss.is_finite() {
                return Err(TrainError::Diverged { step, loss });
            }
            let left_out = number(std::mem::replace(&mut unsolved, Tensor::zeros([1], device)));
            if left_out > 0.0 {
                let curve = terms.entry(UNSOLVED.to_owned()).or_default();
                curve.push((index, left_out));
                let since = last_reading.map_or(start, |(before, _)| before);
                let share = left_out / ((step - since) * config.batch) as f64;
                if share > MOST_UNSOLVED {
                    return Err(TrainError::Unsolved { step, share });
                }
            }
            losses.push((index, loss));
            on_event(Event { step, loss });
            if let Some(path) = identity.checkpoint
                && (saved.elapsed().as_secs_f64() >= config.checkpoint_seconds
                    || step == config.steps)
            {
                let checkpoint = Checkpoint {
                    header: Header {
                        run: identity.name.to_owned(),
                        step,
                        seconds: seconds + begun.elapsed().as_secs_f64(),
                        step_seconds,
                        losses: losses.clone(),
                        terms: terms.clone(),
                    },
                    model: state::<B, M>(&model),
                    optimizer: optimizer.state(),
                };
                checkpoint.save(path)?;
                saved = Instant::now();
            }
            last_reading = Some((step, Instant::now()));
        }
    }
    Ok(Fitted {
        model,
        losses,
        terms,
        step_seconds,
        seconds: seconds + begun.elapsed().as_secs_f64(),
    })
}

/// The one number of a tensor.
fn number<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
