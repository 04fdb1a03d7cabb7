//! The results as rows, tables and JSON.

use serde::Serialize;

use super::config::DensityConfig;
use super::published::published;
use super::run::{Outcome, Record};
use crate::data::sets::SetId;
use crate::report::{Cell, Table};
use crate::run_info::RunInfo;

/// What `summary.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// `density`.
    pub experiment: &'static str,
    /// What was asked for.
    pub config: DensityConfig,
    /// Where and with what it was computed.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Whether every run came to its end.
    pub complete: bool,
    /// Results, one for each set and model.
    pub rows: Vec<Row>,
    /// Every run.
    pub runs: Vec<Record>,
}

/// A model on a set, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Name of the set.
    pub set: String,
    /// Name of the model.
    pub model: String,
    /// Its place in a grid, in words; empty where there was no choice.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Mean log-likelihood of the rows of the score over the seeds, in nats; not there where no run was
    /// measured.
    pub mean: Option<f64>,
    /// Standard error over the seeds; not there for fewer than two.
    pub stderr_seeds: Option<f64>,
    /// Standard error over the rows, the mean over the seeds.
    pub stderr_rows: Option<f64>,
    /// Seeds measured.
    pub seeds: usize,
    /// Why there is no number, or how many runs diverged.
    pub note: String,
    /// What arXiv:1705.07057 reports for the full set, in its words.
    pub published: Option<String>,
    /// How the rows relate to the published ones.
    pub data: String,
    /// The units.
    pub units: String,
    /// Rows for training, validation and test.
    pub rows: [usize; 3],
    /// Trained scalars.
    pub parameters: Option<usize>,
    /// Gradient steps of each run that was measured, and those after which the best was reached.
    pub steps: Vec<[usize; 2]>,
    /// Seconds of training, the mean over the seeds.
    pub train_seconds: Option<f64>,
    /// How the log-determinant was computed.
    pub log_det: String,
}

