//! A run between two looks at held-out data, on disk.

use std::path::{Path, PathBuf};

use burn::module::{AutodiffModule, ModuleDisplay};
use burn::tensor::backend::AutodiffBackend;
use flows_core::state::{State, load_state};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::CheckpointError;
use super::fit::{Identity, TrainError};
use crate::report::write_atomically;
use crate::state_file;

/// Why an optimizer cannot go on.
pub(crate) const INCOMPLETE: &str = "the optimizer's state is incomplete";

/// What a run keeps beside its tensors.
pub(crate) trait SavedHeader: Serialize + DeserializeOwned {
    /// Key in the file; the number in it is the version of the layout.
    const KEY: &'static str;

    /// Name of the run.
    fn run(&self) -> &str;
}

/// All that a run needs to go on.
pub(crate) struct Saved<H> {
    pub(crate) header: H,
    pub(crate) model: State,
    /// The parameters that were best so far.
    pub(crate) best: State,
    pub(crate) optimizer: State,
}

impl<H: SavedHeader> Saved<H> {
    /// Writes it to `path`, whole or not at all.
    pub(crate) fn save(&self, path: &Path) -> Result<(), TrainError> {
        let parts = [
            ("model", &self.model),
            ("best", &self.best),
            ("optimizer", &self.optimizer),
        ];
        let header = serde_json::to_string(&self.header).expect("a header is plain data");
        let bytes = state_file::encode(H::KEY, header, &parts);
        Ok(write_atomically(path, &bytes).map_err(CheckpointError::from)?)
    }

    /// What an earlier sitting of the run left, if anything.
    pub(crate) fn of(identity: Identity<'_>) -> Result<Option<Self>, TrainError> {
        let Some(path) = identity.checkpoint else {
            return Ok(None);
        };
        let bytes = match state_file::read(path) {
            Ok(bytes) => {
                bytes.ok_or_else(|| unusable(identity, "it does not begin like one".to_owned()))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(CheckpointError::Read { path, source }.into());
            }
        };
        let unusable = |reason| unusable(identity, reason);
        let (header, mut parts) = state_file::decode(&bytes, H::KEY).map_err(unusable)?;
        let header: H =
            serde_json::from_str(&header).map_err(|e| unusable(format!("header: {e}")))?;
        if header.run() != identity.name {
            return Err(TrainError::OtherRun {
                path: path.display().to_string(),
                found: header.run().to_owned(),
                expected: identity.name.to_owned(),
            });
        }
        let mut part = |name: &str| parts.remove(name).unwrap_or_default();
        Ok(Some(Self {
            header,
            model: part("model"),
            best: part("best"),
            optimizer: part("optimizer"),
        }))
    }
}

/// `model` with the parameters of `state`.
pub(crate) fn restore<B: AutodiffBackend, M: AutodiffModule<B> + ModuleDisplay>(
    model: M,
    state: &State,
    identity: Identity<'_>,
) -> Result<M, TrainError> {
    load_state::<B, M>(model, state).map_err(|e| unusable(identity, e.to_string()))
}

/// Why the checkpoint of a run cannot be used.
pub(crate) fn unusable(identity: Identity<'_>, reason: String) -> TrainError {
    let path = identity.checkpoint.unwrap_or(Path::new("memory"));
    let path = PathBuf::from(path);
    CheckpointError::Format { path, reason }.into()
}
