//! One run: train, measure, and keep what the pictures need.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::Layer;
use flows_core::state::trained_parameters;
use flows_models::{build_generative, build_normalizing};

use super::config::{Job, RegularizationConfig, Study, Truncation};
use super::drawing::Drawing;
use super::measure::Trained;
use super::objective::Regularized;
use super::record::{RunRecord, Status};
use crate::experiment::{Event, Job as _, Plan, RunError, RunFolder};
use crate::targets::Target;
use crate::toy::{ReverseKl, TargetSettings};
use flows_train::{Fitted, Run, TrainError, fit, stream, stream_seed};

/// File of the lines that a picture shows, in the folder of a run.
pub(super) const DRAWING: &str = "drawing.json";

/// The runs of the regularization experiment.
#[derive(Debug)]
pub struct RegularizationPlan {
    /// The runs.
    pub jobs: Vec<Job>,
    /// What targets ask of them.
    pub settings: TargetSettings,
    /// Where the blocks of the first study are measured.
    pub truncation: Truncation,
    /// Rows of a batch that the geodesic term is averaged over; all if `None`.
    pub geodesic_rows: Option<usize>,
    /// Particles whose paths are drawn.
    pub particles: usize,
}

impl RegularizationPlan {
    /// The jobs of `config`.
    ///
    /// # Errors
    /// As [`RegularizationConfig::jobs`].
    pub fn new(config: &RegularizationConfig) -> Result<Self, String> {
        Ok(Self {
            jobs: config.jobs()?,
            settings: TargetSettings {
                wall: config.wall,
                annealing: config.annealing,
                evaluation: config.evaluation,
            },
            truncation: config.truncation.clone(),
            geodesic_rows: config.regularizers.geodesic_rows,
            particles: config.pictures.particles,
        })
    }
}

impl Job {
    /// The seed of this run: the same for all regularizers and sizes on a target.
    fn run_seed(&self) -> u64 {
        stream_seed(self.seed as u64, self.target.name(), 0)
    }
}

/// Layers of a model on the backend without gradients, and what training said.
type Done<B> = Result<Fitted<Vec<Layer<<B as AutodiffBackend>::InnerBackend>>>, TrainError>;

impl Plan for RegularizationPlan {
    type Job = Job;
    type Record = RunRecord;

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn check_models<B: AutodiffBackend>(&self, device: &B::Device) -> Result<(), RunError> {
        for job in self.jobs.iter().filter(|job| job.seed == 0) {
            let rng = &mut stream(0, "check", 0);
            let built = build_normalizing::<B>(&job.model.layers(), device, rng);
            built.map_err(|source| RunError::Model {
                model: job.name(),
                source,
            })?;
        }
        Ok(())
    }

    fn run<B: AutodiffBackend>(
        &self,
        job: &Job,
        folder: &RunFolder,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<RunRecord, RunError> {
        let name = job.name();
        let refuse = |source| RunError::Model {
            model: name.clone(),
            source,
        };
        let (checkpoint, seed) = (folder.checkpoint()?, job.run_seed());
        let run = Run::new(name.as_str(), seed)
            .checkpoint(checkpoint)
            .on_event(Event::of_losses(on_event));
        let regularizers = job.regularizers.clone();
        let rng = &mut stream(seed, "parameters", 0);
        let (training, layers) = (&job.training, job.model.layers());
        let (parameters, done): (usize, Done<B>) = match job.target {
            Target::Samples(set) => {
                let flow = build_normalizing::<B>(&layers, device, rng).map_err(refuse)?;
                let parameters = trained_parameters::<B, _>(&flow);
                let mut objective = Regularized {
                    fit: set,
                    regularizers,
                    geodesic_rows: self.geodesic_rows,
                };
                let fitted = fit::<B, _, _>(flow, &mut objective, training, run, device);
                let layers = |fitted: Fitted<_>| {
                    fitted.map(|flow: flows_models::NormalizingFlow<B>| {
                        flow.valid().bijector().layers().to_vec()
                    })
                };
                (parameters, fitted.map(layers))
            }
            Target::Energy(energy) => {
                let flow = build_generative::<B>(&layers, device, rng).map_err(refuse)?;
                let parameters = trained_parameters::<B, _>(&flow);
                let mut objective = Regularized {
                    fit: ReverseKl {
                        energy,
                        wall: self.settings.wall,
                        annealing: self.settings.annealing,
                    },
                    regularizers,
                    geodesic_rows: self.geodesic_rows,
                };
                let fitted = fit::<B, _, _>(flow, &mut objective, training, run, device);
                let layers = |fitted: Fitted<_>| {
                    fitted.map(|flow: flows_models::GenerativeFlow<B>| {
                        flow.valid().bijector().layers().to_vec()
                    })
                };
                (parameters, fitted.map(layers))
            }
        };
        let mut record = RunRecord {
            study: job.study,
            target: job.target.name().to_owned(),
            model: job.model.clone(),
            regularizers: job.regularizers.clone(),
            seed: job.seed,
            status: Status::Diverged {
                reason: String::new(),
            },
            parameters,
            train_seconds: 0.0,
            step_seconds: None,
            losses: Vec::new(),
            terms: Default::default(),
        };
        let fitted = match done {
            Ok(fitted) => fitted,
            Err(diverged @ (TrainError::Diverged { .. } | TrainError::Unsolved { .. })) => {
                record.status = Status::Diverged {
                    reason: diverged.to_string(),
                };
                return Ok(record);
            }
            Err(other) => return Err(RunError::Train(other)),
        };
        let trained = Trained {
            layers: &fitted.model,
            target: job.target,
            device,
            seed,
        };
        record.status = Status::Measured(trained.measure(
            &job.regularizers,
            &self.settings,
            &self.truncation,
            job.study == Study::Regularizers,
        ));
        if job.drawn {
            folder.keep_density(&trained.density(self.settings.evaluation.grid))?;
            folder.keep(DRAWING, &Drawing::of(&trained, self.particles))?;
        }
        record.train_seconds = fitted.seconds;
        record.step_seconds = fitted.step_seconds;
        record.losses = fitted.losses;
        record.terms = fitted.terms;
        Ok(record)
    }
}
