//! The regularization experiment: what inverse consistency, the geodesic term and the norm of the fields do to a deep
//! diffeomorphic flow, how its approximations fall with `T`, and how its fit grows with `K`, `T` and
//! the size of its fields (the paper's figures 5, 7 and 8).
//!
//! Jobs of one seed share their initial parameters and their batches, whatever their regularizers, so
//! that differences between rows vary less than the rows.

mod config;
mod drawing;
mod measure;
mod objective;
mod pictures;
mod truncation;

use std::path::PathBuf;

use anyhow::anyhow;
use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::Layer;
use flows_core::state::trained_parameters;
use flows_models::{BaseToDataFlow, DataToBaseFlow, build_base_to_data, build_data_to_base};
use flows_train::{Curves, Fitted, fit, stream, stream_seed};
use serde::{Deserialize, Serialize};

pub use config::{Capacity, Job, Pictures, RegularizationConfig, Study, Truncation, Weights};
pub use drawing::Drawing;
pub use measure::{Measurement, TruncationPoint};
pub use objective::Regularized;
pub use truncation::{Slope, TruncationRow};

use crate::report::{JsonText, Table, format_estimate};
use crate::runner::{Column, Experiment, Flag, Format, Job as _, Preset, Results, Row, Rows, Run};
use crate::targets::Target;
use crate::toy::ReverseKl;
use config::kind;
use measure::Trained;
use truncation::{truncation_rows, truncation_table};

/// File of the lines that a picture shows, in the folder of a job.
const DRAWING: &str = "drawing.json";

/// What a job leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Of the trained blocks.
    pub measurement: Measurement,
    /// Trained scalars.
    pub parameters: usize,
    /// Seconds of training: a measurement that a resumed run does not repeat.
    pub train_seconds: f64,
    /// Seconds of a step where nothing disturbed it: a measurement too.
    pub step_seconds: Option<f64>,
    /// Points of the loss curve: step and loss.
    pub losses: Vec<(usize, f64)>,
    /// The same of `fit`, and of `geodesic`, `inverse` and `field norm` without their weights.
    pub terms: Curves,
}

/// The experiment.
#[derive(Debug)]
pub struct Regularization {
    config: RegularizationConfig,
}

impl Job {
    /// The seed of this run: the same for all regularizers and sizes on a target.
    fn run_seed(&self) -> u64 {
        stream_seed(self.seed as u64, self.target.name(), 0)
    }
}

/// Layers of a trained model on the backend without gradients.
type FittedLayers<B> = Fitted<Vec<Layer<<B as AutodiffBackend>::InnerBackend>>>;

impl Regularization {
    /// The trained model, and its trained scalars.
    fn fit<B: AutodiffBackend>(
        &self,
        job: &Job,
        run: &mut Run<'_, B>,
    ) -> anyhow::Result<(usize, FittedLayers<B>)> {
        let (seed, device) = (job.run_seed(), run.device);
        let layers = job.model.layers();
        let rng = &mut stream(seed, "parameters", 0);
        let regularizers = job.regularizers.clone();
        let path_rows = self.config.regularizers.path_rows;
        Ok(match job.target {
            Target::Samples(set) => {
                let flow = build_data_to_base::<B>(&layers, device, rng)?;
                let parameters = trained_parameters::<B, _>(&flow);
                let mut objective = Regularized {
                    fit: set,
                    regularizers,
                    path_rows,
                };
                let run = run.training(seed);
                let fitted = fit::<B, _, _>(flow, &mut objective, &job.training, run)?;
                let layers = |flow: DataToBaseFlow<B>| flow.valid().bijector().layers().to_vec();
                (parameters, fitted.map(layers))
            }
            Target::Energy(energy) => {
                let flow = build_base_to_data::<B>(&layers, device, rng)?;
                let parameters = trained_parameters::<B, _>(&flow);
                let mut objective = Regularized {
                    fit: ReverseKl {
                        energy,
                        wall: self.config.wall,
                        annealing: self.config.annealing,
                    },
                    regularizers,
                    path_rows,
                };
                let run = run.training(seed);
                let fitted = fit::<B, _, _>(flow, &mut objective, &job.training, run)?;
                let layers = |flow: BaseToDataFlow<B>| flow.valid().bijector().layers().to_vec();
                (parameters, fitted.map(layers))
            }
        })
    }
}

type Col<'a> = Column<'a, Regularization>;

