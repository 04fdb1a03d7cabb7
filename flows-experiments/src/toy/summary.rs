//! Rows over seeds: `summary.json` and the tables.

use serde::{Deserialize, Serialize};

use super::config::{Job, ToyConfig};
use super::evaluate::{Measured, Metric};
use super::record::{RunRecord, Status};
use crate::experiment::Record;
use crate::report::{Cell, Table};
use crate::run_info::RunInfo;
use crate::targets::{SoftWall, Target, quadrature};

/// `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Always `toy`.
    pub experiment: &'static str,
    /// What was asked for, in full.
    pub config: ToyConfig,
    /// Where it ran: commit, versions, device.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Whether every run has ended.
    pub complete: bool,
    /// One row a target, model and metric.
    pub rows: Vec<Row>,
    /// Constants of the energies, by quadrature.
    pub energies: Vec<EnergyConstants>,
}

/// One target, model and metric over the seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the target.
    pub target: String,
    /// Name of the model.
    pub model: String,
    /// `kl`, `nll` or `entropy_gap`.
    pub metric: String,
    /// Mean over the seeds that ended, in nats; `null` where all diverged.
    pub mean: Option<f64>,
    /// Standard error of the mean over seeds; `null` for a single seed.
    pub stderr: Option<f64>,
    /// The value of each seed.
    pub values: Vec<f64>,
    /// Root mean square of the seeds' own Monte-Carlo standard errors.
    pub monte_carlo_stderr: Option<f64>,
    /// Seeds that ended with a number.
    pub seeds: usize,
    /// Seeds whose loss stopped being a number.
    pub diverged: usize,
    /// Trained scalars.
    pub parameters: usize,
    /// Mean seconds of training.
    pub train_seconds: f64,
    /// Gradient steps.
    pub steps: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Mean share of the model's samples outside the box; energies only.
    pub mass_outside: Option<f64>,
    /// Evaluation samples without a finite log-density, over all seeds.
    pub not_finite: usize,
    /// How the log-determinant was computed, in training and evaluation.
    pub log_det: String,
    /// How the model is inverted.
    pub inverse: String,
    /// Largest round-trip error of that inverse over seeds.
    pub inverse_residual: Option<f64>,
    /// Largest spectral radius `rho(J/T)` of a step of a DDNF block on test points, over seeds; `null`
    /// for other models, and where it is not a number.
    pub max_rho: Option<f64>,
    /// Steps with `rho(J/T) >= 1`, over points, cells, blocks and seeds.
    pub rho_at_least_one: usize,
    /// Steps whose determinant is not positive.
    pub non_positive_determinants: usize,
    /// A line for each block whose field is too stiff for its number of cells.
    pub warnings: Vec<String>,
    /// Status of the data: toy targets are exact generators.
    pub data: String,
}

/// The yardstick of an energy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnergyConstants {
    /// Name of the target.
    pub target: String,
    /// `log Z` of the walled density, in nats.
    pub log_z_walled: f64,
    /// Its entropy, in nats.
    pub entropy_walled: f64,
    /// Its mass outside the box.
    pub mass_outside_walled: f64,
    /// `log Z` of the energy cut off at the box, in nats: a check against published constants.
    pub log_z_box: f64,
}

/// The constants of the energies among `jobs`.
pub(super) fn energy_constants(jobs: &[Job], wall: &SoftWall) -> Vec<EnergyConstants> {
    let mut found: Vec<EnergyConstants> = Vec::new();
    for job in jobs {
        let Target::Energy(energy) = job.target else {
            continue;
        };
        if found.iter().any(|c| c.target == energy.name()) {
            continue;
        }
        let cell = quadrature::DEFAULT_CELL;
        let walled = quadrature::normalize_walled(energy, wall, cell);
        let in_box = quadrature::normalize_in_box(energy, wall.half_width, cell);
        found.push(EnergyConstants {
            target: energy.name().to_owned(),
            log_z_walled: walled.log_z,
            entropy_walled: walled.entropy,
            mass_outside_walled: walled.mass_outside,
            log_z_box: in_box.log_z,
        });
    }
    found
}

