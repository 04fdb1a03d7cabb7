//! CPU kernels of normalizing flows: slices in, slices out, on SIMD lanes and all threads of rayon's current pool.
//!
//! - [`ddnf`]: a block of a deep diffeomorphic flow, its log-determinant and their gradients. 32 samples at a time,
//!   one sample a lane, go through all cells while they are in the cache; the backward pass runs the block again
//!   instead of storing it.
//! - [`masked`]: autoregressive layers and couplings, affine or with splines. Products leave out the empty blocks of the
//!   masks, several layers run as one, and the inverse computes each hidden unit once.
//! - [`linalg`]: determinants and inverses of many small matrices.
//! - [`adam`]: a step of Adam or Adamax in one pass over memory.
//! - [`tanh`](tanh()): the hyperbolic tangent.
//!
//! Sums over a batch are taken in an order that depends on the batch size alone, so results do not depend on the
//! number of threads. Instruction sets are chosen at run time.

pub mod adam;
pub mod ddnf;
mod hidden;
mod lanes;
pub mod linalg;
pub mod masked;
mod narrow;
mod tanh;
#[cfg(test)]
mod tests;
mod tiles;

pub use lanes::Real;
pub use masked::release_memory;
pub use tanh::tanh;
