//! Every parameterization of the scale at extreme inputs: finite values and finite gradients, in
//! both float types.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::*;
use flows_core::masks::{MaskConfig, Ordering, Untouched};
use flows_core::testing::{batch, gradients, rows};
use flows_core::transforms::LogScale;
use rand::{SeedableRng, rngs::StdRng};

use crate::registry::autoregressive::SCALES;

/// A layer of each kind, its weights so large that every scale is saturated: raw outputs are in the
/// thousands.
pub(crate) fn saturated_layers_stay_finite<B: AutodiffBackend>(options: &TensorCreationOptions<B>) {
    for scale in SCALES {
        for dim in [1, 3] {
            for config in [
                AutoregressiveConfig::new(dim, vec![8]),
                AutoregressiveConfig::shared(dim, vec![8]),
                AutoregressiveConfig {
                    mask: MaskConfig::Autoregressive(Ordering::Reversed),
                    ..AutoregressiveConfig::soft(dim, vec![8])
                },
            ] {
                check(scale, dim, options, |rng| {
                    let config = AutoregressiveConfig {
                        transform: scale.into(),
                        ..config.clone()
                    };
                    config
                        .init::<B>(options.clone(), rng)
                        .map(Layer::Autoregressive)
                });
            }
        }
        for dim in [2, 4] {
            check(scale, dim, options, |rng| {
                let config = AutoregressiveConfig {
                    transform: scale.into(),
                    ..AutoregressiveConfig::coupling(dim, vec![8], Untouched::Even)
                };
                config
                    .init::<B>(options.clone(), rng)
                    .map(Layer::Autoregressive)
            });
            check(scale, dim, options, |rng| {
                let halves = vec![(0..dim / 2).collect(), (dim / 2..dim).collect()];
                let config = BlockAffineConfig {
                    scale,
                    ..BlockAffineConfig::new(dim, vec![8], halves)
                };
                config
                    .init::<B>(options.clone(), rng)
                    .map(Layer::BlockAffine)
            });
        }
    }
}

fn check<B: AutodiffBackend>(
    scale: LogScale,
    dim: usize,
    options: &TensorCreationOptions<B>,
    build: impl Fn(&mut StdRng) -> Result<Layer<B>, flows_core::error::Error>,
) {
    let layer = build(&mut StdRng::seed_from_u64(1)).expect("a layer");
    let layer = layer.map(&mut Enlarge);
    let signs = [[0.0, 10.0], [-10.0, 1e3], [1e3, -1e3], [-1e3, -1e3]];
    let points = signs.map(|pair| (0..dim).map(|j| pair[j % 2]).collect::<Vec<f64>>());
    // All at once, and each as a batch of one.
    let single = points.iter().map(|point| vec![point.clone()]);
    for points in [points.to_vec()].into_iter().chain(single) {
        let x: Tensor<B, 2> = batch(&points, options.clone()).require_grad();
        let forward = layer.forward_and_log_det(x.clone(), None);
        assert_finite(&layer, &x, forward, &format!("forward of {scale:?}"));
        let x = x.detach().require_grad();
        let inverse = layer.inverse_and_log_det(x.clone(), None);
        assert_finite(&layer, &x, inverse, &format!("inverse of {scale:?}"));
    }
}

fn assert_finite<B: AutodiffBackend>(
    layer: &Layer<B>,
    x: &Tensor<B, 2>,
    mapped: Mapped<B>,
    what: &str,
) {
    let name = layer.name();
    let finite = |v: &[f64]| v.iter().all(|v| v.is_finite());
    assert!(finite(&rows(&mapped.value)), "{what}, {name}");
    assert!(finite(&rows(&mapped.log_det)), "{what}, {name}");
    let back = (mapped.value.sum() - mapped.log_det.sum()).backward();
    let input = rows(&x.grad(&back).expect("the output depends on the input"));
    assert!(finite(&input), "input gradient, {what}, {name}");
    for (path, gradient) in gradients(layer, &back) {
        let gradient = gradient.unwrap_or_default();
        assert!(finite(&gradient), "gradient of {path}, {what}, {name}");
    }
}

/// Multiplies every parameter by 30 and adds to it.
struct Enlarge;

impl<B: AutodiffBackend> ModuleMapper<B> for Enlarge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let larger = (tensor * 30.0 + 0.5).detach().require_grad();
        Param::from_mapped_value(id, larger, mapper)
    }
}
