//! Who sees whom, by which network: the parameters of each variable of an
//! [`Autoregressive`](crate::bijectors::Autoregressive) layer from the variables that it may see.
//!
//! | conditioner | network | a pass forward |
//! |---|---|---|
//! | [`Made`](crate::nn::Made) | one masked network for all variables | one network pass |
//! | [`Coupling`] | a plain network that reads the variables which stay as they are | one network pass |
//! | [`Periodic`] | the same, which reads angles by cosine and sine | one network pass |
//! | [`Shared`] | one network that is asked for each variable in turn | `dim` network passes |
//! | [`Soft`] | a masked or shared network whose mask is learned | one pass, or `dim` |

mod any;
mod conditioner;
mod coupling;
mod masked;
mod periodic;
mod shared;
mod soft;

pub use any::AnyConditioner;
pub use conditioner::{ByLevel, Conditioner};
pub use coupling::Coupling;
pub use periodic::Periodic;
pub use shared::Shared;
pub use soft::{Soft, SoftNetwork, SoftStart};
