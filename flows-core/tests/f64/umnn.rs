//! Integrals of a positive network in f64: how far the quadrature is from what it stands for. The rest is in the
//! conformance suite.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use flows_core::testing::{normal_batch, rows};
use flows_core::transforms::{Transform, Umnn};

use crate::double;

type B = Autodiff<Flex>;

/// `log f` written out on the host.
fn log_slope(raw: &[f64], units: usize, bound: f64, u: f64) -> f64 {
    let unit = |j: usize| {
        let at = |kind: usize| raw[2 + kind * units + j];
        at(0).tanh() * (4.0 * at(1).tanh() * u / bound + at(2)).tanh()
    };
    let sum: f64 = (0..units).map(unit).sum();
    3.0 * (raw[1] / 3.0).tanh() + 3.0 * sum / units as f64
}

#[test]
fn the_slope_of_the_quadrature_is_the_integrand_and_its_value_the_integral() {
    let (units, bound) = (6, 5.0);
    let map = Umnn { units, bound };
    let points: Vec<f64> = (0..41).map(|k| -5.0 + 0.25 * f64::from(k)).collect();
    let n = points.len();
    for (seed, size) in [(1, 0.3), (2, 1.0), (3, 3.0), (4, 100.0)] {
        let mut raw: Vec<f64> = rows(&normal_batch::<B>([1, 2 + 3 * units], seed, double()));
        raw.iter_mut().for_each(|r| *r *= size);
        if seed == 4 {
            // All units pull together, as steeply as they can, at the middle of the interval.
            raw[2..2 + 2 * units].fill(100.0);
            raw[2 + 2 * units..].fill(-2.0);
        }
        let tensor = TensorData::new(raw.clone(), [1, raw.len(), 1]);
        let tensor = Tensor::<B, 3>::from_data(tensor, double()).repeat_dim(0, n);
        let x = TensorData::new(points.clone(), [n, 1]);
        let x = Tensor::<B, 2>::from_data(x, double()).require_grad();
        let there = map.forward(tensor, x.clone());
        let slopes = x.grad(&there.value.clone().sum().backward()).unwrap();
        let slopes: Vec<f64> = slopes.into_data().iter().collect();
        let (values, logs) = (rows(&there.value), rows(&there.log_slope));
        for i in 0..n {
            let f = log_slope(&raw, units, bound, points[i]).exp();
            assert!((logs[i] - f.ln()).abs() < 1e-12, "{} {}", logs[i], f.ln());
            let off = (slopes[i] - f).abs();
            assert!(
                off < 1e-8 * f.max(1.0),
                "size {size}, at {}: {off:e}",
                points[i]
            );
            // Simpson's rule on a fine grid.
            let cells = 4000;
            let h = points[i] / f64::from(2 * cells);
            let f = |k: i32| log_slope(&raw, units, bound, h * f64::from(k)).exp();
            let simpson = |k: i32| f(2 * k) + 4.0 * f(2 * k + 1) + f(2 * k + 2);
            let integral: f64 = (0..cells).map(simpson).sum::<f64>() * h / 3.0;
            let off = (values[i] - raw[0] - integral).abs();
            assert!(off < 1e-8 * (1.0 + integral.abs()), "size {size}: {off:e}");
        }
    }
}
