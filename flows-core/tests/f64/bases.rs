//! Bases with parameters in f64: closed forms, other libraries' values, what is trained, states. The rest is in the
//! conformance suite.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Tensor, TensorData};
use flows_core::base::{AnyBase, BaseConfig, FlowsConfig};
use flows_core::bijectors::{
    ActNormConfig, Chain, ConditionedConfig, ElementwiseAffineConfig, LayerConfig, PlanarConfig,
};
use flows_core::distributions::{
    Covariance, DiagonalNormal, EmbeddingConfig, Family, GaussianMixture, LogProb, Mixture, Normal,
    NormalMixture, NormalMixtureConfig, Sample, StudentT, StudentTConfig, Uniform,
};
use flows_core::flow::Flow;
use flows_core::nn::ParametersConfig;
use flows_core::random::generator;
use flows_core::state::{load_state, state, trained_parameters};
use flows_core::testing::{batch, normal_batch, rows};
use flows_core::visit::LayerVisit;
use nalgebra::{DMatrix, DVector};
use statrs::distribution::{Continuous, ContinuousCDF, StudentsT};
use statrs::function::gamma::{digamma, ln_gamma};

use crate::double;
use crate::registry::bases::configs;

type B = Autodiff<Flex>;

fn column(values: &[f64]) -> Tensor<B, 2> {
    let shape = [values.len(), 1];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), double())
}

fn row(values: &[f64]) -> Tensor<B, 2> {
    let shape = [1, values.len()];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), double())
}

/// The raw number of `degrees` degrees of freedom: `0.5 + softplus(raw) = degrees`.
fn raw_degrees(degrees: f64) -> f64 {
    let y = degrees - 0.5;
    y + (-(-y).exp_m1()).ln()
}

#[test]
fn students_density_and_its_slope_in_the_degrees_are_those_of_statrs() {
    let family = StudentT::new(1, 5.0).unwrap();
    for degrees in [0.6, 1.0, 1.7, 4.0, 31.0, 900.0, 3e4] {
        let raw = row(&[0.0, 0.0, raw_degrees(degrees)]).require_grad();
        let points = [0.0, 0.3, -2.0, 17.0, 1e4];
        let ours = rows(&family.log_prob(raw.clone(), column(&points)));
        let theirs = StudentsT::new(0.0, 1.0, degrees).unwrap();
        for (x, ours) in points.iter().zip(ours) {
            let expected = theirs.ln_pdf(*x);
            let error = (ours - expected).abs() / (1.0 + expected.abs());
            // The logarithms of two gamma functions that statrs subtracts lose digits as they grow.
            let lost = 4e-15 * (1.0 + ln_gamma(degrees).abs());
            assert!(error < 1e-13 + lost, "{degrees} at {x}: {ours}, {expected}");
        }
        // At the peak: psi((v + 1) / 2) / 2 - psi(v / 2) / 2 - 1 / (2 v), by the chain rule through softplus.
        let peak = family.log_prob(raw.clone(), column(&[0.0])).sum();
        let slope = rows::<B, 2>(&raw.grad(&peak.backward()).map(Tensor::from_inner).unwrap())[2];
        let expected =
            0.5 * (digamma(0.5 * (degrees + 1.0)) - digamma(0.5 * degrees)) - 0.5 / degrees;
        let sigmoid = 1.0 / (1.0 + (-raw_degrees(degrees)).exp());
        assert!(
            (slope - expected * sigmoid).abs() < 1e-12,
            "{degrees}: {slope}, {}",
            expected * sigmoid
        );
    }
    // Where the difference of two large logarithms has no digits left in f32.
    let raw = [0.0, 0.0, 1e5_f64];
    let single = Tensor::<B, 2>::from_data([raw], (&Default::default(), DType::F32));
    let peak = rows(&family.log_prob(single.clone(), single.zeros_like().narrow(1, 0, 1)))[0];
    assert!((peak + 0.918_938_5).abs() < 1e-5, "{peak}");
}

