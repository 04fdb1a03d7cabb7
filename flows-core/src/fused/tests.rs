//! The block as an operation of Burn: against tensor operations.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use burn_autodiff::{Autodiff, checkpoint::strategy::BalancedCheckpointing};
use burn_flex::Flex;
use burn_ndarray::NdArray;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{DdnfCells, FusedLogDet, ddnf_block, has_ddnf_block};
use crate::autodiff::exclusive;
use crate::bijector::Mapped;
use crate::continuous::log_det::log_abs_det;

const SHAPES: [(usize, usize); 10] = [
    (2, 64),
    (64, 2),
    (64, 64),
    (3, 5),
    (1, 7),
    (2, 2),
    (5, 1),
    (1, 1),
    (6, 13),
    (9, 4),
];
const MODES: [FusedLogDet; 4] = [
    FusedLogDet::Exact,
    FusedLogDet::Taylor1,
    FusedLogDet::Taylor2,
    FusedLogDet::None,
];

/// Inputs of a block, `f64` on the host.
#[derive(Clone)]
struct Case {
    rows: usize,
    dim: usize,
    hidden: usize,
    cells: usize,
    log_det: FusedLogDet,
    /// x, w1, b1, w2, b2, context
    inputs: [Vec<f64>; 6],
}

impl Case {
    fn new(rows: usize, (dim, hidden): (usize, usize), cells: usize, log_det: FusedLogDet) -> Self {
        let seed = (rows * 1009 + dim * 101 + hidden * 11 + cells) as u64;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut draw = |len: usize, scale: f64| -> Vec<f64> {
            (0..len)
                .map(|_| scale * rng.random_range(-1.7..1.7))
                .collect()
        };
        let inputs = [
            draw(rows * dim, 1.0),
            draw(dim * hidden, (dim as f64).powf(-0.5)),
            draw(hidden, 0.2),
            draw(hidden * dim, 0.6 * (hidden as f64).powf(-0.5)),
            draw(dim, 0.2),
            draw(rows * hidden, 0.3),
        ];
        Self {
            rows,
            dim,
            hidden,
            cells,
            log_det,
            inputs,
        }
    }
}

fn cases(rows: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for mode in MODES {
            for cells in [1, 16] {
                for &rows in rows {
                    let case = Case::new(rows, shape, cells, mode);
                    if has_ddnf_block(case.dim, case.hidden, case.log_det) {
                        cases.push(case);
                    }
                }
            }
        }
    }
    assert!(cases.len() > 50 * rows.len());
    cases
}

/// The tensors of a case on a device.
struct Tensors<B: Backend> {
    x: Tensor<B, 2>,
    w1: Tensor<B, 2>,
    b1: Tensor<B, 1>,
    w2: Tensor<B, 2>,
    b2: Tensor<B, 1>,
    context: Tensor<B, 2>,
}

impl<B: Backend> Tensors<B> {
    fn new(case: &Case, dtype: DType) -> Self {
        let (n, d, h) = (case.rows, case.dim, case.hidden);
        let device = Default::default();
        let matrix = |k: usize, shape: [usize; 2]| {
            Tensor::<B, 2>::from_data(
                TensorData::new(case.inputs[k].clone(), shape),
                (&device, dtype),
            )
            .require_grad()
        };
        let vector = |k: usize| {
            let data = TensorData::new(case.inputs[k].clone(), [case.inputs[k].len()]);
            Tensor::<B, 1>::from_data(data, (&device, dtype)).require_grad()
        };
        Self {
            x: matrix(0, [n, d]),
            w1: matrix(1, [d, h]),
            b1: vector(2),
            w2: matrix(3, [h, d]),
            b2: vector(4),
            context: matrix(5, [n, h]),
        }
    }

    fn fused(&self, case: &Case, context: bool) -> Option<Mapped<B>> {
        let cells = DdnfCells {
            w1: self.w1.clone(),
            b1: self.b1.clone(),
            w2: self.w2.clone(),
            b2: self.b2.clone(),
            context: context.then(|| self.context.clone()),
            cells: case.cells,
            log_det: case.log_det,
        };
        ddnf_block(&self.x, cells)
    }

