//! What holds for each direction of a layer.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use nalgebra::DMatrix;

use super::{ROUNDING, ROWS, Run, epsilon, finite};
use crate::bijector::Mapped;
use crate::domain::Interval;
use crate::testing::built::Input;
use crate::testing::case::Case;
use crate::testing::differentiate::{jacobians, slog_det};
use crate::testing::layer::{Direction, Layer};
use crate::testing::numbers::{normal_batch, relative_error, rows};

impl<B: AutodiffBackend> Run<'_, B, Case> {
    pub(super) fn direction_properties(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        let point = self.points(direction, layer, self.normal(layer));
        let both = layer.mapped(direction, point.clone());
        if self.place.is_empty() {
            self.records(&both);
        }
        self.expect_close(
            &format!("{direction} is the value of {direction}_and_log_det"),
            &rows(&layer.value(direction, point.clone())),
            &rows(&both.value),
            self.tolerance(direction),
        );
        self.log_det_is_the_jacobians(direction, layer);
        self.finite(direction, layer);
        self.order_of_memory_does_not_matter(direction, layer);
        self.rows_are_independent(direction, layer);
        if direction == Direction::Forward {
            self.follows_dependencies(layer);
        }
        self.untouched_columns(direction, layer);
        self.context_matters(direction, layer);
        self.valid_keeps_outputs(direction, layer, &point, &both);
    }

    /// What lies in the domain is mapped to where the layer says.
    fn leads_to_its_image(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        let [domain, image] = layer
            .domain_and_image()
            .expect("a layer takes its own domain");
        let ends = match direction {
            Direction::Forward => image,
            Direction::Inverse => domain,
        };
        let points = self.points(direction, layer, self.uniform(layer));
        let out = rows(&layer.value(direction, points));
        let lies = |(value, of): (&f64, &Interval)| of.low <= *value && *value <= of.high;
        if !out
            .chunks(ends.len())
            .all(|row| row.iter().zip(&ends).all(lies))
        {
            let detail = format!("{direction} leads out of {ends:?}: {out:?}");
            self.fail("leads to its image", detail);
        }
    }

    /// A batch that is not row-major in memory, as picked or transposed columns are, gives what its numbers give.
    pub(super) fn order_of_memory_does_not_matter(
        &mut self,
        direction: Direction,
        layer: &dyn Layer<B>,
    ) {
        let x = Tensor::cat(vec![self.normal(layer).x, self.uniform(layer).x], 0);
        let input = self.with_context(layer.context_dim(), x);
        let input = self.points(direction, layer, input);
        let options = (&self.options.device, input.x.dtype());
        let columns = input.x.clone().transpose().into_data();
        let turned = Tensor::<B, 2>::from_data(columns, options).transpose();
        let rows_of = |x| layer.mapped(direction, input.at(x));
        let (ours, reference) = (rows_of(turned), rows_of(input.x.clone()));
        let tolerance = self.tolerance(direction);
        let property = format!("{direction} of rows in another order of memory");
        let numbers = |m: &Mapped<B>| [rows(&m.value), rows(&m.log_det)];
        let pairs = numbers(&ours).into_iter().zip(numbers(&reference));
        for (ours, reference) in pairs {
            self.expect_close(&property, &ours, &reference, tolerance);
        }
    }

    /// Compares where the Jacobian's determinant has not under- or overflowed.
    fn log_det_is_the_jacobians(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        if self.case.estimated_log_det {
            return;
        }
        let (normal, uniform) = (self.normal(layer).x, self.uniform(layer).x);
        let x = match direction {
            Direction::Forward => vec![normal, uniform, self.extremes(layer).x],
            Direction::Inverse => vec![normal, uniform],
        };
        let input = self.with_context(layer.context_dim(), Tensor::cat(x, 0));
        let input = self.points(direction, layer, input);
        let value = |x: Tensor<B, 2>| layer.mapped(direction, input.at(x)).value;
        let exact = jacobians(value, &input.x);
        let ours = rows(&layer.mapped(direction, input.clone()).log_det);
        for (r, (ours, jacobian)) in ours.iter().zip(&exact).enumerate() {
            let reference = slog_det(jacobian);
            let error = relative_error(&[*ours], &[reference]);
            let own = reference_error(jacobian, epsilon(&input.x));
            let tolerance = self.log_det_tolerance().max(own);
            if reference.is_finite() && (error.is_nan() || error > tolerance) {
                self.fail(
                    &format!("log-det of {direction}"),
                    format!("row {r}: {ours} is not log |det J| = {reference} of the Jacobian"),
                );
                return;
            }
        }
    }

    /// Values, log-determinants and every gradient at extreme points and on a batch of one.
    fn finite(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        self.leads_to_its_image(direction, layer);
        let extremes = self.points(direction, layer, self.extremes(layer));
        for r in 0..extremes.x.dims()[0] {
            let mut one = extremes.row(r);
            one.x = one.x.require_grad();
            let at = format!("{:?}", &rows(&one.x)[..layer.dim().min(3)]);
            let out = layer.mapped(direction, one.clone());
            if !finite(&rows(&out.value)) || !finite(&rows(&out.log_det)) {
                self.fail(
                    "finite at extremes",
                    format!("{direction} of {at} is not finite"),
                );
                continue;
            }
            let loss = out.log_det.sum() + out.value.sum();
            let back = loss.backward();
            let input = one.x.grad(&back).map(|g| rows(&g)).unwrap_or_default();
            if !finite(&input) {
                let detail = format!("gradient of {direction} in its input at {at}: {input:?}");
                self.fail("finite gradients at extremes", detail);
            }
            for (path, gradient) in layer.gradients(&back) {
                if gradient.is_some_and(|g| !finite(&g)) {
                    let detail = format!("gradient of {direction} in {path} at {at}");
                    self.fail("finite gradients at extremes", detail);
                }
            }
        }
    }

    fn rows_are_independent(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        let property = format!("rows of {direction} are independent");
        let input = match direction {
            Direction::Forward => self.uniform(layer),
            Direction::Inverse => self.points(direction, layer, self.normal(layer)),
        };
        let whole = layer.mapped(direction, input.clone());
        let (values, log_dets) = (rows(&whole.value), rows(&whole.log_det));
        let tolerance = self.case.inverse_tolerance.unwrap_or(0.0);
        let tolerance = tolerance.max(self.precision.row);
        for (r, value) in values.chunks(layer.dim()).enumerate() {
            let alone = layer.mapped(direction, input.row(r));
            self.expect_close(&property, &rows(&alone.value), value, tolerance);
            if !self.case.estimated_log_det {
                self.expect_close(
                    &property,
                    &rows(&alone.log_det),
                    &log_dets[r..=r],
                    tolerance,
                );
            }
        }
    }

    fn follows_dependencies(&mut self, layer: &dyn Layer<B>) {
        let Some(graph) = &self.case.dependencies else {
            return;
        };
        let input = self.normal(layer);
        let value = |x| layer.value(Direction::Forward, input.at(x));
        let found = jacobians(value, &input.x);
        for (i, row) in graph.iter().enumerate() {
            for (j, allowed) in row.iter().enumerate() {
                let depends = found.iter().any(|jacobian| jacobian[(i, j)] != 0.0);
                if depends != *allowed {
                    let verb = if depends {
                        "depends"
                    } else {
                        "does not depend"
                    };
                    self.fail(
                        "Jacobian follows the dependency graph",
                        format!("output {i} {verb} on input {j}"),
                    );
                }
            }
        }
    }

    fn untouched_columns(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        let input = self.uniform(layer);
        let after = rows(&layer.value(direction, input.clone()));
        let before = rows(&input.x);
        for &column in &self.case.untouched {
            let moved = (0..ROWS)
                .map(|r| r * layer.dim() + column)
                .any(|k| before[k].to_bits() != after[k].to_bits());
            if moved {
                let detail = format!("column {column} is not bit-equal in {direction}");
                self.fail("untouched columns pass through", detail);
            }
        }
    }

    fn context_matters(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        let input = self.points(direction, layer, self.normal(layer));
        let Some(context) = input.context.clone() else {
            return;
        };
        let other = Input {
            x: input.x.clone(),
            context: Some(context + 1.0),
        };
        let of = |input| rows(&layer.value(direction, input));
        if of(input) == of(other) {
            let detail = format!("another context gave the same output of {direction}");
            self.fail("context changes the output", detail);
        }
    }

    fn valid_keeps_outputs(
        &mut self,
        direction: Direction,
        layer: &dyn Layer<B>,
        point: &Input<B>,
        here: &Mapped<B>,
    ) {
        let there = layer.mapped_by_valid(direction, point.clone());
        let property = format!("valid() keeps outputs of {direction}");
        let tolerance = self.tolerance(direction);
        self.expect_close(
            &property,
            &rows(&there.value),
            &rows(&here.value),
            tolerance,
        );
        let (there, here) = (rows(&there.log_det), rows(&here.log_det));
        let tolerance = match direction {
            Direction::Forward => tolerance,
            Direction::Inverse => self.log_det_tolerance(),
        };
        self.expect_close(&property, &there, &here, tolerance);
    }

    /// By `check`, and by a panic with its message in every call.
    pub(super) fn refuses_wrong_shapes(&mut self, layer: &dyn Layer<B>) {
        let right = self.normal(layer);
        let context_dim = layer.context_dim();
        let wide = normal_batch([ROWS, layer.dim() + 1], 1, self.options.clone());
        let context = |rows, columns| Some(normal_batch([rows, columns], 1, self.options.clone()));
        let with = |context| Input {
            x: right.x.clone(),
            context,
        };
        let mut inputs = vec![("one column too many", right.at(wide))];
        if context_dim > 0 {
            inputs.push(("no context", with(None)));
            inputs.push((
                "a context row too few",
                with(context(ROWS - 1, context_dim)),
            ));
            let wide = with(context(ROWS, context_dim + 1));
            inputs.push(("a context column too many", wide));
        } else {
            inputs.push(("a context it would ignore", with(context(ROWS, 1))));
        }
        for (what, input) in inputs {
            let message = match layer.check(&input) {
                Err(error) if error.to_string().contains(layer.name()) => error.to_string(),
                checked => {
                    let detail = format!("check() of {what} gave {checked:?}");
                    self.fail("refuses wrong shapes", detail);
                    continue;
                }
            };
            let mut calls = Vec::new();
            for &direction in layer.directions() {
                let input = &input;
                let mapped: Box<dyn FnOnce()> = Box::new(move || {
                    layer.mapped(direction, input.clone());
                });
                let value = Box::new(move || {
                    layer.value(direction, input.clone());
                });
                let name = format!("{direction}_and_log_det with {what}");
                calls.push((name, message.clone(), mapped));
                calls.push((format!("{direction} with {what}"), message.clone(), value));
            }
            if layer.directions().contains(&Direction::Inverse) {
                let report = Box::new(|| {
                    layer.inverse_with_report(input.clone());
                });
                calls.push((format!("inverse_with_report with {what}"), message, report));
            }
            self.expect_refusals(calls);
        }
    }

    pub(super) fn takes_an_empty_batch(&mut self, layer: &dyn Layer<B>) {
        let empty = self.normal(layer).empty();
        if self.empty_slices_change_type() {
            return;
        }
        let (value, both) = (
            vec![vec![0, layer.dim()]],
            vec![vec![0, layer.dim()], vec![0]],
        );
        let mut calls: Vec<super::Call<'_>> = Vec::new();
        for &direction in layer.directions() {
            let input = || empty.clone();
            calls.push((
                direction.to_string(),
                value.clone(),
                Box::new(move || vec![layer.value(direction, input()).dims().to_vec()]),
            ));
            calls.push((
                format!("{direction}_and_log_det"),
                both.clone(),
                Box::new(move || shapes(&layer.mapped(direction, input()))),
            ));
            calls.push((
                format!("{direction}_and_log_det of valid()"),
                both.clone(),
                Box::new(move || shapes(&layer.mapped_by_valid(direction, input()))),
            ));
        }
        if layer.directions().contains(&Direction::Inverse) {
            calls.push((
                "inverse_with_report".to_owned(),
                both,
                Box::new(|| shapes(&layer.inverse_with_report(empty.clone()).0)),
            ));
        }
        self.expect_shapes(calls);
    }
}

/// How far `log |det|` of a Jacobian may be off, to first order: by the elimination in f64, and by rounding of
/// the entries. Infinite where it has no inverse.
fn reference_error(jacobian: &DMatrix<f64>, epsilon: f64) -> f64 {
    let Some(inverse) = jacobian.clone().try_inverse() else {
        return f64::INFINITY;
    };
    let condition = jacobian.norm() * inverse.norm();
    let of_entries = jacobian.component_mul(&inverse.transpose()).abs().sum();
    let error = ROUNDING * (f64::EPSILON * condition + epsilon * of_entries);
    if error.is_nan() { f64::INFINITY } else { error }
}

fn shapes<B: burn::tensor::backend::Backend>(mapped: &Mapped<B>) -> Vec<Vec<usize>> {
    vec![mapped.value.dims().to_vec(), mapped.log_det.dims().to_vec()]
}
