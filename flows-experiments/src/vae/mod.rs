//! The experiment with variational autoencoders: a plain posterior against flows (the paper's table
//! 1).
//!
//! Runs of one seed share their networks at the start and their batches, whatever their posteriors.

mod config;
mod drawing;
mod evaluate;
mod pictures;
mod published;
mod train;

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::anyhow;
use burn::tensor::backend::AutodiffBackend;
use flows_core::state::trained_parameters;
use flows_models::vae::{NetworkConfig, Vae, VaeConfig};
use flows_train::{Run as TrainRun, Schedule, Stopped, stream, stream_seed};
use serde::{Deserialize, Serialize};

pub use config::{FlowSizes, POSTERIORS, VaeEvaluation, VaeExperimentConfig, VaeTraining};
pub use drawing::Drawing;
pub use evaluate::{Bound, Mean, Measurement, Nll};
pub use train::{Epoch, Trained, train};

use crate::data::images::{ImageSet, ImageSetId, Pixels};
use crate::report::{Table, format_estimate};
use crate::runner::{
    Column, Error, Experiment, Flag, Format, Job as _, Labels, Preset, Results, Rows, Run,
};
use evaluate::Evaluation;
use published::published;

/// File of what a picture shows, in the folder of a job.
const DRAWING: &str = "drawing.json";

/// One job: a posterior, a number of latent variables, a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The set.
    pub data: ImageSetId,
    /// Name of the posterior.
    pub posterior: String,
    /// The model.
    pub model: VaeConfig,
    /// Its seed.
    pub seed: usize,
    /// Most epochs.
    pub epochs: usize,
}

impl Job {
    /// The seed of everything random in this run: the same for all posteriors, so that they begin
    /// with the same networks and see the same batches.
    pub fn run_seed(&self) -> u64 {
        stream_seed(self.seed as u64, self.data.name(), self.model.latent as u64)
    }

    fn build<B: AutodiffBackend>(&self, device: &B::Device) -> anyhow::Result<Vae<B>> {
        let rng = &mut stream(self.run_seed(), "parameters", 0);
        let built = self.model.init(device, rng);
        built.map_err(|source| anyhow!("model '{}': {source}", self.name()))
    }
}

impl crate::runner::Job for Job {
    fn labels(&self) -> Labels {
        let latent = self.model.latent.into();
        vec![
            ("posterior", self.posterior.as_str().into()),
            ("latent", latent),
        ]
    }

    fn seed(&self) -> usize {
        self.seed
    }

    fn steps(&self) -> usize {
        self.epochs
    }
}

/// What a job leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Of the test images.
    pub measurement: Measurement,
    /// How the images and splits relate to the published ones.
    pub status_of_data: String,
    /// How the pixels were binarized.
    pub binarization: String,
    /// The best epoch, whose model was measured.
    pub best_epoch: usize,
    /// Why there were no more epochs.
    pub stopped: Stopped,
    /// Trained scalars.
    pub parameters: usize,
    /// Seconds of training: a measurement that a resumed run does not repeat.
    pub train_seconds: f64,
    /// Every epoch.
    pub curve: Vec<Epoch>,
}

/// The experiment, and where its data are.
#[derive(Debug)]
pub struct VaeExperiment {
    config: VaeExperimentConfig,
    data: Option<PathBuf>,
    /// Read once a process.
    set: OnceLock<ImageSet>,
}

impl VaeExperiment {
    /// The set, read on first use.
    fn set(&self) -> anyhow::Result<&ImageSet> {
        if let Some(set) = self.set.get() {
            return Ok(set);
        }
        let set = self
            .config
            .data
            .load(self.data.as_deref(), self.config.binarization)?;
        Ok(self.set.get_or_init(|| set))
    }
}

type Col<'a> = Column<'a, VaeExperiment>;

