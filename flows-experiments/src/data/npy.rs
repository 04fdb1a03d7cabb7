//! NumPy's array files, format 1 to 3: a magic, a header in Python's notation, numbers.
//!
//! `numpy.lib.format`, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{BufReader, Read};

use super::DataError;
use super::source::{Bad, Bytes, Layout};

/// The first bytes of every such file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy itself refuses longer headers by default.
const LARGEST_HEADER: usize = 10_000;

/// The rows of a matrix; a vector is one column, and of an array of more dimensions the first one counts
/// rows.
pub(super) struct NpyRows {
    bytes: BufReader<Bytes>,
    number: Number,
    columns: usize,
    rows: usize,
    read: usize,
    buffer: Vec<u8>,
}

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    kind: Kind,
    size: usize,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl Number {
    fn parse(descr: &str) -> Option<Self> {
        let mut letters = descr.chars();
        let big_endian = match letters.next()? {
            '>' => true,
            '<' | '|' | '=' => false,
            _ => return None,
        };
        let kind = match letters.next()? {
            'f' => Kind::Float,
            'i' => Kind::Signed,
            'u' | 'b' => Kind::Unsigned,
            _ => return None,
        };
        let size = letters.as_str().parse().ok()?;
        let known = match kind {
            Kind::Float => [4, 8].contains(&size),
            _ => [1, 2, 4, 8].contains(&size),
        };
        known.then_some(Self {
            kind,
            size,
            big_endian,
        })
    }

    fn read(self, bytes: &[u8]) -> f64 {
        let mut raw = [0u8; 8];
        for (place, byte) in raw.iter_mut().zip(0..self.size) {
            let at = if self.big_endian {
                self.size - 1 - byte
            } else {
                byte
            };
            *place = bytes[at];
        }
        let bits = u64::from_le_bytes(raw);
        match (self.kind, self.size) {
            (Kind::Float, 4) => f64::from(f32::from_bits(bits as u32)),
            (Kind::Float, _) => f64::from_bits(bits),
            (Kind::Unsigned, _) => bits as f64,
            (Kind::Signed, size) => {
                let unused = 64 - 8 * size as u32;
                (((bits << unused) as i64) >> unused) as f64
            }
        }
    }
}

impl NpyRows {
    pub(super) fn open(
        mut bytes: BufReader<Bytes>,
        origin: &str,
    ) -> Result<(Layout, Self), DataError> {
        let format = |reason: String| DataError::Format {
            origin: origin.to_owned(),
            reason,
        };
        let truncated = || format("ends within the header of an npy file".to_owned());
        let mut fixed = [0u8; 8];
        bytes.read_exact(&mut fixed).map_err(|_| truncated())?;
        let length = match fixed[6] {
            1 => {
                let mut length = [0u8; 2];
                bytes.read_exact(&mut length).map_err(|_| truncated())?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0u8; 4];
                bytes.read_exact(&mut length).map_err(|_| truncated())?;
                u32::from_le_bytes(length) as usize
            }
            version => {
                let reason = format!("is npy format {version}, expected 1, 2 or 3");
                return Err(format(reason));
            }
        };
        if length > LARGEST_HEADER {
            let reason = format!("claims an npy header of {length} bytes");
            return Err(format(reason));
        }
        let mut header = vec![0u8; length];
        bytes.read_exact(&mut header).map_err(|_| truncated())?;
        let header = String::from_utf8_lossy(&header);
        let unclear = |what: &str| format(format!("its npy header has no {what}"));

