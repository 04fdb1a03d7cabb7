//! Text tables: fields between commas, semicolons, tabs or spaces, with or without a header.
//!
//! Lines that start with `#` are comments. An empty field, `NA`, `N/A`, `NaN`, `null`, `None` and `?`
//! are missing values.

use std::io::{BufRead, BufReader, Read};

use super::DataError;
use super::source::{Bad, Bytes, Header, Layout};

/// The rows of a text table.
pub(super) struct CsvRows {
    records: Records,
    /// The first record, where it was read to see whether it is a header, and is not.
    first: Option<Record>,
    record: Record,
    columns: usize,
}

/// The fields of a line, or of several where a quoted field has line breaks in it.
#[derive(Default)]
struct Record {
    /// The fields, one after the other, without quotes and blanks around them.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// The line it began on, from 1.
    line: u64,
}

impl Record {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

/// Longest record: a file without line breaks is not read into memory whole.
const LONGEST: u64 = 1 << 26;

/// Fields between delimiters, in double quotes where they hold one (RFC 4180).
struct Records {
    bytes: BufReader<Bytes>,
    delimiter: u8,
    text: Vec<u8>,
    line: u64,
}

impl Records {
    /// Reads the next record that is neither empty nor a comment; whether there is one.
    fn next(&mut self, origin: &str, record: &mut Record) -> Result<bool, DataError> {
        loop {
            self.text.clear();
            let line = self.line + 1;
            if !self.read_line(origin)? {
                return Ok(false);
            }
            let blank = self.text.trim_ascii().is_empty();
            // Between tabs or spaces nothing may be a row: of missing values.
            if blank && !(self.delimiter == b'\t' && self.text.contains(&b'\t'))
                || self.text.first() == Some(&b'#')
            {
                continue;
            }
            let quotes = |text: &[u8]| text.iter().filter(|b| **b == b'"').count();
            let mut open = quotes(&self.text) % 2 == 1;
            while open {
                let read = self.text.len();
                if !self.read_line(origin)? {
                    return Err(DataError::Format {
                        origin: format!("{origin}, line {line}"),
                        reason: "a quoted field is not closed".to_owned(),
                    });
                }
                open ^= quotes(&self.text[read..]) % 2 == 1;
            }
            record.line = line;
            self.split(record);
            return Ok(true);
        }
    }

    /// Appends the next line; whether there is one.
    fn read_line(&mut self, origin: &str) -> Result<bool, DataError> {
        let room = LONGEST.saturating_sub(self.text.len() as u64);
        let mut limited = self.bytes.by_ref().take(room);
        let read = limited.read_until(b'\n', &mut self.text);
        let read = read.map_err(|source| DataError::Read {
            origin: origin.to_owned(),
            source,
        })?;
        self.line += 1;
        if self.text.len() as u64 >= LONGEST {
            return Err(DataError::Format {
                origin: format!("{origin}, line {}", self.line),
                reason: "the line is too long for a table".to_owned(),
            });
        }
        Ok(read > 0)
    }

    /// Takes the text apart into fields.
    fn split(&self, record: &mut Record) {
        record.bytes.clear();
        record.ends.clear();
        let mut text = self.text.as_slice();
        while let Some(rest) = text.strip_suffix(b"\n").or(text.strip_suffix(b"\r")) {
            text = rest;
        }
        if self.delimiter == b' ' {
            text = text.trim_ascii();
        }
        let mut quoted = false;
        let mut start = 0;
        let mut finish = |record: &mut Record| {
            let field = record.bytes[start..].trim_ascii();
            let lead = record.bytes[start..].len() - record.bytes[start..].trim_ascii_start().len();
            let length = field.len();
            record
                .bytes
                .copy_within(start + lead..start + lead + length, start);
            record.bytes.truncate(start + length);
            start += length;
            record.ends.push(start);
        };
        let mut bytes = text.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                // Two quotes within a quoted field stand for one.
                b'"' if quoted && bytes.peek() == Some(&b'"') => {
                    bytes.next();
                    record.bytes.push(b'"');
                }
                b'"' => quoted = !quoted,
                // A run of spaces is one separator.
                b' ' if self.delimiter == b' ' && bytes.peek() == Some(&b' ') && !quoted => {}
                b if b == self.delimiter && !quoted => finish(record),
                b => record.bytes.push(b),
            }
        }
        finish(record);
    }
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
        let mut records = Records {
            bytes,
            delimiter,
            text: Vec::new(),
            line: 0,
        };
        let mut first = Record::default();
        if !records.next(origin, &mut first)? {
            return Err(format("holds no rows".to_owned()));
        }
        let fields: Vec<String> = (0..first.len())
            .map(|field| {
                let text = String::from_utf8_lossy(first.field(field));
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
            records,
            record: Record::default(),
            first: (!is_header).then_some(first),
            columns,
        };
        Ok((layout, rows))
    }

    /// Line of the row read last.
    pub(super) fn line(&self) -> u64 {
        self.record.line
    }

    /// Goes to the next row; whether there is one.
    pub(super) fn next_row(&mut self, origin: &str) -> Result<bool, DataError> {
        if let Some(first) = self.first.take() {
            self.record = first;
        } else if !self.records.next(origin, &mut self.record)? {
            return Ok(false);
        }
        if self.record.len() != self.columns {
            return Err(DataError::Format {
                origin: format!("{origin}, line {}", self.line()),
                reason: format!(
                    "has {} fields, expected {}",
                    self.record.len(),
                    self.columns
                ),
            });
        }
        Ok(true)
    }

    /// A value of the row read last.
    pub(super) fn value(&self, column: usize) -> Result<f64, Bad> {
        parse(self.record.field(column))
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
        None => (b',', "text, one value a line"),
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
