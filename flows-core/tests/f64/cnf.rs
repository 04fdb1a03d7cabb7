//! Continuous flows against the matrix exponential, quadrature, central differences, and the orders of convergence that
//! the theory states. In f64.

use crate::double;

use burn::backend::{Autodiff, Flex};
use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use nalgebra::DMatrix;
use rand::{SeedableRng, rngs::StdRng};

use flows_core::bijector::{Bijector, Invert};
use flows_core::bijectors::{Cnf, CnfConfig, DdnfBlockConfig};
use flows_core::continuous::steppers::DORMAND_PRINCE;
use flows_core::continuous::{
    Beside, Equation, Integrated, Plan, Solver, TimeField, Towards, Trace, VelocityField,
};
use flows_core::error::Error;
use flows_core::init::normal_tensor;
use flows_core::log_det::ProbeNoise;
use flows_core::testing::{gradients, residual, rows};
use flows_core::visit::LayerVisit;

type Plain = Flex;
type Grad = Autodiff<Flex>;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn normal<B: Backend>(n: usize, columns: usize, seed: u64) -> Tensor<B, 2> {
    normal_tensor([n, columns], 1.0, double(), &mut rng(seed))
}

const fn dormand_prince(tolerance: f64) -> Solver {
    Solver::DormandPrince {
        tolerance,
        max_steps: 1000,
    }
}

/// A flow whose field has output weights of standard deviation 1, ten times those that training starts from.
fn moved<B: Backend>(config: &CnfConfig) -> Cnf<B> {
    let field = config
        .init::<B>(double(), &mut rng(1))
        .unwrap()
        .field()
        .clone();
    let field = scaled(field, 10.0);
    Cnf::new(field, config.trace, config.solver).unwrap()
}

/// The field times a number.
fn scaled<B: Backend>(mut field: VelocityField<B>, by: f64) -> VelocityField<B> {
    let last = field.layers.len() - 1;
    let output = &mut field.layers[last];
    output.weight = output
        .weight
        .clone()
        .map(|w| (w * by).detach().require_grad());
    field
}

/// The flow of four times the field, whose paths bend more.
fn faster<B: Backend>(cnf: Cnf<B>) -> Cnf<B> {
    let field = scaled(cnf.field().clone(), 4.0);
    Cnf::new(field, cnf.trace(), cnf.solver(&Default::default())).unwrap()
}

fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}: lengths");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs() / e.abs().max(1.0);
        assert!(error <= tolerance, "{what}: entry {i} is {a}, expected {e}");
    }
}

/// `v(z, t) = z A^T`, with products of its Jacobian `A` and nothing more.
struct Linear<B: Backend>(Tensor<B, 2>);

impl<B: Backend> TimeField<B> for Linear<B> {
    fn dim(&self) -> usize {
        self.0.dims()[0]
    }

    fn constant(&self) -> Self {
        Self(self.0.clone().detach().set_require_grad(false))
    }

    fn velocity(&self, z: Tensor<B, 2>, _t: Tensor<B, 2>) -> Tensor<B, 2> {
        z.matmul(self.0.clone().transpose())
    }

    fn jvps(
        &self,
        z: Tensor<B, 2>,
        t: Tensor<B, 2>,
        tangents: Tensor<B, 3>,
    ) -> (Tensor<B, 2>, Tensor<B, 3>) {
        let [m, n, dim] = tangents.dims();
        let products = tangents
            .reshape([m * n, dim])
            .matmul(self.0.clone().transpose());
        (self.velocity(z, t), products.reshape([m, n, dim]))
    }
}

