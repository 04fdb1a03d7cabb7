//! Targets, reports and experiments that reproduce the tables and figures of *Deep Diffeomorphic Normalizing
//! Flows*.

pub mod report;
pub mod targets;
