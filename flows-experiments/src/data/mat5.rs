//! Numeric arrays of MAT files, version 5.
//!
//! *MAT-File Format* (MathWorks): a header of 128 bytes, then data elements, each a tag with type
//! and size before its data; a compressed element is a zlib stream that holds one element. Arrays
//! are stored column by column.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::ZlibDecoder;

use flows_tables::DataError;
use flows_tables::bytes::{count, fill, open};

/// A numeric array.
#[derive(Debug, Clone, PartialEq)]
pub struct MatArray {
    /// Its sizes; the first index runs fastest.
    pub shape: Vec<usize>,
    /// Its numbers, column by column.
    pub values: Vec<f64>,
}

/// Most numbers of one array, two gigabytes of them: a compressed file can claim, and hold, far
/// more.
const MOST: usize = 1 << 28;
/// Longest name in bytes.
const LONGEST_NAME: u64 = 256;
/// Most dimensions of an array.
const MOST_DIMENSIONS: u64 = 16;

/// Reads the arrays of these names, those that are there; others are not unpacked.
///
/// # Errors
/// [`DataError`] naming the file and what is wrong with it.
pub fn read_mat(path: &Path, names: &[&str]) -> Result<BTreeMap<String, MatArray>, DataError> {
    parse(open(path)?, names).map_err(|reason| DataError::Format {
        origin: path.display().to_string(),
        reason,
    })
}

/// As [`read_mat`], from bytes.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut file: impl Read, names: &[&str]) -> Result<BTreeMap<String, MatArray>, String> {
    let mut header = [0; 128];
    fill(&mut file, &mut header, "its header")?;
    if header.starts_with(b"MATLAB 7.3") {
        return Err("is of version 7.3 (HDF5), expected version 5".to_owned());
    }
    let order = match &header[126..] {
        b"IM" => Order::Little,
        b"MI" => Order::Big,
        _ => return Err("is no MAT file of version 5".to_owned()),
    };
    let mut found = BTreeMap::new();
    while found.len() < names.len() {
        let Some(tag) = Tag::read(&mut file, order)? else {
            break;
        };
        let mut element = (&mut file).take(tag.size);
        let array = match tag.kind {
            Tag::COMPRESSED => {
                let mut unpacked = ZlibDecoder::new(&mut element);
                let inner = Tag::read(&mut unpacked, order)?
                    .ok_or_else(|| "holds an empty compressed element".to_owned())?;
                if inner.kind == Tag::MATRIX {
                    matrix(&mut unpacked.take(inner.size), order, names)?
                } else {
                    None
                }
            }
            Tag::MATRIX => matrix(&mut element, order, names)?,
            _ => None,
        };
        io::copy(&mut element, &mut io::sink()).map_err(|e| e.to_string())?;
        if element.limit() > 0 {
            return Err("ends within an element".to_owned());
        }
        found.extend(array);
    }
    Ok(found)
}

/// Byte order of a file.
#[derive(Debug, Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// What stands before data.
#[derive(Debug)]
struct Tag {
    kind: u32,
    /// Bytes of data.
    size: u64,
    /// The data itself, where it is at most four bytes and stands in the tag.
    small: Option<[u8; 4]>,
}

impl Tag {
    const MATRIX: u32 = 14;
    const COMPRESSED: u32 = 15;

    /// The next tag; `None` where nothing follows.
    fn read(bytes: &mut impl Read, order: Order) -> Result<Option<Self>, String> {
        let mut first = [0; 1];
        if bytes.read(&mut first).map_err(|e| e.to_string())? == 0 {
            return Ok(None);
        }
        let mut rest = [0; 7];
        fill(bytes, &mut rest, "a tag")?;
        let word = order.word([first[0], rest[0], rest[1], rest[2]]);
        let data = [rest[3], rest[4], rest[5], rest[6]];
        if word >> 16 == 0 {
            return Ok(Some(Self {
                kind: word,
                size: u64::from(order.word(data)),
                small: None,
            }));
        }
        let size = u64::from(word >> 16);
        if size > 4 {
            return Err(format!("holds a small element of {size} bytes"));
        }
        Ok(Some(Self {
            kind: word & 0xffff,
            size,
            small: Some(data),
        }))
    }

    fn require(bytes: &mut impl Read, order: Order) -> Result<Self, String> {
        Self::read(bytes, order)?.ok_or_else(|| "ends within an array".to_owned())
    }

