//! Monotone maps of one variable, one a file, whose parameters a conditioner computes.
//!
//! A [`Transform`] knows nothing about networks, masks or other variables: in an
//! [`Autoregressive`](crate::bijectors::Autoregressive) layer it works with every
//! [`Conditioner`](crate::conditioners::Conditioner), in both directions. How to add one: `docs/own-transform.md`.

mod affine;
mod any;
mod bernstein;
mod circular_spline;
pub(crate) mod hyperbolic;
mod inverse;
mod quadrature;
mod rq_spline;
mod sigmoidal;
mod simplex;
mod sinh_arcsinh;
mod sum_of_squares;
mod transform;
mod umnn;

pub use affine::{Affine, LogScale};
pub(crate) use affine::{EXP_LIMIT, GATE_LIMIT};
pub use any::AnyTransform;
pub use bernstein::Bernstein;
pub use circular_spline::CircularSpline;
pub use inverse::monotone_inverse;
pub use rq_spline::{RqSpline, SplineForm};
pub use sigmoidal::DeepSigmoidal;
pub use sinh_arcsinh::SinhArcsinh;
pub use sum_of_squares::SumOfSquares;
pub use transform::{Elementwise, Transform, parameter, parameter_block};
pub use umnn::Umnn;
