//! An affine map with trained weights.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::init;
use rand::Rng;

/// `x W + b`.
#[derive(Module, Debug)]
pub struct Linear<B: Backend> {
    /// `W`, `[inputs, outputs]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `b`, `[outputs]`.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Linear<B> {
    /// Weights and biases uniform on `(-1, 1) / sqrt(inputs)`.
    pub fn init(
        inputs: usize,
        outputs: usize,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let bound = (inputs as f64).powf(-0.5);
        Self {
            weight: init::uniform([inputs, outputs], -bound, bound, options.clone(), rng),
            bias: init::uniform([outputs], -bound, bound, options.clone(), rng),
        }
    }

    /// Weights `N(0, gain^2 / inputs)` around given biases: a map that is nearly constant at the
    /// start.
    pub(super) fn around(
        biases: Vec<f64>,
        inputs: usize,
        gain: f64,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let std = gain * (inputs as f64).powf(-0.5);
        let bias = Tensor::from_data(&biases[..], options.clone());
        Self {
            weight: init::normal([inputs, biases.len()], std, options.clone(), rng),
            bias: Param::from_tensor(bias),
        }
    }

    /// Applies the map.
    ///
    /// # Shapes
    /// - `x`: `[batch, inputs]`; output `[batch, outputs]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        x.matmul(self.weight.val()) + self.bias.val().unsqueeze()
    }
}
