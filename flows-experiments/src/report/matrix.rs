//! Rows and columns of square panels, densities beside lines in the plane: the same model seen in
//! several ways, several models side by side.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::canvas::{Anchor, Area, INK, Lettering, draw_png};
use super::density_plot::{DensityPanel, check_panels, render};

/// A line of a [`LinePanel`].
#[derive(Debug, Clone, PartialEq)]
pub struct PanelLine {
    /// In the order in which they are joined.
    pub points: Vec<[f64; 2]>,
    /// Red, green, blue.
    pub color: [u8; 3],
    /// In pixels.
    pub width: f64,
}

/// Lines in the plane. What leaves the range is cut off.
#[derive(Debug, Clone, PartialEq)]
pub struct LinePanel {
    /// `[[low, high]; 2]` of the two axes.
    pub range: [[f64; 2]; 2],
    /// Drawn one over the other.
    pub lines: Vec<PanelLine>,
    /// Dots over the lines: place and colour.
    pub dots: Vec<([f64; 2], [u8; 3])>,
}

/// One square of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Panel {
    /// A heat map; its title is not shown.
    Density(DensityPanel),
    /// Lines, with a text below.
    Lines(LinePanel, String),
    /// Nothing but a text.
    Empty(String),
}

/// A row of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixRow {
    /// Beside it.
    pub name: String,
    /// As many as there are columns. Each density has a colour scale of its own, whose upper end all
    /// but one cell in 500 stay below: a few spikes do not darken the rest.
    pub panels: Vec<Panel>,
}

/// Pixels of a panel's side.
const SIDE: u32 = 216;
/// Between two panels.
const GAP: u32 = 12;
/// Below a panel, for its text.
const TEXT: u32 = 26;
/// Left of the panels, for the names of the rows.
const NAMES: u32 = 44;
/// Radius of a dot.
const DOT: f64 = 2.2;
/// Pixels of a line panel that become one, along each axis.
const OVERSAMPLING: u32 = 3;

/// Draws a matrix of panels and writes a PNG. `groups` are headings over several columns each, in
/// order, with the number of columns they span; none: no such headings.
///
/// # Errors
/// [`ReportError::Draw`] for no panel, for rows of different lengths, and for densities that are not
/// square; [`ReportError::File`] where the file cannot be written.
pub fn draw_matrix(
    path: impl AsRef<Path>,
    heading: &str,
    groups: &[(String, usize)],
    columns: &[String],
    rows: &[MatrixRow],
) -> Result<(), ReportError> {
    let path = path.as_ref();
    let refuse = |reason: &str| ReportError::Draw {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if rows.is_empty() || columns.is_empty() {
        return Err(refuse("no panels"));
    }
    if rows.iter().any(|row| row.panels.len() != columns.len()) {
        return Err(refuse(
            "a row has more or fewer panels than there are columns",
        ));
    }
    for panel in rows.iter().flat_map(|row| &row.panels) {
        if let Panel::Density(density) = panel {
            check_panels(path, std::slice::from_ref(density))?;
        }
    }
    let group_height = if groups.is_empty() { 0 } else { 34 };
    let top = 52 + group_height + 32;
    let row_height = SIDE + TEXT + GAP;
    let size = [
        NAMES + columns.len() as u32 * (SIDE + GAP) + GAP,
        top + rows.len() as u32 * row_height + 4,
    ];
    let left_of = |column: usize| NAMES + column as u32 * (SIDE + GAP);
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(24).write(area, heading, (middle, 18), Anchor::Top, size[0] - 20)?;
        let mut column = 0;
        for (name, span) in groups {
            let (left, right) = (left_of(column), left_of(column + span) - GAP);
            let at = (((left + right) / 2) as i32, 58);
            Lettering::bold(20).write(area, name, at, Anchor::Top, right - left)?;
            let y = 58 + 22;
            area.draw(&PathElement::new(
                [(left as i32, y), (right as i32, y)],
                INK,
            ))?;
            column += span;
        }
        for (i, name) in columns.iter().enumerate() {
            let at = ((left_of(i) + SIDE / 2) as i32, top as i32 - 24);
            Lettering::bold(17).write(area, name, at, Anchor::Top, SIDE)?;
        }
        for (i, row) in rows.iter().enumerate() {
            let y = top + i as u32 * row_height;
            let at = (NAMES as i32 / 2 - 2, (y + SIDE / 2) as i32);
            Lettering::bold(17).write(area, &row.name, at, Anchor::Upwards, SIDE)?;
            for (j, panel) in row.panels.iter().enumerate() {
                draw_panel(area, panel, [left_of(j), y])?;
            }
        }
        Ok(())
    })
}

