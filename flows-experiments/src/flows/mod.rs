//! The command line of `flows`: density estimation for a table of one's own.

mod check;
mod data;
mod demo;
mod fit;
mod import;
mod info;
mod log_prob;
mod plot;
mod sample;

use std::io::{self, Write};
use std::path::Path;

use burn::tensor::backend::Backend;
use clap::{ArgAction, Parser, Subcommand};
use serde_json::{Map, Value};

use crate::backend::Backends;
use crate::cli::UsageError;
use flows_tables::selection::{leading_name, locate};
use flows_tables::table::by_role;
use flows_tables::table_flow::{FitError, ModelHeader, TableFlow};
use flows_tables::{
    Column, DataError, Format, Header, Missing, Reading, Role, Rows, Source, Table,
};
use flows_train::atomic::is_stream;
use flows_train::{FileError, TrainError};

/// Fit a normalizing flow to a table, keep it in one file, score and sample with it
///
/// DATA is a text table (commas, semicolons, tabs, bars or spaces; with or without a header; what is recognised is
/// printed) or a NumPy array in npy or npz, gzipped or not; `-` is standard input or output.
/// Densities are in the units of the table and in nats. Messages go to standard error, results to
/// standard output.
#[derive(Debug, Parser)]
#[command(
    name = "flows",
    version,
    disable_help_flag = true,
    after_help = "Examples:\n  \
        flows fit data.csv -o data.flow                    fit, hold out rows, score them\n  \
        flows plot data.flow data.csv -o pairs.png         data beside samples, all pairs of columns\n  \
        flows sample data.flow -n 10000 -o samples.csv     draw rows with the columns of data.csv\n  \
        flows log-prob data.flow new.csv > scores.csv      log-density of each row\n  \
        flows check data.flow data.csv                     do held-out rows and samples differ?\n  \
        flows info data.flow                               what is in the file\n  \
        flows import zuko.safetensors --from zuko -o zuko.flow    a flow trained with zuko or nflows\n  \
        flows demo household.csv                           a real table to try this on\n\n  \
        flows fit data.csv --context hour,temperature -o load.flow    the other columns given these two\n  \
        flows sample load.flow -n 100 --context hour=18,temperature=4\n  \
        zcat big.csv.gz | flows log-prob data.flow - | head           in a pipe"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print help
    #[arg(short = 'h', long = "help", id = "help", global = true, action = ArgAction::HelpShort)]
    _help: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Fit(Box<fit::Args>),
    LogProb(log_prob::Args),
    Sample(sample::Args),
    Plot(plot::Args),
    Check(check::Args),
    Info(info::Args),
    Import(import::Args),
    Data(data::Args),
    Demo(demo::Args),
}

