//! Any layer of this crate, so that a configuration can name a mixed stack.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::chain::Chain;
use super::multi_scale::MultiScale;
use crate::bijectors::{
    ActNorm, ActNormConfig, AnyAutoregressive, AnyRowMap, AutoregressiveConfig, BatchNorm,
    BatchNormConfig, BlockAffine, BlockAffineConfig, Bnaf, BnafConfig, Conditioned,
    ConditionedConfig, ElementwiseAffine, ElementwiseAffineConfig, ElementwiseMap,
    ElementwiseMapConfig, LuLinear, LuLinearConfig, Permutation, PermutationConfig, Planar,
    PlanarConfig, Radial, RadialConfig, Sylvester, SylvesterConfig,
};
use crate::continuous::{AsDdnfBlock, Cnf, CnfConfig, DdnfBlock, DdnfBlockConfig};
use crate::error::Error;

/// An enum of layers, which is a layer, and the enum of their configurations.
///
/// Each line names a variant, the type of the layer and that of its configuration, which implements `Clone`, `Debug`,
/// `PartialEq`, `Serialize`, `Deserialize` and has
/// `init<B: Backend>(&self, options: impl Into<TensorCreationOptions<B>>, rng: &mut dyn Rng) -> Result<Layer<B>, Error>`. The layers
/// implement [`Invert`](crate::bijector::Invert). In a configuration file the variant stands under `layer`, in kebab
/// case. The crate that calls the macro depends on burn, serde and rand.
#[macro_export]
macro_rules! layer_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident;
        $(#[$config_meta:meta])*
        $config_vis:vis enum $config:ident;
        $($(#[$doc:meta])* $variant:ident($layer:ty, $layer_config:ty),)+
    ) => {
        $(#[$meta])*
        #[derive(burn::module::Module, Debug)]
        #[allow(clippy::large_enum_variant)] // a stack holds a handful of layers, whose tensors are elsewhere
        $vis enum $name<B: burn::tensor::backend::Backend> {
            $($(#[$doc])* $variant($layer),)+
        }

        $(#[$config_meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "layer", rename_all = "kebab-case")]
        $config_vis enum $config {
            $($(#[$doc])* $variant($layer_config),)+
        }

        impl $config {
            /// Builds the layer.
            ///
            /// # Errors
            /// That of the layer's own configuration.
            pub fn init<B: burn::tensor::backend::Backend>(
                &self,
                options: impl Into<burn::tensor::TensorCreationOptions<B>>,
                rng: &mut dyn rand::Rng,
            ) -> Result<$name<B>, $crate::error::Error> {
                let options = options.into();
                Ok(match self {
                    $(Self::$variant(config) => $name::$variant(config.init(options.clone(), rng)?),)+
                })
            }
        }

        const _: () = {
            use burn::tensor::{Tensor, backend::Backend};
            use $crate::bijector::{Bijector, Invert, Mapped};
            use $crate::domain::Interval;
            use $crate::error::Error;
            use $crate::visit::{LayerVisit, Task};

            impl<B: Backend> Bijector<B> for $name<B> {
                fn name(&self) -> &'static str {
                    match self { $(Self::$variant(layer) => Bijector::<B>::name(layer),)+ }
                }

                fn concrete(&self) -> &dyn core::any::Any {
                    match self { $(Self::$variant(layer) => Bijector::<B>::concrete(layer),)+ }
                }

                fn dim(&self) -> usize {
                    match self { $(Self::$variant(layer) => Bijector::<B>::dim(layer),)+ }
                }

                fn domain(&self) -> Vec<Interval> {
                    match self { $(Self::$variant(layer) => Bijector::<B>::domain(layer),)+ }
                }

                fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
                    match self { $(Self::$variant(layer) => Bijector::<B>::image(layer, of),)+ }
                }

                fn context_dim(&self) -> usize {
                    match self { $(Self::$variant(layer) => Bijector::<B>::context_dim(layer),)+ }
                }

                fn forward_and_log_det(
                    &self,
                    x: Tensor<B, 2>,
                    context: Option<Tensor<B, 2>>,
                ) -> Mapped<B> {
                    match self { $(Self::$variant(layer) => Bijector::<B>::forward_and_log_det(layer, x, context),)+ }
                }

                fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
                    match self { $(Self::$variant(layer) => Bijector::<B>::forward(layer, x, context),)+ }
                }

                fn adapt(&mut self, task: Task<'_, B>) {
                    match self { $(Self::$variant(layer) => Bijector::<B>::adapt(layer, task),)+ }
                }

                fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
                    match self { $(Self::$variant(layer) => Bijector::<B>::visit_layers(layer, visit),)+ }
                }
            }

            impl<B: Backend> Invert<B> for $name<B> {
                fn inverse_domain(&self) -> Vec<Interval> {
                    match self { $(Self::$variant(layer) => Invert::<B>::inverse_domain(layer),)+ }
                }

                fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
                    match self { $(Self::$variant(layer) => Invert::<B>::inverse_image(layer, of),)+ }
                }

                fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
                    match self { $(Self::$variant(layer) => Invert::<B>::visit_layers_inverse(layer, visit),)+ }
                }

                fn inverse_and_log_det(
                    &self,
                    y: Tensor<B, 2>,
                    context: Option<Tensor<B, 2>>,
                ) -> Mapped<B> {
                    match self { $(Self::$variant(layer) => Invert::<B>::inverse_and_log_det(layer, y, context),)+ }
                }

                fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
                    match self { $(Self::$variant(layer) => Invert::<B>::inverse(layer, y, context),)+ }
                }

                fn inverse_and_passes(
                    &self,
                    y: Tensor<B, 2>,
                    context: Option<Tensor<B, 2>>,
                ) -> (Mapped<B>, usize) {
                    match self { $(Self::$variant(layer) => Invert::<B>::inverse_and_passes(layer, y, context),)+ }
                }
            }
        };
    };
}

