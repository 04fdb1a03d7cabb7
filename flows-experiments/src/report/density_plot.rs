//! Densities side by side: one heat map a panel, all on one colour scale.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

use super::ReportError;
use super::canvas::{Anchor, Area, INK, Lettering, draw_png};
use super::ticks::{labels, ticks};

/// One heat map and its lettering.
#[derive(Debug, Clone, PartialEq)]
pub struct DensityPanel {
    /// Above the map: the model's name, or "target".
    pub title: String,
    /// Below the map: the metric, as [`format_estimate`](super::format_estimate) writes it. May be empty.
    pub subtitle: String,
    /// `[[low, high]; 2]` of the two axes.
    pub range: [[f64; 2]; 2],
    /// Densities at the midpoints of `n` by `n` cells, row by row; row 0 is the lowest `y`, and in a
    /// row `x` grows. [`grid_points`] gives the points in this order. NaN is drawn grey.
    pub grid: Vec<f64>,
}

/// The midpoints of `n` by `n` cells, in the order of [`DensityPanel::grid`].
pub fn grid_points(range: [[f64; 2]; 2], n: usize) -> Vec<[f64; 2]> {
    let at = |axis: usize, i: usize| {
        let [low, high] = range[axis];
        low + (high - low) * (i as f64 + 0.5) / n as f64
    };
    (0..n * n).map(|i| [at(0, i % n), at(1, i / n)]).collect()
}

/// The share of samples per cell divided by the cell's area, in the order of [`DensityPanel::grid`].
///
/// Samples out of range count in the total, so that the histogram estimates the density itself.
pub fn histogram(samples: &[[f64; 2]], range: [[f64; 2]; 2], n: usize) -> Vec<f64> {
    let size = range.map(|[low, high]| (high - low) / n as f64);
    let weight = 1.0 / (samples.len().max(1) as f64 * size[0] * size[1]);
    let mut grid = vec![0.0; n * n];
    for sample in samples {
        let cell = [0, 1].map(|axis| ((sample[axis] - range[axis][0]) / size[axis]).floor());
        if cell.iter().all(|c| (0.0..n as f64).contains(c)) {
            grid[cell[1] as usize * n + cell[0] as usize] += weight;
        }
    }
    grid
}

/// Draws panels in rows of `columns` and writes a PNG.
///
/// The first panel is the reference: its largest density is the upper end of the one colour scale, and
/// what exceeds it is drawn in the top colour.
///
/// # Errors
/// [`ReportError::Draw`] for no panel, for a grid that is not square, and for ranges that differ between
/// panels or are empty; [`ReportError::File`] where the file cannot be written.
pub fn draw_density_panels(
    path: impl AsRef<Path>,
    heading: &str,
    panels: &[DensityPanel],
    columns: usize,
) -> Result<(), ReportError> {
    let path = path.as_ref();
    let scale = check_panels(path, panels)?;
    let columns = columns.clamp(1, panels.len());
    let rows = panels.len().div_ceil(columns);
    let layout = Layout::large(panels[0].range);
    let [cell_width, cell_height] = layout.cell();
    let subtitled = panels.iter().any(|panel| !panel.subtitle.is_empty());
    let cell_height = cell_height - if subtitled { 0 } else { layout.subtitle };
    let heading_height = 52;
    let left = layout.axis_labels;
    let bar = 112;
    let size = [
        left + columns as u32 * cell_width + bar,
        heading_height + rows as u32 * cell_height + layout.gap / 2,
    ];
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(26).write(area, heading, (middle, 20), Anchor::Top, size[0] - 20)?;
        for (i, panel) in panels.iter().enumerate() {
            let x = left + (i % columns) as u32 * cell_width;
            let y = heading_height + (i / columns) as u32 * cell_height;
            layout.draw(area, panel, scale, [x, y], i % columns == 0)?;
        }
        let bar_left = left + columns as u32 * cell_width + 8;
        draw_color_bar(
            area,
            scale,
            [bar_left, heading_height + layout.title],
            layout.side[1],
        )
    })
}

