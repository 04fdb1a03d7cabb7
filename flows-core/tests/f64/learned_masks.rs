//! Shared conditioners, learned masks and dense blocks: dependency graphs, equivalences, extremes
//! of what is learned. In f64.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use burn_flex::FlexDevice;

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{
    AnyAutoregressive, Autoregressive, AutoregressiveConfig, AutoregressiveInverse,
    BlockAffineConfig, ConditionerConfig,
};
use flows_core::conditioners::{Soft, SoftStart};
use flows_core::init::options_of;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering, Untouched};
use flows_core::nn::{ConditionerActivation, Encoding};
use flows_core::transforms::{AnyTransform, LogScale};

type SoftLayer<B> = Autoregressive<B, Soft<B>, AnyTransform>;

use crate::autoregressive::{
    Grad, Plain, assert_close, check_layer, jacobians, masks, normal, rng, shaken, values,
};
use crate::double;

fn shared<B: Backend<Device = FlexDevice>>(config: &AutoregressiveConfig) -> AnyAutoregressive<B> {
    shaken(config.init(double(), &mut rng(1)).unwrap(), 0.3, 2)
}

fn soft<B: Backend<Device = FlexDevice>>(ordering: Ordering) -> SoftLayer<B> {
    soft_with(AutoregressiveConfig {
        mask: MaskConfig::Autoregressive(ordering),
        ..AutoregressiveConfig::soft(6, vec![10])
    })
}

/// The same with units dealt to the variables.
fn soft_masked<B: Backend<Device = FlexDevice>>(ordering: Ordering) -> SoftLayer<B> {
    soft_with(AutoregressiveConfig {
        mask: MaskConfig::Autoregressive(ordering),
        conditioner: ConditionerConfig::SoftMasked {
            start: SoftStart::default(),
        },
        ..AutoregressiveConfig::new(6, vec![11, 14])
    })
}

fn soft_with<B: Backend<Device = FlexDevice>>(config: AutoregressiveConfig) -> SoftLayer<B> {
    let config = AutoregressiveConfig {
        activation: ConditionerActivation::Tanh,
        ..config
    };
    let layer = config.init_soft(double(), &mut rng(1)).unwrap();
    shaken(layer, 0.3, 2)
}

/// Gives the parameter of this shape, the only one, the values given.
struct SetLogits(Vec<f64>);

