//! The programs of the experiments.
//!
//! They are made here and not in their binaries, so that the layers are compiled for a backend once, not once a binary.

use std::process::ExitCode;

use crate::density::Density;
use crate::graph::Graph;
use crate::regularization::Regularization;
use crate::runner;
use crate::toy::Toy;
use crate::vae::VaeExperiment;

macro_rules! programs {
    ($($(#[$doc:meta])* $name:ident = $experiment:ty;)+) => {
        $($(#[$doc])* #[inline(never)] // a binary that inlined it would compile the layers again
        pub fn $name() -> ExitCode {
            runner::main::<$experiment>()
        })+
    };
}

programs! {
    /// Tables of the literature.
    density = Density;
    /// A learned mask against a known graph.
    graph = Graph;
    /// The regularizers of DDNF.
    regularization = Regularization;
    /// Densities on the plane.
    toy = Toy;
    /// Autoencoders with flow posteriors.
    vae = VaeExperiment;
}
