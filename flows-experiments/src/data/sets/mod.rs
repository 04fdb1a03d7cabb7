//! The tables of the density-estimation literature, with its preprocessing and splits.
//!
//! Papamakarios, Pavlakou & Murray, *Masked Autoregressive Flow for Density Estimation*,
//! arXiv:1705.07057, section 4.2 and appendix D. The order of a shuffle and the noise of a dequantization
//! come from generators of our own, so a full set is the published one up to these.

mod bsds;
mod miniboone;
mod power;
mod prepared;
mod protein;

use std::path::Path;

use flows_tables::gaussian::moments;
use flows_tables::source::{Header, Missing, Source};
use flows_tables::table::collect;
use flows_tables::{DataError, Rows};

/// A set of the density experiment, ready for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// The set.
    pub id: SetId,
    /// How its rows relate to the published ones, with their number: stands in every result.
    pub status: String,
    /// The units that log-likelihoods are in.
    pub units: &'static str,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows to fit.
    pub train: Rows,
    /// Rows that decide when training stops.
    pub validation: Rows,
    /// Rows for the final score.
    pub test: Rows,
    /// Columns for pictures.
    pub shown: Vec<usize>,
}

/// A set by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetId {
    /// Household electric power consumption, 6 columns.
    Power,
    /// Gas sensors, 8 columns.
    Gas,
    /// Particle physics, 21 columns.
    Hepmass,
    /// Neutrino detection, 43 columns.
    Miniboone,
    /// Patches of natural images, 63 columns.
    Bsds,
    /// Properties of protein structures, 10 columns; not one of the published five.
    Protein,
}

impl SetId {
    /// All sets.
    pub const ALL: [Self; 6] = [
        Self::Power,
        Self::Gas,
        Self::Hepmass,
        Self::Miniboone,
        Self::Bsds,
        Self::Protein,
    ];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Gas => "gas",
            Self::Hepmass => "hepmass",
            Self::Miniboone => "miniboone",
            Self::Bsds => "bsds300",
            Self::Protein => "protein",
        }
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Power => "household electric power consumption, 6 columns",
            Self::Gas => "gas sensors, 8 columns; converted files only",
            Self::Hepmass => "particle collisions, 21 columns; converted files only",
            Self::Miniboone => "neutrino detection, 43 columns",
            Self::Bsds => "8 x 8 patches of natural images, 63 columns",
            Self::Protein => "physicochemical properties of proteins, 10 columns; no published row",
        }
    }

    /// The set of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Reads it from a data folder.
    ///
    /// # Errors
    /// [`DataError`] naming the files it was looked for in, or what is wrong in one.
    pub fn load(self, data: &Path) -> Result<DataSet, DataError> {
        // Files that somebody prepared as published stand before everything else.
        if let Some(set) = prepared::load(self, data)? {
            return Ok(set);
        }
        match self {
            Self::Power => power::load(data),
            Self::Miniboone => miniboone::load(data),
            Self::Bsds => bsds::load(data),
            Self::Protein => protein::load(data),
            Self::Gas | Self::Hepmass => Err(missing(self, data, &[&prepared::files(self)])),
        }
    }
}

/// Seed of shuffles and noise: the rows of a set are the same in all runs.
const SEED: u64 = 0;

/// The first of these files that is there.
fn find(set: SetId, data: &Path, files: &[&str]) -> Result<std::path::PathBuf, DataError> {
    let paths = files.iter().map(|file| data.join(file));
    let mut there = paths.filter(|path| path.exists());
    there.next().ok_or_else(|| missing(set, data, files))
}

fn missing(set: SetId, data: &Path, files: &[&str]) -> DataError {
    DataError::Table(format!(
        "set '{}' is not in {}: looked for {}; docs/density.md tells where to get it",
        set.name(),
        data.display(),
        files.join(", ")
    ))
}

/// All rows of a table of `width` columns.
fn read(path: &Path, width: usize) -> Result<Rows, DataError> {
    let mut source = Source::open(path, &Header::No.into())?;
    let found = source.layout().columns;
    if found != width {
        return Err(DataError::Format {
            origin: path.display().to_string(),
            reason: format!("has {found} columns, expected {width}"),
        });
    }
    source.select((0..width).collect(), Missing::Refuse);
    let values = collect(&mut source)?;
    if values.is_empty() {
        return Err(DataError::Format {
            origin: path.display().to_string(),
            reason: "holds no rows".to_owned(),
        });
    }
    Ok(Rows::new(values, width))
}

/// The published split of a table: the last tenth is for testing, the last tenth of the rest for
/// validation; all is standardized with the moments of the rows before the test rows.
fn split_and_standardize(rows: &Rows) -> [Rows; 3] {
    let total = rows.len();
    let known = total - total / 10;
    let train = known - known / 10;
    let (mean, covariance) = moments(&rows.slice(0, known));
    let dim = mean.len();
    let units = |from: usize, to: usize| {
        let part = rows.slice(from, to);
        let scaled = part.iter().flat_map(|row| {
            let columns = row.iter().enumerate();
            columns.map(|(i, v)| (v - mean[i]) / covariance[i * (dim + 1)].sqrt())
        });
        Rows::new(scaled.collect(), dim)
    };
    [units(0, train), units(train, known), units(known, total)]
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|n| (*n).to_owned()).collect()
}

const STANDARDIZED: &str = "nats of standardized columns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_keeps_the_order_and_standardizes_with_training_and_validation_rows() {
        let rows = Rows::new((0..1000).map(f64::from).collect(), 1);
        let [train, validation, test] = split_and_standardize(&rows);
        assert_eq!([train.len(), validation.len(), test.len()], [810, 90, 100]);
        let known: Vec<f64> = train
            .values()
            .iter()
            .chain(validation.values())
            .copied()
            .collect();
        let (mean, variance) = moments(&Rows::new(known, 1));
        assert!(mean[0].abs() < 1e-12 && (variance[0] - 1.0).abs() < 1e-12);
        assert!(test.row(0)[0] > validation.row(89)[0]);
    }

    #[test]
    fn a_set_that_is_not_there_is_answered_with_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for set in SetId::ALL {
            assert_eq!(SetId::parse(set.name()), Some(set));
            let error = set.load(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains("looked for") && error.contains(set.name()),
                "{error}"
            );
        }
    }
}
