//! NumPy's archives: a zip file of npy files, stored or deflated.
//!
//! *.ZIP File Format Specification* (PKWARE, APPNOTE 6.3), sections 4.3.7 and 4.5.3. Read from its
//! beginning, so that it may come from a pipe: the directory at the end is not looked at.

use std::io::{self, Read};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::bytes::fill;
use super::source::Bytes;

/// The first bytes of every such file.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// Size that stands in an additional field, because it needs eight bytes or was written before it was
/// known.
const ELSEWHERE: u32 = u32::MAX;

/// The name and the bytes of the first array. Reading to the end compares length and checksum.
pub(super) fn first_array(mut file: Bytes) -> Result<(String, Bytes), String> {
    let mut header = [0; 30];
    fill(&mut file, &mut header, "the header of a zip file")?;
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    let (flags, method, crc) = (short(6), short(8), long(14));
    let (packed, size) = (long(18), long(22));
    let mut name = vec![0; usize::from(short(26))];
    fill(&mut file, &mut name, "the name of an array")?;
    let mut extra = vec![0; usize::from(short(28))];
    fill(&mut file, &mut extra, "the header of a zip file")?;

    let name = String::from_utf8_lossy(&name).into_owned();
    let Some(array) = name.strip_suffix(".npy") else {
        let name = name.escape_debug();
        return Err(format!(
            "is a zip archive that begins with '{name}', expected an npz"
        ));
    };
    const ENCRYPTED: u16 = 1;
    const SIZES_FOLLOW: u16 = 1 << 3;
    if flags & ENCRYPTED != 0 {
        return Err("is an encrypted archive".to_owned());
    }
    let known = flags & SIZES_FOLLOW == 0;
    let mut wide = wide_sizes(&extra).into_iter();
    let mut size_of = |size: u32| match size {
        ELSEWHERE => wide.next(),
        size => Some(u64::from(size)),
    };
    // In the order in which the additional field has them.
    let (size, packed) = (size_of(size), size_of(packed));
    let bytes: Bytes = match (method, packed) {
        (0, Some(packed)) if known => Box::new(file.take(packed)),
        (8, Some(packed)) if known => Box::new(DeflateDecoder::new(file.take(packed))),
        // The end of a deflated stream is found without its length.
        (8, _) => Box::new(DeflateDecoder::new(file)),
        (0, _) => return Err("stores an array of unknown length; write it to a file".to_owned()),
        (method, _) => return Err(format!("is packed by zip method {method}, expected 0 or 8")),
    };
    let checked = Checked {
        bytes,
        crc: Crc::new(),
        expected: known.then_some((crc, size)),
    };
    Ok((array.to_owned(), Box::new(checked)))
}

/// The numbers of the zip64 field, up to two of which stand for sizes.
fn wide_sizes(mut extra: &[u8]) -> Vec<u64> {
    const ZIP64: u16 = 1;
    while let [a, b, c, d, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*c, *d])).min(rest.len());
        let (field, after) = rest.split_at(length);
        if u16::from_le_bytes([*a, *b]) == ZIP64 {
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
            return field.chunks_exact(8).take(2).map(number).collect();
        }
        extra = after;
    }
    Vec::new()
}

/// Bytes whose end is compared with what the header says of them.
struct Checked {
    bytes: Bytes,
    crc: Crc,
    /// Checksum and, where it is known, length.
    expected: Option<(u32, Option<u64>)>,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.crc.update(&buffer[..read]);
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        // `Crc` counts modulo 2^32.
        let differs = self.expected.is_some_and(|(crc, size)| {
            crc != self.crc.sum() || size.is_some_and(|size| size as u32 != self.crc.amount())
        });
        match differs {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the array is damaged: its checksum or length differs",
            )),
            false => Ok(0),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use flate2::{Compression, write::DeflateEncoder};
    use std::io::{Cursor, Write};

    /// An archive as NumPy writes it, by Python's `zipfile` with `force_zip64`, deflated or not; the
    /// directory at its end is left out.
    pub(in crate::data) fn archive(name: &str, array: &[u8], deflated: bool) -> Vec<u8> {
        let mut crc = Crc::new();
        crc.update(array);
        let mut data = array.to_vec();
        if deflated {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(array).unwrap();
            data = encoder.finish().unwrap();
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend([45, 0, 0, 0, if deflated { 8 } else { 0 }, 0, 0, 0, 0x21, 0]);
        bytes.extend(crc.sum().to_le_bytes());
        bytes.extend([0xff; 8]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([20, 0]);
        bytes.extend(name.as_bytes());
        bytes.extend([1, 0, 16, 0]);
        bytes.extend((array.len() as u64).to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        bytes.extend(data);
        bytes
    }

    fn read(file: &[u8]) -> Result<(String, Vec<u8>), String> {
        let (name, mut bytes) = first_array(Box::new(Cursor::new(file.to_vec())))?;
        let mut all = Vec::new();
        bytes.read_to_end(&mut all).map_err(|e| e.to_string())?;
        Ok((name, all))
    }

    /// The beginning of what Python 3's `zipfile` wrote for `arr_0.npy`, deflated.
    const PYTHON: &str = "504b03042d000000080000002100a357bd5bffffffffffffffff090014006172725f302e6e707901001000a00000\
        000000000055000000000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9366a1aea3a09e965f5452\
        9498179f5f94920a12774bcc294e058a17672416a402f91a463a0a469a3a0ab50a64032e0630f8600fa1191c2014\
        079416720000";

    #[test]
    fn what_python_writes_is_read() {
        let digits = PYTHON.as_bytes().chunks(2);
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        let file: Vec<u8> = digits.map(byte).collect();
        let (name, bytes) = read(&file).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(name, "arr_0");
        assert!(bytes.starts_with(b"\x93NUMPY") && bytes.len() == 160);
    }

    #[test]
    fn damage_and_foreign_archives_are_refused() {
        let array = [7u8; 300];
        for deflated in [false, true] {
            let file = archive("x.npy", &array, deflated);
            assert_eq!(read(&file), Ok(("x".to_owned(), array.to_vec())));
            for length in 0..file.len() {
                assert!(read(&file[..length]).is_err(), "{length}");
            }
            let mut damaged = file.clone();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(read(&damaged).is_err());
        }
        let sheet = archive("[Content_Types].xml", &array, true);
        assert!(read(&sheet).unwrap_err().contains("[Content_Types].xml"));
        for (at, value, words) in [(6, 1, "encrypted"), (6, 8, "unknown"), (8, 9, "method 9")] {
            let mut file = archive("x.npy", &array, false);
            file[at] = value;
            assert!(read(&file).unwrap_err().contains(words), "{words}");
        }
    }
}
