//! What every experiment does: many independent runs, each trained, measured, recorded, and resumed
//! to the same bits.
//!
//! An experiment is a [`Plan`]: its jobs, and how one of them is done. The rest is here: the folder,
//! worker processes, progress, and the options that all binaries share.

mod folder;
mod options;
mod plan;
mod screen;
mod session;
mod workers;

pub use folder::{Folder, FolderError, RunFolder};
pub use options::{ConfigFile, RunArgs, parse_toml};
pub use plan::{Event, Experiment, Job, Plan, Progress, Record, RunError};
pub use session::{Run, check_models, run_all, serve};
