//! Rows on their way out: CSV or npy, into a file or standard output.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{DataError, npy};
use flows_train::atomic::{behind_links, is_stream, temporary_beside};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text between commas, with a header.
    Csv,
    /// NumPy's format, 64-bit floats.
    Npy,
}

impl Format {
    /// What the name of a file asks for.
    pub fn of(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e == "npy") {
            Self::Npy
        } else {
            Self::Csv
        }
    }
}

/// Where rows go, one after the other. A file appears whole, at [`finish`](Self::finish), or not at
/// all.
pub struct Sink {
    format: Format,
    /// Names of the columns.
    names: Vec<String>,
    /// Decimals of each column in text.
    decimals: Vec<usize>,
    rows: usize,
    /// As it was given.
    path: PathBuf,
    to: To,
}

enum To {
    /// A file that takes the place of `path` in the end.
    File(PathBuf, BufWriter<NamedTempFile>),
    Pipe(BufWriter<Pipe>),
    /// The header of an array holds the number of rows, and a pipe cannot go back to it.
    Held(BufWriter<File>, Pipe),
}

/// Standard output, or what is written through as it is.
type Pipe = Box<dyn Write + Send>;

impl Sink {
    /// Opens `path`, or standard output for `-`. Pipes and devices are written through; a link stays, and the file
    /// behind it is replaced.
    ///
    /// # Errors
    /// [`DataError::Write`] where it cannot be written.
    pub fn create(
        path: &Path,
        format: Format,
        names: Vec<String>,
        decimals: Vec<usize>,
    ) -> Result<Self, DataError> {
        assert_eq!(names.len(), decimals.len());
        let pipe: Option<Pipe> = if path == Path::new("-") {
            Some(Box::new(io::stdout()))
        } else if is_stream(path) {
            let through = File::options().write(true).open(path);
            Some(Box::new(through.map_err(|e| failed(path, e))?))
        } else {
            None
        };
        let to = match (pipe, format) {
            (Some(pipe), Format::Csv) => To::Pipe(BufWriter::with_capacity(1 << 16, pipe)),
            (Some(pipe), Format::Npy) => {
                let file = tempfile::tempfile().map_err(|e| failed(path, e))?;
                To::Held(BufWriter::new(file), pipe)
            }
            (None, _) => {
                let target = behind_links(path);
                let file = temporary_beside(&target).map_err(|e| failed(path, e))?;
                To::File(target, BufWriter::with_capacity(1 << 16, file))
            }
        };
        let mut sink = Self {
            format,
            names,
            decimals,
            rows: 0,
            path: path.to_owned(),
            to,
        };
        let head = match format {
            Format::Csv => csv_line(&sink.names),
            Format::Npy => npy::header(0, sink.npy_columns()),
        };
        sink.write(&head)?;
        Ok(sink)
    }

    fn npy_columns(&self) -> Option<usize> {
        (self.names.len() > 1).then_some(self.names.len())
    }

    /// Writes whole rows, row-major.
    ///
    /// # Errors
    /// [`DataError::Write`], also where a pipe has no reader any more.
    pub fn push(&mut self, values: &[f64]) -> Result<(), DataError> {
        let width = self.names.len();
        let mut bytes = Vec::with_capacity(values.len() * 12);
        match self.format {
            Format::Npy => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Format::Csv => {
                for row in values.chunks(width) {
                    for (i, (value, decimals)) in row.iter().zip(&self.decimals).enumerate() {
                        if i > 0 {
                            bytes.push(b',');
                        }
                        let text = number(*value, *decimals);
                        bytes.extend_from_slice(text.as_bytes());
                    }
                    bytes.push(b'\n');
                }
            }
        }
        self.rows += values.len() / width;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let written = match &mut self.to {
            To::File(_, file) => file.write_all(bytes),
            To::Pipe(out) => out.write_all(bytes),
            To::Held(file, _) => file.write_all(bytes),
        };
        written.map_err(|e| failed(&self.path, e))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(self) -> Result<(), DataError> {
        let columns = self.npy_columns();
        let (format, rows) = (self.format, self.rows);
        let completed = match self.to {
            To::Pipe(mut out) => out.flush(),
            To::Held(file, pipe) => complete_pipe(file, pipe, rows, columns),
            To::File(target, file) => complete_file(file, &target, format, rows, columns),
        };
        completed.map_err(|e| failed(&self.path, e))
    }
}

fn complete_pipe(
    file: BufWriter<File>,
    mut out: Pipe,
    rows: usize,
    columns: Option<usize>,
) -> io::Result<()> {
    let mut file = file.into_inner().map_err(|e| e.into_error())?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&npy::header(rows, columns))?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file, &mut out)?;
    out.flush()
}