    /// The same in tensor operations, one after the other.
    fn generic(&self, case: &Case, context: bool) -> Mapped<B> {
        let (n, d, h) = (case.rows, case.dim, case.hidden);
        let step = 1.0 / case.cells as f64;
        let m = self.w2.clone().matmul(self.w1.clone()).mul_scalar(step);
        let squares = m.clone() * m.clone().transpose();
        let eye = Tensor::<B, 2>::eye(h, &self.x.device()).cast(m.dtype());
        let diagonal = (m.clone() * eye).sum_dim(0);
        let mut z = self.x.clone();
        let mut log_det = self.x.clone().sum_dim(1).zeros_like();
        for _ in 0..case.cells {
            let mut a = z.clone().matmul(self.w1.clone()) + self.b1.clone().unsqueeze();
            if context {
                a = a + self.context.clone();
            }
            let s = a.tanh();
            let slope = s.clone().powi_scalar(2).neg().add_scalar(1.0);
            let first = (slope.clone() * diagonal.clone()).sum_dim(1);
            let second = (slope.clone().matmul(squares.clone()) * slope.clone()).sum_dim(1);
            let term = match case.log_det {
                FusedLogDet::None => first.zeros_like(),
                FusedLogDet::Taylor1 => first,
                FusedLogDet::Taylor2 => first - second.mul_scalar(0.5),
                FusedLogDet::Exact if d.min(h) == 1 => first.add_scalar(1.0).abs().log(),
                FusedLogDet::Exact if d.min(h) == 2 => {
                    // det(I + A) = 1 + tr A + (tr^2 A - tr A^2) / 2 for rank two.
                    let minor = (first.clone().powi_scalar(2) - second).mul_scalar(0.5);
                    (first + minor).add_scalar(1.0).abs().log()
                }
                FusedLogDet::Exact if d > 3 => {
                    let eye = Tensor::<B, 2>::eye(h, &self.x.device()).cast(m.dtype());
                    let a = slope.clone().unsqueeze_dim::<3>(2) * m.clone().unsqueeze_dim(0);
                    let a = a + eye.unsqueeze_dim(0);
                    log_abs_det(a).unsqueeze_dim(1)
                }
                FusedLogDet::Exact => {
                    // Sarrus' rule on I + J.
                    let entry = |i: usize, l: usize| {
                        let p = self.w1.clone().slice([i..i + 1, 0..h])
                            * self.w2.clone().slice([0..h, l..l + 1]).transpose();
                        let j = (slope.clone() * p).sum_dim(1).mul_scalar(step);
                        j.add_scalar(if i == l { 1.0 } else { 0.0 })
                    };
                    assert_eq!(d, 3);
                    let mut sum = first.zeros_like();
                    for l in 0..3 {
                        let (b, c) = ((l + 1) % 3, (l + 2) % 3);
                        sum = sum + entry(0, l) * entry(1, b) * entry(2, c)
                            - entry(0, l) * entry(1, c) * entry(2, b);
                    }
                    sum.abs().log()
                }
            };
            log_det = log_det + term;
            let v = s.matmul(self.w2.clone()) + self.b2.clone().unsqueeze();
            z = z + v.mul_scalar(step);
        }
        assert_eq!(z.dims(), [n, d]);
        Mapped {
            value: z,
            log_det: log_det.squeeze_dim(1),
        }
    }
}

/// Value, log-determinant and the gradients of `mean(c0 |value|^2 + c1 log_det + sin value)`.
fn with_gradients<B: burn::tensor::backend::AutodiffBackend>(
    tensors: &Tensors<B>,
    mapped: Mapped<B>,
    context: bool,
) -> Vec<(&'static str, Vec<f64>)> {
    let numbers = |data: TensorData| data.iter::<f64>().collect::<Vec<f64>>();
    let loss = mapped.value.clone().powi_scalar(2).mean() - mapped.log_det.clone().mean()
        + mapped.value.clone().sin().mean()
        + mapped.log_det.clone().powi_scalar(2).mean();
    let grads = loss.backward();
    let matrix = |t: &Tensor<B, 2>| numbers(t.grad(&grads).unwrap().into_data());
    let vector = |t: &Tensor<B, 1>| numbers(t.grad(&grads).unwrap().into_data());
    let mut all = vec![
        ("value", numbers(mapped.value.into_data())),
        ("log_det", numbers(mapped.log_det.into_data())),
        ("x", matrix(&tensors.x)),
        ("w1", matrix(&tensors.w1)),
        ("b1", vector(&tensors.b1)),
        ("w2", matrix(&tensors.w2)),
        ("b2", vector(&tensors.b2)),
    ];
    if context {
        all.push(("context", matrix(&tensors.context)));
    }
    all
}

