//! Curves blurred by noise, with densities by quadrature along the curve.
//!
//! A point `c(t)` at a random `t`, plus uniform noise on `[0, w]` on both coordinates, plus
//! `N(0, s^2 I)`, has the density
//!
//! ```text
//! p(x) = int q(t) prod_i K(x_i - c_i(t)) dt,    K(d) = 1/w int_0^w N(d - u; 0, s^2) du
//! ```
//!
//! where both integrals are Gauss-Legendre sums. The nodes along the curve lie a fraction of the
//! blur apart, so that the sum agrees with the integral far below sampling error (tested by
//! doubling them).

use std::f64::consts::PI;
use std::sync::OnceLock;

use rand::Rng;

use super::{HALF_LOG_TWO_PI, SampleSet, blurred, uniform};
use crate::targets::quadrature::gauss_legendre;

/// `t = 1.5 pi (1 + 2 u)`, the point `(t cos t, t sin t)` plus `N(0, I)`, divided by 5 (FFJORD's
/// toy data, arXiv:1810.01367, after scikit-learn's `make_swiss_roll`).
#[derive(Debug, Clone, Copy)]
pub struct SwissRoll;

impl SwissRoll {
    const STD: f64 = 0.2;

    fn at(t: f64) -> [f64; 2] {
        [t * t.cos() / 5.0, t * t.sin() / 5.0]
    }

    fn law() -> &'static BlurredCurve {
        static LAW: OnceLock<BlurredCurve> = OnceLock::new();
        LAW.get_or_init(|| {
            let (low, high) = (1.5 * PI, 4.5 * PI);
            let nodes = gauss_legendre(240, low, high);
            let nodes = nodes.iter().map(|(t, w)| (Self::at(*t), w / (high - low)));
            BlurredCurve::new(nodes.collect(), 0.0, Self::STD)
        })
    }
}

impl SampleSet for SwissRoll {
    fn name(&self) -> &'static str {
        "swissroll"
    }

    fn describe(&self) -> &'static str {
        "samples: a rolled-up strip (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-3.75, 3.75]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let t = 1.5 * PI * (1.0 + 2.0 * uniform(rng));
                blurred(Self::at(t), Self::STD, rng)
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        Some(Self::law().log_density(x))
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        Some(*ENTROPY.get_or_init(|| Self::law().entropy(0.04)))
    }
}

/// `(cos a, sin a)` and `(1 - cos a, 0.5 - sin a)` for `a ~ U(0, pi)`, noise 0.1, times 2, shifted by
/// `(-1, -0.2)` (FFJORD's toy data, arXiv:1810.01367, with independent angles in place of evenly
/// spaced ones).
#[derive(Debug, Clone, Copy)]
pub struct Moons;

impl Moons {
    const STD: f64 = 0.2;

    fn at(a: f64, upper: bool) -> [f64; 2] {
        let (sin, cos) = a.sin_cos();
        let [x, y] = if upper {
            [cos, sin]
        } else {
            [1.0 - cos, 0.5 - sin]
        };
        [2.0 * x - 1.0, 2.0 * y - 0.2]
    }

    fn law() -> &'static BlurredCurve {
        static LAW: OnceLock<BlurredCurve> = OnceLock::new();
        LAW.get_or_init(|| {
            let rule = gauss_legendre(64, 0.0, PI);
            let nodes = [true, false].into_iter().flat_map(|upper| {
                let node = move |&(a, w): &(f64, f64)| (Self::at(a, upper), 0.5 * w / PI);
                rule.iter().map(node).collect::<Vec<_>>()
            });
            BlurredCurve::new(nodes.collect(), 0.0, Self::STD)
        })
    }
}

impl SampleSet for Moons {
    fn name(&self) -> &'static str {
        "moons"
    }

    fn describe(&self) -> &'static str {
        "samples: two interleaved half moons (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.0, 4.0]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let upper = uniform(rng) < 0.5;
                blurred(Self::at(PI * uniform(rng), upper), Self::STD, rng)
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        Some(Self::law().log_density(x))
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        Some(*ENTROPY.get_or_init(|| Self::law().entropy(0.04)))
    }
}

/// `n = 3 pi sqrt(u)`, the point `(-n cos n + u' / 2, n sin n + u'' / 2)` or its negative, divided by 3,
/// noise 0.1 (FFJORD's toy data, arXiv:1810.01367).
#[derive(Debug, Clone, Copy)]
pub struct TwoSpirals;

impl TwoSpirals {
    const STD: f64 = 0.1;
    /// Largest uniform noise after the division by 3.
    const BOX: f64 = 0.5 / 3.0;

