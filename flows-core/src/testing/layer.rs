//! The layer under test, behind trait objects.
//!
//! The properties are long and the registries have many layers: with the type of the layer erased
//! every property is compiled once per backend, not once per layer.

use core::fmt;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::TensorCreationOptions;
use burn::tensor::backend::AutodiffBackend;
use rand::Rng;

use super::built::{Built, Edit, Input};
use super::differentiate;
use crate::bijector::{Bijector, InverseReport, Invert, Mapped};
use crate::domain::Interval;
use crate::error::Error;

/// Which way a layer is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    Forward,
    Inverse,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Inverse => "inverse",
        })
    }
}

/// What the properties ask of a layer. Those that need an inverse panic without one.
pub(super) trait Layer<B: AutodiffBackend> {
    fn name(&self) -> &'static str;
    fn dim(&self) -> usize;
    fn context_dim(&self) -> usize;
    /// Where it takes columns, and where it takes them to.
    fn domain_and_image(&self) -> Result<[Vec<Interval>; 2], Error>;
    /// Forward, and inverse where there is one.
    fn directions(&self) -> &'static [Direction];
    fn check(&self, input: &Input<B>) -> Result<(), Error>;
    /// `forward` or `inverse`.
    fn value(&self, direction: Direction, input: Input<B>) -> Tensor<B, 2>;
    /// `forward_and_log_det` or `inverse_and_log_det`.
    fn mapped(&self, direction: Direction, input: Input<B>) -> Mapped<B>;
    /// The same of the layer on the backend without automatic differentiation.
    fn mapped_by_valid(&self, direction: Direction, input: Input<B>) -> Mapped<B::InnerBackend>;
    fn inverse_with_report(&self, input: Input<B>) -> (Mapped<B>, InverseReport);
    /// The gradient of every parameter by path, as [`differentiate::gradients`].
    fn gradients(&self, of: &B::Gradients) -> Vec<(String, Option<Vec<f64>>)>;
    /// The layer with other parameters.
    fn edited(&self, edit: &mut Edit<'_>) -> Box<dyn Layer<B> + '_>;
    /// The layer built anew from another seed.
    fn rebuilt(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String>;
    /// The layer built anew from another seed, with this one's state loaded.
    fn reloaded(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String>;
}

/// A method of a layer that takes rows and their context.
type Method<B, L, Out> = fn(&L, Tensor<B, 2>, Option<Tensor<B, 2>>) -> Out;

/// The inverse of a layer that has one.
pub(super) struct Inverse<B: AutodiffBackend, L: AutodiffModule<B>> {
    value: Method<B, L, Tensor<B, 2>>,
    mapped: Method<B, L, Mapped<B>>,
    by_valid: Method<B::InnerBackend, L::InnerModule, Mapped<B::InnerBackend>>,
    with_report: Method<B, L, (Mapped<B>, InverseReport)>,
}

impl<B: AutodiffBackend, L: AutodiffModule<B>> Clone for Inverse<B, L> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: AutodiffBackend, L: AutodiffModule<B>> Copy for Inverse<B, L> {}

impl<B, L> Inverse<B, L>
where
    B: AutodiffBackend,
    L: Invert<B> + AutodiffModule<B>,
    L::InnerModule: Invert<B::InnerBackend>,
{
    pub(super) fn of_layer() -> Self {
        Self {
            value: L::inverse,
            mapped: L::inverse_and_log_det,
            by_valid: <L::InnerModule as Invert<B::InnerBackend>>::inverse_and_log_det,
            with_report: L::inverse_with_report,
        }
    }
}

/// A layer with what builds it and, if it has one, its inverse.
pub(super) struct BuiltLayer<'a, B: AutodiffBackend, L: AutodiffModule<B>, F> {
    built: Built<'a, B, L, F>,
    inverse: Option<Inverse<B, L>>,
}

impl<'a, B, L, F> BuiltLayer<'a, B, L, F>
where
    B: AutodiffBackend,
    L: Bijector<B> + AutodiffModule<B>,
    F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<L, Error>,
{
    pub(super) fn new(
        build: &'a F,
        options: &'a TensorCreationOptions<B>,
        seed: u64,
        inverse: Option<Inverse<B, L>>,
    ) -> Result<Self, Error> {
        let built = Built::new(build, options, seed)?;
        Ok(Self { built, inverse })
    }

    fn inverse(&self) -> &Inverse<B, L> {
        self.inverse.as_ref().expect("a layer with an inverse")
    }

    fn boxed<'s>(&'s self, built: Built<'s, B, L, F>) -> Box<dyn Layer<B> + 's>
    where
        L::InnerModule: Bijector<B::InnerBackend>,
    {
        let inverse = self.inverse;
        Box::new(BuiltLayer { built, inverse })
    }
}

impl<B, L, F> Layer<B> for BuiltLayer<'_, B, L, F>
where
    B: AutodiffBackend,
    L: Bijector<B> + AutodiffModule<B>,
    L::InnerModule: Bijector<B::InnerBackend>,
    F: Fn(TensorCreationOptions<B>, &mut dyn Rng) -> Result<L, Error>,
{
    fn name(&self) -> &'static str {
        self.built.module.name()
    }

    fn dim(&self) -> usize {
        self.built.module.dim()
    }

    fn context_dim(&self) -> usize {
        self.built.module.context_dim()
    }

    fn domain_and_image(&self) -> Result<[Vec<Interval>; 2], Error> {
        let domain = self.built.module.domain();
        let image = self.built.module.image(&domain)?;
        Ok([domain, image])
    }

    fn directions(&self) -> &'static [Direction] {
        match self.inverse {
            Some(_) => &[Direction::Forward, Direction::Inverse],
            None => &[Direction::Forward],
        }
    }

