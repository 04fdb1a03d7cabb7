//! Specialised CPU paths of the masked layers.
//!
//! They are chosen by the type of the backend, so that `B: Backend` stays the only bound that a
//! user sees; any other backend takes the generic path.

mod incremental;

use std::any::TypeId;

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};

use crate::bijector::Mapped;
use crate::bijectors::LogScale;
use crate::kernels::fused_kernels_enabled;
use crate::nn::{Connections, MadeSweep};
use incremental::{Incremental, Layer};

/// Whether tensors of `B` lie in this process's memory and nothing records their history.
fn is_cpu<B: Backend>() -> bool {
    let cpu = [
        #[cfg(feature = "flex")]
        TypeId::of::<burn_flex::Flex>(),
        #[cfg(feature = "ndarray")]
        TypeId::of::<burn_ndarray::NdArray>(),
    ];
    <[TypeId]>::contains(&cpu, &TypeId::of::<B>())
}

/// The inverse of an affine autoregressive layer whose variables lie sorted by level, or nothing where
/// there is no kernel for it.
pub(crate) fn incremental_inverse<B: Backend>(
    sweep: &MadeSweep<'_, B>,
    scale: LogScale,
    y: &Tensor<B, 2>,
) -> Option<Mapped<B>> {
    if !fused_kernels_enabled()
        || !is_cpu::<B>()
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
