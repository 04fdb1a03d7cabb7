//! All pairs of columns of a table: data below the diagonal, samples above, marginals on it.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::canvas::{Anchor, Area, INK, Lettering, draw_png};
use super::ticks::{Labels, labels, ticks};
use flows_tables::Rows;

/// What a pair plot shows.
#[derive(Debug, Clone, PartialEq)]
pub struct PairPlot {
    /// Above the picture.
    pub heading: String,
    /// Names of the columns.
    pub names: Vec<String>,
    /// Rows of data, below the diagonal.
    pub data: Option<Rows>,
    /// Rows drawn from a model, above it; below it as well where there are no data.
    pub samples: Rows,
}

const DATA: RGBColor = RGBColor(31, 90, 160);
const SAMPLES: RGBColor = RGBColor(214, 95, 20);
const BINS: usize = 40;
const GAP: u32 = 10;

/// Draws the pairs and writes a PNG.
///
/// Every column has the range of the middle 99.6 % of its data and a margin, in all panels; what lies
/// outside is not drawn.
///
/// # Errors
/// [`ReportError::Draw`] for no column, no row or other widths than names; [`ReportError::File`] where the
/// file cannot be written.
pub fn draw_pairs(path: impl AsRef<Path>, plot: &PairPlot) -> Result<(), ReportError> {
    let path = path.as_ref();
    let k = plot.names.len();
    let parts = plot.data.iter().chain([&plot.samples]);
    if k == 0
        || parts
            .clone()
            .any(|rows| rows.width() != k || rows.is_empty())
    {
        return Err(ReportError::Draw {
            path: path.to_owned(),
            reason: format!("the rows are empty, or not {k} columns wide"),
        });
    }
    let cell: u32 = match k {
        1 => 460,
        2 => 300,
        3..=4 => 210,
        _ => 160,
    };
    let [left, top, bottom, right] = [104, 84, 70, 16];
    let side = k as u32 * (cell + GAP) - GAP;
    let size = [left + side + right, top + side + bottom];
    let of = plot.data.as_ref().unwrap_or(&plot.samples);
    let ranges: Vec<[f64; 2]> = (0..k).map(|c| middle(of.column(c))).collect();
    let axes: Vec<(Vec<f64>, Labels)> = ranges.iter().map(|&r| few_ticks(r, cell)).collect();
    let names = plot.names.iter().zip(&axes);
    let names: Vec<String> = names
        .map(|(name, (_, labels))| format!("{name} {}", labels.offset).trim_end().to_owned())
        .collect();
    draw_png(path, size, |area| {
        let middle = (size[0] / 2) as i32;
        Lettering::bold(20).write(area, &plot.heading, (middle, 16), Anchor::Top, size[0] - 20)?;
        legend(area, plot.data.is_some(), middle)?;
        for row in 0..k {
            for column in 0..k {
                let frame = Frame {
                    left: (left + column as u32 * (cell + GAP)) as i32,
                    top: (top + row as u32 * (cell + GAP)) as i32,
                    side: cell as i32,
                    x: ranges[column],
                    y: ranges[row],
                };
                if row == column {
                    frame.marginals(area, plot, column)?;
                } else {
                    let (rows, color) = match &plot.data {
                        Some(data) if row > column => (data, DATA),
                        _ => (&plot.samples, SAMPLES),
                    };
                    frame.points(area, rows, [column, row], color)?;
                }
                frame.border(area)?;
                let last = row + 1 == k;
                let y_axis = (column == 0 && row > 0).then_some(&axes[row]);
                frame.axes(area, last.then_some(&axes[column]), y_axis)?;
                if last {
                    let at = (frame.left + frame.side / 2, frame.bottom() + 34);
                    Lettering::regular(16).write(area, &names[column], at, Anchor::Top, cell)?;
                }
                if column == 0 && k > 1 {
                    let at = (18, frame.top + frame.side / 2);
                    Lettering::regular(16).write(area, &names[row], at, Anchor::Upwards, cell)?;
                }
            }
        }
        Ok(())
    })
}

fn legend(area: &Area<'_>, data: bool, middle: i32) -> Result<(), Box<dyn std::error::Error>> {
    let entries: &[(&str, RGBColor)] = if data {
        &[("data", DATA), ("samples", SAMPLES)]
    } else {
        &[("samples", SAMPLES)]
    };
    let lettering = Lettering::regular(16);
    let width = |text: &str| lettering.width(text) as i32 + 40;
    let mut x = middle - entries.iter().map(|(text, _)| width(text)).sum::<i32>() / 2 + 10;
    for (text, color) in entries {
        let square = [(x, 48), (x + 12, 60)];
        area.draw(&Rectangle::new(square, color.filled()))?;
        lettering.write(area, text, (x + 18, 54), Anchor::Left, 200)?;
        x += width(text);
    }
    Ok(())
}

/// The middle of a column with a margin.
pub(crate) fn middle(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut sorted: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let last = sorted.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        sorted.get(place).copied().unwrap_or(0.0)
    };
    let [low, high] = [at(0.002), at(0.998)];
    let spread = if high > low {
        high - low
    } else {
        low.abs().max(1.0)
    };
    [low - 0.08 * spread, high + 0.08 * spread]
}

/// One panel.
struct Frame {
    left: i32,
    top: i32,
    side: i32,
    x: [f64; 2],
    y: [f64; 2],
}

