//! Arranges the panels, the legend and the title of a figure, and draws it as one SVG.

use super::axis::{Axis, Ruler};
pub use super::canvas::DrawError;
use super::canvas::{Align, At, Detail, markup_in, text_width, wrapped};
use super::figure::{Figure, Panel};
use super::html::escape;
use super::legend::{Keys, Legend};
use super::panel::{BAR, Frame, label_width, tick_rows, title_lines, widest_tick};
use super::style::*;

/// The size in bytes above which a drawing is reduced to what pixels show.
const LARGE_FILE: usize = 200_000;

impl Figure {
    /// The figure as SVG with selectable text, in the colours of the reader's theme. Where it would
    /// have more than 200 KB, curves lack the points that no pixel shows.
    pub fn to_svg(&self) -> Result<String, DrawError> {
        let svg = self.to_svg_in(Detail::Full)?;
        if svg.len() <= LARGE_FILE { Ok(svg) } else { self.to_svg_in(Detail::Reduced) }
    }

    fn to_svg_in(&self, detail: Detail) -> Result<String, DrawError> {
        let keys = Keys::new(&self.panels);
        let layout = Layout::new(self);
        let (width, height) = (layout.width.ceil(), layout.height.ceil());
        let drawn = markup_in(detail, (width, height), |canvas| {
            let corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)];
            canvas.area(&corners, PAPER, 1.0)?;
            canvas.text(
                &self.title,
                (MARGIN, MARGIN + 0.5 * LARGE),
                font(LARGE, INK, Align::Start).bold(),
            )?;
            for (i, panel) in self.panels.iter().enumerate() {
                layout.frame(self, i).draw(canvas, panel, &keys)?;
            }
            layout.legend.draw(canvas, &keys)
        })?;
        Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{name}\" font-family=\"system-ui, sans-serif\">\n\
             <style>{css}</style>\n{drawn}</svg>\n",
            name = escape(&self.title),
            css = svg_css(),
        ))
    }
}

/// The scales of all panels, and the space around their frames.
pub(super) struct Scales {
    /// x and y of each panel; `None` without data.
    rulers: Vec<[Option<Ruler>; 2]>,
    bars: Vec<Option<Ruler>>,
    /// Whether all panels have the same x axis, the same y axis.
    shared: [bool; 2],
}

impl Scales {
    pub(super) fn new(panels: &[Panel]) -> Scales {
        let all_equal = |axis: fn(&Panel) -> &Axis| {
            panels.windows(2).all(|pair| axis(&pair[0]) == axis(&pair[1]))
        };
        let shared = [all_equal(|panel| &panel.x), all_equal(|panel| &panel.y)];
        let seen = |i: usize, shared: bool| if shared { panels } else { &panels[i..=i] };
        let rulers = (0..panels.len()).map(|i| {
            [
                Ruler::new(&panels[i].x, seen(i, shared[0]).iter().flat_map(Panel::xs)),
                Ruler::with_bands(
                    &panels[i].y,
                    seen(i, shared[1]).iter().flat_map(Panel::ys),
                    seen(i, shared[1]).iter().flat_map(Panel::bands),
                ),
            ]
        });
        let rulers = rulers.collect();
        let fields =
            || panels.iter().filter_map(|panel| panel.field.as_ref()).map(|field| &field.axis);
        let one_bar = fields().zip(fields().skip(1)).all(|(a, b)| a == b);
        let bars = (0..panels.len()).map(|i| {
            let axis = &panels[i].field.as_ref()?.axis;
            Ruler::new(axis, seen(i, one_bar).iter().flat_map(Panel::field_values))
        });
        Scales { rulers, bars: bars.collect(), shared }
    }

    /// The pixels around frames of this size: left of them for the labels of y, above them for
    /// titles, right of them for colour bars, and below them for the labels of x.
    pub(super) fn surroundings(&self, panels: &[Panel], frame: At) -> Surroundings {
        let most = |lines: &dyn Fn(&Panel) -> Vec<String>| {
            panels.iter().map(|panel| lines(panel).len()).max().unwrap_or(0) as f64
        };
        let titles = most(&|panel| title_lines(&panel.title, frame.0));
        let labels = most(&|panel| wrapped(&panel.y.label, NORMAL, label_width(frame.1)));
        let rulers = self.rulers.iter().filter_map(|[_, y]| y.as_ref());
        let beside = rulers.map(widest_tick).fold(0.0, f64::max);
        let bars = self.bars.iter().flatten();
        let rows = self.rulers.iter().filter_map(|[x, _]| x.as_ref());
        let rows = rows.flat_map(|ruler| tick_rows(ruler, frame.0)).max().unwrap_or(0);
        Surroundings {
            left: beside + TICK + NORMAL + LINE * labels,
            above: 9.0 + LINE * titles,
            right: bars.map(|bar| BAR + TICK + widest_tick(bar) + 2.0 * NORMAL).fold(0.0, f64::max),
            below: TICK + SMALL + 2.0 * NORMAL + LINE * rows as f64,
        }
    }