fn draw_panel(
    area: &Area<'_>,
    panel: &Panel,
    [left, top]: [u32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let (x, y) = (left as i32, top as i32);
    let side = SIDE as i32;
    let (image, text) = match panel {
        Panel::Density(density) => {
            let mut finite: Vec<f64> = density.grid.clone();
            finite.retain(|p| p.is_finite());
            finite.sort_by(f64::total_cmp);
            let upper = finite.len().saturating_sub(1 + finite.len() / 500);
            let upper = finite.get(upper).copied().unwrap_or(1.0);
            let image = render(&density.grid, [SIDE; 2], upper.max(f64::MIN_POSITIVE));
            (Some(image), &density.subtitle)
        }
        Panel::Lines(lines, text) => (Some(render_lines(lines)), text),
        Panel::Empty(text) => (None, text),
    };
    if let Some(image) = image {
        let bitmap = BitMapElement::with_owned_buffer((x, y), (SIDE, SIDE), image);
        area.draw(&bitmap.ok_or("a bitmap of the wrong size")?)?;
        area.draw(&Rectangle::new([(x - 1, y - 1), (x + side, y + side)], INK))?;
    }
    let at = (x + side / 2, y + side + 8);
    Lettering::regular(15).write(area, text, at, Anchor::Top, SIDE)
}

/// Lines on white, smoothed by drawing them larger.
fn render_lines(panel: &LinePanel) -> Vec<u8> {
    let large = (SIDE * OVERSAMPLING) as usize;
    let mut pixels = vec![255; 3 * large * large];
    let [[left, right], [low, high]] = panel.range;
    let place = |p: [f64; 2]| {
        let x = (p[0] - left) / (right - left) * large as f64;
        let y = (high - p[1]) / (high - low) * large as f64;
        [x, y]
    };
    // A round pen moved by a pixel at a time leaves no gaps, whichever way a line runs.
    let mut stamp = |[x, y]: [f64; 2], radius: f64, color: [u8; 3]| {
        let reach = |c: f64| {
            let first = (c - radius).floor().clamp(0.0, large as f64) as usize;
            first..(c + radius).ceil().clamp(0.0, large as f64) as usize
        };
        for (row, column) in reach(y).flat_map(|row| reach(x).map(move |column| (row, column))) {
            let (dx, dy) = (column as f64 + 0.5 - x, row as f64 + 0.5 - y);
            if dx.hypot(dy) <= radius {
                let at = 3 * (row * large + column);
                pixels[at..at + 3].copy_from_slice(&color);
            }
        }
    };
    let oversampling = f64::from(OVERSAMPLING);
    for line in &panel.lines {
        for pair in line.points.windows(2) {
            let Some(inside) = clip(panel.range, [pair[0], pair[1]]) else {
                continue;
            };
            let [from, to] = inside.map(place);
            let steps = (to[0] - from[0]).hypot(to[1] - from[1]).ceil().max(1.0);
            for i in 0..=steps as usize {
                let share = i as f64 / steps;
                let at = [0, 1].map(|axis| from[axis] + share * (to[axis] - from[axis]));
                stamp(at, line.width * oversampling / 2.0, line.color);
            }
        }
    }
    let inside =
        |p: &[f64; 2]| (0..2).all(|i| p[i] > panel.range[i][0] && p[i] < panel.range[i][1]);
    for (dot, color) in panel.dots.iter().filter(|(dot, _)| inside(dot)) {
        stamp(place(*dot), DOT * oversampling, *color);
    }
    let n = OVERSAMPLING as usize;
    let mean = |x: usize, y: usize, channel: usize| {
        let sum: u32 = (0..n * n)
            .map(|i| {
                let pixel = (y * n + i / n) * large + x * n + i % n;
                u32::from(pixels[3 * pixel + channel])
            })
            .sum();
        // Sixteen levels: the eye sees no difference, and the file is half as large.
        ((sum / (n * n) as u32 + 8) / 17 * 17).min(255) as u8
    };
    let side = SIDE as usize;
    (0..side * side)
        .flat_map(|i| (0..3).map(move |channel| (i % side, i / side, channel)))
        .map(|(x, y, channel)| mean(x, y, channel))
        .collect()
}

/// The part of a segment inside a rectangle (Liang and Barsky), if any.
fn clip(range: [[f64; 2]; 2], [from, to]: [[f64; 2]; 2]) -> Option<[[f64; 2]; 2]> {
    let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
    for axis in 0..2 {
        let step = to[axis] - from[axis];
        for (distance, speed) in [
            (from[axis] - range[axis][0], step),
            (range[axis][1] - from[axis], -step),
        ] {
            if speed == 0.0 {
                if distance < 0.0 {
                    return None;
                }
            } else if speed > 0.0 {
                enter = enter.max(-distance / speed);
            } else {
                leave = leave.min(-distance / speed);
            }
        }
    }
    let at = |t: f64| [0, 1].map(|i| from[i] + t * (to[i] - from[i]));
    (enter <= leave).then(|| [at(enter), at(leave)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: [[f64; 2]; 2] = [[0.0, 1.0]; 2];

    #[test]
    fn segments_are_cut_at_the_rim() {
        let close = |a: Option<[[f64; 2]; 2]>, b: [[f64; 2]; 2]| {
            let a = a.expect("it crosses the square");
            let differences = a.as_flattened().iter().zip(b.as_flattened());
            assert!(
                differences.into_iter().all(|(a, b)| (a - b).abs() < 1e-12),
                "{a:?}"
            );
        };
        close(
            clip(UNIT, [[0.2, 0.2], [0.8, 0.3]]),
            [[0.2, 0.2], [0.8, 0.3]],
        );
        close(
            clip(UNIT, [[-1.0, 0.5], [2.0, 0.5]]),
            [[0.0, 0.5], [1.0, 0.5]],
        );
        close(
            clip(UNIT, [[0.5, 0.5], [0.5, 1e6]]),
            [[0.5, 0.5], [0.5, 1.0]],
        );
        assert_eq!(clip(UNIT, [[-1.0, 0.5], [-0.5, 0.9]]), None);
        assert_eq!(clip(UNIT, [[-1.0, 0.5], [0.5, 2.5]]), None);
        assert_eq!(clip(UNIT, [[1e6, 1e6], [1e6, 1e6]]), None);
    }

    #[test]
    fn a_matrix_is_drawn_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.png");
        let line = PanelLine {
            points: vec![[0.0, 0.0], [1.0, 1.0], [1e6, 1.0]],
            color: [0, 0, 0],
            width: 1.0,
        };
        let lines = Panel::Lines(
            LinePanel {
                range: UNIT,
                lines: vec![line],
                dots: vec![([0.5, 0.5], [255, 0, 0])],
            },
            "text".to_owned(),
        );
        let row = MatrixRow {
            name: "row".to_owned(),
            panels: vec![lines.clone(), Panel::Empty(String::new())],
        };
        let columns = ["a".to_owned(), "b".to_owned()];
        let groups = [("both".to_owned(), 2)];
        draw_matrix(
            &path,
            "heading",
            &groups,
            &columns,
            std::slice::from_ref(&row),
        )
        .unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        let message = draw_matrix(&path, "", &[], &columns[..1], &[row]).unwrap_err();
        assert!(message.to_string().contains("more or fewer"), "{message}");
    }

    #[test]
    fn lines_darken_their_pixels_only() {
        let panel = LinePanel {
            range: UNIT,
            lines: vec![PanelLine {
                points: vec![[0.0, 0.5], [1.0, 0.5]],
                color: [0, 0, 0],
                width: 2.0,
            }],
            dots: vec![],
        };
        let image = render_lines(&panel);
        let pixel = |x: usize, y: usize| image[3 * (y * SIDE as usize + x)];
        let middle = SIDE as usize / 2;
        assert!((middle - 2..middle + 2).any(|y| pixel(middle, y) < 60));
        assert_eq!(pixel(middle, 10), 255);
    }
}
