//! The digits that are part of this program.
//!
//! E. Alpaydin, C. Kaynak (1998), *Optical Recognition of Handwritten Digits*, UCI Machine Learning
//! Repository, CC BY 4.0; the 1,797 test images, as in scikit-learn. The split is our own.

use std::io::Read;

use flate2::read::GzDecoder;

use super::{Binarization, ImageSet, ImageSetId, Images, Parts, SEED};
use flows_train::stream;

const FILE: &[u8] = include_bytes!("../../../assets/digits.csv.gz");
const SIDE: usize = 8;
/// The value of white.
const WHITE: f32 = 16.0;
/// Images for validation, and as many for testing.
const HELD_OUT: usize = 250;

pub(super) fn load(binarization: Binarization) -> ImageSet {
    let all = all().shuffled(&mut stream(SEED, "digits", 0));
    let train = all.len() - 2 * HELD_OUT;
    let parts = Parts {
        train: all.slice(0, train),
        validation: all.slice(train, train + HELD_OUT),
        test: all.slice(train + HELD_OUT, all.len()),
    };
    let status = format!("complete, own split {train}/{HELD_OUT}/{HELD_OUT}");
    parts.binarize(ImageSetId::Digits, status, binarization)
}

/// All images, in the order of the file.
fn all() -> Images {
    let mut text = String::new();
    GzDecoder::new(FILE)
        .read_to_string(&mut text)
        .expect("the embedded digits are whole");
    let mut values = Vec::with_capacity(1797 * SIDE * SIDE);
    for line in text.lines() {
        let numbers = line.split(',').take(SIDE * SIDE);
        values.extend(
            numbers.map(|n| n.parse::<f32>().expect("the embedded digits are numbers") / WHITE),
        );
    }
    Images::new(SIDE, SIDE, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_digits_are_whole() {
        let images = all();
        assert_eq!((images.len(), images.size()), (1797, [8, 8]));
        let (low, high) = images
            .values()
            .iter()
            .fold((1f32, 0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        assert_eq!((low, high), (0.0, 1.0));
        // The mean of scikit-learn's array is 4.884164579855314.
        let mean = images.values().iter().map(|v| f64::from(*v)).sum::<f64>() / (1797.0 * 64.0);
        assert!((mean * 16.0 - 4.884_164_579_855_314).abs() < 1e-6, "{mean}");
    }

    #[test]
    fn parts_are_disjoint_and_the_same_in_all_runs() {
        let set = load(Binarization::Dynamic);
        assert_eq!(set, load(Binarization::Dynamic));
        assert_eq!(
            [set.train.len(), set.validation.len(), set.test.len()],
            [1297, 250, 250]
        );
        assert!(set.resample && set.test.are_binary() && !set.train.are_binary());
        let fixed = load(Binarization::Static);
        assert!(!fixed.resample && fixed.train.are_binary());
        assert_eq!(fixed.test, set.test);
    }
}
