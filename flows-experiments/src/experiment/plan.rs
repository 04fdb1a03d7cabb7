//! The jobs of an experiment, and one of them done.

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, FolderError, RunFolder};
use flows_train::TrainError;

/// News from a run under way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Steps done.
    pub step: usize,
    /// The latest loss read.
    pub loss: f64,
}

impl Event {
    /// Hands points of the loss curve on.
    pub fn of_losses(on_event: &mut dyn FnMut(Event)) -> impl FnMut(flows_train::Event) {
        |event| {
            if let flows_train::Event::Loss { step, loss } = event {
                on_event(Self { step, loss });
            }
        }
    }
}

/// One run of an experiment.
pub trait Job: Sync {
    /// Its name in progress and errors, unique within the experiment.
    fn name(&self) -> String;

    /// Gradient steps it takes.
    fn steps(&self) -> usize;

    /// Its folder below `runs/`, unique within the experiment.
    fn path(&self) -> PathBuf;
}

/// What a run that ended leaves behind.
pub trait Record: Clone + Send + Serialize + DeserializeOwned {
    /// Its result in a few words, for a line of progress.
    fn outcome(&self) -> String;

    /// What a reader of its numbers has to know, a line each.
    fn warnings(&self) -> &[String] {
        &[]
    }
}

/// What an experiment runs.
pub trait Plan: Sync {
    /// A run to be done.
    type Job: Job;
    /// A run done.
    type Record: Record;

    /// Every run, in the order in which they begin.
    fn jobs(&self) -> &[Self::Job];

    /// Builds every model once, so that one that cannot be built is refused before anything is made.
    ///
    /// # Errors
    /// [`RunError::Model`] naming the model and the field of its configuration.
    fn check_models<B: AutodiffBackend>(&self, _device: &B::Device) -> Result<(), RunError> {
        Ok(())
    }

    /// Does one run, from its checkpoint in `folder` or from the beginning.
    ///
    /// # Errors
    /// [`RunError`] where there is no result to record. A loss that is no number any more is one.
    fn run<B: AutodiffBackend>(
        &self,
        job: &Self::Job,
        folder: &RunFolder,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Self::Record, RunError>;
}

/// Why an experiment stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A run's checkpoint cannot be used.
    #[error(transparent)]
    Train(TrainError),
    /// A table that a flow could not be fitted to.
    #[error(transparent)]
    Fit(#[from] crate::table_flow::FitError),
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
pub enum Progress<R> {
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
        record: Box<R>,
    },
}

/// A plan, and the folder where its results go.
#[derive(Debug)]
pub struct Experiment<P> {
    /// Where results go.
    pub folder: Folder,
    /// What is run.
    pub plan: P,
}

impl<P: Plan> Experiment<P> {
    /// Runs what has no record yet, one run after the other in this process.
    ///
    /// # Errors
    /// The first [`RunError`]; the run that was under way keeps its checkpoint.
    pub fn run<B: AutodiffBackend>(
        &self,
        device: &B::Device,
        on_progress: &mut dyn FnMut(Progress<P::Record>),
    ) -> Result<(), RunError> {
        for (index, job) in self.plan.jobs().iter().enumerate() {
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
        job: &P::Job,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<P::Record, RunError> {
        let folder = self.folder.run(job);
        if let Some(record) = folder.record()? {
            return Ok(record);
        }
        let record = self.plan.run::<B>(job, &folder, device, on_event)?;
        folder.keep_record(&record)?;
        Ok(record)
    }
}
