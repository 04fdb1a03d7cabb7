//! Files written whole or not at all: a temporary file in the same folder, flushed to the disk, then
//! renamed over the old one.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::FileError;

/// Writes `bytes` to `path`. Whoever reads it, and whenever the program is killed, finds the old
/// content or the new one.
///
/// # Errors
/// [`FileError::Write`], naming the path; the old content is then still there.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), FileError> {
    let path = path.as_ref();
    replace(path, bytes).map_err(|source| FileError::Write {
        path: path.to_owned(),
        source: without_temporary_name(source),
    })
}

const PREFIX: &str = ".flows-";
const SUFFIX: &str = ".tmp";

/// `name` is that of a file left by a program killed while it wrote.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Whether there is something at `path` that is written through, such as a pipe or a terminal: a file is replaced.
pub fn is_stream(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| !about.is_file() && !about.is_dir())
}

/// What a link leads to, which is replaced in its place; other paths as they are.
pub fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        match path.read_link() {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => break,
        }
    }
    path
}

/// A temporary file in the folder of `path`, to be renamed to it.
pub fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    // Temporary files are private by default, results are for everyone the umask lets in.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
        .tempfile_in(folder_of(path))
        .map_err(without_temporary_name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_stream(path) {
        return File::options().write(true).open(path)?.write_all(bytes);
    }
    let path = &behind_links(path);
    let mut temporary = temporary_beside(path)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    // The rename itself lasts through a power cut only once the folder is on the disk.
    #[cfg(unix)]
    File::open(folder_of(path))?.sync_all()?;
    Ok(())
}

/// The bare reason: tempfile adds the name of the temporary file, which means nothing to the user.
fn without_temporary_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) => io::Error::new(error.kind(), reason),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a"), folder.path().join("b"));
        write_atomically(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn failures_are_one_line_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "{").unwrap();
        let below_file = file.join("a.json");
        let nowhere = folder.path().join("missing").join("a.json");
        for path in [below_file, nowhere, folder.path().to_owned()] {
            let message = write_atomically(&path, b"x").unwrap_err().to_string();
            let start = format!("cannot write {}: ", path.display());
            assert!(
                message.starts_with(&start) && !message.contains('\n'),
                "{message}"
            );
            let reason = &message[start.len()..];
            assert!(
                !reason.contains("path") && !reason.contains(".tmp"),
                "{message}"
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "old").unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "old");
    }
}
