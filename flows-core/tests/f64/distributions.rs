//! Base distributions in f64: closed forms, moments, what is refused. The rest is in the conformance suite.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Tensor, TensorData};
use flows_core::distributions::{DiagonalNormal, GaussianMixture, LogProb, Sample, Uniform};
use rand::{SeedableRng, rngs::StdRng};
use statrs::distribution::{Continuous, Normal, Uniform as StatrsUniform};

use crate::double;

type B = Autodiff<Flex>;

fn batch(rows: &[Vec<f64>]) -> Tensor<B, 2> {
    let shape = [rows.len(), rows[0].len()];
    Tensor::from_data(TensorData::new(rows.concat(), shape), double())
}

fn values<const D: usize>(t: Tensor<B, D>) -> Vec<f64> {
    assert_eq!(t.dtype(), DType::F64);
    t.into_data().iter::<f64>().collect()
}

fn mixture_1d() -> GaussianMixture<B> {
    let loc = [vec![-1.5], vec![0.0], vec![2.0]];
    let scale = [vec![0.3], vec![1.0], vec![0.7]];
    GaussianMixture::new(&[1.0, 2.0, 5.0], &loc, &scale, double()).unwrap()
}

fn mixture_2d() -> GaussianMixture<B> {
    let loc = [vec![-1.0, 0.5], vec![1.0, -0.5]];
    let scale = [vec![0.4, 0.8], vec![0.6, 0.3]];
    GaussianMixture::new(&[0.25, 0.75], &loc, &scale, double()).unwrap()
}

#[test]
fn densities_have_their_closed_forms() {
    let points: Vec<f64> = (0..41).map(|k| -5.9 + 0.29 * k as f64).collect();
    let x: Vec<_> = points.iter().map(|v| vec![*v]).collect();
    let parts = [(1.0, -1.5, 0.3), (2.0, 0.0, 1.0), (5.0, 2.0, 0.7)];
    let ours = values(mixture_1d().log_prob(batch(&x), None));
    for (x, ours) in points.iter().zip(&ours) {
        let density: f64 = parts
            .iter()
            .map(|(w, m, s)| w / 8.0 * Normal::new(*m, *s).unwrap().pdf(*x))
            .sum();
        assert!(
            (ours - density.ln()).abs() < 1e-12 * (1.0 + ours.abs()),
            "at {x}: {ours}"
        );
    }

    // In two dimensions a component is a product.
    let at = [0.3, -0.8];
    let pdf = |m: f64, s: f64, x: f64| Normal::new(m, s).unwrap().pdf(x);
    let density = 0.25 * pdf(-1.0, 0.4, at[0]) * pdf(0.5, 0.8, at[1])
        + 0.75 * pdf(1.0, 0.6, at[0]) * pdf(-0.5, 0.3, at[1]);
    let ours = values(mixture_2d().log_prob(batch(&[at.to_vec()]), None))[0];
    assert!((ours - density.ln()).abs() < 1e-12);

    let uniform = Uniform::<B>::new(&[-1.0], &[2.0], double()).unwrap();
    let reference = StatrsUniform::new(-1.0, 2.0).unwrap();
    for v in [-1.0, 0.0, 1.3, 2.0, -1.0 - 1e-9, 2.0 + 1e-9, 50.0] {
        let ours = values(uniform.log_prob(batch(&[vec![v]]), None))[0];
        let expected = reference.ln_pdf(v);
        assert!(
            ours == expected || (ours - expected).abs() < 1e-14,
            "at {v}: {ours}, {expected}"
        );
    }
}

