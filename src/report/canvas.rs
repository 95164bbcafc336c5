//! A canvas for shapes and text with coordinates in pixels. The only user of plotters, with its
//! backend.
//!
//! plotters rounds coordinates to whole units, which would be visible as steps in a smooth curve. A
//! pixel is therefore ten units.

use super::style::Colour;
use super::svg::{Sheet, UNITS, Writer};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::cell::RefCell;
use std::rc::Rc;
use thiserror::Error;

/// A point in pixels, from the upper left corner.
pub(super) type At = (f64, f64);

/// An error of plotters.
#[derive(Debug, Error)]
#[error("cannot draw a figure: {0}")]
pub struct DrawError(String);

type Result<T = ()> = std::result::Result<T, DrawError>;

/// The part of a text at its point.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Start,
    Middle,
    End,
}

/// The typesetting of a line of text.
#[derive(Clone, Copy)]
pub(super) struct Font {
    pub(super) size: f64,
    pub(super) colour: Colour,
    pub(super) bold: bool,
    pub(super) align: Align,
    /// Rotated, to be read from bottom to top.
    pub(super) upright: bool,
}

/// How closely shapes are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Full,
    /// For large drawings: lines without the points that are at most [`TOLERANCE`] off the line
    /// through the others, and each kind of marker once, with references to it.
    Reduced,
}

/// The largest distance of an omitted point from its line, in pixels: a fraction of its width.
const TOLERANCE: f64 = 0.3;

/// A transparent canvas.
pub(super) struct Canvas {
    pub(super) detail: Detail,
    area: DrawingArea<Writer, Shift>,
    sheet: Rc<RefCell<Sheet>>,
}

/// The markup that `draw` draws on a canvas of `size` pixels: the content of an `svg` element.
pub(super) fn markup(size: At, draw: impl FnOnce(&Canvas) -> Result) -> Result<String> {
    markup_in(Detail::Full, size, draw)
}

/// The same in this detail.
pub(super) fn markup_in(
    detail: Detail,
    size: At,
    draw: impl FnOnce(&Canvas) -> Result,
) -> Result<String> {
    let sheet = Rc::new(RefCell::new(Sheet::default()));
    let size = (units(size.0).max(1) as u32, units(size.1).max(1) as u32);
    let canvas = Canvas {
        detail,
        area: Writer { sheet: Rc::clone(&sheet), size }.into_drawing_area(),
        sheet: Rc::clone(&sheet),
    };
    draw(&canvas)?;
    Ok(sheet.borrow_mut().take())
}

impl Canvas {
    /// A group of everything that `draw` draws, with these attributes in SVG.
    pub(super) fn group(&self, attributes: &str, draw: impl FnOnce() -> Result) -> Result {
        self.sheet.borrow_mut().open_group(attributes);
        draw()?;
        self.sheet.borrow_mut().close_group();
        Ok(())
    }

    /// A line through `points`, `width` pixels wide.
    pub(super) fn line(&self, points: &[At], width: f64, colour: Colour) -> Result {
        let style = ShapeStyle {
            color: rgb(colour).to_rgba(),
            filled: false,
            stroke_width: units(width) as u32,
        };
        self.area.draw(&PathElement::new(grid(&self.in_detail(points)), style)).map_err(error)
    }

    /// The points of a line in the detail of the canvas.
    pub(super) fn in_detail(&self, points: &[At]) -> Vec<At> {
        match self.detail {
            Detail::Full => points.to_vec(),
            Detail::Reduced => without_collinear(points),
        }
    }

    /// Draws at each of the points what `draw` draws at one: the first time as a `marker` of this
    /// name, unique in the drawing.
    pub(super) fn stamps(
        &self,
        name: &str,
        points: &[At],
        draw: impl FnOnce(At) -> Result,
    ) -> Result {
        // The canvas has no negative coordinates.
        const MIDDLE: f64 = 10.0;
        if self.sheet.borrow_mut().open_marker(name, MIDDLE) {
            draw((MIDDLE, MIDDLE))?;
            self.sheet.borrow_mut().close_marker();
        }
        self.sheet.borrow_mut().vertices(name, &grid(points));
        Ok(())
    }

