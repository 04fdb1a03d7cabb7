//! `summary.json`, the table and the picture.

use std::path::Path;

use flows_core::masks::DependencyMask;
use serde::Serialize;

use super::config::GraphConfig;
use super::learn::Learned;
use super::structural::StructuralModel;
use crate::report::{Cell, MatrixPanel, ReportError, Table, draw_matrix_panels};
use crate::run_info::RunInfo;

/// `summary.json`.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Always `graph`.
    pub experiment: &'static str,
    /// What was asked for, in full.
    pub config: GraphConfig,
    /// Where it ran: commit, versions, device.
    #[serde(flatten)]
    pub info: RunInfo,
    /// One row a seed.
    pub rows: Vec<Row>,
}

/// One graph, what was learned of it, and how well the flow fits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The seed.
    pub seed: usize,
    /// Edges that the triangle allows.
    pub possible: usize,
    /// Edges of the graph.
    pub edges: usize,
    /// Edges learned.
    pub learned: usize,
    /// Edges learned that are in the graph.
    pub correct: usize,
    /// Share of the learned edges that are in the graph; `null` where none was learned.
    pub precision: Option<f64>,
    /// Share of the graph's edges that were learned.
    pub recall: f64,
    /// Negative log-likelihood of fresh rows with the soft mask, nats.
    pub nll_soft: f64,
    /// The same with the hard mask, trained on.
    pub nll_hard: f64,
    /// The same under the model itself.
    pub nll_truth: f64,
    /// Seconds of training.
    pub train_seconds: f64,
    /// The order of causes.
    pub order: Vec<usize>,
    /// The graph: `graph[i]` lists the parents of `i`.
    pub graph: Vec<Vec<usize>>,
    /// The graph learned.
    pub learned_graph: Vec<Vec<usize>>,
    /// The mask after training, row by row.
    pub soft_mask: Vec<Vec<f64>>,
}

impl Row {
    pub(super) fn new(
        seed: usize,
        model: &StructuralModel,
        truth: &DependencyMask,
        learned: Learned,
    ) -> Self {
        let graph = parents(truth);
        let learned_graph = parents(&learned.graph);
        let count = |graph: &[Vec<usize>]| graph.iter().map(Vec::len).sum::<usize>();
        let (edges, found) = (count(&graph), count(&learned_graph));
        let pairs = learned_graph.iter().zip(&graph);
        let correct = pairs
            .map(|(found, truth)| found.iter().filter(|j| truth.contains(j)).count())
            .sum::<usize>();
        let dim = truth.dim();
        Self {
            seed,
            possible: dim * (dim - 1) / 2,
            edges,
            learned: found,
            correct,
            precision: (found > 0).then(|| correct as f64 / found as f64),
            recall: correct as f64 / edges as f64,
            nll_soft: learned.nll_soft,
            nll_hard: learned.nll_hard,
            nll_truth: learned.nll_truth,
            train_seconds: learned.seconds,
            order: model.order().to_vec(),
            graph,
            learned_graph,
            soft_mask: learned.soft,
        }
    }

    /// The three panels of this row of the picture, variables in the order of causes: the triangle is the
    /// lower one then, and the rest is grey.
    fn panels(&self) -> [MatrixPanel; 3] {
        let panel = |title: &str, entry: &dyn Fn(usize, usize) -> f64| {
            let row = |(k, &i): (usize, &usize)| {
                let columns = self.order.iter().enumerate();
                columns
                    .map(|(l, &j)| if l < k { entry(i, j) } else { f64::NAN })
                    .collect()
            };
            MatrixPanel {
                title: title.to_owned(),
                subtitle: String::new(),
                rows: self.order.iter().enumerate().map(row).collect(),
                axes: [String::new(), String::new()],
            }
            .named("variable", "parent")
        };
        let edge =
            |graph: &[Vec<usize>], i: usize, j: usize| f64::from(u8::from(graph[i].contains(&j)));
        let precision = self
            .precision
            .map_or("none".to_owned(), |p| format!("{p:.2}"));
        [
            panel(&format!("graph {}", self.seed), &|i, j| {
                edge(&self.graph, i, j)
            })
            .subtitled(format!("{} of {} edges", self.edges, self.possible)),
            panel("learned mask", &|i, j| self.soft_mask[i][j]).subtitled("white 0, dark 1"),
            panel("at threshold", &|i, j| edge(&self.learned_graph, i, j))
                .subtitled(format!("precision {precision}, recall {:.2}", self.recall)),
        ]
    }
}

fn parents(mask: &DependencyMask) -> Vec<Vec<usize>> {
    let dim = mask.dim();
    let row = |i: usize| (0..dim).filter(|&j| mask.sees(i, j)).collect();
    (0..dim).map(row).collect()
}

/// Draws every graph beside what was learned of it.
pub(super) fn draw(path: &Path, rows: &[Row]) -> Result<(), ReportError> {
    let panels: Vec<MatrixPanel> = rows.iter().flat_map(Row::panels).collect();
    draw_matrix_panels(path, "", &panels, 3)
}

/// One row a seed, and the means.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new([
        "seed",
        "edges",
        "learned",
        "correct",
        "precision",
        "recall",
        "NLL soft",
        "NLL hard",
        "NLL of the truth",
        "seconds",
    ]);
    let number = |v: f64| Cell::text(format!("{v:.3}"));
    for row in rows {
        table.push(vec![
            Cell::text(row.seed.to_string()),
            Cell::text(format!("{} of {}", row.edges, row.possible)),
            Cell::text(row.learned.to_string()),
            Cell::text(row.correct.to_string()),
            row.precision.map_or(Cell::Missing, number),
            number(row.recall),
            number(row.nll_soft),
            number(row.nll_hard),
            number(row.nll_truth),
            Cell::text(format!("{:.1}", row.train_seconds)),
        ]);
    }
    let sum = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let (edges, learned, correct) = (sum(&|r| r.edges), sum(&|r| r.learned), sum(&|r| r.correct));
    let mean = |of: &dyn Fn(&Row) -> f64| {
        number(rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64)
    };
    table.push(vec![
        Cell::text("all"),
        Cell::text(format!("{edges} of {}", sum(&|r| r.possible))),
        Cell::text(learned.to_string()),
        Cell::text(correct.to_string()),
        match learned {
            0 => Cell::Missing,
            n => number(correct as f64 / n as f64),
        },
        number(correct as f64 / edges.max(1) as f64),
        mean(&|r| r.nll_soft),
        mean(&|r| r.nll_hard),
        mean(&|r| r.nll_truth),
        Cell::text(format!(
            "{:.1}",
            rows.iter().map(|r| r.train_seconds).sum::<f64>()
        )),
    ]);
    table
}
