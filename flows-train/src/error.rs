//! Why a run ended early, and what can be wrong with its files.

use std::path::PathBuf;

use crate::solved::MOST_UNSOLVED;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A model file of a version that did not exist yet.
    #[error(
        "{} has model format {found}, and this program reads formats up to {newest}; use a newer program",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version known.
        newest: u32,
    },
    /// It is something else, or only a part.
    #[error("{} is not {expected} of this program: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a run ended without a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A value of the configuration is out of range.
    #[error("training.{0}")]
    Config(String),
    /// The loss is not finite any more. The last checkpoint holds the state before.
    #[error("the loss became {loss} by step {step}; a smaller learning rate may help")]
    Diverged {
        /// Step at which the loss was read.
        step: usize,
        /// What it was.
        loss: f64,
    },
    /// Too many rows have no inverse. The last checkpoint holds the state before.
    #[error(
        "{:.1} % of the rows had no inverse by step {step}, more than {:.0} %: the solver found no solution \
         for them; a smaller learning rate, more cells or a penalty on the field may help",
        100.0 * share, 100.0 * MOST_UNSOLVED
    )]
    Unsolved {
        /// Step at which they were counted.
        step: usize,
        /// Rows without an inverse, as a share of all that were counted.
        share: f64,
    },
    /// The checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] FileError),
    /// The checkpoint belongs to another run.
    #[error("{path} holds the run '{found}', not '{expected}'")]
    OtherRun {
        /// The file.
        path: String,
        /// The run in the file.
        found: String,
        /// The run asked for.
        expected: String,
    },
}

/// Why rows are no data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The numbers do not make whole rows.
    #[error("{values} numbers do not make rows of {width}")]
    Width {
        /// How many there are.
        values: usize,
        /// Numbers in a row.
        width: usize,
    },
    /// A different number of contexts.
    #[error("there are {context} rows of context for {rows} rows of data, expected as many")]
    Context {
        /// Rows of data.
        rows: usize,
        /// Rows of context.
        context: usize,
    },
    /// A value that is not finite.
    #[error(
        "row {row}, column {column} of the {what} is {value}, expected a finite number; leave such rows out"
    )]
    NotFinite {
        /// Data or context.
        what: &'static str,
        /// Row, from 1.
        row: usize,
        /// Column, from 1.
        column: usize,
        /// The value.
        value: f64,
    },
    /// No rows.
    #[error("there are no rows")]
    Empty,
}
