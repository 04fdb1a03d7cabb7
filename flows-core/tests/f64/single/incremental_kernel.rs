//! The specialised inverse of masked layers in f32 against the generic one, which is what an autodiff
//! backend takes.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::Backend;
use burn_flex::Flex;
use burn_ndarray::NdArray;
use rand::{SeedableRng, rngs::StdRng};

use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::{AnyAutoregressive, AutoregressiveConfig, Chain};
use flows_core::init::normal_tensor;
use flows_core::masks::Untouched;
use flows_core::masks::{MaskConfig, Ordering};

use crate::masked_cases::ACTIVATIONS;
use crate::registry::autoregressive::SCALES;

fn normal<B: Backend>(rows: usize, columns: usize, seed: u64) -> Tensor<B, 2> {
    let rng = &mut StdRng::seed_from_u64(seed);
    normal_tensor([rows, columns], 1.0, TensorCreationOptions::default(), rng)
}

fn layer<B: Backend>(config: &AutoregressiveConfig, seed: u64) -> AnyAutoregressive<B> {
    let rng = &mut StdRng::seed_from_u64(seed);
    config.init(TensorCreationOptions::default(), rng).unwrap()
}

fn values<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().into_vec().unwrap()
}

/// Inverse of a seeded batch on one backend: values, then log-determinants.
fn inverse<B: Backend>(config: &AutoregressiveConfig, rows: usize) -> Vec<f32> {
    let context = (config.context_dim > 0).then(|| normal(rows, config.context_dim, 2));
    let y = normal(rows, config.dim, 1);
    let Mapped { value, log_det } = layer::<B>(config, 3).inverse_and_log_det(y, context);
    [values(value), values(log_det)].concat()
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!(
            (x - y).abs() <= 2e-5 * (1.0 + y.abs()),
            "{what}: {x} and {y}"
        );
    }
}

#[test]
fn the_kernel_agrees_with_the_generic_inverse() {
    let masks = [
        MaskConfig::Autoregressive(Ordering::Natural),
        MaskConfig::Autoregressive(Ordering::Reversed),
        MaskConfig::Autoregressive(Ordering::Random { seed: 5 }),
        MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![5, 2, 4]]),
        MaskConfig::Coupling(Untouched::Variables(vec![1, 3, 5])),
        MaskConfig::Graph(vec![
            vec![],
            vec![0],
            vec![0, 4],
            vec![1, 2],
            vec![],
            vec![4],
        ]),
    ];
    let mut count = 0;
    for mask in &masks {
        for hidden in [vec![], vec![13], vec![40, 29, 33]] {
            for context_dim in [0, 3] {
                let config = AutoregressiveConfig {
                    mask: mask.clone(),
                    context_dim,
                    transform: SCALES[count % 7].into(),
                    activation: ACTIVATIONS[count % 3],
                    ..AutoregressiveConfig::new(6, hidden.clone())
                };
                let rows = [1, 31, 33, 70][count % 4];
                let what = format!("{config:?}, {rows} rows");
                let generic = inverse::<Autodiff<Flex>>(&config, rows);
                assert_close(&inverse::<Flex>(&config, rows), &generic, &what);
                assert_close(&inverse::<NdArray>(&config, rows), &generic, &what);
                count += 1;
            }
        }
    }
}

#[test]
fn a_deep_wide_flow_comes_back_in_f32() {
    let layers = (0..5).map(|k| {
        let ordering = [Ordering::Natural, Ordering::Reversed][k % 2].clone();
        let config = AutoregressiveConfig {
            mask: MaskConfig::Autoregressive(ordering),
            ..AutoregressiveConfig::new(64, vec![512, 512])
        };
        layer::<Flex>(&config, k as u64)
    });
    let flow = Chain::new(layers.collect()).unwrap();
    let x = normal::<Flex>(100, 64, 9);
    let there = flow.forward_and_log_det(x.clone(), None);
    let (back, report) = flow.inverse_with_report(there.value, None);
    assert_close(&values(back.value), &values(x), "value");
    assert_close(
        &values(back.log_det.neg()),
        &values(there.log_det),
        "log_det",
    );
    assert_eq!(report.passes, 5);
    assert!(report.residual < 1e-4, "{report:?}");
}

#[test]
fn a_nan_stays_in_its_row() {
    let config = AutoregressiveConfig::new(4, vec![16]);
    let layer = layer::<Flex>(&config, 1);
    let mut y = values(normal::<Flex>(40, 4, 1));
    y[4 * 33] = f32::NAN;
    let y = burn::tensor::TensorData::new(y, [40, 4]);
    let x = values(layer.inverse(Tensor::from_data(y, TensorCreationOptions::default()), None));
    for (row, x) in x.chunks(4).enumerate() {
        assert_eq!(x.iter().any(|v| v.is_nan()), row == 33, "row {row}");
    }
}
