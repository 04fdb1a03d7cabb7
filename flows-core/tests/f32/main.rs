//! The registry in f32 on the default backend, with its specialised kernels.

#[path = "../conformance/registry.rs"]
mod registry;

use burn::backend::{Autodiff, Flex};
use flows_core::testing::{Precision, Suite};

#[test]
fn every_layer_on_flex() {
    let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
    registry::registry(&mut suite, 1e-6);
    suite.finish();
}
