//! The pictures.

use flows_core::regularizers::Regularizers;

use super::config::{Job, RegularizationConfig, Study, kind, label};
use super::drawing::{Drawing, Polyline};
use super::truncation::{Slope, TruncationRow, truncation_rows};
use super::{DRAWING, Measured, Regularization};
use crate::report::{
    CurveLine, CurvePanel, CurvePlot, DensityPanel, LinePanel, Mark, MatrixRow, Panel, PanelLine,
    ReportError, Scale, Stroke, draw_curve_panels, draw_matrix, format_estimate,
};
use crate::runner::{Estimate, Results, Row, Rows, Summary};
use crate::targets::Target;

/// Draws everything that the records have numbers for.
pub(super) fn draw_pictures(
    results: &Results<Regularization>,
    config: &RegularizationConfig,
    rows: &Rows,
) -> Result<(), ReportError> {
    let folder = &results.folder;
    let truncated = truncation_rows(results);
    let measured: Vec<(&Job, &Measured)> = results.measured().collect();
    let targets: Vec<Target> = config
        .targets
        .iter()
        .filter_map(|name| Target::parse(name).ok())
        .collect();
    let first_cells = config.regularizers.cells[0];
    let mut overview: Vec<(Target, Vec<Column>)> = Vec::new();
    for &target in &targets {
        for &cells in &config.regularizers.cells {
            let columns = columns_of(results, config, target, cells);
            if columns.is_empty() {
                continue;
            }
            let name = format!("{}-T{cells}.png", target.name());
            let heading = format!("{}, T = {cells}", target.name());
            let path = folder.path().join(name);
            draw_columns(&path, &heading, &[], &columns)?;
            if cells == first_cells {
                overview.push((target, columns));
            }
        }
    }
    if !overview.is_empty() {
        let groups: Vec<(String, usize)> = overview
            .iter()
            .map(|(target, columns)| (target.name().to_owned(), columns.len()))
            .collect();
        let columns: Vec<Column> = overview.into_iter().flat_map(|(_, c)| c).collect();
        let heading = format!("What the regularizers do, T = {first_cells}");
        let path = folder.path().join("overview.png");
        draw_columns(&path, &heading, &groups, &columns)?;
    }
    let draw = |name: &str, heading: &str, panels: Vec<CurvePanel>, columns: usize| {
        let drawable = |panel: &CurvePanel| panel.lines.iter().any(|l| !l.points.is_empty());
        let panels: Vec<CurvePanel> = panels.into_iter().filter(drawable).collect();
        match panels.is_empty() {
            true => Ok(()),
            false => draw_curve_panels(folder.path().join(name), heading, &panels, columns),
        }
    };
    draw(
        "trade-off.png",
        "What a regularizer costs: weights grow along the lines, from the square without any",
        targets
            .iter()
            .flat_map(|t| trade_off(t.name(), config, &rows.rows))
            .collect(),
        3,
    )?;
    let shown = [
        "none".to_owned(),
        format!("inverse {}", config.pictures.inverse_consistency),
    ];
    let last_cells = config.regularizers.cells[config.regularizers.cells.len() - 1];
    draw(
        "truncation.png",
        "Errors of trained blocks against the number of cells",
        targets
            .iter()
            .flat_map(|t| truncation(t.name(), last_cells, &shown, config, &truncated))
            .collect(),
        2,
    )?;
    draw(
        "training.png",
        "The terms of the loss after the first twentieth of training, seed 0",
        targets
            .iter()
            .flat_map(|t| training(*t, first_cells, &measured))
            .collect(),
        4,
    )?;
    draw(
        "capacity.png",
        "Fit against the size of the flow",
        capacity(config, &rows.rows),
        3,
    )
}

/// A trained model seen in four ways.
struct Column {
    title: String,
    panels: [Panel; 4],
}

/// What the panels of a column show.
const VIEWS: [&str; 4] = ["density", "warped grid", "grid there and back", "paths"];

fn draw_columns(
    path: &std::path::Path,
    heading: &str,
    groups: &[(String, usize)],
    columns: &[Column],
) -> Result<(), ReportError> {
    let row = |(i, name): (usize, &&str)| MatrixRow {
        name: (*name).to_owned(),
        panels: columns.iter().map(|c| c.panels[i].clone()).collect(),
    };
    let rows: Vec<MatrixRow> = VIEWS.iter().enumerate().map(row).collect();
    let titles: Vec<String> = columns.iter().map(|c| c.title.clone()).collect();
    draw_matrix(path, heading, groups, &titles, &rows)
}

