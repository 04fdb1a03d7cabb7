//! Tables of numbers: reading them in chunks, writing them, choosing columns, standardizing, splitting.
//!
//! A file is recognised by its first bytes: gzip, npy, npz, or text. Whatever a header claims, memory is
//! taken for what has been read.

pub mod amat;
mod bytes;
pub mod catalog;
mod csv;
#[cfg(feature = "download")]
pub mod fetch;
pub mod gaussian;
pub mod idx;
pub mod images;
pub mod mat5;
mod npy;
mod npz;
pub mod preprocessing;
pub mod selection;
pub mod sets;
pub mod sink;
pub mod source;
pub mod table;

use std::path::PathBuf;

pub use flows_train::Rows;
pub use gaussian::FullGaussian;
pub use preprocessing::{Factor, Preprocessing};
pub use selection::{Column, Role, Selection};
pub use sink::{Format, Sink};
pub use source::{Header, Layout, Missing, Reading, Source};
pub use table::{Split, Table};

/// Environment variable that names the data folder.
pub const DATA_FOLDER: &str = "FLOWS_DATA";

/// The data folder: the one given, or that of [`DATA_FOLDER`].
pub fn data_folder(given: Option<PathBuf>) -> Option<PathBuf> {
    given.or_else(|| std::env::var_os(DATA_FOLDER).map(PathBuf::from))
}

/// Why a table could not be read, or a model not be fitted to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file could not be opened or read.
    #[error("cannot read {origin}: {source}")]
    Read {
        /// The file, or `standard input`.
        origin: String,
        /// What the operating system or the decompressor said.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {target}: {source}")]
    Write {
        /// The file, or `standard output`.
        target: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Not a table, or only a part of one.
    #[error("{origin}: {reason}")]
    Format {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One value that cannot be used.
    #[error("{origin}, {place}, column {column}: {reason}")]
    Value {
        /// The file.
        origin: String,
        /// Line of a text file, row of an array.
        place: String,
        /// Number of the column from 1, and its name.
        column: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// Columns that are not there, or asked for twice.
    #[error("{0}")]
    Columns(String),
    /// A table that no density can be fitted to.
    #[error("{0}")]
    Table(String),
}
