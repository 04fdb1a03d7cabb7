//! Pictures of a set: chosen pairs of columns, data beside every model's samples, and their marginals.
//!
//! In the manner of figure 6 of arXiv:1810.03256, whose own variables are not known.

use std::path::Path;

use crate::data::sets::DataSet;
use crate::report::density_plot::histogram;
use crate::report::pair_plot::middle;
use crate::report::{DensityPanel, Marginal, ReportError, draw_marginals, draw_overview};
use flows_tables::Rows;

/// Cells along each side of a histogram.
const CELLS: usize = 48;

/// Draws `SET-pairs.png`, in square roots of densities, and `SET-marginals.png` into `folder`.
pub(super) fn draw(
    folder: &Path,
    set: &DataSet,
    models: &[(String, Rows)],
) -> Result<(), ReportError> {
    let name = set.id.name();
    let shown = &set.shown;
    let ranges: Vec<[f64; 2]> = shown.iter().map(|&c| middle(set.test.column(c))).collect();
    // Every column on its own scale, from 0 to 1.
    let points = |rows: &Rows, [a, b]: [usize; 2]| -> Vec<[f64; 2]> {
        let unit = |row: &[f64], k: usize| {
            let [low, high] = ranges[k];
            (row[shown[k]] - low) / (high - low)
        };
        rows.iter()
            .map(|row| [unit(row, a), unit(row, b)])
            .collect()
    };
    let panel = |title: &str, rows: &Rows, pair: [usize; 2]| {
        let range = [[0.0, 1.0]; 2];
        let density = histogram(&points(rows, pair), range, CELLS);
        DensityPanel {
            title: title.to_owned(),
            subtitle: String::new(),
            range,
            // Real data have peaks beside which nothing else would be seen.
            grid: density.into_iter().map(f64::sqrt).collect(),
        }
    };
    let pairs = (0..shown.len()).flat_map(|a| (a + 1..shown.len()).map(move |b| [a, b]));
    let rows: Vec<(String, Vec<DensityPanel>)> = pairs
        .map(|pair| {
            let [x, y] = pair.map(|k| set.columns[shown[k]].as_str());
            let mut panels = vec![panel("test data", &set.test, pair)];
            panels.extend(models.iter().map(|(model, rows)| panel(model, rows, pair)));
            (format!("{x}, {y}"), panels)
        })
        .collect();
    if !rows.is_empty() {
        draw_overview(folder.join(format!("{name}-pairs.png")), &rows)?;
    }
    let marginals: Vec<Marginal> = shown
        .iter()
        .zip(&ranges)
        .map(|(&column, range)| Marginal {
            name: set.columns[column].clone(),
            range: *range,
            data: set.test.column(column).collect(),
            models: models
                .iter()
                .map(|(model, rows)| (model.clone(), rows.column(column).collect()))
                .collect(),
        })
        .collect();
    let heading = format!("{name}: marginals of test data and samples");
    draw_marginals(
        folder.join(format!("{name}-marginals.png")),
        &heading,
        &marginals,
    )
}
