//! The contract every layer fulfils: a differentiable, invertible map with its log-determinant.
//!
//! # Orientation
//! *Forward* is the direction that a layer computes in one pass. Which of the two ends is data is
//! not the layer's business: [`Flow`](crate::flow::Flow) decides it, and
//! [`Inverted`](crate::bijectors::Inverted) flips a layer.
//!
//! # Shapes
//! Every map works row by row on `[batch, dim]`, beside an optional context `[batch, context_dim]`.
//! Wrong shapes are programming errors and panic with the message of the [`Error`] that
//! [`Bijector::check`] returns; call `check` first where the shapes come from outside.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

use crate::error::Error;
use crate::kernels::Stage;

/// What a map gives back: the mapped rows and the log-determinant of the direction called.
#[derive(Debug, Clone)]
pub struct Mapped<B: Backend> {
    /// Mapped rows, `[batch, dim]`.
    pub value: Tensor<B, 2>,
    /// `log |det d value / d input|` of each row in nats, `[batch]`, for the direction called.
    pub log_det: Tensor<B, 1>,
}

impl<B: Backend> Mapped<B> {
    /// A volume-preserving result: log-determinant zero.
    pub fn volume_preserving(value: Tensor<B, 2>) -> Self {
        let log_det = value.clone().slice([0..value.dims()[0], 0..1]).zeros_like();
        Self {
            value,
            log_det: log_det.squeeze_dim(1),
        }
    }

    /// Goes on from this value with `next`, adding the log-determinants.
    pub fn then(self, next: impl FnOnce(Tensor<B, 2>) -> Self) -> Self {
        let mapped = next(self.value);
        Self {
            value: mapped.value,
            log_det: self.log_det + mapped.log_det,
        }
    }
}

/// How an inverse was found and how good it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InverseReport {
    /// Evaluations of the forward network that the inverse cost, in units of one full pass.
    pub passes: usize,
    /// Largest `|forward(inverse(y)) - y|` over rows and columns.
    pub residual: f64,
}

impl InverseReport {
    /// The report of two inverses run one after the other.
    pub fn then(self, next: Self) -> Self {
        Self {
            passes: self.passes + next.passes,
            residual: self.residual.max(next.residual),
        }
    }
}

/// A differentiable, invertible map of `R^dim`, row by row.
///
/// Forward is the direction that takes one pass. To add a layer, implement [`dim`](Self::dim),
/// [`name`](Self::name) and [`forward_and_log_det`](Self::forward_and_log_det), implement
/// [`Invert`] if there is an inverse, and run
/// the conformance suite (feature `testing`) on it.
pub trait Bijector<B: Backend>: Module<B> + ModuleDisplay {
    /// Name used in error messages and reports, such as `"affine coupling"`.
    fn name(&self) -> &'static str;

    /// Number of columns the map takes and gives.
    fn dim(&self) -> usize;

    /// Number of context columns, 0 for a map without context.
    fn context_dim(&self) -> usize {
        0
    }

    /// Maps `x` and returns `log |det d forward(x) / dx|` with it.
    ///
    /// # Shapes
    /// - `x`: `[batch, dim]`
    /// - `context`: `[batch, context_dim]`, given exactly when `context_dim() > 0`
    /// - value `[batch, dim]`, log-determinant `[batch]`, in nats
    ///
    /// # Panics
    /// With the message of [`check`](Self::check) on wrong shapes.
    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B>;

    /// Maps `x` without its log-determinant. Override where that saves work.
    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.forward_and_log_det(x, context).value
    }

    /// Sets what a layer learns from data before training (activation normalization), from a batch
    /// as it arrives at this layer, and returns the layer's output for it.
    ///
    /// Layers without such quantities keep this default.
    fn fit_statistics(&mut self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.forward(x, context)
    }

    /// Fixes what a layer takes from every batch while it trains (batch normalization) at its value over
    /// the whole training set, for all calls that follow, and returns the layer's outputs.
    ///
    /// The set comes in chunks, as it arrives at this layer, so that it need not fit into one batch;
    /// the contexts come in the same chunks. To go on with training, fix a copy. Layers without such
    /// statistics keep this default.
    ///
    /// # Shapes
    /// Of chunk `k`, here and in the result: `[rows_k, dim]`, context `[rows_k, context_dim]`.
    fn fix_statistics(
        &mut self,
        chunks: Vec<Tensor<B, 2>>,
        contexts: Option<&[Tensor<B, 2>]>,
    ) -> Vec<Tensor<B, 2>> {
        let chunks = chunks.into_iter().enumerate();
        chunks
            .map(|(k, x)| self.forward(x, contexts.map(|c| c[k].clone())))
            .collect()
    }

    /// Gives layers with random estimators new noise, a pure function of `seed`, for the calls that
    /// follow. Layers without noise keep this default.
    ///
    /// Training calls it once a step with a seed made of run and step, so that a resumed run draws
    /// what an uninterrupted one would have drawn.
    fn resample_noise(&mut self, _seed: u64) {}

    /// This layer as part of a run that a composition hands to one fused operation, or nothing, as for all
    /// layers of other crates.
    #[doc(hidden)]
    fn stage(&self, _context: Option<&Tensor<B, 2>>) -> Option<Stage<B>> {
        None
    }

    /// Checks the shapes of a call.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::MissingContext`], [`Error::UnexpectedContext`] or
    /// [`Error::ContextShape`], naming this layer, what it expected and what it got.
    fn check(&self, x: &Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Result<(), Error> {
        check_shapes(self.name(), self.dim(), self.context_dim(), x, context)
    }
}

