//! The power series of `log det(I + B)`, ended at random and reweighted to stay unbiased.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use core::cmp::Reverse;

use super::hutchinson::{Sides, mean_over_probes};
use crate::continuous::Linearization;

/// `sum_{k=1}^{N} (-1)^{k+1} eps^T B^k eps / (k P(N >= k))`, the mean over the probes `eps`, each
/// with a length `N` of its own: an unbiased estimate of `log det(I + B)` itself.
///
/// The lengths are `exact_terms` and a geometric number of further terms, so
/// `P(N >= k) = continuation^(k - exact_terms)` from there on. The expectation over `N` of the
/// `k`-th term is that of the full series, term by term (R. T. Q. Chen et al., *Residual Flows*,
/// arXiv:1906.02735, theorem 1). The variance is finite where `|B|_2^2 < continuation`.
///
/// Lengths do not depend on the parameters, so the derivative of the estimate is an unbiased
/// estimate of the derivative.
///
/// A point takes part in as many products as its own length says: points are put in the order of
/// falling length, and those still going are the first ones.
///
/// # Shapes
/// - `b`: at `n` points; `probes`: `[probes, n, dim]`; `lengths`: by probe, then by point, each at
///   least 1; output `[n]`, in nats
pub fn russian_roulette<B: Backend>(
    b: &Linearization<'_, B>,
    exact_terms: usize,
    continuation: f64,
    probes: Tensor<B, 3>,
    lengths: &[Vec<usize>],
) -> Tensor<B, 1> {
    let [m, n, dim] = probes.dims();
    let lengths = lengths.concat();
    assert_eq!(lengths.len(), m * n, "a length for each probe and point");
    let mut order: Vec<usize> = (0..m * n).collect();
    order.sort_by_key(|&row| Reverse(lengths[row]));
    let device = probes.device();
    let rows = index::<B>(&order, &device);

    let mut at = b.repeat(m).rows(rows.clone());
    let mut sides = Sides::new(probes.reshape([m * n, dim]).select(0, rows));
    let mut sum = sides.next_term(&at);
    let mut going = m * n;
    for k in 2..=order.first().map_or(0, |&row| lengths[row]) {
        let left = order.partition_point(|&row| lengths[row] >= k);
        if left < going {
            going = left;
            at = at.first(going);
            sides.keep_first(going);
        }
        let weight = continuation.powi(exact_terms as i32 - k as i32).max(1.0);
        let term = sides.next_term(&at) * weight;
        let reached = sum.clone().narrow(0, 0, going) + term;
        sum = if going < m * n {
            Tensor::cat(vec![reached, sum.narrow(0, going, m * n - going)], 0)
        } else {
            reached
        };
    }
    let mut back = vec![0; m * n];
    for (position, &row) in order.iter().enumerate() {
        back[row] = position;
    }
    mean_over_probes(sum.select(0, index::<B>(&back, &device)), m)
}

fn index<B: Backend>(rows: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}
