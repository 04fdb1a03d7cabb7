//! What is checked in f32: the registry on the default backend, with its specialised kernels, and
//! those kernels against the generic path.

#[path = "../conformance/registry.rs"]
mod registry;

mod incremental_kernel;

use burn::backend::{Autodiff, Flex};
use flows_core::testing::{Precision, Suite};

#[test]
fn every_layer_on_flex() {
    let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
    registry::registry(&mut suite, 1e-6);
    suite.finish();
}
