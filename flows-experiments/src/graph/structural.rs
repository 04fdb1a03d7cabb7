//! Simulated data with a known graph.

use flows_core::error::Error;
use flows_core::masks::{DependencyMask, MaskConfig, Ordering};
use rand::{Rng, RngExt};
use rand_distr::{Distribution, StandardNormal};

use super::{GraphConfig, Mechanism};

/// `x_i = sum_(j in parents) w_ij g_ij(x_j) / sqrt(number of parents) + sigma_i e_i` with independent
/// standard normal `e_i`: a structural equation model with additive noise.
///
/// Given the order of the variables its graph is the smallest one that the density factorizes over, so
/// it can be found from enough data. Weights have absolute values between 0.8 and 1.6; `sigma_i` is 1
/// without parents and 1/2 with some.
#[derive(Debug, Clone)]
pub struct StructuralModel {
    order: Vec<usize>,
    /// Of each variable.
    parents: Vec<Vec<Edge>>,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    parent: usize,
    weight: f64,
    shape: fn(f64) -> f64,
}

const SHAPES: [fn(f64) -> f64; 3] = [|x| x, |x| (2.0 * x).tanh(), |x| (2.0 * x).cos()];

impl StructuralModel {
    /// Draws an order, a graph and its mechanisms; at least one edge is there.
    pub fn draw(config: &GraphConfig, rng: &mut impl Rng) -> Self {
        let random = Ordering::Random {
            seed: rng.next_u64(),
        };
        let order = random.order(config.dim).expect("any order fits");
        let shapes = match config.mechanism {
            Mechanism::Linear => &SHAPES[..1],
            Mechanism::Nonlinear => &SHAPES[..],
        };
        loop {
            let mut parents = vec![Vec::new(); config.dim];
            for (k, &i) in order.iter().enumerate() {
                for &parent in &order[..k] {
                    // All are drawn whether or not the edge is there, so that graphs of another
                    // density differ in edges only.
                    let (present, size) = (rng.random::<f64>(), rng.random_range(0.8..1.6));
                    let negative = rng.random::<bool>();
                    let shape = shapes[rng.random_range(0..shapes.len())];
                    if present < config.edge_probability {
                        parents[i].push(Edge {
                            parent,
                            weight: if negative { -size } else { size },
                            shape,
                        });
                    }
                }
            }
            if parents.iter().any(|edges| !edges.is_empty()) {
                return Self { order, parents };
            }
        }
    }

    /// The order of causes, first to last.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The graph.
    ///
    /// # Errors
    /// None in practice: a graph along an order has no cycle.
    pub fn graph(&self) -> Result<DependencyMask, Error> {
        let lists = self.parents.iter().map(|edges| {
            let parents = edges.iter().map(|edge| edge.parent);
            parents.collect()
        });
        MaskConfig::Graph(lists.collect()).build(self.parents.len())
    }

    fn mean(&self, i: usize, x: &[f64]) -> f64 {
        let edges = &self.parents[i];
        let sum: f64 = edges
            .iter()
            .map(|e| e.weight * (e.shape)(x[e.parent]))
            .sum();
        sum / (edges.len().max(1) as f64).sqrt()
    }

    fn sigma(&self, i: usize) -> f64 {
        if self.parents[i].is_empty() { 1.0 } else { 0.5 }
    }

    /// `rows` independent rows, one after the other.
    pub fn sample(&self, rows: usize, rng: &mut impl Rng) -> Vec<f64> {
        let mut data = Vec::with_capacity(rows * self.order.len());
        let mut x = vec![0.0; self.order.len()];
        for _ in 0..rows {
            for &i in &self.order {
                let e: f64 = StandardNormal.sample(rng);
                x[i] = self.mean(i, &x) + self.sigma(i) * e;
            }
            data.extend_from_slice(&x);
        }
        data
    }

    /// `log p(x)` in nats.
    pub fn log_prob(&self, x: &[f64]) -> f64 {
        let term = |i: usize| {
            let e = (x[i] - self.mean(i, x)) / self.sigma(i);
            -0.5 * (e * e + (2.0 * std::f64::consts::PI).ln()) - self.sigma(i).ln()
        };
        (0..x.len()).map(term).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn parents_come_before_and_samples_have_the_density() {
        let config = GraphConfig::default();
        let rng = &mut StdRng::seed_from_u64(3);
        let model = StructuralModel::draw(&config, rng);
        let graph = model.graph().unwrap();
        for (k, &i) in model.order().iter().enumerate() {
            for &later in &model.order()[k..] {
                assert!(!graph.sees(i, later));
            }
        }
        assert!(graph.depth() > 1, "at least one edge");
        // The mean of -log p over samples is the entropy: a sum of those of the noises.
        let rows = 20_000;
        let data = model.sample(rows, rng);
        let terms: Vec<f64> = data.chunks(8).map(|x| -model.log_prob(x)).collect();
        let mean = terms.iter().sum::<f64>() / rows as f64;
        let gauss = 0.5 * (1.0 + (2.0 * std::f64::consts::PI).ln());
        let expected: f64 = (0..8).map(|i| gauss + model.sigma(i).ln()).sum();
        // The sum of squares of eight normals, halved, has variance 4.
        assert!((mean - expected).abs() < 4.0 * 2.0 / (rows as f64).sqrt());
    }

    #[test]
    fn a_seed_decides_everything() {
        let draw = |seed| {
            let rng = &mut StdRng::seed_from_u64(seed);
            let model = StructuralModel::draw(&GraphConfig::default(), rng);
            (model.graph().unwrap().to_string(), model.sample(2, rng))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
