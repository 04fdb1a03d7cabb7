//! Weights of bounded norm, and so fields of bounded slope.

use burn::tensor::{Tensor, backend::Backend};

/// Squarings of `W^T W`: the norm is off by a factor of at most `m^(1/2^11)`, 1.003 for `m = 512`.
const SQUARINGS: usize = 10;

/// A bound from above on the spectral norm `|W|_2` of a matrix, `[1, 1]`, differentiable: its Schatten norm
/// `(sum_i s_i^(2q))^(1/(2q))` over the singular values `s_i`, with `q = 2^10`.
///
/// `|W|_2 <= bound <= m^(1/(2q)) |W|_2`, `m` the smaller side of `W`. It is `(tr (W^T W)^q)^(1/(2q))`, by squaring
/// `W^T W` ten times and dividing by its trace each time. The usual power iteration (spectral normalization,
/// arXiv:1802.05957) approaches the norm from below, so that a map normalized by it need not be a contraction, and
/// keeps vectors from step to step; this is a function of `W` alone.
///
/// # Shapes
/// - `w`: `[rows, columns]`
pub fn spectral_bound<B: Backend>(w: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, columns] = w.dims();
    let mut power = if rows < columns {
        w.clone().matmul(w.transpose())
    } else {
        w.clone().transpose().matmul(w)
    };
    let identity = Tensor::<B, 2>::eye(rows.min(columns), &power.device()).cast(power.dtype());
    // (W^T W)^(2^j) is exp(log_trace) times a matrix of trace 1.
    let mut log_trace: Option<Tensor<B, 2>> = None;
    for j in 0..=SQUARINGS {
        if j > 0 {
            power = power.clone().matmul(power);
        }
        let trace = (power.clone() * identity.clone()).sum_dim(0).sum_dim(1);
        // Of a matrix of zeros as well.
        let trace = trace.clamp_min(f64::from(f32::MIN_POSITIVE));
        power = power / trace.clone();
        log_trace = Some(match log_trace {
            Some(before) => before * 2.0 + trace.log(),
            None => trace.log(),
        });
    }
    let log_trace = log_trace.expect("at least one power");
    (log_trace * 0.5f64.powi(SQUARINGS as i32 + 1)).exp()
}

/// `W / max(1, |W| / bound)`, with [`spectral_bound`] for the norm, so that `|W|_2 <= bound`.
pub(super) fn bounded<B: Backend>(w: Tensor<B, 2>, bound: f64) -> Tensor<B, 2> {
    let excess = spectral_bound(w.clone()) * bound.recip();
    w / excess.clamp_min(1.0)
}
