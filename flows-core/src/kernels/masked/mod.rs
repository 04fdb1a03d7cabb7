//! Specialised CPU paths of the masked layers.
//!
//! They are chosen by the type of the backend, so that `B: Backend` stays the only bound that a
//! user sees; any other backend takes the generic path.

mod affine;
mod backward;
mod buffer;
mod forward;
mod incremental;
mod network;
mod operation;
mod packed;
mod pattern;
mod product;

use std::sync::Arc;

use burn::tensor::{DType, Element, Tensor, TensorData, backend::Backend};

use crate::bijector::Mapped;
use crate::bijectors::LogScale;
use crate::kernels::fused_kernels_enabled;
use crate::kernels::host::{is_host, is_plain_host};
use crate::kernels::lanes::Real;
use crate::nn::{Connections, Made, MadeSweep};
use incremental::{Incremental, Layer};
use operation::{Inputs, Shape};
pub(crate) use operation::{Linear, Offset};
pub(crate) use pattern::Pattern;

/// The forward direction of an affine autoregressive layer as one differentiable operation, or nothing where
/// there is no kernel for it: another backend, mixed or half-precision numbers, a batch without rows, residual
/// connections.
pub(crate) fn affine_forward<B: Backend>(
    made: &Made<B>,
    scale: LogScale,
    x: &Tensor<B, 2>,
    context: Option<&Tensor<B, 2>>,
) -> Option<Mapped<B>> {
    if !fused_kernels_enabled()
        || x.dims()[0] == 0
        || made.connections() != Connections::Plain
        || !is_host::<B>()
    {
        return None;
    }
    let shape = Shape {
        patterns: Arc::clone(made.patterns()),
        activation: made.activation(),
        scale,
    };
    let inputs = Inputs {
        x: x.clone(),
        layers: made.linear_layers(context).collect(),
        shape,
    };
    if !inputs.are_uniform() {
        return None;
    }
    let (value, log_det) = operation::run(&inputs)?;
    Some(Mapped { value, log_det })
}
/// The inverse of an affine autoregressive layer whose variables lie sorted by level, or nothing where
/// there is no kernel for it.
pub(crate) fn incremental_inverse<B: Backend>(
    sweep: &MadeSweep<'_, B>,
    scale: LogScale,
    y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    if !fused_kernels_enabled()
        || !is_plain_host::<B>()
        || sweep.connections() != Connections::Plain
    {
        return None;
    }
    match y.dtype() {
        DType::F32 => solve::<f32, B>(sweep, scale, y),
        DType::F64 => solve::<f64, B>(sweep, scale, y),
        _ => None,
    }
}

fn solve<F: Real + Element, B: Backend>(
    sweep: &MadeSweep<'_, B>,
    scale: LogScale,
    y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    let layers = sweep.layers().map(|(weight, offset, groups)| {
        let [inputs, outputs] = weight.dims();
        Some(Layer {
            inputs,
            outputs,
            weight: numbers(weight)?,
            offset: numbers(offset)?,
            groups,
        })
    });
    let problem = Incremental::<F>::new(
        layers.collect::<Option<Vec<_>>>()?,
        sweep.variables().to_vec(),
        sweep.activation(),
        scale,
    );
    let [rows, dim] = y.dims();
    let (x, log_det) = problem.solve(&numbers(y.clone())?);
    let (device, dtype) = (y.device(), y.dtype());
    Some(Mapped {
        value: Tensor::from_data(TensorData::new(x, [rows, dim]), (&device, dtype)),
        log_det: Tensor::from_data(TensorData::new(log_det, [rows]), (&device, dtype)),
    })
}

/// The numbers of a tensor; none for one of another type.
fn numbers<F: Element, B: Backend>(x: Tensor<B, 2>) -> Option<Vec<F>> {
    x.into_data().into_vec().ok()
}
