//! Networks: conditioners that parameterize layers, and the velocity fields of continuous-time ones.

pub mod activation;
mod conditioner;
mod conditioner_linear;
pub mod field;
mod field_weight;
mod import;
pub mod linearization;
mod made;
mod made_sweep;
mod mlp;
mod shared_conditioner;

pub use activation::Activation;
pub use conditioner::{Conditioner, ConditionerActivation, Connections};
pub use conditioner_linear::ConditionerLinear;
pub use field::{BoundField, VelocityField, VelocityFieldConfig};
pub use field_weight::LowRankUpdate;
pub use import::{LayerParameters, NetworkParameters};
pub use linearization::Linearization;
pub use made::{Made, MadeConfig};
pub(crate) use made_sweep::{MadeSweep, Schedule, sort, unsort};
pub use mlp::{Mlp, MlpConfig};
pub use shared_conditioner::{Encoding, SharedConditioner, SharedConditionerConfig};
