//! Everything that is checked in f64. The default float type of a device is fixed on first use,
//! so these tests have a binary of their own.

#[path = "../conformance/registry.rs"]
mod registry;

#[path = "../conformance/extremes.rs"]
mod extremes;
#[path = "../conformance/trained.rs"]
mod trained;
#[path = "../conformance/transforms.rs"]
mod transforms;

mod autoregressive;
mod batch_norm;
mod conformance;
mod ddnf;
mod distributions;
mod elementary_layers;
mod gaussian;
mod golden_parity;
mod learned_masks;
mod masked_kernel;
mod parity;
mod passes;
mod planar_parity;
mod states;
mod suite;
mod visits;

use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::backend::Backend;
use burn::tensor::{FloatDType, IntDType};
use flows_core::autodiff::{Exclusive, exclusive};
use std::sync::Once;

/// The default backend, in f64 throughout this binary.
pub(crate) type Wide = Autodiff<Flex>;
/// The other CPU backend, in f64 throughout this binary.
pub(crate) type WideNdArray = Autodiff<NdArray>;

thread_local! {
    /// The harness runs each test on a thread of its own: its gradients are its alone until it ends.
    static ALONE: Exclusive = exclusive();
}

/// The device of `B`, with f64 as its default type. Every test begins with it.
pub(crate) fn device<B: Backend>() -> B::Device {
    ALONE.with(|_| ());
    static SET: Once = Once::new();
    SET.call_once(|| {
        let set = burn::tensor::set_default_dtypes::<Flex>;
        set(&Default::default(), FloatDType::F64, IntDType::I64).expect("first use of Flex");
        let set = burn::tensor::set_default_dtypes::<NdArray>;
        set(&Default::default(), FloatDType::F64, IntDType::I64).expect("first use of NdArray");
    });
    B::Device::default()
}
