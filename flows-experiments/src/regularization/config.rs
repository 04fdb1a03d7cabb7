//! What to run: targets, weights, numbers of cells, seeds and budgets.

use flows_core::bijectors::DdnfInverse;
use flows_core::log_det::LogDet;
use flows_core::regularizers::{Geodesic, Metric, Regularizers};
use flows_models::DdnfConfig;
use flows_train::Training;
use serde::{Deserialize, Serialize};

use crate::runner::Labels;
use crate::targets::{SoftWall, Target};
use crate::toy::{Annealing, Evaluation, TargetSettings};

/// The regularization experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegularizationConfig {
    /// Targets by name, in the order of the tables.
    pub targets: Vec<String>,
    /// Runs of each kind, with seeds 0, 1, ...
    pub seeds: usize,
    /// Budget and optimizer of every run.
    pub training: Training,
    /// The model. Its `cells` are those of the weights' list, its `log_det` is what training uses.
    pub model: DdnfConfig,
    /// The regularizers of the first study.
    pub regularizers: Weights,
    /// Where trained blocks are measured in the second study.
    #[serde(default)]
    pub truncation: Truncation,
    /// The third study.
    pub capacity: Capacity,
    /// How the energies are annealed.
    #[serde(default)]
    pub annealing: Annealing,
    /// The wall around the energies.
    #[serde(default)]
    pub wall: SoftWall,
    /// How the fitted models are measured.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// What the pictures show.
    pub pictures: Pictures,
}

/// Weights of the regularizers, each run with every number of cells. No regularizer comes first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Numbers `T` of cells.
    pub cells: Vec<usize>,
    /// `lambda_geo` of the runs with the geodesic term alone.
    pub geodesic: Vec<f64>,
    /// `lambda_inv` of the runs with inverse consistency alone.
    pub inverse_consistency: Vec<f64>,
    /// `[lambda_geo, lambda_inv]` of the runs with both.
    pub both: Vec<[f64; 2]>,
    /// What the geodesic term measures.
    #[serde(default)]
    pub reading: Geodesic,
    /// The metric in which it does.
    #[serde(default)]
    pub metric: Metric,
    /// Weights of the runs with the norm of the fields alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub field_norm: Vec<f64>,
    /// What the squared Jacobian counts for in that norm.
    #[serde(default = "one")]
    pub jacobian: f64,
    /// Rows of a batch that the terms of paths are averaged over: they keep the whole path of each in
    /// the graph. All of them if not given.
    #[serde(
        default,
        alias = "geodesic_rows",
        skip_serializing_if = "Option::is_none"
    )]
    pub path_rows: Option<usize>,
    /// Other log-determinants with which the runs that pictures show are trained as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_log_dets: Vec<LogDet>,
}

fn one() -> f64 {
    1.0
}

/// Evaluation of trained blocks at other numbers of cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Truncation {
    /// Numbers `T` of cells, from small to large.
    pub cells: Vec<usize>,
    /// Points that errors are averaged over.
    pub samples: usize,
}

impl Default for Truncation {
    fn default() -> Self {
        Self {
            cells: vec![4, 8, 16, 32, 64, 128],
            samples: 1000,
        }
    }
}

/// Fit against one size at a time, the others as in `model`: trained with the exact determinant and
/// without regularizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// Targets by name, all of known density; none: no such study.
    pub targets: Vec<String>,
    /// Numbers `K` of blocks.
    pub blocks: Vec<usize>,
    /// Numbers `T` of cells.
    pub cells: Vec<usize>,
    /// Units of the one hidden layer of the fields.
    pub hidden: Vec<usize>,
}

/// What the pictures of warped grids and paths show, of the first seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pictures {
    /// `lambda_geo` shown.
    pub geodesic: f64,
    /// `lambda_inv` shown.
    pub inverse_consistency: f64,
    /// `[lambda_geo, lambda_inv]` shown.
    pub both: [f64; 2],
    /// Weight of the norm of the fields shown, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_norm: Option<f64>,
    /// Particles whose paths are drawn.
    #[serde(default = "default_particles")]
    pub particles: usize,
}

