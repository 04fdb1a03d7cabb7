//! Layers made of layers, and stacks of mixed ones.

mod chain;
mod inverted;
mod layer;
mod multi_scale;
mod nested;
mod pair;

pub use chain::Chain;
pub use inverted::Inverted;
pub use layer::{Layer, LayerConfig, MultiScaleConfig, Stack};
pub use multi_scale::MultiScale;
pub use nested::{Nested, NestedRecord};
pub use pair::Pair;
