//! What to run: sets, models, seeds and budgets, from a preset, a TOML file and options.

use std::path::{Path, PathBuf};

use flows_core::transforms::LogScale;
use flows_models::ModelConfig;
use serde::{Deserialize, Serialize};

use super::grid::{Grid, Variant};
use crate::data::sets::SetId;
use crate::experiment::{self, Job as _, parse_toml};
use crate::table_flow::{FitConfig, Shape, choose};
use flows_train::Training;

/// The density experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DensityConfig {
    /// Sets by name, in the order of the table.
    pub sets: Vec<String>,
    /// Models by name, from `model`.
    pub models: Vec<String>,
    /// Runs of each set and model, with seeds 0, 1, ...
    pub seeds: usize,
    /// Budget and optimizer of every run.
    pub course: Training,
    /// Samples of each model in the pictures.
    #[serde(default = "default_samples")]
    pub samples: usize,
    /// Sizes and rates to choose from. With any, models are scored on the validation rows: the test rows
    /// decide nothing and are not looked at.
    #[serde(default, rename = "grid", skip_serializing_if = "Vec::is_empty")]
    pub grids: Vec<Grid>,
    /// Other budgets or sizes for some sets or models; later ones win.
    #[serde(default, rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What the names of the models mean.
    #[serde(rename = "model")]
    pub specs: Vec<ModelSpec>,
}

fn default_samples() -> usize {
    20_000
}

/// A model, sized for any table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its name in the table.
    pub name: String,
    /// Its family: `gaussian`, or a model of the tool `flows`.
    pub family: String,
    /// Layers, or blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Widths of hidden layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<usize>>,
    /// Cells of each block of a DDNF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<usize>,
    /// Whether the columns are decorrelated first; by default as the family does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whiten: Option<bool>,
    /// Whether batch normalization follows each layer of a MAF or RealNVP.
    #[serde(default)]
    pub batch_norm: bool,
    /// Parameterization of the scales of a MADE or MAF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<LogScale>,
}

/// Another budget or size for some runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Override {
    /// Models it applies to; none given: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Sets it applies to; none given: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Most gradient steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Rows in a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Peak learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Looks without an improvement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Rate at which parameters shrink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Layers, or blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Widths of hidden layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<usize>>,
    /// Cells of each block of a DDNF.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cells: Option<usize>,
    /// Whether the columns are decorrelated first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whiten: Option<bool>,
    /// Whether batch normalization follows each layer of a MAF or RealNVP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<bool>,
}

impl Override {
    /// Puts its values in the place of others.
    fn apply(&self, spec: &mut ModelSpec, course: &mut Training) {
        course.steps = self.steps.unwrap_or(course.steps);
        course.batch = self.batch.unwrap_or(course.batch);
        course.learning_rate = self.learning_rate.unwrap_or(course.learning_rate);
        course.patience = self.patience.or(course.patience);
        course.weight_decay = self.weight_decay.unwrap_or(course.weight_decay);
        spec.layers = self.layers.or(spec.layers);
        spec.hidden = self.hidden.clone().or(spec.hidden.take());
        spec.cells = self.cells.or(spec.cells);
        spec.whiten = self.whiten.or(spec.whiten);
        spec.batch_norm = self.batch_norm.unwrap_or(spec.batch_norm);
    }
}

/// One run: a set, a model, a seed, and its place in a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What is fitted to.
    pub set: SetId,
    /// Name of the model.
    pub model: String,
    /// Its place in a grid, in words; empty where there is no choice.
    pub variant: String,
    /// The model as the table calls for it, overrides applied.
    pub spec: ModelSpec,
    /// Seed of everything random but the set's own noise.
    pub seed: usize,
    /// Budget, overrides applied.
    pub course: Training,
}

impl Job {
    /// Whether the model has a closed form: then a seed makes no difference.
    pub fn is_gaussian(&self) -> bool {
        self.spec.family == "gaussian"
    }

