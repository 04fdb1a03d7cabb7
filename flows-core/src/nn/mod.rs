//! Networks that parameterize layers.

mod conditioner;
mod conditioner_linear;
mod made;
mod made_sweep;
mod mlp;

pub use conditioner::{Conditioner, ConditionerActivation, Connections};
pub use conditioner_linear::ConditionerLinear;
pub use made::{Made, MadeConfig};
pub(crate) use made_sweep::{MadeSweep, sort, unsort};
pub use mlp::{Mlp, MlpConfig};
//! Networks: conditioners, and the velocity fields of continuous-time layers.

pub mod activation;
pub mod field;
pub mod linearization;

pub use activation::Activation;
pub use field::{BoundField, VelocityField, VelocityFieldConfig};
pub use linearization::Linearization;
