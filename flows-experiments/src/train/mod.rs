//! The training loop of every experiment.
//!
//! A small loop of our own rather than `burn-train`'s Learner: an interrupted run must end with the
//! same bits as one that was not, and in Burn 0.21 the Learner's early stopping and choice of the
//! best checkpoint race with its metric processing. Optimizer state and checkpoints are our own as
//! well, because Burn's recorders round f64 to the backend's element type.
//! Everything random in a step is a function of `(seed, step)`, so that resuming needs no generator
//! state. See `docs/training-loop.md`.

mod adam;
mod adamax;
mod checkpoint;
mod clip;
mod config;
mod early_stopping;
mod fit;
mod moments;
mod objective;
pub(crate) mod saved;
mod solved;

pub use adam::Adam;
pub use adamax::Adamax;
pub use checkpoint::{Checkpoint, CheckpointError, Header};
pub use config::{Schedule, TrainConfig};
pub use early_stopping::{BestFit, Course, Evaluated, Examples, HeldOut, Stopped, fit_to_best};
pub(crate) use early_stopping::{mean_of_finite, number_or_nan, run_of, tensor};
pub use fit::{Curves, Event, Fitted, Identity, TrainError, fit};
pub use objective::{Objective, Step, Terms};
pub use solved::{MOST_UNSOLVED, UNSOLVED, mean_of_solved};

use flows_core::random::{ChaCha12Rng, generator};

/// The generator of one purpose within a seeded run, independent of every other pair.
///
/// Mixes by FNV-1a over the purpose, then hands the 64-bit state to the generator's own expansion.
pub fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha12Rng {
    generator(stream_seed(seed, purpose, index))
}

/// The seed behind [`stream`].
pub fn stream_seed(seed: u64, purpose: &str, index: u64) -> u64 {
    let bytes = seed
        .to_le_bytes()
        .into_iter()
        .chain(purpose.bytes())
        .chain(index.to_le_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
