//! Plots of curves in one picture, with one legend: training curves, error against depth.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::axes::{Axis, COLORS, CurvePlot, draw_axes, drawable_pieces};
use super::canvas::{Anchor, Area, Lettering, draw_png};

/// How points are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stroke {
    /// By a line.
    #[default]
    Solid,
    /// By a broken line.
    Dashed,
    /// By a thin grey line without marks: something to compare with.
    Guide,
    /// Not at all.
    None,
}

/// What stands at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mark {
    /// Nothing.
    None,
    /// A filled disc.
    #[default]
    Disc,
    /// A circle.
    Ring,
    /// A filled square.
    Square,
}

/// A marked curve.
#[derive(Debug, Clone, PartialEq)]
pub struct CurveLine {
    /// In the legend, which has every name once. Empty: not in the legend.
    pub name: String,
    /// `[x, y]`, in the order in which they are joined. What is not finite, or has no place on a
    /// logarithmic axis, interrupts the line.
    pub points: Vec<[f64; 2]>,
    /// Half the height of the error bar of each point; empty: none.
    pub errors: Vec<f64>,
    /// Which of the colours, from 0.
    pub color: usize,
    /// How points are joined.
    pub stroke: Stroke,
    /// What stands at them.
    pub mark: Mark,
}

impl CurveLine {
    /// A plain line through `points`.
    pub fn plain(name: impl Into<String>, points: Vec<[f64; 2]>, color: usize) -> Self {
        Self {
            name: name.into(),
            points,
            errors: Vec::new(),
            color,
            stroke: Stroke::Solid,
            mark: Mark::None,
        }
    }
}

/// One plot of a picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurvePanel {
    /// Title, axes and scales.
    pub plot: CurvePlot,
    /// The curves.
    pub lines: Vec<CurveLine>,
    /// Values marked on the horizontal axis; empty: round ones.
    pub x_ticks: Vec<f64>,
    /// Lines of text in the lower left corner.
    pub notes: Vec<String>,
}

/// Pixels of a plot, alone and beside others.
const ALONE: [u32; 2] = [760, 460];
const PLOT: [u32; 2] = [430, 320];
/// Around a plot: left, right, above, below.
const MARGIN: [u32; 4] = [96, 22, 44, 66];
const LEGEND_ROW: u32 = 26;

/// Draws the plots in rows of `columns`, with one legend to their right, and writes a PNG.
///
/// # Errors
/// [`ReportError::Draw`] where a plot has no point that can be drawn; [`ReportError::File`] where the
/// file cannot be written.
pub fn draw_curve_panels(
    path: impl AsRef<Path>,
    heading: &str,
    panels: &[CurvePanel],
    columns: usize,
) -> Result<(), ReportError> {
    let path = path.as_ref();
    let axes = panels
        .iter()
        .map(|panel| axes_of(panel).ok_or(&panel.plot.title))
        .collect::<Result<Vec<_>, _>>();
    let axes = axes.map_err(|title| ReportError::Draw {
        path: path.to_owned(),
        reason: format!("no point of \"{title}\" can be drawn"),
    })?;
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns).max(1) as u32;
    let mut legend: Vec<&CurveLine> = Vec::new();
    for line in panels.iter().flat_map(|panel| &panel.lines) {
        if !line.name.is_empty() && legend.iter().all(|other| other.name != line.name) {
            legend.push(line);
        }
    }
    let lettering = Lettering::regular(16);
    let names = legend.iter().map(|line| lettering.width(&line.name));
    let legend_width = names.max().map_or(0, |width| width.min(300) + 76);
    let plot = if panels.len() > 1 { PLOT } else { ALONE };
    let cell = [
        MARGIN[0] + plot[0] + MARGIN[1],
        MARGIN[2] + plot[1] + MARGIN[3],
    ];
    let top = if heading.is_empty() { 8 } else { 50 };
    let size = [
        columns as u32 * cell[0] + legend_width + 8,
        top + (rows * cell[1]).max(LEGEND_ROW * legend.len() as u32 + MARGIN[2] + 12),
    ];
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(22).write(area, heading, (middle, 18), Anchor::Top, size[0] - 20)?;
        for (i, (panel, axes)) in panels.iter().zip(&axes).enumerate() {
            let corner = [
                (i % columns) as u32 * cell[0],
                top + (i / columns) as u32 * cell[1],
            ];
            draw_panel(area, panel, axes, corner, plot)?;
        }
        let left = (columns as u32 * cell[0] + 8) as i32;
        for (i, line) in legend.iter().enumerate() {
            let y = (top + MARGIN[2] + 12 + LEGEND_ROW * i as u32) as i32;
            draw_pieces(area, line, &[vec![(left, y), (left + 36, y)]])?;
            draw_mark(area, line, (left + 18, y))?;
            lettering.write(area, &line.name, (left + 46, y), Anchor::Left, 300)?;
        }
        Ok(())
    })
}

fn axes_of(panel: &CurvePanel) -> Option<[Axis; 2]> {
    let scales = [panel.plot.x_scale, panel.plot.y_scale];
    let pieces: Vec<Vec<[f64; 2]>> = panel
        .lines
        .iter()
        .filter(|line| line.stroke != Stroke::Guide)
        .flat_map(|line| drawable_pieces(&line.points, scales))
        .collect();
    let points = || pieces.iter().flatten();
    points().next()?;
    // Error bars too, where they have a place on the axis.
    let bars = panel.lines.iter().flat_map(|line| {
        let both = line.points.iter().zip(&line.errors);
        both.flat_map(|(p, error)| [[p[0], p[1] - error], [p[0], p[1] + error]])
    });
    let bars: Vec<[f64; 2]> = bars
        .filter(|p| !drawable_pieces(&[*p], scales).is_empty())
        .collect();
    let heights = points().chain(&bars).map(|p| p[1]);
    Some([
        Axis::around(points().map(|p| p[0]), scales[0], 0.05),
        Axis::around(heights, scales[1], 0.05),
    ])
}

