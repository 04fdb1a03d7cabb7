//! The folder of an experiment: its configuration, its runs, its results.
//!
//! ```text
//! config.toml  compute.json    what was asked for, in full, and what it is computed on
//! runs/TARGET/MODEL/seed-K/    checkpoint.safetensors, result.json, density.f32
//! summary.json  table.md  TARGET.png  overview.png
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{Job, ToyConfig};
use super::evaluate::Measurement;
use crate::cli::Compute;
use crate::report::{ReportError, read_json, write_atomically, write_json};

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Name of the target.
    pub target: String,
    /// Name of the model.
    pub model: String,
    /// Its seed.
    pub seed: usize,
    /// How it ended.
    pub status: Status,
    /// Gradient steps.
    pub steps: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Trained scalars.
    pub parameters: usize,
    /// Seconds of training: a measurement, the one thing here that a resumed run does not repeat.
    pub train_seconds: f64,
    /// How the log-determinant was computed.
    pub log_det: String,
    /// How the model is inverted.
    pub inverse: String,
    /// Largest round-trip error of that inverse over 1000 samples, and passes it took.
    pub inverse_check: Option<InverseCheck>,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
}

/// How well a fitted model inverts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InverseCheck {
    /// Largest `|forward(inverse(y)) - y|`.
    pub residual: f64,
    /// Passes of the forward network.
    pub passes: usize,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Trained and measured.
    Measured(Measurement),
    /// The loss stopped being a number.
    Diverged {
        /// What was seen, on one line.
        reason: String,
    },
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is something already, and nobody asked to go on with it.
    #[error("{} already holds an experiment; --resume goes on with it, --out names another folder", .0.display())]
    Exists(PathBuf),
    /// There is something else already.
    #[error("{} exists and is not empty; --out names another folder", .0.display())]
    NotEmpty(PathBuf),
    /// Nothing to resume.
    #[error("{} holds no experiment to resume", .0.display())]
    Nothing(PathBuf),
    /// What was asked for differs from what the folder was begun with.
    #[error("{} was begun with other settings: {difference}", path.display())]
    Differs {
        /// The folder.
        path: PathBuf,
        /// The first setting that differs.
        difference: String,
    },
    /// The folder could not be made.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file in it could not be read or written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// The folder of an experiment under way.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

const CONFIG: &str = "config.toml";
const COMPUTE: &str = "compute.json";

impl Folder {
    /// Begins an experiment in a folder that does not exist yet, or is empty.
    ///
    /// # Errors
    /// [`FolderError`] where there is something in it, or it cannot be written.
    pub fn create(path: &Path, config: &ToyConfig, compute: Compute) -> Result<Self, FolderError> {
        if path.join(CONFIG).exists() {
            return Err(FolderError::Exists(path.to_owned()));
        }
        let empty = std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
        if !empty {
            return Err(FolderError::NotEmpty(path.to_owned()));
        }
        create_dir(path)?;
        let text = to_toml(config);
        write_json(path.join(COMPUTE), &compute)?;
        write_atomically(path.join(CONFIG), text.as_bytes())?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The configuration that an experiment was begun with, as its file has it.
    ///
    /// # Errors
    /// [`FolderError::Nothing`] where there is none, [`ReportError::Read`] where it cannot be read.
    pub fn config_text(path: &Path) -> Result<String, FolderError> {
        let file = path.join(CONFIG);
        if !file.exists() {
            return Err(FolderError::Nothing(path.to_owned()));
        }
        std::fs::read_to_string(&file)
            .map_err(|source| FolderError::Report(ReportError::Read { path: file, source }))
    }

    /// What an experiment was begun on.
    ///
    /// # Errors
    /// As [`config_text`](Self::config_text).
    pub fn compute(path: &Path) -> Result<Compute, FolderError> {
        let file = path.join(COMPUTE);
        if !file.exists() {
            return Err(FolderError::Nothing(path.to_owned()));
        }
        Ok(read_json(file)?)
    }

    /// Goes on with an experiment begun with the same `config` on the same backend, with the same
    /// threads: otherwise it would not end with the same bits.
    ///
    /// # Errors
    /// [`FolderError::Nothing`] and [`FolderError::Differs`].
    pub fn resume(path: &Path, config: &ToyConfig, compute: Compute) -> Result<Self, FolderError> {
        let begun = Self::compute(path)?;
        if begun != compute {
            return Err(FolderError::Differs {
                path: path.to_owned(),
                difference: format!("it runs on {begun}, not {compute}"),
            });
        }
        let (old, new) = (Self::config_text(path)?, to_toml(config));
        if old != new {
            let line = |text: &str, n: usize| text.lines().nth(n).unwrap_or("nothing").to_owned();
            let first = (0..)
                .find(|n| line(&old, *n) != line(&new, *n))
                .unwrap_or(0);
            return Err(FolderError::Differs {
                path: path.to_owned(),
                difference: format!(
                    "it has `{}`, not `{}`",
                    line(&old, first),
                    line(&new, first)
                ),
            });
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn run_file(&self, job: &Job, file: &str) -> PathBuf {
        self.path
            .join("runs")
            .join(job.target.name())
            .join(&job.model_name)
            .join(format!("seed-{}", job.seed))
            .join(file)
    }

    /// The checkpoint of a run; its folder is made.
    ///
    /// # Errors
    /// [`FolderError::Create`].
    pub fn checkpoint(&self, job: &Job) -> Result<PathBuf, FolderError> {
        let path = self.run_file(job, "checkpoint.safetensors");
        create_dir(path.parent().expect("a file in a folder"))?;
        Ok(path)
    }

    /// The record of a run that ended, if it did.
    ///
    /// # Errors
    /// [`FolderError::Report`] where the file is there and cannot be read.
    pub fn record(&self, job: &Job) -> Result<Option<RunRecord>, FolderError> {
        let path = self.run_file(job, "result.json");
        Ok(if path.exists() {
            Some(read_json(path)?)
        } else {
            None
        })
    }

    /// Keeps the record of a run. It is the last file written: a run that has it is complete.
    ///
    /// # Errors
    /// [`FolderError::Report`].
    pub fn keep_record(&self, job: &Job, record: &RunRecord) -> Result<(), FolderError> {
        Ok(write_json(self.run_file(job, "result.json"), record)?)
    }

    /// Keeps the density that a picture shows: little-endian `f32`, row by row from the lowest `y`.
    ///
    /// # Errors
    /// [`FolderError::Report`].
    pub fn keep_density(&self, job: &Job, grid: &[f64]) -> Result<(), FolderError> {
        let bytes = grid
            .iter()
            .flat_map(|v| (*v as f32).to_le_bytes())
            .collect::<Vec<_>>();
        Ok(write_atomically(self.run_file(job, "density.f32"), &bytes)?)
    }

    /// The density kept for a run, if its first seed kept one of `points` values.
    pub fn density(&self, job: &Job, points: usize) -> Option<Vec<f64>> {
        let bytes = std::fs::read(self.run_file(job, "density.f32")).ok()?;
        let value = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (bytes.len() == 4 * points).then(|| bytes.chunks_exact(4).map(value).collect())
    }
}

fn to_toml(config: &ToyConfig) -> String {
    toml::to_string_pretty(config).expect("a configuration is plain data")
}

fn create_dir(path: &Path) -> Result<(), FolderError> {
    std::fs::create_dir_all(path).map_err(|source| FolderError::Create {
        path: path.to_owned(),
        source,
    })
}
