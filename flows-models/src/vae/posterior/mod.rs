//! The flow between `z_0` and `z`, with parameters from the encoder.

mod layers;
mod planar;
mod radial;
mod sylvester;

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijector::{Bijector, Invert, Mapped, context_for};
use flows_core::bijectors::{Chain, Layer, Stack};
use flows_core::error::Error;
use flows_core::log_det::LogDet;
use flows_core::visit::LayerVisit;
use rand::Rng;
use serde::{Deserialize, Serialize};

pub use layers::DdnfContext;
pub use planar::{AmortizedPlanar, PlanarParameters};
pub use radial::{AmortizedRadial, RadialParameters};
pub use sylvester::AmortizedSylvester;

/// What the posterior is, beyond a normal distribution with a diagonal covariance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PosteriorConfig {
    /// Nothing: the plain autoencoder (arXiv:1312.6114).
    // With braces, as serde lets any key pass in a unit variant.
    Gaussian {},
    /// Planar maps with `u, w, b` linear in `h` (arXiv:1505.05770).
    Planar {
        /// Number of maps.
        flows: usize,
    },
    /// Radial maps with centre, `alpha` and `beta` linear in `h` (arXiv:1505.05770).
    Radial {
        /// Number of maps.
        flows: usize,
    },
    /// Inverse autoregressive maps with `h` as context (arXiv:1606.04934).
    Iaf {
        /// Number of maps.
        flows: usize,
        /// Widths of the hidden layers of each network.
        hidden: Vec<usize>,
    },
    /// Sylvester maps, `Q` by iterative orthonormalization (O-SNF, arXiv:1803.05649).
    SylvesterOrthogonal {
        /// Number of maps.
        flows: usize,
        /// Columns of `Q`.
        columns: usize,
    },
    /// Sylvester maps, `Q` by Householder reflections (H-SNF, arXiv:1803.05649).
    SylvesterHouseholder {
        /// Number of maps.
        flows: usize,
        /// Reflections of each `Q`.
        reflections: usize,
    },
    /// Sylvester maps, `Q` the identity and the reversal in turn (T-SNF, arXiv:1803.05649).
    SylvesterTriangular {
        /// Number of maps.
        flows: usize,
    },
    /// Affine couplings with `h` as context (arXiv:1605.08803).
    #[serde(rename = "realnvp")]
    RealNvp {
        /// Number of couplings.
        flows: usize,
        /// Widths of the hidden layers of each network.
        hidden: Vec<usize>,
    },
    /// Masked autoregressive maps with `h` as context, run in their sequential direction
    /// (arXiv:1705.07057).
    Maf {
        /// Number of maps.
        flows: usize,
        /// Widths of the hidden layers of each network.
        hidden: Vec<usize>,
    },
    /// Blocks of a deep diffeomorphic flow (arXiv:1810.03256).
    Ddnf {
        /// Number of blocks.
        blocks: usize,
        /// Cells of each block.
        cells: usize,
        /// Widths of the hidden layers of each field.
        hidden: Vec<usize>,
        /// Log-determinant in training.
        log_det: LogDet,
        /// How the fields depend on the image.
        context: DdnfContext,
    },
}

impl Default for PosteriorConfig {
    fn default() -> Self {
        Self::Gaussian {}
    }
}

