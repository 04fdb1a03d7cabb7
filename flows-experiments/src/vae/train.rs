//! Training on the bound, with the model of the best epoch kept.
//!
//! Order, binarization and noise are functions of the seed and of epoch or step, so a run that was
//! interrupted ends with the same bits as one that was not.

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use flows_core::visit::LayerVisit;
use flows_models::vae::Vae;
use flows_train::{
    Epochs, Fitted, Loss, Method, Objective, Run, Score, Step, Stopped, TrainError, Training, fit,
    stream_seed,
};
use serde::{Deserialize, Serialize};

use super::config::VaeTraining;
use crate::data::images::{ImageSet, Images};

/// What an epoch came to, in nats an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: usize,
    /// Weight of the divergence.
    pub weight: f64,
    /// Mean of minus `log p(x|z)` over the batches.
    pub reconstruction: f64,
    /// Mean divergence over the batches.
    pub kl: f64,
    /// Minus the bound on the validation images, at weight 1, by the log-determinant of training.
    pub validation: f64,
    /// Whether it is the lowest so far.
    pub improved: bool,
}

/// A trained model.
#[derive(Debug, Clone)]
pub struct Trained<M> {
    /// With the parameters of the best epoch.
    pub model: M,
    /// Every epoch.
    pub curve: Vec<Epoch>,
    /// The best one.
    pub best_epoch: usize,
    /// Why there were no more.
    pub stopped: Stopped,
    /// Seconds over all interruptions.
    pub seconds: f64,
}

/// Images as a tensor, `[images, pixels]`.
pub(super) fn tensor<B: Backend>(images: &Images, device: &B::Device) -> Tensor<B, 2> {
    let shape = [images.len(), images.pixels()];
    Tensor::from_data(TensorData::new(images.values().to_vec(), shape), device)
}

/// Minimises minus the bound over `set.train`, and returns the parameters with the best bound on
/// `set.validation`. Goes on from the run's checkpoint where there is one.
///
/// # Errors
/// [`TrainError`] where a checkpoint cannot be used, or the loss of the first epoch is not finite.
pub fn train<B: AutodiffBackend>(
    model: Vae<B>,
    set: &ImageSet,
    config: &VaeTraining,
    run: Run<'_>,
    on_epoch: &mut dyn FnMut(usize, f64),
) -> Result<Trained<Vae<B::InnerBackend>>, TrainError> {
    let mut bound = Bound::<B> {
        set,
        config,
        epochs: Epochs::new(set.train.len(), config.batch)
            .with_remainder()
            .numbered_from(1),
        sums: None,
    };
    let per_epoch = bound.epochs.per_epoch();
    let training = Training {
        steps: config.epochs * per_epoch,
        batch: config.batch,
        learning_rate: config.learning_rate,
        schedule: config.schedule,
        method: Method::Adamax,
        clip_norm: 0.0,
        evaluate_every: per_epoch,
        patience: Some(config.patience),
        min_steps: config.warm_up * per_epoch,
        log_every: per_epoch,
        checkpoint_seconds: config.checkpoint_seconds,
        ..Training::default()
    };
    let run = run.on_event(|event| {
        if let flows_train::Event::Evaluation(evaluation) = event {
            on_epoch(evaluation.step / per_epoch, -evaluation.score);
        }
    });
    let fitted = fit::<B, _, _>(model, &mut bound, &training, run)?;
    let best = fitted.best().expect("the loop returns what was evaluated");
    Ok(Trained {
        curve: curve(&fitted, per_epoch, config),
        best_epoch: best.step / per_epoch,
        stopped: fitted.stopped,
        seconds: fitted.seconds,
        model: fitted.model.valid(),
    })
}

/// The epochs whose numbers are finite, which all are but for those of a run that diverged.
fn curve<M>(fitted: &Fitted<M>, per_epoch: usize, config: &VaeTraining) -> Vec<Epoch> {
    let term = |name: &str| {
        fitted
            .terms
            .get(name)
            .into_iter()
            .flatten()
            .map(|(_, value)| *value)
    };
    let terms = term(RECONSTRUCTION).zip(term(KL));
    let epochs = fitted.evaluations.iter().zip(terms);
    let epochs = epochs.map(|(evaluation, (reconstruction, kl))| Epoch {
        epoch: evaluation.step / per_epoch,
        weight: weight(evaluation.step / per_epoch, config),
        reconstruction,
        kl,
        validation: -evaluation.score,
        improved: evaluation.improved,
    });
    let finite = |e: &Epoch| (e.reconstruction + e.kl + e.validation).is_finite();
    epochs.filter(finite).collect()
}

/// Weight of the divergence in an epoch, from 1.
fn weight(epoch: usize, config: &VaeTraining) -> f64 {
    (epoch as f64 / config.warm_up.max(1) as f64).min(1.0)
}

const RECONSTRUCTION: &str = "reconstruction";
const KL: &str = "kl";

/// Minus the bound, with the weight of the divergence rising over the first epochs.
struct Bound<'a, B: AutodiffBackend> {
    set: &'a ImageSet,
    config: &'a VaeTraining,
    epochs: Epochs,
    /// Of the epoch so far, on the device: reading a number after every step would wait for it.
    sums: Option<[Tensor<B::InnerBackend, 1>; 2]>,
}

impl<B: AutodiffBackend> Objective<B, Vae<B>> for Bound<'_, B> {
    fn before_step(&mut self, model: &mut Vae<B>, at: &Step<'_, B>) {
        let seed = stream_seed(at.seed, "estimator", at.index as u64);
        model.visit_layers(&mut LayerVisit::resample_noise(seed));
    }

    fn loss(&mut self, model: &Vae<B>, at: &Step<'_, B>) -> Loss<B> {
        let train = &self.set.train;
        let images = train.pick(self.epochs.rows_of(at.seed, at.index));
        let images = if self.set.resample {
            images.binarized(&mut at.rng("binarize"))
        } else {
            images
        };
        let noise = model.noise(images.len(), &mut at.rng("noise"));
        let terms = model.terms(tensor(&images, &at.options.device), noise);
        let (reconstruction, kl) = (terms.log_likelihood.mean().neg(), terms.kl.mean());
        let share = images.len() as f64 / train.len() as f64;
        let parts = [&reconstruction, &kl].map(|part| part.clone().inner() * share);
        self.sums = Some(match self.sums.take() {
            None => parts,
            Some([a, b]) => {
                let [c, d] = parts;
                [a + c, b + d]
            }
        });
        let epoch = at.index / self.epochs.per_epoch() + 1;
        Loss::new(reconstruction + kl * weight(epoch, self.config))
    }

    fn evaluate_every(&self, training: &Training) -> Option<usize> {
        Some(training.evaluate_every)
    }

    /// Minus the bound on the validation images, by the same noise in every epoch.
    fn evaluate(&mut self, model: &Vae<B::InnerBackend>, at: &Step<'_, B>) -> Option<Score> {
        let [reconstruction, kl] = self.sums.take()?.map(number);
        let seed = stream_seed(at.seed, "validation", 0);
        let bound = super::evaluate::bound(model, &self.set.validation, seed, &at.options.device);
        let validation = bound.iter().map(|t| t.loss()).sum::<f64>() / bound.len() as f64;
        Some(Score {
            value: -validation,
            terms: vec![(RECONSTRUCTION, reconstruction), (KL, kl)],
        })
    }
}

fn number<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
