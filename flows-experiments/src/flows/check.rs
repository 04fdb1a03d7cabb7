//! `flows check`

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use flows_core::random::shuffle;

use super::plot::drawable;
use super::{DataArgs, grouped, print, refuse_existing, refuse_model, say};
use crate::backend::{Backends, Task};
use crate::cli::{DeviceArgs, UsageError};
use crate::report::{RankPanel, draw_ranks};
use flows_tables::preprocessing::constant;
use flows_tables::table_flow::{FAR, ModelHeader, TableFlow};
use flows_tables::two_sample::{DRAWS, Test, calibration, ranks_among, two_sample};
use flows_tables::{Role, Rows, Split, Table};
use flows_train::stream;

/// Test whether held-out rows and samples of the model differ
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rows and as many samples are compared by energy distance, a classifier, each column, correlations, and how near they
lie to the training rows; of a conditional model, by how rows rank among samples at their contexts. Of the table of
the fit only the test rows are used. p-values are of permutation tests, right at any number of rows: a small one says
that rows and samples differ, a large one that so few rows show no difference.

Examples:
  flows check data.flow data.csv
  flows check data.flow new.csv -o ranks.png")]
pub(super) struct Args {
    /// Model file
    model: PathBuf,
    /// Table: the one the model was fitted to, or one it has not seen
    data: PathBuf,
    /// Picture of the ranks of the rows among samples, PNG
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over FILE
    #[arg(long)]
    force: bool,
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

/// Rank histograms that are drawn for a p-value.
const SIMULATIONS: usize = 9999;

/// Most training rows that samples are held against.
const MOST_TRAINING: usize = 20_000;

impl Args {
    pub(super) fn run<D: Backends>(self) -> anyhow::Result<()> {
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
        if let Some(out) = &self.out {
            refuse_existing(out, self.force)?;
        }
        let compute = self.device.resolve()?;
        let table = self.table.table(&self.data, &header)?;
        let fingerprint = format!("{:016x}", table.fingerprint());
        let training = header.training.as_ref();
        let training = training.filter(|training| training.table == fingerprint);
        let seen = training.is_some();
        let mut train = None;
        let mut rows: Vec<usize> = match training {
            Some(training) => {
                let [validation, test] = training.held_out;
                let mut split = Split::shuffled(table.len(), validation, test, training.seed);
                split.train.truncate(MOST_TRAINING);
                train = Some(table.pick(&split.train));
                split.test
            }
            None => (0..table.len()).collect(),
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
            train,
        };
        D::dispatch(compute.backend, compute.dtype, job).map_err(UsageError::from)?
    }
}

struct Job<'a> {
    args: &'a Args,
    data: Table,
    /// Contexts of the samples.
    contexts: Option<Rows>,
    /// Rows the model was fitted to, where they are known.
    train: Option<Table>,
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
        let drawn = flow.sample(n, contexts, &mut stream(*seed, "sample", 0));
        let finite = drawn.values().iter().all(|v| v.is_finite());
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
        let samples = flow.standardized(&drawn, contexts);
        let train = self.train.as_ref();
        let train = train.map(|t| flow.standardized(&t.density, t.context.as_ref()));
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
        let test = two_sample(&close, &samples, train.as_ref(), *permutations, rng);
        let energy = &test.energy;
        print(&format!(
            "energy distance {:.5} (two samples of one distribution: {:.5}), p = {:.4} ({} relabellings)",
            energy.distance, energy.under_chance, energy.p_value, energy.permutations
        ))?;
        print(if energy.p_value < 0.01 {
            "they differ: the model is not the distribution of these rows"
        } else if energy.p_value < 0.05 {
            "they may differ: chance does as much in less than one of twenty comparisons"
        } else {
            "no difference found with so many rows; more might show one"
        })?;
        let say_test = |what: &str, test: Test, digits: usize, unit: &str, verdicts: [&str; 2]| {
            let Test {
                value,
                under_chance,
                p_value,
            } = test;
            let verdict = verdicts[usize::from(p_value < 0.01)];
            print(&format!(
                "{what} {value:.digits$}{unit} (by chance {under_chance:.digits$}{unit}), p = {p_value:.4}: {verdict}"
            ))
        };
        let percent = Test {
            value: 100.0 * test.classifier.value,
            under_chance: 100.0 * test.classifier.under_chance,
            ..test.classifier
        };
        say_test(
            "classifier: nearest neighbours tell rows from samples in",
            percent,
            1,
            " %",
            ["it finds no difference", "it tells them apart"],
        )?;
        let worst = names[test.worst_column];
        say_test(
            &format!("columns: the largest Kolmogorov-Smirnov distance is that of '{worst}',"),
            test.marginals,
            3,
            "",
            ["no column differs", "its distribution differs"],
        )?;
        if let Some(correlations) = test.correlations {
            say_test(
                "correlations: those of ranks are apart by",
                correlations,
                3,
                "",
                ["they agree", "they differ"],
            )?;
        }
        if let Some(memorised) = test.memorised {
            say_test(
                "training rows: samples lie nearer to them than held-out rows do by a mean rank of",
                memorised,
                3,
                "",
                [
                    "none were learned by heart as far as this shows",
                    "the model has learned some by heart",
                ],
            )?;
        }
        let rng = &mut stream(*seed, "ranks", 0);
        let density = &self.data.density;
        let (counts, variance) = match &self.data.context {
            Some(context) => {
                let each: Vec<usize> = (0..n * DRAWS).map(|k| k / DRAWS).collect();
                let draws = flow.sample(n * DRAWS, Some(&context.pick(&each)), rng);
                let found = calibration(density, &draws, SIMULATIONS, rng);
                let worst = flow.names(Role::Density)[found.worst_column];
                say_test(
                    &format!(
                        "calibration: the ranks of '{worst}' among samples at their contexts have chi-square"
                    ),
                    found.test,
                    1,
                    "",
                    [
                        "they are uniform",
                        "the conditional distributions are too narrow, too wide or shifted",
                    ],
                )?;
                (found.histograms, 1.0)
            }
            None => (ranks_among(density, &drawn, rng), 2.0),
        };
        if let Some(out) = &self.args.out {
            let panels = flow
                .names(Role::Density)
                .into_iter()
                .enumerate()
                .zip(counts);
            let panels: Vec<RankPanel> = panels
                .map(|((column, name), counts)| RankPanel {
                    name: drawable(name, column),
                    counts: counts.to_vec(),
                    variance,
                })
                .collect();
            draw_ranks(
                out,
                "ranks of held-out rows among samples (grey: by chance)",
                &panels,
            )?;
            print(&format!("wrote {}", out.display()))?;
        }
        Ok(())
    }
}
