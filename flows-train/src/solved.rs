//! The mean of a loss over rows, without those that a solver found no inverse for.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

/// Largest share of rows without an inverse at which training continues.
pub const MOST_UNSOLVED: f64 = 0.01;

/// Name of the curve that counts rows left out of a loss.
pub(crate) const UNSOLVED: &str = "unsolved";

/// The mean over the rows that are not NaN, and how many are, tensors of one element each.
///
/// A row is NaN where a layer's inverse was not solved for it. Left out, it has no part in the gradient either.
/// Without such rows the mean has the bits of [`Tensor::mean`]; NaN where there is no other row.
///
/// # Shapes
/// - `rows`: `[batch]`
pub fn mean_of_solved<B: AutodiffBackend>(rows: Tensor<B, 1>) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let batch = rows.dims()[0] as f64;
    let unsolved = rows.clone().is_nan();
    let ones = rows.clone().detach().ones_like();
    let count = ones.zeros_like().mask_where(unsolved.clone(), ones).sum();
    let all = count.clone().zeros_like() + batch;
    let factor = all.clone() / (all - count.clone());
    (rows.mask_fill(unsolved, 0.0).mean() * factor, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use flows_core::autodiff::exclusive;

    type B = Autodiff<Flex>;

    fn mean(values: &[f32]) -> (f32, f32, Vec<f32>) {
        let _alone = exclusive();
        let x = Tensor::<B, 1>::from_data(values, &Default::default()).require_grad();
        let (mean, count) = mean_of_solved(x.clone() * 2.0);
        let gradient = x.grad(&mean.backward()).unwrap().into_data();
        (
            mean.into_scalar(),
            count.into_scalar(),
            gradient.to_vec().unwrap(),
        )
    }

    #[test]
    fn rows_without_an_inverse_are_counted_and_have_no_gradient() {
        let (mean, count, gradient) = mean(&[1.0, f32::NAN, 4.0]);
        assert_eq!((mean, count), (5.0, 1.0));
        assert_eq!(gradient, [1.0, 0.0, 1.0]);
    }

    #[test]
    fn without_such_rows_it_is_the_plain_mean_to_the_bit() {
        let values: Vec<f32> = (0..37).map(|k| (k as f32).sin()).collect();
        let plain = Tensor::<B, 1>::from_data(&values[..], &Default::default()) * 2.0;
        let (mean, count, gradient) = mean(&values);
        assert_eq!(mean.to_bits(), plain.mean().into_scalar().to_bits());
        assert_eq!(count, 0.0);
        assert!(gradient.iter().all(|g| *g == 2.0 / 37.0), "{gradient:?}");
    }
}
