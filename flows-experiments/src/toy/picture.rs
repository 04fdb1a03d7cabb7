//! The pictures: the target beside every model's density.

use super::config::{Evaluation, Job};
use super::summary::Row;
use crate::experiment::Folder;
use crate::report::density_plot::{DensityPanel, grid_points, histogram};
use crate::report::{ReportError, draw_density_panels, draw_overview, format_estimate};
use crate::targets::{SoftWall, Target, quadrature};
use flows_train::stream;

/// Samples in the histogram of a target without a known density.
const HISTOGRAM_SAMPLES: usize = 1_000_000;

/// Columns of panels in a target's picture.
const COLUMNS: usize = 5;

/// The panels of one target: the target, then each model that has a density.
pub(super) fn panels(
    jobs: &[Job],
    target: Target,
    rows: &[Row],
    folder: &Folder,
    wall: &SoftWall,
    evaluation: Evaluation,
) -> Vec<DensityPanel> {
    let n = evaluation.grid;
    let range = target.plot_range();
    let mut panels = vec![target_panel(target, wall, n)];
    for job in jobs.iter().filter(|j| j.target == target && j.seed == 0) {
        let row = rows
            .iter()
            .find(|r| r.target == target.name() && r.model == job.model_name);
        let (Some(grid), Some(row)) = (folder.run(job).density(n * n), row) else {
            continue;
        };
        let metric = match row.metric.as_str() {
            "kl" => "KL",
            "entropy_gap" => "gap",
            _ => "NLL",
        };
        let value = row.mean.map_or("diverged".to_owned(), |mean| {
            format!("{metric} {}", format_estimate(mean, row.stderr))
        });
        panels.push(DensityPanel {
            title: job.model_name.clone(),
            subtitle: value,
            range,
            grid,
        });
    }
    panels
}

fn target_panel(target: Target, wall: &SoftWall, n: usize) -> DensityPanel {
    let range = target.plot_range();
    let (grid, subtitle) = match target {
        Target::Energy(energy) => {
            let log_z = quadrature::normalize_walled(energy, wall, quadrature::DEFAULT_CELL).log_z;
            let density = |x: [f64; 2]| (-energy.potential(x) - wall.penalty(x) - log_z).exp();
            let grid = grid_points(range, n).into_iter().map(density).collect();
            (grid, "target".to_owned())
        }
        Target::Samples(set) => {
            let known = grid_points(range, n)
                .into_iter()
                .map(|x| set.log_density(x).map(f64::exp))
                .collect::<Option<Vec<_>>>();
            match known {
                Some(grid) => (grid, "target".to_owned()),
                None => {
                    let rng = &mut stream(0, "histogram", 0);
                    let grid = histogram(&set.sample(HISTOGRAM_SAMPLES, rng), range, n);
                    (grid, "target, histogram".to_owned())
                }
            }
        }
    };
    DensityPanel {
        title: target.name().to_owned(),
        subtitle,
        range,
        grid,
    }
}

/// Draws `TARGET.png`.
pub(super) fn draw_target(
    folder: &Folder,
    target: Target,
    panels: &[DensityPanel],
) -> Result<(), ReportError> {
    let path = folder.path().join(format!("{}.png", target.name()));
    draw_density_panels(path, target.describe(), panels, COLUMNS.min(panels.len()))
}

/// Draws `overview.png`.
pub(super) fn draw_all(
    folder: &Folder,
    rows: &[(String, Vec<DensityPanel>)],
) -> Result<(), ReportError> {
    let unnamed = rows
        .iter()
        .map(|(name, panels)| {
            let mut panels = panels.clone();
            panels[0].title = "target".to_owned();
            panels[0].subtitle = String::new();
            (name.clone(), panels)
        })
        .collect::<Vec<_>>();
    draw_overview(folder.path().join("overview.png"), &unnamed)
}
