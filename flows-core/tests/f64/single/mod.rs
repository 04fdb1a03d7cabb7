//! What is checked in f32: the registry on the default backend, with its specialised kernels, and
//! those kernels against the generic path.

mod incremental_kernel;
mod own_enums;

use burn::backend::{Autodiff, Flex};
use burn::tensor::TensorCreationOptions;
use flows_core::autodiff::exclusive;
use flows_core::testing::{Precision, Suite};

#[test]
fn every_layer_on_flex() {
    let mut suite =
        Suite::<Autodiff<Flex>>::new(TensorCreationOptions::default(), Precision::SINGLE);
    crate::registry::registry(&mut suite, 1e-6);
    suite.finish();
}

#[test]
fn saturated_layers_stay_finite() {
    let _alone = exclusive();
    crate::extremes::saturated_layers_stay_finite::<Autodiff<Flex>>(
        &TensorCreationOptions::default(),
    );
}

#[test]
fn transforms_at_special_points() {
    let _alone = exclusive();
    crate::transforms::transforms_at_special_points::<Autodiff<Flex>>(
        &TensorCreationOptions::default(),
        "",
    );
}

#[test]
fn trained_flows_come_back() {
    let _alone = exclusive();
    crate::trained::trained_flows_come_back::<Autodiff<Flex>>(
        &TensorCreationOptions::default(),
        1e-4,
    );
}
