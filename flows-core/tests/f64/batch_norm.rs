//! Batch normalization while it trains, where rows depend on each other, and after.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_flex::Flex;

use flows_core::bijector::{Bijector, Invert, residual};
use flows_core::bijectors::{BatchNorm, BatchNormConfig, Chain};
use flows_core::state::{load_state, state};

use crate::autoregressive::{
    Grad, Plain, assert_close, check_gradients, device, normal, rng, shaken, values,
};

fn layer<B: burn::tensor::backend::Backend<Device = burn_flex::FlexDevice>>() -> BatchNorm<B> {
    let layer = BatchNormConfig::new(3)
        .init(&device(), &mut rng(0))
        .unwrap();
    // Scales and shifts of their own; statistics that are not fixed are not looked at.
    let layer = shaken(layer, 0.1, 1);
    assert!(!layer.is_fixed());
    layer
}

#[test]
fn gradients_flow_through_the_statistics_of_a_batch() {
    check_gradients(layer::<Grad>(), |l, x, c| l.forward_and_log_det(x, c), 1);
}

#[test]
fn a_batch_is_normalized_as_with_its_own_statistics_fixed() {
    let x = normal::<Plain>(50, 3, 4.0, 2) + 1.5;
    let free = layer::<Plain>();
    let mut fixed = free.clone();
    let fitted = fixed.fix_statistics(vec![x.clone()], None).remove(0);
    let (a, b) = (
        free.forward_and_log_det(x.clone(), None),
        fixed.forward_and_log_det(x.clone(), None),
    );
    assert_close(&values(a.value.clone()), &values(b.value), 1e-12);
    assert_close(&values(a.value), &values(fitted), 1e-12);
    assert_close(&values(a.log_det), &values(b.log_det), 1e-12);

    // Then other batches do not move it.
    let half = x.clone().slice([0..25, 0..3]);
    let whole = values(fixed.forward(x, None));
    assert_close(
        &values(fixed.forward(half.clone(), None)),
        &whole[..75],
        1e-14,
    );
    assert!(residual(fixed.forward(half.clone(), None), free.forward(half, None)) > 0.1);
}

#[test]
fn chunks_of_the_training_set_are_one_set() {
    let x = normal::<Plain>(60, 3, 2.0, 3) - 0.7;
    let part = |from: usize, to: usize| x.clone().slice([from..to, 0..3]);
    let (mut whole, mut chunked) = (layer::<Plain>(), layer::<Plain>());
    whole.fix_statistics(vec![x.clone()], None);
    let outputs = chunked.fix_statistics(vec![part(0, 7), part(7, 8), part(8, 60)], None);
    let expected = values(whole.forward(x.clone(), None));
    assert_close(&values(Tensor::cat(outputs, 0)), &expected, 1e-12);
    let (back, report) = whole.inverse_with_report(whole.forward(x.clone(), None), None);
    assert_close(&values(back.value), &values(x), 1e-12);
    assert!(report.residual < 1e-12);
}

#[test]
fn a_chain_is_fixed_from_its_beginning_on() {
    // The statistics of the second layer are those of the outputs of the first one when fixed.
    let x = normal::<Plain>(40, 3, 3.0, 4);
    let mut chain = Chain::new(vec![layer::<Plain>(), layer::<Plain>()]).unwrap();
    let (a, b) = (
        x.clone().slice([0..10, 0..3]),
        x.clone().slice([10..40, 0..3]),
    );
    let outputs = chain.fix_statistics(vec![a, b], None);
    let whole = chain.forward(x.clone(), None);
    assert_close(&values(Tensor::cat(outputs, 0)), &values(whole), 1e-12);
    let first = chain.layers()[0].forward(x, None);
    let mut second = layer::<Plain>();
    second.fix_statistics(vec![first.clone()], None);
    assert_close(
        &values(second.forward(first.clone(), None)),
        &values(chain.layers()[1].forward(first, None)),
        1e-12,
    );
}

#[test]
#[should_panic(expected = "call fix_statistics first")]
fn the_inverse_needs_fixed_statistics() {
    layer::<Plain>().inverse(normal(4, 3, 1.0, 1), None);
}

#[test]
fn fixed_statistics_are_saved_with_the_parameters() {
    let mut fixed = layer::<Plain>();
    fixed.fix_statistics(vec![normal(30, 3, 5.0, 5)], None);
    let loaded = load_state::<Flex, _>(layer::<Plain>(), &state(&fixed)).unwrap();
    assert!(loaded.is_fixed());
    let x = normal::<Plain>(2, 3, 1.0, 6);
    assert_eq!(
        values(loaded.forward(x.clone(), None)),
        values(fixed.forward(x, None))
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
    for epsilon in [0.0, -1.0, f64::NAN] {
        let config = BatchNormConfig {
            epsilon,
            ..BatchNormConfig::new(2)
        };
        assert!(config.init::<Plain>(&device(), &mut rng(0)).is_err());
    }
    assert!(
        BatchNormConfig::new(0)
            .init::<Plain>(&device(), &mut rng(0))
            .is_err()
    );
    for chunks in [vec![], vec![normal::<Plain>(3, 3, 1.0, 1) * f64::NAN]] {
        let fix = std::panic::AssertUnwindSafe(|| layer::<Plain>().fix_statistics(chunks, None));
        assert!(std::panic::catch_unwind(fix).is_err());
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
    BatchNormConfig::new(3)
        .init(&device(), &mut rng(0))
        .unwrap()
}
