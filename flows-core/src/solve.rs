//! Roots of increasing functions of one variable, many at a time.
//!
//! Inverses of planar and Sylvester layers come down to `x + a tanh(k x + s) = c`. The root is found
//! without a graph, then one differentiable Newton step from it gives the gradients of the implicit
//! function theorem: no iteration is ever differentiated through.

use burn::tensor::{Bool, DType, Tensor, backend::Backend};

use crate::magnitude::magnitude;

/// A function at a point, as [`monotone_root`] needs it.
#[derive(Debug, Clone)]
pub struct Evaluation<B: Backend> {
    /// `f(x)`.
    pub value: Tensor<B, 2>,
    /// `f'(x)`, at least 0.
    pub slope: Tensor<B, 2>,
    /// Bound on the rounding error of `value`: below it, its sign means nothing.
    pub rounding: Tensor<B, 2>,
}

/// Roots, and what they cost.
#[derive(Debug, Clone)]
pub struct Root<B: Backend> {
    /// The root of each element.
    pub x: Tensor<B, 2>,
    /// Evaluations of the function, the same for all elements.
    pub iterations: usize,
}

/// No f64 root needs more: each round either halves the step or halves the bracket.
const MAX_ITERATIONS: usize = 200;

/// The root of an increasing function in a bracket, for each element of a tensor on its own.
///
/// Newton's method, safeguarded: a step that leaves the bracket, or is not half as long as the one
/// before, is replaced by bisection (Press et al., *Numerical Recipes*, section 9.4). It ends when
/// every element's value is within its rounding error, or its step within that of `x`; an element
/// whose value is NaN ends at once and stays NaN.
///
/// Gradients do not flow through the result; it is detached.
///
/// # Shapes
/// - `low`, `high`: equal shapes, with `f(low) <= 0 <= f(high)`; `f` keeps the shape
pub fn monotone_root<B: Backend>(
    f: impl Fn(Tensor<B, 2>) -> Evaluation<B>,
    low: Tensor<B, 2>,
    high: Tensor<B, 2>,
) -> Root<B> {
    let (mut low, mut high) = (without_graph(low), without_graph(high));
    let epsilon = epsilon(low.dtype());
    let mut x = (low.clone() + high.clone()) * 0.5;
    let mut done = x.clone().is_nan();
    let mut last_step = high.clone() - low.clone();
    for iterations in 1..=MAX_ITERATIONS {
        let at = f(x.clone());
        let above = at.value.clone().greater_elem(0.0);
        high = high.mask_where(above.clone(), x.clone());
        low = low.mask_where(above.bool_not(), x.clone());

        let newton = at.value.clone() / at.slope;
        let candidate = x.clone() - newton.clone();
        let inside = candidate
            .clone()
            .greater_equal(low.clone())
            .bool_and(candidate.clone().lower_equal(high.clone()));
        let shrinking = magnitude(newton).lower_equal(last_step * 0.5);
        let middle = (low.clone() + high.clone()) * 0.5;
        let moved = middle.mask_where(inside.bool_and(shrinking), candidate);

        // An element at its root stays there, whatever the others still need.
        let found = magnitude(at.value.clone()).lower_equal(at.rounding);
        done = done.bool_or(found).bool_or(at.value.is_nan());
        let moved = moved.mask_where(done.clone(), x.clone());
        last_step = magnitude(moved.clone() - x.clone());
        let still = last_step
            .clone()
            .lower_equal(magnitude(moved.clone()) * epsilon);
        done = done.bool_or(still);
        x = moved;
        if all(done.clone()) {
            return Root { x, iterations };
        }
    }
    Root {
        x,
        iterations: MAX_ITERATIONS,
    }
}

