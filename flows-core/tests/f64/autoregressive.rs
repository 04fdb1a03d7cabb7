//! Autoregressive, coupling and linear layers against automatic differentiation, dense linear
//! algebra and central differences. In f64.

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use nalgebra::{DMatrix, DVector};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

use flows_core::bijector::{Bijector, Invert, Mapped};
use flows_core::bijectors::{
    AnyAutoregressive, AutoregressiveConfig, AutoregressiveInverse, Inverted, LuLinearConfig,
    PermutationConfig,
};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::error::Error;
use flows_core::flow::Flow;
use flows_core::init::normal_tensor;
use flows_core::init::options_of;
use flows_core::masks::{MaskConfig, Ordering, Untouched};
use flows_core::nn::{ConditionerActivation, Connections};
use flows_core::transforms::LogScale;

use crate::double;
use crate::registry::autoregressive::SCALES;

pub(crate) type Plain = Flex;
pub(crate) type Grad = Autodiff<Flex>;
type Gradients = <Grad as AutodiffBackend>::Gradients;

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

pub(crate) fn normal<B: Backend<Device = FlexDevice>>(
    rows: usize,
    columns: usize,
    std: f64,
    seed: u64,
) -> Tensor<B, 2> {
    normal_tensor([rows, columns], std, double(), &mut rng(seed))
}

pub(crate) fn values<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f64> {
    x.into_data().iter::<f64>().collect()
}

#[track_caller]
pub(crate) fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        let allowed = tolerance * (1.0 + x.abs().max(y.abs()));
        assert!((x - y).abs() <= allowed, "{x} and {y}");
    }
}

/// Moves every parameter by `step` times a draw of a seeded direction.
struct Move {
    rng: StdRng,
    step: f64,
}

fn direction(shape: &[usize], rng: &mut StdRng) -> Vec<f64> {
    let size = shape.iter().product();
    StandardNormal.sample_iter(rng).take(size).collect()
}

impl<B: Backend> ModuleMapper<B> for Move {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let along = direction(&tensor.dims(), &mut self.rng);
        let along = Tensor::from_data(TensorData::new(along, tensor.dims()), options_of(&tensor));
        let moved = tensor + along * self.step;
        Param::from_mapped_value(id, moved.detach().require_grad(), mapper)
    }
}

/// Away from the start near the identity, where every term counts.
pub(crate) fn shaken<B: Backend, M: Module<B>>(module: M, step: f64, seed: u64) -> M {
    let rng = rng(seed);
    module.map(&mut Move { rng, step })
}

/// The derivative along the direction of [`Move`], from gradients.
struct Along<'a> {
    rng: StdRng,
    gradients: &'a Gradients,
    sum: f64,
}

impl ModuleVisitor<Grad> for Along<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Grad, D>>) {
        let tensor = param.val();
        let along = direction(&tensor.dims(), &mut self.rng);
        if let Some(gradient) = tensor.grad(self.gradients) {
            let terms = values(gradient).into_iter().zip(along);
            self.sum += terms.map(|(g, v)| g * v).sum::<f64>();
        }
    }
}

fn along<M: Module<Grad>>(module: &M, gradients: &Gradients, seed: u64) -> f64 {
    let (rng, sum) = (rng(seed), 0.0);
    let mut visitor = Along {
        rng,
        gradients,
        sum,
    };
    module.visit(&mut visitor);
    visitor.sum
}

/// The Jacobian of each row and the log-determinant of `map`.
pub(crate) fn jacobians(
    map: impl Fn(Tensor<Grad, 2>) -> Mapped<Grad>,
    x: &Tensor<Plain, 2>,
) -> (Vec<DMatrix<f64>>, Vec<f64>) {
    let [rows, dim] = x.dims();
    let mut jacobians = vec![DMatrix::zeros(dim, dim); rows];
    let leaf = || Tensor::<Grad, 2>::from_inner(x.clone()).require_grad();
    for i in 0..dim {
        let x = leaf();
        let y = map(x.clone()).value.slice([0..rows, i..i + 1]).sum();
        let gradient = values(x.grad(&y.backward()).expect("y depends on x"));
        for (k, g) in gradient.into_iter().enumerate() {
            jacobians[k / dim][(i, k % dim)] = g;
        }
    }
    (jacobians, values(map(leaf()).log_det))
}

