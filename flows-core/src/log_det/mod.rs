//! Log-determinants of `I + B`, where `B` is the Jacobian of a velocity field times a step size.
//!
//! One method a file. All of them are differentiable in the parameters of the field and in the
//! points, by first-order automatic differentiation.

pub mod elimination;
mod exact;
pub mod small;
mod spectral_radius;
mod taylor;

pub(crate) use exact::identity_plus;
pub use exact::{log_abs_det, solve_identity_plus};
pub use spectral_radius::spectral_radius;

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::nn::Linearization;

/// How `log |det(I + B)|` is computed.
///
/// In a configuration file: `log_det = "exact"` or `log_det = { taylor = { order = 2 } }`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LogDet {
    /// The determinant itself, by the cheapest closed form: of the `dim x dim` matrix, or, by
    /// Sylvester's theorem `det(I + U V) = det(I + V U)`, of the square matrix of the narrowest
    /// hidden layer. Sizes 1 and 2 have formulas; larger ones are eliminated with partial pivoting.
    #[default]
    Exact,
    /// The truncated series `sum_{n=1}^{order} (-1)^{n+1} tr(B^n) / n` with exact traces.
    ///
    /// Its error against [`Exact`](Self::Exact) is `O(rho^{order+1})`, with `rho` the spectral
    /// radius of `B`, and falls as `1 / T^order` for the sum over `T` steps of size `1 / T`.
    /// **For `rho >= 1` the series diverges**, without a sign of it in the value.
    ///
    /// The paper's equation (15) is order 2 with estimated traces (arXiv:1810.03256).
    Taylor {
        /// Number of terms, at least 1.
        order: usize,
    },
}

impl LogDet {
    /// A short name for reports, such as `"exact"` or `"taylor(2)"`.
    pub fn label(&self) -> String {
        match self {
            Self::Exact => "exact".to_owned(),
            Self::Taylor { order } => format!("taylor({order})"),
        }
    }

    /// Checks the numbers of the configuration, for a layer called `layer`.
    ///
    /// # Errors
    /// [`Error::Config`] for a series without terms.
    pub fn validate(&self, layer: &'static str) -> Result<(), Error> {
        match self {
            Self::Taylor { order: 0 } => {
                Err(Error::config(layer, "log_det.order", 0, "at least 1 term"))
            }
            _ => Ok(()),
        }
    }

    /// `log |det(I + B)|`, or its approximation, at each point of `b`.
    ///
    /// # Shapes
    /// - output `[n]`, in nats
    pub fn log_det<B: Backend>(&self, b: &Linearization<'_, B>) -> Tensor<B, 1> {
        match self {
            Self::Exact => exact::log_det(b),
            Self::Taylor { order } => taylor::log_det(b, *order),
        }
    }
}