layer_enum! {
    /// Any layer of this crate.
    ///
    /// A stack of your own layers needs none of this: [`Chain`](crate::bijectors::Chain) takes any one type,
    /// [`Pair`](super::Pair) any two, and [`layer_enum!`](crate::layer_enum) makes an enum of any list.
    pub enum Layer;
    /// Configuration of any layer, as a table with its kind under `layer`.
    pub enum LayerConfig;

    /// Activation normalization.
    ActNorm(ActNorm<B>, ActNormConfig),
    /// Transform of each variable with parameters from others: couplings, masked autoregressive layers.
    Autoregressive(AnyAutoregressive<B>, AutoregressiveConfig),
    /// Batch normalization.
    BatchNorm(BatchNorm<B>, BatchNormConfig),
    /// Affine map with dense blocks.
    BlockAffine(BlockAffine<B>, BlockAffineConfig),
    /// Block neural autoregressive map.
    Bnaf(Bnaf<B>, BnafConfig),
    /// Continuous flow.
    Cnf(Cnf<B>, CnfConfig),
    /// Map with parameters from the context.
    Conditioned(Conditioned<B, AnyRowMap>, ConditionedConfig),
    /// Block of a deep diffeomorphic flow.
    Ddnf(DdnfBlock<B>, DdnfBlockConfig),
    /// Elementwise affine map.
    ElementwiseAffine(ElementwiseAffine<B>, ElementwiseAffineConfig),
    /// Fixed function of each column.
    ElementwiseMap(ElementwiseMap, ElementwiseMapConfig),
    /// Learned linear map.
    LuLinear(LuLinear<B>, LuLinearConfig),
    /// Stages that let go of some dimensions on the way.
    MultiScale(MultiScale<B, Stack<B>>, MultiScaleConfig),
    /// Fixed permutation.
    Permutation(Permutation<B>, PermutationConfig),
    /// Planar map.
    Planar(Planar<B>, PlanarConfig),
    /// Radial map.
    Radial(Radial<B>, RadialConfig),
    /// Sylvester map.
    Sylvester(Sylvester<B>, SylvesterConfig),
}

/// Layers of any kind, one after the other.
pub type Stack<B> = Chain<B, Layer<B>>;

/// Configuration of a [`MultiScale`] of mixed layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiScaleConfig {
    /// The layers of each stage; the dimension falls from stage to stage.
    pub stages: Vec<Vec<LayerConfig>>,
}

impl MultiScaleConfig {
    /// Stages of the layers given.
    pub fn new(stages: Vec<Vec<LayerConfig>>) -> Self {
        Self { stages }
    }

    /// Builds the layers.
    ///
    /// # Errors
    /// The [`Error`] of a layer's own configuration, and as [`Chain::new`] and [`MultiScale::new`].
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<MultiScale<B, Stack<B>>, Error> {
        let options = options.into();
        let stages = self.stages.iter().map(|layers| {
            let layers = layers.iter().map(|layer| layer.init(options.clone(), rng));
            Chain::new(layers.collect::<Result<Vec<_>, _>>()?)
        });
        MultiScale::new(stages.collect::<Result<Vec<_>, _>>()?)
    }
}

impl LayerConfig {
    /// Columns of the context, 0 for none.
    pub fn context_dim(&self) -> usize {
        match self {
            Self::Autoregressive(c) => c.context_dim,
            Self::BlockAffine(c) => c.context_dim,
            Self::Bnaf(c) => c.context_dim,
            Self::Cnf(c) => c.context_dim,
            Self::Conditioned(c) => c.context_dim,
            Self::Ddnf(c) => c.context_dim,
            Self::MultiScale(c) => {
                let layers = c.stages.iter().flatten();
                layers.map(Self::context_dim).max().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

impl<B: Backend> AsDdnfBlock<B> for Layer<B> {
    fn as_ddnf_block(&self) -> Option<&DdnfBlock<B>> {
        match self {
            Self::Ddnf(block) => Some(block),
            _ => None,
        }
    }
}
