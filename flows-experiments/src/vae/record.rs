//! What a run leaves behind.

use serde::{Deserialize, Serialize};

use super::evaluate::Measurement;
use super::train::Epoch;
use crate::experiment::Record;
use crate::report::format_estimate;
use flows_train::Stopped;

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// Name of the set.
    pub data: String,
    /// How its images and splits relate to the published ones.
    pub status_of_data: String,
    /// How its pixels were binarized.
    pub binarization: String,
    /// Name of the posterior.
    pub posterior: String,
    /// Latent variables.
    pub latent: usize,
    /// Its seed.
    pub seed: usize,
    /// How it ended.
    pub status: Status,
    /// Log-determinant of the posterior in training.
    pub log_det: String,
    /// Trained scalars.
    pub parameters: usize,
    /// Seconds of training: a measurement that a resumed run does not repeat.
    pub train_seconds: f64,
    /// Every epoch.
    pub curve: Vec<Epoch>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // a few of them
pub enum Status {
    /// Trained and measured.
    Measured {
        /// The best epoch, whose model was measured.
        best_epoch: usize,
        /// Why there were no more epochs.
        stopped: Stopped,
        /// Of the test images.
        measurement: Measurement,
    },
    /// The loss stopped being a number in the first epoch.
    Diverged {
        /// What was seen, on one line.
        reason: String,
    },
}

impl RunRecord {
    /// The measurement, unless the run diverged.
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.status {
            Status::Measured { measurement, .. } => Some(measurement),
            Status::Diverged { .. } => None,
        }
    }
}

impl Record for RunRecord {
    fn outcome(&self) -> String {
        let words = match &self.status {
            Status::Diverged { reason } => format!("diverged: {reason}"),
            Status::Measured {
                best_epoch,
                measurement,
                ..
            } => {
                let show = |mean: Option<f64>, stderr| {
                    mean.map_or("not finite".to_owned(), |mean| {
                        format_estimate(mean, stderr)
                    })
                };
                let loss = show(measurement.loss.mean, measurement.loss.stderr);
                let nll = measurement.nll.map_or(String::new(), |nll| {
                    format!(", NLL {}", show(nll.nats.mean, nll.nats.stderr))
                });
                format!(
                    "-ELBO {loss}{nll}, epoch {best_epoch} of {}",
                    self.curve.len()
                )
            }
        };
        format!("{words}  ({:.0} s)", self.train_seconds)
    }

    fn warnings(&self) -> &[String] {
        let stability = self.measurement().and_then(|m| m.stability.as_ref());
        stability.map_or(&[], |s| &s.warnings)
    }
}
