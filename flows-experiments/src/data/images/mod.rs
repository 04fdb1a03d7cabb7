//! Sets of images, with the splits and the binarization of the literature on variational
//! autoencoders.
//!
//! van den Berg et al., *Sylvester Normalizing Flows*, arXiv:1803.05649, section 6. The order of a
//! shuffle and the draws of a binarization come from generators of our own.

mod caltech;
mod digits;
mod frey;
mod mnist;
mod omniglot;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use flows_core::random::shuffle;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::idx::{IdxArray, read_idx};
use flows_tables::DataError;
use flows_train::stream;

/// Images of one size, intensities from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    height: usize,
    width: usize,
    /// Image by image, row by row.
    values: Vec<f32>,
}

impl Images {
    /// Images of `height` rows and `width` columns, one after the other.
    ///
    /// # Panics
    /// Where the number of values is no multiple of an image's, or an image has no pixels.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Self {
        assert!(height * width > 0 && values.len().is_multiple_of(height * width));
        Self {
            height,
            width,
            values,
        }
    }

    /// Rows and columns of an image.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Pixels of an image.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.values.len() / self.pixels()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// One image, row by row.
    pub fn image(&self, index: usize) -> &[f32] {
        &self.values[index * self.pixels()..][..self.pixels()]
    }

    /// All values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The images at these indices.
    pub fn pick(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&i| self.image(i)).copied();
        Self::new(self.height, self.width, values.collect())
    }

    /// Images `from..to`.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let values = self.values[from * self.pixels()..to * self.pixels()].to_vec();
        Self::new(self.height, self.width, values)
    }

    /// `count` images at even distances, all where there are not as many: files may be sorted by class.
    pub fn spread(&self, count: usize) -> Self {
        let count = count.min(self.len());
        let indices: Vec<usize> = (0..count).map(|i| i * self.len() / count).collect();
        self.pick(&indices)
    }

    /// Every pixel drawn black or white, white with its intensity as probability.
    pub fn binarized(&self, rng: &mut dyn Rng) -> Self {
        let draw = |p: &f32| f32::from(u8::from(rng.random::<f32>() < *p));
        let values = self.values.iter().map(draw).collect();
        Self::new(self.height, self.width, values)
    }

    /// Whether every pixel is black or white.
    pub fn are_binary(&self) -> bool {
        self.values.iter().all(|v| *v == 0.0 || *v == 1.0)
    }

    fn transposed(&self) -> Self {
        let mut values = Vec::with_capacity(self.values.len());
        for i in 0..self.len() {
            let image = self.image(i);
            let pixel = |r: usize, c: usize| image[c * self.width + r];
            let rows = 0..self.width;
            values.extend(
                rows.flat_map(|r| (0..self.height).map(move |c| (r, c)))
                    .map(|(r, c)| pixel(r, c)),
            );
        }
        Self::new(self.width, self.height, values)
    }

    fn shuffled(&self, rng: &mut dyn Rng) -> Self {
        let mut order: Vec<usize> = (0..self.len()).collect();
        shuffle(&mut order, rng);
        self.pick(&order)
    }
}

/// How grey pixels become black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Binarization {
    /// Once for all: for MNIST the published draw, for other sets one of our own.
    Static,
    /// Anew for every batch of training images; validation and test images once.
    #[default]
    Dynamic,
}

/// What a pixel is to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pixels {
    /// Black or white.
    Binary,
    /// One of 256 grey levels, the intensity being the level over 255.
    Levels,
}

/// A set, split, ready for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSet {
    /// The set.
    pub id: ImageSetId,
    /// How its images and splits relate to the published ones: stands in every result.
    pub status: String,
    /// How its pixels were binarized: stands in every result.
    pub binarization: String,
    /// What a pixel is.
    pub pixels: Pixels,
    /// Whether training images are probabilities, to be drawn anew for every batch.
    pub resample: bool,
    /// Images to fit.
    pub train: Images,
    /// Images that decide when training stops.
    pub validation: Images,
    /// Images that are scored.
    pub test: Images,
}

