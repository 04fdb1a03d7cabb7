//! Autoregressive layers with an affine map or a spline of each variable, couplings among them, one or several one
//! after the other, as one operation.

use std::sync::Arc;

use burn::tensor::{DType, Element, Tensor, TensorData, backend::Backend, ops::FloatTensor};
use flows_kernels::Real;
use flows_kernels::masked::{
    Activation, Gradients, Incremental, KnotSlope, Layer, Map as KernelMap, Network, Run, Scale,
    SortedLayer, Spline, Trace as Levels,
};

use super::host::Host;
use super::operation;
use super::operation::{Kernel, MOST_INPUTS, Trace, input, is_host, is_plain_host};
use super::parts::{Map, Masked, Part, Untouched};
use super::plan::{Linear, Offset, Patterns};
use super::switch::fused_kernels_enabled;
use crate::bijector::Mapped;
use crate::nn::{ConditionerActivation, Connections, Made, Schedule};
use crate::transforms::{EXP_LIMIT, GATE_LIMIT, LogScale, RqSpline, SplineForm};

impl From<ConditionerActivation> for Activation {
    fn from(activation: ConditionerActivation) -> Self {
        match activation {
            ConditionerActivation::Relu => Self::Relu,
            ConditionerActivation::Tanh => Self::Tanh,
            ConditionerActivation::Elu => Self::Elu,
        }
    }
}

impl From<LogScale> for Scale {
    fn from(scale: LogScale) -> Self {
        match scale {
            LogScale::Exp => Self::Exp { limit: EXP_LIMIT },
            LogScale::TanhBounded { bound } => Self::TanhBounded { bound },
            LogScale::SoftClip { bound } => Self::SoftClip { bound },
            LogScale::Softplus { floor } => Self::Softplus { floor },
            LogScale::Sigmoid { offset, floor } => Self::Sigmoid { offset, floor },
            LogScale::SigmoidGate => Self::SigmoidGate { lowest: GATE_LIMIT },
            LogScale::Additive => Self::Additive,
        }
    }
}

impl From<&RqSpline> for Spline {
    fn from(spline: &RqSpline) -> Self {
        let (least, slope, free_ends) = match spline.form {
            SplineForm::Softplus {
                min_width,
                min_height,
                min_slope,
            } => {
                let slope = KnotSlope::Softplus { floor: min_slope };
                ([min_width, min_height], slope, false)
            }
            SplineForm::SoftClip { min_slope } => {
                let bound = -min_slope.ln();
                ([0.0; 2], KnotSlope::SoftClip { bound }, false)
            }
            SplineForm::FreeEnds {
                min_width,
                min_slope,
            } => {
                let slope = KnotSlope::Softplus { floor: min_slope };
                ([min_width / (2.0 * spline.bound); 2], slope, true)
            }
        };
        Self {
            bins: spline.bins,
            bound: spline.bound,
            least,
            slope,
            free_ends,
        }
    }
}

impl Map<'_> {
    /// The same for the kernels; nothing for a spline with more bins than they have room for.
    fn kernel(self) -> Option<KernelMap> {
        match self {
            Self::Affine(scale) => Some(KernelMap::Affine(scale.into())),
            Self::Spline(spline) if spline.bins > Spline::most_bins() => None,
            Self::Spline(spline) => Some(KernelMap::Spline(spline.into())),
        }
    }
}

/// Whether there may be a kernel on this backend, for this input.
fn has_kernel<B: Backend>(x: &Tensor<B, 2>) -> bool {
    fused_kernels_enabled()
        && x.dims()[0] > 0
        && is_host::<B>()
        && matches!(x.dtype(), DType::F32 | DType::F64)
}

impl<B: Backend> Masked<'_, B> {
    /// The weights; nothing for a network that no kernel knows, or of another type than `dtype`.
    fn layers(&self, dtype: DType) -> Option<Vec<Linear<B>>> {
        if self.network.connections() != Connections::Plain {
            return None;
        }
        let layers: Vec<Linear<B>> = self.network.linear_layers(self.context).collect();
        for (l, (layer, pattern)) in layers.iter().zip(&self.patterns.0).enumerate() {
            let (outputs, own) = match &layer.offset {
                Offset::Bias(bias) => (bias.dims()[0], bias.dtype()),
                Offset::Rows(rows) => (rows.dims()[1], rows.dtype()),
            };
            // Parameters of another shape than the masks can come in through a record. A kernel that read them by
            // the masks would give another density, or run out of its slices.
            let (found, expected) = (layer.weight.dims(), [pattern.inputs(), pattern.outputs()]);
            assert!(
                found == expected && outputs == expected[1],
                "autoregressive: layer {l} of the network has weights of shape {found:?} and {outputs} biases, \
                 expected {expected:?} and {}: these are the parameters of another model",
                expected[1]
            );
            if [layer.weight.dtype(), own] != [dtype; 2] {
                return None;
            }
        }
        Some(layers)
    }
}

