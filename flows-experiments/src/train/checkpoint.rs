//! A training run on disk: model, optimizer, step and loss curve in one file.
//!
//! Layout: the 8 bytes `FLOWCKPT`, a little-endian `u32` version, three `u64` lengths, then a JSON
//! header, the model's record and the optimizer's record in Burn's binary format at double
//! precision (which holds both f32 and f64 without loss).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::report::write_atomically;

const MAGIC: &[u8; 8] = b"FLOWCKPT";
const VERSION: u32 = 1;
const PREFIX: usize = 8 + 4 + 3 * 8;

/// A run between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Everything but the tensors.
    pub header: Header,
    /// The model's record.
    pub model: Vec<u8>,
    /// The optimizer's record.
    pub optimizer: Vec<u8>,
}

/// The readable part of a [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What was trained, so that a file is not resumed as something else.
    pub run: String,
    /// Steps done.
    pub step: usize,
    /// Seconds of training so far, over all sittings.
    pub seconds: f64,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
}

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// Not a checkpoint, a newer one, or only a part of one.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Checkpoint {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] naming the file.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let header = serde_json::to_vec(&self.header).expect("a header is plain data");
        let mut bytes = Vec::with_capacity(PREFIX + header.len() + self.model.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for part in [&header, &self.model, &self.optimizer] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        }
        for part in [&header, &self.model, &self.optimizer] {
            bytes.extend_from_slice(part);
        }
        write_atomically(path, &bytes).map_err(|source| CheckpointError::Io {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a file that [`save`](Self::save) wrote; `None` where there is none.
    ///
    /// # Errors
    /// [`CheckpointError`] naming the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(CheckpointError::Io {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Self::parse(&bytes)
            .map(Some)
            .map_err(|reason| CheckpointError::Format {
                path: path.to_owned(),
                reason,
            })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(MAGIC) || bytes.len() < PREFIX {
            return Err("not a checkpoint of this program".to_owned());
        }
        let version = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        if version != VERSION {
            return Err(format!(
                "checkpoint of version {version}, this build reads {VERSION}"
            ));
        }
        let mut rest = &bytes[PREFIX..];
        let mut parts = [&[][..]; 3];
        for (k, part) in parts.iter_mut().enumerate() {
            let at = 12 + 8 * k;
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((head, tail)) = rest.split_at_checked(length) else {
                return Err("checkpoint is cut short".to_owned());
            };
            (*part, rest) = (head, tail);
        }
        if !rest.is_empty() {
            return Err(format!("{} bytes behind the checkpoint's end", rest.len()));
        }
        let header = serde_json::from_slice(parts[0]).map_err(|e| format!("header: {e}"))?;
        Ok(Self {
            header,
            model: parts[1].to_vec(),
            optimizer: parts[2].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        Checkpoint {
            header: Header {
                run: "u1 planar 0".to_owned(),
                step: 12,
                seconds: 0.5,
                losses: vec![(0, 1.5), (10, 0.1 + 0.2)],
            },
            model: vec![1, 2, 3],
            optimizer: vec![],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        assert_eq!(Checkpoint::load(&path).unwrap(), None);
        example().save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), Some(example()));
    }

    #[test]
    fn every_prefix_of_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        example().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            assert!(Checkpoint::parse(&bytes[..length]).is_err(), "{length}");
        }
        let mut huge = bytes.clone();
        huge[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Checkpoint::parse(&huge).is_err());
    }
}
