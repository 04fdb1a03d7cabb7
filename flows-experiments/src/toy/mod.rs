//! The toy experiment: densities on the plane, many models side by side (the paper's figure 4).
//!
//! Energies are fitted by the reverse KL, sample sets by maximum likelihood. A job is one target, one
//! model and one seed.

mod evaluate;
mod objective;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::anyhow;
use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::{InverseReport, Invert};
use flows_core::distributions::{LogProb, Sample};
use flows_core::state::trained_parameters;
use flows_core::visit::{LayerVisit, has_statistics};
use flows_models::{FastDirection, ModelConfig, PRESETS};
use flows_train::{Fitted, Run as TrainRun, TrainError, Training, fit, stream, stream_seed};
use serde::{Deserialize, Serialize};

pub use evaluate::{Estimated, Measurement, Metric, density_grid, measure};
pub(crate) use objective::points;
pub use objective::{Annealing, MaximumLikelihood, ReverseKl};

use crate::report::density_plot::{DensityPanel, grid_points, histogram};
use crate::report::{JsonText, Table, draw_density_panels, draw_overview, format_estimate};
use crate::runner::{
    Column, Experiment, Flag, Format, Labels, Override, Preset, Results, Rows, Run, with_values,
};
use crate::targets::{SoftWall, Target, quadrature};
use flows_models::stability::{Stability, measure_stability};

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
    pub training: Training,
    /// How the energies are annealed.
    #[serde(default)]
    pub annealing: Annealing,
    /// The wall around the energies.
    #[serde(default)]
    pub wall: SoftWall,
    /// How the fitted models are measured.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// Another [`Training`] for some `models` or `targets`; later ones win.
    #[serde(default, rename = "override", skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// Models of your own, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, ModelConfig>,
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

/// What a target asks of every run on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetSettings {
    /// The wall around the energies.
    pub wall: SoftWall,
    /// How the energies are annealed.
    pub annealing: Annealing,
    /// How the fitted model is measured.
    pub evaluation: Evaluation,
}

impl TargetSettings {
    /// What is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        let fraction = |v: f64| (0.0..=1.0).contains(&v);
        let Self {
            wall,
            annealing,
            evaluation,
        } = self;
        if evaluation.samples == 0 || evaluation.grid == 0 {
            return Some("evaluation.samples and evaluation.grid must be at least 1".to_owned());
        }
        if !fraction(annealing.start) || !fraction(annealing.until) {
            return Some("annealing.start and annealing.until must lie in [0, 1]".to_owned());
        }
        (!(wall.strength > 0.0 && wall.half_width > 0.0))
            .then(|| "wall.strength and wall.half_width must be positive".to_owned())
    }
}

/// One job: a target, a model, a seed.
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
    pub training: Training,
}

impl crate::runner::Job for Job {
    fn labels(&self) -> Labels {
        let target = self.target.name().into();
        vec![
            ("target", target),
            ("model", self.model_name.as_str().into()),
        ]
    }

    fn seed(&self) -> usize {
        self.seed
    }

    fn steps(&self) -> usize {
        self.training.steps
    }
}

impl Job {
    /// The seed of this run, different for every target and model.
    fn run_seed(&self) -> u64 {
        let seed = stream_seed(self.seed as u64, self.target.name(), 0);
        stream_seed(seed, &self.model_name, 0)
    }
}

/// What a job leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Of the fitted model on fresh samples.
    pub measurement: Measurement,
    /// Trained scalars.
    pub parameters: usize,
    /// Seconds of training: the one thing here that a resumed run does not repeat.
    pub train_seconds: f64,
    /// Largest round-trip error of the inverse over 1000 samples.
    pub inverse_residual: f64,
    /// Passes of the forward network that it took.
    pub inverse_passes: usize,
    /// How stable the blocks are on test points; `None` for models without DDNF blocks.
    pub stability: Option<Stability>,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
}

/// The experiment.
#[derive(Debug)]
pub struct Toy {
    config: ToyConfig,
}

impl Toy {
    fn settings(&self) -> TargetSettings {
        TargetSettings {
            wall: self.config.wall,
            annealing: self.config.annealing,
            evaluation: self.config.evaluation,
        }
    }