/// Fused and generic numbers in `dtype` against generic ones in double precision: within
/// `tolerance` of the largest, or, where rounding is worse than that (a determinant near zero), no
/// further away than the generic path. That path is the rounder one on `NdArray`, whose vectorized
/// reciprocal, the derivative of the logarithm, has 14 bits.
fn agrees_with_generic<B: burn::tensor::backend::AutodiffBackend>(
    case: &Case,
    dtype: DType,
    context: bool,
    tolerance: f64,
) {
    let _alone = exclusive();
    let fused = Tensors::<B>::new(case, dtype);
    let out = fused.fused(case, context).expect("a kernel");
    let got = with_gradients(&fused, out, context);
    let generic = Tensors::<B>::new(case, dtype);
    let out = generic.generic(case, context);
    let generic = with_gradients(&generic, out, context);
    let double = Tensors::<Autodiff<Flex>>::new(case, DType::F64);
    let out = double.generic(case, context);
    let exact = with_gradients(&double, out, context);
    for (((what, got), (_, generic)), (_, exact)) in got.iter().zip(&generic).zip(&exact) {
        let worst = |numbers: &[f64]| {
            assert_eq!(numbers.len(), exact.len());
            numbers.iter().zip(exact).fold(0.0f64, |worst, (a, b)| {
                assert!(a.is_finite() && b.is_finite());
                worst.max((a - b).abs())
            })
        };
        let scale = exact.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        let (error, allowed) = (worst(got), worst(generic).max(tolerance * scale));
        assert!(
            error <= allowed,
            "{what} d {} h {} T {} {:?} n {}: off by {error:e}, allowed {allowed:e} at scale {scale}",
            case.dim,
            case.hidden,
            case.cells,
            case.log_det,
            case.rows
        );
    }
}

/// Those of [`cases`] that the generic path runs in a moment.
fn generic_cases(rows: &[usize]) -> impl Iterator<Item = Case> {
    let slow = |case: &Case| {
        case.log_det == FusedLogDet::Exact && case.dim.min(case.hidden) > 16 && case.cells > 1
    };
    cases(rows).into_iter().filter(move |case| !slow(case))
}

#[test]
fn flex_agrees_with_tensor_operations() {
    for case in generic_cases(&[1, 31, 32, 33]) {
        agrees_with_generic::<Autodiff<Flex>>(&case, DType::F32, false, 4e-6);
    }
    for case in generic_cases(&[33]) {
        agrees_with_generic::<Autodiff<Flex>>(&case, DType::F32, true, 4e-6);
        agrees_with_generic::<Autodiff<Flex>>(&case, DType::F64, true, 1e-12);
        agrees_with_generic::<Autodiff<Flex, BalancedCheckpointing>>(
            &case,
            DType::F32,
            false,
            4e-6,
        );
    }
    for case in generic_cases(&[1000]).filter(|case| case.cells == 16) {
        agrees_with_generic::<Autodiff<Flex>>(&case, DType::F32, false, 4e-6);
    }
}

#[test]
fn ndarray_agrees_with_tensor_operations() {
    for case in generic_cases(&[33]) {
        agrees_with_generic::<Autodiff<NdArray<f32>>>(&case, DType::F32, true, 4e-6);
    }
}

#[test]
fn the_backend_without_autodiff_and_constants_give_the_same_bits() {
    let _alone = exclusive();
    for case in cases(&[70]) {
        let tracked = Tensors::<Autodiff<Flex>>::new(&case, DType::F32);
        let plain = Tensors::<Flex>::new(&case, DType::F32);
        let expected = tracked.fused(&case, false).unwrap();
        let got = plain.fused(&case, false).unwrap();
        assert_eq!(expected.value.into_data(), got.value.into_data());
        assert_eq!(expected.log_det.into_data(), got.log_det.into_data());

        // Only the parameters of the first layer ask for gradients.
        let mut partly = Tensors::<Autodiff<Flex>>::new(&case, DType::F32);
        for tensor in [&mut partly.x, &mut partly.w2] {
            *tensor = tensor.clone().detach();
        }
        partly.b2 = partly.b2.detach();
        let all = Tensors::<Autodiff<Flex>>::new(&case, DType::F32);
        let gradient = |tensors: &Tensors<Autodiff<Flex>>| {
            let out = tensors.fused(&case, false).unwrap();
            let grads = (out.value.powi_scalar(2).sum() + out.log_det.sum()).backward();
            assert!(tensors.x.grad(&grads).is_some() == tensors.x.is_require_grad());
            tensors.w1.grad(&grads).unwrap().into_data()
        };
        assert_eq!(gradient(&partly), gradient(&all));
    }
}

#[test]
fn nothing_asks_for_gradients() {
    let case = Case::new(5, (2, 8), 4, FusedLogDet::Exact);
    let mut tensors = Tensors::<Autodiff<Flex>>::new(&case, DType::F32);
    for tensor in [&mut tensors.x, &mut tensors.w1, &mut tensors.w2] {
        *tensor = tensor.clone().detach();
    }
    for tensor in [&mut tensors.b1, &mut tensors.b2] {
        *tensor = tensor.clone().detach();
    }
    let out = tensors.fused(&case, false).unwrap();
    assert!(!out.value.is_require_grad());
    let plain = Tensors::<Flex>::new(&case, DType::F32);
    assert_eq!(
        out.value.into_data(),
        plain.fused(&case, false).unwrap().value.into_data()
    );
}