fn draw_panel(
    area: &Area<'_>,
    panel: &CurvePanel,
    axes: &[Axis; 2],
    [x, y]: [u32; 2],
    plot: [u32; 2],
) -> Result<(), Box<dyn std::error::Error>> {
    let (left, top) = ((x + MARGIN[0]) as i32, (y + MARGIN[2]) as i32);
    let (right, bottom) = (left + plot[0] as i32, top + plot[1] as i32);
    let frame = [[left, right], [bottom, top]];
    let middle = [(left + right) / 2, (top + bottom) / 2];
    let at = (middle[0], top - 24);
    Lettering::bold(17).write(area, &panel.plot.title, at, Anchor::Top, plot[0])?;
    let label = Lettering::regular(16);
    let at = (middle[0], bottom + 36);
    label.write(area, &panel.plot.x_label, at, Anchor::Top, plot[0])?;
    let at = (x as i32 + 18, middle[1]);
    label.write(area, &panel.plot.y_label, at, Anchor::Upwards, plot[1])?;
    let y_ticks = axes[1].ticks();
    let x_ticks = match panel.x_ticks.is_empty() {
        true => axes[0].ticks(),
        false => panel.x_ticks.clone(),
    };
    let ticks = [&x_ticks[..], &y_ticks[..]];
    draw_axes(area, axes, frame, ticks, Lettering::regular(14), [70, 62])?;

    let scales = [panel.plot.x_scale, panel.plot.y_scale];
    for line in &panel.lines {
        let place = |p: &[f64; 2]| (axes[0].place(p[0], frame[0]), axes[1].place(p[1], frame[1]));
        let pieces: Vec<Vec<(i32, i32)>> = drawable_pieces(&line.points, scales)
            .iter()
            .map(|piece| piece.iter().map(place).collect())
            .collect();
        draw_pieces(area, line, &pieces)?;
        for (point, error) in line.points.iter().zip(&line.errors) {
            let [low, high] = axes[1].ends();
            let ends = [point[1] - error, point[1] + error].map(|v| v.clamp(low, high));
            if drawable_pieces(&[*point], scales).is_empty() || !error.is_finite() {
                continue;
            }
            let bar = ends.map(|end| place(&[point[0], end]));
            area.draw(&PathElement::new(bar, color_of(line).stroke_width(1)))?;
        }
        for point in pieces.iter().flatten() {
            draw_mark(area, line, *point)?;
        }
    }
    for (i, note) in panel.notes.iter().rev().enumerate() {
        let at = (left + 10, bottom - 14 - 20 * i as i32);
        Lettering::regular(14).write(area, note, at, Anchor::Left, plot[0] - 20)?;
    }
    Ok(())
}

/// Lines beyond the seventh repeat the colours in lighter shades.
fn color_of(line: &CurveLine) -> RGBAColor {
    let shade = if line.color < COLORS.len() { 1.0 } else { 0.6 };
    match line.stroke {
        Stroke::Guide => RGBColor(150, 150, 150).mix(1.0),
        _ => COLORS[line.color % COLORS.len()].mix(shade),
    }
}

fn draw_pieces(
    area: &Area<'_>,
    line: &CurveLine,
    pieces: &[Vec<(i32, i32)>],
) -> Result<(), Box<dyn std::error::Error>> {
    let color = color_of(line);
    for piece in pieces {
        match line.stroke {
            Stroke::None => {}
            Stroke::Solid => area.draw(&PathElement::new(piece.clone(), color.stroke_width(2)))?,
            Stroke::Guide => area.draw(&PathElement::new(piece.clone(), color.stroke_width(1)))?,
            Stroke::Dashed => {
                let (points, style) = (piece.clone().into_iter(), color.stroke_width(2));
                area.draw(&plotters::element::DashedPathElement::new(
                    points, 7, 5, style,
                ))?;
            }
        }
    }
    Ok(())
}

fn draw_mark(
    area: &Area<'_>,
    line: &CurveLine,
    at: (i32, i32),
) -> Result<(), Box<dyn std::error::Error>> {
    let color = color_of(line);
    match line.mark {
        _ if line.stroke == Stroke::Guide => {}
        Mark::None => {}
        Mark::Disc => area.draw(&Circle::new(at, 4, color.filled()))?,
        Mark::Ring => {
            area.draw(&Circle::new(at, 5, WHITE.filled()))?;
            area.draw(&Circle::new(at, 5, color.stroke_width(2)))?;
        }
        Mark::Square => {
            let corners = [(at.0 - 4, at.1 - 4), (at.0 + 4, at.1 + 4)];
            area.draw(&Rectangle::new(corners, color.filled()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: Vec<[f64; 2]>) -> CurveLine {
        CurveLine {
            name: "a".to_owned(),
            points,
            errors: vec![0.1],
            color: 0,
            stroke: Stroke::Dashed,
            mark: Mark::Ring,
        }
    }

    #[test]
    fn panels_are_drawn_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("panels.png");
        let panel = |points| CurvePanel {
            lines: vec![line(points)],
            notes: vec!["slope".to_owned()],
            ..CurvePanel::default()
        };
        let good = panel(vec![[0.0, 1.0], [1.0, f64::NAN], [2.0, 0.5]]);
        draw_curve_panels(&path, "heading", &[good.clone(), good.clone()], 2).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
        let bad = panel(vec![[0.0, f64::NAN]]);
        let message = draw_curve_panels(&path, "", &[good, bad], 2).unwrap_err();
        assert!(message.to_string().ends_with("can be drawn"), "{message}");
    }
}
