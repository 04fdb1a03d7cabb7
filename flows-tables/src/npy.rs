//! NumPy's array files, as `numpy.save` of Python 2 and 3 writes them.
//!
//! `numpy.lib.format`, <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::io::{BufReader, Read, Seek, SeekFrom};

use npyz::{DType, Deserialize, NpyHeader, Order, TypeChar, TypeRead};

use super::DataError;
use super::bytes::{Bytes, count, fill, spool};
use super::source::{Bad, Layout};

/// The first bytes of every such file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy itself refuses longer headers by default.
const LARGEST_HEADER: usize = 10_000;

/// Bytes of a block of rows that are stored column by column.
const BLOCK: usize = 1 << 22;

/// The rows of an array: a vector is one column, a structured array has a column for each field, and of an
/// array of more dimensions the first one counts rows.
pub(super) struct NpyRows {
    stored: Stored,
    /// The numbers of an element: one, or the fields of a structured array.
    numbers: Vec<Number>,
    /// Bytes of an element.
    element: usize,
    rows: usize,
    read: usize,
    row: Vec<u8>,
}

/// Where a number lies in an element, and how its bytes are read.
struct Number {
    offset: usize,
    size: usize,
    descr: String,
    read: Option<ReadNumber>,
}

type ReadNumber = Box<dyn Fn(&[u8]) -> f64 + Send>;

enum Stored {
    RowByRow(BufReader<Bytes>),
    /// The elements of a column lie together, in Fortran's order.
    ColumnByColumn {
        file: tempfile::SpooledTempFile,
        /// Where each column begins, in elements.
        starts: Vec<u64>,
        /// Rows that are in memory, one after the other, and the next of them.
        block: Vec<u8>,
        next: usize,
    },
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
        let header = header_of(&mut bytes).map_err(format)?;
        let (numbers, names) = numbers(&header.dtype()).map_err(format)?;
        let shape: Vec<usize> = header.shape().iter().map(|&size| size as usize).collect();
        let shown = shape
            .iter()
            .map(|size| format!("{size}, "))
            .collect::<String>();
        let empty = || {
            format(format!(
                "is an array of shape ({}), expected rows and columns",
                shown.trim_end()
            ))
        };
        let (&rows, rest) = shape.split_first().ok_or_else(empty)?;
        let elements = rest.iter().fold(1usize, |n, size| n.saturating_mul(*size));
        let columns = elements.saturating_mul(numbers.len());
        if rows == 0 || columns == 0 {
            return Err(empty());
        }
        // A row is read whole, so its claim has to be modest.
        if columns > 1 << 20 {
            return Err(format(format!("claims {columns} columns")));
        }
        let element = numbers.iter().map(|number| number.size).sum::<usize>();
        let stored = match header.order() {
            Order::Fortran if elements > 1 && rows > 1 => {
                let mut file = spool(bytes, origin)?;
                let held = file.seek(SeekFrom::End(0)).unwrap_or(0);
                let whole = (rows as u64).saturating_mul((elements * element) as u64);
                if held < whole {
                    let reason = format!("ends after {held} of {whole} bytes of numbers");
                    return Err(format(reason));
                }
                Stored::ColumnByColumn {
                    file,
                    starts: (0..elements)
                        .map(|c| start(c, rest, header.strides()))
                        .collect(),
                    block: Vec::new(),
                    next: 0,
                }
            }
            _ => Stored::RowByRow(bytes),
        };
        let descr = header.dtype().descr();
        let layout = Layout {
            columns,
            names: names.filter(|_| elements == 1),
            recognised: format!("npy, {rows} x {columns} of type {descr}"),
            rows: Some(rows),
            notes: Vec::new(),
        };
        let rows = Self {
            stored,
            numbers,
            element,
            rows,
            read: 0,
            row: vec![0; elements * element],
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
            return Ok(false);
        }
        let read = match &mut self.stored {
            Stored::RowByRow(bytes) => bytes.read_exact(&mut self.row),
            Stored::ColumnByColumn {
                file,
                starts,
                block,
                next,
            } => {
                let (left, width) = (self.rows - self.read, self.row.len());
                let filled = match *next == block.len() {
                    true => {
                        *next = 0;
                        let rows = left.min((BLOCK / width).max(1));
                        transpose(file, starts, self.read, rows, self.element, block)
                    }
                    false => Ok(()),
                };
                filled.map(|()| {
                    self.row.copy_from_slice(&block[*next..][..width]);
                    *next += width;
                })
            }
        };
        if let Err(source) = read {
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
        Ok(true)
    }

