//! The figures of planes: loss or error on the plane through three nets, with the curves between
//! them. The idea figure of the talk, computed.

use super::captions::join;
use super::drawing::{CaptionedFigure, columns, figure};
use super::messages::{number, prior_phrase};
use crate::engine::stage::Input;
use crate::report::axis::Axis;
use crate::report::figure::{Field, Mark, Panel, PointLabel, Series};
use crate::stage::names::{PairName, natural};
use crate::stage::plane::{CHAIN, Third};
use crate::stage::rows::parsed;
use crate::stage::tables::{PLANE, PLANE_CURVES, PLANE_NETS, numbers};
use crate::study::curve::Method;
use crate::study::data::Split;
use crate::study::net::{Hidden, Prior};
use anyhow::{Context as _, Result, ensure};
use std::str::FromStr;

/// The largest number of planes that a figure shows whole.
const MOST: usize = 4;
/// The style of the nets: ink, a cross.
const NETS_STYLE: usize = 6;

/// What is drawn on a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    Loss,
    Error,
}

impl Surface {
    fn name(self) -> &'static str {
        match self {
            Surface::Loss => "loss",
            Surface::Error => "error",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Surface::Loss => "nats",
            Surface::Error => "%",
        }
    }
}

/// A curve on a plane: a method, or the chain of straight lines through C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CurveName {
    Method(Method),
    Chain,
}

impl CurveName {
    fn title(self) -> String {
        match self {
            CurveName::Method(method) => method.title(),
            CurveName::Chain => "A to C to B, straight".to_owned(),
        }
    }

    fn name(self) -> String {
        match self {
            CurveName::Method(method) => method.name(),
            CurveName::Chain => CHAIN.to_owned(),
        }
    }

    /// Its style in every panel: the dash shows the base curve.
    fn style(self) -> usize {
        match self {
            CurveName::Method(method) => {
                let base = if method.curve.name() == "linear" { 0 } else { 7 };
                // Red-brown to B and pink to the matched B, both far from the field's colours.
                base + if method.is_base() { 1 } else { 3 }
            }
            CurveName::Chain => 3,
        }
    }
}

impl FromStr for CurveName {
    type Err = String;

    fn from_str(name: &str) -> Result<CurveName, String> {
        if name == CHAIN { Ok(CurveName::Chain) } else { name.parse().map(CurveName::Method) }
    }
}

/// A curve between nets of a plane.
struct PlaneCurve {
    name: CurveName,
    /// Its points on the plane, or the points of the plane nearest to them.
    points: Vec<(f64, f64)>,
    /// The largest distance from the plane, in units of |B - A|.
    distance: f64,
    largest_loss: f64,
    largest_error: f64,
}

/// A plane, as the stage `plane` measured it.
pub(super) struct PlaneResult {
    hidden: Hidden,
    prior: Prior,
    pair: PairName,
    third: Third,
    split: Split,
    /// The first and last coordinate of the grid in both directions.
    x: (f64, f64),
    y: (f64, f64),
    /// Rows of the grid, ascending in y.
    losses: Vec<Vec<f64>>,
    errors: Vec<Vec<f64>>,
    /// A, B and the third net.
    nets: Vec<(f64, f64)>,
    curves: Vec<PlaneCurve>,
}

impl PlaneResult {
    /// The files that are read of each plane.
    pub(super) const FILES: &[&str] = &[PLANE.file, PLANE_NETS.file, PLANE_CURVES.file];

    /// The planes of these results of `plane`, by hidden layers, prior and pair.
    pub(super) fn read_all(planes: &[Input]) -> Result<Vec<PlaneResult>> {
        let mut planes: Vec<PlaneResult> = planes.iter().map(Self::read).collect::<Result<_>>()?;
        planes.sort_by(|a, b| {
            let pairs = || natural(&a.pair.to_string(), &b.pair.to_string());
            (a.hidden, a.prior).cmp(&(b.hidden, b.prior)).then_with(pairs)
        });
        Ok(planes)
    }