    /// The frame of panel `i` with its upper left corner at `corner`.
    pub(super) fn frame(
        &self,
        i: usize,
        (left, top): At,
        size: At,
        labelled: [bool; 2],
    ) -> Frame<'_> {
        let [x, y] = &self.rulers[i];
        let bar = self.bars[i].as_ref();
        Frame { x: x.as_ref(), y: y.as_ref(), bar, left, top, size, labelled }
    }
}

/// The pixels around the frame of a panel.
pub(super) struct Surroundings {
    pub(super) left: f64,
    pub(super) above: f64,
    pub(super) right: f64,
    pub(super) below: f64,
}

/// The positions of a single drawing's parts, in pixels.
struct Layout<'a> {
    columns: usize,
    scales: Scales,
    /// The size of a panel.
    panel: At,
    /// The distance from one panel to the next.
    pitch: At,
    /// The first panel's upper left corner.
    origin: At,
    width: f64,
    height: f64,
    legend: Legend<'a>,
}

impl Layout<'_> {
    fn new(figure: &Figure) -> Layout<'_> {
        let panels = &figure.panels;
        let columns = figure.columns.clamp(1, panels.len().max(1));
        let rows = panels.len().div_ceil(columns);
        let scales = Scales::new(panels);
        let panel = match columns {
            1 => (500.0, 300.0),
            2 => (310.0, 220.0),
            3 => (250.0, 190.0),
            _ => (190.0, 165.0),
        };
        let Surroundings { left, above, right, below } = scales.surroundings(panels, panel);
        let title = if figure.title.is_empty() { 0.0 } else { LARGE + MARGIN };
        let pitch = (
            panel.0 + right + if scales.shared[1] { 2.5 * MARGIN } else { MARGIN + left },
            panel.1 + above + if scales.shared[0] { MARGIN } else { below },
        );
        let origin = (MARGIN + left, MARGIN + title + above);
        // Half of a tick label, or a long title, may extend beyond the last panel.
        let width = (origin.0 + pitch.0 * (columns - 1) as f64 + panel.0 + right + 2.0 * MARGIN)
            .max(text_width(&figure.title, LARGE) * 1.1 + 2.0 * MARGIN);
        let bottom = origin.1 + pitch.1 * (rows.max(1) - 1) as f64 + panel.1 + below + 0.5 * MARGIN;
        let legend = Legend::new(panels, (origin.0, bottom), width - origin.0 - MARGIN);
        let height = bottom + legend.height() + MARGIN;
        Layout { columns, scales, panel, pitch, origin, width, height, legend }
    }

    /// The frame of panel `i`. A shared y axis is labelled in the first column, a shared x axis
    /// below the last panel of each column.
    fn frame(&self, figure: &Figure, i: usize) -> Frame<'_> {
        let (column, row) = (i % self.columns, i / self.columns);
        let left = self.origin.0 + self.pitch.0 * column as f64;
        let top = self.origin.1 + self.pitch.1 * row as f64;
        let shared = self.scales.shared;
        let labelled =
            [!shared[0] || i + self.columns >= figure.panels.len(), !shared[1] || column == 0];
        self.scales.frame(i, (left, top), self.panel, labelled)
    }
}

#[cfg(test)]
mod tests {
    use super::super::figure::{Field, Mark, PointLabel, ReferenceLine, Series};
    use super::super::svg::reading::subpaths;
    use super::*;

    fn curve(label: &str, style: usize, points: &[(f64, f64)]) -> Series {
        Series { label: label.into(), style, points: points.to_vec(), ..Series::default() }
    }

    fn panel(title: &str, x: Axis, y: Axis, series: Vec<Series>) -> Panel {
        Panel { title: title.into(), x, y, series, ..Panel::default() }
    }

    fn two_panels() -> Figure {
        let series = || {
            vec![
                curve("a < b & \"c\"", 0, &[(0.0, 1.0), (1.0, 20.0)]),
                curve("arc", 8, &[(0.0, 2.0), (1.0, 3.0)]),
            ]
        };
        let axes = || (Axis::linear("position, t"), Axis::log("error, %"));
        let mut one = panel("one", axes().0, axes().1, series());
        one.references.push(ReferenceLine { label: "chance".into(), y: 90.0 });
        Figure {
            title: "two <panels>".into(),
            columns: 2,
            panels: vec![one, panel("two", axes().0, axes().1, series())],
        }
    }

