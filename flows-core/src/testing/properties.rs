//! The properties, each a method that records what failed.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::Failure;
use super::case::{Case, Precision};
use super::differentiate::{central_difference, jacobians, slog_det};
use super::layer::{Input, Invertible, Layer, Nudge};
use super::numbers::{batch, normal_batch, relative_error, rows, uniform_batch};
use super::panics::panics;
use crate::bijector::Mapped;

/// Rows in the random batches.
const ROWS: usize = 6;

/// The properties of one layer under way.
pub(super) struct Run<'a, B: AutodiffBackend> {
    case: &'a Case,
    precision: Precision,
    device: &'a B::Device,
    failures: Vec<Failure>,
    outputs: Vec<f64>,
}

impl<'a, B: AutodiffBackend> Run<'a, B> {
    pub(super) fn new(case: &'a Case, precision: Precision, device: &'a B::Device) -> Self {
        Self {
            case,
            precision,
            device,
            failures: Vec::new(),
            outputs: Vec::new(),
        }
    }

    pub(super) fn outputs(&self) -> Vec<f64> {
        self.outputs.clone()
    }

    pub(super) fn into_failures(self) -> Vec<Failure> {
        self.failures
    }

    pub(super) fn forward_properties(&mut self, layer: &dyn Layer<B>) {
        let plain = |i: Input<B>| layer.forward(i);
        let mapped = |i: Input<B>| layer.forward_and_log_det(i);
        let point = self.normal(layer);

        let both = mapped(point.clone());
        self.outputs.extend(rows(&both.value));
        self.outputs.extend(rows(&both.log_det));
        self.expect_close(
            "forward is the value of forward_and_log_det",
            &rows(&plain(point.clone())),
            &rows(&both.value),
            self.precision.row,
        );
        self.log_det_is_the_jacobians("log-det of forward", layer, &mapped);
        self.finite("forward", layer, &mapped);
        self.rows_are_independent("rows of forward are independent", layer, &mapped);
        self.follows_dependencies(layer, &plain);
        self.untouched_columns(layer, &plain);
        self.every_parameter_learns("forward", layer, &mapped);
        self.parameter_gradients(
            "gradients of forward",
            layer,
            &mapped,
            &|nudge, i: Input<B>| layer.forward_nudged(nudge, i),
        );
        self.refuses_wrong_shapes(layer);
        self.context_matters(layer, &mapped);
        self.saves_and_loads(layer);
        self.valid_keeps_outputs(layer);
        self.same_seed_same_bits(layer);
    }

    pub(super) fn inverse_properties(&mut self, layer: &dyn Invertible<B>) {
        let mapped = |i: Input<B>| layer.inverse_and_log_det(i);
        let start = self.normal(layer);
        let point = start.at(layer.forward(start.clone()).detach());

        let both = mapped(point.clone());
        self.outputs.extend(rows(&both.value));
        self.outputs.extend(rows(&both.log_det));
        let tolerance = self.round_trip_tolerance();
        self.expect_close(
            "inverse is the value of inverse_and_log_det",
            &rows(&layer.inverse(point.clone())),
            &rows(&both.value),
            tolerance,
        );

        for (points, start) in [("N(0, 1)", start), ("U(-5, 5)", self.uniform(layer))] {
            let there = layer.forward_and_log_det(start.clone());
            let back = layer.inverse_and_log_det(start.at(there.value.detach()));
            self.expect_close(
                &format!("inverse(forward(x)) = x, x from {points}"),
                &rows(&back.value),
                &rows(&start.x),
                tolerance,
            );
            self.expect_close(
                "log-det of inverse is minus that of forward",
                &rows(&back.log_det.neg()),
                &rows(&there.log_det),
                self.log_det_tolerance(),
            );
        }
        let back = layer.inverse(point.clone());
        let again = layer.forward(point.at(back.detach()));
        self.expect_close(
            "forward(inverse(y)) = y",
            &rows(&again),
            &rows(&point.x),
            tolerance,
        );
        self.jacobians_multiply_to_one(layer, &point);
        self.log_det_is_the_jacobians_at("log-det of inverse", &point, &mapped);
        self.rows_are_independent_at("rows of inverse are independent", &point, &mapped);
        self.every_parameter_learns("inverse", layer, &mapped);
        self.parameter_gradients(
            "gradients of inverse",
            layer,
            &mapped,
            &|nudge, i: Input<B>| layer.inverse_nudged(nudge, i),
        );
        self.reports_its_passes(layer, &point);
    }