    /// Whether the number of this column has more digits than are kept.
    pub(super) fn is_rounded(&self, column: usize) -> bool {
        let number = &self.numbers[column % self.numbers.len()];
        number.descr.ends_with("i8'") || number.descr.ends_with("u8'")
    }

    /// A value of the row read last.
    pub(super) fn value(&self, column: usize) -> Result<f64, Bad> {
        let number = &self.numbers[column % self.numbers.len()];
        let at = column / self.numbers.len() * self.element + number.offset;
        let Some(read) = &number.read else {
            return Err(Bad::Unusable(format!(
                "type {} is not a number",
                number.descr
            )));
        };
        match read(&self.row[at..at + number.size]) {
            number if number.is_nan() => Err(Bad::Missing),
            number if number.is_infinite() => {
                Err(Bad::Unusable(format!("'{number}' is not finite")))
            }
            number => Ok(number),
        }
    }
}

/// Reads `rows` rows from `first` into `block`, row by row.
fn transpose(
    file: &mut tempfile::SpooledTempFile,
    starts: &[u64],
    first: usize,
    rows: usize,
    element: usize,
    block: &mut Vec<u8>,
) -> std::io::Result<()> {
    let width = starts.len() * element;
    block.resize(rows * width, 0);
    let mut column = vec![0; rows * element];
    for (i, start) in starts.iter().enumerate() {
        file.seek(SeekFrom::Start((start + first as u64) * element as u64))?;
        file.read_exact(&mut column)?;
        for (row, bytes) in column.chunks_exact(element).enumerate() {
            block[row * width + i * element..][..element].copy_from_slice(bytes);
        }
    }
    Ok(())
}

/// Where a column begins, in elements: its place in every dimension but the first, times the stride there.
fn start(mut column: usize, sizes: &[usize], strides: &[u64]) -> u64 {
    let mut start = 0;
    for (size, stride) in sizes.iter().zip(&strides[1..]).rev() {
        start += (column % size) as u64 * stride;
        column /= size;
    }
    start
}

/// The header, with what Python 2 writes in the notation of Python 3.
fn header_of(bytes: &mut impl Read) -> Result<NpyHeader, String> {
    const PART: &str = "the header of an npy file";
    let mut fixed = [0u8; 8];
    fill(bytes, &mut fixed, PART)?;
    let mut length = [0u8; 4];
    let digits = match fixed[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(format!("is npy format {version}, expected 1, 2 or 3")),
    };
    fill(bytes, &mut length[..digits], PART)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LARGEST_HEADER {
        return Err(format!("claims an npy header of {length} bytes"));
    }
    let mut text = vec![0u8; length];
    fill(bytes, &mut text, PART)?;
    let text = String::from_utf8_lossy(&text);
    let text = modern(text.trim_end()).ok_or("has an npy header that claims too much")?;
    let header = [
        MAGIC,
        &[3, 0],
        &(text.len() as u32).to_le_bytes(),
        text.as_bytes(),
    ]
    .concat();
    NpyHeader::from_reader(&header[..]).map_err(|e| {
        let text = e.to_string();
        let first = text.lines().next().unwrap_or_default();
        format!(
            "has no npy header of an array: {}",
            first.trim_end_matches(':')
        )
    })
}

