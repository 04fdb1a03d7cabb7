//! A model as one safetensors file: what it is, and its parameters.
//!
//! The header is JSON in the file's metadata under `flows-model`, an object that has at least `format`, a number,
//! and `model`, a configuration; tensors are named `part.parameter`, the parameters of the model `flow.*`, with the
//! type they had in memory. [`save`] and [`load`] serve everything that a serde configuration [builds](Build);
//! [`ModelFile`] is what files with more in them are made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleDisplay};
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::error::Error;
use flows_core::state::{State, load_state, state};
use rand::Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::atomic::write_atomically;
use crate::checkpoint::Checkpoint;
use crate::error::FileError;
use crate::state_file;
use crate::streams::stream;

/// The newest version of the layout that this program reads. Version 1 is what [`save`] writes; versions 2 to 4 have
/// entries in their headers that readers of the version before do not know.
pub const FORMAT: u32 = 4;

/// The part of a file with the parameters of its model.
pub const FLOW: &str = "flow";

const KEY: &str = "flows-model";

const WHAT: &str = "a model file";

/// A configuration that builds a model.
pub trait Build<B: Backend>: Serialize + DeserializeOwned {
    /// What it builds.
    type Model: Module<B> + ModuleDisplay;

    /// The model before training, with parameters drawn from `rng`.
    ///
    /// # Errors
    /// [`Error`] where the configuration cannot be built.
    fn build(
        &self,
        options: TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<Self::Model, Error>;

    /// A number of parameters that the model has at least. A file that holds fewer is refused before its model is
    /// built, so that a header cannot ask for more memory than its file takes.
    fn least_parameters(&self) -> u128 {
        0
    }
}

/// A model from a file.
#[derive(Debug, Clone)]
pub struct Loaded<C, M> {
    /// What built it.
    pub config: C,
    /// The model with its parameters.
    pub model: M,
    /// What was saved with it.
    pub metadata: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<C> {
    format: u32,
    program: String,
    model: C,
    #[serde(default)]
    metadata: Value,
}

/// Writes `model`, which `config` builds, and anything about it, whole or not at all.
///
/// # Errors
/// [`FileError::Write`] naming the file.
pub fn save<B: Backend, C: Build<B>>(
    path: impl AsRef<Path>,
    config: &C,
    model: &C::Model,
    metadata: &impl Serialize,
) -> Result<(), FileError> {
    let path = path.as_ref();
    let header = Header {
        format: 1,
        program: concat!("flows-train ", env!("CARGO_PKG_VERSION")).to_owned(),
        model: config,
        metadata: serde_json::to_value(metadata).map_err(|e| unwritable(path, e))?,
    };
    write(path, &header, &[(FLOW, &state::<B, _>(model))])
}

/// Reads a model that [`save`] wrote on any backend. `options` are `&device` for its default float type, or such as
/// `(&device, DType::F64)`.
///
/// # Errors
/// [`FileError`] naming the file and the first difference: another configuration, a parameter that is missing or one
/// that does not belong.
pub fn load<B: Backend, C: Build<B>>(
    path: impl AsRef<Path>,
    options: impl Into<TensorCreationOptions<B>>,
) -> Result<Loaded<C, C::Model>, FileError> {
    let file = ModelFile::load(path)?;
    let header: Header<C> = file.header()?;
    let model = file.model::<B, C>(&header.model, options)?;
    file.refuse_parts_but(&[FLOW])?;
    Ok(Loaded {
        config: header.model,
        model,
        metadata: header.metadata,
    })
}

/// Writes a file with this header and these parts, whole or not at all.
///
/// # Errors
/// [`FileError::Write`] naming the file.
pub fn write(
    path: impl AsRef<Path>,
    header: &impl Serialize,
    parts: &[(&str, &State)],
) -> Result<(), FileError> {
    let path = path.as_ref();
    let header = serde_json::to_string(header).map_err(|e| unwritable(path, e))?;
    write_atomically(path, &state_file::encode(KEY, header, parts))
}

fn unwritable(path: &Path, error: serde_json::Error) -> FileError {
    FileError::Write {
        path: path.to_owned(),
        source: error.into(),
    }
}

/// A model file taken apart, without a backend.
#[derive(Debug, Clone)]
pub struct ModelFile {
    path: PathBuf,
    header: Map<String, Value>,
    parts: BTreeMap<String, State>,
}

impl ModelFile {
    /// Reads a file that [`write()`] or [`save`] wrote.
    ///
    /// # Errors
    /// [`FileError`] naming the file and what is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, FileError> {
        let path = path.as_ref().to_owned();
        let bytes = state_file::read(&path, WHAT)?;
        let mut file = Self {
            path,
            header: Map::new(),
            parts: BTreeMap::new(),
        };
        let (header, parts) = state_file::decode(&bytes, KEY).map_err(|reason| {
            file.unusable(match Checkpoint::is_one(&bytes) {
                true => "it is an unfinished fit; use --resume to continue it".to_owned(),
                false => reason,
            })
        })?;
        file.parts = parts;
        file.header =
            serde_json::from_str(&header).map_err(|e| file.unusable(format!("header: {e}")))?;
        match file.header.get("format").and_then(Value::as_u64) {
            Some(found) if found > u64::from(FORMAT) => Err(FileError::Newer {
                path: file.path,
                found,
                newest: FORMAT,
            }),
            Some(_) => Ok(file),
            None => Err(file.unusable("its header has no format".to_owned())),
        }
    }