#[test]
fn a_linear_field_is_the_matrix_exponential() {
    double();
    let (n, dim) = (4, 3);
    let a = normal::<Plain>(dim, dim, 3);
    let matrix = DMatrix::from_row_slice(dim, dim, &rows(&a));
    let (x, weight) = (normal::<Plain>(n, dim, 4), normal::<Plain>(n, dim, 5));
    let x_matrix = DMatrix::from_row_slice(n, dim, &rows(&x));
    let weights = DMatrix::from_row_slice(n, dim, &rows(&weight));
    for (solver, towards, sign) in [
        (dormand_prince(1e-12), Towards::End, 1.0),
        (dormand_prince(1e-12), Towards::Start, -1.0),
        (Solver::Rk4 { steps: 1000 }, Towards::End, 1.0),
    ] {
        let what = format!("{solver:?}, {towards:?}");
        let a = Tensor::<Grad, 2>::from_inner(a.clone()).require_grad();
        let x = Tensor::<Grad, 2>::from_inner(x.clone()).require_grad();
        let equation = Equation::new(Linear(a.clone()), towards, Beside::LogDet, None);
        let solved = equation.solve(solver, x.clone());
        solved.report.check().unwrap();
        let mapped = equation.mapped(solved.end);

        let exponential = (matrix.clone() * sign).exp();
        let expected = &x_matrix * exponential.transpose();
        let expected: Vec<f64> = expected.transpose().iter().copied().collect();
        assert_close(&rows(&mapped.value), &expected, 1e-10, &what);
        let log_det = [sign * matrix.trace(); 4];
        assert_close(&rows(&mapped.log_det), &log_det, 1e-11, &what);

        // d/dA of sum(weight * x exp(A)^T) + sum(log det): Frechet derivatives from exp([[A, E], [0, A]]).
        let scalar =
            (mapped.value * Tensor::from_inner(weight.clone())).sum() + mapped.log_det.sum();
        let gradients = scalar.backward();
        let mut of_a = Vec::new();
        for i in 0..dim {
            for j in 0..dim {
                let mut double = DMatrix::zeros(2 * dim, 2 * dim);
                double
                    .view_mut((0, 0), (dim, dim))
                    .copy_from(&(matrix.clone() * sign));
                double
                    .view_mut((dim, dim), (dim, dim))
                    .copy_from(&(matrix.clone() * sign));
                double[(i, dim + j)] = sign;
                let derivative = double.exp().view((0, dim), (dim, dim)).into_owned();
                let of_value = (&x_matrix * derivative.transpose())
                    .component_mul(&weights)
                    .sum();
                of_a.push(of_value + if i == j { sign * n as f64 } else { 0.0 });
            }
        }
        assert_close(&rows(&a.grad(&gradients).unwrap()), &of_a, 1e-9, &what);
        let of_x = &weights * &exponential;
        let of_x: Vec<f64> = of_x.transpose().iter().copied().collect();
        assert_close(&rows(&x.grad(&gradients).unwrap()), &of_x, 1e-9, &what);
    }
}

/// Largest difference of value and log-determinant.
fn error<B: Backend>(cnf: &Cnf<B>, reference: &Cnf<B>, x: &Tensor<B, 2>) -> f64 {
    let at = |cnf: &Cnf<B>| {
        let mapped = cnf.forward_and_log_det(x.clone(), None);
        Tensor::cat(vec![mapped.value, mapped.log_det.unsqueeze_dim(1)], 1)
    };
    residual(at(cnf), at(reference))
}

#[test]
fn the_error_of_each_method_falls_with_its_order() {
    double();
    let cnf = moved::<Plain>(&CnfConfig::new(2, [8]));
    let x = normal(5, 2, 2);
    let reference = cnf.clone().with_solver(dormand_prince(1e-13)).unwrap();
    let of = |solver| error(&cnf.clone().with_solver(solver).unwrap(), &reference, &x);
    type Method = fn(usize) -> Solver;
    let methods: [(f64, usize, Method); 3] = [
        (1.0, 256, |steps| Solver::Euler { steps }),
        (2.0, 64, |steps| Solver::Midpoint { steps }),
        (4.0, 32, |steps| Solver::Rk4 { steps }),
    ];
    for (order, steps, method) in methods {
        let (coarse, fine) = (of(method(steps)), of(method(2 * steps)));
        let found = (coarse / fine).log2();
        assert!((found - order).abs() < 0.2, "{order}: {coarse}, {fine}");
        assert!(fine > 1e-12, "{order}: {fine} is rounding");
    }
    // A tolerance ten thousand times smaller gives an error about as much smaller.
    let errors = [1e-3, 1e-7, 1e-11].map(|tolerance| of(dormand_prince(tolerance)));
    for (error, tolerance) in errors.iter().zip([1e-3, 1e-7, 1e-11]) {
        assert!(*error < 30.0 * tolerance, "{error} at {tolerance}");
    }
    for pair in errors.windows(2) {
        let ratio = pair[0] / pair[1];
        assert!((1e3..1e5).contains(&ratio), "{errors:?}");
    }
}