/// The `x` with `x + gain tanh(rate x + shift) = target`, elementwise and differentiable in all four.
///
/// The left side increases where `gain * rate > -1`, and `x` lies within `|gain|` of `target`.
///
/// # Shapes
/// All four broadcast to the shape of the root.
pub fn affine_tanh_root<B: Backend>(
    gain: Tensor<B, 2>,
    rate: Tensor<B, 2>,
    shift: Tensor<B, 2>,
    target: Tensor<B, 2>,
) -> Root<B> {
    let epsilon = epsilon(target.dtype());
    let (a, k) = (without_graph(gain.clone()), without_graph(rate.clone()));
    let (s, c) = (without_graph(shift.clone()), without_graph(target.clone()));
    let slope_at_centre = a.clone() * k.clone() + 1.0;
    let slope = |h: Tensor<B, 2>| {
        // 1 + a k (1 - h^2) without its cancellation where a k is near -1.
        let h2 = h.square();
        h2.clone() + (h2.neg() + 1.0) * slope_at_centre.clone()
    };
    let f = |x: Tensor<B, 2>| {
        let h = (k.clone() * x.clone() + s.clone()).tanh();
        let step = a.clone() * h.clone();
        let scale = magnitude(x.clone()) + magnitude(step.clone()) + magnitude(c.clone());
        Evaluation {
            value: x + step - c.clone(),
            slope: slope(h),
            // tanh, the product and the two sums each round.
            rounding: scale * (2.0 * epsilon),
        }
    };
    // A broadcast sum has the shape of the root.
    let whole = (a.clone() * k.clone() + s.clone() + c.clone()).zeros_like();
    let reach = magnitude(a.clone()) + whole;
    let Root { x, iterations } = monotone_root(f, c.clone() - reach.clone(), c.clone() + reach);

    let h = (rate * x.clone() + shift).tanh();
    let flat: Tensor<B, 2> =
        slope(without_graph(h.clone())).clamp_min(f64::from(f32::MIN_POSITIVE));
    let value = x.clone() + gain * h - target;
    Root {
        x: x - value / flat,
        iterations,
    }
}

/// Doublings that reach every number of f32 from 1.
const MAX_DOUBLINGS: usize = 128;

/// Points at or below and at or above the `x` with `f(x) = target`, by doubling the distance from `target`.
pub(crate) fn bracket<B: Backend>(
    f: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>,
    target: &Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let side = |sign: f64| {
        let mut reach = target.ones_like();
        for _ in 0..MAX_DOUBLINGS {
            let end = target.clone() + reach.clone() * sign;
            // Where the map has not passed the target yet; never where it is not a number.
            let short = ((f(end.clone()) - target.clone()) * sign).lower_elem(0.0);
            if all(short.clone().bool_not()) {
                return end;
            }
            reach = reach.clone().mask_where(short, reach * 2.0);
        }
        target.clone() + reach * sign
    };
    (side(-1.0), side(1.0))
}

/// A root that was found without a graph, with the gradients of the implicit function: `-df / f'` for `f(x) = 0`.
///
/// `f` is the function at the root, with a graph in everything but the root itself; the root keeps its value.
///
/// # Shapes
/// `[batch, k]` each
pub(crate) fn with_implicit_gradient<B: Backend>(
    root: Tensor<B, 2>,
    f: Tensor<B, 2>,
    slope: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let moved = f.clone() - without_graph(f);
    root - moved / slope
}

/// The values alone. `detach` would leave a trained parameter, which is a leaf, as a leaf that
/// requires gradients, and every iteration from it would be recorded.
pub(crate) fn without_graph<B: Backend, const D: usize>(t: Tensor<B, D>) -> Tensor<B, D> {
    t.detach().set_require_grad(false)
}

/// Distance from 1 to the next number of the type.
pub(crate) fn epsilon(dtype: DType) -> f64 {
    dtype
        .finfo()
        .map_or(f64::from(f32::EPSILON), |info| info.epsilon)
}