/// A set of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSetId {
    /// 1,797 digits of 8 by 8 pixels, part of this program.
    Digits,
    /// MNIST: 70,000 digits of 28 by 28 pixels.
    Mnist,
    /// Omniglot: 32,415 characters of 28 by 28 pixels.
    Omniglot,
    /// Frey faces: 1,965 grey photographs of 28 by 20 pixels.
    Frey,
    /// Caltech 101 silhouettes: 8,671 shapes of 28 by 28 pixels.
    Caltech,
}

impl ImageSetId {
    /// Every set.
    pub const ALL: [Self; 5] = [
        Self::Digits,
        Self::Mnist,
        Self::Omniglot,
        Self::Frey,
        Self::Caltech,
    ];

    /// Its name on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Mnist => "mnist",
            Self::Omniglot => "omniglot",
            Self::Frey => "frey",
            Self::Caltech => "caltech",
        }
    }

    /// What it is, in a line.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Digits => "1,797 digits of 8 by 8 pixels (UCI optdigits), part of this program",
            Self::Mnist => "70,000 digits of 28 by 28 pixels",
            Self::Omniglot => "32,415 characters of 28 by 28 pixels, in the form of the IWAE paper",
            Self::Frey => "1,965 faces of 28 by 20 pixels in 256 grey levels",
            Self::Caltech => "8,671 silhouettes of 28 by 28 pixels, black and white",
        }
    }

    /// Rows and columns of its images.
    pub fn size(self) -> [usize; 2] {
        match self {
            Self::Digits => [8, 8],
            Self::Frey => [28, 20],
            Self::Mnist | Self::Omniglot | Self::Caltech => [28, 28],
        }
    }

    /// What its pixels are to a model.
    pub fn pixels(self) -> Pixels {
        match self {
            Self::Frey => Pixels::Levels,
            _ => Pixels::Binary,
        }
    }

    /// Whether it needs no folder.
    pub fn is_embedded(self) -> bool {
        self == Self::Digits
    }

    /// Reads and splits it; `data` is the folder of all sets.
    ///
    /// # Errors
    /// [`DataError`] naming the file, or the set whose file is missing.
    pub fn load(
        self,
        data: Option<&Path>,
        binarization: Binarization,
    ) -> Result<ImageSet, DataError> {
        if self == Self::Digits {
            return Ok(digits::load(binarization));
        }
        let data = data.ok_or_else(|| {
            let name = self.name();
            let words =
                "is not part of this program: --data-dir or FLOWS_DATA names the folder it is in";
            DataError::Table(format!("set '{name}' {words}"))
        })?;
        match self {
            Self::Digits => unreachable!("it was loaded above"),
            Self::Mnist => mnist::load(data, binarization),
            Self::Omniglot => omniglot::load(data, binarization),
            Self::Frey => frey::load(data),
            Self::Caltech => caltech::load(data),
        }
    }
}

/// The parts of a set of grey images.
struct Parts {
    train: Images,
    validation: Images,
    test: Images,
}

impl Parts {
    /// As a set of binary images: what is not resampled is drawn once, the same in all runs.
    fn binarize(self, id: ImageSetId, status: String, binarization: Binarization) -> ImageSet {
        let once = |images: &Images, part: &str| images.binarized(&mut stream(SEED, part, 0));
        let resample = binarization == Binarization::Dynamic;
        ImageSet {
            id,
            status,
            binarization: match binarization {
                Binarization::Dynamic => "dynamic",
                Binarization::Static => "static, drawn once",
            }
            .to_owned(),
            pixels: Pixels::Binary,
            resample,
            validation: once(&self.validation, "binarized validation"),
            test: once(&self.test, "binarized test"),
            train: if resample {
                self.train
            } else {
                once(&self.train, "binarized train")
            },
        }
    }
}

/// Seed of shuffles and of what is drawn once: a set is the same in all runs.
const SEED: u64 = 0;

/// The first of these files that is there.
fn find(set: ImageSetId, data: &Path, files: &[&str]) -> Result<PathBuf, DataError> {
    let mut there = files.iter().map(|file| data.join(file));
    there.find(|path| path.exists()).ok_or_else(|| {
        DataError::Table(format!(
            "set '{}' is not in {}: looked for {}; `flows data list` prints where to get it",
            set.name(),
            data.display(),
            files.join(", ")
        ))
    })
}

