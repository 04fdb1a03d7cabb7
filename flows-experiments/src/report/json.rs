//! Files written whole or not at all, and JSON in them.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ReportError;

/// Writes `bytes` to `path`. Whoever reads it, and whenever the program is killed, finds the old
/// content or the new one.
///
/// # Errors
/// [`ReportError::File`], naming the path; the old content is then still there.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), ReportError> {
    Ok(flows_train::atomic::write_atomically(path, bytes)?)
}

/// Writes `value` as indented JSON with a newline at its end.
///
/// # Errors
/// As [`write_atomically`]; [`ReportError::Json`] for a value that JSON cannot hold.
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<(), ReportError> {
    let path = path.as_ref();
    let mut text = serde_json::to_string_pretty(value).map_err(|source| ReportError::Json {
        path: path.to_owned(),
        source,
    })?;
    text.push('\n');
    write_atomically(path, text.as_bytes())
}

/// A value as JSON text.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonText(String);

impl JsonText {
    /// On one line.
    pub fn line(value: &impl Serialize) -> Self {
        Self(serde_json::to_string(value).expect("plain data"))
    }

    /// A list with one element a line, inside an object.
    pub fn lines(values: &[impl Serialize]) -> Self {
        let lines = values
            .iter()
            .map(|value| format!("\n    {}", Self::line(value)));
        match values {
            [] => Self("[]".to_owned()),
            _ => Self(format!("[{}\n  ]", lines.collect::<Vec<_>>().join(","))),
        }
    }
}

impl std::fmt::Display for JsonText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Writes an object whose fields are on a line each.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_json_lines(
    path: impl AsRef<Path>,
    fields: &[(&str, JsonText)],
) -> Result<(), ReportError> {
    let fields = fields
        .iter()
        .map(|(name, value)| format!("  \"{name}\": {value}"));
    let text = format!("{{\n{}\n}}\n", fields.collect::<Vec<_>>().join(",\n"));
    write_atomically(path, text.as_bytes())
}

/// Reads a value written by [`write_json`].
///
/// # Errors
/// [`ReportError::Read`] where there is no such file, [`ReportError::Json`] where it holds something
/// else.
pub fn read_json<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, ReportError> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|source| ReportError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| ReportError::Json {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn content_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.json");
        write_json(&path, &vec![1.5, -0.1]).unwrap();
        write_json(&path, &vec![0.1 + 0.2]).unwrap();
        assert_eq!(read_json::<Vec<f64>>(&path).unwrap(), [0.1 + 0.2]);
        assert!(fs::read_to_string(&path).unwrap().ends_with("]\n"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn failures_are_one_line_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "{").unwrap();
        let message = read_json::<f64>(&file).unwrap_err().to_string();
        assert!(
            message.starts_with(&file.display().to_string()),
            "{message}"
        );
        let missing = read_json::<f64>(folder.path().join("none")).unwrap_err();
        assert!(matches!(missing, ReportError::Read { .. }), "{missing}");
    }
}
