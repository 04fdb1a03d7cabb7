//! The registry in f64 on both CPU backends.

use flows_core::testing::{Precision, Suite};

use crate::registry::registry;
use crate::{Wide, WideNdArray, device};

#[test]
fn every_layer_on_flex_and_the_same_on_ndarray() {
    let mut flex = Suite::<Wide>::new(&device::<Wide>(), Precision::DOUBLE);
    registry(&mut flex, 1e-12);
    let mut ndarray = Suite::<WideNdArray>::new(&device::<WideNdArray>(), Precision::DOUBLE);
    registry(&mut ndarray, 1e-12);
    flex.agree_with(&ndarray, 1e-10);
    flex.finish();
    ndarray.finish();
}

#[test]
fn saturated_layers_stay_finite() {
    crate::extremes::saturated_layers_stay_finite::<Wide>(&device::<Wide>());
}

#[test]
fn transforms_at_special_points() {
    crate::transforms::transforms_at_special_points::<Wide>(&device::<Wide>(), "");
}

#[test]
fn densities_of_transforms_integrate_to_one() {
    crate::transforms::densities_integrate_to_one::<burn::backend::Flex>(&device::<Wide>());
}

#[test]
fn trained_flows_come_back() {
    crate::trained::trained_flows_come_back::<Wide>(&device::<Wide>(), 1e-10);
}