impl Args {
    /// Does what the options say, on a backend of `D`.
    ///
    /// # Errors
    /// [`UsageError`] for options, tables and models that cannot be used; anything else is a failure.
    pub fn run<D: Backends>(self) -> anyhow::Result<()> {
        let done = match self.command {
            Command::Fit(args) => args.run::<D>(),
            Command::LogProb(args) => args.run::<D>(),
            Command::Sample(args) => args.run::<D>(),
            Command::Plot(args) => args.run::<D>(),
            Command::Check(args) => args.run::<D>(),
            Command::Info(args) => args.run(),
            Command::Import(args) => args.run::<D>(),
            Command::Data(args) => args.run(),
            Command::Demo(args) => args.run(),
        };
        match done {
            // Whoever read the pipe has seen enough: `flows sample ... | head`.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            done => done,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|c| c.downcast_ref::<io::Error>());
    causes.any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes a line to standard output, without the panic of `println!` on a closed pipe.
fn print(line: &str) -> anyhow::Result<()> {
    let failed = |source| DataError::Write {
        target: "standard output".to_owned(),
        source,
    };
    Ok(writeln!(io::stdout(), "{line}").map_err(failed)?)
}

/// Writes a message to standard error; one that nobody reads is no failure.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says where the steps of a DDNF are too large for the rows.
fn say_stability<B: Backend>(flow: &TableFlow<B>, x: &Rows, context: Option<&Rows>) {
    let stability = flow.stability(x, context);
    for warning in stability.iter().flat_map(|s| &s.warnings) {
        say(&format!("note: {warning}"));
    }
}

/// An error of a table: a usage error, but for a device that fails.
fn refuse_data(error: DataError) -> anyhow::Error {
    use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotFound, PermissionDenied};
    let mendable = [
        InvalidData,
        InvalidInput,
        IsADirectory,
        NotFound,
        PermissionDenied,
    ];
    match &error {
        DataError::Read { source, .. } if !mendable.contains(&source.kind()) => error.into(),
        DataError::Write { source, .. } if !mendable.contains(&source.kind()) => error.into(),
        _ => UsageError::new(error).into(),
    }
}

/// An error of a model file: a usage error, but for a write that fails.
fn refuse_model(error: FileError) -> anyhow::Error {
    match error {
        FileError::Write { .. } => error.into(),
        error => UsageError::new(error).into(),
    }
}

/// An error of a fit: a usage error where the table or the configuration is at fault.
fn refuse_fit(error: FitError) -> anyhow::Error {
    match error {
        FitError::Data(error) => refuse_data(error),
        FitError::Train(error @ (TrainError::Diverged { .. } | TrainError::Unsolved { .. })) => error.into(),
        FitError::Train(TrainError::OtherRun {
            path,
            found,
            expected,
        }) => UsageError(format!(
            "{path} was begun otherwise: {}; give the same options and table, or start over with --force",
            difference(&found, &expected)
        ))
        .into(),
        FitError::Train(TrainError::Checkpoint(error @ FileError::Write { .. })) => error.into(),
        other => UsageError::new(other).into(),
    }
}

/// The first thing in which a fit that was begun differs from the one asked for.
fn difference(begun: &str, now: &str) -> String {
    fn first(place: &str, begun: &Value, now: &Value) -> Option<String> {
        match (begun, now) {
            _ if begun == now => None,
            (Value::Object(a), Value::Object(b)) => a.keys().chain(b.keys()).find_map(|key| {
                let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                let place = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place}.{key}")
                };
                first(&place, &value(a), &value(b))
            }),
            _ if place == "table" => Some("the table has changed".to_owned()),
            _ => Some(format!("{place} was {begun}, and is {now}")),
        }
    }
    let [begun, now] = [begun, now].map(|text| serde_json::from_str(text).unwrap_or_default());
    let found = first("", &begun, &now).filter(|_| begun.is_object());
    found.unwrap_or_else(|| "by another version of this program".to_owned())
}

/// Refuses to write over a file that nobody said may go. A pipe has nothing that could be lost.
fn refuse_existing(path: &Path, force: bool) -> Result<(), UsageError> {
    if path != Path::new("-") && path.exists() && !is_stream(path) && !force {
        return Err(UsageError(format!(
            "{} exists; --force writes over it",
            path.display()
        )));
    }
    Ok(())
}

/// Standard deviations from the mean of the training rows beyond which a context is said to be far.
const FAR_CONTEXT: f64 = 10.0;

/// The places of the columns that lists between commas name, by name or number from 1.
fn places(option: &str, lists: &[String], columns: &[&Column]) -> Result<Vec<usize>, UsageError> {
    let mut places = Vec::new();
    for list in lists {
        let mut rest = Some(list.trim());
        while let Some(list) = rest {
            let (place, name) = place(option, list, ',', columns)?;
            places.push(place);
            let more = list[name..].trim_start().strip_prefix(',');
            rest = more.map(str::trim_start);
        }
    }
    Ok(places)
}

/// The place of the column that a text begins with, and the length of what it is called there.
fn place(
    option: &str,
    text: &str,
    end: char,
    columns: &[&Column],
) -> Result<(usize, usize), UsageError> {
    let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
    let numbers: Vec<String> = columns
        .iter()
        .map(|c| (c.position + 1).to_string())
        .collect();
    let by_name = leading_name(&names, text, end).map(|p| (p, names[p].len()));
    let found =
        by_name.or_else(|| leading_name(&numbers, text, end).map(|p| (p, numbers[p].len())));
    found.ok_or_else(|| {
        UsageError(format!(
            "{option} {text}: the columns are {}",
            names.join(", ")
        ))
    })
}

