//! The power series of `log det(I + B)` with exact traces.

use burn::tensor::{Tensor, backend::Backend};

use crate::continuous::Linearization;

/// `sum_{k=1}^{order} (-1)^{k+1} tr(B^k) / k`.
///
/// For one hidden layer with slopes `D` and `C = W_2 W_1` (`[h, h]`):
/// `tr B = sum_k D_k C_kk` and `tr B^2 = sum_kl D_k C_kl C_lk D_l`, without any matrix per point.
/// Where `C` differs from row to row it is formed once for all points of the row.
/// Otherwise traces of powers of the core, two matrices a product: `tr B^{i+j} = <B^i, (B^j)^T>`.
pub(super) fn log_det<B: Backend>(b: &Linearization<'_, B>, order: usize) -> Tensor<B, 1> {
    if let (1, Some(w1), Some(w2)) = (b.depth(), b.shared_weight(1), b.shared_weight(2)) {
        let [dim, h] = w1.dims();
        // The quadratic form costs h^2 a point, the dim x dim Jacobian h dim^2.
        match order {
            1 => return first_trace(b, w1, w2),
            2 if h <= dim * dim => {
                let second = second_trace(b, w2.clone().matmul(w1.clone()));
                return first_trace(b, w1, w2) - second * 0.5;
            }
            _ => {}
        }
    }
    if order <= 2
        && b.width(1) <= b.width(0).pow(2)
        && let Some((slopes, closing)) = b.by_row()
    {
        return traces_by_row(slopes, closing, order);
    }
    let mut powers = vec![b.core()];
    for _ in 1..order.div_ceil(2) {
        let next = powers[powers.len() - 1].clone().matmul(powers[0].clone());
        powers.push(next);
    }
    let mut sum = trace(powers[0].clone());
    for k in 2..=order {
        let (low, high) = (k / 2, k.div_ceil(2));
        let term = trace_of_product(powers[low - 1].clone(), powers[high - 1].clone());
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sum = sum + term * (sign / k as f64);
    }
    sum
}

/// `sum_k D_k C_kk`, `C_kk = sum_j W_2[k, j] W_1[j, k]`.
fn first_trace<B: Backend>(
    b: &Linearization<'_, B>,
    w1: Tensor<B, 2>,
    w2: Tensor<B, 2>,
) -> Tensor<B, 1> {
    let diagonal = (w1 * w2.transpose()).sum_dim(0);
    b.slope(1).matmul(diagonal.transpose()).squeeze_dim(1)
}

/// `sum_kl D_k C_kl C_lk D_l`.
fn second_trace<B: Backend>(b: &Linearization<'_, B>, c: Tensor<B, 2>) -> Tensor<B, 1> {
    let squares = c.clone() * c.transpose();
    let d = b.slope(1);
    (d.clone().matmul(squares) * d).sum_dim(1).squeeze_dim(1)
}

/// The first terms for matrices `C` of the rows, with one product a row for all of its points.
///
/// # Shapes
/// - `slopes`: `[rows, times, h]`; `closing`: `[rows, h, h]`; output `[times * rows]`
fn traces_by_row<B: Backend>(
    slopes: Tensor<B, 3>,
    closing: Tensor<B, 3>,
    order: usize,
) -> Tensor<B, 1> {
    let [rows, times, h] = slopes.dims();
    let identity = Tensor::<B, 2>::eye(h, &closing.device()).cast(closing.dtype());
    let diagonals = (closing.clone() * identity.unsqueeze()).sum_dim(2);
    let mut sum = slopes.clone().matmul(diagonals);
    if order == 2 {
        let squares = closing.clone() * closing.swap_dims(1, 2);
        let second = (slopes.clone().matmul(squares) * slopes).sum_dim(2);
        sum = sum - second * 0.5;
    }
    sum.swap_dims(0, 1).reshape([times * rows])
}

/// `tr A`.
fn trace<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 1> {
    let identity = Tensor::<B, 2>::eye(a.dims()[1], &a.device()).cast(a.dtype());
    (a * identity.unsqueeze()).sum_dims_squeeze(&[1, 2])
}

/// `tr(A C) = sum_ij A_ij C_ji`.
fn trace_of_product<B: Backend>(a: Tensor<B, 3>, c: Tensor<B, 3>) -> Tensor<B, 1> {
    (a * c.swap_dims(1, 2)).sum_dims_squeeze(&[1, 2])
}