    /// The data of this tag, which has to be of one of these kinds and at most `most` bytes.
    fn data(
        &self,
        bytes: &mut impl Read,
        kinds: &[u32],
        most: u64,
        part: &str,
    ) -> Result<Vec<u8>, String> {
        if !kinds.contains(&self.kind) || self.size > most {
            let (kind, size) = (self.kind, self.size);
            return Err(format!("{part} is of type {kind} with {size} bytes"));
        }
        let size = self.size as usize;
        if let Some(small) = self.small {
            return Ok(small[..size].to_vec());
        }
        let mut data = vec![0; size];
        fill(bytes, &mut data, part)?;
        let mut padding = [0; 8];
        fill(bytes, &mut padding[..size.next_multiple_of(8) - size], part)?;
        Ok(data)
    }
}

/// An array, where it is one of numbers and wanted.
fn matrix(
    bytes: &mut impl Read,
    order: Order,
    names: &[&str],
) -> Result<Option<(String, MatArray)>, String> {
    const UINT32: u32 = 6;
    const INT32: u32 = 5;
    const INT8: u32 = 1;
    const UINT8: u32 = 2;
    const UTF8: u32 = 16;

    let tag = Tag::require(bytes, order)?;
    let flags = tag.data(bytes, &[UINT32], 8, "the class of an array")?;
    let [a, b, c, d, ..] = flags[..] else {
        return Err("the class of an array is cut off".to_owned());
    };
    let flags = order.word([a, b, c, d]);
    let class = flags & 0xff;
    let complex = flags & 0x0800 != 0;

    let tag = Tag::require(bytes, order)?;
    let sizes = tag.data(
        bytes,
        &[INT32],
        4 * MOST_DIMENSIONS,
        "the shape of an array",
    )?;
    let sizes = sizes
        .chunks_exact(4)
        .map(|s| order.word([s[0], s[1], s[2], s[3]]));
    let shape = sizes.map(|size| size as usize).collect::<Vec<_>>();
    let tag = Tag::require(bytes, order)?;
    let name = tag.data(
        bytes,
        &[INT8, UINT8, UTF8],
        LONGEST_NAME,
        "the name of an array",
    )?;
    let name = String::from_utf8_lossy(&name).into_owned();
    // Classes 6 to 15 are numbers; others are cells, structures, texts.
    if !names.contains(&name.as_str()) || !(6..=15).contains(&class) {
        return Ok(None);
    }
    if complex {
        return Err(format!("'{name}' is complex, expected real numbers"));
    }
    let claimed = count(&shape).filter(|claimed| *claimed <= MOST && !shape.is_empty());
    let claimed = claimed.ok_or_else(|| format!("'{name}' claims the shape {shape:?}"))?;
    let tag = Tag::require(bytes, order)?;
    let number = Number::of(tag.kind)
        .ok_or_else(|| format!("'{name}' holds data of type {}, expected numbers", tag.kind))?;
    if tag.size != (claimed * number.width) as u64 {
        let size = tag.size;
        return Err(format!("'{name}' of shape {shape:?} claims {size} bytes"));
    }
    let mut values = Vec::new();
    match tag.small {
        Some(small) => number.push(&small[..tag.size as usize], order, &mut values),
        None => {
            let mut data = bytes.take(tag.size);
            let mut chunk = [0; 1 << 13];
            let mut left = tag.size as usize;
            // Chunk by chunk: memory follows what is there, not what is claimed.
            while left > 0 {
                let part = &mut chunk[..left.min(1 << 13)];
                fill(&mut data, part, &format!("'{name}'"))?;
                number.push(part, order, &mut values);
                left -= part.len();
            }
        }
    }
    Ok(Some((name, MatArray { shape, values })))
}

/// How numbers are stored.
#[derive(Clone, Copy)]
struct Number {
    width: usize,
    /// From bytes in little-endian order.
    value: fn([u8; 8]) -> f64,
}

impl Number {
    fn of(kind: u32) -> Option<Self> {
        fn first<const N: usize>(bytes: [u8; 8]) -> [u8; N] {
            std::array::from_fn(|i| bytes[i])
        }
        let (width, value): (usize, fn([u8; 8]) -> f64) = match kind {
            1 => (1, |b| f64::from(b[0] as i8)),
            2 => (1, |b| f64::from(b[0])),
            3 => (2, |b| f64::from(i16::from_le_bytes(first(b)))),
            4 => (2, |b| f64::from(u16::from_le_bytes(first(b)))),
            5 => (4, |b| f64::from(i32::from_le_bytes(first(b)))),
            6 => (4, |b| f64::from(u32::from_le_bytes(first(b)))),
            7 => (4, |b| f64::from(f32::from_le_bytes(first(b)))),
            9 => (8, f64::from_le_bytes),
            12 => (8, |b| i64::from_le_bytes(b) as f64),
            13 => (8, |b| u64::from_le_bytes(b) as f64),
            _ => return None,
        };
        Some(Self { width, value })
    }

