//! What all models have in common, and the one type that holds any of them.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::bijectors::{Chain, LayerConfig, Stack};
use flows_core::distributions::DiagonalNormal;
use flows_core::error::Error;
use flows_core::flow::{BaseToData, DataToBase, Flow};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    BernsteinConfig, BnafFlowConfig, CnfFlowConfig, DdnfConfig, IafConfig, MafConfig, NafConfig,
    NiceConfig, NsfConfig, NsfCouplingConfig, PlanarFlowConfig, RadialFlowConfig, RealNvpConfig,
    ResidualFlowConfig, SosConfig, StackConfig, SylvesterFlowConfig,
};

/// A flow whose layers map data to a standard normal: its `log_prob` takes one pass.
pub type DataToBaseFlow<B> = Flow<B, Stack<B>, DiagonalNormal<B>, DataToBase>;

/// A flow whose layers map a standard normal to data: its samples take one pass.
pub type BaseToDataFlow<B> = Flow<B, Stack<B>, DiagonalNormal<B>, BaseToData>;

/// The direction that a model is built to be fast in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FastDirection {
    /// `log_prob` takes one pass, by definition of the model (MAF).
    Density,
    /// Sampling takes one pass, by definition of the model (IAF).
    Sampling,
    /// Whichever the layers are pointed in: both are equally cheap, or the objective decides.
    Either,
}

