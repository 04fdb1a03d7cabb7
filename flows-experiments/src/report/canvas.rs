//! A picture in memory, the font it is lettered with, and its way to the disk.
//!
//! Letters are placed here and not by plotters, which rounds every one to whole pixels without its
//! side bearing, so that small words fall apart.

use std::path::Path;
use std::sync::OnceLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::ReportError;
use super::json::write_atomically;

const REGULAR: &[u8] = include_bytes!("../../assets/DejaVuSans-subset.ttf");
const BOLD: &[u8] = include_bytes!("../../assets/DejaVuSans-Bold-subset.ttf");

/// Height of a capital letter of DejaVu Sans, as a share of the size.
const CAPITAL: f32 = 0.626;

/// The drawing surface of the functions of this module.
pub(super) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

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
    encoder.set_compression(png::Compression::Best);
    encoder.set_adaptive_filter(png::AdaptiveFilterType::Adaptive);
    let written = encoder
        .write_header()
        .and_then(|mut png| png.write_image_data(&pixels));
    written.map_err(|error| failed(&error))?;
    write_atomically(path, &bytes)
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    /// The point is the middle of the upper edge of a capital letter.
    Top,
    /// The point is the left end, at half height.
    Left,
    /// The point is the right end, at half height.
    Right,
    /// The point is the centre, and the text runs upwards.
    Upwards,
}

/// Whether the embedded font has every letter of a text.
pub(crate) fn can_write(text: &str) -> bool {
    let font = Lettering::regular(16).font();
    text.chars().all(|letter| font.glyph_id(letter).0 != 0)
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

    fn font(self) -> &'static FontRef<'static> {
        static FONTS: [OnceLock<FontRef<'static>>; 2] = [const { OnceLock::new() }; 2];
        FONTS[usize::from(self.bold)].get_or_init(|| {
            let bytes = if self.bold { BOLD } else { REGULAR };
            FontRef::try_from_slice(bytes).expect("the embedded font is a valid one")
        })
    }

    /// The glyphs of a text from its left end on the baseline, and its length, in pixels.
    fn glyphs(self, text: &str) -> (Vec<ab_glyph::Glyph>, f32) {
        let scale = PxScale::from(self.size as f32);
        let font = self.font().as_scaled(scale);
        let (mut x, mut previous) = (0.0, None);
        let mut glyphs = Vec::new();
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            x += previous.map_or(0.0, |previous| font.kern(previous, id));
            glyphs.push(id.with_scale_and_position(scale, point(x, 0.0)));
            x += font.h_advance(id);
            previous = Some(id);
        }
        (glyphs, x)
    }

    /// Width of a text in pixels.
    pub(super) fn width(self, text: &str) -> u32 {
        self.glyphs(text).1.ceil() as u32
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
        let (glyphs, length) = fitted.glyphs(&text);
        let capital = fitted.size as f32 * CAPITAL;
        // Of the left end of the baseline, relative to the point, before any turn.
        let (dx, dy) = match anchor {
            Anchor::Top => (-length / 2.0, capital),
            Anchor::Left => (0.0, capital / 2.0),
            Anchor::Right => (-length, capital / 2.0),
            Anchor::Upwards => (-length / 2.0, capital / 2.0),
        };
        for glyph in glyphs {
            let Some(outline) = self.font().outline_glyph(glyph) else {
                continue;
            };
            let corner = outline.px_bounds().min;
            let mut result = Ok(());
            outline.draw(|x, y, coverage| {
                let x = (dx + corner.x).round() as i32 + x as i32;
                let y = dy.round() as i32 + corner.y as i32 + y as i32;
                let (x, y) = match anchor {
                    Anchor::Upwards => (y, -x),
                    _ => (x, y),
                };
                if coverage > 0.0 && result.is_ok() {
                    let ink = INK.mix(f64::from(coverage.min(1.0)));
                    result = area.draw_pixel((at.0 + x, at.1 + y), &ink);
                }
            });
            result?;
        }
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
    fn scripts_are_in_the_font_or_known_not_to_be() {
        for name in [
            "Größe (µm²)",
            "Łódź",
            "température",
            "Скорость",
            "θ",
            "T (℃)",
            "İstanbul",
            "tần số",
        ] {
            assert!(can_write(name), "{name}");
        }
        for name in ["温度", "حرارة", "तापमान", "🌡"] {
            assert!(!can_write(name), "{name}");
        }
    }

    #[test]
    fn signs_of_the_labels_are_in_the_font() {
        let drawn = |text: &str| {
            let mut pixels = vec![255; 3 * 60 * 60];
            let area = BitMapBackend::with_buffer(&mut pixels, (60, 60)).into_drawing_area();
            let at = (30, 5);
            Lettering::regular(40)
                .write(&area, text, at, Anchor::Top, 60)
                .unwrap();
            drop(area);
            pixels
        };
        // A glyph that is not there is drawn as a box.
        let missing = drawn("\u{4e00}");
        for sign in ["±", "−", "×", "·", "…", "≥", "λ", "‖", "²", "∞"] {
            assert_ne!(drawn(sign), missing, "{sign}");
        }
    }
}
