//! The properties, each a method that records what failed.

mod directions;
mod distribution;
mod inverse;
mod parameters;

use std::collections::BTreeMap;
use std::f64::consts::PI;

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorCreationOptions, TensorData};
use rand_distr::{Distribution as _, StandardNormal};

use super::built::{Edited, Input};
use super::case::{Case, Precision};
use super::failure::Failure;
use super::layer::{Direction, Layer};
use super::numbers::{batch, normal_batch, relative_error, rows, uniform_batch};
use super::panics::panic_message;
use crate::bijector::Mapped;
use crate::domain::Interval;
use crate::error::Error;
use crate::init::options_of;
use crate::random::{ChaCha12Rng, generator};

/// Rows in the random batches.
const ROWS: usize = 6;

/// Units of rounding that the numbers behind a comparison may be off by.
const ROUNDING: f64 = 16.0;

/// The properties of one layer or distribution under way.
pub(super) struct Run<'a, B: AutodiffBackend, C> {
    case: &'a C,
    name: &'a str,
    precision: Precision,
    options: &'a TensorCreationOptions<B>,
    /// How the parameters have been moved away from where they start, to say it of a failure.
    place: String,
    failures: Vec<Failure>,
    outputs: Vec<f64>,
    /// In how many places no objective reached a parameter.
    unreached: BTreeMap<String, usize>,
}

impl<'a, B: AutodiffBackend, C> Run<'a, B, C> {
    pub(super) fn new(
        case: &'a C,
        name: &'a str,
        precision: Precision,
        options: &'a TensorCreationOptions<B>,
    ) -> Self {
        Self {
            case,
            name,
            precision,
            options,
            place: String::new(),
            failures: Vec::new(),
            outputs: Vec::new(),
            unreached: BTreeMap::new(),
        }
    }

    /// What was computed, for a comparison with another backend, and what failed.
    pub(super) fn end(self) -> (Vec<f64>, Vec<Failure>) {
        (self.outputs, self.failures)
    }

    pub(super) fn not_built(&mut self, error: &Error) {
        self.fail("builds from its configuration", error.to_string());
    }

    fn with_context(&self, context_dim: usize, x: Tensor<B, 2>) -> Input<B> {
        let rows = x.dims()[0];
        let context =
            (context_dim > 0).then(|| normal_batch([rows, context_dim], 11, self.options.clone()));
        Input { x, context }
    }

    /// Constant rows 0, +-10 and +-1e3, and one of alternating signs, within `+-bound`.
    fn extreme_rows(&self, dim: usize, bound: f64) -> Tensor<B, 2> {
        let clip = |v: f64| v.clamp(-bound, bound);
        let mut points = [0.0, 10.0, -10.0, 1e3, -1e3]
            .map(|v| vec![clip(v); dim])
            .to_vec();
        let alternating = (0..dim).map(|j| clip(if j % 2 == 0 { 1e3 } else { -1e3 }));
        points.push(alternating.collect());
        batch(&points, self.options.clone())
    }

    /// Calls that must panic, each with the message of the error expected.
    fn expect_refusals(&mut self, calls: Vec<Refusal<'_>>) {
        for (what, expected, call) in calls {
            let seen = match panic_message(call) {
                Some(message) if message.ends_with(&expected) => continue,
                Some(message) => format!("panicked with \"{message}\", not with \"{expected}\""),
                None => format!("passed, expected a panic with \"{expected}\""),
            };
            self.fail("refuses wrong shapes", format!("{what} {seen}"));
        }
    }

    /// Whether a slice without elements has another type than what it was taken of: the default one of the device, in
    /// Burn 0.21. Then only a [`Flow`](crate::flow::Flow) answers for batches without rows.
    fn empty_slices_change_type(&self) -> bool {
        let of = |options: TensorCreationOptions<B>| Tensor::<B, 1>::empty([0], options).dtype();
        of(self.options.clone()) != of(TensorCreationOptions::new(self.options.device.clone()))
    }

    /// Calls with a batch without rows, which must give these shapes.
    fn expect_shapes(&mut self, calls: Vec<Call<'_>>) {
        for (what, expected, call) in calls {
            let mut shapes = Vec::new();
            let panicked = panic_message(|| shapes = call());
            let seen = match panicked {
                Some(message) => format!("panicked: {message}"),
                None if shapes == expected => continue,
                None => format!("gave {shapes:?}, expected {expected:?}"),
            };
            self.fail("takes a batch without rows", format!("{what} {seen}"));
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
            name: self.name.to_owned(),
            property: property.to_owned(),
            detail: format!("{}{detail}", self.place),
        });
    }
}

/// What is called, the end of the message with which it must panic, and the call.
type Refusal<'a> = (String, String, Box<dyn FnOnce() + 'a>);

/// What is called, the shapes that it must give, and the call.
type Call<'a> = (
    String,
    Vec<Vec<usize>>,
    Box<dyn FnOnce() -> Vec<Vec<usize>> + 'a>,
);