fn check_log_det(map: impl Fn(Tensor<Grad, 2>) -> Mapped<Grad>, x: &Tensor<Plain, 2>) {
    let (jacobians, log_det) = jacobians(map, x);
    let expected = jacobians.iter().map(|j| j.determinant().abs().ln());
    assert_close(&log_det, &expected.collect::<Vec<_>>(), 1e-8);
}

/// Log-determinants of both directions, round trips both ways, and independence of rows.
pub(crate) fn check_layer<L: Invert<Grad> + AutodiffModule<Grad>>(layer: &L, seed: u64)
where
    L::InnerModule: Invert<Plain>,
{
    let (dim, context_dim) = (layer.dim(), layer.context_dim());
    let context = (context_dim > 0).then(|| normal::<Grad>(5, context_dim, 1.0, seed + 1));
    let x = normal::<Plain>(5, dim, 1.0, seed);
    check_log_det(|x| layer.forward_and_log_det(x, context.clone()), &x);
    check_log_det(|y| layer.inverse_and_log_det(y, context.clone()), &x);

    let plain = layer.valid();
    let context = context.map(Tensor::inner);
    let there = plain.forward_and_log_det(x.clone(), context.clone());
    let (back, report) = plain.inverse_with_report(there.value.clone(), context.clone());
    assert_close(&values(back.value), &values(x.clone()), 1e-10);
    assert_close(&values(back.log_det), &values(there.log_det.neg()), 1e-10);
    assert!(report.residual < 1e-9, "{report:?}");
    assert_eq!(report.passes, 1);
    let back = plain.inverse(x.clone(), context.clone());
    let there = plain.forward(back, context.clone());
    assert_close(&values(there), &values(x.clone()), 1e-10);

    let row = |t: Tensor<Plain, 2>| {
        let columns = t.dims()[1];
        t.slice([3..4, 0..columns])
    };
    let alone = plain.forward(row(x.clone()), context.clone().map(row));
    let batch = plain.forward(x.clone(), context.clone());
    assert_close(&values(alone), &values(row(batch)), 1e-12);
    let alone = plain.inverse(row(x.clone()), context.clone().map(row));
    let batch = plain.inverse(x, context);
    assert_close(&values(alone), &values(row(batch)), 1e-12);
}

/// Gradients of a loss through one direction of a layer against central differences along random
/// directions of the parameters and of the input.
pub(crate) fn check_gradients<L: Bijector<Grad>>(
    layer: L,
    map: impl Fn(&L, Tensor<Grad, 2>, Option<Tensor<Grad, 2>>) -> Mapped<Grad>,
    seed: u64,
) {
    let (dim, context_dim) = (layer.dim(), layer.context_dim());
    let context = (context_dim > 0).then(|| normal::<Grad>(4, context_dim, 1.0, seed + 1));
    let x = normal::<Grad>(4, dim, 1.0, seed);
    let loss = |layer: &L, x: Tensor<Grad, 2>| {
        let mapped = map(layer, x, context.clone());
        // No symmetry: every output and every log-determinant counts with a weight of its own.
        let weights = normal::<Grad>(4, dim, 1.0, seed + 2);
        let volume = mapped.log_det * normal::<Grad>(1, 4, 1.0, seed + 3).squeeze_dim::<1>(0);
        (mapped.value * weights).tanh().sum() + volume.sum()
    };
    let leaf = x.clone().detach().require_grad();
    let gradients = loss(&layer, leaf.clone()).backward();
    let value = |layer: &L, x: Tensor<Grad, 2>| values(loss(layer, x))[0];

    let step = 1e-6;
    for k in 0..3 {
        let up = value(&shaken(layer.clone(), step, seed + 10 + k), x.clone());
        let down = value(&shaken(layer.clone(), -step, seed + 10 + k), x.clone());
        let exact = along(&layer, &gradients, seed + 10 + k);
        assert_close(&[exact], &[(up - down) / (2.0 * step)], 1e-6);

        let v = normal::<Grad>(4, dim, 1.0, seed + 20 + k);
        let up = value(&layer, x.clone() + v.clone() * step);
        let down = value(&layer, x.clone() - v.clone() * step);
        let exact = values((leaf.grad(&gradients).unwrap() * v.inner()).sum())[0];
        assert_close(&[exact], &[(up - down) / (2.0 * step)], 1e-6);
    }
}

