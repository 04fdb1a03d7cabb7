//! The layers, one a file: configuration, module, implementation.

mod act_norm;
mod autoregressive;
mod batch_norm;
mod block_affine;
mod chain;
mod ddnf;
mod elementwise_affine;
mod inverted;
mod jacobi;
mod layer;
mod lu_linear;
mod multi_scale;
mod pair;
mod permutation;
pub mod planar;
pub mod radial;
pub mod sylvester;

pub use act_norm::{ActNorm, ActNormConfig};
pub use autoregressive::{
    AnyAutoregressive, Autoregressive, AutoregressiveConfig, AutoregressiveInverse,
    ConditionerConfig, Coupling,
};
pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use block_affine::{BlockAffine, BlockAffineConfig};
pub use chain::Chain;
pub(crate) use chain::shared_context_dim;
pub use ddnf::{
    AsDdnfBlock, BlockStability, DdnfBlock, DdnfBlockConfig, DdnfInverse, StabilityReport,
    StackTrajectory, Trajectory, exponential_inverse, stability, trajectories,
};
pub use elementwise_affine::{ElementwiseAffine, ElementwiseAffineConfig};
pub use inverted::Inverted;
pub use layer::{Layer, LayerConfig, Stack};
pub use lu_linear::{LuLinear, LuLinearConfig};
pub use multi_scale::{MultiScale, MultiScaleConfig};
pub use pair::Pair;
pub use permutation::{Permutation, PermutationConfig};
pub use planar::{Planar, PlanarConfig};
pub use radial::{Radial, RadialConfig};
pub use sylvester::{Sylvester, SylvesterConfig};
