//! Numbers of a job, and what becomes of them over the seeds.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Experiment;
use crate::report::{Cell, format_estimate};

/// A value in a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A measured number; `null` in JSON where it is not finite.
    Number(f64),
    /// A whole number.
    Count(u64),
    /// Words.
    Text(String),
    /// A list, such as the epochs of each seed.
    List(Vec<Value>),
    /// None.
    Missing,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(values) => {
                let words: Vec<String> = values.iter().map(Self::to_string).collect();
                words.join(", ").fmt(f)
            }
            Self::Missing => Ok(()),
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, T::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(T::into).collect())
    }
}

/// A mean over seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean over the seeds; of ratios, the geometric mean.
    pub mean: f64,
    /// Standard error of the mean; `null` for a single seed.
    pub stderr: Option<f64>,
    /// Root mean square of the standard errors that the seeds' own numbers have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_stderr: Option<f64>,
    /// The number of each seed.
    pub values: Vec<f64>,
}

impl Estimate {
    /// Over those that are finite numbers; `None` where none is.
    pub fn over(values: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        let values = values
            .into_iter()
            .flatten()
            .filter(|value| value.is_finite());
        let values: Vec<f64> = values.collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        (!values.is_empty()).then(|| Self {
            mean,
            stderr: (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt()),
            own_stderr: None,
            values,
        })
    }

    /// Of ratios: the geometric mean, with the standard error that the one of their logarithms gives.
    pub fn of_ratios(ratios: impl IntoIterator<Item = Option<f64>>) -> Option<Self> {
        let logarithms = Self::over(ratios.into_iter().map(|ratio| Some(ratio?.ln())))?;
        let mean = logarithms.mean.exp();
        Some(Self {
            mean,
            stderr: logarithms.stderr.map(|stderr| mean * stderr),
            own_stderr: None,
            values: logarithms.values.iter().map(|v| v.exp()).collect(),
        })
    }

    /// Standard deviation over the seeds.
    pub fn deviation(&self) -> Option<f64> {
        Some(self.stderr? * (self.values.len() as f64).sqrt())
    }
}

/// What a table shows behind a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Its standard error over seeds.
    Seeds,
    /// The standard deviation over seeds.
    Deviation,
    /// The root mean square of the seeds' own standard errors.
    Own,
}

/// How a table writes a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With its error, as many digits as that leaves.
    Estimate(Error),
    /// With this many decimals.
    Decimals(usize),
    /// Two digits and a power of ten.
    Scientific,
}

/// What a column is over the seeds of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Mean,
    Ratio,
    Largest,
    Least,
    Total,
    First,
    Each,
}

type Of<'a, E, T> = Box<dyn Fn(&<E as Experiment>::Job, &<E as Experiment>::Measured) -> T + 'a>;

/// A number or a word of every job.
pub struct Column<'a, E: Experiment> {
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) format: Format,
    over: Over,
    of: Of<'a, E, Value>,
    own_error: Option<Of<'a, E, Option<f64>>>,
}

/// One constructor for each [`Over`]. Without a title no table shows the column.
macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident: $over:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name<V: Into<Value>>(
            name: &'static str,
            title: impl Into<String>,
            of: impl Fn(&E::Job, &E::Measured) -> V + 'a,
        ) -> Self {
            let of = Box::new(move |job: &E::Job, m: &E::Measured| of(job, m).into());
            Self::new(Over::$over, name, title.into(), of)
        }
    )*};
}

impl<'a, E: Experiment> Column<'a, E> {
    fn new(over: Over, name: &'static str, title: impl Into<String>, of: Of<'a, E, Value>) -> Self {
        Self {
            name,
            title: title.into(),
            format: Format::Estimate(Error::Seeds),
            over,
            of,
            own_error: None,
        }
    }

    constructors! {
        /// A number whose mean over the seeds counts.
        mean: Mean;
        /// A ratio, whose geometric mean counts.
        ratio: Ratio;
        /// A number whose largest value counts; missing where it is missing for a seed.
        largest: Largest;
        /// A number whose smallest value counts.
        least: Least;
        /// A count whose sum over the seeds counts.
        total: Total;
        /// What is the same for all seeds.
        first: First;
        /// What is listed, seed by seed.
        each: Each;
    }

