//! A run of layers as one operation of a backend, and as one node of the autodiff graph.

use std::any::Any;
use std::sync::Arc;

use burn::tensor::{
    DType, Element, Tensor, TensorData, TensorPrimitive,
    backend::{AutodiffBackend, Backend},
    ops::FloatTensor,
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

use super::network::{Layer, Network};
use super::pattern::Pattern;
use super::run::{Gradients, Run, Trace};
use crate::bijectors::LogScale;
use crate::kernels::host::{Host, identity};
use crate::kernels::lanes::Real;
use crate::kernels::split::{Parts, split, split_tracked};
use crate::nn::ConditionerActivation;

/// What a run of layers takes.
#[derive(Debug, Clone)]
pub(super) struct Inputs<B: Backend> {
    pub(super) x: Tensor<B, 2>,
    /// At least one.
    pub(super) networks: Vec<Masked<B>>,
    /// The column that each column of the result is, where they are not in their order.
    pub(super) order: Option<Vec<usize>>,
}

/// A masked affine layer.
#[derive(Debug, Clone)]
pub(crate) struct Masked<B: Backend> {
    /// The column that each input is, where they are not in their order.
    pub(super) order: Option<Vec<usize>>,
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

impl<B: Backend> Masked<B> {
    /// Whether all numbers are of this type.
    pub(super) fn is_of(&self, dtype: DType) -> bool {
        self.layers.iter().all(|layer| {
            let offset = match &layer.offset {
                Offset::Bias(bias) => bias.dtype(),
                Offset::Rows(rows) => rows.dtype(),
            };
            layer.weight.dtype() == dtype && offset == dtype
        })
    }

    /// Tensors that it takes, beside its input.
    pub(super) fn parents(&self) -> usize {
        2 * self.layers.len()
    }
}

/// What is the same for every batch.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(super) patterns: Arc<Vec<Pattern>>,
    pub(super) activation: ConditionerActivation,
    pub(super) scale: LogScale,
}

/// Value `[batch, dim]` and log-determinant `[batch]`, on backends that keep their tensors in the memory of the
/// host.
pub(super) fn run<B: Backend>(inputs: Inputs<B>) -> Option<Parts<B>> {
    #[cfg(feature = "flex")]
    let inputs = match run_on::<B, burn_flex::Flex>(inputs) {
        Ok(out) => return out,
        Err(inputs) => inputs,
    };
    #[cfg(feature = "ndarray")]
    let inputs = match run_on::<B, burn_ndarray::NdArray<f32>>(inputs)
        .or_else(run_on::<B, burn_ndarray::NdArray<f64>>)
    {
        Ok(out) => return out,
        Err(inputs) => inputs,
    };
    drop(inputs);
    None
}

/// Runs the layers if `B` is the host backend `I`, or `I` with autodiff; gives them back otherwise.
fn run_on<B: Backend, I: Backend>(inputs: Inputs<B>) -> Result<Option<Parts<B>>, Inputs<B>> {
    type Tracked<I, C> = Inputs<Autodiff<I, C>>;
    let inputs = match identity::<_, Inputs<I>>(inputs) {
        Ok(inputs) => {
            let out = split(tensor::<I, 2>(forward(&inputs, false).0));
            return Ok(identity(out).ok());
        }
        Err(inputs) => inputs,
    };
    let inputs = match identity::<_, Tracked<I, NoCheckpointing>>(inputs) {
        Ok(inputs) => return Ok(tracked(inputs).and_then(|out| identity(split_tracked(out)).ok())),
        Err(inputs) => inputs,
    };
    match identity::<_, Tracked<I, BalancedCheckpointing>>(inputs) {
        Ok(inputs) => Ok(tracked(inputs).and_then(|out| identity(split_tracked(out)).ok())),
        Err(inputs) => Err(inputs),
    }
}

/// Parents of a node at most.
pub(super) const MAX_PARENTS: usize = 64;

/// The run as one node of the graph. The number of parents is part of a node's type; there are a few such types,
/// and the places left over are filled with a node that wants no gradient.
fn tracked<I: Backend, C: CheckpointStrategy>(
    inputs: Inputs<Autodiff<I, C>>,
) -> Option<Tensor<Autodiff<I, C>, 2>> {
    match 1 + inputs.networks.iter().map(Masked::parents).sum::<usize>() {
        0..=8 => tracked_with::<I, C, 8>(inputs),
        9..=32 => tracked_with::<I, C, 32>(inputs),
        33..=MAX_PARENTS => tracked_with::<I, C, MAX_PARENTS>(inputs),
        _ => None,
    }
}

fn tracked_with<I: Backend, C: CheckpointStrategy, const PARENTS: usize>(
    inputs: Inputs<Autodiff<I, C>>,
) -> Option<Tensor<Autodiff<I, C>, 2>> {
    // Until the node is registered nothing else may hold its parents, and a `backward()` on another thread would
    // take them for garbage: see `crate::autodiff`.
    let held = inputs.clone();
    let x = inputs.x.into_primitive().tensor();
    let mut nodes = Vec::with_capacity(PARENTS);
    nodes.push(x.node);
    let mut networks = Vec::with_capacity(inputs.networks.len());
    for network in inputs.networks {
        let mut layers = Vec::with_capacity(network.layers.len());
        for layer in network.layers {
            let weight = layer.weight.into_primitive().tensor();
            nodes.push(weight.node);
            let offset = match layer.offset {
                Offset::Bias(bias) => {
                    let bias = bias.into_primitive().tensor();
                    nodes.push(bias.node);
                    Offset::Bias(tensor(bias.primitive))
                }
                Offset::Rows(rows) => {
                    let rows = rows.into_primitive().tensor();
                    nodes.push(rows.node);
                    Offset::Rows(tensor(rows.primitive))
                }
            };
            let weight = tensor(weight.primitive);
            layers.push(Linear { weight, offset });
        }
        networks.push(Masked {
            order: network.order,
            layers,
            shape: network.shape,
        });
    }
    if nodes.len() < PARENTS {
        let nobody = Autodiff::<I, C>::from_inner(x.primitive.clone());
        nodes.resize(PARENTS, nobody.node);
    }
    let inner = Inputs {
        x: tensor(x.primitive),
        networks,
        order: inputs.order,
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
    drop(held);
    Some(Tensor::from_primitive(TensorPrimitive::Float(out)))
}

fn tensor<I: Backend, const D: usize>(primitive: FloatTensor<I>) -> Tensor<I, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The backward pass of a run with its parents: the input, then weight and offset of each linear layer.
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

/// The numbers of the inputs.
struct Data<'a> {
    x: Host,
    networks: Vec<DataOfNetwork<'a>>,
    order: Option<&'a [usize]>,
}

struct DataOfNetwork<'a> {
    order: Option<&'a [usize]>,
    /// Weight, offset, and whether that has a row for each sample.
    layers: Vec<(Host, Host, bool)>,
    shape: &'a Shape,
}