impl Experiment for Regularization {
    const NAME: &'static str = "regularization";
    const ABOUT: &'static str = "Train deep diffeomorphic flows with and without their regularizers and compare them\n\n\
        Three studies: inverse consistency, the geodesic term and the norm of the fields over their weights and \
        the number T of cells; log-determinant bias and inverse error of the trained blocks at other T, with slopes; and \
        the fit against the number of blocks, of cells and of hidden units. Likelihoods are by the exact \
        determinant, beside the surrogate of training.\n\n\
        Without options it runs the preset `quick`, about two minutes on two cores, and leaves a folder \
        with results.jsonl, summary.json, table.md and the pictures. A run that was interrupted continues \
        with --resume and ends with the same numbers.";
    const EXAMPLES: &'static str = "\
        regularization                                       the quick preset, into a new folder under runs/\n\
        regularization --targets u1 --set regularizers.cells=8   one target, one T\n\
        regularization --preset paper --out runs/paper-reg   every weight, three seeds; about 25 minutes\n\
        regularization --resume --out runs/paper-reg         continue it\n\
        regularization --list                                targets, one line each";
    const PRESETS: &'static [Preset] = &[
        Preset::new(
            "quick",
            "Two targets, one weight each, two seeds: about two minutes on two cores",
            include_str!("../../configs/regularization-quick.toml"),
        ),
        Preset::new(
            "paper",
            "Every weight, three seeds: about 25 minutes on two cores",
            include_str!("../../configs/regularization-paper.toml"),
        ),
    ];
    const FLAGS: &'static [Flag] = &[
        Flag::names(
            "targets",
            "Targets of the regularizers, separated by commas",
        ),
        Flag::SEEDS,
        Flag::STEPS,
    ];
    type Config = RegularizationConfig;
    type Job = Job;
    type Measured = Measured;

    fn new(config: RegularizationConfig, _data: Option<PathBuf>) -> Result<Self, String> {
        Ok(Self { config })
    }

    fn jobs(&self) -> Result<Vec<Job>, String> {
        self.config.jobs()
    }

    fn list(&self) -> String {
        let line = |t: Target| format!("{:<16} {}\n", t.name(), t.describe());
        Target::all().into_iter().map(line).collect()
    }

    fn check<B: AutodiffBackend>(&self, jobs: &[Job], device: &B::Device) -> anyhow::Result<()> {
        for job in jobs.iter().filter(|job| job.seed == 0) {
            let rng = &mut stream(0, "check", 0);
            let built = build_data_to_base::<B>(&job.model.layers(), device, rng);
            built.map_err(|source| anyhow!("model '{}': {source}", job.name()))?;
        }
        Ok(())
    }

    fn run<B: AutodiffBackend>(&self, job: &Job, run: &mut Run<'_, B>) -> anyhow::Result<Measured> {
        let (parameters, fitted) = self.fit::<B>(job, run)?;
        let trained = Trained {
            layers: &fitted.model,
            target: job.target,
            device: run.device,
            seed: job.run_seed(),
        };
        let config = &self.config;
        let measurement = trained.measure(
            &job.regularizers,
            &config.settings(),
            &config.truncation,
            job.study == Study::Regularizers,
        );
        if job.drawn {
            run.folder
                .keep_density(&trained.density(config.evaluation.grid))?;
            let drawing = Drawing::of(&trained, config.pictures.particles);
            run.folder.keep(DRAWING, &drawing)?;
        }
        run.warn(measurement.stability.warnings.clone());
        Ok(Measured {
            measurement,
            parameters,
            train_seconds: fitted.seconds,
            step_seconds: fitted.step_seconds,
            losses: fitted.losses,
            terms: fitted.terms,
        })
    }

    fn outcome(&self, measured: &Measured) -> String {
        let of = &measured.measurement;
        let fit = &of.exact.metrics[0];
        let small = |v: Option<f64>| v.map_or("not finite".to_owned(), |v| format!("{v:.1e}"));
        format!(
            "{} {}, round trip {}, path length {}  ({:.0} s)",
            fit.metric.title(),
            format_estimate(fit.value, Some(fit.stderr)),
            small(of.round_trip),
            small(of.path_length),
            measured.train_seconds
        )
    }

    fn columns<'a>(&'a self, results: &'a Results<Self>) -> Vec<Column<'a, Self>> {
        // The job without regularizer, otherwise the same.
        let plain = move |job: &Job| {
            let is_plain = |(other, _): &(&Job, &Measured)| {
                other.study == job.study
                    && other.target == job.target
                    && other.model == job.model
                    && other.seed == job.seed
                    && kind(&other.regularizers) == "none"
            };
            let weighted = kind(&job.regularizers) != "none";
            let found = results.measured().find(is_plain).filter(|_| weighted);
            found.map(|(_, measured)| &measured.measurement)
        };
        type Of = fn(&Measurement) -> Option<f64>;
        let mean = |name: &'static str, title: &str, of: Of| {
            Col::mean(name, title, move |_, m| of(&m.measurement))
        };
        let last = |name: &'static str, title: &str, term: &'static str| {
            Col::mean(name, title, move |_, m| Some(m.terms.get(term)?.last()?.1))
                .written(Format::Scientific)
        };
        let fit = |m: &Measurement| m.exact.metrics[0].value;
        let small = Format::Scientific;
        let mut columns = vec![
            Col::first("metric", "metric", |_, m| {
                m.measurement.exact.metrics[0].metric.title()
            }),
            mean("fit", "exact (nats)", |m| Some(m.exact.metrics[0].value))
                .with_own_error(|_, m| Some(m.measurement.exact.metrics[0].stderr)),
            mean("monte_carlo_stderr", "MC stderr", |m| {
                Some(m.exact.metrics[0].stderr)
            })
            .written(small),
            mean("surrogate_fit", "surrogate", |m| {
                Some(m.surrogate.metrics[0].value)
            }),
            Col::mean("fit_change", "less none", move |job, m| {
                Some(fit(&m.measurement) - fit(plain(job)?))
            }),
            mean("log_det_bias", "bias", |m| m.log_det_bias),
            mean("log_det_error", "rms error", |m| m.log_det_error),
            mean("round_trip", "round trip", |m| m.round_trip),
            Col::ratio("round_trip_gain", "gain", move |job, m| {
                Some(plain(job)?.round_trip? / m.measurement.round_trip?)
            }),
            mean("round_trip_max", "largest round trip", |m| m.round_trip_max),
            mean("exact_inverse_residual", "exact inverse", |m| {
                m.exact_inverse_residual
            })
            .written(small),
            mean("geodesic", "R_geo", |m| m.geodesic),
            mean("inverse_consistency", "R_inv", |m| m.inverse_consistency),
            mean("field_norm", "field norm", |m| m.field_norm),
            last("training_geodesic", "R_geo in training", "geodesic"),
            last("training_inverse", "R_inv in training", "inverse"),
            last(
                "training_field_norm",
                "field norm in training",
                "field norm",
            ),
            mean("path_energy", "path energy", |m| m.path_energy),
            mean("path_length", "path length", |m| m.path_length),
            Col::ratio("path_length_ratio", "ratio", move |job, m| {
                Some(m.measurement.path_length? / plain(job)?.path_length?)
            }),
            mean("displacement", "ends apart", |m| m.displacement),
            Col::total("evaluations", "steps seen", |_, m| {
                m.measurement.stability.evaluations
            }),
            Col::least("step_milliseconds", "ms a step", |_, m| {
                Some(1000.0 * m.step_seconds?)
            })
            .written(Format::Decimals(1)),
            Col::first("parameters", "parameters", |_, m| m.parameters),
            Col::total("not_finite", "", |_, m| m.measurement.exact.not_finite),
            Col::mean("train_seconds", "", |_, m| Some(m.train_seconds)),
        ];
        columns.extend(crate::stability::columns(|m: &Measured| {
            Some(&m.measurement.stability)
        }));
        columns
    }

    /// What the regularizers do; what qualifies it; errors against `T`; fit against size.
    fn tables(&self, results: &Results<Self>, rows: &Rows) -> Vec<Table> {
        let of = |study: &'static str| move |row: &Row| row.is("study", study);
        let effect = [
            "target",
            "cells",
            "regularizer",
            "trained by",
            "metric",
            "fit",
            "surrogate_fit",
            "fit_change",
            "round_trip",
            "round_trip_gain",
            "path_length",
            "path_length_ratio",
            "field_norm",
            "step_milliseconds",
        ];
        let details = [
            "target",
            "cells",
            "regularizer",
            "trained by",
            "monte_carlo_stderr",
            "log_det_bias",
            "log_det_error",
            "max_rho",
            "rho_at_least_one",
            "non_positive_determinants",
            "evaluations",
            "path_energy",
            "displacement",
            "geodesic",
            "inverse_consistency",
            "training_geodesic",
            "training_inverse",
            "training_field_norm",
            "round_trip_max",
            "exact_inverse_residual",
            "seeds",
        ];
        let capacity = [
            "target",
            "blocks",
            "cells",
            "hidden",
            "parameters",
            "metric",
            "fit",
            "monte_carlo_stderr",
            "max_rho",
            "seeds",
        ];
        vec![
            rows.table_of(of("regularizers"), &effect),
            rows.table_of(of("regularizers"), &details),
            truncation_table(&truncation_rows(results)),
            rows.table_of(of("capacity"), &capacity),
        ]
    }

    fn notes(&self, _: &Results<Self>) -> String {
        "Nats, mean ± standard error over seeds; gain: how many times smaller than without regularizer. The \
         round trip is of the exponential map, densities use the exact inverse. Data: exact generators."
            .to_owned()
    }

    fn summary(&self, results: &Results<Self>) -> Vec<(&'static str, JsonText)> {
        vec![("truncation", JsonText::lines(&truncation_rows(results)))]
    }

    fn pictures<B: AutodiffBackend>(
        &self,
        results: &Results<Self>,
        rows: &Rows,
        _: &B::Device,
    ) -> anyhow::Result<()> {
        Ok(pictures::draw_pictures(results, &self.config, rows)?)
    }
}
