//! Columns of a batch by their numbers.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::masks::inverse_permutation;

/// The columns of `x` in another order.
pub(crate) fn sort<B: Backend>(x: Tensor<B, 2>, order: &[usize]) -> Tensor<B, 2> {
    if order.is_sorted() {
        return x;
    }
    pick(x, order)
}

/// Some columns of `x`.
pub(crate) fn pick<B: Backend>(x: Tensor<B, 2>, columns: &[usize]) -> Tensor<B, 2> {
    let indices = indices(columns, &x.device());
    x.select(1, indices)
}

/// Undoes [`sort`].
pub(crate) fn unsort<B: Backend>(x: Tensor<B, 2>, order: &[usize]) -> Tensor<B, 2> {
    sort(x, &inverse_permutation(order))
}

/// Numbers of columns as a tensor.
pub(super) fn indices<B: Backend>(columns: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let columns: Vec<i64> = columns.iter().map(|&i| i as i64).collect();
    let shape = [columns.len()];
    Tensor::from_data(TensorData::new(columns, shape), device)
}
