//! All jobs of an experiment, on as many cores as there are.

use std::path::Path;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;
use serde::Serialize;

use super::screen::Screen;
use super::workers::{run_in_processes, work};
use super::{Experiment, Folder, Plan, Progress, RunError};
use crate::backend::{Task, dispatch, set_threads};
use crate::cli::{Compute, Misuse};
use crate::run_info::RunInfo;

/// What came of running an experiment.
#[derive(Debug)]
pub struct Run<R> {
    /// Of the jobs that ended, in the order of the jobs.
    pub records: Vec<R>,
    /// Whether every job has ended.
    pub complete: bool,
    /// Where and with what.
    pub info: RunInfo,
    /// Why it stopped early, if it did. What has a record keeps it.
    pub done: Result<(), RunError>,
}

/// Refuses a plan with a model that cannot be built.
///
/// # Errors
/// [`Misuse`] in the words of [`Plan::check_models`], or where the backend does not start.
pub fn check_models<P: Plan>(plan: &P, compute: Compute) -> Result<(), Misuse> {
    struct Check<'a, P>(&'a P);
    impl<P: Plan> Task for Check<'_, P> {
        type Output = Result<(), RunError>;

        fn run<B: AutodiffBackend>(self, device: B::Device) -> Self::Output {
            self.0.check_models::<B>(&device)
        }
    }
    dispatch(compute.backend, compute.dtype, Check(plan))?.map_err(Misuse::new)
}

/// Runs what has no record yet, and shows the progress. `on_ended` gets all records so far and the
/// index of the job that has just ended.
pub fn run_all<B: AutodiffBackend, P: Plan>(
    experiment: &Experiment<P>,
    compute: Compute,
    device: &B::Device,
    mut on_ended: impl FnMut(&[Option<P::Record>], usize),
) -> Run<P::Record> {
    let Compute {
        backend,
        dtype,
        threads,
    } = compute;
    let mut info = RunInfo::new(backend, format!("{device:?}"), dtype, threads);
    let begun = Instant::now();
    let jobs = experiment.plan.jobs();
    // Independent runs fill the cores of a CPU better than parallel loops over small batches.
    let workers = if backend.is_cpu() {
        threads.min(jobs.len())
    } else {
        1
    };
    println!(
        "{} runs on {backend} ({dtype}), {workers} at a time, into {}",
        jobs.len(),
        experiment.folder.path().display()
    );
    let mut screen = Screen::new(jobs.len());
    let mut records: Vec<Option<P::Record>> = vec![None; jobs.len()];
    let mut on_progress = |progress: Progress<P::Record>| {
        screen.show(jobs, &progress);
        if let Progress::Ended { job, record } = progress {
            records[job] = Some(*record);
            on_ended(&records, job);
        }
    };
    let done = if workers > 1 {
        let each = threads.div_ceil(workers);
        run_in_processes(experiment, workers, each, &mut on_progress)
    } else {
        experiment.run::<B>(device, &mut on_progress)
    };
    screen.clear();
    info.wall_seconds = begun.elapsed().as_secs_f64();
    Run {
        complete: records.iter().all(Option::is_some),
        records: records.into_iter().flatten().collect(),
        info,
        done,
    }
}

/// The worker process of an experiment begun by another: does the jobs named on standard input.
///
/// # Errors
/// Where the folder cannot be used, or the backend does not start.
pub fn serve<C: Serialize, P: Plan>(
    out: &Path,
    threads: usize,
    config: &C,
    plan: P,
) -> anyhow::Result<()> {
    struct Worker<P>(Experiment<P>);
    impl<P: Plan> Task for Worker<P> {
        type Output = ();

        fn run<B: AutodiffBackend>(self, device: B::Device) {
            work::<B, P>(&self.0, &device);
        }
    }
    let compute = Folder::compute(out)?;
    set_threads(threads);
    let folder = Folder::of_parent(out, config, compute)?;
    let worker = Worker(Experiment { folder, plan });
    Ok(dispatch(compute.backend, compute.dtype, worker)?)
}