    /// The header.
    ///
    /// # Errors
    /// [`FileError::Format`] with the first entry that does not fit.
    pub fn header<H: DeserializeOwned>(&self) -> Result<H, FileError> {
        let header = Value::Object(self.header.clone());
        serde_json::from_value(header).map_err(|e| self.unusable(format!("header: {e}")))
    }

    /// One entry of the header; `None` where there is none.
    ///
    /// # Errors
    /// [`FileError::Format`] where it does not fit.
    pub fn entry<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FileError> {
        let value = self.header.get(name).cloned().map(serde_json::from_value);
        value
            .transpose()
            .map_err(|e| self.unusable(format!("header: {name}: {e}")))
    }

    /// The tensors of one part; empty where there is none.
    pub fn part(&self, name: &str) -> State {
        self.parts.get(name).cloned().unwrap_or_default()
    }

    /// The model of `config` with the parameters of the part [`FLOW`].
    ///
    /// # Errors
    /// [`FileError::Format`] where the configuration cannot be built or the parameters are of another.
    pub fn model<B: Backend, C: Build<B>>(
        &self,
        config: &C,
        options: impl Into<TensorCreationOptions<B>>,
    ) -> Result<C::Model, FileError> {
        self.check_size(config.least_parameters())?;
        let built = config.build(options.into(), &mut stream(0, "replaced", 0));
        self.fill(built.map_err(|e| self.unusable(e.to_string()))?)
    }

    /// Refuses a file whose part [`FLOW`] holds fewer numbers than `least`, before a model of that size is built.
    ///
    /// # Errors
    /// [`FileError::Format`] with both numbers.
    pub fn check_size(&self, least: u128) -> Result<(), FileError> {
        let flow = self.parts.get(FLOW).into_iter().flat_map(State::values);
        let held: u128 = flow.map(|t| t.num_elements() as u128).sum();
        match least > held {
            true => Err(self.unusable(format!(
                "its model needs more parameters than the {held} in the file"
            ))),
            false => Ok(()),
        }
    }

    /// `model` with the parameters of the part [`FLOW`].
    ///
    /// # Errors
    /// [`FileError::Format`] naming the first difference.
    pub fn fill<B: Backend, M: Module<B> + ModuleDisplay>(&self, model: M) -> Result<M, FileError> {
        self.fill_from(FLOW, model)
    }

    /// `model` with the parameters of this part.
    ///
    /// # Errors
    /// [`FileError::Format`] naming the first difference.
    pub fn fill_from<B: Backend, M: Module<B> + ModuleDisplay>(
        &self,
        part: &str,
        model: M,
    ) -> Result<M, FileError> {
        load_state::<B, M>(model, &self.part(part)).map_err(|e| self.unusable(e.to_string()))
    }

    /// Refuses a file with other parts than these: what is not understood is not left out silently.
    ///
    /// # Errors
    /// [`FileError::Format`] naming the part.
    pub fn refuse_parts_but(&self, known: &[&str]) -> Result<(), FileError> {
        match self
            .parts
            .keys()
            .find(|part| !known.contains(&part.as_str()))
        {
            Some(part) => Err(self.unusable(format!(
                "it has a part '{part}', expected {}",
                known.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// Why this file cannot be used.
    pub fn unusable(&self, reason: String) -> FileError {
        FileError::Format {
            path: self.path.clone(),
            expected: WHAT,
            reason,
        }
    }
}
