//! Marginal densities of some columns, data filled and one line a model.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::axes::COLORS;
use super::canvas::{Anchor, Area, INK, Lettering, draw_png};
use super::ticks::{labels, ticks};

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Marginal {
    /// Its name.
    pub name: String,
    /// `[low, high]` of the axis; what lies outside is not drawn, and counts in the total.
    pub range: [f64; 2],
    /// Values of the data.
    pub data: Vec<f64>,
    /// Samples of each model, the same models in every panel.
    pub models: Vec<(String, Vec<f64>)>,
}

const BINS: usize = 60;
const SIDE: [u32; 2] = [330, 230];

/// Draws the panels in rows of two, with one legend, and writes a PNG.
///
/// # Errors
/// [`ReportError::Draw`] for no panel, [`ReportError::File`] where the file cannot be written.
pub fn draw_marginals(
    path: impl AsRef<Path>,
    heading: &str,
    panels: &[Marginal],
) -> Result<(), ReportError> {
    let path = path.as_ref();
    let Some(first) = panels.first() else {
        return Err(ReportError::Draw {
            path: path.to_owned(),
            reason: "no panels".to_owned(),
        });
    };
    let columns = panels.len().min(2) as u32;
    let rows = panels.len().div_ceil(2) as u32;
    let [left, top, gap, below] = [20, 56, 24, 62];
    let legend = 150;
    let size = [
        left + columns * (SIDE[0] + gap) + legend,
        (top + rows * (SIDE[1] + below)).max(top + 30 * (first.models.len() as u32 + 2)),
    ];
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(20).write(area, heading, (middle, 18), Anchor::Top, size[0] - 20)?;
        for (i, panel) in panels.iter().enumerate() {
            let x = left + (i as u32 % 2) * (SIDE[0] + gap);
            let y = top + (i as u32 / 2) * (SIDE[1] + below);
            draw_panel(area, panel, [x as i32, y as i32])?;
        }
        let x = (left + columns * (SIDE[0] + gap)) as i32;
        let names = first.models.iter().map(|(name, _)| name.as_str());
        for (i, name) in std::iter::once("test data").chain(names).enumerate() {
            let y = top as i32 + 14 + 26 * i as i32;
            if i == 0 {
                let corners = [(x, y - 7), (x + 28, y + 7)];
                area.draw(&Rectangle::new(corners, FILL.filled()))?;
            } else {
                let line = [(x, y), (x + 28, y)];
                let color = COLORS[(i - 1) % COLORS.len()];
                area.draw(&PathElement::new(line, color.stroke_width(3)))?;
            }
            Lettering::regular(16).write(area, name, (x + 36, y), Anchor::Left, 110)?;
        }
        Ok(())
    })
}

const FILL: RGBColor = RGBColor(205, 205, 205);

fn draw_panel(
    area: &Area<'_>,
    panel: &Marginal,
    [left, top]: [i32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let [width, height] = SIDE.map(|s| s as i32);
    let bottom = top + height;
    let [low, high] = panel.range;
    let share = |value: f64| (value - low) / (high - low);
    let count = |values: &[f64]| {
        let mut bins = vec![0.0; BINS];
        for value in values {
            let at = share(*value);
            if (0.0..1.0).contains(&at) {
                bins[(at * BINS as f64) as usize] += 1.0 / values.len() as f64;
            }
        }
        bins
    };
    let data = count(&panel.data);
    let models: Vec<Vec<f64>> = panel
        .models
        .iter()
        .map(|(_, values)| count(values))
        .collect();
    // Everything is inside up to twice the data's peak; a higher spike of a model must not flatten the rest.
    let peak = |bins: &[f64]| bins.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let models_peak = models.iter().map(|bins| peak(bins)).fold(0.0, f64::max);
    let highest = peak(&data).max(models_peak.min(2.0 * peak(&data))) * 1.08;
    let place = |bin: usize, mass: f64| {
        let x = left + bin as i32 * width / BINS as i32;
        let y = bottom - ((mass / highest).min(1.0) * f64::from(height)) as i32;
        (x, y)
    };
    for (bin, mass) in data.iter().enumerate() {
        let corners = [place(bin, *mass), (place(bin + 1, 0.0).0, bottom)];
        area.draw(&Rectangle::new(corners, FILL.filled()))?;
    }
    for (i, bins) in models.iter().enumerate() {
        let steps = bins.iter().enumerate();
        let line: Vec<(i32, i32)> = steps
            .flat_map(|(bin, mass)| [place(bin, *mass), place(bin + 1, *mass)])
            .collect();
        let color = COLORS[i % COLORS.len()];
        area.draw(&PathElement::new(line, color.stroke_width(2)))?;
    }
    area.draw(&Rectangle::new([(left, top), (left + width, bottom)], INK))?;
    let values = ticks(panel.range);
    let labels = labels(&values);
    for (&value, text) in values.iter().zip(&labels.texts) {
        let at = left + (share(value) * f64::from(width)) as i32;
        area.draw(&PathElement::new([(at, bottom), (at, bottom + 5)], INK))?;
        let lettering = Lettering::regular(14);
        lettering.write(area, text, (at, bottom + 10), Anchor::Top, 80)?;
    }
    let at = (left + width / 2, bottom + 32);
    let name = format!("{} {}", panel.name, labels.offset);
    Lettering::regular(16).write(area, name.trim_end(), at, Anchor::Top, SIDE[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_drawn_with_a_model_far_outside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marginals.png");
        let panel = Marginal {
            name: "x".to_owned(),
            range: [0.0, 1.0],
            data: (0..100).map(|i| f64::from(i) / 100.0).collect(),
            models: vec![
                ("far".to_owned(), vec![7.0, f64::NAN]),
                ("near".to_owned(), vec![0.5]),
            ],
        };
        draw_marginals(&path, "test", &vec![panel; 3]).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        assert!(draw_marginals(&path, "test", &[]).is_err());
    }
}
