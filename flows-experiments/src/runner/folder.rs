//! The folder of an experiment: its configuration, its jobs, its results.
//!
//! ```text
//! config.toml  run.json                     what was asked for, in full, and what it is computed on
//! runs/.../seed-K/                          checkpoint, result.json, and what its picture needs
//! results.jsonl  summary.json  table.md     results, beside the pictures
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Job;
use crate::cli::{Compute, UsageError};
use crate::lock::Lock;
use crate::report::{ReportError, read_json, write_atomically, write_json};
use flows_train::atomic::is_temporary;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is something already, and nobody asked to go on with it.
    #[error("{} already holds an experiment; use --resume to continue or --out to choose another folder", .0.display())]
    Exists(PathBuf),
    /// There is something else already.
    #[error("{} exists and is not empty; use --out to choose another folder", .0.display())]
    NotEmpty(PathBuf),
    /// Another process is at work in it.
    #[error("{} is in use by another process; wait for it, or use --out to choose another folder", .0.display())]
    Busy(PathBuf),
    /// Nothing to resume.
    #[error("{} holds no experiment to resume", .0.display())]
    Nothing(PathBuf),
    /// It is of another experiment, or of a version whose results are not understood any more.
    #[error("{} {reason}; use --out to choose another folder", path.display())]
    Other {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        reason: String,
    },
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
    /// The folder could not be locked.
    #[error("cannot lock {}: {source}", path.display())]
    Lock {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file in it could not be read or written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

impl FolderError {
    /// As a binary ends with it: a usage error, but for what the operating system refuses.
    pub fn for_binary(self) -> anyhow::Error {
        match self {
            Self::Create { .. } | Self::Lock { .. } | Self::Report(_) => self.into(),
            usage => UsageError::new(usage).into(),
        }
    }
}

/// What a folder was begun on, the start of `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    /// Version of the layout.
    pub(super) format: u32,
    /// The experiment.
    pub(super) experiment: String,
    /// The backend, float type and threads.
    #[serde(flatten)]
    pub(super) compute: Compute,
    /// The folder with data.
    pub(super) data: Option<PathBuf>,
}

/// Version of the layout; 1 had no `run.json`.
pub(super) const FORMAT: u32 = 2;

/// The folder of an experiment under way.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// `None` in a process that does some of the jobs.
    _lock: Option<Lock>,
}

const CONFIG: &str = "config.toml";
pub(super) const RUN: &str = "run.json";
const LOCK: &str = ".lock";
/// Where results go when nobody says.
const RUNS: &str = "runs";

impl Folder {
    /// The latest numbered folder of an experiment, `runs/EXPERIMENT-N`; the first where there is none.
    pub fn latest(experiment: &str) -> PathBuf {
        numbered(experiment, latest_number(experiment).max(1))
    }

    /// Begins an experiment in a folder that does not exist yet, is empty, or was left by a program
    /// killed before it had written its configuration: `out`, or else the next `runs/EXPERIMENT-N`. No
    /// second process gets it until this one is done.
    ///
    /// # Errors
    /// [`FolderError`] where there is something in it, another process has it, or it cannot be made.
    pub(super) fn create(
        out: Option<&Path>,
        begun: &Begun,
        config: &str,
    ) -> Result<Self, FolderError> {
        let path = match out {
            Some(out) => {
                refuse_used(out)?;
                create_dir(out)?;
                out.to_owned()
            }
            None => create_next(&begun.experiment)?,
        };
        let lock = lock(&path)?;
        // Another process may have used it since it was looked at.
        refuse_used(&path)?;
        let folder = Self {
            path,
            _lock: Some(lock),
        };
        folder.begin(begun, config)?;
        Ok(folder)
    }

    fn begin(&self, begun: &Begun, config: &str) -> Result<(), FolderError> {
        write_json(self.path.join(RUN), begun)?;
        Ok(write_atomically(self.path.join(CONFIG), config.as_bytes())?)
    }

