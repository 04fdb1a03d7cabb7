//! A velocity field at a fixed context.

use std::borrow::Cow;

use burn::tensor::{Tensor, backend::Backend};

#[cfg(doc)]
use super::field::VelocityField;
use super::field_weight::{FieldWeight, constant};
use crate::nn::Activation;

/// A [`VelocityField`] at a fixed context and times a fixed factor, for many evaluations.
#[derive(Debug, Clone)]
pub struct BoundField<B: Backend> {
    /// `W_1 ... W_{L+1}`, the last one scaled.
    pub(crate) weights: Vec<FieldWeight<B>>,
    /// `b_1 + c U` (`[1, h_1]`, or `[batch, h_1]` with a context), `b_2 ... b_{L+1}` (`[1, h_l]`).
    pub(super) biases: Vec<Tensor<B, 2>>,
    /// `w`, `[1, h_1]`.
    pub(super) time_weight: Option<Tensor<B, 2>>,
    pub(crate) activation: Activation,
}

/// A field evaluated: its value, and for each hidden layer what its derivative is computed from.
#[derive(Debug, Clone)]
pub(crate) struct Evaluated<B: Backend> {
    pub(crate) value: Tensor<B, 2>,
    pub(crate) memos: Vec<Tensor<B, 2>>,
}

impl<B: Backend> BoundField<B> {
    /// Dimension of the space the field lives in.
    pub fn dim(&self) -> usize {
        self.weights[0].dims()[0]
    }

    /// Widths of the hidden layers.
    pub fn hidden(&self) -> Vec<usize> {
        let hidden = &self.weights[..self.weights.len() - 1];
        hidden.iter().map(|w| w.dims()[1]).collect()
    }

    /// The field at time `t`; the field itself where it is stationary. The weights, and so the
    /// factors of the Jacobian other than the slopes, are the same at all times.
    pub(crate) fn at_time(&self, t: f64) -> Cow<'_, Self> {
        match &self.time_weight {
            Some(w) if t != 0.0 => {
                let mut field = self.clone();
                field.biases[0] = field.biases[0].clone() + w.clone() * t;
                Cow::Owned(field)
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The field with a time for each row, `[n, 1]`, or the same for all, `[1, 1]`.
    pub(super) fn at_times(&self, t: Tensor<B, 2>) -> Cow<'_, Self> {
        let Some(w) = &self.time_weight else {
            return Cow::Borrowed(self);
        };
        let mut field = self.clone();
        field.biases[0] = field.biases[0].clone() + t * w.clone();
        Cow::Owned(field)
    }

    pub(crate) fn evaluate(&self, x: Tensor<B, 2>) -> Evaluated<B> {
        let mut memos = Vec::with_capacity(self.weights.len() - 1);
        let mut value = x;
        for (l, (w, b)) in self.weights.iter().zip(&self.biases).enumerate() {
            value = w.apply(value) + b.clone();
            if l + 1 < self.weights.len() {
                let activated = self.activation.activate(value);
                value = activated.value;
                memos.push(activated.memo);
            }
        }
        Evaluated { value, memos }
    }

    /// The same field with constant parameters: nothing computed from it enters the autodiff graph.
    pub(crate) fn without_graph(&self) -> Self {
        Self {
            weights: self.weights.iter().map(FieldWeight::constant).collect(),
            biases: self.biases.iter().cloned().map(constant).collect(),
            time_weight: self.time_weight.clone().map(constant),
            activation: self.activation,
        }
    }
}
