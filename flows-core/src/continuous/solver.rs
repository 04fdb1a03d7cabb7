//! Solvers of `dz/dt = f(z, t)`: which steps are taken, and the steps.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::field_weight::constant;
use super::steppers::{DORMAND_PRINCE, EULER, MIDPOINT, RK4, Rates, Tableau};
use crate::error::{Error, check_positive};
use crate::magnitude::magnitude;
use crate::solve::epsilon;

/// The name used in error messages.
const NAME: &str = "solver";

/// How a differential equation is solved from one time to another.
///
/// In a configuration file: `solver = "euler"`, `solver = { rk4 = { steps = 16 } }` or
/// `solver = { dormand_prince = { tolerance = 1e-9 } }`; numbers left out have their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Solver {
    /// [`EULER`] in equal steps: one evaluation a step, an error that falls as `1 / steps`.
    Euler {
        /// Number of steps, at least 1.
        #[serde(default = "defaults::steps")]
        steps: usize,
    },
    /// [`MIDPOINT`] in equal steps: two evaluations a step, an error that falls as `1 / steps^2`.
    Midpoint {
        /// Number of steps, at least 1.
        #[serde(default = "defaults::steps")]
        steps: usize,
    },
    /// [`RK4`] in equal steps: four evaluations a step, an error that falls as `1 / steps^4`.
    Rk4 {
        /// Number of steps, at least 1.
        #[serde(default = "defaults::steps")]
        steps: usize,
    },
    /// [`DORMAND_PRINCE`] in steps that each row chooses for itself, six evaluations each: the root mean square over the
    /// columns of `error / (tolerance (1 + |z|))` stays below 1. Waits for the device once a step.
    ///
    /// A row's steps do not depend on the rows beside it; rows that arrived wait for the others. Gradients are those of
    /// the steps taken, held fixed.
    DormandPrince {
        /// Error of a step, absolute and relative; not below 16 units of the float type.
        #[serde(default = "defaults::tolerance")]
        tolerance: f64,
        /// Steps that a row may try, rejected ones included. A row that has not arrived by then is lost: NaN.
        #[serde(default = "defaults::max_steps")]
        max_steps: usize,
    },
}

mod defaults {
    pub(super) const fn steps() -> usize {
        8
    }
    pub(super) const fn tolerance() -> f64 {
        1e-6
    }
    pub(super) const fn max_steps() -> usize {
        1000
    }
}

crate::one_key!(Solver);

impl Default for Solver {
    fn default() -> Self {
        Self::Rk4 {
            steps: defaults::steps(),
        }
    }
}

/// What a solution cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SolverReport {
    /// Evaluations of the right-hand side for the whole batch, those for rejected steps included.
    pub evaluations: usize,
    /// Steps that each row took; one entry for all rows where they take the same.
    pub steps: Vec<usize>,
    /// Steps that were tried and rejected, over all rows.
    pub rejected: usize,
    /// Rows that did not arrive, with the time where they stopped.
    pub lost: Vec<(usize, f64)>,
}

impl SolverReport {
    /// Refuses a solution with rows that did not arrive.
    ///
    /// # Errors
    /// [`Error::NotArrived`] naming the first of them.
    pub fn check(&self) -> Result<(), Error> {
        match self.lost.first() {
            Some(&(row, time)) => Err(Error::NotArrived { row, time }),
            None => Ok(()),
        }
    }
}

/// The steps from one time to another, before any gradient.
#[derive(Debug, Clone)]
pub struct Plan<B: Backend> {
    tableau: &'static Tableau,
    /// Start and length of the steps, `[n, 1]`, or `[1, 1]` where all rows take the same. A row with fewer steps than
    /// others has steps of length 0 at its end.
    steps: Vec<[Tensor<B, 2>; 2]>,
    /// What it cost to find them.
    pub report: SolverReport,
    /// Where the steps lead to, where that is known from the search.
    end: Option<Tensor<B, 2>>,
}

/// A solution of a differential equation.
#[derive(Debug, Clone)]
pub struct Solved<B: Backend> {
    /// `z` at the last time, `[n, k]`; NaN in rows that did not arrive.
    pub end: Tensor<B, 2>,
    /// What it cost.
    pub report: SolverReport,
}

impl Solver {
    /// Dormand-Prince steps with the default tolerance.
    pub fn dormand_prince() -> Self {
        Self::DormandPrince {
            tolerance: defaults::tolerance(),
            max_steps: defaults::max_steps(),
        }
    }