/// The first of these parts as one differentiable operation, and how many they are; nothing where none of them has
/// weights, and without a kernel: another backend, mixed or half-precision numbers, a batch without rows, residual
/// connections.
pub(crate) fn run<'a, B: Backend>(
    parts: impl Iterator<Item = Option<Part<'a, B>>>,
    x: &Tensor<B, 2>,
) -> Option<(Mapped<B>, usize)> {
    if !has_kernel(x) {
        return None;
    }
    let mut kernel = MaskedRun::default();
    let mut inputs = vec![input(x.clone())];
    let mut count = 0;
    for part in parts.map_while(|part| part) {
        match part {
            Part::Permutation(order) => kernel.reorder(order),
            Part::Masked(masked) => {
                let Some((map, layers)) = masked.map.kernel().zip(masked.layers(x.dtype())) else {
                    break;
                };
                if inputs.len() + 2 * layers.len() > MOST_INPUTS {
                    break;
                }
                kernel.push(&masked, map, &layers);
                inputs.extend(layers.into_iter().flat_map(inputs_of));
            }
        }
        count += 1;
    }
    if kernel.networks.is_empty() {
        return None;
    }
    operation::run(&kernel, inputs).map(|mapped| (mapped, count))
}

/// Weight and offset as inputs of the kernel.
fn inputs_of<B: Backend>(Linear { weight, offset }: Linear<B>) -> [FloatTensor<B>; 2] {
    let offset = match offset {
        Offset::Bias(bias) => input(bias),
        Offset::Rows(rows) => input(rows),
    };
    [input(weight), offset]
}

/// Layers in the order of application. Inputs of the kernel are the batch, then weight and offset of each linear layer.
#[derive(Debug, Clone, Default)]
struct MaskedRun {
    networks: Vec<OwnNetwork>,
    /// The column that each column of the result is, where they are not in their order.
    order: Option<Vec<usize>>,
    /// Whether the maps are inverted, of a single coupling.
    inverted: bool,
}

/// A layer without its numbers.
#[derive(Debug, Clone)]
struct OwnNetwork {
    /// The column that each input is, where they are not in their order.
    order: Option<Vec<usize>>,
    /// Variables that stay as they are.
    untouched: usize,
    /// Whether the offset of a linear layer has a row for each sample.
    with_context: Vec<bool>,
    patterns: Arc<Patterns>,
    activation: Activation,
    map: KernelMap,
}

impl MaskedRun {
    /// Column `k` is column `order[k]` from here on.
    fn reorder(&mut self, order: &[usize]) {
        let order: Vec<usize> = match self.order.take() {
            None => order.to_vec(),
            Some(before) => order.iter().map(|&k| before[k]).collect(),
        };
        self.order = (!order.is_sorted()).then_some(order);
    }

    /// Adds a layer, with the linear layers of its network.
    fn push<B: Backend>(&mut self, masked: &Masked<'_, B>, map: KernelMap, layers: &[Linear<B>]) {
        if let Some(Untouched { order, .. }) = masked.coupling {
            self.reorder(order);
        }
        let with_context = layers.iter().map(|l| matches!(l.offset, Offset::Rows(_)));
        self.networks.push(OwnNetwork {
            order: self.order.take(),
            untouched: masked.coupling.map_or(0, |own| own.count),
            with_context: with_context.collect(),
            patterns: Arc::clone(masked.patterns),
            activation: masked.network.activation().into(),
            map,
        });
        if let Some(Untouched { order, .. }) = masked.coupling {
            let mut back = vec![0; order.len()];
            for (k, &column) in order.iter().enumerate() {
                back[column] = k;
            }
            self.reorder(&back);
        }
    }

