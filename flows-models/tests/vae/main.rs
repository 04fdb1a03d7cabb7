//! Autoencoders in f64: log-determinants, gradients, and likelihoods that are known in closed form.
//! The default float type of a device is fixed on first use, so these tests have a binary of their
//! own.

mod importance;
mod posterior;

use std::sync::Once;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{FloatDType, IntDType};
use flows_core::autodiff::{Exclusive, exclusive};

/// Flex in f64 throughout this binary.
pub(crate) type Wide = Autodiff<Flex>;

thread_local! {
    /// The harness runs each test on a thread of its own: its gradients are its alone until it ends.
    static ALONE: Exclusive = exclusive();
}

/// The device, with f64 as its default type. Every test begins with it.
pub(crate) fn device() -> <Flex as burn::tensor::backend::BackendTypes>::Device {
    ALONE.with(|_| ());
    static SET: Once = Once::new();
    SET.call_once(|| {
        let set = burn::tensor::set_default_dtypes::<Flex>;
        set(&Default::default(), FloatDType::F64, IntDType::I64).expect("first use of Flex");
    });
    Default::default()
}