    fn at(u: f64) -> [f64; 2] {
        let n = 3.0 * PI * u.sqrt();
        [-n * n.cos() / 3.0, n * n.sin() / 3.0]
    }

    /// One of the two arms; the other is its mirror image at the origin.
    fn arm() -> &'static BlurredCurve {
        static ARM: OnceLock<BlurredCurve> = OnceLock::new();
        // In v = sqrt(u), with density 2 v, the curve is smooth up to its inner end.
        ARM.get_or_init(|| {
            let rule = gauss_legendre(360, 0.0, 1.0);
            let nodes = rule.iter().map(|(v, w)| (Self::at(v * v), 2.0 * v * w));
            BlurredCurve::new(nodes.collect(), Self::BOX, Self::STD)
        })
    }
}

impl SampleSet for TwoSpirals {
    fn name(&self) -> &'static str {
        "2spirals"
    }

    fn describe(&self) -> &'static str {
        "samples: two entwined spirals (arXiv:1810.01367)"
    }

    fn plot_range(&self) -> [[f64; 2]; 2] {
        [[-4.0, 4.0]; 2]
    }

    fn sample(&self, n: usize, rng: &mut dyn Rng) -> Vec<[f64; 2]> {
        (0..n)
            .map(|_| {
                let arm = if uniform(rng) < 0.5 { -1.0 } else { 1.0 };
                let centre = Self::at(uniform(rng)).map(|c| arm * (c + Self::BOX * uniform(rng)));
                blurred(centre, Self::STD, rng)
            })
            .collect()
    }

    fn log_density(&self, x: [f64; 2]) -> Option<f64> {
        let arms = [x, x.map(|c| -c)].map(|x| Self::arm().log_density(x));
        Some(super::log_sum_exp(arms.into_iter()) - std::f64::consts::LN_2)
    }

    fn entropy(&self) -> Option<f64> {
        static ENTROPY: OnceLock<f64> = OnceLock::new();
        Some(*ENTROPY.get_or_init(|| {
            let image = Self::arm().image(0.02);
            image.entropy_with(|density, mirrored| 0.5 * (density + mirrored))
        }))
    }
}

/// A weighted set of points, blurred by uniform and normal noise.
#[derive(Debug)]
struct BlurredCurve {
    /// Points along the curve, and weights that sum to 1.
    nodes: Vec<([f64; 2], f64)>,
    /// Offsets within the uniform noise, and weights that sum to 1.
    offsets: Vec<(f64, f64)>,
    std: f64,
}

/// Nodes that lie this many nats below the nearest one add nothing to a sum in f64.
const NEGLIGIBLE_NATS: f64 = 40.0;

impl BlurredCurve {
    fn new(nodes: Vec<([f64; 2], f64)>, noise_width: f64, std: f64) -> Self {
        let offsets = if noise_width > 0.0 {
            let rule = gauss_legendre(8, 0.0, noise_width);
            rule.iter().map(|(u, w)| (*u, w / noise_width)).collect()
        } else {
            vec![(0.0, 1.0)]
        };
        Self {
            nodes,
            offsets,
            std,
        }
    }

    /// `log K(d)`.
    fn log_kernel(&self, d: f64) -> f64 {
        let normal = |u: f64| -0.5 * ((d - u) / self.std).powi(2);
        let terms = self.offsets.iter().map(|(u, w)| normal(*u) + w.ln());
        super::log_sum_exp(terms) - self.std.ln() - HALF_LOG_TWO_PI
    }

    /// Nats that a node costs by its distance alone, once the uniform noise has bridged what it can.
    fn least_cost(&self, x: [f64; 2], centre: [f64; 2]) -> f64 {
        let reach = self.offsets.last().map_or(0.0, |(u, _)| *u);
        let gap = [0, 1].map(|i| {
            let d = x[i] - centre[i];
            (d - d.clamp(0.0, reach)) / self.std
        });
        0.5 * (gap[0] * gap[0] + gap[1] * gap[1])
    }

    fn log_density(&self, x: [f64; 2]) -> f64 {
        let costs: Vec<f64> = self
            .nodes
            .iter()
            .map(|(c, _)| self.least_cost(x, *c))
            .collect();
        let nearest = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let terms: Vec<f64> = costs
            .iter()
            .zip(&self.nodes)
            .filter(|(cost, _)| **cost < nearest + NEGLIGIBLE_NATS)
            .map(|(_, (c, w))| w.ln() + self.log_kernel(x[0] - c[0]) + self.log_kernel(x[1] - c[1]))
            .collect();
        super::log_sum_exp(terms.into_iter())
    }

