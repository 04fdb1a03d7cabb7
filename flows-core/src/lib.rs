//! Normalizing-flow layers, determinants, inverses and distributions on the Burn framework.

pub mod autodiff;
pub mod bijector;
pub mod bijectors;
pub mod distributions;
pub mod error;
mod expand;
pub mod flow;
pub mod init;
pub mod kernels;
pub mod log_det;
pub mod masks;
pub mod nn;
pub mod regularizers;
pub mod softplus;
pub mod solve;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
