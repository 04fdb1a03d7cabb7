//! BSDS300: 8 by 8 patches of grey images.
//!
//! D. Martin, C. Fowlkes, D. Tal, J. Malik, ICCV 2001; patches after Zoran & Weiss (2011) as in
//! arXiv:1705.07057, appendix D: uniform noise, divided by 256, the mean of each patch subtracted, the last
//! pixel left out. The units stay those of the patches.

use std::path::Path;

use rand::RngExt;

use super::{DataSet, SEED, SetId, find};
use crate::data::idx::{IdxArray, read_idx};
use flows_tables::{DataError, Rows};
use flows_train::stream;

const PIXELS: usize = 64;

pub(super) fn load(data: &Path) -> Result<DataSet, DataError> {
    let part = |name: &str| {
        let file = format!("bsds/bsds300-patches8x8-{name}-idx3-ubyte.gz");
        let path = find(SetId::Bsds, data, &[&file])?;
        let IdxArray { shape, bytes } = read_idx(&path)?;
        if shape.len() != 3 || shape[1] * shape[2] != PIXELS {
            return Err(DataError::Format {
                origin: path.display().to_string(),
                reason: format!("holds images of shape {:?}, expected [8, 8]", &shape[1..]),
            });
        }
        Ok(prepare(&bytes, name))
    };
    let (train, validation, test) = (part("train")?, part("valid")?, part("test")?);
    Ok(DataSet {
        id: SetId::Bsds,
        status: format!(
            "rebuilt: {} own crops of the BSDS300 images, {} of them for training",
            train.len() + validation.len() + test.len(),
            train.len()
        ),
        units: "nats of patches",
        columns: (0..PIXELS - 1)
            .map(|i| format!("({}, {})", i / 8, i % 8))
            .collect(),
        train,
        validation,
        test,
        shown: vec![0, 1, 8, 27],
    })
}

fn prepare(bytes: &[u8], part: &str) -> Rows {
    let rng = &mut stream(SEED, part, 0);
    let mut values = Vec::with_capacity(bytes.len());
    for patch in bytes.chunks_exact(PIXELS) {
        let noisy = patch
            .iter()
            .map(|&p| (f64::from(p) + rng.random::<f64>()) / 256.0);
        let noisy: Vec<f64> = noisy.collect();
        let mean = noisy.iter().sum::<f64>() / PIXELS as f64;
        values.extend(noisy[..PIXELS - 1].iter().map(|v| v - mean));
    }
    Rows::new(values, PIXELS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_centred_and_lose_their_last_pixel() {
        let bytes: Vec<u8> = (0..128).collect();
        let rows = prepare(&bytes, "test");
        assert_eq!((rows.len(), rows.width()), (2, 63));
        for row in rows.iter() {
            // The last pixel is what makes the sum zero.
            let last = -row.iter().sum::<f64>();
            assert!((last - row[62] - 1.0 / 256.0).abs() < 2.0 / 256.0);
            assert!(row.windows(2).all(|w| (w[1] - w[0]).abs() <= 2.0 / 256.0));
        }
    }
}
