//! A file or standard input as chunks of rows.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::bytes::Bytes;
use super::csv::CsvRows;
use super::npy::NpyRows;
use super::{DataError, npz};

/// How a table is read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Whether the first line of a text file is a header
    pub header: Header,
    /// Character that begins a comment line; above the table, `#` does
    pub comment: Option<u8>,
    /// Numbers of the text have a decimal comma
    pub decimal_comma: bool,
    /// Array to read from an npz file that has several
    pub array: Option<String>,
    /// More texts that stand for a missing value, and numbers that do wherever they are read.
    pub missing: Vec<String>,
    /// Names that the columns should have: a first line with all of them is a header, also where they are numbers.
    pub known: Vec<String>,
}

impl From<Header> for Reading {
    fn from(header: Header) -> Self {
        Self {
            header,
            ..Self::default()
        }
    }
}

/// Whether the first line of a text file names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Header {
    /// It does where its cells are words, none of them numeric.
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
    /// The row stays, with NaN where a value is missing, and is counted.
    Keep,
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
    /// What may not be as it was meant, a sentence each.
    pub notes: Vec<String>,
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
    incomplete: usize,
    /// Numbers that stand for a missing value.
    fills: Vec<f64>,
    /// Whole numbers that were rounded, and the column of the last.
    rounded: (usize, usize),
}

enum Format {
    Csv(CsvRows),
    Npy(NpyRows),
}

/// From here on, 64 bits do not keep every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Format {
    fn is_rounded(&self, column: usize, number: f64) -> bool {
        match self {
            Self::Csv(csv) => csv.is_rounded(column, number),
            Self::Npy(npy) => npy.is_rounded(column),
        }
    }
}

/// A value that is no finite number.
pub(super) enum Bad {
    Missing,
    /// What it is.
    Unusable(String),
}

/// Largest number of bytes looked at to recognise a file.
const PREFIX: usize = 64 * 1024;

impl Source {
    /// Opens a file, or standard input for `-`, and looks at its first rows.
    ///
    /// # Errors
    /// [`DataError::Read`] where it cannot be opened, [`DataError::Format`] where it is no table.
    pub fn open(path: &Path, reading: &Reading) -> Result<Self, DataError> {
        if path == Path::new("-") {
            return Self::from_bytes(Box::new(io::stdin()), "standard input", reading);
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
        Self::from_bytes(Box::new(file), &origin, reading)
    }

    /// As [`open`](Self::open), from any bytes; `origin` names them in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(
        bytes: Box<dyn Read + Send>,
        origin: &str,
        reading: &Reading,
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
        let mut array = String::new();
        if prefix.starts_with(npz::MAGIC) {
            let whole = Cursor::new(prefix).chain(bytes);
            let (name, unpacked) = npz::array(Box::new(whole), reading.array.as_deref(), origin)?;
            (prefix, bytes) = peek(unpacked, origin)?;
            if !prefix.starts_with(super::npy::MAGIC) {
                return Err(format(format!("holds no array in '{name}.npy'")));
            }
            array = format!(", array '{name}' of an npz");
        } else if let Some(name) = &reading.array {
            let reason = format!("--array {name}: {origin} is no npz file");
            return Err(DataError::Columns(reason));
        }
        if let Some(known) = foreign(&prefix) {
            return Err(format(format!("is {known}, expected CSV, npy or npz")));
        }
        let is_npy = prefix.starts_with(super::npy::MAGIC);
        let whole = prefix.len() < PREFIX;
        let bytes: Bytes = Box::new(Cursor::new(prefix.clone()).chain(bytes));
        let bytes = BufReader::with_capacity(1 << 18, bytes);
        let (layout, rows) = if is_npy {
            let (layout, rows) = NpyRows::open(bytes, origin)?;
            (layout, Format::Npy(rows))
        } else {
            let (layout, rows) = CsvRows::open(bytes, &prefix, whole, origin, reading)?;
            (layout, Format::Csv(rows))
        };
        let recognised = format!("{}{array}{packed}", layout.recognised);
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
            incomplete: 0,
            fills: reading
                .missing
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            rounded: (0, 0),
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

    /// Rows so far with a missing value: left out or kept, as [`select`](Self::select) was told.
    pub fn incomplete(&self) -> usize {
        self.incomplete
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
            let more = match &mut self.rows {
                Format::Csv(csv) => csv.next_row(&self.origin)?,
                Format::Npy(npy) => npy.next_row(&self.origin)?,
            };
            if !more {
                break;
            }
            let mut complete = true;
            for (value, &column) in row.iter_mut().zip(&self.wanted) {
                let read = match &self.rows {
                    Format::Csv(csv) => csv.value(column),
                    Format::Npy(npy) => npy.value(column),
                };
                let read = match read {
                    Ok(number) if self.fills.contains(&number) => Err(Bad::Missing),
                    read => read,
                };
                *value = match read {
                    Ok(number) => {
                        if number.abs() >= EXACT && self.rows.is_rounded(column, number) {
                            self.rounded = (self.rounded.0 + 1, column);
                        }
                        number
                    }
                    Err(Bad::Missing) if self.missing != Missing::Refuse => {
                        complete = false;
                        f64::NAN
                    }
                    Err(bad) => return Err(self.refuse(column, bad)),
                };
            }
            self.incomplete += usize::from(!complete);
            if complete || self.missing == Missing::Keep {
                values.extend_from_slice(&row);
            }
        }
        Ok(values)
    }

