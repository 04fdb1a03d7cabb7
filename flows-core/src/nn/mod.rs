//! Networks: conditioners that parameterize layers, and the velocity fields of continuous-time ones.

pub mod activation;
pub mod field;
mod field_weight;
mod import;
mod linear;
pub mod linearization;
mod made;
mod made_sweep;
mod mlp;
mod network;
mod shared_network;

pub use activation::Activation;
pub use field::{BoundField, VelocityField, VelocityFieldConfig};
pub use field_weight::LowRankUpdate;
pub use import::{LayerParameters, NetworkParameters};
pub use linear::NetworkLinear;
pub use linearization::Linearization;
pub use made::{Made, MadeConfig};
pub(crate) use made_sweep::{MadeSweep, Schedule, pick, sort, unsort};
pub use mlp::{Mlp, MlpConfig};
pub use network::{ConditionerActivation, Connections, Network};
pub(crate) use shared_network::entries;
pub use shared_network::{Encoding, SharedNetwork, SharedNetworkConfig};
