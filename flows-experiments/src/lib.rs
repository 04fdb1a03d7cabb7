//! Targets, training and reports: the experiments that reproduce the tables and figures of *Deep
//! Diffeomorphic Normalizing Flows*, arXiv:1810.03256.
//!
//! Its features are backends, of which `--backend` picks one: `flex` (default), `ndarray`, `wgpu`, `vulkan`, `cuda`.

pub mod backend;
pub mod cli;
pub mod data;
pub mod density;
pub mod flows;
#[cfg(all(test, feature = "flex", feature = "wgpu"))]
mod gpu_tests;
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
