//! A DDNF block over a batch: chunks of samples over threads, sums of gradients in fixed order.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::hidden::Hidden;
use crate::lanes::{CHUNK, Real, dispatch};
use crate::narrow::Narrow;

/// Chunks whose sums are kept apart at most; beyond it neighbouring chunks share theirs.
const TASKS: usize = 64;

/// Most hidden units for which the exact determinant is found here: two matrices a lane have to stay in the cache.
const LARGEST_ELIMINATED: usize = 64;

/// Log-determinants of a cell `z + v(z) / T`; `J` is the Jacobian of `v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogDet {
    /// `log |det(I + J / T)|`.
    Exact,
    /// `tr(J) / T`.
    Taylor1,
    /// `tr(J) / T - tr(J^2) / (2 T^2)`.
    Taylor2,
    /// Not needed: zero.
    None,
}

/// `cells` steps `z <- z + v(z) / cells` of the field `v(z) = tanh(z W1 + b1 + context) W2 + b2` on a batch, everything
/// row-major, weights `[inputs, outputs]`.
pub struct Block<'a, F> {
    /// Variables.
    pub dim: usize,
    /// Units of the hidden layer.
    pub hidden: usize,
    /// Steps.
    pub cells: usize,
    /// Which log-determinant.
    pub log_det: LogDet,
    /// `[rows, dim]`
    pub x: &'a [F],
    /// `[dim, hidden]`
    pub w1: &'a [F],
    /// `[hidden]`
    pub b1: &'a [F],
    /// `[hidden, dim]`
    pub w2: &'a [F],
    /// `[dim]`
    pub b2: &'a [F],
    /// `[rows, hidden]`, added to `b1`
    pub context: Option<&'a [F]>,
}

/// Gradients in the shapes of what they belong to.
pub struct Gradients<F> {
    /// `[rows, dim]`
    pub x: Vec<F>,
    /// `[dim, hidden]`
    pub w1: Vec<F>,
    /// `[hidden]`
    pub b1: Vec<F>,
    /// `[hidden, dim]`
    pub w2: Vec<F>,
    /// `[dim]`
    pub b2: Vec<F>,
    /// `[rows, hidden]`
    pub context: Option<Vec<F>>,
}

impl<F: Real> Gradients<F> {
    /// Zeros for the parameters, nothing yet for the batch.
    pub(crate) fn zeros(block: &Block<'_, F>) -> Self {
        let zeros = |len| vec![F::default(); len];
        Self {
            x: Vec::new(),
            w1: zeros(block.w1.len()),
            b1: zeros(block.b1.len()),
            w2: zeros(block.w2.len()),
            b2: zeros(block.b2.len()),
            context: None,
        }
    }
}

/// The samples of one task, or of one chunk of it.
#[derive(Clone, Copy)]
pub(crate) struct TaskRows<'a, F> {
    pub(crate) x: &'a [F],
    pub(crate) context: Option<&'a [F]>,
    dim: usize,
    hidden: usize,
}

impl<'a, F> TaskRows<'a, F> {
    /// The same samples in pieces of at most `size`.
    fn split(self, size: usize) -> impl Iterator<Item = Self> {
        let mut contexts = self.context.map(|c| c.chunks(size * self.hidden));
        self.x.chunks(size * self.dim).map(move |x| Self {
            x,
            context: contexts.as_mut().and_then(Iterator::next),
            ..self
        })
    }

    /// The chunks of this task.
    pub(crate) fn chunks(self) -> impl Iterator<Item = Self> {
        self.split(CHUNK)
    }
}

/// What the backward pass of one task reads and writes.
pub(crate) struct TaskGradients<'a, F> {
    /// Gradient of value and log-determinant, `[rows, dim + 1]`.
    pub(crate) output: &'a [F],
    pub(crate) x: &'a mut [F],
    pub(crate) context: Option<&'a mut [F]>,
    /// Sums over the samples of the task, in the kernel's own layout.
    pub(crate) partial: &'a mut [F],
}

/// Scratch memory handed out row block by row block.
pub(crate) struct ScratchParts<'a, F>(pub(crate) &'a mut [F]);

impl<'a, F> ScratchParts<'a, F> {
    /// The next `rows` rows.
    pub(crate) fn take(&mut self, rows: usize) -> &'a mut [F] {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(rows * CHUNK);
        self.0 = rest;
        part
    }
}

/// A way to compute a block.
pub(crate) trait Kernel<F: Real>: Sync {
    /// Numbers of scratch memory a forward task needs.
    fn forward_scratch(&self) -> usize;
    /// Numbers of scratch memory a backward task needs.
    fn backward_scratch(&self) -> usize;
    /// Length of a task's sums.
    fn partial_len(&self) -> usize;
    /// Writes value and log-determinant of a task's samples to `out`, `[rows, dim + 1]`.
    fn forward<S: Simd>(&self, simd: S, rows: TaskRows<'_, F>, out: &mut [F], scratch: &mut [F]);
    /// Writes the gradients of a task.
    fn backward<S: Simd>(
        &self,
        simd: S,
        rows: TaskRows<'_, F>,
        gradients: TaskGradients<'_, F>,
        scratch: &mut [F],
    );
    /// Parameter gradients from the sums over all tasks.
    fn finish(&self, block: &Block<'_, F>, sum: &[F]) -> Gradients<F>;
}

/// The form that costs least.
#[derive(Debug, Clone, Copy)]
pub enum Plan {
    /// State and Jacobian in registers.
    Narrow,
    /// Hidden units only.
    Hidden,
}

impl Plan {
    /// `None` where there is no closed form, or none that is worth it.
    pub fn choose(dim: usize, hidden: usize, log_det: LogDet) -> Option<Self> {
        if dim == 0 || hidden == 0 {
            None
        } else if dim <= 3 && (hidden > 2 || dim < hidden) {
            Some(Self::Narrow)
        } else if log_det == LogDet::Exact {
            // h^3 / 3 here, against the smaller of d and h in the generic path.
            (hidden <= LARGEST_ELIMINATED.min(4 * dim)).then_some(Self::Hidden)
        } else {
            // One cell costs h^2 here and 2 d h as it is written.
            (hidden <= 8 * dim).then_some(Self::Hidden)
        }
    }
}

impl<F: Real> Block<'_, F> {
    fn rows(&self) -> usize {
        self.x.len() / self.dim
    }

    /// Samples per task: a function of the batch alone, so that sums don't depend on threads.
    fn task_rows(&self) -> usize {
        self.rows().div_ceil(CHUNK).div_ceil(TASKS).max(1) * CHUNK
    }

    fn tasks(&self) -> Vec<TaskRows<'_, F>> {
        let all = TaskRows {
            x: self.x,
            context: self.context,
            dim: self.dim,
            hidden: self.hidden,
        };
        all.split(self.task_rows()).collect()
    }