    fn push(self, bytes: &[u8], order: Order, values: &mut Vec<f64>) {
        for number in bytes.chunks_exact(self.width) {
            let mut little = [0; 8];
            little[..self.width].copy_from_slice(number);
            if matches!(order, Order::Big) {
                little[..self.width].reverse();
            }
            values.push((self.value)(little));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::ZlibEncoder};
    use flows_tables::bytes::fuzz::mutations;
    use std::io::Write;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((data.len() as u32).to_le_bytes());
        bytes.extend(data);
        let padded = if kind == Tag::COMPRESSED {
            bytes.len()
        } else {
            bytes.len().next_multiple_of(8)
        };
        bytes.resize(padded, 0);
        bytes
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn array(name: &str, class: u32, shape: &[u32], kind: u32, data: &[u8]) -> Vec<u8> {
        let parts = [
            element(6, &words(&[class, 0])),
            element(5, &words(shape)),
            element(1, name.as_bytes()),
            element(kind, data),
        ];
        element(Tag::MATRIX, &parts.concat())
    }

    fn compressed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        element(Tag::COMPRESSED, &packed.finish().unwrap())
    }

    fn file(elements: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![b' '; 124];
        bytes.extend([0, 1, b'I', b'M']);
        bytes.extend(elements.concat());
        bytes
    }

    fn doubles(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn example() -> Vec<u8> {
        file(&[
            array("first", 9, &[2, 3], 2, &[1, 2, 3, 4, 5, 6]),
            compressed(&array("second", 6, &[1, 2], 9, &doubles(&[0.5, -1.0]))),
            // A small element: four bytes of data within the tag.
            array("third", 12, &[1, 2], 3, &[255, 255, 2, 0]),
        ])
    }

    #[test]
    fn arrays_are_found_by_name_compressed_or_not() {
        let found = parse(&example()[..], &["first", "second", "third", "none"]).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found["first"].shape, [2, 3]);
        assert_eq!(found["first"].values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(found["second"].values, [0.5, -1.0]);
        assert_eq!(found["third"].values, [-1.0, 2.0]);
        assert_eq!(parse(&example()[..], &["second"]).unwrap().len(), 1);
    }

    #[test]
    fn small_elements_stand_in_their_tag() {
        let mut name = words(&[(2 << 16) | 1]);
        name.extend(b"ab\0\0");
        let mut data = words(&[(2 << 16) | 2]);
        data.extend([7, 9, 0, 0]);
        let parts = [
            element(6, &words(&[9, 0])),
            element(5, &words(&[1, 2])),
            name,
            data,
        ];
        let bytes = file(&[element(Tag::MATRIX, &parts.concat())]);
        assert_eq!(parse(&bytes[..], &["ab"]).unwrap()["ab"].values, [7.0, 9.0]);
    }

    #[test]
    fn claims_are_checked_before_memory_is_taken() {
        // The second is empty by its last size, and its sizes cannot be multiplied.
        let most = u32::MAX;
        for shape in [&[most, most][..], &[most, most, most, 0]] {
            let huge = array("x", 9, shape, 2, &[]);
            let reason = parse(&file(&[huge])[..], &["x"]).unwrap_err();
            assert!(reason.contains("claims the shape"), "{reason}");
        }
        let unlike = array("x", 9, &[100, 100], 2, &[1, 2]);
        assert!(
            parse(&file(&[unlike])[..], &["x"])
                .unwrap_err()
                .contains("claims 2")
        );
        let mut cut = example();
        cut.truncate(cut.len() - 4);
        assert!(parse(&cut[..], &["third"]).is_err());
    }

    #[test]
    fn changed_files_are_refused_or_read_and_never_panic() {
        let example = example();
        let plain = mutations(&example, 8_000, 3);
        // The changes behind the compression as well, where a checksum does not catch them.
        let inner = array("second", 6, &[1, 2], 9, &doubles(&[0.5, -1.0]));
        let packed = mutations(&inner, 2_000, 4);
        let packed = packed.map(|bytes| file(&[compressed(&bytes)]));
        for bytes in plain.chain(packed) {
            if let Ok(found) = parse(&bytes[..], &["first", "second", "third"]) {
                for array in found.values() {
                    assert_eq!(array.values.len(), array.shape.iter().product::<usize>());
                }
            }
        }
    }
}