    fn run<'a, F: Real>(&'a self, inputs: &[&'a [F]]) -> Run<'a, F> {
        let (x, mut parameters) = (inputs[0], inputs[1..].chunks_exact(2));
        let networks = self.networks.iter().map(|network| {
            let layers = network.patterns.0.iter().zip(&network.with_context);
            let layers = layers.zip(parameters.by_ref());
            let layers = layers.map(|((pattern, &with_context), own)| Layer {
                pattern,
                weight: own[0],
                offset: own[1],
                with_context,
            });
            Network {
                order: network.order.as_deref(),
                untouched: network.untouched,
                layers: layers.collect(),
                activation: network.activation,
                map: network.map,
                inverted: self.inverted,
            }
        });
        Run {
            networks: networks.collect(),
            order: self.order.as_deref(),
            x,
        }
    }
}

impl Kernel for MaskedRun {
    fn forward<F: Real + Element>(&self, inputs: &[&[F]], keep: bool) -> (Vec<F>, Trace) {
        let run = self.run(inputs);
        if !keep {
            return (run.forward(), Arc::new(()));
        }
        let (out, levels) = run.forward_traced();
        (out, Arc::new(levels))
    }

    fn backward<F: Real + Element>(
        &self,
        inputs: &[&[F]],
        trace: &Trace,
        output: &[F],
        wants_first: bool,
    ) -> Vec<Vec<F>> {
        let levels = trace.downcast_ref::<Levels<F>>();
        let levels = levels.expect("the trace of these inputs");
        let Gradients { x, layers } = self.run(inputs).backward(levels, output, wants_first);
        let layers = layers
            .into_iter()
            .flat_map(|(weight, offset)| [weight, offset]);
        [x].into_iter().chain(layers).collect()
    }
}

/// The inverse of a coupling, or nothing where there is no kernel for it.
pub(crate) fn coupling_inverse<B: Backend>(
    masked: Masked<'_, B>,
    y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    if !has_kernel(y) || !is_plain_host::<B>() {
        return None;
    }
    let map = masked.map.kernel()?;
    let layers = masked.layers(y.dtype())?;
    let mut kernel = MaskedRun {
        inverted: true,
        ..MaskedRun::default()
    };
    kernel.push(&masked, map, &layers);
    let parameters = layers.into_iter().flat_map(inputs_of);
    operation::run(
        &kernel,
        [input(y.clone())].into_iter().chain(parameters).collect(),
    )
}

/// The inverse of the autoregressive layer with the network `made`, for `y` with its columns sorted by level, `x`
/// sorted likewise, or nothing where there is no kernel for it.
pub(crate) fn incremental_inverse<B: Backend>(
    made: &Made<B>,
    masked: Masked<'_, B>,
    y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    if !has_kernel(y) || !is_plain_host::<B>() {
        return None;
    }
    let map = masked.map.kernel()?;
    let layers = masked.layers(y.dtype())?;
    let schedule = Schedule::new(made);
    match y.dtype() {
        DType::F32 => Some(solve::<f32, B>(&schedule, masked, map, layers, y)),
        DType::F64 => Some(solve::<f64, B>(&schedule, masked, map, layers, y)),
        _ => None,
    }
}

fn solve<F: Real + Element, B: Backend>(
    schedule: &Schedule,
    masked: Masked<'_, B>,
    map: KernelMap,
    layers: Vec<Linear<B>>,
    y: &Tensor<B, 2>,
) -> Mapped<B> {
    let last = layers.len() - 1;
    let hosts = layers.into_iter().map(|layer| {
        let [weight, offset] = inputs_of(layer);
        (Host::new::<B>(weight), Host::new::<B>(offset))
    });
    let hosts: Vec<_> = hosts.collect();
    let parameters = schedule.variables.iter();
    let parameters = parameters.map(|own| schedule.parameters_of(own)).collect();
    let groups = schedule.groups.iter().cloned().chain([parameters]);
    let layers = hosts.iter().zip(&masked.patterns.0).zip(groups);
    let layers = layers
        .enumerate()
        .map(|(l, (((weight, offset), pattern), groups))| SortedLayer {
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
        masked.network.activation().into(),
        map,
    );
    let host = Host::new::<B>(input(y.clone()));
    let (x, log_det) = problem.solve(host.numbers());
    let ([rows, dim], device, dtype) = (y.dims(), y.device(), y.dtype());
    Mapped {
        value: Tensor::from_data(TensorData::new(x, [rows, dim]), (&device, dtype)),
        log_det: Tensor::from_data(TensorData::new(log_det, [rows]), (&device, dtype)),
    }
}