pub(crate) fn masks() -> Vec<MaskConfig> {
    let graph = vec![vec![], vec![0], vec![0, 4], vec![1, 2], vec![], vec![4, 1]];
    vec![
        MaskConfig::Autoregressive(Ordering::Natural),
        MaskConfig::Autoregressive(Ordering::Reversed),
        MaskConfig::Autoregressive(Ordering::Random { seed: 5 }),
        MaskConfig::Blocks(vec![vec![3, 1], vec![0], vec![5, 2, 4]]),
        MaskConfig::Coupling(Untouched::Variables(vec![1, 3, 5])),
        MaskConfig::Graph(graph),
    ]
}

fn masked<B: Backend<Device = FlexDevice>>(
    config: &AutoregressiveConfig,
    seed: u64,
) -> AnyAutoregressive<B> {
    shaken(config.init(double(), &mut rng(seed)).unwrap(), 0.3, seed)
}

/// Every mask with different networks: depth, activation, connections, context and scale.
fn configs() -> Vec<AutoregressiveConfig> {
    let mut configs = Vec::new();
    for (k, mask) in masks().into_iter().enumerate() {
        for (hidden, connections) in [
            (vec![], Connections::Plain),
            (vec![17], Connections::Plain),
            (vec![12, 19, 14], Connections::Plain),
            (vec![], Connections::Residual),
            (vec![15, 11, 13], Connections::Residual),
        ] {
            let index = configs.len();
            configs.push(AutoregressiveConfig {
                mask: mask.clone(),
                connections,
                activation: [ConditionerActivation::Tanh, ConditionerActivation::Elu][index % 2],
                context_dim: [0, 3][(index + k) % 2],
                transform: SCALES[index % SCALES.len()].into(),
                ..AutoregressiveConfig::new(6, hidden)
            });
        }
    }
    configs
}

#[test]
fn masked_affine_has_the_right_log_det_and_inverse() {
    for (k, config) in configs().iter().enumerate() {
        check_layer(&masked::<Grad>(config, k as u64), 100 + k as u64);
    }
    // Rectified linear units too, away from their kinks with probability one.
    let config = AutoregressiveConfig::new(7, vec![20, 20]);
    check_layer(&masked::<Grad>(&config, 1), 1);
    check_layer(&Inverted::new(masked::<Grad>(&config, 1)), 1);
}

#[test]
fn the_jacobian_is_the_mask() {
    for (k, config) in configs().iter().enumerate() {
        let layer = masked::<Grad>(config, k as u64);
        let x = normal::<Plain>(4, 6, 1.0, k as u64);
        let context = (config.context_dim > 0).then(|| normal::<Grad>(4, 3, 1.0, 7));
        let (jacobians, _) = jacobians(|x| layer.forward_and_log_det(x, context.clone()), &x);
        for i in 0..6 {
            for j in 0..6 {
                let mut entries = jacobians.iter().map(|jacobian| jacobian[(i, j)]);
                if i == j {
                    assert!(entries.all(|e| e > 0.0));
                } else if layer.mask().sees(i, j) {
                    assert!(entries.any(|e| e != 0.0), "{config:?} {i} {j}");
                } else {
                    assert!(entries.all(|e| e == 0.0), "{config:?} {i} {j}");
                }
            }
        }
    }
}

#[test]
fn gradients_of_masked_affine_match_central_differences() {
    for (seed, config) in configs().iter().enumerate() {
        let seed = seed as u64;
        let layer = masked::<Grad>(config, seed);
        check_gradients(layer.clone(), |l, x, c| l.forward_and_log_det(x, c), seed);
        check_gradients(layer, |l, y, c| l.inverse_and_log_det(y, c), seed);
    }
}