/// Python 2 writes `(200L, 3L)`, and some writers `'=f8'`. `None` for what could make the parser of the header
/// recurse too deep, or the product of its sizes overflow.
fn modern(text: &str) -> Option<String> {
    const DEEPEST: usize = 8;
    if text.contains('\\') || text.contains("'''") || text.contains("\"\"\"") {
        return None;
    }
    let mut modern = String::with_capacity(text.len());
    let (mut quote, mut depth) = (None, 0usize);
    let (mut size, mut sizes) = (String::new(), Vec::new());
    for letter in text.chars().chain([' ']) {
        if quote.is_none() && letter.is_ascii_digit() {
            size.push(letter);
        } else if !size.is_empty() {
            let digits = std::mem::take(&mut size);
            sizes.push(digits.parse::<usize>().ok()?.max(1));
            if letter == 'L' {
                continue;
            }
        }
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
        let begins = modern.ends_with(['\'', '"']);
        let native = if cfg!(target_endian = "big") {
            '>'
        } else {
            '<'
        };
        modern.push(if begins && letter == '=' {
            native
        } else {
            letter
        });
    }
    count(&sizes)?;
    Some(modern)
}

/// The numbers of an element, and their names in a structured array.
fn numbers(dtype: &DType) -> Result<(Vec<Number>, Option<Vec<String>>), String> {
    if let DType::Record(fields) = dtype {
        let mut offset = 0;
        let mut numbers = Vec::new();
        for field in fields {
            let descr = field.dtype.descr();
            let size = field.dtype.num_bytes();
            let size = size.filter(|size| *size <= 1 << 20);
            let size =
                size.ok_or_else(|| format!("has a field of type {descr}; save it without that"))?;
            let read = reader(&field.dtype);
            numbers.push(Number {
                offset,
                size,
                descr,
                read,
            });
            offset += size;
        }
        let names = fields.iter().map(|field| field.name.clone());
        return Ok((numbers, Some(names.collect())));
    }
    let descr = dtype.descr();
    let advice = match dtype {
        DType::Plain(plain) => match plain.type_char() {
            TypeChar::Complex => "; save its real and imaginary parts as columns",
            TypeChar::DateTime | TypeChar::TimeDelta => "; save x.astype('int64')",
            TypeChar::Object => "; save x.astype(float)",
            _ => "",
        },
        _ => "",
    };
    let unknown =
        || format!("holds values of type {descr}, expected a real float or integer type{advice}");
    let read = reader(dtype).ok_or_else(unknown)?;
    let size = dtype.num_bytes().ok_or_else(unknown)?;
    let number = Number {
        offset: 0,
        size,
        descr: descr.clone(),
        read: Some(read),
    };
    Ok((vec![number], None))
}

/// How the bytes of a real number are read.
fn reader(dtype: &DType) -> Option<ReadNumber> {
    fn of<T>(dtype: &DType, number: fn(T) -> f64) -> Option<ReadNumber>
    where
        T: Deserialize + 'static,
        T::TypeReader: Send + 'static,
    {
        let reader = T::reader(dtype).ok()?;
        // No bytes but those of a boolean can be wrong.
        Some(Box::new(move |bytes| {
            reader.read_one(bytes).map_or(f64::NAN, number)
        }))
    }
    let DType::Plain(plain) = dtype else {
        return None;
    };
    match plain.type_char() {
        TypeChar::Bool => of::<bool>(dtype, f64::from),
        TypeChar::Float => of::<f64>(dtype, |v| v)
            .or_else(|| of::<f32>(dtype, f64::from))
            .or_else(|| of::<npyz::half::f16>(dtype, f64::from)),
        TypeChar::Int => of::<i64>(dtype, |v| v as f64)
            .or_else(|| of::<i32>(dtype, f64::from))
            .or_else(|| of::<i16>(dtype, f64::from))
            .or_else(|| of::<i8>(dtype, f64::from)),
        TypeChar::Uint => of::<u64>(dtype, |v| v as f64)
            .or_else(|| of::<u32>(dtype, f64::from))
            .or_else(|| of::<u16>(dtype, f64::from))
            .or_else(|| of::<u8>(dtype, f64::from)),
        _ => None,
    }
}

/// The header of a matrix of `f64` with `rows` rows; its length does not depend on `rows`, which is known last.
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
