//! A module under test with what builds it: built anew, loaded, and with its parameters changed.

use burn::module::{Module, ModuleDisplay, ModuleMapper, Param};
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use rand::Rng;

use super::numbers::rows;
use crate::error::Error;
use crate::init::options_of;
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

    /// One row, without its history.
    pub(super) fn row(&self, r: usize) -> Self {
        self.rows(r, 1)
    }

    /// A batch without rows.
    pub(super) fn empty(&self) -> Self {
        let none = |t: &Tensor<B, 2>| Tensor::empty([0, t.dims()[1]], options_of(t));
        Self {
            x: none(&self.x),
            context: self.context.as_ref().map(none),
        }
    }

    fn rows(&self, from: usize, count: usize) -> Self {
        let pick = |t: &Tensor<B, 2>| {
            let columns = t.dims()[1];
            t.clone().slice([from..from + count, 0..columns]).detach()
        };
        Self {
            x: pick(&self.x),
            context: self.context.as_ref().map(pick),
        }
    }
}

/// A parameter on its way through [`Built::edited`].
pub(super) struct Edited<'a> {
    /// Its number, in visiting order.
    pub(super) index: usize,
    /// Whether an optimizer trains it.
    pub(super) trained: bool,
    pub(super) values: &'a mut Vec<f64>,
}

/// Changes the parameters of a module, one after the other.
pub(super) type Edit<'a> = dyn FnMut(Edited<'_>) + 'a;

/// A layer or a distribution with what builds it.
pub(super) struct Built<'a, B: AutodiffBackend, M, F> {
    pub(super) module: M,
    build: &'a F,
    options: &'a TensorCreationOptions<B>,
}

impl<'a, B, M, F> Built<'a, B, M, F>
where
    B: AutodiffBackend,
    M: Module<B> + ModuleDisplay,
    F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<M, Error>,
{
    pub(super) fn new(
        build: &'a F,
        options: &'a TensorCreationOptions<B>,
        seed: u64,
    ) -> Result<Self, Error> {
        let module = build(options.clone(), &mut generator(seed))?;
        Ok(Self {
            module,
            build,
            options,
        })
    }

    /// Built anew from another seed.
    pub(super) fn rebuilt(&self, seed: u64) -> Result<Self, String> {
        Self::new(self.build, self.options, seed).map_err(|e| e.to_string())
    }

    /// Built anew from another seed, with the state of this one loaded.
    pub(super) fn reloaded(&self, seed: u64) -> Result<Self, String> {
        let built = self.rebuilt(seed)?;
        let loaded = load_state::<B, M>(built.module, &state::<B, M>(&self.module));
        loaded.map(|m| self.with(m)).map_err(|e| e.to_string())
    }

    /// The same with other parameters.
    pub(super) fn edited(&self, edit: &mut Edit<'_>) -> Self {
        struct Mapper<'a, 'b> {
            next: usize,
            edit: &'a mut Edit<'b>,
        }
        impl<B: AutodiffBackend> ModuleMapper<B> for Mapper<'_, '_> {
            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<B, D>>,
            ) -> Param<Tensor<B, D>> {
                let (index, trained) = (self.next, param.is_require_grad());
                self.next += 1;
                let (id, tensor, mapper) = param.consume();
                let mut values = rows(&tensor);
                (self.edit)(Edited {
                    index,
                    trained,
                    values: &mut values,
                });
                let data = TensorData::new(values, tensor.dims());
                let edited = Tensor::from_data(data, (&tensor.device(), tensor.dtype()));
                Param::from_mapped_value(id, edited.set_require_grad(trained), mapper)
            }
        }
        self.with(self.module.clone().map(&mut Mapper { next: 0, edit }))
    }

    fn with(&self, module: M) -> Self {
        Self {
            module,
            build: self.build,
            options: self.options,
        }
    }
}
