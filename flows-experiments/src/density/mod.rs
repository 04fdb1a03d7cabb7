//! The density experiment: flows on the tables of the literature, by their test log-likelihood.
//!
//! Protocol of Papamakarios, Pavlakou & Murray, arXiv:1705.07057, section 4.2.

mod picture;
mod published;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::anyhow;
use burn::tensor::backend::AutodiffBackend;
use flows_core::base::BaseConfig;
use flows_core::transforms::LogScale;
use flows_models::ModelConfig;
use flows_train::{Evaluation, Stopped, Training, stream};
use serde::{Deserialize, Serialize};
use toml::Table as Toml;

pub use published::published;

use crate::data::sets::{DataSet, SetId};
use crate::report::{Table, format_estimate};
use crate::runner::{
    Column, Error, Experiment, Flag, Format, Labels, Override, Preset, Refused, Results, Rows, Run,
    with_values,
};
use flows_models::stability::Stability;
use flows_tables::table_flow::{
    Checkpointing, Estimate, FitConfig, Shape, TableFlow, choose, fit_parts,
};
use flows_tables::{FullGaussian, Rows as DataRows, Table as DataTable};

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
    #[serde(alias = "course")]
    pub training: Training,
    /// Samples of each model in the pictures.
    #[serde(default = "default_samples")]
    pub samples: usize,
    /// Lists of values to choose from, for some `sets` or `models`: every combination is run. With any,
    /// models are scored on the validation rows: the test rows decide nothing and are not used.
    #[serde(default, rename = "grid", skip_serializing_if = "Vec::is_empty")]
    pub grids: Vec<Override>,
    /// Another training or size for some `sets` or `models`; later ones win.
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
    /// The base distribution; by default the standard normal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseConfig>,
}

/// Keys of a [`ModelSpec`] that may be overridden; others are those of a [`Training`].
const SIZES: [&str; 7] = [
    "layers",
    "hidden",
    "cells",
    "whiten",
    "batch_norm",
    "scale",
    "base",
];
/// Lists of names in overrides and grids.
const LISTS: [&str; 2] = ["sets", "models"];

/// One job: a set, a model, a seed, and its place in a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What is fitted to.
    pub set: SetId,
    /// Its place in a grid, in words; empty where there is no choice.
    pub variant: String,
    /// The model, with other values applied.
    pub spec: ModelSpec,
    /// Seed of everything random but the set's own noise.
    pub seed: usize,
    /// Budget and optimizer, with other values applied.
    pub training: Training,
}

impl crate::runner::Job for Job {
    fn labels(&self) -> Labels {
        vec![
            ("set", self.set.name().into()),
            ("model", self.spec.name.as_str().into()),
            ("variant", self.variant.as_str().into()),
        ]
    }

    fn seed(&self) -> usize {
        self.seed
    }

    fn steps(&self) -> usize {
        match self.is_gaussian() {
            true => 0,
            false => self.training.steps,
        }
    }
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
        let spec = &self.spec;
        let shape = Shape {
            dim,
            context_dim: 0,
            layers: spec.layers,
            hidden: spec.hidden.as_deref(),
        };
        let chosen = choose(Some(&spec.family), shape).map_err(|e| e.to_string())?;
        let mut model = chosen.model;
        match &mut model {
            ModelConfig::Maf(maf) => {
                if let Some(scale) = spec.scale {
                    maf.transform = scale.into();
                }
                maf.batch_norm = spec.batch_norm;
            }
            ModelConfig::RealNvp(real_nvp) => real_nvp.batch_norm = spec.batch_norm,
            ModelConfig::Nsf(nsf) => nsf.batch_norm = spec.batch_norm,
            ModelConfig::NsfCoupling(nsf) => nsf.batch_norm = spec.batch_norm,
            ModelConfig::Naf(naf) => naf.batch_norm = spec.batch_norm,
            ModelConfig::Sos(sos) => sos.batch_norm = spec.batch_norm,
            ModelConfig::Bernstein(bernstein) => bernstein.batch_norm = spec.batch_norm,
            ModelConfig::Umnn(umnn) => umnn.batch_norm = spec.batch_norm,
            ModelConfig::Ddnf(ddnf) => ddnf.cells = spec.cells.unwrap_or(ddnf.cells),
            _ => {}
        }
        if let Some(base) = &spec.base {
            *model.base_mut() = base.clone();
        }
        Ok(FitConfig {
            training_log_det: chosen.training_log_det,
            whiten: spec.whiten.unwrap_or(chosen.whiten),
            seed: self.seed as u64,
            course: self.training.clone(),
            ..FitConfig::new(model)
        })
    }
}

