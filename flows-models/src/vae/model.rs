//! Encoder, posterior, decoder.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::error::{Error, fits_f32};
use flows_core::init::{normal_tensor, options_of};
use flows_core::log_det::LogDet;
use flows_core::softplus::softplus;
use flows_core::visit::LayerVisit;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

use super::decoder::Decoder;
use super::encoder::{Encoder, NetworkConfig};
use super::likelihood::Likelihood;
use super::linear::Linear;
use super::posterior::{Amortized, PosteriorConfig, PosteriorFlow, repeat_rows};

/// Configuration of a [`Vae`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaeConfig {
    /// Rows and columns of an image.
    pub size: [usize; 2],
    /// Latent variables.
    pub latent: usize,
    /// Encoder and decoder.
    pub network: NetworkConfig,
    /// Distribution of the pixels.
    #[serde(default)]
    pub likelihood: Likelihood,
    /// The flow behind the normal distribution of `z_0`.
    #[serde(default)]
    pub posterior: PosteriorConfig,
    /// Least and largest variance of `z_0`, where it is held within bounds.
    #[serde(default)]
    pub variance_range: Option<[f64; 2]>,
}

impl VaeConfig {
    /// Black and white images, and a posterior without flow.
    pub fn new(size: [usize; 2], latent: usize, network: NetworkConfig) -> Self {
        Self {
            size,
            latent,
            network,
            likelihood: Likelihood::default(),
            posterior: PosteriorConfig::default(),
            variance_range: None,
        }
    }

    /// Draws the parameters.
    ///
    /// # Errors
    /// [`Error::Config`] for fields out of range.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Vae<B>, Error> {
        let options = &options.into();
        if self.size.contains(&0) {
            let found = format!("{:?}", self.size);
            return Err(Error::config("vae", "size", found, "at least 1 each"));
        }
        if self.latent == 0 {
            return Err(Error::config("vae", "latent", 0, "at least 1"));
        }
        if let Some([low, high]) = self.variance_range
            && !(low > 0.0 && low < high && fits_f32(low) && fits_f32(high))
        {
            let found = format!("[{low}, {high}]");
            let expected = "two positive numbers, the smaller one first";
            return Err(Error::config("vae", "variance_range", found, expected));
        }
        self.likelihood.validate()?;
        let (encoder, features) = Encoder::init(&self.network, self.size, options, rng)?;
        let (latent, parameters) = (self.latent, self.likelihood.parameters());
        let decoder = Decoder::init(&self.network, self.size, latent, parameters, options, rng);
        Ok(Vae {
            encoder,
            mean: Linear::init(features, latent, options, rng),
            variance: Linear::init(features, latent, options, rng),
            decoder,
            // Last, so that all posteriors begin with the same networks.
            flow: self
                .posterior
                .init(latent, features, options.clone(), rng)?,
            likelihood: self.likelihood,
            variance_range: self.variance_range,
        })
    }
}

/// A variational autoencoder with prior `N(0, I)`.
#[derive(Module, Debug)]
pub struct Vae<B: Backend> {
    encoder: Encoder<B>,
    mean: Linear<B>,
    /// Its softplus is the variance.
    variance: Linear<B>,
    flow: Option<PosteriorFlow<B>>,
    decoder: Decoder<B>,
    #[module(skip)]
    likelihood: Likelihood,
    #[module(skip)]
    variance_range: Option<[f64; 2]>,
}

/// What the encoder gives for images.
#[derive(Debug, Clone)]
pub struct Encoded<B: Backend> {
    /// Mean of `z_0`, `[batch, latent]`.
    pub mean: Tensor<B, 2>,
    /// Variance of `z_0`, `[batch, latent]`.
    pub variance: Tensor<B, 2>,
    /// Parameters of the flow, where there is one.
    pub amortized: Option<Amortized<B>>,
}

impl<B: Backend> Encoded<B> {
    /// Every row `times` over, one after the other.
    pub fn repeat(&self, times: usize) -> Self {
        Self {
            mean: repeat_rows(self.mean.clone(), times),
            variance: repeat_rows(self.variance.clone(), times),
            amortized: self.amortized.as_ref().map(|a| a.repeat(times)),
        }
    }

    /// `z_0 = mean + sqrt(variance) noise`.
    fn start(&self, noise: Tensor<B, 2>) -> Tensor<B, 2> {
        self.mean.clone() + self.variance.clone().sqrt() * noise
    }
}

/// A draw from the posterior.
#[derive(Debug, Clone)]
pub struct Draw<B: Backend> {
    /// Before the flow, `[batch, latent]`.
    pub z_0: Tensor<B, 2>,
    /// Behind it, `[batch, latent]`.
    pub z: Tensor<B, 2>,
    /// `log q(z|x)` in nats, `[batch]`.
    pub log_q: Tensor<B, 1>,
}