    /// The configuration that an experiment was begun with, as its file has it.
    ///
    /// # Errors
    /// [`FolderError::Nothing`] where there is none, [`ReportError::Read`] where it cannot be read.
    pub(super) fn config_text(path: &Path) -> Result<String, FolderError> {
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
    /// [`FolderError::Nothing`] where there is none, [`FolderError::Other`] where there is another one.
    pub(super) fn begun(path: &Path, experiment: &str) -> Result<Begun, FolderError> {
        let other = |reason: String| FolderError::Other {
            path: path.to_owned(),
            reason,
        };
        if !path.join(CONFIG).exists() {
            return Err(FolderError::Nothing(path.to_owned()));
        }
        if !path.join(RUN).exists() {
            return Err(other(
                "was begun by an older version of this program".to_owned(),
            ));
        }
        let begun: Begun = read_json(path.join(RUN))?;
        if begun.format != FORMAT {
            let format = begun.format;
            return Err(other(format!(
                "has format {format}, and this program writes {FORMAT}"
            )));
        }
        if begun.experiment != experiment {
            return Err(other(format!(
                "holds the experiment '{}'",
                begun.experiment
            )));
        }
        Ok(begun)
    }

    /// Continues an experiment begun with the same `config` on the same backend, with the same threads:
    /// otherwise it would not end with the same bits.
    ///
    /// # Errors
    /// [`FolderError::Nothing`], [`FolderError::Busy`] and [`FolderError::Differs`].
    pub(super) fn resume(path: &Path, begun: &Begun, config: &str) -> Result<Self, FolderError> {
        Self::begun(path, &begun.experiment)?;
        let lock = Some(lock(path)?);
        let folder = Self::of_some_jobs(path, begun, config)?;
        Ok(Self {
            _lock: lock,
            ..folder
        })
    }

    /// The folder in which this process does some of the jobs, beside others: begun where it is not yet.
    ///
    /// # Errors
    /// [`FolderError::Other`], [`FolderError::NotEmpty`] and [`FolderError::Differs`].
    pub(super) fn of_some_jobs(
        path: &Path,
        begun: &Begun,
        config: &str,
    ) -> Result<Self, FolderError> {
        let folder = Self {
            path: path.to_owned(),
            _lock: None,
        };
        if !path.join(CONFIG).exists() {
            create_dir(path)?;
            match refuse_used(path) {
                // Another process has begun it in between.
                Err(FolderError::Exists(_)) => {}
                other => {
                    other?;
                    folder.begin(begun, config)?;
                }
            }
        }
        let before = Self::begun(path, &begun.experiment)?;
        if before.compute != begun.compute {
            return Err(FolderError::Differs {
                path: path.to_owned(),
                difference: format!("it runs on {}, not {}", before.compute, begun.compute),
            });
        }
        let (old, new) = (canonical(&Self::config_text(path)?), canonical(config));
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
        Ok(folder)
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of one job.
    pub fn run(&self, job: &impl Job) -> RunFolder {
        RunFolder {
            path: self.path.join("runs").join(job.path()),
        }
    }
}

/// The same settings in one order and layout: a file may have been edited by hand.
fn canonical(text: &str) -> String {
    match toml::from_str::<toml::Table>(text) {
        Ok(table) => super::config::to_toml(&table),
        Err(_) => text.to_owned(),
    }
}

fn numbered(experiment: &str, n: usize) -> PathBuf {
    Path::new(RUNS).join(format!("{experiment}-{n}"))
}

/// The highest number of a folder of `experiment`, 0 where there is none.
fn latest_number(experiment: &str) -> usize {
    let names = std::fs::read_dir(RUNS).into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_prefix(experiment)?
            .strip_prefix('-')?
            .parse()
            .ok()
    });
    numbers.max().unwrap_or(0)
}

/// Makes the next numbered folder. Of two processes only one can make it: the other takes the one after.
fn create_next(experiment: &str) -> Result<PathBuf, FolderError> {
    create_dir(Path::new(RUNS))?;
    let mut n = latest_number(experiment);
    loop {
        n += 1;
        let path = numbered(experiment, n);
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(FolderError::Create { path, source }),
        }
    }
}

fn lock(path: &Path) -> Result<Lock, FolderError> {
    let path = path.to_owned();
    match Lock::take(&path.join(LOCK)) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(FolderError::Busy(path)),
        Err(source) => Err(FolderError::Lock { path, source }),
    }
}

