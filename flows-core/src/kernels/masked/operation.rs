//! The layer as one operation of a backend, and as one node of the autodiff graph.

use std::any::Any;
use std::sync::Arc;

use burn::tensor::{
    DType, Element, Tensor, TensorData, TensorPrimitive, backend::Backend, ops::FloatTensor,
};
use burn_autodiff::{
    Autodiff, NodeId,
    checkpoint::{
        base::Checkpointer,
        strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing},
    },
    grads::Gradients as GraphGradients,
    ops::{Backward, Ops, OpsKind},
};
use pulp::Arch;

use super::network::{Gradients, Layer, Network, Trace};
use super::pattern::Pattern;
use crate::bijectors::LogScale;
use crate::kernels::host::Host;
use crate::kernels::lanes::Real;
use crate::kernels::split::{Parts, split, split_tracked};
use crate::nn::ConditionerActivation;

/// What a layer takes.
#[derive(Debug, Clone)]
pub(super) struct Inputs<B: Backend> {
    pub(super) x: Tensor<B, 2>,
    pub(super) layers: Vec<Linear<B>>,
    pub(super) shape: Shape,
}

/// A linear layer.
#[derive(Debug, Clone)]
pub(crate) struct Linear<B: Backend> {
    /// `[inputs, outputs]`; what lies outside the mask is not read.
    pub(crate) weight: Tensor<B, 2>,
    pub(crate) offset: Offset<B>,
}

/// What a linear layer adds.
#[derive(Debug, Clone)]
pub(crate) enum Offset<B: Backend> {
    /// `[outputs]`
    Bias(Tensor<B, 1>),
    /// With a context, `[batch, outputs]`.
    Rows(Tensor<B, 2>),
}

impl<B: Backend> Inputs<B> {
    /// Whether all numbers are of the same type, one that there is a kernel for.
    pub(super) fn are_uniform(&self) -> bool {
        let dtype = self.x.dtype();
        let same = self.layers.iter().all(|layer| {
            let offset = match &layer.offset {
                Offset::Bias(bias) => bias.dtype(),
                Offset::Rows(rows) => rows.dtype(),
            };
            layer.weight.dtype() == dtype && offset == dtype
        });
        same && matches!(dtype, DType::F32 | DType::F64)
    }
}

/// What is the same for every batch.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) patterns: Arc<Vec<Pattern>>,
    pub(super) activation: ConditionerActivation,
    pub(super) scale: LogScale,
}

/// Value `[batch, dim]` and log-determinant `[batch]`, on backends that keep their tensors in the memory of the
/// host.
pub(super) fn run<B: Backend>(inputs: &Inputs<B>) -> Option<Parts<B>> {
    #[cfg(feature = "flex")]
    if let Some(out) = run_on::<B, burn_flex::Flex>(inputs) {
        return Some(out);
    }
    #[cfg(feature = "ndarray")]
    if let Some(out) = run_on::<B, burn_ndarray::NdArray<f32>>(inputs)
        .or_else(|| run_on::<B, burn_ndarray::NdArray<f64>>(inputs))
    {
        return Some(out);
    }
    None
}

/// Runs the layer if `B` is the host backend `I`, or `I` with autodiff.
fn run_on<B: Backend, I: Backend>(inputs: &Inputs<B>) -> Option<Parts<B>> {
    let inputs: &dyn Any = inputs;
    let out: Box<dyn Any> = if let Some(inputs) = inputs.downcast_ref::<Inputs<I>>() {
        Box::new(split(tensor::<I, 2>(forward(inputs, false).0)))
    } else if let Some(inputs) = inputs.downcast_ref::<Inputs<Autodiff<I, NoCheckpointing>>>() {
        Box::new(split_tracked(tracked(inputs)?))
    } else if let Some(inputs) = inputs.downcast_ref::<Inputs<Autodiff<I, BalancedCheckpointing>>>()
    {
        Box::new(split_tracked(tracked(inputs)?))
    } else {
        return None;
    };
    out.downcast().ok().map(|out| *out)
}

