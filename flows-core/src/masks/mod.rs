//! Masks and orderings: pure index arithmetic, without tensors.

mod dependency;
mod made;
mod ordering;
mod set;
mod untouched;

pub use dependency::{DependencyMask, MaskConfig};
pub use made::{HiddenUnits, MadeLayout, WeightMask};
pub use ordering::Ordering;
pub(crate) use ordering::inverse_permutation;
pub use untouched::Untouched;