/// What a job leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Log-likelihood of the rows of the score, in nats.
    pub score: Estimate,
    /// Mean log-likelihood of the validation rows, in nats.
    pub validation: f64,
    /// Trained scalars.
    pub parameters: usize,
    /// Gradient steps, and those after which the parameters kept were reached.
    pub steps: [usize; 2],
    /// Rows in a batch.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Why training ended; not there for a closed form.
    pub stopped: Option<Stopped>,
    /// Seconds of training: a measurement, which a resumed run does not repeat.
    pub train_seconds: f64,
    /// How the log-determinant was computed in the score, and in training where that differs.
    pub log_det: String,
    /// Whether the columns were decorrelated before the flow.
    pub whitened: bool,
    /// Of a DDNF's fields along the paths of some validation rows.
    pub stability: Option<Stability>,
    /// How the rows relate to the published ones.
    pub data: String,
    /// The units of the log-likelihoods.
    pub units: String,
    /// Rows for training, for validation and for the score.
    pub rows: [usize; 3],
}

/// The experiment, and where its data are.
#[derive(Debug)]
pub struct Density {
    config: DensityConfig,
    data: Option<PathBuf>,
    /// Sets that were read already.
    sets: [OnceLock<DataSet>; SetId::ALL.len()],
}

impl Density {
    /// A set, read when it is first asked for.
    fn set(&self, id: SetId) -> anyhow::Result<&DataSet> {
        let data = self.data.as_deref().ok_or_else(|| {
            anyhow!(
                "no data: --data-dir or {} names a folder with the sets; docs/density.md says where \
                 they come from",
                crate::data::DATA_FOLDER
            )
        })?;
        if !data.is_dir() {
            return Err(anyhow!("{} is no folder", data.display()));
        }
        let place = SetId::ALL.iter().position(|other| *other == id);
        let cell = &self.sets[place.expect("all sets are listed")];
        match cell.get() {
            Some(set) => Ok(set),
            None => {
                let read = id.load(data)?;
                Ok(cell.get_or_init(|| read))
            }
        }
    }

    /// Whether there is something to choose, by the validation rows.
    fn is_choice(&self) -> bool {
        !self.config.grids.is_empty()
    }

    fn set_id(name: &str) -> Result<SetId, String> {
        SetId::parse(name).ok_or_else(|| {
            let known = SetId::ALL.map(SetId::name).join(", ");
            format!("unknown set '{name}'; sets are {known}")
        })
    }

