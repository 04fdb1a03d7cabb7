//! Autoregressive layers and couplings as one operation against the same layers in Burn operations.
//!
//! Reference is a backend `R` that no kernel knows: one with autodiff twice over.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorCreationOptions, TensorData};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{
    AnyAutoregressive, AutoregressiveConfig, Chain, ConditionerConfig, ElementwiseAffineConfig,
    Layer, LayerConfig, PermutationConfig,
};
use flows_core::masks::Untouched;
use flows_core::masks::{MaskConfig, Ordering};
use flows_core::nn::ConditionerActivation;
use flows_core::transforms::{AnyTransform, RqSpline, SplineForm};

use crate::registry::autoregressive::SCALES;

fn draw(len: usize, seed: u64) -> Vec<f64> {
    let rng = StdRng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(len).collect()
}

fn options<B: Backend>(dtype: DType) -> TensorCreationOptions<B> {
    TensorCreationOptions::default().with_dtype(dtype)
}

fn tensor<B: Backend, const D: usize>(shape: [usize; D], seed: u64, dtype: DType) -> Tensor<B, D> {
    let data = TensorData::new(draw(shape.iter().product(), seed), shape);
    Tensor::from_data(data, options(dtype))
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
        let moved = x.clone() + tensor(x.dims(), self.0, x.dtype()) * 0.15;
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

fn results<B: AutodiffBackend>(
    config: &AutoregressiveConfig,
    rows: usize,
    dtype: DType,
) -> Vec<Vec<f64>> {
    let rng = &mut StdRng::seed_from_u64(3);
    let layer: AnyAutoregressive<B> = config.init(options::<B>(dtype), rng).unwrap();
    results_of(layer, rows, dtype)
}

/// Value, log-determinant, and the gradients of a scalar of both for input, context and parameters, after each
/// parameter was moved.
fn results_of<B: AutodiffBackend, L: Bijector<B>>(
    layer: L,
    rows: usize,
    dtype: DType,
) -> Vec<Vec<f64>> {
    let layer = layer.map(&mut Move(100));
    let (dim, context_dim) = (layer.dim(), layer.context_dim());
    let x = tensor::<B, 2>([rows, dim], 1, dtype).require_grad();
    let context =
        (context_dim > 0).then(|| tensor::<B, 2>([rows, context_dim], 2, dtype).require_grad());
    let mapped = layer.forward_and_log_det(x.clone(), context.clone());
    let weights = tensor::<B, 2>([rows, dim], 5, dtype);
    let loss = (mapped.value.clone().sin() * weights).sum()
        + (mapped.log_det.clone() * tensor::<B, 1>([rows], 6, dtype)).sum();
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

pub(crate) const ACTIVATIONS: [ConditionerActivation; 3] = [
    ConditionerActivation::Relu,
    ConditionerActivation::Tanh,
    ConditionerActivation::Elu,
];

/// The maps for which there is a kernel: affine ones by every scale, splines of every form and of several sizes. The
/// intervals are short, so that some numbers lie outside.
fn maps() -> Vec<AnyTransform> {
    let spline = |bins: usize, bound: f64, form: SplineForm| RqSpline { bins, bound, form }.into();
    let free_ends = SplineForm::FreeEnds {
        min_width: 3e-2,
        min_slope: 1e-1,
    };
    let splines = [
        spline(8, 2.0, SplineForm::default()),
        spline(2, 1.0, SplineForm::SoftClip { min_slope: 1e-3 }),
        spline(32, 1.5, free_ends),
        spline(5, 1.2, SplineForm::SoftClip { min_slope: 1e-2 }),
        spline(2, 0.7, free_ends),
    ];
    let affine = SCALES.map(AnyTransform::from);
    affine.into_iter().chain(splines).collect()
}

/// Every map with every activation, over masks, depths, widths, contexts and batch sizes, by masked networks and in
/// couplings.
fn cases() -> Vec<(AutoregressiveConfig, usize)> {
    let masks = [
        (6, MaskConfig::Autoregressive(Ordering::Natural)),
        (17, MaskConfig::Autoregressive(Ordering::Reversed)),
        (6, MaskConfig::Autoregressive(Ordering::Random { seed: 5 })),
        (
            6,
            MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![5, 2, 4]]),
        ),
        (40, MaskConfig::Coupling(Untouched::FirstHalf)),
        (1, MaskConfig::Autoregressive(Ordering::Natural)),
        (6, MaskConfig::Coupling(Untouched::Variables(vec![4, 1, 3]))),
        (33, MaskConfig::Coupling(Untouched::FirstHalf)),
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
    let maps = maps();
    (0..120)
        .map(|k: usize| {
            // The last dozen moves two variables, so that a vector holds several rows.
            let few = (3, MaskConfig::Coupling(Untouched::FirstHalf));
            let (dim, mask) = match k {
                0..108 => masks[(k / 3) % masks.len()].clone(),
                _ => few,
            };
            // Every second mask of a coupling goes to a masked network.
            let conditioner = match mask {
                MaskConfig::Coupling(_) if k.is_multiple_of(2) => ConditionerConfig::Coupling,
                _ => ConditionerConfig::Masked,
            };
            let config = AutoregressiveConfig {
                mask,
                conditioner,
                context_dim: [0, 3][(k / 2) % 2],
                transform: maps[k % maps.len()].clone(),
                activation: ACTIVATIONS[k % 3],
                ..AutoregressiveConfig::new(dim, hidden[(k / 7) % 4].clone())
            };
            (config, rows[k % 5])
        })
        .collect()
}

/// Knots are sums of as many widths as there are bins, and what such a sum loses is divided by one width.
fn rounding(transform: &AnyTransform) -> f64 {
    match transform {
        AnyTransform::RqSpline(spline) => spline.bins as f64 / 2.0,
        _ => 1.0,
    }
}

/// Compares `B`, which has a kernel, with the reference.
pub(crate) fn agrees_with_burn_operations<B: AutodiffBackend, R: AutodiffBackend>(
    tolerance: f64,
    dtype: DType,
) {
    for (config, rows) in cases() {
        let what = format!("{config:?}, {rows} rows");
        let reference = results::<R>(&config, rows, dtype);
        let fused = results::<B>(&config, rows, dtype);
        let tolerance = tolerance * rounding(&config.transform);
        assert_close(&fused, &reference, tolerance, &what);
    }
}

/// Values of the backend without autodiff, which keeps no activations.
pub(crate) fn agrees_without_gradients<B: AutodiffBackend>(tolerance: f64, dtype: DType) {
    for (config, rows) in cases() {
        let what = format!("{config:?}, {rows} rows");
        let rng = &mut StdRng::seed_from_u64(3);
        let layer: AnyAutoregressive<B::InnerBackend> = config.init(options(dtype), rng).unwrap();
        let layer = layer.map(&mut Move(100));
        let context =
            (config.context_dim > 0).then(|| tensor([rows, config.context_dim], 2, dtype));
        let mapped = layer.forward_and_log_det(tensor([rows, config.dim], 1, dtype), context);
        let plain = [values(mapped.value), values(mapped.log_det)];
        let reference = results::<B>(&config, rows, dtype);
        assert_close(&plain, &reference[..2], tolerance, &what);
    }
}

/// Stacks whose runs of layers are one operation, with the rows of a batch.
fn stacks() -> Vec<(Vec<LayerConfig>, usize)> {
    let masked = |dim: usize, hidden: &[usize], context_dim: usize| {
        LayerConfig::Autoregressive(AutoregressiveConfig {
            context_dim,
            activation: ConditionerActivation::Tanh,
            ..AutoregressiveConfig::new(dim, hidden.to_vec())
        })
    };
    let coupling = |dim: usize, untouched: Untouched, transform: AnyTransform| {
        LayerConfig::Autoregressive(AutoregressiveConfig {
            transform,
            context_dim: 2,
            ..AutoregressiveConfig::coupling(dim, vec![9, 8], untouched)
        })
    };
    let shuffle = |dim: usize, seed: u64| {
        LayerConfig::Permutation(PermutationConfig::new(dim, Ordering::Random { seed }))
    };
    let affine = |dim: usize| LayerConfig::ElementwiseAffine(ElementwiseAffineConfig::new(dim));
    let repeat = |layers: &[LayerConfig], times: usize| {
        let layers = layers.iter().cycle().take(times * layers.len());
        layers.cloned().collect::<Vec<_>>()
    };
    vec![
        // Permutations before, between, twice and behind; a context for one of the layers.
        (
            vec![
                shuffle(6, 1),
                masked(6, &[13], 0),
                shuffle(6, 2),
                shuffle(6, 3),
                masked(6, &[40, 33], 2),
                shuffle(6, 4),
            ],
            33,
        ),
        // Couplings of alternating halves, affine and by splines, among permutations and masked layers.
        (
            vec![
                coupling(7, Untouched::FirstHalf, AnyTransform::default()),
                coupling(7, Untouched::SecondHalf, RqSpline::default().into()),
                shuffle(7, 2),
                coupling(
                    7,
                    Untouched::Variables(vec![6, 2]),
                    RqSpline::default().into(),
                ),
                masked(7, &[12], 0),
                coupling(7, Untouched::FirstHalf, RqSpline::default().into()),
            ],
            130,
        ),
        // A layer without a stage ends a run.
        (
            vec![
                masked(5, &[9], 0),
                shuffle(5, 1),
                affine(5),
                shuffle(5, 2),
                masked(5, &[], 0),
            ],
            130,
        ),
        // More tensors than a node has parents: several runs.
        (repeat(&[masked(4, &[8, 7], 0), shuffle(4, 1)], 12), 12),
        // Levels too large to work on several layers together.
        (repeat(&[masked(40, &[70, 64], 0), shuffle(40, 1)], 3), 700),
        (repeat(&[shuffle(3, 1)], 2), 3),
    ]
}

/// Compares runs of layers of `B`, which has a kernel, with the reference.
pub(crate) fn runs_agree_with_burn_operations<B: AutodiffBackend, R: AutodiffBackend>(
    tolerance: f64,
    dtype: DType,
) {
    fn stack<B: Backend>(configs: &[LayerConfig], dtype: DType) -> Chain<B, Layer<B>> {
        let rng = &mut StdRng::seed_from_u64(3);
        let layers = configs.iter().map(|c| c.init(options(dtype), rng));
        Chain::new(layers.collect::<Result<_, _>>().unwrap()).unwrap()
    }
    for (k, (configs, rows)) in stacks().into_iter().enumerate() {
        let what = format!("stack {k}");
        let reference = results_of::<R, _>(stack(&configs, dtype), rows, dtype);
        let fused = results_of::<B, _>(stack(&configs, dtype), rows, dtype);
        assert_close(&fused, &reference, tolerance, &what);
        // Without gradients nothing is kept, which is a path of its own.
        let plain = stack::<B::InnerBackend>(&configs, dtype).map(&mut Move(100));
        let context =
            (plain.context_dim() > 0).then(|| tensor([rows, plain.context_dim()], 2, dtype));
        let mapped = plain.forward_and_log_det(tensor([rows, plain.dim()], 1, dtype), context);
        let plain = [values(mapped.value), values(mapped.log_det)];
        assert_close(&plain, &reference[..2], tolerance, &what);
    }
}

/// A batch large enough for several chunks and threads gives the same bits on any number of threads.
pub(crate) fn does_not_depend_on_threads<B: AutodiffBackend>(dtype: DType) {
    let config = AutoregressiveConfig::new(20, vec![150, 130]);
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| results::<B>(&config, 1201, dtype))
    });
    assert!(one == three);
}

