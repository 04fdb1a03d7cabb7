//! What is checked in f32: the registry on the default backend, with its specialised kernels, and
//! those kernels against the generic path.

mod incremental_kernel;
mod own_enums;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, FloatDType, IntDType, TensorCreationOptions};
use flows_core::autodiff::exclusive;
use flows_core::testing::{Precision, Suite};

use crate::processes::{in_processes, processors};

#[test]
fn every_layer_on_flex() {
    in_processes("single::every_layer_on_flex", processors(), |part| {
        let options = TensorCreationOptions::default();
        let mut suite = part.of(Suite::<Autodiff<Flex>>::new(options, Precision::SINGLE));
        crate::registry::registry(&mut suite, 1e-6);
        suite.finish();
    });
}

#[test]
fn every_layer_in_f32_where_f64_is_the_default() {
    let name = "single::every_layer_in_f32_where_f64_is_the_default";
    in_processes(name, processors(), |part| {
        let device = Default::default();
        burn::tensor::set_default_dtypes::<Flex>(&device, FloatDType::F64, IntDType::I64)
            .expect("first use of Flex");
        let suite = Suite::<Autodiff<Flex>>::new((&device, DType::F32), Precision::SINGLE);
        let mut suite = part.of(suite.only_values());
        crate::registry::registry(&mut suite, 1e-6);
        suite.finish();
    });
}

#[test]
fn saturated_layers_stay_finite() {
    in_processes("single::saturated_layers_stay_finite", 1, |_| {
        let options = TensorCreationOptions::default();
        crate::extremes::saturated_layers_stay_finite::<Autodiff<Flex>>(&options);
    });
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
