//! Networks: conditioners, and the velocity fields of continuous-time layers.

pub mod activation;
pub mod field;
pub mod linearization;

pub use activation::Activation;
pub use field::{BoundField, VelocityField, VelocityFieldConfig};
pub use linearization::Linearization;
