//! The idx format of MNIST: big-endian sizes, then bytes.
//!
//! <http://yann.lecun.com/exdb/mnist/>

use std::io::Read;
use std::path::Path;

use flows_tables::DataError;
use flows_tables::bytes::{count, fill, open};

/// An array of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxArray {
    /// Its sizes, the slowest first.
    pub shape: Vec<usize>,
    /// Its bytes, the last index fastest.
    pub bytes: Vec<u8>,
}

/// Reads an array of bytes, gzipped or not.
///
/// # Errors
/// [`DataError`] naming the file and what is wrong with it.
pub fn read_idx(path: &Path) -> Result<IdxArray, DataError> {
    parse(open(path)?).map_err(|reason| DataError::Format {
        origin: path.display().to_string(),
        reason,
    })
}

/// As [`read_idx`], from unpacked bytes.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut bytes: impl Read) -> Result<IdxArray, String> {
    let mut word = || -> Result<[u8; 4], String> {
        let mut word = [0; 4];
        fill(&mut bytes, &mut word, "its header")?;
        Ok(word)
    };
    let [zero, zero_too, kind, dimensions] = word()?;
    if (zero, zero_too, kind) != (0, 0, 8) || dimensions == 0 {
        return Err("is no idx file of bytes".to_owned());
    }
    let sizes = (0..dimensions).map(|_| Ok(u32::from_be_bytes(word()?) as usize));
    let shape = sizes.collect::<Result<Vec<usize>, String>>()?;
    let claimed = count(&shape).ok_or_else(|| format!("claims the shape {shape:?}"))?;
    let mut values = Vec::new();
    // One byte more than claimed, to see whether the file ends there.
    let mut rest = bytes.take((claimed as u64).saturating_add(1));
    rest.read_to_end(&mut values).map_err(|e| e.to_string())?;
    if values.len() != claimed {
        let more = if values.len() > claimed { "more" } else { "" };
        let found = values.len().min(claimed);
        return Err(
            format!("claims {claimed} bytes of shape {shape:?}, holds {found} {more}")
                .trim_end()
                .to_owned(),
        );
    }
    Ok(IdxArray {
        shape,
        bytes: values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use flows_tables::bytes::fuzz::mutations;
    use std::io::Write;

    const FILE: [u8; 18] = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];

    #[test]
    fn sizes_and_bytes_are_compared() {
        let whole = parse(&FILE[..]).unwrap();
        assert_eq!(whole.shape, [2, 3]);
        assert_eq!(whole.bytes, [1, 2, 3, 4, 5, 6]);
        for length in 0..FILE.len() {
            assert!(parse(&FILE[..length]).is_err(), "{length}");
        }
        let mut long = FILE.to_vec();
        long.push(7);
        assert!(parse(&long[..]).unwrap_err().contains("more"));
        let large = [0, 0, 8, 2, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(parse(&large[..]).unwrap_err().contains("holds 0"));
        let huge = [
            0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        ];
        assert!(parse(&huge[..]).unwrap_err().contains("claims the shape"));
        // Empty by its last size, and its sizes cannot be multiplied.
        let empty = [&[0, 0, 8, 4][..], &[255; 12], &[0; 4]].concat();
        assert!(parse(&empty[..]).unwrap_err().contains("claims the shape"));
    }

    #[test]
    fn gzip_is_recognised_and_its_end_is_required() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array");
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&FILE).unwrap();
        let packed = packed.finish().unwrap();
        for bytes in [&FILE[..], &packed] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_idx(&path).unwrap().shape, [2, 3]);
        }
        for length in 0..packed.len() {
            std::fs::write(&path, &packed[..length]).unwrap();
            let error = read_idx(&path).unwrap_err().to_string();
            assert!(
                error.contains("array: ") && !error.contains('\n'),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn changed_files_are_refused_or_read_and_never_panic() {
        for bytes in mutations(&FILE, 4000, 1) {
            if let Ok(array) = parse(&bytes[..]) {
                assert_eq!(array.bytes.len(), array.shape.iter().product::<usize>());
                assert!(array.bytes.len() <= bytes.len());
            }
        }
    }
}
