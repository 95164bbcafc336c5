//! A canvas for shapes and text with coordinates in pixels, as SVG. The only user of plotters.
//!
//! plotters rounds coordinates to whole units, which would be visible as steps in a smooth curve. A
//! pixel is therefore ten units, and the `viewBox` of the SVG scales them back.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

/// A point in pixels, from the upper left corner.
pub(super) type At = (f64, f64);

/// An error of plotters.
#[derive(Debug, Error)]
#[error("cannot draw a figure: {0}")]
pub struct DrawError(String);

type Result<T = ()> = std::result::Result<T, DrawError>;

/// plotters' units in a pixel.
const UNITS: f64 = 10.0;
/// plotters draws text in 1 / 1.24 of the given font size.
const FONT: f64 = 1.24;

/// The typesetting of a line of text.
#[derive(Clone, Copy)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) colour: RGBColor,
    pub(super) bold: bool,
    /// The part of the text at its point: start, middle or end.
    pub(super) align: HPos,
    /// Rotated, to be read from bottom to top.
    pub(super) upright: bool,
}

/// A white canvas.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// The SVG of `size` pixels that `draw` draws; `name` is its accessible name.
pub(super) fn svg(
    size: (u32, u32),
    name: &str,
    draw: impl FnOnce(&Canvas) -> Result,
) -> Result<String> {
    let units = (size.0 * UNITS as u32, size.1 * UNITS as u32);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, units).into_drawing_area();
        area.fill(&WHITE).map_err(error)?;
        let canvas = Canvas { area };
        draw(&canvas)?;
        canvas.area.present().map_err(error)?;
    }
    let (wide, high) = (
        format!("width=\"{}\" height=\"{}\"", units.0, units.1),
        format!("width=\"{}\" height=\"{}\"", size.0, size.1),
    );
    let named = format!("{high} role=\"img\" aria-label=\"{}\"", super::html::escape(name));
    Ok(text.replacen(&wide, &named, 1))
}

impl Canvas<'_> {
    /// A line through `points`, `width` pixels wide.
    pub(super) fn line(&self, points: &[At], width: f64, colour: RGBColor) -> Result {
        let style = ShapeStyle {
            color: colour.to_rgba(),
            filled: false,
            stroke_width: units(width) as u32,
        };
        self.area.draw(&PathElement::new(grid(points), style)).map_err(error)
    }

    /// Like [`Canvas::line`], with dashes: `pattern` alternates the lengths of dashes and gaps in
    /// pixels; an empty one is a solid line.
    pub(super) fn dashed(
        &self,
        points: &[At],
        width: f64,
        colour: RGBColor,
        pattern: &[f64],
    ) -> Result {
        if pattern.is_empty() {
            return self.line(points, width, colour);
        }
        dashes(points, pattern).iter().try_for_each(|dash| self.line(dash, width, colour))
    }

    /// A filled polygon.
    pub(super) fn area(&self, corners: &[At], colour: RGBColor, opacity: f64) -> Result {
        self.area.draw(&Polygon::new(grid(corners), colour.mix(opacity).filled())).map_err(error)
    }

    /// A filled disc.
    pub(super) fn disc(&self, centre: At, radius: f64, colour: RGBColor) -> Result {
        self.area
            .draw(&Circle::new(grid(&[centre])[0], units(radius), colour.filled()))
            .map_err(error)
    }

    /// A line of text, vertically centered at the point.
    pub(super) fn text(&self, text: &str, (x, y): At, set: Font) -> Result {
        if text.is_empty() {
            return Ok(());
        }
        let mut font = FontDesc::from(("system-ui, sans-serif", set.size * FONT * UNITS));
        if set.bold {
            font = font.style(FontStyle::Bold);
        }
        if set.upright {
            font = font.transform(FontTransform::Rotate270);
        }
        let style = TextStyle::from(font).color(&set.colour).pos(Pos::new(set.align, VPos::Center));
        self.area.draw(&Text::new(text, grid(&[(x, y)])[0], style)).map_err(error)
    }
}

/// An upper estimate of the width of `text` in pixels, in common sans-serif fonts.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.32,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '-' | ' ' | '/' => 0.4,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '—' | '→' => 0.95,
        c if c.is_uppercase() => 0.7,
        _ => 0.61,
    };
    size * text.chars().map(em).sum::<f64>()
}

/// The dashes of the line through `points`.
fn dashes(points: &[At], pattern: &[f64]) -> Vec<Vec<At>> {
    let mut dashes = vec![points.first().copied().into_iter().collect::<Vec<At>>()];
    let (mut piece, mut left) = (0, pattern[0]);
    for pair in points.windows(2) {
        let ((mut x, mut y), end) = (pair[0], pair[1]);
        loop {
            let (dx, dy) = (end.0 - x, end.1 - y);
            let length = (dx * dx + dy * dy).sqrt();
            let is_dash = piece % 2 == 0;
            if length <= left {
                left -= length;
                if is_dash && let Some(dash) = dashes.last_mut() {
                    dash.push(end);
                }
                break;
            }
            (x, y) = (x + dx * left / length, y + dy * left / length);
            match dashes.last_mut() {
                Some(dash) if is_dash => dash.push((x, y)),
                _ => dashes.push(vec![(x, y)]),
            }
            piece += 1;
            left = pattern[piece % pattern.len()];
        }
    }
    dashes.retain(|dash| dash.len() > 1);
    dashes
}

fn units(pixels: f64) -> i32 {
    libm::round(pixels * UNITS) as i32
}

fn grid(points: &[At]) -> Vec<(i32, i32)> {
    points.iter().map(|&(x, y)| (units(x), units(y))).collect()
}

fn error<E: std::error::Error + Send + Sync>(cause: DrawingAreaErrorKind<E>) -> DrawError {
    DrawError(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_continue_around_corners() {
        let dashes = dashes(&[(0.0, 0.0), (4.0, 0.0), (4.0, 5.0)], &[3.0, 2.0]);
        assert_eq!(dashes, [vec![(0.0, 0.0), (3.0, 0.0)], vec![(4.0, 1.0), (4.0, 4.0)]]);
        assert_eq!(super::dashes(&[(0.0, 0.0)], &[1.0, 1.0]), Vec::<Vec<At>>::new());
    }

    #[test]
    fn coordinates_are_in_tenths_of_pixels_and_the_name_is_escaped() {
        let svg = svg((30, 20), "a < \"b\"", |canvas| {
            canvas.line(&[(1.0, 2.0), (3.05, 4.0)], 1.5, BLACK)
        })
        .unwrap();
        let start = r#"<svg width="30" height="20" role="img" aria-label="a &lt; &quot;b&quot;""#;
        assert!(svg.starts_with(&format!("{start} viewBox=\"0 0 300 200\"")), "{svg}");
        assert!(
            svg.contains(r##"stroke="#000000" stroke-width="15" points="10,20 31,40 ""##),
            "{svg}"
        );
    }
}
