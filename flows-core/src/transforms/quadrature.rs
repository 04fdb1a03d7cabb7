//! Increasing maps as integrals of positive functions, `y = c + integral_0^x g(u) du`.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::transform::Elementwise;

/// Nodes on `[0, 1]` and weights of Gauss-Legendre quadrature, exact for polynomials of degree `2 n - 1`.
///
/// The nodes are the roots of the Legendre polynomial `P_n`, by Newton's method from their asymptotic places.
pub(super) fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let polynomial = |x: f64| {
        let (mut previous, mut this) = (1.0, x);
        for k in 2..=n {
            let k = k as f64;
            (previous, this) = (
                this,
                ((2.0 * k - 1.0) * x * this - (k - 1.0) * previous) / k,
            );
        }
        let slope = n as f64 * (x * this - previous) / (x * x - 1.0);
        (this, slope)
    };
    let node = |i: usize| {
        let angle = std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5);
        let mut x = -angle.cos();
        for _ in 0..100 {
            let (value, slope) = polynomial(x);
            let step = value / slope;
            x -= step;
            if step.abs() <= f64::EPSILON {
                break;
            }
        }
        let (_, slope) = polynomial(x);
        (0.5 * (1.0 + x), ((1.0 - x * x) * slope * slope).recip())
    };
    (0..n).map(node).collect()
}

/// `integral_0^x g(u) du` within `[-bound, bound]` by quadrature, and on with the slope at the end beyond it.
///
/// `g` takes points `[batch, points, k]` and must be positive. The log-slope is `log g(x)`, which is that of the map where
/// the quadrature is exact.
pub(super) fn integral<B: Backend>(
    g: impl Fn(Tensor<B, 3>) -> Tensor<B, 3>,
    x: Tensor<B, 2>,
    bound: f64,
    nodes: usize,
) -> Elementwise<B> {
    let [rows, k] = x.dims();
    let (at, weights): (Vec<f64>, Vec<f64>) = gauss_legendre(nodes).into_iter().unzip();
    let column = |numbers: Vec<f64>| {
        let count = numbers.len();
        let data = TensorData::new(numbers, [1, count, 1]);
        Tensor::<B, 3>::from_data(data, (&x.device(), x.dtype()))
    };
    let inside = x.clone().clamp(-bound, bound);
    let ends = inside.clone().reshape([rows, 1, k]);
    // The point itself comes last: its slope is asked for too.
    let points = ends.clone() * column([at, vec![1.0]].concat());
    let g = g(points);
    let slope: Tensor<B, 2> = g
        .clone()
        .slice([0..rows, nodes..nodes + 1, 0..k])
        .squeeze_dim(1);
    let sum = (g.slice([0..rows, 0..nodes, 0..k]) * column(weights)).sum_dim(1);
    let value: Tensor<B, 2> = (sum * ends).squeeze_dim(1);
    Elementwise {
        value: value + slope.clone() * (x - inside),
        log_slope: slope.log(),
    }
}

#[cfg(test)]
mod tests {
    use super::gauss_legendre;

    #[test]
    fn polynomials_of_twice_the_degree_are_integrated_exactly() {
        for n in [1, 2, 5, 32, 64] {
            let rule = gauss_legendre(n);
            for power in [0, 1, 2 * n as i32 - 1] {
                let sum: f64 = rule.iter().map(|(x, w)| w * x.powi(power)).sum();
                let exact = 1.0 / f64::from(power + 1);
                assert!((sum - exact).abs() < 1e-14, "{n} nodes, x^{power}: {sum}");
            }
            let sum: f64 = rule.iter().map(|(x, w)| w * x.powi(2 * n as i32)).sum();
            let exact = 1.0 / (2.0 * n as f64 + 1.0);
            assert!(
                n > 5 || (sum - exact).abs() > 1e-8,
                "{n} nodes are no more exact"
            );
        }
    }
}
