//! Axes: scales, ticks, grid and labels.

use plotters::prelude::*;

use super::canvas::{Anchor, Area, INK, Lettering};
use super::ticks::labels;

/// How values become lengths along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal steps for equal differences.
    #[default]
    Linear,
    /// Equal steps for equal ratios. Values that are not positive have no place and are left out.
    Log10,
}

/// What surrounds the lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CurvePlot {
    /// Above the plot.
    pub title: String,
    /// Below the horizontal axis, with its unit.
    pub x_label: String,
    /// Beside the vertical axis, with its unit.
    pub y_label: String,
    /// Scale of the horizontal axis.
    pub x_scale: Scale,
    /// Scale of the vertical axis.
    pub y_scale: Scale,
}

/// Colours that stay apart for colour-blind readers (Okabe and Ito), darkest first.
pub(super) const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// Grid, ticks with their labels, and the frame around them. `widths` bounds the labels below and beside it.
pub(super) fn draw_axes(
    area: &Area<'_>,
    axes: &[Axis; 2],
    frame: [[i32; 2]; 2],
    ticks: [&[f64]; 2],
    lettering: Lettering,
    widths: [u32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let grid = RGBColor(225, 225, 225);
    let [[left, right], [bottom, top]] = frame;
    let [x_labels, y_labels] = ticks.map(labels);
    for (value, text) in ticks[0].iter().zip(&x_labels.texts) {
        let x = axes[0].place(*value, frame[0]);
        area.draw(&PathElement::new([(x, top), (x, bottom)], grid))?;
        area.draw(&PathElement::new([(x, bottom), (x, bottom + 5)], INK))?;
        lettering.write(area, text, (x, bottom + 10), Anchor::Top, widths[0])?;
    }
    for (value, text) in ticks[1].iter().zip(&y_labels.texts) {
        let y = axes[1].place(*value, frame[1]);
        area.draw(&PathElement::new([(left, y), (right, y)], grid))?;
        area.draw(&PathElement::new([(left - 5, y), (left, y)], INK))?;
        lettering.write(area, text, (left - 9, y), Anchor::Right, widths[1])?;
    }
    let at = (right, bottom + 28);
    lettering.write(area, &x_labels.offset, at, Anchor::Right, 160)?;
    lettering.write(area, &y_labels.offset, (left, top - 10), Anchor::Left, 160)?;
    area.draw(&Rectangle::new([(left, top), (right, bottom)], INK))?;
    Ok(())
}

/// The runs of points that have a place on both axes.
pub(super) fn drawable_pieces(points: &[[f64; 2]], scales: [Scale; 2]) -> Vec<Vec<[f64; 2]>> {
    let drawable = |p: &[f64; 2]| {
        let has_place =
            |(x, scale): (&f64, Scale)| x.is_finite() && (scale == Scale::Linear || *x > 0.0);
        p.iter().zip(scales).all(has_place)
    };
    points
        .split(|p| !drawable(p))
        .filter(|piece| !piece.is_empty())
        .map(<[_]>::to_vec)
        .collect()
}

/// A range of values, in the units in which it is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// Smallest and largest value of the axis.
    pub(super) fn ends(&self) -> [f64; 2] {
        match self.scale {
            Scale::Linear => [self.low, self.high],
            Scale::Log10 => [10f64.powf(self.low), 10f64.powf(self.high)],
        }
    }

    /// The range of `values`, widened on both sides by a share `margin` of it.
    pub(super) fn around(values: impl Iterator<Item = f64>, scale: Scale, margin: f64) -> Self {
        let length = |x: f64| match scale {
            Scale::Linear => x,
            Scale::Log10 => x.log10(),
        };
        let (low, high) = values
            .map(length)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                (low.min(x), high.max(x))
            });
        let width = high - low;
        // A single value, and what differs from it by rounding only, gets room around it.
        let pad = if width > 1e-12 * low.abs().max(high.abs()) {
            margin * width
        } else {
            0.5 * low.abs().max(1.0)
        };
        Self {
            scale,
            low: low - pad,
            high: high + pad,
        }
    }

    /// The pixel of a value between the pixels of the two ends.
    pub(super) fn place(&self, value: f64, [start, end]: [i32; 2]) -> i32 {
        let length = match self.scale {
            Scale::Linear => value,
            Scale::Log10 => value.log10(),
        };
        let share = (length - self.low) / (self.high - self.low);
        (f64::from(start) + share * f64::from(end - start)).round() as i32
    }

    /// About six round values; on a logarithmic axis that spans a decade or more, whole or 1-2-5
    /// steps of decades.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = (self.low, self.high);
        match self.scale {
            Scale::Linear => round_values(low, high),
            Scale::Log10 if high - low < 1.0 => round_values(10f64.powf(low), 10f64.powf(high)),
            Scale::Log10 => {
                let digits: &[f64] = if high - low < 3.0 {
                    &[1.0, 2.0, 5.0]
                } else {
                    &[1.0]
                };
                let every = ((high - low) / 8.0).ceil().max(1.0) as i32;
                (low.floor() as i32..=high.ceil() as i32)
                    .filter(|decade| decade.rem_euclid(every) == 0)
                    .flat_map(|decade| digits.iter().map(move |d| d * 10f64.powi(decade)))
                    .filter(|tick| (low - 1e-9..=high + 1e-9).contains(&tick.log10()))
                    .collect()
            }
        }
    }
}

