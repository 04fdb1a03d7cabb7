//! Batch normalization while it trains, where rows depend on each other, and everywhere else.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use burn_flex::Flex;

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{BatchNorm, BatchNormConfig, Chain};
use flows_core::state::{load_state, state};
use flows_core::testing::residual;
use flows_core::visit::{LayerVisit, has_statistics};

use crate::autoregressive::{
    Grad, Plain, assert_close, check_gradients, normal, rng, shaken, values,
};
use crate::double;

fn layer<B: Backend<Device = burn_flex::FlexDevice>>() -> BatchNorm<B> {
    let layer = BatchNormConfig::new(3).init(double(), &mut rng(0)).unwrap();
    // Scales and shifts of their own.
    let layer = shaken(layer, 0.1, 1);
    assert!(!layer.is_frozen());
    layer
}

fn freeze<B: Backend, L: Bijector<B>>(
    layer: &mut L,
    chunks: Vec<Tensor<B, 2>>,
) -> Vec<Tensor<B, 2>> {
    let mut visit = LayerVisit::freeze_statistics(chunks, None);
    layer.visit_layers(&mut visit);
    visit.into_rows()
}

#[test]
fn gradients_flow_through_the_statistics_of_a_batch() {
    check_gradients(layer::<Grad>(), |l, x, c| l.forward_and_log_det(x, c), 1);
}

#[test]
fn a_training_batch_is_normalized_as_with_its_own_statistics_frozen() {
    let x = normal::<Grad>(50, 3, 4.0, 2) + 1.5;
    let free = layer::<Grad>();
    let mut frozen = free.clone();
    let passed = freeze(&mut frozen, vec![x.clone()]).remove(0);
    let (a, b) = (
        free.forward_and_log_det(x.clone(), None),
        frozen.forward_and_log_det(x.clone(), None),
    );
    assert_close(&values(a.value.clone()), &values(b.value), 1e-12);
    assert_close(&values(a.value), &values(passed), 1e-12);
    assert_close(&values(a.log_det), &values(b.log_det), 1e-12);

    // Then other batches do not move it.
    let half = x.clone().slice([0..25, 0..3]);
    let whole = values(frozen.forward(x, None));
    assert_close(
        &values(frozen.forward(half.clone(), None)),
        &whole[..75],
        1e-14,
    );
    assert!(residual(frozen.forward(half.clone(), None), free.forward(half, None)) > 0.1);
}

#[test]
fn a_row_has_one_density_whatever_its_batch_where_no_gradients_are_taken() {
    use burn::module::AutodiffModule;
    let mut trained = layer::<Grad>();
    assert!(has_statistics(|visit| trained.visit_layers(visit)));
    for seed in 0..3 {
        let batch = normal::<Grad>(20, 3, 2.0, seed) + 5.0;
        trained.visit_layers(&mut LayerVisit::update_statistics(batch, None));
    }
    let layer = trained.valid();
    let x = normal::<Plain>(40, 3, 2.0, 9) + 5.0;
    let whole = layer.forward_and_log_det(x.clone(), None);
    let alone = layer.forward_and_log_det(x.clone().slice([3..4, 0..3]), None);
    assert_eq!(
        values(whole.value.clone().slice([3..4, 0..3])),
        values(alone.value)
    );
    assert_eq!(values(whole.log_det)[3], values(alone.log_det)[0]);
    let (back, report) = layer.inverse_with_report(whole.value, None);
    assert_close(&values(back.value), &values(x), 1e-12);
    assert_eq!(report.unsolved, 0);
}

#[test]
fn running_statistics_move_a_tenth_of_the_way_to_those_of_a_batch() {
    let config = BatchNormConfig::new(3);
    let mut layer = config.init::<Plain>(double(), &mut rng(0)).unwrap();
    let batch = Tensor::from_data([[1.0, 0.0, -2.0], [3.0, 4.0, 2.0]], double());
    layer.visit_layers(&mut LayerVisit::update_statistics(batch, None));
    let [mean, variance] = layer.running_statistics();
    assert_close(&values(mean), &[0.2, 0.2, 0.0], 1e-15);
    assert_close(&values(variance), &[1.0, 1.3, 1.3], 1e-15);
    assert!(!layer.is_frozen());
}

#[test]
fn chunks_of_the_training_set_are_one_set() {
    let x = normal::<Plain>(60, 3, 2.0, 3) - 0.7;
    let part = |from: usize, to: usize| x.clone().slice([from..to, 0..3]);
    let (mut whole, mut chunked) = (layer::<Plain>(), layer::<Plain>());
    freeze(&mut whole, vec![x.clone()]);
    let outputs = freeze(&mut chunked, vec![part(0, 7), part(7, 8), part(8, 60)]);
    let expected = values(whole.forward(x.clone(), None));
    assert_close(&values(Tensor::cat(outputs, 0)), &expected, 1e-12);
    let (back, report) = whole.inverse_with_report(whole.forward(x.clone(), None), None);
    assert_close(&values(back.value), &values(x), 1e-12);
    assert!(report.residual < 1e-12);
}

