//! The command line of the toy experiment.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use flows_models::PRESETS;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::config::{Preset, ToyConfig};
use super::evaluate::Metric;
use super::folder::{Folder, FolderError, RunRecord, Status};
use super::picture::{draw_all, draw_target, panels};
use super::run::{Experiment, Progress, RunError};
use super::summary::{Summary, detail_table, energy_constants, overview_table, summarize};
use super::workers::{run_in_processes, work};
use crate::backend::{Task, check, dispatch, set_threads};
use crate::cli::{Compute, DeviceArgs, Misuse};
use crate::report::{format_estimate, write_atomically, write_json};
use crate::run_info::RunInfo;
use crate::targets::Target;

/// Fit normalizing flows to densities on the plane and compare them
///
/// Energies (u1 to u4) are fitted by the reverse KL and reported by their true KL in nats; sample
/// sets are fitted by maximum likelihood and reported by the negative log-likelihood of fresh
/// samples and, where the density is known, by its gap to the entropy.
///
/// Without options it runs the preset `quick`, about three minutes on two cores, and leaves a folder
/// with summary.json, table.md, one picture a target and overview.png. A run that was interrupted
/// goes on with --resume and ends with the same numbers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        toy                                          the quick preset, into a new folder under runs/\n  \
        toy --targets u1,checkerboard --models ddnf  two runs of one model, both seeds\n  \
        toy --preset paper --out runs/paper          the full table; about two hours\n  \
        toy --resume --out runs/paper                go on with it\n  \
        toy --list                                   targets and models, one line each"
)]
pub struct Args {
    /// Built-in configuration to start from [default: quick]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<Preset>,
    /// Configuration file to start from (TOML; a run's folder holds one as config.toml)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Targets, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    targets: Option<Vec<String>>,
    /// Models, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Runs of each target and model, with seeds 0, 1, ...
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Gradient steps of every run, whatever the configuration says
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for the results [default: the next free runs/toy-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the experiment in --out, or in the latest runs/toy-N
    #[arg(long)]
    resume: bool,
    /// List targets and models and exit
    #[arg(long)]
    list: bool,
    /// Do the jobs named on standard input for the experiment in --out, with this many threads
    #[arg(long, hide = true, requires = "out")]
    worker: Option<usize>,
}

/// Where results go when nobody says.
const RUNS: &str = "runs";

impl Args {
    /// Does what the options say.
    ///
    /// # Errors
    /// [`Misuse`] for options that cannot be met; anything else is a failure.
    pub fn run(self) -> anyhow::Result<()> {
        if self.list {
            print_list();
            return Ok(());
        }
        let out = self.folder();
        if let Some(threads) = self.worker {
            return serve(&out, threads);
        }
        let earlier = if self.resume {
            Some(Folder::compute(&out).map_err(Misuse::new)?)
        } else {
            None
        };
        let compute = self.device.resolve_from(earlier)?;
        let config = self.configure(&out)?;
        config.jobs().map_err(Misuse::new)?;
        // Before the folder: a backend that does not start leaves none behind.
        check(compute.backend, compute.dtype).map_err(Misuse::from)?;
        let folder = if self.resume {
            Folder::resume(&out, &config, compute)
        } else {
            Folder::create(&out, &config, compute)
        };
        let folder = folder.map_err(|error| match error {
            FolderError::Create { .. } | FolderError::Report(_) => anyhow::Error::from(error),
            misuse => Misuse::new(misuse).into(),
        })?;
        let session = Session {
            experiment: Experiment::new(folder, &config).map_err(Misuse::new)?,
            config,
            compute,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn folder(&self) -> PathBuf {
        if let Some(out) = &self.out {
            return out.clone();
        }
        let numbered = |n: usize| Path::new(RUNS).join(format!("toy-{n}"));
        let free = (1..).find(|n| !numbered(*n).exists()).unwrap_or(1);
        numbered(if self.resume { (free - 1).max(1) } else { free })
    }

    fn configure(&self, out: &Path) -> anyhow::Result<ToyConfig> {
        let mut config = match (&self.config, self.preset) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| Misuse::new(format!("--config {}: {e}", file.display())))?;
                ToyConfig::from_toml(&text, &file.display().to_string()).map_err(Misuse::new)?
            }
            (None, None) if self.resume => {
                let text = Folder::config_text(out).map_err(Misuse::new)?;
                let origin = out.join("config.toml").display().to_string();
                ToyConfig::from_toml(&text, &origin).map_err(Misuse::new)?
            }
            (None, preset) => ToyConfig::preset(preset.unwrap_or_default()),
        };
        if let Some(targets) = &self.targets {
            config.targets = targets.clone();
        }
        if let Some(models) = &self.models {
            config.models = models.clone();
        }
        if let Some(seeds) = self.seeds {
            config.seeds = seeds;
        }
        if let Some(steps) = self.steps {
            config.training.steps = steps;
            config.overrides.iter_mut().for_each(|o| o.steps = None);
        }
        Ok(config)
    }
}

