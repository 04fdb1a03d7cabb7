//! Rational-quadratic splines: neural spline flows.

use burn::module::Module;
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::simplex::softmax;
use super::transform::{Elementwise, Transform, parameter_block};
use crate::error::Error;
use crate::magnitude::magnitude;
use crate::softplus::{softplus, softplus_inverse};
use crate::solve::with_implicit_gradient;
use crate::solve::without_graph;

/// How widths, heights and slopes of a spline come from raw numbers.
///
/// With all widths equal, all heights equal and all slopes 1 a spline is the identity: a new layer starts there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum SplineForm {
    /// Of the interval's length, `min + (1 - bins min) softmax(raw)` for widths and heights; slopes
    /// `min_slope + softplus(raw)` inside and 1 at both ends: the paper's, nflows' and normflows'.
    Softplus {
        /// Least width of a bin, as a fraction of the interval.
        #[serde(default = "thousandth")]
        min_width: f64,
        /// Least height of a bin, as a fraction of the interval.
        #[serde(default = "thousandth")]
        min_height: f64,
        /// Least slope at a knot.
        #[serde(default = "thousandth")]
        min_slope: f64,
    },
    /// With `clip(r, b) = r / (1 + |r / b|)` and `b = -log min_slope`, fractions `softmax(clip(raw, b / 2))` for widths
    /// and heights; slopes `exp(clip(raw, b))` inside and 1 at both ends: zuko's.
    SoftClip {
        /// Least slope at a knot; the largest is its reciprocal.
        #[serde(default = "thousandth")]
        min_slope: f64,
    },
    /// As [`SplineForm::Softplus`], with slopes at both ends that are free, so that the slope jumps to 1 at the bound:
    /// flowjax's.
    FreeEnds {
        /// Least width and height of a bin, as a length.
        #[serde(default = "thousandth")]
        min_width: f64,
        /// Least slope at a knot.
        #[serde(default = "thousandth")]
        min_slope: f64,
    },
}

crate::one_key!(SplineForm);

fn thousandth() -> f64 {
    1e-3
}

impl Default for SplineForm {
    fn default() -> Self {
        Self::Softplus {
            min_width: thousandth(),
            min_height: thousandth(),
            min_slope: thousandth(),
        }
    }
}

/// A monotone rational-quadratic spline on `[-bound, bound]`, the identity outside.
///
/// With knots `(x_k, y_k)` and slopes `d_k > 0`, in the bin of `x`, with `w = x_{k+1} - x_k`, `h = y_{k+1} - y_k`,
/// `s = h / w` and `u = (x - x_k) / w`:
///
/// ```text
/// y     = y_k + h (s u^2 + d_k u (1 - u)) / (s + (d_{k+1} + d_k - 2 s) u (1 - u))
/// dy/dx = s^2 (d_{k+1} u^2 + 2 s u (1 - u) + d_k (1 - u)^2) / (s + (d_{k+1} + d_k - 2 s) u (1 - u))^2
/// ```
///
/// The inverse solves a quadratic equation. Durkan, Bekasov, Murray & Papamakarios, *Neural Spline Flows*,
/// arXiv:1906.04032, equations 4 to 8.
#[derive(Module, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RqSpline {
    /// Number of bins, at least 2.
    #[module(skip)]
    pub bins: usize,
    /// The interval is `[-bound, bound]`, on both axes.
    #[module(skip)]
    pub bound: f64,
    /// How the bins come from raw numbers.
    #[module(skip)]
    pub form: SplineForm,
}

impl Default for RqSpline {
    /// Eight bins on `[-5, 5]`.
    fn default() -> Self {
        Self {
            bins: 8,
            bound: 5.0,
            form: SplineForm::default(),
        }
    }
}

/// Most bins that a configuration may ask for.
const MOST_BINS: usize = 1000;

/// Largest half-length of an interval: f32 tells the knots within apart.
const LARGEST_BOUND: f64 = 1e6;

/// Checks the bins of a spline and the interval they lie in.
pub(super) fn validate_interval(layer: &'static str, bins: usize, bound: f64) -> Result<(), Error> {
    if !(2..=MOST_BINS).contains(&bins) {
        let expected = format!("2 to {MOST_BINS}");
        return Err(Error::config(layer, "bins", bins, expected));
    }
    if !(bound > 0.0 && bound <= LARGEST_BOUND) {
        let expected = format!("positive, at most {LARGEST_BOUND:e}");
        return Err(Error::config(layer, "bound", bound, expected));
    }
    Ok(())
}