/// The other direction, for layers that have one.
pub trait Invert<B: Backend>: Bijector<B> {
    /// Maps `y` back and returns `log |det d inverse(y) / dy|` with it.
    ///
    /// # Shapes
    /// As in [`Bijector::forward_and_log_det`].
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B>;

    /// Maps `y` back without the log-determinant. Override where that saves work.
    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.inverse_and_log_det(y, context).value
    }

    /// As [`inverse_and_log_det`](Self::inverse_and_log_det), with the passes it took and the
    /// residual it left. Iterative inverses override it with their own counts.
    fn inverse_with_report(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, InverseReport) {
        let mapped = self.inverse_and_log_det(y.clone(), context.clone());
        let residual = residual(self.forward(mapped.value.clone(), context), y);
        (
            mapped,
            InverseReport {
                passes: 1,
                residual,
            },
        )
    }
}

/// Largest absolute difference of two batches, NaN if either holds one.
pub fn residual<B: Backend>(a: Tensor<B, 2>, b: Tensor<B, 2>) -> f64 {
    (a - b)
        .abs()
        .into_data()
        .iter::<f64>()
        .fold(0.0, |worst: f64, v| {
            if v.is_nan() || worst.is_nan() {
                f64::NAN
            } else {
                worst.max(v)
            }
        })
}

/// The part of `context` that a layer inside a composition takes: all of it, or none.
pub fn context_for<B: Backend, L: Bijector<B>>(
    layer: &L,
    context: &Option<Tensor<B, 2>>,
) -> Option<Tensor<B, 2>> {
    if layer.context_dim() > 0 {
        context.clone()
    } else {
        None
    }
}

/// As [`context_for`], for a context in chunks.
pub fn contexts_for<'a, B: Backend, L: Bijector<B>>(
    layer: &L,
    contexts: Option<&'a [Tensor<B, 2>]>,
) -> Option<&'a [Tensor<B, 2>]> {
    contexts.filter(|_| layer.context_dim() > 0)
}

/// The check behind [`Bijector::check`], for distributions and networks as well.
///
/// # Errors
/// As [`Bijector::check`].
pub fn check_shapes<B: Backend>(
    layer: &'static str,
    dim: usize,
    context_dim: usize,
    x: &Tensor<B, 2>,
    context: Option<&Tensor<B, 2>>,
) -> Result<(), Error> {
    let [rows, columns] = x.dims();
    if columns != dim {
        return Err(Error::Dimension {
            layer,
            expected: dim,
            actual: columns,
        });
    }
    check_context(layer, rows, context_dim, context)
}

/// Checks a context against the rows of its batch and the columns a layer needs.
///
/// # Errors
/// As [`Bijector::check`], except for [`Error::Dimension`].
pub fn check_context<B: Backend>(
    layer: &'static str,
    rows: usize,
    context_dim: usize,
    context: Option<&Tensor<B, 2>>,
) -> Result<(), Error> {
    match context.map(Tensor::dims) {
        None if context_dim == 0 => Ok(()),
        None => Err(Error::MissingContext {
            layer,
            expected: context_dim,
        }),
        Some([_, actual]) if context_dim == 0 => Err(Error::UnexpectedContext { layer, actual }),
        Some([r, c]) if r == rows && c == context_dim => Ok(()),
        Some([actual_rows, actual_columns]) => Err(Error::ContextShape {
            layer,
            expected_rows: rows,
            expected_columns: context_dim,
            actual_rows,
            actual_columns,
        }),
    }
}

/// Panics with the error's message, at the caller's line.
#[track_caller]
pub(crate) fn assert_ok(checked: Result<(), Error>) {
    if let Err(error) = checked {
        panic!("{error}");
    }
}
