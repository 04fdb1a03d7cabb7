//! What pictures show of a trained model: a grid pushed through it and back, and the paths of
//! particles.

use burn::tensor::{Tensor, backend::Backend};
use flows_core::bijectors::{exponential_inverse, trajectories};
use serde::{Deserialize, Serialize};

use super::measure::Trained;
use crate::targets::Target;
use crate::toy::points;

/// Lines of the grid in each direction.
const GRID_LINES: usize = 25;

/// Points along a line of the grid.
const LINE_POINTS: usize = 97;

/// A line through the plane.
pub(super) type Polyline = Vec<[f32; 2]>;

/// Lines to draw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawing {
    /// `[[low, high]; 2]` of the straight grid, at the start of the blocks' forward direction.
    pub start_range: [[f64; 2]; 2],
    /// The same at their end.
    pub end_range: [[f64; 2]; 2],
    /// The grid after all blocks.
    pub grid: Vec<Vec<[f32; 2]>>,
    /// That grid after the exponential-map inverse: straight again where the inverse is consistent.
    pub back: Vec<Vec<[f32; 2]>>,
    /// Every state of the particles, one line each.
    pub paths: Vec<Vec<[f32; 2]>>,
}

/// The square that shows the base.
const BASE: [[f64; 2]; 2] = [[-3.0, 3.0]; 2];

impl Drawing {
    /// Runs grid and particles through the model.
    pub(super) fn of<B: Backend>(trained: &Trained<'_, B>, particles: usize) -> Self {
        let data = trained.target.plot_range();
        let (start_range, end_range) = match trained.target {
            Target::Samples(_) => (data, BASE),
            Target::Energy(_) => (BASE, data),
        };
        let straight = points(&straight_grid(start_range), trained.device);
        let end = trajectories(trained.layers, straight, None).end;
        let back = exponential_inverse(trained.layers, end.clone(), None)
            .expect("the configuration has stationary fields only");

        let path = trajectories(trained.layers, trained.start(particles), None);
        let mut states: Vec<Tensor<B, 2>> = Vec::new();
        for block in &path.blocks {
            // A block begins where the one before it ends.
            states.extend_from_slice(&block.states[..block.cells()]);
        }
        states.push(path.end);
        let states: Vec<Polyline> = states.into_iter().map(rows).collect();
        let paths = (0..particles)
            .map(|particle| states.iter().map(|state| state[particle]).collect())
            .collect();
        Self {
            start_range,
            end_range,
            grid: lines(end),
            back: lines(back),
            paths,
        }
    }
}

/// Lines of constant `x`, then of constant `y`, point by point.
fn straight_grid(range: [[f64; 2]; 2]) -> Vec<[f64; 2]> {
    let at = |axis: usize, i: usize, n: usize| {
        let [low, high] = range[axis];
        low + (high - low) * i as f64 / (n - 1) as f64
    };
    let along = |axis: usize| {
        (0..GRID_LINES).flat_map(move |line| {
            (0..LINE_POINTS).map(move |point| {
                let mut x = [0.0; 2];
                x[axis] = at(axis, line, GRID_LINES);
                x[1 - axis] = at(1 - axis, point, LINE_POINTS);
                x
            })
        })
    };
    along(0).chain(along(1)).collect()
}

fn lines<B: Backend>(batch: Tensor<B, 2>) -> Vec<Polyline> {
    rows(batch).chunks(LINE_POINTS).map(<[_]>::to_vec).collect()
}

/// Points that JSON can hold: what is not finite, or has left every picture, is moved far away.
fn rows<B: Backend>(batch: Tensor<B, 2>) -> Polyline {
    let flat: Vec<f32> = batch.into_data().iter::<f32>().collect();
    let far = |v: f32| if v.is_nan() { 1e6 } else { v.clamp(-1e6, 1e6) };
    flat.chunks_exact(2)
        .map(|p| [far(p[0]), far(p[1])])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_straight_grid_covers_its_range_in_straight_lines() {
        let grid = straight_grid([[-1.0, 1.0], [0.0, 4.0]]);
        assert_eq!(grid.len(), 2 * GRID_LINES * LINE_POINTS);
        let (vertical, horizontal) = grid.split_at(GRID_LINES * LINE_POINTS);
        for line in vertical.chunks(LINE_POINTS) {
            assert!(line.iter().all(|p| p[0] == line[0][0]));
            assert_eq!([line[0][1], line[LINE_POINTS - 1][1]], [0.0, 4.0]);
        }
        for line in horizontal.chunks(LINE_POINTS) {
            assert!(line.iter().all(|p| p[1] == line[0][1]));
        }
        assert_eq!(vertical.last(), Some(&[1.0, 4.0]));
    }
}
