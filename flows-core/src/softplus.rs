//! The softplus function and its slope, without overflow and without loss.

use burn::tensor::{Tensor, backend::Backend};

use crate::magnitude::magnitude;

/// `softplus(x) = ln(1 + e^x)`, elementwise, for every finite `x`.
///
/// Computed as `(x + |x|)/2 + ln(1 + e^-|x|)`. Burn's own softplus exponentiates `x` and overflows
/// from 89 on in f32; written with `max(x, 0)` the gradient at 0 would be 0 instead of 1/2.
pub fn softplus<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    let size = magnitude(x.clone());
    (x + size.clone()) * 0.5 + size.neg().exp().log1p()
}

/// `sigmoid(x) = 1 / (1 + e^-x) = e^-softplus(-x)`, elementwise.
///
/// Burn's default takes f64 through f32 (`burn-backend` 0.21, `ops/activation.rs`), which costs
/// half the digits on a backend without one of its own, such as ndarray.
pub fn sigmoid<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    softplus(x.neg()).neg().exp()
}

/// The `x` with `softplus(x) = y`, for a positive `y`: `ln(e^y - 1)`.
pub(crate) fn softplus_inverse(y: f64) -> f64 {
    y + (-(-y).exp_m1()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::exclusive;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    #[test]
    fn values_and_slopes_hold_over_the_whole_range() {
        let _alone = exclusive();
        let points = [-1e3, -30.0, -1.0, 0.0, 1.0, 30.0, 1e3];
        let x = Tensor::<B, 1>::from_data(points, &Default::default()).require_grad();
        let y = softplus(x.clone());
        let slopes = x.grad(&y.clone().sum().backward()).unwrap().into_data();
        let values = y.into_data();
        for ((x, y), slope) in points
            .into_iter()
            .zip(values.iter::<f64>())
            .zip(slopes.iter::<f64>())
        {
            let x: f64 = x;
            let expected = if x > 0.0 {
                x + (-x).exp().ln_1p()
            } else {
                x.exp().ln_1p()
            };
            assert!(
                (y - expected).abs() <= 1e-6 * (1.0 + expected),
                "value at {x}: {y}"
            );
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            assert!((slope - sigmoid).abs() <= 1e-6, "slope at {x}: {slope}");
        }
    }

    #[test]
    fn the_inverse_undoes_it() {
        for y in [1e-6_f64, 0.3, 1.0, 40.0] {
            let x = softplus_inverse(y);
            let back = x.max(0.0) + (-x.abs()).exp().ln_1p();
            assert!(
                (back - y).abs() <= 1e-12 * (1.0 + y),
                "{y} came back as {back}"
            );
        }
    }
}