fn columns_of(
    results: &Results<Regularization>,
    config: &RegularizationConfig,
    target: Target,
    cells: usize,
) -> Vec<Column> {
    let drawn = results
        .measured()
        .filter(|(job, _)| job.drawn && job.target == target && job.model.cells == cells);
    let column = |(job, measured): (&Job, &Measured)| {
        let measured = &measured.measurement;
        let n = config.evaluation.grid;
        let density = results.run(job).density(n * n)?;
        let drawing: Drawing = results.run(job).kept(DRAWING)?;
        let fit = &measured.exact.metrics[0];
        let small = |v: Option<f64>| v.map_or("not finite".to_owned(), |v| format!("{v:.2}"));
        let density = DensityPanel {
            title: String::new(),
            subtitle: format!(
                "{} {}",
                fit.metric.title(),
                format_estimate(fit.value, Some(fit.stderr))
            ),
            range: target.plot_range(),
            grid: density,
        };
        let pushed = match target {
            Target::Samples(_) => "grid over the data, in base space",
            Target::Energy(_) => "grid over the base, in data space",
        };
        let round_trip = measured
            .round_trip
            .map_or("round trip not finite".to_owned(), |v| {
                format!("round trip {v:.1e}")
            });
        Some(Column {
            title: label(&job.regularizers),
            panels: [
                Panel::Density(density),
                Panel::Lines(
                    grid_panel(&drawing.grid, drawing.end_range),
                    pushed.to_owned(),
                ),
                Panel::Lines(grid_panel(&drawing.back, drawing.start_range), round_trip),
                Panel::Lines(
                    path_panel(&drawing),
                    format!("length {}", small(measured.path_length)),
                ),
            ],
        })
    };
    drawn.filter_map(column).collect()
}

fn points(line: &Polyline) -> Vec<[f64; 2]> {
    line.iter().map(|p| p.map(f64::from)).collect()
}

/// Both families of a grid's lines, each in its colour.
fn grid_panel(grid: &[Polyline], range: [[f64; 2]; 2]) -> LinePanel {
    let families = [[51, 142, 193], [221, 126, 51]];
    let line = |(i, line): (usize, &Polyline)| PanelLine {
        points: points(line),
        color: families[usize::from(i >= grid.len() / 2)],
        width: 1.0,
    };
    LinePanel {
        range,
        lines: grid.iter().enumerate().map(line).collect(),
        dots: Vec::new(),
    }
}

/// Paths that darken with time, and a dot where each particle ends.
fn path_panel(drawing: &Drawing) -> LinePanel {
    let (from, to) = ([135.0, 190.0, 230.0], [20.0, 50.0, 110.0]);
    let color = |share: f64| [0, 1, 2].map(|i| (from[i] + share * (to[i] - from[i])) as u8);
    let mut lines = Vec::new();
    for path in &drawing.paths {
        let path = points(path);
        let steps = path.len().saturating_sub(1).max(1);
        for (i, pair) in path.windows(2).enumerate() {
            lines.push(PanelLine {
                points: pair.to_vec(),
                color: color(i as f64 / steps as f64),
                width: 1.0,
            });
        }
    }
    let ends = drawing.paths.iter().filter_map(|path| path.last());
    let [a, b] = [drawing.start_range, drawing.end_range];
    let range = [0, 1].map(|i| [a[i][0].min(b[i][0]), a[i][1].max(b[i][1])]);
    LinePanel {
        range,
        lines,
        dots: ends.map(|p| (p.map(f64::from), [213, 94, 0])).collect(),
    }
}

fn estimates(x: f64, y: Option<&Estimate>) -> Option<([f64; 2], f64)> {
    let y = y?;
    Some(([x, y.mean], y.stderr.unwrap_or(0.0)))
}

/// What stands in the column `metric`.
fn metric_of(row: Option<&Row>) -> String {
    match row.and_then(|row| row.value("metric")) {
        Some(Summary::Value(value)) => value.to_string(),
        _ => String::new(),
    }
}

