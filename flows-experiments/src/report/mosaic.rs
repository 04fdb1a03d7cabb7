//! Small bitmaps in rows and columns: images, and densities as heat maps.

use std::path::Path;

use plotters::prelude::*;

use super::ReportError;
use super::canvas::{Anchor, INK, Lettering, draw_png};
use super::density_plot::color;

/// A bitmap that is drawn with whole pixels, enlarged.
#[derive(Debug, Clone, PartialEq)]
pub struct Bitmap {
    width: usize,
    /// Red, green, blue; row by row from the top.
    pixels: Vec<[u8; 3]>,
}

impl Bitmap {
    /// Grey pixels of intensities from 0, black, to 255, row by row from the top.
    ///
    /// # Panics
    /// Where the pixels are no whole rows.
    pub fn grey(width: usize, pixels: &[u8]) -> Self {
        assert!(width > 0 && !pixels.is_empty() && pixels.len().is_multiple_of(width));
        Self {
            width,
            pixels: pixels.iter().map(|p| [*p; 3]).collect(),
        }
    }

    /// A heat map of `n` by `n` densities, row 0 at the bottom, its largest value being the top
    /// colour.
    ///
    /// # Panics
    /// Where there are not `n * n` of them.
    pub fn density(n: usize, grid: &[f64]) -> Self {
        assert!(n > 0 && grid.len() == n * n);
        let largest = grid.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let rows = grid.chunks(n).rev();
        Self {
            width: n,
            pixels: rows.flatten().map(|v| color(v / largest)).collect(),
        }
    }

    /// Bitmaps of one size side by side, `columns` in a row, with a line of grey between them.
    ///
    /// # Panics
    /// For no bitmaps, and for bitmaps of different sizes.
    pub fn sheet(bitmaps: &[Self], columns: usize) -> Self {
        const LINE: [u8; 3] = [120, 120, 120];
        let first = bitmaps.first().expect("a sheet of at least one bitmap");
        let (w, h) = (first.width, first.height());
        assert!(bitmaps.iter().all(|b| (b.width, b.height()) == (w, h)));
        let columns = columns.clamp(1, bitmaps.len());
        let rows = bitmaps.len().div_ceil(columns);
        let width = columns * (w + 1) - 1;
        let height = rows * (h + 1) - 1;
        let mut pixels = vec![LINE; width * height];
        for (i, bitmap) in bitmaps.iter().enumerate() {
            let (left, top) = (i % columns * (w + 1), i / columns * (h + 1));
            for (y, row) in bitmap.pixels.chunks(w).enumerate() {
                let start = (top + y) * width + left;
                pixels[start..start + w].copy_from_slice(row);
            }
        }
        Self { width, pixels }
    }

    fn height(&self) -> usize {
        self.pixels.len() / self.width
    }
}

/// Side of the square that a bitmap is enlarged to fit, in pixels.
const SIDE: u32 = 150;
const GAP: u32 = 10;
const TOP: u32 = 58;
const TITLES: u32 = 26;

