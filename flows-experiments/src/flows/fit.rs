//! `flows fit`

use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use flows_models::ModelConfig;
use indicatif::ProgressBar;

use super::{
    ReadingArgs, assignments, grouped, names_of, number, open, places, print, refuse_data,
    refuse_existing, refuse_fit, refuse_model, remark, say, say_stability,
};
use crate::backend::{Backends, Task, check};
use crate::cli::{Compute, DeviceArgs, UsageError};
use crate::lock::Lock;
use crate::report::format_estimate;
use flows_tables::table_flow::{
    Checkpointing, Detected, Estimate, FitConfig, Given, MODELS, Prepared, Shape, TableFlow,
    begun_on, choose, fit_prepared, member_checkpoint,
};
use flows_tables::{Column, Missing, Role, Selection, Table};
use flows_train::atomic::{is_stream, temporary_beside};
use flows_train::{Evaluation, Stopped, Training};

/// Fit a flow to a table and write it as one file
///
/// A tenth of the rows is held out to stop training in time, another tenth to score the result, which
/// is compared with a Gaussian of full covariance. An interrupted fit continues with --resume and ends
/// with the same model.
#[derive(Debug, clap::Args)]
#[command(after_help = models())]
pub(super) struct Args {
    /// Table: CSV or npy, `-` for standard input
    data: PathBuf,
    /// File for the model
    #[arg(short, long, value_name = "MODEL")]
    out: PathBuf,
    /// Model, one of those below [default: ddnf, with a mixture beside it]
    #[arg(long, value_name = "NAME", conflicts_with = "model_config")]
    model: Option<String>,
    /// Layers, or blocks of a ddnf
    #[arg(long, value_name = "N", conflicts_with = "model_config")]
    layers: Option<usize>,
    /// Widths of hidden layers [default: 64,64; ddnf: 64 for up to three columns, beyond 4 a column and
    /// at most 24]
    #[arg(
        long,
        value_name = "WIDTHS",
        value_delimiter = ',',
        conflicts_with = "model_config"
    )]
    hidden: Option<Vec<usize>>,
    /// Model as a TOML table with `kind` and `dim`, in place of --model
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
    /// Members of an ensemble, each stopped by other rows: the density is the mean of theirs [default:
    /// 1; where no model is named, 3 below 300 training rows and 2 below 1,000]
    #[arg(long, value_name = "N")]
    members: Option<usize>,
    /// Give a mixture of normal and Student distributions the share of the density that the validation rows
    /// set [default: true where no model is named]
    #[arg(long, value_name = "BOOL")]
    mixture: Option<bool>,
    /// Decorrelate the columns before the flow [default: for ddnf, planar, radial, sylvester]
    #[arg(long, value_name = "BOOL")]
    whiten: Option<bool>,
    /// Columns to condition on, by name or number: the density is of the others, given these
    #[arg(long, value_name = "COLUMNS")]
    context: Vec<String>,
    /// Columns to model [default: all]
    #[arg(long, value_name = "COLUMNS")]
    columns: Vec<String>,
    /// Columns to leave out
    #[arg(long, value_name = "COLUMNS")]
    drop: Vec<String>,
    /// Column with the weights of the rows, by name or number: a row of weight 2 counts as two
    #[arg(long, value_name = "COLUMN")]
    weights: Option<String>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Columns that are positive
    #[arg(long, value_name = "COLUMNS")]
    positive: Vec<String>,
    /// Ends of bounded columns, such as share=0:1
    #[arg(long, value_name = "NAME=LOW:HIGH")]
    bounds: Vec<String>,
    /// Periods of columns on a circle, such as hour=24
    #[arg(long, value_name = "NAME=PERIOD")]
    periodic: Vec<String>,
    /// Columns of whole numbers or levels: they get probabilities
    #[arg(long, value_name = "COLUMNS")]
    discrete: Vec<String>,
    /// Columns that are taken as they are, whatever they look like
    #[arg(long, value_name = "COLUMNS")]
    continuous: Vec<String>,
    /// Whether the kinds of the other columns are found by their values
    #[arg(long, value_enum, default_value_t = KindsArg::Auto)]
    kinds: KindsArg,
    /// Leave out rows with a missing value
    #[arg(long)]
    skip_missing: bool,
    /// Most gradient steps
    #[arg(long, value_name = "N", default_value_t = Training::default().steps)]
    steps: usize,
    /// Rows in a batch [default: 256, and a tenth of few rows]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Learning rate of Adam at its peak [default: by model and rows, 0.001 to 0.006]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Rate at which parameters shrink towards 0, in units of the learning rate [default: by rows]
    #[arg(long, value_name = "RATE")]
    weight_decay: Option<f64>,
    /// Steps between two validation checks [default: by rows]
    #[arg(long, value_name = "N")]
    check_every: Option<usize>,
    /// Stop after N validation checks without improvement
    #[arg(long, value_name = "N", default_value_t = Training::default().patience.unwrap_or_default())]
    patience: usize,
    /// Fraction of the rows that decides when to stop
    #[arg(long, value_name = "FRACTION", default_value_t = 0.1)]
    validation: f64,
    /// Fraction of the rows for the final score
    #[arg(long, value_name = "FRACTION", default_value_t = 0.1)]
    test: f64,
    /// Seed of split, parameters and batches
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write over MODEL, and over an unfinished fit
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Go on with an interrupted fit of the same table with the same options
    #[arg(long)]
    resume: bool,
    /// Least seconds between two checkpoints: what an interruption can cost
    #[arg(long, value_name = "S", default_value_t = Training::default().checkpoint_seconds)]
    checkpoint_seconds: f64,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Whether kinds are looked for.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum KindsArg {
    /// They are, and each is printed.
    Auto,
    /// Columns are continuous unless another option says so.
    None,
}

