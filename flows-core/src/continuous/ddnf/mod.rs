//! A block of Deep Diffeomorphic Normalizing Flows and what is measured along its path.

mod block;
mod cells;
mod inverse;
mod stability;
mod trajectory;

pub use block::{DdnfBlock, DdnfBlockConfig};
pub use inverse::DdnfInverse;
pub use stability::{BlockStability, StabilityReport, stability};
pub use trajectory::{AsDdnfBlock, StackTrajectory, Trajectory, exponential_inverse, trajectories};
