//! The command line of the graph experiment.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::config::{GraphConfig, Mechanism};
use super::learn::learn;
use super::mask_pictures::draw_masks;
use super::summary::{Row, Summary, draw, table};
use crate::backend::{Task, check, dispatch};
use crate::cli::{Compute, DeviceArgs, Misuse};
use crate::experiment::{Folder, FolderError};
use crate::report::{write_atomically, write_json};
use crate::run_info::RunInfo;

/// Recover the graph of simulated data with a learned mask
///
/// Each seed draws a sparse graph over variables in a known order, a structural equation along it,
/// and a training set. An affine autoregressive flow whose mask is learned is fitted by maximum
/// likelihood, with a penalty on the sum of the mask's entries; entries above the threshold are the
/// learned edges. Printed and kept: edges found, precision, recall, and the negative
/// log-likelihood of fresh rows, with the soft mask, with the hard mask trained on, and under the
/// model that the rows come from.
///
/// Without options it takes less than a minute on two cores, and leaves a folder with summary.json,
/// table.md, graph.png and config.toml.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        graph                                   five graphs over eight variables, under runs/\n  \
        graph --mechanism linear --samples 500  linear equations, less data\n  \
        graph --penalty 0.1 --seeds 1           a stronger pull to few edges\n  \
        graph --config runs/graph-1/config.toml --out runs/again   the same once more\n  \
        graph --draw-masks docs/masks           pictures of masks"
)]
pub struct Args {
    /// Configuration file to start from (TOML; a run's folder holds one as config.toml)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Number of variables [default: 8]
    #[arg(long, value_name = "N")]
    dim: Option<usize>,
    /// How a variable depends on its parents [default: nonlinear]
    #[arg(long, value_enum)]
    mechanism: Option<Mechanism>,
    /// Rows of the training set [default: 2000]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Graphs to recover, with seeds 0, 1, ... [default: 5]
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Gradient steps with the learned mask [default: 2500]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Weight of the sum of the mask's entries in the loss, in nats [default: 0.01]
    #[arg(long, value_name = "NATS")]
    penalty: Option<f64>,
    /// Draw every kind of mask, and the weights of a masked network, into this folder and exit
    #[arg(long, value_name = "DIR")]
    draw_masks: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for the results [default: the next free runs/graph-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Args {
    /// Does what the options say.
    ///
    /// # Errors
    /// [`Misuse`] for options that cannot be met; anything else is a failure.
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(folder) = &self.draw_masks {
            return draw_masks(folder);
        }
        let config = self.configure()?;
        if let Some(problem) = config.problem() {
            return Err(Misuse::new(problem).into());
        }
        let compute = self.device.resolve()?;
        // Before the folder: a backend that does not start leaves none behind.
        check(compute.backend, compute.dtype).map_err(Misuse::from)?;
        let folder =
            Folder::claim(self.out.as_deref(), "graph").map_err(FolderError::for_binary)?;
        write_atomically(
            folder.path().join("config.toml"),
            toml::to_string_pretty(&config)?.as_bytes(),
        )?;
        let session = Session {
            config,
            compute,
            folder,
        };
        dispatch(compute.backend, compute.dtype, session).map_err(Misuse::from)?
    }

    fn configure(&self) -> anyhow::Result<GraphConfig> {
        let mut config = match &self.config {
            None => GraphConfig::default(),
            Some(file) => {
                let origin = format!("--config {}", file.display());
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Misuse::new(format!("{origin}: {error}")))?;
                GraphConfig::from_toml(&text, &origin).map_err(Misuse::new)?
            }
        };
        config.dim = self.dim.unwrap_or(config.dim);
        config.mechanism = self.mechanism.unwrap_or(config.mechanism);
        config.samples = self.samples.unwrap_or(config.samples);
        config.seeds = self.seeds.unwrap_or(config.seeds);
        config.steps = self.steps.unwrap_or(config.steps);
        config.penalty = self.penalty.unwrap_or(config.penalty);
        Ok(config)
    }
}

/// An experiment with what it was asked for.
struct Session {
    config: GraphConfig,
    compute: Compute,
    folder: Folder,
}

impl Task for Session {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Self {
            config,
            compute,
            folder: claimed,
        } = self;
        let folder = claimed.path();
        let Compute {
            backend,
            dtype,
            threads,
        } = compute;
        let mut info = RunInfo::new(backend, format!("{device:?}"), dtype, threads);
        let begun = Instant::now();
        println!(
            "{} graphs over {} variables on {backend} ({dtype}), into {}",
            config.seeds,
            config.dim,
            folder.display()
        );
        let each = config.steps + config.hard_steps;
        let bar = ProgressBar::new((config.seeds * each) as u64).with_style(
            ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} steps, {eta} left, {msg}")
                .expect("a template written here"),
        );
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let mut rows = Vec::new();
        for seed in 0..config.seeds {
            bar.set_prefix(format!("graph {seed}"));
            let (model, learned) = learn::<B>(&config, seed as u64, &device, &mut |progress| {
                bar.set_position((seed * each + progress.step) as u64);
                bar.set_message(format!("loss {:.3}", progress.loss));
            })?;
            let row = Row::new(seed, &model, &model.graph()?, learned);
            let line = format!(
                "graph {seed}: {} of {} edges found, {} wrong, NLL {:.3} against {:.3} of the truth",
                row.correct,
                row.edges,
                row.learned - row.correct,
                row.nll_hard,
                row.nll_truth
            );
            // With the bar hidden a line through it would be lost.
            if bar.is_hidden() {
                println!("{line}");
            } else {
                bar.println(line);
            }
            rows.push(row);
        }
        bar.finish_and_clear();
        info.wall_seconds = begun.elapsed().as_secs_f64();

        let table = table(&rows);
        draw(&folder.join("graph.png"), &rows)?;
        write_atomically(folder.join("table.md"), table.to_markdown().as_bytes())?;
        let summary = Summary {
            experiment: "graph",
            config,
            info,
            rows,
        };
        // Last: a folder that has it is complete.
        write_json(folder.join("summary.json"), &summary)?;
        println!("\n{}", table.to_terminal());
        println!("nats; results in {}", folder.display());
        Ok(())
    }
}
