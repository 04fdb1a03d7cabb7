//! The numbers of a tensor that lies in this process's memory.

use std::any::Any;

use burn::tensor::{
    DType, Element, Tensor, TensorData, TensorPrimitive, backend::Backend, ops::FloatTensor,
};
use flows_kernels::Real;

/// The numbers of a tensor, row-major: those of a contiguous Flex tensor where they lie, otherwise a copy.
pub(super) enum Host {
    #[cfg(feature = "flex")]
    Flex(burn_flex::FlexTensor),
    Data(TensorData),
}

impl Host {
    pub(super) fn new<I: Backend>(primitive: FloatTensor<I>) -> Self {
        #[cfg(feature = "flex")]
        let primitive = match identity::<_, burn_flex::FlexTensor>(primitive) {
            Ok(flex) if flex.is_contiguous() => return Self::Flex(flex),
            Ok(flex) => return Self::Data(flex.into_data()),
            Err(primitive) => primitive,
        };
        Self::Data(numbers::<I>(primitive))
    }

    /// The numbers.
    ///
    /// # Panics
    /// For a tensor of another type.
    pub(super) fn numbers<F: Real + Element>(&self) -> &[F] {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex(tensor) => tensor.as_slice().expect("a contiguous tensor of its type"),
            Self::Data(data) => data.as_slice().expect("data of its type"),
        }
    }
}

fn numbers<I: Backend>(primitive: FloatTensor<I>) -> TensorData {
    burn::tensor::read_sync(I::float_into_data(primitive)).expect("tensors in memory can be read")
}

/// The numbers of a tensor, row-major, to be written: where they lie if nothing else holds them.
pub(super) enum HostMut {
    #[cfg(feature = "flex")]
    Flex(burn_flex::FlexTensor),
    Data(TensorData),
}

impl HostMut {
    pub(super) fn new<I: Backend>(primitive: FloatTensor<I>) -> Self {
        match Host::new::<I>(primitive) {
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
    pub(super) fn numbers<F: Real + Element>(&mut self) -> &mut [F] {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex(tensor) => tensor.storage_mut(),
            Self::Data(data) => data.as_mut_slice().expect("data of its type"),
        }
    }

    /// The tensor that it was, with the numbers that it has now.
    pub(super) fn into_tensor<I: Backend, const D: usize>(
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
pub(super) fn identity<T: 'static, U: 'static>(value: T) -> Result<U, T> {
    let mut slot = Some(value);
    let any: &mut dyn Any = &mut slot;
    match any.downcast_mut::<Option<U>>().and_then(Option::take) {
        Some(value) => Ok(value),
        None => Err(slot.expect("nobody took it")),
    }
}
