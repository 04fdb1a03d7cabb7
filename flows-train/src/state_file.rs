//! Parameters and a header in one safetensors file.
//!
//! Tensors are named `part.parameter` and keep the bits they had in memory; the header is JSON in the
//! file's metadata, under a key that says what the file is.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::FileError;
use burn::tensor::{BoolStore, DType, TensorData};
use flows_core::state::State;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// The bytes of a file with these parts.
///
/// # Panics
/// For tensors of types that no backend keeps parameters in.
pub fn encode(key: &str, header: String, parts: &[(&str, &State)]) -> Vec<u8> {
    let named = parts.iter().flat_map(|(part, state)| {
        let name = move |(name, data)| (format!("{part}.{name}"), view(data));
        state.iter().map(name)
    });
    let views = named.collect::<Vec<_>>();
    let metadata = HashMap::from([(key.to_owned(), header)]);
    safetensors::serialize(views, Some(metadata)).expect("whole tensors")
}

/// The header of a file under `key`, and its parts by name.
///
/// # Errors
/// What is wrong with the bytes, in words.
pub fn decode(bytes: &[u8], key: &str) -> Result<(String, BTreeMap<String, State>), String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let header = metadata
        .metadata()
        .as_ref()
        .and_then(|m| m.get(key))
        .ok_or_else(|| format!("its metadata has no '{key}'"))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut parts: BTreeMap<String, State> = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let data = data(&view).ok_or_else(|| format!("'{name}' has an unknown type"))?;
        let (part, parameter) = name
            .split_once('.')
            .ok_or_else(|| format!("'{name}' belongs to no part"))?;
        let part = parts.entry(part.to_owned()).or_default();
        part.insert(parameter.to_owned(), data);
    }
    Ok((header.clone(), parts))
}

/// The bytes of a file that begins like safetensors, which is found out before it is read into memory.
///
/// # Errors
/// [`FileError`] naming the file; `expected` says in it what the file should be.
pub fn read(path: &Path, expected: &'static str) -> Result<Vec<u8>, FileError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let mut file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut start = [0u8; 9];
        if let Err(error) = file.read_exact(&mut start) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(error),
            };
        }
        let header = u64::from_le_bytes(start[..8].try_into().expect("eight bytes"));
        // Safetensors refuses longer headers as well.
        if start[8] != b'{' || header > 100_000_000 {
            return Ok(None);
        }
        let mut bytes = start.to_vec();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    };
    let bytes = read().map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    bytes.ok_or_else(|| FileError::Format {
        path: path.to_owned(),
        expected,
        reason: "it is no safetensors file".to_owned(),
    })
}

fn view(data: &TensorData) -> TensorView<'_> {
    let dtype = match data.dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::U8 => Dtype::U8,
        DType::Bool(_) => Dtype::BOOL,
        other => unreachable!("no parameter has type {other:?}"),
    };
    TensorView::new(dtype, data.shape.to_vec(), data.as_bytes()).expect("a whole tensor")
}

fn data(view: &TensorView<'_>) -> Option<TensorData> {
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool(BoolStore::Native),
        _ => return None,
    };
    Some(TensorData::from_bytes_vec(
        view.data().to_vec(),
        view.shape().to_vec(),
        dtype,
    ))
}
