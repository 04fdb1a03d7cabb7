//! Generators for each purpose of a seeded run.

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
