//! What can be wrong with an input or a configuration.

/// Everything flows-core refuses, with the fields a caller needs to act on it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A batch whose number of columns is not the dimension of the layer.
    #[error("{layer}: input has {actual} columns, expected {expected}")]
    Dimension {
        /// Layer that refused the input.
        layer: &'static str,
        /// Dimension of the layer.
        expected: usize,
        /// Columns found.
        actual: usize,
    },
    /// A layer that needs a context was called without one.
    #[error("{layer}: a context with {expected} columns is missing")]
    MissingContext {
        /// Layer that refused the call.
        layer: &'static str,
        /// Context columns the layer needs.
        expected: usize,
    },
    /// A context was given to something that would ignore it.
    #[error("{layer}: got a context with {actual} columns, but takes no context")]
    UnexpectedContext {
        /// Layer that refused the call.
        layer: &'static str,
        /// Columns of the context given.
        actual: usize,
    },
    /// A context of the wrong shape.
    #[error(
        "{layer}: context has shape [{actual_rows}, {actual_columns}], expected [{expected_rows}, {expected_columns}]"
    )]
    ContextShape {
        /// Layer that refused the call.
        layer: &'static str,
        /// Rows of the batch.
        expected_rows: usize,
        /// Context columns the layer needs.
        expected_columns: usize,
        /// Rows of the context given.
        actual_rows: usize,
        /// Columns of the context given.
        actual_columns: usize,
    },
    /// A field of a configuration outside its range.
    #[error("{layer}: {field} is {actual}, expected {expected}")]
    Config {
        /// Layer or model being configured.
        layer: &'static str,
        /// Field of its configuration.
        field: &'static str,
        /// Value found.
        actual: String,
        /// What the field accepts.
        expected: String,
    },
    /// A dependency graph that cannot be ordered.
    #[error("mask: the dependency graph has the cycle {}", show_cycle(.path))]
    Cycle {
        /// Variables along the cycle; the first follows the last.
        path: Vec<usize>,
    },
    /// A row that the solver of a differential equation did not bring to the end.
    #[error(
        "solver: row {row} is at time {time} after all its steps, expected to arrive: loosen the tolerance, \
         or raise max_steps"
    )]
    NotArrived {
        /// Row of the batch, from 0.
        row: usize,
        /// Where it stopped.
        time: f64,
    },
    /// A number that is NaN or infinite.
    #[error("{what}: row {row}, column {column} is {value}, expected a finite number")]
    NonFinite {
        /// Which table or tensor.
        what: String,
        /// Row of the first such number, from 0.
        row: usize,
        /// Its column, from 0.
        column: usize,
        /// The number.
        value: f64,
    },
}

impl Error {
    /// An [`Error::Config`] for `field` of `layer`.
    pub fn config(
        layer: &'static str,
        field: &'static str,
        actual: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Config {
            layer,
            field,
            actual: actual.to_string(),
            expected: expected.into(),
        }
    }
}

/// Whether f32 holds the number too, neither as infinity nor as 0 where it is not.
pub fn fits_f32(value: f64) -> bool {
    value == 0.0 || (value as f32).is_normal()
}

/// Refuses a number that is not positive and finite, or not on a backend that computes in f32.
///
/// # Errors
/// [`Error::Config`] for `field` of `layer`.
pub fn check_positive(layer: &'static str, field: &'static str, value: f64) -> Result<(), Error> {
    if value > 0.0 && fits_f32(value) {
        return Ok(());
    }
    Err(Error::config(
        layer,
        field,
        value,
        "positive and finite, in f32 too",
    ))
}

/// As [`check_positive`], for numbers that may be 0.
///
/// # Errors
/// [`Error::Config`] for `field` of `layer`.
pub fn check_not_negative(
    layer: &'static str,
    field: &'static str,
    value: f64,
) -> Result<(), Error> {
    if value >= 0.0 && fits_f32(value) {
        return Ok(());
    }
    Err(Error::config(
        layer,
        field,
        value,
        "0 or positive, and finite, in f32 too",
    ))
}

fn show_cycle(path: &[usize]) -> String {
    path.iter()
        .chain(path.first())
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_shown_closed() {
        let error = Error::Cycle {
            path: vec![0, 2, 1],
        };
        assert_eq!(
            error.to_string(),
            "mask: the dependency graph has the cycle 0 -> 2 -> 1 -> 0"
        );
    }
}