    fn round_trip_tolerance(&self) -> f64 {
        self.case
            .inverse_tolerance
            .unwrap_or(0.0)
            .max(self.precision.round_trip)
    }

    fn log_det_tolerance(&self) -> f64 {
        self.case
            .inverse_tolerance
            .unwrap_or(0.0)
            .max(self.precision.log_det)
    }

    fn with_context(&self, layer: &dyn Layer<B>, x: Tensor<B, 2>) -> Input<B> {
        let columns = layer.context_dim();
        let context = (columns > 0).then(|| normal_batch([x.dims()[0], columns], 11, self.device));
        Input { x, context }
    }

    fn normal(&self, layer: &dyn Layer<B>) -> Input<B> {
        self.with_context(layer, normal_batch([ROWS, layer.dim()], 3, self.device))
    }

    fn uniform(&self, layer: &dyn Layer<B>) -> Input<B> {
        let x = uniform_batch([ROWS, layer.dim()], 5.0, 5, self.device);
        self.with_context(layer, x)
    }

    /// Constant rows 0, +-10 and +-1e3, and one of alternating signs.
    fn extremes(&self, layer: &dyn Layer<B>) -> Input<B> {
        let bound = self.case.bounded_domain.unwrap_or(f64::INFINITY);
        let clip = |v: f64| v.clamp(-bound, bound);
        let mut points = [0.0, 10.0, -10.0, 1e3, -1e3]
            .map(|v| vec![clip(v); layer.dim()])
            .to_vec();
        let alternating = (0..layer.dim()).map(|j| clip(if j % 2 == 0 { 1e3 } else { -1e3 }));
        points.push(alternating.collect());
        self.with_context(layer, batch(&points, self.device))
    }

    fn log_det_is_the_jacobians(
        &mut self,
        property: &str,
        layer: &dyn Layer<B>,
        f: &dyn Fn(Input<B>) -> Mapped<B>,
    ) {
        for input in [
            self.normal(layer),
            self.uniform(layer),
            self.extremes(layer),
        ] {
            self.log_det_is_the_jacobians_at(property, &input, f);
        }
    }

    /// Compares where the Jacobian's determinant has not under- or overflowed.
    fn log_det_is_the_jacobians_at(
        &mut self,
        property: &str,
        input: &Input<B>,
        f: &dyn Fn(Input<B>) -> Mapped<B>,
    ) {
        if self.case.estimated_log_det {
            return;
        }
        let value = |x: Tensor<B, 2>| f(input.at(x)).value;
        let exact = jacobians(value, &input.x);
        let ours = rows(&f(input.clone()).log_det);
        for (r, (ours, jacobian)) in ours.iter().zip(&exact).enumerate() {
            let reference = slog_det(jacobian);
            let error = relative_error(&[*ours], &[reference]);
            let tolerance = self.log_det_tolerance();
            if reference.is_finite() && (error.is_nan() || error > tolerance) {
                self.fail(
                    property,
                    format!("row {r}: {ours} is not log |det J| = {reference} of the Jacobian"),
                );
                return;
            }
        }
    }

