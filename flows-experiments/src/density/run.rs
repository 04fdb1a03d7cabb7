//! One run: fit, score on the test rows, keep the model.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};

use super::config::{ConfigError, DensityConfig, Job};
use crate::data::sets::{DataSet, SetId};
use crate::data::{DataError, FullGaussian, Rows, Table};
use crate::experiment::{self, Event, Plan, RunError, RunFolder};
use crate::report::format_estimate;
use crate::stability::Stability;
use crate::table_flow::{Checkpointing, Estimate, FitConfig, FitError, TableFlow, fit_parts};
use flows_train::{Evaluation, Stopped, TrainError, stream};

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the set.
    pub set: String,
    /// Name of the model.
    pub model: String,
    /// Its place in a grid, in words; empty where there was no choice.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Its seed.
    pub seed: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// How the rows relate to the published ones.
    pub data: String,
    /// The units of the log-likelihoods.
    pub units: String,
    /// The rows of the score.
    pub scored: Scored,
    /// Rows for training, for validation and for the score.
    pub rows: [usize; 3],
    /// What a reader of the numbers has to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // a handful of records
pub enum Outcome {
    /// Fitted and scored.
    Measured {
        /// Log-likelihood of the rows of the score, in nats.
        test: Estimate,
        /// Mean log-likelihood of the validation rows, in nats.
        validation: f64,
        /// Trained scalars.
        parameters: usize,
        /// Gradient steps, and those after which the parameters kept were reached.
        steps: [usize; 2],
        /// Rows in a batch.
        batch: usize,
        /// Peak learning rate.
        learning_rate: f64,
        /// Why training ended; not there for a closed form.
        stopped: Option<Stopped>,
        /// Seconds of training: a measurement, which a resumed run does not repeat.
        train_seconds: f64,
        /// How the log-determinant was computed in the score, and in training where that differs.
        log_det: String,
        /// Whether the columns were decorrelated before the flow.
        whitened: bool,
        /// Of a DDNF's fields along the paths of some validation rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stability: Option<Stability>,
    },
    /// Not run, for a reason.
    Refused {
        /// The reason.
        reason: String,
    },
    /// The loss stopped being a number.
    Diverged {
        /// What was seen, on one line.
        reason: String,
    },
}

impl experiment::Record for Record {
    fn outcome(&self) -> String {
        match &self.outcome {
            Outcome::Measured {
                test,
                steps,
                train_seconds,
                ..
            } => format!(
                "{} nats, {} steps (best after {}), {train_seconds:.1} s",
                format_estimate(test.mean, test.stderr),
                steps[0],
                steps[1]
            ),
            Outcome::Refused { reason } => format!("refused: {reason}"),
            Outcome::Diverged { reason } => format!("diverged: {reason}"),
        }
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// The runs of the density experiment, and where their data are.
#[derive(Debug)]
pub struct DensityPlan {
    /// The runs.
    pub jobs: Vec<Job>,
    /// The rows that models are scored on.
    pub scored: Scored,
    /// Folder with the data.
    data: PathBuf,
    /// Sets that were read already.
    sets: [OnceLock<DataSet>; SetId::ALL.len()],
}

/// Rows that models are scored on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scored {
    /// The test rows.
    Test,
    /// The validation rows, where there is something to choose: the test rows are not looked at.
    Validation,
}

impl Scored {
    /// As tables call them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Validation => "validation",
        }
    }
}

impl DensityPlan {
    /// The runs of `config`, on sets from the folder `data`.
    ///
    /// # Errors
    /// As [`DensityConfig::jobs`].
    pub fn new(config: &DensityConfig, data: PathBuf) -> Result<Self, ConfigError> {
        Ok(Self {
            jobs: config.jobs()?,
            scored: if config.grids.is_empty() {
                Scored::Test
            } else {
                Scored::Validation
            },
            data,
            sets: Default::default(),
        })
    }

    /// The sets of the runs, each once, in their order.
    pub fn set_ids(&self) -> Vec<SetId> {
        let mut ids = Vec::new();
        for job in &self.jobs {
            if !ids.contains(&job.set) {
                ids.push(job.set);
            }
        }
        ids
    }

    /// A set, read when it is first asked for.
    ///
    /// # Errors
    /// As [`SetId::load`].
    pub fn set(&self, id: SetId) -> Result<&DataSet, DataError> {
        let place = SetId::ALL.iter().position(|other| *other == id);
        let cell = &self.sets[place.expect("all sets are listed")];
        match cell.get() {
            Some(set) => Ok(set),
            None => {
                let read = id.load(&self.data)?;
                Ok(cell.get_or_init(|| read))
            }
        }
    }
}

