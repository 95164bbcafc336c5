//! What a figure is: one or more panels of curves and points. How it is drawn is the business of `layout`.
//!
//! Colours are those of Okabe and Ito (*Color universal design*, 2008), which the colour-blind can tell apart; dashes and
//! markers tell the same, so that nothing rests on colour alone. Panels whose axes are equal share one ruler, labelled
//! once. The legend has a strip of its own.
//!
//! This file does not know what is measured, nor where a figure goes. Values that are not finite
//! are gaps. What a log axis cannot show is a gap in a curve, and a point at the lower end of the
//! axis. Equal figures give equal bytes.

use super::axis::Axis;

/// A figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Above the panels; may be empty, where a caption says it.
    pub title: String,
    /// Panels side by side; 0 is taken for 1.
    pub columns: usize,
    /// Row by row. If all their `x` are equal, they share one; so for `y` and for what the colours of fields mean.
    pub panels: Vec<Panel>,
}

/// One coordinate system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// Above the panel.
    pub title: String,
    /// Across.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// What lies behind everything, if anything does.
    pub field: Option<Field>,
    /// Horizontal lines to compare with.
    pub references: Vec<Reference>,
    /// Later ones lie on top of earlier ones.
    pub series: Vec<Series>,
}

/// A curve, or points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its entry in the legend; equal entries appear once, an empty one not at all.
    pub label: String,
    /// `style % 7` is a colour, `style / 7` a dash (whole, dashed, dotted, dash-dotted); the marker differs with both.
    pub style: usize,
    /// How it is drawn.
    pub mark: Mark,
    /// (x, y), in the order they are joined.
    pub points: Vec<(f64, f64)>,
    /// (low, high) around each point that has one, in the order of the points: a shaded band for a
    /// curve, whiskers for points. What leaves the panel is cut off: a whisker has no cap there.
    pub band: Vec<Option<(f64, f64)>>,
    /// Pixels to the right of where it belongs, so that series of equal x do not hide each other.
    pub shift: f64,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A line with a marker here and there.
    #[default]
    Curve,
    /// A line with a marker at every point.
    Points,
    /// Hollow markers without a line: what others have published.
    Hollow,
    /// Dots without a line: single values beside their mean.
    Dots,
}

impl Mark {
    /// Whether a line joins the points.
    pub(super) fn has_line(self) -> bool {
        matches!(self, Mark::Curve | Mark::Points)
    }
}

/// A horizontal line to compare with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reference {
    /// Its entry in the legend.
    pub label: String,
    /// Where it is.
    pub y: f64,
}

/// A quantity over the plane, in steps of colour: darker is more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// What the colours mean, and how they are spaced.
    pub axis: Axis,
    /// The x of the first and of the last column.
    pub x: (f64, f64),
    /// The y of the first and of the last row.
    pub y: (f64, f64),
    /// `[rows][columns]`, at least 2 by 2.
    pub values: Vec<Vec<f64>>,
}

impl Panel {
    /// Every x that it shows.
    pub(super) fn across(&self) -> impl Iterator<Item = f64> {
        let points =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        points.chain(self.field.iter().flat_map(|field| [field.x.0, field.x.1]))
    }

    /// Every y that it shows, but for bands.
    pub(super) fn up(&self) -> impl Iterator<Item = f64> {
        let points =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let lines = self.references.iter().map(|reference| reference.y);
        points.chain(lines).chain(self.field.iter().flat_map(|field| [field.y.0, field.y.1]))
    }

    /// Every y at which a band ends.
    pub(super) fn bands(&self) -> impl Iterator<Item = f64> {
        let bands = self.series.iter().flat_map(|series| &series.band).flatten();
        bands.flat_map(|&(low, high)| [low, high])
    }

    /// Every value of its field.
    pub(super) fn above(&self) -> impl Iterator<Item = f64> {
        self.field.iter().flat_map(|field| field.values.iter().flatten().copied())
    }
}
