//! The random numbers of the stochastic estimators, drawn on the host.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rand::Rng;
use rand_distr::{Distribution, Geometric, StandardNormal};
use serde::{Deserialize, Serialize};

/// Distribution of a probe `eps`: independent entries of mean 0 and variance 1, so that
/// `E[eps^T A eps] = tr A` for every matrix `A`.
///
/// With `S = (A + A^T) / 2`, the variance of `eps^T A eps` is
///
/// | distribution | variance |
/// |---|---|
/// | Rademacher | `2 (\|S\|_F^2 - sum_i S_ii^2)` |
/// | Gaussian | `2 \|S\|_F^2` |
///
/// so Rademacher probes are never worse, and exact in one dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeNoise {
    /// -1 or 1, each with probability 1/2.
    #[default]
    Rademacher,
    /// `N(0, 1)`.
    Gaussian,
}

impl ProbeNoise {
    /// The name used in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rademacher => "rademacher",
            Self::Gaussian => "gaussian",
        }
    }

    /// One probe, `dim` entries.
    fn draw(self, dim: usize, rng: &mut dyn Rng) -> Vec<f64> {
        match self {
            Self::Gaussian => (0..dim).map(|_| StandardNormal.sample(rng)).collect(),
            Self::Rademacher => {
                let mut bits = 0;
                let mut entry = |i: usize| {
                    // One draw serves 64 entries.
                    if i.is_multiple_of(64) {
                        bits = rng.next_u64();
                    }
                    if bits >> (i % 64) & 1 == 1 { 1.0 } else { -1.0 }
                };
                (0..dim).map(&mut entry).collect()
            }
        }
    }

    /// Probes for `n` points, `[probes, n, dim]`, on the device and in the type of `like`.
    ///
    /// They are drawn point by point: the probes of a point do not depend on how many follow it.
    pub fn probes<B: Backend>(
        self,
        [probes, n, dim]: [usize; 3],
        like: &Tensor<B, 2>,
        rng: &mut dyn Rng,
    ) -> Tensor<B, 3> {
        let entries: Vec<f64> = (0..n * probes).flat_map(|_| self.draw(dim, rng)).collect();
        let data = TensorData::new(entries, [n, probes, dim]);
        Tensor::<B, 3>::from_data(data, (&like.device(), like.dtype())).swap_dims(0, 1)
    }
}

/// What a stochastic estimate of `log |det(I + B)|` at `n` points is computed with.
#[derive(Debug, Clone)]
pub struct Noise<B: Backend> {
    /// Probes `eps`, `[probes, n, dim]`.
    pub probes: Tensor<B, 3>,
    /// For a series of random length, its number of terms by probe, then by point. Else empty.
    pub terms: Vec<Vec<usize>>,
}

impl<B: Backend> Noise<B> {
    /// The noise of several groups of points, put under one another.
    pub(crate) fn stack(groups: Vec<Self>) -> Self {
        let mut terms: Vec<Vec<usize>> = Vec::new();
        for group in &groups {
            terms.resize(group.terms.len(), Vec::new());
            for (all, own) in terms.iter_mut().zip(&group.terms) {
                all.extend(own);
            }
        }
        let probes = groups.into_iter().map(|group| group.probes).collect();
        Self {
            probes: Tensor::cat(probes, 1),
            terms,
        }
    }
}

/// Series lengths for `n` points by probe: `exact_terms`, and each further term with probability
/// `continuation` after the one before.
pub(super) fn series_lengths(
    [probes, n]: [usize; 2],
    exact_terms: usize,
    continuation: f64,
    rng: &mut dyn Rng,
) -> Vec<Vec<usize>> {
    let further = Geometric::new(1.0 - continuation).expect("a probability");
    let mut lengths = vec![Vec::with_capacity(n); probes];
    for _ in 0..n {
        for of_probe in &mut lengths {
            of_probe.push(exact_terms + further.sample(rng) as usize);
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::continuous::log_det::LogDet;
    use burn_flex::Flex;

    #[test]
    fn a_seed_keeps_its_probes() {
        let row = Tensor::<Flex, 2>::zeros([1, 8], &Default::default());
        let probes = |noise| {
            let LogDet::Hutchinson {
                order,
                probes,
                fresh_per_step,
                ..
            } = LogDet::HUTCHINSON
            else {
                unreachable!("it is the constant of that name");
            };
            let method = LogDet::Hutchinson {
                order,
                probes,
                noise,
                fresh_per_step,
            };
            let noise: Noise<Flex> = method.noise(&row, 3).expect("probes");
            noise.probes.into_data().iter::<f64>().collect::<Vec<f64>>()
        };
        let signs = [-1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0];
        assert_eq!(probes(ProbeNoise::Rademacher), signs);
        let normal = [-0.556_804_2, -0.586_835_4, -0.734_582_4, -0.148_674_1];
        for (probe, expected) in probes(ProbeNoise::Gaussian).iter().zip(normal) {
            assert!((probe - expected).abs() < 1e-6, "{probe} for {expected}");
        }
    }
}
