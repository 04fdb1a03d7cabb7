//! A picture in memory, the fonts it is lettered with, and its way to the disk.

use std::path::Path;
use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::ReportError;
use super::json::write_atomically;

/// The embedded font family.
pub const FONT: &str = "DejaVu Sans";

const REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");
const BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold-subset.ttf");

/// The drawing surface of the functions of this module.
pub(super) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Makes the embedded fonts known to plotters; from the second call on it does nothing.
pub fn register_fonts() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (style, bytes) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, BOLD)] {
            if register_font(FONT, style, bytes).is_err() {
                unreachable!("the embedded font is a valid one");
            }
        }
    });
}

/// Draws on a white picture of `width` by `height` pixels and writes it as PNG.
pub(super) fn draw_png(
    path: &Path,
    [width, height]: [u32; 2],
    draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), ReportError> {
    let failed = |error: &dyn std::fmt::Display| ReportError::Draw {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    register_fonts();
    let mut pixels = vec![255; 3 * width as usize * height as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        draw(&area).map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))?;
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder
        .write_header()
        .and_then(|mut png| png.write_image_data(&pixels));
    written.map_err(|error| failed(&error))?;
    write_atomically(path, &bytes)
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    /// The point is the middle of the upper edge.
    Top,
    /// The point is the left end, at half height.
    Left,
    /// The point is the right end, at half height.
    Right,
    /// The point is the centre, and the text runs upwards.
    Upwards,
}

/// A weight and size of the embedded font.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lettering {
    pub(super) size: u32,
    pub(super) bold: bool,
}

impl Lettering {
    /// Below this size letters are not readable on a screen.
    const SMALLEST: u32 = 11;

    pub(super) const fn regular(size: u32) -> Self {
        Self { size, bold: false }
    }

    pub(super) const fn bold(size: u32) -> Self {
        Self { size, bold: true }
    }

    fn font(self) -> FontDesc<'static> {
        let style = if self.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        FontDesc::new(FontFamily::Name(FONT), f64::from(self.size), style)
    }

    /// Width of a text in pixels.
    pub(super) fn width(self, text: &str) -> u32 {
        register_fonts();
        self.font().box_size(text).map_or(0, |(width, _)| width)
    }

    /// A smaller size, and where that does not do a shorter text, that fits into `width` pixels.
    fn fit(mut self, text: &str, width: u32) -> (Self, String) {
        while self.width(text) > width && self.size > Self::SMALLEST {
            self.size -= 1;
        }
        if self.width(text) <= width {
            return (self, text.to_owned());
        }
        let mut kept: Vec<char> = text.chars().collect();
        loop {
            kept.pop();
            let short = kept.iter().collect::<String>().trim_end().to_owned() + "…";
            if kept.is_empty() || self.width(&short) <= width {
                return (self, short);
            }
        }
    }

    /// Writes `text` at `at`, at most `width` pixels long.
    pub(super) fn write(
        self,
        area: &Area<'_>,
        text: &str,
        at: (i32, i32),
        anchor: Anchor,
        width: u32,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let (fitted, text) = self.fit(text, width);
        let (h, v) = match anchor {
            Anchor::Top => (HPos::Center, VPos::Top),
            Anchor::Left => (HPos::Left, VPos::Center),
            Anchor::Right => (HPos::Right, VPos::Center),
            Anchor::Upwards => (HPos::Center, VPos::Center),
        };
        let font = match anchor {
            Anchor::Upwards => fitted.font().transform(FontTransform::Rotate270),
            _ => fitted.font(),
        };
        let style = TextStyle::from(font).color(&INK).pos(Pos::new(h, v));
        area.draw_text(&text, &style, at)?;
        Ok(())
    }
}

/// The colour of text and axes.
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_shrink_and_then_lose_their_end() {
        let lettering = Lettering::regular(18);
        let (same, text) = lettering.fit("planar", 400);
        assert_eq!((same.size, text.as_str()), (18, "planar"));
        let name = "inverse autoregressive flow";
        let (smaller, text) = lettering.fit(name, lettering.width(name) - 20);
        assert!(smaller.size < 18 && text == name);
        let (smallest, text) = lettering.fit(name, 60);
        assert_eq!(smallest.size, Lettering::SMALLEST);
        assert!(text.ends_with('…') && smallest.width(&text) <= 60, "{text}");
    }

    #[test]
    fn signs_of_the_labels_are_in_the_font() {
        // A missing glyph is drawn as the box of glyph 0, as wide for all of them.
        let lettering = Lettering::regular(40);
        let missing = lettering.width("\u{4e00}");
        for sign in ["±", "−", "×", "·", "…", "≥", "λ", "‖", "²", "∞"] {
            assert_ne!(lettering.width(sign), missing, "{sign}");
        }
    }
}
