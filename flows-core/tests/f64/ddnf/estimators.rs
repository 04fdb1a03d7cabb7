//! The stochastic log-determinants: unbiased, with the variance that theory states, differentiable
//! at fixed noise.

use super::*;
use crate::double;
use flows_core::continuous::Linearization;
use flows_core::log_det::{ProbeNoise, hutchinson, russian_roulette};
use flows_core::visit::LayerVisit;

const NOISES: [ProbeNoise; 2] = [ProbeNoise::Rademacher, ProbeNoise::Gaussian];

/// Far from symmetric: `tr A^2 = -0.32`, `|A|_F^2 = 0.84`; `|A|_2^2 = 0.51`.
const A: [[f64; 3]; 3] = [[0.3, 0.4, 0.0], [-0.2, 0.1, 0.5], [0.4, -0.3, -0.2]];

fn matrix() -> DMatrix<f64> {
    DMatrix::from_fn(3, 3, |i, j| A[i][j])
}

/// `W_1 = I`, `b = 0`, `W_2 = A^T`: a tanh field at rest in 0, where its Jacobian is `A`.
fn parameters_of_the_field(factor: f64) -> Vec<f64> {
    let mut parameters = DMatrix::<f64>::identity(3, 3).as_slice().to_vec();
    parameters.extend([0.0; 3]);
    // nalgebra stores columns, so these are the rows of the transpose.
    parameters.extend((matrix() * factor).as_slice());
    parameters.extend([0.0; 3]);
    parameters
}

/// A block at rest in 0 whose steps have the Jacobian `I + A`.
fn block_at_rest(cells: usize, log_det: LogDet) -> DdnfBlock<Plain> {
    let config = DdnfBlockConfig {
        cells,
        log_det,
        ..DdnfBlockConfig::new(3, [3])
    };
    let block: DdnfBlock<Plain> = config.init(double(), &mut rng(1)).unwrap();
    block.map(&mut SetAll(parameters_of_the_field(cells as f64)))
}