    /// The model of this name for the plane.
    fn model(&self, name: &str) -> Result<ModelConfig, String> {
        let custom = &self.config.custom;
        let model = match (custom.get(name), flows_models::preset(name)) {
            (Some(custom), _) => custom.clone(),
            (None, Some(preset)) => preset.config(2),
            (None, None) => {
                let known = PRESETS.iter().map(|p| p.name);
                let known = known.chain(custom.keys().map(String::as_str));
                let known = known.collect::<Vec<_>>().join(", ");
                return Err(format!("unknown model '{name}'; models are {known}"));
            }
        };
        match model.dim() {
            2 => Ok(model),
            dim => Err(format!(
                "model '{name}' has dim {dim}, the toy targets have 2"
            )),
        }
    }

    fn training_of(&self, target: &str, model: &str) -> Result<Training, String> {
        let mut training = self.config.training.clone();
        for other in &self.config.overrides {
            let changed = with_values(&training, other.values(&["targets", "models"]));
            let changed = changed.map_err(|reason| format!("override: {reason}"))?;
            if other.applies(&[("targets", target), ("models", model)]) {
                training = changed;
            }
        }
        match training.problem() {
            Some(problem) => Err(format!("training.{problem}")),
            None => Ok(training),
        }
    }

    /// Trains, measures, and keeps the density of the first seed.
    fn fit<B, M>(
        &self,
        job: &Job,
        run: &mut Run<'_, B>,
        model: M,
    ) -> anyhow::Result<(Measured, M::InnerModule)>
    where
        B: AutodiffBackend,
        M: LogProb<B> + Sample<B> + AutodiffModule<B>,
        M::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
    {
        let parameters = trained_parameters::<B, M>(&model);
        let (settings, device) = (self.settings(), run.device);
        let training = run.training(job.run_seed());
        let (fitted, measurement) = train_and_measure(
            model,
            job.target,
            &settings,
            &job.training,
            training,
            device,
        )?;
        if job.seed == 0 {
            let (range, grid) = (job.target.plot_range(), settings.evaluation.grid);
            let density = density_grid(&fitted.model, range, grid, device);
            run.folder.keep_density(&density)?;
        }
        let measured = Measured {
            measurement,
            parameters,
            train_seconds: fitted.seconds,
            inverse_residual: 0.0,
            inverse_passes: 0,
            stability: None,
            losses: fitted.losses,
        };
        Ok((measured, fitted.model))
    }

    /// The panels of one target: the target, then each model that has a density.
    fn panels(&self, target: Target, results: &Results<Self>, rows: &Rows) -> Vec<DensityPanel> {
        let n = self.config.evaluation.grid;
        let mut panels = vec![target_panel(target, &self.config.wall, n)];
        let of_target = |job: &&Job| job.target == target && job.seed == 0;
        for job in results.jobs.iter().filter(of_target) {
            let is_of = |row: &&crate::runner::Row| {
                row.is("target", target.name()) && row.is("model", &job.model_name)
            };
            let row = rows.rows.iter().find(is_of);
            let (Some(grid), Some(row)) = (results.run(job).density(n * n), row) else {
                continue;
            };
            let shown = METRICS
                .into_iter()
                .find_map(|metric| Some((metric.title(), row.mean(metric.name())?)));
            panels.push(DensityPanel {
                title: job.model_name.clone(),
                subtitle: shown.map_or("diverged".to_owned(), |(title, mean)| {
                    format!("{title} {}", format_estimate(mean.mean, mean.stderr))
                }),
                range: target.plot_range(),
                grid,
            });
        }
        panels
    }
}

/// The metrics, the one that tables show of a target first.
const METRICS: [Metric; 3] = [Metric::Kl, Metric::EntropyGap, Metric::Nll];

type Col<'a> = Column<'a, Toy>;