impl PosteriorConfig {
    /// A name for tables, such as `"planar"` or `"ddnf-bias"`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gaussian {} => "gaussian",
            Self::Planar { .. } => "planar",
            Self::Radial { .. } => "radial",
            Self::Iaf { .. } => "iaf",
            Self::SylvesterOrthogonal { .. } => "sylvester-o",
            Self::SylvesterHouseholder { .. } => "sylvester-h",
            Self::SylvesterTriangular { .. } => "sylvester-t",
            Self::RealNvp { .. } => "realnvp",
            Self::Maf { .. } => "maf",
            Self::Ddnf { context, .. } => match context {
                DdnfContext::Shared => "ddnf",
                DdnfContext::Bias => "ddnf-bias",
                DdnfContext::LowRank { .. } => "ddnf-lowrank",
            },
        }
    }

    /// How the log-determinant is computed in training, for the rows of a report.
    pub fn log_det(&self) -> String {
        match self {
            Self::Gaussian {} => "none".to_owned(),
            Self::Ddnf { log_det, .. } => log_det.label(),
            _ => "exact".to_owned(),
        }
    }

    /// Draws the flow on `latent` variables, with `features` numbers from the encoder; `None` for
    /// [`Gaussian`](Self::Gaussian).
    ///
    /// # Errors
    /// [`Error::Config`] for fields out of range.
    pub fn init<B: Backend>(
        &self,
        latent: usize,
        features: usize,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Option<PosteriorFlow<B>>, Error> {
        let options = &options.into();
        let size = Size { latent, features };
        let count = match self {
            Self::Gaussian {} => return Ok(None),
            Self::Planar { flows }
            | Self::Radial { flows }
            | Self::Iaf { flows, .. }
            | Self::SylvesterOrthogonal { flows, .. }
            | Self::SylvesterHouseholder { flows, .. }
            | Self::SylvesterTriangular { flows }
            | Self::RealNvp { flows, .. }
            | Self::Maf { flows, .. } => *flows,
            Self::Ddnf { blocks, .. } => *blocks,
        };
        if count == 0 {
            return Err(Error::config("posterior", "flows", 0, "at least 1"));
        }
        let flow = match self {
            Self::Planar { flows } => {
                PosteriorFlow::Planar(AmortizedPlanar::init(*flows, size, options, rng))
            }
            Self::Radial { flows } => {
                PosteriorFlow::Radial(AmortizedRadial::init(*flows, size, options, rng))
            }
            Self::SylvesterOrthogonal { .. }
            | Self::SylvesterHouseholder { .. }
            | Self::SylvesterTriangular { .. } => {
                PosteriorFlow::Sylvester(AmortizedSylvester::init(self, size, options, rng)?)
            }
            _ => {
                let layers = layers::layers(self, size);
                let layers = layers.iter().map(|layer| layer.init(options.clone(), rng));
                let stack = Chain::new(layers.collect::<Result<Vec<_>, _>>()?)?;
                match self {
                    Self::Maf { .. } => PosteriorFlow::Inverted(stack),
                    _ => PosteriorFlow::Layers(stack),
                }
            }
        };
        Ok(Some(flow))
    }
}

/// Numbers of variables.
#[derive(Debug, Clone, Copy)]
struct Size {
    latent: usize,
    /// Length of `h`.
    features: usize,
}

/// The flow of a posterior, from `z_0` to `z`.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // there is one of them
pub enum PosteriorFlow<B: Backend> {
    /// Planar maps.
    Planar(AmortizedPlanar<B>),
    /// Radial maps.
    Radial(AmortizedRadial<B>),
    /// Sylvester maps.
    Sylvester(AmortizedSylvester<B>),
    /// Layers in their one-pass direction, with `h` as context where they take one.
    Layers(Stack<B>),
    /// Layers in their other direction.
    Inverted(Stack<B>),
}

/// What the encoder has made for the flow, one row an image.
#[derive(Debug, Clone)]
pub enum Amortized<B: Backend> {
    /// Of each planar map.
    Planar(Vec<PlanarParameters<B>>),
    /// Of each radial map.
    Radial(Vec<RadialParameters<B>>),
    /// Of each Sylvester map: one set an image, for as many rows as there are draws of it.
    Sylvester(Vec<flows_core::bijectors::sylvester::Parameters<B>>),
    /// `h` itself, `[batch, features]`.
    Features(Tensor<B, 2>),
}

impl<B: Backend> Amortized<B> {
    /// Every row `times` over, one after the other.
    pub fn repeat(&self, times: usize) -> Self {
        match self {
            Self::Planar(all) => Self::Planar(all.iter().map(|p| p.repeat(times)).collect()),
            Self::Radial(all) => Self::Radial(all.iter().map(|p| p.repeat(times)).collect()),
            // Rows that share a set are what these maps take.
            Self::Sylvester(all) => Self::Sylvester(all.clone()),
            Self::Features(h) => Self::Features(repeat_rows(h.clone(), times)),
        }
    }
}

