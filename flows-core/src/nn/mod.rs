//! Networks that parameterize layers.

mod conditioner;
mod conditioner_linear;
mod import;
mod made;
mod made_sweep;
mod mlp;

pub use conditioner::{Conditioner, ConditionerActivation, Connections};
pub use conditioner_linear::ConditionerLinear;
pub use import::{LayerParameters, NetworkParameters};
pub use made::{Made, MadeConfig};
pub(crate) use made_sweep::{MadeSweep, sort, unsort};
pub use mlp::{Mlp, MlpConfig};
