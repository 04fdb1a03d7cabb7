//! The fused masked affine layer in f32, to rounding: exponentials of sums over many units. The strict comparison
//! is that in f64.

use burn::backend::{Autodiff, Flex, NdArray};

#[path = "../kernels/masked.rs"]
mod masked;

#[test]
fn agrees_with_burn_operations() {
    masked::agrees_with_burn_operations::<Autodiff<Flex>>(1e-4);
    masked::agrees_with_burn_operations::<Autodiff<NdArray>>(1e-4);
}

#[test]
fn agrees_without_gradients() {
    masked::agrees_without_gradients::<Autodiff<Flex>>(1e-6);
    masked::agrees_without_gradients::<Autodiff<NdArray>>(1e-6);
}

#[test]
fn does_not_depend_on_threads() {
    masked::does_not_depend_on_threads::<Autodiff<Flex>>();
}

#[test]
fn inverse_agrees() {
    masked::inverse_agrees::<Autodiff<Flex>>(1e-4);
    masked::inverse_agrees::<Autodiff<NdArray>>(1e-4);
}