    fn read(input: &Input) -> Result<PlaneResult> {
        let frame = PLANE.read(input.path(PLANE.file)?)?;
        let first = |column: &str| format!("`{}` has no `{column}`", PLANE.file);
        let (xs, ys) = (numbers(&frame, "x")?, numbers(&frame, "y")?);
        let columns = ys.iter().take_while(|y| Some(*y) == ys.first()).count();
        ensure!(columns > 1 && ys.len().is_multiple_of(columns), "{}", first("grid"));
        let rows = |column: &str| -> Result<Vec<Vec<f64>>> {
            Ok(numbers(&frame, column)?.chunks(columns).map(<[f64]>::to_vec).collect())
        };
        let nets = PLANE_NETS.read(input.path(PLANE_NETS.file)?)?;
        let nets = numbers(&nets, "x")?.into_iter().zip(numbers(&nets, "y")?).collect();
        Ok(PlaneResult {
            hidden: parsed(&frame, "hidden")?.pop().with_context(|| first("hidden"))?,
            prior: parsed(&frame, "prior")?.pop().with_context(|| first("prior"))?,
            pair: parsed(&frame, "pair")?.pop().with_context(|| first("pair"))?,
            third: parsed(&frame, "third")?.pop().with_context(|| first("third"))?,
            split: parsed(&frame, "split")?.pop().with_context(|| first("split"))?,
            x: (xs[0], xs[columns - 1]),
            y: (ys[0], ys[ys.len() - 1]),
            losses: rows("loss")?,
            errors: rows("error")?,
            nets,
            curves: curves(input)?,
        })
    }

    /// `h = 10, without prior, pair 1`.
    fn place(&self) -> String {
        format!("h = {}, {}, pair {}", self.hidden, prior_phrase(self.prior), self.pair)
    }

    /// The panel of this plane, with its pair in the title if the figure has several.
    fn panel(&self, surface: Surface, several_pairs: bool) -> Panel {
        let values = match surface {
            Surface::Loss => &self.losses,
            Surface::Error => &self.errors,
        };
        let facets =
            || vec![("hidden", self.hidden.to_string()), ("prior", self.prior.to_string())];
        let curve = |curve: &PlaneCurve| Series {
            label: curve.name.title(),
            facets: facets().into_iter().chain([("method", curve.name.name())]).collect(),
            style: curve.name.style(),
            mark: Mark::Line,
            points: curve.points.clone(),
            ..Series::default()
        };
        let nets = Series {
            label: "the nets".to_owned(),
            facets: facets(),
            style: NETS_STYLE,
            mark: Mark::Markers,
            points: self.nets.clone(),
            ..Series::default()
        };
        let names = ["A", "B", self.third.title()];
        let label = |(&at, name): (&(f64, f64), &str)| PointLabel { at, text: name.to_owned() };
        Panel {
            title: match several_pairs {
                true => self.place(),
                false => format!("h = {}, {}", self.hidden, prior_phrase(self.prior)),
            },
            x: Axis::linear("along B − A").range(self.x.0, self.x.1).ticks([0.0, 0.5, 1.0]),
            y: Axis::linear(format!("towards {}", self.third.title())).range(self.y.0, self.y.1),
            field: Some(Field {
                axis: Axis::log(format!("{} {}, {}", self.split, surface.name(), surface.unit())),
                x: self.x,
                y: self.y,
                values: values.clone(),
            }),
            series: self.curves.iter().map(curve).chain([nets]).collect(),
            labels: self.nets.iter().zip(names).map(label).collect(),
            ..Panel::default()
        }
    }

