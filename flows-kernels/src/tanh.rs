//! The hyperbolic tangent of many numbers.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::lanes::{Real, dispatch, load, store};

/// Numbers of a piece that one thread takes.
const PIECE: usize = 16_384;

/// `tanh(x)` of each number, in place. The C library's takes most of the time of a field of tanh units; this one is a
/// quotient of polynomials on SIMD lanes in f32, within a few units of the last place.
pub fn tanh<F: Real>(numbers: &mut [F]) {
    let arch = Arch::new();
    if numbers.len() > PIECE {
        let pieces = numbers.par_chunks_mut(PIECE);
        pieces.for_each(|piece| dispatch(arch, Piece(piece)));
    } else {
        dispatch(arch, Piece(numbers));
    }
}

struct Piece<'a, F>(&'a mut [F]);

impl<F: Real> WithSimd for Piece<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for numbers in self.0.chunks_mut(F::lanes::<S>()) {
            let x = load::<F, S>(simd, numbers);
            store::<F, S>(F::tanh(simd, x), numbers);
        }
    }
}
