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
            3 => (310.0, 200.0),
            _ => (310.0, 165.0),
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

#[cfg(test)]
mod tests {
    use super::super::figure::{Field, Mark, ReferenceLine};
    use super::*;
    use std::collections::BTreeSet;

    fn figure() -> Figure {
        let series = |label: &str, style| Series {
            label: label.into(),
            style,
            points: vec![(0.0, 1.0), (0.5, 20.123_456_789), (1.0, f64::NAN)],
            band: vec![None, Some((2.0, 30.0)), None],
            facets: vec![("prior", "normal 0.01".into())],
            ..Series::default()
        };
        let panel = |title: &str| Panel {
            title: title.into(),
            x: Axis::linear("t").range(0.0, 1.0),
            y: Axis::log("error, %"),
            references: vec![ReferenceLine { label: "chance".into(), y: 90.0 }],
            series: vec![
                series("a < b & \"c\"", 0),
                Series { note: "single pair".into(), mark: Mark::Dots, ..series("arc", 8) },
                series("arc", 8),
            ],
            ..Panel::default()
        };
        Figure { columns: 2, panels: vec![panel("one"), panel("two & more")], ..Figure::default() }
    }

    /// The values of `data-series` in the groups of each SVG with this class.
    fn groups(markup: &str, class: &str) -> Vec<BTreeSet<String>> {
        let document = roxmltree::Document::parse(markup).unwrap();
        let drawings = document.descendants().filter(|n| n.attribute("class") == Some(class));
        let keys = |drawing: roxmltree::Node| {
            let groups = drawing.descendants().filter(|n| n.has_tag_name("g"));
            groups.filter_map(|n| n.attribute("data-series")).map(str::to_owned).collect()
        };
        drawings.map(keys).collect()
    }

    #[test]
    fn the_fragment_the_drawing_and_the_data_have_the_same_series() {
        let figure = figure();
        let fragment = figure.to_html("test").unwrap();
        let panels = groups(&fragment, "panel");
        let all: BTreeSet<String> = ["s0", "s1", "s2"].map(str::to_owned).into();
        assert_eq!(panels, [all.clone(), all.clone()]);
        let chart = figure.to_chart();
        for (panel, shown) in chart.panels.iter().zip(&panels) {
            assert!(panel.series.iter().all(|series| shown.contains(&series.key)));
        }
        let svg = figure.to_svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let shown: BTreeSet<&str> =
            document.descendants().filter_map(|n| n.attribute("data-series")).collect();
        assert_eq!(shown, all.iter().map(String::as_str).collect());
    }

    #[test]
    fn the_legend_lists_each_label_once_with_its_key() {
        let fragment = figure().to_html("test").unwrap();
        let document = roxmltree::Document::parse(&fragment).unwrap();
        let entry = |n: roxmltree::Node| {
            let label = n.last_child().and_then(|text| text.text()).map(str::to_owned);
            (n.attribute("data-series").unwrap().to_owned(), label.unwrap())
        };
        let entries = document.descendants().filter(|n| n.has_tag_name("li")).map(entry);
        let expected = [("s0", "a < b & \"c\""), ("s1", "arc"), ("s2", "chance")];
        let expected = expected.map(|(key, label)| (key.to_owned(), label.to_owned()));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_data_are_those_of_the_figure_rounded_to_six_digits() {
        let chart = figure().to_chart();
        let series = &chart.panels[1].series[1];
        assert_eq!((series.label.as_str(), series.key.as_str()), ("arc, single pair", "s1"));
        assert_eq!(series.facets["prior"], "normal 0.01");
        let points = [(0.0, 1.0, None, None), (0.5, 20.1235, Some(2.0), Some(30.0))];
        assert_eq!(series.points, points);
        assert_eq!((chart.panels[0].x.scale, chart.panels[0].y.scale), ("linear", "log"));
        assert_eq!((chart.panels[0].x.low, chart.panels[0].x.high), (0.0, 1.0));
    }

    #[test]
    fn a_point_of_the_data_is_drawn_where_the_frame_and_the_axes_say() {
        let figure = figure();
        let chart = figure.to_chart();
        let ChartPanel { frame: [left, top, width, height], x, y, .. } = &chart.panels[0];
        let at = left + width * (0.5 - x.low) / (x.high - x.low);
        let level = (20.1235_f64 / y.low).ln() / (y.high / y.low).ln();
        let tiles = Tiles::new(&figure);
        let frame = tiles.frame(0);
        let drawn = (frame.x.unwrap().position(0.5), frame.y.unwrap().position(20.1235));
        assert!((left + width * drawn.0.unwrap() - at).abs() < 1e-9);
        let drawn = top + height * (1.0 - drawn.1.unwrap());
        assert!((drawn - (top + height * (1.0 - level))).abs() < 1e-9);
    }

    #[test]
    fn a_figure_without_data_has_a_panel_that_says_so() {
        let empty = Figure { panels: vec![Panel::default()], ..Figure::default() };
        let fragment = empty.to_html("a<b").unwrap();
        assert!(roxmltree::Document::parse(&fragment).is_ok(), "{fragment}");
        assert!(fragment.contains("aria-label=\"no data\"") && fragment.contains(">no data<"));
        assert!(fragment.contains("data-chart=\"a&lt;b\"") && !fragment.contains("<ul"));
        assert_eq!(empty.to_chart().panels[0].series, []);
    }

    #[test]
    fn the_colour_bar_of_a_field_is_in_its_panel() {
        let values = (0..9).map(|i| (0..9).map(|j| f64::from(i * j)).collect()).collect();
        let field =
            Field { axis: Axis::linear("loss, nats"), x: (0.0, 1.0), y: (0.0, 1.0), values };
        let mut figure = figure();
        figure.panels[0].y = Axis::linear("y");
        figure.panels[0].field = Some(field);
        let fragment = figure.to_html("field").unwrap();
        let document = roxmltree::Document::parse(&fragment).unwrap();
        let panel = document.descendants().find(|n| n.attribute("class") == Some("panel"));
        let width: f64 = panel
            .unwrap()
            .attribute("viewBox")
            .unwrap()
            .split(' ')
            .nth(2)
            .unwrap()
            .parse()
            .unwrap();
        let tile = Tiles::new(&figure);
        assert!(tile.around.left + tile.frame.0 + tile.around.right <= width);
        let drawn = panel.unwrap().descendants().filter_map(|n| n.attribute("class"));
        let steps: BTreeSet<&str> = drawn.filter(|class| class.starts_with("a f")).collect();
        assert_eq!(steps.len(), 9);
    }
}
