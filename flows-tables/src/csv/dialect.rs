//! How a text table is written, as its first lines show it together.

use std::io::Cursor;

use csv::ByteRecord;

use super::field::{is_missing, like_number, number, shown};
use super::{abbreviate, is_blank, records, texts};
use crate::source::{Header, Reading};

/// Separators, the likelier first where several would do.
const SEPARATORS: [(u8, &str); 5] = [
    (b';', "semicolon-separated"),
    (b'\t', "tab-separated"),
    (b',', "comma-separated"),
    (b'|', "bar-separated"),
    (b' ', "space-separated"),
];

/// Records looked at.
const SAMPLE: usize = 200;

/// What stands above a table, and how its fields are separated.
pub(super) struct Dialect {
    pub(super) separator: u8,
    words: &'static str,
    /// Bytes and lines above the table: comments, and lines without text.
    pub(super) above: (usize, u64),
    comments: usize,
    /// The comment right above the table.
    comment: Option<Vec<u8>>,
    /// The first records, a header among them.
    pub(super) sample: Vec<ByteRecord>,
}

impl Dialect {
    /// Of a file that begins with `prefix`, and is `whole` there.
    pub(super) fn of(prefix: &[u8], whole: bool, reading: &Reading) -> Self {
        let mut at = 0;
        let mut lines = 0;
        let mut comments = Vec::new();
        while at < prefix.len() {
            let line = first_line(&prefix[at..]);
            if line.starts_with(b"#") {
                comments.push(((at, lines), line.trim_ascii()));
            } else if !line.trim_ascii().is_empty() {
                break;
            }
            at += line.len();
            lines += 1;
        }
        // Where every line looks like a comment, they are the table.
        if at == prefix.len()
            && let Some(&(first, _)) = comments.first()
        {
            (at, lines) = first;
            comments.clear();
        }
        let mut above = (at, lines);
        let (separator, words, mut sample) = choose(&prefix[at..], whole, reading);
        let width = sample.last().map_or(0, ByteRecord::len);
        let value = |record: &ByteRecord| {
            record.len() == width
                && record
                    .iter()
                    .any(|f| like_number(f) || is_missing(f) && !f.is_empty())
        };
        let is_row = |line: &[u8]| {
            let spaced = line.get(1).is_none_or(|b| b.is_ascii_whitespace());
            !spaced
                && take(line, true, separator, reading, 1)
                    .first()
                    .is_some_and(value)
        };
        if reading.comment != Some(b'#')
            && let Some(row) = comments.iter().position(|(_, line)| is_row(line))
        {
            above = comments[row].0;
            comments.truncate(row);
            sample = take(&prefix[above.0..], whole, separator, reading, SAMPLE);
        }
        Self {
            separator,
            words,
            above,
            comments: comments.len(),
            comment: comments.last().map(|(_, line)| line.to_vec()),
            sample,
        }
    }

    /// The separator in words, and what was left out above the table.
    pub(super) fn words(&self, columns: usize) -> String {
        let words = if columns == 1 {
            "text, one value a line"
        } else {
            self.words
        };
        match self.comments {
            0 => words.to_owned(),
            1 => format!("{words}, a comment line above"),
            n => format!("{words}, {n} comment lines above"),
        }
    }

    /// Names in the comment right above a table without a header, as `numpy.savetxt` writes them.
    pub(super) fn names_in_comment(
        &self,
        columns: usize,
        reading: &Reading,
    ) -> Option<Vec<String>> {
        let comment = self
            .comment
            .as_ref()
            .filter(|_| reading.header == Header::Auto)?;
        let hashes = comment.iter().take_while(|b| **b == b'#').count();
        let record = take(&comment[hashes..], true, self.separator, reading, 1).pop()?;
        let words = |field: &[u8]| !is_missing(field) && !like_number(field);
        let one_word = columns > 1 || !record[0].trim_ascii().contains(&b' ');
        let names = texts(&record);
        let distinct = (1..names.len()).all(|i| !names[..i].contains(&names[i]));
        (record.len() == columns && record.iter().all(words) && one_word && distinct)
            .then_some(names)
    }
}

/// The first line with its end.
fn first_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|b| matches!(b, b'\n' | b'\r'));
    let end = end.map_or(text.len(), |end| {
        end + if text[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        }
    });
    &text[..end]
}

/// The first `most` records; without the last one where the text may be cut within it.
fn take(
    text: &[u8],
    whole: bool,
    separator: u8,
    reading: &Reading,
    most: usize,
) -> Vec<ByteRecord> {
    let mut reader = records(Cursor::new(text), separator, reading, 0);
    let read = reader
        .byte_records()
        .map_while(Result::ok)
        .filter(|record| !is_blank(record));
    let mut sample: Vec<ByteRecord> = read.take(most).collect();
    if !whole && sample.len() > 1 && sample.len() < most {
        sample.pop();
    }
    sample
}

