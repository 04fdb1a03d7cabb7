//! A kernel as one operation of a backend, and as one node of the autodiff graph.

use std::any::{Any, TypeId};
use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::{
    DType, Element, Tensor, TensorData, TensorMetadata, TensorPrimitive, backend::Backend,
    ops::FloatTensor,
};
use burn_autodiff::{
    Autodiff,
    checkpoint::{
        base::Checkpointer,
        strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing},
    },
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use flows_kernels::Real;

use super::host::{Host, identity};
use super::split::{split, split_tracked};
use crate::bijector::Mapped;

/// What a forward pass keeps for the backward pass.
pub(super) type Trace = Arc<dyn Any + Send + Sync>;

/// A map of a batch to values and log-determinants, by a kernel, with everything about it that is no tensor.
///
/// Inputs are the numbers of the tensors it was [`run`] with, in their order, row-major.
pub(super) trait Kernel: Clone + Debug + Send + 'static {
    /// Value and log-determinant side by side, `[rows, dim + 1]`, and what the backward pass needs if `keep`.
    fn forward<F: Real + Element>(&self, inputs: &[&[F]], keep: bool) -> (Vec<F>, Trace);

    /// Gradients of the inputs, from that of the output. `wants_first` tells whether the first one is read.
    fn backward<F: Real + Element>(
        &self,
        inputs: &[&[F]],
        trace: &Trace,
        output: &[F],
        wants_first: bool,
    ) -> Vec<Vec<F>>;
}

/// Tensors that a kernel takes at most.
pub(super) const MOST_INPUTS: usize = 64;

/// The tensors of a call, of any number of dimensions; the first one is the batch.
struct Inputs<B: Backend>(Vec<FloatTensor<B>>);

/// A tensor among the inputs of a kernel.
pub(super) fn input<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

/// Value `[rows, dim]` and log-determinant `[rows]`; nothing on backends that keep their tensors elsewhere than in this
/// process's memory, for mixed or half-precision numbers, and for too many tensors.
pub(super) fn run<B: Backend, K: Kernel>(
    kernel: &K,
    inputs: Vec<FloatTensor<B>>,
) -> Option<Mapped<B>> {
    let dtype = inputs[0].dtype();
    let same = inputs.iter().all(|input| input.dtype() == dtype);
    if !same || !matches!(dtype, DType::F32 | DType::F64) || inputs.len() > MOST_INPUTS {
        return None;
    }
    let inputs = Inputs::<B>(inputs);
    #[cfg(feature = "flex")]
    let inputs = match run_on::<B, burn_flex::Flex, K>(kernel, inputs) {
        Ok(mapped) => return Some(mapped),
        Err(inputs) => inputs,
    };
    #[cfg(feature = "ndarray")]
    let inputs = match run_on::<B, burn_ndarray::NdArray<f32>, K>(kernel, inputs)
        .or_else(|inputs| run_on::<B, burn_ndarray::NdArray<f64>, K>(kernel, inputs))
    {
        Ok(mapped) => return Some(mapped),
        Err(inputs) => inputs,
    };
    drop(inputs);
    None
}

/// Runs the kernel if `B` is the host backend `I`, or `I` with autodiff; gives the inputs back otherwise.
fn run_on<B: Backend, I: Backend, K: Kernel>(
    kernel: &K,
    inputs: Inputs<B>,
) -> Result<Mapped<B>, Inputs<B>> {
    fn back<B: Backend, C: Backend>(mapped: Mapped<C>) -> Mapped<B> {
        identity(mapped).unwrap_or_else(|_| unreachable!("the backend that was asked for"))
    }
    let inputs = match identity::<_, Inputs<I>>(inputs) {
        Ok(inputs) => {
            let (out, _) = forward::<I, K>(kernel, &inputs.0, false);
            return Ok(back(split::<I>(tensor(out))));
        }
        Err(inputs) => inputs,
    };
    let inputs = match identity::<_, Inputs<Autodiff<I, NoCheckpointing>>>(inputs) {
        Ok(inputs) => return Ok(back(split_tracked::<I, _>(tracked(kernel, inputs)))),
        Err(inputs) => inputs,
    };
    match identity::<_, Inputs<Autodiff<I, BalancedCheckpointing>>>(inputs) {
        Ok(inputs) => Ok(back(split_tracked::<I, _>(tracked(kernel, inputs)))),
        Err(inputs) => Err(inputs),
    }
}

/// The kernel as one node of the graph. The number of parents is part of a node's type; there are a few such types,
/// and the places left over are filled with a node that wants no gradient.
fn tracked<I: Backend, C: CheckpointStrategy, K: Kernel>(
    kernel: &K,
    inputs: Inputs<Autodiff<I, C>>,
) -> Tensor<Autodiff<I, C>, 2> {
    match inputs.0.len() {
        0..=8 => tracked_with::<I, C, K, 8>(kernel, inputs),
        9..=32 => tracked_with::<I, C, K, 32>(kernel, inputs),
        _ => tracked_with::<I, C, K, MOST_INPUTS>(kernel, inputs),
    }
}

