//! One thread at a time for what ends in a gradient.
//!
//! Every `backward()` of Burn 0.21 ends with a sweep over the autodiff graphs of the whole process, which
//! takes an operation that no tensor holds for garbage. On another thread that operation may just have become the
//! input of the next one, not yet registered: its gradient is then missing or incomplete, silently
//! ([burn#5573](https://github.com/tracel-ai/burn/issues/5573)).
//!
//! So in a process where more than one thread takes gradients, each holds [`exclusive`] from its first tensor
//! operation to its `backward()`. The training loops of this project and the conformance suite do; several runs
//! at a time are faster in processes of their own.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ALONE: Mutex<()> = Mutex::new(());

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held { times: 0, lock: None }) };
}

/// What a thread has of [`ALONE`].
struct Held {
    times: usize,
    lock: Option<MutexGuard<'static, ()>>,
}

/// While it lives, other threads wait in [`exclusive`]. It stays on its thread.
#[must_use = "another thread may take gradients as soon as this is dropped"]
#[derive(Debug)]
pub struct Exclusive {
    of_this_thread: PhantomData<*const ()>,
}

/// Waits until no other thread holds an [`Exclusive`], and keeps the others waiting. A thread that has one gets
/// more at once.
///
/// ```
/// use burn::backend::{Autodiff, Flex};
/// use burn::tensor::Tensor;
///
/// let x = Tensor::<Autodiff<Flex>, 1>::from_data([3.0], &Default::default()).require_grad();
/// let alone = flows_core::autodiff::exclusive();
/// let gradients = x.clone().square().sum().backward();
/// drop(alone);
/// assert_eq!(x.grad(&gradients).unwrap().into_scalar(), 6.0);
/// ```
pub fn exclusive() -> Exclusive {
    HELD.with_borrow_mut(|held| {
        if held.times == 0 {
            // There is nothing under the lock that a panic could leave half done.
            held.lock = Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner));
        }
        held.times += 1;
    });
    Exclusive {
        of_this_thread: PhantomData,
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // Where the thread is ending, its lock goes with `HELD`.
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            held.times -= 1;
            if held.times == 0 {
                held.lock = None;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use burn::tensor::Tensor;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    use super::*;

    type B = Autodiff<Flex>;

    const SIDE: usize = 128;

    /// The slope of `2 x`. Burn's `cat` lets go of its inputs while it copies them, and a leaf that an earlier
    /// `backward()` has used brings no graph along that would keep them.
    fn slope(leaf: &Tensor<B, 2>) -> Option<f64> {
        let _alone = exclusive();
        let copies = vec![leaf.clone() * 0.5; 4];
        let gradients = Tensor::cat(copies, 0).sum().backward();
        let slopes = leaf.grad(&gradients)?;
        Some(f64::from(slopes.mean().into_scalar()))
    }

    #[test]
    fn gradients_on_several_threads_are_whole() {
        let take = || {
            let leaf = Tensor::<B, 2>::ones([SIDE, SIDE], &Default::default()).require_grad();
            (0..150).all(|_| slope(&leaf) == Some(2.0))
        };
        let whole = thread::scope(|scope| {
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(take)).collect();
            threads.into_iter().all(|t| t.join().expect("no panic"))
        });
        assert!(whole, "a gradient was lost");
    }

    #[test]
    fn a_thread_takes_it_again_and_leaves_it_when_the_last_is_dropped() {
        let first = exclusive();
        let second = exclusive();
        drop(first);
        let free = || thread::scope(|s| s.spawn(|| ALONE.try_lock().is_ok()).join().unwrap());
        // Another test may hold the lock when this thread does not: only `false` is certain.
        assert!(!free());
        drop(second);
        HELD.with_borrow(|held| assert!(held.times == 0 && held.lock.is_none()));
    }
}
