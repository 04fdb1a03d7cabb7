//! What holds for the parameters of a layer: gradients, seeds, and the saved state.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use rand_distr::{Distribution as _, StandardNormal};

use super::{Run, finite};
use crate::bijector::Mapped;
use crate::init::options_of;
use crate::random::generator;
use crate::testing::built::Input;
use crate::testing::case::Case;
use crate::testing::differentiate::central_difference;
use crate::testing::layer::{Direction, Layer};
use crate::testing::numbers::{batch, relative_error, rows};

impl<B: AutodiffBackend> Run<'_, B, Case> {
    pub(super) fn parameter_properties(&mut self, direction: Direction, layer: &dyn Layer<B>) {
        let point = self.points(direction, layer, self.normal(layer));
        self.every_parameter_learns(direction, layer, &point);
        self.gradients_are_differences(direction, layer, &point);
    }

    /// From the negative log-likelihood under a normal base, or the reverse KL to a skewed target.
    ///
    /// The base has another scale in each column: it would not feel a rotation otherwise. A parameter
    /// may be reached by none of them in one place, as those of a network whose output layer starts at zero,
    /// if it moves nothing there either; then it must be reached in the other place.
    pub(super) fn every_parameter_learns(
        &mut self,
        direction: Direction,
        layer: &dyn Layer<B>,
        point: &Input<B>,
    ) {
        let gradients = |objective: fn(Mapped<B>) -> Tensor<B, 1>| {
            let loss = objective(layer.mapped(direction, point.clone()));
            layer.gradients(&loss.backward())
        };
        let likelihood = gradients(negative_log_likelihood);
        let reverse = gradients(reverse_kl);
        let trained = trained(layer);
        for (k, ((path, first), (_, second))) in likelihood.into_iter().zip(reverse).enumerate() {
            let all = [first, second].map(Option::unwrap_or_default).concat();
            if self.place.is_empty() {
                self.outputs.extend(&all);
            }
            let is = |names: &[&str]| names.iter().any(|name| path.ends_with(name));
            let (statistic, declared) =
                (is(&self.case.statistics), is(&self.case.without_gradient));
            let reached = all.iter().any(|g| g.abs() > self.precision.row);
            let detail = match trained[k] {
                true if statistic => {
                    format!("{path} is declared a statistic and requires a gradient")
                }
                false if statistic => continue,
                false => format!(
                    "{path} requires no gradient, so nothing trains it; if it is taken from data, \
                     declare it by Case::statistics"
                ),
                true if !finite(&all) => format!("{direction}: gradient of {path} is not finite"),
                true if reached && declared => format!(
                    "{direction}: {path} is declared without a gradient by Case::without_gradient, and has one"
                ),
                true if reached => continue,
                true if self.moves_the_output(direction, layer, k, point) => format!(
                    "{direction}: {path} moves the output, and gets no gradient from the negative \
                     log-likelihood nor from the reverse KL: it is detached on the way"
                ),
                true if declared => continue,
                true => {
                    *self
                        .unreached
                        .entry(format!("{direction}: {path}"))
                        .or_default() += 1;
                    continue;
                }
            };
            self.fail("every parameter learns", detail);
        }
    }

    /// Those that no objective reached in any of the `places`.
    pub(super) fn reports_dead_parameters(&mut self, places: usize) {
        for (parameter, count) in std::mem::take(&mut self.unreached) {
            if count == places {
                let detail = format!(
                    "{parameter} gets no gradient from the negative log-likelihood nor from the reverse KL, \
                     and moves nothing; if that is so by construction, declare it by Case::without_gradient"
                );
                self.fail("every parameter learns", detail);
            }
        }
    }

    /// Whether a move of one parameter moves the output, to first order: an even function of it does not.
    fn moves_the_output(
        &self,
        direction: Direction,
        layer: &dyn Layer<B>,
        parameter: usize,
        point: &Input<B>,
    ) -> bool {
        let at = |h: f64| {
            let out = along(layer, parameter, h).mapped(direction, point.clone());
            [rows(&out.value), rows(&out.log_det)].concat()
        };
        let error = relative_error(&at(1e-2), &at(-1e-2));
        error.is_nan() || error > 10.0 * self.round_trip_tolerance()
    }

    /// Autodiff against central differences: in the input, and along a random direction of each parameter.
    fn gradients_are_differences(
        &mut self,
        direction: Direction,
        layer: &dyn Layer<B>,
        point: &Input<B>,
    ) {
        let Some(tolerance) = self.precision.gradient else {
            return;
        };
        let property = format!("gradients of {direction}");
        // What a solver leaves is divided by the step of the differences. Beyond a thousandth the check would say nothing.
        let solver = self.case.inverse_tolerance.unwrap_or(0.0) * 1e5;
        let tolerance = tolerance.max(solver.min(1e-3));
        let tracked = point.at(point.x.clone().require_grad());
        let back = losses(layer.mapped(direction, tracked.clone()))
            .sum()
            .backward();
        let ours = tracked.x.grad(&back).map(|g| rows(&g)).unwrap_or_default();
        let at = |x| rows(&losses(layer.mapped(direction, point.at(x))));
        let difference = |h| central_difference(at, &point.x, h);
        self.expect_gradient(&property, "the input", &ours, difference, tolerance);

        for (parameter, (path, gradient)) in layer.gradients(&back).into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let slopes = gradient.iter().zip(random_direction(parameter));
            let ours: f64 = slopes.map(|(g, d)| g * d).sum();
            let at = |h: f64| -> f64 {
                let moved = along(layer, parameter, h);
                let losses = losses(moved.mapped(direction, point.clone()));
                rows(&losses).iter().sum()
            };
            let difference = |h| vec![(at(h) - at(-h)) / (2.0 * h)];
            self.expect_gradient(&property, &path, &[ours], difference, tolerance);
        }
    }

    /// `difference` takes a step. By how much two steps disagree is the error of the differences themselves.
    fn expect_gradient(
        &mut self,
        property: &str,
        of: &str,
        ours: &[f64],
        difference: impl Fn(f64) -> Vec<f64>,
        tolerance: f64,
    ) {
        let (coarse, reference) = (difference(1e-5), difference(5e-6));
        let scale = reference.iter().fold(1.0, |s: f64, v| s.max(v.abs()));
        let off = |k: usize| {
            let own = (coarse[k] - reference[k]).abs();
            let error = (ours[k] - reference[k]).abs();
            error.is_nan() || own.is_nan() || error > tolerance * scale + own
        };
        if ours.len() != reference.len() || (0..ours.len()).any(off) {
            let detail = format!("{of}: autodiff {ours:?}, central differences {reference:?}");
            self.fail(property, detail);
        }
    }

    pub(super) fn saves_and_loads(&mut self, layer: &dyn Layer<B>) {
        let property = "a saved layer loads bit for bit";
        match layer.reloaded(self.case.seed + 1) {
            Err(error) => self.fail(property, error),
            Ok(loaded) => self.expect_same_bits(property, layer, &*loaded),
        }
    }

    pub(super) fn same_seed_same_bits(&mut self, layer: &dyn Layer<B>) {
        let property = "the same seed gives the same bits";
        match layer.rebuilt(self.case.seed) {
            Err(error) => self.fail(property, error),
            Ok(twin) => self.expect_same_bits(property, layer, &*twin),
        }
    }

    fn expect_same_bits(&mut self, property: &str, a: &dyn Layer<B>, b: &dyn Layer<B>) {
        for &direction in a.directions() {
            let point = self.points(direction, a, self.normal(a));
            let of = |layer: &dyn Layer<B>| {
                let out = layer.mapped(direction, point.clone());
                [rows(&out.value), rows(&out.log_det)].concat()
            };
            if of(a) != of(b) {
                self.fail(property, format!("outputs of {direction} differ"));
            }
        }
    }
}

