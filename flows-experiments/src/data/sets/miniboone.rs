//! MINIBOONE: events of a neutrino experiment.
//!
//! B. Roe, UCI Machine Learning Repository (2005), CC BY 4.0, in the form of the archive of
//! arXiv:1705.07057: electron neutrinos only, without outliers and columns of repeated values. Its rows are
//! not shuffled.

use std::path::Path;

use super::{DataSet, STANDARDIZED, SetId, find, read, split_and_standardize};
use flows_tables::DataError;

const PUBLISHED: usize = 36_488;
const COLUMNS: usize = 43;

pub(super) fn load(data: &Path) -> Result<DataSet, DataError> {
    let files = ["miniboone/data.npy", "uci/miniboone_maf_head1523.npy"];
    let rows = read(&find(SetId::Miniboone, data, &files)?, COLUMNS)?;
    let count = rows.len();
    let [train, validation, test] = split_and_standardize(&rows);
    let status = if count == PUBLISHED {
        "full set".to_owned()
    } else {
        format!("subset: {count} of {PUBLISHED} rows")
    };
    Ok(DataSet {
        id: SetId::Miniboone,
        status,
        units: STANDARDIZED,
        columns: (1..=COLUMNS).map(|i| format!("x{i}")).collect(),
        train,
        validation,
        test,
        shown: vec![0, 1, 2, 4],
    })
}
