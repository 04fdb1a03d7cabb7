//! The bridge to the CPU kernels of `flows-kernels`, which are found at run time by the type of the backend.
//!
//! A DDNF block as Burn operations is `T` cells of about ten small operations, each with its own pass over memory and
//! its own saved activations; here a block is one operation, and so is a run of autoregressive layers, a batch of
//! determinants, a step of Adam. Nothing outside this folder names a kernel.
//!
//! Backends: `Flex` (feature `flex`, `f32` and `f64`) and `NdArray` (feature `ndarray`), plain and with autodiff.
//! Everything else takes the generic path, and so does everything where neither feature is on: then the kernels
//! are not even compiled.

mod parts;
pub(crate) mod plan;
mod switch;
mod tanh;

#[cfg(feature = "kernels")]
mod adam;
#[cfg(feature = "kernels")]
mod ddnf;
#[cfg(feature = "kernels")]
mod host;
#[cfg(feature = "kernels")]
mod linalg;
#[cfg(feature = "kernels")]
mod masked;
#[cfg(not(feature = "kernels"))]
mod none;
#[cfg(feature = "kernels")]
mod operation;
#[cfg(feature = "kernels")]
mod split;
#[cfg(all(test, feature = "flex", feature = "ndarray"))]
mod tests;

pub(crate) use parts::{DdnfCells, FusedLogDet, Map, Masked, Part, Untouched};
pub use switch::{fused_kernels_enabled, release_memory, set_fused_kernels};
pub(crate) use tanh::tanh;

#[cfg(not(feature = "kernels"))]
pub(crate) use none::{
    adam_in_place, coupling_inverse, ddnf_block, has_ddnf_block, incremental_inverse, invert,
    log_abs_dets, log_dets_of_one_layer, makes_log_dets, run,
};
#[cfg(feature = "kernels")]
pub(crate) use {
    adam::adam_in_place,
    ddnf::{ddnf_block, has_ddnf_block},
    linalg::{invert, log_abs_dets, log_dets_of_one_layer, makes_log_dets},
    masked::{coupling_inverse, incremental_inverse, run},
};