    /// A short name for reports, such as `"rk4, 8 steps"`.
    pub fn label(&self) -> String {
        match *self {
            Self::Euler { steps } | Self::Midpoint { steps } | Self::Rk4 { steps } => {
                format!("{}, {steps} steps", self.tableau().name)
            }
            Self::DormandPrince { tolerance, .. } => {
                format!("{}, tolerance {tolerance:e}", self.tableau().name)
            }
        }
    }

    /// Checks the numbers of the configuration.
    ///
    /// # Errors
    /// [`Error::Config`] for no steps and for a tolerance that is not positive and finite.
    pub fn validate(&self) -> Result<(), Error> {
        match *self {
            Self::Euler { steps: 0 } | Self::Midpoint { steps: 0 } | Self::Rk4 { steps: 0 } => {
                Err(Error::config(NAME, "steps", 0, "at least 1"))
            }
            Self::DormandPrince { max_steps: 0, .. } => {
                Err(Error::config(NAME, "max_steps", 0, "at least 1"))
            }
            Self::DormandPrince { tolerance, .. } => check_positive(NAME, "tolerance", tolerance),
            _ => Ok(()),
        }
    }

    /// Whether all rows take the same steps, whatever the equation.
    pub fn is_fixed(&self) -> bool {
        !matches!(self, Self::DormandPrince { .. })
    }

    fn tableau(&self) -> &'static Tableau {
        match self {
            Self::Euler { .. } => &EULER,
            Self::Midpoint { .. } => &MIDPOINT,
            Self::Rk4 { .. } => &RK4,
            Self::DormandPrince { .. } => &DORMAND_PRINCE,
        }
    }

    /// Solves `dz/dt = f(z, t)` with `z` at time `from`, for `z` at time `to`, which may be the earlier one.
    ///
    /// `constant` is `f` with constant parameters, which steps are searched with: in Burn 0.21, operations whose results
    /// are dropped can take gradients of others with them.
    ///
    /// # Shapes
    /// - `z`: `[n, k]`
    pub fn solve<B: Backend>(
        &self,
        f: &Rates<'_, B>,
        constant: &Rates<'_, B>,
        z: Tensor<B, 2>,
        [from, to]: [f64; 2],
    ) -> Solved<B> {
        let mut plan = self.plan(constant, z.clone(), [from, to]);
        let searched = plan.end.take().filter(|_| !B::ad_enabled(&z.device()));
        plan.report.evaluations += match searched {
            Some(_) => 0,
            None => plan.steps.len() * plan.tableau.weights.len(),
        };
        let end = match searched {
            Some(end) => end,
            None => (0..plan.len()).fold(plan.start(z), |z, k| plan.step(k, f, z)),
        };
        Solved {
            end: plan.lose(end),
            report: plan.report,
        }
    }

    /// The steps that [`solve`](Self::solve) takes, found with an `f` of constant parameters.
    ///
    /// # Shapes
    /// As [`solve`](Self::solve).
    pub fn plan<B: Backend>(
        &self,
        f: &Rates<'_, B>,
        z: Tensor<B, 2>,
        [from, to]: [f64; 2],
    ) -> Plan<B> {
        match *self {
            Self::Euler { steps } | Self::Midpoint { steps } | Self::Rk4 { steps } => {
                let length = (to - from) / steps as f64;
                let column = |t: f64| Tensor::full([1, 1], t, (&z.device(), z.dtype()));
                let start = |k: usize| from + length * k as f64;
                Plan {
                    tableau: self.tableau(),
                    steps: (0..steps)
                        .map(|k| [column(start(k)), column(length)])
                        .collect(),
                    report: SolverReport {
                        steps: vec![steps],
                        ..SolverReport::default()
                    },
                    end: None,
                }
            }
            Self::DormandPrince {
                tolerance,
                max_steps,
            } => {
                let tolerance = tolerance.max(ROUNDING_UNITS * epsilon(z.dtype()));
                let search = Search::new(f, constant(z), [from, to], tolerance);
                search.run(max_steps)
            }
        }
    }
}

impl<B: Backend> Plan<B> {
    /// Number of steps of the row that takes most.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step to take.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The rows to start from: 0 instead of those that do not arrive, so that nothing is computed with what is not finite.
    ///
    /// # Shapes
    /// - `z` and output: `[n, k]`
    pub fn start(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        self.fill_lost(z, 0.0)
    }