#[test]
fn the_fifth_order_of_dormand_prince() {
    double();
    let a = normal::<Plain>(3, 3, 3);
    let exponential = DMatrix::from_row_slice(3, 3, &rows(&a)).exp();
    let x = normal::<Plain>(4, 3, 4);
    let expected = DMatrix::from_row_slice(4, 3, &rows(&x)) * exponential.transpose();
    let expected: Vec<f64> = expected.transpose().iter().copied().collect();
    let equation = Equation::new(Linear(a), Towards::End, Beside::Nothing, None);
    let error = |steps: usize| {
        let column = |t: f64| Tensor::<Plain, 2>::full([1, 1], t, double());
        let h = 1.0 / steps as f64;
        let end = (0..steps).fold(x.clone(), |z, k| {
            let at = [column(h * k as f64), column(h)];
            let rates = |z, t| equation.rates(z, t);
            DORMAND_PRINCE.step(&rates, z, at, None).end
        });
        let off = rows(&end).into_iter().zip(&expected);
        off.fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()))
    };
    let (coarse, fine) = (error(16), error(32));
    let order = (coarse / fine).log2();
    assert!((order - 5.0).abs() < 0.2, "{order}: {coarse}, {fine}");
    assert!(fine > 1e-12, "{fine} is rounding");
}

/// `dz/dt = exp(-((t - c) / w)^2)`, a bump at a time `c` that differs from row to row: `z(1) = z(0) + w sqrt(pi)`.
#[test]
fn a_step_that_fails_is_tried_again_shorter() {
    double();
    let (width, rows_of) = (0.05, 3);
    let centre = Tensor::<Plain, 2>::from_data([[0.3], [0.5], [0.7]], double());
    let bump = |_z: Tensor<Plain, 2>, t: Tensor<Plain, 2>| {
        ((t - centre.clone()) * (1.0 / width)).square().neg().exp()
    };
    let z = Tensor::zeros([rows_of, 1], double());
    let solved = dormand_prince(1e-8).solve(&bump, &bump, z, [0.0, 1.0]);
    let area = width * std::f64::consts::PI.sqrt();
    assert_close(&rows(&solved.end), &[area; 3], 1e-7, "the area");
    assert!(solved.report.rejected > 0, "{:?}", solved.report);
}

#[test]
fn a_row_takes_its_steps_whatever_is_beside_it() {
    double();
    let config = CnfConfig {
        solver: dormand_prince(1e-8),
        context_dim: 1,
        ..CnfConfig::new(3, [16, 5])
    };
    let cnf = moved::<Plain>(&config);
    let (x, context) = (normal::<Plain>(7, 3, 2) * 3.0, normal::<Plain>(7, 1, 3));
    let whole = cnf
        .integrate(Towards::End, x.clone(), Some(context.clone()))
        .unwrap();
    let steps = &whole.report.steps;
    let (least, most) = (steps.iter().min(), steps.iter().max());
    assert!(least < most, "all rows took the same: {steps:?}");
    for (r, steps) in steps.iter().enumerate() {
        let row = |t: &Tensor<Plain, 2>| t.clone().narrow(0, r, 1);
        let alone = cnf
            .integrate(Towards::End, row(&x), Some(row(&context)))
            .unwrap();
        assert_eq!(alone.report.steps, [*steps]);
        let of = |path: &Integrated<Plain>, r: usize| {
            let columns = [&path.mapped.log_det, &path.kinetic, &path.frobenius];
            let mut all = rows(&path.mapped.value.clone().narrow(0, r, 1));
            all.extend(columns.map(|c| rows(c)[r]));
            all
        };
        assert_close(&of(&alone, 0), &of(&whole, r), 1e-12, "a row alone");
    }
}

