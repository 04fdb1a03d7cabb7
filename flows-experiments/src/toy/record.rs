//! What a run of the toy experiment leaves behind.

use serde::{Deserialize, Serialize};

use super::evaluate::{Measurement, Metric};
use crate::experiment::{Record, Stability};
use crate::report::format_estimate;

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
    /// How stable the blocks are on test points; `None` for models without DDNF blocks.
    #[serde(default)]
    pub stability: Option<Stability>,
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

impl Record for RunRecord {
    fn outcome(&self) -> String {
        let result = match &self.status {
            Status::Diverged { reason } => format!("diverged: {reason}"),
            Status::Measured(measurement) => measurement
                .metrics
                .iter()
                .map(|m| {
                    let name = match m.metric {
                        Metric::Kl => "KL",
                        Metric::Nll => "NLL",
                        Metric::EntropyGap => "gap",
                    };
                    format!("{name} {}", format_estimate(m.value, Some(m.stderr)))
                })
                .collect::<Vec<_>>()
                .join(", "),
        };
        format!("{result}  ({:.0} s)", self.train_seconds)
    }

    fn warnings(&self) -> &[String] {
        self.stability.as_ref().map_or(&[], |s| &s.warnings)
    }
}
