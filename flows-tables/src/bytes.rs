//! Bytes of files: gzipped ones, and such that have to be gone back in.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use tempfile::SpooledTempFile;

use crate::DataError;

/// Bytes, wherever they come from.
pub type Bytes = Box<dyn Read + Send>;

/// The bytes of a file, unpacked where it begins like gzip.
///
/// # Errors
/// [`DataError::Read`] naming the file.
pub fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let failed = |source| DataError::Read {
        origin: path.display().to_string(),
        source,
    };
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?);
    let packed = file.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    Ok(if packed {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    })
}

/// All of a stream, where it can be gone back in: in memory as far as it is short.
///
/// # Errors
/// [`DataError::Read`] naming the file.
pub fn spool(mut bytes: impl Read, origin: &str) -> Result<SpooledTempFile, DataError> {
    let mut file = SpooledTempFile::new(1 << 24);
    io::copy(&mut bytes, &mut file).map_err(|source| DataError::Read {
        origin: origin.to_owned(),
        source,
    })?;
    Ok(file)
}

/// Reads exactly as much as `buffer` holds; `part` names it in the message.
///
/// # Errors
/// A sentence, where the bytes end before.
pub fn fill(bytes: &mut impl Read, buffer: &mut [u8], part: &str) -> Result<(), String> {
    bytes
        .read_exact(buffer)
        .map_err(|e| format!("ends within {part}: {e}"))
}

/// How many numbers an array of these sizes has, if they can be counted: also an array without any, so that its
/// sizes can be multiplied.
pub fn count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |count, size| count.checked_mul(*size))
}

/// Random changes to a valid file, for the tests of every reader: none may panic or hang, and
/// memory must follow what is read.
#[cfg(any(test, feature = "testing"))]
pub mod fuzz {
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    /// Environment variable: how many times as many changes as usual.
    const ROUNDS: &str = "FLOWS_FUZZ_ROUNDS";

    /// Truncations, changed bytes, bytes of a size field set to their extremes, and noise; `n` of them,
    /// or that many times what [`ROUNDS`] says.
    pub fn mutations(file: &[u8], n: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
        let rounds = std::env::var(ROUNDS).map_or(1, |rounds| rounds.parse().expect(ROUNDS));
        let mut rng = StdRng::seed_from_u64(seed);
        (0..n * rounds).map(move |k| mutate(file, k, &mut rng))
    }

    fn mutate(file: &[u8], k: usize, rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = file.to_vec();
        let place = |bytes: &[u8], rng: &mut StdRng| rng.random_range(0..bytes.len());
        match k % 4 {
            0 => bytes.truncate(place(&bytes, rng)),
            1 => {
                for _ in 0..rng.random_range(1..8) {
                    let at = place(&bytes, rng);
                    bytes[at] = rng.random();
                }
            }
            2 => {
                let at = place(&bytes, rng);
                let end = (at + rng.random_range(1..=8)).min(bytes.len());
                let extreme = [0, 0x7f, 0x80, 0xff][rng.random_range(0..4)];
                bytes[at..end].fill(extreme);
            }
            _ => {
                let keep = rng.random_range(0..=bytes.len().min(160));
                bytes.truncate(keep);
                let mut noise = vec![0; rng.random_range(0..256)];
                rng.fill_bytes(&mut noise);
                bytes.extend(noise);
            }
        }
        bytes
    }
}
