//! Numerical integration: Gauss-Legendre nodes on an interval, the midpoint rule on a rectangle, and
//! with it normalizers and entropies of densities on the plane.
//!
//! The midpoint rule converges faster than any power of the cell for a smooth density that has died
//! out at the rim, and as its square where the rim cuts through mass.

use std::f64::consts::PI;

use super::energy::{Energy, SoftWall};

/// Cell side of the rule where the caller names none.
///
/// Against cell 1/300 it agrees with every printed digit of the constants in the tests below.
pub const DEFAULT_CELL: f64 = 0.01;

/// What lies beyond is below `exp(-40)`, about 4e-18, of the density at the wall.
const NATS_TO_NOTHING: f64 = 40.0;

/// Integrals of an unnormalized density `exp(-U)` on the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// `log Z = log int exp(-U)`, in nats.
    pub log_z: f64,
    /// `-int p log p = log Z + E[U]`, in nats, for `p = exp(-U) / Z`.
    pub entropy: f64,
    /// Share of the density that lies outside the box, between 0 and 1.
    pub mass_outside: f64,
}

/// The energy restricted to `[-half_width, half_width]^2`, by the midpoint rule.
pub fn normalize_in_box(energy: Energy, half_width: f64, cell: f64) -> Normalization {
    let range = [[-half_width, half_width]; 2];
    let cells = cells_along(2.0 * half_width, cell);
    normalize(range, [cells; 2], |z| energy.potential(z), |_| false)
}

/// The energy with a soft wall, on the whole plane, by the midpoint rule.
pub fn normalize_walled(energy: Energy, wall: &SoftWall, cell: f64) -> Normalization {
    // A whole number of cells per half box puts the kink of the wall's slope on cell borders.
    let cell = wall.half_width / cells_along(wall.half_width, cell) as f64;
    let margin = cells_along((NATS_TO_NOTHING / wall.strength).sqrt(), cell) as f64 * cell;
    let reach = wall.half_width + margin;
    let cells = (2.0 * reach / cell).round() as usize;
    normalize(
        [[-reach, reach]; 2],
        [cells; 2],
        |z| energy.potential(z) + wall.penalty(z),
        |z| z.iter().any(|c| c.abs() > wall.half_width),
    )
}

fn normalize(
    range: [[f64; 2]; 2],
    cells: [usize; 2],
    potential: impl Fn([f64; 2]) -> f64,
    outside: impl Fn([f64; 2]) -> bool,
) -> Normalization {
    let (mut z, mut potential_sum, mut z_outside) = (0.0, 0.0, 0.0);
    let area = for_each_midpoint(range, cells, |point| {
        let u = potential(point);
        let p = (-u).exp();
        z += p;
        // 0 * inf is not what a vanishing density contributes.
        if p > 0.0 {
            potential_sum += p * u;
        }
        if outside(point) {
            z_outside += p;
        }
    });
    let log_z = (z * area).ln();
    Normalization {
        log_z,
        entropy: log_z + potential_sum / z,
        mass_outside: z_outside / z,
    }
}

/// Total mass and entropy in nats of a normalized density, by the midpoint rule on `range`.
///
/// The mass is the check: it is 1 up to the error of the rule.
pub fn mass_and_entropy(
    range: [[f64; 2]; 2],
    cells: [usize; 2],
    log_density: impl Fn([f64; 2]) -> f64,
) -> (f64, f64) {
    let (mut mass, mut entropy) = (0.0, 0.0);
    let area = for_each_midpoint(range, cells, |point| {
        let log_p = log_density(point);
        let p = log_p.exp();
        if p > 0.0 {
            mass += p;
            entropy -= p * log_p;
        }
    });
    (mass * area, entropy * area)
}

/// Calls `visit` at every midpoint, lowest row first, and returns the area of one cell.
pub fn for_each_midpoint(
    range: [[f64; 2]; 2],
    cells: [usize; 2],
    mut visit: impl FnMut([f64; 2]),
) -> f64 {
    let step = [0, 1].map(|axis| (range[axis][1] - range[axis][0]) / cells[axis] as f64);
    let at = |axis: usize, i: usize| range[axis][0] + (i as f64 + 0.5) * step[axis];
    for row in 0..cells[1] {
        for column in 0..cells[0] {
            visit([at(0, column), at(1, row)]);
        }
    }
    step[0] * step[1]
}

/// The least number of cells, no longer than `cell`, that cover `length`.
fn cells_along(length: f64, cell: f64) -> usize {
    assert!(
        cell > 0.0 && length.is_finite(),
        "a positive cell and a finite length"
    );
    // 4.0 / 0.01 is 400 and not 401, whatever the rounding says.
    ((length / cell - 1e-9).ceil() as usize).max(1)
}

