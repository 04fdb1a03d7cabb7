//! Block neural autoregressive maps.

use burn::tensor::backend::AutodiffBackend;
use flows_core::bijectors::BnafConfig;
use flows_core::testing::{Case, Suite};

/// Runs the conformance suite over these layers.
pub(crate) fn bnafs<B: AutodiffBackend>(suite: &mut Suite<B>) {
    for (dim, hidden, context_dim) in [(1, vec![3], 0), (3, vec![2], 0), (3, vec![2, 3], 2)] {
        let config = BnafConfig {
            context_dim,
            ..BnafConfig::new(dim, hidden.clone())
        };
        let triangle = |i: usize| (0..dim).map(|j| j <= i).collect();
        let case = Case::new(format!("bnaf, {dim}, {hidden:?}"))
            .dependencies((0..dim).map(triangle).collect());
        // Of a single input, the weight is its scale.
        let case = match dim {
            1 => case.without_gradient(vec!["layers.0.weight"]),
            _ => case,
        };
        suite.check(case, |device, rng| config.init(device, rng));
    }
}