    /// What was noticed while the rows were read, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let (count @ 1.., column) = self.rounded {
            let column = self.layout.show(column);
            remarks.push(format!(
                "{count} whole numbers beyond 2^53 were rounded, as in column {column}"
            ));
        }
        if let Format::Csv(csv) = &self.rows {
            remarks.extend(csv.remark());
        }
        remarks
    }

    fn refuse(&self, column: usize, bad: Bad) -> DataError {
        let place = match &self.rows {
            Format::Csv(csv) => format!("line {}", csv.line()),
            Format::Npy(npy) => format!("row {}", npy.row()),
        };
        let reason = match bad {
            Bad::Missing => "the value is missing".to_owned(),
            Bad::Unusable(reason) => reason,
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
    if starts(b"\x89HDF") {
        Some("an HDF5 file")
    } else if starts(b"PAR1") {
        Some("a Parquet file")
    } else if starts(b"\x80") && !starts(super::npy::MAGIC) {
        Some("a pickle")
    } else if prefix.get(8) == Some(&b'{') && prefix[..8].contains(&0) {
        Some("a safetensors file, such as a model of this program")
    } else if starts(b"\xff\xfe") || starts(b"\xfe\xff") {
        Some("text in UTF-16, which `iconv -f UTF-16 -t UTF-8` converts")
    } else if prefix.is_empty() {
        Some("empty")
    } else if prefix.contains(&0) && !starts(super::npy::MAGIC) {
        Some("a binary file")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::fuzz::mutations;
    use crate::npy;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn open(bytes: &[u8]) -> Result<Source, DataError> {
        let bytes = Box::new(Cursor::new(bytes.to_vec()));
        Source::from_bytes(bytes, "t", &Reading::default())
    }

    /// The names and all values, or the first error's words.
    fn read(bytes: &[u8]) -> Result<(Option<Vec<String>>, Vec<f64>), String> {
        let read = || {
            let mut source = open(bytes)?;
            let mut values = Vec::new();
            loop {
                let chunk = source.next_chunk(3)?;
                if chunk.is_empty() {
                    return Ok((source.layout().names.clone(), values));
                }
                values.extend(chunk);
            }
        };
        read().map_err(|e: DataError| e.to_string())
    }

    fn npy_file(rows: usize, columns: usize, values: &[f64]) -> Vec<u8> {
        let mut bytes = npy::header(rows, Some(columns));
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn headers_and_separators_are_recognised() {
        let names = |list: &[&str]| Some(list.iter().map(|n| (*n).to_owned()).collect());
        let numbers = vec![1.0, 2.0, 3.0, 4.5];
        let cases: [(&str, Option<Vec<String>>); 9] = [
            ("a,b\n1,2\n3,4.5\n", names(&["a", "b"])),
            ("1,2\n3,4.5\n", None),
            ("\u{feff}a;b\r\n1;2\r\n3;4.5\r\n", names(&["a", "b"])),
            ("a\tb\n1\t2\n\n3\t4.5", names(&["a", "b"])),
            ("# made by hand\n1 2\n3 4.5\n", None),
            ("\"a,1\",b\n1,2\n\"3\",4.5\n", names(&["a,1", "b"])),
            (",b\n1,2\n3,4.5\n", names(&["x1", "b"])),
            (" a , b \n 1, 2\n 3, 4.5\n", names(&["a", "b"])),
            ("1e0,0.2e1\n+3,4.5\n", None),
        ];
        for (text, header) in cases {
            let expected = Ok((header, numbers.clone()));
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
            assert_eq!(read(&gzip(text.as_bytes())), expected, "gzip {text:?}");
        }
        assert_eq!(read(b"7\n8\n"), Ok((None, vec![7.0, 8.0])));
    }

    #[test]
    fn what_cannot_be_used_is_said_with_its_place() {
        let cases = [
            ("a,b\n1,2\n3\n", "t, line 3: has 1 field, expected 2"),
            ("a,b\n1,\n", "t, line 2, column 2 'b': the value is missing"),
            ("1,2\n1,NaN\n", "t, line 2, column 2: the value is missing"),
            (
                "a,b\n1,inf\n",
                "t, line 2, column 2 'b': 'inf' is not finite",
            ),
            (
                "a,b\n1,red\n",
                "t, line 2, column 2 'b': 'red' is not a number",
            ),
            (
                "a,a\n1,2\n",
                "t: two columns are named 'a'; rename one in the file",
            ),
            (
                "1;2,5\n",
                "t, line 1, column 2: '2,5' has a decimal comma; add --decimal-comma",
            ),
            ("", "t: is empty, expected CSV, npy or npz"),
            ("\n\n", "t: holds no rows"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text.as_bytes()).unwrap_err(), expected);
        }
        // A row whose first field is a number is no header, though the second is text.
        let error = read(b"1,red\n2,blue\n").unwrap_err();
        assert_eq!(error, "t, line 1, column 2: 'red' is not a number");
        assert!(read(b"PK\x03\x04junk").unwrap_err().contains("zip"));
        assert!(read(b"\x89HDF\r\n\x1a\n").unwrap_err().contains("HDF5"));
        assert!(read(b"\xff\xfe1,2\n").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn rows_with_missing_values_are_skipped_where_asked_and_unused_columns_may_hold_anything() {
        let mut source = open(b"a,b,c\n1,x,2\n,y,3\n4,z,5\n").unwrap();
        source.select(vec![2, 0], Missing::Skip);
        assert_eq!(source.next_chunk(10).unwrap(), [2.0, 1.0, 5.0, 4.0]);
        assert_eq!(source.incomplete(), 1);
    }

    #[test]
    fn rows_with_missing_values_keep_their_place_where_asked() {
        let mut source = open(b"a,b,c\n1,x,2\n,y,?\n4,z,NA\n").unwrap();
        source.select(vec![2, 0], Missing::Keep);
        let values = source.next_chunk(10).unwrap();
        assert_eq!(values[..2], [2.0, 1.0]);
        assert!(values[2..5].iter().all(|value| value.is_nan()));
        assert_eq!(values[5..], [4.0]);
        assert_eq!(source.incomplete(), 2);
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        let file = |descr: &str, bytes: &[u8]| {
            let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,)}}");
            let mut file = b"\x93NUMPY\x02\x00".to_vec();
            file.extend_from_slice(&(text.len() as u32).to_le_bytes());
            file.extend_from_slice(text.as_bytes());
            file.extend_from_slice(bytes);
            read(&file).map(|(_, values)| values)
        };
        let pair = Ok(vec![-2.0, 3.0]);
        let float = [(-2.0f32).to_be_bytes(), 3.0f32.to_be_bytes()].concat();
        assert_eq!(file(">f4", &float), pair);
        let double = [(-2.0f64).to_le_bytes(), 3.0f64.to_le_bytes()].concat();
        assert_eq!(file("<f8", &double), pair);
        let short = [(-2i16).to_le_bytes(), 3i16.to_le_bytes()].concat();
        assert_eq!(file("<i2", &short), pair);
        let long = [(-2i64).to_be_bytes(), 3i64.to_be_bytes()].concat();
        assert_eq!(file(">i8", &long), pair);
        assert_eq!(file("|i1", &[254, 3]), pair);
        assert_eq!(file("|u1", &[254, 3]), Ok(vec![254.0, 3.0]));
        let error = file("<c16", &[0; 32]).unwrap_err();
        assert!(error.contains("'<c16'"), "{error}");
        let infinite = [1.0f64.to_le_bytes(), f64::INFINITY.to_le_bytes()].concat();
        let error = file("<f8", &infinite).unwrap_err();
        assert_eq!(error, "t, row 2, column 1: 'inf' is not finite");
    }

    #[test]
    fn a_header_that_claims_too_much_costs_nothing() {
        let huge = npy_file(1 << 50, 1000, &[0.5; 10]);
        assert_eq!(
            read(&huge).unwrap_err(),
            format!("t: ends after 0 of {} rows", 1u64 << 50)
        );
        let wide = npy_file(1, 1 << 40, &[]);
        assert!(read(&wide).unwrap_err().contains("claims"));
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&long).unwrap_err().contains("claims an npy header"));
    }

    /// An archive as `numpy.savez` or `numpy.savez_compressed` writes it.
    fn archive(arrays: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
        use zip::CompressionMethod::{Deflated, Stored};
        let method = if deflated { Deflated } else { Stored };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in arrays {
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn an_npz_of_several_arrays_asks_which_and_checksums_are_compared() {
        let array = npy_file(2, 2, &[1.0, 2.0, 3.0, 4.5]);
        for deflated in [false, true] {
            let one = archive(&[("x.npy", &array)], deflated);
            assert_eq!(read(&one), Ok((None, vec![1.0, 2.0, 3.0, 4.5])));
            let words = open(&one).unwrap().layout().recognised.clone();
            assert_eq!(words, "npy, 2 x 2 of type '<f8', array 'x' of an npz");
            let other = npy_file(1, 1, &[7.0]);
            let two = archive(&[("labels.npy", &other), ("x.npy", &array)], deflated);
            let error = read(&two).unwrap_err();
            assert_eq!(
                error,
                "t: holds 2 arrays; --array NAME takes one of labels, x"
            );
            let named = |name: &str| {
                let reading = Reading {
                    array: Some(name.to_owned()),
                    ..Reading::default()
                };
                let bytes = Box::new(Cursor::new(two.clone()));
                let mut source = Source::from_bytes(bytes, "t", &reading)?;
                source.next_chunk(9)
            };
            assert_eq!(named("x").unwrap(), [1.0, 2.0, 3.0, 4.5]);
            assert_eq!(named("labels").unwrap(), [7.0]);
            let error = named("y").unwrap_err().to_string();
            assert_eq!(error, "t has no array 'y'; it has labels, x");
            // A number within the array.
            let mut damaged = archive(&[("x.npy", &array)], false);
            damaged[5 + 30 + 130] ^= 1;
            assert!(read(&damaged).unwrap_err().contains("damaged"));
        }
        let text = archive(&[("x.npy", b"1,2,3")], true);
        assert!(read(&text).unwrap_err().contains("no array in 'x.npy'"));
        let sheet = archive(&[("[Content_Types].xml", b"<a/>")], true);
        assert!(
            read(&sheet)
                .unwrap_err()
                .contains("begins with '[Content_Types].xml'")
        );
    }

    #[test]
    fn fortran_order_half_floats_python_2_and_fields_are_read() {
        let file = |descr: &str, order: &str, shape: &str, bytes: &[u8]| {
            let text =
                format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n");
            let mut file = b"\x93NUMPY\x01\x00".to_vec();
            file.extend_from_slice(&(text.len() as u16).to_le_bytes());
            file.extend_from_slice(text.as_bytes());
            file.extend_from_slice(bytes);
            read(&file)
        };
        let doubles = |values: &[f64]| {
            values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let matrix = Ok((None, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let rows = doubles(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let columns = doubles(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(file("'<f8'", "True", "(2, 3)", &columns), matrix);
        // The element of row i, j, k is at i + 2 j + 2 k in Fortran's order.
        assert_eq!(file("'<f8'", "True", "(2, 1, 3)", &columns), matrix);
        assert_eq!(file("'<f8'", "False", "(2L, 3L)", &rows), matrix);
        assert_eq!(file("'=f8'", "False", "(2, 3)", &rows), matrix);
        let half = file("'<f2'", "False", "(2,)", &[0x00, 0x3c, 0x00, 0xc1]);
        assert_eq!(half, Ok((None, vec![1.0, -2.5])));
        let names = Some(vec!["a".to_owned(), "b".to_owned()]);
        let fields = file(
            "[('a', '<f8'), ('b', '|u1')]",
            "False",
            "(1,)",
            &[&doubles(&[1.5])[..], &[7]].concat(),
        );
        assert_eq!(fields, Ok((names, vec![1.5, 7.0])));
        let short = file("'<f8'", "True", "(2, 3)", &columns[..40]).unwrap_err();
        assert_eq!(short, "t: ends after 40 of 48 bytes of numbers");
        for (descr, advice) in [
            ("'<c16'", "real and imaginary"),
            ("'<M8[ns]'", "astype('int64')"),
            ("'|O'", "astype(float)"),
        ] {
            let error = file(descr, "False", "(2,)", &rows).unwrap_err();
            assert!(error.contains(advice), "{error}");
        }
        // Sizes whose product does not fit, wherever they stand.
        for shape in [
            "(4294967296, 4294967296, 4294967296)",
            "(1,), 'x': (18446744073709551615, 3)",
        ] {
            let error = file("'<f8'", "False", shape, &rows).unwrap_err();
            assert!(error.contains("claims too much"), "{error}");
        }
    }

    #[test]
    fn rows_of_several_lines_and_rounded_numbers_are_counted() {
        let text = b"id,note,b\n9007199254740993,\"two\nlines\",1\n9007199254740992,plain,2\n5,\"a\nb\nc\",3\n";
        let mut source = open(text).unwrap();
        source.select(vec![0, 2], Missing::Refuse);
        assert_eq!(source.next_chunk(9).unwrap().len(), 6);
        let remarks = source.remarks();
        assert_eq!(
            remarks[0],
            "1 whole numbers beyond 2^53 were rounded, as in column 1 'id'"
        );
        let long = "line breaks in quotes make 2 rows of several lines; the longest, of 3, begins in line 5";
        assert_eq!(remarks[1], long);
    }

    #[test]
    fn decimal_commas_are_read_where_asked() {
        let reading = Reading {
            decimal_comma: true,
            ..Reading::default()
        };
        for text in [
            "a;b\n0,5;1,5\n2;3\n",
            "\"a\",\"b\"\n\"0,5\",\"1,5\"\n\"2\",\"3\"\n",
            "0,5\n1,5\n2\n3\n",
        ] {
            let bytes = Box::new(Cursor::new(text.as_bytes().to_vec()));
            let mut source = Source::from_bytes(bytes, "t", &reading).unwrap();
            assert_eq!(
                source.next_chunk(9).unwrap(),
                [0.5, 1.5, 2.0, 3.0],
                "{text:?}"
            );
        }
    }

    /// What files of many programs look like: the values, or words that say what to do.
    #[test]
    fn dialects_are_read_or_named() {
        let read_as = [
            ("\u{feff}# exported\na,b\n1,2\n3,4\n", "a,b"),
            ("a,b\r1,2\r3,4\r", "a,b"),
            ("a,b,\n1,2,\n3,4,\n", "a,b"),
            ("a,b\n1,2,\n3,4,\n", "a,b"),
            ("a|b\n1|2\n3|4\n", "a,b"),
            ("  a   b\n  1   2\n  3   4\n", "a,b"),
            ("# a b\n1 2\n3 4\n", "a,b"),
            ("T (K),p (Pa; abs)\n1,2\n3,4\n", "T (K),p (Pa; abs)"),
            (",x1\n1,2\n3,4\n", "x1_,x1"),
            ("\"x2\" \"x3\"\n\"1\" 2 5\n\"3\" 4 5\n", "x1,x2,x3"),
            ("\"a\",\"b\"\n\"1\",\"2\"\n\"3\",\"4\"\n", "a,b"),
        ];
        for (text, names) in read_as {
            let (found, values) = read(text.as_bytes()).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            assert_eq!(found.unwrap().join(","), names, "{text:?}");
            let values: Vec<f64> = values.into_iter().filter(|v| *v != 5.0).collect();
            assert_eq!(values, [1.0, 2.0, 3.0, 4.0], "{text:?}");
        }
        let one = read(b"Flux density\n1\n2\n").unwrap();
        assert_eq!(one, (Some(vec!["Flux density".to_owned()]), vec![1.0, 2.0]));
        let fortran = read("1.5D-01 \u{2212}2\n3 4\n".as_bytes());
        assert_eq!(fortran, Ok((None, vec![0.15, -2.0, 3.0, 4.0])));
        let refused = [
            (
                "Station 12\na,b,c\n1,2,3\n3,4,5\n",
                "t, line 1: has 1 field, and line 2 and those below have 3: if it is a title",
            ),
            (
                "Station 12, 2024\na,b\n1,2\n3,4\n",
                "t, line 2: 'a' is not a number, but the lines below",
            ),
            (
                "a,b\nm/s,K\n1,2\n",
                "line 1 is a title, or line 2 a row of units, remove it",
            ),
            (
                "a;b\n0,5;1,5\n",
                "'0,5' has a decimal comma; add --decimal-comma",
            ),
            (
                "0,5;1,5\n0,7;1,7\n",
                "t, line 1, column 1: '0,5' has a decimal comma",
            ),
            (
                "a,b\n\"1,000.5\",2\n",
                "has a thousands separator; write 1000.5",
            ),
            (
                "a;b\n1\u{a0}000;2\n",
                "has a thousands separator; write 1000",
            ),
            (
                "id,2019,2020\n1,2,3\n4,5,6\n",
                "line 1: holds words and numbers (id, 2019, 2020); add --header yes",
            ),
            (
                "a,b\n1,2\n\"3,4\n5,6\n",
                "t, line 3: a quoted field is not closed",
            ),
            (
                "a,b\n\n1,2\n\n3,x\n",
                "t, line 5, column 2 'b': 'x' is not a number",
            ),
            (
                "a,b\n1,2\n# end\n",
                "t, line 3: has 1 field, expected 2; if the line is a comment, add --comment '#'",
            ),
        ];
        for (text, expected) in refused {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(read(b"temp\xe9,b\n1,2\n").unwrap_err().contains("Latin-1"));
        assert!(
            read(b"\xff\xfea\0,\0b\0\n\0")
                .unwrap_err()
                .contains("UTF-16")
        );
    }

    #[test]
    fn a_field_that_begins_with_a_hash_is_data() {
        let (_, values) = read(b"id,x\n0,1\n1,2\n").unwrap();
        assert_eq!(values.len(), 4);
        for (text, rows, incomplete) in [
            ("x,y\n#N/A,1\n2,3\n", 2, 1),
            ("#N/A,1\n2,3\n#DIV/0!,4\n", 3, 2),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(
                error.contains("the value is missing") && error.contains("line"),
                "{error}"
            );
            let mut source = open(text.as_bytes()).unwrap();
            source.select(vec![0, 1], Missing::Keep);
            assert_eq!(source.next_chunk(9).unwrap().len(), 2 * rows);
            assert_eq!(source.incomplete(), incomplete);
        }
        let mut source = open(b"id,x\n0,1\n#17,2\n3,4\n").unwrap();
        source.select(vec![1], Missing::Refuse);
        assert_eq!(source.next_chunk(9).unwrap(), [1.0, 2.0, 4.0]);
    }

    #[test]
    fn an_inch_mark_in_a_field_merges_no_rows() {
        let text = b"a,desc,b\n1,plain,2\n3,5\" pipe,4\n5,6\" pipe,6\n7,plain,8\n";
        let mut source = open(text).unwrap();
        source.select(vec![0, 2], Missing::Refuse);
        assert_eq!(
            source.next_chunk(9).unwrap(),
            [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        );
    }

    #[test]
    fn a_header_of_numbers_is_noticed_and_a_known_one_recognised() {
        let text = b"400,410,420\n0.25,0.5,0.75\n0.1,0.2,0.3\n0.4,0.6,0.8\n";
        let notes = open(text).unwrap().layout().notes.join(" ");
        assert!(
            notes.contains("line 1 (400, 410, 420) stands out"),
            "{notes}"
        );
        let known = Reading {
            known: vec!["410".to_owned(), "400".to_owned()],
            ..Reading::default()
        };
        let source = Source::from_bytes(Box::new(Cursor::new(text.to_vec())), "t", &known);
        let names = source.unwrap().layout().names.clone();
        assert_eq!(names.unwrap(), ["400", "410", "420"]);
        for plain in ["1,2\n3,4\n5,6\n7,8\n", "0,0\n0.1,0.2\n0.3,0.1\n0.5,0.6\n"] {
            assert!(
                open(plain.as_bytes()).unwrap().layout().notes.is_empty(),
                "{plain}"
            );
        }
    }

    /// Whatever bytes come, the answer is values or words, and memory follows what is read.
    #[test]
    fn damaged_files_never_panic() {
        let text = b"a,b,\"c\"\n1,2,3\n4,5e3,-6\n".to_vec();
        let array = npy_file(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let packed = gzip(&text);
        let stored = archive(&[("x.npy", &array)], false);
        let deflated = archive(&[("x.npy", &array)], true);
        for (seed, whole) in [&text, &array, &packed, &stored, &deflated]
            .iter()
            .enumerate()
        {
            assert!(read(whole).is_ok());
            for length in 0..whole.len() {
                let _ = read(&whole[..length]);
            }
            for damaged in mutations(whole, 2000, 10 + seed as u64) {
                let _ = read(&damaged);
            }
        }
        // Changes behind the compression, where no checksum catches them.
        for damaged in mutations(&array, 1000, 20) {
            let _ = read(&gzip(&damaged));
            let _ = read(&archive(&[("x.npy", &damaged)], true));
        }
        // Less than its first bytes is text.
        for (file, least) in [(&array, 0), (&packed, 2), (&stored, 4), (&deflated, 4)] {
            for length in least..file.len() {
                assert!(read(&file[..length]).is_err(), "{length}");
            }
        }
    }
}