impl Experiment for Toy {
    const NAME: &'static str = "toy";
    const ABOUT: &'static str = "Fit normalizing flows to densities on the plane and compare them\n\n\
        Energies (u1 to u4) are fitted by the reverse KL and reported by their true KL in nats; sample \
        sets are fitted by maximum likelihood and reported by the negative log-likelihood of fresh \
        samples and, where the density is known, by its gap to the entropy.\n\n\
        Without options it runs the preset `quick`, one to two minutes on two cores, and leaves a folder \
        with results.jsonl, summary.json, table.md, one picture a target and overview.png. A run that was \
        interrupted continues with --resume and ends with the same numbers.";
    const EXAMPLES: &'static str = "\
        toy                                          the quick preset, into a new folder under runs/\n\
        toy --targets u1,checkerboard --models ddnf  two targets, one model, both seeds\n\
        toy --preset paper --out runs/paper          the full table; about an hour\n\
        toy --resume --out runs/paper                continue it\n\
        toy --set training.batch=64                  any other key of the configuration\n\
        toy --list                                   targets and models, one line each";
    const PRESETS: &'static [Preset] = &[
        Preset::new(
            "quick",
            "Two energies and two sample sets, a few models: one to two minutes on two cores",
            include_str!("../../configs/toy-quick.toml"),
        ),
        Preset::new(
            "paper",
            "The paper's figure 4: eight targets, every model, three seeds: about an hour on two cores",
            include_str!("../../configs/toy-paper.toml"),
        ),
    ];
    const FLAGS: &'static [Flag] = &[
        Flag::names("targets", "Targets, separated by commas"),
        Flag::names("models", "Models, separated by commas"),
        Flag::SEEDS,
        Flag::STEPS,
    ];
    type Config = ToyConfig;
    type Job = Job;
    type Measured = Measured;

    fn new(config: ToyConfig, _data: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self { config })
    }

    /// Target by target.
    fn jobs(&self) -> Result<Vec<Job>, String> {
        let config = &self.config;
        if config.seeds == 0 {
            return Err("seeds is 0, expected at least 1".to_owned());
        }
        if let Some(problem) = self.settings().problem() {
            return Err(problem);
        }
        let parse = |name: &str| Target::parse(name).map_err(|error| error.to_string());
        for other in &config.overrides {
            other
                .names("targets")
                .into_iter()
                .try_for_each(|name| parse(name).map(drop))?;
            other
                .names("models")
                .into_iter()
                .try_for_each(|name| self.model(name).map(drop))?;
        }
        let mut jobs = Vec::new();
        for target in &config.targets {
            let target = parse(target)?;
            for model_name in &config.models {
                let model = self.model(model_name)?;
                if model.needs_data() && matches!(target, Target::Energy(_)) {
                    return Err(format!(
                        "model '{model_name}' has batch normalization, whose statistics are those of \
                         data; the energy '{}' has none",
                        target.name()
                    ));
                }
                let training = self.training_of(target.name(), model_name)?;
                jobs.extend((0..config.seeds).map(|seed| Job {
                    target,
                    model_name: model_name.clone(),
                    model: model.clone(),
                    seed,
                    training: training.clone(),
                }));
            }
        }
        Ok(jobs)
    }

    fn list(&self) -> String {
        let targets = Target::all()
            .into_iter()
            .map(|t| format!("  {:<16} {}\n", t.name(), t.describe()));
        let models = PRESETS
            .iter()
            .map(|p| format!("  {:<16} {}\n", p.name, p.about));
        let (targets, models) = (targets.collect::<String>(), models.collect::<String>());
        format!("targets\n{targets}models\n{models}")
    }

    fn check<B: AutodiffBackend>(&self, jobs: &[Job], device: &B::Device) -> anyhow::Result<()> {
        for job in jobs.iter().filter(|job| job.seed == 0) {
            let rng = &mut stream(0, "check", 0);
            let built = job.model.init_data_to_base::<B>(device, rng);
            let built = built.map_err(|source| anyhow!("model '{}': {source}", job.model_name))?;
            if built.context_dim() > 0 {
                let name = &job.model_name;
                anyhow::bail!(
                    "model '{name}' takes a context, expected one without: the targets have none"
                );
            }
        }
        Ok(())
    }

    fn run<B: AutodiffBackend>(&self, job: &Job, run: &mut Run<'_, B>) -> anyhow::Result<Measured> {
        let (seed, device) = (job.run_seed(), run.device);
        let rng = &mut stream(seed, "parameters", 0);
        let check_rng = &mut stream(seed, "inverse", 0);
        let data_to_base = match job.model.fast_direction() {
            FastDirection::Density => true,
            FastDirection::Sampling => false,
            FastDirection::Either => matches!(job.target, Target::Samples(_)),
        };
        let (mut measured, report, stability) = if data_to_base {
            let flow = job.model.init_data_to_base::<B>(device, rng)?;
            let (measured, flow) = self.fit(job, run, flow)?;
            let z = flow.base().sample(CHECK_SAMPLES, None, check_rng);
            let (x, report) = flow.bijector().inverse_with_report(z, None);
            let start = match job.target {
                Target::Samples(set) => {
                    let rng = &mut stream(seed, "stability", 0);
                    points(&set.sample(CHECK_SAMPLES, rng), device)
                }
                Target::Energy(_) => x.value,
            };
            let stability = measure_stability(flow.bijector().layers(), start);
            (measured, report, stability)
        } else {
            let flow = job.model.init_base_to_data::<B>(device, rng)?;
            let (measured, flow) = self.fit(job, run, flow)?;
            let x = flow.sample(CHECK_SAMPLES, None, check_rng);
            let report = flow.bijector().inverse_with_report(x, None).1;
            let rng = &mut stream(seed, "stability", 0);
            let start = flow.base().sample(CHECK_SAMPLES, None, rng);
            let stability = measure_stability(flow.bijector().layers(), start);
            (measured, report, stability)
        };
        let InverseReport {
            residual, passes, ..
        } = report;
        (measured.inverse_residual, measured.inverse_passes) = (residual, passes);
        run.warn(stability.iter().flat_map(|s| s.warnings.clone()));
        measured.stability = stability;
        Ok(measured)
    }

    fn outcome(&self, measured: &Measured) -> String {
        let metric = |m: &Estimated| {
            format!(
                "{} {}",
                m.metric.title(),
                format_estimate(m.value, Some(m.stderr))
            )
        };
        let metrics: Vec<String> = measured.measurement.metrics.iter().map(metric).collect();
        format!("{}  ({:.0} s)", metrics.join(", "), measured.train_seconds)
    }

    fn columns<'a>(&'a self, _: &'a Results<Self>) -> Vec<Column<'a, Self>> {
        let metric = |metric: Metric| {
            let of = move |m: &Measured| {
                m.measurement
                    .metrics
                    .iter()
                    .find(|m| m.metric == metric)
                    .copied()
            };
            Col::mean(metric.name(), metric.title(), move |_, m| {
                Some(of(m)?.value)
            })
            .with_own_error(move |_, m| Some(of(m)?.stderr))
        };
        let small = Format::Scientific;
        let mut columns: Vec<Column<'_, Self>> = METRICS.map(metric).into();
        columns.extend([
            Col::mean("mass_outside", "outside", |_, m| m.measurement.mass_outside).written(small),
            Col::first("parameters", "parameters", |_, m| m.parameters),
            Col::first("steps", "steps", |job, _| job.training.steps),
            Col::first("batch", "", |job, _| job.training.batch),
            Col::first("learning_rate", "", |job, _| job.training.learning_rate),
            Col::mean("train_seconds", "seconds", |_, m| Some(m.train_seconds))
                .written(Format::Decimals(1)),
            Col::first("log_det", "log-det", |job, _| job.model.methods().0),
            Col::first("inverse", "inverse", |job, _| job.model.methods().1),
            Col::largest("inverse_residual", "round trip", |_, m| {
                Some(m.inverse_residual)
            })
            .written(small),
            Col::total("not_finite", "", |_, m| m.measurement.not_finite),
        ]);
        columns.extend(crate::stability::columns(|m: &Measured| {
            m.stability.as_ref()
        }));
        columns
    }

    fn tables(&self, _: &Results<Self>, rows: &Rows) -> Vec<Table> {
        let names = [
            "target",
            "model",
            "kl",
            "entropy_gap",
            "nll",
            "mass_outside",
            "seeds",
            "parameters",
            "steps",
            "train_seconds",
            "log_det",
            "inverse",
            "inverse_residual",
            "max_rho",
        ];
        let overview = rows.pivot("model", "target", &METRICS.map(Metric::name));
        vec![overview, rows.table_of(|_| true, &names)]
    }

    fn notes(&self, _: &Results<Self>) -> String {
        "Nats, mean ± standard error over seeds: KL(q || p) of energies; the gap, KL(p || q), and the negative \
         log-likelihood of sample sets. Data: exact generators."
            .to_owned()
    }

    fn summary(&self, results: &Results<Self>) -> Vec<(&'static str, JsonText)> {
        let mut energies = Vec::new();
        for job in &results.jobs {
            match job.target {
                Target::Energy(energy) if !energies.contains(&energy) => energies.push(energy),
                _ => {}
            }
        }
        let (wall, cell) = (&self.config.wall, quadrature::DEFAULT_CELL);
        let constants = energies.into_iter().map(|energy| {
            let walled = quadrature::normalize_walled(energy, wall, cell);
            EnergyConstants {
                target: energy.name(),
                log_z_walled: walled.log_z,
                entropy_walled: walled.entropy,
                mass_outside_walled: walled.mass_outside,
                log_z_box: quadrature::normalize_in_box(energy, wall.half_width, cell).log_z,
            }
        });
        vec![("energies", JsonText::lines(&constants.collect::<Vec<_>>()))]
    }

    /// `TARGET.png` for every target, and `overview.png`.
    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        rows: &Rows,
        _: &B::Device,
    ) -> anyhow::Result<()> {
        let mut overview: Vec<(String, Vec<DensityPanel>)> = Vec::new();
        for job in &results.jobs {
            let target = job.target;
            if overview.iter().any(|(name, _)| name == target.name()) {
                continue;
            }
            let mut panels = self.panels(target, results, rows);
            let path = results.folder.path().join(format!("{}.png", target.name()));
            draw_density_panels(path, target.describe(), &panels, COLUMNS.min(panels.len()))?;
            panels[0].title = "target".to_owned();
            panels[0].subtitle = String::new();
            overview.push((target.name().to_owned(), panels));
        }
        Ok(draw_overview(
            results.folder.path().join("overview.png"),
            &overview,
        )?)
    }
}

