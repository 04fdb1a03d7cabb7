//! The `T` weight-shared cells of a block, in both directions.

use burn::tensor::{Bool, Tensor, backend::Backend};
use std::borrow::Cow;

use super::inverse::{Stop, implicit_step, solve};
use crate::bijector::Mapped;
use crate::continuous::field_weight::constant;
use crate::continuous::log_det::{LogDet, Noise};
use crate::continuous::{BoundField, Linearization};
use crate::visit::child_seed;

/// Elements of the largest tensor that collecting the steps of a block may make.
const COLLECTED_ELEMENTS: usize = 1 << 20;

/// `T` times `z <- z + f(z, t / T)`, `f` the velocity field with the step size in its output layer.
pub(super) struct Cells<'a, B: Backend> {
    step: BoundField<B>,
    cells: usize,
    log_det: &'a LogDet,
    noise_seed: u64,
}

impl<'a, B: Backend> Cells<'a, B> {
    pub(super) fn new(
        step: BoundField<B>,
        cells: usize,
        log_det: &'a LogDet,
        noise_seed: u64,
    ) -> Self {
        Self {
            step,
            cells,
            log_det,
            noise_seed,
        }
    }

    /// The field that cell `cell` applies.
    fn step_of(&self, cell: usize) -> Cow<'_, BoundField<B>> {
        self.step.at_time(cell as f64 / self.cells as f64)
    }

    pub(super) fn run(&self, x: Tensor<B, 2>) -> Mapped<B> {
        if x.dims()[0] == 0 {
            return Mapped::volume_preserving(x);
        }
        let mut log_det = LogDetSum::new(self, &x);
        let mut value = x;
        for cell in 0..self.cells {
            let at = self.step_of(cell).evaluate(value.clone());
            value = value + at.value;
            log_det.add(cell, at.memos);
        }
        let log_det = log_det.total();
        Mapped { value, log_det }
    }

    pub(super) fn run_without_log_det(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let step = |z: Tensor<B, 2>, cell| z.clone() + self.step_of(cell).evaluate(z).value;
        (0..self.cells).fold(x, step)
    }

    /// Solves the cells one by one, the last one first. Returns the rows before the first cell with
    /// minus the forward log-determinant there, NaN in rows that were not solved, and the evaluations of the
    /// field that it took.
    pub(super) fn run_back(&self, y: Tensor<B, 2>, stop: Stop) -> (Mapped<B>, usize) {
        if y.dims()[0] == 0 {
            return (Mapped::volume_preserving(y), 0);
        }
        let mut log_det = LogDetSum::new(self, &y);
        let walk = self.walk_back(y, stop, |cell, z| {
            log_det.add(cell, self.step_of(cell).evaluate(z.clone()).memos);
        });
        let log_det = -log_det.total();
        let mapped = Mapped {
            log_det: match &walk.unsolved {
                Some(unsolved) => log_det.mask_fill(unsolved.clone().squeeze_dim::<1>(1), f64::NAN),
                None => log_det,
            },
            value: walk.value(),
        };
        (mapped, walk.evaluations + self.cells)
    }

    pub(super) fn run_back_without_log_det(&self, y: Tensor<B, 2>, stop: Stop) -> Tensor<B, 2> {
        match y.dims()[0] {
            0 => y,
            _ => self.walk_back(y, stop, |_, _| ()).value(),
        }
    }

    fn walk_back(
        &self,
        y: Tensor<B, 2>,
        stop: Stop,
        mut before_cell: impl FnMut(usize, &Tensor<B, 2>),
    ) -> WalkBack<B> {
        let fixed = self.step.without_graph();
        let mut walk = WalkBack {
            z: y,
            unsolved: None,
            evaluations: 0,
        };
        for cell in (0..self.cells).rev() {
            let fixed = fixed.at_time(cell as f64 / self.cells as f64);
            let solution = solve(&fixed, walk.z.clone(), stop);
            walk.evaluations += solution.evaluations + 1;
            if let Some(unsolved) = &solution.unsolved {
                walk.add_unsolved(unsolved.clone());
            }
            walk.z = implicit_step(&self.step_of(cell), &fixed, solution, walk.z);
            before_cell(cell, &walk.z);
        }
        walk
    }
}

