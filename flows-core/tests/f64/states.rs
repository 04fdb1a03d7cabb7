//! A state is loaded into the model it belongs to and into no other.

use burn::module::{Module, Param};
use burn::tensor::{Bool, Int, Tensor, backend::Backend};
use flows_core::bijector::Bijector;
use flows_core::bijectors::{AutoregressiveConfig, Chain, DdnfBlockConfig, PermutationConfig};
use flows_core::distributions::{DiagonalNormal, GaussianMixture, LogProb, Uniform};
use flows_core::flow::Flow;
use flows_core::masks::{MaskConfig, Ordering};
use flows_core::state::{CONFIGURATION, load_state, parameters, state};
use flows_core::visit::LayerVisit;

use crate::autoregressive::{Grad, Plain, normal, rng, values};
use crate::double;

fn masked(mask: MaskConfig) -> AutoregressiveConfig {
    AutoregressiveConfig {
        mask,
        ..AutoregressiveConfig::new(3, vec![8])
    }
}

/// What refuses the state of `a` in `b`.
fn refusal<M>(a: &M, b: M) -> String
where
    M: Module<Plain> + burn::module::ModuleDisplay,
{
    load_state::<Plain, M>(b, &state::<Plain, M>(a))
        .expect_err("another configuration")
        .to_string()
}

#[test]
fn a_layer_in_natural_order_does_not_load_into_one_in_reversed_order() {
    let build = |mask| masked(mask).init::<Plain>(double(), &mut rng(1)).unwrap();
    let natural = build(MaskConfig::Autoregressive(Ordering::Natural));
    let reversed = build(MaskConfig::Autoregressive(Ordering::Reversed));
    let graph = build(MaskConfig::Graph(vec![vec![], vec![0], vec![0]]));
    let message = refusal(&natural, reversed);
    assert!(
        message.contains("levels: [0, 1, 2]") && message.contains("levels: [2, 1, 0]"),
        "{message}"
    );
    refusal(&natural, graph);
    let other_seed = masked(MaskConfig::Autoregressive(Ordering::Natural));
    let other_seed = other_seed.init::<Plain>(double(), &mut rng(2)).unwrap();
    let loaded = load_state::<Plain, _>(other_seed, &state(&natural)).unwrap();
    let x = normal::<Plain>(4, 3, 1.0, 1);
    assert_eq!(
        values(loaded.forward(x.clone(), None)),
        values(natural.forward(x, None))
    );
}

#[test]
fn temperature_cells_permutation_and_base_tell_models_apart() {
    let soft = AutoregressiveConfig::soft(3, vec![8]);
    let soft = || soft.init::<Plain>(double(), &mut rng(1)).unwrap();
    let mut cold = soft();
    cold.visit_layers(&mut LayerVisit::set_temperature(0.5).unwrap());
    assert!(refusal(&soft(), cold).contains("temperature: 1"));

    let block = |cells| DdnfBlockConfig {
        cells,
        ..DdnfBlockConfig::new(2, [4])
    };
    let block = |cells| block(cells).init::<Plain>(double(), &mut rng(1)).unwrap();
    assert!(refusal(&block(16), block(8)).contains("cells: 8"));
    let chain = |cells| Chain::new(vec![block(16), block(cells)]).unwrap();
    assert!(refusal(&chain(16), chain(4)).contains("layers.1.cells: 4"));

    let permutation = |order: Vec<usize>| PermutationConfig::new(3, Ordering::Explicit(order));
    let permutation = |order| {
        let config = permutation(order);
        config.init::<Plain>(double(), &mut rng(1)).unwrap()
    };
    refusal(&permutation(vec![0, 2, 1]), permutation(vec![1, 0, 2]));

    let normal =
        |loc: f64| DiagonalNormal::<Plain>::new(&[loc, 0.0], &[1.0, 2.0], double()).unwrap();
    assert!(refusal(&normal(0.0), normal(0.1)).contains("0.1"));
    let uniform = |high: f64| Uniform::<Plain>::new(&[0.0], &[high], double()).unwrap();
    refusal(&uniform(1.0), uniform(2.0));
    let mixture = |loc: f64| {
        GaussianMixture::<Plain>::new(
            &[1.0, 1.0],
            &[vec![0.0], vec![loc]],
            &[vec![1.0], vec![1.0]],
            double(),
        )
    };
    refusal(&mixture(1.0).unwrap(), mixture(2.0).unwrap());

    let flow = |loc| Flow::data_to_base(block(16), normal(loc)).unwrap();
    assert!(refusal(&flow(0.0), flow(0.1)).contains("base"));
}

