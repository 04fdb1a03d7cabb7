//! MNIST (LeCun, Cortes & Burges), and its static binarization (Larochelle & Murray, 2011).
//!
//! Dynamic: the first 50,000 training images, the last 10,000 of them for validation, 10,000 for
//! testing. Static: the three files of black and white images as they are.

use std::path::Path;

use super::{Binarization, ImageSet, ImageSetId, Images, Parts, Pixels, find, read_images, unfit};
use crate::data::amat::read_amat;
use flows_tables::DataError;

const SIZE: [usize; 2] = [28, 28];

pub(super) fn load(data: &Path, binarization: Binarization) -> Result<ImageSet, DataError> {
    match binarization {
        Binarization::Dynamic => grey(data),
        Binarization::Static => black_and_white(data),
    }
}

fn grey(data: &Path) -> Result<ImageSet, DataError> {
    let part = |name: &str| {
        let packed = format!("mnist/{name}-images-idx3-ubyte.gz");
        let plain = format!("mnist/{name}-images-idx3-ubyte");
        let path = find(ImageSetId::Mnist, data, &[&packed, &plain])?;
        Ok((read_images(&path, SIZE, 255.0)?, path))
    };
    let (known, path) = part("train")?;
    if known.len() != 60_000 {
        return Err(unfit(
            &path,
            format!("holds {} images, expected 60000", known.len()),
        ));
    }
    let parts = Parts {
        train: known.slice(0, 50_000),
        validation: known.slice(50_000, 60_000),
        test: part("t10k")?.0,
    };
    Ok(parts.binarize(ImageSetId::Mnist, "exact".to_owned(), Binarization::Dynamic))
}

fn black_and_white(data: &Path) -> Result<ImageSet, DataError> {
    let part = |name: &str, expected: usize| {
        let files = [
            format!("mnist-binarized/binarized_mnist_{name}-images-idx3-ubyte.gz"),
            format!("mnist-binarized/binarized_mnist_{name}.amat"),
            format!("mnist-binarized/binarized_mnist_{name}.amat.gz"),
        ];
        let path = find(
            ImageSetId::Mnist,
            data,
            &files.each_ref().map(String::as_str),
        )?;
        let images = if path.to_string_lossy().contains("-idx3-") {
            read_images(&path, SIZE, 1.0)?
        } else {
            let array = read_amat(&path)?;
            if array.width != SIZE[0] * SIZE[1] {
                return Err(unfit(
                    &path,
                    format!("has lines of {} numbers, expected 784", array.width),
                ));
            }
            Images::new(SIZE[0], SIZE[1], array.values)
        };
        if !images.are_binary() {
            return Err(unfit(&path, "holds pixels other than 0 and 1".to_owned()));
        }
        if images.len() != expected {
            return Err(unfit(
                &path,
                format!("holds {} images, expected {expected}", images.len()),
            ));
        }
        Ok(images)
    };
    Ok(ImageSet {
        id: ImageSetId::Mnist,
        status: "exact".to_owned(),
        binarization: "static, published".to_owned(),
        pixels: Pixels::Binary,
        resample: false,
        train: part("train", 50_000)?,
        validation: part("valid", 10_000)?,
        test: part("test", 10_000)?,
    })
}
