//! Where a variable lies: the reals, a half-line or an interval.

use std::fmt;

use crate::error::Error;

/// An open interval, whose ends may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// All reals.
    pub const REALS: Self = Self {
        low: f64::NEG_INFINITY,
        high: f64::INFINITY,
    };
    /// The positive reals.
    pub const POSITIVE: Self = Self {
        low: 0.0,
        high: f64::INFINITY,
    };
    /// Between 0 and 1.
    pub const UNIT: Self = Self {
        low: 0.0,
        high: 1.0,
    };
    /// Between -1 and 1.
    pub const SYMMETRIC: Self = Self {
        low: -1.0,
        high: 1.0,
    };

    /// Whether all of `other` lies in it.
    pub fn contains(&self, other: &Self) -> bool {
        self.low <= other.low && other.high <= self.high
    }

    /// What an increasing or decreasing function makes of it.
    pub(crate) fn through(&self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self {
            low: a.min(b),
            high: a.max(b),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {})", self.low, self.high)
    }
}

/// What most layers make of variables: the reals, of the reals.
///
/// # Errors
/// [`Error::Config`] naming a column that is not all of them.
pub(crate) fn reals_to_reals(name: &'static str, of: &[Interval]) -> Result<Vec<Interval>, Error> {
    match of.iter().position(|interval| *interval != Interval::REALS) {
        None => Ok(of.to_vec()),
        Some(column) => Err(Error::config(
            name,
            "domain",
            format!("{} in column {}", of[column], column + 1),
            "the reals; put an elementwise map to the reals before it",
        )),
    }
}

/// Refuses variables that may lie where a layer does not take them.
///
/// # Errors
/// [`Error::Config`] naming the first such column.
pub(crate) fn check_inside(
    name: &'static str,
    of: &[Interval],
    allowed: &[Interval],
) -> Result<(), Error> {
    let outside = of.iter().zip(allowed).position(|(a, b)| !b.contains(a));
    match outside {
        None => Ok(()),
        Some(column) => Err(Error::config(
            name,
            "domain",
            format!("{} in column {}", of[column], column + 1),
            format!("inside {}", allowed[column]),
        )),
    }
}
