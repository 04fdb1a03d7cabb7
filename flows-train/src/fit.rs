//! The loop: loss, gradient, optimizer, evaluation, checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::{AutodiffModule, ModuleDisplay};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use flows_core::autodiff::exclusive;
use flows_core::init::options_of_module;
use flows_core::state::{load_state, state};
use serde::{Deserialize, Deserializer, Serialize};

use crate::checkpoint::{Checkpoint, Header};
use crate::clip::clip_norm;
use crate::error::TrainError;
use crate::objective::{Objective, Step};
use crate::optimizer::Optimizer;
use crate::solved::{MOST_UNSOLVED, UNSOLVED};
use crate::training::Training;

/// What a run is called, its seed, where it is kept and who hears of it.
pub struct Run<'a> {
    name: String,
    seed: u64,
    checkpoint: Option<PathBuf>,
    on_event: Box<dyn FnMut(Event) + 'a>,
}

impl<'a> Run<'a> {
    /// A run that is kept nowhere. The name is checked on resumption: it should say all that decides the numbers.
    /// The seed is that of everything random.
    pub fn new(name: impl Into<String>, seed: u64) -> Self {
        Self {
            name: name.into(),
            seed,
            checkpoint: None,
            on_event: Box::new(|_| {}),
        }
    }

    /// The same, kept in the file `path`, from which it is resumed where there is one.
    #[must_use]
    pub fn checkpoint(self, path: impl AsRef<Path>) -> Self {
        let checkpoint = Some(path.as_ref().to_owned());
        Self { checkpoint, ..self }
    }

    /// The same with a callback for what happens in it.
    #[must_use]
    pub fn on_event(self, on_event: impl FnMut(Event) + 'a) -> Self {
        let on_event = Box::new(on_event);
        Self { on_event, ..self }
    }

    /// The seed of everything random.
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Run {{ {:?}, seed {}, {:?} }}",
            self.name, self.seed, self.checkpoint
        )
    }
}

/// News from a run under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A point of the loss curve.
    Loss {
        /// Steps done.
        step: usize,
        /// The loss of the last of them.
        loss: f64,
    },
    /// The model was evaluated.
    Evaluation(Evaluation),
}

/// An evaluation of a model on data that it is not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Steps done.
    pub step: usize,
    /// Mean of the losses read since the evaluation before; not there at the start.
    pub loss: Option<f64>,
    /// The score, higher is better.
    #[serde(deserialize_with = "number_or_nan")]
    pub score: f64,
    /// Whether it is the best so far.
    pub improved: bool,
}

/// For `#[serde(deserialize_with)]`: JSON has no NaN and no infinity, which are written as `null` and come back as NaN.
///
/// # Errors
/// That of the format, for anything but a number or nothing.
pub fn number_or_nan<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// All steps were done.
    Steps,
    /// There was no improvement for long enough.
    Patience,
    /// The loss was not finite any more; the best parameters from before are kept.
    Diverged,
    /// Too many rows had no inverse; the best parameters from before are kept.
    Unsolved,
}

/// Curves by name, each of steps and values.
pub type Curves = BTreeMap<String, Vec<(usize, f64)>>;

/// A trained model.
#[derive(Debug, Clone)]
pub struct Fitted<M> {
    /// The model with the parameters that scored best, or those after the last step where nothing was evaluated.
    pub model: M,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
    /// The same of each part of the loss, and of each part of a score, that has a name.
    pub terms: Curves,
    /// Every evaluation.
    pub evaluations: Vec<Evaluation>,
    /// Steps done.
    pub steps: usize,
    /// Why no more.
    pub stopped: Stopped,
    /// Times that a row of a batch was left out of the loss.
    pub left_out: usize,
    /// Seconds of training, over all interruptions.
    pub seconds: f64,
    /// Seconds of a step between the two readings of the loss that lay closest: what a step takes
    /// where nothing disturbs it. `None` for a run of a single reading.
    pub step_seconds: Option<f64>,
}

impl<M> Fitted<M> {
    /// The evaluation of the parameters that were kept.
    pub fn best(&self) -> Option<Evaluation> {
        best_of(&self.evaluations)
    }

    /// The same run with what `f` makes of the model.
    pub fn map<N>(self, f: impl FnOnce(M) -> N) -> Fitted<N> {
        Fitted {
            model: f(self.model),
            losses: self.losses,
            terms: self.terms,
            evaluations: self.evaluations,
            steps: self.steps,
            stopped: self.stopped,
            left_out: self.left_out,
            seconds: self.seconds,
            step_seconds: self.step_seconds,
        }
    }
}