/// Nodes and weights of the Gauss-Legendre rule of order `n` on `[low, high]`, exact for polynomials
/// of degree `2 n - 1`.
///
/// Roots of the Legendre polynomial by Newton's method from the usual cosine guesses.
pub fn gauss_legendre(n: usize, low: f64, high: f64) -> Vec<(f64, f64)> {
    let (centre, half) = (0.5 * (low + high), 0.5 * (high - low));
    (0..n)
        .map(|i| {
            let mut x = (PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..100 {
                let (mut p, mut previous) = (1.0, 0.0);
                for k in 0..n {
                    let k = k as f64;
                    (p, previous) = (((2.0 * k + 1.0) * x * p - k * previous) / (k + 1.0), p);
                }
                slope = n as f64 * (x * p - previous) / (x * x - 1.0);
                let step = p / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            (
                centre - half * x,
                half * 2.0 / ((1.0 - x * x) * slope * slope),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Z, log Z and entropy on a box, computed with cell 1/300 by another program.
    const IN_BOX: [(Energy, f64, [f64; 3]); 8] = [
        (Energy::U1, 4.0, [6.53715, 1.87750, 2.66001]),
        (Energy::U2, 4.0, [8.02121, 2.08209, 2.58209]),
        (Energy::U3, 4.0, [14.03712, 2.64171, 2.62671]),
        (Energy::U4, 4.0, [14.65187, 2.68457, 2.76618]),
        (Energy::U1, 6.0, [6.53715, 1.87750, 2.66001]),
        (Energy::U2, 6.0, [12.03182, 2.48755, 2.98755]),
        (Energy::U3, 6.0, [21.05568, 3.04717, 2.97279]),
        (Energy::U4, 6.0, [22.55965, 3.11616, 3.23463]),
    ];

    #[test]
    fn boxes_match_the_known_constants_to_every_digit() {
        for (energy, half_width, [z, log_z, entropy]) in IN_BOX {
            let found = normalize_in_box(energy, half_width, DEFAULT_CELL);
            // Half a unit of the last printed digit, and 10 % for ties of its rounding.
            let digit = 0.55e-5;
            assert!(
                (found.log_z.exp() - z).abs() < digit,
                "{energy:?} {half_width}: {found:?}"
            );
            assert!(
                (found.log_z - log_z).abs() < digit,
                "{energy:?} {half_width}: {found:?}"
            );
            assert!(
                (found.entropy - entropy).abs() < digit,
                "{energy:?} {half_width}: {found:?}"
            );
            assert_eq!(found.mass_outside, 0.0);
        }
    }

    #[test]
    fn walled_integrals_have_converged() {
        let wall = SoftWall::default();
        for energy in Energy::ALL {
            let coarse = normalize_walled(energy, &wall, 2.0 * DEFAULT_CELL);
            let fine = normalize_walled(energy, &wall, DEFAULT_CELL);
            assert!(
                (coarse.log_z - fine.log_z).abs() < 1e-7,
                "{energy:?}: {coarse:?} {fine:?}"
            );
            assert!(
                (coarse.entropy - fine.entropy).abs() < 1e-6,
                "{energy:?}: {coarse:?} {fine:?}"
            );
            assert!((coarse.mass_outside - fine.mass_outside).abs() < 1e-5);
        }
    }

    #[test]
    fn the_wall_lets_some_mass_out_and_adds_it_to_z() {
        let wall = SoftWall::default();
        for energy in Energy::ALL {
            let hard = normalize_in_box(energy, wall.half_width, DEFAULT_CELL);
            let walled = normalize_walled(energy, &wall, DEFAULT_CELL);
            let inside = walled.log_z + (1.0 - walled.mass_outside).ln();
            assert!(
                (inside - hard.log_z).abs() < 1e-6,
                "{energy:?}: {inside} {hard:?}"
            );
        }
        assert!(normalize_walled(Energy::U1, &wall, DEFAULT_CELL).mass_outside < 1e-4);
        let sine = normalize_walled(Energy::U2, &wall, DEFAULT_CELL).mass_outside;
        // Constant along z1: two half Gaussians of variance 1 / 20 beside a side of 8.
        let tails = (PI / 10.0).sqrt();
        assert!((sine - tails / (8.0 + tails)).abs() < 1e-6, "{sine}");
    }

    #[test]
    fn gauss_legendre_is_exact_for_polynomials_of_its_degree() {
        let rule = gauss_legendre(5, -1.0, 3.0);
        for degree in 0..10 {
            let sum: f64 = rule.iter().map(|(x, w)| w * x.powi(degree)).sum();
            let n = f64::from(degree + 1);
            let exact = (3.0f64.powi(degree + 1) - (-1.0f64).powi(degree + 1)) / n;
            assert!(
                (sum - exact).abs() < 1e-12 * exact.abs().max(1.0),
                "x^{degree}: {sum} {exact}"
            );
        }
        let many: f64 = gauss_legendre(300, 0.0, PI)
            .iter()
            .map(|(x, w)| w * x.sin())
            .sum();
        assert!((many - 2.0).abs() < 1e-12, "{many}");
    }

    #[test]
    fn a_gaussian_has_its_textbook_entropy() {
        let log_density = |x: [f64; 2]| -0.5 * (x[0] * x[0] + x[1] * x[1]) - (2.0 * PI).ln();
        let (mass, entropy) = mass_and_entropy([[-9.0, 9.0]; 2], [90; 2], log_density);
        assert!((mass - 1.0).abs() < 1e-12);
        assert!((entropy - (1.0 + (2.0 * PI).ln())).abs() < 1e-12);
    }
}