/// Values of columns, as in `hour=18,temperature=4`: the place of each and the text of its value.
fn assignments<'a>(
    option: &str,
    lists: &'a [String],
    columns: &[&Column],
) -> Result<Vec<(usize, &'a str)>, UsageError> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for list in lists {
        let mut rest = Some(list.trim());
        while let Some(list) = rest {
            let expected = || UsageError(format!("{option} {list}: expected NAME=VALUE"));
            if !list.contains('=') {
                return Err(expected());
            }
            let (place, name) = place(option, list, '=', columns)?;
            let value = list[name..]
                .trim_start()
                .strip_prefix('=')
                .ok_or_else(expected)?;
            let (value, more) = match value.split_once(',') {
                Some((value, more)) => (value, Some(more.trim_start())),
                None => (value, None),
            };
            if found.iter().any(|(other, _)| *other == place) {
                let name = &columns[place].name;
                return Err(UsageError(format!("{option} gives {name} twice")));
            }
            found.push((place, value.trim()));
            rest = more;
        }
    }
    Ok(found)
}

/// The values that `--context` gives the context columns of a model; `None` where it gives none;
/// `instead` is where else they may come from.
fn fixed_context(
    lists: &[String],
    header: &ModelHeader,
    instead: &str,
) -> Result<Option<Vec<f64>>, UsageError> {
    let columns = header.columns.iter().filter(|c| c.role == Role::Context);
    let columns: Vec<&Column> = columns.collect();
    if lists.is_empty() {
        return Ok(None);
    }
    if columns.is_empty() {
        return Err(UsageError("the model takes no context".to_owned()));
    }
    let mut values = vec![None; columns.len()];
    for (place, value) in assignments("--context", lists, &columns)? {
        values[place] = Some(number("--context", value)?);
    }
    let all: Option<Vec<f64>> = values.iter().copied().collect();
    let without = columns.iter().zip(&values).filter(|(_, v)| v.is_none());
    let without: Vec<&str> = without.map(|(c, _)| c.name.as_str()).collect();
    all.map(Some)
        .ok_or_else(|| needs_context(&without, instead))
}

fn needs_context(columns: &[&str], instead: &str) -> UsageError {
    UsageError(format!(
        "the model needs a value of {}: --context {}, or {instead}",
        columns.join(", "),
        shell_word(&format!("{}=VALUE", columns.join("=VALUE,")))
    ))
}

/// A text as it is typed in a shell.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-.,=/:+".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A finite number.
fn number(option: &str, text: &str) -> Result<f64, UsageError> {
    let number = text.parse::<f64>().ok().filter(|v| v.is_finite());
    number.ok_or_else(|| UsageError(format!("{option}: '{text}' is not a number")))
}

/// How a table is read, as options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Reading the table")]
struct ReadingArgs {
    /// Whether the first line of a text file is a header
    #[arg(long, value_enum, default_value_t = HeaderArg::Auto)]
    header: HeaderArg,
    /// Character that begins a comment line; above the table, `#` does
    #[arg(long, value_name = "CHAR", value_parser = ascii)]
    comment: Option<u8>,
    /// Numbers of the text have a decimal comma
    #[arg(long)]
    decimal_comma: bool,
    /// Text or number that stands for a missing value besides NA, NaN, null and the like, such as -9999
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    missing: Vec<String>,
    /// Array to read from an npz file that has several
    #[arg(long, value_name = "NAME")]
    array: Option<String>,
}

/// [`Header`] as an option.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HeaderArg {
    /// It does where its cells are words, none of them numeric.
    Auto,
    /// It does.
    Yes,
    /// It does not.
    No,
}

fn ascii(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err("expected one ASCII character".to_owned()),
    }
}

impl ReadingArgs {
    fn reading(&self) -> Reading {
        Reading {
            header: match self.header {
                HeaderArg::Auto => Header::Auto,
                HeaderArg::Yes => Header::Yes,
                HeaderArg::No => Header::No,
            },
            comment: self.comment,
            decimal_comma: self.decimal_comma,
            array: self.array.clone(),
            missing: self.missing.clone(),
            known: Vec::new(),
        }
    }
}

