//! How long and how fast the flows of the plane are trained.

use flows_train::{Schedule, Training};
use serde::{Deserialize, Serialize};

/// A [`Training`] by Adam without evaluations, in which all steps are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Gradient steps.
    pub steps: usize,
    /// Rows in a batch, drawn anew each step.
    pub batch: usize,
    /// Adam's learning rate at its peak.
    pub learning_rate: f64,
    /// How the learning rate moves.
    #[serde(default)]
    pub schedule: Schedule,
    /// Largest norm of the whole gradient; `0` leaves it as it is.
    #[serde(default = "default_clip")]
    pub clip_norm: f64,
    /// Steps between two readings of the loss, two points of its curve.
    #[serde(default = "default_log_every")]
    pub log_every: usize,
    /// Least seconds between two checkpoints, which are written where the loss is read: what a kill
    /// can cost.
    #[serde(default = "default_checkpoint_seconds")]
    pub checkpoint_seconds: f64,
}

fn default_clip() -> f64 {
    Training::default().clip_norm
}

fn default_log_every() -> usize {
    Training::default().log_every
}

fn default_checkpoint_seconds() -> f64 {
    Training::default().checkpoint_seconds
}

impl TrainConfig {
    /// What is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        let problem = Training::from(self).problem()?;
        Some(format!("training.{problem}"))
    }
}

impl From<&TrainConfig> for Training {
    fn from(config: &TrainConfig) -> Self {
        Self {
            steps: config.steps,
            batch: config.batch,
            learning_rate: config.learning_rate,
            schedule: config.schedule,
            clip_norm: config.clip_norm,
            log_every: config.log_every,
            checkpoint_seconds: config.checkpoint_seconds,
            ..Self::default()
        }
    }
}
