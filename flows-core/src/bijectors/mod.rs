//! The layers, one a file: configuration, module, implementation.

mod act_norm;
mod chain;
mod elementwise_affine;
mod inverted;
mod pair;
pub mod planar;
pub mod radial;
pub mod sylvester;

pub use act_norm::{ActNorm, ActNormConfig};
pub use chain::Chain;
pub(crate) use chain::shared_context_dim;
pub use elementwise_affine::{ElementwiseAffine, ElementwiseAffineConfig};
pub use inverted::Inverted;
pub use pair::Pair;
pub use planar::{Planar, PlanarConfig};
pub use radial::{Radial, RadialConfig};
pub use sylvester::{Sylvester, SylvesterConfig};
