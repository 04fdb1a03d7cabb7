//! What all models have in common, and the one type that holds any of them.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use flows_core::base::{AnyBase, BaseConfig};
use flows_core::bijector::Bijector;
use flows_core::bijectors::{Chain, LayerConfig, Stack};
use flows_core::distributions::LogProb;
use flows_core::domain::Interval;
use flows_core::error::Error;
use flows_core::flow::{BaseToData, DataToBase, Flow};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{
    BernsteinConfig, BnafFlowConfig, CnfFlowConfig, CouplingFlowConfig, DdnfConfig, IafConfig,
    MafConfig, MaskedFlowConfig, MultiScaleRealNvpConfig, NafConfig, NamedTransform, NcsfConfig,
    NiceConfig, NsfConfig, NsfCouplingConfig, PlanarFlowConfig, RadialFlowConfig, RealNvpConfig,
    ResidualFlowConfig, SosConfig, StackConfig, SylvesterFlowConfig, UmnnConfig,
};

/// A flow whose layers map data to its base: its `log_prob` takes one pass.
pub type DataToBaseFlow<B> = Flow<B, Stack<B>, AnyBase<B>, DataToBase>;

/// A flow whose layers map its base to data: its samples take one pass.
pub type BaseToDataFlow<B> = Flow<B, Stack<B>, AnyBase<B>, BaseToData>;

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
    data_to_base(layers, &BaseConfig::default(), options, rng)
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
    base_to_data(layers, &BaseConfig::default(), options, rng)
}

