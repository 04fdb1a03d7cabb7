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
