//! A figure as part of a page: one SVG for each panel, so that a narrow page can stack them, a
//! legend whose entries scripts can turn into switches, and the data that scripts show.

use super::axis::{Axis, Ruler, Scale};
use super::canvas::{At, DrawError, markup};
use super::figure::{Figure, Panel, Series};
use super::html::escape;
use super::layout::{Scales, Surroundings};
use super::legend::{Keys, SYMBOL, entries};
use super::panel::Frame;
use super::style::MARGIN;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The height of a symbol of the legend, in pixels.
const SYMBOL_HEIGHT: f64 = 14.0;

/// The data of a figure, for the scripts of a page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chart {
    /// In the order of the panels.
    pub panels: Vec<ChartPanel>,
}

/// The data of a panel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartPanel {
    /// Above the panel.
    pub title: String,
    /// Left, top, width and height of the axes in the coordinates of the panel's SVG.
    pub frame: [f64; 4],
    /// The horizontal axis.
    pub x: ChartAxis,
    /// The vertical axis.
    pub y: ChartAxis,
    /// In the order in which they are drawn.
    pub series: Vec<ChartSeries>,
}

/// An axis of a panel. Without data, both ends are 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartAxis {
    /// `linear` or `log`.
    pub scale: &'static str,
    /// The value at the left or lower end of the frame.
    pub low: f64,
    /// The value at the right or upper end of the frame.
    pub high: f64,
    /// The quantity, with its unit.
    pub label: String,
}

/// The data of a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartSeries {
    /// The attribute `data-series` of its groups in the SVG, and of its entry in the legend.
    pub key: String,
    /// The entry in the legend, with the note of the series.
    pub label: String,
    /// Pixels in the coordinates of the panel's SVG by which the points are drawn further right.
    pub shift: f64,
    /// The values that all points share.
    pub facets: BTreeMap<&'static str, String>,
    /// x, y, and the ends of the interval of y, with six significant digits.
    pub points: Vec<(f64, f64, Option<f64>, Option<f64>)>,
}

impl Figure {
    /// The figure as HTML for a page with the style sheet [`css`](super::style::css); `name`
    /// distinguishes the page's figures.
    pub fn to_html(&self, name: &str) -> Result<String, DrawError> {
        let keys = Keys::new(&self.panels);
        let mut html = format!("<div class=\"chart\" data-chart=\"{}\">\n", escape(name));
        let entries = entries(&self.panels);
        if !entries.is_empty() {
            html += "<ul class=\"legend\">\n";
            for (label, symbol) in entries {
                let size = (SYMBOL, SYMBOL_HEIGHT);
                let drawn = markup(size, |canvas| symbol.draw(canvas, (0.0, 0.5 * size.1)))?;
                let _ = writeln!(
                    html,
                    "<li data-series=\"{}\"><svg class=\"symbol\" viewBox=\"0 0 {} {}\" \
                     aria-hidden=\"true\">{}</svg>{}</li>",
                    keys.key(label),
                    size.0,
                    size.1,
                    drawn.trim_end(),
                    escape(label)
                );
            }
            html += "</ul>\n";
        }
        let tiles = Tiles::new(self);
        let _ = writeln!(html, "<div class=\"panels\" data-columns=\"{}\">", tiles.columns);
        for (i, panel) in self.panels.iter().enumerate() {
            let frame = tiles.frame(i);
            let drawn = markup(tiles.size, |canvas| frame.draw(canvas, panel, &keys))?;
            let _ = writeln!(
                html,
                "<svg class=\"panel\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {} {}\" \
                 data-panel=\"{i}\">\n{drawn}</svg>",
                escape(&description(panel)),
                tiles.size.0,
                tiles.size.1,
            );
        }
        html += "</div>\n</div>\n";
        Ok(html)
    }

    /// The data of the figure as [`Figure::to_html`] draws it.
    pub fn to_chart(&self) -> Chart {
        let keys = Keys::new(&self.panels);
        let tiles = Tiles::new(self);
        let panel = |(i, panel): (usize, &Panel)| {
            let frame = tiles.frame(i);
            ChartPanel {
                title: panel.title.clone(),
                frame: [frame.left, frame.top, frame.size.0, frame.size.1],
                x: axis(&panel.x, frame.x),
                y: axis(&panel.y, frame.y),
                series: panel.series.iter().map(|one| series(one, &keys)).collect(),
            }
        };
        Chart { panels: self.panels.iter().enumerate().map(panel).collect() }
    }
}

/// What a panel shows, for readers who cannot see it.
fn description(panel: &Panel) -> String {
    let axes = format!("{} against {}", panel.y.label, panel.x.label);
    match (panel.title.as_str(), panel.y.label.as_str()) {
        ("", "") => "no data".to_owned(),
        (title, "") => title.to_owned(),
        ("", _) => axes,
        (title, _) => format!("{title}: {axes}"),
    }
}

fn axis(axis: &Axis, ruler: Option<&Ruler>) -> ChartAxis {
    let (low, high) = ruler.map_or((0.0, 0.0), Ruler::ends);
    let scale = match axis.scale {
        Scale::Linear => "linear",
        Scale::Log => "log",
    };
    ChartAxis { scale, low, high, label: axis.label.clone() }
}

fn series(series: &Series, keys: &Keys) -> ChartSeries {
    let bands = series.band.iter().copied().chain(std::iter::repeat(None));
    let finite = series.points.iter().zip(bands).filter(|((_, y), _)| y.is_finite());
    let points = finite.map(|(&(x, y), band)| {
        let (low, high) = band.map_or((None, None), |(low, high)| (Some(low), Some(high)));
        (rounded(x), rounded(y), low.map(rounded), high.map(rounded))
    });
    let note = if series.note.is_empty() { String::new() } else { format!(", {}", series.note) };
    ChartSeries {
        key: keys.key(&series.label),
        label: format!("{}{note}", series.label),
        shift: series.shift,
        facets: series.facets.iter().cloned().collect(),
        points: points.collect(),
    }
}

/// `x` with six significant digits.
fn rounded(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}

/// The panels of a fragment, all of one size.
struct Tiles {
    columns: usize,
    scales: Scales,
    around: Surroundings,
    frame: At,
    size: At,
}

impl Tiles {
    fn new(figure: &Figure) -> Tiles {
        let columns = figure.columns.clamp(1, figure.panels.len().clamp(1, 4));
        // A page shows few columns wider than many, and a phone one column at the whole width.
        let (width, height) = match columns {
            1 => (420.0, 250.0),
            2 => (340.0, 220.0),
            _ => (310.0, 200.0),
        };
        let scales = Scales::new(&figure.panels);
        // The width of the frame depends on the labels, whose lines depend on its height alone.
        let left = scales.surroundings(&figure.panels, (width, height)).left;
        let mut frame = (width - left - MARGIN, height);
        let right = scales.surroundings(&figure.panels, frame).right;
        frame.0 -= right;
        let around = scales.surroundings(&figure.panels, frame);
        let size = (width, around.above + height + around.below);
        Tiles { columns, scales, around, frame, size }
    }

    fn frame(&self, i: usize) -> Frame<'_> {
        let corner = (self.around.left, self.around.above);
        self.scales.frame(i, corner, self.frame, [true; 2])
    }
}
