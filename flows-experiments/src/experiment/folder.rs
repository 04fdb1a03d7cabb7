//! The folder of an experiment: its configuration, its runs, its results.
//!
//! ```text
//! config.toml  compute.json    what was asked for, in full, and what it is computed on
//! runs/.../seed-K/             checkpoint.safetensors, result.json, and what its picture needs
//! summary.json  table.md       results, beside the pictures
//! ```

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Job;
use crate::cli::Compute;
use crate::report::{ReportError, is_temporary, read_json, write_atomically, write_json};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is something already, and nobody asked to go on with it.
    #[error("{} already holds an experiment; --resume goes on with it, --out names another folder", .0.display())]
    Exists(PathBuf),
    /// There is something else already.
    #[error("{} exists and is not empty; --out names another folder", .0.display())]
    NotEmpty(PathBuf),
    /// Nothing to resume.
    #[error("{} holds no experiment to resume", .0.display())]
    Nothing(PathBuf),
    /// What was asked for differs from what the folder was begun with.
    #[error("{} was begun with other settings: {difference}", path.display())]
    Differs {
        /// The folder.
        path: PathBuf,
        /// The first setting that differs.
        difference: String,
    },
    /// The folder could not be made.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file in it could not be read or written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// The folder of an experiment under way.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

const CONFIG: &str = "config.toml";
const COMPUTE: &str = "compute.json";