/// Draws one row of panels per target, and writes them all as one PNG. Each row has the colour scale
/// of its first panel.
///
/// # Errors
/// As [`draw_density_panels`], for every row.
pub fn draw_overview(
    path: impl AsRef<Path>,
    rows: &[(String, Vec<DensityPanel>)],
) -> Result<(), ReportError> {
    let path = path.as_ref();
    if rows.is_empty() {
        return Err(refuse(path, "no panels".to_owned()));
    }
    let scales = rows
        .iter()
        .map(|(_, panels)| check_panels(path, panels))
        .collect::<Result<Vec<_>, _>>()?;
    let columns = rows
        .iter()
        .map(|(_, panels)| panels.len())
        .max()
        .unwrap_or(1);
    // Titles that all rows share stand once, above the columns.
    let titles =
        |panels: &[DensityPanel]| panels.iter().map(|p| p.title.clone()).collect::<Vec<_>>();
    let shared = rows
        .iter()
        .all(|(_, panels)| titles(panels) == titles(&rows[0].1));
    let layouts: Vec<Layout> = rows
        .iter()
        .map(|(_, panels)| Layout::small(panels[0].range, !shared))
        .collect();
    let name_lettering = Lettering::bold(18);
    let names = rows.iter().map(|(name, _)| name_lettering.width(name));
    let left = names.max().unwrap_or(0).clamp(40, 200) + 24;
    let top = if shared { 40 } else { 12 };
    let width = left + columns as u32 * layouts[0].cell()[0] + 8;
    let height = top + layouts.iter().map(|layout| layout.cell()[1]).sum::<u32>();
    draw_png(path, [width, height], |area| {
        if shared {
            for (i, panel) in rows[0].1.iter().enumerate() {
                let centre = left + i as u32 * layouts[0].cell()[0] + layouts[0].side[0] / 2;
                let at = (centre as i32, 14);
                layouts[0].title_lettering.write(
                    area,
                    &panel.title,
                    at,
                    Anchor::Top,
                    layouts[0].side[0],
                )?;
            }
        }
        let mut y = top;
        for (((name, panels), layout), scale) in rows.iter().zip(&layouts).zip(&scales) {
            let middle = (y + layout.title + layout.side[1] / 2) as i32;
            name_lettering.write(
                area,
                name,
                (left as i32 - 12, middle),
                Anchor::Right,
                left - 20,
            )?;
            for (i, panel) in panels.iter().enumerate() {
                let x = left + i as u32 * layout.cell()[0];
                layout.draw(area, panel, *scale, [x, y], false)?;
            }
            y += layout.cell()[1];
        }
        Ok(())
    })
}

/// Sizes in pixels of a panel: the map, and what surrounds it.
struct Layout {
    /// Of the map.
    side: [u32; 2],
    /// Between two panels.
    gap: u32,
    /// Height of the title above the map, 0 where it stands elsewhere.
    title: u32,
    /// Height of the tick labels below the map, 0 where there are none.
    ticks: u32,
    /// Height of the subtitle.
    subtitle: u32,
    /// Width of the tick labels left of a row.
    axis_labels: u32,
    title_lettering: Lettering,
    subtitle_lettering: Lettering,
}

impl Layout {
    fn large(range: [[f64; 2]; 2]) -> Self {
        Self {
            side: map_side(300, range),
            gap: 24,
            title: 32,
            ticks: 26,
            subtitle: 28,
            axis_labels: 52,
            title_lettering: Lettering::bold(20),
            subtitle_lettering: Lettering::regular(17),
        }
    }

    fn small(range: [[f64; 2]; 2], titled: bool) -> Self {
        Self {
            side: map_side(168, range),
            gap: 12,
            title: if titled { 24 } else { 0 },
            ticks: 0,
            subtitle: 26,
            axis_labels: 0,
            title_lettering: Lettering::bold(16),
            subtitle_lettering: Lettering::regular(14),
        }
    }

    /// Width and height of a panel with its surroundings.
    fn cell(&self) -> [u32; 2] {
        let below = self.ticks + self.subtitle;
        [
            self.side[0] + self.gap,
            self.title + self.side[1] + below + self.gap / 2,
        ]
    }