/// Images of bytes, `scale` being white.
fn read_images(path: &Path, [height, width]: [usize; 2], scale: f32) -> Result<Images, DataError> {
    let IdxArray { shape, bytes } = read_idx(path)?;
    let [_, h, w] = shape[..] else {
        return Err(unfit(
            path,
            format!("holds an array of shape {shape:?}, expected images"),
        ));
    };
    if [h, w] != [height, width] || bytes.is_empty() {
        return Err(unfit(
            path,
            format!("holds images of shape [{h}, {w}], expected [{height}, {width}]"),
        ));
    }
    if let Some(byte) = bytes.iter().find(|b| f32::from(**b) > scale) {
        return Err(unfit(
            path,
            format!("holds a pixel of {byte}, expected at most {scale}"),
        ));
    }
    let values = bytes.iter().map(|b| f32::from(*b) / scale).collect();
    Ok(Images::new(height, width, values))
}

fn unfit(path: &Path, reason: String) -> DataError {
    DataError::Format {
        origin: path.display().to_string(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_by_column_image_is_turned() {
        let images = Images::new(2, 3, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let turned = images.transposed();
        assert_eq!(turned.size(), [3, 2]);
        assert_eq!(turned.values(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(turned.transposed(), images);
    }

    #[test]
    fn a_part_reaches_over_the_whole_set() {
        let images = Images::new(1, 1, (0..10).map(|i| i as f32).collect());
        assert_eq!(images.spread(4).values(), [0.0, 2.0, 5.0, 7.0]);
        assert_eq!(images.spread(10), images);
        assert_eq!(images.spread(99), images);
    }

    #[test]
    fn binarization_keeps_the_mean_and_what_is_binary() {
        let images = Images::new(1, 2, [0.25, 1.0].repeat(4000));
        let drawn = images.binarized(&mut stream(1, "test", 0));
        assert!(drawn.are_binary() && !images.are_binary());
        let mean = |k: usize| drawn.values().iter().skip(k).step_by(2).sum::<f32>() / 4000.0;
        // Five standard errors.
        assert!((mean(0) - 0.25).abs() < 5.0 * (0.25f32 * 0.75 / 4000.0).sqrt());
        assert_eq!(mean(1), 1.0);
    }

    #[test]
    fn a_set_that_is_not_there_is_answered_with_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for set in ImageSetId::ALL.into_iter().filter(|set| !set.is_embedded()) {
            let error = set
                .load(Some(folder.path()), Binarization::Dynamic)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("looked for") && error.contains(set.name()),
                "{error}"
            );
            let error = set
                .load(None, Binarization::Dynamic)
                .unwrap_err()
                .to_string();
            assert!(error.contains("--data-dir"), "{error}");
        }
    }

    /// Where a folder with the real sets is at hand, all of them are looked at.
    #[test]
    fn the_sets_of_a_data_folder_have_the_published_counts() {
        let Some(data) = std::env::var_os("FLOWS_DATA").map(PathBuf::from) else {
            return;
        };
        let counts = [
            (ImageSetId::Mnist, [50_000, 10_000, 10_000]),
            (ImageSetId::Omniglot, [23_000, 1_345, 8_070]),
            (ImageSetId::Frey, [1_565, 200, 200]),
            (ImageSetId::Caltech, [4_100, 2_264, 2_307]),
        ];
        for (id, expected) in counts {
            for binarization in [Binarization::Static, Binarization::Dynamic] {
                let set = match id.load(Some(&data), binarization) {
                    Ok(set) => set,
                    Err(DataError::Table(_)) => continue,
                    Err(error) => panic!("{error}"),
                };
                let found = [set.train.len(), set.validation.len(), set.test.len()];
                assert_eq!(found, expected, "{}", id.name());
                assert_eq!(set.train.size(), id.size());
                let binary = id.pixels() == Pixels::Binary;
                assert_eq!(set.test.are_binary(), binary);
                assert_eq!(set.train.are_binary(), binary && !set.resample);
            }
        }
    }
}
