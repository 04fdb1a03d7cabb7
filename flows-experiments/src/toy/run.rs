//! Running the jobs of an experiment.

use burn::module::AutodiffModule;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::{InverseReport, Invert};
use flows_core::distributions::{LogProb, Sample};
use flows_core::state::trained_parameters;
use flows_core::visit::{LayerVisit, has_statistics};
use flows_models::{FastDirection, build_generative, build_normalizing};

use super::config::{Annealing, ConfigError, Evaluation, Job, ToyConfig};
use super::evaluate::{Measurement, density_grid, measure};
use super::objective::{MaximumLikelihood, ReverseKl, points};
use super::record::{InverseCheck, RunRecord, Status};
use crate::experiment::{Event, Job as _, Plan, RunError, RunFolder, measure_stability};
use crate::targets::{SoftWall, Target};
use flows_train::{Fitted, Run, TrainError, Training, fit, stream, stream_seed};

/// What a target asks of every run on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetSettings {
    /// The wall around the energies.
    pub wall: SoftWall,
    /// How the energies are annealed.
    pub annealing: Annealing,
    /// How the fitted model is measured.
    pub evaluation: Evaluation,
}

/// The runs of the toy experiment.
#[derive(Debug)]
pub struct ToyPlan {
    /// The runs.
    pub jobs: Vec<Job>,
    /// What targets ask of them.
    pub settings: TargetSettings,
}

impl ToyPlan {
    /// The jobs of `config`.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown name or a value out of range.
    pub fn new(config: &ToyConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            jobs: config.jobs()?,
            settings: TargetSettings {
                wall: config.wall,
                annealing: config.annealing,
                evaluation: config.evaluation,
            },
        })
    }

    /// Trains, measures, and keeps the density of the first seed.
    fn run_model<B, M>(
        &self,
        job: &Job,
        folder: &RunFolder,
        model: M,
        device: &B::Device,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<(RunRecord, Option<M::InnerModule>), RunError>
    where
        B: AutodiffBackend,
        M: LogProb<B> + Sample<B> + AutodiffModule<B>,
        M::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
    {
        let parameters = trained_parameters::<B, M>(&model);
        let checkpoint = folder.checkpoint()?;
        let name = job.name();
        let run = Run::new(name, job.run_seed()).checkpoint(checkpoint);
        let done = train_and_measure(
            model,
            job.target,
            &self.settings,
            &Training::from(&job.training),
            run.on_event(Event::of_losses(on_event)),
            device,
        );
        let (log_det, inverse) = job.model.methods();
        let mut record = RunRecord {
            target: job.target.name().to_owned(),
            model: job.model_name.clone(),
            seed: job.seed,
            status: Status::Diverged {
                reason: String::new(),
            },
            steps: job.training.steps,
            batch: job.training.batch,
            learning_rate: job.training.learning_rate,
            parameters,
            train_seconds: 0.0,
            log_det,
            inverse,
            inverse_check: None,
            stability: None,
            losses: Vec::new(),
        };
        let (fitted, measurement) = match done {
            Ok(done) => done,
            Err(diverged @ (TrainError::Diverged { .. } | TrainError::Unsolved { .. })) => {
                record.status = Status::Diverged {
                    reason: diverged.to_string(),
                };
                return Ok((record, None));
            }
            Err(other) => return Err(RunError::Train(other)),
        };
        record.status = Status::Measured(measurement);
        record.train_seconds = fitted.seconds;
        record.losses = fitted.losses;
        if job.seed == 0 {
            let grid = self.settings.evaluation.grid;
            let density = density_grid(&fitted.model, job.target.plot_range(), grid, device);
            folder.keep_density(&density)?;
        }
        Ok((record, Some(fitted.model)))
    }
}

