//! How long and how fast to train, and when to stop.

use serde::{Deserialize, Serialize};

/// Steps, batches, optimizer and learning rate of a run, and when it stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Most gradient steps.
    pub steps: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Learning rate of the optimizer at its peak.
    pub learning_rate: f64,
    /// How the learning rate moves over the most steps.
    pub schedule: Schedule,
    /// The optimizer.
    #[serde(skip_serializing_if = "Method::is_adam")]
    pub method: Method,
    /// Largest norm of the whole gradient; `0` leaves it as it is.
    pub clip_norm: f64,
    /// Rate at which parameters shrink towards 0, in units of the learning rate: with Adam this is AdamW. A flow
    /// whose parameters are all 0 is, for most layers, the identity.
    pub weight_decay: f64,
    /// Steps between two evaluations on validation data; `0` leaves the choice to the objective.
    pub evaluate_every: usize,
    /// Evaluations without an improvement after which training stops; `None` always does all steps. Of no effect
    /// for an objective that does not evaluate.
    pub patience: Option<usize>,
    /// Steps before evaluations count for `patience`.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_steps: usize,
    /// Steps between two points of the loss curve: reading the loss waits for the device.
    #[serde(skip_serializing_if = "is_usual_log")]
    pub log_every: usize,
    /// Least seconds between two checkpoints.
    pub checkpoint_seconds: f64,
}

const LOG_EVERY: usize = 50;

fn is_zero(steps: &usize) -> bool {
    *steps == 0
}

fn is_usual_log(steps: &usize) -> bool {
    *steps == LOG_EVERY
}

impl Default for Training {
    fn default() -> Self {
        Self {
            steps: 4000,
            batch: 256,
            learning_rate: 2e-3,
            schedule: Schedule::Cosine,
            method: Method::Adam,
            clip_norm: 5.0,
            weight_decay: 0.0,
            evaluate_every: 0,
            patience: Some(15),
            min_steps: 0,
            log_every: LOG_EVERY,
            checkpoint_seconds: 10.0,
        }
    }
}

/// The optimizer of a run; see [`Optimizer`](crate::Optimizer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Adam; AdamW where there is weight decay.
    #[default]
    Adam,
    /// Adamax.
    Adamax,
}

impl Method {
    fn is_adam(&self) -> bool {
        *self == Self::Adam
    }
}

/// The learning rate over the steps, as a fraction of its peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Self::Constant),
            "cosine" => Ok(Self::Cosine),
            _ => Err(format!(
                "unknown schedule '{text}', expected constant or cosine"
            )),
        }
    }
}

impl Training {
    /// The defaults with this many steps.
    pub fn new(steps: usize) -> Self {
        Self {
            steps,
            ..Self::default()
        }
    }

    /// The learning rate of step `step`, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        self.learning_rate * self.schedule.factor(step, self.steps)
    }

    /// What is out of range, if anything: field, value and what was expected.
    pub fn problem(&self) -> Option<String> {
        let counts = [
            ("steps", self.steps),
            ("batch", self.batch),
            ("log_every", self.log_every),
            ("patience", self.patience.unwrap_or(1)),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Some(format!("{name} is 0, expected at least 1"));
        }
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate.is_finite()) {
            return Some(format!(
                "learning_rate is {rate}, expected positive and finite"
            ));
        }
        let decay = self.weight_decay;
        if !(decay >= 0.0 && decay.is_finite()) {
            return Some(format!("weight_decay is {decay}, expected >= 0"));
        }
        let least = [
            ("checkpoint_seconds", self.checkpoint_seconds),
            ("clip_norm", self.clip_norm),
        ];
        let negative = least
            .iter()
            .find(|(_, value)| value.is_nan() || *value < 0.0);
        negative.map(|(name, value)| format!("{name} is {value}, expected >= 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_rises_to_its_peak_and_falls_to_zero() {
        let training = Training {
            steps: 1000,
            learning_rate: 2.0,
            ..Training::default()
        };
        assert!((training.learning_rate_at(0) - 0.2).abs() < 1e-12);
        assert!((training.learning_rate_at(9) - 2.0).abs() < 1e-3);
        assert!((training.learning_rate_at(500) - 1.0).abs() < 1e-12);
        assert!(training.learning_rate_at(999) < 1e-5);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(Training::default().problem(), None);
        let with = |change: fn(&mut Training)| {
            let mut training = Training::default();
            change(&mut training);
            training.problem().unwrap()
        };
        assert!(with(|t| t.steps = 0).starts_with("steps is 0"));
        assert!(with(|t| t.patience = Some(0)).starts_with("patience is 0"));
        assert!(with(|t| t.learning_rate = f64::NAN).starts_with("learning_rate is NaN"));
        assert!(with(|t| t.clip_norm = -1.0).starts_with("clip_norm is -1"));
        assert!(with(|t| t.weight_decay = f64::INFINITY).starts_with("weight_decay is inf"));
    }
}
