//! Measuring a trained stack of blocks: its likelihood by the exact determinant beside the surrogate,
//! its inverse, its paths, and how its approximations fall with the number of cells.

use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{Chain, DdnfBlock, Layer, Stack, exponential_inverse, trajectories};
use flows_core::distributions::{DiagonalNormal, Sample};
use flows_core::flow::Flow;
use flows_core::log_det::LogDet;
use flows_core::regularizers::{Metric, Regularizers, field_norm, path_energy, path_length};
use serde::{Deserialize, Serialize};

use super::config::Truncation;
use crate::targets::Target;
use crate::toy::{self, Evaluation, TargetSettings, density_grid, points};
use flows_models::stability::{Stability, measure_stability};
use flows_train::stream;

/// What a run comes to. Numbers that are not finite are `None`.
///
/// Round trip, paths and stability are those of fresh points at the start of the blocks' forward
/// direction: data of a sample set, the base of an energy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// The fit by the exact determinant of the Euler map.
    pub exact: toy::Measurement,
    /// The fit as the log-determinant of training sees it, on the same samples.
    pub surrogate: toy::Measurement,
    /// Mean of the surrogate's log-determinant less the exact one, in nats.
    pub log_det_bias: Option<f64>,
    /// Root mean square of that difference.
    pub log_det_error: Option<f64>,
    /// Root mean square of `|exp(-v)(exp(v)(z)) - z|`, the exponential-map inverse.
    pub round_trip: Option<f64>,
    /// Its largest value.
    pub round_trip_max: Option<f64>,
    /// Largest `|forward(inverse(y)) - y|` of the exact inverse.
    pub exact_inverse_residual: Option<f64>,
    /// `R_geo` in the reading and metric of the configuration.
    pub geodesic: Option<f64>,
    /// `R_inv`.
    pub inverse_consistency: Option<f64>,
    /// The squared norm of the fields along the paths, with the weight of the Jacobian that training has.
    pub field_norm: Option<f64>,
    /// Energy of the paths, identity metric.
    pub path_energy: Option<f64>,
    /// Length of the paths.
    pub path_length: Option<f64>,
    /// Mean distance between the ends of the paths: no path is shorter.
    pub displacement: Option<f64>,
    /// Whether the fields are too stiff for their cells.
    pub stability: Stability,
    /// The blocks at other numbers of cells.
    pub truncation: Vec<TruncationPoint>,
}

/// Trained blocks with another number of cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruncationPoint {
    /// Number `T` of cells.
    pub cells: usize,
    /// Mean `|surrogate - exact|` of the log-determinant, first order, in nats.
    pub first_order: Option<f64>,
    /// The same, second order.
    pub second_order: Option<f64>,
    /// Root mean square error of the exponential-map inverse.
    pub round_trip: Option<f64>,
    /// Fit by the exact determinant, in the metric of the tables.
    pub fit: Option<f64>,
    /// Largest spectral radius of `J / T`.
    pub max_rho: Option<f64>,
}

/// A trained model, apart from how its flow is oriented.
pub(super) struct Trained<'a, B: Backend> {
    pub(super) layers: &'a [Layer<B>],
    pub(super) target: Target,
    pub(super) device: &'a B::Device,
    pub(super) seed: u64,
}

