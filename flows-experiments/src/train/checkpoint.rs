//! A training run on disk: model, optimizer, step and loss curve in one safetensors file.
//!
//! Tensors are `model.*` and `optimizer.*` with the bits they had in memory; the header is JSON in
//! the file's metadata.

use std::path::{Path, PathBuf};

use flows_core::state::State;
use serde::{Deserialize, Serialize};

use super::fit::Curves;
use crate::report::{ReportError, write_atomically};
use crate::state_file;

/// A run between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Everything but the tensors.
    pub header: Header,
    /// The model's parameters.
    pub model: State,
    /// The optimizer's state.
    pub optimizer: State,
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
    /// Seconds of a step where nothing disturbed it, so far.
    #[serde(default)]
    pub step_seconds: Option<f64>,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
    /// The same of the parts of the loss that have a name.
    #[serde(default)]
    pub terms: Curves,
}

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] ReportError),
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// Not a checkpoint, or only a part of one.
    #[error("{}: not a checkpoint of this program: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Key of the header in the file's metadata; the number is the version of the layout.
const HEADER: &str = "flows-checkpoint-1";

impl Checkpoint {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`CheckpointError::Write`] naming the file.
    pub fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        let parts = [("model", &self.model), ("optimizer", &self.optimizer)];
        let header = serde_json::to_string(&self.header).expect("a header is plain data");
        let bytes = state_file::encode(HEADER, header, &parts);
        Ok(write_atomically(path, &bytes)?)
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
                return Err(CheckpointError::Read {
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
        let (header, mut parts) = state_file::decode(bytes, HEADER)?;
        let header = serde_json::from_str(&header).map_err(|e| format!("header: {e}"))?;
        let model = parts.remove("model").unwrap_or_default();
        let optimizer = parts.remove("optimizer").unwrap_or_default();
        if let Some(part) = parts.keys().next() {
            return Err(format!("'{part}' is neither model nor optimizer"));
        }
        Ok(Self {
            header,
            model,
            optimizer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    fn example() -> Checkpoint {
        let tensor = |values: &[f64]| TensorData::new(values.to_vec(), [values.len()]);
        Checkpoint {
            header: Header {
                run: "u1 planar 0".to_owned(),
                step: 12,
                seconds: 0.5,
                step_seconds: Some(1e-3),
                losses: vec![(0, 1.5), (10, 0.1 + 0.2)],
                terms: Curves::from([("fit".to_owned(), vec![(0, 1.0)])]),
            },
            model: State::from([("layers.0.w".to_owned(), tensor(&[0.1, 0.2]))]),
            optimizer: State::from([("first.0".to_owned(), tensor(&[1e-300]))]),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        assert_eq!(Checkpoint::load(&path).unwrap(), None);
        example().save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), Some(example()));
    }

    #[test]
    fn every_prefix_of_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        example().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            assert!(Checkpoint::parse(&bytes[..length]).is_err(), "{length}");
        }
        let mut huge = bytes.clone();
        huge[0..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Checkpoint::parse(&huge).is_err());
    }
}
