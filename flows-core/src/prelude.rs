//! What most programs that use a flow need.

pub use crate::bijector::{Bijector, Invert, Mapped};
pub use crate::distributions::{DiagonalNormal, LogProb, Sample};
pub use crate::error::Error;
pub use crate::flow::Flow;
pub use crate::random::generator;
pub use crate::visit::LayerVisit;
