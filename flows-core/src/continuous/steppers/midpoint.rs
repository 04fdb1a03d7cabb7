//! The explicit midpoint method.

use super::Tableau;

/// `z(t + h) = z + h f(z + h/2 f(z, t), t + h/2)`, of order 2.
pub const MIDPOINT: Tableau = Tableau {
    name: "midpoint",
    order: 2,
    nodes: &[0.0, 0.5],
    matrix: &[&[], &[0.5]],
    weights: &[0.0, 1.0],
    error: &[],
};
