//! What to run: targets, models, seeds and budgets, from a preset, a TOML file and options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flows_models::{ModelConfig, PRESETS, preset};
use serde::{Deserialize, Serialize};

use super::training::TrainConfig;
use crate::experiment::{Job as _, parse_toml};
use crate::targets::{SoftWall, Target};

/// The toy experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToyConfig {
    /// Targets by name, in the order of the table.
    pub targets: Vec<String>,
    /// Models by name: presets, or entries of `custom`.
    pub models: Vec<String>,
    /// Runs of each target and model, with seeds 0, 1, ...
    pub seeds: usize,
    /// Budget and optimizer of every run.
    pub training: TrainConfig,
    /// How the energies are annealed.
    #[serde(default)]
    pub annealing: Annealing,
    /// The wall around the energies.
    #[serde(default)]
    pub wall: SoftWall,
    /// How the fitted models are measured.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// Other budgets for some models or targets; later ones win.
    #[serde(default, rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Models of your own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, ModelConfig>,
}

/// The weight `beta` of an energy rises linearly from `start` to 1 over the fraction `until` of the
/// steps, and stays there.
///
/// Rezende & Mohamed (arXiv:1505.05770, section 6.1) use `min(1, 0.01 + t / 10000)`; a fraction of
/// the run does the same for runs of any length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Annealing {
    /// `beta` at the first step.
    pub start: f64,
    /// Fraction of the steps after which `beta` is 1.
    pub until: f64,
}

impl Default for Annealing {
    fn default() -> Self {
        Self {
            start: 0.1,
            until: 0.5,
        }
    }
}

impl Annealing {
    /// `beta` after the fraction `progress` of the run.
    pub fn beta(&self, progress: f64) -> f64 {
        if progress >= self.until {
            1.0
        } else {
            self.start + (1.0 - self.start) * progress / self.until
        }
    }
}

/// How fitted models are measured and drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// Fresh samples that each metric is averaged over.
    pub samples: usize,
    /// Points along each side of a picture.
    pub grid: usize,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            samples: 100_000,
            grid: 200,
        }
    }
}

/// Another budget for some runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Models it applies to; none given: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Targets it applies to; none given: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Gradient steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Rows in a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Peak learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

/// One run: a target, a model, a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What is fitted.
    pub target: Target,
    /// Name of the model.
    pub model_name: String,
    /// The model.
    pub model: ModelConfig,
    /// Seed of everything random.
    pub seed: usize,
    /// Budget, overrides applied.
    pub training: TrainConfig,
}

impl crate::experiment::Job for Job {
    /// `target model seed`.
    fn name(&self) -> String {
        format!(
            "{} {} seed {}",
            self.target.name(),
            self.model_name,
            self.seed
        )
    }

    fn steps(&self) -> usize {
        self.training.steps
    }

    /// `TARGET/MODEL/seed-K`.
    fn path(&self) -> PathBuf {
        Path::new(self.target.name())
            .join(&self.model_name)
            .join(format!("seed-{}", self.seed))
    }
}

/// What is wrong with a [`ToyConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, or has keys or values that do not belong.
    #[error("{0}")]
    Parse(String),
    /// A model of this name is neither a preset nor defined.
    #[error("unknown model '{name}'; models are {known}")]
    UnknownModel {
        /// The name.
        name: String,
        /// Names there are.
        known: String,
    },
    /// No target has this name.
    #[error(transparent)]
    UnknownTarget(#[from] crate::targets::UnknownTarget),
    /// A model whose data do not lie in the plane.
    #[error("model '{name}' has dim {dim}, the toy targets have 2")]
    Dimension {
        /// The model.
        name: String,
        /// Its dimension.
        dim: usize,
    },
    /// A value out of range.
    #[error("{0}")]
    Value(String),
}

