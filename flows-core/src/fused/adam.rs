//! A step of Adam or Adamax as one pass over memory.

use burn::tensor::{DType, Element, Tensor, backend::Backend};
use flows_kernels::Real;
use flows_kernels::adam::{Norm, Step};

use super::host::{Host, HostMut};
use super::operation::{input, is_plain_host};
use super::plan::{AdamNorm, AdamParameter, AdamStep};
use super::switch::fused_kernels_enabled;

impl From<AdamStep> for Step {
    fn from(step: AdamStep) -> Self {
        Self {
            beta_1: step.beta_1,
            beta_2: step.beta_2,
            rate: step.rate,
            epsilon: step.epsilon,
            norm: match step.norm {
                AdamNorm::Two => Norm::Two,
                AdamNorm::Infinity => Norm::Infinity,
            },
        }
    }
}

/// The parameter after a step; it comes back as it was where there is no kernel for it. Tensors that nothing else
/// holds are written where they lie.
pub(crate) fn adam_in_place<B: Backend, const D: usize>(
    step: AdamStep,
    parameter: AdamParameter<B, D>,
    gradient: &Tensor<B, D>,
) -> Result<AdamParameter<B, D>, AdamParameter<B, D>> {
    let dtype = gradient.dtype();
    let own = [&parameter.first, &parameter.second].map(Tensor::dtype);
    if !fused_kernels_enabled()
        || !is_plain_host::<B>()
        || [parameter.value.dtype(), own[0], own[1]] != [dtype; 3]
    {
        return Err(parameter);
    }
    match dtype {
        DType::F32 => Ok(with::<f32, B, D>(step, parameter, gradient)),
        DType::F64 => Ok(with::<f64, B, D>(step, parameter, gradient)),
        _ => Err(parameter),
    }
}

fn with<F: Real + Element, B: Backend, const D: usize>(
    step: AdamStep,
    parameter: AdamParameter<B, D>,
    gradient: &Tensor<B, D>,
) -> AdamParameter<B, D> {
    let (device, dtype) = (gradient.device(), gradient.dtype());
    let gradient = Host::new::<B>(input(gradient.clone()));
    let mut value = HostMut::new::<B>(input(parameter.value));
    let mut first = HostMut::new::<B>(input(parameter.first));
    let mut second = HostMut::new::<B>(input(parameter.second));
    Step::from(step).apply::<F>(
        value.numbers(),
        first.numbers(),
        second.numbers(),
        gradient.numbers(),
    );
    AdamParameter {
        value: value.into_tensor(&device, dtype),
        first: first.into_tensor(&device, dtype),
        second: second.into_tensor(&device, dtype),
    }
}
