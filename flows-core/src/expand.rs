//! One row for every row of a batch, which may have none.

use burn::tensor::{Tensor, TensorData, backend::Backend};

/// `tensor` repeated to `shape`, also to no rows, which `expand` of Burn 0.21 refuses.
pub(crate) fn expand<B: Backend, const D: usize>(
    tensor: Tensor<B, D>,
    shape: [usize; D],
) -> Tensor<B, D> {
    if shape.contains(&0) {
        let none = TensorData::new(Vec::<f64>::new(), shape);
        return Tensor::from_data(none, (&tensor.device(), tensor.dtype()));
    }
    tensor.expand(shape)
}