#[test]
fn large_inputs_stay_finite() {
    for mut case in cases(&[33]) {
        for (i, x) in case.inputs[0].iter_mut().enumerate() {
            *x = [1e3, -1e3, 3.0][i % 3];
        }
        let tensors = Tensors::<Autodiff<Flex>>::new(&case, DType::F32);
        let out = tensors.fused(&case, true).unwrap();
        for (what, numbers) in with_gradients(&tensors, out, true) {
            assert!(numbers.iter().all(|v| v.is_finite()), "{what}: {numbers:?}");
        }
    }
}

#[test]
fn nan_is_not_hidden() {
    let mut case = Case::new(3, (2, 4), 4, FusedLogDet::Exact);
    case.inputs[0][2] = f64::NAN;
    let tensors = Tensors::<Flex>::new(&case, DType::F32);
    let out = tensors.fused(&case, false).unwrap();
    let log_det: Vec<f32> = out.log_det.into_data().to_vec().unwrap();
    assert!(log_det[1].is_nan() && log_det[0].is_finite() && log_det[2].is_finite());
}

#[test]
fn shapes_without_a_kernel_are_left_to_the_generic_path() {
    for (shape, mode) in [
        ((5, 21), FusedLogDet::Exact),
        ((70, 65), FusedLogDet::Exact),
        ((4, 40), FusedLogDet::Taylor2),
    ] {
        let case = Case::new(4, shape, 2, mode);
        let tensors = Tensors::<Autodiff<Flex>>::new(&case, DType::F32);
        assert!(tensors.fused(&case, false).is_none());
    }
    type Second = Autodiff<Autodiff<Flex>>;
    let case = Case::new(4, (2, 3), 2, FusedLogDet::Exact);
    assert!(
        Tensors::<Second>::new(&case, DType::F32)
            .fused(&case, false)
            .is_none()
    );
}

/// Value and slope beside those of f64, over the whole range, at lengths that fill no vector, for columns that lie apart
/// in memory, and with what is not finite.
fn check_tanh<I: Backend>(dtype: DType, tolerance: f64) {
    let _alone = exclusive();
    let device = I::Device::default();
    let points: Vec<f64> = (0..1001)
        .map(|k| (f64::from(k) * 0.02 - 10.0).sinh() * 0.03)
        .collect();
    let mut all = points.clone();
    all.extend([0.0, 1e-30, -1e-6, 88.0, -1e30, f64::INFINITY]);
    let rows = all.len();
    let data = TensorData::new(all.iter().flat_map(|x| [*x, -0.5 * x]).collect(), [rows, 2]);
    let x = Tensor::<Autodiff<I>, 2>::from_data(data, (&device, dtype)).require_grad();
    let y = super::tanh(x.clone().transpose()).transpose();
    assert_eq!(y.dims(), [rows, 2]);
    let slopes = x.grad(&(y.clone() * 3.0).sum().backward()).unwrap();
    let numbers = |data: TensorData| data.iter::<f64>().collect::<Vec<f64>>();
    let [x, y, slopes] = [x.into_data(), y.into_data(), slopes.into_data()].map(numbers);
    for ((x, y), slope) in x.iter().zip(y).zip(slopes) {
        let expected = x.tanh();
        assert!(
            (y - expected).abs() <= tolerance * expected.abs(),
            "{x}: {y}"
        );
        let expected = 3.0 * (1.0 - expected * expected);
        assert!(
            (slope - expected).abs() <= 12.0 * tolerance,
            "{x}: slope {slope}"
        );
    }
    let nan = Tensor::<I, 1>::from_data([f64::NAN, 1.0], (&device, dtype));
    let nan = numbers(super::tanh(nan).into_data());
    assert!(nan[0].is_nan() && (nan[1] - 1f64.tanh()).abs() < 1e-6);
    let empty = Tensor::<I, 2>::zeros([0, 3], (&device, dtype));
    assert_eq!(super::tanh(empty).dims(), [0, 3]);
}

#[test]
fn tanh_is_within_rounding_of_the_real_one_in_value_and_slope() {
    check_tanh::<Flex>(DType::F32, 4e-7);
    check_tanh::<Flex>(DType::F64, 1e-15);
    check_tanh::<NdArray<f32>>(DType::F32, 4e-7);
}
