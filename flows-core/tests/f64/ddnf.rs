//! The DDNF block against automatic differentiation, dense linear algebra, central differences
//! and the orders of convergence that the theory states. In f64.

use crate::double;

mod estimators;
mod regularizers;
mod time_dependent;

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use nalgebra::{DMatrix, DVector};
use rand::{SeedableRng, rngs::StdRng};

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{Chain, DdnfBlock, DdnfBlockConfig, DdnfInverse};
use flows_core::continuous::{VelocityField, VelocityFieldConfig};
use flows_core::distributions::{DiagonalNormal, LogProb};
use flows_core::error::Error;
use flows_core::flow::Flow;
use flows_core::init::options_of;
use flows_core::init::{normal_tensor, uniform_tensor};
use flows_core::log_det::LogDet;
use flows_core::nn::Activation;
use flows_core::testing::residual;

type Plain = Flex;
type Grad = Autodiff<Flex>;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn normal(rows: usize, columns: usize, seed: u64) -> Tensor<Plain, 2> {
    normal_tensor([rows, columns], 1.0, double(), &mut rng(seed))
}

const ACTIVATIONS: [Activation; 4] = [
    Activation::Tanh,
    Activation::Softplus,
    Activation::Elu,
    Activation::Swish,
];

/// Every shape of field that takes a path of its own: the Jacobian of one hidden layer, its small
/// square for `h < dim`, sizes 1, 2 and eliminated; deep fields cut at either end or in between.
fn shapes() -> Vec<(usize, Vec<usize>)> {
    let wide = [1, 2, 4, 16].map(|h| vec![h]);
    let deep = [
        vec![2, 2],
        vec![8, 6],
        vec![6, 3, 5],
        vec![4, 5, 3],
        vec![3, 5, 4],
        vec![7, 1],
    ];
    let hidden = wide.into_iter().chain(deep);
    hidden
        .flat_map(|hidden| [1, 2, 3, 5].map(|dim| (dim, hidden.clone())))
        .collect()
}

/// A block with noise in every parameter, so that none is special and `B` is not small.
fn block<B: Backend<Device = FlexDevice>>(config: &DdnfBlockConfig, std: f64) -> DdnfBlock<B> {
    let block = config.init::<B>(double(), &mut rng(7)).unwrap();
    let rng = rng(8);
    block.map(&mut AddNoise { std, rng })
}

struct AddNoise {
    std: f64,
    rng: StdRng,
}

impl<B: Backend> ModuleMapper<B> for AddNoise {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (std, rng) = (self.std, &mut self.rng);
        param.map(|p| {
            let noise = normal_tensor(p.dims(), std, options_of(&p), rng);
            (p + noise).detach().require_grad()
        })
    }
}

/// `d value_i / d x_j` of each row, by reverse-mode differentiation.
fn autodiff_jacobians(
    x: &Tensor<Plain, 2>,
    f: impl Fn(Tensor<Grad, 2>) -> Tensor<Grad, 2>,
) -> Vec<DMatrix<f64>> {
    let [n, dim] = x.dims();
    let mut jacobians = vec![DMatrix::zeros(dim, dim); n];
    for i in 0..dim {
        let x = Tensor::<Grad, 2>::from_inner(x.clone()).require_grad();
        let gradients = f(x.clone()).narrow(1, i, 1).sum().backward();
        let rows = numbers(x.grad(&gradients).unwrap());
        for (jacobian, row) in jacobians.iter_mut().zip(rows.chunks(dim)) {
            jacobian.row_mut(i).copy_from_slice(row);
        }
    }
    jacobians
}

fn numbers<B: Backend, const D: usize>(t: Tensor<B, D>) -> Vec<f64> {
    t.into_data().iter::<f64>().collect()
}

fn log_abs_dets(matrices: &[DMatrix<f64>]) -> Vec<f64> {
    let log_abs = |m: &DMatrix<f64>| m.clone().lu().determinant().abs().ln();
    matrices.iter().map(log_abs).collect()
}

fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs() / e.abs().max(1.0);
        assert!(error <= tolerance, "{what}: entry {i} is {a}, expected {e}");
    }
}

