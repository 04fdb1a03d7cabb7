//! Jobs in this process, and in several others.
//!
//! Threads would not do: automatic differentiation in Burn 0.21 takes a lock for the whole process
//! at every operation, so two small jobs on two threads take as long as one after the other.
//!
//! A child is this program with `--only JOB`, as anybody may start it on another machine. One that is
//! told by `--child` that a runner started it writes JSON lines to standard output, and ends when its
//! standard input does, because its parent is done or was killed: what it was doing is in its
//! checkpoint.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use anyhow::{Context, anyhow};
use burn::tensor::backend::AutodiffBackend;
use flows_train::TrainError;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, FolderError};
use super::results::{Outcome, Record, Results};
use super::screen::Screen;
use super::{Event, Experiment, Job, Refused, Run};
use flows_tables::table_flow::FitError;

/// Does one job: from its record, its checkpoint, or the beginning.
///
/// # Errors
/// Where another process does it, or there is nothing to record.
pub(super) fn run_job<B: AutodiffBackend, E: Experiment>(
    experiment: &E,
    folder: &Folder,
    job: &E::Job,
    device: &B::Device,
    on_event: &mut dyn FnMut(Event),
) -> anyhow::Result<Record<E::Measured>> {
    let folder = folder.run(job);
    let _lock = folder.take().map_err(FolderError::for_binary)?;
    if let Some(record) = folder.record()? {
        return Ok(record);
    }
    let mut run = Run::<B> {
        device,
        folder: folder.clone(),
        name: job.name(),
        on_event,
        warnings: Vec::new(),
    };
    let outcome = match experiment.run(job, &mut run) {
        Ok(measured) => Outcome::Measured(measured),
        Err(error) => ended(&error).ok_or(error).with_context(|| job.name())?,
    };
    let record = Record {
        outcome,
        warnings: run.warnings,
    };
    folder.keep_record(&record)?;
    Ok(record)
}

/// The outcome that an error stands for, where it is one.
fn ended<M>(error: &anyhow::Error) -> Option<Outcome<M>> {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return Some(Outcome::Refused(refused.to_string()));
    }
    let of_table = error.downcast_ref::<FitError>();
    let of_training = match of_table {
        Some(FitError::Train(error)) => Some(error),
        _ => error.downcast_ref::<TrainError>(),
    };
    match of_training? {
        diverged @ (TrainError::Diverged { .. } | TrainError::Unsolved { .. }) => {
            Some(Outcome::Diverged(diverged.to_string()))
        }
        _ => None,
    }
}

/// One line from a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// The job did some steps.
    Stepped(Event),
    /// The job could not be done, in one line.
    Failed(String),
}

/// News from the jobs.
enum Progress<M> {
    Started(usize),
    Stepped(usize, Event),
    Ended(usize, Box<Record<M>>),
}

/// Does the jobs `which` of `results` that have no record yet, `workers` at a time, and shows them.
///
/// # Errors
/// The first one; jobs that were under way keep their checkpoints, those that have ended their records.
pub(super) fn run_jobs<B: AutodiffBackend, E: Experiment>(
    experiment: &E,
    results: &mut Results<E>,
    which: &[usize],
    workers: usize,
    data: Option<&Path>,
    device: &B::Device,
) -> anyhow::Result<()> {
    for &job in which {
        let record = results.run(&results.jobs[job]).record();
        results.records[job] = record?;
    }
    let Results {
        folder,
        jobs,
        records,
        ..
    } = results;
    let steps = which.iter().map(|&job| jobs[job].steps() as u64).collect();
    let ended: Vec<bool> = which.iter().map(|&job| records[job].is_some()).collect();
    let mut screen = Screen::new(steps, &ended);
    let show = |screen: &mut Screen, place: usize, record: &Record<E::Measured>| {
        let outcome = match &record.outcome {
            Outcome::Measured(measured) => experiment.outcome(measured),
            Outcome::Refused(reason) => format!("refused: {reason}"),
            Outcome::Diverged(reason) => format!("diverged: {reason}"),
        };
        let name = jobs[which[place]].name();
        screen.ended(place, &name, &outcome, &record.warnings);
    };
    let mut open = Vec::new();
    for (place, &job) in which.iter().enumerate() {
        match &records[job] {
            Some(record) => show(&mut screen, place, record),
            None => open.push(place),
        }
    }
    let mut on_progress = |progress: Progress<E::Measured>| match progress {
        Progress::Started(place) => screen.started(place, &jobs[which[place]].name()),
        Progress::Stepped(place, event) => screen.stepped(place, event),
        Progress::Ended(place, record) => {
            show(&mut screen, place, &record);
            records[which[place]] = Some(*record);
        }
    };
    let done = if workers > 1 {
        in_children::<E>(folder, jobs, which, &open, workers, data, &mut on_progress)
    } else {
        open.iter().try_for_each(|&place| {
            on_progress(Progress::Started(place));
            let job = &jobs[which[place]];
            let mut on_event = |event| on_progress(Progress::Stepped(place, event));
            let record = run_job::<B, E>(experiment, folder, job, device, &mut on_event)?;
            on_progress(Progress::Ended(place, Box::new(record)));
            Ok(())
        })
    };
    screen.clear();
    done
}

