//! Densities and samples of many rows, in chunks that bound the memory of a pass.

use burn::tensor::backend::Backend;
use flows_core::distributions::{LogProb, Sample};
use flows_core::init::options_of_module;
use rand::Rng;

use crate::data::{Data, Rows};

/// Pieces of `0..rows` that bound the memory of a pass, also where a layer takes `dim * dim` numbers a row.
pub fn chunks(rows: usize, dim: usize) -> impl Iterator<Item = (usize, usize)> {
    let size = (4_000_000 / (dim * dim + 512)).clamp(64, 8192);
    let starts = (0..rows).step_by(size);
    starts.map(move |from| (from, (from + size).min(rows)))
}

/// `log p(x | context)` of each row, in nats.
///
/// # Panics
/// As [`LogProb::log_prob`] where the rows have another width than the flow.
pub fn log_probs<B: Backend, M: LogProb<B>>(flow: &M, data: &Data) -> Vec<f64> {
    let options = options_of_module::<B, M>(flow);
    let score = |(from, to): (usize, usize)| {
        let (x, context) = data.slice(from, to).tensors(options.clone());
        flow.log_prob(x, context)
            .into_data()
            .iter::<f64>()
            .collect::<Vec<_>>()
    };
    chunks(data.len(), data.x.width()).flat_map(score).collect()
}

/// `n` samples for each row of `context`, those of the first row first: `[contexts * n, dim]`.
///
/// # Panics
/// As [`Sample::sample`] where the context has another width than that of the flow.
pub fn sample_given<B: Backend, M: Sample<B> + LogProb<B>>(
    flow: &M,
    context: &Rows,
    n: usize,
    rng: &mut dyn Rng,
) -> Rows {
    let options = options_of_module::<B, M>(flow);
    let mut values = Vec::with_capacity(context.len() * n * flow.dim());
    for (from, to) in chunks(context.len() * n, flow.dim()) {
        let places: Vec<usize> = (from..to).map(|k| k / n).collect();
        let context = context.pick(&places).tensor::<B>(options.clone());
        let x = flow.sample(to - from, Some(context), rng).into_data();
        values.extend(x.iter::<f64>());
    }
    Rows::new(values, flow.dim())
}

/// Whether a mean over rows still stands for them where these many were left out: a hundredth, or one of
/// few.
pub(crate) fn may_be_left_out(count: usize, rows: usize) -> bool {
    count <= (rows / 100).max(1) && count < rows
}

/// The mean without log-densities that are not finite, of rows far outside; NaN where they are too many: more than a
/// hundredth, or than one of few.
pub fn mean_of_finite(scores: &[f64]) -> f64 {
    let finite: Vec<f64> = scores.iter().copied().filter(|s| s.is_finite()).collect();
    if !may_be_left_out(scores.len() - finite.len(), scores.len()) {
        return f64::NAN;
    }
    finite.iter().sum::<f64>() / finite.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundredth_of_the_rows_may_be_left_out_of_a_mean() {
        let mut scores = vec![1.0; 200];
        scores[3] = f64::NEG_INFINITY;
        scores[7] = f64::NAN;
        assert_eq!(mean_of_finite(&scores), 1.0);
        scores[9] = f64::NAN;
        assert!(mean_of_finite(&scores).is_nan());
        assert_eq!(mean_of_finite(&[2.0, f64::NAN]), 2.0);
        assert!(mean_of_finite(&[f64::NAN]).is_nan());
    }

    #[test]
    fn chunks_cover_all_rows() {
        for (rows, dim) in [(0, 2), (1, 2), (8192, 2), (20_000, 2), (1000, 784)] {
            let mut end = 0;
            for (from, to) in chunks(rows, dim) {
                assert!(from == end && to > from && to - from <= 8192);
                end = to;
            }
            assert_eq!(end, rows);
        }
    }
}
