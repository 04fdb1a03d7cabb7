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
use crate::kernels::host::{Host, is_host, is_plain_host};
use crate::kernels::lanes::Real;
use crate::nn::{Connections, Made, Schedule};
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

/// The inverse of an affine autoregressive layer for `y` with its columns sorted by level, `x` sorted likewise, or
/// nothing where there is no kernel for it.
pub(crate) fn incremental_inverse<B: Backend>(
    made: &Made<B>,
    scale: LogScale,
    y: &Tensor<B, 2>,
    context: Option<&Tensor<B, 2>>,
) -> Option<Mapped<B>> {
    if !fused_kernels_enabled()
        || y.dims()[0] == 0
        || made.connections() != Connections::Plain
        || !is_plain_host::<B>()
    {
        return None;
    }
    let inputs = Inputs {
        x: y.clone(),
        layers: made.linear_layers(context).collect(),
        shape: Shape {
            patterns: Arc::clone(made.patterns()),
            activation: made.activation(),
            scale,
        },
    };
    if !inputs.are_uniform() {
        return None;
    }
    let schedule = Schedule::new(made);
    match y.dtype() {
        DType::F32 => Some(solve::<f32, B>(&inputs, &schedule)),
        DType::F64 => Some(solve::<f64, B>(&inputs, &schedule)),
        _ => None,
    }
}

fn solve<F: Real + Element, B: Backend>(inputs: &Inputs<B>, schedule: &Schedule) -> Mapped<B> {
    let last = inputs.layers.len() - 1;
    let hosts = inputs.layers.iter().map(|layer| {
        let offset = match &layer.offset {
            Offset::Bias(bias) => Host::new(bias.clone()),
            Offset::Rows(rows) => Host::new(rows.clone()),
        };
        (Host::new(layer.weight.clone()), offset)
    });
    let hosts: Vec<_> = hosts.collect();
    let parameters = schedule.variables.iter();
    let parameters = parameters.map(|own| schedule.parameters_of(own)).collect();
    let groups = schedule.groups.iter().cloned().chain([parameters]);
    let layers = hosts.iter().zip(&*inputs.shape.patterns).zip(groups);
    let layers = layers
        .enumerate()
        .map(|(l, (((weight, offset), pattern), groups))| Layer {
            pattern,
            weight: weight.numbers::<F>(),
            offset: offset.numbers::<F>(),
            rows: (l == 0).then_some(&schedule.order[..]),
            columns: (l == last).then_some(&schedule.parameters[..]),
            groups,
        });
    let problem = Incremental::new(
        layers.collect(),
        &schedule.variables,
        inputs.shape.activation,
        inputs.shape.scale,
    );
    let y = &inputs.x;
    let (x, log_det) = problem.solve(Host::new(y.clone()).numbers());
    let ([rows, dim], device, dtype) = (y.dims(), y.device(), y.dtype());
    Mapped {
        value: Tensor::from_data(TensorData::new(x, [rows, dim]), (&device, dtype)),
        log_det: Tensor::from_data(TensorData::new(log_det, [rows]), (&device, dtype)),
    }
}
