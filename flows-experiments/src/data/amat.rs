//! The amat format of Larochelle's binarized MNIST: numbers as text, one row a line.

use std::io::Read;
use std::path::Path;

use flows_tables::DataError;
use flows_tables::bytes::open;

/// Longest number in bytes: beyond it a file is no table of numbers.
const LONGEST: usize = 64;

/// Rows of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct AmatArray {
    /// Numbers in a row.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Reads rows of numbers between spaces, gzipped or not. Empty lines are skipped.
///
/// # Errors
/// [`DataError`] naming the file, the line, and what is wrong with it.
pub fn read_amat(path: &Path) -> Result<AmatArray, DataError> {
    parse(open(path)?).map_err(|reason| DataError::Format {
        origin: path.display().to_string(),
        reason,
    })
}

/// As [`read_amat`], from unpacked bytes.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn parse(mut bytes: impl Read) -> Result<AmatArray, String> {
    let mut rows = Rows::default();
    let mut chunk = [0; 1 << 15];
    loop {
        let read = bytes.read(&mut chunk).map_err(|e| e.to_string())?;
        if read == 0 {
            break;
        }
        for &byte in &chunk[..read] {
            rows.take(byte)?;
        }
    }
    rows.end_line()?;
    match rows.width {
        Some(width) => Ok(AmatArray {
            width,
            values: rows.values,
        }),
        None => Err("holds no numbers".to_owned()),
    }
}

/// What has been read so far.
#[derive(Default)]
struct Rows {
    width: Option<usize>,
    values: Vec<f32>,
    /// Of the number under way.
    digits: Vec<u8>,
    /// Numbers of the line under way.
    in_line: usize,
    /// Lines that have ended.
    lines: usize,
}

impl Rows {
    fn take(&mut self, byte: u8) -> Result<(), String> {
        match byte {
            b'\n' => self.end_line(),
            b' ' | b'\t' | b'\r' => self.end_number(),
            _ if self.digits.len() == LONGEST => Err(format!(
                "line {}: a number of more than {LONGEST} characters",
                self.lines + 1
            )),
            _ => {
                self.digits.push(byte);
                Ok(())
            }
        }
    }

    fn end_number(&mut self) -> Result<(), String> {
        let value = match &self.digits[..] {
            [] => return Ok(()),
            b"0" => 0.0,
            b"1" => 1.0,
            digits => {
                let text = String::from_utf8_lossy(digits);
                let value = text.parse::<f32>().ok().filter(|v| v.is_finite());
                let line = self.lines + 1;
                value.ok_or_else(|| {
                    format!("line {line}: '{}' is not a number", text.escape_debug())
                })?
            }
        };
        self.values.push(value);
        self.in_line += 1;
        self.digits.clear();
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), String> {
        self.end_number()?;
        self.lines += 1;
        let found = std::mem::take(&mut self.in_line);
        if found == 0 {
            return Ok(());
        }
        let width = *self.width.get_or_insert(found);
        if width == found {
            return Ok(());
        }
        let line = self.lines;
        Err(format!(
            "line {line} holds {found} numbers, expected {width}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows_tables::bytes::fuzz::mutations;

    #[test]
    fn rows_are_read_and_their_lengths_compared() {
        let array = parse(&b"0 1 0\n\n1 0.5 1e-1 \r\n"[..]).unwrap();
        assert_eq!(array.width, 3);
        assert_eq!(array.values, [0.0, 1.0, 0.0, 1.0, 0.5, 0.1]);
        for (text, expected) in [
            ("0 1\n0", "line 2 holds 1 numbers, expected 2"),
            ("0 x\n", "line 1: 'x' is not a number"),
            ("0 nan\n", "'nan'"),
            ("\n \n", "no numbers"),
            ("", "no numbers"),
        ] {
            let reason = parse(text.as_bytes()).unwrap_err();
            assert!(reason.contains(expected), "{text:?}: {reason}");
        }
        let long = "1".repeat(1000);
        assert!(parse(long.as_bytes()).unwrap_err().contains("characters"));
    }

    #[test]
    fn changed_files_are_refused_or_read_and_never_panic() {
        let file = b"0 1 1 0\n1 1 0 0\n0.25 1 0 1\n";
        for bytes in mutations(file, 4000, 2) {
            if let Ok(array) = parse(&bytes[..]) {
                assert_eq!(array.values.len() % array.width, 0);
                assert!(array.values.len() <= bytes.len());
            }
        }
    }
}
