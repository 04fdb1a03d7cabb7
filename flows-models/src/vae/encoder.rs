//! From an image to `h(x)`.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, activation::relu, backend::Backend};
use flows_core::error::Error;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::conv::{GatedConv, Window};
use super::linear::Linear;

/// The networks of an autoencoder: the encoder, and the decoder as its mirror image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkConfig {
    /// Fully connected rectified linear layers.
    Dense {
        /// Widths of the encoder's layers; the decoder has them in reverse. None makes both affine.
        hidden: Vec<usize>,
    },
    /// The gated convolutions of arXiv:1803.05649, for images whose sides are multiples of 4.
    // With braces, as serde lets any key pass in a unit variant.
    Conv {},
}

/// Channels of the convolutions up to the last one, with their strides.
pub(super) const CHANNELS: [[usize; 2]; 5] = [[1, 32], [32, 32], [32, 64], [64, 64], [64, 64]];
pub(super) const STRIDES: [usize; 5] = [1, 2, 1, 2, 1];
/// Length of `h` of the convolutional encoder.
const CONV_FEATURES: usize = 256;

/// The network that makes `h(x)`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one of them
pub enum Encoder<B: Backend> {
    /// Fully connected layers, each rectified.
    Dense(Vec<Linear<B>>),
    /// Gated convolutions.
    Conv(ConvEncoder<B>),
}

/// Gated convolutions, the last one as large as what is left of the image.
#[derive(Module, Debug)]
pub struct ConvEncoder<B: Backend> {
    layers: Vec<GatedConv<B>>,
    height: usize,
    width: usize,
}

impl<B: Backend> Encoder<B> {
    /// The encoder of images of this size, and the length of its `h`.
    pub(super) fn init(
        config: &NetworkConfig,
        [height, width]: [usize; 2],
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<(Self, usize), Error> {
        match config {
            NetworkConfig::Dense { hidden } => {
                if hidden.contains(&0) {
                    let found = format!("{hidden:?}");
                    return Err(Error::config(
                        "vae",
                        "hidden",
                        found,
                        "widths of at least 1",
                    ));
                }
                let mut inputs = height * width;
                let layer = |&outputs: &usize| {
                    let layer = Linear::init(inputs, outputs, options, rng);
                    inputs = outputs;
                    layer
                };
                let layers = hidden.iter().map(layer).collect();
                Ok((Self::Dense(layers), inputs))
            }
            NetworkConfig::Conv {} => {
                if !height.is_multiple_of(4) || !width.is_multiple_of(4) {
                    let found = format!("[{height}, {width}]");
                    let expected = "sides that are multiples of 4, for convolutions";
                    return Err(Error::config("vae", "size", found, expected));
                }
                let windows = STRIDES.map(|stride| Window::square(5, stride, 2));
                let mut layers: Vec<_> = CHANNELS
                    .into_iter()
                    .zip(windows)
                    .map(|(channels, window)| GatedConv::init(channels, window, options, rng))
                    .collect();
                let last = Window {
                    kernel: [height / 4, width / 4],
                    stride: 1,
                    padding: 0,
                };
                layers.push(GatedConv::init([64, CONV_FEATURES], last, options, rng));
                let conv = ConvEncoder {
                    layers,
                    height,
                    width,
                };
                Ok((Self::Conv(conv), CONV_FEATURES))
            }
        }
    }

    /// `h(x)`.
    ///
    /// # Shapes
    /// - `x`: `[batch, height * width]`; output `[batch, features]`
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Dense(layers) => layers.iter().fold(x, |h, layer| relu(layer.forward(h))),
            Self::Conv(conv) => {
                let rows = x.dims()[0];
                let image = x.reshape([rows, 1, conv.height, conv.width]);
                let h = conv.layers.iter().fold(image, |h, layer| layer.forward(h));
                h.reshape([rows, CONV_FEATURES])
            }
        }
    }
}
