//! What is checked in f32: the registry on the default backend, with its specialised kernels, and
//! those kernels against the generic path.

mod incremental_kernel;
mod own_enums;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, FloatDType, IntDType, TensorCreationOptions};
use flows_core::autodiff::exclusive;
use flows_core::testing::{Precision, Suite};

#[test]
fn every_layer_on_flex() {
    let mut suite =
        Suite::<Autodiff<Flex>>::new(TensorCreationOptions::default(), Precision::SINGLE);
    crate::registry::registry(&mut suite, 1e-6);
    suite.finish();
}

/// A process whose default type is f64, which has to be one of its own: this test starts itself once more.
#[test]
fn every_layer_in_f32_where_f64_is_the_default() {
    const CHILD: &str = "FLOWS_TEST_F64_IS_THE_DEFAULT";
    let name = "single::every_layer_in_f32_where_f64_is_the_default";
    if std::env::var_os(CHILD).is_none() {
        let program = std::env::current_exe().expect("this program");
        let mut child = std::process::Command::new(program);
        let output = child.args(["--exact", name]).env(CHILD, "1").output();
        let output = output.expect("a child");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        return;
    }
    let device = Default::default();
    burn::tensor::set_default_dtypes::<Flex>(&device, FloatDType::F64, IntDType::I64)
        .expect("first use of Flex");
    let options = (&device, DType::F32);
    let mut suite = Suite::<Autodiff<Flex>>::new(options, Precision::SINGLE).only_values();
    crate::registry::registry(&mut suite, 1e-6);
    suite.finish();
}

#[test]
fn saturated_layers_stay_finite() {
    let _alone = exclusive();
    crate::extremes::saturated_layers_stay_finite::<Autodiff<Flex>>(
        &TensorCreationOptions::default(),
    );
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
