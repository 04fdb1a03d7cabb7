//! The numbers of a tensor that lies in this process's memory.

use std::any::{Any, TypeId};

use burn::tensor::{
    DType, Element, Tensor, TensorData, TensorPrimitive, backend::Backend, ops::FloatTensor,
};
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
        let primitive = tensor.into_primitive().tensor();
        #[cfg(feature = "flex")]
        let primitive = match identity::<_, burn_flex::FlexTensor>(primitive) {
            Ok(flex) if flex.is_contiguous() => return Self::Flex(flex),
            Ok(flex) => return Self::Data(flex.into_data()),
            Err(primitive) => primitive,
        };
        let tensor = Tensor::<I, D>::from_primitive(TensorPrimitive::Float(primitive));
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

/// The numbers of a tensor, row-major, to be written: where they lie if nothing else holds them.
pub(crate) enum HostMut {
    #[cfg(feature = "flex")]
    Flex(burn_flex::FlexTensor),
    Data(TensorData),
}

impl HostMut {
    pub(crate) fn new<I: Backend, const D: usize>(tensor: Tensor<I, D>) -> Self {
        match Host::new(tensor) {
            #[cfg(feature = "flex")]
            Host::Flex(tensor) if is_whole(&tensor) => Self::Flex(tensor),
            #[cfg(feature = "flex")]
            Host::Flex(tensor) => Self::Data(tensor.into_data()),
            Host::Data(data) => Self::Data(data),
        }
    }

    /// The numbers.
    ///
    /// # Panics
    /// For a tensor of another type.
    pub(crate) fn numbers<F: Real + Element>(&mut self) -> &mut [F] {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex(tensor) => tensor.storage_mut(),
            Self::Data(data) => data.as_mut_slice().expect("data of its type"),
        }
    }

    /// The tensor that it was, with the numbers that it has now.
    pub(crate) fn into_tensor<I: Backend, const D: usize>(
        self,
        device: &I::Device,
        dtype: DType,
    ) -> Tensor<I, D> {
        let data = match self {
            #[cfg(feature = "flex")]
            Self::Flex(tensor) => match identity::<_, FloatTensor<I>>(tensor) {
                Ok(tensor) => return Tensor::from_primitive(TensorPrimitive::Float(tensor)),
                Err(tensor) => tensor.into_data(),
            },
            Self::Data(data) => data,
        };
        Tensor::from_data(data, (device, dtype))
    }
}

/// Whether a contiguous tensor has its storage for itself, and is no part of a larger one.
#[cfg(feature = "flex")]
fn is_whole(tensor: &burn_flex::FlexTensor) -> bool {
    let size = tensor.dtype().size();
    tensor.bytes().len() == tensor.layout().num_elements() * size
}

/// A value of type `T` as the `U` that it is, or back where it is none.
pub(crate) fn identity<T: 'static, U: 'static>(value: T) -> Result<U, T> {
    let mut slot = Some(value);
    let any: &mut dyn Any = &mut slot;
    match any.downcast_mut::<Option<U>>().and_then(Option::take) {
        Some(value) => Ok(value),
        None => Err(slot.expect("nobody took it")),
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