/// Fit against round-trip error, path length and norm of the fields.
fn trade_off(target: &str, config: &RegularizationConfig, rows: &[Row]) -> Vec<CurvePanel> {
    let surrogate = config.model.log_det.label();
    let metric = metric_of(rows.iter().find(|row| row.is("target", target)));
    let panel = |x_label: &str, x_scale: Scale, x: &str| {
        let mut lines = Vec::new();
        let mut squares = Vec::new();
        for (i, &cells) in config.regularizers.cells.iter().enumerate() {
            let of = |row: &&Row| {
                let study = row.is("study", "regularizers");
                study && row.is("target", target) && row.count("cells") == Some(cells)
            };
            let here = |row: &&Row| of(row) && row.is("trained by", &surrogate);
            let point = |row: &Row| estimates(row.mean(x)?.mean, row.mean("fit"));
            let none = rows
                .iter()
                .filter(here)
                .find(|row| row.is("regularizer", "none"));
            let (stroke, mark) = match i % 2 {
                0 => (Stroke::Solid, Mark::Disc),
                _ => (Stroke::Dashed, Mark::Ring),
            };
            for (color, kind) in ["geodesic", "inverse", "both", "field norm"]
                .into_iter()
                .enumerate()
            {
                let weighted = rows
                    .iter()
                    .filter(here)
                    .filter(|row| row.label("regularizer").to_string().starts_with(kind));
                let (points, errors) = none.into_iter().chain(weighted).filter_map(point).unzip();
                lines.push(CurveLine {
                    name: format!("{kind}, T = {cells}"),
                    points,
                    errors,
                    color,
                    stroke,
                    mark,
                });
            }
            let alone = |name: String, row: Option<&Row>, color: usize| {
                let (points, errors) = row.into_iter().filter_map(point).unzip();
                CurveLine {
                    name,
                    points,
                    errors,
                    color,
                    stroke: Stroke::None,
                    mark: Mark::Square,
                }
            };
            squares.push(alone(format!("none, T = {cells}"), none, 6));
            let exact = rows.iter().find(|row| {
                let exact = row.is("regularizer", "none") && row.is("trained by", "exact");
                of(row) && exact && surrogate != "exact"
            });
            let color = 3 + 2 * (i % 2);
            squares.push(alone(format!("none, exact, T = {cells}"), exact, color));
        }
        // Over the lines that begin there.
        lines.extend(squares);
        lines.retain(|line| !line.points.is_empty());
        CurvePanel {
            plot: CurvePlot {
                title: target.to_owned(),
                x_label: x_label.to_owned(),
                y_label: format!("{metric} by the exact determinant, nats"),
                x_scale,
                y_scale: Scale::Log10,
            },
            lines,
            ..CurvePanel::default()
        }
    };
    vec![
        panel(
            "round-trip error of the exponential map",
            Scale::Log10,
            "round_trip",
        ),
        panel("path length", Scale::Log10, "path_length"),
        panel("norm of the fields", Scale::Log10, "field_norm"),
    ]
}

/// Errors against T, with lines of the slopes that theory gives.
fn truncation(
    target: &str,
    trained_cells: usize,
    shown: &[String],
    config: &RegularizationConfig,
    rows: &[TruncationRow],
) -> Vec<CurvePanel> {
    let surrogate = config.model.log_det.label();
    let panel = |label: &String| {
        let row = rows.iter().find(|row| {
            row.target == target
                && row.trained_cells == trained_cells
                && row.label == *label
                && row.log_det == surrogate
        })?;
        type Of = fn(&super::measure::TruncationPoint) -> Option<f64>;
        let kinds: [(&str, f64, Of, &Option<Slope>); 3] = [
            (
                "log-det, first order",
                -1.0,
                |p| p.first_order,
                &row.first_order,
            ),
            (
                "log-det, second order",
                -2.0,
                |p| p.second_order,
                &row.second_order,
            ),
            (
                "inverse, exponential map",
                -1.0,
                |p| p.round_trip,
                &row.round_trip,
            ),
        ];
        let mut lines = Vec::new();
        let mut notes = Vec::new();
        for (color, (name, theory, of, slope)) in kinds.into_iter().enumerate() {
            let points: Vec<[f64; 2]> = row
                .points
                .iter()
                .filter_map(|p| Some([p.cells as f64, of(p)?]))
                .collect();
            if let (Some(last), Some(first)) = (points.last(), points.first()) {
                let back = last[1] * (first[0] / last[0]).powf(theory);
                lines.push(CurveLine {
                    name: "slopes −1 and −2".to_owned(),
                    points: vec![[first[0], back], *last],
                    errors: Vec::new(),
                    color,
                    stroke: Stroke::Guide,
                    mark: Mark::None,
                });
            }
            if let Some(slope) = slope {
                let Estimate { mean, stderr, .. } = slope.slope;
                let error = stderr.map_or(String::new(), |e| format!(" ± {e:.3}"));
                notes.push(format!("{name}: slope −{:.3}{error}", -mean));
            }
            lines.push(CurveLine {
                name: name.to_owned(),
                points,
                errors: Vec::new(),
                color,
                stroke: Stroke::Solid,
                mark: Mark::Disc,
            });
        }
        Some(CurvePanel {
            plot: CurvePlot {
                title: format!("{target}, {label}, trained with T = {trained_cells}"),
                x_label: "T in evaluation".to_owned(),
                y_label: "error (log-det in nats)".to_owned(),
                x_scale: Scale::Log10,
                y_scale: Scale::Log10,
            },
            lines,
            x_ticks: row.points.iter().map(|p| p.cells as f64).collect(),
            notes,
        })
    };
    shown.iter().filter_map(panel).collect()
}

