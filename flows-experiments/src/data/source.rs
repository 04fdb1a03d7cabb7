//! A file or standard input as chunks of rows.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::DataError;
use super::csv::CsvRows;
use super::npy::NpyRows;
use super::npz;

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
        if prefix.starts_with(npz::MAGIC) {
            let whole = Cursor::new(prefix).chain(bytes);
            let (name, array) = npz::first_array(Box::new(whole)).map_err(format)?;
            (prefix, bytes) = peek(array, origin)?;
            if !prefix.starts_with(super::npy::MAGIC) {
                return Err(format(format!("holds no array in '{name}.npy'")));
            }
            packed = ", the first array of an npz";
        }
        if let Some(known) = foreign(&prefix) {
            return Err(format(format!("is {known}, expected CSV, npy or npz")));
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
            incomplete: 0,
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
                *value = match read {
                    Ok(number) => number,
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
    if starts(b"\x89HDF") {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::bytes::fuzz::mutations;
    use crate::data::npy;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn open(bytes: &[u8]) -> Result<Source, DataError> {
        let bytes = Box::new(Cursor::new(bytes.to_vec()));
        Source::from_bytes(bytes, "t", Header::Auto)
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
            ("a,b\n1,2\n3\n", "t, line 3: has 1 fields, expected 2"),
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
            ("a,a\n1,2\n", "t: two columns are named 'a'"),
            (
                "1;2,5\n",
                "t, line 1, column 2: '2,5' has a decimal comma, expected a point",
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

    #[test]
    fn the_first_array_of_an_npz_is_read_and_its_checksum_compared() {
        let array = npy_file(2, 2, &[1.0, 2.0, 3.0, 4.5]);
        for deflated in [false, true] {
            let mut file = npz::tests::archive("x.npy", &array, deflated);
            file.extend(npz::tests::archive("y.npy", b"another one", deflated));
            assert_eq!(read(&file), Ok((None, vec![1.0, 2.0, 3.0, 4.5])));
            let words = open(&file).unwrap().layout().recognised.clone();
            assert_eq!(words, "npy, 2 x 2 of type '<f8', the first array of an npz");
            // The checksum.
            file[14] ^= 1;
            assert!(read(&file).unwrap_err().contains("damaged"));
        }
        let text = npz::tests::archive("x.npy", b"1,2,3", true);
        assert!(read(&text).unwrap_err().contains("no array in 'x.npy'"));
    }

    /// Whatever bytes come, the answer is values or words, and memory follows what is read.
    #[test]
    fn damaged_files_never_panic() {
        let text = b"a,b,\"c\"\n1,2,3\n4,5e3,-6\n".to_vec();
        let array = npy_file(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let packed = gzip(&text);
        let stored = npz::tests::archive("x.npy", &array, false);
        let deflated = npz::tests::archive("x.npy", &array, true);
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
            let _ = read(&npz::tests::archive("x.npy", &damaged, true));
        }
        // Less than its first bytes is text.
        for (file, least) in [(&array, 0), (&packed, 2), (&stored, 4), (&deflated, 4)] {
            for length in least..file.len() {
                assert!(read(&file[..length]).is_err(), "{length}");
            }
        }
    }
}