impl Experiment for VaeExperiment {
    const NAME: &'static str = "vae";
    const ABOUT: &'static str = "Train variational autoencoders with flow posteriors and compare them\n\n\
        Every row has minus the evidence lower bound on test images, its two parts, and the negative \
        log-likelihood by importance sampling, and names the images it is from and how they were \
        binarized. The digits are part of the program; other sets are read from a data folder, see \
        `flows data list`.\n\n\
        Without options it runs the preset `quick`, about two minutes on two cores, and leaves a folder \
        with results.jsonl, summary.json, table.md and the pictures. Training writes a checkpoint after \
        an epoch and the NLL one every ten seconds; a run that was interrupted continues with --resume \
        and ends with the same numbers.";
    const EXAMPLES: &'static str = "\
        vae                                                  the quick preset, into a new folder under runs/\n\
        vae --posterior gaussian,ddnf-bias --seeds 3         two posteriors, three seeds\n\
        vae --preset dense --data-dir data --set training.epochs=50   static MNIST on a CPU\n\
        vae --preset paper --data omniglot --data-dir data   the published protocol, for a GPU\n\
        vae --resume --out runs/paper                        continue it\n\
        vae --list                                           sets and posteriors, one line each";
    const PRESETS: &'static [Preset] = &[
        Preset::new(
            "quick",
            "The embedded digits, small networks: about two minutes on two cores",
            include_str!("../../configs/vae-quick.toml"),
        ),
        Preset::new(
            "dense",
            "Static MNIST, fully connected networks 784-512-256, for a CPU",
            include_str!("../../configs/vae-dense.toml"),
        ),
        Preset::new(
            "conv",
            "Dynamic MNIST, convolutional networks, small flows and 100 epochs, for a GPU",
            include_str!("../../configs/vae-conv.toml"),
        ),
        Preset::new(
            "paper",
            "Dynamic MNIST in the protocol of arXiv:1803.05649: convolutional, up to 2000 epochs, three seeds",
            include_str!("../../configs/vae-paper.toml"),
        ),
    ];
    const FLAGS: &'static [Flag] = &[
        Flag::new("data", "NAME", "Set of images", "data"),
        Flag::new(
            "posterior",
            "NAMES",
            "Posteriors, separated by commas, or `all`",
            "posteriors",
        ),
        Flag::SEEDS,
    ];
    const TAKES_DATA: bool = true;
    type Config = VaeExperimentConfig;
    type Job = Job;
    type Measured = Measured;

    fn new(config: VaeExperimentConfig, data: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self {
            config,
            data,
            set: OnceLock::new(),
        })
    }

    /// Seed by seed, so that a table over all posteriors is there early.
    fn jobs(&self) -> Result<Vec<Job>, String> {
        let config = &self.config;
        if let Some(problem) = config.problem() {
            return Err(problem);
        }
        let mut jobs: Vec<Job> = Vec::new();
        for seed in 0..config.seeds {
            for &latent in &config.latents {
                for posterior in config.posteriors() {
                    jobs.push(Job {
                        data: config.data,
                        model: config.model(posterior, latent)?,
                        posterior: posterior.to_owned(),
                        seed,
                        epochs: config.training.epochs,
                    });
                }
            }
        }
        Ok(jobs)
    }

    fn list(&self) -> String {
        let sets = ImageSetId::ALL.map(|s| format!("  {:<14} {}\n", s.name(), s.describe()));
        let posteriors = POSTERIORS.map(|(name, about)| format!("  {name:<14} {about}\n"));
        format!("sets\n{}posteriors\n{}", sets.concat(), posteriors.concat())
    }

    fn check<B: AutodiffBackend>(&self, jobs: &[Job], device: &B::Device) -> anyhow::Result<()> {
        self.set()?;
        let mut first = jobs.iter().filter(|job| job.seed == 0);
        first.try_for_each(|job| job.build::<B>(device).map(drop))
    }

    fn run<B: AutodiffBackend>(&self, job: &Job, run: &mut Run<'_, B>) -> anyhow::Result<Measured> {
        let (set, device) = (self.set()?, run.device);
        let model = job.build::<B>(device)?;
        let parameters = trained_parameters::<B, _>(&model);
        let name = format!("{}, data {:016x}", job.name(), fingerprint(set));
        let training = TrainRun::new(name, job.run_seed()).checkpoint(run.checkpoint());
        let mut on_epoch = |epoch, loss| run.report(epoch, loss);
        let trained = train(model, set, &self.config.training, training, &mut on_epoch)?;
        let evaluation = Evaluation {
            set,
            config: self.config.evaluation,
            posterior: &job.model.posterior,
            seed: job.run_seed(),
            device,
        };
        let measurement = evaluation.measure(&trained.model, &run.folder)?;
        if job.seed == 0 {
            run.folder
                .keep(DRAWING, &Drawing::of(&trained.model, set, device))?;
        }
        run.warn(
            measurement
                .stability
                .iter()
                .flat_map(|s| s.warnings.clone()),
        );
        Ok(Measured {
            measurement,
            status_of_data: set.status.clone(),
            binarization: set.binarization.clone(),
            best_epoch: trained.best_epoch,
            stopped: trained.stopped,
            parameters,
            train_seconds: trained.seconds,
            curve: trained.curve,
        })
    }

    fn outcome(&self, measured: &Measured) -> String {
        let show = |number: Mean| match number.mean {
            Some(mean) => format_estimate(mean, number.stderr),
            None => "not finite".to_owned(),
        };
        let of = &measured.measurement;
        let nll = of
            .nll
            .map_or(String::new(), |nll| format!(", NLL {}", show(nll.nats)));
        format!(
            "-ELBO {}{nll}, epoch {} of {}  ({:.0} s)",
            show(of.loss),
            measured.best_epoch,
            measured.curve.len(),
            measured.train_seconds
        )
    }

    fn columns<'a>(&'a self, _: &'a Results<Self>) -> Vec<Column<'a, Self>> {
        // Over seeds, as the papers print it.
        let deviation = Format::Estimate(Error::Deviation);
        let nats = |name: &'static str, title: &str, of: fn(&Measurement) -> Option<f64>| {
            Col::mean(name, title, move |_, m| of(&m.measurement)).written(deviation)
        };
        let plain =
            |name: &'static str, title: &str, digits, of: fn(&Measurement) -> Option<f64>| {
                nats(name, title, of).written(Format::Decimals(digits))
            };
        let bits = |name: &'static str, title: &str, of: fn(&Measurement) -> Option<f64>| {
            let bits = move |m: &Measurement| Some(m.bits_per_dim(of(m)?));
            Col::mean(name, title, move |_, m| bits(&m.measurement)).written(deviation)
        };
        let conv = self.config.network == NetworkConfig::Conv {};
        let mut columns = vec![
            Col::first("data", "data", |job, _| job.data.name()),
            Col::first("status_of_data", "", |_, m| m.status_of_data.clone()),
            Col::first("binarization", "", |_, m| m.binarization.clone()),
            nats("loss", "-ELBO", |m| m.loss.mean),
            nats("nll", "NLL", |m| m.nll?.nats.mean),
            nats("reconstruction", "reconstruction", |m| {
                m.reconstruction.mean
            }),
            nats("kl", "KL", |m| m.kl.mean),
            plain("active_units", "active", 1, |m| Some(m.active_units as f64)),
            bits("bits_per_dim", "-ELBO bits/dim", |m| m.loss.mean),
            bits("nll_bits_per_dim", "NLL bits/dim", |m| m.nll?.nats.mean),
            Col::first("published", "published -ELBO", move |job, _| {
                let comparable = conv && job.model.latent == 64;
                let found = match comparable && self.config.is_binarized_as_published() {
                    true => published(&job.posterior, job.data),
                    false => None,
                };
                found.unwrap_or_else(|| "not available".to_owned())
            }),
            Col::first("log_det", "log-det", |job, _| {
                match job.model.posterior.log_det() {
                    surrogate if surrogate != "none" && surrogate != "exact" => {
                        format!("{surrogate}, evaluated exact")
                    }
                    exact => exact,
                }
            }),
            plain("loss_stderr", "stderr of -ELBO", 2, |m| m.loss.stderr),
            nats("surrogate_loss", "-ELBO by the training log-det", |m| {
                m.surrogate_loss?.mean
            }),
            Col::first("nll_samples", "NLL samples", |_, m| {
                Some(m.measurement.nll?.samples)
            }),
            Col::first("nll_images", "NLL images", |_, m| {
                Some(m.measurement.nll?.images)
            }),
            nats("nll_loss", "-ELBO of these", |m| m.nll?.loss.mean),
            plain("nll_stderr", "stderr of NLL", 2, |m| m.nll?.nats.stderr),
            plain("nll_sampling_stderr", "sampling stderr", 3, |m| {
                m.nll?.sampling_stderr
            }),
            plain("nll_effective_samples", "effective samples", 1, |m| {
                Some(m.nll?.effective_samples)
            }),
            Col::first("parameters", "parameters", |_, m| m.parameters),
            Col::each("epochs", "epochs", |_, m| m.curve.len()),
            Col::each("best_epochs", "best epoch", |_, m| m.best_epoch),
            Col::mean("train_seconds", "seconds", |_, m| Some(m.train_seconds))
                .written(Format::Decimals(1)),
        ];
        columns.extend(crate::stability::columns(|m: &Measured| {
            m.measurement.stability.as_ref()
        }));
        columns
    }

    /// The numbers a reader compares, and everything that qualifies them.
    fn tables(&self, _: &Results<Self>, rows: &Rows) -> Vec<Table> {
        let mut names = vec![
            "data",
            "posterior",
            "latent",
            "loss",
            "nll",
            "reconstruction",
            "kl",
            "active_units",
        ];
        if self.config.data.pixels() == Pixels::Levels {
            names.extend(["bits_per_dim", "nll_bits_per_dim"]);
        }
        if self.config.network == (NetworkConfig::Conv {}) {
            names.push("published");
        }
        names.extend(["log_det", "seeds"]);
        let details = [
            "posterior",
            "latent",
            "loss_stderr",
            "surrogate_loss",
            "nll_samples",
            "nll_images",
            "nll_loss",
            "nll_stderr",
            "nll_sampling_stderr",
            "nll_effective_samples",
            "parameters",
            "epochs",
            "best_epochs",
            "train_seconds",
            "max_rho",
        ];
        vec![
            rows.table_of(|_| true, &names),
            rows.table_of(|_| true, &details),
        ]
    }

    fn notes(&self, results: &Results<Self>) -> String {
        let Some((_, first)) = results.measured().next() else {
            return String::new();
        };
        let network = match &self.config.network {
            NetworkConfig::Conv {} => "gated convolutions (arXiv:1803.05649)".to_owned(),
            NetworkConfig::Dense { hidden } => {
                let pixels = self.config.data.size().iter().product::<usize>();
                let widths: Vec<String> = std::iter::once(&pixels)
                    .chain(hidden)
                    .map(usize::to_string)
                    .collect();
                format!(
                    "fully connected {}; published numbers are of convolutional networks and not comparable",
                    widths.join("-")
                )
            }
        };
        format!(
            "Test images of {} ({}), binarization: {}. Nats an image, lower is better; mean ± standard deviation over seeds. -ELBO by one \
             draw an image; NLL by {} importance samples on {} test images, probabilities within [1e-5, 1 - 1e-5]. Networks: {network}. At most {} epochs, \
             warm-up {}, patience {}, batches of {}, Adamax at {}{}.",
            self.config.data.name(),
            first.status_of_data,
            first.binarization,
            self.config.evaluation.samples,
            match self.config.evaluation.images {
                0 => "all".to_owned(),
                n => format!("{n} evenly spaced"),
            },
            self.config.training.epochs,
            self.config.training.warm_up,
            self.config.training.patience,
            self.config.training.batch,
            self.config.training.learning_rate,
            match self.config.training.schedule {
                Schedule::Constant => "",
                Schedule::Cosine => ", falling to 0 by half a cosine",
            },
        )
    }

    /// Samples, reconstructions, posteriors in the plane, and training curves.
    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        _: &Rows,
        _: &B::Device,
    ) -> anyhow::Result<()> {
        Ok(pictures::draw_pictures(results, &self.config)?)
    }
}

/// FNV-1a over the images, so that a checkpoint is not continued on others.
fn fingerprint(set: &ImageSet) -> u64 {
    let parts = [&set.train, &set.validation, &set.test];
    let values = parts.into_iter().flat_map(|part| part.values());
    values.fold(0xCBF2_9CE4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
