//! What is learned from data, frozen, drawn or annealed is reached in every composition, in both directions.

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{
    ActNorm, ActNormConfig, AutoregressiveConfig, BatchNormConfig, Chain, DdnfBlockConfig,
    ElementwiseAffineConfig, Inverted, LayerConfig, MultiScale, MultiScaleConfig, Pair,
};
use flows_core::distributions::{DiagonalNormal, LogProb, Mixture};
use flows_core::flow::Flow;
use flows_core::log_det::{LogDet, ProbeNoise};
use flows_core::nn::ParametersConfig;
use flows_core::testing::{Precision, Suite};
use flows_core::visit::{LayerVisit, has_statistics};

use crate::autoregressive::{Grad, Plain, assert_close, normal, rng, values};
use crate::double;

#[test]
fn every_composition_hands_a_visit_to_every_layer_inside() {
    let mut suite = Suite::<Grad>::new(double(), Precision::DOUBLE);
    suite.check_composition("chain", |probe| {
        Chain::new(vec![probe(3), probe(3), probe(3)])
    });
    suite.check_composition("pair", |probe| Pair::new(probe(3), probe(3)));
    suite.check_composition("inverted", |probe| Ok(Inverted::new(probe(3))));
    suite.check_composition("multi-scale", |probe| {
        MultiScale::new(vec![probe(5), probe(3), probe(1)])
    });
    suite.check_composition("inverted chain in a pair", |probe| {
        let chain = Chain::new(vec![probe(3), probe(3)])?;
        Pair::new(probe(3), Inverted::new(chain))
    });
    suite.check_composition("chain of inverted multi-scales", |probe| {
        let mut part = || MultiScale::new(vec![probe(4), probe(2)]).map(Inverted::new);
        Chain::new(vec![part()?, part()?])
    });
    suite.finish();
}

fn act_norm() -> ActNorm<Plain> {
    ActNormConfig::new(3).init(double(), &mut rng(0)).unwrap()
}

fn assert_standardized(z: &Tensor<Plain, 2>) {
    assert_close(&values(z.clone().mean_dim(0)), &[0.0; 3], 1e-11);
    assert_close(&values(z.clone().square().mean_dim(0)), &[1.0; 3], 1e-11);
}

#[test]
fn activation_norm_standardizes_data_from_either_end() {
    let x = normal::<Plain>(50, 3, 4.0, 1) + 20.0;
    let mut inverted = Inverted::new(act_norm());
    inverted.visit_layers(&mut LayerVisit::init_from_data(x.clone(), None));
    assert_standardized(&inverted.forward(x.clone(), None));

    let base = || DiagonalNormal::standard(3, double());
    let mut flow =
        Flow::base_to_data(Chain::new(vec![act_norm(), act_norm()]).unwrap(), base()).unwrap();
    flow.visit_layers(&mut LayerVisit::init_from_data(x.clone(), None));
    assert_standardized(&flow.bijector().inverse(x.clone(), None));

    // A flow whose base is a flow: the inner layers see what the outer ones make of the data.
    let inner = Flow::data_to_base(act_norm(), base()).unwrap();
    let outer = ElementwiseAffineConfig::new(3)
        .init(double(), &mut rng(1))
        .unwrap();
    let mut nested = Flow::data_to_base(outer, inner).unwrap();
    nested.visit_layers(&mut LayerVisit::init_from_data(x.clone(), None));
    let at_base = nested.bijector().forward(x, None);
    assert_standardized(&nested.base().bijector().forward(at_base, None));
}

#[test]
fn a_layer_in_a_configured_stack_is_reached_inside_stages() {
    let stages = MultiScaleConfig::new(vec![
        vec![LayerConfig::BatchNorm(BatchNormConfig::new(4))],
        vec![LayerConfig::ActNorm(ActNormConfig::new(2))],
    ]);
    let mut layers = stages.init::<Plain>(double(), &mut rng(0)).unwrap();
    assert!(has_statistics(|visit| layers.visit_layers(visit)));
    let x = normal::<Plain>(60, 4, 3.0, 2) + 1.0;
    layers.visit_layers(&mut LayerVisit::freeze_statistics(vec![x.clone()], None));
    layers.visit_layers(&mut LayerVisit::init_from_data(x.clone(), None));
    let z = layers.forward(x, None);
    assert_close(&values(z.clone().mean_dim(0)), &[0.0; 4], 1e-10);
    assert_close(&values(z.square().mean_dim(0)), &[1.0; 4], 1e-3);
}

