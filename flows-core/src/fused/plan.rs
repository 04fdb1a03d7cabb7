//! What a network hands to the kernels, without naming one: the same with and without them.

use burn::tensor::{Tensor, backend::Backend};

use crate::masks::WeightMask;

/// A linear layer.
#[derive(Debug, Clone)]
pub(crate) struct Linear<B: Backend> {
    /// `[inputs, outputs]`; what lies outside the mask is not read.
    pub(crate) weight: Tensor<B, 2>,
    pub(crate) offset: Offset<B>,
}

/// What a linear layer adds.
#[derive(Debug, Clone)]
pub(crate) enum Offset<B: Backend> {
    /// `[outputs]`
    Bias(Tensor<B, 1>),
    /// With a context, `[batch, outputs]`.
    Rows(Tensor<B, 2>),
}

/// Where the weights of a masked network are, layer by layer, in the form that the kernels read.
#[derive(Debug)]
pub(crate) struct Patterns(
    #[cfg(feature = "kernels")] pub(super) Vec<flows_kernels::masked::Pattern>,
);

impl Patterns {
    /// Of masks in the order of application, each with the number of kinds of its columns.
    pub(crate) fn new<'a>(masks: impl Iterator<Item = (&'a WeightMask, usize)>) -> Self {
        #[cfg(feature = "kernels")]
        {
            use flows_kernels::masked::Pattern;
            let patterns = masks.map(|(mask, kinds)| {
                let shape = [mask.inputs, mask.outputs];
                Pattern::new(shape, kinds, |i, j| mask.allows(i, j))
            });
            Self(patterns.collect())
        }
        #[cfg(not(feature = "kernels"))]
        {
            drop(masks);
            Self()
        }
    }
}

/// A parameter with the running means of its gradient and of its squared gradient.
#[derive(Debug, Clone)]
pub struct AdamParameter<B: Backend, const D: usize> {
    /// The parameter.
    pub value: Tensor<B, D>,
    /// Mean of the gradient, one number after the other.
    pub first: Tensor<B, 1>,
    /// Mean of the squared gradient, or the gradient's decaying maximum, likewise.
    pub second: Tensor<B, 1>,
}

/// What a gradient is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdamNorm {
    /// `sqrt(v) + epsilon` with `v <- b2 v + (1 - b2) g^2`: Adam.
    Two,
    /// `u <- max(b2 u, |g| + epsilon)`: Adamax.
    Infinity,
}

/// The numbers of a step, the same for every parameter.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Decay of the mean of the gradient.
    pub beta_1: f64,
    /// Decay of the mean of the squared gradient, or of the maximum.
    pub beta_2: f64,
    /// Learning rate, bias corrections included.
    pub rate: f64,
    /// Added to the root of the mean square, or to the size of the gradient.
    pub epsilon: f64,
    /// Which of the two.
    pub norm: AdamNorm,
}