    /// Entropy by the midpoint rule on cells of side `cell`.
    fn entropy(&self, cell: f64) -> f64 {
        self.image(cell).entropy_with(|density, _| density)
    }

    /// The density at the midpoints of a square around the origin.
    fn image(&self, cell: f64) -> Image {
        let furthest = |(c, _): &([f64; 2], f64)| c[0].abs().max(c[1].abs());
        let noise = self.offsets.last().map_or(0.0, |(u, _)| *u) + 9.0 * self.std;
        let reach = self.nodes.iter().map(furthest).fold(0.0, f64::max) + noise;
        let half = (reach / cell).ceil() as usize;
        let side = 2 * half;
        let midpoint = |i: usize| (i as f64 + 0.5 - half as f64) * cell;
        let mut density = vec![0.0; side * side];
        for (c, weight) in &self.nodes {
            // Only the patch that the kernel reaches; the kernel is a product of one per axis.
            let index =
                |x: f64| ((x / cell).floor() + half as f64).clamp(0.0, side as f64) as usize;
            let patch = c.map(|c| {
                let first = index(c - 9.0 * self.std);
                let kernel =
                    (first..index(c + noise)).map(|i| self.log_kernel(midpoint(i) - c).exp());
                (first, kernel.collect::<Vec<f64>>())
            });
            let [(first_column, across), (first_row, up)] = &patch;
            for (j, y) in up.iter().enumerate() {
                let start = (first_row + j) * side + first_column;
                for (p, x) in density[start..].iter_mut().zip(across) {
                    *p += weight * x * y;
                }
            }
        }
        Image { density, cell }
    }
}

/// A density at the midpoints of a square that is symmetric about the origin.
struct Image {
    density: Vec<f64>,
    cell: f64,
}

impl Image {
    /// Entropy in nats of a density made of this one and its mirror image at the origin.
    fn entropy_with(&self, combine: impl Fn(f64, f64) -> f64) -> f64 {
        let mirrored = self.density.iter().rev();
        let sum: f64 = self
            .density
            .iter()
            .zip(mirrored)
            .map(|(p, m)| combine(*p, *m))
            .filter(|p| *p > 0.0)
            .map(|p| -p * p.ln())
            .sum();
        sum * self.cell * self.cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same law with twice the nodes.
    fn refined(
        at: impl Fn(f64) -> ([f64; 2], f64),
        low: f64,
        high: f64,
        n: usize,
        law: &BlurredCurve,
    ) -> BlurredCurve {
        let rule = gauss_legendre(2 * n, low, high);
        let nodes = rule.iter().map(|(t, w)| {
            let (c, q) = at(*t);
            (c, q * w)
        });
        BlurredCurve {
            nodes: nodes.collect(),
            offsets: law.offsets.clone(),
            std: law.std,
        }
    }

    #[test]
    fn twice_the_nodes_give_the_same_density() {
        let roll = refined(
            |t| (SwissRoll::at(t), 1.0 / (3.0 * PI)),
            1.5 * PI,
            4.5 * PI,
            240,
            SwissRoll::law(),
        );
        let arm = refined(
            |v| (TwoSpirals::at(v * v), 2.0 * v),
            0.0,
            1.0,
            360,
            TwoSpirals::arm(),
        );
        for i in 0..30 {
            for j in 0..30 {
                let x = [i, j].map(|k| -3.0 + 0.2 * f64::from(k));
                for (law, fine) in [(SwissRoll::law(), &roll), (TwoSpirals::arm(), &arm)] {
                    let (p, q) = (law.log_density(x).exp(), fine.log_density(x).exp());
                    assert!((p - q).abs() < 1e-8, "{law:p} {x:?}: {p} {q}");
                }
            }
        }
    }

    #[test]
    fn entropies_have_converged_in_the_cell() {
        let coarse = SwissRoll.entropy().unwrap();
        let fine = SwissRoll::law().entropy(0.02);
        assert!((coarse - fine).abs() < 1e-6, "{coarse} {fine}");
        let coarse = TwoSpirals.entropy().unwrap();
        let image = TwoSpirals::arm().image(0.01);
        let fine = image.entropy_with(|p, m| 0.5 * (p + m));
        assert!((coarse - fine).abs() < 1e-6, "{coarse} {fine}");
    }

    #[test]
    fn weights_sum_to_one() {
        for law in [SwissRoll::law(), Moons::law(), TwoSpirals::arm()] {
            let nodes: f64 = law.nodes.iter().map(|(_, w)| w).sum();
            let offsets: f64 = law.offsets.iter().map(|(_, w)| w).sum();
            assert!((nodes - 1.0).abs() < 1e-12 && (offsets - 1.0).abs() < 1e-12);
        }
    }
}
