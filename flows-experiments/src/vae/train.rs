//! Training on the bound, epoch by epoch, with the best model kept.
//!
//! Order, binarization and noise are functions of the seed and of epoch or step, so a run that was
//! interrupted ends with the same bits as one that was not.

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use flows_core::autodiff::exclusive;
use flows_core::random::shuffle;
use flows_core::state::{State, state};
use flows_core::visit::LayerVisit;
use flows_models::vae::Vae;
use serde::{Deserialize, Serialize};

use super::config::VaeTraining;
use crate::data::images::{ImageSet, Images};
use crate::train::saved::{INCOMPLETE, Saved, SavedHeader, restore, unusable};
use crate::train::{Adamax, Event, Identity, Stopped, TrainError, stream, stream_seed};

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
    /// Seconds over all sittings.
    pub seconds: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    run: String,
    seconds: f64,
    curve: Vec<Epoch>,
}

impl SavedHeader for Header {
    const KEY: &'static str = "flows-vae-1";

    fn run(&self) -> &str {
        &self.run
    }
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
/// [`TrainError`] where a checkpoint cannot be used, or the first epoch already is no number.
pub fn train<B: AutodiffBackend>(
    mut model: Vae<B>,
    set: &ImageSet,
    config: &VaeTraining,
    identity: Identity<'_>,
    device: &B::Device,
    on_event: &mut dyn FnMut(Event),
) -> Result<Trained<Vae<B::InnerBackend>>, TrainError> {
    let mut optimizer = Adamax::<B>::new(Adamax::<B>::EPSILON);
    let mut header = Header {
        run: identity.name.to_owned(),
        ..Header::default()
    };
    let mut best = State::new();
    if let Some(found) = Saved::<Header>::of(identity)? {
        model = restore(model, &found.model, identity)?;
        optimizer = Adamax::from_state(Adamax::<B>::EPSILON, &found.optimizer, device)
            .ok_or_else(|| unusable(identity, INCOMPLETE.to_owned()))?;
        header = found.header;
        best = found.best;
    }

    let (begun, earlier) = (Instant::now(), header.seconds);
    let mut saved = Instant::now();
    let stopped = loop {
        let done = header.curve.len();
        if is_out_of_patience(&header.curve, config) {
            break Stopped::Patience;
        }
        if done >= config.epochs {
            break Stopped::Steps;
        }
        let epoch = done + 1;
        let weight = (epoch as f64 / config.warm_up.max(1) as f64).min(1.0);
        let run = Run {
            set,
            config,
            seed: identity.seed,
            device,
        };
        let (next, [reconstruction, kl]) = run.epoch(model, &mut optimizer, epoch, weight);
        model = next;
        let validation = run.validate(&model.valid());
        if !(reconstruction + kl + validation).is_finite() {
            if best.is_empty() {
                let loss = reconstruction + kl;
                return Err(TrainError::Diverged { step: epoch, loss });
            }
            break Stopped::Diverged;
        }
        let improved = best_of(&header.curve).is_none_or(|b| validation < b.validation);
        if improved {
            best = state::<B, _>(&model);
        }
        header.curve.push(Epoch {
            epoch,
            weight,
            reconstruction,
            kl,
            validation,
            improved,
        });
        header.seconds = earlier + begun.elapsed().as_secs_f64();
        on_event(Event {
            step: epoch,
            loss: validation,
        });
        let last = epoch == config.epochs || is_out_of_patience(&header.curve, config);
        if let Some(path) = identity.checkpoint
            && (last || saved.elapsed().as_secs_f64() >= config.checkpoint_seconds)
        {
            let now = Saved {
                header: header.clone(),
                model: state::<B, _>(&model),
                best: best.clone(),
                optimizer: optimizer.state(),
            };
            now.save(path)?;
            saved = Instant::now();
        }
    };

    let found = best_of(&header.curve).expect("an epoch was finite, or this would have returned");
    let model = restore(model, &best, identity)?;
    Ok(Trained {
        model: model.valid(),
        best_epoch: found.epoch,
        stopped,
        seconds: header.seconds,
        curve: header.curve,
    })
}

fn best_of(curve: &[Epoch]) -> Option<Epoch> {
    curve.iter().rev().find(|e| e.improved).copied()
}

/// Whether there was no better epoch for long enough, counted after the warm-up.
fn is_out_of_patience(curve: &[Epoch], config: &VaeTraining) -> bool {
    let since = curve.iter().rev().take_while(|e| !e.improved).count();
    let warm = curve.len().saturating_sub(config.warm_up);
    since.min(warm) >= config.patience
}

/// What an epoch needs.
struct Run<'a, B: AutodiffBackend> {
    set: &'a ImageSet,
    config: &'a VaeTraining,
    seed: u64,
    device: &'a B::Device,
}

