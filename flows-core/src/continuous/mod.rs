//! Velocity fields and what flows along them: DDNF with its log-determinants and penalties, and continuous flows.

mod bound_field;
mod cnf;
mod ddnf;
mod equation;
mod field;
mod field_weight;
mod linearization;
mod lipschitz;
pub mod log_det;
pub mod regularizers;
mod solver;
pub mod steppers;
mod time_field;
mod trace;

pub use bound_field::BoundField;
pub use cnf::{Cnf, CnfConfig, Integrated};
pub use ddnf::{
    AsDdnfBlock, BlockStability, DdnfBlock, DdnfBlockConfig, DdnfInverse, StabilityReport,
    StackTrajectory, Trajectory, exponential_inverse, stability, trajectories,
};
pub use equation::{Beside, Equation, Towards};
pub use field::{VelocityField, VelocityFieldConfig};
pub use field_weight::LowRankUpdate;
pub use linearization::Linearization;
pub use lipschitz::spectral_bound;
pub use solver::{Plan, Solved, Solver, SolverReport};
pub use time_field::TimeField;
pub use trace::Trace;
