//! Batches from a host generator, and numbers back from tensors.

use burn::tensor::{Tensor, TensorCreationOptions, TensorData, backend::Backend};

use crate::init::{normal_tensor, uniform_tensor};
use crate::random::generator;

/// A batch from rows of plain numbers.
///
/// # Panics
/// Where the rows have different lengths.
pub fn batch<B: Backend>(
    rows: &[Vec<f64>],
    options: impl Into<TensorCreationOptions<B>>,
) -> Tensor<B, 2> {
    let columns = rows.first().map_or(0, Vec::len);
    let flat = rows.concat();
    assert_eq!(flat.len(), rows.len() * columns, "rows of one length");
    Tensor::from_data(TensorData::new(flat, [rows.len(), columns]), options)
}

/// `n` rows of independent standard normals.
pub fn normal_batch<B: Backend>(
    [n, dim]: [usize; 2],
    seed: u64,
    options: impl Into<TensorCreationOptions<B>>,
) -> Tensor<B, 2> {
    normal_tensor([n, dim], 1.0, options, &mut generator(seed))
}

/// `n` rows, uniform on `[-bound, bound)`.
pub fn uniform_batch<B: Backend>(
    [n, dim]: [usize; 2],
    bound: f64,
    seed: u64,
    options: impl Into<TensorCreationOptions<B>>,
) -> Tensor<B, 2> {
    let rng = &mut generator(seed);
    uniform_tensor([n, dim], -bound, bound, options, rng)
}

/// The entries of a tensor as f64, row by row.
pub fn rows<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// Largest `|a - b| / (1 + |b|)`; two equal infinities agree, NaN never does.
pub fn relative_error(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| {
            if a == b {
                0.0
            } else {
                (a - b).abs() / (1.0 + b.abs())
            }
        })
        .fold(0.0, |worst: f64, e| {
            if e.is_nan() || worst.is_nan() {
                f64::NAN
            } else {
                worst.max(e)
            }
        })
}

/// Largest absolute difference of two batches, NaN if either holds one.
pub fn residual<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> f64 {
    let differences = rows(&(a - b).abs());
    differences.into_iter().fold(0.0, |worst: f64, v| {
        if v.is_nan() || worst.is_nan() {
            f64::NAN
        } else {
            worst.max(v)
        }
    })
}
