//! The toy experiment: densities on the plane, many models side by side (the paper's figure 4).
//!
//! Energies are fitted by the reverse KL, sample sets by maximum likelihood. A run is one target,
//! one model and one seed; runs are independent, checkpointed, and resumed to the same bits.

mod cli;
mod config;
mod evaluate;
mod objective;
mod picture;
mod record;
mod run;
mod summary;
mod training;

pub use cli::Args;
pub use config::{Annealing, ConfigError, Evaluation, Job, Override, Preset, ToyConfig};
pub use evaluate::{Measured, Measurement, Metric, density_grid, measure};
pub(crate) use objective::points;
pub use objective::{MaximumLikelihood, ReverseKl};
pub use record::{InverseCheck, RunRecord, Status};
pub use run::{TargetSettings, ToyPlan, train_and_measure};
pub use summary::{EnergyConstants, Row, Summary, summarize};
pub use training::TrainConfig;
