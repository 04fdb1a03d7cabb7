//! Value and log-determinant out of the one tensor that a node of the graph can have.

use burn::tensor::{DType, Element, Tensor, TensorData, TensorPrimitive, backend::Backend};
use burn_autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops},
};

use flows_kernels::Real;

use super::host::Host;
use crate::bijector::Mapped;

/// The parts of `[batch, dim + 1]`.
pub(super) fn split<I: Backend>(out: Tensor<I, 2>) -> Mapped<I> {
    let [rows, columns] = out.dims();
    let dim = columns - 1;
    let log_det = out.clone().slice([0..rows, dim..columns]).squeeze_dim(1);
    Mapped {
        value: out.slice([0..rows, 0..dim]),
        log_det,
    }
}

/// As [`split`], with one node of the graph for each part: Burn's slice and squeeze are three, and their gradients
/// several passes.
pub(super) fn split_tracked<I: Backend, C: CheckpointStrategy>(
    out: Tensor<Autodiff<I, C>, 2>,
) -> Mapped<Autodiff<I, C>> {
    let [_, total] = out.dims();
    let out = out.into_primitive().tensor();
    let inner = Tensor::<I, 2>::from_primitive(TensorPrimitive::Float(out.primitive));
    let Mapped { value, log_det } = split(inner);
    let node = |part| PartBackward { part, total }.prepare::<C>([out.node.clone()]);
    let value = node(Part::Value)
        .compute_bound()
        .stateless(value.into_primitive().tensor());
    let log_det = node(Part::LogDet)
        .compute_bound()
        .stateless(log_det.into_primitive().tensor());
    Mapped {
        value: Tensor::from_primitive(TensorPrimitive::Float(value)),
        log_det: Tensor::from_primitive(TensorPrimitive::Float(log_det)),
    }
}

/// The gradient of some columns is that of all with zeros in the others.
#[derive(Debug)]
struct PartBackward {
    part: Part,
    /// Columns of the whole.
    total: usize,
}

#[derive(Debug)]
enum Part {
    Value,
    LogDet,
}

impl<I: Backend> Backward<I, 1> for PartBackward {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<I>(&ops.node);
        let gradient = TensorPrimitive::Float(gradient);
        let [parent] = ops.parents;
        let Some(parent) = parent else { return };
        let whole = match self.part {
            Part::Value => self.widen(Tensor::<I, 2>::from_primitive(gradient)),
            Part::LogDet => self.widen(Tensor::<I, 1>::from_primitive(gradient)),
        };
        grads.register::<I>(parent.id, whole.into_primitive().tensor());
    }
}

impl PartBackward {
    fn widen<I: Backend, const D: usize>(&self, gradient: Tensor<I, D>) -> Tensor<I, 2> {
        let (device, dtype) = (gradient.device(), gradient.dtype());
        let host = Host::new::<I>(gradient.into_primitive().tensor());
        let whole = match dtype {
            DType::F64 => self.columns_of::<f64>(&host),
            _ => self.columns_of::<f32>(&host),
        };
        Tensor::from_data(whole, (&device, dtype))
    }

    fn columns_of<F: Real + Element>(&self, gradient: &Host) -> TensorData {
        let columns = match self.part {
            Part::Value => 0..self.total - 1,
            Part::LogDet => self.total - 1..self.total,
        };
        let rows = gradient.numbers::<F>().chunks_exact(columns.len());
        let shape = [rows.len(), self.total];
        let mut whole = vec![F::default(); shape[0] * shape[1]];
        for (row, own) in whole.chunks_exact_mut(self.total).zip(rows) {
            row[columns.clone()].copy_from_slice(own);
        }
        TensorData::new(whole, shape)
    }
}
