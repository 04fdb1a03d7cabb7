//! A transform of each variable, with parameters that a conditioner computes from the variables it may see.

use core::marker::PhantomData;
use std::any::Any;

use burn::module::Module;
use burn::tensor::TensorCreationOptions;
use burn::tensor::{Tensor, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::jacobi::jacobi;
use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::conditioners::{
    AnyConditioner, Conditioner, Coupling as CouplingConditioner, Periodic, Shared, Soft,
    SoftNetwork, SoftStart,
};
use crate::domain::{Interval, check_inside, reals_to_reals};
use crate::error::Error;
use crate::fused::{self, Map, Masked, Part};
use crate::masks::{DependencyMask, MadeLayout, MaskConfig, Untouched};
use crate::nn::{
    ConditionerActivation, Connections, Encoding, Made, MadeConfig, MlpConfig, SharedNetworkConfig,
    sort, unsort,
};
use crate::transforms::{Affine, AnyTransform, Elementwise, Transform};
use crate::visit::Task;

/// How the sequential direction is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum AutoregressiveInverse {
    /// Level by level, each hidden unit once: exact, for the work of one forward pass.
    #[default]
    Incremental,
    /// Whole passes `x <- f^-1(y; theta(x))` from `x = y`, each row until its largest change is at most
    /// `tolerance`, and never more than the mask has levels: then it is exact.
    ///
    /// Gradients are those of the iteration, so they carry an error of the order of the tolerance.
    /// (Song et al., arXiv:2002.03629, section 3.)
    Jacobi {
        /// Largest change of a finished row.
        tolerance: f64,
    },
}

crate::one_key!(AutoregressiveInverse);

impl AutoregressiveInverse {
    /// Checks the tolerance.
    ///
    /// # Errors
    /// [`Error::Config`] where it is no number or negative, for `layer`.
    pub fn validate(&self, layer: &'static str) -> Result<(), Error> {
        match *self {
            Self::Jacobi { tolerance } if !(tolerance >= 0.0 && tolerance.is_finite()) => {
                let expected = "a finite number, at least 0";
                Err(Error::config(layer, "tolerance", tolerance, expected))
            }
            _ => Ok(()),
        }
    }
}

/// By which network each variable's parameters are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum ConditionerConfig {
    /// One masked network for all variables ([`Made`]).
    #[default]
    Masked,
    /// The variables that all others see are left as they are, and a plain network reads them
    /// ([`Coupling`](crate::conditioners::Coupling)). The mask has to be `coupling`.
    Coupling,
    /// One network that is asked for each variable in turn ([`Shared`]).
    Shared {
        /// How the network is told which variable is asked for.
        #[serde(default)]
        encoding: Encoding,
    },
    /// A network that is asked for each variable in turn, with a mask that is learned within the order of an
    /// `autoregressive` mask ([`Soft`]).
    Soft {
        /// Where the mask starts.
        #[serde(default)]
        start: SoftStart,
        /// How the network is told which variable is asked for.
        #[serde(default)]
        encoding: Encoding,
    },
    /// A masked network whose hidden units are dealt to the variables, with a mask that is learned within the order of
    /// an `autoregressive` mask: one pass where `soft` takes one for each variable ([`Soft`]).
    SoftMasked {
        /// Where the mask starts.
        #[serde(default)]
        start: SoftStart,
    },
}

crate::one_key!(ConditionerConfig);

/// Configuration of an [`Autoregressive`] layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoregressiveConfig {
    /// Dimension.
    pub dim: usize,
    /// Widths of the hidden layers of the conditioner; none makes it linear.
    pub hidden: Vec<usize>,
    /// The map of each variable.
    #[serde(default)]
    pub transform: AnyTransform,
    /// Which variables the parameters of each variable may see.
    #[serde(default)]
    pub mask: MaskConfig,
    /// By which network the parameters are computed.
    #[serde(default)]
    pub conditioner: ConditionerConfig,
    /// Activation of the network.
    #[serde(default)]
    pub activation: ConditionerActivation,
    /// Plain layers or residual blocks.
    #[serde(default)]
    pub connections: Connections,
    /// Columns of the context, 0 for none.
    #[serde(default)]
    pub context_dim: usize,
    /// How the sequential direction is computed.
    #[serde(default)]
    pub inverse: AutoregressiveInverse,
}

