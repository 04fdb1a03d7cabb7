//! POWER: measurements of a household's electricity, one a minute.
//!
//! G. Hebrail, A. Berard, UCI Machine Learning Repository (2012), CC BY 4.0. Preprocessing of
//! arXiv:1705.07057, appendix D: reactive power and intensity are left out, the rows are shuffled, and
//! noise below the resolution of each meter is added.

use std::path::Path;

use flows_core::random::shuffle;
use rand::RngExt;

use super::{DataSet, SEED, STANDARDIZED, SetId, find, names, read, split_and_standardize};
use flows_tables::{DataError, Rows};
use flows_train::stream;

const PUBLISHED: usize = 2_049_280;

/// Columns of the archive's array that stay: active power, voltage, the three sub-meters, and the time.
const KEPT: [usize; 6] = [0, 2, 4, 5, 6, 7];

/// Widths of the uniform noise on them.
const NOISE: [f64; 6] = [0.001, 0.01, 1.0, 1.0, 1.0, 0.0];

pub(super) fn load(data: &Path) -> Result<DataSet, DataError> {
    let files = ["power/data.npy", "uci/power_head8col.npy"];
    let path = find(SetId::Power, data, &files)?;
    let raw = read(&path, 8)?;
    let rows = raw.len();
    let prepared = prepare(&raw);
    let [train, validation, test] = split_and_standardize(&prepared);
    let status = if rows == PUBLISHED {
        "full set, own shuffle and noise".to_owned()
    } else {
        format!("subset: {rows} of {PUBLISHED} rows")
    };
    Ok(DataSet {
        id: SetId::Power,
        status,
        units: STANDARDIZED,
        columns: names(&["power", "voltage", "meter 1", "meter 2", "meter 3", "time"]),
        train,
        validation,
        test,
        shown: vec![0, 1, 4, 5],
    })
}

fn prepare(raw: &Rows) -> Rows {
    let mut order: Vec<usize> = (0..raw.len()).collect();
    shuffle(&mut order, &mut stream(SEED, "power shuffle", 0));
    let rng = &mut stream(SEED, "power noise", 0);
    let mut values = Vec::with_capacity(raw.len() * KEPT.len());
    for row in order {
        for (column, width) in KEPT.into_iter().zip(NOISE) {
            let noise: f64 = rng.random();
            values.push(raw.row(row)[column] + width * noise);
        }
    }
    Rows::new(values, KEPT.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_below_the_resolution_and_the_time_has_none() {
        let raw = Rows::new((0..800).map(f64::from).collect(), 8);
        let rows = prepare(&raw);
        let mut seen = Vec::new();
        for row in rows.iter() {
            // The time, in column 7 of the raw table, tells which row it was.
            let source = (row[5] as usize - 7) / 8;
            seen.push(source);
            for (i, (column, width)) in KEPT.into_iter().zip(NOISE).enumerate() {
                let noise = row[i] - raw.row(source)[column];
                assert!((0.0..=width).contains(&noise), "{noise}");
            }
        }
        assert_ne!(seen[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..100));
    }
}
