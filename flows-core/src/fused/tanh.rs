//! The hyperbolic tangent as one operation of the graph.

use burn::tensor::{Tensor, backend::Backend};

/// `tanh(x)`, elementwise, by a kernel where there is one: the C library's, which Burn takes, and takes again in the
/// backward pass, is most of the time of a field of tanh units.
pub(crate) fn tanh<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    #[cfg(feature = "kernels")]
    let x = match kernel::tanh(x) {
        Ok(y) => return y,
        Err(x) => x,
    };
    x.tanh()
}

#[cfg(feature = "kernels")]
mod kernel {
    use burn::tensor::{DType, Element, Tensor, TensorMetadata, TensorPrimitive, backend::Backend};
    use burn::tensor::{TensorData, ops::FloatTensor};
    use burn_autodiff::{
        Autodiff,
        checkpoint::{
            base::Checkpointer,
            strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing},
        },
        grads::Gradients,
        ops::{Backward, Ops, OpsKind, unary},
    };
    use flows_kernels::Real;

    use super::super::host::{Host, identity};
    use super::super::operation::{input, is_host};
    use super::super::switch::fused_kernels_enabled;

    /// `tanh(x)`, or `x` as it was where there is no kernel for it.
    pub(super) fn tanh<B: Backend, const D: usize>(
        x: Tensor<B, D>,
    ) -> Result<Tensor<B, D>, Tensor<B, D>> {
        let float = matches!(x.dtype(), DType::F32 | DType::F64);
        if !fused_kernels_enabled() || !is_host::<B>() || !float {
            return Err(x);
        }
        #[cfg(feature = "flex")]
        let x = match on::<B, burn_flex::Flex, D>(x) {
            Ok(y) => return Ok(y),
            Err(x) => x,
        };
        #[cfg(feature = "ndarray")]
        let x = match on::<B, burn_ndarray::NdArray<f32>, D>(x)
            .or_else(on::<B, burn_ndarray::NdArray<f64>, D>)
        {
            Ok(y) => return Ok(y),
            Err(x) => x,
        };
        Err(x)
    }

    /// The kernel if `B` is the host backend `I`, or `I` with autodiff.
    fn on<B: Backend, I: Backend, const D: usize>(
        x: Tensor<B, D>,
    ) -> Result<Tensor<B, D>, Tensor<B, D>> {
        fn back<T: 'static, U: 'static>(y: T) -> U {
            identity(y).unwrap_or_else(|_| unreachable!("the backend that was asked for"))
        }
        let x = match identity::<_, Tensor<I, D>>(x) {
            Ok(x) => return Ok(back(tensor::<I, D>(compute::<I>(input(x))))),
            Err(x) => x,
        };
        let x = match identity::<_, Tensor<Autodiff<I, NoCheckpointing>, D>>(x) {
            Ok(x) => return Ok(back(tracked(x))),
            Err(x) => x,
        };
        match identity::<_, Tensor<Autodiff<I, BalancedCheckpointing>, D>>(x) {
            Ok(x) => Ok(back(tracked(x))),
            Err(x) => Err(x),
        }
    }

    fn tensor<I: Backend, const D: usize>(primitive: FloatTensor<I>) -> Tensor<I, D> {
        Tensor::from_primitive(TensorPrimitive::Float(primitive))
    }

    fn compute<I: Backend>(x: FloatTensor<I>) -> FloatTensor<I> {
        fn numbers<F: Real + Element>(host: &Host, shape: Vec<usize>) -> TensorData {
            let mut numbers = host.numbers::<F>().to_vec();
            flows_kernels::tanh(&mut numbers);
            TensorData::new(numbers, shape)
        }
        let (device, dtype, shape) = (I::float_device(&x), x.dtype(), x.shape().to_vec());
        let host = Host::new::<I>(x);
        let data = match dtype {
            DType::F64 => numbers::<f64>(&host, shape),
            _ => numbers::<f32>(&host, shape),
        };
        I::float_from_data(data, &device)
    }

    fn tracked<I: Backend, C: CheckpointStrategy, const D: usize>(
        x: Tensor<Autodiff<I, C>, D>,
    ) -> Tensor<Autodiff<I, C>, D> {
        let x = input(x);
        let y = match Node
            .prepare::<C>([x.node.clone()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let y = compute::<I>(x.primitive.clone());
                prep.finish(y.clone(), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(compute::<I>(x.primitive.clone())),
        };
        // Until the node is registered something has to hold its parent: see `crate::autodiff`.
        drop(x);
        tensor(y)
    }

    #[derive(Debug)]
    struct Node;

    impl<I: Backend> Backward<I, 1> for Node {
        /// What the forward pass gave: Burn's own node computes it again.
        type State = FloatTensor<I>;

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let y = ops.state;
            unary::<I, _>(ops.parents, ops.node, grads, |grad| {
                let slope = I::float_mul(y.clone(), y);
                let slope = I::float_add_scalar(I::float_neg(slope), 1.0.into());
                I::float_mul(grad, slope)
            });
        }
    }
}
