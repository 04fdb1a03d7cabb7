//! The layers, one a file: configuration, module, implementation.

mod act_norm;
mod autoregressive;
mod batch_norm;
mod block_affine;
mod bnaf;
mod conditioned;
mod elementwise_affine;
mod elementwise_map;
mod jacobi;
mod lu_linear;
mod permutation;
pub mod planar;
pub mod radial;
mod row_map;
pub mod sylvester;

pub use act_norm::{ActNorm, ActNormConfig};
pub use autoregressive::{
    AnyAutoregressive, Autoregressive, AutoregressiveConfig, AutoregressiveInverse,
    ConditionerConfig, Coupling,
};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use block_affine::{BlockAffine, BlockAffineConfig};
pub use bnaf::{BlockLinear, Bnaf, BnafConfig};
pub use conditioned::{AnyRowMap, Conditioned, ConditionedConfig};
pub use elementwise_affine::{ElementwiseAffine, ElementwiseAffineConfig};
pub use elementwise_map::{ElementwiseMap, ElementwiseMapConfig, UnivariateMap};
pub use lu_linear::{LuLinear, LuLinearConfig};
pub use permutation::{Permutation, PermutationConfig};
pub use planar::{Planar, PlanarConfig};
pub use radial::{Radial, RadialConfig};
pub use row_map::RowMap;
pub use sylvester::{Sylvester, SylvesterConfig};

pub use crate::compose::{
    Chain, Inverted, Layer, LayerConfig, MultiScale, MultiScaleConfig, Nested, NestedRecord, Pair,
    Stack,
};
pub use crate::continuous::{
    AsDdnfBlock, BlockStability, Cnf, CnfConfig, DdnfBlock, DdnfBlockConfig, DdnfInverse,
    StabilityReport, StackTrajectory, Trajectory, exponential_inverse, stability, trajectories,
};
