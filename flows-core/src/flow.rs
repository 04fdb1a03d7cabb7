//! A flow: a base distribution and a bijector, with the fast direction in the type.

use burn::module::Module;
use burn::tensor::{Bool, Tensor, TensorData, backend::Backend};
use core::marker::PhantomData;
use rand::Rng;

use crate::bijector::{
    Bijector, Invert, Mapped, assert_ok, check_shapes, context_for, shared_context_dim,
};
use crate::distributions::{LogProb, Sample, assert_sample_context};
use crate::domain::{Interval, check_inside};
use crate::error::Error;
use crate::expand::expand;
use crate::init::options_of;
use crate::magnitude::magnitude;
use crate::visit::LayerVisit;

/// The base as part of a visit. The layers take the noise of the flow's own seed, the base that of another.
const BASE: usize = usize::MAX;

/// Sum of the magnitudes of a row beyond which layers may overflow in f32, by the products and squares they take.
const FAR: f64 = 1e15;

/// Orientation of a [`Flow`] whose layers map data to base: `log_prob` takes one pass (MAF).
#[derive(Debug, Clone, Copy, Default)]
pub struct DataToBase;

/// Orientation of a [`Flow`] whose layers map base to data: sampling takes one pass (IAF).
#[derive(Debug, Clone, Copy, Default)]
pub struct BaseToData;

/// Which way the layers of a [`Flow`] point: [`DataToBase`] or [`BaseToData`].
pub trait Orientation: sealed::Sealed + Clone + core::fmt::Debug + Send + Sync + 'static {}
impl Orientation for DataToBase {}
impl Orientation for BaseToData {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::DataToBase {}
    impl Sealed for super::BaseToData {}
}

/// The distribution of `x` with `T(x) ~ base` ([`DataToBase`]) or `x = T(z)`, `z ~ base`
/// ([`BaseToData`]).
///
/// With `z` in base space and `x` in data space,
/// `log p(x) = log base(z) + log |det dz/dx|`. The fast direction never needs the layers' inverse:
/// a flow from data to base has `log_prob` for any [`Bijector`] and samples where the layers [`Invert`];
/// one from base to data the other way round.
///
/// A row too far out for its float type, such as one that holds `f32::MAX`, has `log_prob` minus infinity or a
/// very small number; NaN is for rows that hold one, and for those whose inverse was not found.
///
/// A context goes to the bijector, and to a base that takes one. It has a row for each row of the batch, or one row for
/// all of them.
#[derive(Module, Debug)]
pub struct Flow<B: Backend, T, P, O: Orientation = DataToBase> {
    bijector: T,
    base: P,
    #[module(skip)]
    orientation: PhantomData<O>,
    backend: PhantomData<B>,
}

impl<B: Backend, T: Bijector<B>, P: LogProb<B>> Flow<B, T, P, DataToBase> {
    /// A flow whose `bijector` maps data to base.
    ///
    /// # Errors
    /// [`Error::Config`] where dimensions or context dimensions differ, or the base has mass where the layers do not lead.
    pub fn data_to_base(bijector: T, base: P) -> Result<Self, Error> {
        let flow = Self::with_orientation(bijector, base)?;
        let image = flow.bijector.image(&flow.bijector.domain())?;
        check_inside("flow", &flow.base.support(), &image)?;
        Ok(flow)
    }
}

impl<B: Backend, T: Bijector<B>, P: LogProb<B>> Flow<B, T, P, BaseToData> {
    /// A flow whose `bijector` maps base to data.
    ///
    /// # Errors
    /// [`Error::Config`] where dimensions or context dimensions differ, or the base has mass where the layers are not
    /// defined.
    pub fn base_to_data(bijector: T, base: P) -> Result<Self, Error> {
        let flow = Self::with_orientation(bijector, base)?;
        flow.data_domain()?;
        Ok(flow)
    }

    /// Where the layers take the base to.
    fn data_domain(&self) -> Result<Vec<Interval>, Error> {
        let domain = self.bijector.domain();
        match domain.iter().all(|of| *of == Interval::REALS) {
            true => self.bijector.image(&domain),
            false => self.bijector.image(&self.base.support()),
        }
    }
}