/// The context of `rows` rows for a block that takes `columns`.
fn context_of(rows: usize, columns: usize) -> Option<Tensor<Plain, 2>> {
    (columns > 0).then(|| normal(rows, columns, 2))
}

fn assert_log_det(config: &DdnfBlockConfig, std: f64) {
    let x: Tensor<Plain, 2> = uniform_tensor([6, config.dim], -5.0, 5.0, double(), &mut rng(1));
    let block = block::<Grad>(config, std);
    let context = || context_of(6, config.context_dim).map(Tensor::from_inner);
    let jacobians = autodiff_jacobians(&x, |x| block.forward(x, context()));
    let forward = block.forward_and_log_det(Tensor::from_inner(x.clone()), context());
    let what = format!("{config:?}");
    assert_close(
        &numbers(forward.log_det),
        &log_abs_dets(&jacobians),
        1e-9,
        &what,
    );

    let jacobians = autodiff_jacobians(&x, |x| block.inverse(x, context()));
    let inverse = block.inverse_and_log_det(Tensor::from_inner(x), context());
    let what = format!("inverse of {what}");
    assert_close(
        &numbers(inverse.log_det),
        &log_abs_dets(&jacobians),
        1e-9,
        &what,
    );
}

#[test]
fn log_det_is_that_of_the_autodiff_jacobian_for_every_shape() {
    for (dim, hidden) in shapes() {
        for inverse in [
            DdnfInverse::default(),
            DdnfInverse::ApproximateExponentialMap,
        ] {
            let config = DdnfBlockConfig {
                cells: 5,
                inverse,
                ..DdnfBlockConfig::new(dim, hidden.clone())
            };
            assert_log_det(&config, 0.2);
        }
    }
}

#[test]
fn log_det_is_that_of_the_autodiff_jacobian_for_every_activation_and_with_context() {
    for activation in ACTIVATIONS {
        for context_dim in [0, 3] {
            for hidden in [vec![2], vec![9], vec![4, 6]] {
                let config = DdnfBlockConfig {
                    activation,
                    context_dim,
                    cells: 6,
                    ..DdnfBlockConfig::new(3, hidden)
                };
                assert_log_det(&config, 0.1);
            }
        }
    }
}

#[test]
fn collecting_cells_in_several_groups_changes_nothing() {
    let config = DdnfBlockConfig {
        cells: 7,
        ..DdnfBlockConfig::new(2, [64])
    };
    let block = block::<Plain>(&config, 0.2);
    // So many rows that the cells do not fit into one group.
    let x = normal(3000, 2, 1);
    let all = numbers(block.forward_and_log_det(x.clone(), None).log_det);
    let few = block.forward_and_log_det(x.narrow(0, 1000, 4), None);
    assert_close(&all[1000..1004], &numbers(few.log_det), 1e-13, "groups");
}

#[test]
fn jacobian_products_agree_with_autodiff() {
    for (dim, hidden) in shapes() {
        let kinds = ACTIVATIONS.map(|activation| (activation, 0));
        for (activation, context_rank) in kinds.into_iter().chain([(Activation::Tanh, 2)]) {
            let config = VelocityFieldConfig {
                activation,
                context_dim: 2,
                context_rank,
                ..VelocityFieldConfig::new(dim, hidden.clone())
            };
            let what = format!("{config:?}");
            let field: VelocityField<Grad> = config.init(double(), &mut rng(3)).unwrap();
            let rng = rng(4);
            let field = field.map(&mut AddNoise { std: 0.3, rng });
            let plain = field.valid();
            let (x, t, c) = (normal(4, dim, 5) * 2.0, normal(4, dim, 6), normal(4, 2, 7));
            let context = Some(Tensor::from_inner(c.clone()));
            let expected = autodiff_jacobians(&x, |x| field.velocity(x, context.clone()));

            let (value, jacobian) = plain.jacobian(x.clone(), Some(c.clone()));
            let velocity = plain.velocity(x.clone(), Some(c.clone()));
            assert_close(&numbers(value), &numbers(velocity), 1e-15, &what);
            // nalgebra stores columns, Burn rows.
            let rows = expected.iter().map(DMatrix::transpose);
            let flat: Vec<f64> = rows.flat_map(|m| m.as_slice().to_vec()).collect();
            assert_close(&numbers(jacobian), &flat, 1e-12, &what);

            let directions = numbers(t.clone());
            let products = |transposed: bool| -> Vec<f64> {
                let rows = expected.iter().zip(directions.chunks(dim));
                rows.flat_map(|(m, t)| {
                    let m = if transposed { m.transpose() } else { m.clone() };
                    (m * DVector::from_row_slice(t)).as_slice().to_vec()
                })
                .collect()
            };
            let jvp = plain.jvp(x.clone(), t.clone(), Some(c.clone())).1;
            assert_close(&numbers(jvp), &products(false), 1e-12, &what);
            let vjp = plain.vjp(x, t, Some(c)).1;
            assert_close(&numbers(vjp), &products(true), 1e-12, &what);
        }
    }
}

