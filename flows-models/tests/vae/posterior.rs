//! Every posterior: its log-determinant against the Jacobian, its gradient against differences.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use flows_core::bijectors::{ActNormConfig, Chain, Layer, LayerConfig};
use flows_core::init::normal_tensor;
use flows_core::log_det::LogDet;
use flows_core::state::{load_state, state};
use flows_core::testing::{gradients, jacobians, slog_det};
use flows_core::visit::LayerVisit;
use flows_models::vae::{
    Amortized, DdnfContext, Likelihood, NetworkConfig, PosteriorConfig, PosteriorFlow, Vae,
    VaeConfig,
};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

use crate::{Wide, device};

const LATENT: usize = 4;

fn posteriors() -> Vec<PosteriorConfig> {
    let ddnf = |context| PosteriorConfig::Ddnf {
        blocks: 2,
        cells: 4,
        hidden: vec![5],
        log_det: LogDet::Exact,
        context,
    };
    let hidden = vec![8];
    vec![
        PosteriorConfig::Gaussian {},
        PosteriorConfig::Planar { flows: 3 },
        PosteriorConfig::Radial { flows: 3 },
        PosteriorConfig::Iaf {
            flows: 3,
            hidden: vec![8, 8],
        },
        PosteriorConfig::SylvesterOrthogonal {
            flows: 2,
            columns: 3,
        },
        PosteriorConfig::SylvesterHouseholder {
            flows: 2,
            reflections: 2,
        },
        PosteriorConfig::SylvesterTriangular { flows: 3 },
        PosteriorConfig::RealNvp {
            flows: 2,
            hidden: hidden.clone(),
        },
        PosteriorConfig::Maf { flows: 2, hidden },
        ddnf(DdnfContext::Shared),
        ddnf(DdnfContext::Bias),
        ddnf(DdnfContext::LowRank { rank: 2 }),
    ]
}

#[test]
fn log_determinants_are_those_of_the_jacobians() {
    let device = device();
    for config in posteriors() {
        let name = config.name();
        let rng = &mut StdRng::seed_from_u64(7);
        let Some(flow) = config.init::<Wide>(LATENT, 6, &device, rng).unwrap() else {
            continue;
        };
        // Far from what the flow begins with, and differently for each row.
        let h = normal_tensor::<Wide, 2>([5, 6], 8.0, &device, rng);
        let z_0 = normal_tensor::<Wide, 2>([5, LATENT], 1.0, &device, rng);
        let amortized = flow.amortize(h);
        let mapped = flow.forward_and_log_det(z_0.clone(), &amortized);
        assert_eq!(mapped.value.dtype(), DType::F64, "{name}");
        let jacobians = jacobians(|z| flow.forward_and_log_det(z, &amortized).value, &z_0);
        let log_dets = mapped.log_det.into_data();
        let mut largest = 0f64;
        for (found, jacobian) in log_dets.iter::<f64>().zip(&jacobians) {
            let expected = slog_det(jacobian);
            largest = largest.max(expected.abs());
            assert!(
                (found - expected).abs() < 1e-8,
                "{name}: {found} against {expected}"
            );
        }
        assert!(largest > 1e-3, "{name}: too close to the identity to tell");
    }
}

#[test]
fn repeated_rows_are_drawn_as_the_rows_themselves() {
    let device = device();
    for config in posteriors() {
        let name = config.name();
        let rng = &mut StdRng::seed_from_u64(3);
        let vae = small(config, NetworkConfig::Dense { hidden: vec![7] }, rng);
        let x = images(2, rng);
        let noise = normal_tensor::<Wide, 2>([6, LATENT], 1.0, &device, rng);
        let repeated = vae.draw(&vae.encode(x.clone()).repeat(3), noise.clone());
        let row = |tensor: Tensor<Wide, 2>, i: usize| tensor.narrow(0, i, 1);
        for i in 0..6 {
            let one = vae.draw(&vae.encode(row(x.clone(), i / 3)), row(noise.clone(), i));
            let difference = row(repeated.z.clone(), i) - one.z;
            let of_log_q = repeated.log_q.clone().narrow(0, i, 1) - one.log_q;
            let worst =
                difference.abs().max().into_scalar_f64() + of_log_q.abs().max().into_scalar_f64();
            assert!(worst < 1e-10, "{name}, row {i}: {worst:e}");
        }
    }
}

