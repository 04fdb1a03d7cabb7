//! One visit of the layers of a flow, for everything about a layer that is neither its map nor a gradient step:
//! what it learns from data before training, what it keeps of every batch, noise, and temperatures.
//!
//! A [`LayerVisit`] carries one task through a flow. Every composition hands it to its parts once, in
//! [`Bijector::visit_layers`] and, for rows that arrive at its output, in
//! [`Invert::visit_layers_inverse`]; a layer does its part of the task in [`Bijector::adapt`].
//!
//! ```
//! use burn::backend::Flex;
//! use burn::tensor::Tensor;
//! use flows_core::bijector::Bijector;
//! use flows_core::bijectors::{ActNormConfig, Inverted};
//! use flows_core::visit::LayerVisit;
//! # use rand::SeedableRng;
//! # let rng = &mut rand::rngs::StdRng::seed_from_u64(0);
//!
//! let device = Default::default();
//! let mut layer = Inverted::new(ActNormConfig::new(1).init::<Flex>(&device, rng)?);
//! let data = Tensor::<Flex, 2>::from_data([[10.0], [14.0]], &device);
//! layer.visit_layers(&mut LayerVisit::init_from_data(data.clone(), None));
//! let standardized = layer.forward(data, None).into_data();
//! assert_eq!(standardized.to_vec::<f32>().unwrap(), [-1.0, 1.0]);
//! # Ok::<(), flows_core::error::Error>(())
//! ```

use burn::tensor::{Tensor, backend::Backend};

#[cfg(doc)]
use crate::bijector::{Bijector, Invert};
use crate::error::{Error, check_positive};

/// Rows of the data as they arrive at a layer.
#[derive(Debug, Clone, Copy)]
pub struct Arriving<'a, B: Backend> {
    /// In chunks, `[rows, dim]` each, so that a data set need not fit into one batch.
    pub chunks: &'a [Tensor<B, 2>],
    /// At which end of the layer.
    pub at: End,
}

/// An end of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The rows are inputs of its forward direction.
    Input,
    /// The rows are outputs of its forward direction: data reaches this layer through its inverse.
    Output,
}

