//! What the author of a layer writes: the conformance suite, and that it trains.

use super::*;
use flows_core::testing::{Case, Precision, Suite};

#[test]
fn the_layer_conforms() {
    let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
    let graph = vec![vec![true, false], vec![true, true]];
    let case = Case::new("sine shear").dependencies(graph);
    suite.check(case, SineShear::init);
    suite.finish();
}

/// A forgotten log-determinant is what the suite is for.
#[test]
fn a_wrong_log_det_is_caught() {
    #[derive(Module, Debug)]
    struct Wrong<B: Backend> {
        right: SineShear<B>,
    }
    impl<B: Backend> Bijector<B> for Wrong<B> {
        fn name(&self) -> &'static str {
            "wrong"
        }
        fn dim(&self) -> usize {
            2
        }
        fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
            let mapped = self.right.forward_and_log_det(x, context);
            Mapped {
                value: mapped.value * 2.0,
                log_det: mapped.log_det,
            }
        }
    }
    let mut suite = Suite::<Autodiff<Flex>>::new(&Default::default(), Precision::SINGLE);
    suite.check_forward_only(Case::new("wrong"), |device, rng| {
        SineShear::init(device, rng).map(|right| Wrong { right })
    });
    let of = |f: &flows_core::testing::Failure| f.property.contains("log-det");
    assert!(suite.failures().iter().any(of), "{:?}", suite.failures());
}

#[test]
fn the_layer_trains() {
    let budget = |steps| Training {
        steps,
        ..preset::<ToyConfig>(Toy::PRESETS, "quick").training
    };
    let (before, after) = (train(&budget(1)).unwrap(), train(&budget(300)).unwrap());
    assert!(after < 0.5 * before, "KL {before} -> {after}");
}
