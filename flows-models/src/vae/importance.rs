//! Likelihoods by importance sampling, and which latent variables are used.

use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;

use super::log_mean_exp::LogMeanExp;
use super::model::Vae;
use super::posterior::repeat_rows;

/// What draws from the posterior say of one image, in nats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// `log (1/S sum_s w_s)` with `w = p(x|z) p(z) / q(z|x)`: tends to `log p(x)` from below as `S`
    /// grows (Burda et al., arXiv:1509.00519, theorem 1).
    pub log_p: f64,
    /// Standard error of `log_p`.
    pub stderr: f64,
    /// `1/S sum_s log w_s`: the evidence lower bound.
    pub elbo: f64,
    /// How many equal weights the `S` ones are worth.
    pub effective_samples: f64,
}

/// Estimates `log p(x)` of each image by `samples` draws from its posterior.
///
/// Draws are taken in chunks of at most `rows` rows over all images given, and summed as they come:
/// memory grows with `rows` and the number of images, not with `samples`. `clamp` is that of
/// [`Likelihood::log_prob`](super::Likelihood::log_prob).
///
/// # Shapes
/// - `x`: `[batch, pixels]`
///
/// # Panics
/// For no samples.
pub fn importance_samples<B: Backend>(
    vae: &Vae<B>,
    x: Tensor<B, 2>,
    samples: usize,
    rows: usize,
    clamp: Option<f64>,
    rng: &mut dyn Rng,
) -> Vec<Estimate> {
    assert!(samples > 0, "importance sampling: no samples");
    let images = x.dims()[0];
    let each = (rows / images.max(1)).clamp(1, samples);
    let encoded = vae.encode(x.clone());
    let (mut repeated, mut repeated_x) = (encoded.repeat(each), repeat_rows(x.clone(), each));
    let mut sums = vec![LogMeanExp::default(); images];
    let mut done = 0;
    while done < samples {
        let now = each.min(samples - done);
        if now < each {
            (repeated, repeated_x) = (encoded.repeat(now), repeat_rows(x.clone(), now));
        }
        let draw = vae.draw(&repeated, vae.noise(images * now, rng));
        let terms = vae.terms_of(repeated_x.clone(), draw, clamp);
        let log_w = (terms.log_likelihood - terms.kl).into_data();
        for (i, log_w) in log_w.iter::<f64>().enumerate() {
            sums[i / now].push(log_w);
        }
        done += now;
    }
    let estimate = |sum: &LogMeanExp| Estimate {
        log_p: sum.value(),
        stderr: sum.stderr(),
        elbo: sum.mean(),
        effective_samples: sum.effective_samples(),
    };
    sums.iter().map(estimate).collect()
}

/// Latent variables whose posterior mean depends on the image: `Var_x E[z_u|x] > 0.01`
/// (arXiv:1509.00519, section 5.2).
///
/// The mean of a flow has no closed form. Two independent means of a few draws each are taken, and
/// their covariance over the images: without the variance that the draws themselves add.
#[derive(Debug, Clone, Default)]
pub struct ActiveUnits {
    /// Sums over images of both means, their product, and the images.
    sums: Vec<[f64; 3]>,
    images: usize,
}

impl ActiveUnits {
    /// Covariance above which a variable is active.
    pub const THRESHOLD: f64 = 0.01;

    /// Takes a batch, with `draws` draws for each of the two means.
    ///
    /// # Shapes
    /// - `x`: `[batch, pixels]`
    pub fn observe<B: Backend>(
        &mut self,
        vae: &Vae<B>,
        x: Tensor<B, 2>,
        draws: usize,
        rng: &mut dyn Rng,
    ) {
        let (images, latent) = (x.dims()[0], vae.latent());
        let encoded = vae.encode(x).repeat(draws);
        let mut mean = || {
            let z = vae.latents(&encoded, vae.noise(images * draws, rng));
            let mean = z.reshape([images, draws, latent]).mean_dim(1);
            mean.into_data().iter::<f64>().collect::<Vec<_>>()
        };
        let (first, second) = (mean(), mean());
        self.sums.resize(latent, [0.0; 3]);
        for (i, (a, b)) in first.iter().zip(&second).enumerate() {
            let [sum_a, sum_b, product] = &mut self.sums[i % latent];
            *sum_a += a;
            *sum_b += b;
            *product += a * b;
        }
        self.images += images;
    }

    /// The covariance of each variable.
    pub fn covariances(&self) -> Vec<f64> {
        let n = self.images as f64;
        let covariance = |[a, b, product]: &[f64; 3]| (product - a * b / n) / (n - 1.0);
        self.sums.iter().map(covariance).collect()
    }

    /// How many are active.
    pub fn count(&self) -> usize {
        let active = |c: &&f64| **c > Self::THRESHOLD;
        self.covariances().iter().filter(active).count()
    }
}