/// Least-squares slope of `ln (mean |error|)` against `ln T`.
fn slope_in_cells(error: impl Fn(usize) -> Vec<f64>) -> f64 {
    let mean = |errors: &[f64]| errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len() as f64;
    let points = [16, 32, 64, 128].map(|t| ((t as f64).ln(), mean(&error(t)).ln()));
    let centre = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / 4.0;
    let (mx, my) = (centre(|p| p.0), centre(|p| p.1));
    let covariance: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    covariance / points.iter().map(|(x, _)| (x - mx).powi(2)).sum::<f64>()
}

#[test]
fn taylor_errors_fall_with_their_order_against_the_exact_euler_determinant() {
    for hidden in [vec![16], vec![2], vec![6, 5]] {
        let block = block::<Plain>(&DdnfBlockConfig::new(4, hidden.clone()), 0.3);
        let x = normal(64, 4, 1);
        for order in [1, 2, 3] {
            let slope = slope_in_cells(|cells| {
                let exact = block.clone().with_cells(cells);
                let series = exact.clone().with_log_det(LogDet::Taylor { order });
                let series = series.unwrap().forward_and_log_det(x.clone(), None);
                numbers(series.log_det - exact.forward_and_log_det(x.clone(), None).log_det)
            });
            let error = (slope + order as f64).abs();
            assert!(error <= 0.15, "{hidden:?}: order {order} has slope {slope}");
        }
    }
}

#[test]
fn taylor_paths_agree_with_traces_of_powers() {
    // The quadratic form, the small square, the Jacobian, and a deep field.
    let shapes = [(3, vec![8]), (5, vec![2]), (2, vec![30]), (3, vec![4, 6])];
    let kinds = shapes
        .into_iter()
        .flat_map(|shape| [(shape.clone(), 0), (shape, 1)]);
    for ((dim, hidden), context_rank) in kinds {
        let config = DdnfBlockConfig {
            cells: 1,
            context_dim: 2 * context_rank,
            context_rank,
            ..DdnfBlockConfig::new(dim, hidden)
        };
        let block = block::<Plain>(&config, 0.2);
        let x = normal(5, dim, 1);
        let context = (context_rank > 0).then(|| normal(5, 2, 2));
        let jacobians = numbers(block.field().jacobian(x.clone(), context.clone()).1);
        for order in 1..=6 {
            let series_of = |b: &[f64]| -> f64 {
                let b = DMatrix::from_row_slice(dim, dim, b);
                let term = |k: u32| -(-1.0_f64).powi(k as i32) * b.pow(k).trace() / k as f64;
                (1..=order as u32).map(term).sum()
            };
            let expected: Vec<f64> = jacobians.chunks(dim * dim).map(series_of).collect();
            let series = block.clone().with_log_det(LogDet::Taylor { order });
            let series = series.unwrap();
            let actual = series.forward_and_log_det(x.clone(), context.clone());
            let what = format!("{config:?} order {order}");
            assert_close(&numbers(actual.log_det), &expected, 1e-11, &what);
        }
    }
}

