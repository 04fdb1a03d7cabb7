//! Likelihoods against closed forms: an affine decoder with normal noise has a normal marginal and
//! a normal posterior.

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use flows_core::state::{State, load_state, parameters, state};
use flows_models::vae::{
    ActiveUnits, Likelihood, LogMeanExp, NetworkConfig, Vae, VaeConfig, importance_samples,
};
use nalgebra::{DMatrix, DVector};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

use crate::device;

/// Rows of `W`, orthogonal to one another, so that the posterior has a diagonal covariance.
const W: [[f64; 3]; 2] = [[1.0, 0.5, -0.5], [0.5, 0.0, 1.0]];
const OFFSET: [f64; 3] = [0.3, -0.2, 0.1];
const STD: f64 = 0.7;

/// `x = z W + offset + STD noise`. The encoder has the exact posterior for `stretch = 1` and `shift
/// = 0`; otherwise its variances are `stretch` times too large and its means are off by `shift`.
fn linear_gaussian(stretch: f64, shift: f64) -> Vae<Flex> {
    let config = VaeConfig {
        likelihood: Likelihood::Gaussian { std: STD },
        ..VaeConfig::new([1, 3], 2, NetworkConfig::Dense { hidden: vec![] })
    };
    let vae = config
        .init::<Flex>(&device(), &mut StdRng::seed_from_u64(0))
        .unwrap();
    let precision = W.map(|w| 1.0 + w.iter().map(|v| v * v).sum::<f64>() / (STD * STD));
    let gain = |j: usize, k: usize| W[k][j] / (STD * STD * precision[k]);
    let mut parameters: State = state::<Flex, _>(&vae);
    let mut set = |end: &str, values: Vec<f64>| {
        let mut found = parameters
            .iter_mut()
            .filter(|(path, _)| path.ends_with(end));
        let (_, data) = found.next().expect("a parameter of this name");
        assert!(found.next().is_none());
        *data = TensorData::new(values, data.shape.clone());
    };
    set("mean.weight", (0..6).map(|i| gain(i / 2, i % 2)).collect());
    let bias = |k| shift - (0..3).map(|j| OFFSET[j] * gain(j, k)).sum::<f64>();
    set("mean.bias", (0..2).map(bias).collect());
    set("variance.weight", vec![0.0; 6]);
    let before_softplus = |p: &f64| (stretch / p).exp_m1().ln();
    set(
        "variance.bias",
        precision.iter().map(before_softplus).collect(),
    );
    set("output.weight", W.concat());
    set("output.bias", OFFSET.to_vec());
    load_state::<Flex, _>(vae, &parameters).unwrap()
}

/// `log N(x; offset, W^T W + STD^2 I)`.
fn log_marginal(x: &[f64]) -> f64 {
    let w = DMatrix::from_fn(2, 3, |k, j| W[k][j]);
    let covariance = w.transpose() * w + DMatrix::identity(3, 3) * (STD * STD);
    let deviation = DVector::from_fn(3, |j, _| x[j] - OFFSET[j]);
    let solved = covariance.clone().lu().solve(&deviation).unwrap();
    let log_det = covariance.determinant().ln();
    -0.5 * (deviation.dot(&solved) + log_det + 3.0 * (2.0 * std::f64::consts::PI).ln())
}

/// Images drawn from the model.
fn images(n: usize, seed: u64) -> Vec<f64> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut normal = || -> f64 { StandardNormal.sample(&mut *rng) };
    let image = |_| {
        let z = [normal(), normal()];
        let pixel = |j: usize| z[0] * W[0][j] + z[1] * W[1][j] + OFFSET[j];
        [0, 1, 2].map(|j| pixel(j) + STD * normal())
    };
    (0..n).flat_map(image).collect()
}

fn tensor(x: &[f64]) -> Tensor<Flex, 2> {
    let device = device();
    Tensor::from_data(TensorData::new(x.to_vec(), [x.len() / 3, 3]), &device)
}

