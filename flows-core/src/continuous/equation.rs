//! The differential equation behind a continuous flow, its log-determinant and its energies.

use burn::tensor::{Tensor, backend::Backend};

use super::solver::{Plan, Solved, Solver};
use super::time_field::TimeField;
use super::trace::traced;
use crate::bijector::Mapped;

/// Which way along the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// From time 0 to 1, the forward direction of the layer.
    End,
    /// From time 1 to 0, the inverse.
    Start,
}

/// What is integrated beside the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// The log-determinant.
    LogDet,
    /// The log-determinant and the energies of the path.
    Energies,
}

/// The equation of a continuous flow from one end of time to the other: rows, with what is integrated beside them in
/// further columns.
///
/// It takes any [`TimeField`], so that a layer of your own field is this and a [`Solver`].
#[derive(Debug, Clone)]
pub struct Equation<B: Backend, F> {
    field: F,
    probes: Option<Tensor<B, 3>>,
    beside: Beside,
    times: [f64; 2],
}

impl<B: Backend, F: TimeField<B>> Equation<B, F> {
    /// The equation of `field`, with these probes for the trace, or the exact one without.
    ///
    /// # Shapes
    /// - `probes`: `[m, n, dim]`
    pub fn new(field: F, towards: Towards, beside: Beside, probes: Option<Tensor<B, 3>>) -> Self {
        Self {
            field,
            probes,
            beside,
            times: match towards {
                Towards::End => [0.0, 1.0],
                Towards::Start => [1.0, 0.0],
            },
        }
    }

    /// `z` with zeros in the columns of what is integrated beside it.
    ///
    /// # Shapes
    /// - `z`: `[n, dim]`; output `[n, k]`
    pub fn start(&self, z: Tensor<B, 2>) -> Tensor<B, 2> {
        let columns = match self.beside {
            Beside::Nothing => return z,
            Beside::LogDet => 1,
            Beside::Energies => 3,
        };
        let n = z.dims()[0];
        let zeros = Tensor::zeros([n, columns], (&z.device(), z.dtype()));
        Tensor::cat(vec![z, zeros], 1)
    }

    /// The rates of all columns.
    ///
    /// # Shapes
    /// - `state`: `[n, k]`; `t`: `[n, 1]` or `[1, 1]`; output `[n, k]`
    pub fn rates(&self, state: Tensor<B, 2>, t: Tensor<B, 2>) -> Tensor<B, 2> {
        let dim = self.field.dim();
        if self.beside == Beside::Nothing {
            return self.field.velocity(state, t);
        }
        let z = state.narrow(1, 0, dim);
        let energies = self.beside == Beside::Energies;
        let at = traced(&self.field, [z, t], self.probes.as_ref(), energies);
        let mut columns = vec![at.velocity.clone(), at.trace.unsqueeze_dim(1)];
        if let Some(frobenius) = at.frobenius {
            // An energy grows on the way back too.
            let sign = (self.times[1] - self.times[0]).signum();
            columns.push(at.velocity.square().sum_dim(1) * sign);
            columns.push(frobenius.unsqueeze_dim(1) * sign);
        }
        Tensor::cat(columns, 1)
    }

    /// The rows and the log-determinant of a state.
    ///
    /// # Shapes
    /// - `state`: `[n, k]`
    ///
    /// # Panics
    /// Where nothing is integrated beside the rows.
    pub fn mapped(&self, state: Tensor<B, 2>) -> Mapped<B> {
        let dim = self.field.dim();
        Mapped {
            value: state.clone().narrow(1, 0, dim),
            log_det: state.narrow(1, dim, 1).squeeze_dim(1),
        }
    }

    /// The steps that `solver` takes from `state`.
    ///
    /// # Shapes
    /// - `state`: `[n, k]`
    pub fn plan(&self, solver: Solver, state: Tensor<B, 2>) -> Plan<B> {
        let constant = self.constant();
        solver.plan(&|z, t| constant.rates(z, t), state, self.times)
    }

    /// The solution from the rows `z`.
    ///
    /// # Shapes
    /// - `z`: `[n, dim]`, its end: `[n, k]`
    pub fn solve(&self, solver: Solver, z: Tensor<B, 2>) -> Solved<B> {
        let constant = self.constant();
        let constant = |z, t| constant.rates(z, t);
        let rates = |z, t| self.rates(z, t);
        solver.solve(&rates, &constant, self.start(z), self.times)
    }

    fn constant(&self) -> Self {
        Self {
            field: self.field.constant(),
            probes: self.probes.clone(),
            ..*self
        }
    }
}
