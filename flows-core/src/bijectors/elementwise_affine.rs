//! A scale and a shift of each column.

use burn::module::{Module, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::row_map::RowMap;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::expand::expand;
use crate::init;
use crate::nn::{columns, log_scale};

const NAME: &str = "elementwise affine";

/// Configuration of an [`ElementwiseAffine`] layer.
#[derive(Module, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementwiseAffineConfig {
    /// Number of columns.
    #[module(skip)]
    pub dim: usize,
}

impl ElementwiseAffineConfig {
    /// A layer of `dim` columns.
    pub fn new(dim: usize) -> Self {
        Self { dim }
    }

    /// The identity, to be trained. The generator is not used: nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] where `dim` is 0.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<ElementwiseAffine<B>, Error> {
        let options = &options.into();
        if self.dim == 0 {
            return Err(Error::config(NAME, "dim", 0, "at least 1"));
        }
        Ok(ElementwiseAffine {
            log_scale: init::constant([1, self.dim], 0.0, options.clone()),
            shift: init::constant([1, self.dim], 0.0, options.clone()),
        })
    }
}

/// `y_i = x_i exp(log_scale_i) + shift_i`, with a trainable scale and shift for each column.
///
/// `log |det dy/dx| = sum_i log_scale_i`, the same for every row. Both directions take one pass.
#[derive(Module, Debug)]
pub struct ElementwiseAffine<B: Backend> {
    /// `[1, dim]`.
    log_scale: Param<Tensor<B, 2>>,
    /// `[1, dim]`.
    shift: Param<Tensor<B, 2>>,
}

impl<B: Backend> ElementwiseAffine<B> {
    /// Logarithm of the scale of each column, `[1, dim]`.
    pub fn log_scale(&self) -> Tensor<B, 2> {
        self.log_scale.val()
    }

    /// Shift of each column, `[1, dim]`.
    pub fn shift(&self) -> Tensor<B, 2> {
        self.shift.val()
    }

    /// Replaces both parameters, which stay trainable.
    pub(crate) fn set(&mut self, log_scale: Tensor<B, 2>, shift: Tensor<B, 2>) {
        replace(&mut self.log_scale, log_scale);
        replace(&mut self.shift, shift);
    }

    fn log_det(&self, rows: usize) -> Tensor<B, 1> {
        expand(self.log_scale.val().sum(), [rows])
    }
}

/// Gives a parameter a new value under its old identity, so that optimizer state still finds it.
fn replace<B: Backend>(param: &mut Param<Tensor<B, 2>>, value: Tensor<B, 2>) {
    let trained = param.is_require_grad();
    let value = value.detach().set_require_grad(trained);
    *param = param.clone().map(|_| value);
}

impl<B: Backend> Bijector<B> for ElementwiseAffine<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.shift.dims()[1]
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        let log_det = self.log_det(x.dims()[0]);
        Mapped {
            value: self.forward(x, context),
            log_det,
        }
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&x, context.as_ref()));
        x * self.log_scale.val().exp() + self.shift.val()
    }
}

impl<B: Backend> Invert<B> for ElementwiseAffine<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        let log_det = self.log_det(y.dims()[0]).neg();
        Mapped {
            value: self.inverse(y, context),
            log_det,
        }
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        assert_ok(self.check(&y, context.as_ref()));
        (y - self.shift.val()) * self.log_scale.val().neg().exp()
    }
}

/// Raw parameters: `dim` log-scales `10 tanh(raw / 10)`, then `dim` shifts.
impl<B: Backend> RowMap<B> for ElementwiseAffineConfig {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn start(&self, _rng: &mut dyn Rng) -> Result<Vec<f64>, Error> {
        match self.dim {
            0 => Err(Error::config(NAME, "dim", 0, "at least 1")),
            dim => Ok(vec![0.0; 2 * dim]),
        }
    }

    fn forward(&self, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Mapped<B> {
        let log_scale = log_scale(columns(&raw, 0, self.dim));
        Mapped {
            value: x * log_scale.clone().exp() + columns(&raw, self.dim, self.dim),
            log_det: log_scale.sum_dim(1).squeeze_dim(1),
        }
    }

    fn inverse(&self, raw: Tensor<B, 2>, y: Tensor<B, 2>) -> (Mapped<B>, usize) {
        let shrink = log_scale(columns(&raw, 0, self.dim)).neg();
        let mapped = Mapped {
            value: (y - columns(&raw, self.dim, self.dim)) * shrink.clone().exp(),
            log_det: shrink.sum_dim(1).squeeze_dim(1),
        };
        (mapped, 1)
    }
}