fn default_particles() -> usize {
    160
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Study {
    /// Regularizers, and the truncation of the blocks they leave.
    Regularizers,
    /// Fit against size.
    Capacity,
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What it is for.
    pub study: Study,
    /// What is fitted.
    pub target: Target,
    /// The model, with its cells and with the log-determinant of its training.
    pub model: DdnfConfig,
    /// The regularizers.
    pub regularizers: Regularizers,
    /// Its seed.
    pub seed: usize,
    /// Budget.
    pub training: Training,
    /// Whether the pictures show it.
    pub drawn: bool,
}

/// `none`, `geodesic`, `inverse`, `both` or `field norm`.
pub(super) fn kind(regularizers: &Regularizers) -> &'static str {
    match (
        regularizers.geodesic > 0.0,
        regularizers.inverse_consistency > 0.0,
        regularizers.field_norm > 0.0,
    ) {
        (_, _, true) => "field norm",
        (false, false, _) => "none",
        (true, false, _) => "geodesic",
        (false, true, _) => "inverse",
        (true, true, _) => "both",
    }
}

/// The kind with its weights, such as `both 0.1 + 10`.
pub(super) fn label(regularizers: &Regularizers) -> String {
    let (geodesic, inverse) = (regularizers.geodesic, regularizers.inverse_consistency);
    match kind(regularizers) {
        "geodesic" => format!("geodesic {geodesic}"),
        "inverse" => format!("inverse {inverse}"),
        "both" => format!("both {geodesic} + {inverse}"),
        "field norm" => format!("field norm {}", regularizers.field_norm),
        none => none.to_owned(),
    }
}

impl crate::runner::Job for Job {
    fn labels(&self) -> Labels {
        let study = match self.study {
            Study::Regularizers => "regularizers",
            Study::Capacity => "capacity",
        };
        vec![
            ("study", study.into()),
            ("target", self.target.name().into()),
            ("cells", self.model.cells.into()),
            ("blocks", self.model.blocks.into()),
            ("hidden", self.model.hidden.clone().into()),
            ("regularizer", label(&self.regularizers).into()),
            ("trained by", self.model.log_det.label().into()),
        ]
    }

    fn seed(&self) -> usize {
        self.seed
    }

    fn steps(&self) -> usize {
        self.training.steps
    }
}

impl RegularizationConfig {
    /// Every run: the regularizers target by target and cells by cells, then the sizes.
    ///
    /// # Errors
    /// One line on an unknown name, a value out of range or a run listed twice.
    pub fn jobs(&self) -> Result<Vec<Job>, String> {
        self.check()?;
        let mut jobs = Vec::new();
        for target in &self.targets {
            let target = Target::parse(target).map_err(|e| e.to_string())?;
            for &cells in &self.regularizers.cells {
                let of_weights = self.variants().into_iter();
                let surrogate = of_weights.map(|(r, drawn)| (r, drawn, self.model.log_det.clone()));
                let shown = self.variants().into_iter().filter(|(_, drawn)| *drawn);
                let others = shown.flat_map(|(regularizers, _)| {
                    let others = self.regularizers.other_log_dets.iter();
                    others.map(move |other| (regularizers.clone(), false, other.clone()))
                });
                for (regularizers, drawn, log_det) in surrogate.chain(others) {
                    let model = DdnfConfig {
                        cells,
                        log_det,
                        ..self.model.clone()
                    };
                    self.push(
                        &mut jobs,
                        Study::Regularizers,
                        target,
                        model,
                        regularizers,
                        drawn,
                    );
                }
            }
        }
        for target in &self.capacity.targets {
            let target = Target::parse(target).map_err(|e| e.to_string())?;
            for model in self.sizes() {
                let none = Regularizers::default();
                self.push(&mut jobs, Study::Capacity, target, model, none, false);
            }
        }
        Ok(jobs)
    }