    /// Step `k` from its start `z`.
    ///
    /// # Shapes
    /// - `z` and output: `[n, k]`
    ///
    /// # Panics
    /// Where there are not as many steps.
    pub fn step(&self, k: usize, f: &Rates<'_, B>, z: Tensor<B, 2>) -> Tensor<B, 2> {
        self.tableau.step(f, z, self.steps[k].clone(), None).end
    }

    /// The ends, NaN in rows that did not arrive.
    ///
    /// # Shapes
    /// - `z` and output: `[n, k]`
    pub fn lose(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        self.fill_lost(z, f64::NAN)
    }

    fn fill_lost(&self, z: Tensor<B, 2>, value: f64) -> Tensor<B, 2> {
        if self.report.lost.is_empty() {
            return z;
        }
        let [n, k] = z.dims();
        let mut lost = vec![false; n];
        for (row, _) in &self.report.lost {
            lost[*row] = true;
        }
        let lost = mask(lost, &z);
        z.mask_fill(lost.expand([n, k]), value)
    }
}

impl<B: AutodiffBackend> Plan<B> {
    /// The plan for the backend with gradients.
    pub fn from_inner(plan: Plan<B::InnerBackend>) -> Self {
        let lift = |step: [Tensor<B::InnerBackend, 2>; 2]| step.map(Tensor::from_inner);
        Self {
            tableau: plan.tableau,
            steps: plan.steps.into_iter().map(lift).collect(),
            report: plan.report,
            end: plan.end.map(Tensor::from_inner),
        }
    }
}

/// Units of the float type that the tolerance of a step is not below.
const ROUNDING_UNITS: f64 = 16.0;
/// Of the step that the error estimate asks for, this much is taken (Hairer, Norsett and Wanner, *Solving Ordinary
/// Differential Equations I*, section II.4).
const SAFETY: f64 = 0.9;
/// How much shorter or longer a step may be than the one before.
const SHRINK: f64 = 0.2;
const GROW: f64 = 5.0;

/// Where one row stands.
struct Row {
    time: f64,
    /// Of the next step to try.
    length: f64,
    tried: usize,
    rejected: bool,
    /// Start and length of the steps taken.
    steps: Vec<(f64, f64)>,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Under,
    Arrived,
    Lost,
}

/// The search for steps that meet a tolerance, row by row, with the control in f64 on the host.
struct Search<'a, B: Backend> {
    f: &'a Rates<'a, B>,
    z: Tensor<B, 2>,
    /// `f` at `z` and the time of each row.
    rate: Tensor<B, 2>,
    rows: Vec<Row>,
    to: f64,
    tolerance: f64,
    evaluations: usize,
    rejected: usize,
}

impl<'a, B: Backend> Search<'a, B> {
    /// Chooses the first steps, as Hairer, Norsett and Wanner do, section II.4: an Euler step shows how fast the rates
    /// change.
    fn new(f: &'a Rates<'a, B>, z: Tensor<B, 2>, [from, to]: [f64; 2], tolerance: f64) -> Self {
        let n = z.dims()[0];
        let span = (to - from).abs();
        let sign = (to - from).signum();
        let from_all = column(vec![from; n], &z);
        let rate = f(z.clone(), from_all.clone());
        let scale = (magnitude(z.clone()) + 1.0) * tolerance;
        let (size, speed) = (norms(&z, &scale), norms(&rate, &scale));
        let first = size.iter().zip(&speed).map(|(size, speed)| {
            let least = size.min(*speed) < 1e-5;
            span.min(if least { 1e-6 } else { 0.01 * size / speed })
        });
        let first: Vec<f64> = first.collect();
        let h = column(first.iter().map(|h| h * sign).collect(), &z);
        let euler = z.clone() + rate.clone() * h.clone();
        let change = f(euler, from_all + h) - rate.clone();
        let change = norms(&change, &scale);
        let rows = (0..n).map(|r| {
            let largest = speed[r].max(change[r] / first[r]);
            let order = DORMAND_PRINCE.order as f64;
            let second = if largest <= 1e-15 {
                (first[r] * 1e-3).max(1e-6)
            } else {
                (0.01 / largest).powf(order.recip())
            };
            // A row that is not finite goes nowhere.
            let finite = size[r].is_finite() && speed[r].is_finite();
            Row {
                time: from,
                length: span.min(second.min(100.0 * first[r])) * sign,
                tried: 0,
                rejected: false,
                steps: Vec::new(),
                state: match finite {
                    true if span == 0.0 => State::Arrived,
                    true => State::Under,
                    false => State::Lost,
                },
            }
        });
        Self {
            f,
            rows: rows.collect(),
            z,
            rate,
            to,
            tolerance,
            evaluations: 2,
            rejected: 0,
        }
    }

