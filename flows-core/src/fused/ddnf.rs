//! A DDNF block as one operation.

use std::sync::Arc;

use burn::tensor::{Element, Tensor, backend::Backend};
use flows_kernels::Real;
use flows_kernels::ddnf::{Block, Gradients, LogDet, Plan};

use super::operation::{Kernel, Trace, input, run};
use super::parts::{DdnfCells, FusedLogDet};
use super::switch::fused_kernels_enabled;
use crate::bijector::Mapped;

impl From<FusedLogDet> for LogDet {
    fn from(log_det: FusedLogDet) -> Self {
        match log_det {
            FusedLogDet::Exact => Self::Exact,
            FusedLogDet::Taylor1 => Self::Taylor1,
            FusedLogDet::Taylor2 => Self::Taylor2,
            FusedLogDet::None => Self::None,
        }
    }
}

/// Whether [`ddnf_block`] has a kernel for these sizes, on the backends that have any.
pub(crate) fn has_ddnf_block(dim: usize, hidden: usize, log_det: FusedLogDet) -> bool {
    Plan::choose(dim, hidden, log_det.into()).is_some()
}

/// The block, or nothing where no kernel applies and the generic path has to run: another backend, mixed or
/// half-precision numbers, a batch without rows, or more than three dimensions and a hidden layer beyond eight times
/// as many, with [`FusedLogDet::Exact`] beyond four times as many or 64 units.
///
/// # Panics
/// If there are no cells or the shapes don't fit together.
pub(crate) fn ddnf_block<B: Backend>(x: &Tensor<B, 2>, cells: DdnfCells<B>) -> Option<Mapped<B>> {
    let DdnfCells {
        w1,
        b1,
        w2,
        b2,
        context,
        cells,
        log_det,
    } = cells;
    let ([rows, dim], [_, hidden]) = (x.dims(), w1.dims());
    assert!(cells > 0, "ddnf kernel: no cells");
    assert!(
        w1.dims() == [dim, hidden]
            && b1.dims() == [hidden]
            && w2.dims() == [hidden, dim]
            && b2.dims() == [dim]
            && context.as_ref().is_none_or(|c| c.dims() == [rows, hidden]),
        "ddnf kernel: shapes x {:?}, w1 {:?}, b1 {:?}, w2 {:?}, b2 {:?}, context {:?} don't fit together",
        x.dims(),
        w1.dims(),
        b1.dims(),
        w2.dims(),
        b2.dims(),
        context.as_ref().map(Tensor::dims),
    );
    if !fused_kernels_enabled() || rows == 0 {
        return None;
    }
    let kernel = Ddnf {
        dim,
        hidden,
        cells,
        log_det: log_det.into(),
        plan: Plan::choose(dim, hidden, log_det.into())?,
    };
    let mut inputs = vec![input(x.clone()), input(w1), input(b1), input(w2), input(b2)];
    inputs.extend(context.map(input));
    run(&kernel, inputs)
}

#[derive(Debug, Clone)]
struct Ddnf {
    dim: usize,
    hidden: usize,
    cells: usize,
    log_det: LogDet,
    plan: Plan,
}

impl Ddnf {
    fn block<'a, F: Real>(&self, inputs: &[&'a [F]]) -> Block<'a, F> {
        Block {
            dim: self.dim,
            hidden: self.hidden,
            cells: self.cells,
            log_det: self.log_det,
            x: inputs[0],
            w1: inputs[1],
            b1: inputs[2],
            w2: inputs[3],
            b2: inputs[4],
            context: inputs.get(5).copied(),
        }
    }
}

impl Kernel for Ddnf {
    fn forward<F: Real + Element>(&self, inputs: &[&[F]], _keep: bool) -> (Vec<F>, Trace) {
        // The backward pass runs the block again.
        (self.block(inputs).forward(self.plan), Arc::new(()))
    }

    fn backward<F: Real + Element>(
        &self,
        inputs: &[&[F]],
        _trace: &Trace,
        output: &[F],
        _wants_first: bool,
    ) -> Vec<Vec<F>> {
        let Gradients {
            x,
            w1,
            b1,
            w2,
            b2,
            context,
        } = self.block(inputs).backward(self.plan, output);
        [x, w1, b1, w2, b2].into_iter().chain(context).collect()
    }
}