#[test]
fn noise_and_temperature_reach_both_orientations_of_a_flow() {
    let config = DdnfBlockConfig {
        log_det: LogDet::Hutchinson {
            order: 3,
            probes: 1,
            noise: ProbeNoise::Rademacher,
            fresh_per_step: false,
        },
        ..DdnfBlockConfig::new(3, [8])
    };
    let layers = || Chain::new(vec![config.init::<Plain>(double(), &mut rng(3)).unwrap()]).unwrap();
    let base = || DiagonalNormal::standard(3, double());
    let x = normal::<Plain>(4, 3, 1.0, 4);
    let mut data_to_base = Flow::data_to_base(layers(), base()).unwrap();
    let mut base_to_data = Flow::base_to_data(layers(), base()).unwrap();
    let before = [
        data_to_base.log_prob(x.clone(), None),
        base_to_data.log_prob(x.clone(), None),
    ];
    data_to_base.visit_layers(&mut LayerVisit::resample_noise(9));
    base_to_data.visit_layers(&mut LayerVisit::resample_noise(9));
    let after = [
        data_to_base.log_prob(x.clone(), None),
        base_to_data.log_prob(x, None),
    ];
    for (before, after) in before.into_iter().zip(after) {
        assert_ne!(values(before), values(after));
    }

    let soft = AutoregressiveConfig::soft(3, vec![8]);
    let soft = soft.init_soft::<Grad>(double(), &mut rng(5)).unwrap();
    let mut flow = Flow::base_to_data(soft, DiagonalNormal::<Grad>::standard(3, double())).unwrap();
    flow.visit_layers(&mut LayerVisit::set_temperature(0.25).unwrap());
    assert_eq!(flow.bijector().conditioner().temperature(), 0.25);
    assert_eq!(flow.valid().bijector().conditioner().temperature(), 0.25);
    assert!(LayerVisit::<Grad>::set_temperature(0.0).is_err());
}

#[test]
fn statistics_and_noise_reach_a_base_that_is_a_flow() {
    let base = || DiagonalNormal::<Plain>::standard(3, double());
    let outer = || {
        ElementwiseAffineConfig::new(3)
            .init::<Plain>(double(), &mut rng(1))
            .unwrap()
    };
    let x = normal::<Plain>(50, 3, 4.0, 1) + 20.0;
    let freeze = || LayerVisit::freeze_statistics(vec![x.clone()], None);
    let norm = || {
        BatchNormConfig::new(3)
            .init::<Plain>(double(), &mut rng(0))
            .unwrap()
    };
    let mut within =
        Flow::data_to_base(outer(), Flow::data_to_base(norm(), base()).unwrap()).unwrap();
    within.visit_layers(&mut freeze());
    assert!(within.base().bijector().is_frozen());
    let mut within =
        Flow::base_to_data(outer(), Flow::base_to_data(norm(), base()).unwrap()).unwrap();
    within.visit_layers(&mut freeze());
    assert!(within.base().bijector().is_frozen());

    let noisy = DdnfBlockConfig {
        log_det: LogDet::HUTCHINSON,
        ..DdnfBlockConfig::new(3, [8])
    };
    let noisy =
        || Flow::data_to_base(noisy.init::<Plain>(double(), &mut rng(3)).unwrap(), base()).unwrap();
    let x = normal::<Plain>(4, 3, 1.0, 4);
    let mut data_to_base = Flow::data_to_base(outer(), noisy()).unwrap();
    let mut base_to_data = Flow::base_to_data(outer(), noisy()).unwrap();
    let scores = |p: &dyn Fn(Tensor<Plain, 2>) -> Tensor<Plain, 1>| values(p(x.clone()));
    let before = [
        scores(&|x| data_to_base.log_prob(x, None)),
        scores(&|x| base_to_data.log_prob(x, None)),
    ];
    data_to_base.visit_layers(&mut LayerVisit::resample_noise(9));
    base_to_data.visit_layers(&mut LayerVisit::resample_noise(9));
    assert_ne!(before[0], scores(&|x| data_to_base.log_prob(x, None)));
    assert_ne!(before[1], scores(&|x| base_to_data.log_prob(x, None)));
}

fn mixture<P: LogProb<Plain>>(parts: Vec<P>) -> Mixture<Plain, P> {
    Mixture::new(parts, &ParametersConfig::default(), double(), &mut rng(0)).unwrap()
}

#[test]
fn a_visit_reaches_every_part_of_a_mixture_with_the_same_rows() {
    let base = || DiagonalNormal::standard(3, double());
    let x = normal::<Plain>(50, 3, 4.0, 1) + 20.0;

    let part = || Flow::data_to_base(act_norm(), base()).unwrap();
    let mut norms = mixture(vec![part(), part()]);
    norms.visit_layers(&mut LayerVisit::init_from_data(x.clone(), None));
    for part in norms.parts() {
        assert_standardized(&part.bijector().forward(x.clone(), None));
    }

    let norm = || BatchNormConfig::new(3).init(double(), &mut rng(0)).unwrap();
    let part = || Flow::data_to_base(norm(), base()).unwrap();
    let mut norms = mixture(vec![part(), part()]);
    norms.visit_layers(&mut LayerVisit::freeze_statistics(vec![x.clone()], None));
    assert!(norms.parts().iter().all(|part| part.bijector().is_frozen()));

    // One field in both parts: with noise of their own they differ.
    let noisy = DdnfBlockConfig {
        log_det: LogDet::HUTCHINSON,
        ..DdnfBlockConfig::new(3, [8])
    };
    let noisy = || noisy.init::<Plain>(double(), &mut rng(3)).unwrap();
    let part = || Flow::data_to_base(noisy(), base()).unwrap();
    let mut parts = mixture(vec![part(), part()]);
    let x = normal::<Plain>(4, 3, 1.0, 4);
    let scores = |part: &Flow<_, _, _, _>| values(part.log_prob(x.clone(), None));
    let before = scores(&parts.parts()[0]);
    parts.visit_layers(&mut LayerVisit::resample_noise(9));
    let after: Vec<_> = parts.parts().iter().map(scores).collect();
    assert_ne!(before, after[0]);
    assert_ne!(after[0], after[1]);
}
