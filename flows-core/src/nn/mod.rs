//! Networks: conditioners that parameterize layers, and the velocity fields of continuous-time ones.

pub mod activation;
mod columns;
mod import;
mod linear;
mod made;
mod made_sweep;
mod mlp;
mod network;
mod parameters;
mod shared_network;

pub use activation::Activation;
pub(crate) use columns::{pick, sort, unsort};
pub use import::{LayerParameters, NetworkParameters};
pub use linear::NetworkLinear;
pub use made::{Made, MadeConfig};
pub(crate) use made_sweep::{MadeSweep, Schedule};
pub use mlp::{Mlp, MlpConfig};
pub use network::{ConditionerActivation, Connections, Network};
pub use parameters::{Parameters, ParametersConfig};
pub(crate) use parameters::{columns, log_scale, scattered};
pub(crate) use shared_network::entries;
pub use shared_network::{Encoding, SharedNetwork, SharedNetworkConfig};