#[test]
fn jacobi_agrees_with_the_incremental_inverse_in_no_more_passes_than_levels() {
    for (k, config) in configs().iter().enumerate() {
        let seed = k as u64;
        let exact = masked::<Plain>(config, seed);
        let y = normal::<Plain>(9, 6, 1.0, seed);
        let context = (config.context_dim > 0).then(|| normal::<Plain>(9, 3, 1.0, 7));
        let expected = exact.inverse_and_log_det(y.clone(), context.clone());
        for tolerance in [0.0, 1e-12] {
            let config = AutoregressiveConfig {
                inverse: AutoregressiveInverse::Jacobi { tolerance },
                ..config.clone()
            };
            let layer = masked::<Plain>(&config, seed);
            let (found, report) = layer.inverse_with_report(y.clone(), context.clone());
            assert!(report.passes <= layer.mask().depth(), "{report:?}");
            assert_close(&values(found.value), &values(expected.value.clone()), 1e-10);
            assert_close(
                &values(found.log_det),
                &values(expected.log_det.clone()),
                1e-10,
            );
        }
    }
    // A tolerance saves passes on a layer near the identity.
    let config = AutoregressiveConfig {
        inverse: AutoregressiveInverse::Jacobi { tolerance: 1e-6 },
        ..AutoregressiveConfig::new(40, vec![64])
    };
    let layer = config.init::<Plain>(double(), &mut rng(1)).unwrap();
    let (_, report) = layer.inverse_with_report(normal(20, 40, 1.0, 2), None);
    assert!(
        report.passes < 20 && report.residual < 1e-5 && report.residual > 0.0,
        "{report:?}"
    );
}

#[test]
fn jacobi_gradients_match_central_differences() {
    let config = AutoregressiveConfig {
        activation: ConditionerActivation::Tanh,
        inverse: AutoregressiveInverse::Jacobi { tolerance: 1e-13 },
        context_dim: 2,
        ..AutoregressiveConfig::new(5, vec![11])
    };
    let layer = masked::<Grad>(&config, 3);
    check_gradients(layer, |l, y, c| l.inverse_and_log_det(y, c), 3);
}

#[test]
fn couplings_have_the_right_log_det_inverse_and_gradients() {
    for (k, scale) in SCALES.into_iter().enumerate() {
        let untouched = [
            Untouched::Even,
            Untouched::Odd,
            Untouched::FirstHalf,
            Untouched::SecondHalf,
            Untouched::Variables(vec![4, 1]),
        ];
        let untouched = &untouched[k % untouched.len()];
        let config = AutoregressiveConfig {
            activation: ConditionerActivation::Tanh,
            connections: [Connections::Plain, Connections::Residual][k % 2],
            context_dim: [0, 0, 3][k % 3],
            transform: scale.into(),
            ..AutoregressiveConfig::coupling(5, vec![12, 13], untouched.clone())
        };
        let seed = k as u64;
        let layer = config.init::<Grad>(double(), &mut rng(seed)).unwrap();
        let layer = shaken(layer, 0.3, seed);
        check_layer(&layer, seed);
        check_gradients(layer.clone(), |l, x, c| l.forward_and_log_det(x, c), seed);
        check_gradients(layer.clone(), |l, y, c| l.inverse_and_log_det(y, c), seed);

        let context = (config.context_dim > 0).then(|| normal(5, 3, 1.0, 1));
        let x = normal::<Plain>(5, 5, 100.0, 3);
        let y = layer.valid().forward(x.clone(), context.clone());
        let back = layer.valid().inverse(y.clone(), context);
        let (x, y, back) = (values(x), values(y), values(back));
        for row in 0..5 {
            for i in untouched.variables(5).unwrap() {
                assert_eq!(x[row * 5 + i], y[row * 5 + i]);
                assert_eq!(x[row * 5 + i], back[row * 5 + i]);
            }
        }
    }
}

#[test]
fn additive_couplings_keep_volume_exactly() {
    let config = AutoregressiveConfig {
        transform: LogScale::Additive.into(),
        ..AutoregressiveConfig::coupling(4, vec![8], Untouched::Even)
    };
    let layer = config.init::<Plain>(double(), &mut rng(0)).unwrap();
    let layer = shaken(layer, 1.0, 1);
    let mapped = layer.forward_and_log_det(normal(6, 4, 1.0, 2), None);
    assert_eq!(values(mapped.log_det), [0.0; 6]);
}

/// Reads all parameters in order.
struct Take(Vec<Vec<f64>>);

impl<B: Backend> ModuleVisitor<B> for Take {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(values(param.val()));
    }
}

pub(crate) fn taken<M: Module<Plain>>(module: &M) -> Vec<Vec<f64>> {
    let mut take = Take(Vec::new());
    module.visit(&mut take);
    take.0
}

/// Replaces all parameters in order.
pub(crate) struct Put(pub(crate) Vec<Vec<f64>>);