/// Checks the least fraction that a bin takes of the interval.
pub(super) fn validate_fraction(
    layer: &'static str,
    field: &'static str,
    value: f64,
    bins: usize,
    length: f64,
) -> Result<(), Error> {
    let (least, most) = (1e-6 * length, length / bins as f64);
    if value >= least && value < most {
        return Ok(());
    }
    let expected = format!("at least {least:e}, and less than {most} for {bins} bins");
    Err(Error::config(layer, field, value, expected))
}

/// Checks the least slope at a knot.
pub(super) fn validate_slope(layer: &'static str, value: f64) -> Result<(), Error> {
    if (1e-6..1.0).contains(&value) {
        return Ok(());
    }
    let expected = "at least 1e-6, and less than 1";
    Err(Error::config(layer, "min_slope", value, expected))
}

/// `min + (1 - K min) softmax(raw)`: `K` fractions that sum to one.
pub(super) fn fractions<B: Backend>(raw: Tensor<B, 3>, min: f64) -> Tensor<B, 3> {
    let bins = raw.dims()[1] as f64;
    softmax(raw) * (1.0 - bins * min) + min
}

/// `r / (1 + |r / bound|)`.
fn soft_clip<B: Backend>(raw: Tensor<B, 3>, bound: f64) -> Tensor<B, 3> {
    raw.clone() / (magnitude(raw * bound.recip()) + 1.0)
}

impl RqSpline {
    /// Slopes that the conditioner gives: those inside, and with free ends these two.
    fn slopes(&self) -> usize {
        match self.form {
            SplineForm::FreeEnds { .. } => self.bins + 1,
            _ => self.bins - 1,
        }
    }

    fn knots<B: Backend>(&self, raw: &Tensor<B, 3>) -> Knots<B> {
        let bins = self.bins;
        let widths = parameter_block(raw, 0, bins);
        let heights = parameter_block(raw, bins, bins);
        let slopes = parameter_block(raw, 2 * bins, self.slopes());
        let (widths, heights, slopes) = match self.form {
            SplineForm::Softplus {
                min_width,
                min_height,
                min_slope,
            } => (
                fractions(widths, min_width),
                fractions(heights, min_height),
                between_ones(softplus(slopes) + min_slope),
            ),
            SplineForm::SoftClip { min_slope } => {
                let bound = -min_slope.ln();
                (
                    softmax(soft_clip(widths, 0.5 * bound)),
                    softmax(soft_clip(heights, 0.5 * bound)),
                    between_ones(soft_clip(slopes, bound).exp()),
                )
            }
            SplineForm::FreeEnds {
                min_width,
                min_slope,
            } => {
                let fraction = min_width / (2.0 * self.bound);
                (
                    fractions(widths, fraction),
                    fractions(heights, fraction),
                    softplus(slopes) + min_slope,
                )
            }
        };
        Knots::new(widths, heights, slopes, self.bound)
    }
}

/// The slopes at all knots where those at both ends are 1.
fn between_ones<B: Backend>(inner: Tensor<B, 3>) -> Tensor<B, 3> {
    let [rows, _, k] = inner.dims();
    let one = without_graph(inner.clone().slice([0..rows, 0..1, 0..k])).ones_like();
    Tensor::cat(vec![one.clone(), inner, one], 1)
}

/// The knots of a spline on `[-bound, bound]`, `[batch, bins + 1, k]` each.
pub(super) struct Knots<B: Backend> {
    x: Tensor<B, 3>,
    y: Tensor<B, 3>,
    slopes: Tensor<B, 3>,
    bound: f64,
}

/// The bin of each variable, `[batch, k]` each.
struct Bin<B: Backend> {
    left: Tensor<B, 2>,
    width: Tensor<B, 2>,
    bottom: Tensor<B, 2>,
    height: Tensor<B, 2>,
    /// Slopes at both ends.
    slopes: [Tensor<B, 2>; 2],
}

impl<B: Backend> Knots<B> {
    /// From the fractions that the bins take of both axes, `[batch, bins, k]`, and the slopes at all knots.
    pub(super) fn new(
        widths: Tensor<B, 3>,
        heights: Tensor<B, 3>,
        slopes: Tensor<B, 3>,
        bound: f64,
    ) -> Self {
        let knots = |fractions: Tensor<B, 3>| {
            let [rows, bins, k] = fractions.dims();
            let inner = fractions.slice([0..rows, 0..bins - 1, 0..k]).cumsum(1);
            let inner = inner * (2.0 * bound) - bound;
            // The last is not summed up: it would not lie at the bound exactly.
            let end = without_graph(inner.clone().slice([0..rows, 0..1, 0..k])).ones_like() * bound;
            Tensor::cat(vec![end.clone().neg(), inner, end], 1)
        };
        Self {
            x: knots(widths),
            y: knots(heights),
            slopes,
            bound,
        }
    }

