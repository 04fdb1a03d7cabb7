//! The four energies of Rezende and Mohamed, *Variational Inference with Normalizing Flows*
//! (arXiv:1505.05770, Table 1), and the soft wall that makes all of them integrable.
//!
//! The density is `p(z) = exp(-U(z)) / Z`. With `w1 = sin(2 pi z1 / 4)`,
//! `w2 = 3 exp(-((z1 - 1) / 0.6)^2 / 2)` and `w3 = 3 sigmoid((z1 - 1) / 0.3)`:
//!
//! ```text
//! U1 = ((|z| - 2) / 0.4)^2 / 2 - ln(exp(-((z1 - 2) / 0.6)^2 / 2) + exp(-((z1 + 2) / 0.6)^2 / 2))
//! U2 = ((z2 - w1) / 0.4)^2 / 2
//! U3 = -ln(exp(-((z2 - w1) / 0.35)^2 / 2) + exp(-((z2 - w1 + w2) / 0.35)^2 / 2))
//! U4 = -ln(exp(-((z2 - w1) / 0.4)^2 / 2) + exp(-((z2 - w1 + w3) / 0.35)^2 / 2))
//! ```
//!
//! U2 to U4 do not fall off along `z1`, so that a Kullback-Leibler divergence to them exists only
//! on a bounded region or beside a [`SoftWall`].
//!
//! Each formula stands here twice: in f64 on one point, for quadrature, and in tensors, for training.

use std::f64::consts::PI;

use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{Tensor, backend::Backend};
use flows_core::magnitude::magnitude;
use serde::{Deserialize, Serialize};

/// Squared radius below which `|z|` counts as constant: there its gradient `z / |z|` would be 0/0.
const SMALLEST_SQUARED_RADIUS: f64 = 1e-30;

/// One of the potentials U1 to U4 (arXiv:1505.05770, Table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Energy {
    /// A ring of radius 2 with two opposite bright arcs.
    U1,
    /// A band along a sine wave.
    U2,
    /// A sine wave that splits in two around `z1 = 1`.
    U3,
    /// A sine wave that splits in two from `z1 = 1` on.
    U4,
}

impl Energy {
    /// All four, in the order of the paper.
    pub const ALL: [Self; 4] = [Self::U1, Self::U2, Self::U3, Self::U4];

    /// Name on the command line and in tables: `"u1"` to `"u4"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U1 => "u1",
            Self::U2 => "u2",
            Self::U3 => "u3",
            Self::U4 => "u4",
        }
    }

    /// One line on the shape and where it comes from.
    pub fn describe(self) -> &'static str {
        match self {
            Self::U1 => {
                "energy: ring with two bright arcs (arXiv:1505.05770, Table 1, potential 1)"
            }
            Self::U2 => "energy: band along a sine wave (arXiv:1505.05770, Table 1, potential 2)",
            Self::U3 => {
                "energy: sine wave that parts and joins again (arXiv:1505.05770, Table 1, potential 3)"
            }
            Self::U4 => "energy: sine wave that forks (arXiv:1505.05770, Table 1, potential 4)",
        }
    }

    /// `U(z)` in nats.
    pub fn potential(self, z: [f64; 2]) -> f64 {
        let [z1, z2] = z;
        let gaussian = |x: f64, width: f64| -0.5 * (x / width).powi(2);
        let w1 = (2.0 * PI * z1 / 4.0).sin();
        match self {
            Self::U1 => {
                let ring = 0.5 * ((z1.hypot(z2) - 2.0) / 0.4).powi(2);
                ring - log_sum_exp(gaussian(z1 - 2.0, 0.6), gaussian(z1 + 2.0, 0.6))
            }
            Self::U2 => -gaussian(z2 - w1, 0.4),
            Self::U3 => {
                let w2 = 3.0 * gaussian(z1 - 1.0, 0.6).exp();
                -log_sum_exp(gaussian(z2 - w1, 0.35), gaussian(z2 - w1 + w2, 0.35))
            }
            Self::U4 => {
                let w3 = 3.0 / (1.0 + (-(z1 - 1.0) / 0.3).exp());
                -log_sum_exp(gaussian(z2 - w1, 0.4), gaussian(z2 - w1 + w3, 0.35))
            }
        }
    }

    /// `U(z)` of every row in nats, with finite gradients wherever the squares of `z` are finite.
    ///
    /// # Shapes
    /// - `z`: `[batch, 2]`
    /// - output: `[batch]`
    ///
    /// # Panics
    /// Where `z` does not have two columns.
    pub fn potential_tensor<B: Backend>(self, z: Tensor<B, 2>) -> Tensor<B, 1> {
        let [batch, columns] = z.dims();
        assert_eq!(columns, 2, "energy {}: rows of two columns", self.name());
        let z1 = z.clone().slice([0..batch, 0..1]).squeeze_dim::<1>(1);
        let z2 = z.slice([0..batch, 1..2]).squeeze_dim::<1>(1);
        let gaussian = |x: Tensor<B, 1>, width: f64| over(x, width).square().mul_scalar(-0.5);
        let w1 = z1.clone().mul_scalar(2.0 * PI / 4.0).sin();
        match self {
            Self::U1 => {
                let squared_radius = z1.clone().square() + z2.square();
                let radius = squared_radius.clamp_min(SMALLEST_SQUARED_RADIUS).sqrt();
                let ring = gaussian(radius - 2.0, 0.4).neg();
                ring - log_sum_exp_tensor(gaussian(z1.clone() - 2.0, 0.6), gaussian(z1 + 2.0, 0.6))
            }
            Self::U2 => gaussian(z2 - w1, 0.4).neg(),
            Self::U3 => {
                let w2 = gaussian(z1 - 1.0, 0.6).exp().mul_scalar(3.0);
                let above = z2 - w1;
                let below = above.clone() + w2;
                log_sum_exp_tensor(gaussian(above, 0.35), gaussian(below, 0.35)).neg()
            }
            Self::U4 => {
                let w3 = sigmoid(over(z1 - 1.0, 0.3)).mul_scalar(3.0);
                let above = z2 - w1;
                let below = above.clone() + w3;
                log_sum_exp_tensor(gaussian(above, 0.4), gaussian(below, 0.35)).neg()
            }
        }
    }
}

