//! Text tables: fields between commas, semicolons, tabs or spaces, with or without a header.
//!
//! Lines that start with `#` are comments. An empty field, `NA`, `N/A`, `NaN`, `null`, `None` and `?`
//! are missing values.

use std::io::BufReader;

use ::csv::{ByteRecord, Reader, ReaderBuilder, Trim};

use super::DataError;
use super::source::{Bad, Bytes, Header, Layout};

/// The rows of a text table.
pub(super) struct CsvRows {
    reader: Reader<BufReader<Bytes>>,
    record: ByteRecord,
    /// The first record, where it was read to see whether it is a header, and is not.
    first: Option<ByteRecord>,
    columns: usize,
    line: u64,
}

impl CsvRows {
    pub(super) fn open(
        bytes: BufReader<Bytes>,
        prefix: &[u8],
        origin: &str,
        header: Header,
    ) -> Result<(Layout, Self), DataError> {
        let format = |reason: String| DataError::Format {
            origin: origin.to_owned(),
            reason,
        };
        if std::str::from_utf8(prefix).is_err_and(|e| e.error_len().is_some()) {
            let reason = "is neither npy nor text in UTF-8".to_owned();
            return Err(format(reason));
        }
        let (delimiter, words) = delimiter(prefix);
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .comment(Some(b'#'))
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(bytes);
        let mut first = ByteRecord::new();
        let any = reader
            .read_byte_record(&mut first)
            .map_err(|e| read_error(origin, e))?;
        if !any {
            return Err(format("holds no rows".to_owned()));
        }
        let fields: Vec<String> = first
            .iter()
            .map(|field| {
                let text = String::from_utf8_lossy(field);
                text.trim_start_matches('\u{feff}').trim().to_owned()
            })
            .collect();
        let is_header = match header {
            Header::Yes => true,
            Header::No => false,
            Header::Auto => {
                let number = |field: &String| field.parse::<f64>().is_ok();
                let text = |field: &&String| !is_missing(field.as_bytes()) && !number(field);
                !fields.iter().any(number) && fields.iter().find(text).is_some()
            }
        };
        let columns = fields.len();
        let names = if is_header {
            Some(names(fields).map_err(format)?)
        } else {
            None
        };
        let recognised = match &names {
            Some(names) => format!("{words}, header: {}", abbreviate(names)),
            None => format!("{words}, {columns} columns without a header"),
        };
        let layout = Layout {
            columns,
            names,
            recognised,
            rows: None,
        };
        let rows = Self {
            reader,
            record: ByteRecord::new(),
            first: (!is_header).then_some(first),
            columns,
            line: 0,
        };
        Ok((layout, rows))
    }

    /// Line of the row read last.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Reads the `wanted` columns of the next row; `None` at the end, the column and what is wrong
    /// with its value where it cannot be used.
    #[allow(clippy::type_complexity)] // three levels: file, row, value
    pub(super) fn next_row(
        &mut self,
        origin: &str,
        wanted: &[usize],
        row: &mut [f64],
    ) -> Result<Option<Result<(), (usize, Bad)>>, DataError> {
        if let Some(first) = self.first.take() {
            self.record = first;
        } else {
            let any = self.reader.read_byte_record(&mut self.record);
            if !any.map_err(|e| read_error(origin, e))? {
                return Ok(None);
            }
        }
        self.line = self.record.position().map_or(0, ::csv::Position::line);
        if self.record.len() != self.columns {
            return Err(DataError::Format {
                origin: format!("{origin}, line {}", self.line),
                reason: format!(
                    "has {} fields, expected {}",
                    self.record.len(),
                    self.columns
                ),
            });
        }
        for (value, &column) in row.iter_mut().zip(wanted) {
            match parse(&self.record[column]) {
                Ok(number) => *value = number,
                Err(bad) => return Ok(Some(Err((column, bad)))),
            }
        }
        Ok(Some(Ok(())))
    }
}

fn parse(field: &[u8]) -> Result<f64, Bad> {
    let field = field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(field);
    if is_missing(field) {
        return Err(Bad::Missing);
    }
    let text = || {
        let text = String::from_utf8_lossy(field);
        text.chars().take(40).collect::<String>()
    };
    let number = std::str::from_utf8(field)
        .ok()
        .and_then(|field| field.parse::<f64>().ok());
    match number {
        Some(number) if number.is_finite() => Ok(number),
        Some(number) if number.is_nan() => Err(Bad::Missing),
        Some(_) => Err(Bad::Infinite(text())),
        None => Err(Bad::Text(text())),
    }
}

fn is_missing(field: &[u8]) -> bool {
    const MARKS: [&[u8]; 8] = [b"", b"NA", b"N/A", b"NaN", b"nan", b"null", b"None", b"?"];
    MARKS.iter().any(|mark| field.eq_ignore_ascii_case(mark))
}

/// The separator of the first line that is no comment, and its name.
fn delimiter(prefix: &[u8]) -> (u8, &'static str) {
    let lines = prefix.split(|&byte| byte == b'\n' || byte == b'\r');
    let mut lines = lines.filter(|line| !line.trim_ascii().is_empty() && line[0] != b'#');
    let line = lines.next().unwrap_or_default().trim_ascii();
    let mut quoted = false;
    let outside = line.iter().filter(|&&byte| {
        quoted ^= byte == b'"';
        !quoted
    });
    let outside: Vec<u8> = outside.copied().collect();
    let count = |byte: u8| outside.iter().filter(|b| **b == byte).count();
    let known = [
        (b';', "semicolon-separated"),
        (b'\t', "tab-separated"),
        (b',', "comma-separated"),
    ];
    // A semicolon or tab wins over commas, which may be decimal.
    let found = known.into_iter().find(|(byte, _)| count(*byte) > 0);
    match found {
        Some(found) => found,
        None if count(b' ') > 0 => (b' ', "space-separated"),
        None => (b',', "one column of text"),
    }
}

/// Names of all columns, each once; columns without one are called by their number.
fn names(fields: Vec<String>) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::with_capacity(fields.len());
    for (i, field) in fields.into_iter().enumerate() {
        let name = if field.is_empty() {
            format!("x{}", i + 1)
        } else {
            field
        };
        if names.contains(&name) {
            return Err(format!("two columns are named '{name}'"));
        }
        names.push(name);
    }
    Ok(names)
}

/// The names, or the first of them.
pub(super) fn abbreviate(names: &[String]) -> String {
    match names.len() {
        0..=12 => names.join(", "),
        n => format!("{}, ... ({n} columns)", names[..10].join(", ")),
    }
}

fn read_error(origin: &str, error: ::csv::Error) -> DataError {
    let origin = origin.to_owned();
    let text = error.to_string();
    match error.into_kind() {
        ::csv::ErrorKind::Io(source) => DataError::Read { origin, source },
        _ => DataError::Format {
            origin,
            reason: text,
        },
    }
}