    /// Lines with dashes, as far as `draw` draws lines: `pattern` alternates the lengths of dashes
    /// and gaps in pixels; an empty one is a solid line.
    pub(super) fn dashed(&self, pattern: &[f64], draw: impl FnOnce() -> Result) -> Result {
        if pattern.is_empty() {
            return draw();
        }
        let lengths: Vec<String> = pattern.iter().map(f64::to_string).collect();
        self.group(&format!("stroke-dasharray=\"{}\"", lengths.join(" ")), draw)
    }

    /// A filled polygon.
    pub(super) fn area(&self, corners: &[At], colour: Colour, opacity: f64) -> Result {
        let style = rgb(colour).mix(opacity).filled();
        self.area.draw(&Polygon::new(grid(corners), style)).map_err(error)
    }

    /// A filled disc.
    pub(super) fn disc(&self, centre: At, radius: f64, colour: Colour) -> Result {
        let disc = Circle::new(grid(&[centre])[0], units(radius), rgb(colour).filled());
        self.area.draw(&disc).map_err(error)
    }

    /// A line of text, vertically centered at the point.
    pub(super) fn text(&self, text: &str, at: At, set: Font) -> Result {
        if text.is_empty() {
            return Ok(());
        }
        let mut font = FontDesc::from(("sans-serif", set.size));
        if set.bold {
            font = font.style(FontStyle::Bold);
        }
        if set.upright {
            font = font.transform(FontTransform::Rotate270);
        }
        let align = match set.align {
            Align::Start => HPos::Left,
            Align::Middle => HPos::Center,
            Align::End => HPos::Right,
        };
        let colour = rgb(set.colour);
        let style = TextStyle::from(font).color(&colour);
        let style = style.pos(Pos::new(align, VPos::Center));
        self.area.draw(&Text::new(text, grid(&[at])[0], style)).map_err(error)
    }
}

/// The points without those within [`TOLERANCE`] of the line through the others, by the algorithm
/// of Ramer, Douglas and Peucker (*Algorithms for the reduction of the number of points required to
/// represent a digitized line*, 1973).
fn without_collinear(points: &[At]) -> Vec<At> {
    let mut is_kept = vec![false; points.len()];
    let mut runs = vec![(0, points.len().saturating_sub(1))];
    while let Some((first, last)) = runs.pop() {
        for end in [first, last] {
            is_kept.get_mut(end).into_iter().for_each(|kept| *kept = true);
        }
        let distances =
            (first + 1..last).map(|i| (i, distance(points[i], points[first], points[last])));
        match distances.max_by(|a, b| a.1.total_cmp(&b.1)) {
            Some((farthest, distance)) if distance > TOLERANCE => {
                runs.extend([(first, farthest), (farthest, last)]);
            }
            _ => {}
        }
    }
    points.iter().zip(is_kept).filter(|(_, kept)| *kept).map(|(point, _)| *point).collect()
}

