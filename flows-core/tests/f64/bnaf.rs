//! The block neural autoregressive map: mass, image, and a network written out by hand. In f64.

use crate::double;

use burn::backend::Flex;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::{SeedableRng, rngs::StdRng};

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{Bnaf, BnafConfig};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::flow::Flow;
use flows_core::init::{normal_tensor, options_of};
use flows_core::testing::{batch, residual, rows};

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

struct AddNoise(StdRng, f64);

impl<B: Backend> ModuleMapper<B> for AddNoise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Self(rng, std) = self;
        param.map(|p| p.clone() + normal_tensor(p.dims(), *std, options_of(&p), rng))
    }
}

fn moved(config: &BnafConfig, std: f64) -> Bnaf<Flex> {
    let layer = config.init::<Flex>(double(), &mut rng(1)).unwrap();
    layer.map(&mut AddNoise(rng(2), std))
}

#[test]
fn densities_integrate_to_one() {
    double();
    for std in [0.0, 0.5] {
        for hidden in [vec![4], vec![3, 3]] {
            // A base wide enough that it reaches where tanh is flat.
            let flow = |dim: usize| {
                let base = DiagonalNormal::new(&vec![0.5; dim], &vec![2.0; dim], double()).unwrap();
                let layer = moved(&BnafConfig::new(dim, hidden.clone()), std);
                Flow::data_to_base(layer, base).unwrap()
            };
            // At x = sinh(u): the tails are straight with slopes of a hundredth, or of its square.
            let (n, bound) = (200_000, 20.0);
            let step = 2.0 * bound / f64::from(n);
            let u = (0..n).map(|k| -bound + step * (f64::from(k) + 0.5));
            let u: Vec<f64> = u.collect();
            let x = u.iter().map(|u| u.sinh()).collect();
            let x = Tensor::from_data(TensorData::new::<f64, _>(x, [u.len(), 1]), double());
            let log_p = rows(&flow(1).log_prob(x, None));
            let density = log_p.iter().zip(&u).map(|(l, u)| l.exp() * u.cosh());
            let line = density.sum::<f64>() * step;
            assert!((line - 1.0).abs() < 1e-8, "{hidden:?}, moved {std}: {line}");
        }
    }
    // On the plane, in coordinates of the image: points of a grid there, and the Jacobian of the way back.
    let layer = moved(&BnafConfig::new(2, [4, 3]), 0.3);
    let flow = Flow::data_to_base(layer, DiagonalNormal::<Flex>::standard(2, double())).unwrap();
    let (n, bound) = (60, 7.0);
    let step = 2.0 * bound / f64::from(n);
    let at = |k: i32| -bound + step * (f64::from(k) + 0.5);
    let grid: Vec<Vec<f64>> = (0..n * n).map(|k| vec![at(k / n), at(k % n)]).collect();
    let back = flow
        .bijector()
        .inverse_and_log_det(batch(&grid, double()), None);
    let log_p = flow.log_prob(back.value, None) + back.log_det;
    let mass = rows(&log_p.exp().sum())[0] * step * step;
    assert!((mass - 1.0).abs() < 1e-8, "{mass}");
}

#[test]
fn every_point_is_an_image() {
    double();
    for hidden in [vec![4], vec![3, 5]] {
        let layer = moved(&BnafConfig::new(3, hidden), 0.5);
        let y = batch(
            &[vec![1e3, -1e3, 1e3], vec![-40.0, 0.0, 60.0], vec![0.0; 3]],
            double(),
        );
        let (x, report) = layer.inverse_with_report(y.clone(), None);
        assert!(report.residual < 1e-8 && report.passes > 1, "{report:?}");
        assert!(residual(layer.forward(x.value, None), y) < 1e-8);
    }
}

/// Two variables and two units each, by the equations of the paper, one number at a time.
#[test]
fn it_is_the_network_of_the_paper() {
    double();
    let layer = moved(&BnafConfig::new(2, [2]), 0.5);
    let x = [0.7, -1.3];
    let (mut h, mut slopes) = (x.to_vec(), vec![vec![1.0]; 2]);
    for (l, linear) in layer.layers.iter().enumerate() {
        let [inputs, outputs] = linear.weight.dims();
        let (a, b) = (inputs / 2, outputs / 2);
        let (v, s, bias) = (
            rows(&linear.weight.val()),
            rows(&linear.log_scale.val()),
            rows(&linear.bias.val()),
        );
        let weight = |r: usize, c: usize| {
            let free = v[r * outputs + c];
            match (r / a).cmp(&(c / b)) {
                std::cmp::Ordering::Equal => free.exp(),
                std::cmp::Ordering::Less => free,
                std::cmp::Ordering::Greater => 0.0,
            }
        };
        let norm = |c: usize| {
            (0..inputs)
                .map(|r| weight(r, c).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let w = |r: usize, c: usize| s[c].exp() * weight(r, c) / norm(c);
        let pre = (0..outputs).map(|c| bias[c] + (0..inputs).map(|r| h[r] * w(r, c)).sum::<f64>());
        let pre: Vec<f64> = pre.collect();
        let last = l + 1 == layer.layers.len();
        let own = |i: usize| {
            let unit = |k: usize| {
                let c = i * b + k;
                let through: f64 = (0..a).map(|j| slopes[i][j] * w(i * a + j, c)).sum();
                through
                    * if last {
                        1.0
                    } else {
                        1.0 - pre[c].tanh().powi(2)
                    }
            };
            (0..b).map(unit).collect::<Vec<f64>>()
        };
        slopes = (0..2).map(own).collect();
        h = if last {
            pre
        } else {
            pre.iter().map(|a| a.tanh()).collect()
        };
    }
    let mapped = layer.forward_and_log_det(batch(&[x.to_vec()], double()), None);
    for (ours, expected) in rows(&mapped.value).iter().zip(h) {
        assert!((ours - expected).abs() < 1e-14, "{ours}, not {expected}");
    }
    let expected: f64 = slopes.iter().flatten().map(|s| s.ln()).sum();
    let ours = rows(&mapped.log_det)[0];
    assert!((ours - expected).abs() < 1e-13, "{ours}, not {expected}");
}

#[test]
fn bad_configurations_are_refused() {
    double();
    let valid = BnafConfig::new(2, [4]);
    let refused = |config: BnafConfig, expected: &str| {
        let error = config.init::<Flex>(double(), &mut rng(1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(
        BnafConfig {
            dim: 0,
            ..valid.clone()
        },
        "dim is 0",
    );
    refused(BnafConfig::new(2, []), "hidden is []");
    refused(BnafConfig::new(2, [3, 0]), "hidden is [3, 0]");
    for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(
            BnafConfig {
                bound,
                ..valid.clone()
            },
            "bound is",
        );
    }
}