    /// What to fit to a table of `dim` columns.
    ///
    /// # Errors
    /// The reason why the model is not fitted.
    pub fn fit_config(&self, dim: usize) -> Result<FitConfig, String> {
        let shape = Shape {
            dim,
            context_dim: 0,
            layers: self.spec.layers,
            hidden: self.spec.hidden.as_deref(),
        };
        let chosen = choose(Some(&self.spec.family), shape).map_err(|e| e.to_string())?;
        let mut model = chosen.model;
        let batch_norm = self.spec.batch_norm;
        match &mut model {
            ModelConfig::Maf(maf) => {
                if let Some(scale) = self.spec.scale {
                    maf.transform = scale.into();
                }
                maf.batch_norm = batch_norm;
            }
            ModelConfig::RealNvp(real_nvp) => real_nvp.batch_norm = batch_norm,
            ModelConfig::Nsf(nsf) => nsf.batch_norm = batch_norm,
            ModelConfig::NsfCoupling(nsf) => nsf.batch_norm = batch_norm,
            ModelConfig::Naf(naf) => naf.batch_norm = batch_norm,
            ModelConfig::Sos(sos) => sos.batch_norm = batch_norm,
            ModelConfig::Bernstein(bernstein) => bernstein.batch_norm = batch_norm,
            ModelConfig::Ddnf(ddnf) => ddnf.cells = self.spec.cells.unwrap_or(ddnf.cells),
            _ => {}
        }
        Ok(FitConfig {
            training_log_det: chosen.training_log_det,
            whiten: self.spec.whiten.unwrap_or(chosen.whiten),
            seed: self.seed as u64,
            course: self.course.clone(),
            ..FitConfig::new(model)
        })
    }
}

/// What is wrong with a [`DensityConfig`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, or has keys or values that do not belong.
    #[error("{0}")]
    Parse(String),
    /// A name that stands for nothing, or a value out of range.
    #[error("{0}")]
    Value(String),
}

impl experiment::Job for Job {
    fn name(&self) -> String {
        let variant = match self.variant.as_str() {
            "" => String::new(),
            variant => format!(", {variant},"),
        };
        format!(
            "{} {}{variant} seed {}",
            self.set.name(),
            self.model,
            self.seed
        )
    }

    fn steps(&self) -> usize {
        if self.is_gaussian() {
            0
        } else {
            self.course.steps
        }
    }

    fn path(&self) -> PathBuf {
        let mut path = Path::new(self.set.name()).join(&self.model);
        if !self.variant.is_empty() {
            path.push(self.variant.replace(", ", "_").replace(' ', "-"));
        }
        path.join(format!("seed-{}", self.seed))
    }
}

