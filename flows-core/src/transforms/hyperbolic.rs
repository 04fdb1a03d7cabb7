//! Hyperbolic functions that neither overflow early nor cancel.

use burn::tensor::{Tensor, backend::Backend};

use crate::magnitude::magnitude;

/// 1 where a number is not negative, -1 elsewhere, so that `x` times it is `|x|` with a slope at 0.
fn side<B: Backend>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let not_negative = x.clone().detach().greater_equal_elem(0.0);
    not_negative.float().cast(x.dtype()) * 2.0 - 1.0
}

/// `arcsinh x = +-log(|x| + sqrt(1 + x^2))`: by the magnitude, whose sum loses no digits.
pub(crate) fn arcsinh<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let side = side(&x);
    let size = x * side.clone();
    let root = (size.clone().square() + 1.0).sqrt();
    (size.clone() + size.square() / (root + 1.0)).log1p() * side
}

/// `log cosh u = |u| + log1p(exp(-2 |u|)) - log 2`.
pub(crate) fn log_cosh<B: Backend>(u: Tensor<B, 2>) -> Tensor<B, 2> {
    let size = magnitude(u);
    size.clone() + (size * -2.0).exp().log1p() - std::f64::consts::LN_2
}

/// `(e^u - e^-u) / 2`, by its series up to `|u| = 1/2`, where the difference cancels.
pub(crate) fn sinh<B: Backend>(u: Tensor<B, 2>) -> Tensor<B, 2> {
    let far = magnitude(u.clone().detach()).greater_elem(0.5);
    let near = u.clone().clamp(-0.5, 0.5);
    let square = near.clone().square();
    // u (1 + u^2/(2 3) (1 + u^2/(4 5) (1 + ...)))
    let one = square.zeros_like() + 1.0;
    let series = [156.0, 110.0, 72.0, 42.0, 20.0, 6.0f64];
    let series = series
        .into_iter()
        .fold(one, |inner, n| inner * square.clone() * n.recip() + 1.0);
    let difference = (u.clone().exp() - u.neg().exp()) * 0.5;
    (near * series).mask_where(far, difference)
}