    /// The texts of the SVG, in order; panics unless it is well-formed and all coordinates are in
    /// its view box.
    #[track_caller]
    fn texts(figure: &Figure) -> Vec<String> {
        let svg = figure.to_svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let size: Vec<f64> = document
            .root_element()
            .attribute("viewBox")
            .unwrap()
            .split(' ')
            .map(|n| n.parse().unwrap())
            .collect();
        for node in document.descendants() {
            let path = node.attribute("d").map(subpaths).unwrap_or_default();
            let at = node.attribute("x").zip(node.attribute("y"));
            let at = at.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()));
            for (x, y) in path.into_iter().flatten().chain(at) {
                assert!((0.0..=size[2]).contains(&x) && (0.0..=size[3]).contains(&y), "{node:?}");
            }
        }
        let texts = document
            .descendants()
            .filter(|node| {
                node.is_text() && !node.parent().is_some_and(|p| p.has_tag_name("style"))
            })
            .filter_map(|node| node.text());
        texts.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
    }

    /// The subpaths of all paths with these attributes.
    fn shapes(figure: &Figure, class: &str, width: Option<&str>) -> Vec<Vec<At>> {
        let svg = figure.to_svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let paths = document.descendants().filter(|node| {
            let shown = (node.attribute("class"), node.attribute("stroke-width"));
            shown == (Some(class), width)
        });
        paths.flat_map(|path| subpaths(path.attribute("d").unwrap())).collect()
    }

    /// The markers of a style, in its colour.
    fn marks(figure: &Figure, style: usize) -> Vec<Vec<At>> {
        let class = colour(style).class();
        let discs = shapes(figure, &format!("l {class}"), Some("6.4"));
        discs.into_iter().chain(shapes(figure, &format!("a {class}"), None)).collect()
    }

    fn count(figure: &Figure, text: &str) -> usize {
        texts(figure).iter().filter(|seen| *seen == text).count()
    }

    /// Bells of 61 points: `panels` of 16 curves each.
    fn many(panels: u32) -> Figure {
        let bell = |i: u32, n: u32| {
            let t = f64::from(i) / 60.0;
            let (middle, width) = (0.5 + 0.01 * f64::from(n), 0.02 + 0.004 * f64::from(n));
            (t, 2.0 + 40.0 * libm::exp(-(t - middle) * (t - middle) / width))
        };
        let curves = |panel: u32| -> Vec<Series> {
            let of = |n: u32| -> Vec<At> { (0..61).map(|i| bell(i, n + panel % 3)).collect() };
            (0..16).map(|n| curve(&format!("curve {n}"), n as usize, &of(n))).collect()
        };
        let axes = || (Axis::linear("t").range(0.0, 1.0), Axis::log("error, %"));
        let panels = (0..panels).map(|i| panel("method", axes().0, axes().1, curves(i)));
        Figure { panels: panels.collect(), columns: 3, ..Figure::default() }
    }

    #[test]
    fn a_figure_of_a_large_grid_stays_under_200_kb() {
        let figure = many(19);
        let full = figure.to_svg_in(Detail::Full).unwrap();
        assert!(full.len() > 280_000, "{}", full.len());
        let svg = figure.to_svg().unwrap();
        assert!(svg.len() < 170_000, "{}", svg.len());
        // All curves, texts and markers are in it.
        let count = |svg: &str, text: &str| svg.matches(text).count();
        for text in ["data-series", "<text", "stroke-width=\"1.7\""] {
            assert_eq!(count(&svg, text), count(&full, text), "{text}");
        }
        let document = roxmltree::Document::parse(&svg).unwrap();
        let ids: Vec<&str> = document.descendants().filter_map(|n| n.attribute("id")).collect();
        assert_eq!(ids.len(), 16, "a marker for each style: {ids:?}");
        let vertices = document.descendants().filter(|node| node.attribute("style").is_some());
        let vertices = vertices.flat_map(|path| subpaths(path.attribute("d").unwrap()));
        // Every ninth point of 61, from a first one that depends on the style.
        let of_style = |style: usize| (0..61).filter(|i| i % 9 == (style * 5 + 4) % 9).count();
        assert_eq!(vertices.flatten().count(), 19 * (0..16).map(of_style).sum::<usize>());
    }

    #[test]
    fn a_smaller_figure_has_every_point() {
        let figure = many(5);
        let svg = figure.to_svg().unwrap();
        assert_eq!(svg, figure.to_svg_in(Detail::Full).unwrap());
        assert!(svg.len() <= LARGE_FILE && svg != figure.to_svg_in(Detail::Reduced).unwrap());
    }

    #[test]
    fn titles_labels_and_legend_are_text() {
        let texts = texts(&two_panels());
        for text in [
            "two <panels>",
            "one",
            "two",
            "position, t",
            "error, %",
            "a < b & \"c\"",
            "arc",
            "chance",
            "0.4",
            "10",
        ] {
            assert!(texts.iter().any(|seen| seen == text), "`{text}` is not among {texts:?}");
        }
    }

    #[test]
    fn equal_axes_are_shared_and_different_ones_are_not() {
        let mut figure = two_panels();
        assert_eq!(
            (count(&figure, "position, t"), count(&figure, "error, %"), count(&figure, "50")),
            (2, 1, 1)
        );
        figure.panels[1].y = Axis::linear("error, %");
        assert_eq!(count(&figure, "error, %"), 2);
        figure.columns = 1;
        assert_eq!(count(&figure, "position, t"), 1, "one x axis for the column");
    }

    #[test]
    fn titles_and_ticks_that_would_overlap_their_neighbours_are_in_several_lines() {
        let long = "a title of many words that is wider than the panel below it is, by far";
        let axis = Axis::log("h").ticks([10.0, 1000.0, 1010.0]);
        let series = vec![curve("", 0, &[(10.0, 1.0), (1010.0, 2.0)])];
        let panels = vec![panel(long, axis, Axis::linear("e"), series); 2];
        let figure = Figure { panels, columns: 2, ..Figure::default() };
        assert_eq!(count(&figure, long), 0);
        assert_eq!((count(&figure, "1000"), count(&figure, "1010")), (2, 2));
        let svg = figure.to_svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let row = |text: &str| {
            let node = document.descendants().find(|node| node.text() == Some(text)).unwrap();
            node.attribute("y").or(node.parent().unwrap().attribute("y")).unwrap().to_owned()
        };
        assert!(row("10") == row("1000") && row("1000") != row("1010"));
    }

    #[test]
    fn an_entry_of_the_legend_is_listed_once() {
        assert_eq!(count(&two_panels(), "arc"), 1);
    }

    #[test]
    fn equal_figures_give_equal_bytes() {
        assert_eq!(two_panels().to_svg().unwrap(), two_panels().to_svg().unwrap());
    }

    #[test]
    fn a_panel_without_data_says_so() {
        let nothing = |points: &[(f64, f64)]| {
            let series = vec![curve("nothing", 0, points)];
            Figure {
                panels: vec![panel("", Axis::linear("t"), Axis::log("error, %"), series)],
                ..Figure::default()
            }
        };
        assert_eq!(count(&nothing(&[]), "no data"), 1);
        assert_eq!(
            count(
                &nothing(&[(0.0, 0.0), (0.5, -1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)]),
                "no data"
            ),
            1
        );
        assert_eq!(count(&nothing(&[(0.0, 1.0)]), "no data"), 0);
        assert!(texts(&Figure::default()).is_empty());
    }

    #[test]
    fn a_value_that_the_axis_cannot_show_is_a_gap_in_a_line() {
        let lines = |middle: f64| {
            let points = [(0.0, 1.0), (1.0, 2.0), (2.0, middle), (3.0, 2.0), (4.0, 1.0)];
            let series = vec![curve("", 0, &points)];
            let figure = Figure {
                panels: vec![panel("", Axis::linear("t"), Axis::log("e"), series)],
                ..Figure::default()
            };
            shapes(&figure, "l c0", Some("1.7")).len()
        };
        assert_eq!(lines(3.0), 1);
        assert_eq!([lines(0.0), lines(f64::NAN), lines(f64::INFINITY)], [2, 2, 2]);
    }

    #[test]
    fn a_point_that_a_log_axis_cannot_show_is_at_its_lower_end() {
        let points = vec![(1.0, 2.0), (2.0, 0.0), (3.0, f64::NAN)];
        let series = Series { mark: Mark::Points, points, ..Series::default() };
        let figure = Figure {
            panels: vec![panel("", Axis::linear("h"), Axis::log("e"), vec![series])],
            ..Figure::default()
        };
        let points = marks(&figure, 0);
        assert_eq!(points.len(), 2, "{points:?}");
        let layout = Layout::new(&figure);
        let bottom = layout.origin.1 + layout.panel.1;
        let low = points.iter().filter(|point| (point[0].1 - bottom).abs() < 0.06);
        assert_eq!(low.count(), 1, "{points:?}");
    }

    #[test]
    fn a_point_between_gaps_of_a_long_curve_has_a_marker() {
        let points: Vec<(f64, f64)> =
            (0..60).map(|i| (f64::from(i), if i % 2 == 0 { 1.0 } else { 0.0 })).collect();
        let series = vec![curve("", 0, &points)];
        let figure = Figure {
            panels: vec![panel("", Axis::linear("t"), Axis::log("e"), series)],
            ..Figure::default()
        };
        assert_eq!(marks(&figure, 0).len(), 30);
    }

    #[test]
    fn a_single_point_has_a_marker() {
        for style in 0..28 {
            let series = vec![curve("", style, &[(0.3, 1e-5)])];
            let figure = Figure {
                panels: vec![panel("", Axis::linear("t"), Axis::linear("e"), series)],
                ..Figure::default()
            };
            assert_eq!(marks(&figure, style).len(), 1, "{style}");
        }
    }

    #[test]
    fn a_band_down_to_zero_ends_at_the_bottom_of_a_log_axis() {
        let mut series = curve("", 0, &[(0.0, 1.0), (1.0, 2.0)]);
        series.band = vec![Some((0.0, 2.0)), Some((1.0, 4.0))];
        let figure = Figure {
            panels: vec![panel("", Axis::linear("t"), Axis::log("e"), vec![series])],
            ..Figure::default()
        };
        texts(&figure);
        assert!(figure.to_svg().unwrap().contains("fill-opacity=\"0.16\""));
    }

    #[test]
    fn a_field_is_interpolated_and_has_a_colour_bar() {
        let axis = Axis::linear("loss, nats").range(0.0, 3.0);
        let field = Field {
            axis,
            x: (0.0, 1.0),
            y: (0.0, 1.0),
            values: vec![vec![0.0, 1.0], vec![2.0, 3.0]],
        };
        assert_eq!(
            (field.at(0.0, 0.0), field.at(1.0, 1.0), field.at(0.5, 0.5)),
            (Some(0.0), Some(3.0), Some(1.5))
        );
        assert_eq!(Field::default().at(0.5, 0.5), None);
        let panel =
            Panel { field: Some(field), ..panel("", Axis::linear("x"), Axis::linear("y"), vec![]) };
        let figure = Figure { panels: vec![panel], ..Figure::default() };
        assert_eq!(
            (count(&figure, "loss, nats"), count(&figure, "no data"), count(&figure, "3")),
            (1, 0, 1)
        );
    }

    #[test]
    fn a_field_has_contours_where_its_colour_changes_and_labels_in_front() {
        // The value is x, so that the contours are vertical.
        let field = Field {
            axis: Axis::linear("z").range(0.0, 1.0),
            x: (0.0, 1.0),
            y: (0.0, 1.0),
            values: vec![vec![0.0, 0.5, 1.0]; 3],
        };
        for segment in field.contour(0.3) {
            assert!(segment.iter().all(|(u, _)| (u - 0.3).abs() < 1e-12), "{segment:?}");
        }
        // Two triangles in each of the two cells.
        assert_eq!((field.contour(0.3).len(), field.contour(2.0).len()), (4, 0));
        assert!(Field::default().contour(0.5).is_empty());
        let label = |at, text: &str| PointLabel { at, text: text.into() };
        let labels = vec![label((0.1, 0.1), "A"), label((0.9, 0.1), "B"), label((0.1, 0.9), "C")];
        let panel = Panel {
            field: Some(field),
            labels,
            ..panel("", Axis::linear("x"), Axis::linear("y"), vec![])
        };
        let figure = Figure { panels: vec![panel], ..Figure::default() };
        assert_eq!(["A", "B", "C"].map(|text| count(&figure, text)), [1; 3]);
        assert!(!shapes(&figure, "l cp", Some(".7")).is_empty());
    }

    #[test]
    fn a_gap_in_a_field_has_no_colour_and_no_contour() {
        let values = vec![vec![0.0, 1.0], vec![f64::NAN, 1.0]];
        let axis = Axis::linear("z").range(0.0, 1.0);
        let field = Field { axis, x: (0.0, 1.0), y: (0.0, 1.0), values };
        assert_eq!(field.contour(0.5).len(), 1, "one of the two triangles has no gap");
        let panel =
            Panel { field: Some(field), ..panel("", Axis::linear("x"), Axis::linear("y"), vec![]) };
        let figure = Figure { panels: vec![panel], ..Figure::default() };
        assert!(!figure.to_svg().unwrap().contains("NaN"));
    }
}
