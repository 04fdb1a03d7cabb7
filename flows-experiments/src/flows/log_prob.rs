//! `flows log-prob`

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::backend::AutodiffBackend;

use super::{
    DataArgs, FAR_CONTEXT, FormatArgs, fixed_context, grouped, refuse_data, refuse_existing,
    refuse_model, remark, say, say_stability, throughput,
};
use crate::backend::{Backends, Dtype, Task};
use crate::cli::{DeviceArgs, UsageError};
use crate::report::format_estimate;
use flows_tables::table::by_role;
use flows_tables::table_flow::{Estimate, ModelHeader, POINTS, TableFlow};
use flows_tables::{Column, Missing, Role, Rows, Sink, Source};

/// Log-density of each row, in nats of the table's units
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One number a row, in the order of DATA, under the header log_prob: NaN for a row with a missing value, -inf for one
that the model holds impossible; --spread adds a second one. Columns of whole numbers and levels count with their
probability. Rows stream through: memory does not grow with the table.

Examples:
  flows log-prob data.flow new.csv -o scores.csv
  flows log-prob data.flow new.csv --spread              with the spread of an ensemble
  flows log-prob load.flow new.csv --context hour=18     new.csv without the column hour")]
pub(super) struct Args {
    /// Model file
    model: PathBuf,
    /// Table with the model's columns: CSV or npy, `-` for standard input
    data: PathBuf,
    /// Values of the context columns for all rows, such as hour=18,temperature=4; DATA has the others
    #[arg(long, value_name = "NAME=VALUE")]
    context: Vec<String>,
    /// File for the numbers [default: standard output]
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    out: PathBuf,
    /// Write over FILE
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: FormatArgs,
    /// A second column `spread`: the standard deviation over the members of an ensemble
    #[arg(long)]
    spread: bool,
    /// Points of a cell at which the density is taken, where columns have whole numbers, levels or a value that
    /// repeats: their log-probability is an estimate by importance sampling, better with more
    #[arg(long, value_name = "N", default_value_t = POINTS)]
    noise: usize,
    #[command(flatten)]
    table: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    pub(super) fn run<D: Backends>(self) -> anyhow::Result<()> {
        refuse_existing(&self.out, self.force)?;
        if self.noise == 0 {
            return Err(UsageError("--noise is 0, expected at least 1".to_owned()).into());
        }
        let header = ModelHeader::load(&self.model).map_err(refuse_model)?;
        if self.spread && header.members < 2 {
            let text = "--spread: the model is no ensemble; flows fit --members 5 fits one";
            return Err(UsageError(text.to_owned()).into());
        }
        let compute = self.device.resolve()?;
        let context = fixed_context(&self.context, &header, "DATA with them")?;
        let mut columns = header.columns.clone();
        if context.is_some() {
            columns.retain(|c| c.role == Role::Density);
        }
        let source = self
            .table
            .open(&self.data, &header, &columns, Missing::Keep)?;
        let job = Job {
            args: &self,
            source,
            columns,
            context,
            dtype: compute.dtype,
        };
        D::dispatch(compute.backend, compute.dtype, job).map_err(UsageError::from)?
    }
}

/// Rows read at a time.
pub(super) const CHUNK: usize = 8192;

struct Job<'a> {
    args: &'a Args,
    source: Source,
    /// Those of the table.
    columns: Vec<Column>,
    /// The context of all rows, where it is not in the table.
    context: Option<Vec<f64>>,
    dtype: Dtype,
}

impl Task for Job<'_> {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(mut self, device: B::Device) -> anyhow::Result<()> {
        let Args {
            model,
            out,
            format,
            noise,
            spread,
            ..
        } = self.args;
        let flow = TableFlow::<B::InnerBackend>::load(model, &device).map_err(refuse_model)?;
        let format = format.of(out);
        let decimals = match self.dtype {
            Dtype::F32 => 6,
            Dtype::F64 => 12,
        };
        let mut names = vec!["log_prob".to_owned()];
        names.extend(spread.then(|| "spread".to_owned()));
        let decimals = vec![decimals; names.len()];
        let sink = Sink::create(out, format, names, decimals);
        let mut sink = sink.map_err(refuse_data)?;
        let begun = Instant::now();
        // Sums instead of the numbers: memory must not grow.
        let (mut rows, mut sum, mut squares) = (0usize, 0.0, 0.0);
        let [mut missing, mut outside, mut unknown, mut far_context] = [0usize; 4];
        let mut shift = None;
        loop {
            let chunk = self.source.next_chunk(CHUNK).map_err(refuse_data)?;
            if chunk.is_empty() {
                break;
            }
            let rows_read = Rows::new(chunk, self.columns.len());
            let (x, mut context) = by_role(rows_read, &self.columns);
            if let Some(values) = &self.context {
                context = Some(Rows::new(values.repeat(x.len()), values.len()));
            }
            if rows == 0 {
                say_stability(&flow, &x, context.as_ref());
            }
            let scores = flow.log_prob_with(&x, context.as_ref(), *noise);
            let spreads = match spread {
                true => flow.spread(&x, context.as_ref(), *noise),
                false => None,
            };
            let values = match spreads {
                Some(spreads) => scores
                    .iter()
                    .zip(spreads)
                    .flat_map(|(s, d)| [*s, d])
                    .collect(),
                None => scores.clone(),
            };
            sink.push(&values).map_err(anyhow::Error::from)?;
            rows += scores.len();
            if let Some(context) = &context {
                let distances = flow.context_distances(context);
                far_context += distances.iter().filter(|d| **d > FAR_CONTEXT).count();
            }
            for (row, score) in scores.into_iter().enumerate() {
                if score.is_finite() {
                    // Around the first score: the sums stay small against the spread.
                    let centred = score - *shift.get_or_insert(score);
                    sum += centred;
                    squares += centred * centred;
                    continue;
                }
                let mut values = x
                    .row(row)
                    .iter()
                    .chain(context.iter().flat_map(|c| c.row(row)));
                if values.any(|v| v.is_nan()) {
                    missing += 1;
                } else if score == f64::NEG_INFINITY {
                    outside += 1;
                } else {
                    unknown += 1;
                }
            }
        }
        sink.finish()?;
        remark(&self.source);
        let n = (rows - missing - outside - unknown) as f64;
        if n > 0.0 {
            let mean = sum / n;
            let variance = (squares - sum * mean).max(0.0) / (n - 1.0);
            let estimate = Estimate {
                mean: mean + shift.unwrap_or(0.0),
                stderr: (n > 1.0).then(|| (variance / n).sqrt()),
            };
            say(&format!(
                "mean log-likelihood {} nats; {}",
                format_estimate(estimate.mean, estimate.stderr),
                throughput(rows, begun.elapsed().as_secs_f64())
            ));
        }
        let notes = [
            (missing, "have a missing value: their log-density is NaN"),
            (
                outside,
                "have a log-density of -inf: they lie far outside what the model knows, or a column is not \
                 what it always was in the training rows",
            ),
            (
                unknown,
                "have no log-density that could be computed: it is NaN",
            ),
            (
                far_context,
                "have a context more than 10 standard deviations from that of the training rows: their \
                 log-density is a guess",
            ),
        ];
        for (count, what) in notes {
            if count > 0 {
                say(&format!(
                    "note: {} of {} rows {what}",
                    grouped(count),
                    grouped(rows)
                ));
            }
        }
        Ok(())
    }
}