impl<'a> Data<'a> {
    fn new<I: Backend>(inputs: &'a Inputs<I>) -> Self {
        let networks = inputs.networks.iter().map(|network| {
            let layers = network.layers.iter().map(|layer| {
                let (offset, with_context) = match layer.offset.clone() {
                    Offset::Bias(bias) => (Host::new(bias), false),
                    Offset::Rows(rows) => (Host::new(rows), true),
                };
                (Host::new(layer.weight.clone()), offset, with_context)
            });
            DataOfNetwork {
                order: network.order.as_deref(),
                layers: layers.collect(),
                shape: &network.shape,
            }
        });
        Self {
            x: Host::new(inputs.x.clone()),
            networks: networks.collect(),
            order: inputs.order.as_deref(),
        }
    }

    fn run<F: Real + Element>(&self) -> Run<'_, F> {
        let networks = self.networks.iter().map(|network| {
            let layers = network.layers.iter().zip(network.shape.patterns.iter());
            let layers = layers.map(|((weight, offset, with_context), pattern)| Layer {
                pattern,
                weight: weight.numbers(),
                offset: offset.numbers(),
                with_context: *with_context,
            });
            Network {
                order: network.order,
                layers: layers.collect(),
                activation: network.shape.activation,
                scale: network.shape.scale,
            }
        });
        Run {
            networks: networks.collect(),
            order: self.order,
            x: self.x.numbers(),
        }
    }
}

type AnyTrace = Arc<dyn Any + Send + Sync>;

/// Value and log-determinant, and the trace if it is to be kept.
fn forward<I: Backend>(inputs: &Inputs<I>, keep: bool) -> (FloatTensor<I>, AnyTrace) {
    fn compute<F: Real + Element>(data: &Data<'_>, keep: bool) -> (Vec<F>, AnyTrace) {
        let run = data.run::<F>();
        if !keep {
            return (run.forward(Arch::new()), Arc::new(()));
        }
        let (out, trace) = run.forward_traced(Arch::new());
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
        let run = data.run::<F>();
        let trace = trace.downcast_ref::<Trace<F>>();
        let trace = trace.expect("the trace of these inputs");
        let Gradients { x, layers } = run.backward(Arch::new(), trace, output.numbers(), wants_x);
        let dim = run.dim();
        let mut gradients = vec![TensorData::new(
            x,
            [if wants_x { run.rows() } else { 0 }, dim],
        )];
        let linear = run.networks.iter().flat_map(|network| &network.layers);
        for ((weight, offset), layer) in layers.into_iter().zip(linear) {
            let (inputs, outputs) = (layer.pattern.inputs(), layer.pattern.outputs());
            gradients.push(TensorData::new(weight, [inputs, outputs]));
            gradients.push(match layer.with_context {
                false => TensorData::new(offset, [outputs]),
                true => TensorData::new(offset, [run.rows(), outputs]),
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