        let descr = value(&header, "descr").ok_or_else(|| unclear("'descr'"))?;
        let descr = descr.trim_matches(['\'', '"']);
        let number = Number::parse(descr).ok_or_else(|| {
            format(format!(
                "holds numbers of type '{descr}', expected a real float or integer type"
            ))
        })?;
        let order = value(&header, "fortran_order").ok_or_else(|| unclear("'fortran_order'"))?;
        let shape = value(&header, "shape").ok_or_else(|| unclear("'shape'"))?;
        let sizes = shape.trim_matches(['(', ')']).split(',').map(str::trim);
        let sizes: Option<Vec<usize>> = sizes
            .filter(|size| !size.is_empty())
            .map(|size| size.parse().ok())
            .collect();
        let (rows, columns) = match sizes.as_deref() {
            // Images become rows of pixels.
            Some(&[rows, ref rest @ ..]) => {
                let columns = rest.iter().fold(1usize, |n, s| n.saturating_mul(*s));
                (rows, columns)
            }
            _ => {
                let reason = format!("is an array of shape {shape}, expected rows and columns");
                return Err(format(reason));
            }
        };
        if order == "True" && columns > 1 && rows > 1 {
            let reason = "is stored column by column; save numpy.ascontiguousarray of it";
            return Err(format(reason.to_owned()));
        }
        if columns == 0 || rows == 0 {
            return Err(format(format!(
                "is an array of shape {shape}, which is empty"
            )));
        }
        // A row is read whole, so its claim has to be modest.
        if columns > 1 << 20 {
            return Err(format(format!("claims {columns} columns")));
        }
        let layout = Layout {
            columns,
            names: None,
            recognised: format!("npy, {rows} x {columns} of type '{descr}'"),
            rows: Some(rows),
        };
        let rows = Self {
            bytes,
            number,
            columns,
            rows,
            read: 0,
            buffer: vec![0; columns * number.size],
        };
        Ok((layout, rows))
    }

    /// The row read last, from 1.
    pub(super) fn row(&self) -> usize {
        self.read
    }

    /// Goes to the next row; whether there is one.
    pub(super) fn next_row(&mut self, origin: &str) -> Result<bool, DataError> {
        if self.read == self.rows {
            // The end of an archive's array is where its checksum is compared.
            let end = self.bytes.read(&mut [0]);
            return match end {
                Ok(_) => Ok(false),
                Err(source) => Err(DataError::Read {
                    origin: origin.to_owned(),
                    source,
                }),
            };
        }
        if let Err(source) = self.bytes.read_exact(&mut self.buffer) {
            return Err(match source.kind() {
                std::io::ErrorKind::UnexpectedEof => DataError::Format {
                    origin: origin.to_owned(),
                    reason: format!("ends after {} of {} rows", self.read, self.rows),
                },
                _ => DataError::Read {
                    origin: origin.to_owned(),
                    source,
                },
            });
        }
        self.read += 1;
        debug_assert_eq!(self.buffer.len(), self.columns * self.number.size);
        Ok(true)
    }

    /// A value of the row read last.
    pub(super) fn value(&self, column: usize) -> Result<f64, Bad> {
        let number = self.number.read(&self.buffer[column * self.number.size..]);
        if number.is_nan() {
            return Err(Bad::Missing);
        }
        if number.is_infinite() {
            return Err(Bad::Infinite(number.to_string()));
        }
        Ok(number)
    }
}

/// The text of a key's value in the header, a Python dictionary of literals.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let quoted = [format!("'{key}'"), format!("\"{key}\"")];
    let at = quoted
        .iter()
        .find_map(|q| header.find(q.as_str()).map(|at| at + q.len()))?;
    let rest = header[at..].trim_start().strip_prefix(':')?.trim_start();
    let end = if rest.starts_with('(') {
        rest.find(')')? + 1
    } else {
        rest.find([',', '}'])?
    };
    Some(rest[..end].trim())
}

/// The header of a matrix of `f64` with `rows` rows; its length does not depend on `rows`.
pub(super) fn header(rows: usize, columns: Option<usize>) -> Vec<u8> {
    let shape = match columns {
        None => format!("({rows},)"),
        Some(columns) => format!("({rows}, {columns})"),
    };
    let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
    const LENGTH: usize = 128 - 10;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(LENGTH as u16).to_le_bytes());
    bytes.extend_from_slice(format!("{text:<width$}\n", width = LENGTH - 1).as_bytes());
    bytes
}