#[test]
fn students_samples_have_its_distribution_and_the_gradient_of_its_moments() {
    let n = 20_000;
    let family = StudentT::new(1, 5.0).unwrap();
    for degrees in [0.8, 3.0, 200.0] {
        let raw = row(&[0.5, 0.2, raw_degrees(degrees)]);
        let mut x = rows(&family.sample(raw, n, &mut generator(4)));
        x.sort_by(f64::total_cmp);
        let scale = (10.0 * 0.02_f64.tanh()).exp();
        let theirs = StudentsT::new(0.5, scale, degrees).unwrap();
        let off = x.iter().enumerate().map(|(k, x)| {
            let cdf = theirs.cdf(*x);
            (cdf - k as f64 / n as f64)
                .abs()
                .max((cdf - (k + 1) as f64 / n as f64).abs())
        });
        let statistic = off.fold(0.0, f64::max) * (n as f64).sqrt();
        // The Kolmogorov-Smirnov statistic is above 1.95 once in a thousand samples.
        assert!(statistic < 1.95, "{degrees}: {statistic}");
    }
    // E t^2 = v / (v - 2), whose derivative is -2 / (v - 2)^2.
    let degrees = 12.0;
    let raw = row(&[0.0, 0.0, raw_degrees(degrees)]).require_grad();
    let second = family.sample(raw.clone(), n, &mut generator(5)).square();
    let gradient = raw.grad(&second.clone().mean().backward()).unwrap();
    let gradient: Vec<f64> = gradient.into_data().iter().collect();
    let sigmoid = 1.0 / (1.0 + (-raw_degrees(degrees)).exp());
    let expected = -2.0 / (degrees - 2.0).powi(2) * sigmoid;
    assert!(
        (gradient[2] - expected).abs() < 0.15 * expected.abs(),
        "{}, {expected}",
        gradient[2]
    );
}

#[test]
fn heavy_tails_integrate_to_one() {
    let config = StudentTConfig {
        degrees: 3.0,
        ..StudentTConfig::default()
    };
    let t = config.init::<B>(1, double(), &mut generator(0)).unwrap();
    // x = sinh u reaches far out.
    let width = 40.0 / 4000.0;
    let u: Vec<f64> = (0..4000)
        .map(|k| (f64::from(k) + 0.5) * width - 20.0)
        .collect();
    let x: Vec<f64> = u.iter().map(|u| u.sinh()).collect();
    let log_p = rows(&t.log_prob(column(&x), None));
    let mass: f64 = log_p
        .iter()
        .zip(&u)
        .map(|(l, u)| l.exp() * u.cosh() * width)
        .sum();
    assert!((mass - 1.0).abs() < 1e-6, "{mass}");
}

#[test]
fn a_full_covariance_has_the_density_of_its_matrix() {
    let dim = 4;
    let family = Normal::new(dim, Covariance::Full).unwrap();
    let raw: Vec<f64> = rows(&normal_batch::<B>([1, 14], 3, double()));
    let lower = DMatrix::from_fn(dim, dim, |i, j| match i.cmp(&j) {
        std::cmp::Ordering::Less => 0.0,
        std::cmp::Ordering::Equal => (10.0 * (raw[dim + i] / 10.0).tanh()).exp(),
        std::cmp::Ordering::Greater => raw[2 * dim + i * (i - 1) / 2 + j],
    });
    let covariance = &lower * lower.transpose();
    let inverse = covariance.clone().try_inverse().unwrap();
    let loc = DVector::from_column_slice(&raw[..dim]);
    let x = normal_batch::<B>([5, dim], 4, double());
    let ours = rows(&family.log_prob(row(&raw), x.clone()));
    for (x, ours) in rows(&x).chunks(dim).zip(ours) {
        let centred = DVector::from_column_slice(x) - &loc;
        let quadratic = (centred.transpose() * &inverse * &centred)[0];
        let log_volume = (std::f64::consts::TAU.powi(4) * covariance.determinant()).ln();
        let expected = -0.5 * (quadratic + log_volume);
        assert!(
            (ours - expected).abs() < 1e-9 * (1.0 + expected.abs()),
            "{ours}, {expected}"
        );
    }
    let samples = rows(&family.sample(row(&raw), 40_000, &mut generator(1)));
    for i in 0..dim {
        for j in 0..=i {
            let products = samples
                .chunks(dim)
                .map(|x| (x[i] - loc[i]) * (x[j] - loc[j]));
            let mean = products.sum::<f64>() / 40_000.0;
            let size = (covariance[(i, i)] * covariance[(j, j)]).sqrt();
            assert!(
                (mean - covariance[(i, j)]).abs() < 0.04 * size,
                "{i} {j}: {mean}"
            );
        }
    }
}