const EXAMPLES: &str = "\
A tenth of the rows is held out to stop training in time, another tenth to score the result beside a Gaussian.
Kinds of columns are found and printed; options correct them. An interrupted fit continues with --resume.

Examples:
  flows fit data.csv -o data.flow                        all columns, default model
  flows fit data.csv -o data.flow --drop id --periodic hour=24 --bounds share=0:1
  flows fit data.csv -o load.flow --context hour         the other columns, given the hour
  flows fit data.csv -o data.flow --members 5            an ensemble, with a spread for each row";

fn models() -> String {
    let lines = MODELS
        .iter()
        .map(|(name, about)| format!("  {name:<10} {about}"));
    format!(
        "{EXAMPLES}\n\nModels:\n{}",
        lines.collect::<Vec<_>>().join("\n")
    )
}

impl Args {
    pub(super) fn run<D: Backends>(self) -> anyhow::Result<()> {
        if self.out == Path::new("-") || is_stream(&self.out) {
            return Err(UsageError("--out: a model is a file, not a pipe".to_owned()).into());
        }
        // Held to the end: a second fit would write over checkpoint and model of this one.
        let _lock = lock(&self.out)?;
        let checkpoint = beside(&self.out, ".checkpoint");
        refuse_existing(&self.out, self.force || self.resume && checkpoint.exists())?;
        let shown = checkpoint.display();
        match (checkpoint.exists(), self.resume) {
            (true, false) if !self.force => {
                return Err(UsageError(format!(
                    "an unfinished fit is in {shown}; use --resume to continue it or --force to start over"
                ))
                .into());
            }
            (false, true) => {
                return Err(UsageError(format!("there is no unfinished fit in {shown}")).into());
            }
            _ => {}
        }
        refuse_unwritable(&self.out)?;
        // What an unfinished fit was begun on may decide its bits: it goes on there.
        let begun = self.resume.then(|| begun_on(&checkpoint)).flatten();
        let begun = begun.and_then(|kept| Compute::begun(&kept));
        let compute = self.device.resolve_from(begun)?;
        check(compute.backend, compute.dtype).map_err(UsageError::from)?;

        let mut source = open(&self.data, &self.reading.reading())?;
        let selection = Selection {
            only: self.columns.clone(),
            drop: self.drop.clone(),
            context: self.context.clone(),
            weights: self.weights.clone(),
        };
        let missing = if self.skip_missing {
            Missing::Skip
        } else {
            Missing::Refuse
        };
        let table = Table::collect(&mut source, &selection, missing).map_err(|error| {
            let error = refuse_data(error);
            let text = error.to_string();
            if text.contains("is missing") {
                return UsageError(format!("{text}; --skip-missing leaves such rows out")).into();
            }
            if text.contains("is not a number") {
                return UsageError(format!("{text}; --drop leaves a column out")).into();
            }
            error
        })?;
        remark(&source);
        let held_out = [self.validation, self.test];
        let prepared = Prepared::split(&table, held_out, self.seed).map_err(refuse_fit)?;
        let given = self.given(&table)?;
        let kinds = prepared.kinds(&given, self.kinds == KindsArg::Auto);
        let kinds = kinds.map_err(refuse_fit)?;
        let mut config = self.configure(&table, prepared.dim(), prepared.training_rows())?;
        config.kinds = kinds.iter().map(Detected::column_kind).collect();
        describe(&table, &prepared, &kinds, &config);
        if self.force {
            remove_checkpoints(&checkpoint);
        }
        let job = Job {
            table: &table,
            prepared,
            config: &config,
            out: &self.out,
            checkpoint: &checkpoint,
            compute,
        };
        D::dispatch(compute.backend, compute.dtype, job).map_err(UsageError::from)?
    }