/// Fit and penalties against the step, for what the pictures show.
fn training(target: Target, cells: usize, measured: &[(&Job, &Measured)]) -> Vec<CurvePanel> {
    let drawn = measured.iter().filter(|(job, _)| {
        job.drawn
            && job.study == Study::Regularizers
            && job.target == target
            && job.model.cells == cells
    });
    let of_kind = |regularizers: &Regularizers| match kind(regularizers) {
        "geodesic" => 0,
        "inverse" => 1,
        "both" => 2,
        "field norm" => 3,
        _ => 6,
    };
    let shown: Vec<(&Job, &Measured)> = drawn.copied().collect();
    let panel = |term: &str, y_label: &str, y_scale: Scale| {
        let line = |(job, measured): &(&Job, &Measured)| {
            let curve = measured.terms.get(term)?;
            Some(CurveLine {
                name: label(&job.regularizers),
                points: curve
                    .iter()
                    .filter(|(step, _)| *step >= job.training.steps / 20)
                    .map(|(step, v)| [*step as f64, *v])
                    .collect(),
                errors: Vec::new(),
                color: of_kind(&job.regularizers),
                stroke: Stroke::Solid,
                mark: Mark::None,
            })
        };
        CurvePanel {
            plot: CurvePlot {
                title: format!("{}, T = {cells}", target.name()),
                x_label: "step".to_owned(),
                y_label: y_label.to_owned(),
                x_scale: Scale::Linear,
                y_scale,
            },
            lines: shown.iter().filter_map(line).collect(),
            ..CurvePanel::default()
        }
    };
    let fit = match target {
        Target::Energy(_) => "free energy (annealed), nats",
        Target::Samples(_) => "negative log-likelihood, nats",
    };
    vec![
        panel("fit", fit, Scale::Linear),
        panel("geodesic", "geodesic term", Scale::Log10),
        panel("inverse", "inverse consistency", Scale::Log10),
        panel("field norm", "norm of the fields", Scale::Log10),
    ]
}

/// Fit against K, T and the units of a field.
fn capacity(config: &RegularizationConfig, rows: &[Row]) -> Vec<CurvePanel> {
    let base = &config.model;
    let rows = || rows.iter().filter(|row| row.is("study", "capacity"));
    let has = |row: &Row, label: &str, size: usize| row.count(label) == Some(size);
    let widths = |row: &Row| row.label("hidden").to_string();
    let panel = |title: &str, x_label: &str, size: &dyn Fn(&Row) -> Option<usize>| {
        let line = |(color, target): (usize, &String)| {
            let mut points: Vec<([f64; 2], f64)> = rows()
                .filter(|row| row.is("target", target))
                .filter_map(|row| estimates(size(row)? as f64, row.mean("fit")))
                .collect();
            points.sort_by(|a, b| a.0[0].total_cmp(&b.0[0]));
            let (points, errors) = points.into_iter().unzip();
            let metric = metric_of(rows().find(|row| row.is("target", target)));
            CurveLine {
                name: format!("{target} ({metric})"),
                points,
                errors,
                color,
                stroke: Stroke::Solid,
                mark: Mark::Disc,
            }
        };
        let lines: Vec<CurveLine> = config
            .capacity
            .targets
            .iter()
            .enumerate()
            .map(line)
            .collect();
        let mut ticks: Vec<f64> = lines.iter().flat_map(|l| &l.points).map(|p| p[0]).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        CurvePanel {
            plot: CurvePlot {
                title: title.to_owned(),
                x_label: x_label.to_owned(),
                y_label: "nats above the target".to_owned(),
                x_scale: Scale::Log10,
                y_scale: Scale::Log10,
            },
            lines,
            x_ticks: ticks,
            ..CurvePanel::default()
        }
    };
    let (blocks, cells, hidden) = (base.blocks, base.cells, &base.hidden);
    let units = hidden
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    vec![
        panel(&format!("T = {cells}, h = {units}"), "blocks K", &|row| {
            let same = has(row, "cells", cells) && widths(row) == units;
            row.count("blocks").filter(|_| same)
        }),
        panel(&format!("K = {blocks}, h = {units}"), "cells T", &|row| {
            let same = has(row, "blocks", blocks) && widths(row) == units;
            row.count("cells").filter(|_| same)
        }),
        panel(
            &format!("K = {blocks}, T = {cells}"),
            "hidden units h",
            &|row| {
                let same = has(row, "blocks", blocks) && has(row, "cells", cells);
                widths(row).parse().ok().filter(|_| same)
            },
        ),
    ]
}