/// Rows on their way back through the cells.
struct WalkBack<B: Backend> {
    z: Tensor<B, 2>,
    /// Rows that a cell could not be solved for, `[n, 1]`; `None` where there is no such row.
    unsolved: Option<Tensor<B, 2, Bool>>,
    evaluations: usize,
}

impl<B: Backend> WalkBack<B> {
    fn add_unsolved(&mut self, rows: Tensor<B, 2, Bool>) {
        self.unsolved = Some(match self.unsolved.take() {
            Some(before) => before.bool_or(rows),
            None => rows,
        });
    }

    /// The rows before the first cell, NaN where a cell was not solved.
    fn value(&self) -> Tensor<B, 2> {
        let z = self.z.clone();
        match &self.unsolved {
            Some(unsolved) => z
                .clone()
                .mask_fill(unsolved.clone().expand(z.dims()), f64::NAN),
            None => z,
        }
    }
}

/// The sum of the log-determinants of the cells.
///
/// The determinants of several cells are computed together, from their slopes put under one
/// another: that divides the number of tensor operations by the number of cells, while the size of
/// the tensors stays bounded, so that memory does not grow with `T` where no graph is kept.
struct LogDetSum<'a, B: Backend> {
    cells: &'a Cells<'a, B>,
    /// A batch like those that go through the cells, for its shape, device and type.
    like: Tensor<B, 2>,
    /// Cells computed together.
    together: usize,
    /// Of each cell waiting, one tensor per hidden layer.
    waiting: Vec<(usize, Vec<Tensor<B, 2>>)>,
    sum: Option<Tensor<B, 1>>,
}

impl<'a, B: Backend> LogDetSum<'a, B> {
    fn new(cells: &'a Cells<'a, B>, like: &Tensor<B, 2>) -> Self {
        let (dim, hidden) = (cells.step.dim(), cells.step.hidden());
        let core = hidden.iter().copied().fold(dim, usize::min);
        let of_width = |h: &usize| h * core.min(2).max(cells.log_det.probes());
        let widest = hidden.iter().map(of_width).max().unwrap_or(1);
        let elements_of_a_cell = like.dims()[0].max(1) * widest.max(core * core);
        Self {
            cells,
            like: constant(like.clone()),
            together: (COLLECTED_ELEMENTS / elements_of_a_cell).clamp(1, cells.cells),
            waiting: Vec::new(),
            sum: None,
        }
    }

    fn add(&mut self, cell: usize, memos: Vec<Tensor<B, 2>>) {
        self.waiting.push((cell, memos));
        if self.waiting.len() == self.together {
            self.compute();
        }
    }

    fn compute(&mut self) {
        let cells = self.waiting.len();
        if cells == 0 {
            return;
        }
        let layers = self.waiting[0].1.len();
        let stacked = (0..layers)
            .map(|l| {
                let of_layer = |(_, memos): &(usize, Vec<Tensor<B, 2>>)| memos[l].clone();
                Tensor::cat(self.waiting.iter().map(of_layer).collect(), 0)
            })
            .collect();
        let noise = self.noise();
        self.waiting.clear();
        let log_det = self
            .cells
            .log_det
            .log_det(&Linearization::new(&self.cells.step, stacked), noise);
        let log_det: Tensor<B, 1> = log_det
            .reshape([cells, self.like.dims()[0]])
            .sum_dim(0)
            .squeeze_dim(0);
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + log_det,
            None => log_det,
        });
    }

    /// The noise of the cells waiting. A cell has the same in either direction, so that the two
    /// log-determinants cancel, estimated as they are.
    fn noise(&self) -> Option<Noise<B>> {
        let Cells {
            log_det,
            noise_seed,
            ..
        } = self.cells;
        let of_cell = |cell: usize| log_det.noise(&self.like, child_seed(*noise_seed, cell as u64));
        let noises: Option<Vec<_>> = if log_det.fresh_per_step() {
            let cells = self.waiting.iter();
            cells.map(|(cell, _)| of_cell(*cell)).collect()
        } else {
            of_cell(0).map(|noise| vec![noise; self.waiting.len()])
        };
        noises.map(Noise::stack)
    }

    fn total(mut self) -> Tensor<B, 1> {
        self.compute();
        self.sum.expect("a block has at least one cell")
    }
}
