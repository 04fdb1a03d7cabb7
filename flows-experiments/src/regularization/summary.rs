//! Rows over seeds: `summary.json`.

use serde::{Deserialize, Serialize};

use super::config::{RegularizationConfig, Study, kind, label};
use super::measure::{Measurement, TruncationPoint};
use super::record::{RunRecord, metric_label};
use crate::backend::Dtype;
use crate::experiment::Record;
use crate::run_info::RunInfo;

/// `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Always `regularization`.
    pub experiment: &'static str,
    /// What was asked for, in full.
    pub config: RegularizationConfig,
    /// Where it ran: commit, versions, device.
    #[serde(flatten)]
    pub info: RunInfo,
    /// Whether every run has ended.
    pub complete: bool,
    /// The first study: one row a target, number of cells, regularizer and log-determinant.
    pub rows: Vec<Row>,
    /// The second study: the blocks of those rows at other numbers of cells.
    pub truncation: Vec<TruncationRow>,
    /// The third study: one row a target and size.
    pub capacity: Vec<CapacityRow>,
}

/// A number over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Mean over the seeds.
    pub mean: f64,
    /// Standard error of the mean; `null` for a single seed.
    pub stderr: Option<f64>,
    /// The number of each seed.
    pub values: Vec<f64>,
}

impl Estimate {
    /// Over the seeds that have a finite number; `None` where none has.
    pub fn over(values: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        (!values.is_empty()).then(|| Self {
            mean,
            stderr: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
            values,
        })
    }
}

impl Estimate {
    /// The geometric mean of ratios, with the standard error that the one of their logarithms gives.
    fn of_ratios(logarithms: Option<Self>) -> Option<Self> {
        let logarithms = logarithms?;
        let mean = logarithms.mean.exp();
        Some(Self {
            mean,
            stderr: logarithms.stderr.map(|stderr| mean * stderr),
            values: logarithms.values.iter().map(|v| v.exp()).collect(),
        })
    }
}

/// One target, number of cells, regularizer and log-determinant over the seeds. Numbers that no seed
/// has are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the target.
    pub target: String,
    /// Number `T` of cells.
    pub cells: usize,
    /// `none`, `geodesic`, `inverse` or `both`.
    pub regularizer: String,
    /// The same with its weights.
    pub label: String,
    /// `lambda_geo`.
    pub geodesic_weight: f64,
    /// `lambda_inv`.
    pub inverse_weight: f64,
    /// Log-determinant of training: the surrogate.
    pub log_det: String,
    /// `KL`, `NLL` or `gap` of `fit`.
    pub metric: String,
    /// Seeds that ended with numbers.
    pub seeds: usize,
    /// Seeds whose loss stopped being a number.
    pub diverged: usize,
    /// The metric by the exact determinant, in nats.
    pub fit: Option<Estimate>,
    /// Root mean square of the seeds' own Monte-Carlo standard errors of it.
    pub monte_carlo_stderr: Option<f64>,
    /// The metric as the surrogate sees it.
    pub surrogate_fit: Option<Estimate>,
    /// `fit` less that of the row without regularizer, seed by seed.
    pub fit_change: Option<Estimate>,
    /// Mean of surrogate less exact log-determinant, in nats.
    pub log_det_bias: Option<Estimate>,
    /// Root mean square of that difference.
    pub log_det_error: Option<Estimate>,
    /// Root mean square round-trip error of the exponential-map inverse.
    pub round_trip: Option<Estimate>,
    /// How many times smaller it is than without regularizer, seed by seed: the geometric mean.
    pub round_trip_gain: Option<Estimate>,
    /// Its largest value.
    pub round_trip_max: Option<Estimate>,
    /// Largest round-trip error of the exact inverse.
    pub exact_inverse_residual: Option<Estimate>,
    /// `R_geo` on test points.
    pub geodesic: Option<Estimate>,
    /// `R_inv` on test points.
    pub inverse_consistency: Option<Estimate>,
    /// The last `R_geo` read in training, where it has a weight.
    pub training_geodesic: Option<Estimate>,
    /// The last `R_inv` read in training, where it has a weight.
    pub training_inverse: Option<Estimate>,
    /// Path energy.
    pub path_energy: Option<Estimate>,
    /// Path length.
    pub path_length: Option<Estimate>,
    /// Path length over that without regularizer, seed by seed: the geometric mean.
    pub path_length_ratio: Option<Estimate>,
    /// Mean distance of the paths' ends.
    pub displacement: Option<Estimate>,
    /// Largest `rho(J/T)` over seeds.
    pub max_rho: Option<f64>,
    /// Steps with `rho(J/T) >= 1`, over seeds, points, cells and blocks.
    pub rho_at_least_one: usize,
    /// Steps whose determinant is not positive.
    pub non_positive_determinants: usize,
    /// Steps looked at.
    pub evaluations: usize,
    /// A line for each block whose field is too stiff for its number of cells.
    pub warnings: Vec<String>,
    /// Milliseconds of a training step where nothing disturbed it.
    pub step_milliseconds: Option<Estimate>,
    /// Trained scalars.
    pub parameters: usize,
    /// Samples without a finite log-density, left out of `fit`, over seeds.
    pub not_finite: usize,
    /// What the exponential-map and the exact inverse are called, and the status of the data.
    pub notes: String,
}

