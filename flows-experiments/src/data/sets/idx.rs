//! The idx format of MNIST: big-endian sizes, then bytes.
//!
//! <http://yann.lecun.com/exdb/mnist/>

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::data::DataError;

/// The sizes and the bytes of a gzipped array of bytes.
pub(super) fn read_idx(path: &Path) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let origin = path.display().to_string();
    let file = File::open(path).map_err(|source| DataError::Read {
        origin: origin.clone(),
        source,
    })?;
    parse(MultiGzDecoder::new(BufReader::new(file)))
        .map_err(|reason| DataError::Format { origin, reason })
}

fn parse(mut bytes: impl Read) -> Result<(Vec<usize>, Vec<u8>), String> {
    let mut word = || -> Result<[u8; 4], String> {
        let mut word = [0; 4];
        bytes
            .read_exact(&mut word)
            .map_err(|e| format!("ends within its header: {e}"))?;
        Ok(word)
    };
    let [zero, zero_too, kind, dimensions] = word()?;
    if (zero, zero_too, kind) != (0, 0, 8) || dimensions == 0 {
        return Err("is no idx file of bytes".to_owned());
    }
    let sizes = (0..dimensions).map(|_| Ok(u32::from_be_bytes(word()?) as usize));
    let shape = sizes.collect::<Result<Vec<usize>, String>>()?;
    let claimed = shape.iter().fold(1usize, |n, s| n.saturating_mul(*s));
    let mut values = Vec::new();
    // One byte more than claimed, to see whether the file ends there.
    let mut rest = bytes.take((claimed as u64).saturating_add(1));
    rest.read_to_end(&mut values).map_err(|e| e.to_string())?;
    if values.len() != claimed {
        let found = values.len();
        return Err(format!(
            "claims {claimed} bytes of shape {shape:?}, holds {found}"
        ));
    }
    Ok((shape, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_bytes_are_compared() {
        let file = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        let whole = parse(&file[..]).unwrap();
        assert_eq!(whole, (vec![2, 3], vec![1, 2, 3, 4, 5, 6]));
        for length in 0..file.len() {
            assert!(parse(&file[..length]).is_err(), "{length}");
        }
        let mut long = file.to_vec();
        long.push(7);
        assert!(parse(&long[..]).is_err());
        let huge = [
            0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        ];
        assert!(parse(&huge[..]).unwrap_err().contains("holds 0"));
    }
}