/// `x / divisor`. The divisor is a tensor: Burn takes the gradient of a division by a scalar through f32.
fn over<B: Backend>(x: Tensor<B, 1>, divisor: f64) -> Tensor<B, 1> {
    let divisor = Tensor::<B, 1>::from_data([divisor], (&x.device(), x.dtype()));
    x / divisor
}

/// A quadratic penalty outside the box `[-half_width, half_width]^2`:
/// `strength * sum_i relu(|z_i| - half_width)^2`, in nats.
///
/// The *walled density* `exp(-U - wall) / Z` is the target that the energies are trained on and
/// measured against. It is a proper density on the whole plane.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoftWall {
    /// Nats per unit of squared distance.
    pub strength: f64,
    /// Half the side of the box that feels no wall.
    pub half_width: f64,
}

impl Default for SoftWall {
    /// Strength 10 around `[-4, 4]^2`, the region the paper plots.
    fn default() -> Self {
        Self {
            strength: 10.0,
            half_width: 4.0,
        }
    }
}

impl SoftWall {
    /// The penalty at one point, in nats.
    pub fn penalty(&self, z: [f64; 2]) -> f64 {
        let outside = |x: f64| (x.abs() - self.half_width).max(0.0).powi(2);
        self.strength * (outside(z[0]) + outside(z[1]))
    }

    /// The penalty of every row, in nats.
    ///
    /// # Shapes
    /// - `z`: `[batch, 2]`
    /// - output: `[batch]`
    pub fn penalty_tensor<B: Backend>(&self, z: Tensor<B, 2>) -> Tensor<B, 1> {
        let outside = (magnitude(z) - self.half_width).clamp_min(0.0);
        let squared = outside.square().sum_dim(1).squeeze_dim::<1>(1);
        squared.mul_scalar(self.strength)
    }
}

