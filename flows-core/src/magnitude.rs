//! The absolute value, for tensors in any order of memory.

use burn::tensor::{Tensor, backend::Backend};

/// `|x| = x sign(x)`, elementwise, with slope 0 at 0.
///
/// Not Burn's own: on NdArray 0.21 that mixes up the elements of a tensor that lies in another order than row-major,
/// such as a transposed one or picked columns, from some twenty elements on, without an error.
pub fn magnitude<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    x.clone() * x.sign()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Int, TensorData};
    use burn_flex::Flex;
    use burn_ndarray::NdArray;

    fn elements_stay_where_they_are<B: Backend>() {
        let device = Default::default();
        let numbers = |t: Tensor<B, 2>| t.into_data().iter::<f64>().collect::<Vec<_>>();
        let drawn = (0..200).map(|k| f64::from((k * 37) % 101) - 50.0);
        let data = TensorData::new(drawn.collect::<Vec<f64>>(), [40, 5]);
        let x = Tensor::<B, 2>::from_data(data, &device);
        let order = Tensor::<B, 1, Int>::from_data([1, 3, 0, 2, 4], &device);
        for x in [x.clone().select(1, order), x.clone().transpose(), x] {
            let expected = numbers(x.clone()).into_iter().map(f64::abs);
            assert_eq!(numbers(magnitude(x)), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn elements_stay_where_they_are_in_any_order_of_memory() {
        elements_stay_where_they_are::<Flex>();
        elements_stay_where_they_are::<NdArray>();
    }
}
