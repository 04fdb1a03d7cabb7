//! Inverse consistency of a stack of blocks.

use burn::tensor::{Tensor, backend::Backend};

use crate::bijector::Invert;
use crate::continuous::{AsDdnfBlock, exponential_inverse};
use crate::error::Error;

/// `E |phi_1^{-1} o ... o phi_K^{-1}(z_K) - z_0|^2` with the exponential-map inverse of the blocks
/// (arXiv:1810.03256), the mean over the batch.
///
/// That inverse is not the block's own but one with an error of order `1 / T`; the penalty moves the
/// fields to where it is small. Layers of other kinds are inverted as they are.
///
/// # Shapes
/// - `start` `z_0` and `end` `z_K`, which `layers` make of it: `[batch, dim]`; output `[1]`
///
/// # Errors
/// As [`exponential_inverse`].
pub fn inverse_consistency<B: Backend, L: Invert<B> + AsDdnfBlock<B>>(
    layers: &[L],
    start: Tensor<B, 2>,
    end: Tensor<B, 2>,
    context: Option<Tensor<B, 2>>,
) -> Result<Tensor<B, 1>, Error> {
    let back = exponential_inverse(layers, end, context)?;
    Ok((back - start).square().sum_dim(1).mean())
}
