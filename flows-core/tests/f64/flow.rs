//! Flows as a whole: contexts of one row, batches without rows, and their parts.

use burn::backend::Flex;
use burn::tensor::Tensor;
use flows_core::bijectors::{AutoregressiveConfig, Chain, LayerConfig, Stack};
use flows_core::distributions::{DiagonalNormal, LogProb, Sample};
use flows_core::flow::{DataToBase, Flow};
use flows_core::random::generator;
use flows_core::testing::{normal_batch, rows};

use crate::double;

type Conditional = Flow<Flex, Stack<Flex>, DiagonalNormal<Flex>, DataToBase>;

fn conditional() -> Conditional {
    let rng = &mut generator(4);
    let layers = (0..2).map(|_| {
        let masked = AutoregressiveConfig {
            context_dim: 2,
            ..AutoregressiveConfig::new(3, vec![9])
        };
        LayerConfig::Autoregressive(masked).init(double(), rng)
    });
    let stack = Chain::new(layers.collect::<Result<_, _>>().unwrap()).unwrap();
    Flow::data_to_base(stack, DiagonalNormal::standard(3, double())).unwrap()
}

#[test]
fn a_context_of_one_row_stands_for_the_whole_batch() {
    let flow = conditional();
    let one = normal_batch::<Flex>([1, 2], 1, double());
    let all = one.clone().repeat_dim(0, 5);
    let x = normal_batch::<Flex>([5, 3], 2, double());
    let density =
        |context: &Tensor<Flex, 2>| rows(&flow.log_prob(x.clone(), Some(context.clone())));
    assert_eq!(density(&one), density(&all));
    let draw = |context: &Tensor<Flex, 2>| {
        let (context, rng) = (Some(context.clone()), &mut generator(3));
        let x = flow.sample(5, context.clone(), rng);
        let (y, log_prob) = flow.sample_and_log_prob(5, context, rng);
        [rows(&x), rows(&y), rows(&log_prob)]
    };
    assert_eq!(draw(&one), draw(&all));
}

#[test]
fn no_rows_give_none_in_the_type_of_the_flow() {
    let flow = conditional();
    let none = |columns: usize| Tensor::<Flex, 2>::empty([0, columns], double());
    let log_prob = flow.log_prob(none(3), Some(none(2)));
    assert_eq!((log_prob.dims(), log_prob.dtype()), ([0], none(1).dtype()));
    let one = normal_batch::<Flex>([1, 2], 1, double());
    assert_eq!(flow.log_prob(none(3), Some(one.clone())).dims(), [0]);
    let x = flow.sample(0, Some(one), &mut generator(0));
    assert_eq!((x.dims(), x.dtype()), ([0, 3], none(1).dtype()));
}

#[test]
fn a_flow_gives_its_layers_back_and_a_shorter_one_is_made_of_them() {
    let flow = conditional();
    let (stack, base) = flow.clone().into_parts();
    let mut layers = stack.into_layers();
    let context = normal_batch::<Flex>([1, 2], 1, double());
    let x = normal_batch::<Flex>([5, 3], 2, double());
    let whole = Flow::data_to_base(Chain::new(layers.clone()).unwrap(), base.clone()).unwrap();
    let density = |flow: &Conditional| rows(&flow.log_prob(x.clone(), Some(context.clone())));
    assert_eq!(density(&whole), density(&flow));
    layers.pop();
    let shorter = Flow::data_to_base(Chain::new(layers).unwrap(), base).unwrap();
    assert_ne!(density(&shorter), density(&flow));
}