impl Plan for ToyPlan {
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
                model: job.model_name.clone(),
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
        let refuse = |source| RunError::Model {
            model: job.model_name.clone(),
            source,
        };
        let seed = job.run_seed();
        let layers = job.model.layers();
        let rng = &mut stream(seed, "parameters", 0);
        let check_rng = &mut stream(seed, "inverse", 0);
        let normalizing = match job.model.fast_direction() {
            FastDirection::Density => true,
            FastDirection::Sampling => false,
            FastDirection::Either => matches!(job.target, Target::Samples(_)),
        };
        if normalizing {
            let flow = build_normalizing::<B>(&layers, device, rng).map_err(refuse)?;
            let (mut record, flow) = self.run_model(job, folder, flow, device, on_event)?;
            if let Some(flow) = flow {
                let z = flow.base().sample(CHECK_SAMPLES, None, check_rng);
                let (x, report) = flow.bijector().inverse_with_report(z, None);
                record.inverse_check = Some(report.into());
                let start = match job.target {
                    Target::Samples(set) => {
                        let rng = &mut stream(seed, "stability", 0);
                        points(&set.sample(CHECK_SAMPLES, rng), device)
                    }
                    Target::Energy(_) => x.value,
                };
                record.stability = measure_stability(flow.bijector().layers(), start);
            }
            Ok(record)
        } else {
            let flow = build_generative::<B>(&layers, device, rng).map_err(refuse)?;
            let (mut record, flow) = self.run_model(job, folder, flow, device, on_event)?;
            if let Some(flow) = flow {
                let x = flow.sample(CHECK_SAMPLES, None, check_rng);
                let report = flow.bijector().inverse_with_report(x, None).1;
                record.inverse_check = Some(report.into());
                let rng = &mut stream(seed, "stability", 0);
                let start = flow.base().sample(CHECK_SAMPLES, None, rng);
                record.stability = measure_stability(flow.bijector().layers(), start);
            }
            Ok(record)
        }
    }
}

/// Points on which the inverse and the stability are checked.
const CHECK_SAMPLES: usize = 1000;
const STATISTICS_SAMPLES: usize = 50_000;

impl From<InverseReport> for InverseCheck {
    fn from(report: InverseReport) -> Self {
        Self {
            residual: report.residual,
            passes: report.passes,
        }
    }
}

impl Job {
    /// The seed of this run, different for every target and model.
    fn run_seed(&self) -> u64 {
        let seed = stream_seed(self.seed as u64, self.target.name(), 0);
        stream_seed(seed, &self.model_name, 0)
    }
}

/// Trains any flow on a toy target and measures it on fresh samples: what every run of the
/// experiment does, for models of your own.
///
/// # Errors
/// [`TrainError`] where the loss is not finite, or the checkpoint cannot be used.
pub fn train_and_measure<B, M>(
    model: M,
    target: Target,
    settings: &TargetSettings,
    training: &Training,
    run: Run<'_>,
    device: &B::Device,
) -> Result<(Fitted<M::InnerModule>, Measurement), TrainError>
where
    B: AutodiffBackend,
    M: LogProb<B> + Sample<B> + AutodiffModule<B>,
    M::InnerModule: LogProb<B::InnerBackend> + Sample<B::InnerBackend>,
{
    let seed = run.seed();
    let fitted = match target {
        Target::Energy(energy) => {
            let mut objective = ReverseKl {
                energy,
                wall: settings.wall,
                annealing: settings.annealing,
            };
            fit::<B, _, _>(model, &mut objective, training, run)?
        }
        Target::Samples(set) => {
            let mut objective = MaximumLikelihood { set };
            fit::<B, _, _>(model, &mut objective, training, run)?
        }
    };
    let mut fitted = fitted.map(|model| model.valid());
    let keeps_statistics = has_statistics(|visit| fitted.model.visit_layers(visit));
    if let (Target::Samples(set), true) = (target, keeps_statistics) {
        // Batches are drawn afresh, so a large one stands in for the training set.
        let rng = &mut stream(seed, "statistics", 0);
        let chunk = points(&set.sample(STATISTICS_SAMPLES, rng), device);
        let mut visit = LayerVisit::freeze_statistics(vec![chunk], None);
        fitted.model.visit_layers(&mut visit);
    }
    let measurement = measure(
        &fitted.model,
        target,
        &settings.wall,
        settings.evaluation,
        seed,
        device,
    );
    Ok((fitted, measurement))
}
