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

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use crate::bijector::Mapped;
use crate::bijectors::LogScale;
use crate::kernels::fused_kernels_enabled;
use crate::kernels::host::{is_host, is_plain_host};
use crate::nn::{Connections, Made, MadeSweep};
use incremental::{Incremental, Layer};
use operation::{Inputs, Shape};
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
    let [rows, dim] = x.dims();
    let dtype = x.dtype();
    if !fused_kernels_enabled()
        || rows == 0
        || !matches!(dtype, DType::F32 | DType::F64)
        || made.connections() != Connections::Plain
        || !is_host::<B>()
    {
        return None;
    }
    let layers: Vec<_> = made.linear_layers(context).collect();
    if layers
        .iter()
        .flatten()
        .any(|tensor| tensor.dtype() != dtype)
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
        layers,
        shape,
    };
    let out = operation::run(&inputs)?;
    Some(Mapped {
        value: out.clone().slice([0..rows, 0..dim]),
        log_det: out.slice([0..rows, dim..dim + 1]).squeeze_dim(1),
    })
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
        || y.dtype() != DType::F32
        || sweep.connections() != Connections::Plain
    {
        return None;
    }
    let layers = sweep.layers().map(|(weight, offset, groups)| {
        let [inputs, outputs] = weight.dims();
        Some(Layer {
            inputs,
            outputs,
            weight: floats(weight)?,
            offset: floats(offset)?,
            groups,
        })
    });
    let problem = Incremental::new(
        layers.collect::<Option<Vec<_>>>()?,
        sweep.variables().to_vec(),
        sweep.activation(),
        scale,
    );
    let [rows, dim] = y.dims();
    let (x, log_det) = problem.solve(&floats(y.clone())?);
    let device = y.device();
    Some(Mapped {
        value: Tensor::from_data(TensorData::new(x, [rows, dim]), (&device, DType::F32)),
        log_det: Tensor::from_data(TensorData::new(log_det, [rows]), (&device, DType::F32)),
    })
}

fn floats<B: Backend>(x: Tensor<B, 2>) -> Option<Vec<f32>> {
    x.into_data().into_vec().ok()
}