impl<B: AutodiffBackend> Run<'_, B> {
    /// One pass over the training images; reconstruction and divergence, mean over the images.
    fn epoch(
        &self,
        mut model: Vae<B>,
        optimizer: &mut Adamax<B>,
        epoch: usize,
        weight: f64,
    ) -> (Vae<B>, [f64; 2]) {
        let train = &self.set.train;
        let mut order: Vec<usize> = (0..train.len()).collect();
        shuffle(&mut order, &mut stream(self.seed, "epoch", epoch as u64));
        let batches = order.chunks(self.config.batch);
        let first_step = ((epoch - 1) * batches.len()) as u64;
        // On the device: reading a number after every step would wait for it.
        let mut sums: Option<[Tensor<B::InnerBackend, 1>; 2]> = None;
        for (batch, step) in batches.zip(first_step..) {
            let images = train.pick(batch);
            let images = if self.set.resample {
                images.binarized(&mut stream(self.seed, "binarize", step))
            } else {
                images
            };
            model.visit_layers(&mut LayerVisit::resample_noise(stream_seed(
                self.seed,
                "estimator",
                step,
            )));
            let noise = model.noise(batch.len(), &mut stream(self.seed, "noise", step));
            let alone = exclusive();
            let terms = model.terms(tensor(&images, self.device), noise);
            let (reconstruction, kl) = (terms.log_likelihood.mean().neg(), terms.kl.mean());
            let share = batch.len() as f64 / train.len() as f64;
            let parts = [&reconstruction, &kl].map(|part| part.clone().inner() * share);
            sums = Some(match sums {
                None => parts,
                Some([a, b]) => {
                    let [c, d] = parts;
                    [a + c, b + d]
                }
            });
            let loss = reconstruction + kl * weight;
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            drop(alone);
            let config = self.config;
            let steps = config.epochs * train.len().div_ceil(config.batch);
            let factor = config.schedule.factor(step as usize, steps);
            model = optimizer.step(config.learning_rate * factor, model, gradients);
        }
        let sums = sums.expect("a set has training images");
        (model, sums.map(number))
    }

    /// Minus the bound on the validation images, by the same noise in every epoch.
    fn validate(&self, model: &Vae<B::InnerBackend>) -> f64 {
        let bound = super::evaluate::bound(
            model,
            &self.set.validation,
            stream_seed(self.seed, "validation", 0),
            self.device,
        );
        bound.iter().map(|t| t.loss()).sum::<f64>() / bound.len() as f64
    }
}

fn number<B: Backend>(tensor: Tensor<B, 1>) -> f64 {
    tensor.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Schedule;

    #[test]
    fn patience_counts_after_the_warm_up() {
        let config = VaeTraining {
            epochs: 100,
            batch: 1,
            learning_rate: 1.0,
            schedule: Schedule::Constant,
            warm_up: 5,
            patience: 3,
            checkpoint_seconds: 0.0,
        };
        let curve = |improved: &[bool]| {
            let epoch = |(i, improved): (usize, &bool)| Epoch {
                epoch: i + 1,
                weight: 1.0,
                reconstruction: 0.0,
                kl: 0.0,
                validation: 0.0,
                improved: *improved,
            };
            improved.iter().enumerate().map(epoch).collect::<Vec<_>>()
        };
        let mut improved = vec![true];
        improved.extend([false; 6]);
        assert!(!is_out_of_patience(&curve(&improved), &config));
        improved.push(false);
        assert!(is_out_of_patience(&curve(&improved), &config));
        improved.push(true);
        improved.extend([false; 2]);
        assert!(!is_out_of_patience(&curve(&improved), &config));
        improved.push(false);
        assert!(is_out_of_patience(&curve(&improved), &config));
    }
}
