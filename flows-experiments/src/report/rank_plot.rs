//! Rank histograms: how observations fall among samples, one panel a column.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::canvas::{Anchor, Area, INK, Lettering, draw_png};

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct RankPanel {
    /// Its name.
    pub name: String,
    /// Observations in each equal part of the ranks.
    pub counts: Vec<usize>,
    /// Variance of a count where the ranks are uniform, relative to that of independent ones: 2 where all rows are
    /// ranked among the same, as many samples.
    pub variance: f64,
}

const SIDE: [i32; 2] = [250, 150];
const GAP: [i32; 2] = [40, 70];
const ACROSS: usize = 3;

/// Draws the panels in rows of three, each with the range that nineteen of twenty bars lie in by chance, and writes a
/// PNG.
///
/// # Errors
/// [`ReportError::Draw`] for no panel, [`ReportError::File`] where the file cannot be written.
pub fn draw_ranks(
    path: impl AsRef<Path>,
    heading: &str,
    panels: &[RankPanel],
) -> Result<(), ReportError> {
    let path = path.as_ref();
    if panels.is_empty() {
        return Err(ReportError::Draw {
            path: path.to_owned(),
            reason: "no panels".to_owned(),
        });
    }
    let across = panels.len().min(ACROSS) as i32;
    let down = panels.len().div_ceil(ACROSS) as i32;
    let top = 70;
    let size = [
        (across.max(2) * (SIDE[0] + GAP[0]) + GAP[0]) as u32,
        (top + down * (SIDE[1] + GAP[1])) as u32,
    ];
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(18).write(area, heading, (middle, 18), Anchor::Top, size[0] - 20)?;
        for (i, panel) in panels.iter().enumerate() {
            let [column, row] = [(i % ACROSS) as i32, (i / ACROSS) as i32];
            let left = GAP[0] + column * (SIDE[0] + GAP[0]);
            draw_panel(area, panel, [left, top + row * (SIDE[1] + GAP[1])])?;
        }
        Ok(())
    })
}

fn draw_panel(
    area: &Area<'_>,
    panel: &RankPanel,
    [left, top]: [i32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let [width, height] = SIDE;
    let bottom = top + height;
    let parts = panel.counts.len().max(1);
    let total: usize = panel.counts.iter().sum();
    let expected = total as f64 / parts as f64;
    let margin = 1.96 * (panel.variance * expected * (1.0 - 1.0 / parts as f64)).sqrt();
    let highest = panel.counts.iter().copied().max().unwrap_or(0) as f64;
    let highest = 1.15 * highest.max(expected + margin).max(1.0);
    let at = |count: f64| bottom - (count.max(0.0) / highest * f64::from(height)) as i32;
    let x = |part: usize| left + part as i32 * width / parts as i32;
    let band = [
        (left, at(expected + margin)),
        (left + width, at(expected - margin)),
    ];
    area.draw(&Rectangle::new(band, RGBColor(225, 225, 225).filled()))?;
    for (part, count) in panel.counts.iter().enumerate() {
        let corners = [(x(part) + 2, at(*count as f64)), (x(part + 1) - 2, bottom)];
        area.draw(&Rectangle::new(
            corners,
            RGBColor(70, 120, 180).mix(0.75).filled(),
        ))?;
    }
    let line = [(left, at(expected)), (left + width, at(expected))];
    area.draw(&PathElement::new(line, INK))?;
    area.draw(&Rectangle::new([(left, top), (left + width, bottom)], INK))?;
    let below = |x, text: &str, anchor| {
        Lettering::regular(14).write(area, text, (x, bottom + 8), anchor, 60)
    };
    below(left, "0", Anchor::Top)?;
    below(left + width, "1", Anchor::Top)?;
    let name = (left + width / 2, bottom + 26);
    Lettering::regular(16).write(area, &panel.name, name, Anchor::Top, SIDE[0] as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_a_column_is_drawn_and_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranks.png");
        let panel = |name: &str, last| RankPanel {
            name: name.to_owned(),
            counts: vec![10, 12, 9, last],
            variance: 1.0,
        };
        let panels: Vec<RankPanel> = (0..4).map(|k| panel(&format!("c{k}"), 10 * k)).collect();
        draw_ranks(&path, "ranks", &panels).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"));
        let side = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([side(16), side(20)], [3 * 290 + 40, 70 + 2 * 220]);
        let error = draw_ranks(&path, "ranks", &[]).unwrap_err().to_string();
        assert!(error.contains("no panels"), "{error}");
    }
}