    /// The bins in which numbers of `[-bound, bound]` lie on the axis of these `knots`; that on its right at a knot.
    fn bin(&self, knots: &Tensor<B, 3>, at: &Tensor<B, 2>) -> Bin<B> {
        let [rows, count, k] = knots.dims();
        let bins = count - 1;
        let range = |t: &Tensor<B, 3>, from: usize| {
            let to = from + bins;
            t.clone().slice([0..rows, from..to, 0..k])
        };
        // 1 in the bin, 0 in all others: at or beyond its left end, and not so for the next.
        let at = without_graph(at.clone()).reshape([rows, 1, k]);
        let inner = without_graph(knots.clone()).slice([0..rows, 1..bins, 0..k]);
        let beyond = inner.clone().lower_equal(at.repeat_dim(1, bins - 1));
        let beyond = beyond.float().cast(inner.dtype());
        let one = inner.slice([0..rows, 0..1, 0..k]).ones_like();
        let here = Tensor::cat(vec![one.clone(), beyond.clone()], 1)
            - Tensor::cat(vec![beyond, one.zeros_like()], 1);
        let pick = |table: Tensor<B, 3>| -> Tensor<B, 2> {
            (table * here.clone()).sum_dim(1).squeeze_dim(1)
        };
        let (left, bottom) = (pick(range(&self.x, 0)), pick(range(&self.y, 0)));
        Bin {
            // Differences of the knots, not the fractions they were summed from: a bin ends where the next begins.
            width: pick(range(&self.x, 1)) - left.clone(),
            height: pick(range(&self.y, 1)) - bottom.clone(),
            slopes: [pick(range(&self.slopes, 0)), pick(range(&self.slopes, 1))],
            left,
            bottom,
        }
    }

    /// The spline inside, the identity outside.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Elementwise<B> {
        let (inside, outside) = self.split(&x);
        let Elementwise { value, log_slope } = self.rise(inside);
        Elementwise {
            value: value.mask_where(outside.clone(), x),
            log_slope: log_slope.mask_fill(outside, 0.0),
        }
    }

    /// The spline of numbers in `[-bound, bound]`.
    pub(super) fn rise(&self, x: Tensor<B, 2>) -> Elementwise<B> {
        let bin = self.bin(&self.x, &x);
        let u = (x - bin.left.clone()) / bin.width.clone();
        Elementwise {
            log_slope: bin.log_slope(&u),
            value: bin.rise(&u) * bin.height + bin.bottom,
        }
    }

    /// The inverse of [`forward`](Self::forward).
    pub(super) fn inverse(&self, y: Tensor<B, 2>) -> Elementwise<B> {
        let (inside, outside) = self.split(&y);
        let Elementwise { value, log_slope } = self.fall(inside);
        Elementwise {
            value: value.mask_where(outside.clone(), y),
            log_slope: log_slope.mask_fill(outside, 0.0),
        }
    }

    /// The inverse of [`rise`](Self::rise).
    pub(super) fn fall(&self, y: Tensor<B, 2>) -> Elementwise<B> {
        let bin = self.bin(&self.y, &y);
        let v = (y - bin.bottom.clone()) / bin.height.clone();
        let u = bin.place(v);
        Elementwise {
            log_slope: bin.log_slope(&u).neg(),
            value: u * bin.width + bin.left,
        }
    }

    /// The numbers brought into the interval, and which of them lay outside: neither branch sees what is not its own.
    #[allow(clippy::type_complexity)]
    fn split(&self, x: &Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2, burn::tensor::Bool>) {
        let at = without_graph(x.clone());
        let right = at.clone().greater_elem(self.bound);
        let outside = at.lower_elem(-self.bound).bool_or(right);
        (x.clone().mask_fill(outside.clone(), 0.0), outside)
    }
}

impl<B: Backend> Bin<B> {
    fn steepness(&self) -> Tensor<B, 2> {
        self.height.clone() / self.width.clone()
    }