/// The distance of a point from the segment between two others.
fn distance(point: At, from: At, to: At) -> f64 {
    let ((x, y), (dx, dy)) = ((point.0 - from.0, point.1 - from.1), (to.0 - from.0, to.1 - from.1));
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((x * dx + y * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (x - along * dx).hypot(y - along * dy)
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

/// `text` in lines of at most `width` pixels, if its words are that short.
pub(super) fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + 0.4 * size <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// plotters' colour for a colour of the theme; the backend reads it with [`Colour::of`].
fn rgb(colour: Colour) -> RGBColor {
    let (r, g, b) = colour.rgb();
    RGBColor(r, g, b)
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
    use super::super::style::{GREY, INK};
    use super::*;

    #[test]
    fn neighbouring_shapes_of_the_same_look_share_a_path_with_relative_coordinates() {
        let drawn = markup((30.0, 20.0), |canvas| {
            canvas.line(&[(1.0, 2.0), (3.05, 4.0), (3.0, 4.0)], 1.5, INK)?;
            canvas.line(&[(5.0, 6.0), (4.0, 6.5)], 1.5, INK)?;
            canvas.line(&[(5.0, 6.0), (4.0, 6.5)], 1.0, INK)?;
            canvas.disc((7.0, 8.0), 2.0, GREY)?;
            canvas.area(&[(1.0, 1.0), (2.0, 1.0), (2.0, 2.0)], GREY, 0.25)
        });
        insta::assert_snapshot!(drawn.unwrap(), @r#"
        <path class="l c6" stroke-width="1.5" d="M1 2l2.1 2-.1 0M5 6l-1 .5"/>
        <path class="l c6" d="M5 6l-1 .5"/>
        <path class="l ck" stroke-width="4" stroke-linecap="round" d="M7 8h0"/>
        <path class="a ck" fill-opacity="0.25" d="M1 1l1 0 0 1z"/>
        "#);
    }

    #[test]
    fn a_reduced_line_keeps_its_corners_and_omits_points_that_no_pixel_shows() {
        let wave = |i: i32| {
            let x = f64::from(i) / 2.0;
            (x, 10.0 + 8.0 * libm::sin(x / 20.0))
        };
        let points: Vec<At> = (0..400).map(wave).collect();
        let drawn = without_collinear(&points);
        assert!((10..80).contains(&drawn.len()), "{}", drawn.len());
        assert_eq!((drawn.first(), drawn.last()), (points.first(), points.last()));
        for &point in &points {
            let segments = drawn.windows(2).map(|ends| distance(point, ends[0], ends[1]));
            assert!(segments.fold(f64::INFINITY, f64::min) <= TOLERANCE, "{point:?}");
        }
        let corner = [(0.0, 0.0), (0.0, 5.0), (5.0, 5.0)];
        assert_eq!(without_collinear(&corner), corner);
        assert_eq!(without_collinear(&[(1.0, 1.0)]), [(1.0, 1.0)]);
        assert_eq!(without_collinear(&[]), []);
        // Back and forth on one line: the turning point is no part of the line between the ends.
        let back = [(0.0, 0.0), (9.0, 0.0), (3.0, 0.0)];
        assert_eq!(without_collinear(&back), back);
    }

    #[test]
    fn stamps_are_drawn_once_and_referenced_afterwards() {
        let drawn = markup((30.0, 20.0), |canvas| {
            let stamps = |points: &[At]| {
                canvas.stamps("m1", points, |center| canvas.disc(center, 2.0, GREY))
            };
            stamps(&[(1.0, 2.0), (3.0, 4.5)])?;
            stamps(&[(7.0, 8.0)])
        });
        let marker = "<marker id=\"m1\" markerUnits=\"userSpaceOnUse\" overflow=\"visible\" \
                      refX=\"10\" refY=\"10\"><path class=\"l ck\" stroke-width=\"4\" \
                      stroke-linecap=\"round\" d=\"M10 10h0\"/>\n</marker>";
        let vertices = "<path fill=\"none\" style=\"marker:url(#m1)\" d=\"M1 2l2 2.5M7 8\"/>\n";
        assert_eq!(drawn.unwrap(), [marker, vertices].concat());
    }

    #[test]
    fn a_group_holds_what_is_drawn_in_it() {
        let drawn = markup((30.0, 20.0), |canvas| {
            canvas.dashed(&[6.0, 2.5], || canvas.line(&[(1.0, 2.0), (3.0, 4.0)], 1.0, INK))?;
            canvas.dashed(&[], || canvas.line(&[(1.0, 2.0), (3.0, 4.0)], 1.0, INK))
        });
        insta::assert_snapshot!(drawn.unwrap(), @r#"
        <g stroke-dasharray="6 2.5"><path class="l c6" d="M1 2l2 2"/>
        </g><path class="l c6" d="M1 2l2 2"/>
        "#);
    }

    #[test]
    fn text_is_escaped_and_broken_into_lines_that_fit() {
        let font = Font { size: 10.0, colour: INK, bold: true, align: Align::End, upright: true };
        let drawn = markup((30.0, 20.0), |canvas| canvas.text("a < \"b\"", (20.0, 10.0), font));
        let expected = "<text class=\"c6\" x=\"23.6\" y=\"10\" font-size=\"10\" \
                        text-anchor=\"end\" font-weight=\"bold\" \
                        transform=\"rotate(-90 23.6 10)\">a &lt; &quot;b&quot;</text>\n";
        assert_eq!(drawn.unwrap(), expected);
        assert_eq!(wrapped("one two three", 10.0, 50.0), ["one two", "three"]);
        assert_eq!(wrapped("indivisible", 10.0, 5.0), ["indivisible"]);
        assert_eq!(wrapped("", 10.0, 5.0), Vec::<String>::new());
    }
}