#[test]
fn an_update_of_low_rank_is_a_field_of_its_own_for_every_row() {
    let shapes = [(2, vec![6]), (3, vec![2]), (6, vec![4]), (3, vec![5, 4])];
    let series = |order| LogDet::Taylor { order };
    let log_dets = [LogDet::Exact, series(1), series(2)];
    let pairs = shapes
        .iter()
        .flat_map(|shape| log_dets.iter().map(move |log_det| (shape, log_det)));
    for ((dim, hidden), log_det) in pairs {
        let dim = *dim;
        let config = DdnfBlockConfig {
            cells: 3,
            context_dim: 2,
            context_rank: 2,
            log_det: log_det.clone(),
            ..DdnfBlockConfig::new(dim, hidden.clone())
        };
        let updated = block::<Plain>(&config, 0.2);
        let shared = DdnfBlockConfig {
            context_dim: 0,
            context_rank: 0,
            ..config.clone()
        };
        let shared: DdnfBlock<Plain> = shared.init(double(), &mut rng(1)).unwrap();
        let (x, context) = (normal(4, dim, 1), normal(4, 2, 2));
        let all = updated.forward_and_log_det(x.clone(), Some(context.clone()));
        let (values, log_dets) = (numbers(all.value), numbers(all.log_det));
        for row in 0..4 {
            // The parameters of that row's field, layer by layer: W + U(c) V(c), then the bias.
            let c = context.clone().narrow(0, row, 1);
            let first_bias = updated.field().context_weight.as_ref().unwrap().val();
            let mut parameters = Vec::new();
            for (l, layer) in updated.field().layers.iter().enumerate() {
                let [fan_in, fan_out] = layer.weight.dims();
                let update = layer.update.as_ref().unwrap();
                let u = c.clone().matmul(update.into.val()).reshape([fan_in, 2]);
                let v = c.clone().matmul(update.out_of.val()).reshape([2, fan_out]);
                parameters.extend(numbers(layer.weight.val() + u.matmul(v)));
                let bias = layer.bias.val().unsqueeze::<2>();
                let shift = c.clone().matmul(first_bias.clone());
                parameters.extend(numbers(if l == 0 { bias + shift } else { bias }));
            }
            let own = shared.clone().map(&mut SetAll(parameters));
            let one = own.forward_and_log_det(x.clone().narrow(0, row, 1), None);
            let what = format!("{config:?}, row {row}");
            let expected = &values[row * dim..(row + 1) * dim];
            assert_close(&numbers(one.value), expected, 1e-13, &what);
            assert_close(&numbers(one.log_det), &log_dets[row..=row], 1e-13, &what);
        }
    }
}

#[test]
fn the_exponential_map_inverse_has_an_error_of_order_one() {
    let config = DdnfBlockConfig {
        inverse: DdnfInverse::ApproximateExponentialMap,
        ..DdnfBlockConfig::new(4, [16])
    };
    let block = block::<Plain>(&config, 0.3);
    let x = normal(64, 4, 1);
    let slope = slope_in_cells(|cells| {
        let block = block.clone().with_cells(cells);
        numbers(block.inverse(block.forward(x.clone(), None), None) - x.clone())
    });
    assert!((slope + 1.0).abs() <= 0.15, "slope {slope}");
}

#[test]
fn the_exact_inverse_is_exact() {
    let mut stiff = 0;
    for (dim, hidden) in shapes() {
        for cells in [16, 2] {
            let config = DdnfBlockConfig {
                cells,
                ..DdnfBlockConfig::new(dim, hidden.clone())
            };
            let block = block::<Plain>(&config, 0.3);
            let x = normal(50, dim, 1) * 1.5;
            let (stability, y) = block.stability(x.clone(), None);
            stiff += usize::from(stability.max_rho > 0.5);
            if !stability.is_stable() {
                continue;
            }
            let (back, report) = block.inverse_with_report(y, None);
            assert!(report.residual <= 1e-12, "{config:?}: {report:?}");
            let error = residual(back.value, x.clone());
            assert!(error <= 1e-11, "{config:?}: round trip {error}");
            let expected = numbers(-block.forward_and_log_det(x, None).log_det);
            assert_close(&numbers(back.log_det), &expected, 1e-11, "log-det");
        }
    }
    assert!(stiff > 10, "only {stiff} fields were hard to invert");
}

