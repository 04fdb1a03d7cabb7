//! What every binary shares: exit codes, one-line errors, options for backend and threads.

use std::fmt::{self, Display};
use std::process::ExitCode;

use clap::Args;
use flows_tables::table_flow;
use serde::{Deserialize, Serialize};

use crate::backend::{BackendError, BackendKind, Dtype, set_threads};

/// An error that the user can mend by calling the program differently: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// Wraps an error's words.
    pub fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

/// Runs a binary: one line for an error with its chain, exit code 2 for a usage error and 1 for failure.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {}", one_line(&error));
    let is_usage = error.chain().any(|cause| cause.is::<UsageError>());
    ExitCode::from(if is_usage { 2 } else { 1 })
}

/// An error and what caused it, on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // A transparent error repeats its source's words.
        if !words.last().is_some_and(|last| last.contains(&cause)) {
            words.push(cause);
        }
    }
    words.join(": ").replace('\n', " ")
}

/// Makes an unexpected panic one line with a place, instead of a backtrace.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or(String::new(), |l| format!(" at {l}"));
        let payload = panic.payload();
        let words = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let line = words.lines().collect::<Vec<_>>().join(" ");
        eprintln!("error: internal{place}: {line}; this is a bug, please report it");
    }));
}

/// Options that choose where tensors live.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// Backend to compute on, one of those compiled in (flex, ndarray, wgpu, vulkan, cuda)
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Floating-point type, where the backend has it [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<Dtype>,
    /// Threads to use in all [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// The backend, type and threads that [`DeviceArgs`] resolve to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// The backend.
    pub backend: BackendKind,
    /// The floating-point type.
    pub dtype: Dtype,
    /// Threads in all.
    pub threads: usize,
}

impl DeviceArgs {
    /// Resolves the options and sets the process's threads.
    ///
    /// # Errors
    /// [`UsageError`] for a backend that is not there, or zero threads.
    pub fn resolve(&self) -> Result<Compute, UsageError> {
        let compute = self.resolve_from(None)?;
        set_threads(compute.threads);
        Ok(compute)
    }

    /// As [`resolve`](Self::resolve), with the choices of an earlier run where no option is given, and
    /// without setting the threads.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_from(&self, earlier: Option<Compute>) -> Result<Compute, UsageError> {
        let backend = match (&self.backend, earlier) {
            (Some(name), _) => name.parse().map_err(UsageError::new)?,
            (None, Some(earlier)) => earlier.backend.name().parse().map_err(UsageError::new)?,
            (None, None) => BackendKind::default_compiled().ok_or_else(|| {
                UsageError::new("this build has no backend; build with `--features flex`")
            })?,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.or(earlier.map(|c| c.threads)).unwrap_or(cores);
        if threads == 0 {
            return Err(UsageError::new("--threads is 0, expected at least 1"));
        }
        Ok(Compute {
            backend,
            dtype: self.dtype.or(earlier.map(|c| c.dtype)).unwrap_or_default(),
            threads,
        })
    }
}

impl Compute {
    /// As a fit keeps it.
    pub fn of_fit(self) -> table_flow::Compute {
        table_flow::Compute {
            backend: self.backend.to_string(),
            dtype: self.dtype.to_string(),
            threads: self.threads,
        }
    }

    /// What a fit has kept; `None` where there is no such backend or type.
    pub fn begun(kept: &table_flow::Compute) -> Option<Self> {
        serde_json::from_value(serde_json::to_value(kept).ok()?).ok()
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            dtype,
            threads,
        } = self;
        write!(f, "{backend} in {dtype} with --threads {threads}")
    }
}

impl From<BackendError> for UsageError {
    fn from(error: BackendError) -> Self {
        Self::new(error)
    }
}