/// Draws rows of bitmaps with names beside them and titles above the columns, and writes a PNG.
/// `side` is that of the square a bitmap is enlarged to fit, in pixels; 0 leaves it to the
/// function.
///
/// # Errors
/// [`ReportError::Draw`] where there is nothing to draw, or a row has more bitmaps than there are
/// titles; [`ReportError::File`] where the file cannot be written.
pub fn draw_mosaic(
    path: impl AsRef<Path>,
    heading: &str,
    titles: &[String],
    rows: &[(String, Vec<Bitmap>)],
    side: u32,
) -> Result<(), ReportError> {
    let path = path.as_ref();
    let refuse = |reason: &str| ReportError::Draw {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    if rows.iter().all(|(_, bitmaps)| bitmaps.is_empty()) {
        return Err(refuse("no bitmaps"));
    }
    if rows.iter().any(|(_, bitmaps)| bitmaps.len() > titles.len()) {
        return Err(refuse("a row has more bitmaps than there are titles"));
    }
    let side = if side == 0 { SIDE } else { side };
    let cell = side + GAP;
    let lettering = Lettering::bold(16);
    let names = rows.iter().map(|(name, _)| lettering.width(name));
    let left = names.max().unwrap_or(0) + 2 * GAP;
    let titled = titles.iter().any(|title| !title.is_empty());
    let top = TOP + if titled { TITLES } else { 0 };
    let width =
        (left + titles.len() as u32 * cell).max(Lettering::bold(22).width(heading) + 2 * GAP);
    let size = [width, top + rows.len() as u32 * cell];
    draw_png(path, size, |area| {
        let middle = (width / 2) as i32;
        Lettering::bold(22).write(area, heading, (middle, 18), Anchor::Top, width - GAP)?;
        for (i, title) in titles.iter().enumerate() {
            let at = ((left + i as u32 * cell + side / 2) as i32, TOP as i32);
            Lettering::regular(15).write(area, title, at, Anchor::Top, side)?;
        }
        for (j, (name, bitmaps)) in rows.iter().enumerate() {
            let y = top + j as u32 * cell;
            let at = ((left - GAP) as i32, (y + side / 2) as i32);
            lettering.write(area, name, at, Anchor::Right, left)?;
            for (i, bitmap) in bitmaps.iter().enumerate() {
                let x = left + i as u32 * cell;
                let largest = bitmap.width.max(bitmap.height()) as u32;
                // Whole pixels where there is room for them, so that none is wider than the next.
                let (w, h) = match side / largest {
                    0 => (side, side * bitmap.height() as u32 / bitmap.width as u32),
                    scale => (bitmap.width as u32 * scale, bitmap.height() as u32 * scale),
                };
                let (x, y) = (x + (side - w.min(side)) / 2, y + (side - h.min(side)) / 2);
                for dy in 0..h {
                    for dx in 0..w {
                        let column = dx as usize * bitmap.width / w as usize;
                        let row = dy as usize * bitmap.height() / h as usize;
                        let [r, g, b] = bitmap.pixels[row * bitmap.width + column];
                        area.draw_pixel(((x + dx) as i32, (y + dy) as i32), &RGBColor(r, g, b))?;
                    }
                }
                let frame = Rectangle::new(
                    [
                        (x as i32 - 1, y as i32 - 1),
                        ((x + w) as i32, (y + h) as i32),
                    ],
                    INK.mix(0.4),
                );
                area.draw(&frame)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_its_bitmaps_in_rows() {
        let bitmap = |v: u8| Bitmap::grey(2, &[v, v, v, v]);
        let sheet = Bitmap::sheet(&[bitmap(1), bitmap(2), bitmap(3)], 2);
        assert_eq!((sheet.width, sheet.height()), (5, 5));
        let at = |x: usize, y: usize| sheet.pixels[y * 5 + x][0];
        assert_eq!(
            [at(0, 0), at(2, 0), at(3, 0), at(0, 2), at(0, 3), at(3, 3)],
            [1, 120, 2, 120, 3, 120]
        );
    }

    #[test]
    fn densities_stand_upright() {
        let map = Bitmap::density(2, &[1.0, 0.0, 0.0, 0.0]);
        // The first value is the lower left one.
        assert_eq!(map.pixels[2], color(1.0));
        assert_eq!(map.pixels[0], color(0.0));
    }

    #[test]
    fn what_cannot_be_drawn_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mosaic.png");
        assert!(draw_mosaic(&path, "none", &[], &[], 0).is_err());
        let row = ("row".to_owned(), vec![Bitmap::grey(1, &[7])]);
        assert!(draw_mosaic(&path, "too many", &[], std::slice::from_ref(&row), 0).is_err());
        draw_mosaic(&path, "one", &["title".to_owned()], &[row], 0).unwrap();
        assert!(std::fs::read(path).unwrap().starts_with(b"\x89PNG"));
    }
}
