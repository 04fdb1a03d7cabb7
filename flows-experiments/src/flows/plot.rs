//! `flows plot`

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use flows_core::random::shuffle;

use super::{
    DataArgs, FAR_CONTEXT, fixed_context, grouped, print, refuse_existing, refuse_model, say,
};
use crate::backend::{Backends, Task};
use crate::cli::{DeviceArgs, UsageError};
use crate::report::canvas::can_write;
use crate::report::{PairPlot, draw_pairs};
use flows_tables::table_flow::{ModelHeader, TableFlow};
use flows_tables::{Role, Rows, Table};
use flows_train::stream;

/// Draw data beside samples, for all pairs of columns
///
/// Data below the diagonal, samples above it, the marginals of both on it. A conditional model is sampled
/// at the contexts of DATA, or at one that --context gives.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flows plot data.flow data.csv -o pairs.png
  flows plot data.flow data.csv -o pairs.png --columns a --columns b
  flows plot load.flow -o evening.png --context hour=18")]
pub(super) struct Args {
    /// Model file
    model: PathBuf,
    /// Table to compare with; without one, samples alone
    data: Option<PathBuf>,
    /// One context for all samples, such as hour=18,temperature=4, in the place of DATA
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "data")]
    context: Vec<String>,
    /// Picture, PNG
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Columns to draw [default: the first six]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Points of each kind at most
    #[arg(long, value_name = "N", default_value_t = 3000)]
    points: usize,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Write over FILE
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    table: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl Args {
    pub(super) fn run<D: Backends>(self) -> anyhow::Result<()> {
        let header = ModelHeader::load(&self.model).map_err(refuse_model)?;
        refuse_existing(&self.out, self.force)?;
        if self.points == 0 {
            return Err(UsageError("--points is 0, expected at least 1".to_owned()).into());
        }
        let names = super::names_of(&header.columns, Role::Density);
        let find = |name: &String| {
            let place = names.iter().position(|n| n == name);
            place.ok_or_else(|| {
                let all = names.join(", ");
                UsageError(format!("--columns {name}: the model's columns are {all}"))
            })
        };
        let mut shown: Vec<usize> = self.columns.iter().map(find).collect::<Result<_, _>>()?;
        if shown.is_empty() {
            shown = (0..names.len().min(6)).collect();
            if names.len() > 6 {
                say(&format!(
                    "drawing the first 6 of {} columns; --columns names others",
                    names.len()
                ));
            }
        }
        let fixed = fixed_context(&self.context, &header, "DATA with them")?;
        let table = match &self.data {
            Some(path) => Some(self.table.table(path, &header)?),
            None if fixed.is_none() && header.count(Role::Context) > 0 => {
                let text = "a conditional model is drawn at the contexts of a table, or at one: give DATA or --context";
                return Err(UsageError(text.to_owned()).into());
            }
            None => None,
        };
        let compute = self.device.resolve()?;
        let job = Job {
            args: &self,
            table,
            fixed,
            shown,
        };
        D::dispatch(compute.backend, compute.dtype, job).map_err(UsageError::from)?
    }
}

/// The name of a column, or its number where the font of the pictures lacks a letter of it.
pub(super) fn drawable(name: &str, column: usize) -> String {
    let line = name.split_whitespace().collect::<Vec<_>>().join(" ");
    if can_write(&line) {
        return line;
    }
    let number = format!("column {}", column + 1);
    say(&format!(
        "note: the font of the pictures has no letters for '{line}', which is drawn as '{number}'"
    ));
    number
}

struct Job<'a> {
    args: &'a Args,
    table: Option<Table>,
    /// The context of all samples.
    fixed: Option<Vec<f64>>,
    shown: Vec<usize>,
}

impl Task for Job<'_> {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Args {
            model,
            out,
            points,
            seed,
            ..
        } = self.args;
        let flow = TableFlow::<B::InnerBackend>::load(model, &device).map_err(refuse_model)?;
        let data = self.table.map(|table| {
            let mut rows: Vec<usize> = (0..table.len()).collect();
            shuffle(&mut rows, &mut stream(*seed, "rows", 0));
            rows.truncate(*points);
            table.pick(&rows)
        });
        let n = data.as_ref().map_or(*points, Table::len);
        let fixed = self
            .fixed
            .map(|values| Rows::new(values.repeat(n), values.len()));
        let context = data.as_ref().and_then(|d| d.context.as_ref());
        let context = context.or(fixed.as_ref());
        if let Some(context) = context {
            let distances = flow.context_distances(context);
            let far = distances.iter().filter(|d| **d > FAR_CONTEXT).count();
            if far > 0 {
                say(&format!(
                    "note: {} of {} samples have a context more than 10 standard deviations from that of the \
                     training rows: what is drawn there is a guess",
                    grouped(far),
                    grouped(n)
                ));
            }
        }
        let samples = flow.sample(n, context, &mut stream(*seed, "sample", 0));
        let finite = |row: &[f64]| row.iter().all(|v| v.is_finite());
        let not_finite = samples.iter().filter(|row| !finite(row)).count();
        if not_finite > 0 {
            say(&format!(
                "note: {} of {} samples are not finite and not drawn",
                grouped(not_finite),
                grouped(n)
            ));
        }
        let names = flow.names(Role::Density);
        let pick = |rows: &Rows| {
            let values = rows
                .iter()
                .flat_map(|row| self.shown.iter().map(|&c| row[c]));
            Rows::new(values.collect(), self.shown.len())
        };
        let plot = PairPlot {
            heading: match &data {
                Some(_) if self.shown.len() == 1 => "data and samples".to_owned(),
                Some(_) => "data (below) and samples (above)".to_owned(),
                None => "samples".to_owned(),
            },
            names: self.shown.iter().map(|&c| drawable(names[c], c)).collect(),
            data: data.as_ref().map(|d| pick(&d.density)),
            samples: pick(&samples),
        };
        draw_pairs(out, &plot)?;
        print(&format!("wrote {} ({} samples)", out.display(), grouped(n)))
    }
}
