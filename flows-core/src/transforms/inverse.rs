//! Inverses of maps that have none in closed form.

use burn::tensor::{Tensor, backend::Backend};

use super::transform::{Elementwise, Transform};
use crate::magnitude::magnitude;
use crate::solve::without_graph;
use crate::solve::{Evaluation, bracket, epsilon, monotone_root, with_implicit_gradient};

/// The inverse of a transform that has none in closed form, by a root find without a graph, with the gradients of the
/// implicit function in `raw` and `y`.
///
/// The root is bracketed by doubling the distance from `y`. A map calls it as its own [`Transform::inverse`]; its slope must
/// not underflow.
///
/// # Shapes
/// As in [`Transform::inverse`].
pub fn monotone_inverse<B: Backend, T: Transform<B>>(
    map: &T,
    raw: Tensor<B, 3>,
    y: Tensor<B, 2>,
) -> Elementwise<B> {
    let fixed = without_graph(raw.clone());
    let constant = |x| map.forward(fixed.clone(), x);
    let f = |x| map.forward(raw.clone(), x);
    let target = without_graph(y.clone());
    let epsilon = epsilon(y.dtype());
    let (low, high) = bracket(|x| constant(x).value, &target);
    let evaluation = |x: Tensor<B, 2>| {
        let at = constant(x.clone());
        let slope = at.log_slope.exp();
        // The value is a sum of parts of the order of 1 at least, and the slope passes on the rounding of the point.
        let size = magnitude(at.value.clone()) + magnitude(target.clone()) + 1.0;
        let rounding = (size + magnitude(x) * slope.clone()) * epsilon;
        Evaluation {
            value: at.value - target.clone(),
            slope,
            rounding,
        }
    };
    let x = monotone_root(evaluation, low, high).x;
    let slope = constant(x.clone()).log_slope.exp();
    let above = f(x.clone()).value - y;
    let value = with_implicit_gradient(x, above, slope);
    Elementwise {
        log_slope: f(value.clone()).log_slope.neg(),
        value,
    }
}