/// The blocks of a row at other numbers of cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slope {
    /// Over seeds.
    pub slope: Estimate,
    /// Smallest number of cells in the fit.
    pub from_cells: usize,
    /// Largest.
    pub to_cells: usize,
}

/// Fit at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CapacityRow {
    /// Name of the target.
    pub target: String,
    /// Blocks `K`.
    pub blocks: usize,
    /// Cells `T`.
    pub cells: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Trained scalars.
    pub parameters: usize,
    /// `KL` or `gap`.
    pub metric: String,
    /// The metric by the exact determinant, in nats.
    pub fit: Option<Estimate>,
    /// Root mean square of the seeds' own Monte-Carlo standard errors of it.
    pub monte_carlo_stderr: Option<f64>,
    /// Largest `rho(J/T)` over seeds.
    pub max_rho: Option<f64>,
    /// A line for each block whose field is too stiff for its number of cells.
    pub warnings: Vec<String>,
    /// Seeds whose loss stopped being a number.
    pub diverged: usize,
}

/// The records of one study, those of one row together.
fn groups(records: &[RunRecord], study: Study) -> Vec<Vec<&RunRecord>> {
    let mut groups: Vec<Vec<&RunRecord>> = Vec::new();
    for record in records.iter().filter(|r| r.study == study) {
        let same = |group: &&mut Vec<&RunRecord>| {
            let first = group[0];
            first.target == record.target
                && first.model == record.model
                && first.regularizers == record.regularizers
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(record),
            None => groups.push(vec![record]),
        }
    }
    groups
}

fn over(group: &[&RunRecord], of: impl Fn(&Measurement) -> Option<f64>) -> Option<Estimate> {
    Estimate::over(group.iter().map(|r| r.measurement().and_then(&of)))
}

/// Seed by seed, of the record and the one without regularizer.
fn against(
    group: &[&RunRecord],
    baseline: &[&RunRecord],
    of: impl Fn(&Measurement, &Measurement) -> Option<f64>,
) -> Option<Estimate> {
    Estimate::over(group.iter().map(|record| {
        let plain = baseline.iter().find(|plain| plain.seed == record.seed)?;
        of(record.measurement()?, plain.measurement()?)
    }))
}

/// What several records say of their stability: the largest `rho`, and the warnings.
fn stiffness(group: &[&RunRecord]) -> (Option<f64>, Vec<String>) {
    let rhos = group.iter().filter_map(|r| r.measurement());
    let rhos = rhos.map(|m| m.stability.max_rho);
    let max_rho = rhos.reduce(|a, b| Some(a?.max(b?))).flatten();
    let warnings = group.iter().flat_map(|record| {
        let of_seed = |warning: &String| format!("seed {}: {warning}", record.seed);
        record.warnings().iter().map(of_seed).collect::<Vec<_>>()
    });
    (max_rho, warnings.collect())
}

fn metric_of(group: &[&RunRecord]) -> String {
    let measured = group.iter().find_map(|r| r.measurement());
    measured
        .map_or("", |m| metric_label(m.exact.metrics[0].metric))
        .to_owned()
}

fn monte_carlo(group: &[&RunRecord]) -> Option<f64> {
    let squares = over(group, |m| Some(m.exact.metrics[0].stderr.powi(2)))?;
    Some(squares.mean.sqrt())
}

