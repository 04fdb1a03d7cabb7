//! The graph experiment: a layer with a learned mask recovers the known graph of simulated data.
//!
//! The data come from a structural equation model whose order of causes is given and whose graph is
//! not; the mask of a [`Soft`](flows_core::conditioners::Soft) conditioner is trained by maximum
//! likelihood with an L1 penalty, cut at a threshold, and compared with the graph.

mod learn;
mod structural;

use std::path::PathBuf;

use burn::tensor::backend::AutodiffBackend;
use flows_core::masks::DependencyMask;
use serde::{Deserialize, Serialize};

pub use learn::{Learned, learn};
pub use structural::StructuralModel;

use crate::report::{Cell, MatrixPanel, Table, draw_matrix_panels};
use crate::runner::{Column, Experiment, Flag, Format, Labels, Preset, Results, Rows, Run};

/// How a variable depends on its parents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// `g(x) = x` for every edge.
    Linear,
    /// `g` is `x`, `tanh 2x` or `cos 2x`, drawn for each edge: the last leaves no correlation.
    #[default]
    Nonlinear,
}

/// Configuration of a graph experiment, all fields with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphConfig {
    /// Number of variables.
    pub dim: usize,
    /// Probability that a variable is a parent of one after it.
    pub edge_probability: f64,
    /// How a variable depends on its parents.
    pub mechanism: Mechanism,
    /// Rows of the training set.
    pub samples: usize,
    /// Graphs to recover, with seeds 0, 1, ...
    pub seeds: usize,
    /// Widths of the hidden layers of the shared conditioner.
    pub hidden: Vec<usize>,
    /// Gradient steps with the learned mask.
    pub steps: usize,
    /// Gradient steps with the hard mask that came out.
    pub hard_steps: usize,
    /// Rows in a batch.
    pub batch: usize,
    /// Adam's learning rate at its peak.
    pub learning_rate: f64,
    /// Weight of the sum of the mask's entries in the loss, nats.
    pub penalty: f64,
    /// Weight of the squares of the first layer's weights in the loss, nats: without it they would
    /// make up for any mask.
    pub decay: f64,
    /// Temperature of the mask in the first step and from three quarters of the steps on; in between
    /// it falls geometrically.
    pub temperature: [f64; 2],
    /// Entries of the mask from which on an edge counts as learned.
    pub threshold: f64,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self {
            dim: 8,
            edge_probability: 0.3,
            mechanism: Mechanism::default(),
            samples: 2000,
            seeds: 5,
            hidden: vec![48, 48],
            steps: 2500,
            hard_steps: 300,
            batch: 128,
            learning_rate: 5e-3,
            penalty: 0.01,
            decay: 0.03,
            temperature: [1.0, 0.2],
            threshold: 0.5,
        }
    }
}

impl GraphConfig {
    /// Says what is out of range, if anything.
    pub fn problem(&self) -> Option<String> {
        let counts = [
            ("samples", self.samples),
            ("seeds", self.seeds),
            ("steps", self.steps),
            ("batch", self.batch),
        ];
        if self.dim < 2 {
            return Some(format!("dim is {}, expected at least 2", self.dim));
        }
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Some(format!("{name} is 0, expected at least 1"));
        }
        if self.hidden.contains(&0) {
            return Some("hidden has a layer of width 0".to_owned());
        }
        let share = |v: f64| v > 0.0 && v < 1.0;
        for (name, value) in [
            ("edge_probability", self.edge_probability),
            ("threshold", self.threshold),
        ] {
            if !share(value) {
                return Some(format!("{name} is {value}, expected between 0 and 1"));
            }
        }
        let [first, last] = self.temperature;
        for (name, value, at_zero) in [
            ("learning_rate", self.learning_rate, false),
            ("temperature[0]", first, false),
            ("temperature[1]", last, false),
            ("penalty", self.penalty, true),
            ("decay", self.decay, true),
        ] {
            let fits = value.is_finite() && (value > 0.0 || (at_zero && value == 0.0));
            if !fits {
                let least = if at_zero { "at least 0" } else { "positive" };
                return Some(format!("{name} is {value}, expected finite and {least}"));
            }
        }
        None
    }

    /// The temperature of step `step`, counted from 0.
    pub fn temperature_at(&self, step: usize) -> f64 {
        let [first, last] = self.temperature;
        let progress = (step as f64 / (0.75 * self.steps as f64)).min(1.0);
        first * (last / first).powf(progress)
    }
}

/// One graph to recover.
#[derive(Debug)]
pub struct Job {
    dim: usize,
    seed: usize,
    steps: usize,
}