    /// The kinds that options give.
    fn given(&self, table: &Table) -> Result<Vec<(String, Given)>, UsageError> {
        let columns = table.columns.iter().filter(|c| c.role == Role::Density);
        let columns: Vec<&Column> = columns.collect();
        let mut given = Vec::new();
        let mut give = |place: usize, kind| given.push((columns[place].name.clone(), kind));
        for (option, lists, kind) in [
            ("--positive", &self.positive, Given::Positive),
            ("--discrete", &self.discrete, Given::Discrete),
            ("--continuous", &self.continuous, Given::Continuous),
        ] {
            for place in places(option, lists, &columns)? {
                give(place, kind.clone());
            }
        }
        for (place, text) in assignments("--periodic", &self.periodic, &columns)? {
            give(place, Given::Periodic(number("--periodic", text)?));
        }
        for (place, text) in assignments("--bounds", &self.bounds, &columns)? {
            let (low, high) = text
                .split_once(':')
                .ok_or_else(|| UsageError(format!("--bounds: '{text}', expected NAME=LOW:HIGH")))?;
            let [low, high] = [number("--bounds", low)?, number("--bounds", high)?];
            give(place, Given::Bounds(low, high));
        }
        Ok(given)
    }

    fn configure(&self, table: &Table, dim: usize, rows: usize) -> anyhow::Result<FitConfig> {
        let shape = Shape {
            dim,
            context_dim: table.context_dim(),
            layers: self.layers,
            hidden: self.hidden.as_deref(),
        };
        let mut config = match &self.model_config {
            Some(file) => {
                let refuse = |e: &dyn std::fmt::Display| {
                    let text = e.to_string().replace('\n', " ");
                    UsageError(format!("--model-config {}: {text}", file.display()))
                };
                let text = std::fs::read_to_string(file).map_err(|e| refuse(&e))?;
                let model: ModelConfig = toml::from_str(&text).map_err(|e| refuse(&e.message()))?;
                FitConfig::new(model)
            }
            None => {
                let chosen = choose(self.model.as_deref(), shape).map_err(refuse_fit)?;
                FitConfig {
                    members: chosen.members(rows),
                    course: chosen.training(rows),
                    training_log_det: chosen.training_log_det,
                    // No more rows than columns have a singular covariance.
                    whiten: chosen.whiten && rows > dim,
                    mixture: chosen.mixture,
                    ..FitConfig::new(chosen.model)
                }
            }
        };
        config.whiten = self.whiten.unwrap_or(config.whiten);
        config.members = self.members.unwrap_or(config.members);
        config.mixture = self.mixture.unwrap_or(config.mixture);
        config.validation = self.validation;
        config.test = self.test;
        config.seed = self.seed;
        let own = config.course;
        config.course = Training {
            steps: self.steps,
            batch: self.batch.unwrap_or(own.batch),
            learning_rate: self.learning_rate.unwrap_or(own.learning_rate),
            weight_decay: self.weight_decay.unwrap_or(own.weight_decay),
            evaluate_every: self.check_every.unwrap_or(own.evaluate_every),
            patience: Some(self.patience),
            checkpoint_seconds: self.checkpoint_seconds,
            ..own
        };
        Ok(config)
    }
}

