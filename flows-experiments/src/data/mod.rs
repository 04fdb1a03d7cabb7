//! The data of the experiments: image sets, the tables of the literature, and where their files come from.

pub mod amat;
pub mod catalog;
pub mod fetch;
pub mod idx;
pub mod images;
pub mod mat5;
pub mod sets;

use std::path::PathBuf;

/// Environment variable that names the data folder.
pub const DATA_FOLDER: &str = "FLOWS_DATA";

/// The data folder: the one given, or that of [`DATA_FOLDER`].
pub fn data_folder(given: Option<PathBuf>) -> Option<PathBuf> {
    given.or_else(|| std::env::var_os(DATA_FOLDER).map(PathBuf::from))
}