#[test]
fn mixtures_agree_with_the_fixed_one_and_stay_finite_far_out() {
    let raw = [0.0_f64, 0.7, -0.2, -1.5, 0.0, 2.0, -1.2, 0.0, 0.3];
    let scale: Vec<Vec<f64>> = raw[6..]
        .iter()
        .map(|s| vec![(10.0 * (s / 10.0).tanh()).exp()])
        .collect();
    let loc: Vec<Vec<f64>> = raw[3..6].iter().map(|m| vec![*m]).collect();
    let weights: Vec<f64> = raw[..3].iter().map(|l: &f64| l.exp()).collect();
    let fixed = GaussianMixture::<B>::new(&weights, &loc, &scale, double()).unwrap();
    let family = NormalMixture::new(1, 3, 1.0).unwrap();
    let x = column(&[-3.0, 0.1, 2.0, 60.0, 1e150]);
    let (ours, theirs) = (
        family.log_prob(row(&raw), x.clone()),
        fixed.log_prob(x, None),
    );
    for (a, b) in rows(&ours).iter().zip(rows(&theirs)) {
        assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{a}, {b}");
    }
    // A component so far away that its density underflows, and rows far from all: values and gradients are numbers.
    let raw = row(&[0.0, 0.0, 0.0, 1e160, 0.0, 0.0]).require_grad();
    let x = column(&[0.3, -1e150, 1e155]).require_grad();
    let log_p = NormalMixture::new(1, 2, 1.0)
        .unwrap()
        .log_prob(raw.clone(), x.clone());
    let back = log_p.clone().narrow(0, 0, 2).sum().backward();
    assert!((rows(&log_p)[0] - (0.5_f64.ln() - 0.045 - 0.918_938_533_204_672_8)).abs() < 1e-12);
    assert!(rows(&log_p).iter().all(|l| !l.is_nan()));
    for gradient in [raw.grad(&back).unwrap(), x.grad(&back).unwrap()] {
        assert!(gradient.into_data().iter::<f64>().all(|g| g.is_finite()));
    }
}

#[test]
fn a_mixture_of_any_parts_is_the_mixture_of_their_densities() {
    let parts = || {
        [(-1.0, 0.4), (2.0, 1.5)]
            .map(|(m, s)| DiagonalNormal::<B>::new(&[m], &[s], double()).unwrap())
            .to_vec()
    };
    let mixture = Mixture::new(
        parts(),
        &ParametersConfig::Trained,
        double(),
        &mut generator(0),
    )
    .unwrap();
    let fixed = GaussianMixture::<B>::new(
        &[1.0, 1.0],
        &[vec![-1.0], vec![2.0]],
        &[vec![0.4], vec![1.5]],
        double(),
    );
    let x = column(&[-4.0, -1.0, 0.5, 30.0, 1e200]);
    let (a, b) = (
        mixture.log_prob(x.clone(), None),
        fixed.unwrap().log_prob(x, None),
    );
    for (a, b) in rows(&a).iter().zip(rows(&b)) {
        assert!(
            *a == b || (a - b).abs() < 1e-12 * (1.0 + b.abs()),
            "{a}, {b}"
        );
    }
    assert_eq!(rows(&mixture.weights(None)), [0.5, 0.5]);
    let other = Uniform::<B>::new(&[0.0], &[1.0], double()).unwrap();
    let apart = vec![other, Uniform::new(&[2.0], &[3.0], double()).unwrap()];
    let error = Mixture::new(apart, &ParametersConfig::Fixed, double(), &mut generator(0));
    assert_eq!(
        error.unwrap_err().to_string(),
        "mixture: support is (2, 3) in column 1, expected (0, 1), as the first part"
    );
}

#[test]
fn samples_of_a_mixture_take_the_context_of_their_own_row() {
    let flows = FlowsConfig {
        components: 3,
        weights: ParametersConfig::context(1),
        ..FlowsConfig::new(vec![LayerConfig::Planar(PlanarConfig::new(1))])
    };
    let flows = flows.init::<B>(1, double(), &mut generator(2)).unwrap();
    // Logits that depend strongly on the context.
    let context = column(&[-1e4, 1e4].repeat(500));
    let weights = rows(&flows.weights(Some(&context)));
    let x = rows(&flows.sample(1000, Some(context.clone()), &mut generator(3)));
    let mean = |k: usize| x.iter().skip(k).step_by(2).sum::<f64>() / 500.0;
    let locations: Vec<f64> = flows
        .parts()
        .iter()
        .map(|part| rows(&part.base().parameters().of(None))[0])
        .collect();
    for k in 0..2 {
        let own = &weights[3 * k..3 * k + 3];
        let expected: f64 = own.iter().zip(&locations).map(|(w, l)| w * l).sum();
        assert!(own.iter().any(|w| *w > 0.99), "{own:?}");
        assert!(
            (mean(k) - expected).abs() < 0.25,
            "{k}: {}, {expected}",
            mean(k)
        );
    }
    assert!((mean(0) - mean(1)).abs() > 0.3, "{locations:?}");
}

#[test]
fn nothing_is_trained_unless_asked() {
    for config in configs(&ParametersConfig::Fixed, 2) {
        let base = config.init::<B>(2, double(), &mut generator(0)).unwrap();
        let trained = trained_parameters::<B, _>(&base);
        let layers = match &base {
            // Those of the layers that it names.
            AnyBase::Flows(flows) => {
                let each = flows
                    .parts()
                    .iter()
                    .map(|p| trained_parameters::<B, _>(p.bijector()));
                each.sum()
            }
            _ => 0,
        };
        assert_eq!(trained, layers, "{config:?}");
        let log_p = base.log_prob(batch(&[vec![0.1, 0.2]], double()), None);
        assert!(rows(&log_p)[0].is_finite());
    }
    for config in configs(&ParametersConfig::Trained, 2) {
        let base = config.init::<B>(2, double(), &mut generator(0)).unwrap();
        assert!(trained_parameters::<B, _>(&base) > 0, "{config:?}");
    }
}

