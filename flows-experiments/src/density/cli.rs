//! The command line of the density experiment.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

use super::config::{DensityConfig, Job, Preset};
use super::picture;
use super::run::{Outcome, Record, RunFolder, run_job, samples};
use super::summary::{Summary, detail_table, overview_table, summarize};
use crate::backend::{Task, check, dispatch};
use crate::cli::{Compute, DeviceArgs, Misuse};
use crate::data::sets::{DataSet, SetId};
use crate::report::{format_estimate, read_json, write_atomically, write_json};
use crate::run_info::RunInfo;

/// Fit flows to the tables of the literature and compare their test log-likelihoods
///
/// POWER, MINIBOONE, BSDS300 patches and protein, read from a data folder; every result says which rows it
/// is from. Runs follow one another; one that was interrupted goes on with --resume and ends with the same
/// numbers. Fitted models stay in the folder, for `flows sample` and `flows log-prob`.
#[derive(Debug, Parser)]
#[command(
    name = "density",
    version,
    after_help = "Examples:\n  \
        density --data-dir data                               the quick preset, into runs/density-1\n  \
        FLOWS_DATA=data density --sets power --models maf-5   one run\n  \
        density --preset paper --out runs/paper               published sizes and patience\n  \
        density --resume --out runs/paper                     go on with it\n  \
        density --list                                        sets and models, one line each"
)]
pub struct Args {
    /// Built-in configuration to start from [default: quick]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<Preset>,
    /// Configuration file to start from (TOML; a run's folder holds one as config.toml)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    sets: Option<Vec<String>>,
    /// Models, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Runs of each set and model, with seeds 0, 1, ...
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Most gradient steps of every run, whatever the configuration says
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Folder with the data [default: the environment variable FLOWS_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for the results [default: the next free runs/density-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the experiment in --out, or in the latest runs/density-N
    #[arg(long)]
    resume: bool,
    /// List sets and models and exit
    #[arg(long)]
    list: bool,
}

const DATA: &str = "FLOWS_DATA";
const CONFIG: &str = "config.toml";
const COMPUTE: &str = "compute.json";

impl Args {
    /// Does what the options say.
    ///
    /// # Errors
    /// [`Misuse`] for options and data that cannot be used; anything else is a failure.
    pub fn run(self) -> anyhow::Result<()> {
        let out = self.folder();
        let config = self.configure(&out)?;
        if self.list {
            print_list(&config);
            return Ok(());
        }
        let jobs = config.jobs().map_err(Misuse::new)?;
        let data = self.data()?;
        let earlier = if self.resume {
            Some(read_json::<Compute>(out.join(COMPUTE)).map_err(Misuse::new)?)
        } else {
            None
        };
        let compute = self.device.resolve_from(earlier)?;
        check(compute.backend, compute.dtype).map_err(Misuse::from)?;
        // Before the folder: a set that is not there leaves none behind.
        let mut sets: Vec<SetId> = Vec::new();
        for job in &jobs {
            if !sets.contains(&job.set) {
                sets.push(job.set);
            }
        }
        let sets = sets.into_iter().map(|set| set.load(&data));
        let sets: Vec<DataSet> = sets.collect::<Result<_, _>>().map_err(Misuse::new)?;
        begin(&out, &config, compute, self.resume)?;
        let session = Session {
            out,
            config,
            jobs,
            sets,
            compute,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn folder(&self) -> PathBuf {
        if let Some(out) = &self.out {
            return out.clone();
        }
        let numbered = |n: usize| Path::new("runs").join(format!("density-{n}"));
        let free = (1..).find(|n| !numbered(*n).exists()).unwrap_or(1);
        numbered(if self.resume { (free - 1).max(1) } else { free })
    }

    fn data(&self) -> Result<PathBuf, Misuse> {
        let given = self.data_dir.clone();
        let data = given.or_else(|| std::env::var_os(DATA).map(PathBuf::from));
        let data = data.ok_or_else(|| {
            Misuse(format!(
                "no data: --data-dir or {DATA} names a folder with the sets; docs/density.md says where \
                 they come from"
            ))
        })?;
        if !data.is_dir() {
            return Err(Misuse(format!("{} is no folder", data.display())));
        }
        Ok(data)
    }

    fn configure(&self, out: &Path) -> anyhow::Result<DensityConfig> {
        let file = match (&self.config, self.preset) {
            (Some(file), _) => Some(file.clone()),
            (None, None) if self.resume => Some(out.join(CONFIG)),
            _ => None,
        };
        let mut config = match file {
            Some(file) => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|e| Misuse(format!("{}: {e}", file.display())))?;
                DensityConfig::from_toml(&text, &file.display().to_string()).map_err(Misuse::new)?
            }
            None => DensityConfig::preset(self.preset.unwrap_or_default()),
        };
        if let Some(sets) = &self.sets {
            config.sets = sets.clone();
        }
        if let Some(models) = &self.models {
            config.models = models.clone();
        }
        if let Some(seeds) = self.seeds {
            config.seeds = seeds;
        }
        if let Some(steps) = self.steps {
            config.course.steps = steps;
            config.overrides.iter_mut().for_each(|o| o.steps = None);
        }
        Ok(config)
    }
}

/// Makes the folder, or sees that it was begun with the same configuration.
fn begin(out: &Path, config: &DensityConfig, compute: Compute, resume: bool) -> anyhow::Result<()> {
    let text = toml::to_string(config).expect("a configuration is plain data");
    let shown = out.display();
    if resume {
        let begun = std::fs::read_to_string(out.join(CONFIG))
            .map_err(|e| Misuse(format!("{shown} holds no experiment to resume: {e}")))?;
        let earlier: Compute = read_json(out.join(COMPUTE))?;
        if begun != text || earlier != compute {
            let reason = format!("{shown} was begun with other settings, on {earlier}");
            return Err(Misuse(reason).into());
        }
        return Ok(());
    }
    if out.join(CONFIG).exists() {
        let reason = format!(
            "{shown} already holds an experiment; --resume goes on with it, --out names another folder"
        );
        return Err(Misuse(reason).into());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {shown}"))?;
    write_json(out.join(COMPUTE), &compute)?;
    write_atomically(out.join(CONFIG), text.as_bytes())?;
    Ok(())
}

fn print_list(config: &DensityConfig) {
    println!("sets");
    for set in SetId::ALL {
        println!("  {:<12} {}", set.name(), set.about());
    }
    println!("models of this configuration");
    for spec in &config.specs {
        let size = |name: &str, text: String| format!(", {name} {text}");
        let layers = spec.layers.map(|n| size("layers", n.to_string()));
        let hidden = spec
            .hidden
            .as_ref()
            .map(|h| size("hidden", format!("{h:?}")));
        println!(
            "  {:<12} {}{}{}",
            spec.name,
            spec.family,
            layers.unwrap_or_default(),
            hidden.unwrap_or_default()
        );
    }
}

/// An experiment with its data.
struct Session {
    out: PathBuf,
    config: DensityConfig,
    jobs: Vec<Job>,
    sets: Vec<DataSet>,
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
        let mut info = RunInfo::new(backend, format!("{device:?}"), dtype, threads);
        let begun = Instant::now();
        println!(
            "{} runs on {backend} ({dtype}), into {}",
            self.jobs.len(),
            self.out.display()
        );
        let mut records = Vec::new();
        let mut stopped = None;
        for set in &self.sets {
            println!("{}: {}", set.id.name(), set.status);
            for job in self.jobs.iter().filter(|job| job.set == set.id) {
                match self.one::<B>(job, set, &device) {
                    Ok(record) => records.push(record),
                    Err(error) => {
                        stopped.get_or_insert(error);
                    }
                }
                if stopped.is_some() {
                    break;
                }
            }
            if stopped.is_some() {
                break;
            }
            self.draw::<B>(set, &device)?;
        }
        info.wall_seconds = begun.elapsed().as_secs_f64();
        // What was computed is written, whatever stopped the rest.
        self.write(&records, info)?;
        if let Some(error) = stopped {
            return Err(error.context("stopped; --resume goes on from here"));
        }
        println!("\n{}", overview_table(&summarize(&records)).to_terminal());
        println!(
            "test log-likelihood in nats ± standard error over the test rows; results in {}",
            self.out.display()
        );
        Ok(())
    }
}

impl Session {
    fn one<B: AutodiffBackend>(
        &self,
        job: &Job,
        set: &DataSet,
        device: &B::Device,
    ) -> anyhow::Result<Record> {
        let folder = RunFolder::new(&self.out, job)?;
        let record = match folder.record()? {
            Some(record) => record,
            None => {
                let bar = ProgressBar::new(job.course.steps as u64);
                if !std::io::stderr().is_terminal() {
                    bar.set_draw_target(ProgressDrawTarget::hidden());
                }
                let style = "{prefix:<32} {bar:20} {pos}/{len} {msg}";
                let style = ProgressStyle::with_template(style).expect("a template written here");
                let bar = bar.with_style(style).with_prefix(job.name());
                let mut on_look = |look: crate::train::Evaluated| {
                    bar.set_position(look.step as u64);
                    bar.set_message(format!("validation {:.3}", look.validation));
                };
                let done = run_job::<B>(job, set, &folder, device, &mut on_look);
                bar.finish_and_clear();
                done.with_context(|| job.name())?
            }
        };
        println!("{}: {}", job.name(), line_of(&record));
        Ok(record)
    }

    fn draw<B: AutodiffBackend>(&self, set: &DataSet, device: &B::Device) -> anyhow::Result<()> {
        let mut models = Vec::new();
        for job in self.jobs.iter().filter(|j| j.set == set.id && j.seed == 0) {
            let folder = RunFolder::new(&self.out, job)?;
            let n = self.config.samples;
            if let Some(rows) = samples::<B>(job, set, &folder, n, device)? {
                models.push((job.model.clone(), rows));
            }
        }
        Ok(picture::draw(&self.out, set, &models)?)
    }

    fn write(&self, records: &[Record], info: RunInfo) -> anyhow::Result<()> {
        let rows = summarize(records);
        let table = format!(
            "{}\n{}",
            overview_table(&rows).to_markdown(),
            detail_table(&rows).to_markdown()
        );
        write_atomically(self.out.join("table.md"), table.as_bytes())?;
        let summary = Summary {
            experiment: "density",
            config: self.config.clone(),
            info,
            complete: records.len() == self.jobs.len(),
            rows,
            runs: records.to_vec(),
        };
        Ok(write_json(self.out.join("summary.json"), &summary)?)
    }
}

fn line_of(record: &Record) -> String {
    match &record.outcome {
        Outcome::Measured {
            test,
            steps,
            train_seconds,
            ..
        } => format!(
            "{} nats, {} steps (best after {}), {train_seconds:.1} s",
            format_estimate(test.mean, test.stderr),
            steps[0],
            steps[1]
        ),
        Outcome::Refused { reason } => format!("refused: {reason}"),
        Outcome::Diverged { reason } => format!("diverged: {reason}"),
    }
}
