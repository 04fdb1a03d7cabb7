//! The regularization experiment: what inverse consistency and the geodesic term do to a deep
//! diffeomorphic flow, how its approximations fall with `T`, and how its fit grows with `K`, `T` and
//! the size of its fields (the paper's figures 5, 7 and 8).
//!
//! Runs of one seed share their initial parameters and their batches, whatever their regularizers, so
//! that differences between rows vary less than the rows.

mod cli;
mod config;
mod drawing;
mod measure;
mod objective;
mod pictures;
mod record;
mod run;
mod summary;
mod tables;

pub use cli::Args;
pub use config::{
    Capacity, Job, Pictures, Preset, RegularizationConfig, Study, Truncation, Weights,
};
pub use drawing::Drawing;
pub use measure::{Measurement, TruncationPoint};
pub use objective::Regularized;
pub use record::{RunRecord, Status};
pub use run::RegularizationPlan;
pub use summary::{CapacityRow, Estimate, Row, Slope, Summary, TruncationRow};