#[test]
fn time_runs_back() {
    double();
    for config in [
        CnfConfig::new(2, [8]),
        CnfConfig {
            trace: Trace::Hutchinson {
                probes: 2,
                noise: ProbeNoise::Gaussian,
            },
            ..CnfConfig::new(3, [6, 5])
        },
    ] {
        let solver = dormand_prince(1e-11);
        let cnf = moved::<Plain>(&config).with_solver(solver).unwrap();
        let x = normal::<Plain>(5, config.dim, 2);
        let forward = cnf.forward_and_log_det(x.clone(), None);
        assert!(residual(forward.value.clone(), x.clone()) > 0.1);
        let back = cnf.inverse_and_log_det(forward.value, None);
        assert!(residual(back.value, x) < 1e-9);
        let log_det = rows(&-forward.log_det);
        assert_close(&rows(&back.log_det), &log_det, 1e-9, "log-determinant");
    }
}

/// The columns at the end of the steps of `plan`, summed with weights 1, 1/2, 1/3 and so on.
fn objective(cnf: &Cnf<Plain>, x: Tensor<Plain, 2>, plan: &Plan<Plain>) -> f64 {
    let equation = cnf.equation(Towards::End, Beside::Energies, &x, None);
    let state = (0..plan.len()).fold(equation.start(x), |z, k| {
        plan.step(k, &|z, t| equation.rates(z, t), z)
    });
    let weights = (1..=state.dims()[1]).map(|k| 1.0 / k as f64).cycle();
    rows(&state).iter().zip(weights).map(|(z, w)| z * w).sum()
}

#[test]
fn gradients_are_those_of_the_steps_held_fixed() {
    double();
    let hutchinson = Trace::Hutchinson {
        probes: 2,
        noise: ProbeNoise::Rademacher,
    };
    for (trace, hidden) in [(Trace::Exact, vec![6]), (hutchinson, vec![4, 5])] {
        let config = CnfConfig {
            trace,
            solver: dormand_prince(1e-3),
            ..CnfConfig::new(2, hidden)
        };
        let plain = faster(moved::<Plain>(&config));
        let x = normal::<Plain>(3, 2, 2) * 2.0;
        let cnf = faster(moved::<Grad>(&config));
        let tracked = Tensor::<Grad, 2>::from_inner(x.clone()).require_grad();

        // As the layer computes it.
        let path = cnf.integrate(Towards::End, tracked.clone(), None).unwrap();
        let steps = &path.report.steps;
        assert!(steps.iter().min() < steps.iter().max(), "{steps:?}");
        let value = path.mapped.value * Tensor::from_data([[1.0, 0.5]], double());
        let loss = value.sum()
            + path.mapped.log_det.sum() * (1.0 / 3.0)
            + path.kinetic.sum() * 0.25
            + path.frobenius.sum() * 0.2;
        let equation = plain.equation(Towards::End, Beside::Energies, &x, None);
        let plan = equation.plan(config.solver, equation.start(x.clone()));
        let fixed = |cnf: &Cnf<Plain>, x| objective(cnf, x, &plan);
        assert_close(&rows(&loss), &[fixed(&plain, x.clone())], 1e-12, "the loss");
        let gradients = loss.backward();

        let h = 1e-5;
        let mut of_x = Vec::new();
        for k in 0..6 {
            let at = |by: f64| {
                let mut numbers = rows(&x);
                numbers[k] += by;
                fixed(
                    &plain,
                    Tensor::from_data(TensorData::new(numbers, [3, 2]), double()),
                )
            };
            of_x.push((at(h) - at(-h)) / (2.0 * h));
        }
        assert_close(
            &rows(&tracked.grad(&gradients).unwrap()),
            &of_x,
            1e-6,
            "in the rows",
        );

        let with_field = |field| Cnf::new(field, config.trace, config.solver).unwrap();
        for layer in 0..plain.field().layers.len() {
            let weight = plain.field().layers[layer].weight.val();
            let ours = cnf.field().layers[layer]
                .weight
                .val()
                .grad(&gradients)
                .unwrap();
            let of_weight: Vec<f64> = (0..rows(&weight).len())
                .map(|k| {
                    let at = |by: f64| {
                        let mut numbers = rows(&weight);
                        numbers[k] += by;
                        let moved = TensorData::new(numbers, weight.dims());
                        let mut field = plain.field().clone();
                        field.layers[layer].weight =
                            Param::from_tensor(Tensor::from_data(moved, double()));
                        fixed(&with_field(field), x.clone())
                    };
                    (at(h) - at(-h)) / (2.0 * h)
                })
                .collect();
            assert_close(&rows(&ours), &of_weight, 1e-6, "in a weight");
        }
        let time = plain.field().time_weight.as_ref().unwrap().val();
        let ours = cnf
            .field()
            .time_weight
            .as_ref()
            .unwrap()
            .val()
            .grad(&gradients)
            .unwrap();
        let of_time: Vec<f64> = (0..time.dims()[0])
            .map(|k| {
                let at = |by: f64| {
                    let mut numbers = rows(&time);
                    numbers[k] += by;
                    let mut field = plain.field().clone();
                    let moved = TensorData::new(numbers, time.dims());
                    field.time_weight =
                        Some(Param::from_tensor(Tensor::from_data(moved, double())));
                    fixed(&with_field(field), x.clone())
                };
                (at(h) - at(-h)) / (2.0 * h)
            })
            .collect();
        assert_close(&rows(&ours), &of_time, 1e-6, "in the weights of time");
    }
}