fn data_to_base<B: Backend>(
    layers: &[LayerConfig],
    base: &BaseConfig,
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Result<DataToBaseFlow<B>, Error> {
    let (stack, base) = parts(layers, base, &options.into(), rng)?;
    Flow::data_to_base(stack, base)
}

fn base_to_data<B: Backend>(
    layers: &[LayerConfig],
    base: &BaseConfig,
    options: impl Into<TensorCreationOptions<B>>,
    rng: &mut dyn Rng,
) -> Result<BaseToDataFlow<B>, Error> {
    let (stack, base) = parts(layers, base, &options.into(), rng)?;
    Flow::base_to_data(stack, base)
}

/// The layers, then the base, so that a base that draws nothing leaves the layers as they are.
fn parts<B: Backend>(
    layers: &[LayerConfig],
    base: &BaseConfig,
    options: &TensorCreationOptions<B>,
    rng: &mut dyn Rng,
) -> Result<(Stack<B>, AnyBase<B>), Error> {
    let layers = layers.iter().map(|layer| layer.init(options.clone(), rng));
    let stack = Chain::new(layers.collect::<Result<Vec<_>, _>>()?)?;
    let base = base.init(stack.dim(), options.clone(), rng)?;
    // Data of an interval that no part of the base is led to would have no density.
    let image = stack.image(&stack.domain())?;
    let support = base.support();
    let bounded = |of: &Interval| of.low.is_finite() && of.high.is_finite();
    let differ = |i: &usize| bounded(&image[*i]) && image[*i] != support[*i];
    if let Some(column) = (0..image.len()).find(differ) {
        let actual = format!("{} in column {}", support[column], column + 1);
        let expected = format!("{}, where the layers lead", image[column]);
        return Err(Error::config("base", "support", actual, expected));
    }
    Ok((stack, base))
}

/// `init` of configurations that have `layers()` and a `base`.
macro_rules! flows {
    ($function:ident gives $flow:ident, $doc:literal: $($({$($generics:tt)+})? $config:ty,)+) => {
        $(impl $(<$($generics)+>)? $config {
            #[doc = $doc]
            ///
            /// # Errors
            /// [`Error`] where a layer or the base refuses its configuration, or they do not fit one another.
            pub fn init<B: Backend>(
                &self,
                options: impl Into<TensorCreationOptions<B>>,
                rng: &mut dyn Rng,
            ) -> Result<$flow<B>, Error> {
                $function(&self.layers(), &self.base, options, rng)
            }
        })+
    };
}

flows! {
    data_to_base gives DataToBaseFlow, "The flow whose layers map data to the base.":
    BnafFlowConfig,
    CnfFlowConfig,
    {T: NamedTransform} CouplingFlowConfig<T>,
    {T: NamedTransform} MaskedFlowConfig<T>,
    MultiScaleRealNvpConfig,
    NiceConfig,
    ResidualFlowConfig,
    StackConfig,
}

flows! {
    base_to_data gives BaseToDataFlow, "The flow whose layers map the base to data.":
    DdnfConfig,
    IafConfig,
    PlanarFlowConfig,
    RadialFlowConfig,
    SylvesterFlowConfig,
}

/// Whether it is left out of a file, which then means the same to a program without it.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

            /// The base distribution.
            pub fn base(&self) -> &BaseConfig {
                match self {
                    $(Self::$variant(c) => &c.base,)+
                }
            }

            /// The base distribution, to choose another.
            pub fn base_mut(&mut self) -> &mut BaseConfig {
                match self {
                    $(Self::$variant(c) => &mut c.base,)+
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
    /// RealNVP that lets go of half of the variables at each scale.
    MultiScale(MultiScaleRealNvpConfig) = "multi-scale",
    /// Masked autoregressive flow.
    Maf(MafConfig) = "maf",
    /// Inverse autoregressive flow.
    Iaf(IafConfig) = "iaf",
    /// Neural spline flow.
    Nsf(NsfConfig) = "nsf",
    /// Neural spline flow by couplings.
    NsfCoupling(NsfCouplingConfig) = "nsf-coupling",
    /// Neural circular spline flow.
    Ncsf(NcsfConfig) = "ncsf",
    /// Neural autoregressive flow.
    Naf(NafConfig) = "naf",
    /// Sum-of-squares polynomial flow.
    Sos(SosConfig) = "sos",
    /// Bernstein polynomial flow.
    Bernstein(BernsteinConfig) = "bernstein",
    /// Flow of unconstrained monotonic neural networks.
    Umnn(UmnnConfig) = "umnn",
    /// The layers given.
    Stack(StackConfig) = "stack",
}

impl ModelConfig {
    /// The base seen through the layers, which map data to it.
    ///
    /// # Errors
    /// [`Error`] where a layer or the base refuses its configuration, or they do not fit one another.
    pub fn init_data_to_base<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<DataToBaseFlow<B>, Error> {
        data_to_base(&self.layers(), self.base(), options, rng)
    }

    /// The base pushed through the layers, which map it to data.
    ///
    /// # Errors
    /// As [`init_data_to_base`](Self::init_data_to_base).
    pub fn init_base_to_data<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<BaseToDataFlow<B>, Error> {
        base_to_data(&self.layers(), self.base(), options, rng)
    }

    /// The direction the model is built to be fast in.
    pub fn fast_direction(&self) -> FastDirection {
        match self {
            Self::Maf(_) => FastDirection::Density,
            Self::Iaf(_) => FastDirection::Sampling,
            _ => FastDirection::Either,
        }
    }

    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        let of_layers = match self {
            Self::Ddnf(c) => c.context_dim,
            Self::Cnf(c) => c.context_dim,
            Self::Bnaf(c) => c.context_dim,
            Self::Residual(c) => c.context_dim,
            Self::Planar(c) => c.context_dim,
            Self::Radial(c) => c.context_dim,
            Self::Sylvester(c) => c.context_dim,
            Self::Maf(c) => c.context_dim,
            Self::Iaf(c) => c.context_dim,
            Self::Nice(c) => c.context_dim,
            Self::RealNvp(c) => c.context_dim,
            Self::MultiScale(c) => c.context_dim,
            Self::Nsf(c) => c.context_dim,
            Self::NsfCoupling(c) => c.context_dim,
            Self::Ncsf(c) => c.context_dim,
            Self::Naf(c) => c.context_dim,
            Self::Sos(c) => c.context_dim,
            Self::Bernstein(c) => c.context_dim,
            Self::Umnn(c) => c.context_dim,
            Self::Stack(c) => {
                let of_layers = c.layers.iter().map(LayerConfig::context_dim);
                of_layers.max().unwrap_or(0)
            }
        };
        of_layers.max(self.base().context_dim())
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
            Self::MultiScale(c) => network(c.layers, c.dim / 2, &c.hidden),
            Self::NsfCoupling(c) => network(c.layers, c.dim / 2, &c.hidden),
            Self::Ncsf(c) => network(c.layers, c.dim / 2, &c.hidden),
            Self::Nsf(c) => network(c.layers, c.dim, &c.hidden),
            Self::Naf(c) => network(c.layers, c.dim, &c.hidden),
            Self::Sos(c) => network(c.layers, c.dim, &c.hidden),
            Self::Bernstein(c) => network(c.layers, c.dim, &c.hidden),
            Self::Umnn(c) => network(c.layers, c.dim, &c.hidden),
            Self::Stack(_) => 0,
            Self::Planar(c) => network(c.layers, 1, &[c.dim]),
            Self::Radial(c) => network(c.layers, 1, &[c.dim]),
            Self::Sylvester(c) => network(c.layers, 1, &[c.dim]),
        }
    }

    /// Whether it takes statistics from the batches of data it is trained on, and so cannot be trained
    /// on its own samples.
    pub fn needs_data(&self) -> bool {
        fn takes_statistics(layer: &LayerConfig) -> bool {
            match layer {
                LayerConfig::BatchNorm(_) => true,
                LayerConfig::MultiScale(c) => c.stages.iter().flatten().any(takes_statistics),
                _ => false,
            }
        }
        self.layers().iter().any(takes_statistics)
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
            Self::Nice(_) | Self::RealNvp(_) | Self::MultiScale(_) => {
                text("exact, sum of log-scales", "closed form")
            }
            Self::NsfCoupling(_) | Self::Ncsf(_) => text("exact, sum of log-slopes", "closed form"),
            Self::Stack(_) => text("exact or as its layers say", "layer by layer"),
            Self::Nsf(_) => text("exact, sum of log-slopes", "incremental, closed form"),
            Self::Umnn(_) => text(
                "log of the integrand, that of the quadrature within 1e-8 in f64",
                "incremental, monotone root finds",
            ),
            Self::Naf(_) | Self::Sos(_) | Self::Bernstein(_) => text(
                "exact, sum of log-slopes",
                "incremental, monotone root finds",
            ),
            Self::Maf(_) | Self::Iaf(_) => text("exact, sum of log-scales", "incremental, exact"),
        }
    }
}
