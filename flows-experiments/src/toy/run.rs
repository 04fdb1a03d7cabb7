//! Running the jobs of an experiment.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::{InverseReport, Invert};
use flows_core::distributions::{LogProb, Sample};
use flows_core::state::trained_parameters;
use flows_models::{FastDirection, build_generative, build_normalizing};

use super::config::{Annealing, ConfigError, Evaluation, Job, ToyConfig};
use super::evaluate::{Measurement, density_grid, measure};
use super::folder::{Folder, FolderError, InverseCheck, RunRecord, Status};
use super::objective::{MaximumLikelihood, ReverseKl, points};
use crate::targets::{SoftWall, Target};
use crate::train::{Event, Fitted, Identity, TrainConfig, TrainError, fit, stream, stream_seed};

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

/// Why an experiment stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What was asked for cannot be run.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A run's checkpoint cannot be used.
    #[error(transparent)]
    Train(TrainError),
    /// A worker process failed, in its own words.
    #[error("{0}")]
    Worker(String),
    /// A layer refused its configuration.
    #[error("model '{model}': {source}")]
    Model {
        /// The model.
        model: String,
        /// The layer's words.
        source: flows_core::error::Error,
    },
}

/// News from a running experiment.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A run began, or went on.
    Started {
        /// Index of the job.
        job: usize,
    },
    /// A run did some steps.
    Stepped {
        /// Index of the job.
        job: usize,
        /// Where it is.
        event: Event,
    },
    /// A run ended.
    Ended {
        /// Index of the job.
        job: usize,
        /// Its record.
        record: Box<RunRecord>,
    },
}

/// The jobs of a folder.
#[derive(Debug)]
pub struct Experiment {
    /// Where results go.
    pub folder: Folder,
    /// The runs.
    pub jobs: Vec<Job>,
    /// What targets ask of them.
    pub settings: TargetSettings,
}

