//! Frey faces (Roweis & Saul): 1,965 frames of 28 by 20 pixels in 256 grey levels, shuffled,
//! 1565/200/200.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{ImageSet, ImageSetId, Images, Pixels, SEED, find, read_images, unfit};
use crate::data::mat5::read_mat;
use flows_tables::DataError;
use flows_train::stream;

const SIZE: [usize; 2] = [28, 20];
const HELD_OUT: usize = 200;
/// SHA-256 of all pixels, frame by frame, row by row.
const PIXELS: &str = "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78";

pub(super) fn load(data: &Path) -> Result<ImageSet, DataError> {
    let files = [
        "frey-faces/freyfaces-images-idx3-ubyte.gz",
        "frey-faces/frey_rawface.mat",
    ];
    let path = find(ImageSetId::Frey, data, &files)?;
    let all = if path.extension().is_some_and(|e| e == "mat") {
        mat(&path)?
    } else {
        read_images(&path, SIZE, 255.0)?
    };
    if all.len() <= 2 * HELD_OUT {
        return Err(unfit(
            &path,
            format!("holds {} images, expected 1965", all.len()),
        ));
    }
    let levels = all.values().iter().map(|v| (v * 255.0).round() as u8);
    let digest = Sha256::digest(levels.collect::<Vec<u8>>());
    let same = format!("{digest:x}") == PIXELS;
    let all = all.shuffled(&mut stream(SEED, "frey", 0));
    let train = all.len() - 2 * HELD_OUT;
    Ok(ImageSet {
        id: ImageSetId::Frey,
        status: if same {
            "exact images, own shuffle"
        } else {
            "other images than the published ones"
        }
        .to_owned(),
        binarization: "none, 256 levels".to_owned(),
        pixels: Pixels::Levels,
        resample: false,
        train: all.slice(0, train),
        validation: all.slice(train, train + HELD_OUT),
        test: all.slice(train + HELD_OUT, all.len()),
    })
}

/// Array `ff` of the original file: a frame a column, row by row.
fn mat(path: &Path) -> Result<Images, DataError> {
    let mut arrays = read_mat(path, &["ff"])?;
    let array = arrays.remove("ff");
    let array = array.ok_or_else(|| unfit(path, "has no array 'ff'".to_owned()))?;
    if array.shape.first() != Some(&(SIZE[0] * SIZE[1])) || array.values.is_empty() {
        return Err(unfit(
            path,
            format!("'ff' has shape {:?}, expected [560, images]", array.shape),
        ));
    }
    if array.values.iter().any(|v| !(0.0..=255.0).contains(v)) {
        return Err(unfit(path, "'ff' holds numbers out of 0 to 255".to_owned()));
    }
    let values = array.values.iter().map(|v| *v as f32 / 255.0).collect();
    Ok(Images::new(SIZE[0], SIZE[1], values))
}
