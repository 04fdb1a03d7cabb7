//! What the pictures of a run need: samples, reconstructions, and posteriors in the plane.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use flows_models::vae::Vae;
use serde::{Deserialize, Serialize};

use super::train::tensor;
use crate::data::images::ImageSet;
use crate::report::density_plot::{grid_points, histogram};
use flows_train::stream;

/// Samples on a sheet.
const SAMPLES: usize = 36;
/// Test images that are reconstructed, and shown beside their reconstructions.
pub(super) const SHOWN: usize = 10;
/// Test images whose posteriors are drawn.
pub(super) const POSTERIORS: usize = 3;
/// Cells along each side of a posterior.
pub(super) const CELLS: usize = 60;
/// Draws behind the histograms of a posterior.
const DRAWS: usize = 40_000;

/// The numbers behind the pictures of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawing {
    /// Expected images of draws from the prior, intensities from 0 to 255.
    pub samples: Vec<Vec<u8>>,
    /// Test images.
    pub originals: Vec<Vec<u8>>,
    /// Expected images of a draw from the posterior of each.
    pub reconstructions: Vec<Vec<u8>>,
    /// Posteriors of test images, for two latent variables.
    pub posteriors: Vec<Posterior>,
}

/// A posterior in the plane: densities on a grid, row by row from the lowest second variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posterior {
    /// `[[low, high]; 2]` of both variables.
    pub range: [[f64; 2]; 2],
    /// `p(z|x)` of the decoder, up to a factor.
    pub exact: Vec<f64>,
    /// Of `z_0`, before the flow.
    pub before: Vec<f64>,
    /// Of `z`, behind it.
    pub behind: Vec<f64>,
}

impl Drawing {
    /// Draws from `model`. Noise is the same for all posteriors.
    pub fn of<B: Backend>(model: &Vae<B>, set: &ImageSet, device: &B::Device) -> Self {
        let bytes = |images: Tensor<B, 2>| {
            let pixels = images.dims()[1];
            let all: Vec<u8> = images
                .into_data()
                .iter::<f64>()
                .map(|v| (v * 255.0).round() as u8)
                .collect();
            all.chunks(pixels).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let shown = set.test.spread(SHOWN);
        let x = tensor::<B>(&shown, device);
        let prior = model.noise(SAMPLES, &mut stream(0, "drawn samples", 0));
        let noise = model.noise(shown.len(), &mut stream(0, "drawn posteriors", 0));
        let draw = model.draw(&model.encode(x.clone()), noise);
        let posteriors = if model.latent() == 2 {
            let count = POSTERIORS.min(shown.len());
            (0..count)
                .map(|i| Posterior::of(model, x.clone().narrow(0, i, 1), device))
                .collect()
        } else {
            Vec::new()
        };
        Self {
            samples: bytes(model.mean_image(prior)),
            originals: bytes(x),
            reconstructions: bytes(model.mean_image(draw.z)),
            posteriors,
        }
    }
}

impl Posterior {
    /// The posterior of one image, `[1, pixels]`.
    fn of<B: Backend>(model: &Vae<B>, x: Tensor<B, 2>, device: &B::Device) -> Self {
        let noise = model.noise(DRAWS, &mut stream(0, "drawn posterior", 0));
        let draw = model.draw(&model.encode(x.clone()).repeat(DRAWS), noise);
        let (before, behind) = (points(draw.z_0), points(draw.z));
        let range = range_around(&[&before, &behind]);
        let grid = grid_points(range, CELLS);
        let z = TensorData::new(grid.concat(), [grid.len(), 2]);
        let z = Tensor::<B, 2>::from_data(z, device);
        let prior = z.clone().square().sum_dim(1).squeeze_dim::<1>(1) * -0.5;
        let repeated = x.clone().expand([grid.len(), x.dims()[1]]);
        let fit = model.likelihood().log_prob(model.decode(z), repeated, None);
        let log_p: Vec<f64> = (fit + prior).into_data().iter::<f64>().collect();
        let largest = log_p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            exact: log_p.iter().map(|l| (l - largest).exp()).collect(),
            before: histogram(&before, range, CELLS),
            behind: histogram(&behind, range, CELLS),
            range,
        }
    }
}

fn points<B: Backend>(z: Tensor<B, 2>) -> Vec<[f64; 2]> {
    let all: Vec<f64> = z.into_data().iter::<f64>().collect();
    all.chunks_exact(2).map(|p| [p[0], p[1]]).collect()
}

/// A square around the middle 99 % of all points, with room around it.
fn range_around(all: &[&[[f64; 2]]]) -> [[f64; 2]; 2] {
    let ends = [0, 1].map(|axis| {
        let mut values: Vec<f64> = all.iter().flat_map(|p| p.iter().map(|p| p[axis])).collect();
        values.retain(|v| v.is_finite());
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (values.len().saturating_sub(1)) as f64 * share;
            values.get(index as usize).copied().unwrap_or(0.0)
        };
        [at(0.005), at(0.995)]
    });
    let half = ends
        .iter()
        .map(|[low, high]| high - low)
        .fold(1e-3, f64::max)
        * 0.75;
    ends.map(|[low, high]| {
        let middle = 0.5 * (low + high);
        [middle - half, middle + half]
    })
}
