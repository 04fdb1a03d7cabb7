//! The command line of the density experiment.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use serde::{Deserialize, Serialize};

use super::config::{DensityConfig, Preset};
use super::picture;
use super::run::{DensityPlan, Record, Scored, samples};
use super::summary::{Row, Summary, choice_table, detail_table, overview_table, summarize};
use crate::backend::{Task, dispatch};
use crate::cli::{Compute, Misuse};
use crate::data::sets::{DataSet, SetId};
use crate::experiment::{Experiment, Run, RunArgs, run_all, serve};
use crate::report::{read_json, write_atomically, write_json};

/// Fit flows to the tables of the literature and compare their test log-likelihoods
///
/// POWER, MINIBOONE, BSDS300 patches and protein, read from a data folder; every result says which rows it
/// is from. The preset `grid` scores sizes and rates on validation rows, `quick` has those that it chose.
///
/// On a CPU, runs go side by side in worker processes, one a thread. An experiment that was interrupted goes on
/// with --resume and ends with the same numbers. Fitted models stay in the folder, for `flows sample` and
/// `flows log-prob`.
#[derive(Debug, Parser)]
#[command(
    name = "density",
    version,
    after_help = "Examples:\n  \
        density --data-dir data                               the quick preset, into runs/density-1\n  \
        FLOWS_DATA=data density --sets power --models maf-5   one run\n  \
        density --preset grid --sets miniboone                how the sizes for it were chosen\n  \
        density --preset paper --out runs/paper               published sizes and patience\n  \
        density --resume --out runs/paper                     go on with it\n  \
        density --list                                        sets and models, one line each"
)]
pub struct Args {
    /// Built-in configuration to start from [default: quick]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<Preset>,
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
    /// Folder with the data [default: the environment variable FLOWS_DATA; with --resume, as before]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
    /// List sets and models and exit
    #[arg(long)]
    list: bool,
}

const DATA: &str = "FLOWS_DATA";
const DATA_FILE: &str = "data.json";

impl Args {
    /// Does what the options say.
    ///
    /// # Errors
    /// [`Misuse`] for options and data that cannot be used; anything else is a failure.
    pub fn run(self) -> anyhow::Result<()> {
        if self.list {
            print_list(&self.configure(None)?);
            return Ok(());
        }
        let begun = self.run.begun("density");
        let begun = begun.as_deref();
        if let Some((out, threads)) = self.run.worker() {
            let config = self.configure(begun)?;
            let data: DataFolder = read_json(out.join(DATA_FILE))?;
            let plan = DensityPlan::new(&config, data.folder).map_err(Misuse::new)?;
            return serve(&out, threads, &config, plan);
        }
        let compute = self.run.compute(begun)?;
        let config = self.configure(begun)?;
        let data = self.data(begun)?;
        let plan = DensityPlan::new(&config, data.clone()).map_err(Misuse::new)?;
        // Before the folder: a set that is not there leaves none behind.
        for id in plan.set_ids() {
            plan.set(id).map_err(Misuse::new)?;
        }
        let folder = self.run.open("density", &config, compute)?;
        write_json(folder.path().join(DATA_FILE), &DataFolder { folder: data })?;
        let session = Session {
            experiment: Experiment { folder, plan },
            config,
            compute,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn data(&self, begun: Option<&Path>) -> Result<PathBuf, Misuse> {
        let given = self.data_dir.clone();
        let data = given.or_else(|| std::env::var_os(DATA).map(PathBuf::from));
        let before = || Some(read_json::<DataFolder>(begun?.join(DATA_FILE)).ok()?.folder);
        let data = data.or_else(before).ok_or_else(|| {
            Misuse(format!(
                "no data: --data-dir or {DATA} names a folder with the sets; docs/density.md says where \
                 they come from"
            ))
        })?;
        if !data.is_dir() {
            return Err(Misuse(format!("{} is no folder", data.display())));
        }
        // Workers and later sittings may start elsewhere.
        Ok(std::path::absolute(&data).unwrap_or(data))
    }

    fn configure(&self, begun: Option<&Path>) -> anyhow::Result<DensityConfig> {
        let mut config = match self.run.config_file(begun, self.preset.is_some())? {
            Some(file) => {
                DensityConfig::from_toml(&file.text, &file.origin).map_err(Misuse::new)?
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

/// Where the data of an experiment are: for its workers, and for going on with it.
#[derive(Debug, Serialize, Deserialize)]
struct DataFolder {
    folder: PathBuf,
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

/// An experiment with what it was asked for.
struct Session {
    experiment: Experiment<DensityPlan>,
    config: DensityConfig,
    compute: Compute,
}

impl Task for Session {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let plan = &self.experiment.plan;
        let run = run_all::<B, _>(&self.experiment, self.compute, &device, |_, _| {});
        // What was computed is written, whatever stopped the rest.
        let rows = self.write(&run)?;
        run.done.context("stopped; --resume goes on from here")?;
        let path = self.experiment.folder.path().display();
        match plan.scored {
            Scored::Test => {
                for id in plan.set_ids() {
                    self.draw::<B>(plan.set(id)?, &device)?;
                }
                println!("\n{}", overview_table(&rows).to_terminal());
                println!(
                    "test log-likelihood in nats ± standard error over the test rows; results in {path}"
                );
            }
            Scored::Validation => {
                println!("\n{}", choice_table(&rows).to_terminal());
                println!("log-likelihood of the validation rows in nats; results in {path}");
            }
        }
        Ok(())
    }
}

impl Session {
    fn draw<B: AutodiffBackend>(&self, set: &DataSet, device: &B::Device) -> anyhow::Result<()> {
        let mut models = Vec::new();
        let jobs = self.experiment.plan.jobs.iter();
        for job in jobs.filter(|j| j.set == set.id && j.seed == 0) {
            let folder = self.experiment.folder.run(job);
            let n = self.config.samples;
            if let Some(rows) = samples::<B>(job, set, &folder, n, device)? {
                models.push((job.model.clone(), rows));
            }
        }
        Ok(picture::draw(self.experiment.folder.path(), set, &models)?)
    }

    fn write(&self, run: &Run<Record>) -> anyhow::Result<Vec<Row>> {
        let path = self.experiment.folder.path();
        let rows = summarize(&run.records);
        let table = match self.experiment.plan.scored {
            Scored::Test => format!(
                "{}\n{}",
                overview_table(&rows).to_markdown(),
                detail_table(&rows).to_markdown()
            ),
            Scored::Validation => choice_table(&rows).to_markdown(),
        };
        write_atomically(path.join("table.md"), table.as_bytes())?;
        let summary = Summary {
            experiment: "density",
            config: self.config.clone(),
            info: run.info.clone(),
            complete: run.complete,
            rows: rows.clone(),
            runs: run.records.clone(),
        };
        write_json(path.join("summary.json"), &summary)?;
        Ok(rows)
    }
}