/// `ln(e^a + e^b)` without overflow.
fn log_sum_exp(a: f64, b: f64) -> f64 {
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

/// `ln(e^a + e^b) = a - ln sigmoid(a - b)`: unlike the form with a maximum, its gradient is the
/// softmax of `(a, b)` at ties too.
fn log_sum_exp_tensor<B: Backend>(a: Tensor<B, 1>, b: Tensor<B, 1>) -> Tensor<B, 1> {
    a.clone() - log_sigmoid(a - b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{DType, TensorData};
    use flows_core::autodiff::exclusive;

    type Plain = Flex;
    type Grad = Autodiff<Flex>;

    /// A lattice that holds the origin, the axes, ties of both terms and points far away.
    fn points() -> Vec<[f64; 2]> {
        let coordinates = [
            -1e6, -1e3, -50.0, -6.0, -4.1, -2.0, -1.0, -0.3, 0.0, 1e-20, 0.7, 1.0, 2.0, 3.9, 5.5,
            80.0, 1e6,
        ];
        coordinates
            .iter()
            .flat_map(|&a| coordinates.iter().map(move |&b| [a, b]))
            .collect()
    }

    fn tensor<B: Backend>(points: &[[f64; 2]], dtype: DType) -> Tensor<B, 2> {
        let flat = points.concat();
        let device = B::Device::default();
        Tensor::from_data(TensorData::new(flat, [points.len(), 2]), (&device, dtype))
    }

    #[test]
    fn known_values() {
        // Hand-computed: on the ring at (2, 0) U1 is -ln(1 + exp(-(4 / 0.6)^2 / 2)).
        let expected = -(-0.5 * (4.0f64 / 0.6).powi(2)).exp().ln_1p();
        assert!((Energy::U1.potential([2.0, 0.0]) - expected).abs() < 1e-15);
        assert_eq!(Energy::U2.potential([1.0, 1.0]), 0.0);
        assert!((Energy::U2.potential([0.0, 0.4]) - 0.5).abs() < 1e-15);
        // At z1 = 1: w1 = 1, w2 = 3, w3 = 1.5.
        let u3 = -(1.0 + (-0.5 * (3.0f64 / 0.35).powi(2)).exp()).ln();
        assert!((Energy::U3.potential([1.0, 1.0]) - u3).abs() < 1e-15);
        let u4 = -(1.0 + (-0.5 * (1.5f64 / 0.35).powi(2)).exp()).ln();
        assert!((Energy::U4.potential([1.0, 1.0]) - u4).abs() < 1e-15);
        let wall = SoftWall::default();
        assert_eq!(wall.penalty([-4.5, 5.0]), 10.0 * (0.25 + 1.0));
        assert_eq!(wall.penalty([4.0, -3.0]), 0.0);
    }

    #[test]
    fn tensors_agree_with_scalars() {
        let points = points();
        let wall = SoftWall::default();
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let z = tensor::<Plain>(&points, dtype);
            let walls = wall.penalty_tensor(z.clone()).into_data();
            for energy in Energy::ALL {
                let potentials = energy.potential_tensor(z.clone()).into_data();
                for ((z, u), w) in points
                    .iter()
                    .zip(potentials.iter::<f64>())
                    .zip(walls.iter::<f64>())
                {
                    // sin of a large f32 is another number: the argument itself is rounded.
                    if dtype == DType::F32 && z[0].abs() > 100.0 {
                        continue;
                    }
                    let expected = energy.potential(*z);
                    let error = (u - expected).abs() / (1.0 + expected.abs());
                    assert!(
                        error < tolerance,
                        "{energy:?} {dtype:?} at {z:?}: {u} for {expected}"
                    );
                    let expected = wall.penalty(*z);
                    assert!(
                        (w - expected).abs() <= tolerance * (1.0 + expected),
                        "wall at {z:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_are_finite_and_right() {
        let _alone = exclusive();
        let points = points();
        let wall = SoftWall::default();
        for dtype in [DType::F64, DType::F32] {
            for energy in Energy::ALL {
                let z = tensor::<Grad>(&points, dtype).require_grad();
                let total = energy.potential_tensor(z.clone()) + wall.penalty_tensor(z.clone());
                let gradients = z.grad(&total.sum().backward()).expect("a gradient");
                let gradients: Vec<f64> = gradients.into_data().iter::<f64>().collect();
                assert!(
                    gradients.iter().all(|g| g.is_finite()),
                    "{energy:?} {dtype:?}"
                );
                if dtype == DType::F32 {
                    continue;
                }
                for (z, gradient) in points.iter().zip(gradients.chunks(2)) {
                    let smooth_here = z.iter().all(|c| c.abs() < 100.0);
                    // |z| has a kink at 0, where the gradient is defined as 0.
                    let at_kink = energy == Energy::U1 && z[0].abs() + z[1].abs() < 1e-3;
                    if !smooth_here || at_kink {
                        continue;
                    }
                    for axis in 0..2 {
                        let h = 1e-5;
                        let shifted = |by: f64| {
                            let mut z = *z;
                            z[axis] += by;
                            energy.potential(z) + wall.penalty(z)
                        };
                        let expected = (shifted(h) - shifted(-h)) / (2.0 * h);
                        let error = (gradient[axis] - expected).abs() / (1.0 + expected.abs());
                        assert!(
                            error < 1e-6,
                            "{energy:?} at {z:?}: {} for {expected}",
                            gradient[axis]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_keep_their_digits_in_f64() {
        let _alone = exclusive();
        // Far to the right the two ridges of U3 coincide, and those of U4 are 3 apart: along `z_2` the slope is that
        // of the nearer one.
        for (energy, z, width, ridge) in [
            (Energy::U3, [80.0, 5.5], 0.35, 0.0),
            (Energy::U4, [80.0, -10.0], 0.35, 3.0),
        ] {
            let at = tensor::<Grad>(&[z], DType::F64).require_grad();
            let gradients = at.grad(&energy.potential_tensor(at.clone()).sum().backward());
            let slope = gradients
                .expect("a gradient")
                .into_data()
                .iter::<f64>()
                .nth(1);
            let w1 = (2.0 * PI * z[0] / 4.0).sin();
            let expected = (z[1] - w1 + ridge) / (width * width);
            let error = (slope.unwrap() / expected - 1.0).abs();
            assert!(error < 1e-12, "{energy:?}: {error:e}");
        }
    }

    #[test]
    fn at_the_origin_and_on_ties_the_gradient_is_the_symmetric_one() {
        let _alone = exclusive();
        let z = tensor::<Grad>(&[[0.0, 0.0], [0.0, 2.0]], DType::F64).require_grad();
        let gradients = z.grad(&Energy::U1.potential_tensor(z.clone()).sum().backward());
        for g in gradients.expect("a gradient").into_data().iter::<f64>() {
            assert!(g.abs() < 1e-12, "{g}");
        }
    }

    #[test]
    #[should_panic(expected = "rows of two columns")]
    fn three_columns_are_refused() {
        let z = Tensor::<Plain, 2>::zeros([4, 3], &Default::default());
        Energy::U2.potential_tensor(z);
    }
}