/// The two parts of the evidence lower bound, `E log p(x|z) - KL`, on one draw an image.
#[derive(Debug, Clone)]
pub struct Terms<B: Backend> {
    /// `log p(x|z)` in nats, `[batch]`: minus the reconstruction error.
    pub log_likelihood: Tensor<B, 1>,
    /// `log q(z|x) - log p(z)` in nats, `[batch]`: its mean is the divergence from the prior.
    pub kl: Tensor<B, 1>,
}

impl<B: Backend> Vae<B> {
    /// Latent variables.
    pub fn latent(&self) -> usize {
        self.mean.bias.dims()[0]
    }

    /// Distribution of the pixels.
    pub fn likelihood(&self) -> Likelihood {
        self.likelihood
    }

    /// The flow of the posterior, where it has one.
    pub fn flow(&self) -> Option<&PosteriorFlow<B>> {
        self.flow.as_ref()
    }

    /// The device of the parameters.
    pub fn device(&self) -> B::Device {
        self.mean.bias.device()
    }

    /// Standard normal numbers for `rows` draws, `[rows, latent]`.
    pub fn noise(&self, rows: usize, rng: &mut dyn Rng) -> Tensor<B, 2> {
        normal_tensor([rows, self.latent()], 1.0, options_of(&self.mean.bias), rng)
    }

    /// What the encoder gives for `x`.
    ///
    /// # Shapes
    /// - `x`: `[batch, pixels]`
    pub fn encode(&self, x: Tensor<B, 2>) -> Encoded<B> {
        let h = self.encoder.forward(x);
        let variance = softplus(self.variance.forward(h.clone()));
        Encoded {
            mean: self.mean.forward(h.clone()),
            variance: match self.variance_range {
                Some([low, high]) => variance.clamp(low, high),
                None => variance,
            },
            amortized: self.flow.as_ref().map(|flow| flow.amortize(h)),
        }
    }

    /// Draws `z_0 = mean + sqrt(variance) noise` and takes it through the flow.
    ///
    /// `log q(z|x) = log N(z_0; mean, variance) - log |det dz/dz_0|`.
    ///
    /// # Shapes
    /// - `noise`: `[batch, latent]`, standard normal
    pub fn draw(&self, encoded: &Encoded<B>, noise: Tensor<B, 2>) -> Draw<B> {
        let Encoded {
            variance,
            amortized,
            ..
        } = encoded;
        let z_0 = encoded.start(noise.clone());
        let log_scale = variance.clone().log() + (2.0 * PI).ln();
        let log_q_0 = (noise.square() + log_scale).sum_dim(1).squeeze_dim::<1>(1) * -0.5;
        match self.flow.as_ref().zip(amortized.as_ref()) {
            None => Draw {
                z: z_0.clone(),
                z_0,
                log_q: log_q_0,
            },
            Some((flow, amortized)) => {
                let mapped = flow.forward_and_log_det(z_0.clone(), amortized);
                Draw {
                    z_0,
                    z: mapped.value,
                    log_q: log_q_0 - mapped.log_det,
                }
            }
        }
    }

    /// The `z` of [`draw`](Self::draw) alone, which costs less where a determinant is expensive.
    ///
    /// # Shapes
    /// As [`draw`](Self::draw).
    pub fn latents(&self, encoded: &Encoded<B>, noise: Tensor<B, 2>) -> Tensor<B, 2> {
        let z_0 = encoded.start(noise);
        match self.flow.as_ref().zip(encoded.amortized.as_ref()) {
            None => z_0,
            Some((flow, amortized)) => flow.forward(z_0, amortized),
        }
    }

    /// The parameters of every pixel.
    ///
    /// # Shapes
    /// - `z`: `[batch, latent]`; output `[batch, parameters, pixels]`
    pub fn decode(&self, z: Tensor<B, 2>) -> Tensor<B, 3> {
        self.decoder.forward(z)
    }

    /// The expected image.
    ///
    /// # Shapes
    /// - `z`: `[batch, latent]`; output `[batch, pixels]`, intensities
    pub fn mean_image(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        self.likelihood.mean(self.decode(z))
    }

    /// The parts of the bound on one draw an image.
    ///
    /// # Shapes
    /// - `x`: `[batch, pixels]`, `noise`: `[batch, latent]`
    pub fn terms(&self, x: Tensor<B, 2>, noise: Tensor<B, 2>) -> Terms<B> {
        let draw = self.draw(&self.encode(x.clone()), noise);
        self.terms_of(x, draw, None)
    }

    /// The same on a given draw, with the `clamp` of [`Likelihood::log_prob`].
    ///
    /// # Shapes
    /// - `x`: `[batch, pixels]`, as many rows as the draw
    pub fn terms_of(&self, x: Tensor<B, 2>, draw: Draw<B>, clamp: Option<f64>) -> Terms<B> {
        let log_prior = log_prior(draw.z.clone());
        Terms {
            log_likelihood: self.likelihood.log_prob(self.decode(draw.z), x, clamp),
            kl: draw.log_q - log_prior,
        }
    }

