//! Layers whose parameters a network computes from the context.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::row_map::RowMap;
use super::{ElementwiseAffineConfig, LuLinearConfig, PlanarConfig, RadialConfig, SylvesterConfig};
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::nn::{ConditionerActivation, Parameters, ParametersConfig};

/// A [`RowMap`] with parameters from a network that reads the context.
///
/// With raw parameters `theta = network(context)` of each row, `y = f(x; theta)`. The network starts near the
/// parameters that a layer without context starts with, so the map starts near the identity whatever the context.
#[derive(Module, Debug)]
pub struct Conditioned<B: Backend, M> {
    map: M,
    parameters: Parameters<B>,
}

impl<B: Backend, M: RowMap<B>> Conditioned<B, M> {
    /// A layer with parameters as `parameters` says, usually from a context.
    ///
    /// # Errors
    /// As [`RowMap::start`] and [`ParametersConfig::init`].
    pub fn new(
        map: M,
        parameters: &ParametersConfig,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Self, Error> {
        let parameters = parameters.init(map.start(rng)?, options, rng)?;
        Ok(Self { map, parameters })
    }

    /// The raw parameters of each row of a context.
    pub fn parameters(&self) -> &Parameters<B> {
        &self.parameters
    }

    fn invert(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        match y.dims()[0] {
            0 => (Mapped::volume_preserving(y), 1),
            _ => self.map.inverse(self.parameters.of(context.as_ref()), y),
        }
    }
}

impl<B: Backend, M: RowMap<B>> Bijector<B> for Conditioned<B, M> {
    fn name(&self) -> &'static str {
        self.map.name()
    }

    fn dim(&self) -> usize {
        self.map.dim()
    }

    fn context_dim(&self) -> usize {
        self.parameters.context_dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        match x.dims()[0] {
            0 => Mapped::volume_preserving(x),
            _ => self.map.forward(self.parameters.of(context.as_ref()), x),
        }
    }
}

impl<B: Backend, M: RowMap<B>> Invert<B> for Conditioned<B, M> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.invert(y, context).0
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        self.invert(y, context)
    }
}

/// An enum of [`RowMap`]s, which is one, and its own configuration: a table with one key, such as
/// `map = { planar = { dim = 2 } }`.
macro_rules! row_maps {
    ($($(#[$doc:meta])* $variant:ident($type:ty),)+) => {
        /// Any map of this crate whose parameters may come from a context, so that a configuration can name one.
        #[derive(Module, Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
        pub enum AnyRowMap {
            $($(#[$doc])* $variant($type),)+
        }

        crate::one_key!(AnyRowMap);

        $(impl From<$type> for AnyRowMap {
            fn from(map: $type) -> Self {
                Self::$variant(map)
            }
        })+

        impl<B: Backend> RowMap<B> for AnyRowMap {
            fn name(&self) -> &'static str {
                match self { $(Self::$variant(map) => RowMap::<B>::name(map),)+ }
            }

            fn dim(&self) -> usize {
                match self { $(Self::$variant(map) => RowMap::<B>::dim(map),)+ }
            }

            fn start(&self, rng: &mut dyn Rng) -> Result<Vec<f64>, Error> {
                match self { $(Self::$variant(map) => RowMap::<B>::start(map, rng),)+ }
            }

            fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B> {
                match self { $(Self::$variant(map) => map.forward(raw, x),)+ }
            }

            fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize) {
                match self { $(Self::$variant(map) => map.inverse(raw, y),)+ }
            }
        }
    };
}

row_maps! {
    /// A scale and a shift of each column; behind a normalization, conditional normalization.
    ElementwiseAffine(ElementwiseAffineConfig),
    /// A linear map.
    LuLinear(LuLinearConfig),
    /// A planar map.
    Planar(PlanarConfig),
    /// A radial map.
    Radial(RadialConfig),
    /// A Sylvester map.
    Sylvester(SylvesterConfig),
}

/// Configuration of a [`Conditioned`] layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionedConfig {
    /// The map, with its dimension.
    pub map: AnyRowMap,
    /// Columns of the context, at least 1.
    pub context_dim: usize,
    /// Widths of the hidden layers of the network; none makes it linear.
    #[serde(default = "hidden")]
    pub hidden: Vec<usize>,
    /// Activation of the network.
    #[serde(default)]
    pub activation: ConditionerActivation,
}

fn hidden() -> Vec<usize> {
    vec![32]
}

impl ConditionedConfig {
    /// With a network of one hidden layer of 32.
    pub fn new(map: impl Into<AnyRowMap>, context_dim: usize) -> Self {
        Self {
            map: map.into(),
            context_dim,
            hidden: hidden(),
            activation: ConditionerActivation::default(),
        }
    }

    /// Draws a layer near the identity.
    ///
    /// # Errors
    /// [`Error::Config`] where the map refuses its configuration, for a context without columns, and for widths of 0.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Conditioned<B, AnyRowMap>, Error> {
        let parameters = ParametersConfig::Context {
            context_dim: self.context_dim,
            hidden: self.hidden.clone(),
            activation: self.activation,
        };
        Conditioned::new(self.map.clone(), &parameters, options, rng)
    }
}