impl Frame {
    fn bottom(&self) -> i32 {
        self.top + self.side
    }

    /// Where a value stands, as a share of the side; `None` outside.
    fn share(value: f64, [low, high]: [f64; 2]) -> Option<f64> {
        let share = (value - low) / (high - low);
        (0.0..1.0).contains(&share).then_some(share)
    }

    fn points(
        &self,
        area: &Area<'_>,
        rows: &Rows,
        [column, row]: [usize; 2],
        color: RGBColor,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let style = color.mix(0.45).filled();
        for values in rows.iter() {
            let x = Self::share(values[column], self.x);
            let y = Self::share(values[row], self.y);
            if let (Some(x), Some(y)) = (x, y) {
                let at = (
                    self.left + 2 + (x * f64::from(self.side - 4)) as i32,
                    self.bottom() - 2 - (y * f64::from(self.side - 4)) as i32,
                );
                let dot = [at, (at.0 + 1, at.1 + 1)];
                area.draw(&Rectangle::new(dot, style))?;
            }
        }
        Ok(())
    }

    fn marginals(
        &self,
        area: &Area<'_>,
        plot: &PairPlot,
        column: usize,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let count = |rows: &Rows| {
            let mut bins = vec![0.0; BINS];
            for value in rows.column(column) {
                if let Some(share) = Self::share(value, self.x) {
                    bins[(share * BINS as f64) as usize] += 1.0 / rows.len() as f64;
                }
            }
            bins
        };
        let data = plot.data.as_ref().map(count);
        let samples = count(&plot.samples);
        let all = data.iter().flatten().chain(&samples);
        let highest = all.copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let place = |bin: usize, height: f64| {
            let x = self.left + (bin as i32 * self.side) / BINS as i32;
            let y = self.bottom() - (height / highest * 0.92 * f64::from(self.side)) as i32;
            (x, y)
        };
        if let Some(data) = &data {
            for (bin, height) in data.iter().enumerate() {
                let (right, _) = place(bin + 1, 0.0);
                let corners = [place(bin, *height), (right, self.bottom())];
                area.draw(&Rectangle::new(corners, DATA.mix(0.35).filled()))?;
            }
        }
        let steps = samples.iter().enumerate();
        let line: Vec<(i32, i32)> = steps
            .flat_map(|(bin, height)| [place(bin, *height), place(bin + 1, *height)])
            .collect();
        area.draw(&PathElement::new(line, SAMPLES.stroke_width(2)))?;
        Ok(())
    }

    fn border(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let corners = [
            (self.left, self.top),
            (self.left + self.side, self.bottom()),
        ];
        area.draw(&Rectangle::new(corners, INK))?;
        Ok(())
    }

    fn axes(
        &self,
        area: &Area<'_>,
        x: Option<&(Vec<f64>, Labels)>,
        y: Option<&(Vec<f64>, Labels)>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let lettering = Lettering::regular(13);
        let (left, bottom) = (self.left, self.bottom());
        if let Some((values, labels)) = x {
            for (value, text) in values.iter().zip(&labels.texts) {
                let Some(share) = Self::share(*value, self.x) else {
                    continue;
                };
                let at = left + (share * f64::from(self.side)) as i32;
                area.draw(&PathElement::new([(at, bottom), (at, bottom + 5)], INK))?;
                lettering.write(area, text, (at, bottom + 10), Anchor::Top, 70)?;
            }
        }
        if let Some((values, labels)) = y {
            for (value, text) in values.iter().zip(&labels.texts) {
                let Some(share) = Self::share(*value, self.y) else {
                    continue;
                };
                let at = bottom - (share * f64::from(self.side)) as i32;
                area.draw(&PathElement::new([(left - 5, at), (left, at)], INK))?;
                lettering.write(area, text, (left - 8, at), Anchor::Right, 56)?;
            }
        }
        Ok(())
    }
}

/// As many round values as have room for their labels along `side` pixels.
fn few_ticks(range: [f64; 2], side: u32) -> (Vec<f64>, Labels) {
    let all = ticks(range);
    let room = (side / 55).max(2) as usize;
    let every = all.len().div_ceil(room).max(1);
    let few: Vec<f64> = all.into_iter().step_by(every).collect();
    let labels = labels(&few);
    (few, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_any_number_of_columns_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        for k in [1, 2, 5] {
            let values: Vec<f64> = (0..40 * k).map(|i| ((i * 37) % 101) as f64).collect();
            let plot = PairPlot {
                heading: "test".to_owned(),
                names: (0..k).map(|i| format!("column {i}")).collect(),
                data: (k != 2).then(|| Rows::new(values.clone(), k)),
                samples: Rows::new(values, k),
            };
            let path = folder.path().join(format!("{k}.png"));
            draw_pairs(&path, &plot).unwrap();
            assert!(std::fs::read(path).unwrap().starts_with(b"\x89PNG"));
        }
    }

    #[test]
    fn outliers_do_not_stretch_the_range() {
        let values = (0..1000).map(|i| if i == 0 { 1e9 } else { f64::from(i) });
        let [low, high] = middle(values);
        assert!(low > -100.0 && high < 1100.0);
        assert_eq!(middle([3.0, 3.0].into_iter()), [3.0 - 0.24, 3.0 + 0.24]);
    }
}
