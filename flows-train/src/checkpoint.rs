//! A run between two steps, on disk: model, best model, optimizer, step and curves in one safetensors file.
//!
//! Tensors are `model.*`, `best.*` and `optimizer.*` with the bits they had in memory; the header is JSON in
//! the file's metadata.

use std::path::Path;

use flows_core::state::State;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::FileError;
use crate::fit::{Curves, Evaluation};
use crate::state_file;

/// A run between two steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// Everything but the tensors.
    pub header: Header,
    /// The model's parameters.
    pub model: State,
    /// Those with the best score so far; empty where there is none.
    pub best: State,
    /// The optimizer's state.
    pub optimizer: State,
}

/// The readable part of a [`Checkpoint`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// What was trained, so that a file is not resumed as something else.
    pub run: String,
    /// Steps done.
    pub step: usize,
    /// Seconds of training so far, over all interruptions.
    pub seconds: f64,
    /// Seconds of a step where nothing disturbed it, so far.
    pub step_seconds: Option<f64>,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
    /// The same of what has a name.
    #[serde(deserialize_with = "curves")]
    pub terms: Curves,
    /// Every evaluation.
    pub evaluations: Vec<Evaluation>,
    /// Times that a row of a batch was left out of the loss.
    pub left_out: usize,
    /// Rows without an inverse that have not been judged yet, and the step they are counted from.
    pub unsolved: (f64, usize),
    /// The sum of the losses read since the last evaluation, and their number.
    pub read: (f64, u32),
}

/// Numbers that are not finite are `null` in JSON, and come back as NaN.
fn curves<'de, D: Deserializer<'de>>(from: D) -> Result<Curves, D::Error> {
    type Points = Vec<(usize, Option<f64>)>;
    let curves = std::collections::BTreeMap::<String, Points>::deserialize(from)?;
    let points = |points: Points| {
        points
            .into_iter()
            .map(|(step, v)| (step, v.unwrap_or(f64::NAN)))
    };
    Ok(curves
        .into_iter()
        .map(|(name, curve)| (name, points(curve).collect()))
        .collect())
}

/// Key of the header in the file's metadata; the number is the version of the layout.
const KEY: &str = "flows-checkpoint-3";

const WHAT: &str = "a checkpoint";

impl Checkpoint {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`FileError::Write`] naming the file.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let parts = [
            ("model", &self.model),
            ("best", &self.best),
            ("optimizer", &self.optimizer),
        ];
        let header = serde_json::to_string(&self.header).expect("a header is plain data");
        crate::atomic::write_atomically(path, &state_file::encode(KEY, header, &parts))
    }

    /// Reads a file that [`save`](Self::save) wrote; `None` where there is none.
    ///
    /// # Errors
    /// [`FileError`] naming the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Option<Self>, FileError> {
        if !path.exists() {
            return Ok(None);
        }
        let bytes = state_file::read(path, WHAT)?;
        let checkpoint = Self::parse(&bytes).map_err(|reason| Self::unusable(path, reason))?;
        Ok(Some(checkpoint))
    }

    /// Whether these bytes are a checkpoint, if only a damaged one.
    pub(crate) fn is_one(bytes: &[u8]) -> bool {
        state_file::decode(bytes, KEY).is_ok()
    }

    /// Why the checkpoint at `path` cannot be used.
    pub(crate) fn unusable(path: &Path, reason: String) -> FileError {
        FileError::Format {
            path: path.to_owned(),
            expected: WHAT,
            reason,
        }
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (header, mut parts) = state_file::decode(bytes, KEY)?;
        let header = serde_json::from_str(&header).map_err(|e| format!("header: {e}"))?;
        let mut part = |name: &str| parts.remove(name).unwrap_or_default();
        let checkpoint = Self {
            header,
            model: part("model"),
            best: part("best"),
            optimizer: part("optimizer"),
        };
        match parts.keys().next() {
            Some(part) => Err(format!("'{part}' is neither model nor optimizer")),
            None => Ok(checkpoint),
        }
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
                step_seconds: Some(1e-3),
                losses: vec![(0, 1.5), (10, 0.1 + 0.2)],
                terms: Curves::from([("fit".to_owned(), vec![(0, 1.0)])]),
                ..Header::default()
            },
            model: State::from([("layers.0.w".to_owned(), tensor(&[0.1, 0.2]))]),
            best: State::new(),
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
    fn numbers_that_json_does_not_know_come_back_as_nan() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        let mut odd = example();
        odd.header.evaluations.push(Evaluation {
            step: 3,
            loss: None,
            score: f64::NEG_INFINITY,
            improved: false,
        });
        odd.header
            .terms
            .insert("a".to_owned(), vec![(3, f64::INFINITY)]);
        odd.save(&path).unwrap();
        let back = Checkpoint::load(&path).unwrap().unwrap().header;
        assert!(back.evaluations[0].score.is_nan() && back.evaluations[0].step == 3);
        assert!(back.terms["a"][0].1.is_nan());
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
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let error = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("is not a checkpoint of this program"),
            "{error}"
        );
    }
}
