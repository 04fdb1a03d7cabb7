//! The classical Runge-Kutta method.

use super::Tableau;

/// Four stages, of order 4: W. Kutta, *Zeitschrift fur Mathematik und Physik* 46 (1901), 435-453.
pub const RK4: Tableau = Tableau {
    name: "rk4",
    order: 4,
    nodes: &[0.0, 0.5, 0.5, 1.0],
    matrix: &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    weights: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    error: &[],
};
