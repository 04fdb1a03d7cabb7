//! Our cases and those of other libraries in turn, in one run: see `compare --help`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use flows_benches::case::Case;
use flows_benches::contender::Programs;
use flows_benches::table::{Record, Row, markdown};
use flows_experiments::cli::{UsageError, exit_code, install_panic_hook};

/// Compare with other libraries on the same work and print a Markdown table of medians
///
/// In every round each implementation of a case is run once, one after the other, so that a machine
/// that slows down slows down all of them. The scripts torch_bench.py (own, own-compile, zuko,
/// nflows) and jax_bench.py (own, flowjax) take cases and print JSON lines as `step` does; one that
/// fails leaves a cell without a figure and a line with the reason.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Example:\n  compare --peers scripts --python venv/bin/python --rounds 3 maf-64-512-1000 mafinv-64-512-1000"
)]
struct Args {
    /// Cases to run, as for `step`
    #[arg(required = true, value_name = "CASE")]
    cases: Vec<String>,
    /// Directory of the other libraries' scripts
    #[arg(long, value_name = "DIR")]
    peers: PathBuf,
    /// Python interpreter that has the other libraries
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// The binary `step` [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    step: Option<PathBuf>,
    /// Times that each implementation of a case is run
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Seconds that each run times its case
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    budget: f64,
    /// Threads of each
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Seconds after which a run is stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,
    /// Write all rounds to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    install_panic_hook();
    exit_code(run(Args::parse()))
}

fn run(args: Args) -> anyhow::Result<()> {
    let cases = args.cases.iter().map(|case| case.parse());
    let cases = cases
        .collect::<Result<Vec<Case>, _>>()
        .map_err(UsageError::new)?;
    if args.rounds == 0 || args.threads == 0 {
        return Err(UsageError::new("--rounds and --threads must be at least 1").into());
    }
    if !(args.budget > 0.0 && args.budget.is_finite()) {
        return Err(UsageError::new("--budget must be positive").into());
    }
    if !args.peers.is_dir() {
        let directory = args.peers.display();
        return Err(UsageError::new(format!("--peers: {directory} is no directory")).into());
    }
    let step = match args.step {
        Some(step) => step,
        None => {
            let own = std::env::current_exe().context("the place of this program")?;
            let name = format!("step{}", std::env::consts::EXE_SUFFIX);
            own.with_file_name(name)
        }
    };
    if !step.is_file() {
        let step = step.display();
        let words = format!("{step} is not there; build it with `cargo build --release`");
        return Err(UsageError::new(words).into());
    }
    let programs = Programs {
        step,
        python: args.python,
        scripts: args.peers,
        threads: args.threads,
        budget: args.budget,
        limit: Duration::from_secs(args.limit),
    };
    let mut rows = Vec::new();
    for case in cases {
        let mut row = Row::new(case);
        for round in 1..=args.rounds {
            for (place, contender) in row.running() {
                eprintln!("{case}, round {round}: {}", contender.name());
                row.add(place, programs.run(contender, case));
            }
        }
        rows.push(row);
    }
    print!("{}", markdown(&rows));
    if let Some(path) = args.json {
        let records: Vec<Record> = rows.iter().map(Row::record).collect();
        let text = serde_json::to_string_pretty(&records)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
