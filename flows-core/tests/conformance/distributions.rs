//! Every distribution, and flows in both orientations, one line each.

use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::*;
use flows_core::distributions::{DiagonalNormal, GaussianMixture, Uniform};
use flows_core::error::Error;
use flows_core::flow::Flow;
use flows_core::nn::ConditionerActivation;
use flows_core::testing::{DistributionCase, Suite};
use flows_core::transforms::LogScale;
use rand::Rng;

/// Runs the conformance suite over distributions; iterative inverses stop at `solver`.
pub(crate) fn distributions<B: AutodiffBackend>(suite: &mut Suite<B>, solver: f64) {
    let case = |name: &str, dim: usize| DistributionCase::new(format!("{name}, dim {dim}"));
    let (loc, scale) = ([0.4, -1.0, 2.0], [0.9, 0.5, 1.5]);
    for dim in [1, 2, 3] {
        suite.check_distribution(case("standard normal", dim), |device, _| {
            Ok(DiagonalNormal::standard(dim, device))
        });
        suite.check_distribution(case("diagonal normal", dim), |device, _| {
            DiagonalNormal::new(&loc[..dim], &scale[..dim], device)
        });
        suite.check_distribution(case("gaussian mixture", dim), |device, _| {
            let loc = [-1.5, 0.0, 2.0].map(|m| loc[..dim].iter().map(|l| l * 0.5 + m).collect());
            let scale = [0.6, 1.0, 0.7].map(|s| scale[..dim].iter().map(|w| w * s).collect());
            GaussianMixture::new(&[1.0, 2.0, 5.0], &loc, &scale, device)
        });
        // Faces on borders of the grid's cells, where the midpoint rule is exact for a step.
        let uniform = case("uniform", dim).grid(-4.0, 4.0, 1e-6);
        suite.check_distribution(uniform, |device, _| {
            Uniform::new(&[-1.0, 0.48, 1.0][..dim], &[2.0, 1.0, 3.0][..dim], device)
        });
    }
    for dim in [1, 2, 3] {
        // Smooth networks and bounded scales: what the grid integrates exactly, also far from the start.
        let masked = AutoregressiveConfig {
            activation: ConditionerActivation::Tanh,
            transform: LogScale::TanhBounded { bound: 0.5 }.into(),
            ..AutoregressiveConfig::new(dim, vec![8])
        };
        let given = AutoregressiveConfig {
            context_dim: 2,
            ..masked.clone()
        };
        let jacobi = AutoregressiveConfig {
            inverse: AutoregressiveInverse::Jacobi { tolerance: 0.0 },
            ..masked.clone()
        };
        let ddnf = DdnfBlockConfig {
            cells: 4,
            inverse: DdnfInverse::Exact {
                tolerance: solver,
                max_iterations: 50,
            },
            ..DdnfBlockConfig::new(dim, [5])
        };
        let flows = [
            (
                "masked affine",
                vec![LayerConfig::Autoregressive(masked)],
                0.0,
            ),
            (
                "masked affine, Jacobi",
                vec![LayerConfig::Autoregressive(jacobi)],
                0.0,
            ),
            (
                "chain with context",
                vec![
                    LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(dim)),
                    LayerConfig::Autoregressive(given),
                    LayerConfig::LuLinear(LuLinearConfig::new(dim)),
                ],
                0.0,
            ),
            (
                "planar",
                vec![LayerConfig::Planar(PlanarConfig::new(dim))],
                0.0,
            ),
            ("ddnf block", vec![LayerConfig::Ddnf(ddnf)], 10.0 * solver),
        ];
        for (name, layers, tolerance) in flows {
            let case = |direction: &str| {
                case(&format!("{name}, {direction}"), dim)
                    .inverse_tolerance(tolerance)
                    .grid(-24.0, 24.0, 1e-6)
            };
            suite.check_distribution(case("data to base"), |device, rng| {
                let base = DiagonalNormal::standard(dim, device.clone());
                Flow::data_to_base(stack(&layers, &device, rng)?, base)
            });
            suite.check_distribution(case("base to data"), |device, rng| {
                let base = DiagonalNormal::standard(dim, device.clone());
                Flow::base_to_data(stack(&layers, &device, rng)?, base)
            });
        }
    }
}

fn stack<B: AutodiffBackend>(
    layers: &[LayerConfig],
    options: &TensorCreationOptions<B>,
    rng: &mut dyn Rng,
) -> Result<Stack<B>, Error> {
    let layers = layers.iter().map(|layer| layer.init(options.clone(), rng));
    Chain::new(layers.collect::<Result<_, _>>()?)
}
