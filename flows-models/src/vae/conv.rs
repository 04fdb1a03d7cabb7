//! Gated convolutions.
//!
//! van den Berg et al., arXiv:1803.05649, appendix; without batch normalization.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
use burn::tensor::{Tensor, backend::Backend};
use flows_core::init;
use flows_core::softplus::sigmoid;
use rand::Rng;

/// Where a convolution looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Window {
    pub(super) const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel, kernel],
            stride,
            padding,
        }
    }
}

/// `h(x) sigmoid(g(x))` with convolutions `h` and `g`, computed as one of twice the channels.
#[derive(Module, Debug)]
pub struct GatedConv<B: Backend> {
    /// `[2 out, in, k, k]`, `h` before `g`.
    weight: Param<Tensor<B, 4>>,
    /// `[2 out]`.
    bias: Param<Tensor<B, 1>>,
    stride: usize,
    padding: usize,
}

impl<B: Backend> GatedConv<B> {
    /// Weights and biases uniform on `(-1, 1) / sqrt(fan_in)`.
    pub(super) fn init(
        [inputs, outputs]: [usize; 2],
        window: Window,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let [height, width] = window.kernel;
        let bound = ((inputs * height * width) as f64).powf(-0.5);
        let shape = [2 * outputs, inputs, height, width];
        Self {
            weight: init::uniform(shape, -bound, bound, options.clone(), rng),
            bias: init::uniform([2 * outputs], -bound, bound, options.clone(), rng),
            stride: window.stride,
            padding: window.padding,
        }
    }

    /// Applies the convolution.
    ///
    /// # Shapes
    /// - `x`: `[batch, in, height, width]`; output `[batch, out, height', width']`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1, 1], 1);
        gate(conv2d(x, self.weight.val(), Some(self.bias.val()), options))
    }
}

/// The same with transposed convolutions, which undo the change of size.
#[derive(Module, Debug)]
pub struct GatedConvTranspose<B: Backend> {
    /// `[in, 2 out, k, k]`, `h` before `g`.
    weight: Param<Tensor<B, 4>>,
    /// `[2 out]`.
    bias: Param<Tensor<B, 1>>,
    stride: usize,
    padding: usize,
}

impl<B: Backend> GatedConvTranspose<B> {
    /// Weights and biases uniform on `(-1, 1) / sqrt(out * kernel)`.
    pub(super) fn init(
        [inputs, outputs]: [usize; 2],
        window: Window,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        let [height, width] = window.kernel;
        let bound = ((outputs * height * width) as f64).powf(-0.5);
        let shape = [inputs, 2 * outputs, height, width];
        Self {
            weight: init::uniform(shape, -bound, bound, options.clone(), rng),
            bias: init::uniform([2 * outputs], -bound, bound, options.clone(), rng),
            stride: window.stride,
            padding: window.padding,
        }
    }

    /// Applies the transposed convolution. With a stride of 2 a size `n` becomes `2 n`.
    ///
    /// # Shapes
    /// - `x`: `[batch, in, height, width]`; output `[batch, out, height', width']`
    pub fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        // One more row and column, so that the size is doubled and not one short of it.
        let more = self.stride - 1;
        let options =
            ConvTransposeOptions::new([self.stride; 2], [self.padding; 2], [more; 2], [1, 1], 1);
        gate(conv_transpose2d(
            x,
            self.weight.val(),
            Some(self.bias.val()),
            options,
        ))
    }
}

fn gate<B: Backend>(both: Tensor<B, 4>) -> Tensor<B, 4> {
    let channels = both.dims()[1] / 2;
    let h = both.clone().narrow(1, 0, channels);
    h * sigmoid(both.narrow(1, channels, channels))
}
