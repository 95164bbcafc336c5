//! A backend of plotters that writes SVG in groups, with colours that follow the theme.
//!
//! plotters' own backend writes one element for each shape, repeats every attribute, and knows
//! neither groups nor classes. Here neighbouring shapes of the same look share one `path` with
//! relative coordinates, which takes a quarter of the space, and a colour is a class of the style
//! sheet in `style`. A unit of plotters is a tenth of a pixel.

use super::html::escape;
use super::style::Colour;
use plotters_backend::text_anchor::HPos;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontStyle, FontTransform,
};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;

/// plotters' units in a pixel.
pub(super) const UNITS: f64 = 10.0;
/// The distance from the middle of a line of text down to its baseline, in font sizes.
const BASELINE: f64 = 0.36;

/// The markup of a drawing.
#[derive(Default)]
pub(super) struct Sheet {
    markup: String,
    /// The attributes of the path that is being written, without its data.
    path: Option<String>,
    /// The end of the path, in units.
    at: BackendCoord,
    /// The names of the markers so far.
    markers: BTreeSet<String>,
}

impl Sheet {
    /// Begins a group with these attributes.
    pub(super) fn open_group(&mut self, attributes: &str) {
        self.close_path();
        self.markup += &format!("<g {attributes}>");
    }

    /// Ends a group.
    pub(super) fn close_group(&mut self) {
        self.close_path();
        self.markup += "</g>";
    }

    /// Begins the marker of this name around the point at `middle` pixels in both directions;
    /// false if there is one already.
    pub(super) fn open_marker(&mut self, name: &str, middle: f64) -> bool {
        let is_new = self.markers.insert(name.to_owned());
        if is_new {
            self.close_path();
            self.markup += &format!(
                "<marker id=\"{name}\" markerUnits=\"userSpaceOnUse\" overflow=\"visible\" \
                 refX=\"{middle}\" refY=\"{middle}\">"
            );
        }
        is_new
    }

    /// Ends a marker.
    pub(super) fn close_marker(&mut self) {
        self.close_path();
        self.markup += "</marker>";
    }

    /// Shows the marker of this name at each of the points.
    pub(super) fn vertices(&mut self, name: &str, points: &[BackendCoord]) {
        let attributes = format!("fill=\"none\" style=\"marker:url(#{name})\"");
        self.subpath(attributes, points, "");
    }

    /// The markup so far.
    pub(super) fn take(&mut self) -> String {
        self.close_path();
        std::mem::take(&mut self.markup)
    }

    fn close_path(&mut self) {
        if self.path.take().is_some() {
            self.markup += "\"/>\n";
        }
    }

    /// Adds lines through `points` to the path with these attributes.
    fn subpath(&mut self, attributes: String, points: &[BackendCoord], end: &str) {
        if self.path.as_ref() != Some(&attributes) {
            self.close_path();
            self.markup += &format!("<path {attributes} d=\"");
            self.path = Some(attributes);
        }
        for (i, &(x, y)) in points.iter().enumerate() {
            let (command, dx, dy) = match i {
                0 => ("M", x, y),
                _ => ("l", x - self.at.0, y - self.at.1),
            };
            // Without a letter, the command `l` is repeated.
            self.markup += if i < 2 { command } else { "" };
            let (dx, dy) = (pixels(dx), pixels(dy));
            self.markup += if i < 2 || dx.starts_with('-') { "" } else { " " };
            self.markup += &dx;
            self.markup += if dy.starts_with('-') { "" } else { " " };
            self.markup += &dy;
            self.at = (x, y);
        }
        self.markup += end;
    }
}

/// The backend, which writes to a sheet.
pub(super) struct Writer {
    pub(super) sheet: Rc<RefCell<Sheet>>,
    /// In units.
    pub(super) size: (u32, u32),
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl DrawingBackend for Writer {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, colour: BackendColor) -> Drawn {
        self.draw_circle(at, 1, &colour, true)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let attributes = stroked(style, style.stroke_width());
        let points: Vec<BackendCoord> = path.into_iter().collect();
        self.sheet.borrow_mut().subpath(attributes, &points, "");
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let opacity = match style.color().alpha {
            1.0 => String::new(),
            alpha => format!(" fill-opacity=\"{alpha}\""),
        };
        let attributes = format!("class=\"a {}\"{opacity}", class(style));
        let corners: Vec<BackendCoord> = path.into_iter().collect();
        self.sheet.borrow_mut().subpath(attributes, &corners, "z");
        Ok(())
    }

    /// A disc: a line without length has round caps.
    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        _fill: bool,
    ) -> Drawn {
        let attributes = format!("{} stroke-linecap=\"round\"", stroked(style, 2 * radius));
        self.sheet.borrow_mut().subpath(attributes, &[center], "h0");
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Drawn {
        let below = (style.size() * BASELINE * UNITS).round() as i32;
        let ((x, y), turned) = match style.transform() {
            FontTransform::None => ((pixels(x), pixels(y + below)), String::new()),
            _ => {
                let (x, y) = (pixels(x + below), pixels(y));
                let turned = format!(" transform=\"rotate(-90 {x} {y})\"");
                ((x, y), turned)
            }
        };
        let anchor = match style.anchor().h_pos {
            HPos::Left => "",
            HPos::Center => " text-anchor=\"middle\"",
            HPos::Right => " text-anchor=\"end\"",
        };
        let weight = match style.style() {
            FontStyle::Bold => " font-weight=\"bold\"",
            _ => "",
        };
        let class = Colour::of(style.color().rgb).class();
        let size = style.size();
        let text = escape(text);
        let mut sheet = self.sheet.borrow_mut();
        sheet.close_path();
        sheet.markup += &format!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\"{anchor}{weight}\
             {turned}>{text}</text>\n"
        );
        Ok(())
    }
}

fn class<S: BackendStyle>(style: &S) -> &'static str {
    Colour::of(style.color().rgb).class()
}

/// The attributes of lines of `width` units.
fn stroked<S: BackendStyle>(style: &S, width: u32) -> String {
    let width = match pixels(width as i32) {
        default if default == "1" => String::new(),
        width => format!(" stroke-width=\"{width}\""),
    };
    format!("class=\"l {}\"{width}", class(style))
}

/// `units` in pixels, in as few characters as possible.
fn pixels(units: i32) -> String {
    let (sign, size) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
    match (size / 10, size % 10) {
        (0, 0) => "0".to_owned(),
        (whole, 0) => format!("{sign}{whole}"),
        (0, tenth) => format!("{sign}.{tenth}"),
        (whole, tenth) => format!("{sign}{whole}.{tenth}"),
    }
}

#[cfg(test)]
pub(super) mod reading {
    //! Reads the paths that the backend writes.

    /// The points of each subpath of the path data `d`.
    pub(in super::super) fn subpaths(d: &str) -> Vec<Vec<(f64, f64)>> {
        let subpath = |part: &str| {
            let numbers = part.trim_end_matches('z').trim_end_matches("h0");
            let spaced = numbers.replace('l', " ").replace('-', " -");
            let numbers: Vec<f64> =
                spaced.split_whitespace().map(|number| number.parse().unwrap()).collect();
            let mut at = (0.0, 0.0);
            let point = |step: &[f64]| {
                at = (at.0 + step[0], at.1 + step[1]);
                at
            };
            numbers.chunks(2).map(point).collect()
        };
        d.split('M').skip(1).map(subpath).collect()
    }
}