impl Folder {
    /// Begins an experiment in a folder that does not exist yet, is empty, or was left by a program
    /// killed before it had written its configuration.
    ///
    /// # Errors
    /// [`FolderError`] where there is something in it, or it cannot be written.
    pub fn create<C: Serialize>(
        path: &Path,
        config: &C,
        compute: Compute,
    ) -> Result<Self, FolderError> {
        if path.join(CONFIG).exists() {
            return Err(FolderError::Exists(path.to_owned()));
        }
        if !is_unused(path) {
            return Err(FolderError::NotEmpty(path.to_owned()));
        }
        create_dir(path)?;
        let text = to_toml(config);
        write_json(path.join(COMPUTE), &compute)?;
        write_atomically(path.join(CONFIG), text.as_bytes())?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// The configuration that an experiment was begun with, as its file has it.
    ///
    /// # Errors
    /// [`FolderError::Nothing`] where there is none, [`ReportError::Read`] where it cannot be read.
    pub fn config_text(path: &Path) -> Result<String, FolderError> {
        let file = path.join(CONFIG);
        if !file.exists() {
            return Err(FolderError::Nothing(path.to_owned()));
        }
        std::fs::read_to_string(&file)
            .map_err(|source| FolderError::Report(ReportError::Read { path: file, source }))
    }

    /// What an experiment was begun on.
    ///
    /// # Errors
    /// As [`config_text`](Self::config_text).
    pub fn compute(path: &Path) -> Result<Compute, FolderError> {
        let file = path.join(COMPUTE);
        if !file.exists() {
            return Err(FolderError::Nothing(path.to_owned()));
        }
        Ok(read_json(file)?)
    }

    /// Goes on with an experiment begun with the same `config` on the same backend, with the same
    /// threads: otherwise it would not end with the same bits.
    ///
    /// # Errors
    /// [`FolderError::Nothing`] and [`FolderError::Differs`].
    pub fn resume<C: Serialize>(
        path: &Path,
        config: &C,
        compute: Compute,
    ) -> Result<Self, FolderError> {
        let begun = Self::compute(path)?;
        if begun != compute {
            return Err(FolderError::Differs {
                path: path.to_owned(),
                difference: format!("it runs on {begun}, not {compute}"),
            });
        }
        let (old, new) = (
            canonical(Self::config_text(path)?),
            canonical(to_toml(config)),
        );
        if old != new {
            let line = |text: &str, n: usize| text.lines().nth(n).unwrap_or("nothing").to_owned();
            let first = (0..)
                .find(|n| line(&old, *n) != line(&new, *n))
                .unwrap_or(0);
            return Err(FolderError::Differs {
                path: path.to_owned(),
                difference: format!(
                    "it has `{}`, not `{}`",
                    line(&old, first),
                    line(&new, first)
                ),
            });
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of one run.
    pub fn run(&self, job: &impl Job) -> RunFolder {
        RunFolder {
            path: self.path.join("runs").join(job.path()),
        }
    }
}

/// The same settings in one order and layout: a file may have been edited by hand.
fn canonical(text: String) -> String {
    match toml::from_str::<toml::Table>(&text) {
        Ok(table) => to_toml(&table),
        Err(_) => text,
    }
}

/// Nothing is in `path` but what a beginning cut short leaves; the configuration is written last.
fn is_unused(path: &Path) -> bool {
    let of_a_beginning = |name: &str| name == COMPUTE || is_temporary(name);
    std::fs::read_dir(path).map_or(true, |mut entries| {
        entries.all(|entry| entry.is_ok_and(|e| e.file_name().to_str().is_some_and(of_a_beginning)))
    })
}

/// The folder of one run, inside that of its experiment.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

const RECORD: &str = "result.json";

impl RunFolder {
    /// The checkpoint of the run; its folder is made.
    ///
    /// # Errors
    /// [`FolderError::Create`].
    pub fn checkpoint(&self) -> Result<PathBuf, FolderError> {
        create_dir(&self.path)?;
        Ok(self.path.join("checkpoint.safetensors"))
    }

    /// The record of the run, if it has ended.
    ///
    /// # Errors
    /// [`FolderError::Report`] where the file is there and cannot be read.
    pub fn record<R: DeserializeOwned>(&self) -> Result<Option<R>, FolderError> {
        let path = self.path.join(RECORD);
        Ok(if path.exists() {
            Some(read_json(path)?)
        } else {
            None
        })
    }

    /// Keeps the record of the run. It is the last file written: a run that has it is complete.
    ///
    /// # Errors
    /// [`FolderError::Report`].
    pub fn keep_record<R: Serialize>(&self, record: &R) -> Result<(), FolderError> {
        Ok(write_json(self.path.join(RECORD), record)?)
    }

    /// A file of the run by its name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps something for a picture, as JSON in `file`.
    ///
    /// # Errors
    /// [`FolderError::Report`].
    pub fn keep<T: Serialize>(&self, file: &str, value: &T) -> Result<(), FolderError> {
        let text = serde_json::to_string(value).expect("plain data");
        Ok(write_atomically(self.path.join(file), text.as_bytes())?)
    }

    /// What [`keep`](Self::keep) kept in `file`, if it did.
    pub fn kept<T: DeserializeOwned>(&self, file: &str) -> Option<T> {
        read_json(self.path.join(file)).ok()
    }

    /// Keeps the density that a picture shows: little-endian `f32`, row by row from the lowest `y`.
    ///
    /// # Errors
    /// [`FolderError::Report`].
    pub fn keep_density(&self, grid: &[f64]) -> Result<(), FolderError> {
        let bytes = grid
            .iter()
            .flat_map(|v| (*v as f32).to_le_bytes())
            .collect::<Vec<_>>();
        Ok(write_atomically(self.path.join("density.f32"), &bytes)?)
    }

    /// The density kept for the run, if it kept one of `points` values.
    pub fn density(&self, points: usize) -> Option<Vec<f64>> {
        let bytes = std::fs::read(self.path.join("density.f32")).ok()?;
        let value = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (bytes.len() == 4 * points).then(|| bytes.chunks_exact(4).map(value).collect())
    }
}

fn to_toml<C: Serialize>(config: &C) -> String {
    toml::to_string_pretty(config).expect("a configuration is plain data")
}

fn create_dir(path: &Path) -> Result<(), FolderError> {
    std::fs::create_dir_all(path).map_err(|source| FolderError::Create {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::backend::{BackendKind, Dtype};

    #[test]
    fn what_a_killed_beginning_left_is_begun_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let compute = Compute {
            backend: BackendKind::Flex,
            dtype: Dtype::F32,
            threads: 1,
        };
        let begin = || Folder::create(folder.path(), &BTreeMap::from([("seeds", 1)]), compute);
        fs::write(at(COMPUTE), "{}").unwrap();
        fs::write(at(".flows-x.tmp"), "{").unwrap();
        fs::write(at("mine.txt"), "text").unwrap();
        assert!(matches!(begin(), Err(FolderError::NotEmpty(_))));
        fs::remove_file(at("mine.txt")).unwrap();
        begin().unwrap();
        assert!(matches!(begin(), Err(FolderError::Exists(_))));
    }

    #[test]
    fn settings_are_compared_and_not_their_layout() {
        let folder = tempfile::tempdir().unwrap();
        let compute = Compute {
            backend: BackendKind::Flex,
            dtype: Dtype::F32,
            threads: 1,
        };
        let config = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            BTreeMap::from([("names", names.collect::<Vec<_>>())])
        };
        Folder::create(folder.path(), &config(&["a", "b"]), compute).unwrap();
        let edited = "# mine\nnames = [\n  'a',\n  'b'\n]\n";
        fs::write(folder.path().join(CONFIG), edited).unwrap();
        let resume = |names: &[&str]| Folder::resume(folder.path(), &config(names), compute);
        resume(&["a", "b"]).unwrap();
        let error = resume(&["a", "c"]).unwrap_err().to_string();
        assert!(
            error.contains("other settings") && error.contains("\"c\""),
            "{error}"
        );
    }
}