    fn spec(&self, name: &str) -> Result<&ModelSpec, String> {
        let specs = &self.config.specs;
        let found = specs.iter().find(|spec| spec.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = specs.iter().map(|s| s.name.as_str()).collect();
            format!("unknown model '{name}'; models are {}", known.join(", "))
        })
    }

    /// The model and its training on a set, with every combination that the grids offer.
    fn variants(
        &self,
        set: &str,
        model: &str,
    ) -> Result<Vec<(String, ModelSpec, Training)>, String> {
        let names = [("sets", set), ("models", model)];
        let mut sized = (self.spec(model)?.clone(), self.config.training.clone());
        for other in &self.config.overrides {
            let changed = with_sizes(&sized, other.values(&LISTS));
            let changed = changed.map_err(|reason| format!("override: {reason}"))?;
            if other.applies(&names) {
                sized = changed;
            }
        }
        let mut variants = Vec::new();
        for grid in self.config.grids.iter().filter(|grid| grid.applies(&names)) {
            for (name, values) in combinations(grid)? {
                let changed = with_sizes(&sized, values);
                let (spec, training) = changed.map_err(|reason| format!("grid: {reason}"))?;
                variants.push((name, spec, training));
            }
        }
        if variants.is_empty() {
            variants.push((String::new(), sized.0, sized.1));
        }
        Ok(variants)
    }

    /// The closed form, fitted to the training rows like everything else.
    fn gaussian(set: &DataSet, scored: &DataRows) -> anyhow::Result<Measured> {
        let begun = Instant::now();
        let fitted = FullGaussian::fit(&set.train)
            .ok_or_else(|| Refused("the covariance of the training rows is singular".to_owned()))?;
        let train_seconds = begun.elapsed().as_secs_f64();
        let score =
            |rows: &DataRows| -> Vec<f64> { rows.iter().map(|row| fitted.log_prob(row)).collect() };
        let dim = set.columns.len();
        Ok(Measured {
            score: Estimate::of(&score(scored)),
            validation: Estimate::of(&score(&set.validation)).mean,
            parameters: dim + dim * (dim + 1) / 2,
            steps: [0, 0],
            batch: set.train.len(),
            learning_rate: 0.0,
            stopped: None,
            train_seconds,
            log_det: "exact, closed form".to_owned(),
            whitened: false,
            stability: None,
            data: set.status.clone(),
            units: set.units.to_owned(),
            rows: [set.train.len(), set.validation.len(), scored.len()],
        })
    }

    fn flow<B: AutodiffBackend>(
        job: &Job,
        set: &DataSet,
        scored: &DataRows,
        run: &mut Run<'_, B>,
    ) -> anyhow::Result<Measured> {
        let config = job.fit_config(set.columns.len()).map_err(Refused)?;
        let table =
            |rows: &DataRows| DataTable::from_values(set.columns.clone(), rows.values().to_vec());
        let parts = [table(&set.train)?, table(&set.validation)?, table(scored)?];
        let path = run.checkpoint();
        let checkpointing = Checkpointing {
            path: Some(&path),
            compute: None,
        };
        let device = run.device;
        let mut on_evaluation = |evaluation: Evaluation| {
            run.report(evaluation.step, -evaluation.score);
        };
        let fitted = fit_parts::<B>(&parts, &config, checkpointing, device, &mut on_evaluation)?;
        fitted.save(&run.folder.file(MODEL))?;
        let stability = fitted.stability(&set.validation, None);
        run.warn(stability.iter().flat_map(|s| s.warnings.clone()));
        let training = fitted.header().training.as_ref();
        let training = training.expect("it was fitted just now");
        let mut log_det = config.model.methods().0;
        if let Some(other) = &config.training_log_det {
            log_det += &format!("; {} in training", other.label());
        }
        Ok(Measured {
            score: training.test,
            validation: training.validation,
            parameters: training.parameters,
            steps: training.steps,
            batch: training.batch,
            learning_rate: training.learning_rate,
            stopped: Some(training.stopped),
            train_seconds: training.seconds,
            log_det,
            whitened: config.whiten,
            stability,
            data: set.status.clone(),
            units: set.units.to_owned(),
            rows: [set.train.len(), set.validation.len(), scored.len()],
        })
    }

    /// Samples of the first seed of a job, for pictures; `None` where it has no model.
    fn samples<B: AutodiffBackend>(
        &self,
        job: &Job,
        set: &DataSet,
        results: &Results<Self>,
        device: &B::Device,
    ) -> anyhow::Result<Option<DataRows>> {
        let (rng, n) = (&mut stream(0, "picture", 0), self.config.samples);
        if job.is_gaussian() {
            return Ok(FullGaussian::fit(&set.train).map(|fitted| fitted.sample(n, rng)));
        }
        let path = results.run(job).file(MODEL);
        if !path.exists() {
            return Ok(None);
        }
        let flow = TableFlow::<B::InnerBackend>::load(&path, device)?;
        Ok(Some(flow.sample(n, None, rng)))
    }
}

/// File of the fitted model in the folder of a job.
const MODEL: &str = "model.flow";

/// A model and its training with other values.
fn with_sizes(
    (spec, training): &(ModelSpec, Training),
    values: Toml,
) -> Result<(ModelSpec, Training), String> {
    let is_size = |key: &String| SIZES.contains(&key.as_str());
    let (sizes, rest): (Toml, Toml) = values.into_iter().partition(|(key, _)| is_size(key));
    Ok((with_values(spec, sizes)?, with_values(training, rest)?))
}

