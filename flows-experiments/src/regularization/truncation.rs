//! The second study: trained blocks at other numbers of cells, and the slopes of their errors.

use serde::Serialize;

use super::Regularization;
use super::config::{Job, Study, label};
use super::measure::{Measurement, TruncationPoint};
use crate::backend::Dtype;
use crate::report::{Cell, Table};
use crate::runner::{Estimate, Job as _, Results};

/// The blocks of a row at other numbers of cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TruncationRow {
    /// Name of the target.
    pub target: String,
    /// Cells they were trained with.
    pub trained_cells: usize,
    /// The regularizer with its weights.
    pub label: String,
    /// Log-determinant of training.
    pub log_det: String,
    /// Means over seeds at each number of cells.
    pub points: Vec<TruncationPoint>,
    /// Slopes of the logarithms in `log T`, over the numbers of cells at which every `rho(J/T) < 1` and
    /// the error is above the rounding of the float type.
    pub first_order: Option<Slope>,
    /// The same, second order.
    pub second_order: Option<Slope>,
    /// The same of the exponential-map inverse.
    pub round_trip: Option<Slope>,
}

/// A slope fitted by least squares, seed by seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slope {
    /// Over seeds.
    pub slope: Estimate,
    /// Smallest number of cells in the fit.
    pub from_cells: usize,
    /// Largest.
    pub to_cells: usize,
}

/// The rows of the second study.
pub(super) fn truncation_rows(results: &Results<Regularization>) -> Vec<TruncationRow> {
    // Sums over cells and blocks of terms of order one, and differences of such sums.
    let rounding = 10.0
        * match results.dtype {
            Dtype::F32 => f64::from(f32::EPSILON),
            Dtype::F64 => f64::EPSILON,
        };
    let mut groups: Vec<Vec<(&Job, &Measurement)>> = Vec::new();
    for (job, measured) in results.measured() {
        if job.study == Study::Regularizers {
            let one = (job, &measured.measurement);
            match groups.iter_mut().find(|g| g[0].0.labels() == job.labels()) {
                Some(group) => group.push(one),
                None => groups.push(vec![one]),
            }
        }
    }
    let row = |group: &Vec<(&Job, &Measurement)>| truncation_row(group, rounding);
    groups.iter().filter_map(row).collect()
}

fn truncation_row(group: &[(&Job, &Measurement)], rounding: f64) -> Option<TruncationRow> {
    let first = group[0].0;
    let measured: Vec<&Measurement> = group.iter().map(|(_, measured)| *measured).collect();
    let count = measured.first()?.truncation.len();
    if count == 0 {
        return None;
    }
    let mean = |i: usize, of: fn(&TruncationPoint) -> Option<f64>| {
        Estimate::over(measured.iter().map(|m| of(&m.truncation[i]))).map(|e| e.mean)
    };
    let points: Vec<TruncationPoint> = (0..count)
        .map(|i| TruncationPoint {
            cells: measured[0].truncation[i].cells,
            first_order: mean(i, |p| p.first_order),
            second_order: mean(i, |p| p.second_order),
            round_trip: mean(i, |p| p.round_trip),
            fit: mean(i, |p| p.fit),
            // The largest, NaN among them counting as one.
            max_rho: measured
                .iter()
                .map(|m| m.truncation[i].max_rho)
                .reduce(|a, b| Some(a?.max(b?)))
                .flatten(),
        })
        .collect();
    let stable = |i: &usize| points[*i].max_rho.is_some_and(|rho| rho < 1.0);
    let inside: Vec<usize> = (0..count).filter(stable).collect();
    let slope = |of: fn(&TruncationPoint) -> Option<f64>| {
        let above = |i: &&usize| {
            let errors = measured.iter().map(|m| of(&m.truncation[**i]));
            errors.into_iter().all(|e| e.is_some_and(|e| e > rounding))
        };
        let inside: Vec<usize> = inside.iter().filter(above).copied().collect();
        let of_seed = |m: &&Measurement| {
            let place = |&i: &usize| {
                let point = &m.truncation[i];
                Some([(point.cells as f64).ln(), of(point)?.ln()])
            };
            regress(&inside.iter().map(place).collect::<Option<Vec<_>>>()?)
        };
        Some(Slope {
            slope: Estimate::over(measured.iter().map(of_seed))?,
            from_cells: points[*inside.first()?].cells,
            to_cells: points[*inside.last()?].cells,
        })
    };
    Some(TruncationRow {
        target: first.target.name().to_owned(),
        trained_cells: first.model.cells,
        label: label(&first.regularizers),
        log_det: first.model.log_det.label(),
        first_order: slope(|p| p.first_order),
        second_order: slope(|p| p.second_order),
        round_trip: slope(|p| p.round_trip),
        points,
    })
}

/// Least-squares slope through at least three points.
fn regress(points: &[[f64; 2]]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let n = points.len() as f64;
    let mean = |axis: usize| points.iter().map(|p| p[axis]).sum::<f64>() / n;
    let (x, y) = (mean(0), mean(1));
    let products = points.iter().map(|p| (p[0] - x) * (p[1] - y)).sum::<f64>();
    let squares = points.iter().map(|p| (p[0] - x).powi(2)).sum::<f64>();
    (squares > 0.0).then(|| products / squares)
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

fn small(value: Option<f64>) -> Cell {
    Cell::text(value.map_or(String::new(), |v| format!("{v:.1e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_has_its_exponent_as_slope() {
        let law = |t: f64| [t.ln(), (3.0 * t.powf(-2.0)).ln()];
        let slope = regress(&[4.0, 8.0, 16.0, 64.0].map(law)).unwrap();
        assert!((slope + 2.0).abs() < 1e-12);
        assert_eq!(regress(&[4.0, 8.0].map(law)), None);
        assert_eq!(regress(&[[1.0, 2.0]; 3]), None);
    }
}
