//! Fixed functions of each column, which take bounded and positive variables to the reals and back.

use burn::module::Module;
use burn::tensor::{Tensor, TensorCreationOptions, activation, backend::Backend};
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::bijector::{Bijector, Invert, Mapped, assert_ok};
use crate::domain::{Interval, check_inside};
use crate::error::{Error, fits_f32};
use crate::magnitude::magnitude;
use crate::masks::inverse_permutation;
use crate::nn::pick;
use crate::softplus::softplus;
use crate::transforms::Elementwise;
use crate::transforms::hyperbolic::{arcsinh, log_cosh, sinh};

/// The name used in error messages.
const NAME: &str = "elementwise map";

/// A monotone function of one variable without parameters to train.
///
/// | name | `y` | from | to |
/// |---|---|---|---|
/// | `identity` | `x` | reals | reals |
/// | `sigmoid`, `logit` | `1 / (1 + e^-x)`, its inverse | reals, (0, 1) | (0, 1), reals |
/// | `softplus`, `inverse_softplus` | `ln(1 + e^x)`, its inverse | reals, positive | positive, reals |
/// | `exp`, `log` | `e^x`, `ln x` | reals, positive | positive, reals |
/// | `tanh`, `arctanh` | | reals, (-1, 1) | (-1, 1), reals |
/// | `sinh`, `arcsinh` | | reals | reals |
/// | `power` | `x^exponent` | positive | positive |
/// | `affine` | `scale x + shift` | reals | reals |
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum UnivariateMap {
    /// `x`.
    #[default]
    Identity,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `ln x - ln(1 - x)`.
    Logit,
    /// `ln(1 + e^x)`.
    Softplus,
    /// `ln(e^x - 1)`.
    InverseSoftplus,
    /// `e^x`.
    Exp,
    /// `ln x`.
    Log,
    /// `tanh x`.
    Tanh,
    /// `(ln(1 + x) - ln(1 - x)) / 2`.
    Arctanh,
    /// `sinh x`.
    Sinh,
    /// `ln(x + sqrt(x^2 + 1))`.
    Arcsinh,
    /// `x^exponent`.
    Power {
        /// Not 0.
        exponent: f64,
    },
    /// `scale x + shift`.
    Affine {
        /// Not 0.
        scale: f64,
        /// Any number.
        shift: f64,
    },
}

crate::one_key!(UnivariateMap);

impl UnivariateMap {
    /// The function that undoes this one.
    pub fn inverse(self) -> Self {
        match self {
            Self::Identity => Self::Identity,
            Self::Sigmoid => Self::Logit,
            Self::Logit => Self::Sigmoid,
            Self::Softplus => Self::InverseSoftplus,
            Self::InverseSoftplus => Self::Softplus,
            Self::Exp => Self::Log,
            Self::Log => Self::Exp,
            Self::Tanh => Self::Arctanh,
            Self::Arctanh => Self::Tanh,
            Self::Sinh => Self::Arcsinh,
            Self::Arcsinh => Self::Sinh,
            Self::Power { exponent } => Self::Power {
                exponent: exponent.recip(),
            },
            Self::Affine { scale, shift } => Self::Affine {
                scale: scale.recip(),
                shift: -shift / scale,
            },
        }
    }

    /// Where it takes numbers.
    pub fn domain(self) -> Interval {
        match self {
            Self::Logit => Interval::UNIT,
            Self::InverseSoftplus | Self::Log | Self::Power { .. } => Interval::POSITIVE,
            Self::Arctanh => Interval::SYMMETRIC,
            _ => Interval::REALS,
        }
    }

