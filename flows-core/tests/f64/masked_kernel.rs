//! The fused masked affine layer in f64.

use burn::backend::{Autodiff, Flex, NdArray};

use crate::{Wide, WideNdArray, device};

#[path = "../kernels/masked.rs"]
mod masked;

#[test]
fn agrees_with_burn_operations() {
    device::<Flex>();
    masked::agrees_with_burn_operations::<Wide, Autodiff<Wide>>(1e-12);
    device::<NdArray>();
    masked::agrees_with_burn_operations::<WideNdArray, Autodiff<WideNdArray>>(1e-12);
}

#[test]
fn agrees_without_gradients() {
    device::<Flex>();
    masked::agrees_without_gradients::<Wide>(1e-13);
}

#[test]
fn runs_agree_with_burn_operations() {
    device::<Flex>();
    masked::runs_agree_with_burn_operations::<Wide, Autodiff<Wide>>(1e-12);
    device::<NdArray>();
    masked::runs_agree_with_burn_operations::<WideNdArray, Autodiff<WideNdArray>>(1e-12);
}

#[test]
fn does_not_depend_on_threads() {
    device::<Flex>();
    masked::does_not_depend_on_threads::<Wide>();
}

#[test]
fn inverse_agrees() {
    device::<Flex>();
    masked::inverse_agrees::<Flex, Wide>(1e-12);
}
