//! NumPy's archives: a zip file of npy files, stored or deflated.

use std::io::{Seek, SeekFrom};

use zip::ZipArchive;

use super::DataError;
use super::bytes::{Bytes, spool};

/// The first bytes of every such file.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// The bytes of the array called `wanted`, or of the only one, and its name. Its checksum is compared.
pub(super) fn array(
    file: Bytes,
    wanted: Option<&str>,
    origin: &str,
) -> Result<(String, Bytes), DataError> {
    let format = |reason: String| DataError::Format {
        origin: origin.to_owned(),
        reason,
    };
    // The directory is at the end, and a pipe cannot go back.
    let archive = ZipArchive::new(spool(file, origin)?);
    let mut archive = archive.map_err(|e| format(format!("is a damaged zip archive: {e}")))?;
    let names = archive
        .file_names()
        .filter_map(npyz::npz::array_name_from_file_name);
    let names: Vec<String> = names.map(str::to_owned).collect();
    let all = names.join(", ");
    let name = match (wanted, names.as_slice()) {
        (_, []) => {
            let first = archive
                .file_names()
                .next()
                .unwrap_or_default()
                .escape_debug();
            let reason =
                format!("is a zip archive that begins with '{first}', expected an npz of arrays");
            return Err(format(reason));
        }
        (None, [only]) => only,
        (None, _) => {
            let reason = format!(
                "holds {} arrays; --array NAME takes one of {all}",
                names.len()
            );
            return Err(format(reason));
        }
        (Some(name), _) => names.iter().find(|known| *known == name).ok_or_else(|| {
            DataError::Columns(format!("{origin} has no array '{name}'; it has {all}"))
        })?,
    };
    let damaged = |e: &dyn std::fmt::Display| format(format!("array '{name}' is damaged: {e}"));
    let array = archive.by_name(&npyz::npz::file_name_from_array_name(name));
    let mut bytes = spool(array.map_err(|e| damaged(&e))?, origin).map_err(|e| match e {
        DataError::Read { source, .. } => damaged(&source),
        e => e,
    })?;
    bytes.seek(SeekFrom::Start(0)).map_err(|e| damaged(&e))?;
    Ok((name.clone(), Box::new(bytes)))
}