    fn push(
        &self,
        jobs: &mut Vec<Job>,
        study: Study,
        target: Target,
        model: DdnfConfig,
        regularizers: Regularizers,
        drawn: bool,
    ) {
        jobs.extend((0..self.seeds).map(|seed| Job {
            study,
            target,
            model: model.clone(),
            regularizers: regularizers.clone(),
            seed,
            training: self.training.clone(),
            drawn: drawn && seed == 0,
        }));
    }

    /// The regularizers of the first study, and whether pictures show them.
    fn variants(&self) -> Vec<(Regularizers, bool)> {
        let weights = &self.regularizers;
        let with = |geodesic: f64, inverse_consistency: f64| Regularizers {
            geodesic,
            inverse_consistency,
            reading: weights.reading,
            metric: weights.metric.clone(),
            field_norm: 0.0,
            jacobian: weights.jacobian,
        };
        let shown = &self.pictures;
        let mut variants = vec![(with(0.0, 0.0), true)];
        for &weight in &weights.geodesic {
            variants.push((with(weight, 0.0), weight == shown.geodesic));
        }
        for &weight in &weights.inverse_consistency {
            variants.push((with(0.0, weight), weight == shown.inverse_consistency));
        }
        for &[geodesic, inverse] in &weights.both {
            let drawn = [geodesic, inverse] == shown.both;
            variants.push((with(geodesic, inverse), drawn));
        }
        for &field_norm in &weights.field_norm {
            let alone = Regularizers {
                field_norm,
                ..with(0.0, 0.0)
            };
            variants.push((alone, shown.field_norm == Some(field_norm)));
        }
        variants
    }

    /// What targets ask of the jobs.
    pub(super) fn settings(&self) -> TargetSettings {
        TargetSettings {
            wall: self.wall,
            annealing: self.annealing,
            evaluation: self.evaluation,
        }
    }

