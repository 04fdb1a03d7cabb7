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
mod run;

use std::sync::Arc;

use burn::tensor::{DType, Element, Tensor, TensorData, backend::Backend};

use crate::bijector::Mapped;
use crate::bijectors::LogScale;
use crate::kernels::fused_kernels_enabled;
use crate::kernels::host::{Host, is_host, is_plain_host};
use crate::kernels::lanes::Real;
use crate::nn::{Connections, Made, Schedule};
use incremental::{Incremental, Layer};
use operation::{Inputs, Masked, Shape};
pub(crate) use operation::{Linear, Offset};
pub(crate) use pattern::Pattern;

/// A layer as part of a run of layers that one fused operation computes; see
/// [`Bijector::stage`](crate::bijector::Bijector::stage).
#[derive(Debug, Clone)]
pub struct Stage<B: Backend>(Kind<B>);

#[derive(Debug, Clone)]
enum Kind<B: Backend> {
    /// Column `k` of the result is column `order[k]`.
    Permutation(Vec<usize>),
    Masked(Masked<B>),
}

impl<B: Backend> Stage<B> {
    pub(crate) fn permutation(order: &[usize]) -> Self {
        Self(Kind::Permutation(order.to_vec()))
    }

    /// An affine autoregressive layer, where there is a kernel for it.
    pub(crate) fn masked(
        made: &Made<B>,
        scale: LogScale,
        context: Option<&Tensor<B, 2>>,
    ) -> Option<Self> {
        Masked::new(made, scale, context).map(|masked| Self(Kind::Masked(masked)))
    }
}

impl<B: Backend> Masked<B> {
    fn new(made: &Made<B>, scale: LogScale, context: Option<&Tensor<B, 2>>) -> Option<Self> {
        if made.connections() != Connections::Plain {
            return None;
        }
        let layers: Vec<Linear<B>> = made.linear_layers(context).collect();
        let patterns = Arc::clone(made.patterns());
        for (l, (layer, pattern)) in layers.iter().zip(patterns.iter()).enumerate() {
            assert_fits(l, layer, pattern);
        }
        Some(Self {
            order: None,
            layers,
            shape: Shape {
                patterns,
                activation: made.activation(),
                scale,
            },
        })
    }
}

/// Parameters of another shape than the masks can come in through a record. A kernel that read them by the masks
/// would give another density, or run out of its slices.
fn assert_fits<B: Backend>(l: usize, layer: &Linear<B>, pattern: &Pattern) {
    let outputs = match &layer.offset {
        Offset::Bias(bias) => bias.dims()[0],
        Offset::Rows(rows) => rows.dims()[1],
    };
    let (found, expected) = (layer.weight.dims(), [pattern.inputs(), pattern.outputs()]);
    assert!(
        found == expected && outputs == expected[1],
        "masked affine: layer {l} of the network has weights of shape {found:?} and {outputs} biases, expected \
         {expected:?} and {}: these are the parameters of another model",
        expected[1]
    );
}

/// Whether layers on this backend, for this input, are worth asking for their stages.
fn has_kernel<B: Backend>(x: &Tensor<B, 2>) -> bool {
    fused_kernels_enabled()
        && x.dims()[0] > 0
        && is_host::<B>()
        && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// The forward direction of an affine autoregressive layer as one differentiable operation, or nothing where
/// there is no kernel for it: another backend, mixed or half-precision numbers, a batch without rows, residual
/// connections.
pub(crate) fn affine_forward<B: Backend>(
    made: &Made<B>,
    scale: LogScale,
    x: &Tensor<B, 2>,
    context: Option<&Tensor<B, 2>>,
) -> Option<Mapped<B>> {
    if !has_kernel(x) {
        return None;
    }
    let stage = Stage::masked(made, scale, context)?;
    run([Some(stage)].into_iter(), x).map(|(mapped, _)| mapped)
}

/// The first layers of a composition as one differentiable operation, and how many they are; nothing where no
/// layer of them has a kernel.
pub(crate) fn fused_run<B: Backend>(
    stages: impl Iterator<Item = Option<Stage<B>>>,
    x: &Tensor<B, 2>,
) -> Option<(Mapped<B>, usize)> {
    if has_kernel(x) { run(stages, x) } else { None }
}

fn run<B: Backend>(
    stages: impl Iterator<Item = Option<Stage<B>>>,
    x: &Tensor<B, 2>,
) -> Option<(Mapped<B>, usize)> {
    let mut inputs = Inputs {
        x: x.clone(),
        networks: Vec::new(),
        order: None,
    };
    let (mut parents, mut count) = (1, 0);
    for stage in stages.map_while(|stage| stage) {
        match stage.0 {
            Kind::Permutation(order) => {
                inputs.order = Some(match inputs.order.take() {
                    None => order,
                    Some(before) => order.into_iter().map(|k| before[k]).collect(),
                });
            }
            Kind::Masked(masked) => {
                parents += masked.parents();
                if parents > operation::MAX_PARENTS || !masked.is_of(x.dtype()) {
                    break;
                }
                let order = inputs.order.take();
                inputs.networks.push(Masked { order, ..masked });
            }
        }
        count += 1;
    }
    if inputs.networks.is_empty() {
        return None;
    }
    let (value, log_det) = operation::run(inputs)?;
    Some((Mapped { value, log_det }, count))
}

/// The inverse of an affine autoregressive layer for `y` with its columns sorted by level, `x` sorted likewise, or
/// nothing where there is no kernel for it.
pub(crate) fn incremental_inverse<B: Backend>(
    made: &Made<B>,
    scale: LogScale,
    y: &Tensor<B, 2>,
    context: Option<&Tensor<B, 2>>,
) -> Option<Mapped<B>> {
    if !has_kernel(y) || !is_plain_host::<B>() {
        return None;
    }
    let masked = Masked::new(made, scale, context).filter(|masked| masked.is_of(y.dtype()))?;
    let schedule = Schedule::new(made);
    match y.dtype() {
        DType::F32 => Some(solve::<f32, B>(&masked, y, &schedule)),
        DType::F64 => Some(solve::<f64, B>(&masked, y, &schedule)),
        _ => None,
    }
}

fn solve<F: Real + Element, B: Backend>(
    masked: &Masked<B>,
    y: &Tensor<B, 2>,
    schedule: &Schedule,
) -> Mapped<B> {
    let last = masked.layers.len() - 1;
    let hosts = masked.layers.iter().map(|layer| {
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
    let layers = hosts.iter().zip(&*masked.shape.patterns).zip(groups);
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
        masked.shape.activation,
        masked.shape.scale,
    );
    let (x, log_det) = problem.solve(Host::new(y.clone()).numbers());
    let ([rows, dim], device, dtype) = (y.dims(), y.device(), y.dtype());
    Mapped {
        value: Tensor::from_data(TensorData::new(x, [rows, dim]), (&device, dtype)),
        log_det: Tensor::from_data(TensorData::new(log_det, [rows]), (&device, dtype)),
    }
}