impl crate::runner::Job for Job {
    fn labels(&self) -> Labels {
        vec![("variables", self.dim.into())]
    }

    fn seed(&self) -> usize {
        self.seed
    }

    fn steps(&self) -> usize {
        self.steps
    }
}

/// One graph, what was learned of it, and how well the flow fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Edges that the triangle allows.
    pub possible: usize,
    /// Edges of the graph.
    pub edges: usize,
    /// Edges learned.
    pub learned: usize,
    /// Edges learned that are in the graph.
    pub correct: usize,
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

impl Measured {
    fn new(model: &StructuralModel, truth: &DependencyMask, learned: Learned) -> Self {
        let graph = parents(truth);
        let learned_graph = parents(&learned.graph);
        let count = |graph: &[Vec<usize>]| graph.iter().map(Vec::len).sum::<usize>();
        let pairs = learned_graph.iter().zip(&graph);
        let dim = truth.dim();
        Self {
            possible: dim * (dim - 1) / 2,
            edges: count(&graph),
            learned: count(&learned_graph),
            correct: pairs
                .map(|(found, truth)| found.iter().filter(|j| truth.contains(j)).count())
                .sum(),
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

    /// Share of the learned edges that are in the graph; `None` where none was learned.
    fn precision(&self) -> Option<f64> {
        (self.learned > 0).then(|| self.correct as f64 / self.learned as f64)
    }

    /// Share of the graph's edges that were learned.
    fn recall(&self) -> f64 {
        self.correct as f64 / self.edges as f64
    }

    /// The three panels of this graph, variables in the order of causes: the triangle is the lower one
    /// then, and the rest is grey.
    fn panels(&self, seed: usize) -> [MatrixPanel; 3] {
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
            .precision()
            .map_or("none".to_owned(), |p| format!("{p:.2}"));
        [
            panel(&format!("graph {seed}"), &|i, j| edge(&self.graph, i, j))
                .subtitled(format!("{} of {} edges", self.edges, self.possible)),
            panel("learned mask", &|i, j| self.soft_mask[i][j]).subtitled("white 0, dark 1"),
            panel("at threshold", &|i, j| edge(&self.learned_graph, i, j)).subtitled(format!(
                "precision {precision}, recall {:.2}",
                self.recall()
            )),
        ]
    }
}

fn parents(mask: &DependencyMask) -> Vec<Vec<usize>> {
    let dim = mask.dim();
    let row = |i: usize| (0..dim).filter(|&j| mask.sees(i, j)).collect();
    (0..dim).map(row).collect()
}

/// The experiment.
#[derive(Debug)]
pub struct Graph {
    config: GraphConfig,
}

type Col<'a> = Column<'a, Graph>;

impl Experiment for Graph {
    const NAME: &'static str = "graph";
    const ABOUT: &'static str = "Recover the graph of simulated data with a learned mask\n\n\
        Each seed draws a sparse graph over variables in a known order, a structural equation along it, \
        and a training set. An affine autoregressive flow whose mask is learned is fitted by maximum \
        likelihood, with a penalty on the sum of the mask's entries; entries above the threshold are the \
        learned edges. Printed and kept: edges found, precision, recall, and the negative log-likelihood \
        of fresh rows, with the soft mask, with the hard mask trained on, and under the model that the \
        rows come from.\n\n\
        Without options it takes less than a minute on two cores, and leaves a folder with results.jsonl, \
        summary.json, table.md, graph.png and config.toml.";
    const EXAMPLES: &'static str = "\
        graph                                                  five graphs over eight variables, under runs/\n\
        graph --set mechanism=linear --set samples=500         linear equations, less data\n\
        graph --set penalty=0.1 --seeds 1                      a stronger pull to few edges\n\
        graph --config runs/graph-1/config.toml --out runs/again   the same once more";
    const PRESETS: &'static [Preset] = &[Preset::new(
        "default",
        "Five graphs over eight variables, less than a minute on two cores",
        "",
    )];
    const FLAGS: &'static [Flag] = &[
        Flag::SEEDS,
        Flag::new(
            "steps",
            "N",
            "Gradient steps with the learned mask",
            "steps",
        ),
    ];
    type Config = GraphConfig;
    type Job = Job;
    type Measured = Measured;

    fn new(config: GraphConfig, _data: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self { config })
    }

    fn jobs(&self) -> Result<Vec<Job>, String> {
        if let Some(problem) = self.config.problem() {
            return Err(problem);
        }
        let job = |seed| Job {
            dim: self.config.dim,
            seed,
            steps: self.config.steps + self.config.hard_steps,
        };
        Ok((0..self.config.seeds).map(job).collect())
    }

    fn list(&self) -> String {
        "mechanisms\n  linear           x_j for every edge\n  nonlinear        x_j, tanh 2 x_j or cos 2 x_j\n".to_owned()
    }

    fn run<B: AutodiffBackend>(&self, job: &Job, run: &mut Run<'_, B>) -> anyhow::Result<Measured> {
        let (model, learned) = learn::<B>(&self.config, job.seed as u64, run)?;
        Ok(Measured::new(&model, &model.graph()?, learned))
    }

    fn outcome(&self, measured: &Measured) -> String {
        let Measured {
            correct,
            edges,
            learned,
            nll_hard,
            nll_truth,
            ..
        } = measured;
        format!(
            "{correct} of {edges} edges found, {} wrong, NLL {nll_hard:.3} against {nll_truth:.3} of the truth",
            learned - correct
        )
    }

    fn columns<'a>(&'a self, _: &'a Results<Self>) -> Vec<Column<'a, Self>> {
        vec![
            Col::total("possible", "possible", |_, m| m.possible),
            Col::total("edges", "edges", |_, m| m.edges),
            Col::total("learned", "learned", |_, m| m.learned),
            Col::total("correct", "correct", |_, m| m.correct),
            Col::mean("precision", "precision", |_, m| m.precision()),
            Col::mean("recall", "recall", |_, m| Some(m.recall())),
            Col::mean("nll_soft", "NLL soft", |_, m| Some(m.nll_soft)),
            Col::mean("nll_hard", "NLL hard", |_, m| Some(m.nll_hard)),
            Col::mean("nll_truth", "NLL of the truth", |_, m| Some(m.nll_truth)),
            Col::mean("train_seconds", "seconds", |_, m| Some(m.train_seconds))
                .written(Format::Decimals(1)),
        ]
    }

    /// Over the seeds, and one row a seed.
    fn tables(&self, results: &Results<Self>, rows: &Rows) -> Vec<Table> {
        let heads = [
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
        ];
        let mut table = Table::new(heads);
        let number = |v: f64| Cell::text(format!("{v:.3}"));
        for (job, m) in results.measured() {
            table.push(vec![
                Cell::text(job.seed.to_string()),
                Cell::text(format!("{} of {}", m.edges, m.possible)),
                Cell::text(m.learned.to_string()),
                Cell::text(m.correct.to_string()),
                m.precision().map_or(Cell::Missing, number),
                number(m.recall()),
                number(m.nll_soft),
                number(m.nll_hard),
                number(m.nll_truth),
                Cell::text(format!("{:.1}", m.train_seconds)),
            ]);
        }
        vec![rows.table(), table]
    }

    fn notes(&self, _: &Results<Self>) -> String {
        "Nats; edges summed over the graphs, the rest mean ± standard error over them.".to_owned()
    }

    /// Every graph beside what was learned of it.
    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        _: &Rows,
        _: &B::Device,
    ) -> anyhow::Result<()> {
        let panels = results.measured().flat_map(|(job, m)| m.panels(job.seed));
        let panels: Vec<MatrixPanel> = panels.collect();
        if panels.is_empty() {
            return Ok(());
        }
        Ok(draw_matrix_panels(
            results.folder.path().join("graph.png"),
            "",
            &panels,
            3,
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::parse_toml;

    #[test]
    fn the_temperature_falls_and_stays() {
        let config = GraphConfig {
            steps: 1000,
            temperature: [1.0, 0.01],
            ..GraphConfig::default()
        };
        assert_eq!(config.temperature_at(0), 1.0);
        assert!((config.temperature_at(375) - 0.1).abs() < 1e-12);
        assert!((config.temperature_at(750) - 0.01).abs() < 1e-12);
        assert_eq!(config.temperature_at(750), config.temperature_at(999));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(GraphConfig::default().problem(), None);
        for (text, word) in [
            ("dim = 1", "dim"),
            ("seeds = 0", "seeds"),
            ("hidden = [3, 0]", "hidden"),
            ("threshold = 1.0", "threshold"),
            ("penalty = -0.1", "penalty"),
            ("temperature = [1.0, 0.0]", "temperature[1]"),
        ] {
            let config: GraphConfig = parse_toml(text, "a").unwrap();
            assert!(
                config.problem().is_some_and(|p| p.starts_with(word)),
                "{text}"
            );
        }
    }
}
