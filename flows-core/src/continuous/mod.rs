//! Velocity fields and what flows along them: DDNF, its log-determinants and the penalties on its paths.

mod bound_field;
mod ddnf;
mod field;
mod field_weight;
mod linearization;
pub mod log_det;
pub mod regularizers;

pub use bound_field::BoundField;
pub use ddnf::{
    AsDdnfBlock, BlockStability, DdnfBlock, DdnfBlockConfig, DdnfInverse, StabilityReport,
    StackTrajectory, Trajectory, exponential_inverse, stability, trajectories,
};
pub use field::{VelocityField, VelocityFieldConfig};
pub use field_weight::LowRankUpdate;
pub use linearization::Linearization;
