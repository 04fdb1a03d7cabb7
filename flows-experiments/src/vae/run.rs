//! One run: train, measure, and keep what the pictures need.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use burn::tensor::backend::AutodiffBackend;
use flows_core::state::trained_parameters;
use flows_models::vae::Vae;

use super::config::{Job, VaeEvaluation, VaeExperimentConfig, VaeTraining};
use super::drawing::Drawing;
use super::evaluate::{Evaluation, MeasureError};
use super::record::{RunRecord, Status};
use super::train::train;
use crate::data::DataError;
use crate::data::images::{Binarization, ImageSet, ImageSetId};
use crate::experiment::{Event, Job as _, Plan, RunError, RunFolder};
use flows_train::{Run, TrainError, stream};

/// File of what a picture shows, in the folder of a run.
pub(super) const DRAWING: &str = "drawing.json";

/// The runs of the experiment.
#[derive(Debug)]
pub struct VaePlan {
    /// The runs.
    pub jobs: Vec<Job>,
    /// Budget and optimizer.
    pub training: VaeTraining,
    /// How fitted models are measured.
    pub evaluation: VaeEvaluation,
    data: ImageSetId,
    binarization: Binarization,
    folder: Option<PathBuf>,
    /// Read once a process.
    set: OnceLock<ImageSet>,
}

impl VaePlan {
    /// The runs of `config`, on a set in `folder`.
    ///
    /// # Errors
    /// As [`VaeExperimentConfig::jobs`].
    pub fn new(config: &VaeExperimentConfig, folder: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self {
            jobs: config.jobs()?,
            training: config.training.clone(),
            evaluation: config.evaluation,
            data: config.data,
            binarization: config.binarization,
            folder,
            set: OnceLock::new(),
        })
    }

    /// The set, read on first use.
    ///
    /// # Errors
    /// As [`ImageSetId::load`].
    pub fn set(&self) -> Result<&ImageSet, DataError> {
        if let Some(set) = self.set.get() {
            return Ok(set);
        }
        let folder = self.folder.as_deref().map(Path::new);
        let set = self.data.load(folder, self.binarization)?;
        Ok(self.set.get_or_init(|| set))
    }
}

fn build<B: AutodiffBackend>(job: &Job, device: &B::Device) -> Result<Vae<B>, RunError> {
    let rng = &mut stream(job.run_seed(), "parameters", 0);
    let built = job.model.init(device, rng);
    built.map_err(|source| RunError::Model {
        model: job.name(),
        source,
    })
}

impl Plan for VaePlan {
    type Job = Job;
    type Record = RunRecord;

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check_models<B: AutodiffBackend>(&self, device: &B::Device) -> Result<(), RunError> {
        for job in self.jobs.iter().filter(|job| job.seed == 0) {
            build::<B>(job, device)?;
        }
        Ok(())
    }

    fn run<B: AutodiffBackend>(
        &self,
        job: &Job,
        folder: &RunFolder,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<RunRecord, RunError> {
        let set = self.set().map_err(|e| RunError::Worker(e.to_string()))?;
        let model = build::<B>(job, device)?;
        let parameters = trained_parameters::<B, _>(&model);
        let checkpoint = folder.checkpoint()?;
        let name = format!("{}, data {:016x}", job.name(), fingerprint(set));
        let run = Run::new(name, job.run_seed()).checkpoint(checkpoint);
        let mut record = RunRecord {
            data: set.id.name().to_owned(),
            status_of_data: set.status.clone(),
            binarization: set.binarization.clone(),
            posterior: job.posterior.clone(),
            latent: job.model.latent,
            seed: job.seed,
            status: Status::Diverged {
                reason: String::new(),
            },
            log_det: job.model.posterior.log_det(),
            parameters,
            train_seconds: 0.0,
            curve: Vec::new(),
        };
        let trained = match train(model, set, &self.training, run, on_event) {
            Ok(trained) => trained,
            Err(diverged @ (TrainError::Diverged { .. } | TrainError::Unsolved { .. })) => {
                record.status = Status::Diverged {
                    reason: diverged.to_string(),
                };
                return Ok(record);
            }
            Err(other) => return Err(RunError::Train(other)),
        };
        let evaluation = Evaluation {
            set,
            config: self.evaluation,
            posterior: &job.model.posterior,
            seed: job.run_seed(),
            device,
        };
        let measured = evaluation.measure(&trained.model, folder);
        let measurement = measured.map_err(|error| match error {
            MeasureError::Folder(error) => RunError::Folder(error),
            MeasureError::Model(source) => RunError::Model {
                model: job.name(),
                source,
            },
        })?;
        if job.seed == 0 {
            folder.keep(DRAWING, &Drawing::of(&trained.model, set, device))?;
        }
        record.status = Status::Measured {
            best_epoch: trained.best_epoch,
            stopped: trained.stopped,
            measurement,
        };
        record.train_seconds = trained.seconds;
        record.curve = trained.curve;
        Ok(record)
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
