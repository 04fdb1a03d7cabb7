//! The command line of every experiment, and what it does.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use burn::tensor::backend::AutodiffBackend;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;

use super::config::{parse_toml, set, to_toml};
use super::folder::{Begun, FORMAT, Folder, FolderError, RUN};
use super::process::{run_for_parent, run_jobs};
use super::results::{Results, Rows};
use super::{Experiment, Job, data_folder};
use crate::backend::{Task, dispatch, set_threads};
use crate::cli::{Compute, DeviceArgs, UsageError, exit_code, install_panic_hook};
use crate::data::DATA_FOLDER;
use crate::report::{JsonText, write_atomically, write_json, write_json_lines};
use crate::run_info::versions;

/// Options of all experiments.
#[derive(Debug, Args)]
struct RunArgs {
    /// Configuration file to start from (TOML; a run's folder holds one as config.toml)
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Set any key of the configuration, such as training.batch=64; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for the results [default: the next free runs/EXPERIMENT-N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue the experiment in --out, or in the latest runs/EXPERIMENT-N
    #[arg(long)]
    resume: bool,
    /// Do only these jobs of the experiment in --out, separated by commas, beside other processes
    #[arg(long, value_name = "JOBS", value_delimiter = ',')]
    only: Vec<PathBuf>,
    /// Print the jobs and exit, one line each, as --only takes them
    #[arg(long)]
    list_jobs: bool,
    /// Print the names that the configuration may use and exit
    #[arg(long)]
    list: bool,
    /// Started by a runner: write progress as JSON lines, and end with it
    #[arg(long, hide = true, requires = "only")]
    child: bool,
}

/// The program of an experiment.
pub fn main<E: Experiment>() -> ExitCode {
    install_panic_hook();
    exit_code(start::<E>(&command::<E>().get_matches()))
}

/// Its command line.
pub fn command<E: Experiment>() -> Command {
    let first = E::ABOUT.lines().next().unwrap_or_default();
    let examples = E::EXAMPLES.lines().map(|line| format!("\n  {line}"));
    let names = E::PRESETS
        .iter()
        .map(|preset| clap::builder::PossibleValue::new(preset.name).help(preset.about));
    let preset = Arg::new("preset")
        .long("preset")
        .value_name("NAME")
        .value_parser(PossibleValuesParser::new(names))
        .help(format!(
            "Built-in configuration to start from [default: {}]",
            E::PRESETS[0].name
        ));
    let mut command = Command::new(E::NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(format!("Examples:{}", examples.collect::<String>()))
        .arg(preset);
    for flag in E::FLAGS {
        let arg = Arg::new(flag.name).long(flag.name);
        command = command.arg(arg.value_name(flag.value).help(flag.about));
    }
    if E::TAKES_DATA {
        let arg = Arg::new("data-dir").long("data-dir").value_name("DIR");
        let help = format!(
            "Folder with the data [default: the environment variable {DATA_FOLDER}; with --resume, as before]"
        );
        let arg = arg.value_parser(clap::value_parser!(PathBuf));
        command = command.arg(arg.help(help));
    }
    // The derived part brings a text of its own.
    RunArgs::augment_args(command)
        .about(first.to_owned())
        .long_about(E::ABOUT)
}

fn start<E: Experiment>(matches: &ArgMatches) -> anyhow::Result<()> {
    let args = RunArgs::from_arg_matches(matches)?;
    let latest = || Folder::latest(E::NAME);
    let begun = args.resume.then(|| args.out.clone().unwrap_or_else(latest));
    let before = begun.as_deref().map(|path| Folder::begun(path, E::NAME));
    let before = before.transpose().map_err(FolderError::for_binary)?;
    let config = configure::<E>(matches, &args, begun.as_deref())?;
    let text = to_toml(&config);
    let data = if E::TAKES_DATA {
        let given = matches.get_one::<PathBuf>("data-dir").cloned();
        data_folder(
            given,
            before.as_ref().and_then(|before| before.data.clone()),
        )
    } else {
        None
    };
    let experiment = E::new(config, data.clone()).map_err(UsageError)?;
    if args.list {
        return print(&experiment.list());
    }
    let jobs = jobs(&experiment)?;
    if args.list_jobs {
        let lines = jobs.iter().map(|job| format!("{}\n", job.path().display()));
        return print(&lines.collect::<String>());
    }
    let only = args.only.iter().map(|name| {
        let place = jobs.iter().position(|job| job.path() == *name);
        place.ok_or_else(|| {
            let name = name.display();
            UsageError(format!(
                "no job is called '{name}'; --list-jobs prints them"
            ))
        })
    });
    let only = only.collect::<Result<Vec<_>, _>>()?;
    let place = match (args.only.is_empty(), begun, &args.out) {
        (true, Some(begun), _) => Place::Resumed(begun),
        (true, None, out) => Place::New(out.clone()),
        (false, Some(begun), _) => Place::Shared(begun),
        (false, None, Some(out)) => Place::Shared(out.clone()),
        (false, None, None) => {
            return Err(UsageError::new("--only needs --out, the folder of all jobs").into());
        }
    };
    let before = match &place {
        Place::Shared(path) => Folder::begun(path, E::NAME).ok().or(before),
        _ => before,
    };
    let earlier = before.map(|before| before.compute);
    let compute = args.device.resolve_from(earlier)?;
    // Independent jobs fill the cores of a CPU better than parallel loops over small batches. On a GPU
    // one process does all: to start another takes long.
    let workers = match compute.backend.is_cpu() {
        true => compute.threads.min(jobs.len()),
        false => 1,
    };
    set_threads(match &place {
        Place::Shared(_) => compute.threads.div_ceil(workers),
        _ => compute.threads,
    });
    let begun = Begun {
        format: FORMAT,
        experiment: E::NAME.to_owned(),
        compute,
        data,
    };
    let session = Session {
        experiment,
        jobs,
        only,
        place,
        text,
        begun,
        workers,
        child: args.child,
    };
    dispatch(compute.backend, compute.dtype, session).map_err(UsageError::from)?
}

/// The configuration that options, file, preset and folder come to.
fn configure<E: Experiment>(
    matches: &ArgMatches,
    args: &RunArgs,
    begun: Option<&Path>,
) -> anyhow::Result<E::Config> {
    let named = matches.get_one::<String>("preset");
    let (text, origin) = match (&args.config, begun, named) {
        (Some(file), ..) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| UsageError::new(format!("--config {}: {e}", file.display())))?;
            (text, file.display().to_string())
        }
        (None, Some(begun), None) => {
            let text = Folder::config_text(begun).map_err(FolderError::for_binary)?;
            (text, begun.join("config.toml").display().to_string())
        }
        (None, _, named) => {
            let name = named.map_or(E::PRESETS[0].name, String::as_str);
            let preset = E::PRESETS.iter().find(|preset| preset.name == name);
            let text = preset.expect("the options allow no other").toml.to_owned();
            (text, format!("preset {name}"))
        }
    };
    let mut config: E::Config = parse_toml(&text, &origin).map_err(UsageError)?;
    for flag in E::FLAGS {
        if let Some(value) = matches.get_one::<String>(flag.name) {
            let origin = format!("--{} {value}", flag.name);
            config = set(&config, flag.key, value, flag.removes, &origin).map_err(UsageError)?;
        }
    }
    for setting in &args.set {
        let origin = format!("--set {setting}");
        let Some((key, value)) = setting.split_once('=') else {
            return Err(UsageError(format!("{origin}: expected KEY=VALUE")).into());
        };
        config = set(&config, key.trim(), value.trim(), None, &origin).map_err(UsageError)?;
    }
    Ok(config)
}