    /// `u (1 - u)` and `s + (d_0 + d_1 - 2 s) u (1 - u)`, as a sum of what is not negative.
    fn denominator(&self, s: &Tensor<B, 2>, u: &Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        let [first, last] = self.slopes.clone();
        let p = u.clone() * (u.clone().neg() + 1.0);
        let sum = s.clone() * (p.clone() * -2.0 + 1.0) + (first + last) * p.clone();
        [p, sum]
    }

    /// How far up the bin, from 0 to 1, at `u` of the way through it.
    fn rise(&self, u: &Tensor<B, 2>) -> Tensor<B, 2> {
        let s = self.steepness();
        let [p, denominator] = self.denominator(&s, u);
        (s * u.clone().square() + self.slopes[0].clone() * p) / denominator
    }

    /// `log dy/dx` there.
    fn log_slope(&self, u: &Tensor<B, 2>) -> Tensor<B, 2> {
        let [first, last] = self.slopes.clone();
        let s = self.steepness();
        let [p, denominator] = self.denominator(&s, u);
        let rest = u.clone().neg() + 1.0;
        let weighted = last * u.clone().square() + s.clone() * p * 2.0 + first * rest.square();
        (s / denominator).log() * 2.0 + weighted.log()
    }

    /// Where the bin has risen to `v`: the root of a quadratic equation, with the gradients of the implicit function.
    fn place(&self, v: Tensor<B, 2>) -> Tensor<B, 2> {
        let constant = Self {
            left: without_graph(self.left.clone()),
            width: without_graph(self.width.clone()),
            bottom: without_graph(self.bottom.clone()),
            height: without_graph(self.height.clone()),
            slopes: self.slopes.clone().map(without_graph),
        };
        let u = constant.root(without_graph(v.clone()));
        let slope = constant.log_slope(&u).exp() / constant.steepness();
        let above = self.rise(&u) - v;
        with_implicit_gradient(u, above, slope)
    }

    /// The root of `a u^2 + b u + c` in `[0, 1]`, with `a = s - d_0 + v e`, `b = d_0 - v e`, `c = -s v` and
    /// `e = d_1 + d_0 - 2 s`, by the form of the solution that subtracts nothing of nearly the same size.
    fn root(&self, v: Tensor<B, 2>) -> Tensor<B, 2> {
        let [first, last] = self.slopes.clone();
        let s = self.steepness();
        let bent = v.clone() * (first.clone() + last - s.clone() * 2.0);
        let a = s.clone() - first.clone() + bent.clone();
        let b = first - bent;
        let minus_c = s * v;
        let inner = b.clone().square() + a.clone() * minus_c.clone() * 4.0;
        // The root is real; rounding may make it seem otherwise.
        let root = inner.clamp_min(0.0).sqrt();
        let falling = b.clone().lower_elem(0.0);
        let above = (minus_c * 2.0).mask_where(falling.clone(), root.clone() - b.clone());
        let below = (b + root).mask_where(falling, a * 2.0);
        (above / below).clamp(0.0, 1.0)
    }
}

impl<B: Backend> Transform<B> for RqSpline {
    fn parameters(&self) -> usize {
        2 * self.bins + self.slopes()
    }

    fn identity(&self) -> Vec<f64> {
        let slope = match self.form {
            SplineForm::Softplus { min_slope, .. } | SplineForm::FreeEnds { min_slope, .. } => {
                softplus_inverse(1.0 - min_slope)
            }
            SplineForm::SoftClip { .. } => 0.0,
        };
        [vec![0.0; 2 * self.bins], vec![slope; self.slopes()]].concat()
    }

    fn forward(&self, raw: Tensor<B, 3>, x: Tensor<B, 2>) -> Elementwise<B> {
        self.knots(&raw).forward(x)
    }

    fn inverse(&self, raw: Tensor<B, 3>, y: Tensor<B, 2>) -> Elementwise<B> {
        self.knots(&raw).inverse(y)
    }

    fn validate(&self, layer: &'static str) -> Result<(), Error> {
        validate_interval(layer, self.bins, self.bound)?;
        let fraction =
            |field, value, length| validate_fraction(layer, field, value, self.bins, length);
        match self.form {
            SplineForm::Softplus {
                min_width,
                min_height,
                min_slope,
            } => {
                fraction("min_width", min_width, 1.0)?;
                fraction("min_height", min_height, 1.0)?;
                validate_slope(layer, min_slope)
            }
            SplineForm::SoftClip { min_slope } => validate_slope(layer, min_slope),
            SplineForm::FreeEnds {
                min_width,
                min_slope,
            } => {
                fraction("min_width", min_width, 2.0 * self.bound)?;
                validate_slope(layer, min_slope)
            }
        }
    }
}
