//! The layers and distributions: everything in f64, and in f32 what depends on it, in one process.

#[path = "../conformance/registry.rs"]
mod registry;

#[path = "../conformance/extremes.rs"]
mod extremes;
#[path = "../conformance/trained.rs"]
mod trained;
#[path = "../conformance/transforms.rs"]
mod transforms;

mod autoregressive;
mod bases;
mod batch_norm;
mod bnaf;
mod circular;
mod cnf;
mod conformance;
mod continuous_parity;
mod ddnf;
mod distributions;
mod domains;
mod elementary_layers;
mod flow;
mod gaussian;
mod golden_parity;
mod learned_masks;
mod lipschitz;
mod masked_cases;
mod masked_kernel;
mod parity;
mod passes;
mod planar_parity;
mod processes;
mod single;
mod states;
mod suite;
mod umnn;
mod visits;

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, TensorCreationOptions};
use flows_core::autodiff::{Exclusive, exclusive};

// The graph of a small layer is made of small tensors: a fifth of the time was the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The default backend.
pub(crate) type Wide = Autodiff<Flex>;
/// The other CPU backend.
pub(crate) type WideNdArray = Autodiff<NdArray>;

/// Tensors in f64 on the default device, whose default type is f32.
#[derive(Clone, Copy)]
pub(crate) struct Double;

impl<B: Backend> From<Double> for TensorCreationOptions<B> {
    fn from(_: Double) -> Self {
        Self::default().with_dtype(DType::F64)
    }
}

thread_local! {
    /// The harness runs each test on a thread of its own: its gradients are its alone until it ends.
    static ALONE: Exclusive = exclusive();
}

/// Every test begins with it.
pub(crate) fn double() -> Double {
    ALONE.with(|_| ());
    Double
}