/// Refuses a folder with more in it than a beginning cut short leaves; the configuration is written last.
fn refuse_used(path: &Path) -> Result<(), FolderError> {
    if path.join(CONFIG).exists() {
        return Err(FolderError::Exists(path.to_owned()));
    }
    let of_a_beginning = |name: &str| name == RUN || name == LOCK || is_temporary(name);
    let unused = std::fs::read_dir(path).map_or(true, |mut entries| {
        entries.all(|entry| entry.is_ok_and(|e| e.file_name().to_str().is_some_and(of_a_beginning)))
    });
    if unused {
        Ok(())
    } else {
        Err(FolderError::NotEmpty(path.to_owned()))
    }
}

/// The folder of one job, inside that of its experiment.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

const RECORD: &str = "result.json";

impl RunFolder {
    /// Makes the folder and takes it, so that no second process does the same job.
    ///
    /// # Errors
    /// [`FolderError::Busy`] where another process has it.
    pub(super) fn take(&self) -> Result<Lock, FolderError> {
        create_dir(&self.path)?;
        for _ in 0..50 {
            match lock(&self.path) {
                // A child whose parent was killed needs a moment to end.
                Err(FolderError::Busy(_)) => std::thread::sleep(Duration::from_millis(100)),
                other => return other,
            }
        }
        lock(&self.path)
    }

    /// The record of the job, if it has ended.
    ///
    /// # Errors
    /// [`FolderError::Report`] where the file is there and cannot be read.
    pub(super) fn record<R: DeserializeOwned>(&self) -> Result<Option<R>, FolderError> {
        let path = self.path.join(RECORD);
        Ok(if path.exists() {
            Some(read_json(path)?)
        } else {
            None
        })
    }

    /// Keeps the record of the job. It is the last file written: a job that has it is complete.
    ///
    /// # Errors
    /// [`FolderError::Report`].
    pub(super) fn keep_record<R: Serialize>(&self, record: &R) -> Result<(), FolderError> {
        Ok(write_json(self.path.join(RECORD), record)?)
    }

    /// A file of the job by its name.
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

    /// The density kept for the job, if it kept one of `points` values.
    pub fn density(&self, points: usize) -> Option<Vec<f64>> {
        let bytes = std::fs::read(self.path.join("density.f32")).ok()?;
        let value = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (bytes.len() == 4 * points).then(|| bytes.chunks_exact(4).map(value).collect())
    }
}

fn create_dir(path: &Path) -> Result<(), FolderError> {
    std::fs::create_dir_all(path).map_err(|source| FolderError::Create {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::backend::{BackendKind, Dtype};

    fn begun() -> Begun {
        Begun {
            format: FORMAT,
            experiment: "toy".to_owned(),
            compute: Compute {
                backend: BackendKind::Flex,
                dtype: Dtype::F32,
                threads: 1,
            },
            data: None,
        }
    }

    #[test]
    fn what_a_killed_beginning_left_is_begun_again_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let begin = || Folder::create(Some(folder.path()), &begun(), "seeds = 1");
        fs::write(at(RUN), "{}").unwrap();
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
        Folder::create(Some(folder.path()), &begun(), "names = ['a', 'b']").unwrap();
        let edited = "# mine\nnames = [\n  'a',\n  'b'\n]\n";
        fs::write(folder.path().join(CONFIG), edited).unwrap();
        let resume = |config: &str| Folder::resume(folder.path(), &begun(), config);
        resume("names = ['a', 'b']").unwrap();
        let error = resume("names = ['a', 'c']").unwrap_err().to_string();
        assert!(
            error.contains("other settings") && error.contains("\"c\""),
            "{error}"
        );
    }

    #[test]
    fn folders_of_others_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let refused = || {
            let error = Folder::resume(folder.path(), &begun(), "").unwrap_err();
            error.to_string()
        };
        assert!(refused().ends_with("holds no experiment to resume"));
        fs::write(folder.path().join(CONFIG), "").unwrap();
        assert!(refused().contains("begun by an older version"));
        let mut other = begun();
        other.experiment = "vae".to_owned();
        write_json(folder.path().join(RUN), &other).unwrap();
        assert!(refused().contains("holds the experiment 'vae'"));
        other.format = 3;
        write_json(folder.path().join(RUN), &other).unwrap();
        assert!(refused().contains("has format 3"));
    }
}
