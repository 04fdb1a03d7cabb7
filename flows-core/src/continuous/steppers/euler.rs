//! Euler's method.

use super::Tableau;

/// `z(t + h) = z + h f(z, t)`, of order 1.
pub const EULER: Tableau = Tableau {
    name: "euler",
    order: 1,
    nodes: &[0.0],
    matrix: &[&[]],
    weights: &[1.0],
    error: &[],
};
