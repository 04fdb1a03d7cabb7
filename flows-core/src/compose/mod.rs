//! Layers made of layers, and stacks of mixed ones.

mod chain;
mod inverted;
mod layer;
mod multi_scale;
mod pair;

pub use chain::{Chain, Stack};
pub use inverted::Inverted;
pub use layer::{Layer, LayerConfig};
pub use multi_scale::{MultiScale, MultiScaleConfig};
pub use pair::Pair;
