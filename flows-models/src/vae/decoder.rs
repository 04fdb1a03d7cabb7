//! From `z` to the parameters of `p(x|z)`.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation::relu, backend::Backend};
use flows_core::init;
use rand::Rng;

use super::conv::{GatedConvTranspose, Window};
use super::encoder::NetworkConfig;
use super::linear::Linear;

/// The network that makes the parameters of every pixel's distribution.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one of them
pub enum Decoder<B: Backend> {
    /// Fully connected layers, all but the last one rectified.
    Dense(DenseDecoder<B>),
    /// Gated transposed convolutions.
    Conv(ConvDecoder<B>),
}

/// Fully connected layers.
#[derive(Module, Debug)]
pub struct DenseDecoder<B: Backend> {
    layers: Vec<Linear<B>>,
    output: Linear<B>,
    parameters: usize,
}

/// Gated transposed convolutions and a convolution of single pixels.
#[derive(Module, Debug)]
pub struct ConvDecoder<B: Backend> {
    layers: Vec<GatedConvTranspose<B>>,
    /// `[parameters, 32, 1, 1]`.
    output: Param<Tensor<B, 4>>,
    /// `[parameters]`.
    bias: Param<Tensor<B, 1>>,
}

/// Channels, kernels and strides after the first transposed convolution, which is as large as the
/// image after two halvings.
const LAYERS: [([usize; 2], usize); 5] = [
    ([64, 64], 1),
    ([64, 32], 2),
    ([32, 32], 1),
    ([32, 32], 2),
    ([32, 32], 1),
];

impl<B: Backend> Decoder<B> {
    /// The mirror image of the encoder, with `parameters` numbers a pixel. The encoder has checked
    /// the configuration.
    pub(super) fn init(
        config: &NetworkConfig,
        [height, width]: [usize; 2],
        latent: usize,
        parameters: usize,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Self {
        match config {
            NetworkConfig::Dense { hidden } => {
                let mut inputs = latent;
                let mut layers = Vec::with_capacity(hidden.len());
                for &outputs in hidden.iter().rev() {
                    layers.push(Linear::init(inputs, outputs, options, rng));
                    inputs = outputs;
                }
                Self::Dense(DenseDecoder {
                    layers,
                    output: Linear::init(inputs, parameters * height * width, options, rng),
                    parameters,
                })
            }
            NetworkConfig::Conv {} => {
                let first = Window {
                    kernel: [height / 4, width / 4],
                    stride: 1,
                    padding: 0,
                };
                let mut layers = vec![GatedConvTranspose::init([latent, 64], first, options, rng)];
                for (channels, stride) in LAYERS {
                    let window = Window::square(5, stride, 2);
                    layers.push(GatedConvTranspose::init(channels, window, options, rng));
                }
                let bound = 32f64.powf(-0.5);
                Self::Conv(ConvDecoder {
                    layers,
                    output: init::uniform(
                        [parameters, 32, 1, 1],
                        -bound,
                        bound,
                        options.clone(),
                        rng,
                    ),
                    bias: init::uniform([parameters], -bound, bound, options.clone(), rng),
                })
            }
        }
    }

    /// The parameters of every pixel.
    ///
    /// # Shapes
    /// - `z`: `[batch, latent]`; output `[batch, parameters, pixels]`
    pub fn forward(&self, z: Tensor<B, 2>) -> Tensor<B, 3> {
        let [rows, latent] = z.dims();
        match self {
            Self::Dense(dense) => {
                let h = dense
                    .layers
                    .iter()
                    .fold(z, |h, layer| relu(layer.forward(h)));
                let out = dense.output.forward(h);
                let pixels = out.dims()[1] / dense.parameters;
                out.reshape([rows, dense.parameters, pixels])
            }
            Self::Conv(conv) => {
                let start = z.reshape([rows, latent, 1, 1]);
                let h = conv.layers.iter().fold(start, |h, layer| layer.forward(h));
                let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
                let out = conv2d(h, conv.output.val(), Some(conv.bias.val()), options);
                let [_, parameters, height, width] = out.dims();
                out.reshape([rows, parameters, height * width])
            }
        }
    }
}