#[test]
fn the_default_base_has_the_state_of_the_normal_distribution_of_before() {
    let before = state(&DiagonalNormal::<Flex>::standard(3, double()));
    let any = BaseConfig::default()
        .init::<Flex>(3, double(), &mut generator(0))
        .unwrap();
    assert_eq!(state(&any), before);
    load_state::<Flex, _>(any, &before).unwrap();
    // A base of fixed numbers that were drawn keeps them.
    let mixture = BaseConfig::NormalMixture(NormalMixtureConfig::default());
    let build = |seed| {
        mixture
            .init::<Flex>(2, double(), &mut generator(seed))
            .unwrap()
    };
    let loaded = load_state::<Flex, _>(build(1), &state(&build(2))).unwrap();
    assert_eq!(state(&loaded), state(&build(2)));
    assert_ne!(state(&build(1)), state(&build(2)));
}

#[test]
fn configurations_are_refused_with_the_field() {
    let refusal = |text: &str| {
        let table: Result<Wrapped, _> = toml::from_str(text);
        match table {
            Err(error) => error.message().to_owned(),
            Ok(wrapped) => {
                let base = wrapped.base.init::<Flex>(3, double(), &mut generator(0));
                base.unwrap_err().to_string()
            }
        }
    };
    for (text, expected) in [
        ("base = 'normals'", "unknown variant `normals`"),
        (
            "base = { student_t = { degree = 3.0 } }",
            "unknown field `degree`",
        ),
        (
            "base = { student_t = { degrees = 0.5 } }",
            "degrees is 0.5, expected more than 0.5",
        ),
        (
            "base = { normal_mixture = { components = 0 } }",
            "components is 0, expected 1 to",
        ),
        (
            "base = { normal_mixture = { spread = -1.0 } }",
            "spread is -1",
        ),
        (
            "base = { uniform = { low = [0.0, 1.0] } }",
            "low is 2 values, expected 3",
        ),
        ("base = { torus = { bound = 0.0 } }", "bound is 0"),
        (
            "base = { normal = { parameters = { context = { context_dim = 0 } } } }",
            "at least 1",
        ),
        (
            "base = { flows = { components = 0, layers = [] } }",
            "components is 0, expected 1 to",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[derive(Debug, serde::Deserialize)]
struct Wrapped {
    base: BaseConfig,
}

#[test]
fn layers_behind_an_embedding_are_initialized_with_its_context() {
    let map = ElementwiseAffineConfig::new(1);
    let layers = [
        LayerConfig::Conditioned(ConditionedConfig::new(map, 2)),
        LayerConfig::ActNorm(ActNormConfig::new(1)),
    ];
    let rng = &mut generator(3);
    let layers = layers.map(|layer| layer.init::<B>(double(), rng).unwrap());
    let layers = Chain::new(layers.to_vec()).unwrap();
    let flow = Flow::data_to_base(layers, DiagonalNormal::standard(1, double())).unwrap();
    let embedding = EmbeddingConfig::new(5, 2);
    let mut flow = embedding.init(flow, double(), rng).unwrap();
    let x = normal_batch::<B>([40, 1], 1, double()) * 3.0 + 2.0;
    let context = normal_batch::<B>([40, 5], 2, double());
    let mut visit = LayerVisit::init_from_data(x.clone(), Some(context));
    flow.visit_layers(&mut visit);
    let there = rows(&visit.into_rows()[0]);
    let mean = there.iter().sum::<f64>() / 40.0;
    let variance = there.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / 40.0;
    assert!(
        mean.abs() < 1e-12 && (variance - 1.0).abs() < 0.05,
        "{mean}, {variance}"
    );
    // One row of context for all rows of the batch.
    let one = normal_batch::<B>([1, 5], 4, double());
    let alone = rows(&flow.log_prob(x.clone(), Some(one.clone())));
    let each = rows(&flow.log_prob(x, Some(one.repeat_dim(0, 40))));
    for (a, b) in alone.iter().zip(each) {
        assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{a}, {b}");
    }
    let narrow = EmbeddingConfig::new(5, 3);
    let error = narrow
        .init(flow.inner().clone(), double(), rng)
        .unwrap_err()
        .to_string();
    assert!(error.contains("features is 3, expected 2"), "{error}");
}