    /// Its value at a number, whose ends of the domain may be included.
    pub fn at(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Logit => x.ln() - (-x).ln_1p(),
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::InverseSoftplus if x == f64::INFINITY => x,
            Self::InverseSoftplus => x + (-(-x).exp_m1()).ln(),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Tanh => x.tanh(),
            Self::Arctanh => x.atanh(),
            Self::Sinh => x.sinh(),
            Self::Arcsinh if x.is_infinite() => x,
            Self::Arcsinh => x.asinh(),
            Self::Power { exponent } => x.powf(exponent),
            Self::Affine { scale, shift } => scale * x + shift,
        }
    }

    /// Value and log-slope, in forms that neither overflow nor cancel.
    fn map<B: Backend>(self, x: Tensor<B, 2>) -> Elementwise<B> {
        let ln_2 = std::f64::consts::LN_2;
        let of = |value, log_slope| Elementwise { value, log_slope };
        match self {
            Self::Identity => of(x.clone(), x.zeros_like()),
            Self::Sigmoid => {
                let log_value = softplus(x.clone().neg()).neg();
                of(log_value.clone().exp(), log_value - softplus(x))
            }
            Self::Logit => {
                let (low, high) = (x.clone().log(), x.neg().log1p());
                of(low.clone() - high.clone(), (low + high).neg())
            }
            Self::Softplus => of(softplus(x.clone()), softplus(x.neg()).neg()),
            Self::InverseSoftplus => {
                // `e^x - 1 = 2 sinh(x / 2) e^(x / 2)`, and for large x `e^x (1 - e^-x)`.
                let large = x.clone().detach().greater_elem(1.0);
                let (small, big) = (x.clone().clamp_max(1.0), x.clone().clamp_min(1.0));
                let near = small.clone() * 0.5 + (sinh(small * 0.5) * 2.0).log();
                let value = near.mask_where(large, big.clone() + big.neg().exp().neg().log1p());
                of(value.clone(), softplus(value.neg()))
            }
            Self::Exp => of(x.clone().exp(), x),
            Self::Log => {
                let value = x.log();
                of(value.clone(), value.neg())
            }
            Self::Tanh => {
                let size = magnitude(x.clone());
                of(
                    activation::tanh(x),
                    (size.clone() + softplus(size * -2.0) - ln_2) * -2.0,
                )
            }
            Self::Arctanh => {
                let (low, high) = (x.clone().log1p(), x.neg().log1p());
                of((low.clone() - high.clone()) * 0.5, (low + high).neg())
            }
            Self::Sinh => of(sinh(x.clone()), log_cosh(x)),
            Self::Arcsinh => {
                let value = arcsinh(x);
                of(value.clone(), log_cosh(value).neg())
            }
            Self::Power { exponent } => {
                let log = x.log();
                let slope = log.clone() * (exponent - 1.0) + exponent.abs().ln();
                of((log * exponent).exp(), slope)
            }
            Self::Affine { scale, shift } => {
                let slope = x.zeros_like() + scale.abs().ln();
                of(x * scale + shift, slope)
            }
        }
    }

    fn check(self) -> Result<(), Error> {
        let numbers = match self {
            Self::Power { exponent } => vec![("exponent", exponent, exponent != 0.0)],
            Self::Affine { scale, shift } => {
                vec![("scale", scale, scale != 0.0), ("shift", shift, true)]
            }
            _ => Vec::new(),
        };
        match numbers.into_iter().find(|(_, v, ok)| !ok || !fits_f32(*v)) {
            None => Ok(()),
            Some((field, value, _)) => {
                let expected = "a finite number other than 0";
                Err(Error::config(NAME, field, value, expected))
            }
        }
    }
}

/// Configuration of an [`ElementwiseMap`].
///
/// ```
/// use flows_core::bijectors::{ElementwiseMapConfig, UnivariateMap};
///
/// // A share between 0 and 1, a positive amount, and a number of any size, to the reals.
/// let maps = vec![UnivariateMap::Logit, UnivariateMap::Log, UnivariateMap::Arcsinh];
/// assert_eq!(ElementwiseMapConfig::new(maps).maps.len(), 3);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ElementwiseMapConfig {
    /// The function of each column.
    pub maps: Vec<UnivariateMap>,
}

