//! The block as one operation of a backend, and as one node of the autodiff graph.

use std::any::Any;

use burn::tensor::{
    DType, Element, Tensor, TensorData, TensorPrimitive, backend::Backend, ops::FloatTensor,
};
use burn_autodiff::{
    Autodiff,
    checkpoint::{
        base::Checkpointer,
        strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing},
    },
    grads::Gradients as GraphGradients,
    ops::{Backward, Ops, OpsKind},
};
use pulp::Arch;

use super::FusedLogDet;
use super::ddnf::{Block, Gradients, Plan};
use super::lanes::Real;

/// What a block takes.
#[derive(Debug, Clone)]
pub(crate) struct Inputs<B: Backend> {
    pub(crate) x: Tensor<B, 2>,
    pub(crate) w1: Tensor<B, 2>,
    pub(crate) b1: Tensor<B, 1>,
    pub(crate) w2: Tensor<B, 2>,
    pub(crate) b2: Tensor<B, 1>,
    pub(crate) context: Option<Tensor<B, 2>>,
    pub(crate) cells: usize,
    pub(crate) log_det: FusedLogDet,
}

/// Value and log-determinant side by side, `[batch, dim + 1]`, on backends that keep their tensors in
/// the memory of the host.
pub(crate) fn run<B: Backend>(inputs: Inputs<B>) -> Option<Tensor<B, 2>> {
    let dtype = inputs.x.dtype();
    let same = [
        inputs.w1.dtype(),
        inputs.b1.dtype(),
        inputs.w2.dtype(),
        inputs.b2.dtype(),
        inputs.context.as_ref().map_or(dtype, Tensor::dtype),
    ]
    .iter()
    .all(|&other| other == dtype);
    if !same || !matches!(dtype, DType::F32 | DType::F64) {
        return None;
    }
    let [dim, hidden] = inputs.w1.dims();
    Plan::choose(dim, hidden, inputs.log_det)?;
    #[cfg(feature = "flex")]
    if let Some(out) = run_on::<B, burn_flex::Flex>(&inputs) {
        return Some(out);
    }
    #[cfg(feature = "ndarray")]
    if let Some(out) = run_on::<B, burn_ndarray::NdArray<f32>>(&inputs)
        .or_else(|| run_on::<B, burn_ndarray::NdArray<f64>>(&inputs))
    {
        return Some(out);
    }
    None
}

/// Runs the block if `B` is the host backend `I`, or `I` with autodiff.
fn run_on<B: Backend, I: Backend>(inputs: &Inputs<B>) -> Option<Tensor<B, 2>> {
    let inputs: &dyn Any = inputs;
    let out: Box<dyn Any> = if let Some(inputs) = inputs.downcast_ref::<Inputs<I>>() {
        Box::new(forward(inputs.clone()))
    } else if let Some(inputs) = inputs.downcast_ref::<Inputs<Autodiff<I, NoCheckpointing>>>() {
        Box::new(tracked(inputs.clone()))
    } else if let Some(inputs) = inputs.downcast_ref::<Inputs<Autodiff<I, BalancedCheckpointing>>>()
    {
        Box::new(tracked(inputs.clone()))
    } else {
        return None;
    };
    out.downcast().ok().map(|out| *out)
}

/// The block as one node of the graph.
fn tracked<I: Backend, C: CheckpointStrategy>(
    inputs: Inputs<Autodiff<I, C>>,
) -> Tensor<Autodiff<I, C>, 2> {
    // Until the node is registered nothing else may hold its parents, and a `backward()` on another thread would
    // take them for garbage: see `crate::autodiff`.
    let held = inputs.clone();
    let x = inputs.x.into_primitive().tensor();
    let w1 = inputs.w1.into_primitive().tensor();
    let b1 = inputs.b1.into_primitive().tensor();
    let w2 = inputs.w2.into_primitive().tensor();
    let b2 = inputs.b2.into_primitive().tensor();
    let context = inputs.context.map(|c| c.into_primitive().tensor());
    // An operation has a fixed number of parents; without a context the input stands in, untracked.
    let absent = || {
        let alone = Tensor::<I, 2>::from_primitive(TensorPrimitive::Float(x.primitive.clone()));
        let alone = Tensor::<Autodiff<I, C>, 2>::from_inner(alone);
        alone.into_primitive().tensor().node
    };
    let context_node = context.as_ref().map_or_else(absent, |c| c.node.clone());
    let plain = Inputs {
        x: tensor(x.primitive),
        w1: tensor(w1.primitive),
        b1: tensor(b1.primitive),
        w2: tensor(w2.primitive),
        b2: tensor(b2.primitive),
        context: context.map(|c| tensor(c.primitive)),
        cells: inputs.cells,
        log_det: inputs.log_det,
    };
    let nodes = [x.node, w1.node, b1.node, w2.node, b2.node, context_node];
    let out = match DdnfBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let out = primitive(forward(plain.clone()));
            prep.finish(Saved(plain), out)
        }
        OpsKind::UnTracked(prep) => prep.finish(primitive(forward(plain))),
    };
    drop(held);
    Tensor::from_primitive(TensorPrimitive::Float(out))
}