#[test]
fn newton_solves_a_step_that_is_no_contraction() {
    // v(x) = 3 tanh(x), one cell: x + v(x) has slope up to 4, so fixed-point iteration diverges.
    let config = DdnfBlockConfig {
        cells: 1,
        ..DdnfBlockConfig::new(1, [1])
    };
    let mut block: DdnfBlock<Plain> = config.init(double(), &mut rng(1)).unwrap();
    block = block.map(&mut SetAll(vec![1.0, 0.0, 3.0, 0.0]));
    let x = Tensor::from_data([[-3.0], [-0.5], [0.0], [1e-3], [0.7], [10.0]], double());
    let y = block.forward(x.clone(), None);
    let (back, report) = block.inverse_with_report(y, None);
    assert!(report.residual <= 1e-12 && report.passes < 20, "{report:?}");
    assert!(residual(back.value, x) <= 1e-12);
}

/// A block whose cell folds the plane over itself, so that many points have no inverse in reach.
fn folding<B: Backend<Device = burn_flex::FlexDevice>>(scale: f64) -> DdnfBlock<B> {
    struct Scale(usize, f64);
    impl<B: Backend> ModuleMapper<B> for Scale {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            self.0 += 1;
            // Weights and biases of the hidden layer come first.
            if self.0 < 3 {
                param
            } else {
                param.map(|p| (p * self.1).detach().require_grad())
            }
        }
    }
    let config = DdnfBlockConfig {
        cells: 1,
        ..DdnfBlockConfig::new(2, [16])
    };
    let block: DdnfBlock<B> = config.init(double(), &mut rng(0)).unwrap();
    block.map(&mut Scale(0, scale))
}

#[test]
fn a_row_without_a_solution_is_nan_and_counted_and_no_other_is_touched() {
    for scale in [10.0, 100.0] {
        let block = folding::<Plain>(scale);
        let y = normal(2048, 2, 1);
        let (back, report) = block.inverse_with_report(y.clone(), None);
        let again = block.forward(back.value.clone(), None);
        let (value, log_det) = (numbers(back.value), numbers(back.log_det));
        let again = numbers(again);
        let mut unsolved = 0;
        for (r, target) in numbers(y.clone()).chunks(2).enumerate() {
            let own = &value[2 * r..2 * r + 2];
            if log_det[r].is_nan() {
                assert!(
                    own.iter().all(|v| v.is_nan()),
                    "row {r} has a value and no log-det"
                );
                unsolved += 1;
                continue;
            }
            let size = own
                .iter()
                .chain(target)
                .fold(1.0, |m: f64, v| m.max(v.abs()));
            for j in 0..2 {
                let off = (again[2 * r + j] - target[j]).abs();
                assert!(off <= 1e-11 * size, "row {r} is off by {off}");
            }
        }
        assert!(unsolved > 0 && unsolved < 1024, "{unsolved} of 2048 rows");
        assert_eq!(report.unsolved, unsolved);
        assert!(report.residual <= 1e-8, "{report:?}");
        let plain = numbers(block.inverse(y, None));
        assert!(
            plain
                .iter()
                .zip(&value)
                .all(|(a, b)| a == b || a.is_nan() && b.is_nan())
        );
    }
}

#[test]
fn rows_without_a_solution_leave_the_gradients_of_the_others_alone() {
    let _alone = flows_core::autodiff::exclusive();
    // Two such blocks, so that the second inverse meets rows that the first gave up.
    let chain = Chain::new(vec![folding::<Grad>(10.0), folding::<Grad>(10.0)]).unwrap();
    let y = Tensor::<Grad, 2>::from_inner(normal(64, 2, 1));
    let loss = |y: Tensor<Grad, 2>| {
        let back = chain.inverse_and_log_det(y, None);
        let rows = back.value.square().sum_dim(1).squeeze_dim::<1>(1) - back.log_det;
        let unsolved = rows.clone().is_nan();
        rows.mask_fill(unsolved, 0.0).sum()
    };
    let report = chain.inverse_with_report(y.clone(), None).1;
    assert!(report.unsolved > 0, "{report:?}");
    let all = flows_core::testing::gradients::<Grad, _>(&chain, &loss(y.clone()).backward());
    let (back, _) = chain.inverse_with_report(y.clone(), None);
    let solved: Vec<i64> = (0i64..)
        .zip(back.log_det.into_data().iter::<f64>())
        .filter(|(_, v)| !v.is_nan())
        .map(|(k, _)| k)
        .collect();
    let count = solved.len();
    let solved = Tensor::from_data(TensorData::new(solved, [count]), &Default::default());
    let some =
        flows_core::testing::gradients::<Grad, _>(&chain, &loss(y.select(0, solved)).backward());
    for ((path, a), (_, b)) in all.into_iter().zip(some) {
        let (a, b) = (a.expect("a gradient"), b.expect("a gradient"));
        assert!(a.iter().all(|v| v.is_finite()), "{path}: {a:?}");
        assert_close(&a, &b, 1e-8, &path);
    }
}