/// A file beside the model, so that both are on one disk.
fn beside(model: &Path, suffix: &str) -> PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Removes the unfinished fits of all members.
fn remove_checkpoints(first: &Path) {
    let mut all = (0..).map(|k| member_checkpoint(first, k));
    while all
        .next()
        .is_some_and(|path| std::fs::remove_file(path).is_ok())
    {}
}

/// Refuses a model that another process is fitting.
fn lock(model: &Path) -> Result<Lock, UsageError> {
    let shown = model.display();
    let lock = Lock::take(&beside(model, ".lock"))
        .map_err(|error| UsageError(format!("cannot write {shown}: {error}")))?;
    lock.ok_or_else(|| {
        UsageError(format!(
            "another process is fitting {shown}; wait for it, or choose another file with --out"
        ))
    })
}

/// Finds out before the fit, not after it, that its model could not be kept.
fn refuse_unwritable(model: &Path) -> Result<(), UsageError> {
    match temporary_beside(model) {
        Ok(_) => Ok(()),
        Err(error) => Err(UsageError(format!(
            "cannot write {}: {error}",
            model.display()
        ))),
    }
}

fn describe(table: &Table, prepared: &Prepared<'_>, kinds: &[Detected], config: &FitConfig) {
    let names = table.names(Role::Density);
    let mut line = format!(
        "{} rows, density of {}",
        grouped(table.len()),
        names.join(", ")
    );
    if table.context_dim() > 0 {
        line += &format!(" given {}", table.names(Role::Context).join(", "));
    }
    if table.skipped > 0 {
        line += &format!(
            "; {} rows with missing values left out",
            grouped(table.skipped)
        );
    }
    line += &format!("; model {}", config.model.name());
    say(&line);
    for kind in kinds {
        say(&kind.words());
    }
    for note in prepared.notes(kinds) {
        say(&format!("note: {note}"));
    }
}

struct Job<'a> {
    table: &'a Table,
    prepared: Prepared<'a>,
    config: &'a FitConfig,
    out: &'a Path,
    checkpoint: &'a Path,
    compute: Compute,
}

impl Task for Job<'_> {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let checkpointing = Checkpointing {
            path: Some(self.checkpoint),
            compute: Some(self.compute.of_fit()),
        };
        let mut screen = Screen::new(self.config.course.steps);
        let fitted = fit_prepared::<B>(
            &self.prepared,
            self.config,
            checkpointing,
            &device,
            &mut |evaluation| screen.show(evaluation),
        );
        screen.bar.finish_and_clear();
        let fitted: TableFlow<B::InnerBackend> = fitted.map_err(refuse_fit)?.of(self.table);
        fitted.save(self.out).map_err(refuse_model)?;
        // Only now: the model is on the disk.
        remove_checkpoints(self.checkpoint);
        self.report(&fitted)
    }
}

