//! The density experiment: flows on the tables of the literature, by their test log-likelihood.
//!
//! Protocol of Papamakarios, Pavlakou & Murray, arXiv:1705.07057, section 4.2.

mod cli;
mod config;
mod grid;
mod picture;
mod published;
mod run;
mod summary;

pub use cli::Args;
pub use config::{ConfigError, DensityConfig, Job, ModelSpec, Override, Preset};
pub use grid::Grid;
pub use published::published;
pub use run::{DensityPlan, Outcome, Record, Scored};
pub use summary::{Row, Summary};
