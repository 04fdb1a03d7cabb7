//! Text tables: fields between commas, semicolons, tabs, bars or spaces, with or without a header.
//!
//! Quotes are those of RFC 4180: they open at the start of a field only. Separator and header are decided over the
//! first lines together.

mod dialect;
mod field;
mod lines;

use std::io::{self, BufRead, BufReader, Read};

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use dialect::{Dialect, is_header, stands_out, words_below};
use lines::{Broken, Lines};

use super::DataError;
use super::bytes::Bytes;
use super::source::{Bad, Header, Layout, Reading};

/// The rows of a text table.
pub(super) struct CsvRows {
    reader: csv::Reader<Lines<BufReader<Bytes>>>,
    record: ByteRecord,
    /// The record is the first one, was read to see whether it is a header, and is not.
    pending: bool,
    columns: usize,
    separator: u8,
    /// Rows end in a separator.
    open_ended: bool,
    decimal_comma: bool,
    /// Texts that stand for a missing value, besides the usual ones.
    missing: Vec<String>,
    /// Lines above the table.
    above: u64,
    /// Rows of several lines: their number, the most lines of one, and where that begins.
    long: (usize, u64, u64),
}

impl CsvRows {
    /// A table that begins with `prefix`, and is `whole` there.
    pub(super) fn open(
        mut bytes: BufReader<Bytes>,
        prefix: &[u8],
        whole: bool,
        origin: &str,
        reading: &Reading,
    ) -> Result<(Layout, Self), DataError> {
        let format = |reason: String| DataError::Format {
            origin: origin.to_owned(),
            reason,
        };
        if std::str::from_utf8(prefix).is_err_and(|e| e.error_len().is_some()) {
            let reason = "is neither npy nor text in UTF-8; if it is Latin-1, `iconv -f WINDOWS-1252 -t UTF-8` \
                          converts it";
            return Err(format(reason.to_owned()));
        }
        let text = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
        let dialect = Dialect::of(text, whole, reading);
        let above = (prefix.len() - text.len() + dialect.above.0) as u64;
        io::copy(&mut bytes.by_ref().take(above), &mut io::sink()).map_err(|source| {
            DataError::Read {
                origin: origin.to_owned(),
                source,
            }
        })?;
        let mut rows = Self {
            reader: records(bytes, dialect.separator, reading, dialect.above.1),
            record: ByteRecord::new(),
            pending: false,
            columns: 0,
            separator: dialect.separator,
            open_ended: false,
            decimal_comma: reading.decimal_comma,
            missing: reading.missing.clone(),
            above: dialect.above.1,
            long: (0, 0, 0),
        };
        if !rows.next_record(origin)? {
            return Err(format("holds no rows".to_owned()));
        }
        let line = rows.line();
        let at = |line: u64, reason: String| DataError::Format {
            origin: format!("{origin}, line {line}"),
            reason,
        };
        let mut first = texts(&rows.record);
        let later = dialect.sample.get(1..).unwrap_or_default();
        let named = is_header(&first, later, reading).map_err(|reason| at(line, reason))?;
        rows.pending = !named;
        let mut notes = Vec::new();
        // Fields of the rows below, where they agree.
        let width = later.first().map(ByteRecord::len);
        let width = width.filter(|width| later.iter().all(|record| record.len() == *width));
        let ends_empty =
            |record: &ByteRecord| record.len() > 1 && record[record.len() - 1].is_empty();
        if width == Some(first.len()) && later.iter().chain([&rows.record]).all(ends_empty) {
            rows.open_ended = true;
            first.pop();
        } else if width == Some(first.len() + 1) && later.iter().all(ends_empty) {
            rows.open_ended = true;
        } else if named && width == Some(first.len() + 1) {
            first.insert(0, String::new());
            notes.push("the rows have one field more than the header has names: the first column is taken for names \
                        of rows, as R writes them".to_owned());
        } else if let Some(width) = width.filter(|width| *width != first.len() && later.len() > 1) {
            let reason = format!(
                "has {}, and line {} and those below have {width}: if it is a title, remove it",
                fields(first.len()),
                line + 1
            );
            return Err(at(line, reason));
        }
        if reading.header != Header::No
            && let Some(word) = words_below(later)
        {
            let reason = format!(
                "'{word}' is not a number, but the lines below have numbers there: if line {line} is a title, or \
                 line {} a row of units, remove it",
                line + 1
            );
            return Err(at(line + 1, reason));
        }
        if !named && reading.header == Header::Auto && stands_out(&first, later) {
            notes.push(format!(
                "line {line} ({}) stands out from the lines below; if it is a header, add --header yes",
                abbreviate(&first)
            ));
        }
        rows.columns = first.len();
        let names = match named {
            true => Some(first),
            false => dialect.names_in_comment(first.len(), reading),
        };
        let names = names.map(called).transpose().map_err(format)?;
        let words = dialect.words(rows.columns);
        let recognised = match &names {
            Some(names) => format!("{words}, header: {}", abbreviate(names)),
            None => format!("{words}, {} columns without a header", rows.columns),
        };
        let layout = Layout {
            columns: rows.columns,
            names,
            recognised,
            rows: None,
            notes,
        };
        Ok((layout, rows))
    }