    fn draw(
        &self,
        area: &Area<'_>,
        panel: &DensityPanel,
        scale: f64,
        [left, top]: [u32; 2],
        y_labels: bool,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let [width, height] = self.side;
        let (x, y) = (left as i32, (top + self.title) as i32);
        let (right, bottom) = (x + width as i32, y + height as i32);
        let centre = x + width as i32 / 2;
        if self.title > 0 {
            let at = (centre, top as i32 + 8);
            self.title_lettering
                .write(area, &panel.title, at, Anchor::Top, width)?;
        }
        let image = render(&panel.grid, self.side, scale);
        let bitmap = BitMapElement::with_owned_buffer((x, y), (width, height), image);
        area.draw(&bitmap.ok_or("a bitmap of the wrong size")?)?;
        area.draw(&Rectangle::new([(x - 1, y - 1), (right, bottom)], INK))?;
        if self.ticks > 0 {
            let lettering = Lettering::regular(15);
            let [xs, ys] = panel.range.map(ticks);
            let [x_labels, y_texts] = [&xs, &ys].map(|values| labels(values));
            for (value, text) in xs.iter().zip(&x_labels.texts) {
                let [low, high] = panel.range[0];
                let at = x + ((value - low) / (high - low) * f64::from(width)).round() as i32;
                area.draw(&PathElement::new([(at, bottom), (at, bottom + 5)], INK))?;
                lettering.write(area, text, (at, bottom + 10), Anchor::Top, 60)?;
            }
            let at = (right, bottom + 26);
            lettering.write(area, &x_labels.offset, at, Anchor::Right, width)?;
            for (value, text) in ys.iter().zip(&y_texts.texts) {
                let [low, high] = panel.range[1];
                let at = bottom - ((value - low) / (high - low) * f64::from(height)).round() as i32;
                area.draw(&PathElement::new([(x - 6, at), (x - 1, at)], INK))?;
                if y_labels {
                    lettering.write(area, text, (x - 9, at), Anchor::Right, 48)?;
                }
            }
            if y_labels {
                lettering.write(area, &y_texts.offset, (x, y - 9), Anchor::Left, width)?;
            }
        }
        let at = (centre, bottom + self.ticks as i32 + 8);
        self.subtitle_lettering
            .write(area, &panel.subtitle, at, Anchor::Top, width)
    }
}

/// A map `width` pixels wide on which both axes have the same unit.
fn map_side(width: u32, range: [[f64; 2]; 2]) -> [u32; 2] {
    let ratio = (range[1][1] - range[1][0]) / (range[0][1] - range[0][0]);
    [
        width,
        (f64::from(width) * ratio.clamp(0.2, 5.0)).round() as u32,
    ]
}

fn draw_color_bar(
    area: &Area<'_>,
    scale: f64,
    [left, top]: [u32; 2],
    height: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let width = 18;
    let levels = (0..height).flat_map(|row| {
        let level = 1.0 - (f64::from(row) + 0.5) / f64::from(height);
        std::iter::repeat_n(color(level), width as usize).flatten()
    });
    let at = (left as i32, top as i32);
    let bitmap = BitMapElement::with_owned_buffer(at, (width, height), levels.collect());
    area.draw(&bitmap.ok_or("a bitmap of the wrong size")?)?;
    let (right, bottom) = (at.0 + width as i32, at.1 + height as i32);
    area.draw(&Rectangle::new(
        [(at.0 - 1, at.1 - 1), (right, bottom)],
        INK,
    ))?;
    let lettering = Lettering::regular(15);
    let values = ticks([0.0, scale]);
    for (value, text) in values.iter().zip(labels(&values).texts) {
        let y = bottom - (value / scale * f64::from(height)).round() as i32;
        area.draw(&PathElement::new([(right, y), (right + 5, y)], INK))?;
        lettering.write(area, &text, (right + 9, y), Anchor::Left, 56)?;
    }
    let middle = (at.1 + bottom) / 2;
    lettering.write(
        area,
        "density",
        (right + 68, middle),
        Anchor::Upwards,
        height,
    )
}