/// The rows of the records, in their order.
pub(super) fn summarize(records: &[Record]) -> Vec<Row> {
    let mut groups: Vec<Vec<&Record>> = Vec::new();
    for record in records {
        let key = |r: &Record| (r.set.clone(), r.model.clone(), r.variant.clone());
        let same = |g: &&mut Vec<&Record>| key(g[0]) == key(record);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups.iter().map(|group| row_of(group)).collect()
}

fn row_of(group: &[&Record]) -> Row {
    let first = group[0];
    let mean = |values: &[f64]| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (mut means, mut errors, mut seconds, mut all_steps) = (vec![], vec![], vec![], vec![]);
    let (mut count, mut method, mut notes) = (None, String::new(), Vec::new());
    for record in group {
        match &record.outcome {
            Outcome::Measured {
                test,
                parameters,
                steps,
                train_seconds,
                log_det,
                whitened,
                ..
            } => {
                means.push(test.mean);
                errors.extend(test.stderr);
                seconds.push(*train_seconds);
                all_steps.push(*steps);
                count = Some(*parameters);
                let first = if *whitened { "whitened; " } else { "" };
                method = format!("{first}{log_det}");
            }
            Outcome::Refused { reason } => notes.push(format!("refused: {reason}")),
            Outcome::Diverged { reason } => notes.push(format!("diverged: {reason}")),
        }
        if !record.warnings.is_empty() {
            let (seed, blocks) = (record.seed, record.warnings.len());
            notes.push(format!(
                "seed {seed}: fields of {blocks} blocks too stiff for their cells"
            ));
        }
    }
    notes.dedup();
    let stderr_seeds = match (means.len(), mean(&means)) {
        (n, Some(centre)) if n > 1 => {
            let squares = means.iter().map(|v| (v - centre).powi(2)).sum::<f64>();
            Some((squares / (n as f64 - 1.0) / n as f64).sqrt())
        }
        _ => None,
    };
    let set = SetId::parse(&first.set);
    Row {
        set: first.set.clone(),
        model: first.model.clone(),
        variant: first.variant.clone(),
        mean: mean(&means),
        stderr_seeds,
        stderr_rows: mean(&errors),
        seeds: means.len(),
        note: notes.join("; "),
        published: set
            .and_then(|set| published(&first.model, set))
            .map(str::to_owned),
        data: first.data.clone(),
        units: first.units.clone(),
        rows: first.rows,
        parameters: count,
        steps: all_steps,
        train_seconds: mean(&seconds),
        log_det: method,
    }
}

/// Models down, sets across: mean and standard error over the test rows.
pub(super) fn overview_table(rows: &[Row]) -> Table {
    let mut sets: Vec<&str> = Vec::new();
    let mut models: Vec<&str> = Vec::new();
    for row in rows {
        if !sets.contains(&row.set.as_str()) {
            sets.push(&row.set);
        }
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
    }
    let mut table = Table::new(std::iter::once("model").chain(sets.iter().copied()));
    for model in models {
        let mut cells = vec![Cell::text(model)];
        for set in &sets {
            let row = rows.iter().find(|r| r.set == *set && r.model == model);
            cells.push(match row {
                Some(row) => score(row),
                None => Cell::Missing,
            });
        }
        table.push(cells);
    }
    table
}

fn score(row: &Row) -> Cell {
    match row.mean {
        Some(mean) => Cell::estimate(mean, row.stderr_rows),
        None => Cell::text(row.note.split(':').next().unwrap_or_default()),
    }
}

/// Every row with everything that qualifies it.
pub(super) fn detail_table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "set",
        "model",
        "test, nats ± over rows",
        "± over seeds",
        "seeds",
        "published, full set",
        "data",
        "rows: train, validation, test",
        "parameters",
        "steps (best)",
        "seconds",
        "log-determinant",
        "note",
    ]);
    for row in rows {
        let steps = row
            .steps
            .iter()
            .map(|[all, best]| format!("{all} ({best})"));
        let [train, validation, test] = row.rows;
        table.push(vec![
            Cell::text(&row.set),
            Cell::text(&row.model),
            score(row),
            Cell::text(
                row.stderr_seeds
                    .map_or(String::new(), |e| format!("{e:.2}")),
            ),
            Cell::text(row.seeds.to_string()),
            Cell::text(row.published.as_deref().unwrap_or("not available")),
            Cell::text(&row.data),
            Cell::text(format!("{train}, {validation}, {test}")),
            Cell::text(row.parameters.map_or(String::new(), |n| n.to_string())),
            Cell::text(steps.collect::<Vec<_>>().join(", ")),
            Cell::text(
                row.train_seconds
                    .map_or(String::new(), |s| format!("{s:.1}")),
            ),
            Cell::text(&row.log_det),
            Cell::text(&row.note),
        ]);
    }
    table
}

/// Every variant of every model with its score; the best of each model on each set in bold.
pub(super) fn choice_table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "set",
        "model",
        "variant",
        "validation, nats ± over rows",
        "seeds",
        "parameters",
        "steps (best)",
        "seconds",
        "note",
    ]);
    for row in rows {
        let rivals = rows
            .iter()
            .filter(|r| r.set == row.set && r.model == row.model);
        let best = rivals
            .filter_map(|r| r.mean)
            .fold(f64::NEG_INFINITY, f64::max);
        let variant = match row.mean {
            Some(mean) if mean == best && !row.variant.is_empty() => {
                Cell::text(format!("**{}**", row.variant))
            }
            _ => Cell::text(&row.variant),
        };
        let steps = row
            .steps
            .iter()
            .map(|[all, best]| format!("{all} ({best})"));
        table.push(vec![
            Cell::text(&row.set),
            Cell::text(&row.model),
            variant,
            score(row),
            Cell::text(row.seeds.to_string()),
            Cell::text(row.parameters.map_or(String::new(), |n| n.to_string())),
            Cell::text(steps.collect::<Vec<_>>().join(", ")),
            Cell::text(
                row.train_seconds
                    .map_or(String::new(), |s| format!("{s:.1}")),
            ),
            Cell::text(&row.note),
        ]);
    }
    table
}