/// Multiples of 1, 2 or 5 times a power of ten between two values.
fn round_values(low: f64, high: f64) -> Vec<f64> {
    let power = 10f64.powf(((high - low) / 6.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|s| s * power)
        .find(|step| (high - low) / step <= 7.0)
        .unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    // Dividing by the inverse of a small step gives 0.3 where multiplying gives 0.30000000000000004.
    let value = |i: i64| {
        if step < 1.0 {
            i as f64 / (1.0 / step).round()
        } else {
            i as f64 * step
        }
    };
    (first..=last).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = |low, high, scale| Axis { scale, low, high };
        assert_eq!(
            axis(0.0, 1.0, Scale::Linear).ticks(),
            [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        );
        assert_eq!(
            axis(-3.0, 1.0, Scale::Log10).ticks(),
            [0.001, 0.01, 0.1, 1.0, 10.0]
        );
        assert_eq!(axis(0.0, 1.0, Scale::Log10).ticks(), [1.0, 2.0, 5.0, 10.0]);
        let fine = axis(0.30, 0.48, Scale::Log10).ticks();
        assert!(
            fine.len() >= 4 && fine.iter().all(|t| (1.99..3.03).contains(t)),
            "{fine:?}"
        );
        let many = axis(-40.0, 0.0, Scale::Log10).ticks();
        assert!(many.len() <= 10, "{many:?}");
    }

    #[test]
    fn bad_points_interrupt_a_line() {
        let points = [
            [0.0, 1.0],
            [1.0, f64::NAN],
            [2.0, 3.0],
            [3.0, -1.0],
            [4.0, f64::INFINITY],
        ];
        let linear = drawable_pieces(&points, [Scale::Linear; 2]);
        assert_eq!(linear, [vec![[0.0, 1.0]], vec![[2.0, 3.0], [3.0, -1.0]]]);
        let log = drawable_pieces(&points, [Scale::Linear, Scale::Log10]);
        assert_eq!(log, [vec![[0.0, 1.0]], vec![[2.0, 3.0]]]);
    }

    #[test]
    fn constant_values_get_room() {
        let axis = Axis::around([2.0, 2.0].into_iter(), Scale::Linear, 0.05);
        assert!(axis.low < 2.0 && axis.high > 2.0);
        assert_eq!(axis.place(2.0, [0, 100]), 50);
    }
}
