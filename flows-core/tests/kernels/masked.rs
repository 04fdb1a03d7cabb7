//! The masked affine layer as one operation against the same layer in Burn operations.
//!
//! Reference is a backend that no kernel knows: one with autodiff twice over.

use burn::backend::Autodiff;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{LogScale, MaskedAffine, MaskedAffineConfig};
use flows_core::masks::{MaskConfig, Ordering};
use flows_core::nn::ConditionerActivation;

fn draw(len: usize, seed: u64) -> Vec<f64> {
    let rng = StdRng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(len).collect()
}

fn tensor<B: Backend, const D: usize>(shape: [usize; D], seed: u64) -> Tensor<B, D> {
    let data = TensorData::new(draw(shape.iter().product(), seed), shape);
    Tensor::from_data(data, &Default::default())
}

fn values<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

/// Moves every parameter by a seeded draw, weights outside their masks included.
struct Move(u64);

impl<B: Backend> ModuleMapper<B> for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.0 += 1;
        let (id, x, mapper) = param.consume();
        let moved = x.clone() + tensor(x.dims(), self.0) * 0.15;
        Param::from_mapped_value(id, moved.detach().require_grad(), mapper)
    }
}

struct Collect<'a, B: AutodiffBackend> {
    gradients: &'a B::Gradients,
    out: Vec<Vec<f64>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let gradient = param.val().grad(self.gradients);
        self.out
            .push(values(gradient.expect("every parameter is used")));
    }
}

/// Value, log-determinant, and the gradients of a scalar of both for input, context and parameters.
fn results<B: AutodiffBackend>(config: &MaskedAffineConfig, rows: usize) -> Vec<Vec<f64>> {
    let device = B::Device::default();
    let rng = &mut StdRng::seed_from_u64(3);
    let layer: MaskedAffine<B> = config.init(&device, rng).unwrap().map(&mut Move(100));
    let x = tensor::<B, 2>([rows, config.dim], 1).require_grad();
    let context = (config.context_dim > 0)
        .then(|| tensor::<B, 2>([rows, config.context_dim], 2).require_grad());
    let mapped = layer.forward_and_log_det(x.clone(), context.clone());
    let weights = tensor::<B, 2>([rows, config.dim], 5);
    let loss = (mapped.value.clone().sin() * weights).sum()
        + (mapped.log_det.clone() * tensor::<B, 1>([rows], 6)).sum();
    let gradients = loss.backward();
    let mut collect = Collect::<B> {
        gradients: &gradients,
        out: Vec::new(),
    };
    layer.visit(&mut collect);
    let mut out = vec![values(mapped.value), values(mapped.log_det)];
    out.push(values(x.grad(&gradients).unwrap()));
    out.extend(context.map(|c| values(c.grad(&gradients).unwrap())));
    out.extend(collect.out);
    out
}

#[track_caller]
fn assert_close(a: &[Vec<f64>], b: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (k, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.len(), b.len(), "{what}, result {k}");
        let size = b.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        for (x, y) in a.iter().zip(b) {
            let close = (x - y).abs() <= tolerance * size;
            assert!(close, "{what}, result {k}: {x} and {y}, largest {size}");
        }
    }
}

const SCALES: [LogScale; 7] = [
    LogScale::Exp,
    LogScale::TanhBounded { bound: 2.0 },
    LogScale::SoftClip { bound: 6.9 },
    LogScale::Softplus { floor: 1e-3 },
    LogScale::Sigmoid {
        offset: 2.0,
        floor: 1e-3,
    },
    LogScale::SigmoidGate,
    LogScale::Additive,
];

const ACTIVATIONS: [ConditionerActivation; 3] = [
    ConditionerActivation::Relu,
    ConditionerActivation::Tanh,
    ConditionerActivation::Elu,
];