    /// Value and log-determinant side by side, `[rows, dim + 1]`.
    pub fn forward(&self, plan: Plan) -> Vec<F> {
        self.forward_on(Arch::new(), plan)
    }

    /// Gradients from the gradient of [`forward`](Self::forward)'s result.
    pub fn backward(&self, plan: Plan, output: &[F]) -> Gradients<F> {
        self.backward_on(Arch::new(), plan, output)
    }

    pub(crate) fn forward_on(&self, arch: Arch, plan: Plan) -> Vec<F> {
        match (plan, self.dim) {
            (Plan::Narrow, 1) => self.forward_with(arch, &Narrow::<F, 1>::new(self)),
            (Plan::Narrow, 2) => self.forward_with(arch, &Narrow::<F, 2>::new(self)),
            (Plan::Narrow, _) => self.forward_with(arch, &Narrow::<F, 3>::new(self)),
            (Plan::Hidden, _) => self.forward_with(arch, &Hidden::new(arch, self)),
        }
    }

    pub(crate) fn backward_on(&self, arch: Arch, plan: Plan, output: &[F]) -> Gradients<F> {
        match (plan, self.dim) {
            (Plan::Narrow, 1) => self.backward_with(arch, &Narrow::<F, 1>::new(self), output),
            (Plan::Narrow, 2) => self.backward_with(arch, &Narrow::<F, 2>::new(self), output),
            (Plan::Narrow, _) => self.backward_with(arch, &Narrow::<F, 3>::new(self), output),
            (Plan::Hidden, _) => self.backward_with(arch, &Hidden::new(arch, self), output),
        }
    }

    fn forward_with<K: Kernel<F>>(&self, arch: Arch, kernel: &K) -> Vec<F> {
        let columns = self.dim + 1;
        let mut out = vec![F::default(); self.rows() * columns];
        self.tasks()
            .into_par_iter()
            .zip(out.par_chunks_mut(self.task_rows() * columns))
            .for_each(|(rows, out)| {
                F::with_scratch(kernel.forward_scratch(), |scratch| {
                    dispatch(
                        arch,
                        ForwardTask {
                            kernel,
                            rows,
                            out,
                            scratch,
                        },
                    );
                });
            });
        out
    }

    fn backward_with<K: Kernel<F>>(&self, arch: Arch, kernel: &K, output: &[F]) -> Gradients<F> {
        let tasks = self.tasks();
        let rows = self.task_rows();
        let zeros = |len| vec![F::default(); len];
        let mut x = zeros(self.x.len());
        let mut context = self.context.map(|c| zeros(c.len()));
        let contexts: Vec<Option<&mut [F]>> = match &mut context {
            Some(context) => context.chunks_mut(rows * self.hidden).map(Some).collect(),
            None => tasks.iter().map(|_| None).collect(),
        };
        let partials: Vec<Vec<F>> = tasks
            .into_par_iter()
            .zip(output.par_chunks(rows * (self.dim + 1)))
            .zip(x.par_chunks_mut(rows * self.dim))
            .zip(contexts)
            .map(|(((rows, output), x), context)| {
                let mut partial = zeros(kernel.partial_len());
                let gradients = TaskGradients {
                    output,
                    x,
                    context,
                    partial: &mut partial,
                };
                F::with_scratch(kernel.backward_scratch(), |scratch| {
                    dispatch(
                        arch,
                        BackwardTask {
                            kernel,
                            rows,
                            gradients,
                            scratch,
                        },
                    );
                });
                partial
            })
            .collect();
        // In the order of the tasks, whichever thread ran them.
        let mut sum = zeros(kernel.partial_len());
        for partial in &partials {
            for (sum, &value) in sum.iter_mut().zip(partial) {
                *sum = sum.plus(value);
            }
        }
        Gradients {
            x,
            context,
            ..kernel.finish(self, &sum)
        }
    }
}

struct ForwardTask<'a, F, K> {
    kernel: &'a K,
    rows: TaskRows<'a, F>,
    out: &'a mut [F],
    scratch: &'a mut [F],
}

impl<F: Real, K: Kernel<F>> WithSimd for ForwardTask<'_, F, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.kernel.forward(simd, self.rows, self.out, self.scratch);
    }
}

struct BackwardTask<'a, F, K> {
    kernel: &'a K,
    rows: TaskRows<'a, F>,
    gradients: TaskGradients<'a, F>,
    scratch: &'a mut [F],
}

impl<F: Real, K: Kernel<F>> WithSimd for BackwardTask<'_, F, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.kernel
            .backward(simd, self.rows, self.gradients, self.scratch);
    }
}