/// Sets the parameters, in order, from a list.
struct SetAll(Vec<f64>);

impl<B: Backend> ModuleMapper<B> for SetAll {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|p| {
            let count = p.shape().num_elements();
            let values: Vec<f64> = self.0.drain(..count).collect();
            let data = TensorData::new(values, p.shape());
            Tensor::<B, D>::from_data(data, options_of(&p)).require_grad()
        })
    }
}

/// All parameters, or with gradients all derivatives, in order.
struct Collect<'a, G>(Vec<f64>, Option<&'a G>);

impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_, B::Gradients> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.extend(match self.1 {
            None => numbers(param.val()),
            Some(gradients) => numbers(param.val().grad(gradients).expect("a gradient")),
        });
    }
}

/// Checks the gradient of `loss(module, x)` in every parameter and input by central differences.
fn assert_gradients<M: Module<Grad>>(
    module: M,
    x: &Tensor<Plain, 2>,
    loss: impl Fn(&M, Tensor<Grad, 2>) -> Tensor<Grad, 1>,
    what: &str,
) {
    let input = Tensor::<Grad, 2>::from_inner(x.clone()).require_grad();
    let gradients = loss(&module, input.clone()).backward();
    let mut values = Collect(vec![], None);
    module.visit(&mut values);
    let mut derivatives = Collect(vec![], Some(&gradients));
    module.visit(&mut derivatives);
    let step = 1e-5;
    let difference = |f: &dyn Fn(f64) -> f64| (f(step) - f(-step)) / (2.0 * step);

    let at = |parameters: Vec<f64>, x: Tensor<Plain, 2>| {
        let module = module.clone().map(&mut SetAll(parameters));
        numbers(loss(&module, Tensor::from_inner(x)))[0]
    };
    let in_parameter = |i: usize| {
        difference(&|step| {
            let mut shifted = values.0.clone();
            shifted[i] += step;
            at(shifted, x.clone())
        })
    };
    let expected: Vec<f64> = (0..values.0.len()).map(in_parameter).collect();
    assert_close(&derivatives.0, &expected, 1e-7, what);
    assert!(expected.iter().any(|g| g.abs() > 1e-2), "{what}: all zero");

    let flat = numbers(x.clone());
    let in_input = |i: usize| {
        difference(&|step| {
            let mut shifted = flat.clone();
            shifted[i] += step;
            let data = TensorData::new(shifted, x.shape());
            at(values.0.clone(), Tensor::from_data(data, double()))
        })
    };
    let expected: Vec<f64> = (0..flat.len()).map(in_input).collect();
    let what = format!("{what}, in x");
    assert_close(
        &numbers(input.grad(&gradients).unwrap()),
        &expected,
        1e-7,
        &what,
    );
}

/// Configurations with a gradient path of their own.
fn gradient_cases() -> Vec<DdnfBlockConfig> {
    let shapes = [
        (2, vec![6]),
        (3, vec![5]),
        (4, vec![2]),
        (5, vec![4]),
        (2, vec![2, 2]),
        (4, vec![5, 3]),
    ];
    let mut cases = Vec::new();
    for (dim, hidden) in shapes {
        for log_det in [
            LogDet::Exact,
            LogDet::Taylor { order: 1 },
            LogDet::Taylor { order: 2 },
            LogDet::Taylor { order: 3 },
        ] {
            cases.push(DdnfBlockConfig {
                cells: 3,
                log_det,
                context_dim: 2,
                ..DdnfBlockConfig::new(dim, hidden.clone())
            });
        }
    }
    for activation in ACTIVATIONS {
        cases.push(DdnfBlockConfig {
            cells: 3,
            activation,
            context_dim: 2,
            ..DdnfBlockConfig::new(3, [5])
        });
    }
    cases
}