#[test]
fn the_bound_of_the_exact_posterior_has_no_gap() {
    let x = images(20, 1);
    let rng = &mut StdRng::seed_from_u64(2);
    let found = importance_samples(&linear_gaussian(1.0, 0.0), tensor(&x), 7, 60, None, rng);
    for (estimate, x) in found.iter().zip(x.chunks(3)) {
        let expected = log_marginal(x);
        assert!(
            (estimate.log_p - expected).abs() < 1e-9,
            "{} against {expected}",
            estimate.log_p
        );
        // Every single weight is the marginal, so the bound is as well.
        assert!((estimate.elbo - expected).abs() < 1e-9);
        assert!(estimate.stderr < 1e-9 && (estimate.effective_samples - 7.0).abs() < 1e-6);
    }
}

#[test]
fn estimates_meet_the_closed_form_within_their_standard_error() {
    let x = images(40, 3);
    let rng = &mut StdRng::seed_from_u64(4);
    let vae = linear_gaussian(2.0, 0.3);
    let found = importance_samples(&vae, tensor(&x), 4000, 4000, None, rng);
    let mut squares = 0.0;
    for (estimate, x) in found.iter().zip(x.chunks(3)) {
        let score = (estimate.log_p - log_marginal(x)) / estimate.stderr;
        assert!(estimate.stderr < 0.05, "{}", estimate.stderr);
        assert!(score.abs() < 4.5, "off by {score} standard errors");
        squares += score * score / 40.0;
        assert!(estimate.elbo < estimate.log_p - 0.05);
    }
    // The standard errors themselves: the mean of 40 squared normal scores is 1 with a deviation of
    // 0.22.
    assert!((0.4..1.9).contains(&squares), "{squares}");
}

#[test]
fn the_bound_tightens_with_every_doubling_of_the_samples() {
    let x = images(50, 5);
    let vae = linear_gaussian(2.5, 0.4);
    let truth = x.chunks(3).map(log_marginal).sum::<f64>() / 50.0;
    let mean = |samples: usize| {
        let mut sum = 0.0;
        for repeat in 0..100 {
            let rng = &mut StdRng::seed_from_u64(1000 * samples as u64 + repeat);
            let found = importance_samples(&vae, tensor(&x), samples, 3200, None, rng);
            sum += found.iter().map(|e| e.log_p).sum::<f64>() / 50.0;
        }
        sum / 100.0
    };
    let bounds: Vec<f64> = [1, 2, 4, 8, 16, 32].map(mean).to_vec();
    for pair in bounds.windows(2) {
        assert!(pair[0] < pair[1], "{bounds:?}");
    }
    let last = bounds[bounds.len() - 1];
    assert!(
        last < truth && truth - last < 0.05,
        "{bounds:?}, truth {truth}"
    );
}

#[test]
fn chunks_change_nothing_but_the_noise() {
    let x = images(3, 6);
    let vae = linear_gaussian(1.5, 0.1);
    for rows in [1, 3, 7, 1000] {
        let rng = &mut StdRng::seed_from_u64(8);
        let found = importance_samples(&vae, tensor(&x), 500, rows, None, rng);
        for (estimate, x) in found.iter().zip(x.chunks(3)) {
            assert!((estimate.log_p - log_marginal(x)).abs() < 5.0 * estimate.stderr + 1e-9);
        }
    }
    // One image at a time takes its noise in the same order in any chunks.
    let one = |rows| {
        let rng = &mut StdRng::seed_from_u64(9);
        importance_samples(&vae, tensor(&x[..3]), 50, rows, None, rng)[0]
    };
    assert!((one(1).log_p - one(50).log_p).abs() < 1e-12);
}

