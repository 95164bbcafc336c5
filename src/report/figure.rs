//! Figures: one or more panels of curves and points. `layout` draws them as one SVG, `fragment` as
//! part of a page, with the data for its scripts.
//!
//! `style` defines the colours, which differ for colour-blind readers and follow the theme. Dashes
//! and markers differ as well. Panels with equal axes share one scale.
//!
//! Values that are not finite are gaps. A value that a log axis cannot show is a gap in a curve, or
//! a point at the lower end of the axis. Equal figures give equal bytes.

use super::axis::Axis;

/// A figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Above the panels; may be empty.
    pub title: String,
    /// The number of panels in a row; 0 means 1.
    pub columns: usize,
    /// Row by row. Equal `x` axes of all panels are shared; so are `y` axes and the axes of fields.
    pub panels: Vec<Panel>,
}

/// One coordinate system.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// Above the panel.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The background.
    pub field: Option<Field>,
    /// Horizontal reference lines.
    pub references: Vec<ReferenceLine>,
    /// Drawn in this order.
    pub series: Vec<Series>,
    /// Texts beside points, in front of everything.
    pub labels: Vec<PointLabel>,
}

/// A text beside a point.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointLabel {
    /// The point.
    pub at: (f64, f64),
    /// One short line.
    pub text: String,
}

/// A curve, or points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The entry in the legend. Series of the same label are one entry, and have the same key in
    /// fragments and data.
    pub label: String,
    /// What distinguishes the points from those of the entry, such as "single pair"; a series with
    /// a note is not listed in the legend.
    pub note: String,
    /// The values that all points share, such as `("hidden", "50")`, by which a page selects
    /// series.
    pub facets: Vec<(&'static str, String)>,
    /// `style % 7` is the colour, `style / 7` the dash (solid, dashed, dotted, dash-dotted); the
    /// marker depends on both.
    pub style: usize,
    /// How it is drawn.
    pub mark: Mark,
    /// (x, y), in the order in which they are connected.
    pub points: Vec<(f64, f64)>,
    /// The interval (low, high) of each point: a shaded band for a curve, whiskers for points. It
    /// is clipped to the panel; a clipped whisker has no cap.
    pub band: Vec<Option<(f64, f64)>>,
    /// A shift to the right in pixels, so that series with equal x do not hide each other.
    pub shift: f64,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A line with markers at some of its points.
    #[default]
    Curve,
    /// A line with a marker at every point.
    Points,
    /// Markers without a line.
    Markers,
    /// A line without markers.
    Line,
    /// Hollow markers without a line.
    Hollow,
    /// Small dots without a line.
    Dots,
}

impl Mark {
    /// Whether a line connects the points.
    pub(super) fn has_line(self) -> bool {
        matches!(self, Mark::Curve | Mark::Points | Mark::Line)
    }
}

/// A horizontal reference line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReferenceLine {
    /// The entry in the legend.
    pub label: String,
    /// The position.
    pub y: f64,
}

/// A function of x and y, drawn in steps of colour, darker for larger values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Field {
    /// The axis of the values.
    pub axis: Axis,
    /// The x of the first and of the last column.
    pub x: (f64, f64),
    /// The y of the first and of the last row.
    pub y: (f64, f64),
    /// `[rows][columns]`, at least 2 by 2.
    pub values: Vec<Vec<f64>>,
}

impl Panel {
    /// All x.
    pub(super) fn xs(&self) -> impl Iterator<Item = f64> {
        let points =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        points.chain(self.field.iter().flat_map(|field| [field.x.0, field.x.1]))
    }

    /// All y, except the ends of bands.
    pub(super) fn ys(&self) -> impl Iterator<Item = f64> {
        let points =
            self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let lines = self.references.iter().map(|reference| reference.y);
        points.chain(lines).chain(self.field.iter().flat_map(|field| [field.y.0, field.y.1]))
    }

    /// The ends of all bands.
    pub(super) fn bands(&self) -> impl Iterator<Item = f64> {
        let bands = self.series.iter().flat_map(|series| &series.band).flatten();
        bands.flat_map(|&(low, high)| [low, high])
    }

    /// All values of the field.
    pub(super) fn field_values(&self) -> impl Iterator<Item = f64> {
        self.field.iter().flat_map(|field| field.values.iter().flatten().copied())
    }
}
