//! Where layers take variables, and what flows make of rows outside.

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{
    Chain, ElementwiseAffineConfig, ElementwiseMapConfig, Inverted, Layer, LayerConfig, Pair,
    PermutationConfig, UnivariateMap,
};
use flows_core::distributions::{DiagonalNormal, LogProb, Sample, Uniform};
use flows_core::domain::Interval;
use flows_core::error::Error;
use flows_core::flow::Flow;
use flows_core::masks::Ordering;
use flows_core::random::generator;
use flows_core::testing::rows;

use crate::double;
use crate::registry::elementwise_maps;

fn layer(config: LayerConfig) -> Layer<Flex> {
    config.init(double(), &mut generator(0)).unwrap()
}

fn maps(maps: &[UnivariateMap]) -> Layer<Flex> {
    layer(LayerConfig::ElementwiseMap(ElementwiseMapConfig::new(
        maps.to_vec(),
    )))
}

fn affine() -> Layer<Flex> {
    layer(LayerConfig::ElementwiseAffine(
        ElementwiseAffineConfig::new(1),
    ))
}

fn chain(layers: &[Layer<Flex>]) -> Result<Chain<Flex, Layer<Flex>>, Error> {
    Chain::new(layers.to_vec())
}

fn column(values: &[f64]) -> Tensor<Flex, 2> {
    let data = TensorData::new(values.to_vec(), [values.len(), 1]);
    Tensor::from_data(data, double())
}

#[test]
fn each_function_and_its_inverse_lead_from_domain_to_domain() {
    for map in elementwise_maps() {
        let layer = maps(&[map]);
        let there = layer.image(&layer.domain()).unwrap();
        assert_eq!(there, layer.inverse_domain(), "{map:?}");
        assert_eq!(
            layer.inverse_image(&there).unwrap(),
            layer.domain(),
            "{map:?}"
        );
        let inverted = Inverted::new(layer);
        assert_eq!(inverted.image(&inverted.domain()).unwrap(), [map.domain()]);
    }
}

#[test]
fn layers_that_do_not_take_what_comes_are_refused_when_composed() {
    let [logit, sigmoid, exp, log] = [
        UnivariateMap::Logit,
        UnivariateMap::Sigmoid,
        UnivariateMap::Exp,
        UnivariateMap::Log,
    ]
    .map(|map| maps(&[map]));
    chain(&[logit.clone(), affine(), sigmoid.clone(), logit.clone()]).unwrap();
    chain(&[sigmoid.clone(), log.clone()]).unwrap();
    Pair::new(logit.clone(), affine()).unwrap();
    let refused = |layers: &[Layer<Flex>]| chain(layers).unwrap_err().to_string();
    let error = refused(&[exp.clone(), logit.clone()]);
    assert!(
        error.contains("(0, inf) in column 1") && error.contains("inside (0, 1)"),
        "{error}"
    );
    let error = refused(&[exp.clone(), affine()]);
    assert!(
        error.contains("the reals; put an elementwise map"),
        "{error}"
    );
    assert!(Pair::new(affine(), logit).is_err());
    // A power of a positive number is positive: no place for a normal base.
    let normal = || DiagonalNormal::<Flex>::standard(1, double());
    let power = maps(&[UnivariateMap::Power { exponent: 2.0 }]);
    let error = Flow::data_to_base(power.clone(), normal())
        .unwrap_err()
        .to_string();
    assert!(error.contains("inside (0, inf)"), "{error}");
    assert!(Flow::base_to_data(power, normal()).is_err());
    assert!(Flow::data_to_base(sigmoid, Uniform::new(&[0.0], &[1.0], double()).unwrap()).is_ok());
}

#[test]
fn columns_are_followed_through_a_permutation() {
    let first = maps(&[UnivariateMap::Exp, UnivariateMap::Identity]);
    let swap = layer(LayerConfig::Permutation(PermutationConfig::new(
        2,
        Ordering::Reversed,
    )));
    let right = maps(&[UnivariateMap::Identity, UnivariateMap::Log]);
    let whole = chain(&[first.clone(), swap.clone(), right]).unwrap();
    assert_eq!(whole.image(&whole.domain()).unwrap(), [Interval::REALS; 2]);
    assert_eq!(
        whole.inverse_image(&whole.inverse_domain()).unwrap(),
        whole.domain()
    );
    let wrong = maps(&[UnivariateMap::Log, UnivariateMap::Identity]);
    assert!(chain(&[first, swap, wrong]).is_err());
}

#[test]
fn a_density_on_an_interval_integrates_to_one_and_is_zero_outside() {
    let logit = Pair::new(maps(&[UnivariateMap::Logit]), affine()).unwrap();
    let flow = Flow::data_to_base(logit, DiagonalNormal::<Flex>::standard(1, double())).unwrap();
    let n = 4000;
    let grid: Vec<f64> = (0..n)
        .map(|k| (f64::from(k) + 0.5) / f64::from(n))
        .collect();
    let density = rows(&flow.log_prob(column(&grid), None));
    let integral = density.iter().map(|l| l.exp()).sum::<f64>() / f64::from(n);
    assert!((integral - 1.0).abs() < 1e-9, "{integral}");
    let outside = rows(&flow.log_prob(column(&[-0.5, 0.0, 1.0, 7.0, f64::NAN]), None));
    assert_eq!(outside[..4], [f64::NEG_INFINITY; 4]);
    assert!(outside[4].is_nan());
    assert_eq!(flow.support(), [Interval::UNIT]);
}

#[test]
fn a_log_normal_variable_has_its_density_and_positive_samples() {
    let exp = maps(&[UnivariateMap::Exp]);
    let base = DiagonalNormal::<Flex>::new(&[0.3], &[0.8], double()).unwrap();
    let flow = Flow::base_to_data(exp, base).unwrap();
    let points = [0.05, 0.7, 1.0, 4.0];
    let ours = rows(&flow.log_prob(column(&points), None));
    for (x, log_p) in points.into_iter().zip(ours) {
        let z = (x.ln() - 0.3) / 0.8;
        let right = -0.5 * z * z - (0.8 * x * (2.0 * std::f64::consts::PI).sqrt()).ln();
        assert!((log_p - right).abs() < 1e-12, "{x}: {log_p}, {right}");
    }
    assert_eq!(
        rows(&flow.log_prob(column(&[-1.0, 0.0]), None)),
        [f64::NEG_INFINITY; 2]
    );
    let samples = rows(&flow.sample(500, None, &mut generator(1)));
    assert!(samples.iter().all(|x| *x > 0.0));
}

#[test]
fn functions_that_are_none_are_refused() {
    let none = |map| ElementwiseMapConfig::new(vec![map]).init::<Flex>(double(), &mut generator(0));
    assert!(none(UnivariateMap::Power { exponent: 0.0 }).is_err());
    assert!(
        none(UnivariateMap::Affine {
            scale: 0.0,
            shift: 1.0
        })
        .is_err()
    );
    assert!(
        none(UnivariateMap::Affine {
            scale: 1.0,
            shift: f64::NAN
        })
        .is_err()
    );
    let parsed: ElementwiseMapConfig =
        toml::from_str("maps = [\"log\", { power = { exponent = 2.0 } }]").unwrap();
    assert_eq!(
        parsed.maps,
        [UnivariateMap::Log, UnivariateMap::Power { exponent: 2.0 }]
    );
    let error =
        toml::from_str::<ElementwiseMapConfig>("maps = [{ power = { exponent = 2.0, zzz = 1 } }]");
    assert!(error.unwrap_err().to_string().contains("zzz"));
}
