//! Options that all experiments share, and the configuration they start from.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Folder, FolderError};
use crate::backend::check;
use crate::cli::{Compute, DeviceArgs, Misuse};

/// Where results go when nobody says.
const RUNS: &str = "runs";

/// Where an experiment is, what it starts from and what it is computed on.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Configuration file to start from (TOML; a run's folder holds one as config.toml)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for the results [default: the next free runs/EXPERIMENT-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the experiment in --out, or in the latest runs/EXPERIMENT-N
    #[arg(long)]
    resume: bool,
    /// Do the jobs named on standard input for the experiment in --out, with this many threads
    #[arg(long, hide = true, requires = "out")]
    worker: Option<usize>,
}

/// A configuration as its file has it.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Its TOML.
    pub text: String,
    /// What names it in errors.
    pub origin: String,
}

impl RunArgs {
    /// The folder of the experiment, which need not exist yet.
    pub fn folder(&self, experiment: &str) -> PathBuf {
        if let Some(out) = &self.out {
            return out.clone();
        }
        let numbered = |n: usize| Path::new(RUNS).join(format!("{experiment}-{n}"));
        let free = (1..).find(|n| !numbered(*n).exists()).unwrap_or(1);
        numbered(if self.resume { (free - 1).max(1) } else { free })
    }

    /// Threads, where this process is a worker of another.
    pub fn worker_threads(&self) -> Option<usize> {
        self.worker
    }

    /// The configuration to start from: the file named, or the folder's own where the experiment goes
    /// on (or is a worker's) and no preset is named; `None` where a preset is meant.
    ///
    /// # Errors
    /// [`Misuse`] where the file cannot be read, or there is nothing to resume.
    pub fn config_file(
        &self,
        out: &Path,
        preset_named: bool,
    ) -> Result<Option<ConfigFile>, Misuse> {
        match &self.config {
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| Misuse::new(format!("--config {}: {e}", file.display())))?;
                let origin = file.display().to_string();
                Ok(Some(ConfigFile { text, origin }))
            }
            None if self.worker.is_some() || (self.resume && !preset_named) => {
                let text = Folder::config_text(out).map_err(Misuse::new)?;
                let origin = out.join("config.toml").display().to_string();
                Ok(Some(ConfigFile { text, origin }))
            }
            None => Ok(None),
        }
    }

    /// Resolves the options on the backend, with the choices of the folder where it is resumed.
    ///
    /// # Errors
    /// [`Misuse`] for options that cannot be met.
    pub fn compute(&self, out: &Path) -> Result<Compute, Misuse> {
        let earlier = if self.resume {
            Some(Folder::compute(out).map_err(Misuse::new)?)
        } else {
            None
        };
        self.device.resolve_from(earlier)
    }

    /// Begins the experiment in its folder, or goes on with it.
    ///
    /// # Errors
    /// [`Misuse`] for a backend that does not start, which leaves no folder behind, and for a folder
    /// that holds something else; other errors where it cannot be written.
    pub fn open<C: Serialize>(
        &self,
        out: &Path,
        config: &C,
        compute: Compute,
    ) -> anyhow::Result<Folder> {
        check(compute.backend, compute.dtype).map_err(Misuse::from)?;
        let folder = if self.resume {
            Folder::resume(out, config, compute)
        } else {
            Folder::create(out, config, compute)
        };
        folder.map_err(|error| match error {
            FolderError::Create { .. } | FolderError::Report(_) => anyhow::Error::from(error),
            misuse => Misuse::new(misuse).into(),
        })
    }
}

/// Reads TOML; `origin` names the file or preset in errors.
///
/// # Errors
/// One line naming the unknown key or the value that does not fit, and the line it stands in.
pub fn parse_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let origin = match error.span() {
            Some(span) => {
                let before = &text.as_bytes()[..span.start.min(text.len())];
                let line = 1 + before.iter().filter(|b| **b == b'\n').count();
                format!("{origin}, line {line}")
            }
            None => origin.to_owned(),
        };
        let reason = error.message().lines().collect::<Vec<_>>().join(" ");
        format!("{origin}: {reason}")
    })
}
