//! The layer under test, behind trait objects.
//!
//! The properties are long and the registries have many layers: with the type of the layer erased
//! every property is compiled once per backend, not once per layer.

use burn::module::{AutodiffModule, Module, ModuleMapper, Param};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use rand::Rng;

use super::differentiate;
use super::numbers::rows;
use crate::bijector::{Bijector, InverseReport, Invert, Mapped};
use crate::error::Error;
use crate::random::generator;
use crate::state::{load_state, state};

/// A batch with the context that goes with it.
#[derive(Debug, Clone)]
pub(super) struct Input<B: AutodiffBackend> {
    pub(super) x: Tensor<B, 2>,
    pub(super) context: Option<Tensor<B, 2>>,
}

impl<B: AutodiffBackend> Input<B> {
    /// Another batch with the same context.
    pub(super) fn at(&self, x: Tensor<B, 2>) -> Self {
        let context = self.context.clone();
        Self { x, context }
    }
}

/// One entry of one parameter, moved by `h`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nudge {
    /// Number of the parameter, in visiting order.
    pub(super) parameter: usize,
    pub(super) entry: usize,
    pub(super) h: f64,
}

/// What the properties ask of a layer.
pub(super) trait Layer<B: AutodiffBackend> {
    fn name(&self) -> &'static str;
    fn dim(&self) -> usize;
    fn context_dim(&self) -> usize;
    fn check(&self, input: &Input<B>) -> Result<(), Error>;
    fn forward(&self, input: Input<B>) -> Tensor<B, 2>;
    fn forward_and_log_det(&self, input: Input<B>) -> Mapped<B>;
    /// [`forward_and_log_det`](Self::forward_and_log_det) of the layer with one parameter moved.
    fn forward_nudged(&self, nudge: Nudge, input: Input<B>) -> Mapped<B>;
    /// The same of the layer on the backend without automatic differentiation.
    fn forward_of_valid(&self, input: Input<B>) -> Mapped<B::InnerBackend>;
    /// The gradient of every parameter by path, as [`differentiate::gradients`].
    fn gradients(&self, of: &B::Gradients) -> Vec<(String, Option<Vec<f64>>)>;
    /// The layer built anew from another seed.
    fn rebuilt(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String>;
    /// The layer built anew from another seed, with this one's state loaded.
    fn reloaded(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String>;
}

/// What they ask of a layer with an inverse besides.
pub(super) trait Invertible<B: AutodiffBackend>: Layer<B> {
    fn inverse(&self, input: Input<B>) -> Tensor<B, 2>;
    fn inverse_and_log_det(&self, input: Input<B>) -> Mapped<B>;
    fn inverse_nudged(&self, nudge: Nudge, input: Input<B>) -> Mapped<B>;
    fn inverse_with_report(&self, input: Input<B>) -> (Mapped<B>, InverseReport);
}

/// A layer with what builds it.
pub(super) struct Built<'a, B: AutodiffBackend, L, F> {
    pub(super) layer: L,
    pub(super) build: &'a F,
    pub(super) device: &'a B::Device,
}

impl<'a, B, L, F> Built<'a, B, L, F>
where
    B: AutodiffBackend,
    F: Fn(&B::Device, &mut dyn Rng) -> Result<L, Error>,
{
    pub(super) fn new(build: &'a F, device: &'a B::Device, seed: u64) -> Result<Self, Error> {
        let layer = build(device, &mut generator(seed))?;
        Ok(Self {
            layer,
            build,
            device,
        })
    }
}

impl<B, L, F> Layer<B> for Built<'_, B, L, F>
where
    B: AutodiffBackend,
    L: Bijector<B> + AutodiffModule<B>,
    L::InnerModule: Bijector<B::InnerBackend>,
    F: Fn(&B::Device, &mut dyn Rng) -> Result<L, Error>,
{
    fn name(&self) -> &'static str {
        self.layer.name()
    }

    fn dim(&self) -> usize {
        self.layer.dim()
    }

    fn context_dim(&self) -> usize {
        self.layer.context_dim()
    }

    fn check(&self, input: &Input<B>) -> Result<(), Error> {
        self.layer.check(&input.x, input.context.as_ref())
    }

    fn forward(&self, input: Input<B>) -> Tensor<B, 2> {
        self.layer.forward(input.x, input.context)
    }

    fn forward_and_log_det(&self, input: Input<B>) -> Mapped<B> {
        self.layer.forward_and_log_det(input.x, input.context)
    }

    fn forward_nudged(&self, nudge: Nudge, input: Input<B>) -> Mapped<B> {
        nudged(&self.layer, nudge).forward_and_log_det(input.x, input.context)
    }

    fn forward_of_valid(&self, input: Input<B>) -> Mapped<B::InnerBackend> {
        let context = input.context.map(Tensor::inner);
        let layer = self.layer.valid();
        layer.forward_and_log_det(input.x.inner(), context)
    }

    fn gradients(&self, of: &B::Gradients) -> Vec<(String, Option<Vec<f64>>)> {
        differentiate::gradients(&self.layer, of)
    }

    fn rebuilt(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String> {
        let built = Self::new(self.build, self.device, seed).map_err(|e| e.to_string())?;
        Ok(Box::new(built))
    }

    fn reloaded(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String> {
        let mut built = Self::new(self.build, self.device, seed).map_err(|e| e.to_string())?;
        built.layer = load_state::<B, L>(built.layer, &state::<B, L>(&self.layer))
            .map_err(|e| e.to_string())?;
        Ok(Box::new(built))
    }
}

impl<B, L, F> Invertible<B> for Built<'_, B, L, F>
where
    B: AutodiffBackend,
    L: Invert<B> + AutodiffModule<B>,
    L::InnerModule: Bijector<B::InnerBackend>,
    F: Fn(&B::Device, &mut dyn Rng) -> Result<L, Error>,
{
    fn inverse(&self, input: Input<B>) -> Tensor<B, 2> {
        self.layer.inverse(input.x, input.context)
    }

    fn inverse_and_log_det(&self, input: Input<B>) -> Mapped<B> {
        self.layer.inverse_and_log_det(input.x, input.context)
    }

    fn inverse_nudged(&self, nudge: Nudge, input: Input<B>) -> Mapped<B> {
        nudged(&self.layer, nudge).inverse_and_log_det(input.x, input.context)
    }

    fn inverse_with_report(&self, input: Input<B>) -> (Mapped<B>, InverseReport) {
        self.layer.inverse_with_report(input.x, input.context)
    }
}

/// `layer` with `h` added to one entry of one float parameter.
fn nudged<B: AutodiffBackend, L: Module<B>>(layer: &L, nudge: Nudge) -> L {
    struct Mapper {
        until: usize,
        nudge: Nudge,
    }
    impl<B: AutodiffBackend> ModuleMapper<B> for Mapper {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
            let hit = self.until == 0;
            self.until = self.until.wrapping_sub(1);
            if !hit {
                return param;
            }
            let (id, tensor, mapper) = param.consume();
            let mut values = rows(&tensor);
            values[self.nudge.entry] += self.nudge.h;
            let data = TensorData::new(values, tensor.dims());
            let moved = Tensor::from_data(data, (&tensor.device(), tensor.dtype()));
            Param::from_mapped_value(id, moved.require_grad(), mapper)
        }
    }
    let until = nudge.parameter;
    layer.clone().map(&mut Mapper { until, nudge })
}