/// The jobs, each with a folder of its own.
fn jobs<E: Experiment>(experiment: &E) -> anyhow::Result<Vec<E::Job>> {
    let jobs = experiment.jobs().map_err(UsageError)?;
    if jobs.is_empty() {
        return Err(UsageError::new("the configuration has no jobs").into());
    }
    let mut paths = std::collections::HashSet::new();
    match jobs.iter().find(|job| !paths.insert(job.path())) {
        Some(twice) => Err(UsageError(format!("'{}' is listed twice", twice.name())).into()),
        None => Ok(jobs),
    }
}

/// Writes to standard output; a reader that has ended is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Where results go.
enum Place {
    New(Option<PathBuf>),
    Resumed(PathBuf),
    /// With other processes, each for some of the jobs.
    Shared(PathBuf),
}

/// An experiment with what it was asked for.
struct Session<E: Experiment> {
    experiment: E,
    jobs: Vec<E::Job>,
    only: Vec<usize>,
    place: Place,
    text: String,
    begun: Begun,
    workers: usize,
    child: bool,
}

impl<E: Experiment> Task for Session<E> {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Self {
            experiment,
            jobs,
            only,
            place,
            text,
            begun,
            workers,
            child,
        } = self;
        if !child {
            // Before there is a folder: what cannot be read or built leaves none behind.
            let checked = experiment.check::<B>(&jobs, &device);
            checked.map_err(|error| UsageError(crate::cli::one_line(&error)))?;
        }
        let folder = match &place {
            Place::New(out) => Folder::create(out.as_deref(), &begun, &text),
            Place::Resumed(path) => Folder::resume(path, &begun, &text),
            Place::Shared(path) => Folder::of_some_jobs(path, &begun, &text),
        };
        let mut results = Results {
            folder: folder.map_err(FolderError::for_binary)?,
            dtype: begun.compute.dtype,
            records: jobs.iter().map(|_| None).collect(),
            jobs,
        };
        if child {
            run_for_parent::<B, E>(&experiment, &results, &only, &device);
            return Ok(());
        }
        let all: Vec<usize> = (0..results.jobs.len()).collect();
        let is_part = matches!(place, Place::Shared(_));
        let (which, workers) = match is_part {
            true => (only, 1),
            false => (all, workers),
        };
        let Compute { backend, dtype, .. } = begun.compute;
        let path = results.folder.path().display().to_string();
        print(&format!(
            "{} runs on {backend} ({dtype}), {workers} at a time, into {path}\n",
            which.len()
        ))?;
        let started = Instant::now();
        let data = begun.data.as_deref();
        let done = run_jobs::<B, E>(&experiment, &mut results, &which, workers, data, &device);
        if !is_part {
            let ended = Ended {
                begun: &begun,
                git: env!("FLOWS_COMMIT"),
                device: format!("{device:?}"),
                versions: versions(),
                wall_seconds: started.elapsed().as_secs_f64(),
                complete: results.records.iter().all(Option::is_some),
            };
            // What was computed is written, whatever stopped the rest.
            let rows = write(&experiment, &results, &text, &ended)?;
            done.context("stopped; --resume continues from here")?;
            experiment.pictures::<B>(&results, &rows, &device)?;
            let table = experiment.tables(&results, &rows).into_iter().next();
            let table = table.map_or(String::new(), |table| table.to_terminal());
            let notes = experiment.notes(&results);
            print(&format!("\n{table}\n{notes}\nresults in {path}\n"))?;
        } else {
            done.context("stopped; the same command continues from here")?;
        }
        match results.diverged() {
            0 => Ok(()),
            n => anyhow::bail!("{n} of {} runs diverged", which.len()),
        }
    }
}

