//! What one vector holds where each variable is mapped.

use pulp::Simd;

use super::pattern::Columns;
use crate::lanes::{Real, copy, load, store};

/// Neighbouring variables of a row, and where there are few those of several rows side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    /// Variables of a row, with padding.
    pub(super) width: usize,
    /// Rows, with those beyond the last one.
    pub(super) rows: usize,
    /// The rows that there are.
    present: usize,
    /// The variables that there are.
    count: usize,
}

impl Tile {
    /// The largest for the variables whose parameters are these columns, in vectors of `lanes` numbers.
    #[inline(always)]
    pub(super) fn new(columns: Columns, lanes: usize) -> Self {
        let width = lanes.min(columns.group());
        let rows = lanes / width;
        Self {
            width,
            rows,
            present: rows,
            count: width,
        }
    }

    /// The same where this many rows and variables are left.
    #[inline(always)]
    pub(super) fn of(self, rows: usize, variables: usize) -> Self {
        Self {
            present: self.rows.min(rows),
            count: self.width.min(variables),
            ..self
        }
    }

    /// Fills a vector from rows that begin every `stride` numbers, padding included. In the place of rows that there
    /// are not comes the last one again.
    #[inline(always)]
    pub(super) fn load_all<F: Real, S: Simd>(
        self,
        numbers: &[F],
        stride: usize,
        vector: &mut F::V<S>,
    ) {
        if self.rows == 1 {
            *vector = F::vectors::<S>(&numbers[..self.width])[0];
            return;
        }
        // A copy of known length is no loop and no call.
        match self.width {
            1 => self.load_pieces::<F, S, 1>(numbers, stride, vector),
            2 => self.load_pieces::<F, S, 2>(numbers, stride, vector),
            4 => self.load_pieces::<F, S, 4>(numbers, stride, vector),
            _ => self.load_pieces::<F, S, 8>(numbers, stride, vector),
        }
    }

    #[inline(always)]
    fn load_pieces<F: Real, S: Simd, const WIDTH: usize>(
        self,
        numbers: &[F],
        stride: usize,
        vector: &mut F::V<S>,
    ) {
        let all = F::numbers_mut::<S>(std::slice::from_mut(vector));
        let (pieces, _) = all.as_chunks_mut::<WIDTH>();
        for (row, piece) in pieces.iter_mut().enumerate() {
            let row = row.min(self.present - 1);
            piece.copy_from_slice(&numbers[row * stride..][..WIDTH]);
        }
    }

    /// The same without padding, with zeros there.
    #[inline(always)]
    pub(super) fn load<F: Real, S: Simd>(self, simd: S, numbers: &[F], stride: usize) -> F::V<S> {
        if self.rows == 1 {
            return load::<F, S>(simd, &numbers[..self.count]);
        }
        let mut vector = F::splat(simd, F::default());
        let all = F::numbers_mut::<S>(std::slice::from_mut(&mut vector));
        for (row, piece) in all.chunks_exact_mut(self.width).enumerate() {
            let row = row.min(self.present - 1);
            copy(
                &mut piece[..self.count],
                &numbers[row * stride..][..self.count],
            );
        }
        vector
    }

    /// One number for each row, in all its lanes.
    #[inline(always)]
    pub(super) fn spread<F: Real, S: Simd>(self, simd: S, numbers: &[F], stride: usize) -> F::V<S> {
        if self.rows == 1 {
            return F::splat(simd, numbers[0]);
        }
        let mut vector = F::splat(simd, F::default());
        let all = F::numbers_mut::<S>(std::slice::from_mut(&mut vector));
        for (row, piece) in all.chunks_exact_mut(self.width).enumerate() {
            piece.fill(numbers[row.min(self.present - 1) * stride]);
        }
        vector
    }

    /// Writes the variables of each row.
    #[inline(always)]
    pub(super) fn store<F: Real, S: Simd>(self, vector: F::V<S>, numbers: &mut [F], stride: usize) {
        if self.rows == 1 {
            store::<F, S>(vector, &mut numbers[..self.count]);
            return;
        }
        match self.width {
            1 => self.store_pieces::<F, S, 1>(vector, numbers, stride),
            2 => self.store_pieces::<F, S, 2>(vector, numbers, stride),
            4 => self.store_pieces::<F, S, 4>(vector, numbers, stride),
            _ => self.store_pieces::<F, S, 8>(vector, numbers, stride),
        }
    }

    #[inline(always)]
    fn store_pieces<F: Real, S: Simd, const WIDTH: usize>(
        self,
        vector: F::V<S>,
        numbers: &mut [F],
        stride: usize,
    ) {
        let all = F::numbers::<S>(std::slice::from_ref(&vector));
        let (pieces, _) = all.as_chunks::<WIDTH>();
        for (row, piece) in pieces.iter().take(self.present).enumerate() {
            let to = &mut numbers[row * stride..];
            if self.count == WIDTH {
                to[..WIDTH].copy_from_slice(piece);
            } else {
                copy(&mut to[..self.count], &piece[..self.count]);
            }
        }
    }

    /// Adds the sum over the variables of each row to a number.
    #[inline(always)]
    pub(super) fn add_sums<F: Real, S: Simd>(
        self,
        simd: S,
        vector: F::V<S>,
        numbers: &mut [F],
        stride: usize,
    ) {
        let all = F::numbers::<S>(std::slice::from_ref(&vector));
        for (row, piece) in all.chunks_exact(self.width).take(self.present).enumerate() {
            let sum = match self.count == F::lanes::<S>() {
                true => F::sum(simd, vector),
                false => piece[1..self.count]
                    .iter()
                    .fold(piece[0], |sum, &own| sum.plus(own)),
            };
            numbers[row * stride] = numbers[row * stride].plus(sum);
        }
    }
}
