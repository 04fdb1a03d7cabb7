//! The tables of the three studies.

use super::summary::{CapacityRow, Estimate, Row, Slope, TruncationRow};
use crate::report::{Cell, Table};

fn estimate(value: &Option<Estimate>) -> Cell {
    match value {
        Some(value) => Cell::estimate(value.mean, value.stderr),
        None => Cell::Missing,
    }
}

fn small(value: Option<f64>) -> Cell {
    Cell::text(value.map_or(String::new(), |v| format!("{v:.1e}")))
}

/// What the regularizers do: fit, inverse, paths, cost.
pub(super) fn effect_table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "target",
        "T",
        "regularizer",
        "trained by",
        "metric",
        "exact (nats)",
        "surrogate",
        "less none",
        "round trip",
        "gain",
        "path length",
        "ratio",
        "ms a step",
    ]);
    for row in rows {
        let shown = |value: &Option<Estimate>| match row.regularizer.as_str() {
            "none" => Cell::text(""),
            _ => estimate(value),
        };
        table.push(vec![
            Cell::text(&row.target),
            Cell::Count(row.cells as u64),
            Cell::text(&row.label),
            Cell::text(&row.log_det),
            Cell::text(&row.metric),
            match row.seeds {
                0 => Cell::text("diverged"),
                _ => estimate(&row.fit),
            },
            estimate(&row.surrogate_fit),
            shown(&row.fit_change),
            estimate(&row.round_trip),
            shown(&row.round_trip_gain),
            estimate(&row.path_length),
            shown(&row.path_length_ratio),
            row.step_milliseconds.as_ref().map_or(Cell::Missing, |ms| {
                Cell::text(format!(
                    "{:.1}",
                    ms.values.iter().copied().fold(f64::INFINITY, f64::min)
                ))
            }),
        ]);
    }
    table
}

/// What qualifies the numbers: surrogate against exact, stability, the penalties themselves.
pub(super) fn detail_table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "target",
        "T",
        "regularizer",
        "trained by",
        "MC stderr",
        "bias",
        "rms error",
        "max rho",
        "rho ≥ 1",
        "det ≤ 0",
        "steps seen",
        "path energy",
        "ends apart",
        "R_geo",
        "R_inv",
        "in training",
        "largest round trip",
        "exact inverse",
        "seeds",
    ]);
    for row in rows {
        let trained = [
            ("geo", &row.training_geodesic),
            ("inv", &row.training_inverse),
        ];
        let trained = trained.iter().filter_map(|(name, value)| {
            let mean = value.as_ref()?.mean;
            Some(format!("{name} {mean:.1e}"))
        });
        table.push(vec![
            Cell::text(&row.target),
            Cell::Count(row.cells as u64),
            Cell::text(&row.label),
            Cell::text(&row.log_det),
            small(row.monte_carlo_stderr),
            estimate(&row.log_det_bias),
            estimate(&row.log_det_error),
            Cell::text(
                row.max_rho
                    .map_or("NaN".to_owned(), |rho| format!("{rho:.2}")),
            ),
            Cell::Count(row.rho_at_least_one as u64),
            Cell::Count(row.non_positive_determinants as u64),
            Cell::Count(row.evaluations as u64),
            estimate(&row.path_energy),
            estimate(&row.displacement),
            estimate(&row.geodesic),
            estimate(&row.inverse_consistency),
            Cell::text(trained.collect::<Vec<_>>().join(", ")),
            estimate(&row.round_trip_max),
            small(row.exact_inverse_residual.as_ref().map(|e| e.mean)),
            Cell::text(match row.diverged {
                0 => row.seeds.to_string(),
                n => format!("{} ({n} diverged)", row.seeds),
            }),
        ]);
    }
    table
}

/// Errors against the number of cells, and their slopes in a last row of each block.
pub(super) fn truncation_table(rows: &[TruncationRow]) -> Table {
    let mut table = Table::new([
        "target",
        "trained with T",
        "regularizer",
        "trained by",
        "evaluated with T",
        "first order",
        "second order",
        "round trip",
        "exact (nats)",
        "max rho",
    ]);
    for row in rows {
        let start = || {
            vec![
                Cell::text(&row.target),
                Cell::text(row.trained_cells.to_string()),
                Cell::text(&row.label),
                Cell::text(&row.log_det),
            ]
        };
        for point in &row.points {
            let mut cells = start();
            cells.extend([
                Cell::text(point.cells.to_string()),
                small(point.first_order),
                small(point.second_order),
                small(point.round_trip),
                Cell::text(point.fit.map_or(String::new(), |v| format!("{v:.4}"))),
                Cell::text(
                    point
                        .max_rho
                        .map_or("NaN".to_owned(), |v| format!("{v:.2}")),
                ),
            ]);
            table.push(cells);
        }
        let slope = |slope: &Option<Slope>| match slope {
            Some(Slope { slope, .. }) => Cell::estimate(slope.mean, slope.stderr),
            None => Cell::text(""),
        };
        let mut cells = start();
        cells.extend([
            Cell::text(match &row.round_trip {
                Some(slope) => format!("slope, {} to {}", slope.from_cells, slope.to_cells),
                None => "slope: too stiff".to_owned(),
            }),
            slope(&row.first_order),
            slope(&row.second_order),
            slope(&row.round_trip),
            Cell::text(""),
            Cell::text(""),
        ]);
        table.push(cells);
    }
    table
}

/// Fit against size.
pub(super) fn capacity_table(rows: &[CapacityRow]) -> Table {
    let mut table = Table::new([
        "target",
        "K",
        "T",
        "h",
        "parameters",
        "metric",
        "exact (nats)",
        "MC stderr",
        "max rho",
    ]);
    for row in rows {
        let widths = row.hidden.iter().map(usize::to_string);
        table.push(vec![
            Cell::text(&row.target),
            Cell::Count(row.blocks as u64),
            Cell::Count(row.cells as u64),
            Cell::text(widths.collect::<Vec<_>>().join(", ")),
            Cell::Count(row.parameters as u64),
            Cell::text(&row.metric),
            match row.diverged {
                0 => estimate(&row.fit),
                _ => Cell::text("diverged"),
            },
            small(row.monte_carlo_stderr),
            Cell::text(
                row.max_rho
                    .map_or("NaN".to_owned(), |rho| format!("{rho:.2}")),
            ),
        ]);
    }
    table
}
