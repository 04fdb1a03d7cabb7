//! The graph experiment: a layer with a learned mask recovers the known graph of simulated data.
//!
//! The data come from a structural equation model whose order of causes is given and whose graph is
//! not; the mask of a [`Soft`](flows_core::conditioners::Soft) conditioner is trained by maximum
//! likelihood with an L1 penalty, cut at a threshold, and compared with the graph.

mod cli;
mod config;
mod learn;
mod mask_pictures;
mod structural;
mod summary;

pub use cli::Args;
pub use config::{GraphConfig, Mechanism};
pub use learn::{LearnError, Learned, Progress, learn};
pub use structural::StructuralModel;
pub use summary::{Row, Summary};