    fn check(&self, input: &Input<B>) -> Result<(), Error> {
        self.built.module.check(&input.x, input.context.as_ref())
    }

    fn value(&self, direction: Direction, Input { x, context }: Input<B>) -> Tensor<B, 2> {
        let layer = &self.built.module;
        match direction {
            Direction::Forward => layer.forward(x, context),
            Direction::Inverse => (self.inverse().value)(layer, x, context),
        }
    }

    fn mapped(&self, direction: Direction, Input { x, context }: Input<B>) -> Mapped<B> {
        let layer = &self.built.module;
        match direction {
            Direction::Forward => layer.forward_and_log_det(x, context),
            Direction::Inverse => (self.inverse().mapped)(layer, x, context),
        }
    }

    fn mapped_by_valid(&self, direction: Direction, input: Input<B>) -> Mapped<B::InnerBackend> {
        let (x, context) = (input.x.inner(), input.context.map(Tensor::inner));
        let layer = self.built.module.valid();
        match direction {
            Direction::Forward => layer.forward_and_log_det(x, context),
            Direction::Inverse => (self.inverse().by_valid)(&layer, x, context),
        }
    }

    fn inverse_with_report(&self, input: Input<B>) -> (Mapped<B>, InverseReport) {
        (self.inverse().with_report)(&self.built.module, input.x, input.context)
    }

    fn gradients(&self, of: &B::Gradients) -> Vec<(String, Option<Vec<f64>>)> {
        differentiate::gradients(&self.built.module, of)
    }

    fn edited(&self, edit: &mut Edit<'_>) -> Box<dyn Layer<B> + '_> {
        self.boxed(self.built.edited(edit))
    }

    fn rebuilt(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String> {
        self.built.rebuilt(seed).map(|built| self.boxed(built))
    }

    fn reloaded(&self, seed: u64) -> Result<Box<dyn Layer<B> + '_>, String> {
        self.built.reloaded(seed).map(|built| self.boxed(built))
    }
}