impl<B: Backend, T: Bijector<B>, P: LogProb<B>, O: Orientation> Flow<B, T, P, O> {
    fn with_orientation(bijector: T, base: P) -> Result<Self, Error> {
        shared_context_dim("flow", bijector.context_dim(), base.context_dim())?;
        if bijector.dim() != base.dim() {
            let expected = format!("{}, the dimension of the base", base.dim());
            return Err(Error::config("flow", "dim", bijector.dim(), expected));
        }
        Ok(Self {
            bijector,
            base,
            orientation: PhantomData,
            backend: PhantomData,
        })
    }

    /// The layers.
    pub fn bijector(&self) -> &T {
        &self.bijector
    }

    /// The layers, to set their statistics or noise.
    pub fn bijector_mut(&mut self) -> &mut T {
        &mut self.bijector
    }

    /// The base distribution.
    pub fn base(&self) -> &P {
        &self.base
    }

    /// The bijector and the base.
    pub fn into_parts(self) -> (T, P) {
        (self.bijector, self.base)
    }

    fn base_context(&self, context: &Option<Tensor<B, 2>>) -> Option<Tensor<B, 2>> {
        if self.base.context_dim() > 0 {
            context.clone()
        } else {
            None
        }
    }

    fn flow_context_dim(&self) -> usize {
        self.bijector.context_dim().max(self.base.context_dim())
    }

    /// `log p` of the rows `x`, which `to_base` takes to the base with a context: minus infinity outside of `domain`, and
    /// where they lie so far out that a layer overflows, since the difference of two infinities is NaN.
    fn log_prob_through(
        &self,
        x: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
        domain: &[Interval],
        to_base: impl FnOnce(Tensor<B, 2>, Option<Tensor<B, 2>>) -> Mapped<B>,
    ) -> Tensor<B, 1> {
        let rows = x.dims()[0];
        let context = for_each_row(context, rows);
        let (dim, context_dim) = (self.base.dim(), self.flow_context_dim());
        assert_ok(check_shapes("flow", dim, context_dim, &x, context.as_ref()));
        if rows == 0 {
            // Slices without elements lose their float type in Burn 0.21.
            return Tensor::empty([0], options_of(&x));
        }
        let outside = outside(&x, domain);
        let z = to_base(x.clone(), context_for(&self.bijector, &context));
        let log_prob = self.base.log_prob(z.value, self.base_context(&context)) + z.log_det;
        // A row that holds NaN is not greater than anything, and stays NaN.
        let far: Tensor<B, 1, Bool> = magnitude(x).sum_dim(1).greater_elem(FAR).squeeze_dim(1);
        let overflowed = log_prob.clone().is_nan().bool_and(far);
        let log_prob = log_prob.mask_fill(overflowed, f64::NEG_INFINITY);
        match outside {
            Some(outside) => log_prob.mask_fill(outside, f64::NEG_INFINITY),
            None => log_prob,
        }
    }
}

impl<B: Backend, T: Bijector<B>, P: LogProb<B> + Sample<B>, O: Orientation> Flow<B, T, P, O> {
    fn sample_through(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
        to_data: impl FnOnce(Tensor<B, 2>, Option<Tensor<B, 2>>) -> Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let context = for_each_row(context, n);
        assert_sample_context("flow", n, self.flow_context_dim(), context.as_ref());
        let z = self.base.sample(n, self.base_context(&context), rng);
        if n == 0 {
            return z;
        }
        to_data(z, context_for(&self.bijector, &context))
    }

    fn sample_and_log_prob_through(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
        to_data: impl FnOnce(Tensor<B, 2>, Option<Tensor<B, 2>>) -> Mapped<B>,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        let context = for_each_row(context, n);
        assert_sample_context("flow", n, self.flow_context_dim(), context.as_ref());
        let own = self.base_context(&context);
        let (z, log_base) = self.base.sample_and_log_prob(n, own, rng);
        if n == 0 {
            return (z, log_base);
        }
        let x = to_data(z, context_for(&self.bijector, &context));
        (x.value, log_base - x.log_det)
    }
}