/// The layer as one node of the graph. The number of parents is part of a node's type, so networks beyond five
/// hidden layers take the generic path.
fn tracked<I: Backend, C: CheckpointStrategy>(
    inputs: &Inputs<Autodiff<I, C>>,
) -> Option<Tensor<Autodiff<I, C>, 2>> {
    match inputs.layers.len() {
        1 => tracked_with::<I, C, 3>(inputs),
        2 => tracked_with::<I, C, 5>(inputs),
        3 => tracked_with::<I, C, 7>(inputs),
        4 => tracked_with::<I, C, 9>(inputs),
        5 => tracked_with::<I, C, 11>(inputs),
        6 => tracked_with::<I, C, 13>(inputs),
        _ => None,
    }
}

fn tracked_with<I: Backend, C: CheckpointStrategy, const PARENTS: usize>(
    inputs: &Inputs<Autodiff<I, C>>,
) -> Option<Tensor<Autodiff<I, C>, 2>> {
    let x = inputs.x.clone().into_primitive().tensor();
    let mut nodes = vec![x.node];
    let mut layers = Vec::with_capacity(inputs.layers.len());
    for layer in inputs.layers.iter().cloned() {
        let weight = layer.weight.into_primitive().tensor();
        let offset = match layer.offset {
            Offset::Bias(bias) => {
                let bias = bias.into_primitive().tensor();
                nodes.extend([weight.node, bias.node]);
                Offset::Bias(tensor(bias.primitive))
            }
            Offset::Rows(rows) => {
                let rows = rows.into_primitive().tensor();
                nodes.extend([weight.node, rows.node]);
                Offset::Rows(tensor(rows.primitive))
            }
        };
        let weight = tensor(weight.primitive);
        layers.push(Linear { weight, offset });
    }
    let inner = Inputs {
        x: tensor(x.primitive),
        layers,
        shape: inputs.shape.clone(),
    };
    let nodes = <[_; PARENTS]>::try_from(nodes).ok()?;
    let operation = MaskedBackward::<PARENTS>;
    let out = match operation.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (out, trace) = forward(&inner, true);
            prep.finish(
                Saved {
                    inputs: inner,
                    trace,
                },
                out,
            )
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(&inner, false).0),
    };
    Some(Tensor::from_primitive(TensorPrimitive::Float(out)))
}

fn tensor<I: Backend, const D: usize>(primitive: FloatTensor<I>) -> Tensor<I, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The backward pass of a layer with its parents: the input, then weight and offset of each linear layer.
#[derive(Debug)]
struct MaskedBackward<const PARENTS: usize>;

#[derive(Debug, Clone)]
struct Saved<I: Backend> {
    inputs: Inputs<I>,
    /// A [`Trace`] of the inputs' type.
    trace: Arc<dyn Any + Send + Sync>,
}

impl<I: Backend, const PARENTS: usize> Backward<I, PARENTS> for MaskedBackward<PARENTS> {
    type State = Saved<I>;

    fn backward(
        self,
        ops: Ops<Self::State, PARENTS>,
        grads: &mut GraphGradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output = tensor::<I, 2>(grads.consume::<I>(&ops.node));
        let x = &ops.state.inputs.x;
        let (device, dtype) = (x.device(), x.dtype());
        let mut register = |node: Option<NodeId>, gradient: TensorData| {
            if let Some(node) = node {
                let gradient = match gradient.shape.len() {
                    1 => Tensor::<I, 1>::from_data(gradient, (&device, dtype)).into_primitive(),
                    _ => Tensor::<I, 2>::from_data(gradient, (&device, dtype)).into_primitive(),
                };
                grads.register::<I>(node, gradient.tensor());
            }
        };
        let mut parents = ops.parents.iter().map(|node| node.as_ref().map(|n| n.id));
        let x = parents.next().flatten();
        let gradients = backward(&ops.state, output, x.is_some());
        for (node, gradient) in std::iter::once(x).chain(parents).zip(gradients) {
            register(node, gradient);
        }
    }
}

/// Host copies of the inputs.
struct Data<'a> {
    x: Host,
    /// Weight, offset, and whether that has a row for each sample.
    layers: Vec<(Host, Host, bool)>,
    shape: &'a Shape,
}

