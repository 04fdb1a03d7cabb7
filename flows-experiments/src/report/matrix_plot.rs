//! Small matrices side by side, one square a cell: masks, graphs, weights.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::canvas::{Anchor, Area, INK, Lettering, draw_png};

/// One matrix and its lettering.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixPanel {
    /// Above the matrix. May be empty.
    pub title: String,
    /// Below it. May be empty.
    pub subtitle: String,
    /// Entries between 0, white, and 1, dark; NaN is drawn grey, for what cannot be.
    pub rows: Vec<Vec<f64>>,
    /// What rows and columns stand for, left of the matrix and below it. May be empty.
    pub axes: [String; 2],
}

impl MatrixPanel {
    /// A 0/1 matrix of `rows` by `columns`.
    pub fn of(
        title: &str,
        [rows, columns]: [usize; 2],
        entry: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let row = |i: usize| {
            (0..columns)
                .map(|j| f64::from(u8::from(entry(i, j))))
                .collect()
        };
        Self {
            title: title.to_owned(),
            subtitle: String::new(),
            rows: (0..rows).map(row).collect(),
            axes: [String::new(), String::new()],
        }
    }

    /// With another text below it.
    pub fn subtitled(self, subtitle: impl Into<String>) -> Self {
        Self {
            subtitle: subtitle.into(),
            ..self
        }
    }

    /// With names of rows and columns.
    pub fn named(self, rows: &str, columns: &str) -> Self {
        Self {
            axes: [rows.to_owned(), columns.to_owned()],
            ..self
        }
    }

    fn size(&self) -> [usize; 2] {
        [self.rows.len(), self.rows.first().map_or(0, Vec::len)]
    }
}

/// Side of the square that the larger side of each matrix fills, and what surrounds it, in pixels.
const SIDE: u32 = 210;
const LEFT: u32 = 34;
const TITLE: u32 = 30;
const BELOW: u32 = 58;
const GAP: u32 = 18;

/// Draws panels in rows of `columns` and writes a PNG.
///
/// # Errors
/// [`ReportError::Draw`] for no panel, and for one without entries or with rows of different length;
/// [`ReportError::File`] where the file cannot be written.
pub fn draw_matrix_panels(
    path: impl AsRef<Path>,
    heading: &str,
    panels: &[MatrixPanel],
    columns: usize,
) -> Result<(), ReportError> {
    let path = path.as_ref();
    let refuse = |reason: String| ReportError::Draw {
        path: path.to_owned(),
        reason,
    };
    if panels.is_empty() {
        return Err(refuse("no panels".to_owned()));
    }
    for panel in panels {
        let [rows, width] = panel.size();
        if rows * width == 0 || panel.rows.iter().any(|row| row.len() != width) {
            let reason = format!("'{}' is no matrix of one row or more", panel.title);
            return Err(refuse(reason));
        }
    }
    let columns = columns.clamp(1, panels.len());
    let lines = panels.len().div_ceil(columns) as u32;
    let top = if heading.is_empty() { 10 } else { 52 };
    let cell = [LEFT + SIDE + GAP, TITLE + SIDE + BELOW];
    let size = [GAP + columns as u32 * cell[0], top + lines * cell[1]];
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(24).write(area, heading, (middle, 18), Anchor::Top, size[0] - 20)?;
        for (k, panel) in panels.iter().enumerate() {
            let x = GAP / 2 + (k % columns) as u32 * cell[0];
            let y = top + (k / columns) as u32 * cell[1];
            draw_panel(area, panel, [x, y])?;
        }
        Ok(())
    })
}

fn draw_panel(
    area: &Area<'_>,
    panel: &MatrixPanel,
    [left, top]: [u32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let [rows, columns] = panel.size();
    let cell = (SIDE / rows.max(columns) as u32).max(1);
    let [width, height] = [columns as u32 * cell, rows as u32 * cell];
    // In the middle of the panel's square, the title at its upper edge.
    let x = (left + LEFT + (SIDE - width.min(SIDE)) / 2) as i32;
    let y = (top + TITLE) as i32;
    let centre = x + width as i32 / 2;
    let at = ((left + LEFT + SIDE / 2) as i32, top as i32 + 8);
    Lettering::bold(18).write(area, &panel.title, at, Anchor::Top, SIDE + LEFT)?;
    for (i, row) in panel.rows.iter().enumerate() {
        for (j, &value) in row.iter().enumerate() {
            let corner = (x + (j as u32 * cell) as i32, y + (i as u32 * cell) as i32);
            let opposite = (corner.0 + cell as i32, corner.1 + cell as i32);
            area.draw(&Rectangle::new([corner, opposite], shade(value).filled()))?;
        }
    }
    if cell >= 7 {
        let line = RGBColor(205, 205, 205);
        for i in 1..rows as i32 {
            let at = y + i * cell as i32;
            area.draw(&PathElement::new([(x, at), (x + width as i32, at)], line))?;
        }
        for j in 1..columns as i32 {
            let at = x + j * cell as i32;
            area.draw(&PathElement::new([(at, y), (at, y + height as i32)], line))?;
        }
    }
    let (right, bottom) = (x + width as i32, y + height as i32);
    area.draw(&Rectangle::new([(x, y), (right, bottom)], INK))?;
    let [row_name, column_name] = &panel.axes;
    let small = Lettering::regular(14);
    let at = (x - 14, y + height as i32 / 2);
    small.write(area, row_name, at, Anchor::Upwards, SIDE)?;
    small.write(area, column_name, (centre, bottom + 8), Anchor::Top, SIDE)?;
    let below = bottom + if column_name.is_empty() { 8 } else { 28 };
    Lettering::regular(15).write(
        area,
        &panel.subtitle,
        (centre, below),
        Anchor::Top,
        SIDE + LEFT,
    )
}

/// White at 0, dark blue at 1, grey for NaN.
fn shade(value: f64) -> RGBColor {
    if value.is_nan() {
        return RGBColor(232, 232, 232);
    }
    let mix = |dark: f64| (255.0 + (dark - 255.0) * value.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(20.0), mix(55.0), mix(110.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_drawn_and_bad_ones_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let panel = MatrixPanel::of("triangle", [3, 5], |i, j| j < i).named("i", "j");
        draw_matrix_panels(&path, "", &[panel.clone(), panel.clone()], 1).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        let mut ragged = panel;
        ragged.rows[0].pop();
        let empty = MatrixPanel::of("nothing", [0, 3], |_, _| true);
        for (panels, part) in [
            (vec![], "no panels"),
            (vec![ragged], "'triangle'"),
            (vec![empty], "'nothing'"),
        ] {
            let path = folder.path().join("b.png");
            let error = draw_matrix_panels(&path, "", &panels, 2).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains(part) && !message.contains('\n'),
                "{message}"
            );
            assert!(!path.exists());
        }
    }

    #[test]
    fn shades_go_from_white_to_dark() {
        let sum = |v: f64| {
            let RGBColor(r, g, b) = shade(v);
            u32::from(r) + u32::from(g) + u32::from(b)
        };
        assert_eq!(sum(0.0), 765);
        assert!(sum(0.3) > sum(0.7) && sum(0.7) > sum(1.0));
        assert_ne!(sum(f64::NAN), sum(0.0));
    }
}
