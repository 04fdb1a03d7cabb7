//! Weights of bounded norm, and blocks that are invertible whatever their parameters. In f64.

use crate::double;

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module, ModuleMapper, Param};
use burn::optim::{AdamConfig, GradientsParams, Optimizer};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{DdnfBlock, DdnfBlockConfig};
use flows_core::continuous::{VelocityField, spectral_bound};
use flows_core::init::normal_tensor;
use flows_core::nn::Activation;
use flows_core::testing::{residual, rows};

type Grad = Autodiff<Flex>;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn normal<B: Backend>(n: usize, columns: usize, seed: u64) -> Tensor<B, 2> {
    normal_tensor([n, columns], 1.0, double(), &mut rng(seed))
}

/// By the singular values of nalgebra.
fn spectral_norm<B: Backend>(w: &Tensor<B, 2>) -> f64 {
    let [n, m] = w.dims();
    DMatrix::from_row_slice(n, m, &rows(w))
        .singular_values()
        .max()
}

#[test]
fn the_bound_is_above_the_spectral_norm_and_close() {
    double();
    for (n, m) in [(1, 1), (1, 7), (5, 2), (3, 3), (40, 64), (64, 40)] {
        for scale in [1e-12, 1.0, 1e12] {
            let w = normal::<Flex>(n, m, 1) * scale;
            let (norm, bound) = (spectral_norm(&w), rows(&spectral_bound(w))[0]);
            let above = (n.min(m) as f64).powf(0.5f64.powi(11));
            let (least, most) = (norm * (1.0 - 1e-13), norm * above * (1.0 + 1e-13));
            assert!(
                least <= bound && bound <= most,
                "{n} x {m}: {bound}, {norm}"
            );
        }
    }
    // Two equal singular values, one that is not 0, and none.
    let of = |w: [[f64; 2]; 2]| rows(&spectral_bound(Tensor::<Flex, 2>::from_data(w, double())))[0];
    let equal = of([[2.0, 0.0], [0.0, -2.0]]) / 2.0;
    assert!(
        (equal - 2f64.powf(0.5f64.powi(11))).abs() < 1e-13,
        "{equal}"
    );
    let one = of([[1.0, 2.0], [2.0, 4.0]]);
    assert!((one - 5.0).abs() < 1e-12, "{one}");
    assert!(of([[0.0; 2]; 2]) < 1e-15);
}

#[test]
fn gradients_of_the_bound_are_differences() {
    double();
    for (n, m) in [(3, 2), (2, 4)] {
        let w = normal::<Grad>(n, m, 1).require_grad();
        let gradients = spectral_bound(w.clone()).sum().backward();
        let numbers = rows(&w);
        for (k, gradient) in rows(&w.grad(&gradients).unwrap()).into_iter().enumerate() {
            let moved = |by: f64| {
                let mut numbers = numbers.clone();
                numbers[k] += by;
                let w = Tensor::<Flex, 2>::from_data(TensorData::new(numbers, [n, m]), double());
                rows(&spectral_bound(w))[0]
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (gradient - expected).abs() < 1e-7,
                "{gradient}, not {expected}"
            );
        }
    }
    let zero = Tensor::<Grad, 2>::zeros([2, 2], double()).require_grad();
    let gradient = zero.grad(&spectral_bound(zero.clone()).sum().backward());
    assert!(rows(&gradient.unwrap()).iter().all(|g| g.is_finite()));
}

struct Enlarge;

impl<B: Backend> ModuleMapper<B> for Enlarge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|p| (p * 100.0).detach().require_grad())
    }
}

fn config(cells: usize, activation: Activation, hidden: &[usize]) -> DdnfBlockConfig {
    DdnfBlockConfig {
        cells,
        activation,
        lipschitz: Some(0.97),
        ..DdnfBlockConfig::new(3, hidden)
    }
}