impl Job<'_> {
    fn report<B: burn::tensor::backend::Backend>(
        &self,
        fitted: &TableFlow<B>,
    ) -> anyhow::Result<()> {
        let header = fitted.header();
        let training = header.training.as_ref();
        let training = training.expect("it was fitted just now");
        let show = |e: Estimate| format_estimate(e.mean, e.stderr);
        let why = match training.stopped {
            Stopped::Steps => "all steps done",
            Stopped::Patience => "no improvement on the validation rows",
            Stopped::Diverged => {
                "the loss became infinite; the best parameters from before are kept"
            }
            Stopped::Unsolved => {
                "over 1 % of the rows had no inverse; the best parameters from before are kept"
            }
        };
        say(&format!(
            "{} steps in {:.1} s ({why}), best after {}",
            grouped(training.steps[0]),
            training.seconds,
            grouped(training.steps[1])
        ));
        print(&format!(
            "test log-likelihood {} nats ({} rows)",
            show(training.test),
            grouped(training.rows[2])
        ))?;
        if !training.test.mean.is_finite() {
            say(
                "note: a test row has no finite log-density: it lies far outside what the model knows, or \
                 has another value of a column that is constant in the training rows",
            );
        }
        if training.not_finite > 0 {
            say(&format!(
                "note: {} times a training row had no finite log-density and was left out of its batch",
                grouped(training.not_finite)
            ));
        }
        say_stability(fitted, &self.table.density, self.table.context.as_ref());
        match training.gaussian {
            Some(gaussian) => {
                print(&format!("a Gaussian has    {} nats", show(gaussian)))?;
                if gaussian.mean > training.test.mean {
                    say(
                        "note: the Gaussian does better; try --whiten true, fewer --layers, or more rows",
                    );
                }
            }
            None if training.rows[0] <= self.prepared.dim() => {
                say("a Gaussian cannot be compared: fewer training rows than columns");
            }
            None => say("a Gaussian cannot be compared: the covariance is singular"),
        }
        let of = names_of(&header.columns, Role::Density).len();
        print(&format!(
            "wrote {} ({of} columns, {} parameters)",
            self.out.display(),
            grouped(training.parameters)
        ))
    }
}

/// A progress bar on a terminal, a line for each tenth elsewhere.
struct Screen {
    bar: ProgressBar,
    steps: usize,
    tenth: usize,
}

impl Screen {
    fn new(steps: usize) -> Self {
        let style = "{bar:30} {pos}/{len} steps, {elapsed} elapsed, {eta} left  {msg}";
        let bar = crate::runner::bar(steps as u64, style);
        Self {
            bar,
            steps,
            tenth: 0,
        }
    }

    fn show(&mut self, evaluation: Evaluation) {
        let message = format!("validation {:.4} nats", evaluation.score);
        let tenth = evaluation.step * 10 / self.steps.max(1);
        if self.bar.is_hidden() && (evaluation.step == 0 || tenth > self.tenth) {
            self.tenth = tenth;
            say(&format!(
                "step {}/{}: {message}",
                evaluation.step, self.steps
            ));
        }
        self.bar.set_position(evaluation.step as u64);
        if evaluation.improved {
            self.bar.set_message(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_of_fit_names_the_widths_that_are_taken() {
        use clap::CommandFactory;
        let shape = |dim| Shape {
            dim,
            context_dim: 0,
            layers: None,
            hidden: None,
        };
        let width = |dim| match choose(Some("ddnf"), shape(dim)).unwrap().model {
            ModelConfig::Ddnf(ddnf) => ddnf.hidden[0],
            other => panic!("{other:?}"),
        };
        assert_eq!([1, 2].map(width), [3, 3].map(width));
        assert_eq!([4, 5].map(|dim| width(dim) / dim), [4, 4]);
        let program = crate::flows::Args::command();
        let fit = program.find_subcommand("fit").unwrap();
        let hidden = fit
            .get_arguments()
            .find(|a| a.get_id() == "hidden")
            .unwrap();
        let help = hidden.get_help().unwrap().to_string();
        let expected = format!(
            "[default: 64,64; ddnf: {} for up to three columns, beyond {} a column and at most {}]",
            width(3),
            width(4) / 4,
            width(1000)
        );
        assert!(help.contains(&expected), "{help}");
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/own-data.md");
        let page = std::fs::read_to_string(page).unwrap();
        let words = format!(
            "Its fields have {} hidden units for up to three columns, beyond that {} a column and at most {}",
            width(3),
            width(4) / 4,
            width(1000)
        );
        assert!(
            page.contains(&words),
            "docs/own-data.md does not say: {words}"
        );
    }
}