/// Every combination of the lists of a grid, with its values in words.
fn combinations(grid: &Override) -> Result<Vec<(String, Toml)>, String> {
    let mut all = vec![(String::new(), Toml::new())];
    for (key, values) in grid.values(&LISTS) {
        let list = values.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| format!("grid: {key} is no list of values to try"))?;
        let with = |(name, table): &(String, Toml), value: &toml::Value| {
            let words = format!("{key} {}", plain(value));
            let name = match name.as_str() {
                "" => words,
                before => format!("{before}, {words}"),
            };
            let mut table = table.clone();
            table.insert(key.clone(), value.clone());
            (name, table)
        };
        let product = all
            .iter()
            .flat_map(|one| list.iter().map(|value| with(one, value)));
        all = product.collect();
    }
    Ok(all)
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        toml::Value::Float(number) => number.to_string(),
        other => other.to_string(),
    }
}

type Col<'a> = Column<'a, Density>;

impl Experiment for Density {
    const NAME: &'static str = "density";
    const ABOUT: &'static str = "Fit flows to the tables of the literature and compare their test log-likelihoods\n\n\
        POWER, MINIBOONE, BSDS300 patches and protein, read from a data folder; every result names the rows \
        it is from. The preset `grid` scores sizes and rates on validation rows, `quick` has those that it \
        chose.\n\n\
        On a CPU, runs go side by side in processes of their own, one a thread. An experiment that was \
        interrupted continues with --resume and ends with the same numbers. Fitted models stay in the \
        folder, for `flows sample` and `flows log-prob`.";
    const EXAMPLES: &'static str = "\
        density --data-dir data                               the quick preset, into runs/density-1\n\
        FLOWS_DATA=data density --sets power --models maf-5   one run\n\
        density --preset grid --sets miniboone                how the sizes for it were chosen\n\
        density --preset paper --out runs/paper               published sizes and patience\n\
        density --resume --out runs/paper                     continue it\n\
        density --list                                        sets and models, one line each";
    const PRESETS: &'static [Preset] = &[
        Preset::new(
            "quick",
            "Four sets, every model, one seed, short runs: about half an hour on one core",
            include_str!("../../configs/density-quick.toml"),
        ),
        Preset::new(
            "paper",
            "The sizes, learning rates and patience of arXiv:1705.07057, three seeds: days on a CPU",
            include_str!("../../configs/density-paper.toml"),
        ),
        Preset::new(
            "grid",
            "How the sizes and rates of `quick` were chosen: each of a grid, scored on validation rows",
            include_str!("../../configs/density-grid.toml"),
        ),
    ];
    const FLAGS: &'static [Flag] = &[
        Flag::names("sets", "Sets, separated by commas"),
        Flag::names("models", "Models, separated by commas"),
        Flag::SEEDS,
        Flag::STEPS,
    ];
    const TAKES_DATA: bool = true;
    type Config = DensityConfig;
    type Job = Job;
    type Measured = Measured;

    fn new(config: DensityConfig, data: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self {
            config,
            data,
            sets: Default::default(),
        })
    }

    /// Set by set.
    fn jobs(&self) -> Result<Vec<Job>, String> {
        let config = &self.config;
        if config.seeds == 0 || config.samples == 0 {
            return Err("seeds and samples must be at least 1".to_owned());
        }
        for other in config.overrides.iter().chain(&config.grids) {
            other
                .names("sets")
                .into_iter()
                .try_for_each(|name| Self::set_id(name).map(drop))?;
            other
                .names("models")
                .into_iter()
                .try_for_each(|name| self.spec(name).map(drop))?;
        }
        let mut jobs = Vec::new();
        for set in &config.sets {
            let set = Self::set_id(set)?;
            for model in &config.models {
                for (variant, spec, training) in self.variants(set.name(), model)? {
                    if let Some(problem) = training.problem() {
                        return Err(format!("training.{problem}"));
                    }
                    let job = |seed| Job {
                        set,
                        variant: variant.clone(),
                        spec: spec.clone(),
                        seed,
                        training: training.clone(),
                    };
                    let all = (0..config.seeds).map(job);
                    jobs.extend(all.filter(|job| job.seed == 0 || !job.is_gaussian()));
                }
            }
        }
        Ok(jobs)
    }

    fn list(&self) -> String {
        let sets = SetId::ALL.map(|set| format!("  {:<12} {}\n", set.name(), set.about()));
        let model = |spec: &ModelSpec| {
            let layers = spec
                .layers
                .map_or(String::new(), |n| format!(", layers {n}"));
            let hidden = spec.hidden.as_ref();
            let hidden = hidden.map_or(String::new(), |h| format!(", hidden {h:?}"));
            format!("  {:<12} {}{layers}{hidden}\n", spec.name, spec.family)
        };
        let models: String = self.config.specs.iter().map(model).collect();
        format!(
            "sets\n{}models of this configuration\n{models}",
            sets.concat()
        )
    }

    fn check<B: AutodiffBackend>(&self, jobs: &[Job], _: &B::Device) -> anyhow::Result<()> {
        jobs.iter().try_for_each(|job| self.set(job.set).map(drop))
    }

    fn run<B: AutodiffBackend>(&self, job: &Job, run: &mut Run<'_, B>) -> anyhow::Result<Measured> {
        let set = self.set(job.set)?;
        let scored = match self.is_choice() {
            true => &set.validation,
            false => &set.test,
        };
        match job.is_gaussian() {
            true => Self::gaussian(set, scored),
            false => Self::flow(job, set, scored, run),
        }
    }

    fn outcome(&self, measured: &Measured) -> String {
        let Measured {
            score,
            steps: [steps, best],
            train_seconds,
            ..
        } = measured;
        let score = format_estimate(score.mean, score.stderr);
        format!("{score} nats, {steps} steps (best after {best}), {train_seconds:.1} s")
    }

    fn columns<'a>(&'a self, _: &'a Results<Self>) -> Vec<Column<'a, Self>> {
        let scored = if self.is_choice() {
            "validation"
        } else {
            "test"
        };
        let mut columns = vec![
            Col::mean("score", format!("{scored}, nats ± over rows"), |_, m| {
                Some(m.score.mean)
            })
            .with_own_error(|_, m| m.score.stderr)
            .written(Format::Estimate(Error::Own)),
            Col::first("scored", "", move |_, _| scored),
            Col::mean("validation", "", |_, m| Some(m.validation)),
            Col::first("published", "published, full set", |job, _| {
                published(&job.spec.name, job.set).unwrap_or("not available")
            }),
            Col::first("data", "data", |_, m| m.data.clone()),
            Col::first("units", "", |_, m| m.units.clone()),
            Col::first(
                "rows",
                format!("rows: train, validation, {scored}"),
                |_, m| m.rows.to_vec(),
            ),
            Col::first("parameters", "parameters", |_, m| m.parameters),
            Col::each("steps", "steps (best)", |_, m| {
                format!("{} ({})", m.steps[0], m.steps[1])
            }),
            Col::first("batch", "", |_, m| m.batch),
            Col::first("learning_rate", "", |_, m| m.learning_rate),
            Col::mean("train_seconds", "seconds", |_, m| Some(m.train_seconds))
                .written(Format::Decimals(1)),
            Col::first("log_det", "log-determinant", |_, m| {
                format!(
                    "{}{}",
                    if m.whitened { "whitened; " } else { "" },
                    m.log_det
                )
            }),
        ];
        columns.extend(crate::stability::columns(|m: &Measured| {
            m.stability.as_ref()
        }));
        columns
    }

    /// Models down, sets across, and every row with all that qualifies it; of a grid every combination,
    /// the best of each model on each set in bold.
    fn tables(&self, _: &Results<Self>, rows: &Rows) -> Vec<Table> {
        if !self.is_choice() {
            let names = [
                "set",
                "model",
                "score",
                "seeds",
                "published",
                "data",
                "rows",
                "parameters",
                "steps",
                "train_seconds",
                "log_det",
                "notes",
            ];
            let details = rows.table_of(|_| true, &names);
            return vec![rows.pivot("model", "set", &["score"]), details];
        }
        let names = [
            "set",
            "model",
            "variant",
            "score",
            "seeds",
            "parameters",
            "steps",
            "train_seconds",
            "notes",
        ];
        let mut table = rows.table_of(|_| true, &names);
        let score = |row: &crate::runner::Row| row.mean("score").map(|mean| mean.mean);
        for (place, row) in rows.rows.iter().enumerate() {
            let same =
                |label: &str, other: &crate::runner::Row| other.label(label) == row.label(label);
            let rivals = rows
                .rows
                .iter()
                .filter(|other| same("set", other) && same("model", other));
            let best = rivals.filter_map(score).fold(f64::NEG_INFINITY, f64::max);
            if score(row) == Some(best) && !row.is("variant", "") {
                table.embolden(place, 2);
            }
        }
        vec![table]
    }

    fn notes(&self, _: &Results<Self>) -> String {
        match self.is_choice() {
            true => {
                "Log-likelihood of the validation rows in nats ± standard error over these rows."
                    .to_owned()
            }
            false => "Test log-likelihood in nats ± standard error over the test rows.".to_owned(),
        }
    }

    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        _: &Rows,
        device: &B::Device,
    ) -> anyhow::Result<()> {
        let mut drawn = Vec::new();
        for first in results.jobs.iter().filter(|_| !self.is_choice()) {
            if drawn.contains(&first.set) {
                continue;
            }
            drawn.push(first.set);
            let set = self.set(first.set)?;
            let mut models = Vec::new();
            for job in results
                .jobs
                .iter()
                .filter(|job| job.set == first.set && job.seed == 0)
            {
                if let Some(rows) = self.samples::<B>(job, set, results, device)? {
                    models.push((job.spec.name.clone(), rows));
                }
            }
            picture::draw(results.folder.path(), set, &models)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::preset;

    fn experiment(name: &str) -> Density {
        Density::new(preset(Density::PRESETS, name), None).unwrap()
    }

    #[test]
    fn the_presets_are_sound_and_build_their_models() {
        for preset in Density::PRESETS {
            let experiment = experiment(preset.name);
            let jobs = experiment.jobs().unwrap();
            let gaussians = jobs.iter().filter(|job| job.is_gaussian()).count();
            // A closed form has nothing to choose.
            let expected = match experiment.is_choice() {
                true => 0,
                false => experiment.config.sets.len(),
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
    fn a_model_and_an_override_choose_the_base() {
        let mut experiment = experiment("quick");
        let model =
            "name = 'heavy'\nfamily = 'maf'\nbase = { student_t = { parameters = 'trained' } }";
        experiment.config.models = vec!["heavy".to_owned()];
        experiment.config.specs = vec![toml::from_str(model).unwrap()];
        let torus = toml::from_str("sets = ['power']\nbase = 'torus'").unwrap();
        experiment.config.overrides = vec![Override(torus)];
        let jobs = experiment.jobs().unwrap();
        let base = |job: &Job| job.fit_config(6).unwrap().model.base().clone();
        for job in &jobs {
            match (job.set.name(), base(job)) {
                ("power", BaseConfig::Torus(_)) => {}
                (set, BaseConfig::StudentT(base)) if set != "power" => {
                    assert_eq!(base.parameters, flows_core::nn::ParametersConfig::Trained);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(jobs.len() > 1);
    }

    #[test]
    fn later_overrides_win_and_grids_multiply() {
        let mut experiment = experiment("quick");
        let table = |text: &str| Override(toml::from_str(text).unwrap());
        experiment.config.overrides = vec![
            table("steps = 10\nhidden = [8]"),
            table("models = ['made']\nsets = ['power']\nsteps = 20"),
        ];
        let steps = |model: &str, set: &str| {
            let variants = experiment.variants(set, model).unwrap();
            let [(name, spec, training)] = &variants[..] else {
                panic!("no choice");
            };
            assert_eq!((name.as_str(), &spec.hidden), ("", &Some(vec![8])));
            training.steps
        };
        assert_eq!(steps("made", "power"), 20);
        assert_eq!(steps("made", "protein"), 10);
        assert_eq!(steps("realnvp-5", "power"), 10);
        experiment.config.grids = vec![table(
            "hidden = [[8], [16, 16]]\nweight_decay = [0.0, 0.1, 1.0]\nwhiten = [true]",
        )];
        let variants = experiment.variants("power", "made").unwrap();
        assert_eq!(variants[0].0, "hidden 8, weight_decay 0, whiten true");
        let (_, spec, training) = &variants[5];
        assert_eq!(
            (&spec.hidden, training.weight_decay),
            (&Some(vec![16, 16]), 1.0)
        );
        assert_eq!((variants.len(), spec.whiten), (6, Some(true)));
        experiment.config.grids = vec![table("hidden = 8")];
        assert!(experiment.jobs().unwrap_err().contains("hidden is no list"));
    }
}
