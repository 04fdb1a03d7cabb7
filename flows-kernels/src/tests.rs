//! The block on the host: against the cells written out and against differences.

use nalgebra::DMatrix;
use pulp::{Arch, Simd, WithSimd};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::ddnf::LogDet;
use crate::ddnf::{Block, Plan};
use crate::lanes::{CHUNK, Real, dispatch};

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
const MODES: [LogDet; 4] = [
    LogDet::Exact,
    LogDet::Taylor1,
    LogDet::Taylor2,
    LogDet::None,
];

/// Every instruction set this machine can run.
pub(super) fn arches() -> Vec<Arch> {
    let mut arches = vec![Arch::Scalar, Arch::new()];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    arches.extend(pulp::x86::V3::try_new().map(Arch::V3));
    arches
}

/// Inputs of a block, `f64` on the host.
#[derive(Clone)]
struct Case {
    rows: usize,
    dim: usize,
    hidden: usize,
    cells: usize,
    log_det: LogDet,
    /// x, w1, b1, w2, b2, context
    inputs: [Vec<f64>; 6],
}

impl Case {
    fn new(rows: usize, (dim, hidden): (usize, usize), cells: usize, log_det: LogDet) -> Self {
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

    fn plan(&self) -> Option<Plan> {
        Plan::choose(self.dim, self.hidden, self.log_det)
    }

    fn block<'a, F: Real>(&self, inputs: &'a [Vec<F>; 6], context: bool) -> Block<'a, F> {
        let [x, w1, b1, w2, b2, c] = inputs;
        Block {
            dim: self.dim,
            hidden: self.hidden,
            cells: self.cells,
            log_det: self.log_det,
            x,
            w1,
            b1,
            w2,
            b2,
            context: context.then_some(c),
        }
    }

    /// One row after the other, the `dim x dim` Jacobian of each cell and its determinant by LU.
    fn reference(&self, context: bool) -> Vec<f64> {
        let (d, h, t) = (self.dim, self.hidden, self.cells as f64);
        let [x, w1, b1, w2, b2, c] = &self.inputs;
        let mut out = Vec::new();
        for r in 0..self.rows {
            let mut z = x[r * d..(r + 1) * d].to_vec();
            let mut log_det = 0.0;
            for _ in 0..self.cells {
                let s: Vec<f64> = (0..h)
                    .map(|j| {
                        let shift = if context { c[r * h + j] } else { 0.0 };
                        let dot: f64 = (0..d).map(|i| z[i] * w1[i * h + j]).sum();
                        (dot + b1[j] + shift).tanh()
                    })
                    .collect();
                let jacobian = DMatrix::from_fn(d, d, |i, l| {
                    (0..h)
                        .map(|j| w1[i * h + j] * (1.0 - s[j] * s[j]) * w2[j * d + l])
                        .sum::<f64>()
                        / t
                });
                log_det += match self.log_det {
                    LogDet::None => 0.0,
                    LogDet::Taylor1 => jacobian.trace(),
                    LogDet::Taylor2 => jacobian.trace() - 0.5 * (&jacobian * &jacobian).trace(),
                    LogDet::Exact => {
                        let map = DMatrix::identity(d, d) + &jacobian;
                        map.determinant().abs().ln()
                    }
                };
                for l in 0..d {
                    let v: f64 = (0..h).map(|j| s[j] * w2[j * d + l]).sum();
                    z[l] += (v + b2[l]) / t;
                }
            }
            out.extend(z);
            out.push(log_det);
        }
        out
    }

    fn single(&self) -> [Vec<f32>; 6] {
        self.inputs
            .clone()
            .map(|v| v.into_iter().map(|x| x as f32).collect())
    }
}

/// A block with the shapes and modes that have a kernel, for a few batch sizes.
fn cases(rows: &[usize]) -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for mode in MODES {
            for cells in [1, 16] {
                for &rows in rows {
                    let case = Case::new(rows, shape, cells, mode);
                    if case.plan().is_some() {
                        cases.push(case);
                    }
                }
            }
        }
    }
    assert!(cases.len() > 50 * rows.len());
    cases
}

#[track_caller]
fn assert_near(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths");
    let scale = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * scale,
            "{what}: {a} instead of {b} at {i} (scale {scale})"
        );
    }
}

/// A function of one vector, applied to numbers.
struct Apply<'a, F: Real>(&'a mut [F], Function);

#[derive(Clone, Copy)]
enum Function {
    Tanh,
    LnAbs,
}

impl<F: Real> WithSimd for Apply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for v in F::vectors_mut::<S>(self.0) {
            *v = match self.1 {
                Function::Tanh => F::tanh(simd, *v),
                Function::LnAbs => F::ln_abs(simd, *v),
            };
        }
    }
}

#[test]
fn tanh_is_within_4e7_of_the_double() {
    for arch in arches() {
        let grid: Vec<f32> = (-640_000..640_000).map(|i| i as f32 * 2e-5).collect();
        let mut values = grid.clone();
        dispatch(arch, Apply(&mut values, Function::Tanh));
        let worst = grid.iter().zip(&values).fold(0.0f64, |worst, (&x, &t)| {
            assert!(t.abs() <= 1.0, "tanh({x}) = {t}");
            worst.max((f64::from(t) - f64::from(x).tanh()).abs())
        });
        assert!(worst < 4e-7, "{arch:?}: {worst:e}");

        let mut ends = [f32::NAN; CHUNK];
        ends[..5].copy_from_slice(&[1e3, -1e30, f32::INFINITY, f32::NEG_INFINITY, 0.0]);
        dispatch(arch, Apply(&mut ends, Function::Tanh));
        for (t, limit) in ends[..5].iter().zip([1.0, -1.0, 1.0, -1.0, 0.0]) {
            assert!((t - limit).abs() < 4e-7, "{arch:?}: {t} for {limit}");
        }
        assert!(ends[5..].iter().all(|t| t.is_nan()), "{arch:?}: {ends:?}");
    }
}