/// Does each of the `open` jobs in a child, several at a time.
fn in_children<E: Experiment>(
    folder: &Folder,
    jobs: &[E::Job],
    which: &[usize],
    open: &[usize],
    workers: usize,
    data: Option<&Path>,
    on_progress: &mut dyn FnMut(Progress<E::Measured>),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    let (sender, receiver) = mpsc::channel();
    let (next, stop, first_error) = (&next, &stop, &first_error);
    // A thread for each child at a time: starts one after the other and passes its lines on.
    let work = move |sender: mpsc::Sender<Progress<E::Measured>>| -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let Some(&place) = open.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let job = &jobs[which[place]];
            // Nobody listens any more only when the experiment is being torn down.
            let tell = |progress| drop(sender.send(progress));
            tell(Progress::Started(place));
            let child = Started::child(folder.path(), &job.path(), data)?;
            child.follow(|event| tell(Progress::Stepped(place, event)))?;
            let record = folder.run(job).record()?;
            let record = record.ok_or_else(|| anyhow!("{} left no result", job.name()))?;
            tell(Progress::Ended(place, Box::new(record)));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(move || {
                if let Err(error) = work(sender) {
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
    match first_error.lock().expect("no thread panicked").take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// A child, seen from its parent, which holds the other end of its standard input.
struct Started(Child);

impl Started {
    fn child(folder: &Path, job: &Path, data: Option<&Path>) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(["--child", "--resume", "--out"]).arg(folder);
        command.arg("--only").arg(job);
        if let Some(data) = data {
            command.arg("--data-dir").arg(data);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Ok(Self(child.context("cannot start another process")?))
    }

    /// Passes on what the child writes until it ends.
    fn follow(mut self, mut on_event: impl FnMut(Event)) -> anyhow::Result<()> {
        let output = self.0.stdout.take().expect("it was piped");
        let mut failed = None;
        for line in BufReader::new(output).lines() {
            match serde_json::from_str(&line?) {
                Ok(Message::Stepped(event)) => on_event(event),
                Ok(Message::Failed(reason)) => failed = Some(reason),
                Err(error) => return Err(anyhow!("a child wrote what is no progress: {error}")),
            }
        }
        let status = self.0.wait()?;
        match failed {
            Some(reason) => Err(anyhow!(reason)),
            None if !status.success() => Err(anyhow!("a child ended early: {status}")),
            None => Ok(()),
        }
    }
}

impl Drop for Started {
    /// A child without a parent would end by itself; this one is not left waiting.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child's side: does the jobs `which`, and writes how far they are.
pub(super) fn run_for_parent<B: AutodiffBackend, E: Experiment>(
    experiment: &E,
    results: &Results<E>,
    which: &[usize],
    device: &B::Device,
) {
    std::thread::spawn(|| {
        // It ends with the parent, which writes nothing.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    for &job in which {
        let job = &results.jobs[job];
        let mut on_event = |event| write(&Message::Stepped(event));
        let done = run_job::<B, E>(experiment, &results.folder, job, device, &mut on_event);
        if let Err(error) = done {
            let words = crate::cli::one_line(&error);
            return write(&Message::Failed(words));
        }
    }
}

fn write(message: &Message) {
    let line = serde_json::to_string(message).expect("a message is plain data");
    // A parent that no longer reads has been killed.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
