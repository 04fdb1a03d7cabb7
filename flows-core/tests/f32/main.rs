//! What is checked in f32: the registry on the default backend, with its specialised kernels, and
//! those kernels against the generic path.

#[path = "../conformance/registry.rs"]
mod registry;

#[path = "../conformance/extremes.rs"]
mod extremes;
#[path = "../conformance/trained.rs"]
mod trained;
#[path = "../conformance/transforms.rs"]
mod transforms;

mod incremental_kernel;
mod masked_kernel;
mod own_enums;

use burn::backend::{Autodiff, Flex};
use flows_core::autodiff::exclusive;
use flows_core::testing::{Precision, Suite};

#[test]
fn every_layer_on_flex() {
    let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
    registry::registry(&mut suite, 1e-6);
    suite.finish();
}

#[test]
fn saturated_layers_stay_finite() {
    let _alone = exclusive();
    extremes::saturated_layers_stay_finite::<Autodiff<Flex>>(&Default::default());
}

#[test]
fn transforms_at_special_points() {
    let _alone = exclusive();
    transforms::transforms_at_special_points::<Autodiff<Flex>>(&Default::default(), "");
}

#[test]
fn densities_of_transforms_integrate_to_one() {
    transforms::densities_integrate_to_one::<Flex>(&Default::default());
}

#[test]
fn trained_flows_come_back() {
    let _alone = exclusive();
    trained::trained_flows_come_back::<Autodiff<Flex>>(&Default::default(), 1e-4);
}