    fn run(mut self, max_steps: usize) -> Plan<B> {
        while self.rows.iter().any(|row| row.state == State::Under) {
            self.attempt(max_steps);
        }
        let most = self.rows.iter().map(|row| row.steps.len()).max();
        let slot = |k: usize| {
            let of_row = |row: &Row| row.steps.get(k).copied().unwrap_or((row.time, 0.0));
            let (times, lengths) = self.rows.iter().map(of_row).unzip();
            [column(times, &self.z), column(lengths, &self.z)]
        };
        let lost = self.rows.iter().enumerate();
        let lost = lost.filter(|(_, row)| row.state == State::Lost);
        Plan {
            tableau: &DORMAND_PRINCE,
            steps: (0..most.unwrap_or(0)).map(slot).collect(),
            report: SolverReport {
                evaluations: self.evaluations,
                steps: self.rows.iter().map(|row| row.steps.len()).collect(),
                rejected: self.rejected,
                lost: lost.map(|(r, row)| (r, row.time)).collect(),
            },
            end: Some(self.z),
        }
    }

    /// Tries one step in every row that is under way.
    fn attempt(&mut self, max_steps: usize) {
        let step_of = |row: &Row| match row.state {
            State::Under => (row.time, row.length),
            _ => (row.time, 0.0),
        };
        let (times, lengths): (Vec<f64>, Vec<f64>) = self.rows.iter().map(step_of).unzip();
        let at = [column(times, &self.z), column(lengths.clone(), &self.z)];
        let (z, first) = (self.z.clone(), Some(self.rate.clone()));
        let (step, error) = DORMAND_PRINCE.step_with_error(self.f, z, at, first);
        self.evaluations += DORMAND_PRINCE.error.len() - 1;
        let size = magnitude(self.z.clone()).max_pair(magnitude(step.end.clone()));
        let errors = norms(&error, &((size + 1.0) * self.tolerance));
        let mut accepted = vec![false; errors.len()];
        for (r, error) in errors.into_iter().enumerate() {
            let row = &mut self.rows[r];
            if row.state != State::Under {
                continue;
            }
            row.tried += 1;
            let order = DORMAND_PRINCE.order as f64;
            let factor = (SAFETY * error.powf(-order.recip())).clamp(SHRINK, GROW);
            if error <= 1.0 {
                accepted[r] = true;
                row.steps.push((row.time, lengths[r]));
                let left = self.to - row.time;
                row.time = if lengths[r] == left {
                    self.to
                } else {
                    row.time + lengths[r]
                };
                // After a rejection a step does not grow.
                row.length = lengths[r]
                    * if row.rejected {
                        factor.min(1.0)
                    } else {
                        factor
                    };
                row.rejected = false;
            } else {
                self.rejected += 1;
                row.length = lengths[r]
                    * if error.is_finite() {
                        factor.min(1.0)
                    } else {
                        SHRINK
                    };
                row.rejected = true;
            }
            let left = self.to - row.time;
            if row.length.abs() >= left.abs() {
                row.length = left;
            }
            if left == 0.0 {
                row.state = State::Arrived;
            } else if row.tried == max_steps {
                row.state = State::Lost;
            }
        }
        let accepted = mask(accepted, &self.z).expand(self.z.dims());
        let last = step.stages.into_iter().last().expect("seven stages");
        self.z = self.z.clone().mask_where(accepted.clone(), step.end);
        self.rate = self.rate.clone().mask_where(accepted, last);
    }
}

/// Numbers of the rows, `[n, 1]`, on the device and in the type of `like`.
fn column<B: Backend>(numbers: Vec<f64>, like: &Tensor<B, 2>) -> Tensor<B, 2> {
    let data = TensorData::new(numbers, [like.dims()[0], 1]);
    Tensor::from_data(data, (&like.device(), like.dtype()))
}

/// Rows of a mask, `[n, 1]`.
fn mask<B: Backend>(rows: Vec<bool>, like: &Tensor<B, 2>) -> Tensor<B, 2, Bool> {
    let data = TensorData::new(rows, [like.dims()[0], 1]);
    Tensor::from_data(data, &like.device())
}

/// The root mean square of each row of `v / scale`.
fn norms<B: Backend>(v: &Tensor<B, 2>, scale: &Tensor<B, 2>) -> Vec<f64> {
    let scaled = v.clone() / scale.clone();
    let norms = scaled.square().mean_dim(1).sqrt();
    norms.into_data().iter().collect()
}