impl<B: Backend> ModuleMapper<B> for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, tensor, mapper) = param.consume();
        let data = TensorData::new(self.0.remove(0), tensor.dims());
        let tensor = Tensor::from_data(data, options_of(&tensor));
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[test]
fn a_coupling_is_the_mask_of_two_blocks() {
    let (dim, h) = (5, 9);
    let coupling = AutoregressiveConfig {
        ..AutoregressiveConfig::coupling(dim, vec![h], Untouched::Variables(vec![0, 2]))
    };
    let coupling = coupling.init::<Plain>(double(), &mut rng(4)).unwrap();
    let coupling = shaken(coupling, 0.3, 5);
    let blocks = AutoregressiveConfig {
        mask: MaskConfig::Coupling(Untouched::Variables(vec![0, 2])),
        ..AutoregressiveConfig::new(dim, vec![h])
    };
    let blocks = blocks.init::<Plain>(double(), &mut rng(4)).unwrap();
    // Embed the coupling's weights; the untouched half keeps scale 1 and shift 0.
    let [w1, b1, w2, b2]: [Vec<f64>; 4] = taken(&coupling).try_into().unwrap();
    let (seen, moved) = ([0, 2], [1, 3, 4]);
    let mut big = vec![
        vec![0.0; dim * h],
        b1,
        vec![0.0; h * 2 * dim],
        vec![0.0; 2 * dim],
    ];
    for (k, &i) in seen.iter().enumerate() {
        big[0][i * h..(i + 1) * h].copy_from_slice(&w1[k * h..(k + 1) * h]);
    }
    for (k, &i) in moved.iter().enumerate() {
        for p in 0..2 {
            big[3][p * dim + i] = b2[p * 3 + k];
            for u in 0..h {
                big[2][u * 2 * dim + p * dim + i] = w2[u * 6 + p * 3 + k];
            }
        }
    }
    let blocks = blocks.map(&mut Put(big));
    let x = normal::<Plain>(8, dim, 1.0, 6);
    let (a, b) = (
        coupling.forward_and_log_det(x.clone(), None),
        blocks.forward_and_log_det(x.clone(), None),
    );
    assert_close(&values(a.value), &values(b.value), 1e-14);
    assert_close(&values(a.log_det), &values(b.log_det), 1e-14);
    let (a, b) = (coupling.inverse(x.clone(), None), blocks.inverse(x, None));
    assert_close(&values(a), &values(b), 1e-14);
}

#[test]
fn constant_parameters_are_a_diagonal_gaussian() {
    let dim = 4;
    let config = AutoregressiveConfig {
        transform: LogScale::Exp.into(),
        ..AutoregressiveConfig::new(dim, vec![6])
    };
    let layer = config.init::<Plain>(double(), &mut rng(0)).unwrap();
    let mut parameters = taken(&layer);
    let last = parameters.len() - 1;
    parameters[..last].iter_mut().for_each(|p| p.fill(0.0));
    // x = loc + scale z, as y = x exp(a) + t with a = -log scale, t = -loc / scale.
    let (loc, scale) = ([0.5, -1.0, 2.0, 0.0], [0.1, 3.0, 1.0, 0.7]);
    for i in 0..dim {
        parameters[last][i] = -loc[i] / scale[i];
        parameters[last][dim + i] = -f64::ln(scale[i]);
    }
    let layer = layer.map(&mut Put(parameters));
    let base = DiagonalNormal::standard(dim, double());
    let flow = Flow::data_to_base(layer, base).unwrap();
    let gaussian = DiagonalNormal::<Plain>::new(&loc, &scale, double()).unwrap();
    let x = normal::<Plain>(20, dim, 2.0, 9);
    let (a, b) = (flow.log_prob(x.clone(), None), gaussian.log_prob(x, None));
    assert_close(&values(a), &values(b), 1e-12);
}