fn tracked_with<I: Backend, C: CheckpointStrategy, K: Kernel, const PARENTS: usize>(
    kernel: &K,
    inputs: Inputs<Autodiff<I, C>>,
) -> Tensor<Autodiff<I, C>, 2> {
    // Until the node is registered nothing else may hold its parents, and a `backward()` on another thread would
    // take them for garbage: see `crate::autodiff`.
    let held = inputs.0;
    let mut nodes: Vec<_> = held.iter().map(|input| input.node.clone()).collect();
    let inner: Vec<FloatTensor<I>> = held.iter().map(|input| input.primitive.clone()).collect();
    if nodes.len() < PARENTS {
        let nobody = tensor::<I, 2>(inner[0].clone());
        let nobody = Tensor::<Autodiff<I, C>, 2>::from_inner(nobody);
        nodes.resize(PARENTS, input(nobody).node);
    }
    let nodes = <[_; PARENTS]>::try_from(nodes).unwrap_or_else(|_| unreachable!("filled up"));
    let node = Node::<K, PARENTS>(kernel.clone());
    let out = match node.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (out, trace) = forward::<I, K>(kernel, &inner, true);
            let inputs = inner;
            prep.finish(Saved::<I> { inputs, trace }, out)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward::<I, K>(kernel, &inner, false).0),
    };
    drop(held);
    tensor(out)
}

fn tensor<I: Backend, const D: usize>(primitive: FloatTensor<I>) -> Tensor<I, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// A kernel with the number of its parents.
#[derive(Debug)]
struct Node<K, const PARENTS: usize>(K);

#[derive(Debug, Clone)]
struct Saved<I: Backend> {
    inputs: Vec<FloatTensor<I>>,
    trace: Trace,
}

impl<I: Backend, K: Kernel, const PARENTS: usize> Backward<I, PARENTS> for Node<K, PARENTS> {
    type State = Saved<I>;

    fn backward(
        self,
        ops: Ops<Self::State, PARENTS>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        fn compute<F: Real + Element, K: Kernel>(
            kernel: &K,
            hosts: &[Host],
            trace: &Trace,
            output: &Host,
            wants_first: bool,
        ) -> Vec<Vec<F>> {
            let inputs: Vec<&[F]> = hosts.iter().map(Host::numbers).collect();
            kernel.backward(&inputs, trace, output.numbers(), wants_first)
        }
        let Saved { inputs, trace } = ops.state;
        let output = Host::new::<I>(grads.consume::<I>(&ops.node));
        let hosts: Vec<Host> = inputs.iter().cloned().map(Host::new::<I>).collect();
        let wants_first = ops.parents[0].is_some();
        let shapes = inputs.iter().map(|input| input.shape());
        let device = I::float_device(&inputs[0]);
        macro_rules! register {
            ($type:ty) => {{
                let gradients = compute::<$type, K>(&self.0, &hosts, &trace, &output, wants_first);
                for ((gradient, shape), parent) in
                    gradients.into_iter().zip(shapes).zip(ops.parents)
                {
                    if let Some(parent) = parent {
                        let data = TensorData::new(gradient, shape);
                        grads.register::<I>(parent.id, I::float_from_data(data, &device));
                    }
                }
            }};
        }
        match inputs[0].dtype() {
            DType::F64 => register!(f64),
            _ => register!(f32),
        }
    }
}

/// Value and log-determinant side by side, and the trace if it is to be kept.
fn forward<I: Backend, K: Kernel>(
    kernel: &K,
    inputs: &[FloatTensor<I>],
    keep: bool,
) -> (FloatTensor<I>, Trace) {
    fn compute<F: Real + Element, K: Kernel>(
        kernel: &K,
        hosts: &[Host],
        rows: usize,
        keep: bool,
    ) -> (TensorData, Trace) {
        let inputs: Vec<&[F]> = hosts.iter().map(Host::numbers).collect();
        let (out, trace) = kernel.forward(&inputs, keep);
        let columns = out.len() / rows;
        (TensorData::new(out, [rows, columns]), trace)
    }
    let hosts: Vec<Host> = inputs.iter().cloned().map(Host::new::<I>).collect();
    let rows = inputs[0].shape()[0];
    let (data, trace) = match inputs[0].dtype() {
        DType::F64 => compute::<f64, K>(kernel, &hosts, rows, keep),
        _ => compute::<f32, K>(kernel, &hosts, rows, keep),
    };
    (
        I::float_from_data(data, &I::float_device(&inputs[0])),
        trace,
    )
}

/// Whether tensors of `B` lie in this process's memory, with or without their history.
pub(super) fn is_host<B: Backend>() -> bool {
    host_types().as_flattened().contains(&TypeId::of::<B>())
}

/// Whether tensors of `B` lie in this process's memory and nothing records their history.
pub(super) fn is_plain_host<B: Backend>() -> bool {
    let own = TypeId::of::<B>();
    host_types().iter().any(|[plain, ..]| *plain == own)
}

/// Each backend with a kernel, and its two forms with autodiff.
fn host_types() -> Vec<[TypeId; 3]> {
    fn types<I: Backend>() -> [TypeId; 3] {
        [
            TypeId::of::<I>(),
            TypeId::of::<Autodiff<I, NoCheckpointing>>(),
            TypeId::of::<Autodiff<I, BalancedCheckpointing>>(),
        ]
    }
    vec![
        #[cfg(feature = "flex")]
        types::<burn_flex::Flex>(),
        #[cfg(feature = "ndarray")]
        types::<burn_ndarray::NdArray<f32>>(),
        #[cfg(feature = "ndarray")]
        types::<burn_ndarray::NdArray<f64>>(),
    ]
}
