//! The inverse of an autoregressive map by whole passes.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

use crate::bijector::Mapped;
use crate::magnitude::magnitude;

/// Iterates `x <- step(x, y, context)` from `x = y`, each row until its largest change is at most
/// `tolerance`, at most `depth` times; gives the result and the passes that the slowest row took.
///
/// `step` inverts the map with parameters computed at `x`. One pass makes the parameters of one more
/// level right, so after as many passes as there are levels the result is exact (Song et al.,
/// arXiv:2002.03629, section 3).
pub(super) fn jacobi<B: Backend>(
    y: Tensor<B, 2>,
    context: Option<Tensor<B, 2>>,
    depth: usize,
    tolerance: f64,
    step: impl Fn(Tensor<B, 2>, Tensor<B, 2>, Option<&Tensor<B, 2>>) -> Mapped<B>,
) -> (Mapped<B>, usize) {
    if y.dims()[0] == 0 {
        return (Mapped::volume_preserving(y), 0);
    }
    let (mut y, mut context) = (y, context);
    let mut x = y.clone();
    let mut left: Vec<usize> = (0..y.dims()[0]).collect();
    let mut done: Vec<(Vec<usize>, Mapped<B>)> = Vec::new();
    let mut passes = 0;
    while !left.is_empty() {
        let next = step(x.clone(), y.clone(), context.as_ref());
        passes += 1;
        let change = magnitude(next.value.clone() - x.clone())
            .max_dim(1)
            .into_data();
        // A row with NaN is never finished early: it ends with the levels.
        let finished = change
            .iter::<f64>()
            .map(|c| passes == depth || c <= tolerance);
        let finished: Vec<bool> = finished.collect();
        if finished.iter().all(|f| !f) {
            x = next.value;
            continue;
        }
        let picked = |wanted: bool| -> Vec<usize> {
            let positions = finished.iter().enumerate().filter(|(_, f)| **f == wanted);
            positions.map(|(k, _)| k).collect()
        };
        let (ready, rest) = (picked(true), picked(false));
        let mapped = Mapped {
            value: rows(next.value.clone(), &ready),
            log_det: next.log_det.select(0, row_indices(&ready, &y.device())),
        };
        done.push((ready.iter().map(|&k| left[k]).collect(), mapped));
        left = rest.iter().map(|&k| left[k]).collect();
        if !left.is_empty() {
            x = rows(next.value, &rest);
            y = rows(y, &rest);
            context = context.map(|c| rows(c, &rest));
        }
    }
    let order: Vec<usize> = done.iter().flat_map(|(rows, _)| rows.clone()).collect();
    let back = crate::masks::inverse_permutation(&order);
    let (values, log_dets) = done.into_iter().map(|(_, m)| (m.value, m.log_det)).unzip();
    let value = Tensor::cat(values, 0);
    let log_det: Tensor<B, 1> = Tensor::cat(log_dets, 0);
    let log_det = log_det.select(0, row_indices(&back, &value.device()));
    let value = rows(value, &back);
    (Mapped { value, log_det }, passes)
}

fn row_indices<B: Backend>(rows: &[usize], device: &B::Device) -> Tensor<B, 1, Int> {
    let indices: Vec<i64> = rows.iter().map(|&k| k as i64).collect();
    let shape = [indices.len()];
    Tensor::from_data(TensorData::new(indices, shape), device)
}

fn rows<B: Backend>(x: Tensor<B, 2>, rows: &[usize]) -> Tensor<B, 2> {
    let indices = row_indices(rows, &x.device());
    x.select(0, indices)
}
