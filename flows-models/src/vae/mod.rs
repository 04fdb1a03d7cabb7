//! Variational autoencoders whose posterior is a flow.
//!
//! Kingma & Welling, arXiv:1312.6114; Rezende & Mohamed, arXiv:1505.05770; in the protocol of van
//! den Berg et al., *Sylvester Normalizing Flows*, arXiv:1803.05649.
//!
//! An encoder makes `h(x)`, mean and variance of `z_0`, and the parameters of a flow; the flow
//! takes `z_0` to `z`; a decoder gives the parameters of `p(x|z)`; the prior is `N(0, I)`.
//!
//! ```
//! # use burn::backend::Flex;
//! # use burn::tensor::Tensor;
//! # use flows_core::random::generator;
//! use flows_models::vae::{NetworkConfig, PosteriorConfig, VaeConfig};
//! let (device, rng) = (Default::default(), &mut generator(0));
//! let config = VaeConfig {
//!     posterior: PosteriorConfig::Planar { flows: 4 },
//!     ..VaeConfig::new([8, 8], 2, NetworkConfig::Dense { hidden: vec![32] })
//! };
//! let vae = config.init::<Flex>(&device, rng)?;
//! let x = Tensor::zeros([5, 64], &device);
//! let terms = vae.terms(x, vae.noise(5, rng));
//! # assert_eq!(terms.kl.dims(), [5]);
//! # Ok::<(), flows_core::error::Error>(())
//! ```

mod conv;
mod decoder;
mod encoder;
mod importance;
mod likelihood;
mod linear;
mod log_mean_exp;
mod model;
mod posterior;

pub use conv::{GatedConv, GatedConvTranspose};
pub use decoder::{ConvDecoder, Decoder, DenseDecoder};
pub use encoder::{ConvEncoder, Encoder, NetworkConfig};
pub use importance::{ActiveUnits, Estimate, importance_samples};
pub use likelihood::Likelihood;
pub use linear::Linear;
pub use log_mean_exp::LogMeanExp;
pub use model::{Draw, Encoded, Terms, Vae, VaeConfig};
pub use posterior::{
    Amortized, AmortizedPlanar, AmortizedRadial, AmortizedSylvester, DdnfContext, PlanarParameters,
    PosteriorConfig, PosteriorFlow, RadialParameters,
};
