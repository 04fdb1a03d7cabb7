//! Kinds of columns: what a variable is, and the map that takes it to the reals for a flow.

use flows_train::Rows;
use serde::{Deserialize, Serialize};

/// What kind of variable a column is.
///
/// A flow sees `z = h(y)` in the reals, where `y` is the value `x` itself or, for a kind with cells, a point of the
/// cell of `x`. For the first, `log p(x) = log p(z) + log h'(x)`, in nats. For the second, the probability of `x` is
/// the integral of `p(h(y)) h'(y)` over its cell, which uniform noise `u` in the cell estimates (uniform
/// dequantization, arXiv:1511.01844, section 3.1; arXiv:1902.00275, equations 5 to 8). The cells of a kind fill its
/// domain, so that densities and probabilities together have the mass 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// Any real number: `z = x`.
    Continuous,
    /// Any real number with long tails: `z = arcsinh((x - centre) / scale)`.
    Heavy {
        /// The middle.
        centre: f64,
        /// Half the width of the middle half; positive.
        scale: f64,
    },
    /// Positive: `z = ln(e^(x / scale) - 1)`, which is a logarithm below the scale and linear above it, or
    /// `z = ln x` without a scale.
    Positive {
        /// The scale; positive.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scale: Option<f64>,
    },
    /// Between two ends: `z = ln((x - low) / (high - x))`.
    Bounded {
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
    },
    /// On a circle: the logit of the way from `cut`, as a fraction of the period. The density is one on the circle;
    /// it need not be continuous at the cut.
    Periodic {
        /// Length of the circle; positive.
        period: f64,
        /// Where the circle is cut open: a place with few values.
        cut: f64,
        /// Samples lie from here to a period further.
        from: f64,
    },
    /// Whole numbers: `y = x + u`. From `low` on, `z = ln(e^(y - low) - 1)`, or `ln(y - low)` for long tails.
    Whole {
        /// The least one, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        low: Option<f64>,
        /// Whether they span orders of magnitude.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        long_tail: bool,
    },
    /// One of a few values: `y = (k + u) / levels` for the `k`-th, and `z` its logit.
    Levels {
        /// The values, increasing.
        values: Vec<f64>,
    },
    /// A value that repeats at one end of a continuous column, such as days without rain: `y = u` for it, and
    /// `y = 1 + |x - at| / scale` for the others; `z = ln y`.
    Spike {
        /// The value.
        at: f64,
        /// Whether the others are above it, or below.
        above: bool,
        /// Where the others begin to be as dense as the noise; positive.
        scale: f64,
    },
}

/// A column with its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnKind {
    /// Name of the column.
    pub column: String,
    /// Its kind.
    pub kind: Kind,
}

/// `ln(e^y - 1)` of a positive `y`, and the logarithm of its slope.
fn inverse_softplus(y: f64) -> (f64, f64) {
    let log_slope = -(-(-y).exp_m1()).ln();
    (y - log_slope, log_slope)
}

/// `ln(1 + e^z)`.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