#[test]
fn uniform_is_minus_infinity_outside_in_any_column_and_nan_on_nan() {
    let p = Uniform::<B>::new(&[0.0, 0.0], &[1.0, 2.0], double()).unwrap();
    let x = batch(&[
        vec![0.5, 1.9],
        vec![0.5, 2.1],
        vec![-0.1, 1.0],
        vec![f64::INFINITY, 1.0],
        vec![f64::NAN, 1.0],
        vec![f64::NAN, 2.1],
    ])
    .require_grad();
    let log_p = p.log_prob(x.clone(), None);
    let gradient = x.grad(&log_p.clone().sum().backward()).unwrap();
    let log_p = values(log_p);
    assert!((log_p[0] + 2f64.ln()).abs() < 1e-15);
    assert!(
        log_p[1..4].iter().all(|v| *v == f64::NEG_INFINITY),
        "{log_p:?}"
    );
    assert!(log_p[4].is_nan() && log_p[5].is_nan(), "{log_p:?}");
    let gradient: Vec<f64> = gradient.into_data().iter().collect();
    assert_eq!(gradient[..8], [0.0; 8]);
}

#[test]
fn mixtures_stay_finite_far_out_with_the_gradient_of_the_nearest_component() {
    let p = mixture_1d();
    let x = batch(&[vec![1e3], vec![-1e3], vec![0.0]]).require_grad();
    let log_p = p.log_prob(x.clone(), None);
    let gradient = x.grad(&log_p.clone().sum().backward()).unwrap();
    let gradient: Vec<f64> = gradient.into_data().iter().collect();
    assert!(values(log_p).iter().all(|v| v.is_finite()));
    // The widest component rules both tails: -(x - 0) / 1^2.
    assert!(
        (gradient[0] + 1e3).abs() < 1e-9 && (gradient[1] - 1e3).abs() < 1e-9,
        "{gradient:?}"
    );
    let at = |v: f64| values(p.log_prob(batch(&[vec![v]]), None))[0];
    let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
    assert!(
        (gradient[2] - difference).abs() < 1e-8,
        "{} against {difference}",
        gradient[2]
    );
}

#[test]
fn a_component_of_weight_zero_is_as_if_it_were_not_there() {
    let device = double();
    let loc = [vec![0.0], vec![3.0]];
    let scale = [vec![1.0], vec![0.1]];
    let p = GaussianMixture::<B>::new(&[2.0, 0.0], &loc, &scale, device).unwrap();
    let x = batch(&[vec![3.0], vec![0.2]]).require_grad();
    let log_p = p.log_prob(x.clone(), None);
    let gradient = x.grad(&log_p.clone().sum().backward()).unwrap();
    let gradient: Vec<f64> = gradient.into_data().iter().collect();
    let single = DiagonalNormal::<B>::standard(1, device).log_prob(x, None);
    for (a, b) in values(log_p).iter().zip(values(single)) {
        assert!((a - b).abs() < 1e-14);
    }
    assert!((gradient[0] + 3.0).abs() < 1e-14 && (gradient[1] + 0.2).abs() < 1e-14);
    assert!(
        values(p.sample(500, None, &mut StdRng::seed_from_u64(1)))
            .iter()
            .all(|v| v.abs() < 5.0)
    );
}

/// Mean and covariance of a sample against `(mean, covariance)`, within five standard errors.
fn assert_moments(p: &impl Sample<B>, mean: [f64; 2], covariance: [[f64; 2]; 2]) {
    let n = 40_000;
    let x = values(p.sample(n, None, &mut StdRng::seed_from_u64(17)));
    let rows: Vec<&[f64]> = x.chunks(2).collect();
    let average = |f: &dyn Fn(&[f64]) -> f64| {
        let values: Vec<f64> = rows.iter().map(|r| f(r)).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        (mean, 5.0 * (variance / n as f64).sqrt())
    };
    for i in 0..2 {
        let (got, error) = average(&|r| r[i]);
        assert!(
            (got - mean[i]).abs() < error,
            "mean {i}: {got} against {}",
            mean[i]
        );
        for j in 0..2 {
            let (got, error) = average(&|r| (r[i] - mean[i]) * (r[j] - mean[j]));
            let expected = covariance[i][j];
            assert!(
                (got - expected).abs() < error,
                "covariance {i}{j}: {got} against {expected}"
            );
        }
    }
}