/// Points on which the inverse and the stability are checked.
const CHECK_SAMPLES: usize = 1000;
/// Fresh samples that stand in for the training set where statistics are frozen.
const STATISTICS_SAMPLES: usize = 50_000;
/// Samples in the histogram of a target without a known density.
const HISTOGRAM_SAMPLES: usize = 1_000_000;
/// Columns of panels in a target's picture.
const COLUMNS: usize = 5;

/// What an energy is compared with, by quadrature.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct EnergyConstants {
    target: &'static str,
    /// `log Z` of the walled density, in nats.
    log_z_walled: f64,
    /// Its entropy, in nats.
    entropy_walled: f64,
    /// Its mass outside the box.
    mass_outside_walled: f64,
    /// `log Z` of the energy cut off at the box, in nats: a check against published constants.
    log_z_box: f64,
}

fn target_panel(target: Target, wall: &SoftWall, n: usize) -> DensityPanel {
    let range = target.plot_range();
    let points = || grid_points(range, n).into_iter();
    let known: Option<Vec<f64>> = match target {
        Target::Energy(energy) => {
            let log_z = quadrature::normalize_walled(energy, wall, quadrature::DEFAULT_CELL).log_z;
            let density = |x: [f64; 2]| (-energy.potential(x) - wall.penalty(x) - log_z).exp();
            Some(points().map(density).collect())
        }
        Target::Samples(set) => points().map(|x| set.log_density(x).map(f64::exp)).collect(),
    };
    let (grid, subtitle) = match (known, target) {
        (None, Target::Samples(set)) => {
            let rng = &mut stream(0, "histogram", 0);
            let grid = histogram(&set.sample(HISTOGRAM_SAMPLES, rng), range, n);
            (grid, "target, histogram")
        }
        (grid, _) => (grid.unwrap_or_default(), "target"),
    };
    DensityPanel {
        title: target.name().to_owned(),
        subtitle: subtitle.to_owned(),
        range,
        grid,
    }
}