/// The directional derivative of the bound along a random direction of all parameters.
#[test]
fn gradients_of_the_bound_are_those_of_differences() {
    device();
    let networks = [
        NetworkConfig::Dense { hidden: vec![7] },
        NetworkConfig::Conv {},
    ];
    for network in networks {
        let configs = match network {
            NetworkConfig::Dense { .. } => posteriors(),
            NetworkConfig::Conv {} => vec![PosteriorConfig::Planar { flows: 2 }],
        };
        for config in configs {
            let name = config.name();
            let rng = &mut StdRng::seed_from_u64(11);
            let vae = small(config, network.clone(), rng);
            let (x, noise) = (images(3, rng), vae.noise(3, rng));
            let loss = |vae: &Vae<Wide>| {
                let terms = vae.terms(x.clone(), noise.clone());
                (terms.kl - terms.log_likelihood).mean()
            };
            let found = gradients::<Wide, _>(&vae, &loss(&vae).backward());
            let start = state::<Wide, _>(&vae);
            let (mut expected, mut ahead, mut behind) = (0.0, start.clone(), start.clone());
            let step = 1e-5;
            for (path, gradient) in &found {
                let gradient = gradient
                    .as_ref()
                    .unwrap_or_else(|| panic!("{name}: {path} has no gradient"));
                let direction: Vec<f64> = gradient
                    .iter()
                    .map(|_| StandardNormal.sample(&mut *rng))
                    .collect();
                expected += gradient
                    .iter()
                    .zip(&direction)
                    .map(|(g, d)| g * d)
                    .sum::<f64>();
                for (state, sign) in [(&mut ahead, step), (&mut behind, -step)] {
                    let data = state.get_mut(path).unwrap();
                    let moved = data
                        .iter::<f64>()
                        .zip(&direction)
                        .map(|(v, d)| v + sign * d);
                    *data = burn::tensor::TensorData::new(
                        moved.collect::<Vec<_>>(),
                        data.shape.clone(),
                    );
                }
            }
            let at = |state| {
                let rng = &mut StdRng::seed_from_u64(11);
                let fresh = small(posterior_of(name), network.clone(), rng);
                loss(&load_state::<Wide, _>(fresh, state).unwrap()).into_scalar_f64()
            };
            let actual = (at(&ahead) - at(&behind)) / (2.0 * step);
            let error = (actual - expected).abs() / (1.0 + expected.abs());
            assert!(
                error < 1e-5,
                "{name}: {actual} by differences, {expected} by autodiff"
            );
        }
    }
}

fn posterior_of(name: &str) -> PosteriorConfig {
    let mut all = posteriors().into_iter();
    let planar = PosteriorConfig::Planar { flows: 2 };
    // The convolutional case has fewer maps than the list.
    all.find(|p| p.name() == name).unwrap_or(planar)
}

fn small(config: PosteriorConfig, network: NetworkConfig, rng: &mut StdRng) -> Vae<Wide> {
    let config = match (config, &network) {
        (PosteriorConfig::Planar { .. }, NetworkConfig::Conv {}) => {
            PosteriorConfig::Planar { flows: 2 }
        }
        (config, _) => config,
    };
    let config = VaeConfig {
        posterior: config,
        likelihood: Likelihood::Bernoulli {},
        ..VaeConfig::new([4, 4], LATENT, network)
    };
    config.init(&device(), rng).unwrap()
}

fn images(n: usize, rng: &mut StdRng) -> Tensor<Wide, 2> {
    let x = normal_tensor::<Wide, 2>([n, 16], 1.0, &device(), rng);
    x.greater_elem(0.0).float().cast(DType::F64)
}

/// The one number of a tensor.
trait Scalar {
    fn into_scalar_f64(self) -> f64;
}

impl Scalar for Tensor<Wide, 1> {
    fn into_scalar_f64(self) -> f64 {
        self.into_data().iter::<f64>().next().unwrap()
    }
}

#[test]
fn a_visit_goes_through_the_layers_the_way_the_flow_does() {
    let device = device();
    let rng = &mut StdRng::seed_from_u64(3);
    let x: Tensor<Flex, 2> = normal_tensor([50, 2], 4.0, &device, rng) + 20.0;
    let config = LayerConfig::ActNorm(ActNormConfig::new(2));
    let mut layer = || -> Layer<Flex> { config.init(&device, rng).unwrap() };
    let mut stack = || Chain::new(vec![layer(), layer()]).unwrap();
    for mut flow in [
        PosteriorFlow::Layers(stack()),
        PosteriorFlow::Inverted(stack()),
    ] {
        flow.visit_layers(&mut LayerVisit::init_from_data(x.clone(), None));
        let features = Amortized::Features(Tensor::zeros([50, 1], &device));
        let z = flow.forward(x.clone(), &features);
        let [mean, square] = [z.clone(), z.square()].map(|z| z.mean_dim(0).into_data());
        assert!(mean.iter::<f64>().all(|m| m.abs() < 1e-11), "{mean:?}");
        assert!(
            square.iter::<f64>().all(|s| (s - 1.0).abs() < 1e-11),
            "{square:?}"
        );
    }
}