impl AutoregressiveConfig {
    /// An affine map of each variable with parameters from a masked network in natural order: plain rectified linear
    /// layers, no context.
    pub fn new(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            dim,
            hidden,
            transform: AnyTransform::default(),
            mask: MaskConfig::default(),
            conditioner: ConditionerConfig::default(),
            activation: ConditionerActivation::default(),
            connections: Connections::default(),
            context_dim: 0,
            inverse: AutoregressiveInverse::default(),
        }
    }

    /// A coupling that leaves some variables as they are.
    pub fn coupling(dim: usize, hidden: Vec<usize>, untouched: Untouched) -> Self {
        Self {
            mask: MaskConfig::Coupling(untouched),
            conditioner: ConditionerConfig::Coupling,
            ..Self::new(dim, hidden)
        }
    }

    /// A layer that learns its mask, with a network that is asked for each variable in turn.
    pub fn soft(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            conditioner: ConditionerConfig::Soft {
                start: SoftStart::default(),
                encoding: Encoding::default(),
            },
            ..Self::new(dim, hidden)
        }
    }

    /// A layer with a network that is asked for each variable in turn.
    pub fn shared(dim: usize, hidden: Vec<usize>) -> Self {
        Self {
            conditioner: ConditionerConfig::Shared {
                encoding: Encoding::default(),
            },
            ..Self::new(dim, hidden)
        }
    }

    /// Draws a layer near the identity.
    ///
    /// # Errors
    /// [`Error::Config`] for fields out of range or that do not go together, [`Error::Cycle`] for a cyclic mask.
    pub fn init<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<AnyAutoregressive<B>, Error> {
        let options = &options.into();
        Transform::<B>::validate(&self.transform, NAME)?;
        let start = Transform::<B>::identity(&self.transform);
        if Transform::<B>::period(&self.transform).is_some()
            && self.dim > 1
            && self.conditioner != ConditionerConfig::Coupling
        {
            let expected = "coupling, whose network reads angles by cosine and sine";
            let actual = format!("{:?}", self.conditioner);
            return Err(Error::config(NAME, "conditioner", actual, expected));
        }
        let conditioner = match self.conditioner {
            ConditionerConfig::Masked => AnyConditioner::Masked(self.made(&start, options, rng)?),
            ConditionerConfig::Coupling => self.coupled(&start, options, rng)?,
            ConditionerConfig::Shared { encoding } => {
                let network = self
                    .shared_network(encoding, start.len())
                    .init(options.clone(), rng)?;
                let network = network.shift_output_bias(&start);
                AnyConditioner::Shared(Shared::new(network, self.mask.build(self.dim)?)?)
            }
            ConditionerConfig::Soft { .. } | ConditionerConfig::SoftMasked { .. } => {
                AnyConditioner::Soft(self.learned(options, rng)?)
            }
        };
        Autoregressive::new(conditioner, self.transform.clone(), self.inverse)
    }

    /// Draws a layer with a learned mask, as [`init`](Self::init), with that in its type.
    ///
    /// # Errors
    /// As [`init`](Self::init), and [`Error::Config`] where the configuration names another conditioner.
    pub fn init_soft<B: Backend>(
        &self,
        options: impl Into<TensorCreationOptions<B>>,
        rng: &mut dyn Rng,
    ) -> Result<Autoregressive<B, Soft<B>, AnyTransform>, Error> {
        Transform::<B>::validate(&self.transform, NAME)?;
        let conditioner = self.learned(&options.into(), rng)?;
        Autoregressive::new(conditioner, self.transform.clone(), self.inverse)
    }

    fn made<B: Backend>(
        &self,
        start: &[f64],
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<Made<B>, Error> {
        let network = self.made_config(start.len());
        Ok(network.init(options.clone(), rng)?.shift_output_bias(start))
    }

    fn made_config(&self, parameters: usize) -> MadeConfig {
        MadeConfig {
            mask: self.mask.clone(),
            parameters,
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..MadeConfig::new(self.dim, self.hidden.clone())
        }
    }

    fn shared_network(&self, encoding: Encoding, parameters: usize) -> SharedNetworkConfig {
        SharedNetworkConfig {
            parameters,
            encoding,
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..SharedNetworkConfig::new(self.dim, self.hidden.clone())
        }
    }

    fn coupled<B: Backend>(
        &self,
        start: &[f64],
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<AnyConditioner<B>, Error> {
        let MaskConfig::Coupling(untouched) = &self.mask else {
            let expected = "coupling, for a coupling";
            return Err(Error::config(
                NAME,
                "mask",
                format!("{:?}", self.mask),
                expected,
            ));
        };
        if self.inverse != AutoregressiveInverse::Incremental {
            let expected = "incremental, for a coupling: both directions take one pass";
            return Err(Error::config(NAME, "inverse", "jacobi", expected));
        }
        let seen = untouched.variables(self.dim)?.len();
        let moved = self.dim - seen;
        let period = Transform::<B>::period(&self.transform);
        let inputs = if period.is_some() { 2 * seen } else { seen };
        let network = MlpConfig {
            activation: self.activation,
            connections: self.connections,
            context_dim: self.context_dim,
            ..MlpConfig::new(inputs, self.hidden.clone(), start.len() * moved)
        };
        let offsets = start.iter().flat_map(|&o| vec![o; moved]).collect();
        let network = network
            .init(options.clone(), rng)?
            .shift_output_bias(offsets);
        Ok(match period {
            None => {
                AnyConditioner::Coupling(CouplingConditioner::new(network, self.dim, untouched)?)
            }
            Some(period) => {
                AnyConditioner::Periodic(Periodic::new(network, self.dim, untouched, period)?)
            }
        })
    }

    fn learned<B: Backend>(
        &self,
        options: &TensorCreationOptions<B>,
        rng: &mut dyn Rng,
    ) -> Result<Soft<B>, Error> {
        let identity = Transform::<B>::identity(&self.transform);
        let MaskConfig::Autoregressive(_) = self.mask else {
            let expected = "autoregressive, for a mask that is learned";
            return Err(Error::config(
                NAME,
                "mask",
                format!("{:?}", self.mask),
                expected,
            ));
        };
        let triangle = self.mask.build(self.dim)?;
        match self.conditioner {
            ConditionerConfig::SoftMasked { start } => {
                let layout = MadeLayout::dealt(triangle.clone(), &self.hidden)?;
                let network = self.made_config(identity.len());
                let network = network.init_with(layout, options.clone(), rng)?;
                let network = SoftNetwork::Masked(network.shift_output_bias(&identity));
                Soft::new(network, triangle, start)
            }
            ConditionerConfig::Soft { start, encoding } => {
                let network = self.shared_network(encoding, identity.len());
                let network = network.init(options.clone(), rng)?;
                let network = SoftNetwork::Shared(network.shift_output_bias(&identity));
                Soft::new(network, triangle, start)
            }
            other => {
                let found = format!("{other:?}");
                Err(Error::config(
                    NAME,
                    "conditioner",
                    found,
                    "soft or soft_masked",
                ))
            }
        }
    }
}

const NAME: &str = "autoregressive";

/// `y_i = f(x_i; theta_i)` with a [`Transform`] `f` and parameters `theta_i` that a [`Conditioner`] computes from the
/// variables that a mask lets `i` see.
///
/// With the mask in topological order the Jacobian is triangular: `log|det J| = sum_i log f'(x_i; theta_i)`.
/// Forward computes all parameters at once. The inverse needs `x_j` before it can compute the parameters of those that
/// see `x_j`; it is sequential in the levels of the mask, and yet costs no more than one pass
/// ([`AutoregressiveInverse::Incremental`]).
///
/// As the layer of a flow from data to base, with an affine transform and a masked network, this is MAF (Papamakarios
/// et al., arXiv:1705.07057, eq. 3 and 4): `log_prob` is the fast direction. From base to data it is IAF (Kingma et
/// al., arXiv:1606.04934, section 3): sampling is the fast direction. With a coupling it is RealNVP (Dinh et al.,
/// arXiv:1605.08803, eq. 7 and 8), and NICE without a scale (arXiv:1410.8516, eq. 5).
#[derive(Module, Debug)]
pub struct Autoregressive<B: Backend, C, T> {
    conditioner: C,
    transform: T,
    #[module(skip)]
    inverse: AutoregressiveInverse,
    backend: PhantomData<B>,
}

/// An autoregressive layer of any kind, as a configuration builds it.
pub type AnyAutoregressive<B> = Autoregressive<B, AnyConditioner<B>, AnyTransform>;

/// A layer whose conditioner reads the variables that stay as they are, and moves the others.
pub type Coupling<B, T> = Autoregressive<B, CouplingConditioner<B>, T>;

impl<B: Backend, C: Conditioner<B>, T: Transform<B>> Autoregressive<B, C, T> {
    /// A layer of its parts.
    ///
    /// # Errors
    /// [`Error::Config`] where the conditioner has another number of parameters than the transform, for a
    /// tolerance that is not finite, and as [`Transform::validate`].
    pub fn new(
        conditioner: C,
        transform: T,
        inverse: AutoregressiveInverse,
    ) -> Result<Self, Error> {
        let name = conditioner.name();
        transform.validate(name)?;
        inverse.validate(name)?;
        let (actual, expected) = (conditioner.parameters(), transform.parameters());
        if actual != expected {
            return Err(Error::config(
                name,
                "parameters",
                actual,
                expected.to_string(),
            ));
        }
        Ok(Self {
            conditioner,
            transform,
            inverse,
            backend: PhantomData,
        })
    }

    /// Which variables the parameters of each variable may see.
    pub fn mask(&self) -> &DependencyMask {
        self.conditioner.mask()
    }

    /// What computes the parameters.
    pub fn conditioner(&self) -> &C {
        &self.conditioner
    }

    /// What computes the parameters, to anneal it.
    pub fn conditioner_mut(&mut self) -> &mut C {
        &mut self.conditioner
    }

    /// The map of each variable.
    pub fn transform(&self) -> &T {
        &self.transform
    }

    /// The map of some variables with raw parameters `[batch, parameters * k]`.
    fn map(&self, direction: Direction, raw: Tensor<B, 2>, x: Tensor<B, 2>) -> Elementwise<B> {
        let [rows, k] = x.dims();
        let raw = raw.reshape([rows, self.transform.parameters(), k]);
        match direction {
            Direction::Forward => self.transform.forward(raw, x),
            Direction::Inverse => self.transform.inverse(raw, x),
        }
    }

    /// Either direction where some variables are left as they are: all others depend on these alone.
    fn beside_untouched(
        &self,
        direction: Direction,
        x: Tensor<B, 2>,
        context: Option<&Tensor<B, 2>>,
    ) -> Mapped<B> {
        let ([rows, dim], order) = (x.dims(), self.conditioner.order());
        let untouched = self.conditioner.untouched();
        let x = sort(x, &order);
        let seen = x.clone().slice([0..rows, 0..untouched]);
        let raw = self.conditioner.all(seen.clone(), context);
        let moved = x.slice([0..rows, untouched..dim]);
        let moved = self.map(direction, raw, moved).into_mapped();
        Mapped {
            value: unsort(Tensor::cat(vec![seen, moved.value], 1), &order),
            log_det: moved.log_det,
        }
    }

    /// The masked network, if that is what computes the parameters.
    fn masked_network(&self) -> Option<&Made<B>> {
        let conditioner: &dyn Any = &self.conditioner;
        match conditioner.downcast_ref() {
            Some(AnyConditioner::Masked(made)) => Some(made),
            _ => conditioner.downcast_ref(),
        }
    }

    /// The conditioner, if this is a coupling.
    fn coupling(&self) -> Option<&CouplingConditioner<B>> {
        let conditioner: &dyn Any = &self.conditioner;
        match conditioner.downcast_ref() {
            Some(AnyConditioner::Coupling(coupling)) => Some(coupling),
            _ => conditioner.downcast_ref(),
        }
    }

    /// What the kernels read of this layer, if there may be one for it: an affine map or a spline, by a masked network
    /// or in a coupling.
    pub(crate) fn masked<'a>(&'a self, context: Option<&'a Tensor<B, 2>>) -> Option<Masked<'a, B>> {
        let transform: &dyn Any = &self.transform;
        let affine = |affine: &Affine| Map::Affine(affine.scale);
        let map = match transform.downcast_ref() {
            Some(AnyTransform::Affine(transform)) => affine(transform),
            Some(AnyTransform::RqSpline(spline)) => Map::Spline(spline),
            Some(_) => return None,
            None => match transform.downcast_ref() {
                Some(transform) => affine(transform),
                None => Map::Spline(transform.downcast_ref()?),
            },
        };
        if let Some(made) = self.masked_network() {
            return Some(Masked {
                network: made.network(),
                patterns: made.patterns(),
                coupling: None,
                map,
                context,
            });
        }
        let coupling = self.coupling()?;
        Some(Masked {
            network: coupling.network(),
            patterns: coupling.patterns(),
            coupling: Some(fused::Untouched {
                count: self.conditioner.untouched(),
                order: coupling.sorted(),
            }),
            map,
            context,
        })
    }

    fn incremental(&self, y: Tensor<B, 2>, context: Option<&Tensor<B, 2>>) -> Mapped<B> {
        let order = self.conditioner.order();
        let rows = y.dims()[0];
        let y = sort(y, &order);
        let kernel = self.masked_network().zip(self.masked(context));
        let kernel = kernel.and_then(|(made, own)| fused::incremental_inverse(made, own, &y));
        if let Some(sorted) = kernel {
            let value = unsort(sorted.value, &order);
            return Mapped { value, ..sorted };
        }
        let mut levels = self.conditioner.by_level(&y, context);
        let mut log_det: Option<Tensor<B, 1>> = None;
        for own in self.mask().level_ranges() {
            let own = y.clone().slice([0..rows, own]);
            let mapped = self.map(Direction::Inverse, levels.parameters(), own);
            let mapped = mapped.into_mapped();
            levels.reveal(mapped.value);
            log_det = Some(match log_det {
                Some(sum) => sum + mapped.log_det,
                None => mapped.log_det,
            });
        }
        Mapped {
            value: unsort(levels.known(), &order),
            log_det: log_det.expect("a mask has at least one level"),
        }
    }

    fn invert(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> (Mapped<B>, usize) {
        assert_ok(self.check(&y, context.as_ref()));
        if self.conditioner.untouched() > 0 {
            let kernel = self.masked(context.as_ref());
            let mapped = kernel
                .and_then(|own| fused::coupling_inverse(own, &y))
                .unwrap_or_else(|| self.beside_untouched(Direction::Inverse, y, context.as_ref()));
            return (mapped, 1);
        }
        match self.inverse {
            AutoregressiveInverse::Incremental => (self.incremental(y, context.as_ref()), 1),
            AutoregressiveInverse::Jacobi { tolerance } => {
                let depth = self.mask().depth();
                jacobi(y, context, depth, tolerance, |x, y, context| {
                    let raw = self.conditioner.all(x, context);
                    self.map(Direction::Inverse, raw, y).into_mapped()
                })
            }
        }
    }
}

impl<B: Backend, T: Transform<B>> Autoregressive<B, Soft<B>, T> {
    /// The layer with the mask of [`Soft::threshold`] and the same network and transform, to be trained on: an entry
    /// that was not 0 or 1 before has changed.
    ///
    /// # Errors
    /// As [`Soft::threshold`].
    pub fn harden(&self, level: f64) -> Result<Autoregressive<B, AnyConditioner<B>, T>, Error> {
        let conditioner = self.conditioner.harden(level)?;
        Autoregressive::new(conditioner, self.transform.clone(), self.inverse)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Inverse,
}

impl<B: Backend, C: Conditioner<B>, T: Transform<B>> Bijector<B> for Autoregressive<B, C, T> {
    fn name(&self) -> &'static str {
        self.conditioner.name()
    }

    fn dim(&self) -> usize {
        self.mask().dim()
    }

    fn context_dim(&self) -> usize {
        self.conditioner.context_dim()
    }

    fn domain(&self) -> Vec<Interval> {
        vec![self.transform.domain(); self.dim()]
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        if self.transform.domain() == Interval::REALS {
            return reals_to_reals(self.name(), of);
        }
        // Onto itself, so what lies inside may come to lie anywhere in it.
        check_inside(self.name(), of, &self.domain())?;
        Ok(self.domain())
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        let context = context.as_ref();
        let part = self.masked(context).map(Part::Masked);
        if let Some((mapped, _)) = fused::run([part].into_iter(), &x) {
            return mapped;
        }
        if self.conditioner.untouched() > 0 {
            return self.beside_untouched(Direction::Forward, x, context);
        }
        let raw = self.conditioner.all(x.clone(), context);
        self.map(Direction::Forward, raw, x).into_mapped()
    }

    fn adapt(&mut self, task: Task<'_, B>) {
        self.conditioner.adapt(task);
    }
}

impl<B: Backend, C: Conditioner<B>, T: Transform<B>> Invert<B> for Autoregressive<B, C, T> {
    fn inverse_domain(&self) -> Vec<Interval> {
        self.domain()
    }

    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        self.image(of)
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        self.invert(y, context).0
    }

    fn inverse_and_passes(
        &self,
        y: Tensor<B, 2>,
        context: Option<Tensor<B, 2>>,
    ) -> (Mapped<B>, usize) {
        self.invert(y, context)
    }
}