    /// How high the straight lines are.
    fn message(&self, surface: Surface) -> String {
        let straight = self.curves.iter().filter(|curve| match curve.name {
            CurveName::Method(method) => method.curve.name() == "linear",
            CurveName::Chain => true,
        });
        let line = |curve: &PlaneCurve| {
            let target = match curve.name {
                CurveName::Method(method) if method.is_base() => "the straight line from A to B",
                CurveName::Method(_) => "the straight line from A to π(B)",
                CurveName::Chain => "the straight lines from A to C to B",
            };
            let (loss, error) = (number(curve.largest_loss), number(curve.largest_error));
            match surface {
                Surface::Loss => format!("{loss} nats (error {error} %) on {target}"),
                Surface::Error => format!("{error} % (loss {loss} nats) on {target}"),
            }
        };
        let lines: Vec<String> = straight.map(line).collect();
        let what = format!("{} {}", self.split, surface.name());
        format!("At {}, the largest {what} is {}.", self.place(), lines.join(", and "))
    }
}

fn curves(input: &Input) -> Result<Vec<PlaneCurve>> {
    let frame = PLANE_CURVES.read(input.path(PLANE_CURVES.file)?)?;
    let names: Vec<CurveName> = parsed(&frame, "curve")?;
    let values = |column: &str| numbers(&frame, column);
    let (xs, ys, distances) = (values("x")?, values("y")?, values("distance")?);
    let (losses, errors) = (values("loss")?, values("error")?);
    let mut curves: Vec<PlaneCurve> = Vec::new();
    for (i, &name) in names.iter().enumerate() {
        if curves.last().is_none_or(|curve| curve.name != name) {
            curves.push(PlaneCurve {
                name,
                points: Vec::new(),
                distance: 0.0,
                largest_loss: 0.0,
                largest_error: 0.0,
            });
        }
        if let Some(curve) = curves.last_mut() {
            curve.points.push((xs[i], ys[i]));
            curve.distance = curve.distance.max(distances[i]);
            curve.largest_loss = curve.largest_loss.max(losses[i]);
            curve.largest_error = curve.largest_error.max(errors[i]);
        }
    }
    Ok(curves)
}

