//! Operations of Burn 0.21 on a batch that may have no rows.

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

/// The product of matrices `a b`, also of none, by which NdArray divides.
pub(crate) fn product<B: Backend, const D: usize>(
    a: Tensor<B, D>,
    b: Tensor<B, D>,
) -> Tensor<B, D> {
    let mut shape = a.dims();
    if shape.contains(&0) {
        shape[D - 1] = b.dims()[D - 1];
        return expand(a, shape);
    }
    a.matmul(b)
}