impl<B: AutodiffBackend> Run<'_, B, Case> {
    /// Every property that applies: near where the layer starts, and far from it.
    pub(super) fn layer(&mut self, layer: &dyn Layer<B>) {
        self.refuses_wrong_shapes(layer);
        self.takes_an_empty_batch(layer);
        self.same_seed_same_bits(layer);
        self.at_one_place(layer);
        let mut moves = Moves::new(self.case.seed, self.case.far);
        let moved = layer.edited(&mut |parameter| moves.edit(parameter));
        if moves.count > 0 {
            self.place = moves.place();
            self.at_one_place(&*moved);
            self.place.clear();
        }
        self.reports_dead_parameters(if moves.count > 0 { 2 } else { 1 });
    }

    /// Values and gradients where the layer starts.
    pub(super) fn values_of_layer(&mut self, layer: &dyn Layer<B>) {
        for &direction in layer.directions() {
            let point = self.points(direction, layer, self.normal(layer));
            self.records(&layer.mapped(direction, point.clone()));
            self.order_of_memory_does_not_matter(direction, layer);
            self.every_parameter_learns(direction, layer, &point);
        }
    }

    fn records(&mut self, mapped: &Mapped<B>) {
        self.outputs.extend(rows(&mapped.value));
        self.outputs.extend(rows(&mapped.log_det));
    }

    /// What depends on the values of the parameters.
    fn at_one_place(&mut self, layer: &dyn Layer<B>) {
        for &direction in layer.directions() {
            self.direction_properties(direction, layer);
            self.parameter_properties(direction, layer);
        }
        if layer.directions().contains(&Direction::Inverse) {
            self.inverse_properties(layer);
        }
        self.saves_and_loads(layer);
    }

    fn normal(&self, layer: &dyn Layer<B>) -> Input<B> {
        let x = normal_batch([ROWS, layer.dim()], 3, self.options.clone());
        self.with_context(layer.context_dim(), inside(layer, x))
    }

    fn uniform(&self, layer: &dyn Layer<B>) -> Input<B> {
        let x = uniform_batch([ROWS, layer.dim()], 5.0, 5, self.options.clone());
        self.with_context(layer.context_dim(), inside(layer, x))
    }

    fn extremes(&self, layer: &dyn Layer<B>) -> Input<B> {
        let bound = self.case.bounded_domain.unwrap_or(f64::INFINITY);
        let x = self.extreme_rows(layer.dim(), bound);
        self.with_context(layer.context_dim(), inside(layer, x))
    }

    /// `input` itself for forward; what forward makes of it for the inverse, whose domain may be smaller.
    fn points(&self, direction: Direction, layer: &dyn Layer<B>, input: Input<B>) -> Input<B> {
        match direction {
            Direction::Forward => input,
            Direction::Inverse => input.at(layer.value(Direction::Forward, input.clone()).detach()),
        }
    }

    /// Of one direction against the same computed in another way.
    fn tolerance(&self, direction: Direction) -> f64 {
        match direction {
            Direction::Forward => self.precision.row,
            Direction::Inverse => self.round_trip_tolerance(),
        }
    }

    fn round_trip_tolerance(&self) -> f64 {
        let solver = self.case.inverse_tolerance.unwrap_or(0.0);
        solver.max(self.precision.round_trip)
    }

    fn log_det_tolerance(&self) -> f64 {
        let solver = self.case.inverse_tolerance.unwrap_or(0.0);
        solver.max(self.precision.log_det)
    }
}

/// Points of the domain of a layer from any: those themselves where it takes the reals.
fn inside<B: AutodiffBackend>(layer: &dyn Layer<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    let [domain, _] = layer
        .domain_and_image()
        .expect("a layer takes its own domain");
    if domain.iter().all(|of| *of == Interval::REALS) {
        return x;
    }
    let point = |of: &Interval, x: f64| match (of.low.is_finite(), of.high.is_finite()) {
        (false, false) => x,
        (true, false) => of.low + x.clamp(-3.0, 3.0).exp(),
        (false, true) => of.high - x.clamp(-3.0, 3.0).exp(),
        (true, true) => of.low + (of.high - of.low) * (0.5 + x.atan() * 0.97 / PI),
    };
    let points = rows(&x);
    let points: Vec<f64> = points
        .chunks(domain.len())
        .flat_map(|row| row.iter().zip(&domain).map(|(x, of)| point(of, *x)))
        .collect();
    Tensor::from_data(TensorData::new(points, x.dims()), options_of(&x))
}

/// Independent normal moves of every trained parameter.
struct Moves {
    rng: ChaCha12Rng,
    std: f64,
    /// Parameters moved.
    count: usize,
}

impl Moves {
    fn new(seed: u64, std: f64) -> Self {
        let rng = generator(seed ^ 0xFA12);
        Self { rng, std, count: 0 }
    }

    fn place(&self) -> String {
        format!("parameters moved by N(0, {}^2): ", self.std)
    }

    fn edit(&mut self, parameter: Edited<'_>) {
        if parameter.trained {
            self.count += 1;
            for value in parameter.values {
                let z: f64 = StandardNormal.sample(&mut self.rng);
                *value += self.std * z;
            }
        }
    }
}

fn epsilon<B: AutodiffBackend>(x: &Tensor<B, 2>) -> f64 {
    x.dtype().finfo().map_or(f64::EPSILON, |info| info.epsilon)
}

fn finite(values: &[f64]) -> bool {
    values.iter().all(|v| v.is_finite())
}