#[test]
fn gradients_of_the_likelihood_agree_with_central_differences() {
    for config in gradient_cases() {
        let blocks = vec![block::<Grad>(&config, 0.2), block::<Grad>(&config, 0.1)];
        let base = DiagonalNormal::standard(config.dim, double());
        let flow = Flow::data_to_base(Chain::new(blocks).unwrap(), base).unwrap();
        let context = context_of(4, 2).map(Tensor::from_inner);
        assert_gradients(
            flow,
            &normal(4, config.dim, 1),
            |flow, x| -flow.log_prob(x, context.clone()).mean(),
            &format!("{config:?}"),
        );
    }
}

#[test]
fn gradients_through_both_inverses_agree_with_central_differences() {
    for inverse in [
        DdnfInverse::default(),
        DdnfInverse::ApproximateExponentialMap,
    ] {
        // The series differ from the exact determinant only after the solve; one of them is enough.
        let cases = gradient_cases()
            .into_iter()
            .filter(|case| [LogDet::Exact, LogDet::Taylor { order: 2 }].contains(&case.log_det));
        for config in cases {
            let config = DdnfBlockConfig {
                inverse,
                cells: 2,
                ..config
            };
            let block = block::<Grad>(&config, 0.2);
            let base = DiagonalNormal::standard(config.dim, double());
            let flow = Flow::base_to_data(block, base).unwrap();
            let context = context_of(4, 2).map(Tensor::from_inner);
            assert_gradients(
                flow,
                &normal(4, config.dim, 1),
                |flow, x| -flow.log_prob(x, context.clone()).mean(),
                &format!("base to data {config:?}"),
            );
        }
    }
}

#[test]
fn flows_of_one_field_compose_and_have_an_identity() {
    let config = DdnfBlockConfig::new(3, [8]);
    let block = block::<Plain>(&config, 0.2);
    let x = normal(20, 3, 1);
    // exp(v) o exp(v) = exp(2 v): with T cells each, exactly the Euler map of 2 v with 2 T cells.
    let twice = Chain::new(vec![block.clone(), block.clone()]).unwrap();
    let mut doubled = block.clone().with_cells(2 * block.cells());
    doubled = doubled.map(&mut ScaleOutput {
        factor: 2.0,
        seen: 0,
    });
    let (a, b) = (
        twice.forward_and_log_det(x.clone(), None),
        doubled.forward_and_log_det(x.clone(), None),
    );
    assert_close(&numbers(a.value), &numbers(b.value), 1e-13, "exp(2 v)");
    assert_close(&numbers(a.log_det), &numbers(b.log_det), 1e-13, "log-det");

    // (f o g)^-1 = g^-1 o f^-1.
    let other = DdnfBlockConfig::new(3, [2, 2]);
    let other: DdnfBlock<Plain> = other.init(double(), &mut rng(5)).unwrap();
    let both = Chain::new(vec![block.clone(), other.clone()]).unwrap();
    let back = block.inverse(other.inverse(x.clone(), None), None);
    assert!(residual(both.inverse(x.clone(), None), back.clone()) == 0.0);
    assert!(residual(both.forward(back, None), x.clone()) <= 1e-12);

    // exp(0) = id.
    let zero = block.map(&mut ScaleOutput {
        factor: 0.0,
        seen: 0,
    });
    let identity = zero.forward_and_log_det(x.clone(), None);
    assert!(residual(identity.value, x) == 0.0);
    assert!(numbers(identity.log_det).iter().all(|l| *l == 0.0));
}

/// Scales the output layer of a field with one hidden layer.
struct ScaleOutput {
    factor: f64,
    seen: usize,
}

impl<B: Backend> ModuleMapper<B> for ScaleOutput {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.seen += 1;
        let factor = if self.seen > 2 { self.factor } else { 1.0 };
        param.map(|p| p * factor)
    }
}