/// The inverse kernel of a backend without autodiff against the inverse in Burn operations, which an autodiff
/// backend, `R`, takes; deep masks go through several levels at a time.
pub(crate) fn inverse_agrees<B: Backend, R: AutodiffBackend>(tolerance: f64, dtype: DType) {
    let deep = [(60, vec![50, 70]), (100, vec![130])].map(|(dim, hidden)| {
        let config = AutoregressiveConfig::new(dim, hidden);
        (config, 33)
    });
    for (config, rows) in cases().into_iter().chain(deep) {
        let what = format!("inverse, {config:?}, {rows} rows");
        let (kernel, reference) = (
            inverse::<B>(&config, rows, dtype),
            inverse::<R>(&config, rows, dtype),
        );
        let tolerance = tolerance * rounding(&config.transform);
        assert_close(&kernel, &reference, tolerance, &what);
    }
}

fn inverse<B: Backend>(config: &AutoregressiveConfig, rows: usize, dtype: DType) -> [Vec<f64>; 2] {
    let rng = &mut StdRng::seed_from_u64(3);
    let layer: AnyAutoregressive<B> = config.init(options(dtype), rng).unwrap();
    let context = (config.context_dim > 0).then(|| tensor([rows, config.context_dim], 2, dtype));
    let y = tensor([rows, config.dim], 1, dtype);
    let mapped = layer.map(&mut Move(100)).inverse_and_log_det(y, context);
    [values(mapped.value), values(mapped.log_det)]
}
