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

use std::any::Any;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, backend::Backend};

use crate::domain::{Interval, reals_to_reals};
use crate::error::Error;
use crate::magnitude::magnitude;
use crate::visit::{End, LayerVisit, Task};

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
    /// Largest `|forward(inverse(y)) - y|` over columns and the rows that have an inverse.
    pub residual: f64,
    /// Rows for which no inverse was found: NaN in value and log-determinant.
    pub unsolved: usize,
}

impl InverseReport {
    /// Compares `again`, the forward direction of an inverse, with the rows `y` that were inverted.
    ///
    /// # Shapes
    /// - `again`, `y`: `[batch, dim]`
    pub fn measure<B: Backend>(passes: usize, again: Tensor<B, 2>, y: Tensor<B, 2>) -> Self {
        let dim = y.dims()[1];
        let distances: Vec<f64> = magnitude(again - y).into_data().iter().collect();
        let (mut residual, mut unsolved) = (0.0, 0);
        for row in distances.chunks(dim) {
            match row
                .iter()
                .copied()
                .try_fold(0.0, |worst: f64, d| (!d.is_nan()).then(|| worst.max(d)))
            {
                Some(worst) => residual = worst.max(residual),
                None => unsolved += 1,
            }
        }
        Self {
            passes,
            residual,
            unsolved,
        }
    }
}

/// A differentiable, invertible map of `R^dim`, row by row.
///
/// Forward is the direction that takes one pass. To add a layer, implement [`dim`](Self::dim),
/// [`name`](Self::name) and [`forward_and_log_det`](Self::forward_and_log_det), implement
/// [`Invert`] if there is an inverse, and run
/// the conformance suite (feature `testing`) on it.
pub trait Bijector<B: Backend>: Module<B> + ModuleDisplay + 'static {
    /// Name used in error messages and reports, such as `"coupling"`.
    fn name(&self) -> &'static str;

    /// The layer itself; of an enum of layers, the one inside. A composition finds by its type which neighbours one
    /// operation computes.
    fn concrete(&self) -> &dyn Any {
        self
    }

    /// Number of columns the map takes and gives.
    fn dim(&self) -> usize;

    /// Number of context columns, 0 for a map without context.
    fn context_dim(&self) -> usize {
        0
    }

    /// Where the map takes each column.
    fn domain(&self) -> Vec<Interval> {
        vec![Interval::REALS; self.dim()]
    }

    /// Where the map takes columns to that lie in `of`. Most maps take the reals to the reals, and nothing else.
    ///
    /// # Errors
    /// [`Error::Config`] naming a column that may lie outside of [`domain`](Self::domain).
    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        reals_to_reals(self.name(), of)
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

    /// Does this layer's part of a task that a visit brings along: what is learned from data before training,
    /// running statistics, noise, temperatures. Layers with nothing of the kind keep this default.
    fn adapt(&mut self, _task: Task<'_, B>) {}

    /// Hands a visit to every layer inside, in the order of the forward direction. A composition overrides it,
    /// and visits each of its parts; a plain layer keeps this default.
    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        visit.layer(self);
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
    /// As [`domain`](Bijector::domain), of the inverse.
    fn inverse_domain(&self) -> Vec<Interval> {
        vec![Interval::REALS; self.dim()]
    }

    /// As [`image`](Bijector::image), of the inverse.
    ///
    /// # Errors
    /// As [`image`](Bijector::image).
    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        reals_to_reals(self.name(), of)
    }

    /// Maps `y` back and returns `log |det d inverse(y) / dy|` with it.
    ///
    /// # Shapes
    /// As in [`Bijector::forward_and_log_det`].
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B>;

    /// As [`visit_layers`](Bijector::visit_layers) in the order of the inverse direction, for rows that arrive at
    /// the output. A composition overrides both.
    fn visit_layers_inverse(&mut self, visit: &mut LayerVisit<B>) {
        visit.layer_inverse(self);
    }

    /// Maps `y` back without the log-determinant. Override where that saves work.
    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.inverse_and_log_det(y, context).value
    }

    /// As [`inverse_and_log_det`](Self::inverse_and_log_det), with the evaluations of the forward network that it
    /// took, in units of one full pass. Iterative inverses and compositions override it with their own counts.
    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        (self.inverse_and_log_det(y, context), 1)
    }

    /// As [`inverse_and_log_det`](Self::inverse_and_log_det), with how it was found and how good it is, measured by
    /// one more pass of the whole map.
    fn inverse_with_report(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, InverseReport) {
        let (mapped, passes) = self.inverse_and_passes(y.clone(), context.clone());
        let again = self.forward(mapped.value.clone(), context);
        (mapped, InverseReport::measure(passes, again, y))
    }
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

/// The context dimension of a composition, whose parts take either none or the same.
pub(crate) fn shared_context_dim(
    name: &'static str,
    first: usize,
    second: usize,
) -> Result<usize, Error> {
    match (first, second) {
        (a, b) if a == b || b == 0 => Ok(a),
        (0, b) => Ok(b),
        (a, b) => Err(Error::config(
            name,
            "context_dim",
            b,
            format!("{a}, or 0 for a layer without context"),
        )),
    }
}

impl<B: Backend> LayerVisit<B> {
    /// Does the task on one layer, on which rows arrive at its input, and takes the rows to its output.
    pub fn layer<L: Bijector<B>>(&mut self, layer: &mut L) {
        layer.adapt(self.task(End::Input));
        self.take_rows_through(layer.context_dim(), |x, context| layer.forward(x, context));
    }

    /// Does the task on one layer, on which rows arrive at its output, and takes the rows to its input.
    pub fn layer_inverse<L: Invert<B>>(&mut self, layer: &mut L) {
        layer.adapt(self.task(End::Output));
        self.take_rows_through(layer.context_dim(), |y, context| layer.inverse(y, context));
    }
}
