//! Several runs at a time, each in a process of its own.
//!
//! Threads would not do: automatic differentiation in Burn 0.21 takes a lock for the whole process
//! at every operation, so two small runs on two threads take as long as one after the other.
//!
//! A worker reads job numbers from its standard input and answers with JSON lines. When the input
//! ends, because the parent is done or was killed, the worker exits at once: what it was doing is
//! in its checkpoint.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};

use super::{Event, Experiment, Job, Plan, Progress, RunError};

/// One line from a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// The job did some steps.
    Stepped(Event),
    /// The job's record is in the folder.
    Ended,
    /// The job could not be done, in one line.
    Failed(String),
}

/// Runs the jobs of `experiment` in `workers` processes of this program.
///
/// # Errors
/// The first [`RunError`]; runs that were under way keep their checkpoints.
pub(super) fn run_in_processes<P: Plan>(
    experiment: &Experiment<P>,
    workers: usize,
    threads: usize,
    on_progress: &mut dyn FnMut(Progress<P::Record>),
) -> Result<(), RunError> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    let (sender, receiver) = mpsc::channel();

    // A thread a process: hands out jobs and passes its words on.
    let serve = |sender: mpsc::Sender<Progress<P::Record>>| -> Result<(), RunError> {
        let mut worker = Worker::spawn(experiment.folder.path(), threads)?;
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = experiment.plan.jobs().get(index) else {
                break;
            };
            // Nobody listens any more only when the experiment is being torn down.
            let tell = |progress| drop(sender.send(progress));
            tell(Progress::Started { job: index });
            let folder = experiment.folder.run(job);
            if folder.record::<P::Record>()?.is_none() {
                worker.ask(index)?;
                worker.follow(|event| tell(Progress::Stepped { job: index, event }))?;
            }
            let record = folder.record()?;
            let lost = || RunError::Worker(format!("{} left no record", job.name()));
            tell(Progress::Ended {
                job: index,
                record: Box::new(record.ok_or_else(lost)?),
            });
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            let (serve, stop, first_error) = (&serve, &stop, &first_error);
            scope.spawn(move || {
                if let Err(error) = serve(sender) {
                    stop.store(true, Ordering::Relaxed);
                    let mut first = first_error.lock().expect("no thread panicked");
                    first.get_or_insert(error);
                }
            });
        }
        drop(sender);
        for progress in receiver {
            on_progress(progress);
        }
    });
    match first_error.into_inner().expect("no thread panicked") {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A worker process, seen from the parent.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn spawn(folder: &Path, threads: usize) -> Result<Self, RunError> {
        let failed = |error: std::io::Error| RunError::Worker(format!("cannot start: {error}"));
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("--worker")
            .arg(threads.to_string())
            .arg("--out")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take().expect("it was piped");
        let output = BufReader::new(child.stdout.take().expect("it was piped"));
        Ok(Self {
            child,
            input,
            output,
        })
    }

    fn ask(&mut self, index: usize) -> Result<(), RunError> {
        writeln!(self.input, "{index}").map_err(|_| self.died())
    }

    /// Passes on what the worker says until the job has ended.
    fn follow(&mut self, mut on_event: impl FnMut(Event)) -> Result<(), RunError> {
        loop {
            let mut line = String::new();
            if !matches!(self.output.read_line(&mut line), Ok(read) if read > 0) {
                return Err(self.died());
            }
            match serde_json::from_str(&line) {
                Ok(Message::Stepped(event)) => on_event(event),
                Ok(Message::Ended) => return Ok(()),
                Ok(Message::Failed(reason)) => return Err(RunError::Worker(reason)),
                Err(_) => return Err(RunError::Worker(format!("said '{}'", line.trim()))),
            }
        }
    }

    fn died(&mut self) -> RunError {
        RunError::Worker(match self.child.wait() {
            Ok(status) => format!("a worker ended early: {status}"),
            Err(error) => format!("a worker was lost: {error}"),
        })
    }
}

impl Drop for Worker {
    /// A worker without a parent to speak to would exit by itself; this one is not left waiting.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The worker's side: does the jobs it is told of until its input ends.
pub(super) fn work<B: AutodiffBackend, P: Plan>(experiment: &Experiment<P>, device: &B::Device) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Some(index) = line.ok().and_then(|line| line.trim().parse::<usize>().ok()) else {
                break;
            };
            if sender.send(index).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    for index in receiver {
        let mut on_event = |event| say(&Message::Stepped(event));
        let job = &experiment.plan.jobs()[index];
        let done = experiment.run_job::<B>(job, device, &mut on_event);
        say(&match done {
            Ok(_) => Message::Ended,
            Err(error) => Message::Failed(error.to_string().replace('\n', " ")),
        });
    }
}

fn say(message: &Message) {
    let line = serde_json::to_string(message).expect("a message is plain data");
    // A parent that no longer reads has been killed.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