#[test]
fn samples_have_the_moments_of_their_distribution() {
    let device = double();
    let normal = DiagonalNormal::<B>::new(&[1.0, -2.0], &[0.5, 3.0], device).unwrap();
    assert_moments(&normal, [1.0, -2.0], [[0.25, 0.0], [0.0, 9.0]]);
    let uniform = Uniform::<B>::new(&[-1.0, 5.0], &[2.0, 5.5], device).unwrap();
    assert_moments(&uniform, [0.5, 5.25], [[0.75, 0.0], [0.0, 0.25 / 12.0]]);
    // Mean sum w m; covariance sum w (diag(s^2) + m m^T) - mean mean^T.
    let mean = [0.5, -0.25];
    let across = 0.25 * -0.5 + 0.75 * -0.5 - mean[0] * mean[1];
    let covariance = [
        [0.25 * 0.16 + 0.75 * 0.36 + 1.0 - 0.25, across],
        [across, 0.25 * 0.64 + 0.75 * 0.09 + 0.25 - 0.0625],
    ];
    assert_moments(&mixture_2d(), mean, covariance);
}

#[test]
fn bad_arguments_are_refused() {
    let device = double();
    let refusal = |low: &[f64], high: &[f64]| {
        Uniform::<B>::new(low, high, device)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(&[0.0, 1.0], &[1.0, 1.0]),
        "uniform: high is 1, expected finite and larger than 1, its low, in f32 too"
    );
    assert!(refusal(&[0.0], &[f64::INFINITY]).contains("high is inf"));
    assert!(refusal(&[], &[]).contains("at least one"));
    let one = vec![vec![0.0, 0.0]];
    let mixture = |weights: &[f64], loc: &[Vec<f64>], scale: &[Vec<f64>]| {
        GaussianMixture::<B>::new(weights, loc, scale, device)
            .unwrap_err()
            .to_string()
    };
    assert!(mixture(&[], &[], &[]).contains("weights is empty"));
    assert!(mixture(&[0.0], &one, &one).contains("weights is a sum of 0"));
    assert!(mixture(&[-1.0], &one, &one).contains("weights is -1"));
    assert!(mixture(&[1.0, 1.0], &one, &one).contains("loc is 1 rows, expected 2"));
    assert!(mixture(&[1.0], &one, &one).contains("scale is 0, expected positive"));
    assert!(mixture(&[1.0], &one, &[vec![1.0]]).contains("scale is a row of 1"));
}

#[test]
#[should_panic(expected = "gaussian mixture: input has 1 columns, expected 2")]
fn a_wrong_dimension_panics_with_its_message() {
    mixture_2d().log_prob(batch(&[vec![0.0]]), None);
}

#[test]
fn rows_as_far_out_as_the_numbers_reach_have_no_density_and_no_nan() {
    let device = double();
    let far = [
        f64::MAX,
        -f64::MAX,
        f64::INFINITY,
        f64::from(f32::MAX),
        -1e160,
    ];
    let x = batch(&far.map(|v| vec![v, 0.3]));
    let normal = DiagonalNormal::<B>::new(&[0.4, -1.0], &[0.9, 0.5], device).unwrap();
    let uniform = Uniform::<B>::new(&[-1.0, 0.0], &[2.0, 1.0], device).unwrap();
    let all = [
        normal.log_prob(x.clone(), None),
        mixture_2d().log_prob(x.clone(), None),
        uniform.log_prob(x, None),
    ];
    for log_p in all.map(values) {
        assert!(log_p.iter().all(|v| *v < -1e70), "{log_p:?}");
    }
}

#[test]
fn scales_that_f32_holds_as_zero_or_infinity_are_refused() {
    let device = double();
    for wrong in [1e-50, 1e50] {
        assert!(DiagonalNormal::<B>::new(&[0.0], &[wrong], device).is_err());
        assert!(GaussianMixture::<B>::new(&[1.0], &[vec![0.0]], &[vec![wrong]], device).is_err());
    }
    assert!(DiagonalNormal::<B>::new(&[1e50], &[1.0], device).is_err());
    assert!(Uniform::<B>::new(&[1.0], &[1.0 + 1e-12], device).is_err());
}
