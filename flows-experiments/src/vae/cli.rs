//! The command line of the experiment with variational autoencoders.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::Parser;

use super::config::{POSTERIORS, Preset, VaeExperimentConfig};
use super::pictures::draw_pictures;
use super::record::RunRecord;
use super::run::VaePlan;
use super::summary::{Summary, detail_table, main_table, notes, rows};
use crate::backend::{Task, dispatch};
use crate::cli::{Compute, Misuse};
use crate::data::data_folder;
use crate::data::images::{Binarization, ImageSetId};
use crate::experiment::{Experiment, Run, RunArgs, check_models, run_all, serve};
use crate::report::{read_json, write_atomically, write_json};
use flows_train::Schedule;

/// Train variational autoencoders with flow posteriors and compare them
///
/// Every row has minus the evidence lower bound on test images, its two parts, and the negative
/// log-likelihood by importance sampling, and says which images it is from and how they were
/// binarized. The digits are part of the program; other sets are read from a data folder, see
/// `flows data list`.
///
/// Without options it runs the preset `quick`, about two minutes on two cores, and leaves a
/// folder with summary.json, table.md and the pictures. Training writes a checkpoint after an epoch
/// and the NLL one every ten seconds; a run that was interrupted continues with --resume and ends
/// with the same numbers.
#[derive(Debug, Parser)]
#[command(
    name = "vae",
    version,
    after_help = "Examples:\n  \
        vae                                                  the quick preset, into a new folder under runs/\n  \
        vae --posterior gaussian,ddnf-bias --seeds 3         two posteriors, three seeds\n  \
        vae --preset dense --data-dir data --epochs 50       static MNIST on a CPU\n  \
        vae --preset paper --data omniglot --data-dir data   the published protocol, for a GPU\n  \
        vae --resume --out runs/paper                        go on with it\n  \
        vae --list                                           sets and posteriors, one line each"
)]
pub struct Args {
    /// Built-in configuration to start from [default: quick]
    #[arg(long, value_enum, conflicts_with = "config")]
    preset: Option<Preset>,
    /// Set of images
    #[arg(long, value_enum)]
    data: Option<ImageSetId>,
    /// Folder with the data [default: the environment variable FLOWS_DATA]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How grey pixels become black and white
    #[arg(long, value_enum)]
    binarization: Option<Binarization>,
    /// Posteriors, separated by commas, or `all`
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    posterior: Option<Vec<String>>,
    /// Numbers of latent variables, separated by commas
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    latent: Option<Vec<usize>>,
    /// Most epochs of every run
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// The learning rate over the steps
    #[arg(long, value_name = "constant|cosine")]
    schedule: Option<Schedule>,
    /// Epochs over which the weight of the divergence rises to 1
    #[arg(long, value_name = "N")]
    warm_up: Option<usize>,
    /// Importance samples an image for the NLL; 0 leaves it out
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Test images for the NLL, at even distances in the set; 0 takes all
    #[arg(long, value_name = "N")]
    nll_images: Option<usize>,
    /// Runs of each posterior, with seeds 0, 1, ...
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    #[command(flatten)]
    run: RunArgs,
    /// List sets and posteriors and exit
    #[arg(long)]
    list: bool,
}

/// File that tells worker processes where the data is. It is no part of the configuration: a run
/// may go on on another machine.
const DATA: &str = "data.json";

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
        let begun = self.run.begun("vae");
        let begun = begun.as_deref();
        let config = self.configure(begun)?;
        if let Some((out, threads)) = self.run.worker() {
            let data: Option<PathBuf> = read_json(out.join(DATA))?;
            let plan = VaePlan::new(&config, data).map_err(Misuse)?;
            return serve(&out, threads, &config, plan);
        }
        let compute = self.run.compute(begun)?;
        let data = data_folder(self.data_dir.clone());
        let plan = VaePlan::new(&config, data.clone()).map_err(Misuse)?;
        // Before a folder is made: a set that is not there, or a model that cannot be built, leaves none behind.
        plan.set().map_err(Misuse::new)?;
        check_models(&plan, compute)?;
        let folder = self.run.open("vae", &config, compute)?;
        write_json(
            folder.path().join(DATA),
            &data.map(|d| std::path::absolute(&d).unwrap_or(d)),
        )?;
        let session = Session {
            experiment: Experiment { folder, plan },
            config,
            compute,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn configure(&self, begun: Option<&Path>) -> anyhow::Result<VaeExperimentConfig> {
        let mut config = match self.run.config_file(begun, self.preset.is_some())? {
            Some(file) => {
                VaeExperimentConfig::from_toml(&file.text, &file.origin).map_err(Misuse)?
            }
            None => VaeExperimentConfig::preset(self.preset.unwrap_or_default()),
        };
        if let Some(data) = self.data {
            config.data = data;
        }
        if let Some(binarization) = self.binarization {
            config.binarization = binarization;
        }
        if let Some(posteriors) = &self.posterior {
            config.posteriors = if posteriors.iter().any(|name| name == "all") {
                POSTERIORS.map(|(name, _)| name.to_owned()).to_vec()
            } else {
                posteriors.clone()
            };
        }
        if let Some(latents) = &self.latent {
            config.latents = latents.clone();
        }
        let training = &mut config.training;
        training.epochs = self.epochs.unwrap_or(training.epochs);
        training.schedule = self.schedule.unwrap_or(training.schedule);
        training.warm_up = self.warm_up.unwrap_or(training.warm_up);
        let evaluation = &mut config.evaluation;
        evaluation.samples = self.samples.unwrap_or(evaluation.samples);
        evaluation.images = self.nll_images.unwrap_or(evaluation.images);
        config.seeds = self.seeds.unwrap_or(config.seeds);
        Ok(config)
    }
}

fn print_list() {
    println!("sets");
    for set in ImageSetId::ALL {
        println!("  {:<14} {}", set.name(), set.describe());
    }
    println!("posteriors");
    for (name, about) in POSTERIORS {
        println!("  {name:<14} {about}");
    }
}

/// An experiment with what it was asked for.
struct Session {
    experiment: Experiment<VaePlan>,
    config: VaeExperimentConfig,
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
        draw_pictures(folder, &plan.jobs, &self.config, &run.records)?;
        println!(
            "\n{}",
            main_table(&summary.rows, &self.config).to_terminal()
        );
        print!("{}", notes(&summary.rows, &self.config));
        println!("results in {}", folder.path().display());
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
            experiment: "vae",
            config: self.config.clone(),
            info: run.info.clone(),
            complete: run.complete,
            rows: rows(&run.records, &self.config),
        };
        let text = format!(
            "{}\n{}\n{}",
            notes(&summary.rows, &self.config),
            main_table(&summary.rows, &self.config).to_markdown(),
            detail_table(&summary.rows).to_markdown()
        );
        write_atomically(path.join("table.md"), text.as_bytes())?;
        write_json(path.join("summary.json"), &summary)?;
        Ok(summary)
    }
}