impl<B: Backend> Trained<'_, B> {
    /// Measures everything.
    pub(super) fn measure(
        &self,
        regularizers: &Regularizers,
        settings: &TargetSettings,
        truncation: &Truncation,
        measure_truncation: bool,
    ) -> Measurement {
        let start = self.start(truncation.samples);
        let exact_layers = self.with_log_det(&LogDet::Exact);
        let exact = self.fit(exact_layers.clone(), settings, settings.evaluation);
        let surrogate = self.fit(self.layers.to_vec(), settings, settings.evaluation);
        let difference = {
            let of = |layers: Vec<Layer<B>>| chain(layers).forward_and_log_det(start.clone(), None);
            of(self.layers.to_vec()).log_det - of(exact_layers.clone()).log_det
        };
        let path = trajectories(self.layers, start.clone(), None);
        let back = exponential_inverse(self.layers, path.end.clone(), None)
            .expect("the configuration has stationary fields only");
        let distance = norms(back - start.clone());
        let (first, last) = (&path.blocks[0], &path.blocks[path.blocks.len() - 1]);
        let displacement = norms(last.end().clone() - first.states[0].clone());
        let penalty = regularizers
            .reading
            .penalty(&path.blocks, &regularizers.metric);
        let report = chain(exact_layers)
            .inverse_with_report(path.end.clone(), None)
            .1;
        let identity = Metric::Identity;
        let points = truncation.cells.iter().filter(|_| measure_truncation);
        Measurement {
            exact,
            surrogate,
            log_det_bias: number(difference.clone().mean()),
            log_det_error: number(difference.square().mean().sqrt()),
            round_trip: number(distance.clone().square().mean().sqrt()),
            round_trip_max: number(distance.clone().max()),
            exact_inverse_residual: finite(report.residual),
            geodesic: number(penalty),
            inverse_consistency: number(distance.square().mean()),
            field_norm: number(field_norm(
                self.layers,
                &path.blocks,
                None,
                regularizers.jacobian,
            )),
            path_energy: number(path_energy(&path.blocks, &identity)),
            path_length: number(path_length(&path.blocks, &identity)),
            displacement: number(displacement.mean()),
            stability: measure_stability(self.layers, start.clone()).expect("there are blocks"),
            truncation: points
                .map(|&cells| self.at_cells(cells, start.clone(), settings, truncation))
                .collect(),
        }
    }

    /// Fresh points where the blocks begin.
    pub(super) fn start(&self, n: usize) -> Tensor<B, 2> {
        let rng = &mut stream(self.seed, "test points", 0);
        match self.target {
            Target::Samples(set) => points(&set.sample(n, rng), self.device),
            Target::Energy(_) => DiagonalNormal::standard(2, self.device).sample(n, None, rng),
        }
    }

    /// The density by the exact determinant and the exact inverse, on the grid of a picture.
    pub(super) fn density(&self, n: usize) -> Vec<f64> {
        let layers = chain(self.with_log_det(&LogDet::Exact));
        let base = DiagonalNormal::standard(2, self.device);
        let range = self.target.plot_range();
        match self.target {
            Target::Samples(_) => {
                let flow = Flow::data_to_base(layers, base).expect("both are on the plane");
                density_grid(&flow, range, n, self.device)
            }
            Target::Energy(_) => {
                let flow = Flow::base_to_data(layers, base).expect("both are on the plane");
                density_grid(&flow, range, n, self.device)
            }
        }
    }

    fn fit(
        &self,
        layers: Vec<Layer<B>>,
        settings: &TargetSettings,
        evaluation: Evaluation,
    ) -> toy::Measurement {
        let base = DiagonalNormal::standard(2, self.device);
        let (wall, seed, device) = (&settings.wall, self.seed, self.device);
        match self.target {
            Target::Samples(_) => {
                let flow = Flow::data_to_base(chain(layers), base).expect("both are on the plane");
                toy::measure(&flow, self.target, wall, evaluation, seed, device)
            }
            Target::Energy(_) => {
                let flow = Flow::base_to_data(chain(layers), base).expect("both are on the plane");
                toy::measure(&flow, self.target, wall, evaluation, seed, device)
            }
        }
    }

    fn at_cells(
        &self,
        cells: usize,
        start: Tensor<B, 2>,
        settings: &TargetSettings,
        truncation: &Truncation,
    ) -> TruncationPoint {
        let with = |log_det: &LogDet| {
            self.map_blocks(|block| {
                let block = block.with_cells(cells).with_log_det(log_det.clone());
                block.expect("a log-determinant without probes")
            })
        };
        let run = |log_det| chain(with(&log_det)).forward_and_log_det(start.clone(), None);
        let exact = run(LogDet::Exact);
        let error = |order: usize| {
            let surrogate = run(LogDet::Taylor { order }).log_det;
            number((surrogate - exact.log_det.clone()).abs().mean())
        };
        let layers = with(&LogDet::Exact);
        let back = exponential_inverse(&layers, exact.value.clone(), None)
            .expect("the configuration has stationary fields only");
        let evaluation = Evaluation {
            samples: truncation.samples,
            ..settings.evaluation
        };
        let fit = self.fit(layers.clone(), settings, evaluation);
        TruncationPoint {
            cells,
            first_order: error(1),
            second_order: error(2),
            round_trip: number(norms(back - start.clone()).square().mean().sqrt()),
            fit: finite(fit.metrics[0].value),
            max_rho: measure_stability(&layers, start.clone()).and_then(|s| s.max_rho),
        }
    }

    fn with_log_det(&self, log_det: &LogDet) -> Vec<Layer<B>> {
        self.map_blocks(|block| {
            let block = block.with_log_det(log_det.clone());
            block.expect("it is validated with the configuration")
        })
    }

    fn map_blocks(&self, change: impl Fn(DdnfBlock<B>) -> DdnfBlock<B>) -> Vec<Layer<B>> {
        let layers = self.layers.iter().cloned();
        layers
            .map(|layer| match layer {
                Layer::Ddnf(block) => Layer::Ddnf(change(block)),
                other => other,
            })
            .collect()
    }
}

fn chain<B: Backend>(layers: Vec<Layer<B>>) -> Stack<B> {
    Chain::new(layers).expect("they were a chain before")
}

/// Euclidean norm of each row.
fn norms<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 1> {
    x.square().sum_dim(1).sqrt().squeeze_dim(1)
}

fn number<B: Backend>(tensor: Tensor<B, 1>) -> Option<f64> {
    tensor.into_data().iter::<f64>().next().and_then(finite)
}

/// JSON has no other numbers.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