pub(crate) fn all<B: Backend>(mask: Tensor<B, 2, Bool>) -> bool {
    mask.all().into_data().iter::<bool>().all(|done| done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::exclusive;
    use burn::tensor::TensorData;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    fn column(values: &[f64]) -> Tensor<B, 2> {
        let data = TensorData::new(values.to_vec(), [values.len(), 1]);
        Tensor::from_data(data, (&Default::default(), DType::F64))
    }

    fn values(t: Tensor<B, 2>) -> Vec<f64> {
        t.into_data().iter::<f64>().collect()
    }

    #[test]
    fn roots_of_different_hardness_end_together() {
        // x^3 + d x = c, with triple roots at d = 0, where Newton alone is slow.
        let d = column(&[0.0, 0.0, 1e-8, 1.0, 100.0, 0.0]);
        let c = column(&[0.0, 1.0, -3.0, 1e6, 1e-9, 1e-12]);
        let cubic = |x: Tensor<B, 2>| {
            let cube = x.clone().powi_scalar(3);
            Evaluation {
                value: cube + d.clone() * x.clone() - c.clone(),
                slope: x.square() * 3.0 + d.clone(),
                rounding: c.clone().abs() * 1e-15,
            }
        };
        let reach = c.clone().abs() + 2.0;
        let root = monotone_root(cubic, reach.clone().neg(), reach);
        let left = cubic(root.x.clone()).value;
        for (residual, c) in values(left).into_iter().zip(values(c.clone())) {
            assert!(
                residual.abs() <= 1e-14 * (c.abs() + 1e-30),
                "{residual} at {c}"
            );
        }
        assert!(root.iterations < 60, "{} iterations", root.iterations);
    }

    #[test]
    fn a_nan_does_not_stall_the_others() {
        let gain = column(&[0.5, 0.5]);
        let one = gain.ones_like();
        let target = column(&[f64::NAN, 0.7]);
        let root = affine_tanh_root(gain, one.clone(), one, target);
        let x = values(root.x);
        assert!(x[0].is_nan());
        assert!((x[1] + 0.5 * (x[1] + 1.0).tanh() - 0.7).abs() < 1e-15);
        assert!(root.iterations < 20);
    }

    #[test]
    fn gains_up_to_the_limit_converge_to_machine_precision() {
        let gains = [-1.0 + 1e-12, -0.999, -0.5, 0.0, 3.0, 1e3, 1e6];
        for gain in gains {
            for target in [0.0, 1e-3, -0.4, 1.0, -30.0, 1e3] {
                let one = column(&[1.0]);
                let root = affine_tanh_root(
                    column(&[gain]),
                    one.clone(),
                    column(&[0.25]),
                    column(&[target + 0.1]),
                );
                let x = values(root.x)[0];
                let left = x + gain * (x + 0.25).tanh() - target - 0.1;
                let scale = x.abs() + gain.abs() + target.abs();
                assert!(
                    left.abs() <= 1e-15 * scale,
                    "gain {gain}, target {target}: {left}"
                );
                assert!(
                    root.iterations < 60,
                    "gain {gain}, target {target}: {}",
                    root.iterations
                );
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_implicit_function() {
        let _alone = exclusive();
        let inputs = [-0.7, 1.3, 0.2, 0.9];
        let root = |v: [f64; 4]| {
            let x = affine_tanh_root(
                column(&v[..1]),
                column(&v[1..2]),
                column(&v[2..3]),
                column(&v[3..]),
            );
            values(x.x)[0]
        };
        let tensors = inputs.map(|v| column(&[v]).require_grad());
        let [a, k, s, c] = tensors.clone();
        let grads = affine_tanh_root(a, k, s, c).x.sum().backward();
        for (i, tensor) in tensors.iter().enumerate() {
            let (mut up, mut down) = (inputs, inputs);
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let expected = (root(up) - root(down)) / 2e-5;
            let got: f64 = tensor
                .grad(&grads)
                .unwrap()
                .into_data()
                .iter()
                .next()
                .unwrap();
            assert!(
                (got - expected).abs() < 1e-8,
                "input {i}: {got} against {expected}"
            );
        }
    }
}