/// What a layer is asked to do. A layer that has no part in a task ignores it.
#[derive(Debug)]
pub enum Task<'a, B: Backend> {
    /// Choose the values to start training from (activation normalization).
    InitFromData(Arriving<'a, B>),
    /// Take one training batch into the running statistics (batch normalization).
    UpdateStatistics(Arriving<'a, B>),
    /// Replace running statistics by those of the whole training set and keep them from now on.
    FreezeStatistics(Arriving<'a, B>),
    /// Say whether there are running statistics, by setting the flag.
    FindStatistics(&'a mut bool),
    /// Draw the noise of random estimators anew, a pure function of this seed.
    ResampleNoise(u64),
    /// Set the temperature of a learned mask.
    SetTemperature(f64),
}

/// A task on its way through the layers.
#[derive(Debug)]
pub struct LayerVisit<B: Backend> {
    kind: Kind,
    rows: Option<Rows<B>>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    InitFromData,
    UpdateStatistics,
    FreezeStatistics,
    FindStatistics { found: bool },
    ResampleNoise { seed: u64 },
    SetTemperature { temperature: f64 },
}

#[derive(Debug)]
struct Rows<B: Backend> {
    chunks: Vec<Tensor<B, 2>>,
    contexts: Option<Vec<Tensor<B, 2>>>,
}

impl<B: Backend> LayerVisit<B> {
    fn with_rows(
        kind: Kind,
        chunks: Vec<Tensor<B, 2>>,
        contexts: Option<Vec<Tensor<B, 2>>>,
    ) -> Self {
        let rows = Some(Rows { chunks, contexts });
        Self { kind, rows }
    }

    fn without_rows(kind: Kind) -> Self {
        Self { kind, rows: None }
    }

    /// Initializes layers that start from data, such as [`ActNorm`](crate::bijectors::ActNorm), on a batch.
    ///
    /// # Shapes
    /// - `x`: `[rows, dim]`, `context`: `[rows, context_dim]`
    pub fn init_from_data(x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Self {
        Self::with_rows(Kind::InitFromData, vec![x], context.map(|c| vec![c]))
    }

    /// Takes one training batch into running statistics, as [`BatchNorm`](crate::bijectors::BatchNorm) keeps them.
    ///
    /// Training loops do this after each step, with the batch of the step. It costs a forward pass: ask
    /// [`has_statistics`] first.
    ///
    /// # Shapes
    /// - `x`: `[rows, dim]`, `context`: `[rows, context_dim]`
    pub fn update_statistics(x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Self {
        Self::with_rows(Kind::UpdateStatistics, vec![x], context.map(|c| vec![c]))
    }

    /// Replaces running statistics by those of the whole training set, for all calls that follow.
    ///
    /// To go on with training, freeze a copy.
    ///
    /// # Shapes
    /// Of chunk `k`: `[rows_k, dim]`, context `[rows_k, context_dim]`.
    pub fn freeze_statistics(
        chunks: Vec<Tensor<B, 2>>,
        contexts: Option<Vec<Tensor<B, 2>>>,
    ) -> Self {
        Self::with_rows(Kind::FreezeStatistics, chunks, contexts)
    }

    /// Draws the noise of random estimators anew, a pure function of `seed`.
    ///
    /// Training does this before each step with a seed made of run and step, so that a resumed run draws
    /// what an uninterrupted one would have drawn.
    pub fn resample_noise(seed: u64) -> Self {
        Self::without_rows(Kind::ResampleNoise { seed })
    }

    /// Sets the temperature of every learned mask.
    ///
    /// # Errors
    /// [`Error::Config`] where it is not positive and finite.
    pub fn set_temperature(temperature: f64) -> Result<Self, Error> {
        check_positive("learned mask", "temperature", temperature)?;
        Ok(Self::without_rows(Kind::SetTemperature { temperature }))
    }

    /// Visits part `index` of a composition: every part draws noise of its own.
    pub fn part(&mut self, index: usize, visit: impl FnOnce(&mut Self)) {
        let kind = self.kind;
        if let Kind::ResampleNoise { seed } = &mut self.kind {
            *seed = child_seed(*seed, index as u64);
        }
        visit(self);
        if let Kind::ResampleNoise { .. } = kind {
            self.kind = kind;
        }
    }

    /// Whether the task brings rows along.
    pub fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// Replaces the chunks of rows by what `f` makes of them, for compositions that do more than apply layers.
    pub fn map_rows(&mut self, f: impl FnOnce(Vec<Tensor<B, 2>>) -> Vec<Tensor<B, 2>>) {
        if let Some(rows) = &mut self.rows {
            rows.chunks = f(std::mem::take(&mut rows.chunks));
        }
    }

    /// Visits what stands behind a map of the context, with each chunk of the context mapped.
    pub fn with_contexts(
        &mut self,
        map: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>,
        visit: impl FnOnce(&mut Self),
    ) {
        let swap = |visit: &mut Self, contexts| match &mut visit.rows {
            Some(rows) => std::mem::replace(&mut rows.contexts, contexts),
            None => None,
        };
        let before = swap(self, None);
        let mapped = before.clone().map(|all| all.into_iter().map(map).collect());
        swap(self, mapped);
        visit(self);
        swap(self, before);
    }

    /// The rows where the visit has taken them, in chunks.
    pub fn into_rows(self) -> Vec<Tensor<B, 2>> {
        self.rows.map(|rows| rows.chunks).unwrap_or_default()
    }

    /// What a layer is asked to do, on which the rows arrive at this end.
    pub(crate) fn task(&mut self, at: End) -> Task<'_, B> {
        let chunks = self.rows.as_ref().map_or(&[][..], |rows| &rows.chunks);
        let arriving = Arriving { chunks, at };
        match &mut self.kind {
            Kind::InitFromData => Task::InitFromData(arriving),
            Kind::UpdateStatistics => Task::UpdateStatistics(arriving),
            Kind::FreezeStatistics => Task::FreezeStatistics(arriving),
            Kind::FindStatistics { found } => Task::FindStatistics(found),
            Kind::ResampleNoise { seed } => Task::ResampleNoise(*seed),
            Kind::SetTemperature { temperature } => Task::SetTemperature(*temperature),
        }
    }

    /// Takes the rows to the other end of a layer.
    pub(crate) fn take_rows_through(
        &mut self,
        context_dim: usize,
        map: impl Fn(Tensor<B, 2>, Option<Tensor<B, 2>>) -> Tensor<B, 2>,
    ) {
        let Some(Rows { chunks, contexts }) = &mut self.rows else {
            return;
        };
        let contexts = contexts.as_ref().filter(|_| context_dim > 0);
        for (k, chunk) in chunks.iter_mut().enumerate() {
            *chunk = map(chunk.clone(), contexts.map(|c| c[k].clone()));
        }
    }
}

/// Whether a layer in a composition keeps running statistics, which a training loop then has to update.
///
/// `visit` hands the visit to the composition: `has_statistics(|visit| flow.visit_layers(visit))`.
pub fn has_statistics<B: Backend>(visit: impl FnOnce(&mut LayerVisit<B>)) -> bool {
    let mut asked = LayerVisit::without_rows(Kind::FindStatistics { found: false });
    visit(&mut asked);
    matches!(asked.kind, Kind::FindStatistics { found: true })
}

/// The seed of the `index`-th part of something seeded, by one round of SplitMix64.
pub(crate) fn child_seed(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
