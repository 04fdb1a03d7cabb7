//! The fused autoregressive layer: in f64 strictly, in f32 to the rounding of exponentials of sums over many units.

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::DType::{F32, F64};

use crate::{Wide, WideNdArray};
use crate::{double, masked_cases};

/// The reference in f32. Not NdArray, also where the kernel runs on it: its own operations take reciprocals, and with
/// them the gradient of a division, to 14 bits where there is AVX-512, and to 12 where there is not.
type Reference = Autodiff<Wide>;

#[test]
fn agrees_with_burn_operations() {
    double();
    masked_cases::agrees_with_burn_operations::<Wide, Autodiff<Wide>>(1e-12, F64);
    masked_cases::agrees_with_burn_operations::<WideNdArray, Autodiff<WideNdArray>>(1e-12, F64);
    masked_cases::agrees_with_burn_operations::<Wide, Reference>(1e-4, F32);
    masked_cases::agrees_with_burn_operations::<WideNdArray, Reference>(1e-4, F32);
}

#[test]
fn agrees_without_gradients() {
    double();
    masked_cases::agrees_without_gradients::<Wide>(1e-13, F64);
    masked_cases::agrees_without_gradients::<Wide>(1e-6, F32);
    masked_cases::agrees_without_gradients::<WideNdArray>(1e-6, F32);
}

#[test]
fn runs_agree_with_burn_operations() {
    double();
    masked_cases::runs_agree_with_burn_operations::<Wide, Autodiff<Wide>>(1e-12, F64);
    masked_cases::runs_agree_with_burn_operations::<WideNdArray, Autodiff<WideNdArray>>(1e-12, F64);
    masked_cases::runs_agree_with_burn_operations::<Wide, Reference>(1e-4, F32);
    masked_cases::runs_agree_with_burn_operations::<WideNdArray, Reference>(1e-4, F32);
}

#[test]
fn does_not_depend_on_threads() {
    double();
    masked_cases::does_not_depend_on_threads::<Wide>(F64);
    masked_cases::does_not_depend_on_threads::<Wide>(F32);
}

#[test]
fn inverse_agrees() {
    double();
    masked_cases::inverse_agrees::<Flex, Wide>(1e-12, F64);
    masked_cases::inverse_agrees::<Flex, Wide>(1e-4, F32);
    masked_cases::inverse_agrees::<NdArray, Wide>(1e-4, F32);
}