impl DensityConfig {
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
            Preset::Quick => include_str!("../../configs/density-quick.toml"),
            Preset::Paper => include_str!("../../configs/density-paper.toml"),
            Preset::Grid => include_str!("../../configs/density-grid.toml"),
        };
        Self::from_toml(text, "built-in preset").expect("the presets are tested")
    }

    /// Every run, set by set.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown name or a value out of range.
    pub fn jobs(&self) -> Result<Vec<Job>, ConfigError> {
        let wrong = |text: String| Err(ConfigError::Value(text));
        if self.sets.is_empty() || self.models.is_empty() || self.seeds == 0 || self.samples == 0 {
            return wrong("sets, models, seeds and samples must not be empty or 0".to_owned());
        }
        let filters = self.overrides.iter().map(|o| (&o.sets, &o.models));
        let filters = filters.chain(self.grids.iter().map(|g| (&g.sets, &g.models)));
        for (sets, models) in filters {
            for set in sets {
                self.set(set)?;
            }
            for model in models {
                self.spec(model)?;
            }
        }
        let mut jobs = Vec::new();
        for set in &self.sets {
            let set = self.set(set)?;
            for model in &self.models {
                for variant in self.variants(set.name(), model) {
                    let (mut spec, mut course) = self.adapted(self.spec(model)?, set.name(), model);
                    variant.values.apply(&mut spec, &mut course);
                    if let Some(problem) = course.problem() {
                        return wrong(format!("course: {problem}"));
                    }
                    for seed in 0..self.seeds {
                        let job = Job {
                            set,
                            model: model.clone(),
                            variant: variant.name.clone(),
                            spec: spec.clone(),
                            seed,
                            course: course.clone(),
                        };
                        if job.is_gaussian() && seed > 0 {
                            continue;
                        }
                        if jobs.iter().any(|j: &Job| j.path() == job.path()) {
                            return wrong(format!("'{}' is listed twice", job.name()));
                        }
                        jobs.push(job);
                    }
                }
            }
        }
        Ok(jobs)
    }

    fn set(&self, name: &str) -> Result<SetId, ConfigError> {
        SetId::parse(name).ok_or_else(|| {
            let known = SetId::ALL.map(SetId::name).join(", ");
            ConfigError::Value(format!("unknown set '{name}'; sets are {known}"))
        })
    }

    fn spec(&self, name: &str) -> Result<&ModelSpec, ConfigError> {
        let found = self.specs.iter().find(|spec| spec.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.specs.iter().map(|s| s.name.as_str()).collect();
            let known = known.join(", ");
            ConfigError::Value(format!("unknown model '{name}'; models are {known}"))
        })
    }

    fn adapted(&self, spec: &ModelSpec, set: &str, model: &str) -> (ModelSpec, Training) {
        let (mut spec, mut course) = (spec.clone(), self.course.clone());
        for other in &self.overrides {
            if named(&other.sets, set) && named(&other.models, model) {
                other.apply(&mut spec, &mut course);
            }
        }
        (spec, course)
    }

    /// What the grids offer this model on this set; one empty variant where they offer nothing.
    fn variants(&self, set: &str, model: &str) -> Vec<Variant> {
        let grids = self.grids.iter();
        let offered = grids.filter(|g| named(&g.sets, set) && named(&g.models, model));
        let all: Vec<Variant> = offered.flat_map(Grid::variants).collect();
        if all.is_empty() {
            return Grid::default().variants();
        }
        all
    }
}

/// Whether a list names `name`; an empty one names everything.
fn named(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|n| n == name)
}

/// A built-in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Preset {
    /// Four sets, every model, one seed, short runs: about half an hour on one core.
    #[default]
    Quick,
    /// The sizes, learning rates and patience of arXiv:1705.07057, three seeds: days on a CPU.
    Paper,
    /// How the sizes and rates of `quick` were chosen: each of a grid, scored on validation rows.
    Grid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_sound_and_build_their_models() {
        for preset in [Preset::Quick, Preset::Paper, Preset::Grid] {
            let config = DensityConfig::preset(preset);
            let jobs = config.jobs().unwrap();
            let gaussians = jobs.iter().filter(|job| job.is_gaussian()).count();
            // A closed form has nothing to choose.
            let expected = match preset {
                Preset::Grid => 0,
                _ => config.sets.len(),
            };
            assert_eq!(gaussians, expected);
            for job in jobs.iter().filter(|job| !job.is_gaussian()) {
                match job.fit_config(6) {
                    Ok(fit) => assert_eq!(fit.problem(), None),
                    Err(reason) => assert!(job.spec.family == "iaf", "{reason}"),
                }
            }
        }
    }

    #[test]
    fn later_overrides_win_and_names_are_checked() {
        let mut config = DensityConfig::preset(Preset::Quick);
        config.overrides = vec![
            Override {
                steps: Some(10),
                hidden: Some(vec![8]),
                ..Override::default()
            },
            Override {
                models: vec!["made".to_owned()],
                sets: vec!["power".to_owned()],
                steps: Some(20),
                ..Override::default()
            },
        ];
        let steps = |model: &str, set: &str| {
            let (spec, course) = config.adapted(config.spec(model).unwrap(), set, model);
            assert_eq!(spec.hidden, Some(vec![8]));
            course.steps
        };
        assert_eq!(steps("made", "power"), 20);
        assert_eq!(steps("made", "protein"), 10);
        assert_eq!(steps("realnvp-5", "power"), 10);
        config.sets = vec!["mnist".to_owned()];
        let error = config.jobs().unwrap_err().to_string();
        assert!(
            error.contains("unknown set 'mnist'; sets are power"),
            "{error}"
        );
    }
}