fn tensor<I: Backend, const D: usize>(primitive: FloatTensor<I>) -> Tensor<I, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<I: Backend, const D: usize>(tensor: Tensor<I, D>) -> FloatTensor<I> {
    tensor.into_primitive().tensor()
}

/// The backward pass of a block, which needs nothing but the block's inputs.
#[derive(Debug)]
struct DdnfBackward;

#[derive(Debug, Clone)]
struct Saved<I: Backend>(Inputs<I>);

impl<I: Backend> Backward<I, 6> for DdnfBackward {
    type State = Saved<I>;

    fn backward(
        self,
        ops: Ops<Self::State, 6>,
        grads: &mut GraphGradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output = tensor::<I, 2>(grads.consume::<I>(&ops.node));
        let gradients = backward(ops.state.0, output);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<I>(node.id, gradient);
            }
        }
    }
}

/// Host copies of the inputs.
struct Data {
    x: TensorData,
    w1: TensorData,
    b1: TensorData,
    w2: TensorData,
    b2: TensorData,
    context: Option<TensorData>,
    cells: usize,
    log_det: FusedLogDet,
}

impl Data {
    fn new<I: Backend>(inputs: Inputs<I>) -> Self {
        Self {
            x: inputs.x.into_data(),
            w1: inputs.w1.into_data(),
            b1: inputs.b1.into_data(),
            w2: inputs.w2.into_data(),
            b2: inputs.b2.into_data(),
            context: inputs.context.map(Tensor::into_data),
            cells: inputs.cells,
            log_det: inputs.log_det,
        }
    }

    fn block<F: Real + Element>(&self) -> (Block<'_, F>, Plan) {
        let (dim, hidden) = (self.w1.shape[0], self.w1.shape[1]);
        let block = Block {
            dim,
            hidden,
            cells: self.cells,
            log_det: self.log_det,
            x: numbers(&self.x),
            w1: numbers(&self.w1),
            b1: numbers(&self.b1),
            w2: numbers(&self.w2),
            b2: numbers(&self.b2),
            context: self.context.as_ref().map(numbers),
        };
        let plan = Plan::choose(dim, hidden, self.log_det).expect("shapes with a kernel");
        (block, plan)
    }
}

fn numbers<F: Real + Element>(data: &TensorData) -> &[F] {
    data.as_slice().expect("data of the checked type")
}

fn forward<I: Backend>(inputs: Inputs<I>) -> Tensor<I, 2> {
    fn compute<F: Real + Element>(data: &Data) -> TensorData {
        let (block, plan) = data.block::<F>();
        let shape = [data.x.shape[0], block.dim + 1];
        TensorData::new(block.forward(Arch::new(), plan), shape)
    }
    let (device, dtype) = (inputs.x.device(), inputs.x.dtype());
    let data = Data::new(inputs);
    let out = match dtype {
        DType::F64 => compute::<f64>(&data),
        _ => compute::<f32>(&data),
    };
    Tensor::from_data(out, (&device, dtype))
}

/// Gradients in the order of the operation's parents.
fn backward<I: Backend>(inputs: Inputs<I>, output: Tensor<I, 2>) -> [Option<FloatTensor<I>>; 6] {
    fn compute<F: Real + Element>(data: &Data, output: &TensorData) -> [Option<TensorData>; 6] {
        let (block, plan) = data.block::<F>();
        let Gradients {
            x,
            w1,
            b1,
            w2,
            b2,
            context,
        } = block.backward(Arch::new(), plan, numbers(output));
        let like =
            |gradient, data: &TensorData| Some(TensorData::new(gradient, data.shape.clone()));
        [
            like(x, &data.x),
            like(w1, &data.w1),
            like(b1, &data.b1),
            like(w2, &data.w2),
            like(b2, &data.b2),
            context
                .zip(data.context.as_ref())
                .and_then(|(gradient, data)| like(gradient, data)),
        ]
    }
    let (device, dtype) = (inputs.x.device(), inputs.x.dtype());
    let data = Data::new(inputs);
    let output = output.into_data();
    let gradients = match dtype {
        DType::F64 => compute::<f64>(&data, &output),
        _ => compute::<f32>(&data, &output),
    };
    gradients.map(|gradient| {
        gradient.map(|gradient| match gradient.shape.len() {
            1 => primitive(Tensor::<I, 1>::from_data(gradient, (&device, dtype))),
            _ => primitive(Tensor::<I, 2>::from_data(gradient, (&device, dtype))),
        })
    })
}
