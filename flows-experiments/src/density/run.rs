//! One run: fit, score on the test rows, keep the model.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};

use super::config::Job;
use crate::data::sets::DataSet;
use crate::data::{FullGaussian, Rows, Table};
use crate::report::{read_json, write_json};
use crate::table_flow::{Checkpointing, Estimate, FitError, TableFlow, fit_parts};
use crate::train::{Evaluated, Stopped, TrainError, stream};

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Name of the set.
    pub set: String,
    /// Name of the model.
    pub model: String,
    /// Its seed.
    pub seed: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// How the rows relate to the published ones.
    pub data: String,
    /// The units of the log-likelihoods.
    pub units: String,
    /// Rows for training, validation and test.
    pub rows: [usize; 3],
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // a handful of records
pub enum Outcome {
    /// Fitted and scored.
    Measured {
        /// Log-likelihood of the test rows, in nats.
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

/// The files of one run.
pub(super) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    pub(super) fn new(out: &Path, job: &Job) -> std::io::Result<Self> {
        let seed = format!("seed-{}", job.seed);
        let path = out
            .join("runs")
            .join(job.set.name())
            .join(&job.model)
            .join(seed);
        std::fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    pub(super) fn record(&self) -> anyhow::Result<Option<Record>> {
        let file = self.path.join("result.json");
        if !file.exists() {
            return Ok(None);
        }
        Ok(Some(read_json(file)?))
    }

    fn keep(&self, record: &Record) -> anyhow::Result<()> {
        Ok(write_json(self.path.join("result.json"), record)?)
    }

    pub(super) fn model(&self) -> PathBuf {
        self.path.join("model.flow")
    }

    fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }
}

/// Does a job, from its checkpoint where there is one, and keeps its record and model.
pub(super) fn run_job<B: AutodiffBackend>(
    job: &Job,
    set: &DataSet,
    folder: &RunFolder,
    device: &B::Device,
    on_look: &mut dyn FnMut(Evaluated),
) -> anyhow::Result<Record> {
    let outcome = if job.is_gaussian() {
        gaussian(set)
    } else {
        match job.fit_config(set.columns.len()) {
            Err(reason) => Outcome::Refused { reason },
            Ok(config) => flow::<B>(&config, set, folder, device, on_look)?,
        }
    };
    let record = Record {
        set: job.set.name().to_owned(),
        model: job.model.clone(),
        seed: job.seed,
        outcome,
        data: set.status.clone(),
        units: set.units.to_owned(),
        rows: [set.train.len(), set.validation.len(), set.test.len()],
    };
    folder.keep(&record)?;
    // Only now: the record and the model are on the disk.
    let _ = std::fs::remove_file(folder.checkpoint());
    Ok(record)
}

/// The closed form, fitted to the training rows like everything else.
fn gaussian(set: &DataSet) -> Outcome {
    let begun = Instant::now();
    let Some(fitted) = FullGaussian::fit(&set.train) else {
        let reason = "the covariance of the training rows is singular".to_owned();
        return Outcome::Refused { reason };
    };
    let train_seconds = begun.elapsed().as_secs_f64();
    let score = |rows: &Rows| -> Vec<f64> { rows.iter().map(|row| fitted.log_prob(row)).collect() };
    let dim = set.columns.len();
    let test = score(&set.test);
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
    }
}

fn flow<B: AutodiffBackend>(
    config: &crate::table_flow::FitConfig,
    set: &DataSet,
    folder: &RunFolder,
    device: &B::Device,
    on_look: &mut dyn FnMut(Evaluated),
) -> anyhow::Result<Outcome> {
    let table = |rows: &Rows| Table::from_values(set.columns.clone(), rows.values().to_vec());
    let parts = [
        table(&set.train)?,
        table(&set.validation)?,
        table(&set.test)?,
    ];
    let checkpoint = folder.checkpoint();
    let checkpointing = Checkpointing {
        path: Some(&checkpoint),
        computed_on: "",
    };
    let fitted = match fit_parts::<B>(&parts, config, checkpointing, device, on_look) {
        Ok(fitted) => fitted,
        Err(FitError::Train(diverged @ TrainError::Diverged { .. })) => {
            let reason = diverged.to_string();
            return Ok(Outcome::Diverged { reason });
        }
        Err(other) => return Err(other.into()),
    };
    fitted.save(&folder.model())?;
    let training = &fitted.header().training;
    let mut log_det = config.model.methods().0;
    if let Some(other) = &config.training_log_det {
        log_det += &format!("; {} in training", other.label());
    }
    Ok(Outcome::Measured {
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
    })
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
    let path = folder.model();
    if !path.exists() {
        return Ok(None);
    }
    let flow = TableFlow::<B::InnerBackend>::load(&path, device)?;
    Ok(Some(flow.sample(n, None, rng)))
}
