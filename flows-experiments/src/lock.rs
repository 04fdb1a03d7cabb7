//! Locks between processes, which end with the process that holds them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A file that one process at a time holds.
///
/// The file is removed when its holder is done. One that a killed process left behind is free: the
/// operating system unlocks it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`; `None` where another process holds it.
    ///
    /// # Errors
    /// Where the file cannot be made or locked. A file system without locks is no error: it is said
    /// on standard error, and nothing is locked.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let mut options = OpenOptions::new();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    eprintln!(
                        "note: {} cannot be locked here; start no second process on it",
                        path.display()
                    );
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if !is_removed(&file)? {
                let path = path.to_owned();
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    /// Removes the file, which is unlocked afterwards.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The last holder has removed the file after it was opened here: the next process would make another.
#[cfg(unix)]
fn is_removed(file: &File) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) == 0)
}

#[cfg(not(unix))]
fn is_removed(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // As a killed process leaves it.
        std::fs::write(&path, "").unwrap();
        let first = Lock::take(&path).unwrap().expect("nobody holds it");
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        assert!(!path.exists());
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