    /// Values, log-determinants and every gradient at extreme points and on a batch of one.
    fn finite(&mut self, direction: &str, layer: &dyn Layer<B>, f: &dyn Fn(Input<B>) -> Mapped<B>) {
        let extremes = self.extremes(layer);
        let n = extremes.x.dims()[0];
        for r in 0..n {
            let mut one = row(&extremes, r);
            one.x = one.x.require_grad();
            let at = format!("{:?}", &rows(&one.x)[..layer.dim().min(3)]);
            let out = f(one.clone());
            let finite = |v: &[f64]| v.iter().all(|v| v.is_finite());
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

    fn rows_are_independent(
        &mut self,
        property: &str,
        layer: &dyn Layer<B>,
        f: &dyn Fn(Input<B>) -> Mapped<B>,
    ) {
        let input = self.uniform(layer);
        self.rows_are_independent_at(property, &input, f);
    }

    fn rows_are_independent_at(
        &mut self,
        property: &str,
        input: &Input<B>,
        f: &dyn Fn(Input<B>) -> Mapped<B>,
    ) {
        let whole = f(input.clone());
        let [n, dim] = whole.value.dims();
        let (values, log_dets) = (rows(&whole.value), rows(&whole.log_det));
        let tolerance = self
            .precision
            .row
            .max(self.case.inverse_tolerance.unwrap_or(0.0));
        for r in 0..n {
            let alone = f(row(input, r));
            let value = &values[r * dim..(r + 1) * dim];
            self.expect_close(property, &rows(&alone.value), value, tolerance);
            if !self.case.estimated_log_det {
                self.expect_close(property, &rows(&alone.log_det), &log_dets[r..=r], tolerance);
            }
        }
    }

    fn follows_dependencies(&mut self, layer: &dyn Layer<B>, f: &dyn Fn(Input<B>) -> Tensor<B, 2>) {
        let Some(graph) = &self.case.dependencies else {
            return;
        };
        let input = self.normal(layer);
        let value = |x| f(input.at(x));
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

    fn untouched_columns(&mut self, layer: &dyn Layer<B>, f: &dyn Fn(Input<B>) -> Tensor<B, 2>) {
        let input = self.uniform(layer);
        let (before, after) = (rows(&input.x), rows(&f(input.clone())));
        for &column in &self.case.untouched {
            let moved = (0..ROWS)
                .map(|r| r * layer.dim() + column)
                .any(|k| before[k].to_bits() != after[k].to_bits());
            if moved {
                let detail = format!("column {column} is not bit-equal");
                self.fail("untouched columns pass through", detail);
            }
        }
    }

    /// The negative log-likelihood under a normal base, and the reverse KL to a skewed target.
    fn every_parameter_learns(
        &mut self,
        direction: &str,
        layer: &dyn Layer<B>,
        f: &dyn Fn(Input<B>) -> Mapped<B>,
    ) {
        let out = f(self.normal(layer));
        let nll = (out.value.square() * 0.5).sum() - out.log_det.sum();
        let out = f(self.normal(layer));
        let centred = out.value - 0.7;
        let potential = centred.clone().square() * 0.5 + (centred * 1.3).sin();
        let reverse = potential.sum() - out.log_det.sum();
        for (objective, loss) in [("negative log-likelihood", nll), ("reverse KL", reverse)] {
            let back = loss.backward();
            for (path, gradient) in layer.gradients(&back) {
                if self.case.without_gradient.iter().any(|p| path.ends_with(p)) {
                    continue;
                }
                let verdict = match gradient {
                    None => "none",
                    Some(g) if g.iter().any(|v| !v.is_finite()) => "not finite",
                    Some(g) if g.iter().all(|v| *v == 0.0) => "zero",
                    Some(_) => continue,
                };
                let detail = format!("{objective} of {direction}: gradient of {path} is {verdict}");
                self.fail("every parameter learns", detail);
            }
        }
    }

    /// Autodiff against central differences, for the input and a few entries of each parameter.
    fn parameter_gradients(
        &mut self,
        property: &str,
        layer: &dyn Layer<B>,
        f: &dyn Fn(Input<B>) -> Mapped<B>,
        nudged: &dyn Fn(Nudge, Input<B>) -> Mapped<B>,
    ) {
        let Some(tolerance) = self.precision.gradient else {
            return;
        };
        let tolerance = tolerance.max(self.case.inverse_tolerance.unwrap_or(0.0) * 1e5);
        let input = self.normal(layer);
        let loss = |out: Mapped<B>| {
            (out.value.clone().square() * 0.5).sum() - out.log_det.sum() + out.value.sin().sum()
        };
        let scalar = |out: Mapped<B>| rows(&loss(out))[0];

        let tracked = input.at(input.x.clone().require_grad());
        let back = loss(f(tracked.clone())).backward();
        let ours = tracked.x.grad(&back).map(|g| rows(&g)).unwrap_or_default();
        let at = |x| scalar(f(input.at(x)));
        let reference = central_difference(at, &input.x);
        self.expect_gradient(property, "the input", &ours, &reference, tolerance);

        for (parameter, (path, gradient)) in layer.gradients(&back).into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let stride = gradient.len().div_ceil(4);
            let picked = (0..gradient.len()).step_by(stride).collect::<Vec<_>>();
            let h = 1e-5;
            let reference = picked
                .iter()
                .map(|&entry| {
                    let moved_by = |h| {
                        let nudge = Nudge {
                            parameter,
                            entry,
                            h,
                        };
                        scalar(nudged(nudge, input.clone()))
                    };
                    (moved_by(h) - moved_by(-h)) / (2.0 * h)
                })
                .collect::<Vec<_>>();
            let ours = picked.iter().map(|&e| gradient[e]).collect::<Vec<_>>();
            self.expect_gradient(property, &path, &ours, &reference, tolerance);
        }
    }

    fn expect_gradient(
        &mut self,
        property: &str,
        of: &str,
        ours: &[f64],
        reference: &[f64],
        tolerance: f64,
    ) {
        let scale = reference.iter().fold(1.0, |s: f64, v| s.max(v.abs()));
        let worst = ours
            .iter()
            .zip(reference)
            .map(|(a, b)| (a - b).abs() / scale)
            .fold(0.0, f64::max);
        if ours.len() != reference.len() || worst.is_nan() || worst > tolerance {
            let detail = format!("{of}: autodiff {ours:?}, central differences {reference:?}");
            self.fail(property, detail);
        }
    }

    fn refuses_wrong_shapes(&mut self, layer: &dyn Layer<B>) {
        let wide = normal_batch::<B>([2, layer.dim() + 1], 1, self.device);
        let right = self.normal(layer);
        let context_dim = layer.context_dim();
        let mut calls = vec![("one column too many", wide, right.context.clone())];
        if context_dim > 0 {
            calls.push(("no context", right.x.clone(), None));
            let narrow = normal_batch([ROWS - 1, context_dim], 1, self.device);
            calls.push(("a context row too few", right.x, Some(narrow)));
        } else {
            let ignored = normal_batch([ROWS, 1], 1, self.device);
            calls.push(("a context it would ignore", right.x, Some(ignored)));
        }
        for (what, x, context) in calls {
            let input = Input { x, context };
            let checked = layer.check(&input);
            let names_layer = checked
                .as_ref()
                .is_err_and(|e| e.to_string().contains(layer.name()));
            if !names_layer {
                let detail = format!("check() of {what} gave {checked:?}");
                self.fail("refuses wrong shapes", detail);
            }
            if !panics(|| layer.forward_and_log_det(input)) {
                self.fail("refuses wrong shapes", format!("forward took {what}"));
            }
        }
    }

    fn context_matters(&mut self, layer: &dyn Layer<B>, f: &dyn Fn(Input<B>) -> Mapped<B>) {
        let input = self.normal(layer);
        let Some(context) = input.context.clone() else {
            return;
        };
        let other = Input {
            x: input.x.clone(),
            context: Some(context + 1.0),
        };
        if rows(&f(input).value) == rows(&f(other).value) {
            let detail = "another context gave the same output".to_owned();
            self.fail("context changes the output", detail);
        }
    }

    fn saves_and_loads(&mut self, layer: &dyn Layer<B>) {
        let property = "a saved layer loads bit for bit";
        match layer.reloaded(self.case.seed + 1) {
            Err(error) => self.fail(property, error),
            Ok(loaded) => self.expect_same_bits(property, layer, &*loaded),
        }
    }

    fn valid_keeps_outputs(&mut self, layer: &dyn Layer<B>) {
        let input = self.normal(layer);
        let here = layer.forward_and_log_det(input.clone());
        let there = layer.forward_of_valid(input);
        let property = "valid() keeps outputs";
        let tolerance = self.precision.row;
        self.expect_close(property, &rows(&there.value), &rows(&here.value), tolerance);
        self.expect_close(
            property,
            &rows(&there.log_det),
            &rows(&here.log_det),
            tolerance,
        );
    }

    fn same_seed_same_bits(&mut self, layer: &dyn Layer<B>) {
        let property = "the same seed gives the same bits";
        match layer.rebuilt(self.case.seed) {
            Err(error) => self.fail(property, error),
            Ok(twin) => self.expect_same_bits(property, layer, &*twin),
        }
    }

    fn expect_same_bits(&mut self, property: &str, a: &dyn Layer<B>, b: &dyn Layer<B>) {
        let input = self.normal(a);
        let of = |layer: &dyn Layer<B>| {
            let out = layer.forward_and_log_det(input.clone());
            (rows(&out.value), rows(&out.log_det))
        };
        if of(a) != of(b) {
            self.fail(property, "outputs differ".to_owned());
        }
    }

    fn jacobians_multiply_to_one(&mut self, layer: &dyn Invertible<B>, image: &Input<B>) {
        let x = layer.inverse(image.clone()).detach();
        let forward = jacobians(|x| layer.forward(image.at(x)), &x);
        let inverse = jacobians(|y| layer.inverse(image.at(y)), &image.x);
        let tolerance = self
            .precision
            .jacobian_product
            .max(10.0 * self.case.inverse_tolerance.unwrap_or(0.0));
        for (r, (f, g)) in forward.iter().zip(&inverse).enumerate() {
            let product = f * g;
            let error = (&product - nalgebra::DMatrix::identity(f.nrows(), f.nrows())).amax();
            if error.is_nan() || error > tolerance {
                let detail = format!("row {r}: off the identity by {error:e}");
                self.fail("J(forward) J(inverse) = I", detail);
            }
        }
    }

    fn reports_its_passes(&mut self, layer: &dyn Invertible<B>, image: &Input<B>) {
        let property = "the inverse reports passes and residual";
        let (mapped, report) = layer.inverse_with_report(image.clone());
        let plain = layer.inverse(image.clone());
        let tolerance = self.round_trip_tolerance();
        self.expect_close(property, &rows(&mapped.value), &rows(&plain), tolerance);
        let scale = rows(&image.x).iter().fold(1.0, |s: f64, v| s.max(v.abs()));
        let small = report.residual >= 0.0 && report.residual <= tolerance * scale;
        let few = self
            .case
            .max_passes
            .is_none_or(|most| report.passes <= most);
        if !small || !few || report.passes == 0 {
            self.fail(property, format!("{report:?}"));
        }
    }

    fn expect_close(&mut self, property: &str, ours: &[f64], reference: &[f64], tolerance: f64) {
        let worst = relative_error(ours, reference);
        if ours.len() != reference.len() || worst.is_nan() || worst > tolerance {
            let detail = format!("relative error {worst:e}, allowed {tolerance:e}");
            self.fail(property, detail);
        }
    }

    fn fail(&mut self, property: &str, detail: String) {
        self.failures.push(Failure {
            layer: self.case.name.clone(),
            property: property.to_owned(),
            detail,
        });
    }
}

fn row<B: AutodiffBackend>(input: &Input<B>, r: usize) -> Input<B> {
    let pick = |t: &Tensor<B, 2>| t.clone().narrow(0, r, 1).detach();
    Input {
        x: pick(&input.x),
        context: input.context.as_ref().map(pick),
    }
}
