//! Omniglot (B. Lake et al., 2015) in the form of the IWAE paper: 24,345 and 8,070 images of 28 by
//! 28.
//!
//! Burda, Grosse & Salakhutdinov, arXiv:1509.00519. Its file `chardata.mat` holds images column by
//! column, one a column. The training images are shuffled, the last 1,345 of them are for
//! validation.

use std::path::Path;

use super::{Binarization, ImageSet, ImageSetId, Images, Parts, SEED, find, read_images, unfit};
use crate::data::mat5::{MatArray, read_mat};
use flows_tables::DataError;
use flows_train::stream;

const SIZE: [usize; 2] = [28, 28];
const VALIDATION: usize = 1_345;

const ORIGINAL: &str = "omniglot/chardata.mat";
const REBUILT_MAT: &str = "omniglot/chardata_rebuilt.mat";
const REBUILT: [&str; 2] = [
    "omniglot/omniglot28-train-images-idx3-ubyte.gz",
    "omniglot/omniglot28-test-images-idx3-ubyte.gz",
];

pub(super) fn load(data: &Path, binarization: Binarization) -> Result<ImageSet, DataError> {
    let path = find(
        ImageSetId::Omniglot,
        data,
        &[ORIGINAL, REBUILT[0], REBUILT_MAT],
    )?;
    let [known, test] = if path.extension().is_some_and(|e| e == "mat") {
        mat(&path)?
    } else {
        let test = find(ImageSetId::Omniglot, data, &REBUILT[1..])?;
        [
            read_images(&path, SIZE, 255.0)?,
            read_images(&test, SIZE, 255.0)?,
        ]
    };
    if known.len() <= VALIDATION {
        return Err(unfit(
            &path,
            format!("holds {} images, expected 24345", known.len()),
        ));
    }
    let known = known.shuffled(&mut stream(SEED, "omniglot", 0));
    let train = known.len() - VALIDATION;
    let parts = Parts {
        train: known.slice(0, train),
        validation: known.slice(train, known.len()),
        test,
    };
    let status = if path.ends_with(ORIGINAL) {
        "exact"
    } else {
        "rebuilt: own resampling and choice of drawings"
    };
    Ok(parts.binarize(ImageSetId::Omniglot, status.to_owned(), binarization))
}

fn mat(path: &Path) -> Result<[Images; 2], DataError> {
    let arrays = read_mat(path, &["data", "testdata"])?;
    let images = |name: &str| {
        let array = arrays.get(name);
        let array = array.ok_or_else(|| unfit(path, format!("has no array '{name}'")))?;
        from_columns(array).map_err(|reason| unfit(path, format!("'{name}' {reason}")))
    };
    Ok([images("data")?, images("testdata")?])
}

fn from_columns(array: &MatArray) -> Result<Images, String> {
    if array.shape.len() != 2 || array.shape[0] != SIZE[0] * SIZE[1] || array.values.is_empty() {
        return Err(format!(
            "has shape {:?}, expected [784, images]",
            array.shape
        ));
    }
    if let Some(value) = array.values.iter().find(|v| !(0.0..=1.0).contains(*v)) {
        return Err(format!("holds {value}, expected numbers from 0 to 1"));
    }
    // One image a column, itself column by column.
    let values = array.values.iter().map(|v| *v as f32).collect();
    Ok(Images::new(SIZE[1], SIZE[0], values).transposed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_upright_images() {
        let mut values = vec![0.0; 784 * 2];
        // Row 3, column 5 of the second image.
        values[784 + 5 * 28 + 3] = 0.5;
        let shape = vec![784, 2];
        let images = from_columns(&MatArray { shape, values }).unwrap();
        assert_eq!(images.image(1)[3 * 28 + 5], 0.5);
        assert!(images.image(0).iter().all(|v| *v == 0.0));
        let wrong = MatArray {
            shape: vec![2, 784],
            values: vec![0.0; 784 * 2],
        };
        assert!(from_columns(&wrong).unwrap_err().contains("[784, images]"));
    }
}
