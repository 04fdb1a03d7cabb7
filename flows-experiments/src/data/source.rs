//! A file or standard input as chunks of rows.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::DataError;
use super::csv::CsvRows;
use super::npy::NpyRows;

/// Bytes, wherever they come from.
pub(super) type Bytes = Box<dyn Read + Send>;

/// Whether the first line of a text file names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Header {
    /// It does if none of its fields is a number.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// What to do with a row that lacks a value in a column that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// It is an error.
    #[default]
    Refuse,
    /// The row is left out and counted.
    Skip,
}

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Their number.
    pub columns: usize,
    /// Their names, where the file has any.
    pub names: Option<Vec<String>>,
    /// What the file was recognised as, in words.
    pub recognised: String,
    /// Rows, where the file says so before its end.
    pub rows: Option<usize>,
}

impl Layout {
    /// The name of a column: its own, or `x` and its number from 1.
    pub fn name(&self, column: usize) -> String {
        match &self.names {
            Some(names) => names[column].clone(),
            None => format!("x{}", column + 1),
        }
    }

    /// The column as error messages show it.
    pub(super) fn show(&self, column: usize) -> String {
        match &self.names {
            Some(names) => format!("{} '{}'", column + 1, names[column]),
            None => (column + 1).to_string(),
        }
    }
}

/// A table that is read from its beginning to its end.
pub struct Source {
    origin: String,
    layout: Layout,
    rows: Format,
    wanted: Vec<usize>,
    missing: Missing,
    skipped: usize,
}

enum Format {
    Csv(CsvRows),
    Npy(NpyRows),
}

/// A value that is no finite number.
pub(super) enum Bad {
    Missing,
    Infinite(String),
    Text(String),
}

/// Largest number of bytes looked at to recognise a file.
const PREFIX: usize = 64 * 1024;

impl Source {
    /// Opens a file, or standard input for `-`, and looks at its first rows.
    ///
    /// # Errors
    /// [`DataError::Read`] where it cannot be opened, [`DataError::Format`] where it is no table.
    pub fn open(path: &Path, header: Header) -> Result<Self, DataError> {
        if path == Path::new("-") {
            return Self::from_bytes(Box::new(io::stdin()), "standard input", header);
        }
        let origin = path.display().to_string();
        let read = |source| DataError::Read {
            origin: origin.clone(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        if file.metadata().map_err(read)?.is_dir() {
            let source = io::Error::from(io::ErrorKind::IsADirectory);
            return Err(DataError::Read { origin, source });
        }
        Self::from_bytes(Box::new(file), &origin, header)
    }

    /// As [`open`](Self::open), from any bytes; `origin` names them in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(
        bytes: Box<dyn Read + Send>,
        origin: &str,
        header: Header,
    ) -> Result<Self, DataError> {
        let (mut prefix, mut bytes) = peek(bytes, origin)?;
        let mut packed = "";
        if prefix.starts_with(b"\x1f\x8b") {
            packed = ", gzip";
            let whole = Cursor::new(prefix).chain(bytes);
            (prefix, bytes) = peek(Box::new(MultiGzDecoder::new(whole)), origin)?;
        }
        let format = |reason: String| DataError::Format {
            origin: origin.to_owned(),
            reason,
        };
        if let Some(known) = foreign(&prefix) {
            return Err(format(format!("is {known}, expected CSV or npy")));
        }
        let is_npy = prefix.starts_with(super::npy::MAGIC);
        let whole: Bytes = Box::new(Cursor::new(prefix.clone()).chain(bytes));
        let whole = BufReader::with_capacity(1 << 18, whole);
        let (layout, rows) = if is_npy {
            let (layout, rows) = NpyRows::open(whole, origin)?;
            (layout, Format::Npy(rows))
        } else {
            let (layout, rows) = CsvRows::open(whole, &prefix, origin, header)?;
            (layout, Format::Csv(rows))
        };
        let recognised = format!("{}{packed}", layout.recognised);
        let layout = Layout {
            recognised,
            ..layout
        };
        Ok(Self {
            origin: origin.to_owned(),
            wanted: (0..layout.columns).collect(),
            layout,
            rows,
            missing: Missing::Refuse,
            skipped: 0,
        })
    }

    /// The columns of the file.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The file's name in messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Rows left out so far for a missing value.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Reads only these columns, in this order; others may hold anything.
    ///
    /// # Panics
    /// Where a column is beyond the layout.
    pub fn select(&mut self, wanted: Vec<usize>, missing: Missing) {
        assert!(wanted.iter().all(|&c| c < self.layout.columns));
        self.wanted = wanted;
        self.missing = missing;
    }

    /// The next rows, row-major, at most `rows` of them; none at the end.
    ///
    /// # Errors
    /// [`DataError`] with line and column of the first value that is no finite number.
    pub fn next_chunk(&mut self, rows: usize) -> Result<Vec<f64>, DataError> {
        let width = self.wanted.len();
        // What was read decides the memory, not what was asked for.
        let mut values = Vec::with_capacity(width * rows.min(1024));
        let mut row = vec![0.0; width];
        while values.len() < rows * width {
            let read = match &mut self.rows {
                Format::Csv(csv) => csv.next_row(&self.origin, &self.wanted, &mut row)?,
                Format::Npy(npy) => npy.next_row(&self.origin, &self.wanted, &mut row)?,
            };
            match read {
                None => break,
                Some(Ok(())) => values.extend_from_slice(&row),
                Some(Err((_, Bad::Missing))) if self.missing == Missing::Skip => self.skipped += 1,
                Some(Err((column, bad))) => return Err(self.refuse(column, bad)),
            }
        }
        Ok(values)
    }

    fn refuse(&self, column: usize, bad: Bad) -> DataError {
        let place = match &self.rows {
            Format::Csv(csv) => format!("line {}", csv.line()),
            Format::Npy(npy) => format!("row {}", npy.row()),
        };
        let reason = match bad {
            Bad::Missing => "the value is missing".to_owned(),
            Bad::Infinite(text) => format!("'{text}' is not finite"),
            Bad::Text(text) if text.replace(',', ".").parse::<f64>().is_ok() => {
                format!("'{text}' has a decimal comma, expected a point")
            }
            Bad::Text(text) => format!("'{text}' is not a number"),
        };
        DataError::Value {
            origin: self.origin.clone(),
            place,
            column: self.layout.show(column),
            reason,
        }
    }
}

/// The first bytes of a stream, and the rest.
fn peek(mut bytes: Bytes, origin: &str) -> Result<(Vec<u8>, Bytes), DataError> {
    let mut prefix = Vec::new();
    let read = bytes.by_ref().take(PREFIX as u64).read_to_end(&mut prefix);
    read.map_err(|source| DataError::Read {
        origin: origin.to_owned(),
        source,
    })?;
    Ok((prefix, bytes))
}

/// Formats that are taken for a table by mistake.
fn foreign(prefix: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| prefix.starts_with(magic);
    if starts(b"PK\x03\x04") {
        Some("a zip archive (npz or xlsx)")
    } else if starts(b"\x89HDF") {
        Some("an HDF5 file")
    } else if starts(b"PAR1") {
        Some("a Parquet file")
    } else if starts(b"\x80") && !starts(super::npy::MAGIC) {
        Some("a pickle")
    } else if prefix.get(8) == Some(&b'{') && prefix[..8].contains(&0) {
        Some("a safetensors file, such as a model of this program")
    } else if prefix.is_empty() {
        Some("empty")
    } else if prefix.contains(&0) && !starts(super::npy::MAGIC) {
        Some("a binary file")
    } else {
        None
    }
}
