//! Whether the fields of a fitted model are too stiff for their number of steps.

use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijectors::{Layer, stability};
use serde::{Deserialize, Serialize};

/// What was seen of the blocks of a model along the paths of test points, over all blocks, cells and
/// points. `B = J_v(z_t) / T` is the Jacobian of a step less the identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stability {
    /// Largest spectral radius `rho(B)`; `None` where one is not a number.
    pub max_rho: Option<f64>,
    /// Matrices `B` with `rho(B) >= 1`, where a truncated series diverges.
    pub rho_at_least_one: usize,
    /// Determinants `det(I + B)` that are not positive: steps that are no diffeomorphism.
    pub non_positive_determinants: usize,
    /// Matrices looked at.
    pub evaluations: usize,
    /// A line for each block that is too stiff, with its number and its `rho`.
    pub warnings: Vec<String>,
}

/// Measures the DDNF blocks among `layers` on points at the start of their forward direction; `None`
/// where there is no block.
///
/// # Shapes
/// - `start`: `[n, dim]`
pub fn measure_stability<B: Backend>(
    layers: &[Layer<B>],
    start: Tensor<B, 2>,
) -> Option<Stability> {
    let blocks = stability(layers, start, None);
    let all = blocks.iter().map(|block| block.report);
    let all = all.reduce(|all, report| all.merge(report))?;
    Some(Stability {
        max_rho: all.max_rho.is_finite().then_some(all.max_rho),
        rho_at_least_one: all.rho_at_least_one,
        non_positive_determinants: all.non_positive_determinants,
        evaluations: all.evaluations,
        warnings: blocks.iter().filter_map(|block| block.warning()).collect(),
    })
}
