//! Targets, training and reports: the experiments that reproduce the tables and figures of *Deep
//! Diffeomorphic Normalizing Flows*, arXiv:1810.03256.

pub mod backend;
pub mod cli;
pub mod data;
pub mod density;
pub mod flows;
pub mod graph;
pub mod lock;
pub mod programs;
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
