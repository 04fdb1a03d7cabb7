//! One step of an explicit Runge-Kutta method, one method a file.

mod dormand_prince;
mod euler;
mod midpoint;
mod rk4;

pub use dormand_prince::DORMAND_PRINCE;
pub use euler::EULER;
pub use midpoint::MIDPOINT;
pub use rk4::RK4;

use burn::tensor::{Tensor, backend::Backend};

/// The coefficients of an explicit Runge-Kutta method for `dz/dt = f(z, t)`:
///
/// `k_i = f(z + h sum_{j < i} a_ij k_j, t + c_i h)`, `z(t + h) = z + h sum_i b_i k_i + O(h^{order + 1})`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tableau {
    /// Name for reports.
    pub name: &'static str,
    /// The error of a whole path falls as `h^order`.
    pub order: usize,
    /// `c_i` of the stages.
    pub nodes: &'static [f64],
    /// `a_ij` of the stages, `j < i`.
    pub matrix: &'static [&'static [f64]],
    /// `b_i`; stages beyond serve the error estimate alone.
    pub weights: &'static [f64],
    /// `b_i - b^_i` with the weights `b^` of a method of another order: `h sum_i e_i k_i` estimates the error of a
    /// step. Empty for a method without.
    pub error: &'static [f64],
}

/// The right-hand side `f(z, t)` of a differential equation, row by row.
///
/// # Shapes
/// - `z`: `[n, k]`, `t`: `[n, 1]`, or `[1, 1]` for the same time in all rows; output `[n, k]`
pub type Rates<'a, B> = dyn Fn(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2> + 'a;

/// A step done, with what its error is estimated from.
#[derive(Debug, Clone)]
pub struct Step<B: Backend> {
    /// `z(t + h)`.
    pub end: Tensor<B, 2>,
    /// The stages `k_i`.
    pub stages: Vec<Tensor<B, 2>>,
}

impl Tableau {
    /// The step of length `h` from `z` at time `t`. `first` is `f(z, t)` where it is known.
    ///
    /// # Shapes
    /// - `z`: `[n, k]`; `t`, `h`: `[n, 1]` or `[1, 1]`
    pub fn step<B: Backend>(
        &self,
        f: &Rates<'_, B>,
        z: Tensor<B, 2>,
        [t, h]: [Tensor<B, 2>; 2],
        first: Option<Tensor<B, 2>>,
    ) -> Step<B> {
        let mut stages = Vec::with_capacity(self.weights.len());
        self.add_stages(&mut stages, f, &z, [&t, &h], first, self.weights.len());
        let end = combine(self.weights, &stages).map_or_else(|| z.clone(), |k| z.clone() + k * h);
        Step { end, stages }
    }

    /// As [`step`](Self::step), with an estimate of its error.
    ///
    /// # Shapes
    /// As [`step`](Self::step); the estimate is `[n, k]`.
    ///
    /// # Panics
    /// For a method without an error estimate.
    pub fn step_with_error<B: Backend>(
        &self,
        f: &Rates<'_, B>,
        z: Tensor<B, 2>,
        [t, h]: [Tensor<B, 2>; 2],
        first: Option<Tensor<B, 2>>,
    ) -> (Step<B>, Tensor<B, 2>) {
        let mut step = self.step(f, z.clone(), [t.clone(), h.clone()], first);
        let all = self.error.len();
        self.add_stages(&mut step.stages, f, &z, [&t, &h], None, all);
        let error = combine(self.error, &step.stages).expect("a method with an error estimate");
        (step, error * h)
    }

    /// Computes stages until there are `count`.
    fn add_stages<B: Backend>(
        &self,
        stages: &mut Vec<Tensor<B, 2>>,
        f: &Rates<'_, B>,
        z: &Tensor<B, 2>,
        [t, h]: [&Tensor<B, 2>; 2],
        first: Option<Tensor<B, 2>>,
        count: usize,
    ) {
        stages.extend(first);
        for i in stages.len()..count {
            let at = match combine(self.matrix[i], stages) {
                Some(k) => z.clone() + k * h.clone(),
                None => z.clone(),
            };
            stages.push(f(at, t.clone() + h.clone() * self.nodes[i]));
        }
    }
}

/// `sum_i c_i k_i` over the coefficients that are not 0; `None` without any.
fn combine<B: Backend>(coefficients: &[f64], stages: &[Tensor<B, 2>]) -> Option<Tensor<B, 2>> {
    let terms = coefficients.iter().zip(stages).filter(|(c, _)| **c != 0.0);
    let terms = terms.map(|(c, k)| k.clone() * *c);
    terms.reduce(|sum, next| sum + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conditions for order 1, 2, 3 and 4 of Hairer, Norsett and Wanner, *Solving Ordinary Differential Equations
    /// I*, table II.2.1, the sums `sum_i b_i c_i^(q-1) = 1 / q` for order 5, and that stages are consistent.
    #[test]
    fn coefficients_fulfil_the_conditions_of_their_order() {
        for tableau in [EULER, MIDPOINT, RK4, DORMAND_PRINCE] {
            let Tableau {
                name,
                order,
                nodes,
                matrix,
                weights,
                error,
            } = tableau;
            for (row, node) in matrix.iter().zip(nodes) {
                let sum: f64 = row.iter().sum();
                assert!((sum - node).abs() < 1e-14, "{name}: {row:?} at {node}");
            }
            let a = |i: usize, x: &dyn Fn(usize) -> f64| -> f64 {
                matrix[i].iter().enumerate().map(|(j, a)| a * x(j)).sum()
            };
            let c = |i: usize| nodes[i];
            let check = |weights: &[f64], order: usize| {
                let sum = |x: &dyn Fn(usize) -> f64| -> f64 {
                    weights.iter().enumerate().map(|(i, b)| b * x(i)).sum()
                };
                let conditions = [
                    (1, sum(&|_| 1.0), 1.0),
                    (2, sum(&c), 1.0 / 2.0),
                    (3, sum(&|i| c(i).powi(2)), 1.0 / 3.0),
                    (3, sum(&|i| a(i, &c)), 1.0 / 6.0),
                    (4, sum(&|i| c(i).powi(3)), 1.0 / 4.0),
                    (4, sum(&|i| c(i) * a(i, &c)), 1.0 / 8.0),
                    (4, sum(&|i| a(i, &|j| c(j).powi(2))), 1.0 / 12.0),
                    (4, sum(&|i| a(i, &|j| a(j, &c))), 1.0 / 24.0),
                    (5, sum(&|i| c(i).powi(4)), 1.0 / 5.0),
                ];
                for (of, found, expected) in conditions {
                    let holds = (found - expected).abs() < 1e-14;
                    assert!(holds || of > order, "{name}: {found}, not {expected}");
                }
            };
            check(weights, order);
            if !error.is_empty() {
                let weight = |i: usize| weights.get(i).unwrap_or(&0.0) - error[i];
                let embedded: Vec<f64> = (0..error.len()).map(weight).collect();
                check(&embedded, order - 1);
            }
        }
    }
}
