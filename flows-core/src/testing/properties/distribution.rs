//! What holds for a distribution that can be evaluated and sampled.

use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use super::{Call, Moves, ROWS, Refusal, Run, finite};
use crate::domain::Interval;
use crate::error::Error;
use crate::testing::built::Input;
use crate::testing::case::DistributionCase;
use crate::testing::distribution::{Distribution, Draws};
use crate::testing::numbers::{batch, normal_batch, rows, uniform_batch};

/// Rows drawn where a mean over them is compared with an integral.
const DRAWS: usize = 4000;

/// Standard errors by which such a mean may be off.
const STANDARD_ERRORS: f64 = 5.0;

/// Seed of the draws.
const SEED: u64 = 23;

impl<B: AutodiffBackend> Run<'_, B, DistributionCase> {
    /// Every property that applies: near where the distribution starts, and far from it.
    pub(in super::super) fn distribution(&mut self, p: &dyn Distribution<B>) {
        self.refuses_shapes(p);
        self.takes_and_draws_no_rows(p);
        let property = "the same seed gives the same bits";
        match p.rebuilt(self.case.seed) {
            Err(error) => self.fail(property, error),
            Ok(twin) => self.expect_equal_bits(property, p, &*twin),
        }
        self.of_its_parameters(p);
        let mut moves = Moves::new(self.case.seed, self.case.far);
        let moved = p.edited(&mut |parameter| moves.edit(parameter));
        if moves.count > 0 {
            self.place = moves.place();
            self.of_its_parameters(&*moved);
        }
    }

    /// Draws and their densities where the distribution starts.
    pub(in super::super) fn values_of_distribution(&mut self, p: &dyn Distribution<B>) {
        self.draws(p);
    }

    fn draws(&mut self, p: &dyn Distribution<B>) -> Draws<B> {
        let (x, log_p) = p.sample_and_log_prob(ROWS, self.context(p, ROWS), SEED);
        if self.place.is_empty() {
            self.outputs.extend(rows(&x));
            self.outputs.extend(rows(&log_p));
        }
        (x, log_p)
    }

    /// What depends on the values of the parameters.
    fn of_its_parameters(&mut self, p: &dyn Distribution<B>) {
        let (x, log_p) = self.draws(p);
        let input = self.with_context(p.context_dim(), x.detach());
        let again = rows(&p.log_prob(input.clone()));
        let tolerance = self.tolerance_of(self.precision.log_det);
        self.expect_close(
            "sample_and_log_prob is log_prob of the sample",
            &rows(&log_p),
            &again,
            tolerance,
        );
        self.expect_close(
            "sample is that of sample_and_log_prob",
            &rows(&p.sample(ROWS, self.context(p, ROWS), SEED)),
            &rows(&input.x),
            self.tolerance_of(self.precision.round_trip),
        );
        self.valid_gives_the_same(p, &input, &(input.x.clone(), log_p));
        self.is_finite(p);
        self.rows_stand_alone(p, &input);
        self.context_is_used(p);
        self.integrals(p);
        let property = "a saved distribution loads bit for bit";
        match p.reloaded(self.case.seed + 1) {
            Err(error) => self.fail(property, error),
            Ok(loaded) => self.expect_equal_bits(property, p, &*loaded),
        }
    }

    fn tolerance_of(&self, tolerance: f64) -> f64 {
        tolerance.max(self.case.inverse_tolerance.unwrap_or(0.0))
    }

    fn context(&self, p: &dyn Distribution<B>, n: usize) -> Option<Tensor<B, 2>> {
        let x = Tensor::zeros([n, 1], self.options.clone());
        self.with_context(p.context_dim(), x).context
    }

    fn refuses_shapes(&mut self, p: &dyn Distribution<B>) {
        let (dim, context_dim) = (p.dim(), p.context_dim());
        let layer = "";
        let columns = Error::Dimension {
            layer,
            expected: dim,
            actual: dim + 1,
        };
        let wide = normal_batch([ROWS, dim + 1], 1, self.options.clone());
        let wide = self.with_context(context_dim, wide);
        let log_prob = Box::new(move || {
            p.log_prob(wide);
        });
        let mut calls: Vec<Refusal<'_>> = vec![(
            "log_prob of one column too many".to_owned(),
            columns.to_string(),
            log_prob,
        )];
        let wrong = |rows, columns| Error::ContextShape {
            layer,
            expected_rows: ROWS,
            expected_columns: context_dim,
            actual_rows: rows,
            actual_columns: columns,
        };
        let missing = Error::MissingContext {
            layer,
            expected: context_dim,
        };
        let ignored = Error::UnexpectedContext { layer, actual: 1 };
        let contexts = match context_dim {
            0 => vec![("a context it would ignore", Some([ROWS, 1]), ignored)],
            c => vec![
                ("no context", None, missing),
                (
                    "a context row too few",
                    Some([ROWS - 1, c]),
                    wrong(ROWS - 1, c),
                ),
                (
                    "a context column too many",
                    Some([ROWS, c + 1]),
                    wrong(ROWS, c + 1),
                ),
            ],
        };
        let x: Tensor<B, 2> = normal_batch([ROWS, dim], 3, self.options.clone());
        for (what, shape, error) in contexts {
            let context: Option<Tensor<B, 2>> =
                shape.map(|s| normal_batch(s, 1, self.options.clone()));
            let error = error.to_string();
            let input = Input {
                x: x.clone(),
                context: context.clone(),
            };
            let log_prob = Box::new(move || {
                p.log_prob(input);
            });
            calls.push((format!("log_prob with {what}"), error.clone(), log_prob));
            let given = context.clone();
            let sample = Box::new(move || {
                p.sample(ROWS, given, SEED);
            });
            calls.push((format!("sample with {what}"), error.clone(), sample));
            let both = Box::new(move || {
                p.sample_and_log_prob(ROWS, context, SEED);
            });
            calls.push((format!("sample_and_log_prob with {what}"), error, both));
        }
        self.expect_refusals(calls);
    }

    fn takes_and_draws_no_rows(&mut self, p: &dyn Distribution<B>) {
        let x = normal_batch([ROWS, p.dim()], 3, self.options.clone());
        let empty = self.with_context(p.context_dim(), x).empty();
        if self.empty_slices_change_type() {
            return;
        }
        let context = || empty.context.clone();
        let (none, draw) = (vec![0], vec![0, p.dim()]);
        let calls: Vec<Call<'_>> = vec![
            (
                "log_prob".to_owned(),
                vec![none.clone()],
                Box::new(|| vec![p.log_prob(empty.clone()).dims().to_vec()]),
            ),
            (
                "log_prob of valid()".to_owned(),
                vec![none.clone()],
                Box::new(|| vec![p.log_prob_by_valid(empty.clone()).dims().to_vec()]),
            ),
            (
                "sample".to_owned(),
                vec![draw.clone()],
                Box::new(|| vec![p.sample(0, context(), SEED).dims().to_vec()]),
            ),
            (
                "sample_and_log_prob".to_owned(),
                vec![draw.clone(), none.clone()],
                Box::new(|| shapes(&p.sample_and_log_prob(0, context(), SEED))),
            ),
            (
                "sample_and_log_prob of valid()".to_owned(),
                vec![draw, none],
                Box::new(|| shapes(&p.draws_by_valid(0, context(), SEED))),
            ),
        ];
        self.expect_shapes(calls);
    }

    fn expect_equal_bits(
        &mut self,
        property: &str,
        a: &dyn Distribution<B>,
        b: &dyn Distribution<B>,
    ) {
        let input = normal_batch([ROWS, a.dim()], 3, self.options.clone());
        let input = self.with_context(a.context_dim(), input);
        let of = |p: &dyn Distribution<B>| rows(&p.log_prob(input.clone()));
        if of(a) != of(b) {
            self.fail(property, "log_prob differs".to_owned());
        }
        let of = |p: &dyn Distribution<B>| {
            let (x, log_p) = p.sample_and_log_prob(ROWS, input.context.clone(), SEED);
            [rows(&x), rows(&log_p)].concat()
        };
        if of(a) != of(b) {
            self.fail(property, "samples differ".to_owned());
        }
    }

    fn valid_gives_the_same(&mut self, p: &dyn Distribution<B>, input: &Input<B>, here: &Draws<B>) {
        let property = "valid() keeps outputs";
        let there = p.draws_by_valid(ROWS, input.context.clone(), SEED);
        let tolerance = self.tolerance_of(self.precision.round_trip);
        self.expect_close(property, &rows(&there.0), &rows(&here.0), tolerance);
        let tolerance = self.tolerance_of(self.precision.log_det);
        self.expect_close(property, &rows(&there.1), &rows(&here.1), tolerance);
        let there = rows(&p.log_prob_by_valid(input.clone()));
        self.expect_close(
            property,
            &there,
            &rows(&p.log_prob(input.clone())),
            tolerance,
        );
    }

    /// `log p` and every gradient at extreme points, one at a time; outside of the support, and only there, `log p` is
    /// minus infinity.
    fn is_finite(&mut self, p: &dyn Distribution<B>) {
        let x = self.extreme_rows(p.dim(), f64::INFINITY);
        let extremes = self.with_context(p.context_dim(), x);
        for r in 0..extremes.x.dims()[0] {
            let mut one = extremes.row(r);
            one.x = one.x.require_grad();
            let at = format!("{:?}", &rows(&one.x)[..p.dim().min(3)]);
            let log_p = p.log_prob(one.clone());
            let value = rows(&log_p)[0];
            let ends = p.support();
            let lies = |(x, of): (&f64, &Interval)| of.low < *x && *x < of.high;
            let inside = rows(&one.x).iter().zip(&ends).all(lies);
            if value.is_finite() != inside || !(inside || value == f64::NEG_INFINITY) {
                let detail = format!("log_prob at {at} is {value}, with the support {ends:?}");
                self.fail("finite at extremes", detail);
                continue;
            }
            let back = log_p.sum().backward();
            let input = one.x.grad(&back).map(|g| rows(&g)).unwrap_or_default();
            if !finite(&input) {
                let detail = format!("gradient of log_prob in its input at {at}: {input:?}");
                self.fail("finite gradients at extremes", detail);
            }
            for (path, gradient) in p.gradients(&back) {
                if gradient.is_some_and(|g| !finite(&g)) {
                    let detail = format!("gradient of log_prob in {path} at {at}");
                    self.fail("finite gradients at extremes", detail);
                }
            }
        }
    }

    fn rows_stand_alone(&mut self, p: &dyn Distribution<B>, draws: &Input<B>) {
        let wide = uniform_batch([ROWS, p.dim()], 5.0, 5, self.options.clone());
        for input in [draws.clone(), draws.at(wide)] {
            let whole = rows(&p.log_prob(input.clone()));
            for (r, value) in whole.iter().enumerate() {
                let alone = rows(&p.log_prob(input.row(r)));
                let tolerance = self.tolerance_of(self.precision.row);
                self.expect_close(
                    "rows of log_prob are independent",
                    &alone,
                    &[*value],
                    tolerance,
                );
            }
        }
    }

    fn context_is_used(&mut self, p: &dyn Distribution<B>) {
        let x = normal_batch([ROWS, p.dim()], 3, self.options.clone());
        let input = self.with_context(p.context_dim(), x);
        let Some(context) = input.context.clone() else {
            return;
        };
        let other = Some(context.clone() + 1.0);
        let at = |context| {
            rows(&p.log_prob(Input {
                context,
                ..input.clone()
            }))
        };
        if at(Some(context.clone())) == at(other.clone()) {
            let detail = "another context gave the same log_prob".to_owned();
            self.fail("context changes the output", detail);
        }
        let sample = |context| rows(&p.sample(ROWS, context, SEED));
        if sample(Some(context)) == sample(other) {
            let detail = "another context gave the same sample".to_owned();
            self.fail("context changes the output", detail);
        }
    }

    /// On a grid, in one or two dimensions: the density integrates to one, and the moments and the entropy
    /// are those of the draws.
    fn integrals(&mut self, p: &dyn Distribution<B>) {
        let dim = p.dim();
        let cells: usize = match dim {
            1 => 4000,
            2 => 200,
            _ => return,
        };
        let (low, high) = self.case.grid;
        let width = (high - low) / cells as f64;
        let middle = |k: usize| low + (k as f64 + 0.5) * width;
        let points: Vec<Vec<f64>> = (0..cells.pow(dim as u32))
            .map(|k| {
                (0..dim)
                    .map(|j| middle(k / cells.pow(j as u32) % cells))
                    .collect()
            })
            .collect();
        // One context for all.
        let context = |n: usize| self.context(p, 1).map(|c| c.repeat_dim(0, n));
        let log_p = rows(&p.log_prob_by_valid(Input {
            x: batch(&points, self.options.clone()),
            context: context(points.len()),
        }));
        let weights: Vec<f64> = log_p
            .iter()
            .map(|l| l.exp() * width.powi(dim as i32))
            .collect();
        let mass: f64 = weights.iter().sum();
        let tolerance = self.case.grid_tolerance.max(self.precision.log_det);
        if mass.is_nan() || (mass - 1.0).abs() > tolerance {
            let detail =
                format!("integral {mass} over [{low}, {high}]^{dim}, allowed 1 +- {tolerance:e}");
            self.fail("log_prob integrates to one", detail);
            return;
        }

        let (x, own) = p.draws_by_valid(DRAWS, context(DRAWS), SEED);
        let (x, own) = (rows(&x), rows(&own));
        let draws: Vec<&[f64]> = x.chunks(dim).collect();
        let column = |j: usize, power: i32| {
            let on_grid: Vec<f64> = points.iter().map(|x| x[j].powi(power)).collect();
            let drawn: Vec<f64> = draws.iter().map(|x| x[j].powi(power)).collect();
            (format!("mean of x_{j}^{power}"), on_grid, drawn)
        };
        let mut means: Vec<_> = (0..dim)
            .flat_map(|j| [column(j, 1), column(j, 2)])
            .collect();
        means.push(("mean of log p".to_owned(), log_p, own));
        for (what, on_grid, drawn) in means {
            let expect = |f: &dyn Fn(f64) -> f64| -> f64 {
                let terms = weights.iter().zip(&on_grid);
                // Where the density is zero, its logarithm is not finite.
                terms
                    .filter(|(w, _)| **w > 0.0)
                    .map(|(w, v)| w * f(*v))
                    .sum()
            };
            let expected = expect(&|v| v);
            let variance = expect(&|v| (v - expected).powi(2));
            let got = drawn.iter().sum::<f64>() / DRAWS as f64;
            let allowed = STANDARD_ERRORS * (variance / DRAWS as f64).sqrt()
                + tolerance * (1.0 + expected.abs());
            if got.is_nan() || (got - expected).abs() > allowed {
                let detail = format!(
                    "{what}: {got} of the draws, {expected} of the density, allowed {allowed:e}"
                );
                self.fail("draws are of the density", detail);
            }
        }
    }
}

fn shapes<B: burn::tensor::backend::Backend>((x, log_p): &Draws<B>) -> Vec<Vec<usize>> {
    vec![x.dims().to_vec(), log_p.dims().to_vec()]
}
