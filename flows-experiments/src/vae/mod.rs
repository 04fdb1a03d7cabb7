//! The experiment with variational autoencoders: a plain posterior against flows (the paper's table
//! 1).
//!
//! Runs of one seed share their networks at the start and their batches, whatever their posteriors.

mod cli;
mod config;
mod drawing;
mod evaluate;
mod pictures;
mod published;
mod record;
mod run;
mod summary;
mod train;

pub use cli::Args;
pub use config::{
    FlowSizes, Job, POSTERIORS, Preset, VaeEvaluation, VaeExperimentConfig, VaeTraining,
};
pub use drawing::Drawing;
pub use evaluate::{Bound, Mean, Measurement, Nll};
pub use record::{RunRecord, Status};
pub use run::VaePlan;
pub use summary::{Row, Spread, Summary};
pub use train::{Epoch, Trained, train};
