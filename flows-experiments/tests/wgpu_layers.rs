//! The registry of flows-core's conformance suite, in f32 on wgpu.
//!
//! Here and not in flows-core, whose tests build without the GPU crates. An adapter is found, or
//! missed, as in `src/gpu_tests.rs`.

#[path = "../../flows-core/tests/conformance/registry.rs"]
mod registry;

use std::io::Write as _;

use burn::tensor::backend::AutodiffBackend;
use flows_core::testing::{Precision, Suite};
use flows_experiments::backend::{BackendError, BackendKind, Dtype, Task, dispatch};

struct Registry;

impl Task for Registry {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: B::Device) {
        let mut suite = Suite::<B>::new(&device, Precision::SINGLE);
        registry::registry(&mut suite, 1e-6);
        suite.finish();
    }
}

#[test]
fn every_layer_on_wgpu() {
    match dispatch(BackendKind::Wgpu, Dtype::F32, Registry) {
        Ok(()) => {}
        Err(error @ BackendError::Device { .. }) => {
            let required = std::env::var_os("FLOWS_REQUIRE_ADAPTER").is_some();
            assert!(!required, "{error}");
            writeln!(std::io::stderr(), "SKIPPED: {error}").unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}