/// `run.json` of an experiment that has stopped.
#[derive(Serialize)]
struct Ended<'a> {
    #[serde(flatten)]
    begun: &'a Begun,
    /// Commit that the program was built from, with `-dirty` where its sources differed from it.
    git: &'static str,
    device: String,
    versions: BTreeMap<String, String>,
    /// Seconds since it was started, or resumed.
    wall_seconds: f64,
    /// Whether every job has ended.
    complete: bool,
}

/// Writes `results.jsonl`, `summary.json`, `table.md` and `run.json`.
fn write<E: Experiment>(
    experiment: &E,
    results: &Results<E>,
    config: &str,
    ended: &Ended<'_>,
) -> anyhow::Result<Rows> {
    let path = |name: &str| results.folder.path().join(name);
    let columns = experiment.columns(results);
    let lines = results.tidy(&columns).into_iter();
    let lines = lines.map(|row| JsonText::line(&row).to_string() + "\n");
    write_atomically(path("results.jsonl"), lines.collect::<String>().as_bytes())?;

    let rows = results.rows(&columns);
    let tables = experiment.tables(results, &rows);
    let tables = tables.iter().map(|table| table.to_markdown());
    let text = [experiment.notes(results) + "\n"].into_iter().chain(tables);
    let text = text.collect::<Vec<_>>().join("\n");
    write_atomically(path("table.md"), text.as_bytes())?;

    let config: toml::Table = toml::from_str(config).expect("it was written here");
    let mut summary = vec![
        ("experiment", JsonText::line(&E::NAME)),
        ("config", JsonText::line(&config)),
        ("complete", JsonText::line(&ended.complete)),
        ("rows", JsonText::lines(&rows.rows)),
    ];
    summary.extend(experiment.summary(results));
    write_json_lines(path("summary.json"), &summary)?;
    write_json(path(RUN), ended)?;
    Ok(rows)
}
