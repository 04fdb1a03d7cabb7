//! Targets, training and reports: the experiments that reproduce the tables and figures of *Deep
//! Diffeomorphic Normalizing Flows*, arXiv:1810.03256.
//!
//! # Features
//! - Backends, of which `--backend` picks one: `flex` (default), `ndarray`, `wgpu`, `vulkan`, `cuda`.
//! - `hdf5` reads the BSDS300 file of the density experiment as it is published.
//! - `download` adds `flows data fetch`.

pub mod backend;
pub mod cli;
pub mod data;
pub mod density;
pub mod flows;
pub mod graph;
pub mod lock;
pub mod regularization;
pub mod report;
mod run_info;
pub mod runner;
pub mod stability;
pub mod targets;
pub mod toy;
#[cfg(test)]
mod unknown_keys;
pub mod vae;
