//! How long and how fast to train.

use serde::{Deserialize, Serialize};

/// The optimizer's course: Adam with a schedule and a bound on the gradient's norm.
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
    5.0
}

fn default_checkpoint_seconds() -> f64 {
    10.0
}

fn default_log_every() -> usize {
    50
}

/// The learning rate over the steps, as a fraction of its peak.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The peak throughout.
    Constant,
    /// Half a cosine from the peak to zero, after a linear rise over the first hundredth.
    #[default]
    Cosine,
}

impl Schedule {
    /// The fraction of the peak at step `step` of `steps`, counted from 0.
    pub fn factor(self, step: usize, steps: usize) -> f64 {
        let (step, steps) = (step as f64, steps as f64);
        match self {
            Self::Constant => 1.0,
            Self::Cosine => {
                let rise = (steps / 100.0).max(1.0);
                let warm = ((step + 1.0) / rise).min(1.0);
                warm * 0.5 * (1.0 + (std::f64::consts::PI * step / steps).cos())
            }
        }
    }

    /// Whether it is the peak throughout.
    pub fn is_constant(&self) -> bool {
        *self == Self::Constant
    }
}

impl TrainConfig {
    /// The learning rate of step `step`, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        self.learning_rate * self.schedule.factor(step, self.steps)
    }

    /// Says what is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        let positive = |name: &str, value: usize| {
            (value == 0).then(|| format!("training.{name} is 0, expected at least 1"))
        };
        positive("steps", self.steps)
            .or_else(|| positive("batch", self.batch))
            .or_else(|| positive("log_every", self.log_every))
            .or_else(|| {
                let ok = self.learning_rate > 0.0 && self.learning_rate.is_finite();
                (!ok).then(|| {
                    let value = self.learning_rate;
                    format!("training.learning_rate is {value}, expected positive and finite")
                })
            })
            .or_else(|| {
                let ok = self.checkpoint_seconds >= 0.0;
                let value = self.checkpoint_seconds;
                (!ok).then(|| format!("training.checkpoint_seconds is {value}, expected >= 0"))
            })
            .or_else(|| {
                let ok = self.clip_norm >= 0.0;
                (!ok).then(|| format!("training.clip_norm is {}, expected >= 0", self.clip_norm))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_rises_to_its_peak_and_falls_to_zero() {
        let config = TrainConfig {
            steps: 1000,
            batch: 1,
            learning_rate: 2.0,
            schedule: Schedule::Cosine,
            clip_norm: 0.0,
            log_every: 1,
            checkpoint_seconds: 10.0,
        };
        assert!((config.learning_rate_at(0) - 0.2).abs() < 1e-12);
        assert!((config.learning_rate_at(9) - 2.0).abs() < 1e-3);
        assert!((config.learning_rate_at(500) - 1.0).abs() < 1e-12);
        assert!(config.learning_rate_at(999) < 1e-5);
    }
}