fn complete_file(
    file: BufWriter<NamedTempFile>,
    path: &Path,
    format: Format,
    rows: usize,
    columns: Option<usize>,
) -> io::Result<()> {
    let mut file = file.into_inner().map_err(|e| e.into_error())?;
    if format == Format::Npy {
        file.as_file_mut().seek(SeekFrom::Start(0))?;
        file.as_file_mut().write_all(&npy::header(rows, columns))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> DataError {
    let target = if path == Path::new("-") {
        "standard output".to_owned()
    } else {
        path.display().to_string()
    };
    DataError::Write { target, source }
}

fn csv_line(names: &[String]) -> Vec<u8> {
    let quoted = names.iter().map(|name| {
        if name.contains([',', ';', '\t', '|', ' ', '"', '\n', '\r', '#']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.clone()
        }
    });
    let mut line = quoted.collect::<Vec<_>>().join(",");
    line.push('\n');
    line.into_bytes()
}

/// Decimals that keep eight digits of a column with this spread.
pub fn decimals(scale: f64) -> usize {
    let digits = 8.0 - scale.abs().max(1e-300).log10().floor();
    digits.clamp(0.0, 300.0) as usize
}

/// The decimals of a column whose numbers are to come back with the same bits.
pub const EXACT: usize = usize::MAX;

fn number(value: f64, decimals: usize) -> String {
    if decimals == EXACT {
        return value.to_string();
    }
    if decimals > 17 || value.abs() > 1e15 {
        return format!("{value:e}");
    }
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_what_the_spread_of_their_column_needs() {
        assert_eq!(number(1.0 / 3.0, decimals(1.0)), "0.33333333");
        assert_eq!(number(1.6e9 + 0.25, decimals(0.01)), "1600000000.25");
        assert_eq!(number(2.0, decimals(1.0)), "2");
        assert_eq!(number(-250.0, decimals(1e12)), "-250");
        assert_eq!(number(1.5e-20, decimals(1e-20)), "1.5e-20");
        assert_eq!(number(f64::NEG_INFINITY, 6), "-inf");
        assert_eq!(number(0.1 + 0.2, EXACT), "0.30000000000000004");
    }

    #[test]
    fn names_with_separators_are_quoted() {
        let names = ["a".to_owned(), "b, \"c\"".to_owned()];
        assert_eq!(csv_line(&names), b"a,\"b, \"\"c\"\"\"\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_a_pipe_is_written_through() {
        use std::io::Read;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |path: &Path, format| {
            let mut sink = Sink::create(path, format, vec!["a".to_owned()], vec![3]).unwrap();
            sink.push(&[1.0, 2.5]).unwrap();
            sink.finish().unwrap();
        };
        std::fs::write(at("real"), "old").unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        write(&at("link"), Format::Csv);
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "a\n1\n2.5\n");

        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status()
            .unwrap();
        assert!(made.success());
        for (format, length) in [(Format::Csv, 8), (Format::Npy, 128 + 16)] {
            let pipe = at("pipe");
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut all).unwrap();
                all.len()
            });
            write(&at("pipe"), format);
            assert_eq!(reader.join().unwrap(), length);
        }
        assert!(is_stream(&at("pipe")));
    }
}
