//! Dense blocks, stages of falling dimension, and batch normalization.

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::Bijector;
use flows_core::bijectors::*;
use flows_core::masks::Untouched;
use flows_core::masks::{MaskConfig, Ordering};
use flows_core::nn::{ConditionerActivation, Connections};
use flows_core::testing::{Case, Suite, uniform_batch};
use flows_core::visit::LayerVisit;

use super::autoregressive::{SCALES, outputs_see};

/// Runs the conformance suite over these layers.
pub(crate) fn block_and_stage_layers<B: AutodiffBackend>(suite: &mut Suite<B>) {
    let dim = 5;
    let blocks = [
        vec![vec![3, 1], vec![0], vec![4, 2]],
        vec![vec![2, 4, 0], vec![1, 3]],
        vec![vec![2], vec![0], vec![1], vec![4], vec![3]],
        // One block has nothing to see but a context.
        vec![vec![0, 1, 2, 3, 4]],
    ];
    for (k, blocks) in blocks.into_iter().enumerate() {
        let config = BlockAffineConfig {
            activation: ConditionerActivation::Tanh,
            connections: [Connections::Plain, Connections::Residual][k % 2],
            context_dim: [0, 2, 0, 2][k],
            scale: SCALES[2 * k],
            bound: [1.0, 0.5][k % 2],
            ..BlockAffineConfig::new(dim, vec![8, 8], blocks.clone())
        };
        let mask = MaskConfig::Blocks(blocks.clone()).build(dim);
        let mut rows = outputs_see(&mask.expect("blocks of all variables"));
        for block in &blocks {
            for &i in block {
                block.iter().for_each(|&j| rows[i][j] = true);
            }
        }
        // Far out the Jacobian's entries below the blocks outweigh the blocks by the size of the input,
        // and its elimination in f32 loses these digits of the reference, not of the layer: f64 agrees to
        // 1e-8 at +-1e3. Values and gradients at +-1e3 are held finite in `extremes.rs`.
        let mut case = Case::new(format!("block affine, {blocks:?}")).bounded_domain(30.0);
        if blocks.len() == 1 {
            // The first layer reads variables only, and none may be seen.
            case = case.without_gradient(vec!["network.layers.0.weight"]);
        }
        suite.check(case.dependencies(rows).max_passes(1), |device, rng| {
            config.init(device, rng)
        });
    }

    let stages = MultiScaleConfig::new(vec![
        vec![
            LayerConfig::Autoregressive(AutoregressiveConfig::coupling(
                dim,
                vec![8],
                Untouched::Even,
            )),
            LayerConfig::Permutation(PermutationConfig::new(dim, Ordering::Random { seed: 2 })),
        ],
        vec![LayerConfig::Autoregressive(AutoregressiveConfig {
            context_dim: 2,
            ..AutoregressiveConfig::new(3, vec![8])
        })],
        vec![LayerConfig::ElementwiseAffine(
            ElementwiseAffineConfig::new(1),
        )],
    ]);
    suite.check(Case::new("multi-scale").max_passes(4), |device, rng| {
        LayerConfig::MultiScale(stages.clone()).init(device, rng)
    });

    for dim in [1, 3] {
        // Statistics are taken from data, not trained.
        let case = Case::new(format!("batch norm, frozen, dim {dim}"))
            .statistics(vec!["mean", "variance", "fixed"]);
        suite.check(case, |device, rng| {
            let mut layer = BatchNormConfig::new(dim).init(device.clone(), rng)?;
            let chunks =
                [4, 7].map(|rows| uniform_batch([rows, dim], 3.0, rows as u64, device.clone()));
            layer.visit_layers(&mut LayerVisit::freeze_statistics(chunks.to_vec(), None));
            Ok(layer)
        });
    }
}