impl<B: Backend> PosteriorFlow<B> {
    /// The parameters of the flow for the images of a batch.
    ///
    /// # Shapes
    /// - `h`: `[batch, features]`
    pub fn amortize(&self, h: Tensor<B, 2>) -> Amortized<B> {
        match self {
            Self::Planar(flow) => Amortized::Planar(flow.amortize(h)),
            Self::Radial(flow) => Amortized::Radial(flow.amortize(h)),
            Self::Sylvester(flow) => Amortized::Sylvester(flow.amortize(h)),
            Self::Layers(_) | Self::Inverted(_) => Amortized::Features(h),
        }
    }

    /// Takes `z_0` to `z`, with the log-determinant.
    ///
    /// # Shapes
    /// - `z_0`: `[batch, latent]`, `amortized` with as many rows
    ///
    /// # Panics
    /// Where `amortized` was made by another kind of flow.
    pub fn forward_and_log_det(&self, z_0: Tensor<B, 2>, amortized: &Amortized<B>) -> Mapped<B> {
        let start = Mapped::volume_preserving(z_0);
        match (self, amortized) {
            (Self::Planar(_), Amortized::Planar(all)) => {
                all.iter().fold(start, |sum, p| sum.then(|z| p.apply(z)))
            }
            (Self::Radial(_), Amortized::Radial(all)) => {
                all.iter().fold(start, |sum, p| sum.then(|z| p.apply(z)))
            }
            (Self::Sylvester(_), Amortized::Sylvester(all)) => all.iter().fold(start, |sum, p| {
                sum.then(|z| flows_core::bijectors::sylvester::apply(z, p))
            }),
            (Self::Layers(stack), Amortized::Features(h)) => {
                let context = context_for(stack, &Some(h.clone()));
                stack.forward_and_log_det(start.value, context)
            }
            (Self::Inverted(stack), Amortized::Features(h)) => {
                let context = context_for(stack, &Some(h.clone()));
                stack.inverse_and_log_det(start.value, context)
            }
            _ => panic!("posterior: parameters of another kind of flow"),
        }
    }

    /// Takes `z_0` to `z`.
    ///
    /// # Shapes
    /// As [`forward_and_log_det`](Self::forward_and_log_det).
    ///
    /// # Panics
    /// As [`forward_and_log_det`](Self::forward_and_log_det).
    pub fn forward(&self, z_0: Tensor<B, 2>, amortized: &Amortized<B>) -> Tensor<B, 2> {
        match (self, amortized) {
            (Self::Layers(stack), Amortized::Features(h)) => {
                stack.forward(z_0, context_for(stack, &Some(h.clone())))
            }
            _ => self.forward_and_log_det(z_0, amortized).value,
        }
    }

    /// Hands a visit to the layers, where the flow is made of such.
    pub fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        match self {
            Self::Layers(stack) => stack.visit_layers(visit),
            Self::Inverted(stack) => stack.visit_layers_inverse(visit),
            Self::Planar(_) | Self::Radial(_) | Self::Sylvester(_) => {}
        }
    }

    /// The same flow with another log-determinant of its DDNF blocks, where it has such.
    ///
    /// # Errors
    /// As [`LogDet::validate`].
    pub fn with_log_det(self, log_det: &LogDet) -> Result<Self, Error> {
        let Self::Layers(stack) = self else {
            return Ok(self);
        };
        let layers = stack.layers().iter().cloned().map(|layer| match layer {
            Layer::Ddnf(block) => block.with_log_det(log_det.clone()).map(Layer::Ddnf),
            other => Ok(other),
        });
        Ok(Self::Layers(Chain::new(layers.collect::<Result<_, _>>()?)?))
    }

    /// The layers, where the flow is made of such.
    pub fn layers(&self) -> &[Layer<B>] {
        match self {
            Self::Layers(stack) | Self::Inverted(stack) => stack.layers(),
            _ => &[],
        }
    }
}

/// Every row `times` over, one after the other: `[n, k]` to `[n * times, k]`.
pub(super) fn repeat_rows<B: Backend>(x: Tensor<B, 2>, times: usize) -> Tensor<B, 2> {
    let [n, k] = x.dims();
    let x = x.unsqueeze_dim::<3>(1).expand([n, times, k]);
    x.reshape([n * times, k])
}