/// A standard normal seen through `layers`, which map data to base.
///
/// # Errors
/// [`Error`] where a layer refuses its configuration, or layers do not fit one another.
pub fn build_data_to_base<B: Backend>(
    layers: &[LayerConfig],
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Result<DataToBaseFlow<B>, Error> {
    let options = &options.into();
    let stack = build_stack(layers, options, rng)?;
    let base = DiagonalNormal::standard(stack_dim(&stack), options.clone());
    Flow::data_to_base(stack, base)
}

/// A standard normal pushed through `layers`, which map base to data.
///
/// # Errors
/// As [`build_data_to_base`].
pub fn build_base_to_data<B: Backend>(
    layers: &[LayerConfig],
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Result<BaseToDataFlow<B>, Error> {
    let options = &options.into();
    let stack = build_stack(layers, options, rng)?;
    let base = DiagonalNormal::standard(stack_dim(&stack), options.clone());
    Flow::base_to_data(stack, base)
}

fn build_stack<B: Backend>(
    layers: &[LayerConfig],
    options: &TensorCreationOptions<B>,
    rng: &mut dyn Rng,
) -> Result<Stack<B>, Error> {
    let layers = layers
        .iter()
        .map(|layer| layer.init(options.clone(), rng))
        .collect::<Result<Vec<_>, _>>()?;
    Chain::new(layers)
}

fn stack_dim<B: Backend>(stack: &Stack<B>) -> usize {
    use flows_core::bijector::Bijector;
    stack.dim()
}

/// The models that have a `kind`: one line each.
macro_rules! models {
    ($($(#[$doc:meta])* $variant:ident($config:ty) = $kind:literal,)+) => {
        /// Any model of this crate, as a TOML or JSON table with a `kind`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum ModelConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $variant($config),)+
        }

        $(impl From<$config> for ModelConfig {
            fn from(config: $config) -> Self {
                Self::$variant(config)
            }
        })+

        impl ModelConfig {
            /// Every value of `kind`.
            pub const KINDS: &[&str] = &[$($kind),+];

            /// The value of `kind`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                }
            }

            /// Number of columns of the data.
            pub fn dim(&self) -> usize {
                match self {
                    $(Self::$variant(c) => c.dim,)+
                }
            }

            /// The layers, first to last in their one-pass direction.
            pub fn layers(&self) -> Vec<LayerConfig> {
                match self {
                    $(Self::$variant(c) => c.layers(),)+
                }
            }
        }
    };
}

models! {
    /// Deep diffeomorphic normalizing flow.
    Ddnf(DdnfConfig) = "ddnf",
    /// Continuous normalizing flow.
    Cnf(CnfFlowConfig) = "cnf",
    /// Block neural autoregressive flow.
    Bnaf(BnafFlowConfig) = "bnaf",
    /// Residual flow.
    Residual(ResidualFlowConfig) = "residual",
    /// Planar flow.
    Planar(PlanarFlowConfig) = "planar",
    /// Radial flow.
    Radial(RadialFlowConfig) = "radial",
    /// Sylvester flow.
    Sylvester(SylvesterFlowConfig) = "sylvester",
    /// NICE.
    Nice(NiceConfig) = "nice",
    /// RealNVP.
    RealNvp(RealNvpConfig) = "realnvp",
    /// Masked autoregressive flow.
    Maf(MafConfig) = "maf",
    /// Inverse autoregressive flow.
    Iaf(IafConfig) = "iaf",
    /// Neural spline flow.
    Nsf(NsfConfig) = "nsf",
    /// Neural spline flow by couplings.
    NsfCoupling(NsfCouplingConfig) = "nsf-coupling",
    /// Neural autoregressive flow.
    Naf(NafConfig) = "naf",
    /// Sum-of-squares polynomial flow.
    Sos(SosConfig) = "sos",
    /// Bernstein polynomial flow.
    Bernstein(BernsteinConfig) = "bernstein",
    /// The layers given.
    Stack(StackConfig) = "stack",
}

impl ModelConfig {
    /// The direction the model is built to be fast in.
    pub fn fast_direction(&self) -> FastDirection {
        match self {
            Self::Bnaf(_)
            | Self::Residual(_)
            | Self::Maf(_)
            | Self::Nsf(_)
            | Self::Naf(_)
            | Self::Sos(_)
            | Self::Bernstein(_) => FastDirection::Density,
            Self::Iaf(_) => FastDirection::Sampling,
            _ => FastDirection::Either,
        }
    }

    /// A number of parameters that the model has at least.
    pub fn least_parameters(&self) -> u128 {
        let network = |layers: usize, inputs: usize, hidden: &[usize]| {
            let widths = std::iter::once(inputs.max(1)).chain(hidden.iter().copied());
            let widths: Vec<u128> = widths.map(|w| w as u128).collect();
            let weights = widths.windows(2).fold(1u128, |sum, w| {
                sum.saturating_add(w[0].saturating_mul(w[1]))
            });
            (layers as u128).saturating_mul(weights)
        };
        match self {
            Self::Ddnf(c) => network(c.blocks, c.dim, &c.hidden),
            Self::Cnf(c) => network(c.blocks, c.dim, &c.hidden),
            Self::Residual(c) => network(c.layers, c.dim, &c.hidden),
            Self::Bnaf(c) => {
                let hidden = c.hidden.iter().map(|h| h.saturating_mul(c.dim));
                network(c.layers, c.dim, &hidden.collect::<Vec<_>>())
            }
            Self::Maf(c) => network(c.layers, c.dim, &c.hidden),
            Self::Iaf(c) => network(c.layers, c.dim, &c.hidden),
            Self::Nice(c) => network(c.layers, c.dim / 2, &c.hidden),
            Self::RealNvp(c) => network(c.layers, c.dim / 2, &c.hidden),
            Self::NsfCoupling(c) => network(c.layers, c.dim / 2, &c.hidden),
            Self::Nsf(c) => network(c.layers, c.dim, &c.hidden),
            Self::Naf(c) => network(c.layers, c.dim, &c.hidden),
            Self::Sos(c) => network(c.layers, c.dim, &c.hidden),
            Self::Bernstein(c) => network(c.layers, c.dim, &c.hidden),
            Self::Stack(_) => 0,
            Self::Planar(c) => network(c.layers, 1, &[c.dim]),
            Self::Radial(c) => network(c.layers, 1, &[c.dim]),
            Self::Sylvester(c) => network(c.layers, 1, &[c.dim]),
        }
    }

    /// Whether it takes statistics from the batches of data it is trained on, and so cannot be trained
    /// on its own samples.
    pub fn needs_data(&self) -> bool {
        let layers = self.layers();
        layers
            .iter()
            .any(|l| matches!(l, LayerConfig::BatchNorm(_)))
    }

    /// How the log-determinant is computed, and how the inverse, for the rows of a report.
    pub fn methods(&self) -> (String, String) {
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        match self {
            Self::Ddnf(c) => (c.log_det.label(), c.inverse.label().to_owned()),
            Self::Cnf(c) => {
                let solver = c.evaluation.unwrap_or(c.solver).label();
                (
                    format!("integral of the {}, {solver}", c.trace.label()),
                    solver,
                )
            }
            Self::Residual(c) => (
                c.log_det.label(),
                "exact, fixed point and Newton".to_owned(),
            ),
            Self::Bnaf(_) => text(
                "exact, log-sum-exp of the blocks on the diagonal",
                "incremental, monotone root finds",
            ),
            Self::Planar(_) => text("exact, closed form", "monotone root find"),
            Self::Radial(_) => text("exact, closed form", "closed form"),
            Self::Sylvester(_) => text("exact, closed form", "nested monotone root finds"),
            Self::Nice(_) | Self::RealNvp(_) => text("exact, sum of log-scales", "closed form"),
            Self::NsfCoupling(_) => text("exact, sum of log-slopes", "closed form"),
            Self::Stack(_) => text("exact or as its layers say", "layer by layer"),
            Self::Nsf(_) => text("exact, sum of log-slopes", "incremental, closed form"),
            Self::Naf(_) | Self::Sos(_) | Self::Bernstein(_) => text(
                "exact, sum of log-slopes",
                "incremental, monotone root finds",
            ),
            Self::Maf(_) | Self::Iaf(_) => text("exact, sum of log-scales", "incremental, exact"),
        }
    }
}
