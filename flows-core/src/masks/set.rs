//! Sets of variables as bits.

/// A number that tells lists of sets apart, by a hash in the manner of FNV-1a over their words.
pub(crate) fn digest(sets: &[VariableSet]) -> u64 {
    let words = sets.iter().flat_map(|set| &set.0);
    // The rotation lets high bits reach low ones.
    words.fold(0xCBF2_9CE4_8422_2325u64, |hash, word| {
        (hash ^ word)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(29)
    })
}

/// A set of small integers; sets compared with each other have the same capacity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VariableSet(Vec<u64>);

impl VariableSet {
    pub(crate) fn empty(capacity: usize) -> Self {
        Self(vec![0; capacity.div_ceil(64)])
    }

    pub(crate) fn insert(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }

    pub(crate) fn contains(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 == 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    pub(crate) fn union_with(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(w, &word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| 64 * w + bit)
        })
    }
}
