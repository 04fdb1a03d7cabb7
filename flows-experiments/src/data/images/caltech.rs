//! Caltech 101 silhouettes (B. Marlin et al., 2010): 28 by 28 pixels, black and white,
//! 4100/2264/2307.
//!
//! The papers use the file `..._split1.mat` and `1 - x`, so that the object is white. Where only
//! the file of all images is there, a split of the same sizes stands in.

use std::collections::BTreeMap;
use std::path::Path;

use super::{ImageSet, ImageSetId, Images, Pixels, SEED, find, read_images, unfit};
use crate::data::mat5::{MatArray, read_mat};
use flows_tables::DataError;
use flows_train::stream;

const SIZE: [usize; 2] = [28, 28];
const COUNTS: [usize; 3] = [4_100, 2_264, 2_307];

const SPLIT: &str = "caltech101-silhouettes/caltech101_silhouettes_28_split1.mat";
const ALL: [&str; 2] = [
    "caltech101-silhouettes/caltech101_silhouettes_28.mat",
    "caltech101-silhouettes/caltech101-silhouettes28-all-images-idx3-ubyte.gz",
];

pub(super) fn load(data: &Path) -> Result<ImageSet, DataError> {
    let path = find(ImageSetId::Caltech, data, &[SPLIT, ALL[0], ALL[1]])?;
    let (status, [train, validation, test]) = if path.ends_with(SPLIT) {
        let arrays = read_mat(&path, &["train_data", "val_data", "test_data"])?;
        let part = |name| rows(&path, &arrays, name);
        let parts = [part("train_data")?, part("val_data")?, part("test_data")?];
        ("exact", parts)
    } else {
        (
            "stand-in: all images exact, own split of the published sizes",
            own_split(&path)?,
        )
    };
    Ok(ImageSet {
        id: ImageSetId::Caltech,
        status: status.to_owned(),
        binarization: "none, binary images".to_owned(),
        pixels: Pixels::Binary,
        resample: false,
        train,
        validation,
        test,
    })
}

fn own_split(path: &Path) -> Result<[Images; 3], DataError> {
    let all = if path.extension().is_some_and(|e| e == "mat") {
        rows(path, &read_mat(path, &["X"])?, "X")?
    } else {
        inverted(path, read_images(path, SIZE, 1.0)?)?
    };
    let expected = COUNTS.iter().sum::<usize>();
    if all.len() != expected {
        return Err(unfit(
            path,
            format!("holds {} images, expected {expected}", all.len()),
        ));
    }
    let all = all.shuffled(&mut stream(SEED, "caltech", 0));
    let [train, validation, _] = COUNTS;
    let known = train + validation;
    Ok([
        all.slice(0, train),
        all.slice(train, known),
        all.slice(known, expected),
    ])
}

/// An array with one image a row, itself column by column.
fn rows(path: &Path, arrays: &BTreeMap<String, MatArray>, name: &str) -> Result<Images, DataError> {
    let array = arrays.get(name);
    let array = array.ok_or_else(|| unfit(path, format!("has no array '{name}'")))?;
    let pixels = SIZE[0] * SIZE[1];
    let [images, columns] = array.shape[..] else {
        return Err(unfit(path, format!("'{name}' has shape {:?}", array.shape)));
    };
    if columns != pixels || images == 0 {
        let reason = format!(
            "'{name}' has shape {:?}, expected [images, 784]",
            array.shape
        );
        return Err(unfit(path, reason));
    }
    let values = (0..images).flat_map(|i| (0..pixels).map(move |j| i + images * j));
    let values = values.map(|at| array.values[at] as f32).collect();
    inverted(path, Images::new(SIZE[1], SIZE[0], values).transposed())
}

/// With the object white.
fn inverted(path: &Path, images: Images) -> Result<Images, DataError> {
    if !images.are_binary() {
        return Err(unfit(path, "holds pixels other than 0 and 1".to_owned()));
    }
    let values = images.values().iter().map(|v| 1.0 - v).collect();
    Ok(Images::new(SIZE[0], SIZE[1], values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_upright_images_with_a_white_object() {
        let mut values = vec![1.0; 784 * 2];
        // Row 3, column 5 of the second of two images.
        values[1 + 2 * (5 * 28 + 3)] = 0.0;
        let shape = vec![2, 784];
        let arrays = BTreeMap::from([("X".to_owned(), MatArray { shape, values })]);
        let images = rows(Path::new("x.mat"), &arrays, "X").unwrap();
        assert_eq!(images.image(1)[3 * 28 + 5], 1.0);
        assert_eq!(images.values().iter().sum::<f32>(), 1.0);
    }
}
