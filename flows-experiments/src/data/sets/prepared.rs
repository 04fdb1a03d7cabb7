//! Sets as three arrays, preprocessed as published: what a converter of the original archive writes.

use std::path::Path;

use super::{DataSet, STANDARDIZED, SetId, read};
use crate::data::DataError;
use crate::data::source::{Header, Source};

/// Where the first of the three is looked for.
pub(super) fn files(set: SetId) -> String {
    format!("{}/train.npy", set.name())
}

/// The set, where `NAME/train.npy`, `NAME/validation.npy` and `NAME/test.npy` are there.
pub(super) fn load(set: SetId, data: &Path) -> Result<Option<DataSet>, DataError> {
    let part = |name: &str| data.join(set.name()).join(format!("{name}.npy"));
    if !part("train").exists() {
        return Ok(None);
    }
    let width = Source::open(&part("train"), Header::No)?.layout().columns;
    let [train, validation, test] = ["train", "validation", "test"].map(|p| read(&part(p), width));
    let (train, validation, test) = (train?, validation?, test?);
    Ok(Some(DataSet {
        id: set,
        status: format!("prepared by the user, {} training rows", train.len()),
        units: match set {
            SetId::Bsds => "nats of patches",
            _ => STANDARDIZED,
        },
        columns: (1..=width).map(|i| format!("x{i}")).collect(),
        train,
        validation,
        test,
        shown: (0..width.min(4)).collect(),
    }))
}