/// RGB bytes of a grid, resampled to `width` by `height`: the highest `y` comes first.
pub(super) fn render(grid: &[f64], [width, height]: [u32; 2], scale: f64) -> Vec<u8> {
    let n = side(grid);
    let across = resampling(n, width as usize);
    let up = resampling(n, height as usize);
    let narrowed: Vec<f64> = grid
        .chunks(n)
        .flat_map(|row| across.iter().map(|weights| weights.apply(|i| row[i])))
        .collect();
    let width = width as usize;
    up.iter()
        .rev()
        .flat_map(|weights| (0..width).map(|x| weights.apply(|i| narrowed[i * width + x])))
        .flat_map(|density| color(density / scale))
        .collect()
}

/// Weights of the cells that make one pixel.
struct Weights {
    first: usize,
    weights: Vec<f64>,
}

impl Weights {
    fn apply(&self, cell: impl Fn(usize) -> f64) -> f64 {
        let cells = self.weights.iter().enumerate();
        cells.map(|(i, weight)| weight * cell(self.first + i)).sum()
    }
}

/// How `n` cells become `pixels` pixels: means of what a pixel covers where there are more cells than
/// pixels, so that thin lines do not vanish between them, else linear interpolation.
fn resampling(n: usize, pixels: usize) -> Vec<Weights> {
    let ratio = n as f64 / pixels as f64;
    (0..pixels)
        .map(|pixel| {
            if ratio >= 1.0 {
                let (low, high) = (pixel as f64 * ratio, (pixel + 1) as f64 * ratio);
                let first = low as usize;
                let last = (high.ceil() as usize).min(n);
                let covered =
                    |i: usize| (high.min(i as f64 + 1.0) - low.max(i as f64)).max(0.0) / ratio;
                Weights {
                    first,
                    weights: (first..last).map(covered).collect(),
                }
            } else {
                let at = ((pixel as f64 + 0.5) * ratio - 0.5).clamp(0.0, (n - 1) as f64);
                let first = (at as usize).min(n.saturating_sub(2));
                let share = at - first as f64;
                let weights = [1.0 - share, share];
                Weights {
                    first,
                    weights: weights[..n.min(2)].to_vec(),
                }
            }
        })
        .collect()
}

/// Viridis on `[0, 1]`, constant beyond, grey for NaN.
pub(super) fn color(level: f64) -> [u8; 3] {
    if level.is_nan() {
        return [160, 160, 160];
    }
    let RGBColor(r, g, b) = ViridisRGB.get_color(level.clamp(0.0, 1.0));
    [r, g, b]
}

/// Side of a square grid.
fn side(grid: &[f64]) -> usize {
    grid.len().isqrt()
}

fn refuse(path: &Path, reason: String) -> ReportError {
    ReportError::Draw {
        path: path.to_owned(),
        reason,
    }
}

