//! Memory that starts on a cache line.

use std::ops::{Deref, DerefMut};

use crate::kernels::lanes::Real;

/// Bytes of a cache line, the widest vector there is: vectors that start on one lie in one.
const LINE: usize = 64;

/// Numbers of which the first starts a cache line.
pub(super) struct Buffer<F> {
    numbers: Vec<F>,
    start: usize,
    len: usize,
}

impl<F: Real> Buffer<F> {
    pub(super) fn zeros(len: usize) -> Self {
        let slack = LINE / size_of::<F>();
        let numbers = vec![F::default(); len + slack];
        let start = numbers.as_ptr().align_offset(LINE).min(slack);
        Self {
            numbers,
            start,
            len,
        }
    }
}

impl<F> Deref for Buffer<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &self.numbers[self.start..self.start + self.len]
    }
}

impl<F> DerefMut for Buffer<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        &mut self.numbers[self.start..self.start + self.len]
    }
}
