//! The layers, one a file: configuration, module, implementation.

mod act_norm;
mod autoregressive;
mod chain;
mod coupling;
mod ddnf;
mod elementwise_affine;
mod inverted;
mod layer;
mod log_scale;
mod lu_linear;
mod pair;
mod permutation;
pub mod planar;
pub mod radial;
pub mod sylvester;

pub use act_norm::{ActNorm, ActNormConfig};
pub use autoregressive::{AutoregressiveInverse, MaskedAffine, MaskedAffineConfig};
pub use chain::Chain;
pub(crate) use chain::shared_context_dim;
pub use coupling::{AffineCoupling, AffineCouplingConfig, Untouched};
pub use ddnf::{
    AsDdnfBlock, BlockStability, DdnfBlock, DdnfBlockConfig, DdnfInverse, StabilityReport,
    StackTrajectory, Trajectory, exponential_inverse, stability, trajectories,
};
pub use elementwise_affine::{ElementwiseAffine, ElementwiseAffineConfig};
pub use inverted::Inverted;
pub use layer::{Layer, LayerConfig, Stack};
pub use log_scale::LogScale;
pub use lu_linear::{LuLinear, LuLinearConfig};
pub use pair::Pair;
pub use permutation::{Permutation, PermutationConfig};
pub use planar::{Planar, PlanarConfig};
pub use radial::{Radial, RadialConfig};
pub use sylvester::{Sylvester, SylvesterConfig};
