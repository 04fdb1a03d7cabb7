//! Gradients segment by segment are those of the whole graph.

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor, TensorCreationOptions};
use flows_core::autodiff::exclusive;
use flows_core::bijectors::{
    AutoregressiveConfig, Chain, CnfConfig, ElementwiseAffineConfig, LayerConfig, Stack,
};
use flows_core::continuous::{Solver, Trace};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::flow::Flow;
use flows_core::init::normal_tensor;
use flows_core::random::generator;
use flows_train::{
    Data, MaximumLikelihood, Rows, Run, Training, fit, log_probs, segmented_likelihood,
};

type Grad = Autodiff<Flex>;
type OfStack = Flow<Grad, Stack<Grad>, DiagonalNormal<Grad>>;

fn flow(layers: &[LayerConfig], options: &TensorCreationOptions<Grad>) -> OfStack {
    let rng = &mut generator(1);
    let layers = layers.iter().map(|l| l.init(options.clone(), rng).unwrap());
    let stack = Chain::new(layers.collect()).unwrap();
    Flow::data_to_base(stack, DiagonalNormal::standard(2, options.clone())).unwrap()
}

fn cnf(solver: Solver, trace: Trace, context_dim: usize) -> LayerConfig {
    LayerConfig::Cnf(CnfConfig {
        solver,
        trace,
        context_dim,
        // Must not be used where gradients are taken.
        evaluation: Some(Solver::Euler { steps: 1 }),
        ..CnfConfig::new(2, [6])
    })
}

fn numbers<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    gradients: &GradientsParams,
) -> Vec<Vec<f64>> {
    struct Collect<'a>(&'a GradientsParams, Vec<Vec<f64>>);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let gradient = self.0.get::<B::InnerBackend, D>(param.id);
            let numbers = gradient.map(|g| g.into_data().iter::<f64>().collect());
            self.1.push(numbers.unwrap_or_default());
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    model.visit(&mut collect);
    collect.1
}

#[test]
fn gradients_are_those_of_the_whole_graph() {
    let _alone = exclusive();
    let options: TensorCreationOptions<Grad> =
        TensorCreationOptions::default().with_dtype(DType::F64);
    let adaptive = Solver::DormandPrince {
        tolerance: 1e-5,
        max_steps: 100,
    };
    let hutchinson = Trace::Hutchinson {
        probes: 2,
        noise: Default::default(),
    };
    let layers = [
        LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(2)),
        cnf(adaptive, Trace::Exact, 1),
        LayerConfig::Autoregressive(AutoregressiveConfig {
            context_dim: 1,
            ..AutoregressiveConfig::new(2, vec![8])
        }),
        cnf(Solver::Rk4 { steps: 3 }, hutchinson, 0),
    ];
    let flow = flow(&layers, &options);
    let draw = |columns: usize, seed: u64| -> Tensor<Grad, 2> {
        normal_tensor([7, columns], 1.0, options.clone(), &mut generator(seed))
    };
    let (x, context) = (draw(2, 2) * 2.0, draw(1, 3));

    let whole = flow.log_prob(x.clone(), Some(context.clone())).mean().neg();
    let value: f64 = whole.clone().into_data().iter().next().unwrap();
    let whole = GradientsParams::from_grads(whole.backward(), &flow);
    let whole = numbers::<Grad, _>(&flow, &whole);

    let loss = segmented_likelihood(&flow, x.inner(), Some(context.inner()));
    let ours: f64 = loss.value.into_data().iter().next().unwrap();
    assert!((ours - value).abs() < 1e-13, "{ours}, not {value}");
    let ours = numbers::<Grad, _>(&flow, &loss.gradients.unwrap());
    assert_eq!(ours.len(), whole.len());
    for (ours, whole) in ours.iter().zip(&whole) {
        assert_eq!(ours.len(), whole.len());
        for (a, b) in ours.iter().zip(whole) {
            assert!((a - b).abs() < 1e-12 * (1.0 + b.abs()), "{a}, not {b}");
        }
    }
    assert!(whole.iter().flatten().filter(|g| g.abs() > 1e-6).count() > 50);
}

#[test]
fn it_trains_as_the_whole_graph_does() {
    let options = TensorCreationOptions::<Grad>::default();
    let rows = (0..200).flat_map(|k| {
        let x = f64::from(k % 20) / 5.0 - 2.0;
        [x, x * x * 0.5 + f64::from(k / 20) / 10.0]
    });
    let data = Data::new(Rows::new(rows.collect(), 2), None).unwrap();
    let training = Training {
        steps: 40,
        ..Training::default()
    };
    let layers = [cnf(Solver::Rk4 { steps: 2 }, Trace::Exact, 0)];
    let start = flow(&layers, &options);
    let before = log_probs(&start.valid(), &data);
    let mut likelihood = MaximumLikelihood::new(&data).by_segments();
    let segmented = fit(start.clone(), &mut likelihood, &training, Run::new("a", 0)).unwrap();
    let mut likelihood = MaximumLikelihood::new(&data);
    let whole = fit(start, &mut likelihood, &training, Run::new("b", 0)).unwrap();
    let mean = |scores: Vec<f64>| scores.iter().sum::<f64>() / scores.len() as f64;
    let before = mean(before);
    let [segmented, whole] =
        [&segmented.model, &whole.model].map(|model| mean(log_probs(&model.valid(), &data)));
    assert!((segmented - whole).abs() < 1e-2, "{segmented}, not {whole}");
    assert!(
        segmented > before + 0.1,
        "{before} before, {segmented} after"
    );
}
