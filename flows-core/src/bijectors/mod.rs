//! The layers, one a file: configuration, module, implementation.

mod chain;
mod ddnf;
mod inverted;
mod pair;

pub use chain::Chain;
pub(crate) use chain::shared_context_dim;
pub use ddnf::{DdnfBlock, DdnfBlockConfig, DdnfInverse, StabilityReport};
pub use inverted::Inverted;
pub use pair::Pair;