impl ToyConfig {
    /// Reads TOML; `origin` names the file or preset in errors.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] naming the unknown key or the value that does not fit.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, ConfigError> {
        parse_toml(text, origin).map_err(ConfigError::Parse)
    }

    /// The built-in configuration `quick` or `paper`.
    pub fn preset(name: Preset) -> Self {
        let text = match name {
            Preset::Quick => include_str!("../../configs/toy-quick.toml"),
            Preset::Paper => include_str!("../../configs/toy-paper.toml"),
        };
        Self::from_toml(text, "built-in preset").expect("the presets are tested")
    }

    /// Every run, target by target, so that a target's picture is ready early.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown name or a value out of range.
    pub fn jobs(&self) -> Result<Vec<Job>, ConfigError> {
        let required = [
            ("targets", self.targets.len()),
            ("models", self.models.len()),
            ("seeds", self.seeds),
            ("evaluation.samples", self.evaluation.samples),
            ("evaluation.grid", self.evaluation.grid),
        ];
        if let Some((name, _)) = required.into_iter().find(|(_, count)| *count == 0) {
            let message = format!("{name} is empty or 0, expected at least one");
            return Err(ConfigError::Value(message));
        }
        let annealing = self.annealing;
        let fraction = |v: f64| (0.0..=1.0).contains(&v);
        if !fraction(annealing.start) || !fraction(annealing.until) {
            let message = "annealing.start and annealing.until must lie in [0, 1]".to_owned();
            return Err(ConfigError::Value(message));
        }
        if !(self.wall.strength > 0.0 && self.wall.half_width > 0.0) {
            let message = "wall.strength and wall.half_width must be positive".to_owned();
            return Err(ConfigError::Value(message));
        }
        for list in self.overrides.iter() {
            for name in &list.targets {
                Target::parse(name)?;
            }
            for name in &list.models {
                self.model(name)?;
            }
        }
        let mut jobs = Vec::new();
        for target in &self.targets {
            let target = Target::parse(target)?;
            for model_name in &self.models {
                let model = self.model(model_name)?;
                if model.needs_data() && matches!(target, Target::Energy(_)) {
                    let message = format!(
                        "model '{model_name}' has batch normalization, whose statistics are those of \
                         data; the energy '{}' has none",
                        target.name()
                    );
                    return Err(ConfigError::Value(message));
                }
                let training = self.training_of(target.name(), model_name);
                if let Some(problem) = training.problem() {
                    return Err(ConfigError::Value(problem));
                }
                for seed in 0..self.seeds {
                    let job = Job {
                        target,
                        model_name: model_name.clone(),
                        model: model.clone(),
                        seed,
                        training: training.clone(),
                    };
                    if jobs.contains(&job) {
                        let message = format!("'{}' is listed twice", job.name());
                        return Err(ConfigError::Value(message));
                    }
                    jobs.push(job);
                }
            }
        }
        Ok(jobs)
    }

    /// The model of this name for the plane.
    fn model(&self, name: &str) -> Result<ModelConfig, ConfigError> {
        let model = match (self.custom.get(name), preset(name)) {
            (Some(custom), _) => custom.clone(),
            (None, Some(preset)) => preset.config(2),
            (None, None) => {
                let custom = self.custom.keys().map(String::as_str);
                let known = PRESETS.iter().map(|p| p.name).chain(custom);
                return Err(ConfigError::UnknownModel {
                    name: name.to_owned(),
                    known: known.collect::<Vec<_>>().join(", "),
                });
            }
        };
        if model.dim() != 2 {
            return Err(ConfigError::Dimension {
                name: name.to_owned(),
                dim: model.dim(),
            });
        }
        Ok(model)
    }

    fn training_of(&self, target: &str, model: &str) -> TrainConfig {
        let mut training = self.training.clone();
        let named = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
        for other in &self.overrides {
            if named(&other.targets, target) && named(&other.models, model) {
                training.steps = other.steps.unwrap_or(training.steps);
                training.batch = other.batch.unwrap_or(training.batch);
                training.learning_rate = other.learning_rate.unwrap_or(training.learning_rate);
            }
        }
        training
    }
}

/// A built-in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Preset {
    /// Two energies and two sample sets, a few models: one to two minutes on two cores.
    #[default]
    Quick,
    /// The paper's figure 4: eight targets, every model, three seeds: about fifteen minutes on two cores.
    Paper,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_complete_and_sound() {
        let quick = ToyConfig::preset(Preset::Quick);
        assert!(!quick.jobs().unwrap().is_empty());
        let paper = ToyConfig::preset(Preset::Paper);
        let jobs = paper.jobs().unwrap();
        assert_eq!(jobs.len(), 8 * PRESETS.len() * 3, "every model is run");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let text = "targets = []\nmodles = []";
        let error = ToyConfig::from_toml(text, "my.toml").unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("my.toml, line 2: unknown field `modles`"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_model_is_answered_with_the_models_there_are() {
        let mut config = ToyConfig::preset(Preset::Quick);
        config.models = vec!["glow".to_owned()];
        let error = config.jobs().unwrap_err().to_string();
        assert!(
            error.contains("'glow'") && error.contains("realnvp"),
            "{error}"
        );
    }

    #[test]
    fn a_model_of_another_dimension_is_refused() {
        let mut config = ToyConfig::preset(Preset::Quick);
        let wide = preset("maf").unwrap().config(3);
        config.custom.insert("wide".to_owned(), wide);
        config.models = vec!["wide".to_owned()];
        let error = config.jobs().unwrap_err().to_string();
        assert_eq!(error, "model 'wide' has dim 3, the toy targets have 2");
    }

    #[test]
    fn statistics_of_data_are_refused_where_there_is_none() {
        let mut config = ToyConfig::preset(Preset::Quick);
        let text = "kind = 'maf'\ndim = 2\nbatch_norm = true";
        let normed = toml::from_str(text).unwrap();
        config.custom.insert("normed".to_owned(), normed);
        config.models = vec!["normed".to_owned()];
        config.targets = vec!["8gaussians".to_owned()];
        assert!(config.jobs().is_ok());
        config.targets.push("u1".to_owned());
        let error = config.jobs().unwrap_err().to_string();
        assert!(
            error.contains("'normed'") && error.contains("'u1'"),
            "{error}"
        );
    }

    #[test]
    fn later_overrides_win() {
        let mut config = ToyConfig::preset(Preset::Quick);
        config.overrides = vec![
            Override {
                steps: Some(10),
                ..Override::default()
            },
            Override {
                models: vec!["maf".to_owned()],
                steps: Some(20),
                ..Override::default()
            },
        ];
        assert_eq!(config.training_of("u1", "maf").steps, 20);
        assert_eq!(config.training_of("u1", "ddnf").steps, 10);
    }
}
