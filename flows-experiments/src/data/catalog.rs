//! Where the files of the sets come from, and how to tell that they are the right ones.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};

use flows_tables::DataError;

/// What a file is checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256 of the file.
    Sha256(&'static str),
    /// MD5 of the file: what its publishers gave.
    Md5(&'static str),
}

impl Checksum {
    /// The digest, in hexadecimal digits.
    pub fn digest(self) -> &'static str {
        match self {
            Self::Sha256(digest) | Self::Md5(digest) => digest,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Md5(_) => "md5",
        }
    }

    /// The digest of what `bytes` give, for comparison.
    ///
    /// # Errors
    /// What the reader says.
    pub fn of(self, bytes: &mut dyn Read) -> std::io::Result<String> {
        let mut chunk = vec![0; 1 << 16];
        let mut sha = Sha256::new();
        let mut md5 = md5::Context::new();
        loop {
            let read = bytes.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            match self {
                Self::Sha256(_) => sha.update(&chunk[..read]),
                Self::Md5(_) => md5.consume(&chunk[..read]),
            }
        }
        Ok(match self {
            Self::Sha256(_) => format!("{:x}", sha.finalize()),
            Self::Md5(_) => format!("{:x}", md5.finalize()),
        })
    }
}

/// A published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The set it belongs to.
    pub set: &'static str,
    /// Where it lies in a data folder.
    pub path: &'static str,
    /// Where it comes from.
    pub url: &'static str,
    /// What it has to be; `None` where nobody published a checksum.
    pub checksum: Option<Checksum>,
}

/// Every file that `flows data` knows.
pub const ENTRIES: &[Entry] = &[
    mnist(
        "mnist/train-images-idx3-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    mnist(
        "mnist/train-labels-idx1-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    mnist(
        "mnist/t10k-images-idx3-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    mnist(
        "mnist/t10k-labels-idx1-ubyte.gz",
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    mnist(
        "mnist-binarized/binarized_mnist_train.amat",
        "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_train.amat",
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    ),
    mnist(
        "mnist-binarized/binarized_mnist_valid.amat",
        "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_valid.amat",
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    ),
    mnist(
        "mnist-binarized/binarized_mnist_test.amat",
        "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_test.amat",
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    ),
    Entry {
        set: "omniglot",
        path: "omniglot/chardata.mat",
        url: "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",
        checksum: Some(Checksum::Md5("21ecaf34373511aa7691cf2e0802aa3d")),
    },
    Entry {
        set: "frey",
        path: "frey-faces/frey_rawface.mat",
        url: "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat",
        checksum: None,
    },
    Entry {
        set: "caltech",
        path: "caltech101-silhouettes/caltech101_silhouettes_28_split1.mat",
        url: "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",
        checksum: Some(Checksum::Md5("4483e9c14b188fd09937f9ea6f9ea777")),
    },
    Entry {
        set: "caltech",
        path: "caltech101-silhouettes/caltech101_silhouettes_28.mat",
        url: "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28.mat",
        checksum: Some(Checksum::Md5("1432d2809e8bf111f1104a234731ddb1")),
    },
];

const fn mnist(path: &'static str, url: &'static str, sha256: &'static str) -> Entry {
    Entry {
        set: "mnist",
        path,
        url,
        checksum: Some(Checksum::Sha256(sha256)),
    }
}

/// What was found of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The published bytes, or a gzip of them.
    Exact(PathBuf),
    /// There, and nobody published a checksum.
    Unchecked(PathBuf),
    /// Other bytes than the published ones.
    Differs {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
    },
    /// Not there.
    Missing,
}

impl Entry {
    /// Looks for the file, or for a gzip of it, and compares its checksum.
    ///
    /// # Errors
    /// [`DataError::Read`] where a file is there and cannot be read.
    pub fn verify(&self, data: &Path) -> Result<State, DataError> {
        let plain = data.join(self.path);
        let packed = data.join(format!("{}.gz", self.path));
        let (path, unpack) = match (plain.exists(), packed.exists()) {
            (true, _) => (plain, false),
            (false, true) => (packed, true),
            (false, false) => return Ok(State::Missing),
        };
        let Some(checksum) = self.checksum else {
            return Ok(State::Unchecked(path));
        };
        let failed = |source| DataError::Read {
            origin: path.display().to_string(),
            source,
        };
        let mut file = BufReader::new(File::open(&path).map_err(failed)?);
        let found = if unpack {
            checksum.of(&mut MultiGzDecoder::new(file))
        } else {
            checksum.of(&mut file)
        };
        let found = found.map_err(failed)?;
        Ok(if found == checksum.digest() {
            State::Exact(path)
        } else {
            State::Differs { path, found }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    /// SHA-256 and MD5 of `abc`, from FIPS 180-4 and RFC 1321.
    const ABC: [Checksum; 2] = [
        Checksum::Sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        Checksum::Md5("900150983cd24fb0d6963f7d28e17f72"),
    ];

    #[test]
    fn files_are_told_apart_packed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        for checksum in ABC {
            let entry = Entry {
                set: "test",
                path: "file",
                url: "http://localhost/file",
                checksum: Some(checksum),
            };
            let plain = folder.path().join("file");
            let packed = folder.path().join("file.gz");
            assert_eq!(entry.verify(folder.path()).unwrap(), State::Missing);
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(b"abc").unwrap();
            std::fs::write(&packed, gzip.finish().unwrap()).unwrap();
            assert_eq!(
                entry.verify(folder.path()).unwrap(),
                State::Exact(packed.clone())
            );
            std::fs::write(&plain, b"abd").unwrap();
            assert!(matches!(
                entry.verify(folder.path()).unwrap(),
                State::Differs { .. }
            ));
            let unchecked = Entry {
                checksum: None,
                ..entry
            };
            assert_eq!(
                unchecked.verify(folder.path()).unwrap(),
                State::Unchecked(plain.clone())
            );
            std::fs::write(&packed, b"no gzip").unwrap();
            std::fs::remove_file(&plain).unwrap();
            assert!(entry.verify(folder.path()).is_err());
            std::fs::remove_file(&packed).unwrap();
        }
    }

    #[test]
    fn entries_are_unique_and_have_whole_digests() {
        for (i, entry) in ENTRIES.iter().enumerate() {
            assert!(
                ENTRIES[..i]
                    .iter()
                    .all(|e| e.path != entry.path && e.url != entry.url)
            );
            let digits = match entry.checksum {
                Some(Checksum::Sha256(digest)) => (digest, 64),
                Some(Checksum::Md5(digest)) => (digest, 32),
                None => continue,
            };
            assert_eq!(digits.0.len(), digits.1, "{}", entry.path);
            assert!(digits.0.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
}
