//! Memory that starts on a cache line, and is used again.
//!
//! A training step needs the same buffers as the one before. Memory fresh from the system comes page by page,
//! each one zeroed at its first touch, which for a layer with two times 512 units took as long as its products.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pulp::bytemuck;

use crate::lanes::Real;

/// Bytes of a cache line, the widest vector there is: vectors that start on one lie in one.
const LINE: usize = 64;

/// Bytes of a word, in which memory is counted: no number is larger.
const WORD: usize = size_of::<u64>();

/// Words that wait for their next use at most, 256 MiB in all.
const LARGEST_STOCK: usize = (256 << 20) / WORD;

/// Words below which the allocator is as good.
const SMALLEST: usize = 4096 / WORD;

static STOCK: Mutex<Stock> = Mutex::new(Stock {
    free: VecDeque::new(),
    words: 0,
});

/// Memory that nobody uses, the oldest first.
struct Stock {
    free: VecDeque<Vec<u64>>,
    words: usize,
}

impl Stock {
    fn lock() -> MutexGuard<'static, Self> {
        // Every state between two statements below is a sound one.
        STOCK.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&mut self, words: usize) -> Option<Vec<u64>> {
        let at = self.free.iter().rposition(|free| free.len() == words)?;
        self.words -= words;
        self.free.remove(at)
    }

    fn put(&mut self, memory: Vec<u64>) {
        self.words += memory.len();
        self.free.push_back(memory);
        while self.words > LARGEST_STOCK {
            let oldest = self.free.pop_front().expect("words without memory");
            self.words -= oldest.len();
        }
    }
}

/// Gives the memory that waits for its next use back to the system.
pub fn release_memory() {
    let mut stock = Stock::lock();
    stock.free.clear();
    stock.words = 0;
}

/// Numbers of which the first starts a cache line.
pub(super) struct Buffer<F> {
    words: Vec<u64>,
    /// Word at which the first number lies.
    start: usize,
    len: usize,
    numbers: PhantomData<F>,
}

impl<F: Real> Buffer<F> {
    /// Numbers of any value, to be written before they are read.
    pub(super) fn any(len: usize) -> Self {
        let slack = LINE / WORD;
        let words = (len * size_of::<F>()).div_ceil(WORD) + slack;
        let words = match words < SMALLEST {
            true => None,
            false => Stock::lock().take(words),
        }
        .unwrap_or_else(|| vec![0; words]);
        let start = words.as_ptr().align_offset(LINE).min(slack);
        let mut buffer = Self {
            words,
            start,
            len,
            numbers: PhantomData,
        };
        if cfg!(debug_assertions) {
            // What is read before it is written is seen.
            buffer.fill(F::of(f64::NAN));
        }
        buffer
    }

    pub(super) fn zeros(len: usize) -> Self {
        let mut buffer = Self::any(len);
        buffer.fill(F::default());
        buffer
    }
}

impl<F> Drop for Buffer<F> {
    fn drop(&mut self) {
        if self.words.len() >= SMALLEST {
            Stock::lock().put(std::mem::take(&mut self.words));
        }
    }
}

impl<F: Real> Deref for Buffer<F> {
    type Target = [F];

    fn deref(&self) -> &[F] {
        &bytemuck::cast_slice(&self.words[self.start..])[..self.len]
    }
}

impl<F: Real> DerefMut for Buffer<F> {
    fn deref_mut(&mut self) -> &mut [F] {
        &mut bytemuck::cast_slice_mut(&mut self.words[self.start..])[..self.len]
    }
}
