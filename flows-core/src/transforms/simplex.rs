//! Positive numbers that sum to one, and sums of exponentials, over the parameters of each variable.

use burn::tensor::{Tensor, backend::Backend};

use crate::solve::without_graph;

/// `exp(x_p) / sum_q exp(x_q)` over the middle axis. Burn's own goes through f32 on some backends.
pub(super) fn softmax<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let largest = without_graph(x.clone().max_dim(1));
    let powers = (x - largest).exp();
    let sum = powers.clone().sum_dim(1);
    powers / sum
}

/// `log sum_p exp(x_p)` over the middle axis, `[batch, parameters, k]` to `[batch, k]`.
pub(super) fn log_sum_exp<B: Backend>(x: Tensor<B, 3>) -> Tensor<B, 2> {
    let largest = without_graph(x.clone().max_dim(1));
    let sum = (x - largest.clone()).exp().sum_dim(1).log() + largest;
    sum.squeeze_dim(1)
}