/// `ln(y / rest)` for `y + rest = 1`, and the logarithm of its slope.
fn logit(y: f64, rest: f64) -> (f64, f64) {
    (y.ln() - rest.ln(), -y.ln() - rest.ln())
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// The least fraction of a period from the cut: a value at the cut itself is taken to lie there.
const LEAST: f64 = 1e-12;

impl Kind {
    /// Whether values stand for cells, and take noise.
    pub fn has_cells(&self) -> bool {
        matches!(
            self,
            Self::Whole { .. } | Self::Levels { .. } | Self::Spike { .. }
        )
    }

    /// What is wrong with its numbers, if anything.
    pub fn problem(&self) -> Option<String> {
        let positive = |what: &str, v: f64| {
            (!(v > 0.0 && v.is_finite())).then(|| format!("{what} is {v}, expected above 0"))
        };
        let finite = |values: &[f64]| {
            let wrong = values.iter().find(|v| !v.is_finite())?;
            Some(format!("{wrong} is not finite"))
        };
        match self {
            Self::Continuous => None,
            Self::Heavy { centre, scale } => finite(&[*centre]).or(positive("scale", *scale)),
            Self::Positive { scale } => scale.and_then(|scale| positive("scale", scale)),
            Self::Bounded { low, high } => finite(&[*low, *high]).or_else(|| {
                (low >= high).then(|| format!("bounds {low}:{high}, expected LOW below HIGH"))
            }),
            Self::Periodic { period, cut, from } => {
                finite(&[*cut, *from]).or(positive("period", *period))
            }
            Self::Whole { low, .. } => {
                let low = low.unwrap_or(0.0);
                (low.fract() != 0.0 || !low.is_finite())
                    .then(|| format!("low is {low}, expected a whole number"))
            }
            Self::Levels { values } => finite(values).or_else(|| {
                let increases = values.len() > 1 && values.is_sorted_by(|a, b| a < b);
                (!increases).then(|| "levels: expected two or more, increasing".to_owned())
            }),
            Self::Spike { at, scale, .. } => finite(&[*at]).or(positive("scale", *scale)),
        }
    }

    /// `z` of a value and the logarithm of the slope that belongs to it, with noise `u` in (0, 1) for a cell;
    /// `None` for a value that the kind does not have.
    pub fn to_real(&self, x: f64, u: f64) -> Option<(f64, f64)> {
        let (z, log_slope) = match self {
            Self::Continuous => (x, 0.0),
            Self::Heavy { centre, scale } => {
                let y = (x - centre) / scale;
                (y.asinh(), -scale.ln() - y.hypot(1.0).ln())
            }
            Self::Positive { scale } if x > 0.0 => match scale {
                None => (x.ln(), -x.ln()),
                Some(scale) => {
                    let (z, log_slope) = inverse_softplus(x / scale);
                    (z, log_slope - scale.ln())
                }
            },
            Self::Bounded { low, high } if *low < x && x < *high => {
                let width = high - low;
                let (z, log_slope) = logit((x - low) / width, (high - x) / width);
                (z, log_slope - width.ln())
            }
            Self::Periodic { period, cut, .. } => {
                let way = ((x - cut) / period).rem_euclid(1.0);
                let way = way.clamp(LEAST, 1.0 - LEAST);
                let (z, log_slope) = logit(way, 1.0 - way);
                (z, log_slope - period.ln())
            }
            Self::Whole { low, long_tail } if x.fract() == 0.0 => match low {
                None => (x + u, 0.0),
                Some(low) if x < *low => return None,
                Some(low) if *long_tail => {
                    let y = x - low + u;
                    (y.ln(), -y.ln())
                }
                Some(low) => inverse_softplus(x - low + u),
            },
            Self::Levels { values } => {
                let k = values.binary_search_by(|v| v.total_cmp(&(x + 0.0))).ok()? as f64;
                let n = values.len() as f64;
                let (z, log_slope) = logit((k + u) / n, (n - k - u) / n);
                (z, log_slope - n.ln())
            }
            Self::Spike { at, above, scale } => {
                let beyond = if *above { x - at } else { at - x };
                let (y, log_unit) = match beyond {
                    0.0 => (u, 0.0),
                    beyond if beyond > 0.0 => (1.0 + beyond / scale, scale.ln()),
                    _ => return None,
                };
                (y.ln(), -y.ln() - log_unit)
            }
            Self::Positive { .. } | Self::Bounded { .. } | Self::Whole { .. } => return None,
        };
        (z.is_finite() && log_slope.is_finite()).then_some((z, log_slope))
    }

    /// The value at `z`.
    pub fn from_real(&self, z: f64) -> f64 {
        if z.is_nan() {
            return z;
        }
        match self {
            Self::Continuous => z,
            Self::Heavy { centre, scale } => centre + scale * z.sinh(),
            Self::Positive { scale: None } => z.exp(),
            Self::Positive { scale: Some(scale) } => scale * softplus(z),
            Self::Bounded { low, high } => low + (high - low) * sigmoid(z),
            Self::Periodic { period, cut, from } => {
                let x = cut + period * sigmoid(z);
                from + (x - from).rem_euclid(*period)
            }
            Self::Whole { low: None, .. } => z.floor(),
            Self::Whole {
                low: Some(low),
                long_tail,
            } => {
                let y = if *long_tail { z.exp() } else { softplus(z) };
                low + y.floor()
            }
            Self::Levels { values } => {
                let k = (sigmoid(z) * values.len() as f64) as usize;
                values[k.min(values.len() - 1)]
            }
            Self::Spike { at, above, scale } => {
                let beyond = scale * (z.exp() - 1.0).max(0.0);
                if *above { at + beyond } else { at - beyond }
            }
        }
    }

    /// The kind in a few words.
    pub fn words(&self) -> String {
        match self {
            Self::Continuous => "continuous".to_owned(),
            Self::Heavy { .. } => "long tails (arcsinh)".to_owned(),
            Self::Positive { scale: None } => "positive (logarithm)".to_owned(),
            Self::Positive { .. } => "positive (softplus)".to_owned(),
            Self::Bounded { low, high } => format!("between {low} and {high} (logit)"),
            Self::Periodic { period, .. } => format!("periodic ({period})"),
            Self::Whole { low: None, .. } => "whole numbers".to_owned(),
            Self::Whole { low: Some(low), .. } => format!("whole numbers from {low}"),
            Self::Levels { values } => format!("{} levels", values.len()),
            Self::Spike { at, above, .. } => {
                let side = if *above { "above" } else { "below" };
                format!("the value {at}, or continuous {side} it")
            }
        }
    }
}

/// The kinds of the columns that a flow is over, in their order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kinds(Vec<Kind>);

impl Kinds {
    /// Those of the columns of these names; continuous where nothing is said.
    pub(super) fn of(names: &[&str], kinds: &[ColumnKind]) -> Self {
        let kind = |name: &&str| {
            let found = kinds.iter().find(|k| k.column == *name);
            found.map_or(Kind::Continuous, |k| k.kind.clone())
        };
        Self(names.iter().map(kind).collect())
    }

    pub(super) fn are_continuous(&self) -> bool {
        self.0.iter().all(|kind| *kind == Kind::Continuous)
    }

    /// How many columns take noise.
    pub(super) fn with_cells(&self) -> usize {
        self.0.iter().filter(|kind| kind.has_cells()).count()
    }

    /// `z` of each row and the sum of its log-slopes, with `noise()` in (0, 1) for each column with cells, row by
    /// row; `-inf` for a row with a value that a kind does not have.
    pub(super) fn apply(&self, rows: &Rows, mut noise: impl FnMut() -> f64) -> (Rows, Vec<f64>) {
        let mut values = Vec::with_capacity(rows.values().len());
        let log_slope = |row: &[f64]| {
            let mut sum = 0.0;
            for (kind, x) in self.0.iter().zip(row) {
                let u = if kind.has_cells() { noise() } else { 0.5 };
                let (z, log_slope) = kind.to_real(*x, u).unwrap_or((0.0, f64::NEG_INFINITY));
                values.push(z);
                sum += log_slope;
            }
            sum
        };
        let sums = rows.iter().map(log_slope).collect();
        (Rows::new(values, rows.width()), sums)
    }

    /// The values of each row.
    pub(super) fn undo(&self, rows: Rows) -> Rows {
        if self.are_continuous() {
            return rows;
        }
        let values = |row: &[f64]| -> Vec<f64> {
            let pairs = self.0.iter().zip(row);
            pairs.map(|(kind, z)| kind.from_real(*z)).collect()
        };
        Rows::new(rows.iter().flat_map(values).collect(), rows.width())
    }

    /// Points of the unit cube that fill it evenly, the `draw`-th of `draws`: the middles of equal parts for the
    /// first column with cells, and multiples of powers of the root of `g^(d + 1) = g + 1` for the others.
    pub(super) fn noise(&self, draw: usize, draws: usize) -> Vec<f64> {
        let cells = self.with_cells();
        let others = cells.saturating_sub(1) as f64;
        let root = (0..60).fold(1.5f64, |g, _| (1.0 + g).powf(1.0 / (others + 1.0)));
        let place = |column: usize| match column {
            0 => (draw as f64 + 0.5) / draws as f64,
            k => (0.5 + (draw + 1) as f64 * root.powi(-(k as i32))).fract(),
        };
        (0..cells).map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Kind> {
        vec![
            Kind::Continuous,
            Kind::Heavy {
                centre: 1.0,
                scale: 0.3,
            },
            Kind::Positive { scale: None },
            Kind::Positive { scale: Some(0.7) },
            Kind::Bounded {
                low: -2.0,
                high: 5.0,
            },
            Kind::Periodic {
                period: 24.0,
                cut: 3.5,
                from: 0.0,
            },
            Kind::Spike {
                at: 0.0,
                above: true,
                scale: 0.4,
            },
            Kind::Spike {
                at: 9.0,
                above: false,
                scale: 2.0,
            },
        ]
    }

    #[test]
    fn log_slopes_are_those_of_central_differences_and_values_come_back() {
        for kind in kinds() {
            assert_eq!(kind.problem(), None);
            for x in [0.03, 0.5, 1.1, 2.0, 3.7, 4.99] {
                let (z, log_slope) = kind.to_real(x, 0.5).unwrap();
                let back = kind.from_real(z);
                assert!((back - x).abs() < 1e-9, "{kind:?}: {x}, {back}");
                let h = 1e-6;
                let at = |x: f64| kind.to_real(x, 0.5).unwrap().0;
                let slope = ((at(x + h) - at(x - h)) / (2.0 * h)).abs().ln();
                assert!(
                    (slope - log_slope).abs() < 1e-5,
                    "{kind:?} at {x}: {slope}, {log_slope}"
                );
            }
        }
    }

    #[test]
    fn cells_are_those_of_their_values_and_leave_no_gap() {
        let kinds = [
            (
                Kind::Whole {
                    low: Some(0.0),
                    long_tail: false,
                },
                vec![0.0, 1.0, 7.0, 1e6],
            ),
            (
                Kind::Whole {
                    low: Some(2.0),
                    long_tail: true,
                },
                vec![2.0, 3.0, 1e9],
            ),
            (
                Kind::Whole {
                    low: None,
                    long_tail: false,
                },
                vec![-3.0, 0.0, 4.0],
            ),
            (
                Kind::Levels {
                    values: vec![-1.0, 0.5, 9.0],
                },
                vec![-1.0, 0.5, 9.0],
            ),
            (
                Kind::Spike {
                    at: 0.0,
                    above: true,
                    scale: 2.0,
                },
                vec![0.0],
            ),
        ];
        for (kind, values) in kinds {
            for x in values {
                let (mut mass, n) = (0.0, 2000);
                let ends = [1e-9, 1.0 - 1e-9].map(|u| kind.to_real(x, u).unwrap().0);
                for i in 0..n {
                    let u = (f64::from(i) + 0.5) / f64::from(n);
                    let (z, log_slope) = kind.to_real(x, u).unwrap();
                    assert_eq!(kind.from_real(z), x, "{kind:?}");
                    // A standard logistic density in z.
                    mass += (log_slope - z - 2.0 * (-z).exp().ln_1p()).exp() / f64::from(n);
                }
                let [low, high] = ends.map(sigmoid);
                assert!(
                    (mass - (high - low)).abs() < 1e-5,
                    "{kind:?} at {x}: {mass}"
                );
            }
        }
        for (kind, x) in [
            (
                Kind::Whole {
                    low: Some(0.0),
                    long_tail: false,
                },
                -1.0,
            ),
            (
                Kind::Whole {
                    low: None,
                    long_tail: false,
                },
                0.5,
            ),
            (
                Kind::Levels {
                    values: vec![0.0, 1.0],
                },
                2.0,
            ),
            (Kind::Positive { scale: None }, 0.0),
            (
                Kind::Bounded {
                    low: 0.0,
                    high: 1.0,
                },
                1.0,
            ),
            (
                Kind::Spike {
                    at: 0.0,
                    above: true,
                    scale: 1.0,
                },
                -0.1,
            ),
            (Kind::Continuous, f64::NAN),
        ] {
            assert_eq!(kind.to_real(x, 0.5), None, "{kind:?}");
        }
        assert_eq!(
            Kind::Levels {
                values: vec![0.0, 1.0]
            }
            .to_real(-0.0, 0.5)
            .unwrap()
            .0
            .signum(),
            -1.0
        );
    }

    #[test]
    fn noise_fills_the_cube_evenly() {
        let levels = || Kind::Levels {
            values: vec![0.0, 1.0],
        };
        let kinds = Kinds(vec![levels(), Kind::Continuous, levels(), levels()]);
        let points: Vec<Vec<f64>> = (0..1024).map(|draw| kinds.noise(draw, 1024)).collect();
        // The mean of a smooth function, and of its products over columns; random points err by 0.07 over three.
        for pick in [
            vec![0],
            vec![1],
            vec![2],
            vec![0, 1],
            vec![1, 2],
            vec![0, 1, 2],
        ] {
            let f = |p: &Vec<f64>| pick.iter().map(|&k| 3.0 * p[k] * p[k]).product::<f64>();
            let mean = points.iter().map(f).sum::<f64>() / 1024.0;
            assert!((mean - 1.0).abs() < 0.05, "{pick:?}: {mean}");
        }
        assert!(points.iter().flatten().all(|u| *u > 0.0 && *u < 1.0));
    }
}