#[test]
fn stability_sees_a_field_too_stiff_for_its_cells() {
    // v(x) = 3 tanh(-x): J(0) = -3, so one cell folds (det = -2), two do (rho 1.5), four do not.
    let config = DdnfBlockConfig::new(1, [1]);
    let block: DdnfBlock<Plain> = config.init(double(), &mut rng(1)).unwrap();
    let block = block.map(&mut SetAll(vec![-1.0, 0.0, 3.0, 0.0]));
    let x = Tensor::from_data([[0.0], [4.0]], double());
    for (cells, rho, bad) in [(1, 3.0, 1), (2, 1.5, 2), (4, 0.75, 0)] {
        let (report, value) = block.clone().with_cells(cells).stability(x.clone(), None);
        assert!((report.max_rho - rho).abs() < 1e-12, "{report:?}");
        assert_eq!(report.rho_at_least_one, bad, "{report:?}");
        assert_eq!(report.non_positive_determinants, bad, "{report:?}");
        assert_eq!(report.evaluations, 2 * cells);
        assert_eq!(report.is_stable(), bad == 0);
        let forward = block.clone().with_cells(cells).forward(x.clone(), None);
        assert!(residual(value, forward) == 0.0);
    }
}

#[test]
fn extremes_and_saturated_units_keep_values_and_gradients_finite() {
    for activation in ACTIVATIONS {
        for hidden in [vec![6], vec![4, 4]] {
            let config = DdnfBlockConfig {
                activation,
                ..DdnfBlockConfig::new(3, hidden)
            };
            let block: DdnfBlock<Grad> = config.init(double(), &mut rng(1)).unwrap();
            let rows = [[0.0; 3], [10.0; 3], [-10.0; 3], [1e3; 3], [-1e3; 3]];
            let x = Tensor::<Grad, 2>::from_data(rows, double()).require_grad();
            let mapped = block.forward_and_log_det(x.clone(), None);
            let loss = mapped.value.square().sum() - mapped.log_det.sum();
            let gradients = loss.backward();
            let mut derivatives = Collect(numbers(x.grad(&gradients).unwrap()), Some(&gradients));
            block.visit(&mut derivatives);
            derivatives.0.extend(numbers(loss));
            assert!(derivatives.0.iter().all(|g| g.is_finite()), "{config:?}");
        }
    }
}

#[test]
fn configurations_round_trip_and_are_checked() {
    let text = r#"
        dim = 4
        hidden = [2, 2]
        activation = "softplus"
        log_det = { taylor = { order = 2 } }
        inverse = { exact = { tolerance = 1e-9 } }
    "#;
    let config: DdnfBlockConfig = toml::from_str(text).unwrap();
    assert_eq!(config.log_det, LogDet::Taylor { order: 2 });
    let again = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<DdnfBlockConfig>(&again).unwrap(), config);
    for bad in ["cels = 3", "activation = \"relu\"", "log_det = \"exakt\""] {
        let text = format!("dim = 4\nhidden = [2]\n{bad}\n");
        assert!(toml::from_str::<DdnfBlockConfig>(&text).is_err(), "{bad}");
    }
    let good = DdnfBlockConfig::new(2, [4]);
    let rank_without_context = DdnfBlockConfig {
        context_rank: 1,
        ..DdnfBlockConfig::new(2, [4])
    };
    let error = rank_without_context.init::<Plain>(double(), &mut rng(1));
    let message = error.unwrap_err().to_string();
    assert!(
        message.contains("context_rank is 1, expected 0"),
        "{message}"
    );
    let zero_order = LogDet::Taylor { order: 0 };
    let zero_tolerance = DdnfInverse::Exact {
        tolerance: 0.0,
        max_iterations: 5,
    };
    for (config, field) in [
        (DdnfBlockConfig::new(0, [4]), "dim"),
        (DdnfBlockConfig::new(2, []), "hidden"),
        (DdnfBlockConfig::new(2, [4, 0]), "hidden"),
        (
            DdnfBlockConfig {
                cells: 0,
                ..good.clone()
            },
            "cells",
        ),
        (
            DdnfBlockConfig {
                log_det: zero_order,
                ..good.clone()
            },
            "log_det.order",
        ),
        (
            DdnfBlockConfig {
                inverse: zero_tolerance,
                ..good
            },
            "inverse.tolerance",
        ),
    ] {
        match config.init::<Plain>(double(), &mut rng(1)) {
            Err(Error::Config { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{config:?}: {other:?}"),
        }
    }
}