/// Checks the panels that share a colour scale, and returns its upper end.
pub(super) fn check_panels(path: &Path, panels: &[DensityPanel]) -> Result<f64, ReportError> {
    let Some(first) = panels.first() else {
        return Err(refuse(path, "no panels".to_owned()));
    };
    for panel in panels {
        let title = &panel.title;
        if panel.grid.is_empty() || side(&panel.grid).pow(2) != panel.grid.len() {
            let cells = panel.grid.len();
            return Err(refuse(
                path,
                format!("panel \"{title}\" has {cells} cells, not a square number"),
            ));
        }
        if panel.range != first.range {
            let other = &first.title;
            return Err(refuse(
                path,
                format!("panels \"{title}\" and \"{other}\" show different ranges"),
            ));
        }
        let proper = |[low, high]: [f64; 2]| low < high && low.is_finite() && high.is_finite();
        if !panel.range.into_iter().all(proper) {
            let range = panel.range;
            return Err(refuse(
                path,
                format!("panel \"{title}\" has the range {range:?}"),
            ));
        }
    }
    let finite = first.grid.iter().copied().filter(|p| p.is_finite());
    let largest = finite.fold(0.0, f64::max);
    Ok(if largest > 0.0 { largest } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(grid: Vec<f64>) -> DensityPanel {
        DensityPanel {
            title: "target".to_owned(),
            subtitle: String::new(),
            range: [[-1.0, 1.0]; 2],
            grid,
        }
    }

    fn decode(path: &Path) -> (u32, u32, Vec<u8>) {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn the_first_row_of_a_grid_is_at_the_bottom_and_columns_run_to_the_right() {
        // Largest at low y and high x.
        let image = render(&[0.0, 1.0, 0.0, 0.0], [2, 2], 1.0);
        let pixels: Vec<&[u8]> = image.chunks(3).collect();
        assert_eq!(pixels[3], color(1.0), "bottom right is bright");
        for dark in [0, 1, 2] {
            assert_eq!(pixels[dark], color(0.0));
        }
        let points = grid_points([[0.0, 2.0], [10.0, 14.0]], 2);
        assert_eq!(points, [[0.5, 11.0], [1.5, 11.0], [0.5, 13.0], [1.5, 13.0]]);
        assert_eq!(
            histogram(&[[1.2, 10.5]], [[0.0, 2.0], [10.0, 14.0]], 2),
            [0.0, 0.5, 0.0, 0.0]
        );
    }

    #[test]
    fn resampling_keeps_the_mean_and_its_weights_sum_to_one() {
        for (n, pixels) in [(1, 5), (2, 7), (10, 10), (10, 7), (300, 168), (100, 300)] {
            let all = resampling(n, pixels);
            assert_eq!(all.len(), pixels);
            for weights in &all {
                let sum: f64 = weights.weights.iter().sum();
                assert!((sum - 1.0).abs() < 1e-9 && weights.first + weights.weights.len() <= n);
            }
            // A single bright cell keeps its mass when it shrinks.
            if n >= pixels {
                let spike = |i: usize| f64::from(u8::from(i == n / 3));
                let mass: f64 = all.iter().map(|w| w.apply(spike)).sum();
                assert!((mass - pixels as f64 / n as f64).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn histograms_are_densities() {
        let samples = [[0.1, 0.1], [0.9, -0.9], [5.0, 0.0], [f64::NAN, 0.0]];
        let grid = histogram(&samples, [[-1.0, 1.0]; 2], 4);
        let mass: f64 = grid.iter().sum::<f64>() * 0.25;
        assert!((mass - 0.5).abs() < 1e-12, "two of four are in range");
    }

    #[test]
    fn pictures_show_the_panels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let bright = panel(vec![1.0; 9]);
        let dark = panel(vec![0.0; 9]);
        draw_density_panels(
            &path,
            "heading",
            &[bright.clone(), dark.clone(), dark.clone()],
            2,
        )
        .unwrap();
        let (width, height, pixels) = decode(&path);
        let count = |c: [u8; 3]| pixels.chunks(3).filter(|p| *p == c).count();
        assert_eq!(pixels.len() as u32, 3 * width * height);
        // The colour bar adds a few of each, a title's frame takes none.
        assert!(
            (90_000..92_000).contains(&count(color(1.0))),
            "{}",
            count(color(1.0))
        );
        assert!(
            (180_000..182_000).contains(&count(color(0.0))),
            "{}",
            count(color(0.0))
        );
        let rows = vec![
            ("u1".to_owned(), vec![bright.clone(), dark.clone()]),
            ("u2".to_owned(), vec![bright]),
        ];
        draw_overview(&path, &rows).unwrap();
        let (_, _, pixels) = decode(&path);
        assert_eq!(
            pixels.chunks(3).filter(|p| *p == color(0.0)).count(),
            168 * 168
        );
    }

    #[test]
    fn malformed_panels_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let mut shifted = panel(vec![0.0; 4]);
        shifted.range[0] = [0.0, 2.0];
        let mut empty_range = panel(vec![0.0; 4]);
        empty_range.range = [[1.0, 1.0]; 2];
        for (panels, part) in [
            (vec![], "no panels"),
            (vec![panel(vec![0.0; 5])], "5 cells"),
            (vec![panel(vec![])], "0 cells"),
            (vec![panel(vec![0.0; 4]), shifted], "different ranges"),
            (vec![empty_range], "the range [[1.0, 1.0]"),
        ] {
            let message = draw_density_panels(&path, "", &panels, 3)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(part) && message.contains("a.png"),
                "{message}"
            );
            assert!(!message.contains('\n') && !path.exists());
        }
        let nowhere = folder.path().join("none").join("a.png");
        let message = draw_density_panels(&nowhere, "", &[panel(vec![0.0; 4])], 1).unwrap_err();
        assert!(message.to_string().starts_with("cannot write"), "{message}");
    }
}