/// Burn 0.21 loses gradients of later calls where a search for steps is part of the graph.
#[test]
fn gradients_are_the_same_each_time() {
    double();
    let config = CnfConfig {
        solver: dormand_prince(1e-4),
        ..CnfConfig::new(2, [3])
    };
    let cnf = moved::<Grad>(&config);
    let taken = [(); 3].map(|()| {
        let mapped = cnf.forward_and_log_det(normal(6, 2, 2), None);
        let loss = mapped.value.square().sum() - mapped.log_det.sum();
        gradients::<Grad, _>(&cnf, &loss.backward())
    });
    assert!(taken[0].iter().all(|(_, gradient)| gradient.is_some()));
    assert_eq!(taken[0], taken[1]);
    assert_eq!(taken[0], taken[2]);
}

#[test]
fn the_energies_are_integrals_along_the_path() {
    double();
    let config = CnfConfig {
        time_dependent: false,
        solver: dormand_prince(1e-12),
        ..CnfConfig::new(3, [6])
    };
    let cnf = moved::<Plain>(&config);
    let x = normal::<Plain>(4, 3, 2);
    // Simpson's rule on points of the path that the solver finds for a field a fraction as fast.
    let parts = 64;
    let mut energies = [vec![0.0; 4], vec![0.0; 4]];
    for k in 0..=parts {
        let fraction = k as f64 / parts as f64;
        let slower = scaled(cnf.field().clone(), fraction);
        let slower = Cnf::new(slower, Trace::Exact, dormand_prince(1e-13)).unwrap();
        let (velocity, jacobian) = cnf.field().jacobian(slower.forward(x.clone(), None), None);
        let weight = match k {
            0 => 1.0,
            k if k == parts => 1.0,
            k if k % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let squares = [
            rows(&velocity.square().sum_dim(1)),
            rows(&jacobian.square().sum_dims_squeeze::<1, _>(&[1, 2])),
        ];
        for (energy, squares) in energies.iter_mut().zip(squares) {
            for (sum, square) in energy.iter_mut().zip(squares) {
                *sum += weight * square / (3.0 * parts as f64);
            }
        }
    }
    for towards in [Towards::End, Towards::Start] {
        let from = match towards {
            Towards::End => x.clone(),
            Towards::Start => cnf.forward(x.clone(), None),
        };
        let path = cnf.integrate(towards, from, None).unwrap();
        assert_close(&rows(&path.kinetic), &energies[0], 1e-8, "kinetic energy");
        assert_close(&rows(&path.frobenius), &energies[1], 1e-8, "Frobenius norm");
    }
}

#[test]
fn the_estimated_trace_and_norm_are_unbiased() {
    double();
    let config = CnfConfig {
        time_dependent: false,
        solver: Solver::Rk4 { steps: 16 },
        ..CnfConfig::new(3, [5, 4])
    };
    let exact = moved::<Plain>(&config);
    let x = normal::<Plain>(1, 3, 2);
    let path = exact.integrate(Towards::End, x.clone(), None).unwrap();
    let expected = [rows(&path.mapped.log_det)[0], rows(&path.frobenius)[0]];
    for noise in [ProbeNoise::Rademacher, ProbeNoise::Gaussian] {
        let trace = Trace::Hutchinson { probes: 4, noise };
        let mut cnf = Cnf::new(exact.field().clone(), trace, config.solver).unwrap();
        let draws = 4000;
        // Rows that are all the same have probes of their own.
        let many = x.clone().repeat_dim(0, draws);
        cnf.visit_layers(&mut LayerVisit::resample_noise(11));
        let path = cnf.integrate(Towards::End, many.clone(), None).unwrap();
        let of = [rows(&path.mapped.log_det), rows(&path.frobenius)];
        for (draws_of, expected) in of.iter().zip(expected) {
            let n = draws as f64;
            let mean = draws_of.iter().sum::<f64>() / n;
            let variance = draws_of.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n;
            let z = (mean - expected) / (variance / n).sqrt();
            assert!(
                variance > 1e-6 && z.abs() < 4.0,
                "{noise:?}: {mean}, expected {expected}"
            );
            let wrong = (mean - 1.3 * expected) / (variance / n).sqrt();
            assert!(
                wrong.abs() > 4.0,
                "{noise:?}: a value off by three tenths passes"
            );
        }
        // The same until other noise is drawn.
        let again = cnf.forward_and_log_det(many.clone(), None).log_det;
        assert_eq!(rows(&again), of[0]);
        cnf.visit_layers(&mut LayerVisit::resample_noise(12));
        assert_ne!(rows(&cnf.forward_and_log_det(many, None).log_det), of[0]);
    }
}

#[test]
fn euler_steps_of_a_stationary_field_meet_the_integral() {
    double();
    let blocks = |cells| {
        let config = DdnfBlockConfig {
            cells,
            ..DdnfBlockConfig::new(2, [6])
        };
        config.init::<Plain>(double(), &mut rng(1)).unwrap()
    };
    let x = normal::<Plain>(5, 2, 2);
    let field = blocks(1).field().clone();
    let cnf = Cnf::new(field, Trace::Exact, dormand_prince(1e-13)).unwrap();
    let exact = cnf.forward_and_log_det(x.clone(), None).log_det;
    let error = |cells| {
        let euler = blocks(cells).forward_and_log_det(x.clone(), None).log_det;
        residual(euler.unsqueeze_dim(1), exact.clone().unsqueeze_dim(1))
    };
    let errors = [64, 128, 256].map(error);
    for pair in errors.windows(2) {
        assert!((pair[0] / pair[1] - 2.0).abs() < 0.05, "{errors:?}");
    }
    assert!(errors[2] > 1e-9, "{errors:?}");
}

#[test]
fn evaluations_are_counted() {
    double();
    let x = normal::<Plain>(3, 2, 2);
    let report = |solver| {
        let cnf = moved::<Plain>(&CnfConfig::new(2, [8]))
            .with_solver(solver)
            .unwrap();
        cnf.integrate(Towards::End, x.clone(), None).unwrap().report
    };
    for (solver, evaluations) in [
        (Solver::Euler { steps: 8 }, 8),
        (Solver::Midpoint { steps: 8 }, 16),
        (Solver::Rk4 { steps: 8 }, 32),
    ] {
        let report = report(solver);
        assert_eq!(
            (report.evaluations, &report.steps[..]),
            (evaluations, &[8][..])
        );
    }
    let adaptive = report(dormand_prince(1e-6));
    let most = *adaptive.steps.iter().max().unwrap();
    // Two to choose the first steps; six for each attempt.
    assert_eq!((adaptive.evaluations - 2) % 6, 0);
    let attempts = (adaptive.evaluations - 2) / 6;
    assert!(
        most <= attempts && attempts <= most + adaptive.rejected,
        "{adaptive:?}"
    );
    assert!(report(dormand_prince(1e-9)).evaluations > adaptive.evaluations);
}

#[test]
fn a_row_that_does_not_arrive_is_named() {
    double();
    let solver = Solver::DormandPrince {
        tolerance: 1e-10,
        max_steps: 12,
    };
    // A row far from where the field turns needs few steps.
    let x = Tensor::<Plain, 2>::from_data([[900.0, 900.0], [0.1, -0.2], [f64::NAN, 0.0]], double());
    let cnf = moved::<Plain>(&CnfConfig::new(2, [8]))
        .with_solver(solver)
        .unwrap();
    let error = cnf.integrate(Towards::End, x.clone(), None).unwrap_err();
    assert!(
        matches!(error, Error::NotArrived { row: 1, time } if time > 0.0 && time < 1.0),
        "{error}"
    );
    let mapped = cnf.forward_and_log_det(x.clone(), None);
    let finite = |row: usize| {
        rows(&mapped.value)[2 * row].is_finite() && rows(&mapped.log_det)[row].is_finite()
    };
    assert_eq!([finite(0), finite(1), finite(2)], [true, false, false]);
    // What is lost has no part in gradients.
    let cnf = moved::<Grad>(&CnfConfig::new(2, [8]))
        .with_solver(solver)
        .unwrap();
    let mapped = cnf.forward_and_log_det(Tensor::from_inner(x), None);
    let gradients = mapped.log_det.narrow(0, 0, 1).sum().backward();
    let of_weight = cnf.field().layers[1].weight.val().grad(&gradients).unwrap();
    assert!(rows(&of_weight).iter().all(|g| g.is_finite()));
}

#[test]
fn the_solver_of_evaluation_is_that_without_gradients() {
    double();
    let config = CnfConfig {
        evaluation: Some(dormand_prince(1e-10)),
        ..CnfConfig::new(2, [8])
    };
    let plain = config.init::<Plain>(double(), &mut rng(1)).unwrap();
    let tracked = config.init::<Grad>(double(), &mut rng(1)).unwrap();
    assert_eq!(plain.solver(&Default::default()), dormand_prince(1e-10));
    assert_eq!(
        tracked.solver(&Default::default()),
        Solver::Rk4 { steps: 8 }
    );
}

#[test]
fn bad_configurations_are_refused() {
    double();
    let refused = |config: CnfConfig, expected: &str| {
        let error = config.init::<Plain>(double(), &mut rng(1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    let valid = CnfConfig::new(2, [8]);
    for solver in [
        Solver::Euler { steps: 0 },
        Solver::Midpoint { steps: 0 },
        Solver::Rk4 { steps: 0 },
    ] {
        refused(
            CnfConfig {
                solver,
                ..valid.clone()
            },
            "steps is 0",
        );
        let evaluation = Some(solver);
        refused(
            CnfConfig {
                evaluation,
                ..valid.clone()
            },
            "steps is 0",
        );
    }
    for tolerance in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let solver = dormand_prince(tolerance);
        refused(
            CnfConfig {
                solver,
                ..valid.clone()
            },
            "tolerance",
        );
    }
    let solver = Solver::DormandPrince {
        tolerance: 1e-3,
        max_steps: 0,
    };
    refused(
        CnfConfig {
            solver,
            ..valid.clone()
        },
        "max_steps is 0",
    );
    let trace = Trace::Hutchinson {
        probes: 0,
        noise: ProbeNoise::Gaussian,
    };
    refused(
        CnfConfig {
            trace,
            ..valid.clone()
        },
        "trace.probes",
    );
    refused(
        CnfConfig {
            hidden: vec![],
            ..valid
        },
        "hidden",
    );
}
