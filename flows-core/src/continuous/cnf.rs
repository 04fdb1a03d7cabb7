//! The continuous normalizing flow: the time-1 flow of a velocity field, as a differential equation solver finds it.

use burn::module::Module;
use burn::tensor::{Tensor, TensorCreationOptions, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::equation::{Beside, Equation, Towards};
use super::solver::{Solved, Solver, SolverReport};
use super::trace::Trace;
use super::{BoundField, VelocityField, VelocityFieldConfig};
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::error::Error;
use crate::nn::Activation;
use crate::state::Transient;
use crate::visit::Task;

/// The name used in error messages and reports.
const NAME: &str = "cnf";

/// Configuration of a [`Cnf`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CnfConfig {
    /// Dimension of the space.
    pub dim: usize,
    /// Widths of the hidden layers of the field.
    pub hidden: Vec<usize>,
    /// Activation of the field.
    #[serde(default)]
    pub activation: Activation,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// Rank of the update that the context gives to every weight matrix, see
    /// [`VelocityFieldConfig::context_rank`].
    #[serde(default)]
    pub context_rank: usize,
    /// Whether the field depends on time, which runs from 0 to 1.
    #[serde(default = "yes")]
    pub time_dependent: bool,
    /// How the trace of the Jacobian is computed.
    #[serde(default)]
    pub trace: Trace,
    /// How the equation is solved.
    #[serde(default)]
    pub solver: Solver,
    /// Another solver for where nothing is differentiated: on a backend without autodiff, such as that of `valid()`.
    /// Densities there differ from those of training by the error of both solvers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Solver>,
}

fn yes() -> bool {
    true
}

impl CnfConfig {
    /// A tanh field that depends on time, without context, in eight steps of RK4, with the exact trace.
    pub fn new(dim: usize, hidden: impl Into<Vec<usize>>) -> Self {
        Self {
            dim,
            hidden: hidden.into(),
            activation: Activation::default(),
            context_dim: 0,
            context_rank: 0,
            time_dependent: yes(),
            trace: Trace::default(),
            solver: Solver::default(),
            evaluation: None,
        }
    }

    /// Draws the parameters, as [`VelocityFieldConfig::init`] says.
    ///
    /// # Errors
    /// [`Error::Config`] where [`VelocityFieldConfig::init`], [`Trace::validate`] or [`Solver::validate`] refuses.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Cnf<B>, Error> {
        let field = VelocityFieldConfig {
            dim: self.dim,
            hidden: self.hidden.clone(),
            activation: self.activation,
            context_dim: self.context_dim,
            context_rank: self.context_rank,
            time_dependent: self.time_dependent,
            lipschitz: None,
        };
        let cnf = Cnf::new(field.init(options, rng)?, self.trace, self.solver)?;
        match self.evaluation {
            Some(solver) => cnf.evaluated_by(solver),
            None => Ok(cnf),
        }
    }
}

/// `z(1)` from `z(0)` with `dz/dt = v(z, t)`, and `log |det dz(1)/dz(0)| = integral_0^1 tr J_v(z(t), t) dt`.
///
/// R. T. Q. Chen et al., *Neural Ordinary Differential Equations*, arXiv:1806.07366, theorem 1; with the estimated trace
/// FFJORD, W. Grathwohl et al., arXiv:1810.01367.
///
/// Value and log-determinant are integrated by one solver, each up to its error; so the inverse, which integrates from
/// time 1 to 0, undoes the forward direction up to that error, and the log-determinant is that of the map up to that
/// error. Rows that a solver could not bring to the end are NaN in both; [`integrate`](Self::integrate) names them.
///
/// Gradients are those of the steps that the solver took (discretize, then optimize), with lengths held fixed.
///
/// An estimated trace has noise that is the same along a path, in both directions, until
/// [`LayerVisit::resample_noise`](crate::visit::LayerVisit::resample_noise) sets another seed.
#[derive(Module, Debug)]
pub struct Cnf<B: Backend> {
    field: VelocityField<B>,
    #[module(skip)]
    trace: Trace,
    #[module(skip)]
    solver: Solver,
    #[module(skip)]
    evaluation: Option<Solver>,
    #[module(skip)]
    noise_seed: Transient<u64>,
}

/// A path, integrated.
#[derive(Debug, Clone)]
pub struct Integrated<B: Backend> {
    /// The rows at the end of the path with the log-determinant of the direction taken.
    pub mapped: Mapped<B>,
    /// `integral_0^1 |v(z, t)|^2 dt` of each row, `[n]`: the kinetic energy (arXiv:2002.02798, eq. 7).
    pub kinetic: Tensor<B, 1>,
    /// `integral_0^1 |J_v(z, t)|_F^2 dt` of each row, `[n]`, by the probes of the trace where that is estimated
    /// (arXiv:2002.02798, eq. 8).
    pub frobenius: Tensor<B, 1>,
    /// What it cost.
    pub report: SolverReport,
}

