//! Normalizing-flow layers, determinants, inverses and distributions on the Burn framework.
//!
//! # Gradients on several threads
//! Burn 0.21 loses gradients, without an error, where two threads of a process take some at the same time
//! ([burn#5573](https://github.com/tracel-ai/burn/issues/5573)). A loop or a test that calls `backward()` holds
//! [`autodiff::exclusive`] from its first tensor operation to that call.
//!
//! # Estimated log-determinants
//! Their noise stays the same until a visit with `LayerVisit::resample_noise` gives it another seed; a training loop does so before
//! every step.

// What is handed to the kernels is read by them alone.
#![cfg_attr(not(feature = "kernels"), allow(dead_code, unused_imports))]

pub mod adam;
pub mod autodiff;
pub mod base;
pub mod bijector;
pub mod bijectors;
#[cfg(all(debug_assertions, feature = "flex", not(test)))]
#[doc(hidden)]
pub mod compiled;
mod compose;
pub mod conditioners;
pub mod continuous;
pub mod distributions;
pub mod domain;
pub mod error;
mod expand;
pub mod flow;
pub mod fused;
pub mod init;
mod linalg;
pub mod magnitude;
pub mod masks;
pub mod nn;
#[doc(hidden)]
pub mod one_key;
pub mod prelude;
pub mod random;
pub mod softplus;
pub mod solve;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transforms;
pub mod visit;

pub use continuous::{log_det, regularizers};
