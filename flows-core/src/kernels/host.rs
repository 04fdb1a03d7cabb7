//! The numbers of a tensor that lies in this process's memory.

use std::any::TypeId;

use burn::tensor::{Element, Tensor, TensorData, backend::Backend};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};

use super::lanes::Real;

/// The numbers of a tensor, row-major: those of a contiguous Flex tensor where they lie, otherwise a copy.
pub(crate) enum Host {
    #[cfg(feature = "flex")]
    Flex(burn_flex::FlexTensor),
    Data(TensorData),
}

impl Host {
    pub(crate) fn new<I: Backend, const D: usize>(tensor: Tensor<I, D>) -> Self {
        #[cfg(feature = "flex")]
        {
            let primitive = tensor.clone().into_primitive().tensor();
            let primitive =
                (&primitive as &dyn std::any::Any).downcast_ref::<burn_flex::FlexTensor>();
            if let Some(primitive) = primitive.filter(|primitive| primitive.is_contiguous()) {
                return Self::Flex(primitive.clone());
            }
        }
        Self::Data(tensor.into_data())
    }

    /// The numbers.
    ///
    /// # Panics
    /// For a tensor of another type.
    pub(crate) fn numbers<F: Real + Element>(&self) -> &[F] {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex(tensor) => tensor.as_slice().expect("a contiguous tensor of its type"),
            Self::Data(data) => data.as_slice().expect("data of its type"),
        }
    }
}

/// Whether tensors of `B` lie in this process's memory, with or without their history.
pub(crate) fn is_host<B: Backend>() -> bool {
    host_types().as_flattened().contains(&TypeId::of::<B>())
}

/// Whether tensors of `B` lie in this process's memory and nothing records their history.
pub(crate) fn is_plain_host<B: Backend>() -> bool {
    host_types()
        .iter()
        .any(|[plain, ..]| *plain == TypeId::of::<B>())
}

/// Each backend with a kernel, and its two forms with autodiff.
fn host_types() -> impl std::ops::Deref<Target = [[TypeId; 3]]> {
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