/// The worker process of an experiment begun by another.
fn serve(out: &Path, threads: usize) -> anyhow::Result<()> {
    let text = Folder::config_text(out)?;
    let config = ToyConfig::from_toml(&text, "config.toml")?;
    let compute = Folder::compute(out)?;
    set_threads(threads);
    let folder = Folder::resume(out, &config, compute)?;
    let worker = Worker(Experiment::new(folder, &config)?);
    Ok(dispatch(compute.backend, compute.dtype, worker)?)
}

struct Worker(Experiment);

impl Task for Worker {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: B::Device) {
        work::<B>(&self.0, &device);
    }
}

fn print_list() {
    println!("targets");
    for target in Target::all() {
        println!("  {:<16} {}", target.name(), target.describe());
    }
    println!("models");
    for preset in PRESETS {
        println!("  {:<16} {}", preset.name, preset.about);
    }
}

/// An experiment with what it was asked for.
struct Session {
    experiment: Experiment,
    config: ToyConfig,
    compute: Compute,
}

impl Task for Session {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Compute {
            backend,
            dtype,
            threads,
        } = self.compute;
        self.experiment
            .check_models::<B>(&device)
            .map_err(Misuse::new)?;
        let mut info = RunInfo::new(backend, format!("{device:?}"), dtype, threads);
        let begun = Instant::now();
        let jobs = &self.experiment.jobs;
        // Independent runs fill the cores of a CPU better than parallel loops over small batches.
        let workers = if backend.is_cpu() {
            threads.min(jobs.len())
        } else {
            1
        };
        println!(
            "{} runs on {backend} ({dtype}), {workers} at a time, into {}",
            jobs.len(),
            self.experiment.folder.path().display()
        );
        let mut screen = Screen::new(jobs.len());
        let mut records: Vec<Option<RunRecord>> = vec![None; jobs.len()];
        let mut drawn = Vec::new();
        let mut trouble = None;
        let mut on_progress = |progress: Progress| {
            if let Progress::Ended { job, record } = &progress {
                records[*job] = Some((**record).clone());
            }
            screen.show(&self.experiment, &progress);
            if let Progress::Ended { job, .. } = &progress {
                let target = jobs[*job].target;
                let all = jobs
                    .iter()
                    .zip(&records)
                    .filter(|(j, _)| j.target == target);
                if all.clone().all(|(_, record)| record.is_some()) {
                    let done = all.filter_map(|(_, r)| r.clone()).collect::<Vec<_>>();
                    match self.draw(target, &done) {
                        Ok(panels) => drawn.push((target.name().to_owned(), panels)),
                        Err(error) => {
                            trouble.get_or_insert(error);
                        }
                    }
                }
            }
        };
        let done = if workers > 1 {
            let each = threads.div_ceil(workers);
            run_in_processes(&self.experiment, workers, each, &mut on_progress)
        } else {
            self.experiment.run::<B>(&device, &mut on_progress)
        };
        screen.clear();
        info.wall_seconds = begun.elapsed().as_secs_f64();

