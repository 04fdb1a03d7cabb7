//! What mixtures have in common: a component for each row, and the logarithm of a sum.

use burn::tensor::{Tensor, backend::Backend};
use rand::{Rng, RngExt};

use crate::solve::without_graph;

/// `log sum_k exp(x_k)` of each row, minus infinity where all are.
///
/// # Shapes
/// - `x`: `[batch, components]`; output `[batch]`
pub(super) fn log_sum_exp<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 1> {
    // The maximum cancels in the value, and so it does in the gradient.
    let highest = without_graph(x.clone()).max_dim(1);
    // Far from every component all terms are minus infinity, less which they would be NaN.
    let everywhere_zero = highest.clone().equal_elem(f64::NEG_INFINITY);
    let highest = highest.mask_fill(everywhere_zero.clone(), 0.0);
    let sum = (x - highest.clone()).exp().sum_dim(1);
    // The logarithm of 0 has no gradient.
    let sum = sum.mask_fill(everywhere_zero.clone(), 1.0);
    let value = (sum.log() + highest).mask_fill(everywhere_zero, f64::NEG_INFINITY);
    value.squeeze_dim(1)
}

/// `logits - log sum_k exp(logits_k)`: the logarithms of weights that sum to one.
pub(super) fn log_weights<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 2> {
    logits.clone() - log_sum_exp(logits).unsqueeze_dim(1)
}

/// A component for each of `n` rows, `k` with probability proportional to `exp(logits_k)`.
///
/// # Shapes
/// - `logits`: `[1, components]` or `[n, components]`
pub(super) fn choose<B: Backend>(logits: &Tensor<B, 2>, n: usize, rng: &mut dyn Rng) -> Vec<usize> {
    let [rows, components] = logits.dims();
    let logits: Vec<f64> = logits.to_data().iter().collect();
    let choose = |row: usize| {
        let logits = &logits[row * components..(row + 1) * components];
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = logits.iter().map(|l| (l - highest).exp());
        let total: f64 = weights.clone().sum();
        let mut left = rng.random::<f64>() * total;
        let passed = weights.take_while(|w| {
            left -= w;
            left >= 0.0
        });
        passed.count().min(components - 1)
    };
    let rows = (0..n).map(|r| if rows == 1 { 0 } else { r });
    rows.map(choose).collect()
}