/// Trains any flow on a toy target and measures it on fresh samples: what every job of the
/// experiment does, for models of your own.
///
/// # Errors
/// [`TrainError`] where the loss is not finite, or the checkpoint cannot be used.
pub fn train_and_measure<B, M>(
    model: M,
    target: Target,
    settings: &TargetSettings,
    training: &Training,
    run: TrainRun<'_>,
    device: &B::Device,
) -> Result<(Fitted<M::InnerModule>, Measurement), TrainError>
where
    B: AutodiffBackend,
    M: LogProb<B> + Sample<B> + AutodiffModule<B>,
    M::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
{
    let seed = run.seed();
    let fitted = match target {
        Target::Energy(energy) => {
            let mut objective = ReverseKl {
                energy,
                wall: settings.wall,
                annealing: settings.annealing,
            };
            fit::<B, _, _>(model, &mut objective, training, run)?
        }
        Target::Samples(set) => {
            let mut objective = MaximumLikelihood { set };
            fit::<B, _, _>(model, &mut objective, training, run)?
        }
    };
    let mut fitted = fitted.map(|model| model.valid());
    let keeps_statistics = has_statistics(|visit| fitted.model.visit_layers(visit));
    if let (Target::Samples(set), true) = (target, keeps_statistics) {
        // Batches are drawn afresh, so a large one stands in for the training set.
        let rng = &mut stream(seed, "statistics", 0);
        let chunk = points(&set.sample(STATISTICS_SAMPLES, rng), device);
        let mut visit = LayerVisit::freeze_statistics(vec![chunk], None);
        fitted.model.visit_layers(&mut visit);
    }
    let (wall, evaluation) = (&settings.wall, settings.evaluation);
    let measurement = measure(&fitted.model, target, wall, evaluation, seed, device);
    Ok((fitted, measurement))
}