/// What `estimator` makes of `n` points that are all 0, where `B = A`.
fn at_rest(
    n: usize,
    estimator: impl FnOnce(&Linearization<'_, Plain>) -> Tensor<Plain, 1>,
) -> Vec<f64> {
    let block = block_at_rest(1, LogDet::Exact);
    let x = Tensor::zeros([n, 3], double());
    numbers(block.field().linearized(x, None, |b| estimator(&b)).1)
}

/// `n` independent estimates of `method`.
fn estimates(method: &LogDet, n: usize, seed: u64) -> Vec<f64> {
    let x = Tensor::<Plain, 2>::zeros([n, 3], double());
    at_rest(n, |b| method.log_det(b, method.noise(&x, seed)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

/// How many standard errors the mean is away from `expected`.
fn z_score(values: &[f64], expected: f64) -> f64 {
    ((mean(values) - expected) / (variance(values) / values.len() as f64).sqrt()).abs()
}

/// `sum_{k=1}^{order} (-1)^{k+1} tr(A^k) / k`.
fn truncated(order: u32) -> f64 {
    let term = |k: u32| -(-1.0_f64).powi(k as i32) * matrix().pow(k).trace() / f64::from(k);
    (1..=order).map(term).sum()
}

#[test]
fn hutchinson_is_unbiased_for_the_truncated_series() {
    for noise in NOISES {
        for order in [1, 2, 3, 4] {
            let method = LogDet::Hutchinson {
                order,
                probes: 1,
                noise,
                fresh_per_step: true,
            };
            let values = estimates(&method, 40_000, 11);
            let exact = truncated(order as u32);
            let z = z_score(&values, exact);
            assert!(z < 4.0, "{}: {z} standard errors off", method.label());
            // The same test sees a value that is wrong.
            let z = z_score(&values, 1.15 * exact);
            assert!(z > 6.0, "{}: only {z} from a wrong value", method.label());
        }
    }
}

#[test]
fn the_roulette_is_unbiased_for_the_determinant() {
    let exact = (DMatrix::identity(3, 3) + matrix()).determinant().ln();
    for noise in NOISES {
        for (exact_terms, continuation) in [(1, 0.7), (2, 0.6)] {
            let method = LogDet::RussianRoulette {
                exact_terms,
                continuation,
                probes: 1,
                noise,
                fresh_per_step: true,
            };
            let values = estimates(&method, 80_000, 12);
            let z = z_score(&values, exact);
            assert!(z < 4.0, "{}: {z} standard errors off", method.label());
            // Not for the series cut after its exact terms, nor for a wrong value.
            for wrong in [truncated(2), 1.15 * exact] {
                let z = z_score(&values, wrong);
                assert!(z > 6.0, "{}: only {z} from a wrong value", method.label());
            }
        }
    }
}

#[test]
fn one_probe_has_the_variance_of_theory() {
    let symmetric = (matrix() + matrix().transpose()) * 0.5;
    let squares = symmetric.norm_squared();
    let diagonal = symmetric.diagonal().norm_squared();
    for (noise, expected) in [
        (ProbeNoise::Rademacher, 2.0 * (squares - diagonal)),
        (ProbeNoise::Gaussian, 2.0 * squares),
    ] {
        for probes in [1, 4] {
            let method = LogDet::Hutchinson {
                order: 1,
                probes,
                noise,
                fresh_per_step: true,
            };
            let ratio = variance(&estimates(&method, 40_000, 13)) * probes as f64 / expected;
            assert!((ratio - 1.0).abs() < 0.05, "{noise:?}: ratio {ratio}");
        }
    }
}

#[test]
fn the_squared_norm_of_a_product_is_no_trace_of_a_square() {
    let (trace, frobenius) = ((matrix() * matrix()).trace(), matrix().norm_squared());
    for noise in NOISES {
        let n = 40_000;
        let like = Tensor::<Plain, 2>::zeros([n, 3], double());
        let probes = noise.probes([1, n, 3], &like, &mut rng(14));
        let eps: Tensor<Plain, 2> = probes.squeeze_dim(0);
        let square = |t: Tensor<Plain, 2>| t.sum_dim(1).squeeze_dim::<1>(1);
        let trap = at_rest(n, |b| square(b.vjp(eps.clone()).square()));
        assert!(z_score(&trap, frobenius) < 4.0, "{noise:?}");
        assert!(z_score(&trap, trace) > 50.0, "{noise:?}");
        let right = at_rest(n, |b| square(b.vjp(eps.clone()) * b.jvp(eps.clone())));
        assert!(z_score(&right, trace) < 4.0, "{noise:?}");
    }
}

#[test]
fn products_and_weights_are_those_of_the_formula() {
    // Probes and lengths given: every point against dense powers of B.
    for context_rank in [0, 1] {
        products_and_weights(context_rank);
    }
}

fn products_and_weights(context_rank: usize) {
    let config = DdnfBlockConfig {
        context_dim: 2 * context_rank,
        context_rank,
        ..DdnfBlockConfig::new(3, [4, 6])
    };
    let field = block::<Plain>(&config, 0.2);
    let x = normal(5, 3, 1);
    let context = (context_rank > 0).then(|| normal(5, 2, 4));
    let jacobians = numbers(field.field().jacobian(x.clone(), context.clone()).1);
    let (m, n) = (2, 5);
    let probes = Tensor::<Plain, 3>::from_data(
        TensorData::new(numbers(normal(m * n, 3, 2)), [m, n, 3]),
        double(),
    );
    let flat = numbers(probes.clone());
    let lengths = vec![vec![3, 1, 5, 2, 5], vec![1, 4, 1, 1, 6]];
    let (exact_terms, continuation) = (2, 0.5_f64);
    let expected = |random: bool| -> Vec<f64> {
        let of = |probe: usize, point: usize| -> f64 {
            let b = DMatrix::from_row_slice(3, 3, &jacobians[9 * point..9 * point + 9]);
            let at = 3 * (probe * n + point);
            let eps = DVector::from_row_slice(&flat[at..at + 3]);
            let last = if random { lengths[probe][point] } else { 4 };
            let term = |k: usize| {
                let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
                let reached = continuation.powi(k.saturating_sub(exact_terms) as i32);
                let weight = if random { reached } else { 1.0 };
                sign * eps.dot(&(b.pow(k as u32) * &eps)) / (k as f64 * weight)
            };
            (1..=last).map(term).sum()
        };
        (0..n)
            .map(|point| (of(0, point) + of(1, point)) / 2.0)
            .collect()
    };
    let estimate = |random: bool| {
        let product = |b: Linearization<'_, Plain>| match random {
            true => russian_roulette(&b, exact_terms, continuation, probes.clone(), &lengths),
            false => hutchinson(&b, 4, probes.clone()),
        };
        let at = field
            .field()
            .linearized(x.clone(), context.clone(), product);
        numbers(at.1)
    };
    assert_close(&estimate(false), &expected(false), 1e-11, "hutchinson");
    assert_close(&estimate(true), &expected(true), 1e-11, "roulette");
}

/// Both methods with fresh and fixed noise.
fn stochastic() -> Vec<LogDet> {
    let mut methods = Vec::new();
    for fresh_per_step in [true, false] {
        for noise in NOISES {
            methods.push(LogDet::Hutchinson {
                order: 3,
                probes: 2,
                noise,
                fresh_per_step,
            });
            methods.push(LogDet::RussianRoulette {
                exact_terms: 1,
                continuation: 0.5,
                probes: 2,
                noise,
                fresh_per_step,
            });
        }
    }
    methods
}

#[test]
fn noise_is_fixed_until_resampled_and_independent_by_row_and_block() {
    for log_det in stochastic() {
        let label = log_det.label();
        let config = DdnfBlockConfig {
            cells: 3,
            log_det,
            ..DdnfBlockConfig::new(3, [8])
        };
        let mut block = block::<Plain>(&config, 0.2);
        let x = normal(1, 3, 1).repeat_dim(0, 6);
        let of = |block: &DdnfBlock<Plain>, x: &Tensor<Plain, 2>| {
            numbers(block.forward_and_log_det(x.clone(), None).log_det)
        };
        block.visit_layers(&mut LayerVisit::resample_noise(3));
        let first = of(&block, &x);
        assert_eq!(first, of(&block, &x), "{label}: the same noise");
        let fewer_rows = of(&block, &x.clone().narrow(0, 0, 2));
        assert_close(&fewer_rows, &first[..2], 1e-12, &label);
        assert!(first.iter().any(|l| *l != first[0]), "{label}: {first:?}");
        block.visit_layers(&mut LayerVisit::resample_noise(4));
        assert_ne!(first, of(&block, &x), "{label}: another seed");
        block.visit_layers(&mut LayerVisit::resample_noise(3));
        assert_eq!(first, of(&block, &x), "{label}: a function of the seed");

        let mut both = Chain::new(vec![block.clone(), block.clone()]).unwrap();
        both.visit_layers(&mut LayerVisit::resample_noise(3));
        let [one, two] = [0, 1].map(|k| of(&both.layers()[k], &x));
        assert_ne!(one, two, "{label}: blocks share their noise");

        let forward = block.forward_and_log_det(x, None);
        let back = block.inverse_and_log_det(forward.value, None);
        let expected = numbers(-forward.log_det);
        assert_close(&numbers(back.log_det), &expected, 1e-9, &label);
    }
}

#[test]
fn fresh_noise_varies_less_in_the_sum_over_steps() {
    // Every one of the 8 steps has B = A, so the variances are 8 s^2 and 64 s^2.
    let variance_of = |fresh_per_step| {
        let block = block_at_rest(
            8,
            LogDet::Hutchinson {
                order: 2,
                probes: 1,
                noise: ProbeNoise::Rademacher,
                fresh_per_step,
            },
        );
        let x = Tensor::zeros([10_000, 3], double());
        variance(&numbers(block.forward_and_log_det(x, None).log_det))
    };
    let ratio = variance_of(false) / variance_of(true);
    assert!((ratio - 8.0).abs() < 0.8, "ratio {ratio}");
}

#[test]
fn gradients_at_fixed_noise_agree_with_central_differences() {
    for log_det in stochastic() {
        for (dim, hidden) in [(3, vec![5]), (4, vec![2]), (3, vec![4, 3])] {
            let config = DdnfBlockConfig {
                cells: 3,
                log_det: log_det.clone(),
                context_dim: 2,
                ..DdnfBlockConfig::new(dim, hidden)
            };
            let blocks = vec![block::<Grad>(&config, 0.2), block::<Grad>(&config, 0.1)];
            let base = DiagonalNormal::standard(dim, double());
            let mut flow = Flow::data_to_base(Chain::new(blocks).unwrap(), base).unwrap();
            LogProb::<Grad>::visit_layers(&mut flow, &mut LayerVisit::resample_noise(5));
            let context = context_of(3, 2).map(Tensor::from_inner);
            assert_gradients(
                flow,
                &normal(3, dim, 1),
                |flow, x| -flow.log_prob(x, context.clone()).mean(),
                &format!("{config:?}"),
            );
        }
    }
}

#[test]
fn configurations_have_defaults_labels_and_limits() {
    let parse = |log_det: &str| {
        let text = format!("dim = 2\nhidden = [4]\nlog_det = {log_det}\n");
        toml::from_str::<DdnfBlockConfig>(&text).map(|config| config.log_det)
    };
    let labels = [
        ("{ hutchinson = {} }", "hutchinson(2, 1 rademacher, fresh)"),
        (
            "{ hutchinson = { order = 3, probes = 4, noise = \"gaussian\", fresh_per_step = false } }",
            "hutchinson(3, 4 gaussian, fixed)",
        ),
        (
            "{ russian_roulette = {} }",
            "roulette(2 + 0.5, 1 rademacher, fresh)",
        ),
    ];
    for (text, label) in labels {
        assert_eq!(parse(text).unwrap().label(), label);
    }
    assert_eq!(parse(labels[0].0).unwrap(), LogDet::HUTCHINSON);
    assert_eq!(parse(labels[2].0).unwrap(), LogDet::RUSSIAN_ROULETTE);
    assert!(parse("{ hutchinson = { prob = 1 } }").is_err());
    for (text, field) in [
        ("{ hutchinson = { order = 0 } }", "log_det.order"),
        ("{ hutchinson = { probes = 0 } }", "log_det.probes"),
        (
            "{ russian_roulette = { exact_terms = 0 } }",
            "log_det.exact_terms",
        ),
        ("{ russian_roulette = { probes = 0 } }", "log_det.probes"),
        (
            "{ russian_roulette = { continuation = 1.0 } }",
            "log_det.continuation",
        ),
        (
            "{ russian_roulette = { continuation = 0.0 } }",
            "log_det.continuation",
        ),
    ] {
        match parse(text).unwrap().validate("block") {
            Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{text}: {other:?}"),
        }
    }
}
