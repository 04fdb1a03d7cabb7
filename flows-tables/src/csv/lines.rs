//! Text on its way to the `csv` crate, checked where that crate is lenient: a quoted field ends before a separator
//! or the end of a line, and at the latest before the end of the file; no record is longer than memory allows.
//! Lines end in `\n` afterwards, and a run of blanks between columns is one space.

use std::io::{self, BufRead, Read};

/// Longest record: a file without line breaks is not read into memory whole.
const LONGEST: u64 = 1 << 26;

/// Text that is no table, and its line.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct Broken {
    pub(super) line: u64,
    pub(super) reason: &'static str,
}

pub(super) struct Lines<R> {
    input: R,
    syntax: Syntax,
    ended: bool,
}

struct Syntax {
    separator: u8,
    comment: Option<u8>,
    at: At,
    line: u64,
    /// Line in which a quote was opened.
    opened: u64,
    /// Bytes since the record began.
    length: u64,
    /// The last byte was `\r`, which ended a line.
    returned: bool,
    /// Blanks since the last field, where blanks separate.
    gap: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Line,
    Field,
    Plain,
    Quoted,
    /// Behind a quote within a quoted field: its end, or the first of two.
    Quote,
    Comment,
}

impl<R: BufRead> Lines<R> {
    /// Text that begins in line `above + 1`.
    pub(super) fn new(input: R, separator: u8, comment: Option<u8>, above: u64) -> Self {
        let syntax = Syntax {
            separator,
            comment,
            at: At::Line,
            line: above + 1,
            opened: 0,
            length: 0,
            returned: false,
            gap: false,
        };
        Self {
            input,
            syntax,
            ended: false,
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        // A byte becomes two at most, with the space before it.
        while written + 2 <= out.len() {
            if self.ended {
                return Ok(written);
            }
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                self.ended = true;
                written += self.syntax.end(&mut out[written..])?;
                continue;
            }
            let mut used = 0;
            let mut broken = None;
            for &byte in input {
                if written + 2 > out.len() {
                    break;
                }
                match self.syntax.pass(byte, &mut out[written..]) {
                    Ok(bytes) => written += bytes,
                    // What was right before it comes first.
                    Err(_) if written > 0 => break,
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
                used += 1;
            }
            self.input.consume(used);
            match broken {
                Some(error) => return Err(error),
                None if written > 0 => return Ok(written),
                None => {}
            }
        }
        Ok(written)
    }
}

impl Syntax {
    fn broken(&self, line: u64, reason: &'static str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, Broken { line, reason })
    }

    /// Writes what a byte becomes. Where it is refused, nothing has changed.
    fn pass(&mut self, byte: u8, out: &mut [u8]) -> io::Result<usize> {
        if byte == b'\n' && self.returned {
            self.returned = false;
            return Ok(0);
        }
        let ends = matches!(byte, b'\n' | b'\r') && self.at != At::Quoted;
        let blank = self.separator == b' ' && matches!(byte, b' ' | b'\t') && self.at != At::Quoted;
        if self.at == At::Quote && byte != b'"' && !ends && !blank && byte != self.separator {
            let reason = "text follows the quote that ends a field; a quote within one is doubled, as in \"5\"\" pipe\"";
            return Err(self.broken(self.line, reason));
        }
        if self.length == LONGEST {
            return Err(self.broken(self.line, "the line is too long for a table"));
        }
        self.length += 1;
        self.returned = byte == b'\r' && ends;
        if ends {
            (self.at, self.length, self.gap) = (At::Line, 0, false);
            self.line += 1;
            out[0] = b'\n';
            return Ok(1);
        }
        self.line += u64::from(byte == b'\n');
        if blank {
            if !matches!(self.at, At::Line | At::Comment) {
                (self.at, self.gap) = (At::Field, true);
            }
            return Ok(0);
        }
        let mut written = 0;
        if std::mem::take(&mut self.gap) {
            out[0] = b' ';
            written = 1;
        }
        out[written] = byte;
        self.at = match (self.at, byte) {
            (At::Comment, _) => At::Comment,
            (At::Line, _) if self.comment == Some(byte) => At::Comment,
            (At::Quoted, b'"') => At::Quote,
            (At::Quoted, _) | (At::Quote, b'"') => At::Quoted,
            (At::Line | At::Field, b'"') => {
                self.opened = self.line;
                At::Quoted
            }
            (_, byte) if byte == self.separator => At::Field,
            _ => At::Plain,
        };
        Ok(written + 1)
    }

    /// Writes what is missing at the end of the file.
    fn end(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.at {
            At::Quoted => Err(self.broken(self.opened, "a quoted field is not closed")),
            At::Line => Ok(0),
            _ => {
                out[0] = b'\n';
                Ok(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, in pieces of two bytes, or the error.
    fn pass(text: &str, separator: u8) -> Result<String, String> {
        let mut lines = Lines::new(text.as_bytes(), separator, Some(b'%'), 0);
        let (mut all, mut piece) = (Vec::new(), [0; 2]);
        loop {
            match lines.read(&mut piece).map_err(|e| e.to_string())? {
                0 => return Ok(String::from_utf8(all).unwrap()),
                n => all.extend_from_slice(&piece[..n]),
            }
        }
    }

    #[test]
    fn line_ends_and_blanks_become_one() {
        assert_eq!(
            pass("a,b\r\n1,2\r3,4", b','),
            Ok("a,b\n1,2\n3,4\n".to_owned())
        );
        assert_eq!(
            pass("  a \t b  \n\"x  y\"  2\n", b' '),
            Ok("a b\n\"x  y\" 2\n".to_owned())
        );
        assert_eq!(
            pass("\"a\r\nb\",\"c\"\"d\"\n", b','),
            Ok("\"a\r\nb\",\"c\"\"d\"\n".to_owned())
        );
        assert_eq!(
            pass("%\" free\n5\",2\n", b','),
            Ok("%\" free\n5\",2\n".to_owned())
        );
    }

    #[test]
    fn quotes_that_would_merge_rows_are_refused_with_their_line() {
        let error = pass("a,b\n1,\"two\n3,\"four\n5,6\n", b',').unwrap_err();
        assert!(
            error.starts_with("line 3: text follows the quote"),
            "{error}"
        );
        let error = pass("a,b\n1,2\n3,\"four\n5,6\n", b',').unwrap_err();
        assert_eq!(error, "line 3: a quoted field is not closed");
    }
}