#[test]
fn logarithm_is_good_to_the_last_bits() {
    for arch in arches() {
        let mut grid: Vec<f32> = (1..160_000).map(|i| i as f32 * 2.5e-5).collect();
        grid.extend((-126..128).flat_map(|e| [2f32.powi(e), -1.37 * 2f32.powi(e)]));
        grid.extend([1e-45, 3.3e38]);
        grid.resize(grid.len().next_multiple_of(CHUNK), 1.0);
        let mut values = grid.clone();
        dispatch(arch, Apply(&mut values, Function::LnAbs));
        for (&x, &log) in grid.iter().zip(&values) {
            let expected = f64::from(x).abs().ln();
            let error = (f64::from(log) - expected).abs();
            assert!(
                error <= 1.5e-7 * expected.abs(),
                "{arch:?}: log {x} = {log}, not {expected}"
            );
        }
        let mut ends = [f32::NAN; CHUNK];
        ends[..3].copy_from_slice(&[0.0, f32::INFINITY, f32::NEG_INFINITY]);
        dispatch(arch, Apply(&mut ends, Function::LnAbs));
        assert_eq!(ends[..3], [f32::NEG_INFINITY, f32::INFINITY, f32::INFINITY]);
        assert!(ends[3..].iter().all(|t| t.is_nan()), "{arch:?}: {ends:?}");
    }
}

#[test]
fn value_and_log_det_are_those_of_the_cells_written_out() {
    for case in cases(&[1, 33]) {
        for context in [false, true] {
            let expected = case.reference(context);
            for arch in arches() {
                let block = case.block(&case.inputs, context);
                let got = block.forward_on(arch, case.plan().unwrap());
                let what = format!(
                    "{arch:?} d {} h {} T {} {:?}",
                    case.dim, case.hidden, case.cells, case.log_det
                );
                assert_near(&what, &got, &expected, 1e-12);
                let single = case.single();
                let block = case.block(&single, context);
                let got = block.forward_on(arch, case.plan().unwrap());
                let got: Vec<f64> = got.into_iter().map(f64::from).collect();
                assert_near(&what, &got, &expected, 5e-6);
            }
        }
    }
}

#[test]
fn gradients_are_the_central_differences() {
    let mut rng = StdRng::seed_from_u64(5);
    for case in cases(&[1, 35]) {
        let plan = || case.plan().unwrap();
        let weights: Vec<f64> = (0..case.rows * (case.dim + 1))
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let objective = |inputs: &[Vec<f64>; 6]| -> f64 {
            let out = case.block(inputs, true).forward(plan());
            out.iter().zip(&weights).map(|(a, b)| a * b).sum()
        };
        let arches = if case.rows == 1 {
            arches()
        } else {
            vec![Arch::new()]
        };
        for arch in arches {
            let block = case.block(&case.inputs, true);
            let g = block.backward_on(arch, plan(), &weights);
            let gradients = [
                &g.x,
                &g.w1,
                &g.b1,
                &g.w2,
                &g.b2,
                g.context.as_ref().unwrap(),
            ];
            for (k, gradient) in gradients.into_iter().enumerate() {
                assert_eq!(gradient.len(), case.inputs[k].len());
                let direction: Vec<f64> = gradient
                    .iter()
                    .map(|_| rng.random_range(-1.0..1.0))
                    .collect();
                let moved = |step: f64| {
                    let mut inputs = case.inputs.clone();
                    for (v, d) in inputs[k].iter_mut().zip(&direction) {
                        *v += step * d;
                    }
                    objective(&inputs)
                };
                let e = 1e-4;
                // Fourth order, so that the step need not be tiny.
                let difference = (8.0 * (moved(e) - moved(-e))
                    - (moved(2.0 * e) - moved(-2.0 * e)))
                    / (12.0 * e);
                let terms: Vec<f64> = gradient
                    .iter()
                    .zip(&direction)
                    .map(|(a, b)| a * b)
                    .collect();
                let scale = terms.iter().map(|t| t.abs()).sum::<f64>().max(1.0);
                let derivative: f64 = terms.iter().sum();
                assert!(
                    (derivative - difference).abs() <= 1e-8 * scale,
                    "{arch:?} d {} h {} T {} rows {} {:?} input {k}: {derivative} against {difference}",
                    case.dim,
                    case.hidden,
                    case.cells,
                    case.rows,
                    case.log_det
                );
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_time() {
    let run = |case: &Case| {
        let single = case.single();
        let block = case.block(&single, true);
        let out = block.forward(case.plan().unwrap());
        let g = block.backward(case.plan().unwrap(), &out);
        (out, g.x, g.w1, g.b1, g.w2, g.b2, g.context)
    };
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    let (one, two) = (pool(1), pool(2));
    for rows in [33, 1000, 2500] {
        for (shape, mode) in [
            ((2, 64), LogDet::Taylor2),
            ((64, 2), LogDet::Exact),
            ((16, 16), LogDet::Taylor2),
            ((16, 16), LogDet::Exact),
        ] {
            let case = Case::new(rows, shape, 4, mode);
            let first = one.install(|| run(&case));
            assert!(first == one.install(|| run(&case)));
            for _ in 0..5 {
                assert!(first == two.install(|| run(&case)));
            }
        }
    }
}
