//! Planar maps with parameters from the encoder.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijector::Mapped;
use flows_core::bijectors::planar;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Size, repeat_rows};
use crate::vae::linear::Linear;

/// `softplus(w.u) = 1`, where `u^` vanishes: `ln(e - 1)`.
const NEUTRAL: f64 = 0.541_324_854_612_918_1;
/// How strongly the parameters depend on `h` at the start.
pub(super) const GAIN: f64 = 0.1;
/// Standard deviation of `u^` at the start.
pub(super) const INIT_STD: f64 = 0.01;

/// `u`, `w` and `b` of every map, linear in `h`.
#[derive(Module, Debug)]
pub struct AmortizedPlanar<B: Backend> {
    /// `[features, flows (2 latent + 1)]`.
    parameters: Linear<B>,
    latent: usize,
}

/// Parameters of one planar map.
#[derive(Debug, Clone)]
pub struct PlanarParameters<B: Backend> {
    /// `[batch, latent]`.
    pub u: Tensor<B, 2>,
    /// `[batch, latent]`.
    pub w: Tensor<B, 2>,
    /// `[batch]`.
    pub b: Tensor<B, 1>,
}

impl<B: Backend> AmortizedPlanar<B> {
    /// Maps near the identity, with `w ~ N(0, 1/latent)` and `b ~ N(0, 1)` for `h = 0`.
    pub(super) fn init(
        flows: usize,
        size: Size,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let latent = size.latent;
        let mut biases = Vec::with_capacity(flows * (2 * latent + 1));
        for _ in 0..flows {
            let mut normal = |std: f64| -> f64 {
                let z: f64 = StandardNormal.sample(&mut *rng);
                std * z
            };
            let w: Vec<f64> = (0..latent)
                .map(|_| normal((latent as f64).powf(-0.5)))
                .collect();
            let squared_norm: f64 = w.iter().map(|w| w * w).sum();
            biases.extend(
                w.iter()
                    .map(|w| normal(INIT_STD) + NEUTRAL * w / squared_norm),
            );
            biases.extend(&w);
            biases.push(normal(1.0));
        }
        Self {
            parameters: Linear::around(biases, size.features, GAIN, options, rng),
            latent,
        }
    }

    pub(super) fn amortize(&self, h: Tensor<B, 2>) -> Vec<PlanarParameters<B>> {
        let all = self.parameters.forward(h);
        let (d, each) = (self.latent, 2 * self.latent + 1);
        let part = |k: usize| PlanarParameters {
            u: all.clone().narrow(1, k * each, d),
            w: all.clone().narrow(1, k * each + d, d),
            b: all.clone().narrow(1, k * each + 2 * d, 1).squeeze_dim(1),
        };
        (0..all.dims()[1] / each).map(part).collect()
    }
}

impl<B: Backend> PlanarParameters<B> {
    pub(super) fn apply(&self, z: Tensor<B, 2>) -> Mapped<B> {
        planar::apply(z, self.u.clone(), self.w.clone(), self.b.clone())
    }

    pub(super) fn repeat(&self, times: usize) -> Self {
        let b = repeat_rows(self.b.clone().unsqueeze_dim(1), times);
        Self {
            u: repeat_rows(self.u.clone(), times),
            w: repeat_rows(self.w.clone(), times),
            b: b.squeeze_dim(1),
        }
    }
}