    /// The models of the third study: the base, then one size changed at a time.
    fn sizes(&self) -> Vec<DdnfConfig> {
        let base = DdnfConfig {
            log_det: LogDet::Exact,
            ..self.model.clone()
        };
        let mut sizes = vec![base.clone()];
        let blocks = self.capacity.blocks.iter().map(|&blocks| DdnfConfig {
            blocks,
            ..base.clone()
        });
        let cells = self.capacity.cells.iter().map(|&cells| DdnfConfig {
            cells,
            ..base.clone()
        });
        let hidden = self.capacity.hidden.iter().map(|&width| DdnfConfig {
            hidden: vec![width],
            ..base.clone()
        });
        for size in blocks.chain(cells).chain(hidden) {
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
        sizes
    }

    fn check(&self) -> Result<(), String> {
        let required = [
            ("targets", self.targets.len()),
            ("seeds", self.seeds),
            ("regularizers.cells", self.regularizers.cells.len()),
            ("truncation.samples", self.truncation.samples),
            ("pictures.particles", self.pictures.particles),
        ];
        if let Some((name, _)) = required.into_iter().find(|(_, count)| *count == 0) {
            return Err(format!("{name} is empty or 0, expected at least one"));
        }
        if let Some(problem) = self.training.problem() {
            return Err(format!("training.{problem}"));
        }
        if let Some(problem) = self.settings().problem() {
            return Err(problem);
        }
        if self.model.dim != 2 {
            let dim = self.model.dim;
            return Err(format!("model.dim is {dim}, the targets have 2"));
        }
        if self.model.context_dim != 0 {
            return Err("model.context_dim is not 0, the targets have no context".to_owned());
        }
        if self.model.time_dependent {
            return Err(
                "model.time_dependent is true: without the exponential-map inverse there \
                        is nothing to compare"
                    .to_owned(),
            );
        }
        if self.model.inverse == DdnfInverse::ApproximateExponentialMap {
            return Err(
                "model.inverse is the exponential map, which is no inverse to measure \
                        densities with; it is compared with the exact one in every row"
                    .to_owned(),
            );
        }
        if self.regularizers.path_rows == Some(0) {
            return Err("regularizers.path_rows is 0, expected at least 1".to_owned());
        }
        let lists = [
            ("truncation.cells", &self.truncation.cells),
            ("regularizers.cells", &self.regularizers.cells),
            ("capacity.blocks", &self.capacity.blocks),
            ("capacity.cells", &self.capacity.cells),
            ("capacity.hidden", &self.capacity.hidden),
        ];
        if let Some((name, _)) = lists.iter().find(|(_, list)| list.contains(&0)) {
            return Err(format!("{name} has 0, expected at least 1"));
        }
        let weights = &self.regularizers;
        let positive = |weight: &f64| *weight > 0.0 && weight.is_finite();
        let mut all = weights.geodesic.iter();
        let mut all = all.by_ref().chain(&weights.inverse_consistency);
        if !all
            .by_ref()
            .chain(weights.both.as_flattened())
            .chain(&weights.field_norm)
            .all(positive)
        {
            return Err(
                "regularizers: weights must be positive and finite; a run without any \
                        is always there"
                    .to_owned(),
            );
        }
        let metric = weights.metric.validate(self.model.dim);
        metric.map_err(|error| error.to_string())?;
        for target in &self.capacity.targets {
            let parsed = Target::parse(target).map_err(|e| e.to_string())?;
            let known = match parsed {
                Target::Energy(_) => true,
                Target::Samples(set) => set.entropy().is_some(),
            };
            if !known {
                return Err(format!(
                    "capacity.targets: the density of '{target}' is not known"
                ));
            }
        }
        let shown = &self.pictures;
        let missing = [
            ("geodesic", weights.geodesic.contains(&shown.geodesic)),
            (
                "inverse_consistency",
                weights
                    .inverse_consistency
                    .contains(&shown.inverse_consistency),
            ),
            ("both", weights.both.contains(&shown.both)),
            (
                "field_norm",
                shown
                    .field_norm
                    .is_none_or(|shown| weights.field_norm.contains(&shown)),
            ),
        ];
        match missing.into_iter().find(|(_, there)| !there) {
            Some((name, _)) => Err(format!(
                "pictures.{name} is none of the weights in regularizers.{name}"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regularization::Regularization;
    use crate::runner::{Experiment, preset};

    fn config(name: &str) -> RegularizationConfig {
        preset(Regularization::PRESETS, name)
    }

    #[test]
    fn the_presets_are_sound_and_draw_every_kind() {
        for preset in Regularization::PRESETS {
            let config = config(preset.name);
            let jobs = config.jobs().unwrap();
            for target in &config.targets {
                for cells in &config.regularizers.cells {
                    let drawn = jobs.iter().filter(|job| {
                        job.drawn && job.target.name() == target && job.model.cells == *cells
                    });
                    let kinds: Vec<_> = drawn.map(|job| kind(&job.regularizers)).collect();
                    assert_eq!(kinds, ["none", "geodesic", "inverse", "both", "field norm"]);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |change: fn(&mut RegularizationConfig), words: &str| {
            let mut config = config("quick");
            change(&mut config);
            let error = config.jobs().unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        };
        refused(|c| c.model.time_dependent = true, "time_dependent");
        refused(
            |c| c.model.inverse = DdnfInverse::ApproximateExponentialMap,
            "inverse",
        );
        refused(|c| c.regularizers.geodesic.push(-1.0), "positive");
        refused(|c| c.pictures.geodesic = 17.0, "pictures.geodesic");
        refused(
            |c| c.capacity.targets = vec!["pinwheel".to_owned()],
            "not known",
        );
        refused(|c| c.targets = vec!["u5".to_owned()], "unknown target 'u5'");
    }
}
