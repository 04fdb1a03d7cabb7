//! Orders in which the variables of an autoregressive layer are generated.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::random::{generator, shuffle};

/// An order of `dim` variables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ordering {
    /// `0, 1, ..., dim - 1`.
    #[default]
    Natural,
    /// `dim - 1, ..., 1, 0`.
    Reversed,
    /// A shuffle, the same for the same seed.
    Random {
        /// Seed of the shuffle.
        seed: u64,
    },
    /// The variables as listed, each of them once.
    Explicit(Vec<usize>),
}

crate::one_key!(Ordering);

impl Ordering {
    /// The variables, the first one generated first.
    ///
    /// # Errors
    /// [`Error::Config`] where an explicit list is no permutation of `0..dim`.
    pub fn order(&self, dim: usize) -> Result<Vec<usize>, Error> {
        match self {
            Self::Natural => Ok((0..dim).collect()),
            Self::Reversed => Ok((0..dim).rev().collect()),
            Self::Random { seed } => {
                let mut order: Vec<usize> = (0..dim).collect();
                shuffle(&mut order, &mut generator(*seed));
                Ok(order)
            }
            Self::Explicit(order) => {
                let mut seen = vec![false; dim];
                let fits = order.len() == dim
                    && order
                        .iter()
                        .all(|&i| i < dim && !std::mem::replace(&mut seen[i], true));
                if fits {
                    Ok(order.clone())
                } else {
                    let expected = format!("each of 0..{dim} once");
                    let actual = format!("{order:?}");
                    Err(Error::config("ordering", "explicit", actual, expected))
                }
            }
        }
    }
}

/// The permutation that undoes `order`: `inverse[order[k]] = k`.
pub(crate) fn inverse_permutation(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (k, &i) in order.iter().enumerate() {
        inverse[i] = k;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_permutations_and_seeds_decide_the_random_one() {
        assert_eq!(Ordering::Natural.order(3).unwrap(), [0, 1, 2]);
        assert_eq!(Ordering::Reversed.order(3).unwrap(), [2, 1, 0]);
        let first = Ordering::Random { seed: 7 }.order(50).unwrap();
        assert_eq!(first, Ordering::Random { seed: 7 }.order(50).unwrap());
        assert_ne!(first, Ordering::Random { seed: 8 }.order(50).unwrap());
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        let inverse = inverse_permutation(&first);
        assert!((0..50).all(|k| inverse[first[k]] == k));
    }

    #[test]
    fn a_seed_keeps_its_order() {
        let orders = [
            (0, [1, 0, 2, 3, 5, 4]),
            (1, [0, 3, 5, 1, 4, 2]),
            (2, [0, 3, 1, 2, 5, 4]),
        ];
        for (seed, order) in orders {
            assert_eq!(
                Ordering::Random { seed }.order(6).unwrap(),
                order,
                "seed {seed}"
            );
        }
    }

    #[test]
    fn an_explicit_order_must_be_a_permutation() {
        for wrong in [vec![0, 1], vec![0, 1, 1], vec![0, 1, 3], vec![0, 1, 2, 3]] {
            assert!(Ordering::Explicit(wrong).order(3).is_err());
        }
        assert_eq!(
            Ordering::Explicit(vec![1, 2, 0]).order(3).unwrap(),
            [1, 2, 0]
        );
    }
}