impl ElementwiseMapConfig {
    /// One function a column.
    pub fn new(maps: Vec<UnivariateMap>) -> Self {
        Self { maps }
    }

    /// Builds the layer, which has no parameters: nothing is drawn.
    ///
    /// # Errors
    /// [`Error::Config`] without columns, and for an exponent or a scale of 0 or out of range.
    pub fn init<B: Backend>(
        &self,
        _options: impl Into<TensorCreationOptions<B>>,
        _rng: &mut dyn Rng,
    ) -> Result<ElementwiseMap, Error> {
        if self.maps.is_empty() {
            return Err(Error::config(NAME, "maps", "[]", "one a column"));
        }
        self.maps.iter().try_for_each(|map| map.check())?;
        Ok(ElementwiseMap {
            maps: self.maps.clone(),
        })
    }
}

/// `y_i = f_i(x_i)` with a fixed function for each column, `log |det dy/dx| = sum_i ln |f_i'(x_i)|`.
///
/// A column outside of the domain of its function gives NaN; a [`Flow`](crate::flow::Flow) gives such rows the
/// log-density minus infinity.
#[derive(Module, Debug, Clone)]
pub struct ElementwiseMap {
    #[module(skip)]
    maps: Vec<UnivariateMap>,
}

impl ElementwiseMap {
    /// The columns of each function that occurs, one call for each.
    fn map<B: Backend>(&self, maps: &[UnivariateMap], x: Tensor<B, 2>) -> Mapped<B> {
        let mut groups: Vec<(UnivariateMap, Vec<usize>)> = Vec::new();
        for (column, map) in maps.iter().enumerate() {
            match groups.iter_mut().find(|(of, _)| of == map) {
                Some((_, columns)) => columns.push(column),
                None => groups.push((*map, vec![column])),
            }
        }
        if let [(map, _)] = groups[..] {
            return map.map(x).into_mapped();
        }
        let order: Vec<usize> = groups.iter().flat_map(|(_, c)| c.clone()).collect();
        let mapped = groups
            .iter()
            .map(|(map, columns)| map.map(pick(x.clone(), columns)));
        let (values, slopes) = mapped.map(|m| (m.value, m.log_slope)).unzip();
        Mapped {
            value: pick(Tensor::cat(values, 1), &inverse_permutation(&order)),
            log_det: Tensor::cat(slopes, 1).sum_dim(1).squeeze_dim(1),
        }
    }

    fn inverses(&self) -> Vec<UnivariateMap> {
        self.maps.iter().map(|map| map.inverse()).collect()
    }
}

fn image(maps: &[UnivariateMap], of: &[Interval]) -> Result<Vec<Interval>, Error> {
    let domains: Vec<Interval> = maps.iter().map(|map| map.domain()).collect();
    check_inside(NAME, of, &domains)?;
    let ends = maps.iter().zip(of);
    Ok(ends.map(|(map, of)| of.through(|x| map.at(x))).collect())
}

impl<B: Backend> Bijector<B> for ElementwiseMap {
    fn name(&self) -> &'static str {
        NAME
    }

    fn dim(&self) -> usize {
        self.maps.len()
    }

    fn domain(&self) -> Vec<Interval> {
        self.maps.iter().map(|map| map.domain()).collect()
    }

    fn image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        image(&self.maps, of)
    }

    fn forward_and_log_det(&self, x: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&x, context.as_ref()));
        self.map(&self.maps, x)
    }
}

impl<B: Backend> Invert<B> for ElementwiseMap {
    fn inverse_domain(&self) -> Vec<Interval> {
        self.inverses().iter().map(|map| map.domain()).collect()
    }

    fn inverse_image(&self, of: &[Interval]) -> Result<Vec<Interval>, Error> {
        image(&self.inverses(), of)
    }

    fn inverse_and_log_det(&self, y: Tensor<B, 2>, context: Option<Tensor<B, 2>>) -> Mapped<B> {
        assert_ok(self.check(&y, context.as_ref()));
        self.map(&self.inverses(), y)
    }
}
