//! Getting published files: in one piece or in several, and only the right ones.
//!
//! A transfer goes to `FILE.part`. One that was cut off is continued there; a file gets its name
//! when its checksum is the published one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalog::Entry;
use flows_tables::DataError;

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or none that lasted.
    #[error("cannot reach {url}: {reason}")]
    Network {
        /// The address.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The server does not have it.
    #[error("{url} answers with status {status}")]
    Status {
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The transfer ended early. What came is kept.
    #[error(
        "{url} was cut off after {received} of {expected} bytes; the same command continues from there"
    )]
    Cut {
        /// The address.
        url: String,
        /// Bytes that are there.
        received: u64,
        /// Bytes of the whole file.
        expected: u64,
    },
    /// Other bytes than the published ones. They are not kept.
    #[error("{url} has {kind} {found}, expected {expected}; what came was deleted")]
    Checksum {
        /// The address.
        url: String,
        /// Kind of checksum.
        kind: &'static str,
        /// Digest of what came.
        found: String,
        /// Digest that was published.
        expected: String,
    },
    /// The file could not be written or read back.
    #[error(transparent)]
    File(#[from] DataError),
}

/// How long a connection may take, and how long a transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gets `entry` into a data folder and returns where it is. `on_progress` hears bytes received and,
/// where the server says, expected.
///
/// # Errors
/// [`FetchError`], in one line.
pub fn fetch(
    entry: &Entry,
    data: &Path,
    on_progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<PathBuf, FetchError> {
    let target = data.join(entry.path);
    let part = data.join(format!("{}.part", entry.path));
    let written = |source| DataError::Write {
        target: part.display().to_string(),
        source,
    };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(written)?;
    }
    receive(entry.url, &part, on_progress)?;
    if let Some(checksum) = entry.checksum {
        let mut file = File::open(&part).map_err(written)?;
        let found = checksum.of(&mut file).map_err(written)?;
        if found != checksum.digest() {
            fs::remove_file(&part).map_err(written)?;
            return Err(FetchError::Checksum {
                url: entry.url.to_owned(),
                kind: checksum.name(),
                found,
                expected: checksum.digest().to_owned(),
            });
        }
    }
    fs::rename(&part, &target).map_err(written)?;
    Ok(target)
}

/// Appends what is missing of `url` to `part`.
fn receive(
    url: &str,
    part: &Path,
    on_progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), FetchError> {
    let written = |source| DataError::Write {
        target: part.display().to_string(),
        source,
    };
    let have = fs::metadata(part).map_or(0, |found| found.len());
    let response = match request(url, have) {
        // Nothing is left after what is there, or it is no beginning of the file.
        Err(FetchError::Status { status: 416, .. }) if have > 0 => {
            fs::remove_file(part).map_err(written)?;
            return receive(url, part, on_progress);
        }
        response => response?,
    };
    let continued = response.status() == 206 && starts_at(&response) == Some(have);
    if response.status() == 206 && !continued {
        fs::remove_file(part).map_err(written)?;
        return receive(url, part, on_progress);
    }
    let start = if continued { have } else { 0 };
    let length = response
        .header("Content-Length")
        .and_then(|l| l.parse::<u64>().ok());
    let expected = length.map(|length| start + length);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .append(continued)
        .truncate(!continued)
        .open(part)
        .map_err(written)?;
    let mut body = response.into_reader();
    let mut received = start;
    let mut chunk = vec![0; 1 << 16];
    let ended = loop {
        match body.read(&mut chunk) {
            Ok(0) => break None,
            Ok(read) => {
                file.write_all(&chunk[..read]).map_err(written)?;
                received += read as u64;
                on_progress(received, expected);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Some(error),
        }
    };
    file.sync_all().map_err(written)?;
    match (ended, expected) {
        (_, Some(expected)) if received < expected => Err(FetchError::Cut {
            url: url.to_owned(),
            received,
            expected,
        }),
        (Some(error), _) => Err(FetchError::Network {
            url: url.to_owned(),
            reason: error.to_string(),
        }),
        (None, _) => Ok(()),
    }
}

fn request(url: &str, from: u64) -> Result<ureq::Response, FetchError> {
    let agent = ureq::AgentBuilder::new()
        .timeout_connect(PATIENCE)
        .timeout_read(PATIENCE)
        .build();
    let mut request = agent.get(url);
    if from > 0 {
        request = request.set("Range", &format!("bytes={from}-"));
    }
    request.call().map_err(|error| match error {
        ureq::Error::Status(status, _) => FetchError::Status {
            url: url.to_owned(),
            status,
        },
        ureq::Error::Transport(error) => FetchError::Network {
            url: url.to_owned(),
            reason: error.message().map_or_else(
                || error.kind().to_string(),
                |m| format!("{}: {m}", error.kind()),
            ),
        },
    })
}

/// The first byte of a partial answer: `Content-Range: bytes 5-9/10`.
fn starts_at(response: &ureq::Response) -> Option<u64> {
    let range = response.header("Content-Range")?.strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}