/// The separator by which most rows have as many fields, most of them numbers.
fn choose(text: &[u8], whole: bool, reading: &Reading) -> (u8, &'static str, Vec<ByteRecord>) {
    let mut best: Option<((f64, f64), _)> = None;
    for (separator, words) in SEPARATORS {
        // Decimal commas do not separate, unless fields are in quotes.
        if reading.decimal_comma && separator == b',' && !text.contains(&b'"') {
            continue;
        }
        let sample = take(text, whole, separator, reading, SAMPLE);
        if sample
            .first()
            .is_some_and(|first| is_known(&texts(first), reading))
        {
            return (separator, words, sample);
        }
        let score = score(&sample);
        if score > best.as_ref().map(|(score, _)| *score) {
            best = score.map(|score| (score, (separator, words, sample)));
        }
    }
    let single = || {
        let separator = if reading.decimal_comma { b';' } else { b',' };
        (separator, "", take(text, whole, separator, reading, SAMPLE))
    };
    best.map_or_else(single, |(_, found)| found)
}

/// How many of the rows have the most common number of fields, in part and together with how many of their fields
/// are numbers.
fn score(sample: &[ByteRecord]) -> Option<(f64, f64)> {
    let rows = below(sample);
    let widths = rows.iter().map(ByteRecord::len);
    let count = |width: usize| widths.clone().filter(|w| *w == width).count();
    let agree = widths.clone().map(count).max()?;
    let width = widths.clone().filter(|w| count(*w) == agree).max()?;
    let fields: Vec<bool> = rows
        .iter()
        .flatten()
        .map(|f| like_number(f) || is_missing(f))
        .collect();
    let numbers = fields.iter().filter(|number| **number).count() as f64 / fields.len() as f64;
    let agree = agree as f64 / rows.len() as f64;
    (width > 1).then_some((numbers * agree, agree))
}

/// The records below the first one, or that one alone.
fn below(sample: &[ByteRecord]) -> &[ByteRecord] {
    &sample[usize::from(sample.len() > 1)..]
}

/// Whether a line has all the names a model knows.
fn is_known(first: &[String], reading: &Reading) -> bool {
    !reading.known.is_empty() && reading.known.iter().all(|name| first.contains(name))
}

/// Whether the first record names the columns, or that only the user can know.
pub(super) fn is_header(
    first: &[String],
    later: &[ByteRecord],
    reading: &Reading,
) -> Result<bool, String> {
    match reading.header {
        Header::Yes => return Ok(true),
        Header::No => return Ok(false),
        Header::Auto if is_known(first, reading) => return Ok(true),
        Header::Auto => {}
    }
    let value = |f: &String| like_number(f.as_bytes()) || is_missing(f.as_bytes()) && !f.is_empty();
    let is_text = |f: &String| !f.is_empty() && !value(f);
    if !first.iter().any(is_text) {
        return Ok(false);
    }
    if !first.iter().any(value) {
        return Ok(true);
    }
    let names_numbers = |column: usize| {
        let below = later.iter().filter_map(|record| record.get(column));
        let mut below = below.filter(|field| !is_missing(field)).peekable();
        is_text(&first[column]) && below.peek().is_some() && below.all(like_number)
    };
    match (0..first.len()).any(names_numbers) {
        true => Err(format!(
            "holds words and numbers ({}); add --header yes if it names the columns, --header no if it is a row",
            abbreviate(first)
        )),
        false => Ok(false),
    }
}

/// A row of words right below the header, and of numbers below that: of units, or the header of a table whose title
/// was taken for one.
pub(super) fn words_below(later: &[ByteRecord]) -> Option<String> {
    let [words, numbers, ..] = later else {
        return None;
    };
    let word = |field: &&[u8]| !is_missing(field) && !like_number(field);
    let named = words
        .iter()
        .zip(numbers)
        .find(|(field, below)| word(field) && like_number(below))?;
    (!words.iter().any(like_number)).then(|| shown(named.0))
}

/// Whether a first row of numbers looks like names: 0, 1, 2, or whole and different numbers above fractions or far from
/// what is below.
pub(super) fn stands_out(first: &[String], later: &[ByteRecord]) -> bool {
    let value = |field: &[u8]| number(field, b',', false).ok();
    let named = first
        .iter()
        .enumerate()
        .filter_map(|(i, field)| Some((i, value(field.as_bytes())?)));
    let named: Vec<(usize, f64)> = named.collect();
    let different = (1..named.len()).all(|i| named[..i].iter().all(|other| other.1 != named[i].1));
    if named.is_empty() || !different || later.len() < 3 {
        return false;
    }
    let counts = named.len() > 2
        && named
            .iter()
            .enumerate()
            .all(|(i, (_, number))| *number == i as f64);
    let unlike = |&(column, name): &(usize, f64)| {
        let below: Vec<f64> = later
            .iter()
            .filter_map(|record| value(record.get(column)?))
            .collect();
        let (low, high) = below.iter().fold((f64::MAX, f64::MIN), |(low, high), v| {
            (low.min(*v), high.max(*v))
        });
        let far = 3.0 * (high - low);
        let fractions = below.iter().filter(|v| v.fract() != 0.0).count();
        name.fract() == 0.0
            && (fractions * 10 > below.len() * 9 || name < low - far || name > high + far)
    };
    counts || named.iter().all(unlike)
}
