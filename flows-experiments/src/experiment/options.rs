//! Options that all experiments share, and the configuration they start from.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Folder, FolderError};
use crate::backend::check;
use crate::cli::{Compute, DeviceArgs, Misuse};

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
    /// The folder of an experiment begun earlier, where this process goes on with it or works for it;
    /// `None` where it begins a new one.
    pub fn begun(&self, experiment: &str) -> Option<PathBuf> {
        let latest = || Folder::latest(experiment);
        (self.resume || self.worker.is_some()).then(|| self.out.clone().unwrap_or_else(latest))
    }

    /// Folder and threads, where this process is a worker of another.
    pub fn worker(&self) -> Option<(PathBuf, usize)> {
        self.out.clone().zip(self.worker)
    }

    /// The configuration to start from: the file named, or that of the folder `begun` where no preset
    /// is named; `None` where a preset is meant.
    ///
    /// # Errors
    /// [`Misuse`] where the file cannot be read, or there is nothing to resume.
    pub fn config_file(
        &self,
        begun: Option<&Path>,
        preset_named: bool,
    ) -> Result<Option<ConfigFile>, Misuse> {
        match (&self.config, begun) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|e| Misuse::new(format!("--config {}: {e}", file.display())))?;
                let origin = file.display().to_string();
                Ok(Some(ConfigFile { text, origin }))
            }
            (None, Some(begun)) if !preset_named => {
                let text = Folder::config_text(begun).map_err(Misuse::new)?;
                let origin = begun.join("config.toml").display().to_string();
                Ok(Some(ConfigFile { text, origin }))
            }
            (None, _) => Ok(None),
        }
    }

    /// Resolves the options on the backend, with the choices of the folder `begun`.
    ///
    /// # Errors
    /// [`Misuse`] for options that cannot be met.
    pub fn compute(&self, begun: Option<&Path>) -> Result<Compute, Misuse> {
        let earlier = begun
            .map(Folder::compute)
            .transpose()
            .map_err(Misuse::new)?;
        let compute = self.device.resolve_from(earlier)?;
        crate::backend::set_threads(compute.threads);
        Ok(compute)
    }

    /// Begins the experiment in its folder, or goes on with it.
    ///
    /// # Errors
    /// [`Misuse`] for a backend that does not start, which leaves no folder behind, and for a folder
    /// that holds something else; other errors where it cannot be written.
    pub fn open<C: Serialize>(
        &self,
        experiment: &str,
        config: &C,
        compute: Compute,
    ) -> anyhow::Result<Folder> {
        check(compute.backend, compute.dtype).map_err(Misuse::from)?;
        let folder = match self.begun(experiment) {
            Some(begun) => Folder::resume(&begun, config, compute),
            None => Folder::create(self.out.as_deref(), experiment, config, compute),
        };
        folder.map_err(FolderError::for_binary)
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
