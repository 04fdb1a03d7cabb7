//! What a seed means: the generator behind every seed, and the shuffle behind every random order.
//!
//! rand promises to keep neither its `StdRng` nor its `shuffle` from one version to the next. Orders of
//! variables, probes of estimators and splits of a table must stay what they were when a model was saved, so
//! the generator is taken by its name and the shuffle is written out here.

pub use chacha20::ChaCha12Rng;
use rand::{Rng, SeedableRng};

/// The generator of a seed: the ChaCha stream cipher with 12 rounds.
///
/// ```
/// use flows_core::init::normal_tensor;
/// # use burn::backend::Flex;
/// # use burn::tensor::Tensor;
///
/// let rng = &mut flows_core::random::generator(0);
/// let z: Tensor<Flex, 2> = normal_tensor([1000, 2], 1.0, &Default::default(), rng);
/// ```
pub fn generator(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

/// Puts `items` into a random order, each equally likely, by the method of Fisher and Yates in Durstenfeld's
/// form (*Communications of the ACM* 7 (1964), algorithm 235).
///
/// The orders are those of `shuffle` in rand 0.9 and 0.10.
///
/// # Panics
/// For `u32::MAX` items or more.
pub fn shuffle<T>(items: &mut [T], rng: &mut dyn Rng) {
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    assert!(
        count < u32::MAX,
        "shuffle: {} items, expected fewer than 2^32 - 1",
        items.len()
    );
    // One draw serves several items: below `2 * 3 * 4` it holds a number below 2, one below 3 and one below 4.
    let (mut drawn, mut left) = (0, 0);
    for last in 1..count {
        let choices = last + 1;
        if left == 0 {
            let (mut range, mut next) = (choices, choices + 1);
            while let Some(product) = range.checked_mul(next) {
                (range, next) = (product, next + 1);
            }
            (drawn, left) = (below(range, rng), next - choices);
        }
        items.swap(last as usize, (drawn % choices) as usize);
        (drawn, left) = (drawn / choices, left - 1);
    }
}

/// A number from `0..range`, by Canon's method: 32 random bits times `range`, the upper half of the product;
/// 32 more where they could still carry into it. What is left of a bias is below `range / 2^64`.
fn below(range: u32, rng: &mut dyn Rng) -> u32 {
    let halves = |product: u64| ((product >> 32) as u32, product as u32);
    let mut times_range = || halves(u64::from(rng.next_u32()) * u64::from(range));
    let (number, rest) = times_range();
    let carries = rest > range.wrapping_neg() && rest.checked_add(times_range().0).is_none();
    number + u32::from(carries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;

    #[test]
    fn a_seed_keeps_its_numbers() {
        let rng = &mut generator(7);
        assert_eq!(
            [rng.next_u64(), rng.next_u64(), rng.next_u64()],
            [559256596868823998, 5664742077951270790, 2631283358781127885]
        );
    }

    #[test]
    fn a_seed_keeps_its_orders() {
        let order = |len: usize, seed| {
            let mut order: Vec<usize> = (0..len).collect();
            shuffle(&mut order, &mut generator(seed));
            order
        };
        assert_eq!(order(10, 7), [1, 3, 4, 6, 0, 7, 2, 5, 8, 9]);
        assert_eq!(
            order(16, 8),
            [12, 1, 5, 14, 6, 0, 10, 13, 2, 4, 7, 8, 3, 11, 9, 15]
        );
    }

    /// May fail with a new version of rand, whose orders may change; then it goes.
    #[test]
    fn numbers_and_orders_are_those_of_rand_0_10() {
        for (len, seed) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (3, 2),
            (13, 3),
            (14, 4),
            (1000, 5),
            (200_000, 6),
        ] {
            let (ours, theirs) = (&mut generator(seed), &mut StdRng::seed_from_u64(seed));
            let (mut a, mut b): (Vec<usize>, Vec<usize>) = ((0..len).collect(), (0..len).collect());
            shuffle(&mut a, ours);
            b.shuffle(theirs);
            assert!(a == b, "{len} items");
            assert_eq!(ours.next_u64(), theirs.next_u64(), "after {len} items");
        }
    }
}
