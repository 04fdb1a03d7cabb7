//! Sets as three arrays, preprocessed as published: what a converter of the original archive writes, and
//! the HDF5 file of BSDS300 in that archive.

use std::path::Path;

use super::{DataSet, STANDARDIZED, SetId, read};
use flows_tables::source::{Header, Source};
use flows_tables::{DataError, Rows};

/// Where the first of the three is looked for.
pub(super) fn files(set: SetId) -> String {
    format!("{}/train.npy", set.name())
}

/// The set, where `NAME/train.npy`, `NAME/validation.npy` and `NAME/test.npy` are there, or the file of
/// the archive.
pub(super) fn load(set: SetId, data: &Path) -> Result<Option<DataSet>, DataError> {
    let part = |name: &str| data.join(set.name()).join(format!("{name}.npy"));
    if part("train").exists() {
        let width = Source::open(&part("train"), &Header::No.into())?
            .layout()
            .columns;
        let parts = PARTS.map(|p| read(&part(p), width));
        return with_parts(set, parts, |rows| {
            format!("prepared by the user, {rows} training rows")
        })
        .map(Some);
    }
    let archive = data.join(ARCHIVE);
    if set == SetId::Bsds && archive.exists() {
        let parts = hdf5_parts(&archive)?;
        return with_parts(set, parts, |rows| match rows {
            1_000_000 => "full set, as published".to_owned(),
            _ => format!("{ARCHIVE}, {rows} training rows"),
        })
        .map(Some);
    }
    Ok(None)
}

const PARTS: [&str; 3] = ["train", "validation", "test"];

/// BSDS300 in the archive of arXiv:1705.07057.
const ARCHIVE: &str = "BSDS300/BSDS300.hdf5";

fn with_parts(
    set: SetId,
    parts: Parts,
    status: impl Fn(usize) -> String,
) -> Result<DataSet, DataError> {
    let [train, validation, test] = parts;
    let (train, validation, test) = (train?, validation?, test?);
    let width = train.width();
    if let Some(other) = [&validation, &test]
        .iter()
        .find(|rows| rows.width() != width)
    {
        return Err(DataError::Table(format!(
            "the parts of set '{}' have {width} and {} columns",
            set.name(),
            other.width()
        )));
    }
    Ok(DataSet {
        id: set,
        status: status(train.len()),
        units: match set {
            SetId::Bsds => "nats of patches",
            _ => STANDARDIZED,
        },
        columns: (1..=width).map(|i| format!("x{i}")).collect(),
        train,
        validation,
        test,
        shown: (0..width.min(4)).collect(),
    })
}

type Parts = [Result<Rows, DataError>; 3];

#[cfg(feature = "hdf5")]
fn hdf5_parts(path: &Path) -> Result<Parts, DataError> {
    use hdf5_reader::Hdf5File;
    let wrong = |reason: String| DataError::Format {
        origin: path.display().to_string(),
        reason,
    };
    let file = Hdf5File::open(path).map_err(|e| wrong(e.to_string()))?;
    Ok(PARTS.map(|name| {
        let dataset = file.dataset(name).map_err(|e| wrong(e.to_string()))?;
        let &[rows, width] = dataset.shape() else {
            let shape = dataset.shape();
            return Err(wrong(format!(
                "'{name}' has shape {shape:?}, expected a matrix"
            )));
        };
        if rows == 0 || width == 0 {
            return Err(wrong(format!("'{name}' is empty")));
        }
        let doubles = dataset.read_array::<f64>().map(|a| a.into_iter().collect());
        let singles = || {
            let array = dataset.read_array::<f32>()?;
            Ok(array.into_iter().map(f64::from).collect())
        };
        let values: Result<Vec<f64>, hdf5_reader::error::Error> = doubles.or_else(|_| singles());
        let values = values.map_err(|e| wrong(e.to_string()))?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let (row, value) = (at / width as usize, values[at]);
            return Err(wrong(format!("'{name}' holds {value} in row {row}")));
        }
        Ok(Rows::new(values, width as usize))
    }))
}

#[cfg(not(feature = "hdf5"))]
fn hdf5_parts(path: &Path) -> Result<Parts, DataError> {
    Err(DataError::Format {
        origin: path.display().to_string(),
        reason: "is HDF5, which this build does not read; build with `--features hdf5`".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BSDS300.hdf5` in the layout of the archive, written by h5py 3.16.0: `train` (4 rows),
    /// `validation` (2) and `test` (3) of 63 columns, each value `100 * part + row + column / 64`.
    const FILE: &[u8] = include_bytes!("../../../tests/data/bsds300-layout.hdf5");

    fn archive(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("BSDS300")).unwrap();
        std::fs::write(folder.path().join(ARCHIVE), bytes).unwrap();
        folder
    }

    #[test]
    #[cfg(feature = "hdf5")]
    fn the_file_of_the_archive_is_read_and_a_damaged_one_refused() {
        let folder = archive(FILE);
        let set = load(SetId::Bsds, folder.path()).unwrap().unwrap();
        let sizes = [&set.train, &set.validation, &set.test].map(Rows::len);
        assert_eq!((sizes, set.columns.len()), ([4, 2, 3], 63));
        for (part, rows) in [&set.train, &set.validation, &set.test]
            .into_iter()
            .enumerate()
        {
            for (i, row) in rows.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    assert_eq!(*value, (100 * part + i) as f64 + j as f64 / 64.0);
                }
            }
        }
        assert_eq!(set.status, "BSDS300/BSDS300.hdf5, 4 training rows");
        for cut in [0, 7, 100, FILE.len() / 2, FILE.len() - 600] {
            let folder = archive(&FILE[..cut]);
            let error = load(SetId::Bsds, folder.path()).unwrap_err().to_string();
            assert!(
                error.contains("BSDS300.hdf5") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    #[cfg(not(feature = "hdf5"))]
    fn without_the_reader_the_file_of_the_archive_is_answered_with_how_to_get_it() {
        let folder = archive(FILE);
        let error = load(SetId::Bsds, folder.path()).unwrap_err().to_string();
        assert!(error.contains("--features hdf5"), "{error}");
    }
}