/// The figure of these planes. Of more than [`MOST`], it shows the narrowest and the widest nets.
pub(super) fn figure_of(planes: &[PlaneResult], surface: Surface) -> CaptionedFigure {
    let title = match surface {
        Surface::Loss => "The loss surface around two minima",
        Surface::Error => "The error surface around two minima",
    };
    let shown: Vec<&PlaneResult> = match planes {
        [] => return CaptionedFigure::without_data(title),
        [first, .., last] if planes.len() > MOST => vec![first, last],
        all => all.iter().collect(),
    };
    let left_out = match planes.len() - shown.len() {
        0 => String::new(),
        1 => "One plane in between is left out.".to_owned(),
        count => format!("{count} planes in between are left out."),
    };
    let several_pairs = shown.iter().any(|plane| plane.pair != shown[0].pair);
    let panels = shown.iter().map(|plane| plane.panel(surface, several_pairs));
    let matched = shown.iter().any(|plane| plane.third == Third::Matched);
    let bends = shown.iter().any(|plane| plane.third == Third::Other);
    let away = shown.iter().flat_map(|plane| &plane.curves).map(|curve| curve.distance);
    let away = away.fold(0.0, f64::max);
    let content = format!(
        "{} on the plane through three nets in parameter space, one panel per pair, on a log \
         scale; lines are where the colour changes. The origin is A, and the unit of both axes \
         is the distance from A to B.",
        match surface {
            Surface::Loss => "Mean cross-entropy",
            Surface::Error => "Misclassified images in %",
        }
    );
    let third = [
        (matched, "π(B) is B with its neurons matched to those of A (OT): the same function."),
        (bends, "C is a third net."),
    ];
    let third =
        third.into_iter().filter(|(is_shown, _)| *is_shown).map(|(_, text)| text.to_owned());
    let projected = format!(
        "Straight lines are in the plane. An arc is not: its projection is drawn, and its largest \
         distance from the plane is {}.",
        number(away)
    );
    let sentences = [content].into_iter().chain(third).chain([projected, left_out]);
    CaptionedFigure {
        title: title.to_owned(),
        message: join(shown.iter().map(|plane| plane.message(surface))),
        caption: join(sentences),
        figure: figure(columns(shown.len()), panels.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(hidden: &str, pair: &str, third: Third) -> PlaneResult {
        let curve = |name: &str, largest: f64| PlaneCurve {
            name: name.parse().unwrap(),
            points: vec![(0.0, 0.0), (1.0, 0.0)],
            distance: 0.1,
            largest_loss: largest,
            largest_error: 10.0 * largest,
        };
        let other = if third == Third::Matched { "linear+ot" } else { CHAIN };
        PlaneResult {
            hidden: hidden.parse().unwrap(),
            prior: Prior::None,
            pair: pair.parse().unwrap(),
            third,
            split: Split::Test,
            x: (-0.5, 1.5),
            y: (-0.5, 1.0),
            losses: vec![vec![0.1, 1.0], vec![0.5, 2.0]],
            errors: vec![vec![0.0, 10.0], vec![5.0, 20.0]],
            nets: vec![(0.0, 0.0), (1.0, 0.0), (0.4, 0.8)],
            curves: vec![curve("linear", 2.0), curve("arc", 1.5), curve(other, 0.5)],
        }
    }

    #[test]
    fn the_message_has_the_largest_loss_of_the_straight_lines() {
        let drawn = figure_of(&[plane("10", "1", Third::Matched)], Surface::Loss);
        let expected = "At h = 10, without prior, pair 1, the largest test loss is 2.00 nats \
                        (error 20.0 %) on the straight line from A to B, and 0.500 nats (error \
                        5.00 %) on the straight line from A to π(B).";
        assert_eq!(drawn.message, expected);
        let error = figure_of(&[plane("10", "1", Third::Matched)], Surface::Error).message;
        let expected = "the largest test error is 20.0 % (loss 2.00 nats) on the straight line";
        assert!(error.contains(expected), "{error}");
        let drawn = figure_of(&[plane("10", "1", Third::Other)], Surface::Loss);
        assert!(drawn.message.ends_with("on the straight lines from A to C to B."));
        assert!(drawn.caption.contains("C is a third net.") && !drawn.caption.contains("π(B)"));
    }

    #[test]
    fn many_planes_are_the_narrowest_and_the_widest_and_the_caption_says_so() {
        let widths = ["10", "20", "50", "100", "500"];
        let planes = widths.map(|hidden| plane(hidden, "1", Third::Matched));
        let titles = |planes: &[PlaneResult]| -> Vec<String> {
            let panels = figure_of(planes, Surface::Loss).figure.panels;
            panels.into_iter().map(|panel| panel.title).collect()
        };
        assert_eq!(titles(&planes), ["h = 10, without prior", "h = 500, without prior"]);
        let caption = figure_of(&planes, Surface::Loss).caption;
        assert!(caption.ends_with("3 planes in between are left out."), "{caption}");
        assert_eq!(titles(&planes[..4]).len(), 4);
        let pairs = ["1", "2"].map(|pair| plane("10", pair, Third::Matched));
        assert_eq!(titles(&pairs)[1], "h = 10, without prior, pair 2");
    }

    #[test]
    fn the_figures_are_well_formed_and_name_the_nets() {
        let planes = [plane("10", "1", Third::Matched), plane("50", "1", Third::Other)];
        for (surface, quantity) in
            [(Surface::Loss, "test loss, nats"), (Surface::Error, "test error, %")]
        {
            let drawn = figure_of(&planes, surface);
            let fragment = drawn.figure.to_html("planes").unwrap();
            assert!(roxmltree::Document::parse(&fragment).is_ok());
            let svg = drawn.figure.to_svg().unwrap();
            for text in [">A<", ">B<", ">π(B)<", ">C<", "Linear + OT", quantity] {
                assert!(svg.contains(text), "{text}");
            }
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "an error of 0 has a place");
        }
        let none = figure_of(&[], Surface::Loss);
        assert_eq!((none.message.as_str(), none.figure.panels.len()), ("", 1));
    }
}