/// Every scale with every activation, over masks, depths, widths, contexts and batch sizes.
fn cases() -> Vec<(MaskedAffineConfig, usize)> {
    let masks = [
        (6, MaskConfig::Autoregressive(Ordering::Natural)),
        (17, MaskConfig::Autoregressive(Ordering::Reversed)),
        (6, MaskConfig::Autoregressive(Ordering::Random { seed: 5 })),
        (
            6,
            MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![5, 2, 4]]),
        ),
        (40, MaskConfig::Coupling((0..20).collect())),
        (1, MaskConfig::Autoregressive(Ordering::Natural)),
        (
            6,
            MaskConfig::Graph(vec![
                vec![],
                vec![0],
                vec![0, 4],
                vec![1, 2],
                vec![],
                vec![4],
            ]),
        ),
    ];
    let hidden = [vec![], vec![13], vec![40, 29, 33], vec![70, 64]];
    let rows = [1, 33, 7, 130, 12];
    (0..84)
        .map(|k: usize| {
            let (dim, mask) = masks[(k / 3) % 7].clone();
            let config = MaskedAffineConfig {
                mask,
                context_dim: [0, 3][(k / 2) % 2],
                scale: SCALES[k % 7],
                activation: ACTIVATIONS[k % 3],
                ..MaskedAffineConfig::new(dim, hidden[(k / 7) % 4].clone())
            };
            (config, rows[k % 5])
        })
        .collect()
}

/// Compares `B`, which has a kernel, with the reference.
pub(crate) fn agrees_with_burn_operations<B: AutodiffBackend>(tolerance: f64)
where
    Autodiff<B>: AutodiffBackend,
{
    for (config, rows) in cases() {
        let what = format!("{config:?}, {rows} rows");
        let reference = results::<Autodiff<B>>(&config, rows);
        assert_close(&results::<B>(&config, rows), &reference, tolerance, &what);
    }
}

/// Values of the backend without autodiff, which keeps no activations.
pub(crate) fn agrees_without_gradients<B: AutodiffBackend>(tolerance: f64) {
    for (config, rows) in cases() {
        let what = format!("{config:?}, {rows} rows");
        let rng = &mut StdRng::seed_from_u64(3);
        let layer: MaskedAffine<B::InnerBackend> = config.init(&Default::default(), rng).unwrap();
        let layer = layer.map(&mut Move(100));
        let context = (config.context_dim > 0).then(|| tensor([rows, config.context_dim], 2));
        let mapped = layer.forward_and_log_det(tensor([rows, config.dim], 1), context);
        let plain = [values(mapped.value), values(mapped.log_det)];
        let reference = results::<B>(&config, rows);
        assert_close(&plain, &reference[..2], tolerance, &what);
    }
}

/// A batch large enough for several chunks gives the same bits on any number of threads.
pub(crate) fn does_not_depend_on_threads<B: AutodiffBackend>() {
    let config = MaskedAffineConfig::new(20, vec![150, 130]);
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| results::<B>(&config, 301))
    });
    assert!(one == three);
}

/// The inverse kernel of the backend without autodiff against the inverse in Burn operations, which an autodiff
/// backend takes; deep masks go through several levels at a time.
pub(crate) fn inverse_agrees<B: AutodiffBackend>(tolerance: f64) {
    let deep = [(60, vec![50, 70]), (100, vec![130])].map(|(dim, hidden)| {
        let config = MaskedAffineConfig::new(dim, hidden);
        (config, 33)
    });
    for (config, rows) in cases().into_iter().chain(deep) {
        let what = format!("inverse, {config:?}, {rows} rows");
        let plain = inverse::<B::InnerBackend>(&config, rows);
        assert_close(&plain, &inverse::<B>(&config, rows), tolerance, &what);
    }
}

fn inverse<B: Backend>(config: &MaskedAffineConfig, rows: usize) -> [Vec<f64>; 2] {
    let rng = &mut StdRng::seed_from_u64(3);
    let layer: MaskedAffine<B> = config.init(&Default::default(), rng).unwrap();
    let context = (config.context_dim > 0).then(|| tensor([rows, config.context_dim], 2));
    let y = tensor([rows, config.dim], 1);
    let mapped = layer.map(&mut Move(100)).inverse_and_log_det(y, context);
    [values(mapped.value), values(mapped.log_det)]
}