/// The rows of the records, in the order of the jobs.
pub fn summarize(records: &[RunRecord]) -> Vec<Row> {
    let mut groups: Vec<Vec<&RunRecord>> = Vec::new();
    for record in records {
        let same =
            |g: &&mut Vec<&RunRecord>| g[0].target == record.target && g[0].model == record.model;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups.iter().flat_map(|group| rows_of(group)).collect()
}

fn rows_of(group: &[&RunRecord]) -> Vec<Row> {
    let measured = group
        .iter()
        .filter_map(|record| match &record.status {
            Status::Measured(measurement) => Some(measurement),
            Status::Diverged { .. } => None,
        })
        .collect::<Vec<_>>();
    // A model that always diverged still has its row: the metric that the table would show.
    let metrics: Vec<Metric> = match measured.first() {
        Some(first) => first.metrics.iter().map(|m| m.metric).collect(),
        None => match Target::parse(&group[0].target) {
            Ok(Target::Energy(_)) => vec![Metric::Kl],
            _ => vec![Metric::Nll],
        },
    };
    let first = group[0];
    let average = |values: Vec<f64>| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let stability = group.iter().filter_map(|r| r.stability.as_ref());
    let warning = |record: &&RunRecord| {
        let seed = record.seed;
        let of_seed = |warning: &String| format!("seed {seed}: {warning}");
        record.warnings().iter().map(of_seed).collect::<Vec<_>>()
    };
    let warnings = group.iter().flat_map(warning).collect::<Vec<_>>();
    let residuals = group.iter().filter_map(|r| r.inverse_check);
    let row = |metric: Metric| {
        let found = measured
            .iter()
            .flat_map(|m| m.metrics.iter().filter(|m| m.metric == metric))
            .copied()
            .collect::<Vec<Measured>>();
        let values = found.iter().map(|m| m.value).collect::<Vec<_>>();
        let monte_carlo = average(found.iter().map(|m| m.stderr.powi(2)).collect());
        Row {
            target: first.target.clone(),
            model: first.model.clone(),
            metric: metric.name().to_owned(),
            mean: average(values.clone()),
            stderr: standard_error(&values),
            monte_carlo_stderr: monte_carlo.map(f64::sqrt),
            seeds: values.len(),
            values,
            diverged: group.len() - measured.len(),
            parameters: first.parameters,
            train_seconds: average(group.iter().map(|r| r.train_seconds).collect()).unwrap_or(0.0),
            steps: first.steps,
            batch: first.batch,
            learning_rate: first.learning_rate,
            mass_outside: average(measured.iter().filter_map(|m| m.mass_outside).collect()),
            not_finite: measured.iter().map(|m| m.not_finite).sum(),
            log_det: first.log_det.clone(),
            inverse: first.inverse.clone(),
            inverse_residual: residuals.clone().map(|c| c.residual).reduce(f64::max),
            max_rho: stability
                .clone()
                .map(|s| s.max_rho)
                .reduce(|a, b| Some(a?.max(b?)))
                .flatten(),
            rho_at_least_one: stability.clone().map(|s| s.rho_at_least_one).sum(),
            non_positive_determinants: stability.clone().map(|s| s.non_positive_determinants).sum(),
            warnings: warnings.clone(),
            data: "exact generator".to_owned(),
        }
    };
    metrics.into_iter().map(row).collect()
}

/// Standard error of the mean; `None` for fewer than two values.
pub(super) fn standard_error(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((variance / n).sqrt())
}

/// Models down, targets across: the first metric of each target.
pub(super) fn overview_table(rows: &[Row]) -> Table {
    let mut targets: Vec<(&str, &str)> = Vec::new();
    let mut models: Vec<&str> = Vec::new();
    for row in rows {
        if !targets.iter().any(|(target, _)| *target == row.target) {
            targets.push((&row.target, &row.metric));
        }
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
    }
    let label = |metric: &str| match metric {
        "kl" => "KL",
        "entropy_gap" => "gap",
        _ => "NLL",
    };
    let heads = targets
        .iter()
        .map(|(target, metric)| format!("{target} ({})", label(metric)));
    let mut table = Table::new(std::iter::once("model".to_owned()).chain(heads));
    for model in models {
        let mut cells = vec![Cell::text(model)];
        for (target, metric) in &targets {
            let row = rows
                .iter()
                .find(|r| r.target == *target && r.model == model && r.metric == *metric);
            cells.push(match row.map(|r| (r.mean, r.stderr)) {
                Some((Some(mean), stderr)) => Cell::estimate(mean, stderr),
                Some((None, _)) => Cell::text("diverged"),
                None => Cell::text(""),
            });
        }
        table.push(cells);
    }
    table
}

/// Every row with everything that qualifies it.
pub(super) fn detail_table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "target",
        "model",
        "metric",
        "nats",
        "MC stderr",
        "seeds",
        "outside",
        "parameters",
        "steps",
        "seconds",
        "log-det",
        "inverse",
        "round trip",
        "max rho",
    ]);
    for row in rows {
        let small = |v: Option<f64>| v.map_or(String::new(), |v| format!("{v:.1e}"));
        table.push(vec![
            Cell::text(&row.target),
            Cell::text(&row.model),
            Cell::text(&row.metric),
            match row.mean {
                Some(mean) => Cell::estimate(mean, row.stderr),
                None => Cell::text("diverged"),
            },
            Cell::text(small(row.monte_carlo_stderr)),
            Cell::text(match row.diverged {
                0 => row.seeds.to_string(),
                n => format!("{} ({n} diverged)", row.seeds),
            }),
            Cell::text(small(row.mass_outside)),
            Cell::text(row.parameters.to_string()),
            Cell::text(row.steps.to_string()),
            Cell::text(format!("{:.1}", row.train_seconds)),
            Cell::text(&row.log_det),
            Cell::text(&row.inverse),
            Cell::text(small(row.inverse_residual)),
            Cell::text(row.max_rho.map_or(String::new(), |rho| format!("{rho:.2}"))),
        ]);
    }
    table
}
