//! Couplings, autoregressive layers and what stands between them.

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::*;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering};
use flows_core::nn::{ConditionerActivation, Connections};
use flows_core::testing::{Case, Dependencies, Suite};

pub(crate) const SCALES: [LogScale; 7] = [
    LogScale::Exp,
    LogScale::TanhBounded { bound: 2.0 },
    LogScale::SoftClip { bound: 6.9 },
    LogScale::Softplus { floor: 1e-3 },
    LogScale::Sigmoid {
        offset: 2.0,
        floor: 1e-3,
    },
    LogScale::SigmoidGate,
    LogScale::Additive,
];

pub(crate) fn masks() -> Vec<MaskConfig> {
    vec![
        MaskConfig::Autoregressive(Ordering::Natural),
        MaskConfig::Autoregressive(Ordering::Reversed),
        MaskConfig::Autoregressive(Ordering::Random { seed: 5 }),
        MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![4, 2]]),
        MaskConfig::Coupling(vec![1, 3]),
        MaskConfig::Graph(vec![vec![], vec![0], vec![0, 4], vec![1, 2], vec![]]),
    ]
}

/// What each output may depend on: itself, and what its parameters see.
pub(crate) fn outputs_see(mask: &DependencyMask) -> Dependencies {
    let dim = mask.dim();
    let row = |i: usize| (0..dim).map(|j| i == j || mask.sees(i, j)).collect();
    (0..dim).map(row).collect()
}

/// Runs the conformance suite over these layers.
pub(crate) fn masked_layers<B: AutodiffBackend>(suite: &mut Suite<B>) {
    let dim = 5;
    for (k, scale) in SCALES.into_iter().enumerate() {
        let untouched = [
            Untouched::Even,
            Untouched::Odd,
            Untouched::FirstHalf,
            Untouched::SecondHalf,
        ];
        let config = AffineCouplingConfig {
            scale,
            untouched: untouched[k % 4].clone(),
            connections: [Connections::Plain, Connections::Residual][k % 2],
            context_dim: [0, 0, 2][k % 3],
            ..AffineCouplingConfig::new(dim, vec![8, 8])
        };
        let columns = config.untouched.variables(dim).expect("dim is 5");
        let case = Case::new(format!("affine coupling, {scale:?}"));
        suite.check(case.untouched(columns).max_passes(1), |device, rng| {
            config.init(device, rng)
        });
    }
    for (k, mask) in masks().into_iter().enumerate() {
        for (connections, activation) in [
            (Connections::Plain, ConditionerActivation::Tanh),
            (Connections::Residual, ConditionerActivation::Elu),
        ] {
            let config = MaskedAffineConfig {
                mask: mask.clone(),
                connections,
                activation,
                context_dim: [0, 2][k % 2],
                scale: SCALES[k],
                ..MaskedAffineConfig::new(dim, vec![12, 12])
            };
            let rows = outputs_see(&mask.build(dim).expect("an acyclic mask"));
            let case = Case::new(format!("masked affine, {mask:?}, {connections:?}"));
            suite.check(case.dependencies(rows).max_passes(1), |device, rng| {
                config.init(device, rng)
            });
        }
    }
    let case = Case::new("masked affine, Jacobi").max_passes(dim);
    suite.check(case, |device, rng| {
        let config = MaskedAffineConfig {
            inverse: AutoregressiveInverse::Jacobi { tolerance: 0.0 },
            ..MaskedAffineConfig::new(dim, vec![12])
        };
        config.init(device, rng)
    });
    suite.check(Case::new("inverted masked affine"), |device, rng| {
        let config = MaskedAffineConfig::new(dim, vec![12]);
        config.init(device, rng).map(Inverted::new)
    });
    for ordering in [Ordering::Reversed, Ordering::Random { seed: 1 }] {
        let case = Case::new(format!("permutation, {ordering:?}"));
        suite.check(case, |_, _| {
            PermutationConfig::new(dim, ordering.clone()).init()
        });
        let case = Case::new(format!("lu linear, {ordering:?}"));
        suite.check(case, |device, rng| {
            let config = LuLinearConfig {
                ordering: ordering.clone(),
                ..LuLinearConfig::new(dim)
            };
            config.init(device, rng)
        });
    }
}
