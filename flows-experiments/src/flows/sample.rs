//! `flows sample`

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;

use super::log_prob::CHUNK;
use super::{
    FAR_CONTEXT, FormatArgs, ReadingArgs, fixed_context, grouped, names_of, needs_context,
    open_for, refuse_data, refuse_existing, refuse_model, say, throughput,
};
use crate::backend::{Backends, Task};
use crate::cli::{DeviceArgs, UsageError};
use flows_tables::selection::locate_context;
use flows_tables::sink::{EXACT, decimals};
use flows_tables::table_flow::{ModelHeader, TableFlow};
use flows_tables::{Column, Missing, Role, Rows, Sink, Source};
use flows_train::stream;

/// Draw rows from a fitted flow
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rows have the columns of the table that the model was fitted to, context columns among them; counts are whole, and
positive columns positive. A seed gives the same rows on every backend, up to rounding.

Examples:
  flows sample data.flow -n 10000 -o samples.csv
  flows sample load.flow -n 100 --context hour=18
  flows sample load.flow -n 20 --context-from new.csv    20 rows for each row of new.csv")]
pub(super) struct Args {
    /// Model file
    model: PathBuf,
    /// Rows to draw; with --context-from, for each of its rows [default: 1000; 1 with --context-from]
    #[arg(short, long, value_name = "N")]
    n: Option<usize>,
    /// Values of the context columns, such as hour=18,temperature=4, by name or number
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<String>,
    /// Table with the context columns of a conditional model, a row a sample
    #[arg(long, value_name = "DATA", conflicts_with = "context")]
    context_from: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// File for the rows [default: standard output]
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    out: PathBuf,
    #[command(flatten)]
    format: FormatArgs,
    /// Write over FILE
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    pub(super) fn run<D: Backends>(self) -> anyhow::Result<()> {
        let header = ModelHeader::load(&self.model).map_err(refuse_model)?;
        refuse_existing(&self.out, self.force)?;
        let contexts = self.contexts(&header)?;
        let compute = self.device.resolve()?;
        let job = Job {
            args: &self,
            contexts,
        };
        D::dispatch(compute.backend, compute.dtype, job).map_err(UsageError::from)?
    }

    fn contexts(&self, header: &ModelHeader) -> anyhow::Result<Contexts> {
        let names = names_of(&header.columns, Role::Context);
        if names.is_empty() {
            if !self.context.is_empty() || self.context_from.is_some() {
                return Err(UsageError("the model takes no context".to_owned()).into());
            }
            return Ok(Contexts::None);
        }
        if let Some(path) = &self.context_from {
            let context = header.columns.iter().filter(|c| c.role == Role::Context);
            let mut source = open_for(path, &self.reading.reading(), header, context)?;
            let (columns, from) = (&header.columns, header.source());
            let layout = source.layout();
            let wanted = locate_context(columns, from, layout, source.origin());
            source.select(wanted.map_err(refuse_data)?, Missing::Refuse);
            return Ok(Contexts::Table(Box::new(source)));
        }
        let values = fixed_context(&self.context, header, "--context-from DATA")?;
        let values = values.ok_or_else(|| needs_context(&names, "--context-from DATA"))?;
        Ok(Contexts::Fixed(values))
    }
}

/// What the samples are conditioned on.
enum Contexts {
    None,
    Fixed(Vec<f64>),
    Table(Box<Source>),
}

struct Job<'a> {
    args: &'a Args,
    contexts: Contexts,
}