        // What was computed is written, whatever stopped the rest.
        let records = records.into_iter().flatten().collect::<Vec<_>>();
        let complete = records.len() == jobs.len();
        self.write(&records, info, complete)?;
        match done {
            Ok(()) => {}
            Err(RunError::Config(error)) => return Err(Misuse::new(error).into()),
            Err(other) => return Err(other).context("stopped; --resume goes on from here"),
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        drawn.sort_by_key(|(name, _)| jobs.iter().position(|j| j.target.name() == name));
        draw_all(&self.experiment.folder, &drawn)?;
        let diverged = records
            .iter()
            .filter(|r| matches!(r.status, Status::Diverged { .. }))
            .count();
        println!("\n{}", overview_table(&summarize(&records)).to_terminal());
        println!(
            "nats, mean ± standard error over seeds; results in {}",
            self.experiment.folder.path().display()
        );
        if diverged > 0 {
            anyhow::bail!("{diverged} of {} runs diverged", records.len());
        }
        Ok(())
    }
}

impl Session {
    fn draw(
        &self,
        target: Target,
        records: &[RunRecord],
    ) -> anyhow::Result<Vec<crate::report::DensityPanel>> {
        let Experiment {
            folder,
            jobs,
            settings,
        } = &self.experiment;
        let rows = summarize(records);
        let panels = panels(
            jobs,
            target,
            &rows,
            folder,
            &settings.wall,
            settings.evaluation,
        );
        draw_target(folder, target, &panels)?;
        Ok(panels)
    }

    fn write(&self, records: &[RunRecord], info: RunInfo, complete: bool) -> anyhow::Result<()> {
        let folder = &self.experiment.folder;
        let rows = summarize(records);
        let table = format!(
            "{}\n{}",
            overview_table(&rows).to_markdown(),
            detail_table(&rows).to_markdown()
        );
        write_atomically(folder.path().join("table.md"), table.as_bytes())?;
        let summary = Summary {
            experiment: "toy",
            config: self.config.clone(),
            info,
            complete,
            rows,
            energies: energy_constants(&self.experiment.jobs, &self.config.wall),
        };
        Ok(write_json(folder.path().join("summary.json"), &summary)?)
    }
}

/// Progress bars on a terminal, one line a run elsewhere.
struct Screen {
    bars: MultiProgress,
    total: ProgressBar,
    running: Vec<Option<ProgressBar>>,
}

impl Screen {
    fn new(jobs: usize) -> Self {
        let bars = MultiProgress::new();
        if !std::io::stderr().is_terminal() {
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = "{bar:30} {pos}/{len} runs, {elapsed} elapsed, {eta} left";
        let total = bars.add(ProgressBar::new(jobs as u64).with_style(style_of(style)));
        Self {
            bars,
            total,
            running: vec![None; jobs],
        }
    }

    fn show(&mut self, experiment: &Experiment, progress: &Progress) {
        match progress {
            Progress::Started { job } => {
                let name = experiment.jobs[*job].name();
                let steps = experiment.jobs[*job].training.steps as u64;
                let style = style_of("{prefix:<32} {bar:20} {pos}/{len} {msg}");
                let bar = ProgressBar::new(steps).with_style(style).with_prefix(name);
                self.running[*job] = Some(self.bars.insert_before(&self.total, bar));
            }
            Progress::Stepped { job, event } => {
                if let Some(bar) = &self.running[*job] {
                    bar.set_position(event.step as u64);
                    bar.set_message(format!("loss {:.4}", event.loss));
                }
            }
            Progress::Ended { job, record } => {
                if let Some(bar) = self.running[*job].take() {
                    bar.finish_and_clear();
                }
                self.total.inc(1);
                let line = line_of(&experiment.jobs[*job].name(), record);
                // With the bars hidden a line through them would be lost.
                if self.bars.is_hidden() {
                    println!("{line}");
                } else {
                    let _ = self.bars.println(line);
                }
            }
        }
    }

    fn clear(&self) {
        self.total.finish_and_clear();
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template written here")
}

fn line_of(name: &str, record: &RunRecord) -> String {
    let result = match &record.status {
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
    format!("{name:<32} {result}  ({:.0} s)", record.train_seconds)
}
