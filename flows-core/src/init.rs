//! Parameters drawn from a seeded generator on the host.
//!
//! Burn's own initializers draw from a generator that is global to the process and differs between
//! backends. Here the same seed gives the same parameters on every backend, and parallel tests do
//! not disturb each other.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorCreationOptions, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// The device and the type of a tensor, for one beside it.
pub fn options_of<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> TensorCreationOptions<B> {
    TensorCreationOptions::new(tensor.device()).with_dtype(tensor.dtype())
}

/// The device and the type of the parameters of a module; the defaults of the backend where it has none.
pub fn options_of_module<B: Backend, M: Module<B>>(module: &M) -> TensorCreationOptions<B> {
    struct First<B: Backend>(Option<TensorCreationOptions<B>>);
    impl<B: Backend> ModuleVisitor<B> for First<B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            self.0.get_or_insert_with(|| options_of(&param.val()));
        }
    }
    let mut first = First(None);
    module.visit(&mut first);
    first.0.unwrap_or_default()
}

/// A tensor of independent `N(0, std^2)` draws.
pub fn normal_tensor<B: Backend, const D: usize>(
    shape: [usize; D],
    std: f64,
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Tensor<B, D> {
    let values = (0..shape.iter().product())
        .map(|_| {
            let z: f64 = StandardNormal.sample(rng);
            std * z
        })
        .collect::<Vec<f64>>();
    Tensor::from_data(TensorData::new(values, shape), options)
}

/// A tensor of independent draws, uniform on `[low, high)`.
pub fn uniform_tensor<B: Backend, const D: usize>(
    shape: [usize; D],
    low: f64,
    high: f64,
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Tensor<B, D> {
    let range = Uniform::new(low, high).expect("a range with low < high");
    let values = (0..shape.iter().product())
        .map(|_| range.sample(rng))
        .collect::<Vec<f64>>();
    Tensor::from_data(TensorData::new(values, shape), options)
}

/// A trainable tensor of independent `N(0, std^2)` draws.
pub fn normal<B: Backend, const D: usize>(
    shape: [usize; D],
    std: f64,
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(normal_tensor(shape, std, options, rng))
}

/// A trainable tensor of independent draws, uniform on `[low, high)`.
pub fn uniform<B: Backend, const D: usize>(
    shape: [usize; D],
    low: f64,
    high: f64,
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(uniform_tensor(shape, low, high, options, rng))
}

/// A trainable tensor filled with one value.
pub fn constant<B: Backend, const D: usize>(
    shape: [usize; D],
    value: f64,
    options: impl Into<TensorCreationOptions<B>>,
) -> Param<Tensor<B, D>> {
    Param::from_tensor(Tensor::full(shape, value, options))
}