#[test]
fn a_chain_is_frozen_from_its_beginning_on() {
    // The statistics of the second layer are those of the outputs of the first one when frozen.
    let x = normal::<Plain>(40, 3, 3.0, 4);
    let mut chain = Chain::new(vec![layer::<Plain>(), layer::<Plain>()]).unwrap();
    let (a, b) = (
        x.clone().slice([0..10, 0..3]),
        x.clone().slice([10..40, 0..3]),
    );
    let outputs = freeze(&mut chain, vec![a, b]);
    let whole = chain.forward(x.clone(), None);
    assert_close(&values(Tensor::cat(outputs, 0)), &values(whole), 1e-12);
    let first = chain.layers()[0].forward(x, None);
    let mut second = layer::<Plain>();
    freeze(&mut second, vec![first.clone()]);
    assert_close(
        &values(second.forward(first.clone(), None)),
        &values(chain.layers()[1].forward(first, None)),
        1e-12,
    );
}

#[test]
fn frozen_for_rows_at_its_output_the_inverse_standardizes_them() {
    let y = normal::<Plain>(80, 3, 3.0, 4) + 2.0;
    let mut layer = layer::<Plain>();
    layer.visit_layers_inverse(&mut LayerVisit::freeze_statistics(vec![y.clone()], None));
    let x = layer.inverse(y, None);
    assert_close(&values(x.clone().mean_dim(0)), &[0.0; 3], 1e-12);
    assert_close(&values(x.square().mean_dim(0)), &[1.0; 3], 1e-4);
}

#[test]
#[should_panic(expected = "freeze_statistics first")]
fn where_gradients_are_taken_the_inverse_needs_frozen_statistics() {
    layer::<Grad>().inverse(normal(4, 3, 1.0, 1), None);
}

#[test]
fn statistics_are_saved_with_the_parameters() {
    let mut frozen = layer::<Plain>();
    freeze(&mut frozen, vec![normal(30, 3, 5.0, 5)]);
    let saved = state(&frozen);
    let names: Vec<&str> = saved.keys().map(String::as_str).collect();
    let expected = [
        "configuration",
        "fixed",
        "log_scale",
        "mean",
        "shift",
        "variance",
    ];
    assert_eq!(names, expected, "the names in model files");
    let loaded = load_state::<Flex, _>(layer::<Plain>(), &saved).unwrap();
    assert!(loaded.is_frozen());
    let x = normal::<Plain>(2, 3, 1.0, 6);
    assert_eq!(
        values(loaded.forward(x.clone(), None)),
        values(frozen.forward(x, None))
    );
}

#[test]
fn a_batch_of_one_and_a_constant_column_stay_finite() {
    for rows in [1, 4] {
        let x = (normal::<Grad>(rows, 3, 1.0, 7) * 0.0 + 1e3).require_grad();
        let layer = layer::<Grad>();
        let mapped = layer.forward_and_log_det(x.clone(), None);
        let (value, log_det) = (mapped.value.clone(), mapped.log_det.clone());
        let back = (mapped.value.square().sum() - mapped.log_det.sum()).backward();
        for numbers in [
            values(value),
            values(log_det),
            values(x.grad(&back).unwrap()),
        ] {
            assert!(numbers.iter().all(|v| v.is_finite()), "{numbers:?}");
        }
    }
}

#[test]
fn wrong_configurations_and_training_sets_are_refused() {
    for epsilon in [0.0, -1.0, 1e-50, f64::NAN] {
        let config = BatchNormConfig {
            epsilon,
            ..BatchNormConfig::new(2)
        };
        assert!(config.init::<Plain>(double(), &mut rng(0)).is_err());
    }
    assert!(
        BatchNormConfig::new(0)
            .init::<Plain>(double(), &mut rng(0))
            .is_err()
    );
    for chunks in [vec![], vec![normal::<Plain>(3, 3, 1.0, 1) * f64::NAN]] {
        let attempt = std::panic::AssertUnwindSafe(|| freeze(&mut layer::<Plain>(), chunks));
        assert!(std::panic::catch_unwind(attempt).is_err());
    }
}

#[test]
fn what_is_not_trained_takes_no_gradient() {
    let layer = layer_untouched();
    let trained = flows_core::state::trained_parameters::<Grad, _>(&layer);
    assert_eq!(trained, 6, "scale and shift of three columns");
    assert_eq!(layer.num_params(), 13);
}

fn layer_untouched() -> BatchNorm<Grad> {
    BatchNormConfig::new(3).init(double(), &mut rng(0)).unwrap()
}
