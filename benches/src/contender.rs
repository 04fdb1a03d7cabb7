//! Implementations of the cases as programs that print JSON lines: ours, and the scripts for other libraries.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::case::{Case, Family, Kind, Work};

/// What takes part in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// The binary `step`.
    Ours,
    /// An implementation of a script for another library.
    Peer {
        /// The script's file name.
        script: &'static str,
        /// Its first argument.
        implementation: &'static str,
        /// How tables call it.
        name: &'static str,
    },
}

const TORCH: &str = "torch_bench.py";
const JAX: &str = "jax_bench.py";

const fn peer(script: &'static str, implementation: &'static str, name: &'static str) -> Contender {
    Contender::Peer {
        script,
        implementation,
        name,
    }
}

impl Contender {
    /// Every one, in the order of a table's columns.
    pub const ALL: [Self; 8] = [
        Self::Ours,
        peer(TORCH, "own", "torch"),
        peer(TORCH, "own-compile", "torch compiled"),
        peer(TORCH, "zuko", "zuko"),
        peer(TORCH, "nflows", "nflows"),
        peer(TORCH, "normflows", "normflows"),
        peer(JAX, "own", "jax"),
        peer(JAX, "flowjax", "flowjax"),
    ];

    /// How tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer { name, .. } => name,
        }
    }

    /// Whether it has such cases: the libraries know no DDNF, compilation is for training steps, and
    /// log-densities alone are there to compare our inverse with.
    pub fn takes(self, kind: Kind) -> bool {
        let Self::Peer { implementation, .. } = self else {
            return true;
        };
        let own = implementation.starts_with("own");
        match (kind.family, kind.work) {
            (_, Work::Forward | Work::Value) | (Family::DdnfExact, _) => false,
            (Family::Maf, Work::Step) => implementation != "normflows",
            (Family::Maf, Work::Inverse) => !matches!(implementation, "own-compile" | "normflows"),
            (Family::Ddnf, _) => own,
            (Family::Nsf, _) => !own && (implementation, kind.work) != ("normflows", Work::Inverse),
            (Family::Nvp | Family::NsfCoupling, work) => !own && work == Work::Step,
        }
    }
}

/// Where the programs are, and how long they may take.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The binary `step`.
    pub step: PathBuf,
    /// The Python interpreter of the other libraries.
    pub python: PathBuf,
    /// The directory of their scripts.
    pub scripts: PathBuf,
    /// Threads each may use.
    pub threads: usize,
    /// Seconds each times a case.
    pub budget: f64,
    /// A program that takes longer in all is stopped.
    pub limit: Duration,
}

/// The figures of a line that a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Figures {
    /// Median milliseconds of a call.
    pub median_ms: f64,
    /// Milliseconds that counted operations alone would take.
    pub floor_ms: Option<f64>,
}

impl Programs {
    /// Runs one case once.
    ///
    /// # Errors
    /// One line that says why there is no figure.
    pub fn run(&self, contender: Contender, case: Case) -> Result<Figures, String> {
        let mut command = match contender {
            Contender::Ours => {
                let mut command = Command::new(&self.step);
                command.args(["--threads", &self.threads.to_string()]);
                command.args(["--budget", &self.budget.to_string()]);
                command
            }
            Contender::Peer {
                script,
                implementation,
                ..
            } => {
                let mut command = Command::new(&self.python);
                command.arg(self.scripts.join(script)).arg(implementation);
                command.env("NT", self.threads.to_string());
                command.env("BUD", self.budget.to_string());
                command.env("UNROLL", "16");
                command
            }
        };
        command.arg(case.to_string());
        let program = Path::new(command.get_program()).display().to_string();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let output = self.finish(child)?;
        figures(&output)
    }

    /// Waits, and stops what takes too long.
    fn finish(&self, mut child: Child) -> Result<Output, String> {
        // Both pipes are emptied meanwhile, so that no program waits for a reader.
        let out = read(child.stdout.take());
        let errors = read(child.stderr.take());
        let begun = Instant::now();
        let success = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status.success(),
                None if begun.elapsed() > self.limit => {
                    // It may have ended since; either way there is nothing left to do.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("nothing within {} s", self.limit.as_secs()));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
        Ok(Output {
            success,
            out: text(out),
            errors: text(errors),
        })
    }
}

struct Output {
    success: bool,
    out: String,
    errors: String,
}

fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends the text; what is missing shows as a missing figure.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The figures among what a program printed, or the line with its reason.
fn figures(output: &Output) -> Result<Figures, String> {
    let mut lines = output.out.lines().rev();
    let found = lines.find_map(|line| serde_json::from_str(line).ok());
    match found {
        Some(figures) if output.success => Ok(figures),
        _ => {
            let mut lines = output.errors.lines().map(str::trim);
            let reason = lines.rfind(|line| !line.is_empty());
            Err(reason.unwrap_or("no figure, and no word why").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(success: bool, out: &str, errors: &str) -> Output {
        Output {
            success,
            out: out.to_owned(),
            errors: errors.to_owned(),
        }
    }

    #[test]
    fn figures_are_found_among_other_lines() {
        let out = "compiling\n{\"impl\": \"jax-own\", \"median_ms\": 1.5, \"n\": 7}\n";
        let found = figures(&output(true, out, "first 0.1s\n")).unwrap();
        assert_eq!(found.median_ms, 1.5);
        assert_eq!(found.floor_ms, None);
    }

    #[test]
    fn a_failure_gives_its_last_line() {
        let errors = "Traceback:\n  import zuko\nModuleNotFoundError: No module named 'zuko'\n\n";
        let reason = figures(&output(false, "", errors)).unwrap_err();
        assert_eq!(reason, "ModuleNotFoundError: No module named 'zuko'");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let programs = Programs {
            step: "no-such-program".into(),
            python: "no-such-python".into(),
            scripts: ".".into(),
            threads: 1,
            budget: 0.1,
            limit: Duration::from_secs(1),
        };
        let case = "maf-2-4-8".parse().unwrap();
        let reason = programs.run(Contender::Ours, case).unwrap_err();
        assert!(reason.starts_with("no-such-program: "), "{reason}");
    }

    #[test]
    fn every_training_step_has_others_to_be_compared_with() {
        let taken = |family| {
            let kind = Kind {
                family,
                work: Work::Step,
            };
            Contender::ALL.iter().filter(|c| c.takes(kind)).count()
        };
        assert_eq!(taken(Family::Maf), 7);
        assert_eq!(taken(Family::Ddnf), 4);
        for family in [Family::Nsf, Family::Nvp, Family::NsfCoupling] {
            assert_eq!(taken(family), 5, "{family:?}");
        }
    }
}