    /// The same, with the standard error that the number of a job has by itself.
    #[must_use]
    pub fn with_own_error(
        mut self,
        of: impl Fn(&E::Job, &E::Measured) -> Option<f64> + 'a,
    ) -> Self {
        self.own_error = Some(Box::new(of));
        self
    }

    /// The same, written otherwise.
    #[must_use]
    pub fn written(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The value of one job, and its own standard error where the column has one.
    pub(super) fn of(&self, job: &E::Job, measured: &E::Measured) -> (Value, Option<Value>) {
        let error = self.own_error.as_ref();
        (
            (self.of)(job, measured),
            error.map(|of| of(job, measured).into()),
        )
    }

    /// The value over the seeds of a row.
    pub(super) fn over(&self, seeds: &[(&E::Job, &E::Measured)]) -> Summary {
        let values = || seeds.iter().map(|(job, measured)| (self.of)(job, measured));
        let numbers = || {
            values().map(|value| match value {
                Value::Number(number) => Some(number),
                _ => None,
            })
        };
        let of_own = self.own_error.as_ref().and_then(|of| {
            let squares = seeds
                .iter()
                .map(|(job, measured)| Some(of(job, measured)?.powi(2)));
            Some(Estimate::over(squares)?.mean.sqrt())
        });
        let mean = |estimate: Option<Estimate>| {
            Summary::Mean(estimate.map(|estimate| Estimate {
                own_stderr: of_own,
                ..estimate
            }))
        };
        match self.over {
            Over::Mean => mean(Estimate::over(numbers())),
            Over::Ratio => mean(Estimate::of_ratios(numbers())),
            Over::Largest => {
                let largest = numbers().reduce(|a, b| Some(a?.max(b?)));
                Summary::Value(largest.flatten().into())
            }
            Over::Least => {
                let least = numbers().flatten().reduce(f64::min);
                Summary::Value(least.into())
            }
            Over::Total => {
                let counts = values().filter_map(|value| match value {
                    Value::Count(count) => Some(count),
                    _ => None,
                });
                Summary::Value(Value::Count(counts.sum()))
            }
            Over::First => Summary::Value(values().next().unwrap_or(Value::Missing)),
            Over::Each => Summary::Value(Value::List(values().collect())),
        }
    }
}

/// A column over the seeds of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Summary {
    /// A mean, where there is one.
    Mean(Option<Estimate>),
    /// One value, or a list.
    Value(Value),
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Mean(estimate) => estimate.serialize(serializer),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl Summary {
    /// As a cell of a table.
    pub(super) fn cell(&self, format: Format) -> Cell {
        let plain = |number: f64| match format {
            Format::Estimate(_) => format_estimate(number, None),
            Format::Decimals(decimals) => format!("{number:.decimals$}"),
            Format::Scientific => format!("{number:.1e}"),
        };
        match self {
            Self::Mean(None) => Cell::text(""),
            Self::Mean(Some(estimate)) => match format {
                Format::Estimate(error) => {
                    let error = match error {
                        Error::Seeds => estimate.stderr,
                        Error::Deviation => estimate.deviation(),
                        Error::Own => estimate.own_stderr,
                    };
                    Cell::estimate(estimate.mean, error)
                }
                _ => Cell::Number(plain(estimate.mean)),
            },
            Self::Value(Value::Number(number)) => Cell::Number(plain(*number)),
            Self::Value(Value::Count(count)) => Cell::Count(*count),
            Self::Value(other) => Cell::text(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_leave_out_what_is_not_finite() {
        let estimate = Estimate::over([Some(1.0), None, Some(3.0), Some(f64::NAN)]).unwrap();
        assert_eq!((estimate.mean, estimate.stderr), (2.0, Some(1.0)));
        assert_eq!(estimate.deviation(), Some(2f64.sqrt()));
        let ratios = Estimate::of_ratios([Some(2.0), Some(8.0), Some(0.0)]).unwrap();
        assert!((ratios.mean - 4.0).abs() < 1e-12 && (ratios.values[1] - 8.0).abs() < 1e-12);
        assert_eq!(Estimate::over([None, None]), None);
        assert_eq!(Estimate::over([Some(1.0)]).unwrap().stderr, None);
    }

    #[test]
    fn json_has_null_where_there_is_no_number() {
        let list = Value::from(vec![Some(1.5), None, Some(f64::NAN)]);
        assert_eq!(serde_json::to_string(&list).unwrap(), "[1.5,null,null]");
        assert_eq!(list.to_string(), "1.5, , NaN");
    }
}