#[test]
fn a_linear_conditioner_makes_any_gaussian() {
    let dim = 3;
    let config = AutoregressiveConfig {
        transform: LogScale::Exp.into(),
        ..AutoregressiveConfig::new(dim, vec![])
    };
    let layer = config.init::<Plain>(double(), &mut rng(0)).unwrap();
    let covariance: [f64; 9] = [2.0, 0.5, -0.3, 0.5, 1.0, 0.4, -0.3, 0.4, 0.8];
    let covariance = DMatrix::from_row_slice(3, 3, &covariance);
    // z = L^-1 x with covariance L L^T: lower triangular, as the mask.
    let whiten = covariance.clone().cholesky().unwrap().l();
    let whiten = whiten.try_inverse().unwrap();
    let mut parameters = vec![vec![0.0; dim * 2 * dim], vec![0.0; 2 * dim]];
    for i in 0..dim {
        parameters[1][dim + i] = f64::ln(whiten[(i, i)]);
        for j in 0..i {
            parameters[0][j * 2 * dim + i] = whiten[(i, j)];
        }
    }
    let layer = layer.map(&mut Put(parameters));
    let flow = Flow::data_to_base(layer, DiagonalNormal::standard(dim, double())).unwrap();
    let x = normal::<Plain>(10, dim, 1.0, 3);
    let precision = covariance.clone().try_inverse().unwrap();
    let data = values(x.clone());
    let expected = data.chunks(dim).map(|row| {
        let row = DVector::from_column_slice(row);
        let quadratic = (row.transpose() * &precision * &row)[(0, 0)];
        let volume = (2.0 * std::f64::consts::PI).powi(3) * covariance.determinant();
        -0.5 * (quadratic + volume.ln())
    });
    let expected: Vec<f64> = expected.collect();
    assert_close(&values(flow.log_prob(x, None)), &expected, 1e-12);
}

/// Asserts that a loss of both outputs and its gradients to parameters and input are finite.
fn assert_finite<M: Module<Grad>>(
    scale: LogScale,
    layer: &M,
    x: &Tensor<Grad, 2>,
    mapped: Mapped<Grad>,
) {
    let finite = |v: Vec<f64>| v.iter().all(|v| v.is_finite());
    assert!(finite(values(mapped.value.clone())), "{scale:?}");
    assert!(finite(values(mapped.log_det.clone())), "{scale:?}");
    let gradients = (mapped.value.square().mean() - mapped.log_det.mean()).backward();
    assert!(finite(values(x.grad(&gradients).unwrap())), "{scale:?}");
    assert!(along(layer, &gradients, 0).is_finite(), "{scale:?}");
}

#[test]
fn extremes_give_finite_values_and_gradients() {
    let huge = |rows: usize, columns: usize, seed: u64| {
        let mut rng = rng(seed);
        let draw = |_| [0.0, 10.0, -10.0, 1e3, -1e3][rng.next_u32() as usize % 5];
        let data: Vec<f64> = (0..rows * columns).map(draw).collect();
        let data = TensorData::new(data, [rows, columns]);
        Tensor::<Grad, 2>::from_data(data, double()).require_grad()
    };
    for scale in SCALES {
        // Weights of this size saturate every scale: raw outputs are in the thousands.
        for (dim, rows) in [(5, 30), (1, 3), (1, 1), (3, 1)] {
            let config = AutoregressiveConfig {
                transform: scale.into(),
                ..AutoregressiveConfig::new(dim, vec![8])
            };
            let layer = config.init::<Grad>(double(), &mut rng(1)).unwrap();
            let layer = shaken(layer, 1.0, 2);
            let x = huge(rows, dim, 3);
            let mapped = layer.forward_and_log_det(x.clone(), None);
            assert_finite(scale, &layer, &x, mapped);
        }
        let config = AutoregressiveConfig {
            transform: scale.into(),
            ..AutoregressiveConfig::coupling(4, vec![8], Untouched::Even)
        };
        let layer = config.init::<Grad>(double(), &mut rng(1)).unwrap();
        let layer = shaken(layer, 1.0, 2);
        let x = huge(20, 4, 5);
        let mapped = layer.forward_and_log_det(x.clone(), None);
        assert_finite(scale, &layer, &x, mapped);
        let mapped = layer.inverse_and_log_det(x.clone(), None);
        assert_finite(scale, &layer, &x, mapped);
    }
}

#[test]
fn permutations_are_exact() {
    for ordering in [Ordering::Reversed, Ordering::Random { seed: 1 }] {
        let config = PermutationConfig::new(6, ordering);
        let layer = config.init::<Grad>(double(), &mut rng(0)).unwrap();
        check_layer(&layer, 1);
        let plain = layer.valid();
        let x = normal::<Plain>(3, 6, 1.0, 1);
        let y = plain.forward(x.clone(), None);
        let (from, to) = (values(x.clone()), values(y.clone()));
        for (k, &i) in plain.order().iter().enumerate() {
            assert_eq!(to[k], from[i]);
        }
        assert_eq!(values(plain.inverse(y, None)), from);
    }
}