impl Task for Job<'_> {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Args {
            model,
            out,
            format,
            seed,
            n,
            ..
        } = self.args;
        let flow = TableFlow::<B::InnerBackend>::load(model, &device).map_err(refuse_model)?;
        let columns = flow.header().columns.clone();
        let mut scales = flow.preprocessing().scale().into_iter();
        let determined = &flow.header().determined;
        let kinds = &flow.header().kinds;
        let decimals = columns.iter().map(|c| match c.role {
            // The map of its kind, not a standard deviation, says which digits count.
            Role::Density if kinds.iter().any(|k| k.column == c.name) => {
                scales.next();
                EXACT
            }
            Role::Density => match determined.iter().find(|d| d.column == c.name) {
                Some(constant) if constant.terms.is_empty() => EXACT,
                // Twelve digits of what may differ and still count as equal would be rounding.
                Some(sum) => decimals(1e4 * sum.tolerance),
                None => decimals(scales.next().unwrap_or(1.0)),
            },
            // A context comes back as it was given.
            Role::Context => EXACT,
        });
        let names = columns.iter().map(|c| c.name.clone()).collect();
        let format = format.of(out);
        let sink = Sink::create(out, format, names, decimals.collect());
        let mut sink = sink.map_err(refuse_data)?;
        let rng = &mut stream(*seed, "sample", 0);
        let begun = Instant::now();
        let (mut drawn, mut far_context, mut not_finite) = (0, 0, 0);
        let mut emit = |n: usize, context: Option<Rows>| -> anyhow::Result<()> {
            let rows = flow.sample(n, context.as_ref(), rng);
            drawn += n;
            not_finite += rows
                .iter()
                .filter(|row| !row.iter().all(|v| v.is_finite()))
                .count();
            if let Some(context) = &context {
                let distances = flow.context_distances(context);
                far_context += distances.iter().filter(|d| **d > FAR_CONTEXT).count();
            }
            Ok(sink.push(&together(&columns, &rows, context.as_ref()))?)
        };
        match self.contexts {
            Contexts::Table(mut source) => {
                let (width, each) = (flow.context_dim(), n.unwrap_or(1));
                loop {
                    let rows = CHUNK.div_ceil(each.max(1)).max(1);
                    let chunk = source.next_chunk(rows).map_err(refuse_data)?;
                    if chunk.is_empty() {
                        break;
                    }
                    for row in repeated(&chunk, width, each).chunks(CHUNK * width) {
                        emit(row.len() / width, Some(Rows::new(row.to_vec(), width)))?;
                    }
                }
            }
            Contexts::None => {
                let n = n.unwrap_or(1000);
                for from in (0..n).step_by(CHUNK) {
                    emit(CHUNK.min(n - from), None)?;
                }
            }
            Contexts::Fixed(values) => {
                let n = n.unwrap_or(1000);
                for from in (0..n).step_by(CHUNK) {
                    let rows = CHUNK.min(n - from);
                    let context = Rows::new(values.repeat(rows), values.len());
                    emit(rows, Some(context))?;
                }
            }
        }
        sink.finish()?;
        let to = match out.as_path() == Path::new("-") {
            true => String::new(),
            false => format!("wrote {}: ", out.display()),
        };
        say(&format!(
            "{to}{}",
            throughput(drawn, begun.elapsed().as_secs_f64())
        ));
        if far_context > 0 {
            say(&format!(
                "note: {} of {} rows have a context more than 10 standard deviations from that of the \
                 training rows: what is drawn there is a guess",
                grouped(far_context),
                grouped(drawn)
            ));
        }
        if not_finite > 0 {
            anyhow::bail!(
                "{} of {} rows could not be drawn, and are not finite: the flow's inverse was not solved \
                 there, or the context lies too far from the training rows",
                grouped(not_finite),
                grouped(drawn)
            );
        }
        Ok(())
    }
}

/// Each row `each` times in turn.
fn repeated(values: &[f64], width: usize, each: usize) -> Vec<f64> {
    values
        .chunks(width)
        .flat_map(|row| std::iter::repeat_n(row, each))
        .flatten()
        .copied()
        .collect()
}

/// Samples and their context in the order of the table's columns.
fn together(columns: &[Column], rows: &Rows, context: Option<&Rows>) -> Vec<f64> {
    let Some(context) = context else {
        return rows.values().to_vec();
    };
    let mut values = Vec::with_capacity(rows.len() * columns.len());
    for (row, context) in rows.iter().zip(context.iter()) {
        let (mut row, mut context) = (row.iter(), context.iter());
        values.extend(columns.iter().filter_map(|column| match column.role {
            Role::Density => row.next(),
            Role::Context => context.next(),
        }));
    }
    values
}
