//! The `T` weight-shared cells of a block, in both directions.

use burn::tensor::{Tensor, backend::Backend};

use super::inverse::{Stop, implicit_step, solve};
use crate::bijector::Mapped;
use crate::log_det::LogDet;
use crate::nn::{BoundField, Linearization};

/// Elements of the largest tensor that collecting the steps of a block may make.
const COLLECTED_ELEMENTS: usize = 1 << 20;

/// `T` times `z <- z + f(z)`, `f` the velocity field with the step size in its output layer.
pub(super) struct Cells<'a, B: Backend> {
    step: BoundField<B>,
    cells: usize,
    log_det: &'a LogDet,
}

impl<'a, B: Backend> Cells<'a, B> {
    pub(super) fn new(step: BoundField<B>, cells: usize, log_det: &'a LogDet) -> Self {
        Self {
            step,
            cells,
            log_det,
        }
    }

    pub(super) fn run(&self, x: Tensor<B, 2>) -> Mapped<B> {
        let mut log_det = LogDetSum::new(self, x.dims()[0]);
        let mut value = x;
        for _ in 0..self.cells {
            let at = self.step.evaluate(value.clone());
            value = value + at.value;
            log_det.add(at.memos);
        }
        let log_det = log_det.total();
        Mapped { value, log_det }
    }

    pub(super) fn run_without_log_det(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        (0..self.cells).fold(x, |z, _| z.clone() + self.step.evaluate(z).value)
    }

    /// Solves the cells one by one, the last one first. Returns the rows before the first cell with
    /// minus the forward log-determinant there, and the evaluations of the field that it took.
    pub(super) fn run_back(&self, y: Tensor<B, 2>, stop: Stop) -> (Mapped<B>, usize) {
        let mut log_det = LogDetSum::new(self, y.dims()[0]);
        let (value, evaluations) = self.walk_back(y, stop, |z| {
            log_det.add(self.step.evaluate(z.clone()).memos);
        });
        let log_det = -log_det.total();
        (Mapped { value, log_det }, evaluations + self.cells)
    }

    pub(super) fn run_back_without_log_det(&self, y: Tensor<B, 2>, stop: Stop) -> Tensor<B, 2> {
        self.walk_back(y, stop, |_| ()).0
    }

    fn walk_back(
        &self,
        y: Tensor<B, 2>,
        stop: Stop,
        mut before_cell: impl FnMut(&Tensor<B, 2>),
    ) -> (Tensor<B, 2>, usize) {
        let fixed = self.step.constant();
        let (mut z, mut evaluations) = (y, 0);
        for _ in 0..self.cells {
            let solution = solve(&fixed, z.clone(), stop);
            evaluations += solution.evaluations + 1;
            z = implicit_step(&self.step, &fixed, solution, z);
            before_cell(&z);
        }
        (z, evaluations)
    }
}

/// The sum of the log-determinants of the cells.
///
/// The determinants of several cells are computed together, from their slopes put under one
/// another: that divides the number of tensor operations by the number of cells, while the size of
/// the tensors stays bounded, so that memory does not grow with `T` where no graph is kept.
struct LogDetSum<'a, B: Backend> {
    step: &'a BoundField<B>,
    log_det: &'a LogDet,
    rows: usize,
    /// Cells computed together.
    together: usize,
    /// Of each cell waiting, one tensor per hidden layer.
    waiting: Vec<Vec<Tensor<B, 2>>>,
    sum: Option<Tensor<B, 1>>,
}

impl<'a, B: Backend> LogDetSum<'a, B> {
    fn new(cells: &'a Cells<'_, B>, rows: usize) -> Self {
        let (dim, hidden) = (cells.step.dim(), cells.step.hidden());
        let core = hidden.iter().copied().fold(dim, usize::min);
        let widest = hidden.iter().map(|h| h * core.min(2)).max().unwrap_or(1);
        let elements_of_a_cell = rows.max(1) * widest.max(core * core);
        Self {
            step: &cells.step,
            log_det: cells.log_det,
            rows,
            together: (COLLECTED_ELEMENTS / elements_of_a_cell).clamp(1, cells.cells),
            waiting: Vec::new(),
            sum: None,
        }
    }

    fn add(&mut self, memos: Vec<Tensor<B, 2>>) {
        self.waiting.push(memos);
        if self.waiting.len() == self.together {
            self.compute();
        }
    }

    fn compute(&mut self) {
        let cells = self.waiting.len();
        if cells == 0 {
            return;
        }
        let layers = self.waiting[0].len();
        let stacked = (0..layers)
            .map(|l| {
                Tensor::cat(
                    self.waiting.iter().map(|memos| memos[l].clone()).collect(),
                    0,
                )
            })
            .collect();
        self.waiting.clear();
        let log_det = self
            .log_det
            .log_det(&Linearization::new(self.step, stacked));
        let log_det: Tensor<B, 1> = log_det
            .reshape([cells, self.rows])
            .sum_dim(0)
            .squeeze_dim(0);
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + log_det,
            None => log_det,
        });
    }

    fn total(mut self) -> Tensor<B, 1> {
        self.compute();
        self.sum.expect("a block has at least one cell")
    }
}