fn best_of(evaluations: &[Evaluation]) -> Option<Evaluation> {
    evaluations.iter().rev().find(|e| e.improved).copied()
}

/// Whether there was no better evaluation for long enough, counted after `min_steps`.
fn is_out_of_patience(evaluations: &[Evaluation], training: &Training) -> bool {
    let since = evaluations.iter().rev().take_while(|e| !e.improved);
    let counted = since.take_while(|e| e.step > training.min_steps || training.min_steps == 0);
    training
        .patience
        .is_some_and(|patience| counted.count() >= patience)
}

/// Steps before a share of unsolved rows means something.
const LEAST_STEPS: usize = 10;

/// Trains `model` on `objective`, going on from the run's checkpoint where there is one.
///
/// Where the objective evaluates, the parameters with the best score are returned, and training may stop early. A
/// checkpoint is written where the loss is read or after an evaluation.
///
/// Holds [`exclusive`] while gradients are taken, so that several runs may be under way in one process.
///
/// # Errors
/// [`TrainError`] where the configuration is out of range, a checkpoint cannot be used or written, or the loss is not
/// finite and there is no score from before.
pub fn fit<B, M, O>(
    mut model: M,
    objective: &mut O,
    training: &Training,
    mut run: Run<'_>,
) -> Result<Fitted<M>, TrainError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + ModuleDisplay,
    O: Objective<B, M> + ?Sized,
{
    let options = &options_of_module::<B, M>(&model);
    if let Some(problem) = training.problem() {
        return Err(TrainError::Config(problem));
    }
    let step = |index: usize| Step {
        index,
        of: training.steps,
        batch: training.batch,
        seed: run.seed,
        options,
    };
    let every = objective.evaluate_every(training);
    let mut optimizer = Optimizer::new(training.method).with_weight_decay(training.weight_decay);
    let mut header = Header {
        run: run.name.clone(),
        ..Header::default()
    };
    let mut best = flows_core::state::State::new();
    match run
        .checkpoint
        .as_deref()
        .map(Checkpoint::load)
        .transpose()?
    {
        Some(Some(found)) => {
            if found.header.run != run.name {
                return Err(TrainError::OtherRun {
                    path: run.checkpoint.unwrap_or_default().display().to_string(),
                    found: found.header.run,
                    expected: run.name,
                });
            }
            // What is annealed is no parameter: it stands as the last step had it.
            if let Some(last) = found.header.step.checked_sub(1) {
                objective.before_step(&mut model, &step(last));
            }
            model = restore(model, &found.model, &run)?;
            optimizer = optimizer
                .with_state(&found.optimizer, &options.device)
                .ok_or_else(|| unusable(&run, "the optimizer's state is incomplete".to_owned()))?;
            (header, best) = (found.header, found.best);
        }
        _ => objective.initialize(&mut model, &step(0)),
    }

    let (begun, earlier) = (Instant::now(), header.seconds);
    let mut saved = Instant::now();
    let mut last_reading: Option<(usize, Instant)> = None;
    // Rows without an inverse since the last reading.
    let mut unsolved: Option<Tensor<B::InnerBackend, 1>> = None;
    let mut keep =
        |header: &mut Header, model: &M, best: &_, optimizer: &Optimizer<B>, ended: bool| {
            header.seconds = earlier + begun.elapsed().as_secs_f64();
            match &run.checkpoint {
                Some(path)
                    if ended || saved.elapsed().as_secs_f64() >= training.checkpoint_seconds =>
                {
                    let checkpoint = Checkpoint {
                        header: header.clone(),
                        model: state::<B, M>(model),
                        best: Clone::clone(best),
                        optimizer: optimizer.state(),
                    };
                    saved = Instant::now();
                    checkpoint.save(path)
                }
                _ => Ok(()),
            }
        };
    let stopped = loop {
        let index = header.step;
        let at = step(index);
        let due = every.is_some_and(|every| index.is_multiple_of(every) || index >= training.steps);
        if due
            && header
                .evaluations
                .last()
                .is_none_or(|last| last.step < index)
            && let Some(score) = objective.evaluate(&model.valid(), &at)
        {
            let so_far = best_of(&header.evaluations);
            let improved =
                score.value.is_finite() && so_far.is_none_or(|best| score.value > best.score);
            let (sum, count) = std::mem::take(&mut header.read);
            let evaluation = Evaluation {
                step: index,
                loss: (count > 0).then(|| sum / f64::from(count)),
                score: score.value,
                improved,
            };
            if improved {
                best = state::<B, M>(&model);
            }
            header.evaluations.push(evaluation);
            for (name, value) in score.terms {
                header
                    .terms
                    .entry(name.to_owned())
                    .or_default()
                    .push((index, value));
            }
            (run.on_event)(Event::Evaluation(evaluation));
            let ended =
                index >= training.steps || is_out_of_patience(&header.evaluations, training);
            keep(&mut header, &model, &best, &optimizer, ended)?;
        }
        if index >= training.steps {
            break Stopped::Steps;
        }
        if is_out_of_patience(&header.evaluations, training) {
            break Stopped::Patience;
        }

        let alone = exclusive();
        objective.before_step(&mut model, &at);
        let mut loss = objective.loss(&model, &at);
        let terms = std::mem::take(&mut loss.terms);
        let step = index + 1;
        // Waiting for the device only now and then.
        let logged = index.is_multiple_of(training.log_every) || step == training.steps;
        let due = logged || every.is_some_and(|every| step.is_multiple_of(every));
        let value = due.then(|| loss.value.clone().inner());
        if let Some(count) = loss.unsolved {
            unsolved = Some(match unsolved {
                Some(sum) => sum + count,
                None => count,
            });
        }
        header.left_out += loss.left_out;
        let mut number = loss.number;
        if number.is_none_or(f64::is_finite) {
            let gradients = loss
                .gradients
                .unwrap_or_else(|| GradientsParams::from_grads(loss.value.backward(), &model));
            drop(alone);
            let gradients = match training.clip_norm > 0.0 {
                true => clip_norm::<B, M>(&model, gradients, training.clip_norm),
                false => gradients,
            };
            model = optimizer.step(training.learning_rate_at(index), model, gradients);
            objective.after_step(&mut model, &at);
            number = number.or_else(|| value.map(number_of));
        }
        if let Some(loss) = number.filter(|loss| !loss.is_finite()) {
            if best.is_empty() {
                return Err(TrainError::Diverged { step, loss });
            }
            break Stopped::Diverged;
        }
        if let Some(loss) = number {
            header.read = (header.read.0 + loss, header.read.1 + 1);
        }
        if due {
            header.unsolved.0 += unsolved.take().map_or(0.0, number_of);
            let (count, since) = header.unsolved;
            if count > 0.0 {
                header
                    .terms
                    .entry(UNSOLVED.to_owned())
                    .or_default()
                    .push((index, count));
            }
            if step - since >= LEAST_STEPS {
                header.unsolved = (0.0, step);
                let share = count / ((step - since) * training.batch) as f64;
                if share > MOST_UNSOLVED {
                    if best.is_empty() {
                        return Err(TrainError::Unsolved { step, share });
                    }
                    break Stopped::Unsolved;
                }
            }
        }
        header.step = step;
        if let (true, Some(loss)) = (logged, number) {
            for (name, part) in terms {
                let curve = header.terms.entry(name.to_owned()).or_default();
                curve.push((index, number_of(part.inner())));
            }
            if let Some((before, since)) = last_reading {
                let each = since.elapsed().as_secs_f64() / (step - before) as f64;
                header.step_seconds =
                    Some(header.step_seconds.map_or(each, |best: f64| best.min(each)));
            }
            header.losses.push((index, loss));
            (run.on_event)(Event::Loss { step, loss });
            // Where there are evaluations, the last one comes after this.
            let ended = every.is_none() && step == training.steps;
            keep(&mut header, &model, &best, &optimizer, ended)?;
            last_reading = Some((step, Instant::now()));
        }
    };

    if every.is_some() {
        if best.is_empty() {
            let (step, loss) = (header.step, f64::NAN);
            return Err(TrainError::Diverged { step, loss });
        }
        model = restore(model, &best, &run)?;
    }
    Ok(Fitted {
        model,
        losses: header.losses,
        terms: header.terms,
        evaluations: header.evaluations,
        steps: header.step,
        stopped,
        left_out: header.left_out,
        seconds: earlier + begun.elapsed().as_secs_f64(),
        step_seconds: header.step_seconds,
    })
}

/// `model` with parameters from the checkpoint of `run`.
fn restore<B: AutodiffBackend, M: AutodiffModule<B> + ModuleDisplay>(
    model: M,
    state: &flows_core::state::State,
    run: &Run<'_>,
) -> Result<M, TrainError> {
    load_state::<B, M>(model, state).map_err(|e| unusable(run, e.to_string()))
}

/// Why the checkpoint of a run cannot be used.
fn unusable(run: &Run<'_>, reason: String) -> TrainError {
    let path = run.checkpoint.as_deref().unwrap_or(Path::new("memory"));
    Checkpoint::unusable(path, reason).into()
}

/// The one number of a tensor.
fn number_of<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
