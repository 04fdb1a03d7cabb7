//! Any transform of this crate.

use super::{
    Affine, Bernstein, CircularSpline, DeepSigmoidal, LogScale, RqSpline, SinhArcsinh,
    SumOfSquares, Umnn,
};

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

            fn domain(&self) -> $crate::domain::Interval {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::domain(t),)+
                }
            }

            fn period(&self) -> Option<f64> {
                match self {
                    $(Self::$variant(t) => $crate::transforms::Transform::<B>::period(t),)+
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
        /// A rational-quadratic spline of angles, with a rotation.
        CircularSpline(CircularSpline),
        /// A weighted sum of sigmoids, seen through `logit`.
        DeepSigmoidal(DeepSigmoidal),
        /// A polynomial whose derivative is a sum of squares.
        SumOfSquares(SumOfSquares),
        /// A Bernstein polynomial.
        Bernstein(Bernstein),
        /// The integral of a positive network.
        Umnn(Umnn),
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
