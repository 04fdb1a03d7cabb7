//! Named normalizing flows: a configuration in, a model out.
//!
//! Every model is a list of [layer configurations](flows_core::bijectors::LayerConfig), built as a
//! [`Stack`] in its one-pass direction and given a base, by default a standard normal. Three lines from nothing
//! to a density:
//!
//! ```
//! # use burn::backend::Flex;
//! # use burn::tensor::Tensor;
//! # use flows_core::distributions::LogProb;
//! # use flows_core::random::generator;
//! use flows_models::MafConfig;
//! let device = Default::default();
//! let maf = MafConfig::new(2).init::<Flex>(&device, &mut generator(0))?;
//! let log_prob = maf.log_prob(Tensor::zeros([5, 2], &device), None);
//! # assert_eq!(log_prob.dims(), [5]);
//! # Ok::<(), flows_core::error::Error>(())
//! ```
//!
//! or the same from TOML, through [`ModelConfig`]:
//!
//! ```
//! use flows_models::ModelConfig;
//! let config: ModelConfig = toml::from_str("kind = 'maf'\ndim = 2\nlayers = 3")?;
//! # assert_eq!(config.name(), "maf");
//! # Ok::<(), toml::de::Error>(())
//! ```
//!
//! # Features
//! `flex` and `ndarray` compile in the kernels for these CPU backends of Burn. Without them every backend runs on Burn's
//! operations, to the same numbers up to rounding.

mod bnaf;
mod cnf;
#[cfg(all(debug_assertions, feature = "flex", not(test)))]
#[doc(hidden)]
pub mod compiled;
mod ddnf;
mod file;
mod iaf;
pub mod interop;
mod maf;
mod mixing;
mod model;
mod multi_scale_real_nvp;
mod nice;
mod planar;
mod presets;
mod radial;
mod real_nvp;
mod residual;
pub mod stability;
mod stack;
mod sylvester;
pub mod vae;

pub use bnaf::BnafFlowConfig;
pub use cnf::CnfFlowConfig;
pub use ddnf::DdnfConfig;
pub use file::{AnyFlow, load, save};
pub use iaf::IafConfig;
pub use maf::{
    BernsteinConfig, MafConfig, MaskedFlowConfig, NafConfig, NamedTransform, NsfConfig, SosConfig,
    UmnnConfig,
};
pub use mixing::Mixing;
pub use model::{
    BaseToDataFlow, DataToBaseFlow, FastDirection, ModelConfig, build_base_to_data,
    build_data_to_base,
};
pub use multi_scale_real_nvp::MultiScaleRealNvpConfig;
pub use nice::NiceConfig;
pub use planar::PlanarFlowConfig;
pub use presets::{PRESETS, Preset, preset};
pub use radial::RadialFlowConfig;
pub use real_nvp::{CouplingFlowConfig, NcsfConfig, NsfCouplingConfig, RealNvpConfig};
pub use residual::ResidualFlowConfig;
pub use stack::StackConfig;
pub use sylvester::SylvesterFlowConfig;

/// What most programs that use a model need: configurations, [`load`] and [`save`], and the preludes of flows-core and
/// flows-train.
pub mod prelude {
    pub use flows_core::prelude::*;
    pub use flows_train::prelude::*;

    pub use crate::{
        AnyFlow, BernsteinConfig, BnafFlowConfig, CnfFlowConfig, DdnfConfig, IafConfig, MafConfig,
        ModelConfig, NafConfig, NcsfConfig, NiceConfig, NsfConfig, NsfCouplingConfig,
        PlanarFlowConfig, RadialFlowConfig, RealNvpConfig, ResidualFlowConfig, SosConfig,
        StackConfig, SylvesterFlowConfig, load, save,
    };
}

#[cfg(doc)]
use flows_core::bijectors::Stack;
