//! How a fitted model is measured, on test images, with the exact log-determinant.

use burn::tensor::backend::Backend;
use flows_core::log_det::LogDet;
use flows_models::vae::{
    ActiveUnits, Amortized, Estimate, PosteriorConfig, Vae, importance_samples,
};
use serde::{Deserialize, Serialize};

use super::config::VaeEvaluation;
use super::train::tensor;
use crate::data::images::{ImageSet, Images};
use crate::runner::{FolderError, RunFolder};
use flows_models::stability::{Stability, measure_stability_in};
use flows_train::{stream, stream_seed};

/// Images in a batch without gradients.
const BATCH: usize = 500;
/// Images whose importance samples are taken together.
const GROUP: usize = 20;
/// Seconds between two savings of an NLL under way.
const SAVE_SECONDS: f64 = 10.0;
/// Probabilities of pixels stay this far from 0 and 1 in the NLL (arXiv:1803.05649's own code).
const CLAMP: f64 = 1e-5;
/// Images whose paths are looked at for the stability of DDNF.
const STABILITY_IMAGES: usize = 200;

/// The parts of the bound on one image, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Minus `log p(x|z)`.
    pub reconstruction: f64,
    /// `log q(z|x) - log p(z)`.
    pub kl: f64,
}

impl Bound {
    /// Minus the bound.
    pub fn loss(self) -> f64 {
        self.reconstruction + self.kl
    }
}

/// The bound on every image, by one draw each.
pub(super) fn bound<B: Backend>(
    model: &Vae<B>,
    images: &Images,
    seed: u64,
    device: &B::Device,
) -> Vec<Bound> {
    let mut all = Vec::with_capacity(images.len());
    for from in (0..images.len()).step_by(BATCH) {
        let part = images.slice(from, (from + BATCH).min(images.len()));
        let rng = &mut stream(seed, "bound", from as u64);
        let terms = model.terms(tensor(&part, device), model.noise(part.len(), rng));
        let (fit, kl) = (terms.log_likelihood.into_data(), terms.kl.into_data());
        let pairs = fit.iter::<f64>().zip(kl.iter::<f64>());
        all.extend(pairs.map(|(fit, kl)| Bound {
            reconstruction: -fit,
            kl,
        }));
    }
    all
}

/// A mean over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// The mean; `null` where it is not finite.
    pub mean: Option<f64>,
    /// Its standard error over the images.
    pub stderr: Option<f64>,
}

impl Mean {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        let stderr = (squares / (n - 1.0) / n).sqrt();
        Self {
            mean: mean.is_finite().then_some(mean),
            stderr: stderr.is_finite().then_some(stderr),
        }
    }
}

/// Minus the log-likelihood by importance sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nll {
    /// In nats an image, over the images.
    pub nats: Mean,
    /// Minus the bound on the same images by the same samples: the larger number of the two.
    pub loss: Mean,
    /// Standard error that the sampling adds to it.
    pub sampling_stderr: Option<f64>,
    /// How many equal weights the samples of an image are worth, on average.
    pub effective_samples: f64,
    /// Samples an image.
    pub samples: usize,
    /// Images.
    pub images: usize,
}

/// What is known of a fitted model, on test images; nats an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Minus the bound, by one draw an image and the exact log-determinant.
    pub loss: Mean,
    /// Its part that is minus `log p(x|z)`.
    pub reconstruction: Mean,
    /// Its part that is the divergence.
    pub kl: Mean,
    /// Minus the bound by the log-determinant of training, where that is not exact.
    pub surrogate_loss: Option<Mean>,
    /// Minus the log-likelihood.
    pub nll: Option<Nll>,
    /// Latent variables that depend on the image.
    pub active_units: usize,
    /// Pixels of an image, by which nats become bits a dimension.
    pub pixels: usize,
    /// How stable the blocks are; `None` for posteriors without DDNF blocks.
    pub stability: Option<Stability>,
}

impl Measurement {
    /// `nats / (pixels ln 2)`.
    pub fn bits_per_dim(&self, nats: f64) -> f64 {
        nats / (self.pixels as f64 * std::f64::consts::LN_2)
    }
}

/// What a measurement needs besides the model.
pub(super) struct Evaluation<'a, B: Backend> {
    pub(super) set: &'a ImageSet,
    pub(super) config: VaeEvaluation,
    pub(super) posterior: &'a PosteriorConfig,
    pub(super) seed: u64,
    pub(super) device: &'a B::Device,
}