impl<B: Backend> Cnf<B> {
    /// The flow of a given field.
    ///
    /// # Errors
    /// As [`Trace::validate`] and [`Solver::validate`].
    pub fn new(field: VelocityField<B>, trace: Trace, solver: Solver) -> Result<Self, Error> {
        trace.validate(NAME)?;
        solver.validate()?;
        Ok(Self {
            field,
            trace,
            solver,
            evaluation: None,
            noise_seed: Transient(0),
        })
    }

    /// The same with another solver where nothing is differentiated, see [`CnfConfig::evaluation`].
    ///
    /// # Errors
    /// As [`Solver::validate`].
    pub fn evaluated_by(self, solver: Solver) -> Result<Self, Error> {
        solver.validate()?;
        Ok(Self {
            evaluation: Some(solver),
            ..self
        })
    }

    /// The same with this solver everywhere.
    ///
    /// # Errors
    /// As [`Solver::validate`].
    pub fn with_solver(self, solver: Solver) -> Result<Self, Error> {
        Ok(Self {
            noise_seed: self.noise_seed,
            ..Self::new(self.field, self.trace, solver)?
        })
    }

    /// The velocity field.
    pub fn field(&self) -> &VelocityField<B> {
        &self.field
    }

    /// How the trace is computed.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// The solver used on this backend.
    pub fn solver(&self, device: &B::Device) -> Solver {
        match self.evaluation {
            Some(solver) if !B::ad_enabled(device) => solver,
            _ => self.solver,
        }
    }

    /// The equation for the rows of a batch like `x`.
    ///
    /// # Shapes
    /// - `x`: `[n, dim]`, for its shape, device and float type; `context`: `[n, context_dim]`
    ///
    /// # Panics
    /// With the message of [`Bijector::check`] on wrong shapes.
    pub fn equation(
        &self,
        towards: Towards,
        beside: Beside,
        x: &Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> Equation<B, BoundField<B>> {
        assert_ok(self.check(x, context.as_ref()));
        let probes = match beside {
            Beside::Nothing => None,
            _ => self.trace.probes(x, self.noise_seed.0),
        };
        Equation::new(self.field.bind(context, 1.0), towards, beside, probes)
    }

    /// A path with its log-determinant, its energies, and what it cost.
    ///
    /// The energies are for penalties: paths of low energy are nearly straight and take few steps (RNODE, C. Finlay et
    /// al., arXiv:2002.02798).
    ///
    /// # Shapes
    /// As [`Bijector::forward_and_log_det`].
    ///
    /// # Errors
    /// [`Error::NotArrived`] naming a row that the solver could not bring to the end.
    ///
    /// # Panics
    /// With the message of [`Bijector::check`] on wrong shapes.
    pub fn integrate(
        &self,
        towards: Towards,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> Result<Integrated<B>, Error> {
        let equation = self.equation(towards, Beside::Energies, &x, context);
        if x.dims()[0] == 0 {
            let mapped = Mapped::volume_preserving(x);
            return Ok(Integrated {
                kinetic: mapped.log_det.clone(),
                frobenius: mapped.log_det.clone(),
                mapped,
                report: SolverReport::default(),
            });
        }
        let Solved { end, report } = equation.solve(self.solver(&x.device()), x);
        report.check()?;
        let energy = |k: usize| end.clone().narrow(1, self.dim() + k, 1).squeeze_dim(1);
        Ok(Integrated {
            kinetic: energy(1),
            frobenius: energy(2),
            mapped: equation.mapped(end),
            report,
        })
    }

    fn run(
        &self,
        towards: Towards,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        let equation = self.equation(towards, Beside::LogDet, &x, context);
        if x.dims()[0] == 0 {
            return (Mapped::volume_preserving(x), 0);
        }
        let solved = equation.solve(self.solver(&x.device()), x);
        (equation.mapped(solved.end), solved.report.evaluations)
    }

    /// Without the log-determinant, whose error decides on the steps where they are not fixed.
    fn run_without_log_det(
        &self,
        towards: Towards,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let solver = self.solver(&x.device());
        if x.dims()[0] == 0 || !solver.is_fixed() {
            return self.run(towards, x, context).0.value;
        }
        let equation = self.equation(towards, Beside::Nothing, &x, context);
        equation.solve(solver, x).end
    }
}

impl<B: Backend> Bijector<B> for Cnf<B> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.field.dim()
    }

    fn context_dim(&self) -> usize {
        self.field.context_dim()
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.run(Towards::End, x, context).0
    }

    fn forward(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.run_without_log_det(Towards::End, x, context)
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        if let Task::ResampleNoise(seed) = task {
            self.noise_seed = Transient(seed);
        }
    }
}

impl<B: Backend> Invert<B> for Cnf<B> {
    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.run(Towards::Start, y, context).0
    }

    fn inverse(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        self.run_without_log_det(Towards::Start, y, context)
    }
}