    /// Line in which the row read last begins.
    pub(super) fn line(&self) -> u64 {
        self.above + self.reader.position().line() - 1 - self.breaks()
    }

    /// Line breaks within the row read last, which are in quotes.
    fn breaks(&self) -> u64 {
        let bytes = self.record.as_slice().iter();
        bytes.filter(|byte| **byte == b'\n').count() as u64
    }

    /// What is seen of a table once it was read.
    pub(super) fn remark(&self) -> Option<String> {
        let (rows, most, line) = self.long;
        let words = format!(
            "line breaks in quotes make {rows} rows of several lines; the longest, of {most}, begins in line {line}"
        );
        (rows > 0).then_some(words)
    }

    /// Whether the number of this column in the row read last has more digits than are kept.
    pub(super) fn is_rounded(&self, column: usize, number: f64) -> bool {
        let text = std::str::from_utf8(&self.record[column]).unwrap_or_default();
        let whole = text.trim().parse::<i128>();
        whole.is_ok_and(|whole| whole != number as i128)
    }

    /// Reads the next record that is not blank; whether there is one.
    fn next_record(&mut self, origin: &str) -> Result<bool, DataError> {
        loop {
            let read = self.reader.read_byte_record(&mut self.record);
            let read = read.map_err(|error| refuse(error, origin))?;
            if !read || !is_blank(&self.record) {
                return Ok(read);
            }
        }
    }

    /// Goes to the next row; whether there is one.
    pub(super) fn next_row(&mut self, origin: &str) -> Result<bool, DataError> {
        if !std::mem::take(&mut self.pending) && !self.next_record(origin)? {
            return Ok(false);
        }
        let lines = self.breaks() + 1;
        if lines > 1 {
            self.long.0 += 1;
            if lines > self.long.1 {
                (self.long.1, self.long.2) = (lines, self.line());
            }
        }
        let found = self.record.len();
        let one_more = found == self.columns + 1 && self.record[self.columns].is_empty();
        if found == self.columns || one_more && self.open_ended {
            return Ok(true);
        }
        let advice = match self.record.get(0) {
            Some([b'#', ..]) => "; if the line is a comment, add --comment '#'",
            _ if one_more => "; the line ends in a separator",
            _ => "",
        };
        Err(DataError::Format {
            origin: format!("{origin}, line {}", self.line()),
            reason: format!("has {}, expected {}{advice}", fields(found), self.columns),
        })
    }

    /// A value of the row read last.
    pub(super) fn value(&self, column: usize) -> Result<f64, Bad> {
        let field = &self.record[column];
        let is_mark = |mark: &String| mark.as_bytes() == field.trim_ascii();
        if self.missing.iter().any(is_mark) {
            return Err(Bad::Missing);
        }
        field::number(field, self.separator, self.decimal_comma)
    }
}

/// Text that begins in line `above + 1` as records of any width.
fn records<R: BufRead>(
    text: R,
    separator: u8,
    reading: &Reading,
    above: u64,
) -> csv::Reader<Lines<R>> {
    let lines = Lines::new(text, separator, reading.comment, above);
    let mut builder = ReaderBuilder::new();
    builder
        .has_headers(false)
        .flexible(true)
        .delimiter(separator);
    builder.comment(reading.comment).buffer_capacity(1 << 16);
    builder.from_reader(lines)
}

fn refuse(error: csv::Error, origin: &str) -> DataError {
    let format = |origin: String, reason: String| DataError::Format { origin, reason };
    let text = error.to_string();
    let ErrorKind::Io(source) = error.into_kind() else {
        return format(origin.to_owned(), text);
    };
    match source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Broken>())
    {
        Some(broken) => format(
            format!("{origin}, line {}", broken.line),
            broken.reason.to_owned(),
        ),
        None => DataError::Read {
            origin: origin.to_owned(),
            source,
        },
    }
}

/// A line of blanks; a missing value alone on a line is in quotes.
fn is_blank(record: &ByteRecord) -> bool {
    record.len() == 1 && !record[0].is_empty() && record[0].trim_ascii().is_empty()
}

fn texts(record: &ByteRecord) -> Vec<String> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).trim().to_owned();
    record.iter().map(text).collect()
}

fn fields(n: usize) -> String {
    format!("{n} field{}", if n == 1 { "" } else { "s" })
}

/// Names of all columns, each once; those without one get one that no other has.
fn called(mut names: Vec<String>) -> Result<Vec<String>, String> {
    for (i, name) in names.iter().enumerate() {
        if !name.is_empty() && names[..i].contains(name) {
            return Err(format!(
                "two columns are named '{name}'; rename one in the file"
            ));
        }
    }
    for i in 0..names.len() {
        if names[i].is_empty() {
            let mut name = format!("x{}", i + 1);
            while names.contains(&name) {
                name.push('_');
            }
            names[i] = name;
        }
    }
    Ok(names)
}

/// The names, or the first of them, in one line.
pub(super) fn abbreviate(names: &[String]) -> String {
    let shown = |names: &[String]| names.join(", ").replace(['\n', '\r'], " ");
    match names.len() {
        0..=12 => shown(names),
        n => format!("{}, ... ({n} columns)", shown(&names[..10])),
    }
}
