//! Transforms and layers of another crate: enums made by the macros, configurations that name them, the suite.

use burn::backend::{Autodiff, Flex};
use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijectors::{
    Autoregressive, AutoregressiveInverse, ElementwiseAffine, ElementwiseAffineConfig, Planar,
    PlanarConfig,
};
use flows_core::conditioners::Coupling;
use flows_core::masks::Untouched;
use flows_core::nn::{Made, MadeConfig, MlpConfig};
use flows_core::testing::{Case, Precision, Suite};
use flows_core::transforms::{Elementwise, LogScale, Transform, parameter};
use flows_core::{layer_enum, transform_enum};
use serde::{Deserialize, Serialize};

/// `y = x + t`.
#[derive(Module, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shift {}

impl<B: Backend> Transform<B> for Shift {
    fn parameters(&self) -> usize {
        1
    }

    fn identity(&self) -> Vec<f64> {
        vec![0.0]
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        Elementwise {
            log_slope: x.zeros_like(),
            value: x + parameter(&raw, 0),
        }
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        Elementwise {
            log_slope: y.zeros_like(),
            value: y - parameter(&raw, 0),
        }
    }
}

transform_enum! {
    /// Those of this crate and one of the library.
    enum Own {
        /// The one above.
        Shift(Shift),
        /// Scale and shift.
        Affine(flows_core::transforms::Affine),
    }
}

layer_enum! {
    /// Two layers.
    enum OwnLayer;
    /// Their configurations.
    enum OwnLayerConfig;

    /// Planar map.
    Planar(Planar<B>, PlanarConfig),
    /// Elementwise affine map.
    ElementwiseAffine(ElementwiseAffine<B>, ElementwiseAffineConfig),
}

#[test]
fn transforms_and_layers_of_another_crate_pass_the_suite() {
    let mut suite =
        Suite::<Autodiff<Flex>>::new(TensorCreationOptions::default(), Precision::SINGLE);
    let named: [Own; 2] = ["'shift'", "{ affine = { scale = 'exp' } }"].map(|text| {
        let text = format!("transform = {text}");
        let mut table: std::collections::BTreeMap<String, Own> = toml::from_str(&text).unwrap();
        table.remove("transform").unwrap()
    });
    assert_eq!(named, [Shift {}.into(), Own::Affine(LogScale::Exp.into())]);
    for transform in named {
        let kinds = Transform::<Flex>::parameters(&transform);
        suite.check(
            Case::new(format!("{transform:?}, masked")),
            |device, rng| {
                let made = MadeConfig {
                    parameters: kinds,
                    ..MadeConfig::new(4, vec![9])
                };
                let made: Made<_> = made.init(device, rng)?;
                Autoregressive::new(made, transform.clone(), AutoregressiveInverse::Incremental)
            },
        );
        suite.check(
            Case::new(format!("{transform:?}, coupling")),
            |device, rng| {
                let network = MlpConfig::new(2, vec![9], 2 * kinds).init(device, rng)?;
                let coupling = Coupling::new(network, 4, &Untouched::Odd)?;
                let inverse = AutoregressiveInverse::Incremental;
                Autoregressive::new(coupling, transform.clone(), inverse)
            },
        );
    }
    for kind in ["planar", "elementwise-affine"] {
        let text = format!("layer = '{kind}'\ndim = 3");
        let config: OwnLayerConfig = toml::from_str(&text).unwrap();
        suite.check(Case::new(text), |device, rng| config.init(device, rng));
    }
    suite.finish();
}