#[test]
fn noise_and_caches_are_no_part_of_a_model() {
    let block = || {
        DdnfBlockConfig::new(2, [4])
            .init::<Plain>(double(), &mut rng(1))
            .unwrap()
    };
    let mut used = block();
    used.visit_layers(&mut LayerVisit::resample_noise(3));
    load_state::<Plain, _>(block(), &state(&used)).unwrap();

    let masked = || {
        masked(MaskConfig::default())
            .init::<Plain>(double(), &mut rng(1))
            .unwrap()
    };
    let used = masked();
    used.forward(normal(4, 3, 1.0, 1), None);
    load_state::<Plain, _>(masked(), &state(&used)).unwrap();
}

#[test]
fn a_state_moves_between_backends_and_parameters_alone_between_configurations() {
    let trained = DdnfBlockConfig::new(2, [4])
        .init::<Grad>(double(), &mut rng(1))
        .unwrap();
    let plain = |cells| {
        let config = DdnfBlockConfig {
            cells,
            ..DdnfBlockConfig::new(2, [4])
        };
        config.init::<Plain>(double(), &mut rng(2)).unwrap()
    };
    let saved = state::<Grad, _>(&trained);
    assert!(saved.contains_key(CONFIGURATION));
    let x = normal::<Plain>(3, 2, 1.0, 1);
    let loaded = load_state::<Plain, _>(plain(16), &saved).unwrap();
    let theirs = trained.forward(Tensor::from_inner(x.clone()), None);
    assert_eq!(values(loaded.forward(x, None)), values(theirs));
    load_state::<Plain, _>(plain(8), &saved).unwrap_err();
    load_state::<Plain, _>(plain(8), &parameters::<Grad, _>(&trained)).unwrap();
}

#[test]
fn parameters_that_are_whole_numbers_or_flags_are_saved_too() {
    #[derive(Module, Debug)]
    struct Mixed<B: Backend> {
        order: Param<Tensor<B, 1, Int>>,
        used: Param<Tensor<B, 1, Bool>>,
    }
    let mixed = |order: [i64; 2], used: [bool; 2]| Mixed::<Plain> {
        order: Param::initialized(Default::default(), Tensor::from_data(order, double())),
        used: Param::initialized(Default::default(), Tensor::from_data(used, double())),
    };
    let saved = state(&mixed([1, 0], [true, false]));
    assert_eq!(saved.len(), 3, "two parameters and the configuration");
    let loaded = load_state::<Plain, _>(mixed([5, 5], [false, false]), &saved).unwrap();
    assert_eq!(
        loaded
            .order
            .val()
            .into_data()
            .iter::<i64>()
            .collect::<Vec<_>>(),
        [1, 0]
    );
    assert_eq!(
        loaded
            .used
            .val()
            .into_data()
            .iter::<bool>()
            .collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn weights_of_another_width_are_refused_by_the_layer_that_would_read_them() {
    use burn::module::ModuleMapper;
    /// Puts wider weights in, as a record of another model does.
    struct Widen;
    impl<B: Backend> ModuleMapper<B> for Widen {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            param.map(|t| {
                let last = D - 1;
                Tensor::cat(vec![t.clone(), t.narrow(last, 0, 1)], last)
            })
        }
    }
    let layer = masked(MaskConfig::default())
        .init::<Plain>(double(), &mut rng(1))
        .unwrap();
    let wide = layer.map(&mut Widen);
    let call = std::panic::AssertUnwindSafe(|| wide.forward(normal(4, 3, 1.0, 1), None));
    let panic = std::panic::catch_unwind(call).expect_err("other weights");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(
        message.contains("autoregressive: layer 0") && message.contains("[3, 9]"),
        "{message}"
    );
}

#[test]
fn a_density_keeps_its_value_through_a_state() {
    let flow = |seed| {
        let layer = masked(MaskConfig::default())
            .init::<Plain>(double(), &mut rng(seed))
            .unwrap();
        Flow::data_to_base(layer, DiagonalNormal::standard(3, double())).unwrap()
    };
    let loaded = load_state::<Plain, _>(flow(2), &state(&flow(1))).unwrap();
    let x = normal::<Plain>(4, 3, 1.0, 1);
    assert_eq!(
        values(loaded.log_prob(x.clone(), None)),
        values(flow(1).log_prob(x, None))
    );
}

#[test]
fn a_state_has_the_order_that_a_seed_drew() {
    let layer = |ordering| {
        let config = PermutationConfig::new(6, ordering);
        config.init::<Plain>(double(), &mut rng(1)).unwrap()
    };
    let saved = state::<Plain, _>(&layer(Ordering::Random { seed: 1 }));
    let text: Vec<u8> = saved[CONFIGURATION].iter::<u8>().collect();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("[0, 3, 5, 1, 4, 2]"), "{text}");
    let drawn = Ordering::Explicit(vec![0, 3, 5, 1, 4, 2]);
    load_state::<Plain, _>(layer(drawn), &saved).unwrap();
    load_state::<Plain, _>(layer(Ordering::Random { seed: 2 }), &saved).unwrap_err();
}