    /// Hands a visit to the layers of the flow.
    pub fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        if let Some(flow) = &mut self.flow {
            flow.visit_layers(visit);
        }
    }

    /// The same model with another log-determinant of the DDNF blocks of its posterior, where it
    /// has such.
    ///
    /// # Errors
    /// As [`LogDet::validate`].
    pub fn with_log_det(mut self, log_det: &LogDet) -> Result<Self, Error> {
        self.flow = match self.flow {
            Some(flow) => Some(flow.with_log_det(log_det)?),
            None => None,
        };
        Ok(self)
    }
}

/// `log N(z; 0, I)` in nats.
fn log_prior<B: Backend>(z: Tensor<B, 2>) -> Tensor<B, 1> {
    let normalizer = -0.5 * z.dims()[1] as f64 * (2.0 * PI).ln();
    z.square().sum_dim(1).squeeze_dim::<1>(1) * -0.5 + normalizer
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Autodiff;
    use burn_flex::Flex;
    use flows_core::state::trained_parameters;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn the_convolutional_networks_have_the_published_numbers_of_parameters() {
        // Parameters that are trained are those that a backend with gradients tracks.
        type B = Autodiff<Flex>;
        let config = VaeConfig::new([28, 28], 64, NetworkConfig::Conv {});
        let vae = config
            .init::<B>(&Default::default(), &mut StdRng::seed_from_u64(0))
            .unwrap();
        let count = |networks: [usize; 3]| networks.iter().sum::<usize>();
        let encoder = count([
            trained_parameters::<B, _>(&vae.encoder),
            trained_parameters::<B, _>(&vae.mean),
            trained_parameters::<B, _>(&vae.variance),
        ]);
        assert_eq!(encoder, 2_204_352);
        assert_eq!(trained_parameters::<B, _>(&vae.decoder), 862_753);
    }

    #[test]
    fn images_go_through_both_networks_in_their_own_size() {
        let rng = &mut StdRng::seed_from_u64(1);
        for (size, likelihood) in [
            ([28, 20], Likelihood::GREY),
            ([8, 8], Likelihood::Bernoulli {}),
        ] {
            for network in [
                NetworkConfig::Conv {},
                NetworkConfig::Dense { hidden: vec![9, 5] },
            ] {
                let config = VaeConfig {
                    likelihood,
                    ..VaeConfig::new(size, 3, network)
                };
                let vae = config.init::<Flex>(&Default::default(), rng).unwrap();
                let pixels = size[0] * size[1];
                let x = Tensor::ones([2, pixels], &Default::default());
                let terms = vae.terms(x, vae.noise(2, rng));
                assert_eq!(terms.log_likelihood.dims(), [2]);
                let image = vae.mean_image(vae.noise(2, rng));
                assert_eq!(image.dims(), [2, pixels]);
                assert!(
                    image
                        .into_data()
                        .iter::<f64>()
                        .all(|v| (0.0..=1.0).contains(&v))
                );
            }
        }
    }

    #[test]
    fn configurations_out_of_range_are_refused() {
        let rng = &mut StdRng::seed_from_u64(2);
        let dense = NetworkConfig::Dense { hidden: vec![4] };
        let good = VaeConfig::new([4, 4], 2, dense.clone());
        assert!(good.init::<Flex>(&Default::default(), rng).is_ok());
        let bad = [
            VaeConfig::new([0, 4], 2, dense.clone()),
            VaeConfig::new([4, 4], 0, dense),
            VaeConfig::new([6, 6], 2, NetworkConfig::Conv {}),
            VaeConfig::new([4, 4], 2, NetworkConfig::Dense { hidden: vec![0] }),
            VaeConfig {
                likelihood: Likelihood::Categorical { levels: 1 },
                ..good.clone()
            },
            VaeConfig {
                variance_range: Some([2.0, 1.0]),
                ..good.clone()
            },
            VaeConfig {
                posterior: PosteriorConfig::Planar { flows: 0 },
                ..good.clone()
            },
            VaeConfig {
                posterior: PosteriorConfig::SylvesterOrthogonal {
                    flows: 1,
                    columns: 3,
                },
                ..good
            },
        ];
        for config in bad {
            assert!(
                config.init::<Flex>(&Default::default(), rng).is_err(),
                "{config:?}"
            );
        }
    }

    #[test]
    fn a_configuration_is_read_from_toml() {
        let text = "size = [8, 8]\nlatent = 2\nnetwork = { kind = 'dense', hidden = [16] }\n\
                    posterior = { kind = 'ddnf', blocks = 2, cells = 4, hidden = [8], \
                    log_det = { taylor = { order = 2 } }, context = { low-rank = { rank = 1 } } }";
        let config: VaeConfig = toml::from_str(text).unwrap();
        assert_eq!(config.posterior.name(), "ddnf-lowrank");
        assert_eq!(config.posterior.log_det(), "taylor(2)");
        let again: VaeConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let unknown = text.replace("cells = 4", "cells = 4, cell = 3");
        assert!(toml::from_str::<VaeConfig>(&unknown).is_err());
    }
}
