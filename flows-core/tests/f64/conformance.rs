//! The registry in f64 on both CPU backends.

use flows_core::testing::{Precision, Suite};

use crate::double;
use crate::processes::{in_processes, processors};
use crate::registry::registry;
use crate::{Wide, WideNdArray};

#[test]
fn every_layer_on_flex_and_the_same_on_ndarray() {
    let name = "conformance::every_layer_on_flex_and_the_same_on_ndarray";
    in_processes(name, processors(), |part| {
        let mut flex = part.of(Suite::<Wide>::new(double(), Precision::DOUBLE));
        registry(&mut flex, 1e-12);
        let ndarray = Suite::<WideNdArray>::new(double(), Precision::DOUBLE);
        let mut ndarray = part.of(ndarray.only_values());
        registry(&mut ndarray, 1e-12);
        flex.agree_with(&ndarray, 1e-10);
        flex.finish();
        ndarray.finish();
    });
}

#[test]
fn saturated_layers_stay_finite() {
    in_processes("conformance::saturated_layers_stay_finite", 1, |_| {
        crate::extremes::saturated_layers_stay_finite::<Wide>(&double().into());
    });
}

#[test]
fn transforms_at_special_points() {
    crate::transforms::transforms_at_special_points::<Wide>(&double().into(), "");
}

#[test]
fn densities_of_transforms_integrate_to_one() {
    crate::transforms::densities_integrate_to_one::<burn::backend::Flex>(&double().into());
}

#[test]
fn trained_flows_come_back() {
    crate::trained::trained_flows_come_back::<Wide>(&double().into(), 1e-10);
}
