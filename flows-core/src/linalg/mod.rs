//! Determinants and inverses of batches of small square matrices, in tensor operations.

mod elimination;
mod small;

pub(crate) use elimination::Eliminated;
pub(crate) use small::{det2, det2_identity_plus, inverse2};

use burn::tensor::{Tensor, backend::Backend};

/// `I + A`, `[n, m, m]`.
pub(crate) fn identity_plus<B: Backend>(a: Tensor<B, 3>) -> Tensor<B, 3> {
    let m = a.dims()[1];
    let identity = Tensor::<B, 2>::eye(m, &a.device()).cast(a.dtype());
    a + identity.unsqueeze()
}