#[test]
fn units_that_carry_something_are_counted() {
    let x = images(400, 10);
    let mut units = ActiveUnits::default();
    let rng = &mut StdRng::seed_from_u64(11);
    for part in x.chunks(300) {
        units.observe(&linear_gaussian(1.0, 0.0), tensor(part), 4, rng);
    }
    assert_eq!(units.count(), 2);
    // The variance of the exact posterior mean is 1 less the posterior's own.
    for (covariance, w) in units.covariances().iter().zip(W) {
        let precision = 1.0 + w.iter().map(|v| v * v).sum::<f64>() / (STD * STD);
        let expected = 1.0 - 1.0 / precision;
        assert!(
            (covariance - expected).abs() < 0.25 * expected,
            "{covariance} against {expected}"
        );
    }
    let config = VaeConfig::new([1, 3], 2, NetworkConfig::Dense { hidden: vec![] });
    let vae = config
        .init::<Flex>(&device(), &mut StdRng::seed_from_u64(0))
        .unwrap();
    let all: State = parameters::<Flex, _>(&vae);
    let zero =
        |data: &TensorData| TensorData::new(vec![0.0; data.num_elements()], data.shape.clone());
    let zeros = all
        .iter()
        .map(|(path, data)| (path.clone(), zero(data)))
        .collect();
    let vae = load_state::<Flex, _>(vae, &zeros).unwrap();
    let mut units = ActiveUnits::default();
    units.observe(&vae, tensor(&x), 40, rng);
    assert_eq!(units.count(), 0, "{:?}", units.covariances());
}

#[test]
fn probabilities_of_pixels_add_up_to_one() {
    let device = device();
    let rng = &mut StdRng::seed_from_u64(12);
    let parameters = flows_core::init::normal_tensor::<Flex, 3>([1, 4, 2], 2.0, &device, rng);
    let four = Likelihood::Categorical { levels: 4 };
    let mut total = LogMeanExp::default();
    for (a, b) in (0..16).map(|i| (i / 4, i % 4)) {
        let x = Tensor::<Flex, 2>::from_data([[f64::from(a) / 3.0, f64::from(b) / 3.0]], &device);
        let log_p = four.log_prob(parameters.clone(), x, None).into_data();
        total.push(log_p.iter::<f64>().next().unwrap());
    }
    assert!((total.value() + 16f64.ln()).abs() < 1e-12);
    let logits = parameters.clone().narrow(1, 0, 1);
    let mut total = LogMeanExp::default();
    for (a, b) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
        let x = Tensor::<Flex, 2>::from_data([[a, b]], &device);
        let log_p = Likelihood::Bernoulli {}
            .log_prob(logits.clone(), x, None)
            .into_data();
        total.push(log_p.iter::<f64>().next().unwrap());
    }
    assert!((total.value() + 4f64.ln()).abs() < 1e-12);
    // A clamp bounds the loss of a pixel at its logarithm.
    let sure = Tensor::<Flex, 3>::full([1, 1, 1], 100.0, &device);
    let x = Tensor::<Flex, 2>::zeros([1, 1], &device);
    let log_p = Likelihood::Bernoulli {}
        .log_prob(sure, x, Some(1e-5))
        .into_data();
    assert!((log_p.iter::<f64>().next().unwrap() - 1e-5f64.ln()).abs() < 1e-9);
}

#[test]
fn a_gaussian_pixel_has_its_gradient_to_the_last_digits() {
    let std = 0.3;
    let mean = Tensor::<crate::Wide, 3>::from_data([[[0.25]]], &device()).require_grad();
    let x = Tensor::<crate::Wide, 2>::from_data([[0.75]], &device());
    let log_p = Likelihood::Gaussian { std }.log_prob(mean.clone(), x, None);
    let gradient = mean.grad(&log_p.backward()).unwrap().into_data();
    let gradient = gradient.iter::<f64>().next().unwrap();
    let expected = 0.5 / (std * std);
    assert!(
        (gradient - expected).abs() < 1e-13 * expected,
        "{gradient} for {expected}"
    );
}

#[test]
fn a_deviation_that_f32_holds_as_zero_is_refused() {
    let error = Likelihood::Gaussian { std: 1e-50 }.validate().unwrap_err();
    assert!(
        error.to_string().starts_with("likelihood: std is "),
        "{error}"
    );
}
