//! `flows check`

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use flows_core::random::shuffle;

use super::{DataArgs, grouped, print, refuse_model, say};
use crate::backend::{Task, dispatch};
use crate::cli::{DeviceArgs, UsageError};
use flows_tables::energy_distance::energy_test;
use flows_tables::preprocessing::constant;
use flows_tables::table_flow::{FAR, ModelHeader, TableFlow};
use flows_tables::{Role, Rows, Split, Table};
use flows_train::stream;

/// Test whether held-out rows and samples of the model differ
///
/// The energy distance between rows and as many samples, in units of the training rows' standard
/// deviations, with the p-value of a permutation test. Of the table the model was fitted to, only the test
/// rows are used, as the model has seen the others; any other table is used whole. A small p-value says
/// that they differ; a large one, that so few rows show no difference.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Model file
    model: PathBuf,
    /// Table: the one the model was fitted to, or one it has not seen
    data: PathBuf,
    /// Most rows to compare, and samples
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rows: usize,
    /// Relabellings of the permutation test
    #[arg(long, value_name = "N", default_value_t = 999)]
    permutations: usize,
    /// Seed of samples and relabellings
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    table: DataArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Below this the test sees nothing.
const FEWEST: usize = 10;

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let header = ModelHeader::load(&self.model).map_err(refuse_model)?;
        if self.permutations == 0 {
            return Err(UsageError("--permutations is 0, expected at least 1".to_owned()).into());
        }
        if self.rows > 10_000 {
            return Err(UsageError(
                "--rows: at most 10000, as memory grows with its square".to_owned(),
            )
            .into());
        }
        let compute = self.device.resolve()?;
        let table = self.table.table(&self.data, &header)?;
        let training = &header.training;
        let seen = format!("{:016x}", table.fingerprint()) == training.table;
        let mut rows: Vec<usize> = if seen {
            let [validation, test] = training.held_out;
            Split::shuffled(table.len(), validation, test, training.seed).test
        } else {
            (0..table.len()).collect()
        };
        let of = rows.len();
        shuffle(&mut rows, &mut stream(self.seed, "rows", 0));
        // Given a context, a row and a sample share none: they would not be exchangeable.
        let conditional = table.context.is_some();
        let samples = if conditional {
            rows.split_off(rows.len() / 2)
        } else {
            rows.clone()
        };
        let n = rows.len().min(samples.len()).min(self.rows);
        if n < FEWEST {
            return Err(
                UsageError(format!("{n} rows to compare, too few: at least {FEWEST}")).into(),
            );
        }
        let of = grouped(of);
        let whose = if seen {
            format!("the {of} test rows, held out of the fit")
        } else {
            format!(
                "all {of} rows of a table that is not the one of the fit (rows the model was fitted to are \
                 not known and not left out)"
            )
        };
        say(&format!("{n} of {whose}, and {n} samples"));
        let job = Job {
            args: &self,
            data: table.pick(&rows[..n]),
            contexts: table.pick(&samples[..n]).context,
        };
        dispatch(compute.backend, compute.dtype, job).map_err(UsageError::from)?
    }
}

struct Job<'a> {
    args: &'a Args,
    data: Table,
    /// Contexts of the samples.
    contexts: Option<Rows>,
}

impl Task for Job<'_> {
    type Output = anyhow::Result<()>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> anyhow::Result<()> {
        let Args {
            model,
            seed,
            permutations,
            ..
        } = self.args;
        let flow = TableFlow::<B::InnerBackend>::load(model, &device).map_err(refuse_model)?;
        let contexts = self.contexts.as_ref();
        let n = self.data.len();
        let samples = flow.sample(n, contexts, &mut stream(*seed, "sample", 0));
        let finite = samples.values().iter().all(|v| v.is_finite());
        if !finite {
            anyhow::bail!(
                "the model draws samples that are not finite{}",
                match contexts {
                    Some(_) => ": a context may lie too far from the training rows",
                    None => "",
                }
            );
        }
        // The training rows set the units: they do not depend on the samples, and a column may be constant
        // in the rows that are compared.
        let data = flow.standardized(&self.data.density, self.data.context.as_ref());
        let samples = flow.standardized(&samples, contexts);
        let mut names = flow.free_names();
        names.extend(flow.names(Role::Context));
        for (column, name) in names.iter().enumerate() {
            if constant(data.column(column)).is_some() && constant(samples.column(column)).is_none()
            {
                say(&format!(
                    "note: column '{name}' is constant in the rows compared: they cannot show whether its \
                     other values are right"
                ));
            }
        }
        // A row that no sample comes near would hide all others.
        let near = |rows: &Rows| {
            let near = |&i: &usize| rows.row(i).iter().all(|v| v.abs() < FAR);
            rows.pick(&(0..rows.len()).filter(near).collect::<Vec<_>>())
        };
        let (close, samples) = (near(&data), near(&samples));
        if close.len() < data.len() {
            say(&format!(
                "note: {} rows lie more than {FAR} standard deviations from the training rows and are left \
                 out: no sample comes near them",
                grouped(data.len() - close.len())
            ));
        }
        let differs = flow.differs(&self.data.density, self.data.context.as_ref());
        let differing = differs.into_iter().filter(|differs| *differs).count();
        if differing > 0 {
            say(&format!(
                "note: {} rows differ in a column that is constant, or a function of others, in the \
                 training rows and the samples",
                grouped(differing)
            ));
        }
        if close.len().min(samples.len()) < FEWEST {
            let n = close.len().min(samples.len());
            return Err(
                UsageError(format!("{n} rows to compare, too few: at least {FEWEST}")).into(),
            );
        }
        let rng = &mut stream(*seed, "permutations", 0);
        let test = energy_test(&close, &samples, *permutations, rng);
        print(&format!(
            "energy distance {:.5} (two samples of one distribution: {:.5}), p = {:.4} ({} relabellings)",
            test.distance, test.under_chance, test.p_value, test.permutations
        ))?;
        print(if test.p_value < 0.01 {
            "they differ: the model is not the distribution of these rows"
        } else if test.p_value < 0.05 {
            "they may differ: chance does as much in less than one of twenty comparisons"
        } else {
            "no difference found with so many rows; more might show one"
        })
    }
}