fn assert_bounded<B: Backend>(field: &VelocityField<B>, slope: f64) {
    let norms = field.weights();
    let norms: Vec<f64> = norms.iter().map(spectral_norm).collect();
    let layers = norms.len() as f64;
    let each = (field.lipschitz().unwrap() / slope.powf(layers - 1.0)).powf(layers.recip());
    for norm in norms {
        assert!(norm <= each * (1.0 + 1e-13), "{norm}, allowed {each}");
    }
}

#[test]
fn blocks_are_invertible_whatever_their_parameters() {
    double();
    for (activation, slope) in [
        (Activation::Tanh, 1.0),
        (Activation::Softplus, 1.0),
        (Activation::Elu, 1.0),
        (Activation::Swish, 1.1),
    ] {
        for (cells, hidden) in [(1, vec![6]), (4, vec![6]), (1, vec![5, 8]), (4, vec![2, 2])] {
            let config = config(cells, activation, &hidden);
            let block = config.init::<Flex>(double(), &mut rng(1)).unwrap();
            let block = block.map(&mut Enlarge);
            assert_bounded(block.field(), slope);
            let contraction = block.contraction().unwrap();
            assert!((contraction - 0.97).abs() < 1e-15, "{contraction}");
            // Steps from points nearby and far apart differ by less than the points.
            for scale in [1e-4, 1.0, 30.0] {
                let [a, b] = [2, 3].map(|seed| normal::<Flex>(200, 3, seed) * scale);
                let length = |t: Tensor<Flex, 2>| rows(&t.square().sum_dim(1).sqrt());
                let velocity = |x: &Tensor<Flex, 2>| block.field().velocity(x.clone(), None);
                let steps = length(velocity(&a) - velocity(&b));
                for (step, apart) in steps.into_iter().zip(length(a - b)) {
                    let rate = step / cells as f64 / apart;
                    assert!(rate <= 0.97, "{activation:?}, {hidden:?}: {rate}");
                }
            }
            let x = normal::<Flex>(50, 3, 4) * 3.0;
            let there = block.forward_and_log_det(x.clone(), None);
            assert!(rows(&there.log_det).iter().all(|l| l.is_finite()));
            let (back, report) = block.inverse_with_report(there.value, None);
            assert_eq!(report.unsolved, 0);
            let off = residual(back.value, x);
            assert!(off < 1e-9, "{activation:?}, {cells}, {hidden:?}: {off}");
        }
    }
}

#[test]
fn the_bound_holds_after_training() {
    double();
    let config = config(1, Activation::Swish, &[16, 16]);
    let mut block = config.init::<Grad>(double(), &mut rng(1)).unwrap();
    let mut optimizer = AdamConfig::new().init::<Grad, DdnfBlock<Grad>>();
    // Volume that wants to grow on one side and to shrink on the other, without bound.
    let x = normal::<Grad>(64, 3, 2);
    for _ in 0..60 {
        let mapped = block.forward_and_log_det(x.clone(), None);
        let sign = x.clone().narrow(1, 0, 1).sign().squeeze_dim(1);
        let loss = (mapped.log_det * sign).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &block);
        block = optimizer.step(0.1, block, gradients);
    }
    let block = block.valid();
    assert_bounded(block.field(), 1.1);
    let layers = block.field().layers.iter();
    let largest = layers
        .map(|l| spectral_norm(&l.weight.val()))
        .fold(0.0, f64::max);
    assert!(largest > 1.5, "no weight has outgrown its bound: {largest}");
}

#[test]
fn bad_configurations_are_refused() {
    double();
    let refused = |config: DdnfBlockConfig, expected: &str| {
        let error = config.init::<Flex>(double(), &mut rng(1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let valid = config(2, Activation::Tanh, &[4]);
    for lipschitz in [0.0, -0.5, 1.0, f64::NAN, f64::INFINITY] {
        let lipschitz = Some(lipschitz);
        let wrong = DdnfBlockConfig {
            lipschitz,
            ..valid.clone()
        };
        refused(wrong, "lipschitz is");
    }
    let updates = DdnfBlockConfig {
        context_dim: 1,
        context_rank: 1,
        ..valid
    };
    refused(updates, "context_rank is 1");
}