/// The rows with a column outside of its interval; `None` where all are the reals.
fn outside<B: Backend>(x: &Tensor<B, 2>, domain: &[Interval]) -> Option<Tensor<B, 1, Bool>> {
    if domain.iter().all(|of| *of == Interval::REALS) {
        return None;
    }
    let ends = |end: fn(&Interval) -> f64| {
        let most = f64::from(f32::MAX);
        let ends: Vec<f64> = domain.iter().map(|of| end(of).clamp(-most, most)).collect();
        Tensor::<B, 2>::from_data(TensorData::new(ends, [1, domain.len()]), options_of(x))
    };
    let below = (x.clone() - ends(|of| of.low)).lower_equal_elem(0.0);
    let above = (x.clone() - ends(|of| of.high)).greater_equal_elem(0.0);
    Some(below.bool_or(above).any_dim(1).squeeze_dim(1))
}

/// A context of one row stands for that row repeated for the whole batch.
fn for_each_row<B: Backend>(context: Option<Tensor<B, 2>>, rows: usize) -> Option<Tensor<B, 2>> {
    context.map(|context| match context.dims() {
        [1, columns] if rows != 1 => expand(context, [rows, columns]),
        _ => context,
    })
}

impl<B: Backend, T: Bijector<B>, P: LogProb<B>> LogProb<B> for Flow<B, T, P, DataToBase> {
    fn dim(&self) -> usize {
        self.base.dim()
    }

    fn context_dim(&self) -> usize {
        self.flow_context_dim()
    }

    fn support(&self) -> Vec<Interval> {
        self.bijector.domain()
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        self.log_prob_through(x, context, &self.support(), |x, own| {
            self.bijector.forward_and_log_det(x, own)
        })
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        self.bijector.visit_layers(visit);
        visit.part(BASE, |visit| self.base.visit_layers(visit));
    }
}

impl<B: Backend, T: Invert<B>, P: LogProb<B>> LogProb<B> for Flow<B, T, P, BaseToData> {
    fn dim(&self) -> usize {
        self.base.dim()
    }

    fn context_dim(&self) -> usize {
        self.flow_context_dim()
    }

    fn support(&self) -> Vec<Interval> {
        self.data_domain().expect("checked where the flow was made")
    }

    fn log_prob(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Tensor<B, 1> {
        self.log_prob_through(x, context, &self.support(), |x, own| {
            self.bijector.inverse_and_log_det(x, own)
        })
    }

    fn visit_layers(&mut self, visit: &mut LayerVisit<B>) {
        self.bijector.visit_layers_inverse(visit);
        visit.part(BASE, |visit| self.base.visit_layers(visit));
    }
}

impl<B: Backend, T: Invert<B>, P: LogProb<B> + Sample<B>> Sample<B> for Flow<B, T, P, DataToBase> {
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        self.sample_through(n, context, rng, |z, own| self.bijector.inverse(z, own))
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        self.sample_and_log_prob_through(n, context, rng, |z, own| {
            self.bijector.inverse_and_log_det(z, own)
        })
    }
}

impl<B: Backend, T: Bijector<B>, P: LogProb<B> + Sample<B>> Sample<B>
    for Flow<B, T, P, BaseToData>
{
    fn sample(&self, n: usize, context: Option<Tensor<B, 2>>, rng: &mut dyn Rng) -> Tensor<B, 2> {
        self.sample_through(n, context, rng, |z, own| self.bijector.forward(z, own))
    }

    fn sample_and_log_prob(
        &self,
        n: usize,
        context: Option<Tensor<B, 2>>,
        rng: &mut dyn Rng,
    ) -> (Tensor<B, 2>, Tensor<B, 1>) {
        self.sample_and_log_prob_through(n, context, rng, |z, own| {
            self.bijector.forward_and_log_det(z, own)
        })
    }
}
