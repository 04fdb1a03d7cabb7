//! PROTEIN: physicochemical properties of protein structures, nine of them and the deviation.
//!
//! P. S. Rana, UCI Machine Learning Repository (2013). Not one of the sets of arXiv:1705.07057; shuffled,
//! and uniform noise of one unit on the one column of whole steps, in the manner of POWER there.

use std::path::Path;

use flows_core::random::shuffle;
use rand::RngExt;

use super::{DataSet, SEED, STANDARDIZED, SetId, find, names, read, split_and_standardize};
use flows_tables::{DataError, Rows};
use flows_train::stream;

const COLUMNS: usize = 10;

/// The spatial distribution constraint, which takes 341 values one unit apart.
const STEPPED: usize = 7;

pub(super) fn load(data: &Path) -> Result<DataSet, DataError> {
    let files = ["uci/protein.csv.gz", "uci/protein.csv"];
    let mut rows = read(&find(SetId::Protein, data, &files)?, COLUMNS)?;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    shuffle(&mut order, &mut stream(SEED, "protein shuffle", 0));
    rows = rows.pick(&order);
    let rng = &mut stream(SEED, "protein noise", 0);
    let noisy = rows.iter().flat_map(|row| {
        let mut row = row.to_vec();
        row[STEPPED] += rng.random::<f64>();
        row
    });
    let rows = Rows::new(noisy.collect(), COLUMNS);
    let [train, validation, test] = split_and_standardize(&rows);
    Ok(DataSet {
        id: SetId::Protein,
        status: format!("full set of {} rows, own split", rows.len()),
        units: STANDARDIZED,
        columns: names(&["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "RMSD"]),
        train,
        validation,
        test,
        shown: vec![0, 2, 5, 9],
    })
}
