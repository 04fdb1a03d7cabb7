//! A whole fit, from the file of a table to a fitted model: see `whole_fit --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use flows_benches::timing::rounded;
use flows_core::bijectors::LayerConfig;
use flows_core::random::generator;
use flows_experiments::backend::{Task, dispatch};
use flows_experiments::cli::{DeviceArgs, UsageError, exit_code, install_panic_hook};
use flows_models::{MafConfig, NsfConfig, RealNvpConfig, build_data_to_base};
use flows_tables::{Rows, Table};
use flows_train::{Data, Event, MaximumLikelihood, Run, Schedule, Training, fit};
use serde::Serialize;

/// Fit a flow to a table, and tell the validation score over time
///
/// Reads FOLDER/train.npy and FOLDER/validation.npy, which benches/peers/fit.py writes, and does the steps that the
/// other libraries do there: Adam at a constant rate of 1e-3, 256 rows a step, all validation rows every 100 steps, no
/// early stopping. Two hidden layers of 64; maf and nsf have five layers, realnvp eight couplings. Prints one JSON line
/// with seconds since the start of the program and mean log-densities in nats.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example:\n  whole_fit maf protein --threads 2")]
struct Args {
    /// What to fit
    model: Model,
    /// Where the table is
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Steps
    #[arg(long, value_name = "N", default_value_t = 2000)]
    steps: usize,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Model {
    Maf,
    Nsf,
    Realnvp,
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    #[serde(rename = "impl")]
    implementation: &'static str,
    /// Seconds and score of each evaluation.
    curve: Vec<(f64, f64)>,
    seconds: f64,
}

// As in the programs that users run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(run(Instant::now(), Args::parse()))
}

fn run(begun: Instant, args: Args) -> anyhow::Result<()> {
    let compute = args.device.resolve()?;
    dispatch(compute.backend, compute.dtype, Work { begun, args }).map_err(UsageError::from)?
}

struct Work {
    begun: Instant,
    args: Args,
}

impl Model {
    fn layers(self, dim: usize) -> Vec<LayerConfig> {
        let hidden = vec![64; 2];
        match self {
            Self::Maf => MafConfig {
                layers: 5,
                hidden,
                ..MafConfig::new(dim)
            }
            .layers(),
            Self::Nsf => NsfConfig {
                layers: 5,
                hidden,
                ..NsfConfig::new(dim)
            }
            .layers(),
            Self::Realnvp => RealNvpConfig {
                layers: 8,
                hidden,
                ..RealNvpConfig::new(dim)
            }
            .layers(),
        }
    }
}

impl Task for Work {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Self { begun, args } = self;
        let read = |file: &str| -> anyhow::Result<Rows> {
            Ok(Table::read(args.folder.join(file))?.density)
        };
        let train = Data::new(read("train.npy")?, None)?;
        let validation = Data::new(read("validation.npy")?, None)?;
        let layers = args.model.layers(train.x.width());
        let flow = build_data_to_base::<B>(&layers, &device, &mut generator(0))?;
        let training = Training {
            learning_rate: 1e-3,
            schedule: Schedule::Constant,
            clip_norm: 0.0,
            evaluate_every: 100,
            patience: None,
            ..Training::new(args.steps)
        };
        let mut curve = Vec::new();
        let own = Run::new("whole fit", 0).on_event(|event| {
            if let Event::Evaluation(evaluation) = event {
                let seconds = begun.elapsed().as_secs_f64();
                curve.push((rounded(seconds), evaluation.score));
            }
        });
        let mut objective = MaximumLikelihood::new(&train).validated_on(&validation);
        fit(flow, &mut objective, &training, own)?;
        let report = Report {
            implementation: "flows",
            curve,
            seconds: rounded(begun.elapsed().as_secs_f64()),
        };
        println!("{}", serde_json::to_string(&report)?);
        Ok(())
    }
}