impl<B: Backend> ModuleMapper<B> for SetLogits {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let dims = tensor.dims();
        let tensor = if dims.as_slice() == [6, 6] {
            let data = TensorData::new(self.0.clone(), dims);
            Tensor::from_data(data, options_of(&tensor)).require_grad()
        } else {
            tensor
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

/// Entry `(i, j)` of the Jacobian is zero at every point exactly where `sees` has no edge.
fn follows<L: Invert<Grad>>(layer: &L, mask: &DependencyMask, own_block: bool) {
    let x = normal::<Plain>(5, 6, 1.0, 3);
    let (found, _) = jacobians(|x| layer.forward_and_log_det(x, None), &x);
    for i in 0..6 {
        for j in 0..6 {
            let peers = mask.levels()[i] == mask.levels()[j];
            let expected = i == j || mask.sees(i, j) || (own_block && peers);
            let depends = found.iter().any(|jacobian| jacobian[(i, j)] != 0.0);
            assert_eq!(depends, expected, "{} {i} {j}\n{mask}", layer.name());
        }
    }
}

#[test]
fn the_jacobian_of_a_shared_conditioner_is_the_mask() {
    for mask in masks() {
        for encoding in [Encoding::Index, Encoding::MaskRow] {
            let layer = shared::<Grad>(&AutoregressiveConfig {
                mask: mask.clone(),
                conditioner: ConditionerConfig::Shared { encoding },
                activation: ConditionerActivation::Tanh,
                ..AutoregressiveConfig::shared(6, vec![12])
            });
            follows(&layer, layer.mask(), false);
        }
    }
}

#[test]
fn the_jacobian_of_a_learned_mask_stays_in_its_triangle() {
    for ordering in [
        Ordering::Natural,
        Ordering::Reversed,
        Ordering::Random { seed: 5 },
    ] {
        for layer in [soft::<Grad>(ordering.clone()), soft_masked(ordering)] {
            follows(&layer, layer.mask(), false);
        }
    }
}

#[test]
fn the_jacobian_of_dense_blocks_is_block_triangular() {
    for blocks in [
        vec![vec![3, 1], vec![0], vec![5, 2, 4]],
        vec![vec![1, 3, 5], vec![0, 2, 4]],
        vec![vec![4], vec![2], vec![0], vec![5], vec![3], vec![1]],
    ] {
        let config = BlockAffineConfig {
            activation: ConditionerActivation::Tanh,
            ..BlockAffineConfig::new(6, vec![12], blocks)
        };
        let layer = config.init::<Grad>(double(), &mut rng(1)).unwrap();
        let layer = shaken(layer, 0.3, 2);
        follows(&layer, layer.mask(), true);
        check_layer(&layer, 1);
    }
}

#[test]
fn blocks_of_one_are_an_autoregressive_layer() {
    let order = vec![2, 0, 3, 1];
    let blocks = order.iter().map(|&i| vec![i]).collect();
    let config = BlockAffineConfig::new(4, vec![9], blocks);
    let dense = config.init::<Plain>(double(), &mut rng(3)).unwrap();
    let config = AutoregressiveConfig {
        mask: MaskConfig::Autoregressive(Ordering::Explicit(order)),
        ..AutoregressiveConfig::new(4, vec![9])
    };
    let masked = config.init::<Plain>(double(), &mut rng(3)).unwrap();
    let x = normal::<Plain>(7, 4, 1.0, 4);
    let (a, b) = (
        dense.forward_and_log_det(x.clone(), None),
        masked.forward_and_log_det(x.clone(), None),
    );
    assert_close(&values(a.value), &values(b.value), 1e-14);
    assert_close(&values(a.log_det), &values(b.log_det), 1e-14);
    let (a, b) = (dense.inverse(x.clone(), None), masked.inverse(x, None));
    assert_close(&values(a), &values(b), 1e-14);
}

#[test]
fn a_learned_mask_is_invertible_whatever_it_is() {
    let levels = [0.0, 1.0, -1.0, 40.0, -40.0, 1e3, -1e3];
    for seed in 0..4 {
        let logits: Vec<f64> = (0..36)
            .map(|k| levels[(k * 5 + seed * 3 + k / 7) % 7])
            .collect();
        let ordering = Ordering::Random { seed: seed as u64 };
        for layer in [soft::<Grad>(ordering.clone()), soft_masked(ordering)] {
            let layer = layer.map(&mut SetLogits(Vec::clone(&logits)));
            check_layer(&layer, seed as u64);
        }
    }
}

#[test]
fn a_saturated_mask_is_the_hard_one() {
    let graph = vec![vec![], vec![0], vec![0], vec![1, 2], vec![], vec![4, 1]];
    let graph = MaskConfig::Graph(graph).build(6).unwrap();
    let logit = |k: usize| if graph.sees(k / 6, k % 6) { 1e3 } else { -1e3 };
    for layer in [
        soft::<Plain>(Ordering::Natural),
        soft_masked(Ordering::Natural),
    ] {
        let layer = layer.map(&mut SetLogits((0..36).map(logit).collect()));
        let soft = layer.conditioner();
        assert_eq!(soft.threshold(0.5).unwrap(), graph);
        assert_eq!(values(soft.l1()), [6.0], "one for each edge");
        let hard = layer.harden(0.5).unwrap();
        assert_eq!(hard.mask(), &graph);
        let x = normal::<Plain>(8, 6, 1.0, 5);
        let (a, b) = (
            layer.forward_and_log_det(x.clone(), None),
            hard.forward_and_log_det(x.clone(), None),
        );
        assert_close(&values(a.value), &values(b.value), 1e-14);
        assert_close(&values(a.log_det), &values(b.log_det), 1e-14);
        // The hard layer needs fewer steps, and ends at the same point.
        assert!(hard.mask().depth() < layer.mask().depth());
        let (a, b) = (layer.inverse(x.clone(), None), hard.inverse(x, None));
        assert_close(&values(a), &values(b), 1e-14);
    }
}

#[test]
fn temperature_sharpens_and_thresholds_pick_edges() {
    let logits = (0..36).map(|k| (k as f64 - 17.5) / 10.0).collect();
    let layer = soft::<Plain>(Ordering::Natural).map(&mut SetLogits(logits));
    let mut soft = layer.conditioner().clone();
    let warm = values(soft.soft_mask());
    soft.set_temperature(0.1).unwrap();
    let cold = values(soft.soft_mask());
    for (k, (warm, cold)) in warm.into_iter().zip(cold).enumerate() {
        let theta = (k as f64 - 17.5) / 10.0;
        let inside = k / 6 > k % 6;
        let expected = |t: f64| {
            if inside {
                1.0 / (1.0 + (-theta / t).exp())
            } else {
                0.0
            }
        };
        assert_close(&[warm, cold], &[expected(1.0), expected(0.1)], 1e-12);
    }
    let edges = |level| {
        let mask = soft.threshold(level).unwrap();
        (0..36).filter(|k| mask.sees(k / 6, k % 6)).count()
    };
    assert!(edges(0.01) > edges(0.5) && edges(0.5) > edges(0.99) && edges(0.99) > 0);
    for level in [0.0, 1.0, f64::NAN] {
        assert!(soft.threshold(level).is_err() && soft.harden(level).is_err());
    }
    assert!(soft.set_temperature(0.0).is_err() && soft.set_temperature(f64::NAN).is_err());
}

#[test]
fn the_encoding_tells_variables_with_equal_rows_apart_or_not() {
    let mask = MaskConfig::Coupling(Untouched::Variables(vec![0, 2]));
    for (encoding, apart) in [(Encoding::Index, true), (Encoding::MaskRow, false)] {
        let layer = shared::<Plain>(&AutoregressiveConfig {
            mask: mask.clone(),
            conditioner: ConditionerConfig::Shared { encoding },
            ..AutoregressiveConfig::shared(4, vec![12])
        });
        // Both moved variables start from the same number.
        let x = Tensor::<Plain, 2>::from_data([[0.3, 1.0, -0.8, 1.0]], double());
        let y = values(layer.forward(x, None));
        assert_eq!(y[1] != y[3], apart, "{encoding:?}");
    }
}

#[test]
fn jacobi_agrees_with_the_incremental_inverse_of_shared_conditioners() {
    for mask in masks() {
        let config = AutoregressiveConfig {
            mask,
            transform: LogScale::SigmoidGate.into(),
            context_dim: 2,
            ..AutoregressiveConfig::shared(6, vec![10])
        };
        let (y, context) = (normal::<Plain>(9, 6, 1.0, 6), normal::<Plain>(9, 2, 1.0, 7));
        let exact = shared::<Plain>(&config);
        let expected = exact.inverse_and_log_det(y.clone(), Some(context.clone()));
        let jacobi = shared::<Plain>(&AutoregressiveConfig {
            inverse: AutoregressiveInverse::Jacobi { tolerance: 0.0 },
            ..config
        });
        let (found, report) = jacobi.inverse_with_report(y, Some(context));
        assert!(report.passes <= jacobi.mask().depth(), "{report:?}");
        assert_close(&values(found.value), &values(expected.value), 1e-10);
        assert_close(&values(found.log_det), &values(expected.log_det), 1e-10);
    }
}

#[test]
fn wrong_configurations_are_refused() {
    let refused = |config: AutoregressiveConfig| {
        let built = config.init::<Plain>(double(), &mut rng(0));
        assert!(built.is_err(), "{config:?}");
    };
    let sound = AutoregressiveConfig::soft(3, vec![4]);
    assert!(sound.init::<Plain>(double(), &mut rng(0)).is_ok());
    let started = |start| {
        for conditioner in [
            ConditionerConfig::SoftMasked { start },
            ConditionerConfig::Soft {
                start,
                encoding: Encoding::Index,
            },
        ] {
            refused(AutoregressiveConfig {
                conditioner,
                ..sound.clone()
            });
        }
    };
    for temperature in [0.0, -1.0, f64::INFINITY] {
        started(SoftStart {
            temperature,
            ..SoftStart::default()
        });
    }
    for entry in [0.0, 1.0, f64::NAN] {
        started(SoftStart {
            entry,
            ..SoftStart::default()
        });
    }
    // A learned mask lies in a triangle, a coupling in two blocks, and has nothing to iterate.
    refused(AutoregressiveConfig {
        mask: MaskConfig::Coupling(Untouched::Even),
        ..sound.clone()
    });
    refused(AutoregressiveConfig {
        conditioner: ConditionerConfig::Coupling,
        ..sound.clone()
    });
    refused(AutoregressiveConfig {
        inverse: AutoregressiveInverse::Jacobi { tolerance: 0.0 },
        ..AutoregressiveConfig::coupling(3, vec![4], Untouched::Even)
    });
    // Too few units to deal.
    refused(AutoregressiveConfig {
        conditioner: ConditionerConfig::SoftMasked {
            start: SoftStart::default(),
        },
        ..AutoregressiveConfig::new(3, vec![2])
    });
    let blocks = |blocks, bound| {
        let config = BlockAffineConfig {
            bound,
            ..BlockAffineConfig::new(3, vec![4], blocks)
        };
        config.init::<Plain>(double(), &mut rng(0)).err()
    };
    assert!(blocks(vec![vec![0, 1], vec![2]], 1.0).is_none());
    assert!(blocks(vec![vec![0, 1], vec![2]], 0.0).is_some());
    assert!(blocks(vec![vec![0, 1]], 1.0).is_some());
    assert!(blocks(vec![], 1.0).is_some());
    let text = "dim = 3\nhidden = [4]\nconditioner = { shared = { encoding = 'mask_row' } }\nmask = { coupling = [0] }";
    let config: AutoregressiveConfig = toml::from_str(text).unwrap();
    let encoding = Encoding::MaskRow;
    assert_eq!(config.conditioner, ConditionerConfig::Shared { encoding });
    let text = "dim = 3\nhidden = [4]\nconditioner = 'soft'\ntransform = 'sinh_arcsinh'";
    let config: AutoregressiveConfig = toml::from_str(text).unwrap();
    assert!(matches!(config.conditioner, ConditionerConfig::Soft { .. }));
    let parsed = toml::from_str::<AutoregressiveConfig>("dim = 3\nhidden = []\nshare = 1");
    assert!(parsed.is_err());
}