/// File of the estimates of an NLL under way.
const PARTIAL: &str = "nll.json";

impl<B: Backend> Evaluation<'_, B> {
    /// Measures `model`, with an NLL that goes on from what `folder` holds of it.
    pub(super) fn measure(
        &self,
        model: &Vae<B>,
        folder: &RunFolder,
    ) -> anyhow::Result<Measurement> {
        let exact = model.clone().with_log_det(&LogDet::Exact)?;
        let test = &self.set.test;
        let seed = stream_seed(self.seed, "test", 0);
        let bounds = bound(&exact, test, seed, self.device);
        let part = |f: fn(&Bound) -> f64| Mean::of(bounds.iter().map(f));
        let is_surrogate = match self.posterior {
            PosteriorConfig::Ddnf { log_det, .. } => *log_det != LogDet::Exact,
            _ => false,
        };
        let surrogate_loss = is_surrogate.then(|| {
            let bounds = bound(model, test, seed, self.device);
            Mean::of(bounds.iter().map(|b| b.loss()))
        });
        let mut units = ActiveUnits::default();
        for from in (0..test.len()).step_by(BATCH) {
            let images = test.slice(from, (from + BATCH).min(test.len()));
            let rng = &mut stream(seed, "units", from as u64);
            units.observe(&exact, tensor(&images, self.device), self.config.draws, rng);
        }
        Ok(Measurement {
            loss: part(|b| b.loss()),
            reconstruction: part(|b| b.reconstruction),
            kl: part(|b| b.kl),
            surrogate_loss,
            nll: self.nll(&exact, folder)?,
            active_units: units.count(),
            pixels: test.pixels(),
            stability: self.stability(&exact),
        })
    }

    fn nll(&self, model: &Vae<B>, folder: &RunFolder) -> Result<Option<Nll>, FolderError> {
        let samples = self.config.samples;
        if samples == 0 {
            return Ok(None);
        }
        let test = match self.config.images {
            0 => self.set.test.clone(),
            n => self.set.test.spread(n),
        };
        let images = test.len();
        // Log-likelihood, bound, standard error and effective samples of the images done.
        let mut done: Vec<[f64; 4]> = folder.kept(PARTIAL).unwrap_or_default();
        let mut saved = std::time::Instant::now();
        while done.len() < images {
            let from = done.len();
            let part = test.slice(from, (from + GROUP).min(images));
            let rng = &mut stream(self.seed, "importance", from as u64);
            let x = tensor(&part, self.device);
            let found = importance_samples(model, x, samples, self.config.rows, Some(CLAMP), rng);
            let numbers = |e: &Estimate| [e.log_p, e.elbo, e.stderr, e.effective_samples];
            done.extend(found.iter().map(numbers));
            if saved.elapsed().as_secs_f64() > SAVE_SECONDS || done.len() == images {
                folder.keep(PARTIAL, &done)?;
                saved = std::time::Instant::now();
            }
        }
        let n = images as f64;
        let sampling = done
            .iter()
            .map(|[_, _, stderr, _]| stderr * stderr)
            .sum::<f64>()
            .sqrt()
            / n;
        Ok(Some(Nll {
            nats: Mean::of(done.iter().map(|[log_p, ..]| -log_p)),
            loss: Mean::of(done.iter().map(|[_, elbo, ..]| -elbo)),
            sampling_stderr: sampling.is_finite().then_some(sampling),
            effective_samples: done.iter().map(|[.., effective]| effective).sum::<f64>() / n,
            samples,
            images,
        }))
    }

    /// The blocks along the paths that some test images take.
    fn stability(&self, model: &Vae<B>) -> Option<Stability> {
        let PosteriorConfig::Ddnf { context, .. } = self.posterior else {
            return None;
        };
        let images = self.set.test.spread(STABILITY_IMAGES);
        let encoded = model.encode(tensor(&images, self.device));
        let noise = model.noise(images.len(), &mut stream(self.seed, "stability", 0));
        let start = model.draw(&encoded, noise).z_0;
        let h = match (encoded.amortized, context) {
            (_, flows_models::vae::DdnfContext::Shared) => None,
            (Some(Amortized::Features(h)), _) => Some(h),
            _ => None,
        };
        measure_stability_in(model.flow()?.layers(), start, h)
    }
}
