//! The command line of the toy experiment.

use std::path::Path;

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use flows_models::PRESETS;

use super::config::{Preset, ToyConfig};
use super::picture::{draw_all, draw_target, panels};
use super::record::{RunRecord, Status};
use super::run::ToyPlan;
use super::summary::{Summary, detail_table, energy_constants, overview_table, summarize};
use crate::backend::{Task, dispatch};
use crate::cli::{Compute, Misuse};
use crate::experiment::{Experiment, Run, RunArgs, check_models, run_all, serve};
use crate::report::{write_atomically, write_json};
use crate::targets::Target;

/// Fit normalizing flows to densities on the plane and compare them
///
/// Energies (u1 to u4) are fitted by the reverse KL and reported by their true KL in nats; sample
/// sets are fitted by maximum likelihood and reported by the negative log-likelihood of fresh
/// samples and, where the density is known, by its gap to the entropy.
///
/// Without options it runs the preset `quick`, one to two minutes on two cores, and leaves a folder
/// with summary.json, table.md, one picture a target and overview.png. A run that was interrupted
/// continues with --resume and ends with the same numbers.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        toy                                          the quick preset, into a new folder under runs/\n  \
        toy --targets u1,checkerboard --models ddnf  two runs of one model, both seeds\n  \
        toy --preset paper --out runs/paper          the full table; about fifteen minutes\n  \
        toy --resume --out runs/paper                go on with it\n  \
        toy --list                                   targets and models, one line each"
)]
pub struct Args {
    /// Built-in configuration to start from [default: quick]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<Preset>,
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
    run: RunArgs,
    /// List targets and models and exit
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
            print_list();
            return Ok(());
        }
        let begun = self.run.begun("toy");
        let begun = begun.as_deref();
        if let Some((out, threads)) = self.run.worker() {
            let config = self.configure(begun)?;
            let plan = ToyPlan::new(&config)?;
            return serve(&out, threads, &config, plan);
        }
        let compute = self.run.compute(begun)?;
        let config = self.configure(begun)?;
        let plan = ToyPlan::new(&config).map_err(Misuse::new)?;
        // Validate models before creating the output folder.
        check_models(&plan, compute)?;
        let folder = self.run.open("toy", &config, compute)?;
        let session = Session {
            experiment: Experiment { folder, plan },
            config,
            compute,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn configure(&self, begun: Option<&Path>) -> anyhow::Result<ToyConfig> {
        let mut config = match self.run.config_file(begun, self.preset.is_some())? {
            Some(file) => ToyConfig::from_toml(&file.text, &file.origin).map_err(Misuse::new)?,
            None => ToyConfig::preset(self.preset.unwrap_or_default()),
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
    experiment: Experiment<ToyPlan>,
    config: ToyConfig,
    compute: Compute,
}

impl Task for Session {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let plan = &self.experiment.plan;
        let jobs = &plan.jobs;
        let mut drawn = Vec::new();
        let mut trouble = None;
        let on_ended = |records: &[Option<RunRecord>], ended: usize| {
            let target = jobs[ended].target;
            let all = jobs.iter().zip(records).filter(|(j, _)| j.target == target);
            if all.clone().all(|(_, record)| record.is_some()) {
                let done = all.filter_map(|(_, r)| r.clone()).collect::<Vec<_>>();
                match self.draw(target, &done) {
                    Ok(panels) => drawn.push((target.name().to_owned(), panels)),
                    Err(error) => {
                        trouble.get_or_insert(error);
                    }
                }
            }
        };
        let run = run_all::<B, _>(&self.experiment, self.compute, &device, on_ended);

        // What was computed is written, whatever stopped the rest.
        self.write(&run)?;
        run.done.context("stopped; --resume goes on from here")?;
        if let Some(error) = trouble {
            return Err(error);
        }
        drawn.sort_by_key(|(name, _)| jobs.iter().position(|j| j.target.name() == name));
        draw_all(&self.experiment.folder, &drawn)?;
        let diverged = run
            .records
            .iter()
            .filter(|r| matches!(r.status, Status::Diverged { .. }))
            .count();
        println!(
            "\n{}",
            overview_table(&summarize(&run.records)).to_terminal()
        );
        println!(
            "nats, mean ± standard error over seeds; results in {}",
            self.experiment.folder.path().display()
        );
        if diverged > 0 {
            anyhow::bail!("{diverged} of {} runs diverged", run.records.len());
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
        let folder = &self.experiment.folder;
        let ToyPlan { jobs, settings } = &self.experiment.plan;
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

    fn write(&self, run: &Run<RunRecord>) -> anyhow::Result<()> {
        let folder = &self.experiment.folder;
        let rows = summarize(&run.records);
        let table = format!(
            "{}\n{}",
            overview_table(&rows).to_markdown(),
            detail_table(&rows).to_markdown()
        );
        write_atomically(folder.path().join("table.md"), table.as_bytes())?;
        let summary = Summary {
            experiment: "toy",
            config: self.config.clone(),
            info: run.info.clone(),
            complete: run.complete,
            rows,
            energies: energy_constants(&self.experiment.plan.jobs, &self.config.wall),
        };
        Ok(write_json(folder.path().join("summary.json"), &summary)?)
    }
}
