//! The command line of the regularization experiment.

use std::path::Path;

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;

use super::config::{Preset, RegularizationConfig};
use super::pictures::draw_pictures;
use super::record::RunRecord;
use super::run::RegularizationPlan;
use super::summary::{Summary, capacity_rows, rows, truncation_rows};
use super::tables::{capacity_table, detail_table, effect_table, truncation_table};
use crate::backend::{Task, dispatch};
use crate::cli::{Compute, Misuse};
use crate::experiment::{Experiment, Run, RunArgs, check_models, run_all, serve};
use crate::report::{write_atomically, write_json};
use crate::targets::Target;

/// Train deep diffeomorphic flows with and without their regularizers and compare them
///
/// Three studies: inverse consistency and the geodesic term over their weights and the number T of
/// cells; log-determinant bias and inverse error of the trained blocks at other T, with slopes; and
/// the fit against the number of blocks, of cells and of hidden units. Likelihoods are by the exact
/// determinant, beside the surrogate of training.
///
/// Without options it runs the preset `quick`, about two minutes on two cores, and leaves a folder
/// with summary.json, table.md and the pictures. A run that was interrupted goes on with --resume and
/// ends with the same numbers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        regularization                                       the quick preset, into a new folder under runs/\n  \
        regularization --targets u1 --cells 8                one target, one T\n  \
        regularization --preset paper --out runs/paper-reg   every weight, three seeds; about 25 minutes\n  \
        regularization --resume --out runs/paper-reg         go on with it\n  \
        regularization --list                                targets, one line each"
)]
pub struct Args {
    /// Built-in configuration to start from [default: quick]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<Preset>,
    /// Targets of the regularizers, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    targets: Option<Vec<String>>,
    /// Numbers T of cells to train with, separated by commas
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    cells: Option<Vec<usize>>,
    /// Runs of each kind, with seeds 0, 1, ...
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Gradient steps of every run
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    #[command(flatten)]
    run: RunArgs,
    /// List targets and exit
    #[arg(long)]
    list: bool,
}

impl Args {
    /// Does what the options say.
    ///
    /// # Errors
    /// [`Misuse`] for options that cannot be met; anything else is a failure.
    pub fn run(self) -> anyhow::Result<()> {
        if self.list {
            for target in Target::all() {
                println!("{:<16} {}", target.name(), target.describe());
            }
            return Ok(());
        }
        let begun = self.run.begun("regularization");
        let begun = begun.as_deref();
        if let Some((out, threads)) = self.run.worker() {
            let config = self.configure(begun)?;
            let plan = RegularizationPlan::new(&config).map_err(Misuse)?;
            return serve(&out, threads, &config, plan);
        }
        let compute = self.run.compute(begun)?;
        let config = self.configure(begun)?;
        let plan = RegularizationPlan::new(&config).map_err(Misuse)?;
        // Validate models before creating the output folder.
        check_models(&plan, compute)?;
        let folder = self.run.open("regularization", &config, compute)?;
        let session = Session {
            experiment: Experiment { folder, plan },
            config,
            compute,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn configure(&self, begun: Option<&Path>) -> anyhow::Result<RegularizationConfig> {
        let file = self.run.config_file(begun, self.preset.is_some())?;
        let mut config = match file {
            Some(file) => {
                RegularizationConfig::from_toml(&file.text, &file.origin).map_err(Misuse)?
            }
            None => RegularizationConfig::preset(self.preset.unwrap_or_default()),
        };
        if let Some(targets) = &self.targets {
            config.targets = targets.clone();
        }
        if let Some(cells) = &self.cells {
            config.regularizers.cells = cells.clone();
        }
        if let Some(seeds) = self.seeds {
            config.seeds = seeds;
        }
        if let Some(steps) = self.steps {
            config.training.steps = steps;
        }
        Ok(config)
    }
}

/// An experiment with what it was asked for.
struct Session {
    experiment: Experiment<RegularizationPlan>,
    config: RegularizationConfig,
    compute: Compute,
}

impl Task for Session {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let plan = &self.experiment.plan;
        let run = run_all::<B, _>(&self.experiment, self.compute, &device, |_, _| {});

        // What was computed is written, whatever stopped the rest.
        let summary = self.write(&run)?;
        run.done.context("stopped; --resume goes on from here")?;
        let folder = &self.experiment.folder;
        draw_pictures(folder, &plan.jobs, &self.config, &summary, &run.records)?;
        println!("\n{}", effect_table(&summary.rows).to_terminal());
        println!(
            "nats, mean ± standard error over seeds; gain: how many times smaller than without \
             regularizer; results in {}",
            folder.path().display()
        );
        let diverged = run
            .records
            .iter()
            .filter(|r| r.measurement().is_none())
            .count();
        if diverged > 0 {
            anyhow::bail!("{diverged} of {} runs diverged", run.records.len());
        }
        Ok(())
    }
}

impl Session {
    fn write(&self, run: &Run<RunRecord>) -> anyhow::Result<Summary> {
        let path = self.experiment.folder.path();
        let summary = Summary {
            experiment: "regularization",
            config: self.config.clone(),
            info: run.info.clone(),
            complete: run.complete,
            rows: rows(&run.records),
            truncation: truncation_rows(&run.records, self.compute.dtype),
            capacity: capacity_rows(&run.records),
        };
        let tables = [
            effect_table(&summary.rows),
            detail_table(&summary.rows),
            truncation_table(&summary.truncation),
            capacity_table(&summary.capacity),
        ];
        let text = tables.map(|table| table.to_markdown()).join("\n");
        write_atomically(path.join("table.md"), text.as_bytes())?;
        write_json(path.join("summary.json"), &summary)?;
        Ok(summary)
    }
}
