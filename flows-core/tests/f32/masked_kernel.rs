//! The fused masked affine layer in f32, to rounding: exponentials of sums over many units. The strict comparison
//! is that in f64.

use burn::backend::{Autodiff, Flex, NdArray};
use flows_core::autodiff::exclusive;

#[path = "../kernels/masked.rs"]
mod masked;

/// Not NdArray, also where the kernel runs on it: its own operations take reciprocals, and with them the gradient
/// of a division, to 14 bits where there is AVX-512, and to 12 where there is not.
type Reference = Autodiff<Autodiff<Flex>>;

#[test]
fn agrees_with_burn_operations() {
    let _alone = exclusive();
    masked::agrees_with_burn_operations::<Autodiff<Flex>, Reference>(1e-4);
    masked::agrees_with_burn_operations::<Autodiff<NdArray>, Reference>(1e-4);
}

#[test]
fn agrees_without_gradients() {
    let _alone = exclusive();
    masked::agrees_without_gradients::<Autodiff<Flex>>(1e-6);
    masked::agrees_without_gradients::<Autodiff<NdArray>>(1e-6);
}

#[test]
fn runs_agree_with_burn_operations() {
    let _alone = exclusive();
    masked::runs_agree_with_burn_operations::<Autodiff<Flex>, Reference>(1e-4);
    masked::runs_agree_with_burn_operations::<Autodiff<NdArray>, Reference>(1e-4);
}

#[test]
fn does_not_depend_on_threads() {
    let _alone = exclusive();
    masked::does_not_depend_on_threads::<Autodiff<Flex>>();
}

#[test]
fn inverse_agrees() {
    let _alone = exclusive();
    masked::inverse_agrees::<Flex, Autodiff<Flex>>(1e-4);
    masked::inverse_agrees::<NdArray, Autodiff<Flex>>(1e-4);
}
