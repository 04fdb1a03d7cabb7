//! Row-major matrices that are no rows of samples.

use pulp::{Arch, Simd, WithSimd};

use crate::lanes::{Real, dispatch};

/// Samples as they are, in rows of `padded` columns, with zeros around them.
pub(super) fn pad_samples<F: Real>(
    samples: &[F],
    stride: usize,
    columns: usize,
    padded: usize,
    out: &mut [F],
) {
    out.fill(F::default());
    for (sample, out) in samples
        .chunks_exact(stride)
        .zip(out.chunks_exact_mut(padded))
    {
        out[..columns].copy_from_slice(&sample[..columns]);
    }
}

/// `[rows, columns]` to `[columns, rows]`.
pub(super) fn transposed<F: Real>(matrix: &[F], columns: usize) -> Vec<F> {
    let rows = matrix.len() / columns;
    let mut out = Vec::with_capacity(matrix.len());
    for i in 0..columns {
        out.extend((0..rows).map(|r| matrix[r * columns + i]));
    }
    out
}

/// `out += a b` for row-major matrices, `b` and `out` of `columns` columns.
pub(super) fn add_product<F: Real>(arch: Arch, a: &[F], b: &[F], columns: usize, out: &mut [F]) {
    dispatch(arch, AddProduct { a, b, columns, out });
}

struct AddProduct<'a, F> {
    a: &'a [F],
    b: &'a [F],
    columns: usize,
    out: &'a mut [F],
}

impl<F: Real> WithSimd for AddProduct<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let inner = self.b.len() / self.columns;
        for (a, out) in self
            .a
            .chunks_exact(inner)
            .zip(self.out.chunks_exact_mut(self.columns))
        {
            for (&a, b) in a.iter().zip(self.b.chunks_exact(self.columns)) {
                for (out, &b) in out.iter_mut().zip(b) {
                    *out = out.plus(a.times(b));
                }
            }
        }
    }
}
