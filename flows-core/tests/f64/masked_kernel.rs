//! The fused masked affine layer: in f64 strictly, in f32 to the rounding of exponentials of sums over many units.

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::DType::{F32, F64};

use crate::double;
use crate::{Wide, WideNdArray};

#[path = "masked_cases.rs"]
mod masked;

/// The reference in f32. Not NdArray, also where the kernel runs on it: its own operations take reciprocals, and with
/// them the gradient of a division, to 14 bits where there is AVX-512, and to 12 where there is not.
type Reference = Autodiff<Wide>;

#[test]
fn agrees_with_burn_operations() {
    double();
    masked::agrees_with_burn_operations::<Wide, Autodiff<Wide>>(1e-12, F64);
    masked::agrees_with_burn_operations::<WideNdArray, Autodiff<WideNdArray>>(1e-12, F64);
    masked::agrees_with_burn_operations::<Wide, Reference>(1e-4, F32);
    masked::agrees_with_burn_operations::<WideNdArray, Reference>(1e-4, F32);
}

#[test]
fn agrees_without_gradients() {
    double();
    masked::agrees_without_gradients::<Wide>(1e-13, F64);
    masked::agrees_without_gradients::<Wide>(1e-6, F32);
    masked::agrees_without_gradients::<WideNdArray>(1e-6, F32);
}

#[test]
fn runs_agree_with_burn_operations() {
    double();
    masked::runs_agree_with_burn_operations::<Wide, Autodiff<Wide>>(1e-12, F64);
    masked::runs_agree_with_burn_operations::<WideNdArray, Autodiff<WideNdArray>>(1e-12, F64);
    masked::runs_agree_with_burn_operations::<Wide, Reference>(1e-4, F32);
    masked::runs_agree_with_burn_operations::<WideNdArray, Reference>(1e-4, F32);
}

#[test]
fn does_not_depend_on_threads() {
    double();
    masked::does_not_depend_on_threads::<Wide>(F64);
    masked::does_not_depend_on_threads::<Wide>(F32);
}

#[test]
fn inverse_agrees() {
    double();
    masked::inverse_agrees::<Flex, Wide>(1e-12, F64);
    masked::inverse_agrees::<Flex, Wide>(1e-4, F32);
    masked::inverse_agrees::<NdArray, Wide>(1e-4, F32);
}
