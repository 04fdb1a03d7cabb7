//! Layers with one shared network on masked inputs, under hard and learned masks.

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::*;
use flows_core::masks::{MaskConfig, Ordering};
use flows_core::nn::{ConditionerActivation, Connections, Encoding};
use flows_core::testing::{Case, Dependencies, Suite};

use super::masked::{SCALES, masks, outputs_see};

/// Runs the conformance suite over these layers.
pub(crate) fn shared_layers<B: AutodiffBackend>(suite: &mut Suite<B>) {
    let dim = 5;
    for (k, mask) in masks().into_iter().enumerate() {
        let config = SharedAffineConfig {
            mask: mask.clone(),
            encoding: [Encoding::Index, Encoding::MaskRow][k % 2],
            activation: [ConditionerActivation::Elu, ConditionerActivation::Tanh][k % 2],
            connections: [Connections::Plain, Connections::Residual][k / 2 % 2],
            context_dim: [2, 0, 0][k % 3],
            scale: SCALES[k],
            ..SharedAffineConfig::new(dim, vec![8, 8])
        };
        let rows = outputs_see(&mask.build(dim).expect("an acyclic mask"));
        let case = Case::new(format!("shared affine, {mask:?}"));
        suite.check(case.dependencies(rows).max_passes(1), |device, rng| {
            config.init(device, rng)
        });
    }
    let case = Case::new("shared affine, Jacobi").max_passes(dim);
    suite.check(case, |device, rng| {
        let config = SharedAffineConfig {
            inverse: AutoregressiveInverse::Jacobi { tolerance: 0.0 },
            ..SharedAffineConfig::new(dim, vec![8])
        };
        config.init(device, rng)
    });
    suite.check(Case::new("shared affine, dim 1"), |device, rng| {
        SharedAffineConfig::new(1, vec![4]).init(device, rng)
    });

    for (k, ordering) in [
        Ordering::Natural,
        Ordering::Reversed,
        Ordering::Random { seed: 5 },
    ]
    .into_iter()
    .enumerate()
    {
        let config = SoftMaskedAffineConfig {
            ordering: ordering.clone(),
            temperature: [1.0, 0.3, 2.0][k],
            start: [0.5, 0.2, 0.9][k],
            encoding: [Encoding::Index, Encoding::MaskRow][k % 2],
            activation: ConditionerActivation::Tanh,
            context_dim: [0, 2, 0][k],
            scale: SCALES[k + 1],
            ..SoftMaskedAffineConfig::new(dim, vec![8])
        };
        let triangle = MaskConfig::Autoregressive(ordering.clone()).build(dim);
        let rows: Dependencies = outputs_see(&triangle.expect("a triangle"));
        let case = Case::new(format!("soft masked affine, {ordering:?}"));
        suite.check(case.dependencies(rows).max_passes(1), |device, rng| {
            config.init(device, rng)
        });
    }
    // A single variable sees nothing: there is no entry to learn.
    let case = Case::new("soft masked affine, dim 1").without_gradient(vec!["logits"]);
    suite.check(case, |device, rng| {
        SoftMaskedAffineConfig::new(1, vec![4]).init(device, rng)
    });
}