#[test]
fn lu_linear_has_the_right_log_det_inverse_and_gradients() {
    for (dim, ordering) in [
        (1, Ordering::Natural),
        (2, Ordering::Reversed),
        (7, Ordering::Random { seed: 3 }),
    ] {
        let config = LuLinearConfig {
            ordering,
            ..LuLinearConfig::new(dim)
        };
        let layer = config.init::<Grad>(double(), &mut rng(1)).unwrap();
        let layer = shaken(layer, 0.3, 2);
        check_layer(&layer, 1);
        check_gradients(layer.clone(), |l, x, c| l.forward_and_log_det(x, c), 1);
        check_gradients(layer, |l, y, c| l.inverse_and_log_det(y, c), 1);
    }
}

#[test]
fn one_variable_and_one_row_work() {
    for context_dim in [0, 2] {
        for connections in [Connections::Plain, Connections::Residual] {
            let config = AutoregressiveConfig {
                context_dim,
                connections,
                ..AutoregressiveConfig::new(1, vec![4, 4])
            };
            check_layer(&masked::<Grad>(&config, 1), 1);
        }
    }
}

#[test]
fn every_variable_depends_on_the_context() {
    for config in configs().iter().filter(|c| c.context_dim > 0) {
        for dim in [1, 6] {
            let mask = if dim == 1 {
                MaskConfig::default()
            } else {
                config.mask.clone()
            };
            let config = AutoregressiveConfig {
                dim,
                mask,
                ..config.clone()
            };
            let layer = masked::<Plain>(&config, 1);
            let x = normal::<Plain>(1, dim, 1.0, 1);
            let y = |seed| values(layer.forward(x.clone(), Some(normal(1, 3, 3.0, seed))));
            for (a, b) in y(1).iter().zip(y(2)) {
                assert_ne!(*a, b, "{config:?}");
            }
        }
    }
}

#[test]
fn configs_survive_toml_and_refuse_what_is_wrong() {
    for config in configs() {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(
            toml::from_str::<AutoregressiveConfig>(&text).unwrap(),
            config
        );
    }
    let text = "dim = 2\nhidden = [4]\ntransform = { affine = { scale = { soft_clip = { bound = 3.0 } } } }";
    let config: AutoregressiveConfig = toml::from_str(text).unwrap();
    let scale = LogScale::SoftClip { bound: 3.0 };
    assert_eq!(config.transform, scale.into());
    assert!(toml::from_str::<AutoregressiveConfig>("dim = 2\nhidden = []\nlayers = 3").is_err());

    let refuse = |config: AutoregressiveConfig| config.init::<Plain>(double(), &mut rng(0)).err();
    let cyclic = MaskConfig::Graph(vec![vec![1], vec![0]]);
    let error = refuse(AutoregressiveConfig {
        mask: cyclic,
        ..AutoregressiveConfig::new(2, vec![4])
    });
    assert!(matches!(error, Some(Error::Cycle { .. })));
    for scale in [
        LogScale::TanhBounded { bound: 0.0 },
        LogScale::SoftClip { bound: f64::NAN },
        LogScale::Softplus { floor: -1.0 },
        // Infinite or 0 in f32.
        LogScale::TanhBounded { bound: 200.0 },
        LogScale::SoftClip { bound: 41.0 },
        LogScale::Softplus { floor: 1e-50 },
        LogScale::Softplus { floor: 1e50 },
        LogScale::Sigmoid {
            offset: 1e300,
            floor: 1e-3,
        },
        LogScale::Sigmoid {
            offset: 2.0,
            floor: 1e-50,
        },
    ] {
        let config = AutoregressiveConfig {
            transform: scale.into(),
            ..AutoregressiveConfig::new(2, vec![4])
        };
        assert!(refuse(config).is_some(), "{scale:?}");
    }
    let untouched = Untouched::Variables(vec![0, 1]);
    let config = AutoregressiveConfig {
        ..AutoregressiveConfig::coupling(2, vec![4], untouched)
    };
    assert!(config.init::<Plain>(double(), &mut rng(0)).is_err());
    let config = AutoregressiveConfig::coupling(1, vec![4], Untouched::Even);
    assert!(config.init::<Plain>(double(), &mut rng(0)).is_err());
}
