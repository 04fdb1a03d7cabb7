//! The power series of `log det(I + B)` with traces estimated by random probes.

use burn::tensor::{Tensor, backend::Backend};

use crate::continuous::Linearization;

/// `sum_{k=1}^{order} (-1)^{k+1} eps^T B^k eps / k`, the mean over the probes `eps`: an unbiased
/// estimate of the truncated series, as `E[eps^T B^k eps] = tr B^k`.
///
/// `eps^T B^k eps = ((B^T)^i eps) . (B^j eps)` with `i = floor(k / 2)`, `j = ceil(k / 2)`, so each
/// further term costs one product with `B` or `B^T`, written out layer by layer. The second is
/// `(B^T eps) . (B eps)`; `|B^T eps|^2` would estimate the squared Frobenius norm instead.
///
/// The equation (15) of arXiv:1810.03256 is order 2; the trace estimator is M. F. Hutchinson's,
/// *Communications in Statistics* 18 (1989), 1059-1076.
///
/// # Shapes
/// - `b`: at `n` points; `probes`: `[probes, n, dim]`; output `[n]`, in nats
pub fn hutchinson<B: Backend>(
    b: &Linearization<'_, B>,
    order: usize,
    probes: Tensor<B, 3>,
) -> Tensor<B, 1> {
    let [m, n, dim] = probes.dims();
    let b = b.repeat(m);
    let mut sides = Sides::new(probes.reshape([m * n, dim]));
    let mut sum = sides.next_term(&b);
    for _ in 1..order {
        sum = sum + sides.next_term(&b);
    }
    mean_over_probes(sum, m)
}

/// The products `(B^T)^i eps` and `B^j eps` that the terms so far were made of.
pub(super) struct Sides<B: Backend> {
    left: Tensor<B, 2>,
    right: Tensor<B, 2>,
    /// `i + j`.
    pub(super) terms: usize,
}

impl<B: Backend> Sides<B> {
    pub(super) fn new(probes: Tensor<B, 2>) -> Self {
        Self {
            left: probes.clone(),
            right: probes,
            terms: 0,
        }
    }

    /// `(-1)^{k+1} eps^T B^k eps / k` for the next `k`, `[n]`.
    pub(super) fn next_term(&mut self, b: &Linearization<'_, B>) -> Tensor<B, 1> {
        self.terms += 1;
        let odd = self.terms % 2 == 1;
        if odd {
            self.right = b.jvp(self.right.clone());
        } else {
            self.left = b.vjp(self.left.clone());
        }
        let sign = if odd { 1.0 } else { -1.0 };
        let product = self.left.clone() * self.right.clone();
        product.sum_dim(1).squeeze_dim::<1>(1) * (sign / self.terms as f64)
    }

    /// Goes on with the first `rows` only.
    pub(super) fn keep_first(&mut self, rows: usize) {
        self.left = self.left.clone().narrow(0, 0, rows);
        self.right = self.right.clone().narrow(0, 0, rows);
    }
}

/// The mean over the first of the axes `[probes, n]` that `values` is a flat list of.
pub(super) fn mean_over_probes<B: Backend>(values: Tensor<B, 1>, probes: usize) -> Tensor<B, 1> {
    if probes == 1 {
        return values;
    }
    let n = values.dims()[0] / probes;
    values.reshape([probes, n]).mean_dim(0).squeeze_dim(0)
}