impl Experiment {
    /// The jobs of `config`, with results in `folder`.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown name or a value out of range.
    pub fn new(folder: Folder, config: &ToyConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            folder,
            jobs: config.jobs()?,
            settings: TargetSettings {
                wall: config.wall,
                annealing: config.annealing,
                evaluation: config.evaluation,
            },
        })
    }

    /// Builds every model once, so that a bad one is refused before any run begins.
    ///
    /// # Errors
    /// [`RunError::Model`] naming the model and the field of its configuration.
    pub fn check_models<B: AutodiffBackend>(&self, device: &B::Device) -> Result<(), RunError> {
        for job in self.jobs.iter().filter(|job| job.seed == 0) {
            let rng = &mut stream(0, "check", 0);
            let built = build_normalizing::<B>(&job.model.layers(), device, rng);
            built.map_err(|source| RunError::Model {
                model: job.model_name.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Runs what has no record yet, one run after the other in this process.
    ///
    /// # Errors
    /// The first [`RunError`]; the run that was under way keeps its checkpoint.
    pub fn run<B: AutodiffBackend>(
        &self,
        device: &B::Device,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<(), RunError> {
        for (index, job) in self.jobs.iter().enumerate() {
            on_progress(Progress::Started { job: index });
            let mut on_event = |event| on_progress(Progress::Stepped { job: index, event });
            let record = Box::new(self.run_job::<B>(job, device, &mut on_event)?);
            on_progress(Progress::Ended { job: index, record });
        }
        Ok(())
    }

    /// One run, from its record, its checkpoint, or the beginning.
    pub(super) fn run_job<B: AutodiffBackend>(
        &self,
        job: &Job,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<RunRecord, RunError> {
        if let Some(record) = self.folder.record(job)? {
            return Ok(record);
        }
        let refuse = |source| RunError::Model {
            model: job.model_name.clone(),
            source,
        };
        let seed = job.run_seed();
        let layers = job.model.layers();
        let rng = &mut stream(seed, "parameters", 0);
        let check_rng = &mut stream(seed, "inverse", 0);
        let normalizing = match job.model.fast_direction() {
            FastDirection::Density => true,
            FastDirection::Sampling => false,
            FastDirection::Either => matches!(job.target, Target::Samples(_)),
        };
        let record = if normalizing {
            let flow = build_normalizing::<B>(&layers, device, rng).map_err(refuse)?;
            let (mut record, flow) = self.run_model(job, flow, device, on_event)?;
            if let Some(flow) = flow {
                let z = flow.base().sample(INVERSE_SAMPLES, None, check_rng);
                let report = flow.bijector().inverse_with_report(z, None).1;
                record.inverse_check = Some(report.into());
            }
            record
        } else {
            let flow = build_generative::<B>(&layers, device, rng).map_err(refuse)?;
            let (mut record, flow) = self.run_model(job, flow, device, on_event)?;
            if let Some(flow) = flow {
                let x = flow.sample(INVERSE_SAMPLES, None, check_rng);
                let report = flow.bijector().inverse_with_report(x, None).1;
                record.inverse_check = Some(report.into());
            }
            record
        };
        self.folder.keep_record(job, &record)?;
        Ok(record)
    }

    /// Trains, measures, and keeps the density of the first seed.
    fn run_model<B, M>(
        &self,
        job: &Job,
        model: M,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<(RunRecord, Option<M::InnerModule>), RunError>
    where
        B: AutodiffBackend,
        M: LogProb<B> + Sample<B> + AutodiffModule<B>,
        M::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
    {
        let parameters = trained_parameters::<B, M>(&model);
        let checkpoint = self.folder.checkpoint(job)?;
        let name = job.name();
        let identity = Identity {
            name: &name,
            seed: job.run_seed(),
            checkpoint: Some(&checkpoint),
        };
        let done = train_and_measure(
            model,
            job.target,
            &self.settings,
            &job.training,
            identity,
            device,
            on_event,
        );
        let (log_det, inverse) = job.model.methods();
        let mut record = RunRecord {
            target: job.target.name().to_owned(),
            model: job.model_name.clone(),
            seed: job.seed,
            status: Status::Diverged {
                reason: String::new(),
            },
            steps: job.training.steps,
            batch: job.training.batch,
            learning_rate: job.training.learning_rate,
            parameters,
            train_seconds: 0.0,
            log_det,
            inverse,
            inverse_check: None,
            losses: Vec::new(),
        };
        let (fitted, measurement) = match done {
            Ok(done) => done,
            Err(diverged @ TrainError::Diverged { .. }) => {
                record.status = Status::Diverged {
                    reason: diverged.to_string(),
                };
                return Ok((record, None));
            }
            Err(other) => return Err(RunError::Train(other)),
        };
        record.status = Status::Measured(measurement);
        record.train_seconds = fitted.seconds;
        record.losses = fitted.losses;
        if job.seed == 0 {
            let grid = self.settings.evaluation.grid;
            let density = density_grid(&fitted.model, job.target.plot_range(), grid, device);
            self.folder.keep_density(job, &density)?;
        }
        Ok((record, Some(fitted.model)))
    }
}

const INVERSE_SAMPLES: usize = 1000;
const STATISTICS_SAMPLES: usize = 50_000;

impl From<InverseReport> for InverseCheck {
    fn from(report: InverseReport) -> Self {
        Self {
            residual: report.residual,
            passes: report.passes,
        }
    }
}

impl Job {
    /// The seed of this run, different for every target and model.
    fn run_seed(&self) -> u64 {
        let seed = stream_seed(self.seed as u64, self.target.name(), 0);
        stream_seed(seed, &self.model_name, 0)
    }
}

/// Trains any flow on a toy target and measures it on fresh samples: what every run of the
/// experiment does, for models of your own.
///
/// # Errors
/// [`TrainError`] where the loss is not finite, or the checkpoint cannot be used.
pub fn train_and_measure<B, M>(
    model: M,
    target: Target,
    settings: &TargetSettings,
    training: &TrainConfig,
    identity: Identity<'_>,
    device: &B::Device,
    on_event: &mut dyn FnMut(Event),
) -> Result<(Fitted<M::InnerModule>, Measurement), TrainError>
where
    B: AutodiffBackend,
    M: LogProb<B> + Sample<B> + AutodiffModule<B>,
    M::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
{
    let seed = identity.seed;
    let fitted = match target {
        Target::Energy(energy) => {
            let objective = ReverseKl {
                energy,
                wall: settings.wall,
                annealing: settings.annealing,
            };
            fit::<B, _, _>(model, &objective, training, identity, device, on_event)?
        }
        Target::Samples(set) => {
            let objective = MaximumLikelihood { set };
            fit::<B, _, _>(model, &objective, training, identity, device, on_event)?
        }
    };
    let mut model = fitted.model.valid();
    if let Target::Samples(set) = target {
        // Batches are drawn afresh, so a large one stands in for the training set.
        let rng = &mut stream(seed, "statistics", 0);
        let chunk = points(&set.sample(STATISTICS_SAMPLES, rng), device);
        model.fix_statistics(vec![chunk], None);
    }
    let measurement = measure(
        &model,
        target,
        &settings.wall,
        settings.evaluation,
        seed,
        device,
    );
    let fitted = Fitted {
        model,
        losses: fitted.losses,
        seconds: fitted.seconds,
    };
    Ok((fitted, measurement))
}