/// The rows of the first study, in the order of the jobs.
pub(super) fn rows(records: &[RunRecord]) -> Vec<Row> {
    let groups = groups(records, Study::Regularizers);
    let row = |group: &Vec<&RunRecord>| {
        let first = group[0];
        let baseline = groups.iter().find(|other| {
            let other = other[0];
            other.target == first.target
                && other.model == first.model
                && kind(&other.regularizers) == "none"
        });
        let plain: &[&RunRecord] = baseline.map_or(&[], Vec::as_slice);
        let sum = |of: fn(&Measurement) -> usize| -> usize {
            group.iter().filter_map(|r| r.measurement()).map(of).sum()
        };
        let last = |term: &str| {
            Estimate::over(group.iter().map(|r| r.terms.get(term)?.last().map(|p| p.1)))
        };
        let (max_rho, warnings) = stiffness(group);
        let measured = group.iter().filter(|r| r.measurement().is_some()).count();
        Row {
            target: first.target.clone(),
            cells: first.model.cells,
            regularizer: kind(&first.regularizers).to_owned(),
            label: label(&first.regularizers),
            geodesic_weight: first.regularizers.geodesic,
            inverse_weight: first.regularizers.inverse_consistency,
            log_det: first.model.log_det.label(),
            metric: metric_of(group),
            seeds: measured,
            diverged: group.len() - measured,
            fit: over(group, |m| Some(m.exact.metrics[0].value)),
            monte_carlo_stderr: monte_carlo(group),
            surrogate_fit: over(group, |m| Some(m.surrogate.metrics[0].value)),
            fit_change: against(group, plain, |m, p| {
                Some(m.exact.metrics[0].value - p.exact.metrics[0].value)
            }),
            log_det_bias: over(group, |m| m.log_det_bias),
            log_det_error: over(group, |m| m.log_det_error),
            round_trip: over(group, |m| m.round_trip),
            round_trip_gain: Estimate::of_ratios(against(group, plain, |m, p| {
                Some((p.round_trip? / m.round_trip?).ln()).filter(|v| v.is_finite())
            })),
            round_trip_max: over(group, |m| m.round_trip_max),
            exact_inverse_residual: over(group, |m| m.exact_inverse_residual),
            geodesic: over(group, |m| m.geodesic),
            inverse_consistency: over(group, |m| m.inverse_consistency),
            training_geodesic: last("geodesic"),
            training_inverse: last("inverse"),
            path_energy: over(group, |m| m.path_energy),
            path_length: over(group, |m| m.path_length),
            path_length_ratio: Estimate::of_ratios(against(group, plain, |m, p| {
                Some((m.path_length? / p.path_length?).ln()).filter(|v| v.is_finite())
            })),
            displacement: over(group, |m| m.displacement),
            max_rho,
            rho_at_least_one: sum(|m| m.stability.rho_at_least_one),
            non_positive_determinants: sum(|m| m.stability.non_positive_determinants),
            evaluations: sum(|m| m.stability.evaluations),
            warnings,
            step_milliseconds: Estimate::over(
                group.iter().map(|r| r.step_seconds.map(|s| 1000.0 * s)),
            ),
            parameters: first.parameters,
            not_finite: sum(|m| m.exact.not_finite),
            notes: "round_trip is of the exponential map; densities use the exact inverse; \
                    the data are exact generators"
                .to_owned(),
        }
    };
    groups.iter().map(row).collect()
}

/// The rows of the second study.
pub(super) fn truncation_rows(records: &[RunRecord], dtype: Dtype) -> Vec<TruncationRow> {
    // Sums over cells and blocks of terms of order one, and differences of such sums.
    let rounding = 10.0
        * match dtype {
            Dtype::F32 => f64::from(f32::EPSILON),
            Dtype::F64 => f64::EPSILON,
        };
    let groups = groups(records, Study::Regularizers);
    groups
        .iter()
        .filter_map(|group| truncation_row(group, rounding))
        .collect()
}

fn truncation_row(group: &[&RunRecord], rounding: f64) -> Option<TruncationRow> {
    let first = group[0];
    let measured: Vec<&Measurement> = group.iter().filter_map(|r| r.measurement()).collect();
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
        target: first.target.clone(),
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

/// The rows of the third study.
pub(super) fn capacity_rows(records: &[RunRecord]) -> Vec<CapacityRow> {
    let row = |group: Vec<&RunRecord>| {
        let first = group[0];
        let (max_rho, warnings) = stiffness(&group);
        CapacityRow {
            target: first.target.clone(),
            blocks: first.model.blocks,
            cells: first.model.cells,
            hidden: first.model.hidden.clone(),
            parameters: first.parameters,
            metric: metric_of(&group),
            fit: over(&group, |m| Some(m.exact.metrics[0].value)),
            monte_carlo_stderr: monte_carlo(&group),
            max_rho,
            warnings,
            diverged: group.iter().filter(|r| r.measurement().is_none()).count(),
        }
    };
    groups(records, Study::Capacity)
        .into_iter()
        .map(row)
        .collect()
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

    #[test]
    fn estimates_leave_out_what_is_not_finite() {
        let estimate = Estimate::over([Some(1.0), None, Some(3.0)]).unwrap();
        assert_eq!(estimate.mean, 2.0);
        assert_eq!(estimate.stderr, Some(1.0));
        let logarithms = Estimate::over([Some(2f64.ln()), Some(8f64.ln())]);
        let ratios = Estimate::of_ratios(logarithms).unwrap();
        assert!((ratios.mean - 4.0).abs() < 1e-12 && (ratios.values[1] - 8.0).abs() < 1e-12);
        assert_eq!(Estimate::over([None, None]), None);
        assert_eq!(Estimate::over([Some(1.0)]).unwrap().stderr, None);
    }
}
