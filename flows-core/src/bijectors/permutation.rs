//! Fixed permutations of the variables.

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use core::marker::PhantomData;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::domain::Interval;
use crate::error::Error;
use crate::masks::{Ordering, inverse_permutation};
use crate::nn::{sort, unsort};

/// Configuration of a [`Permutation`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermutationConfig {
    /// Dimension.
    pub dim: usize,
    /// The variables in their new order.
    pub ordering: Ordering,
}

impl PermutationConfig {
    /// A permutation of `dim` variables, such as [`Ordering::Reversed`] or [`Ordering::Random`].
    pub fn new(dim: usize, ordering: Ordering) -> Self {
        Self { dim, ordering }
    }

    /// Builds the layer. It has no parameters: device and generator are those of every other layer.
    ///
    /// # Errors
    /// [`Error::Config`] where an explicit ordering is no permutation, or `dim` is 0.
    pub fn init<B: Backend>(
        &self,
        _options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<Permutation<B>, Error> {
        if self.dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        Ok(Permutation {
            order: self.ordering.order(self.dim)?,
            backend: PhantomData,
        })
    }
}

const NAME: &str = "permutation";

/// `y_k = x_(order[k])`; the log-determinant is 0 and the inverse exact.
#[derive(Module, Debug)]
pub struct Permutation<B: Backend> {
    #[module(skip)]
    order: Vec<usize>,
    backend: PhantomData<B>,
}

impl<B: Backend> Permutation<B> {
    /// The variables in their new order.
    pub fn order(&self) -> &[usize] {
        &self.order
    }
}

impl<B: Backend> Bijector<B> for Permutation<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.order.len()
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        Ok(self.order.iter().map(|&column| of[column]).collect())
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        Mapped::volume_preserving(sort(x, &self.order))
    }
}

impl<B: Backend> Invert<B> for Permutation<B> {
    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        let back = inverse_permutation(&self.order);
        Ok(back.iter().map(|&column| of[column]).collect())
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        Mapped::volume_preserving(unsort(y, &self.order))
    }
}