impl Plan for DensityPlan {
    type Job = Job;
    type Record = Record;

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn run<B: AutodiffBackend>(
        &self,
        job: &Job,
        folder: &RunFolder,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Record, RunError> {
        let set = self.set(job.set).map_err(FitError::from)?;
        let checkpoint = folder.checkpoint()?;
        let scored = match self.scored {
            Scored::Test => &set.test,
            Scored::Validation => &set.validation,
        };
        let (outcome, warnings) = if job.is_gaussian() {
            (gaussian(set, scored), Vec::new())
        } else {
            match job.fit_config(set.columns.len()) {
                Err(reason) => (Outcome::Refused { reason }, Vec::new()),
                Ok(config) => flow::<B>(&config, set, scored, &checkpoint, device, on_event)?,
            }
        };
        Ok(Record {
            set: job.set.name().to_owned(),
            model: job.model.clone(),
            variant: job.variant.clone(),
            seed: job.seed,
            outcome,
            data: set.status.clone(),
            units: set.units.to_owned(),
            scored: self.scored,
            rows: [set.train.len(), set.validation.len(), scored.len()],
            warnings,
        })
    }
}

/// The closed form, fitted to the training rows like everything else.
fn gaussian(set: &DataSet, scored: &Rows) -> Outcome {
    let begun = Instant::now();
    let Some(fitted) = FullGaussian::fit(&set.train) else {
        let reason = "the covariance of the training rows is singular".to_owned();
        return Outcome::Refused { reason };
    };
    let train_seconds = begun.elapsed().as_secs_f64();
    let score = |rows: &Rows| -> Vec<f64> { rows.iter().map(|row| fitted.log_prob(row)).collect() };
    let dim = set.columns.len();
    let test = score(scored);
    Outcome::Measured {
        test: Estimate::of(&test),
        validation: Estimate::of(&score(&set.validation)).mean,
        parameters: dim + dim * (dim + 1) / 2,
        steps: [0, 0],
        batch: set.train.len(),
        learning_rate: 0.0,
        stopped: None,
        train_seconds,
        log_det: "exact, closed form".to_owned(),
        whitened: false,
        stability: None,
    }
}

/// File of the fitted model in the folder of a run.
const MODEL: &str = "model.flow";

fn flow<B: AutodiffBackend>(
    config: &FitConfig,
    set: &DataSet,
    scored: &Rows,
    checkpoint: &Path,
    device: &B::Device,
    on_event: &mut dyn FnMut(Event),
) -> Result<(Outcome, Vec<String>), RunError> {
    let table = |rows: &Rows| Table::from_values(set.columns.clone(), rows.values().to_vec());
    let table = |rows: &Rows| table(rows).map_err(FitError::from);
    let parts = [table(&set.train)?, table(&set.validation)?, table(scored)?];
    let checkpointing = Checkpointing {
        path: Some(checkpoint),
        compute: None,
    };
    let mut on_evaluation = |evaluation: Evaluation| {
        on_event(Event {
            step: evaluation.step,
            loss: -evaluation.score,
        });
    };
    let fitted = match fit_parts::<B>(&parts, config, checkpointing, device, &mut on_evaluation) {
        Ok(fitted) => fitted,
        Err(FitError::Train(
            diverged @ (TrainError::Diverged { .. } | TrainError::Unsolved { .. }),
        )) => {
            let reason = diverged.to_string();
            return Ok((Outcome::Diverged { reason }, Vec::new()));
        }
        Err(other) => return Err(other.into()),
    };
    fitted
        .save(&checkpoint.with_file_name(MODEL))
        .map_err(FitError::from)?;
    let stability = fitted.stability(&set.validation, None);
    let warnings = stability.iter().flat_map(|s| s.warnings.clone()).collect();
    let training = &fitted.header().training;
    let mut log_det = config.model.methods().0;
    if let Some(other) = &config.training_log_det {
        log_det += &format!("; {} in training", other.label());
    }
    let measured = Outcome::Measured {
        test: training.test,
        validation: training.validation,
        parameters: training.parameters,
        steps: training.steps,
        batch: training.batch,
        learning_rate: training.learning_rate,
        stopped: Some(training.stopped),
        train_seconds: training.seconds,
        log_det,
        whitened: config.whiten,
        stability,
    };
    Ok((measured, warnings))
}

/// Samples of the first seed of a job, for pictures; `None` where it has no model.
pub(super) fn samples<B: AutodiffBackend>(
    job: &Job,
    set: &DataSet,
    folder: &RunFolder,
    n: usize,
    device: &B::Device,
) -> anyhow::Result<Option<Rows>> {
    let rng = &mut stream(0, "picture", 0);
    if job.is_gaussian() {
        return Ok(FullGaussian::fit(&set.train).map(|fitted| fitted.sample(n, rng)));
    }
    let path = folder.file(MODEL);
    if !path.exists() {
        return Ok(None);
    }
    let flow = TableFlow::<B::InnerBackend>::load(&path, device)?;
    Ok(Some(flow.sample(n, None, rng)))
}
