//! A step of Adam or Adamax as one pass over memory.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::lanes::{Real, dispatch, load, store};

/// Numbers of a piece that one thread takes: a few passes through the first-level cache.
const PIECE: usize = 16_384;

/// What a gradient is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// `sqrt(v) + epsilon` with `v <- b2 v + (1 - b2) g^2`: Adam.
    Two,
    /// `u <- max(b2 u, |g| + epsilon)`: Adamax.
    Infinity,
}

/// The numbers of a step, the same for every parameter.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Decay of the mean of the gradient.
    pub beta_1: f64,
    /// Decay of the mean of the squared gradient, or of the maximum.
    pub beta_2: f64,
    /// Learning rate, bias corrections included.
    pub rate: f64,
    /// Added to the root of the mean square, or to the size of the gradient.
    pub epsilon: f64,
    /// Which of the two.
    pub norm: Norm,
}

impl Step {
    /// `m <- b1 m + (1 - b1) g`, `x <- x - rate m / s` with `s` as [`Norm`] says (Kingma & Ba, arXiv:1412.6980,
    /// algorithms 1 and 2, the bias corrections moved into the scalars).
    pub fn apply<F: Real>(
        self,
        value: &mut [F],
        first: &mut [F],
        second: &mut [F],
        gradient: &[F],
    ) {
        let all = Piece {
            step: self,
            value,
            first,
            second,
            gradient,
        };
        let arch = Arch::new();
        if all.gradient.len() > PIECE {
            let pieces = all.pieces();
            pieces
                .into_par_iter()
                .for_each(|piece| dispatch(arch, piece));
        } else {
            dispatch(arch, all);
        }
    }
}

struct Piece<'a, F> {
    step: Step,
    value: &'a mut [F],
    first: &'a mut [F],
    second: &'a mut [F],
    gradient: &'a [F],
}

impl<F> Piece<'_, F> {
    fn pieces(self) -> Vec<Self> {
        let moments = self
            .first
            .chunks_mut(PIECE)
            .zip(self.second.chunks_mut(PIECE));
        let pairs = self
            .value
            .chunks_mut(PIECE)
            .zip(self.gradient.chunks(PIECE));
        let pieces = pairs.zip(moments);
        let pieces = pieces.map(|((value, gradient), (first, second))| Self {
            step: self.step,
            value,
            first,
            second,
            gradient,
        });
        pieces.collect()
    }
}

impl<F: Real> WithSimd for Piece<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.step.norm {
            Norm::Two => self.run::<S, false>(simd),
            Norm::Infinity => self.run::<S, true>(simd),
        }
    }
}

impl<F: Real> Piece<'_, F> {
    #[inline(always)]
    fn run<S: Simd, const INFINITY: bool>(self, simd: S) {
        let lanes = F::lanes::<S>();
        let Self {
            step,
            value,
            first,
            second,
            gradient,
        } = self;
        let [beta_1, beta_2, rest_1, rest_2, rate, epsilon] = [
            step.beta_1,
            step.beta_2,
            1.0 - step.beta_1,
            1.0 - step.beta_2,
            step.rate,
            step.epsilon,
        ]
        .map(|number| F::splat(simd, F::of(number)));
        let zero = F::splat(simd, F::of(0.0));
        let moments = first.chunks_mut(lanes).zip(second.chunks_mut(lanes));
        let pairs = value.chunks_mut(lanes).zip(gradient.chunks(lanes));
        for ((value, gradient), (first, second)) in pairs.zip(moments) {
            let g = load::<F, S>(simd, gradient);
            let m = F::mul(simd, beta_1, load::<F, S>(simd, first));
            let m = F::fma(simd, rest_1, g, m);
            let v = F::mul(simd, beta_2, load::<F, S>(simd, second));
            let (v, size) = if INFINITY {
                let minus = F::sub(simd, zero, g);
                let here = F::add(simd, F::where_less(simd, g, zero, minus, g), epsilon);
                let largest = F::where_less(simd, v, here, here, v);
                (largest, largest)
            } else {
                let v = F::fma(simd, F::mul(simd, rest_2, g), g, v);
                (v, F::add(simd, F::sqrt(simd, v), epsilon))
            };
            let direction = F::div(simd, m, size);
            let moved = F::fnma(simd, rate, direction, load::<F, S>(simd, value));
            store::<F, S>(m, first);
            store::<F, S>(v, second);
            store::<F, S>(moved, value);
        }
    }
}
