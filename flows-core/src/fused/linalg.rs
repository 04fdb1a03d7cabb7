//! Determinants and inverses of many small matrices, matrix by matrix where they lie in memory.

use burn::tensor::{DType, Element, Tensor, TensorData, backend::Backend};
use flows_kernels::linalg::{self, Number};

use super::host::Host;
use super::operation::{input, is_host, is_plain_host};
use super::switch::fused_kernels_enabled;
use crate::linalg::Eliminated;

/// Inverses and pivots of `a`, `[n, m, m]`, or nothing where they lie elsewhere.
pub(crate) fn invert<B: Backend>(a: &Tensor<B, 3>) -> Option<Eliminated<B>> {
    fn with<F: Number + Element, B: Backend>(a: &Tensor<B, 3>) -> Eliminated<B> {
        let ([n, m, _], device, dtype) = (a.dims(), a.device(), a.dtype());
        let mut inverse = Host::new::<B>(input(a.clone())).numbers::<F>().to_vec();
        let (pivots, rows) = linalg::invert_all(&mut inverse, m);
        Eliminated {
            inverse: Tensor::from_data(TensorData::new(inverse, [n, m, m]), (&device, dtype)),
            pivots: Tensor::from_data(TensorData::new(pivots, [n, m]), (&device, dtype)),
            rows: Tensor::from_data(TensorData::new(rows, [n, m]), &device),
        }
    }
    if !fused_kernels_enabled() || !is_host::<B>() {
        return None;
    }
    match a.dtype() {
        DType::F32 => Some(with::<f32, B>(a)),
        DType::F64 => Some(with::<f64, B>(a)),
        _ => None,
    }
}

/// Whether [`log_abs_dets`] and [`log_dets_of_one_layer`] give something for matrices like this tensor: it lies in
/// memory, and nothing records its history.
pub(crate) fn makes_log_dets<B: Backend, const D: usize>(like: &Tensor<B, D>) -> bool {
    let known = matches!(like.dtype(), DType::F32 | DType::F64);
    known && fused_kernels_enabled() && is_plain_host::<B>()
}

/// `log |det A|` of `a`, `[n, m, m]`.
pub(crate) fn log_abs_dets<B: Backend>(a: &Tensor<B, 3>) -> Option<Tensor<B, 1>> {
    fn with<F: Number + Element>(a: &Host, n: usize, m: usize) -> TensorData {
        let numbers = a.numbers::<F>();
        let copy = |i: usize, a: &mut [F]| a.copy_from_slice(&numbers[i * m * m..][..m * m]);
        TensorData::new(linalg::log_abs_dets(n, m, copy), [n])
    }
    if !makes_log_dets(a) {
        return None;
    }
    let ([n, m, _], dtype) = (a.dims(), a.dtype());
    let host = Host::new::<B>(input(a.clone()));
    let data = match dtype {
        DType::F32 => with::<f32>(&host, n, m),
        _ => with::<f64>(&host, n, m),
    };
    Some(Tensor::from_data(data, (&a.device(), dtype)))
}

/// `log |det(I + D C)|` with the diagonals `d`, `[n, m]`, and matrices `c`, `[rows, m, m]`, those of the points over and
/// over: each matrix is written where it is eliminated.
pub(crate) fn log_dets_of_one_layer<B: Backend>(
    d: &Tensor<B, 2>,
    c: Tensor<B, 3>,
) -> Option<Tensor<B, 1>> {
    fn with<F: Number + Element>(d: &Host, c: &Host, n: usize, m: usize) -> TensorData {
        let (d, c) = (d.numbers::<F>(), c.numbers::<F>());
        let rows = c.len() / (m * m);
        let fill = |i: usize, a: &mut [F]| {
            let c = &c[i % rows * m * m..][..m * m];
            let lines = a.chunks_exact_mut(m).zip(c.chunks_exact(m));
            for (k, ((a, c), d)) in lines.zip(&d[i * m..(i + 1) * m]).enumerate() {
                a.iter_mut().zip(c).for_each(|(a, c)| *a = *d * *c);
                a[k] = a[k] + F::of(1.0);
            }
        };
        TensorData::new(linalg::log_abs_dets(n, m, fill), [n])
    }
    if !makes_log_dets(d) {
        return None;
    }
    let ([n, m], device, dtype) = (d.dims(), d.device(), d.dtype());
    let (d, c) = (Host::new::<B>(input(d.clone())), Host::new::<B>(input(c)));
    let data = match dtype {
        DType::F32 => with::<f32>(&d, &c, n, m),
        _ => with::<f64>(&d, &c, n, m),
    };
    Some(Tensor::from_data(data, (&device, dtype)))
}
