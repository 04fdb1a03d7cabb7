//! What a run of the regularization experiment leaves behind.

use flows_core::regularizers::Regularizers;
use flows_models::DdnfConfig;
use serde::{Deserialize, Serialize};

use super::config::Study;
use super::measure::Measurement;
use crate::experiment::Record;
use crate::report::format_estimate;
use crate::toy::Metric;
use flows_train::Curves;

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// What it was for.
    pub study: Study,
    /// Name of the target.
    pub target: String,
    /// The model as it was trained.
    pub model: DdnfConfig,
    /// The regularizers.
    pub regularizers: Regularizers,
    /// Its seed.
    pub seed: usize,
    /// How it ended.
    pub status: Status,
    /// Trained scalars.
    pub parameters: usize,
    /// Seconds of training: a measurement that a resumed run does not repeat.
    pub train_seconds: f64,
    /// Seconds of a step where nothing disturbed it: a measurement too.
    pub step_seconds: Option<f64>,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
    /// The same of `fit`, and of `geodesic` and `inverse` without their weights.
    pub terms: Curves,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // a few hundred of them at most
pub enum Status {
    /// Trained and measured.
    Measured(Measurement),
    /// The loss stopped being a number.
    Diverged {
        /// What was seen, on one line.
        reason: String,
    },
}

impl RunRecord {
    /// The measurement, unless the run diverged.
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.status {
            Status::Measured(measurement) => Some(measurement),
            Status::Diverged { .. } => None,
        }
    }
}

/// How tables and pictures write a metric.
pub(super) fn metric_label(metric: Metric) -> &'static str {
    match metric {
        Metric::Kl => "KL",
        Metric::Nll => "NLL",
        Metric::EntropyGap => "gap",
    }
}

impl Record for RunRecord {
    fn outcome(&self) -> String {
        let words = match &self.status {
            Status::Diverged { reason } => format!("diverged: {reason}"),
            Status::Measured(measurement) => {
                let fit = &measurement.exact.metrics[0];
                let small =
                    |v: Option<f64>| v.map_or("not finite".to_owned(), |v| format!("{v:.1e}"));
                format!(
                    "{} {}, round trip {}, path length {}",
                    metric_label(fit.metric),
                    format_estimate(fit.value, Some(fit.stderr)),
                    small(measurement.round_trip),
                    small(measurement.path_length),
                )
            }
        };
        format!("{words}  ({:.0} s)", self.train_seconds)
    }

    fn warnings(&self) -> &[String] {
        self.measurement().map_or(&[], |m| &m.stability.warnings)
    }
}