fn negative_log_likelihood<B: AutodiffBackend>(out: Mapped<B>) -> Tensor<B, 1> {
    let columns = 0..out.value.dims()[1];
    let row =
        |of: fn(usize) -> f64| batch(&[columns.clone().map(of).collect()], options_of(&out.value));
    let (location, precision) = (
        row(|j| 0.3 - 0.2 * j as f64),
        row(|j| 1.0 / (1.0 + j as f64)),
    );
    let standardized = (out.value.clone() - location) * precision;
    (standardized.square() * 0.5).sum() - out.log_det.sum()
}

fn reverse_kl<B: AutodiffBackend>(out: Mapped<B>) -> Tensor<B, 1> {
    let centred = out.value - 0.7;
    let potential = centred.clone().square() * 0.5 + (centred * 1.3).sin();
    potential.sum() - out.log_det.sum()
}

/// A loss for each row in which every output has a slope of its own.
fn losses<B: AutodiffBackend>(out: Mapped<B>) -> Tensor<B, 1> {
    let of_value = out.value.clone().square() * 0.5 + out.value.sin();
    of_value.sum_dim(1).squeeze_dim::<1>(1) - out.log_det
}

/// Which parameters an optimizer trains, in visiting order.
fn trained<B: AutodiffBackend>(layer: &dyn Layer<B>) -> Vec<bool> {
    let mut trained = Vec::new();
    layer.edited(&mut |parameter| trained.push(parameter.trained));
    trained
}

/// `layer` with one parameter moved by `h` along its [`random_direction`].
fn along<B: AutodiffBackend>(
    layer: &dyn Layer<B>,
    parameter: usize,
    h: f64,
) -> Box<dyn Layer<B> + '_> {
    layer.edited(&mut |edited| {
        if edited.index == parameter {
            let direction = random_direction(parameter);
            edited
                .values
                .iter_mut()
                .zip(direction)
                .for_each(|(v, d)| *v += h * d);
        }
    })
}

fn random_direction(parameter: usize) -> impl Iterator<Item = f64> {
    let mut rng = generator(parameter as u64);
    std::iter::repeat_with(move || StandardNormal.sample(&mut rng))
}
