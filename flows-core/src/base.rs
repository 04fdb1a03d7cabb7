//! Any base distribution of this crate, so that a configuration can name one.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijectors::{Chain, LayerConfig, Stack};
use crate::distributions::{
    Covariance, DiagonalNormal, Mixture, Normal, NormalConfig, NormalMixture, NormalMixtureConfig,
    Parametric, StandardNormalConfig, StudentT, StudentTConfig, TorusConfig, Uniform,
    UniformConfig,
};
use crate::error::Error;
use crate::flow::{DataToBase, Flow};
use crate::nn::ParametersConfig;

/// An enum of distributions, which is a distribution, and the enum of their configurations: a name, or a table with
/// one key, such as `base = "torus"` and `base = { student_t = { degrees = 3.0 } }`.
///
/// Each line names a variant, the type of the distribution, and that of its configuration, which implements `Clone`,
/// `Debug`, `PartialEq`, `Serialize`, `Deserialize` and has
/// `init<B: Backend>(&self, dim: usize, options: impl Into<TensorCreationOptions<B>>, rng: &mut dyn Rng) -> Result<Type<B>, Error>`.
/// The crate that calls the macro depends on burn, serde and rand.
///
/// The enum prints what its variant prints, so a state tells distributions apart by themselves.
#[macro_export]
macro_rules! base_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident;
        $(#[$config_meta:meta])*
        $config_vis:vis enum $config:ident;
        $($(#[$doc:meta])* $variant:ident($type:ty, $type_config:ty),)+
    ) => {
        $(#[$meta])*
        #[derive(burn::module::Module, Debug)]
        #[module(custom_display)]
        $vis enum $name<B: burn::tensor::backend::Backend> {
            $($(#[$doc])* $variant($type),)+
        }

        $(#[$config_meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
        $config_vis enum $config {
            $($(#[$doc])* $variant($type_config),)+
        }

        $crate::one_key!($config);

        impl $config {
            /// Builds the distribution in `dim` dimensions.
            ///
            /// # Errors
            /// That of the distribution's own configuration.
            pub fn init<B: burn::tensor::backend::Backend>(
                &self,
                dim: usize,
                options: impl Into<burn::tensor::TensorCreationOptions<B>>,
                rng: &mut dyn rand::Rng,
            ) -> Result<$name<B>, $crate::error::Error> {
                let options = options.into();
                Ok(match self {
                    $(Self::$variant(config) => $name::$variant(config.init(dim, options, rng)?),)+
                })
            }
        }

        const _: () = {
            use burn::module::{DisplaySettings, ModuleDisplay};
            use burn::tensor::{Tensor, backend::Backend};
            use $crate::distributions::{LogProb, Sample};
            use $crate::domain::Interval;
            use $crate::visit::LayerVisit;

            impl<B: Backend> ModuleDisplay for $name<B> {
                fn format(&self, settings: DisplaySettings) -> String {
                    match self { $(Self::$variant(own) => own.format(settings),)+ }
                }
            }

            impl<B: Backend> LogProb<B> for $name<B> {
                fn dim(&self) -> usize {
                    match self { $(Self::$variant(own) => LogProb::<B>::dim(own),)+ }
                }

                fn context_dim(&self) -> usize {
                    match self { $(Self::$variant(own) => LogProb::<B>::context_dim(own),)+ }
                }

                fn support(&self) -> Vec<Interval> {
                    match self { $(Self::$variant(own) => LogProb::<B>::support(own),)+ }
                }

                fn log_prob(
                    &self,
                    x: Tensor<B, 2>,
                    context: Option<Tensor<B, 2>>,
                ) -> Tensor<B, 1> {
                    match self { $(Self::$variant(own) => own.log_prob(x, context),)+ }
                }

                fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
                    match self { $(Self::$variant(own) => own.visit_layers(visit),)+ }
                }
            }

            impl<B: Backend> Sample<B> for $name<B> {
                fn sample(
                    &self,
                    n: usize,
                    context: Option<Tensor<B, 2>>,
                    rng: &mut dyn rand::Rng,
                ) -> Tensor<B, 2> {
                    match self { $(Self::$variant(own) => own.sample(n, context, rng),)+ }
                }

                fn sample_and_log_prob(
                    &self,
                    n: usize,
                    context: Option<Tensor<B, 2>>,
                    rng: &mut dyn rand::Rng,
                ) -> (Tensor<B, 2>, Tensor<B, 1>) {
                    match self {
                        $(Self::$variant(own) => own.sample_and_log_prob(n, context, rng),)+
                    }
                }
            }
        };
    };
}

base_enum! {
    /// Any base distribution of this crate.
    pub enum AnyBase;
    /// Configuration of any base distribution; by default the standard normal. Nothing in it is trained unless it
    /// says so.
    pub enum BaseConfig;

    /// `N(0, I)`.
    StandardNormal(DiagonalNormal<B>, StandardNormalConfig),
    /// A normal distribution with a diagonal or a full covariance.
    Normal(Parametric<B, Normal>, NormalConfig),
    /// Student's t distribution of each column.
    StudentT(Parametric<B, StudentT>, StudentTConfig),
    /// A mixture of normal distributions with diagonal covariances.
    NormalMixture(Parametric<B, NormalMixture>, NormalMixtureConfig),
    /// Uniform on a box.
    Uniform(Uniform<B>, UniformConfig),
    /// Uniform over angles.
    Torus(Uniform<B>, TorusConfig),
    /// A mixture of flows.
    Flows(Mixture<B, Component<B>>, FlowsConfig),
}

impl Default for BaseConfig {
    fn default() -> Self {
        Self::StandardNormal(StandardNormalConfig::default())
    }
}

impl BaseConfig {
    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        match self {
            Self::StandardNormal(_) | Self::Uniform(_) | Self::Torus(_) => 0,
            Self::Normal(c) => c.parameters.context_dim(),
            Self::StudentT(c) => c.parameters.context_dim(),
            Self::NormalMixture(c) => c.parameters.context_dim(),
            Self::Flows(c) => {
                let layers = c.layers.iter().map(LayerConfig::context_dim).max();
                layers.unwrap_or(0).max(c.weights.context_dim())
            }
        }
    }
}

/// Most flows that a configuration may ask for.
const MOST_COMPONENTS: usize = 1000;

/// A flow in a mixture: layers that map data to a normal distribution with a location of its own.
pub type Component<B> = Flow<B, Stack<B>, Parametric<B, Normal>, DataToBase>;

/// Configuration of a mixture of flows with the same layers, each with parameters of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowsConfig {
    /// Number of flows.
    #[serde(default = "components")]
    pub components: usize,
    /// The layers of each flow from data to base, each a table with its kind under `layer`. They are trained as in
    /// any flow.
    pub layers: Vec<LayerConfig>,
    /// Standard deviation around 0 of the locations of the normal distributions that the flows lead to. They stay
    /// where they start, and keep the flows apart.
    #[serde(default = "spread")]
    pub spread: f64,
    /// Whether the weights are fixed and equal, trained, or given by a context.
    #[serde(default)]
    pub weights: ParametersConfig,
}

fn components() -> usize {
    4
}

fn spread() -> f64 {
    1.0
}

impl FlowsConfig {
    /// Four flows of these layers.
    pub fn new(layers: Vec<LayerConfig>) -> Self {
        Self {
            components: components(),
            layers,
            spread: spread(),
            weights: ParametersConfig::default(),
        }
    }

    /// The distribution in `dim` dimensions.
    ///
    /// # Errors
    /// [`Error`] where a number is out of range, a layer refuses its configuration, or layers do not fit one another.
    pub fn init<B: Backend>(
        &self,
        dim: usize,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Mixture<B, Component<B>>, Error> {
        let options = &options.into();
        if !(1..=MOST_COMPONENTS).contains(&self.components) {
            let expected = format!("1 to {MOST_COMPONENTS}");
            return Err(Error::config(
                "flows",
                "components",
                self.components,
                expected,
            ));
        }
        let mut flows = Vec::with_capacity(self.components);
        for _ in 0..self.components {
            let layers = self.layers.iter().map(|l| l.init(options.clone(), rng));
            let layers = Chain::new(layers.collect::<Result<_, _>>()?)?;
            let base = Normal::new(dim, Covariance::Diagonal)?.scattered(self.spread)?;
            let base = Parametric::new(base, &ParametersConfig::Fixed, options.clone(), rng)?;
            flows.push(Flow::data_to_base(layers, base)?);
        }
        Mixture::new(flows, &self.weights, options.clone(), rng)
    }
}