/// How rows are written, as an option.
#[derive(Debug, Clone, clap::Args)]
struct FormatArgs {
    /// CSV or npy [default: npy for a file that ends in .npy]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
}

/// [`Format`] as an option.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FormatArg {
    /// Text between commas, with a header.
    Csv,
    /// NumPy's format, 64-bit floats.
    Npy,
}

impl FormatArgs {
    fn of(&self, path: &Path) -> Format {
        match self.format {
            Some(FormatArg::Csv) => Format::Csv,
            Some(FormatArg::Npy) => Format::Npy,
            None => Format::of(path),
        }
    }
}

/// A table for a fitted model.
#[derive(Debug, Clone, clap::Args)]
struct DataArgs {
    #[command(flatten)]
    reading: ReadingArgs,
}

impl DataArgs {
    /// Opens a table and selects these columns of a model.
    fn open(
        &self,
        path: &Path,
        model: &ModelHeader,
        columns: &[Column],
        missing: Missing,
    ) -> anyhow::Result<Source> {
        let mut source = open_for(path, &self.reading.reading(), model, columns)?;
        let layout = source.layout();
        let wanted = locate(columns, model.source(), layout, source.origin());
        source.select(wanted.map_err(refuse_data)?, missing);
        Ok(source)
    }

    /// Reads the columns of a model to the end of a table.
    fn table(&self, path: &Path, model: &ModelHeader) -> anyhow::Result<Table> {
        let mut source = self.open(path, model, &model.columns, Missing::Skip)?;
        let values = flows_tables::table::collect(&mut source).map_err(refuse_data)?;
        if source.incomplete() > 0 {
            say(&format!(
                "{} rows with missing values left out",
                grouped(source.incomplete())
            ));
        }
        remark(&source);
        let rows = Rows::new(values, model.columns.len());
        let (density, context) = by_role(rows, &model.columns);
        Ok(Table {
            columns: model.columns.clone(),
            source_columns: model.source_columns,
            named: !model.unnamed,
            density,
            context,
            weights: None,
            skipped: source.incomplete(),
        })
    }
}

/// Opens a table and prints what it was recognised as.
fn open(path: &Path, reading: &Reading) -> anyhow::Result<Source> {
    let source = Source::open(path, reading).map_err(refuse_data)?;
    let (origin, layout) = (source.origin(), source.layout());
    say(&format!("{origin}: {}", layout.recognised));
    for note in &layout.notes {
        say(&format!("note: {origin}: {note}"));
    }
    Ok(source)
}

/// Prints what was noticed while a table was read.
fn remark(source: &Source) {
    for remark in source.remarks() {
        say(&format!("note: {}: {remark}", source.origin()));
    }
}

/// As [`open`], for these columns of a model: their own header is recognised again.
fn open_for<'a>(
    path: &Path,
    reading: &Reading,
    model: &ModelHeader,
    columns: impl IntoIterator<Item = &'a Column>,
) -> anyhow::Result<Source> {
    let names = columns.into_iter().map(|c| c.name.clone());
    let known = Reading {
        known: names.collect(),
        ..reading.clone()
    };
    let source = open(path, &known)?;
    let origin = source.origin();
    match &source.layout().names {
        None if !model.unnamed => say(&format!(
            "note: {origin} has no names: columns are taken by place"
        )),
        Some(names) if !known.known.iter().all(|name| names.contains(name)) && model.unnamed => {
            say(&format!(
                "note: the model knows no names: columns of {origin} are taken by place"
            ));
        }
        _ => {}
    }
    Ok(source)
}

fn names_of(columns: &[Column], role: Role) -> Vec<&str> {
    let columns = columns.iter().filter(|c| c.role == role);
    columns.map(|c| c.name.as_str()).collect()
}

/// A number in groups of three digits.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How fast rows went by.
fn throughput(rows: usize, seconds: f64) -> String {
    format!(
        "{} rows in {seconds:.1} s, {} rows/s",
        grouped(rows),
        grouped((rows as f64 / seconds.max(1e-9)) as usize)
    )
}
