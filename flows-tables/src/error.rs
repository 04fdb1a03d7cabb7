//! Why a table could not be read, or a model not be fitted to it.

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
