//! The fast direction of a flow takes one pass a layer, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use rand::{SeedableRng, rngs::StdRng};

use flows_core::bijector::{Bijector, InverseReport, Invert, Mapped};
use flows_core::bijectors::{
    AnyAutoregressive, AutoregressiveConfig, AutoregressiveInverse, Chain, ElementwiseMapConfig,
    Inverted, Pair, UnivariateMap,
};
use flows_core::distributions::{DiagonalNormal, LogProb, Sample};
use flows_core::flow::Flow;
use flows_core::testing::residual;

use crate::autoregressive::{Plain, normal, rng, values};
use crate::double;

/// Calls of a layer in each direction.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<[AtomicUsize; 2]>);

impl Calls {
    /// Calls of forward and of the inverse since the last time.
    fn take(&self) -> [usize; 2] {
        [self.0[0].swap(0, Relaxed), self.0[1].swap(0, Relaxed)]
    }
}

/// A masked layer that counts.
#[derive(Module, Debug)]
struct Counting<B: Backend> {
    layer: AnyAutoregressive<B>,
    #[module(skip)]
    calls: Calls,
}

impl<B: Backend> Bijector<B> for Counting<B> {
    fn name(&self) -> &'static str {
        self.layer.name()
    }

    fn dim(&self) -> usize {
        self.layer.dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.calls.0[0].fetch_add(1, Relaxed);
        self.layer.forward_and_log_det(x, context)
    }
}

impl<B: Backend> Invert<B> for Counting<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.calls.0[1].fetch_add(1, Relaxed);
        self.layer.inverse_and_log_det(y, context)
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        self.layer.inverse_and_passes(y, context)
    }
}

fn five_layers(inverse: AutoregressiveInverse) -> (Chain<Plain, Counting<Plain>>, Calls) {
    let calls = Calls::default();
    let layer = |seed| {
        let config = AutoregressiveConfig {
            inverse,
            ..AutoregressiveConfig::new(12, vec![16])
        };
        Counting {
            layer: config.init(double(), &mut rng(seed)).unwrap(),
            calls: calls.clone(),
        }
    };
    (Chain::new((0..5).map(layer).collect()).unwrap(), calls)
}

#[test]
fn a_masked_autoregressive_flow_has_densities_in_one_pass_a_layer() {
    let (layers, calls) = five_layers(AutoregressiveInverse::Incremental);
    let maf = Flow::data_to_base(layers, DiagonalNormal::standard(12, double())).unwrap();
    maf.log_prob(normal(4, 12, 1.0, 1), None);
    assert_eq!(calls.take(), [5, 0]);
    let x = maf.sample(4, None, &mut StdRng::seed_from_u64(1));
    assert_eq!(calls.take(), [0, 5]);
    // And the incremental inverse costs the work of one pass.
    let (_, report) = maf.bijector().inverse_with_report(x, None);
    assert_eq!(report.passes, 5);
}

#[test]
fn an_inverse_autoregressive_flow_samples_in_one_pass_a_layer() {
    let (layers, calls) = five_layers(AutoregressiveInverse::Incremental);
    let iaf = Flow::base_to_data(layers, DiagonalNormal::standard(12, double())).unwrap();
    let (x, log_prob) = iaf.sample_and_log_prob(4, None, &mut StdRng::seed_from_u64(1));
    assert_eq!(calls.take(), [5, 0]);
    let again = iaf.log_prob(x, None);
    assert_eq!(calls.take(), [0, 5]);
    crate::autoregressive::assert_close(&values(again), &values(log_prob), 1e-10);
}

#[test]
fn jacobi_takes_at_most_a_pass_a_level() {
    let (layers, _) = five_layers(AutoregressiveInverse::Jacobi { tolerance: 0.0 });
    let (_, report) = layers.inverse_with_report(normal(4, 12, 1.0, 1), None);
    assert!((5..=5 * 12).contains(&report.passes), "{report:?}");
}

#[test]
fn a_report_of_a_composition_is_that_of_the_whole_map() {
    let map = |scale, shift| {
        let config = ElementwiseMapConfig::new(vec![UnivariateMap::Affine { scale, shift }]);
        config.init::<Plain>(double(), &mut rng(1)).unwrap()
    };
    let y = normal::<Plain>(20, 1, 1.0, 3);
    // Each layer comes back to 1e-6; the scale after the shift makes 1e-2 of it.
    let check = |whole: f64, report: InverseReport, what: &str| {
        assert!(whole > 1e-3, "{what}: {whole}");
        assert!(
            (report.residual - whole).abs() <= 1e-12 * whole,
            "{what}: {report:?}, {whole}"
        );
    };
    let chain = Chain::<Plain, _>::new(vec![map(1.0, 1e10), map(22026.0, 0.0)]).unwrap();
    let (back, report) = chain.inverse_with_report(y.clone(), None);
    check(
        residual(chain.forward(back.value, None), y.clone()),
        report,
        "chain",
    );
    let pair = Pair::<Plain, _, _>::new(map(1.0, 1e10), map(22026.0, 0.0)).unwrap();
    let (back, report) = pair.inverse_with_report(y.clone(), None);
    check(
        residual(pair.forward(back.value, None), y.clone()),
        report,
        "pair",
    );
    let inverted =
        Inverted::<Plain, _>::new(Pair::new(map(1.0 / 22026.0, 0.0), map(1.0, 1e10)).unwrap());
    let (back, report) = inverted.inverse_with_report(y.clone(), None);
    check(
        residual(inverted.forward(back.value, None), y),
        report,
        "inverted",
    );
}