impl<'a> Data<'a> {
    fn new<I: Backend>(inputs: &'a Inputs<I>) -> Self {
        let layers = inputs.layers.iter();
        Self {
            x: Host::new(inputs.x.clone()),
            layers: layers
                .map(|layer| {
                    let offset = match layer.offset.clone() {
                        Offset::Bias(bias) => Host::new(bias),
                        Offset::Rows(rows) => Host::new(rows),
                    };
                    let with_context = matches!(layer.offset, Offset::Rows(_));
                    (Host::new(layer.weight.clone()), offset, with_context)
                })
                .collect(),
            shape: &inputs.shape,
        }
    }

    fn network<F: Real + Element>(&self) -> Network<'_, F> {
        let layers = self.layers.iter().zip(self.shape.patterns.iter());
        let layers = layers.map(|((weight, offset, with_context), pattern)| Layer {
            pattern,
            weight: weight.numbers(),
            offset: offset.numbers(),
            with_context: *with_context,
        });
        Network {
            layers: layers.collect(),
            activation: self.shape.activation,
            scale: self.shape.scale,
            x: self.x.numbers(),
        }
    }
}

type AnyTrace = Arc<dyn Any + Send + Sync>;

/// Value and log-determinant, and the trace if it is to be kept.
fn forward<I: Backend>(inputs: &Inputs<I>, keep: bool) -> (FloatTensor<I>, AnyTrace) {
    fn compute<F: Real + Element>(data: &Data<'_>, keep: bool) -> (Vec<F>, AnyTrace) {
        let network = data.network::<F>();
        if !keep {
            return (network.forward(Arch::new()), Arc::new(()));
        }
        let (out, trace) = network.forward_traced(Arch::new());
        (out, Arc::new(trace))
    }
    let (device, dtype) = (inputs.x.device(), inputs.x.dtype());
    let [rows, dim] = inputs.x.dims();
    let data = Data::new(inputs);
    let (out, trace) = match dtype {
        DType::F64 => {
            let (out, trace) = compute::<f64>(&data, keep);
            (TensorData::new(out, [rows, dim + 1]), trace)
        }
        _ => {
            let (out, trace) = compute::<f32>(&data, keep);
            (TensorData::new(out, [rows, dim + 1]), trace)
        }
    };
    let out = Tensor::<I, 2>::from_data(out, (&device, dtype));
    (out.into_primitive().tensor(), trace)
}

/// Gradients in the order of the operation's parents.
fn backward<I: Backend>(saved: &Saved<I>, output: Tensor<I, 2>, wants_x: bool) -> Vec<TensorData> {
    fn compute<F: Real + Element>(
        data: &Data<'_>,
        trace: &AnyTrace,
        output: &Host,
        wants_x: bool,
    ) -> Vec<TensorData> {
        let network = data.network::<F>();
        let trace = trace.downcast_ref::<Trace<F>>();
        let trace = trace.expect("the trace of these inputs");
        let Gradients { x, layers } =
            network.backward(Arch::new(), trace, output.numbers(), wants_x);
        let rows = network.x.len() / network.layers[0].pattern.inputs();
        let shape = [
            if wants_x { rows } else { 0 },
            network.layers[0].pattern.inputs(),
        ];
        let mut gradients = vec![TensorData::new(x, shape)];
        for ((weight, offset), layer) in layers.into_iter().zip(&network.layers) {
            let (inputs, outputs) = (layer.pattern.inputs(), layer.pattern.outputs());
            gradients.push(TensorData::new(weight, [inputs, outputs]));
            let rows = offset.len() / outputs;
            gradients.push(match layer.with_context {
                false => TensorData::new(offset, [outputs]),
                true => TensorData::new(offset, [rows, outputs]),
            });
        }
        gradients
    }
    let data = Data::new(&saved.inputs);
    let dtype = saved.inputs.x.dtype();
    let output = Host::new(output);
    match dtype {
        DType::F64 => compute::<f64>(&data, &saved.trace, &output, wants_x),
        _ => compute::<f32>(&data, &saved.trace, &output, wants_x),
    }
}
