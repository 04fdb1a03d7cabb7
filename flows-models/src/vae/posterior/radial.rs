//! Radial maps with parameters from the encoder.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijector::Mapped;
use flows_core::bijectors::radial;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::planar::{GAIN, INIT_STD};
use super::{Size, repeat_rows};
use crate::vae::linear::Linear;

/// `softplus` of it is 1: `ln(e - 1)`.
const UNIT: f64 = 0.541_324_854_612_918_1;

/// Centre, `alpha` and `beta` of every map, linear in `h`.
#[derive(Module, Debug)]
pub struct AmortizedRadial<B: Backend> {
    /// `[features, flows (latent + 2)]`.
    parameters: Linear<B>,
    latent: usize,
}

/// Parameters of one radial map, before their constraints.
#[derive(Debug, Clone)]
pub struct RadialParameters<B: Backend> {
    /// Centre, `[batch, latent]`.
    pub z_0: Tensor<B, 2>,
    /// `[batch]`.
    pub raw_alpha: Tensor<B, 1>,
    /// `[batch]`.
    pub raw_beta: Tensor<B, 1>,
}

impl<B: Backend> AmortizedRadial<B> {
    /// Maps near the identity, with centres `N(0, I)` and `alpha = 1` for `h = 0`.
    pub(super) fn init(
        flows: usize,
        size: Size,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let mut biases = Vec::with_capacity(flows * (size.latent + 2));
        for _ in 0..flows {
            let mut normal = || -> f64 { StandardNormal.sample(&mut *rng) };
            biases.extend((0..size.latent).map(|_| normal()));
            biases.push(UNIT);
            biases.push(UNIT + INIT_STD * normal());
        }
        Self {
            parameters: Linear::around(biases, size.features, GAIN, options, rng),
            latent: size.latent,
        }
    }

    pub(super) fn amortize(&self, h: Tensor<B, 2>) -> Vec<RadialParameters<B>> {
        let all = self.parameters.forward(h);
        let (d, each) = (self.latent, self.latent + 2);
        let part = |k: usize| RadialParameters {
            z_0: all.clone().narrow(1, k * each, d),
            raw_alpha: all.clone().narrow(1, k * each + d, 1).squeeze_dim(1),
            raw_beta: all.clone().narrow(1, k * each + d + 1, 1).squeeze_dim(1),
        };
        (0..all.dims()[1] / each).map(part).collect()
    }
}

impl<B: Backend> RadialParameters<B> {
    pub(super) fn apply(&self, z: Tensor<B, 2>) -> Mapped<B> {
        let (alpha, beta) = (self.raw_alpha.clone(), self.raw_beta.clone());
        radial::apply(z, self.z_0.clone(), alpha, beta)
    }

    pub(super) fn repeat(&self, times: usize) -> Self {
        let column =
            |x: &Tensor<B, 1>| repeat_rows(x.clone().unsqueeze_dim(1), times).squeeze_dim(1);
        Self {
            z_0: repeat_rows(self.z_0.clone(), times),
            raw_alpha: column(&self.raw_alpha),
            raw_beta: column(&self.raw_beta),
        }
    }
}
