//! Splines of the circle in f64: the seam, couplings of angles, what is refused. The rest is in the conformance
//! suite.

use std::f64::consts::PI;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use flows_core::bijector::Invert;
use flows_core::bijectors::{AutoregressiveConfig, Chain, LayerConfig, LuLinearConfig};
use flows_core::distributions::{DiagonalNormal, LogProb, TorusConfig};
use flows_core::flow::Flow;
use flows_core::masks::Untouched;
use flows_core::random::generator;
use flows_core::testing::{batch, normal_batch, rows};
use flows_core::transforms::{CircularSpline, Transform};

use crate::double;

type B = Autodiff<Flex>;

fn column(values: &[f64]) -> Tensor<B, 2> {
    let shape = [values.len(), 1];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), double())
}

#[test]
fn value_and_slope_pass_the_seam_of_the_input_and_of_the_output() {
    for bound in [PI, 180.0] {
        let spline = CircularSpline {
            bins: 5,
            bound,
            ..CircularSpline::default()
        };
        let raw: Vec<f64> = rows(&normal_batch::<B>([1, 16], 7, double()));
        let raw = Tensor::<B, 3>::from_data(TensorData::new(raw, [1, 16, 1]), double());
        let near = 1e-9 * bound;
        let x = [-bound, bound, bound.next_down(), near - bound, bound - near];
        let many = |n: usize| raw.clone().repeat_dim(0, n);
        let at = spline.forward(many(5), column(&x));
        let (y, slope) = (rows(&at.value), rows(&at.log_slope));
        let apart = |a: f64, b: f64| {
            let off = (a - b).rem_euclid(2.0 * bound);
            off.min(2.0 * bound - off) / bound
        };
        for k in 1..5 {
            assert!(apart(y[k], y[0]) < 1e-7, "{y:?}");
            assert!((slope[k] - slope[0]).abs() < 1e-7, "{slope:?}");
        }
        assert!(apart(y[1], y[0]) < 1e-15 && (slope[1] - slope[0]).abs() < 1e-14);
        // Where the output starts anew.
        let seam = spline.inverse(many(2), column(&[-bound, bound]));
        let x = rows(&seam.value);
        assert!(apart(x[0], x[1]) < 1e-14, "{x:?}");
        assert!(
            x[0].abs() < bound - near,
            "the rotation moves the seam: {x:?}"
        );
        let beside = spline.forward(many(2), column(&[x[0] - near, x[0] + near]));
        let y = rows(&beside.value);
        assert!(
            (y[0] - y[1]).abs() > 1.9 * bound && apart(y[0], y[1]) < 1e-7,
            "{y:?}"
        );
        let slope = rows(&beside.log_slope);
        assert!((slope[0] - slope[1]).abs() < 1e-6, "{slope:?}");
    }
}

#[test]
fn a_density_over_angles_is_continuous_across_every_seam() {
    let coupling = |untouched| AutoregressiveConfig {
        transform: CircularSpline::default().into(),
        ..AutoregressiveConfig::coupling(2, vec![16], untouched)
    };
    let mut layers = Vec::new();
    for untouched in [Untouched::FirstHalf, Untouched::SecondHalf] {
        let layer = coupling(untouched)
            .init::<Flex>(double(), &mut generator(1))
            .unwrap();
        layers.push(layer);
    }
    let base = TorusConfig::default()
        .init(2, double(), &mut generator(0))
        .unwrap();
    let flow = Flow::data_to_base(Chain::new(layers).unwrap(), base).unwrap();
    let near = 1e-9;
    let points = [
        [PI - near, 0.3],
        [near - PI, 0.3],
        [-1.2, PI - near],
        [-1.2, near - PI],
        [PI + near, 0.3],
    ];
    let points = batch::<Flex>(&points.map(|p| p.to_vec()), double());
    let log_p = rows(&flow.log_prob(points, None));
    assert!(
        (log_p[0] - log_p[1]).abs() < 1e-6 && (log_p[2] - log_p[3]).abs() < 1e-6,
        "{log_p:?}"
    );
    assert_eq!(log_p[4], f64::NEG_INFINITY);
    assert!(
        log_p[0] != -2.0 * (2.0 * PI).ln(),
        "a layer that moves nothing"
    );
    // Angles that meet at the seam are mapped to angles that do.
    let layer = coupling(Untouched::FirstHalf)
        .init::<Flex>(double(), &mut generator(1))
        .unwrap();
    let back = layer.inverse(batch(&[vec![0.2, -PI], vec![0.2, PI]], double()), None);
    let back = rows(&back);
    assert!((back[1] - back[3]).abs() < 1e-12, "{back:?}");
}

#[test]
fn what_does_not_lie_on_a_circle_is_refused() {
    let angles = |dim| AutoregressiveConfig {
        transform: CircularSpline::default().into(),
        ..AutoregressiveConfig::new(dim, vec![4])
    };
    let error = angles(2)
        .init::<Flex>(double(), &mut generator(0))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("conditioner is Masked, expected coupling"),
        "{error}"
    );
    let layer = || angles(1).init::<Flex>(double(), &mut generator(0)).unwrap();
    let normal = DiagonalNormal::standard(1, double());
    let error = Flow::data_to_base(layer(), normal).unwrap_err().to_string();
    assert!(
        error.contains("(-inf, inf) in column 1, expected inside (-3.14"),
        "{error}"
    );
    let layers = [
        LayerConfig::LuLinear(LuLinearConfig::new(1)),
        LayerConfig::Autoregressive(angles(1)),
    ];
    let layers = layers.map(|l| l.init::<Flex>(double(), &mut generator(0)).unwrap());
    assert!(Chain::new(layers.to_vec()).is_err());
    for (spline, expected) in [
        (
            CircularSpline {
                bins: 1,
                ..CircularSpline::default()
            },
            "bins is 1",
        ),
        (
            CircularSpline {
                bound: -1.0,
                ..CircularSpline::default()
            },
            "bound is -1",
        ),
        (
            CircularSpline {
                min_slope: 1.0,
                ..CircularSpline::default()
            },
            "min_slope is 1",
        ),
    ] {
        let config = AutoregressiveConfig {
            transform: spline.into(),
            ..angles(1)
        };
        let error = config
            .init::<Flex>(double(), &mut generator(0))
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
