//! Monotone maps of one variable, one a file, whose parameters a conditioner computes.
//!
//! A [`Transform`] knows nothing about networks, masks or other variables: in an
//! [`Autoregressive`](crate::bijectors::Autoregressive) layer it works with every
//! [`Conditioner`](crate::conditioners::Conditioner), in both directions. How to add one: `docs/own-transform.md`.

mod affine;
mod bernstein;
mod inverse;
mod quadrature;
mod rq_spline;
mod sigmoidal;
mod simplex;
mod sinh_arcsinh;
mod sum_of_squares;

pub use affine::{Affine, LogScale};
pub(crate) use affine::{EXP_LIMIT, GATE_LIMIT};
pub use bernstein::Bernstein;
pub use inverse::monotone_inverse;
pub use rq_spline::{RqSpline, SplineForm};
pub use sigmoidal::DeepSigmoidal;
pub use sinh_arcsinh::SinhArcsinh;
pub use sum_of_squares::SumOfSquares;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

use crate::bijector::Mapped;
use crate::error::Error;
use crate::solve::without_graph;

/// What a transform gives back, variable by variable.
#[derive(Debug, Clone)]
pub struct Elementwise<B: Backend> {
    /// Mapped variables, `[batch, k]`.
    pub value: Tensor<B, 2>,
    /// Logarithm of the slope of the direction called, in nats, `[batch, k]`.
    pub log_slope: Tensor<B, 2>,
}

impl<B: Backend> Elementwise<B> {
    /// The map of the `k` variables together: its log-determinant is the sum of their log-slopes.
    pub fn into_mapped(self) -> Mapped<B> {
        Mapped {
            value: self.value,
            log_det: self.log_slope.sum_dim(1).squeeze_dim(1),
        }
    }
}

/// A monotone map `y = f(x; theta)` of one variable, with its parameters `theta` as raw numbers from a network.
///
/// It has to be monotone, onto the reals, and finite for any finite raw parameters. A transform is a module, since
/// some own weights; one without any derives it, and holds its configuration in fields marked `#[module(skip)]`,
/// so that a saved model can tell it from others.
pub trait Transform<B: Backend>: Module<B> + ModuleDisplay + 'static {
    /// Raw parameters of each variable, at least 1.
    fn parameters(&self) -> usize;

    /// The raw parameters at which a new layer starts, one number each: those of a map near the identity.
    fn identity(&self) -> Vec<f64>;

    /// `y = f(x)` and `log f'(x)`.
    ///
    /// # Shapes
    /// - `raw`: `[batch, parameters, k]`, see [`parameter`]; `x`, value and log-slope: `[batch, k]`
    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B>;

    /// `x` with `f(x) = y`, and the log-slope of the inverse, `-log f'(x)`.
    ///
    /// # Shapes
    /// As in [`forward`](Self::forward).
    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B>;

    /// Checks the configuration.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field, for `layer`.
    fn validate(&self, _layer: &'static str) -> Result<(), Error> {
        Ok(())
    }
}

/// Raw parameter `p` of every variable.
///
/// # Shapes
/// - `raw`: `[batch, parameters, k]`; output `[batch, k]`
pub fn parameter<B: Backend>(raw: &Tensor<B, 3>, p: usize) -> Tensor<B, 2> {
    let [rows, _, k] = raw.dims();
    raw.clone()
        .slice([0..rows, p..p + 1, 0..k])
        .reshape([rows, k])
}

/// Raw parameters `from`, `from + 1`, and so on, `count` of them, of every variable.
///
/// # Shapes
/// - `raw`: `[batch, parameters, k]`; output `[batch, count, k]`
pub fn parameter_block<B: Backend>(raw: &Tensor<B, 3>, from: usize, count: usize) -> Tensor<B, 3> {
    let [rows, _, k] = raw.dims();
    raw.clone().slice([0..rows, from..from + count, 0..k])
}

/// An enum of transforms, which is a transform and its own configuration: a name, or a table with one key, such as
/// `transform = "affine"` and `transform = { affine = { scale = "exp" } }`.
///
/// Each transform in the list implements `Clone`, `Debug`, `PartialEq`, `Default`, `Serialize` and `Deserialize`
/// with defaults for all fields. The crate that calls the macro depends on burn and serde.
#[macro_export]
macro_rules! transform_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$doc:meta])* $variant:ident($type:ty),)+
        }
    ) => {
        $(#[$meta])*
        #[derive(burn::module::Module, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
        $vis enum $name {
            $($(#[$doc])* $variant($type),)+
        }

        $crate::one_key!($name);

        impl<B: burn::tensor::backend::Backend> $crate::transforms::Transform<B> for $name {
            fn parameters(&self) -> usize {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::parameters(t),)+
                }
            }

            fn identity(&self) -> Vec<f64> {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::identity(t),)+
                }
            }

            fn forward(
                &self,
                raw: burn::tensor::Tensor<B, 3>,
                x: burn::tensor::Tensor<B, 2>,
            ) -> $crate::transforms::Elementwise<B> {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::forward(t, raw, x),)+
                }
            }

            fn inverse(
                &self,
                raw: burn::tensor::Tensor<B, 3>,
                y: burn::tensor::Tensor<B, 2>,
            ) -> $crate::transforms::Elementwise<B> {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::inverse(t, raw, y),)+
                }
            }

            fn validate(&self, layer: &'static str) -> Result<(), $crate::error::Error> {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::validate(t, layer),)+
                }
            }
        }

        $(
            impl From<$type> for $name {
                fn from(transform: $type) -> Self {
                    Self::$variant(transform)
                }
            }
        )+
    };
}

transform_enum! {
    /// Any transform of this crate, so that a configuration can name one. A line here adds one.
    pub enum AnyTransform {
        /// `y = x exp(a) + t`.
        Affine(Affine),
        /// `y = sinh((arcsinh(x) + a) exp(b))`.
        SinhArcsinh(SinhArcsinh),
        /// A rational-quadratic spline.
        RqSpline(RqSpline),
        /// A weighted sum of sigmoids, seen through `logit`.
        DeepSigmoidal(DeepSigmoidal),
        /// A polynomial whose derivative is a sum of squares.
        SumOfSquares(SumOfSquares),
        /// A Bernstein polynomial.
        Bernstein(Bernstein),
    }
}

impl Default for AnyTransform {
    fn default() -> Self {
        Self::Affine(Affine::default())
    }
}

impl From<LogScale> for AnyTransform {
    fn from(scale: LogScale) -> Self {
        Self::Affine(Affine { scale })
    }
}
