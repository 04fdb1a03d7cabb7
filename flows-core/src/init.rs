//! Parameters drawn from a seeded generator on the host.
//!
//! Burn's own initializers draw from a generator that is global to the process and differs between
//! backends. Here the same seed gives the same parameters on every backend, and parallel tests do
//! not disturb each other.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// A tensor of independent `N(0, std^2)` draws.
pub fn normal_tensor<B: Backend, const D: usize>(
    shape: [usize; D],
    std: f64,
    device: &B::Device,
    rng: &mut dyn Rng,
) -> Tensor<B, D> {
    let values = (0..shape.iter().product())
        .map(|_| {
            let z: f64 = StandardNormal.sample(rng);
            std * z
        })
        .collect::<Vec<f64>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A tensor of independent draws, uniform on `[low, high)`.
pub fn uniform_tensor<B: Backend, const D: usize>(
    shape: [usize; D],
    low: f64,
    high: f64,
    device: &B::Device,
    rng: &mut dyn Rng,
) -> Tensor<B, D> {
    let range = Uniform::new(low, high).expect("a range with low < high");
    let values = (0..shape.iter().product())
        .map(|_| range.sample(rng))
        .collect::<Vec<f64>>();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A trainable tensor of independent `N(0, std^2)` draws.
pub fn normal<B: Backend, const D: usize>(
    shape: [usize; D],
    std: f64,
    device: &B::Device,
    rng: &mut dyn Rng,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(normal_tensor(shape, std, device, rng))
}

/// A trainable tensor of independent draws, uniform on `[low, high)`.
pub fn uniform<B: Backend, const D: usize>(
    shape: [usize; D],
    low: f64,
    high: f64,
    device: &B::Device,
    rng: &mut dyn Rng,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(uniform_tensor(shape, low, high, device, rng))
}

/// A trainable tensor filled with one value.
pub fn constant<B: Backend, const D: usize>(
    shape: [usize; D],
    value: f64,
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(Tensor::full(shape, value, device))
}
