//! `plane`: error and loss on the plane through three nets in parameter space.
//!
//! A is the origin, B is (1, 0), and the third net fixes the direction of the second axis. With B
//! after `align` as the third net, an isolated and a connected pair of minima are side by side:
//!
//! ```yaml
//! planes:
//!   plane:
//!     a: nets@end=a
//!     b: nets@end=b
//!     c: matched          # the stage `align`, or any other net of the same shape
//!     data: data
//! figures:
//!   plot: { data: data, tables: tables, planes: planes, figure: planes }
//! ```

use super::artifact::{Csv, IMAGES, NET, NetCard, read_labelled, read_net};
use super::compare;
use super::names::PairName;
use super::quality::check_images;
use super::tables::{PLANE, PLANE_CURVES, PLANE_NETS};
use crate::engine::stage::{Arity, Context, Hinted, Slot, Stage};
use crate::study::bounded::{ImageCount, Margin, PlanePoints};
use crate::study::curve::{
    CURVES, Center, Curve, CurveKind, Method, Path, Plane, Point, Projection, grid,
};
use crate::study::data::Split;
use crate::study::net::{Hidden, Net, Prior, Quality};
use anyhow::{Result, anyhow, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub(super) struct PlaneStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Points of the grid in each direction.
    #[serde(default = "points")]
    points: PlanePoints,
    /// The margin around the nets and the curves, as a share of their extent in each direction.
    #[serde(default = "margin")]
    margin: Margin,
    /// The split on which the plane is measured.
    #[serde(default = "split")]
    split: Split,
    /// The number of images of the split, taken from the beginning; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images: Option<ImageCount>,
}

fn points() -> PlanePoints {
    PlanePoints::try_from(31).expect("a default in bounds")
}

fn margin() -> Margin {
    Margin::try_from(0.25).expect("a default in bounds")
}

fn split() -> Split {
    Split::Test
}

/// Points on each curve, as by default in `evaluate`.
const CURVE_POINTS: u32 = 61;

/// The third net of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Third {
    /// B, its neurons matched to those of A.
    Matched,
    /// Any other net.
    Other,
}

impl fmt::Display for Third {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Third::Matched => "pi(B)",
            Third::Other => "C",
        })
    }
}

impl Third {
    /// The name in figures.
    pub(super) fn title(self) -> &'static str {
        match self {
            Third::Matched => "π(B)",
            Third::Other => "C",
        }
    }
}

impl FromStr for Third {
    type Err = String;

    fn from_str(name: &str) -> Result<Third, String> {
        let found = [Third::Matched, Third::Other].into_iter().find(|t| t.to_string() == name);
        found.ok_or_else(|| format!("`{name}` is not a third net of a plane"))
    }
}

impl Stage for PlaneStage {
    const NAME: &'static str = "plane";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        Slot { name: "c", arity: Arity::One, files: &[NET] },
        Slot { name: "data", arity: Arity::One, files: IMAGES },
    ];
    const OUTPUTS: &'static [&'static str] = &[PLANE.file, PLANE_NETS.file, PLANE_CURVES.file];
    const ENDS: Option<[&'static str; 2]> = Some(["a", "b"]);
    type Params = Params;

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let (a, card_a) = read_net(cx.input("a")?.path(NET)?)?;
        let (b, card_b) = read_net(cx.input("b")?.path(NET)?)?;
        let (c, card_c) = read_net(cx.input("c")?.path(NET)?)?;
        let plane = Plane::new(&a, &b, &c).map_err(|cause| {
            Hinted::new(cause, "for `c`, choose a net that differs from both ends")
        })?;
        let key = PlaneKey {
            hidden: card_a.hidden,
            prior: card_a.prior,
            pair: card_a.pair_with(&card_b)?,
            third: third(&card_b, &card_c),
            split: params.split,
        };
        let data = read_labelled(cx.input("data")?, params.split)?;
        let data = match params.images {
            Some(count) => data.head(count.get() as usize),
            None => data,
        };
        if data.is_empty() {
            bail!("the split `{}` has no images", params.split);
        }
        check_images(params.split, &data, a.shape())?;
        let curves = curves([(&a, &card_a), (&b, &card_b), (&c, &card_c)], key.third);
        let mut drawn = Vec::new();
        for DrawnCurve { name, legs } in &curves {
            let count = legs.len();
            for (i, (kind, from, to)) in legs.iter().enumerate() {
                let path =
                    Path::new(*kind, Center::default(), from, to).map_err(|e| anyhow!("{e}"))?;
                let mut ts = grid(1 + (CURVE_POINTS - 1) / count as u32);
                // A leg begins where the last one ends.
                ts.drain(..usize::from(i > 0));
                let measured = path.measure(&ts, &data.images, &data.labels, cx.threads());
                for point in measured {
                    let place = plane.project(&path.point(point.t)).map_err(|e| anyhow!("{e}"))?;
                    let t = (i as f64 + point.t) / count as f64;
                    drawn.push((name.as_str(), Point { t, ..point }, place));
                }
            }
        }
        let axes = axes(&plane, &drawn, &params);
        let [xs, ys] = &axes;
        let measured = plane.measure([xs, ys], &data.images, &data.labels, cx.threads());
        key.write(&plane, &axes, &measured, &drawn, cx)
    }
}

/// Whether the third net is B after `align`.
fn third(b: &NetCard, c: &NetCard) -> Third {
    match c.aligned {
        Some(_) if *b == NetCard { aligned: None, ..c.clone() } => Third::Matched,
        _ => Third::Other,
    }
}

/// A curve between nets of the plane: a closed-form curve, or two after each other.
struct DrawnCurve<'a> {
    /// The name of its method, or [`CHAIN`].
    name: String,
    legs: Vec<(&'static dyn Curve, &'a Net, &'a Net)>,
}

/// The name of the straight lines from A to C and from there to B.
pub(super) const CHAIN: &str = "chain";

/// The curves to draw: the line and the arc from A to B, and either the same to B after matching,
/// or the chain through C.
fn curves<'a>(
    [(a, _), (b, card_b), (c, card_c)]: [(&'a Net, &NetCard); 3],
    third: Third,
) -> Vec<DrawnCurve<'a>> {
    let linear = CURVES[0];
    let to = |end: &'a Net, card: &NetCard, curve: &'static dyn Curve| {
        let (center, alignment) = (Center::default(), card.aligned);
        let method = Method {
            curve: CurveKind::ClosedForm(curve),
            center,
            alignment,
            repair: false,
            adjustment: None,
        };
        DrawnCurve { name: method.name(), legs: vec![(curve, a, end)] }
    };
    let each = |end, card| CURVES[..2].iter().map(move |&curve| to(end, card, curve));
    let mut curves: Vec<DrawnCurve> = each(b, card_b).collect();
    match third {
        Third::Matched => curves.extend(each(c, card_c)),
        Third::Other => {
            let legs = vec![(linear, a, c), (linear, c, b)];
            curves.push(DrawnCurve { name: CHAIN.to_owned(), legs });
        }
    }
    curves
}

/// The coordinates of the grid: around the nets and the curves, with a margin.
fn axes(plane: &Plane, drawn: &[(&str, Point, Projection)], params: &Params) -> [Vec<f64>; 2] {
    let third = plane.third();
    let axis = |first: [f64; 3], others: &mut dyn Iterator<Item = f64>| -> Vec<f64> {
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let all = first.into_iter().chain(others);
        let (low, high) = all.fold(none, |(low, high), x| (low.min(x), high.max(x)));
        let margin = params.margin.get() * (high - low);
        let (low, high) = (low - margin, high + margin);
        grid(params.points.get()).into_iter().map(|t| low + t * (high - low)).collect()
    };
    [
        axis([0.0, 1.0, third.0], &mut drawn.iter().map(|(.., place)| place.x)),
        axis([0.0, 0.0, third.1], &mut drawn.iter().map(|(.., place)| place.y)),
    ]
}

/// The columns that identify a plane.
struct PlaneKey {
    hidden: Hidden,
    prior: Prior,
    pair: PairName,
    third: Third,
    split: Split,
}

impl PlaneKey {
    fn write(
        &self,
        plane: &Plane,
        [xs, ys]: &[Vec<f64>; 2],
        measured: &[Quality],
        drawn: &[(&str, Point, Projection)],
        cx: &Context,
    ) -> Result<()> {
        let PlaneKey { hidden, prior, pair, third, split } = self;
        let mut grid_csv = Csv::new(&PLANE.names());
        let places = ys.iter().flat_map(|y| xs.iter().map(move |x| (x, y)));
        for ((x, y), Quality { error, loss }) in places.zip(measured) {
            if !loss.is_finite() {
                bail!(
                    "`hidden={hidden}, prior={prior}, pair={pair}` on `{split}`: the loss at x = \
                     {x}, y = {y} is `{loss}`, not a finite number"
                );
            }
            grid_csv.row(&[hidden, prior, pair, third, split, x, y, error, loss]);
        }
        let mut nets_csv = Csv::new(&PLANE_NETS.names());
        let third_name = third.to_string();
        let (x, y) = plane.third();
        for (name, x, y) in [("A", 0.0, 0.0), ("B", 1.0, 0.0), (third_name.as_str(), x, y)] {
            nets_csv.row(&[hidden, prior, pair, &name, &x, &y, &plane.unit()]);
        }
        let mut curves_csv = Csv::new(&PLANE_CURVES.names());
        for (name, Point { t, error, loss }, Projection { x, y, distance }) in drawn {
            curves_csv.row(&[hidden, prior, pair, name, split, t, x, y, distance, error, loss]);
        }
        grid_csv.write(&cx.output(PLANE.file))?;
        nets_csv.write(&cx.output(PLANE_NETS.file))?;
        curves_csv.write(&cx.output(PLANE_CURVES.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::names::End;
    use crate::stage::names::NetName;
    use crate::study::curve::align::Cost;
    use crate::study::net::Shape;

    fn card(end: End, aligned: Option<Cost>) -> NetCard {
        let name = NetName::End { pair: 1, end };
        NetCard {
            hidden: "5".parse().unwrap(),
            prior: Prior::None,
            shared_epochs: None,
            name,
            aligned,
        }
    }

    fn names(c: &NetCard) -> Vec<String> {
        let net = Net::zeros(Shape::talk(2));
        let (a, b) = (card(End::A, None), card(End::B, None));
        let curves = curves([(&net, &a), (&net, &b), (&net, c)], third(&b, c));
        curves.into_iter().map(|curve| curve.name).collect()
    }

    #[test]
    fn the_curves_lead_to_b_and_to_the_matched_b_or_through_another_net() {
        let matched = names(&card(End::B, Some(Cost::Incoming)));
        assert_eq!(matched, ["linear", "arc", "linear+ot:incoming", "arc+ot:incoming"]);
        assert_eq!(names(&card(End::A, Some(Cost::Neurons))), ["linear", "arc", "chain"]);
        let other = |prior| NetCard { prior, ..card(End::B, Some(Cost::Incoming)) };
        let dropout = Prior::Dropout(0.5.try_into().unwrap());
        for other in [card(End::B, None), other(dropout)] {
            assert_eq!(names(&other), ["linear", "arc", "chain"]);
        }
    }

    #[test]
    fn the_grid_has_a_margin_around_nets_and_curves() {
        let [mut a, mut b, mut c] = [(); 3].map(|()| Net::zeros(Shape::talk(2)));
        a.params_mut()[0] = 1.0;
        b.params_mut()[0] = 3.0;
        c.params_mut()[..2].copy_from_slice(&[2.0, 4.0]);
        let plane = Plane::new(&a, &b, &c).unwrap();
        let beside = Projection { x: 0.5, y: -1.0, distance: 0.3 };
        let drawn = [("arc", Point { t: 0.5, error: 1.0, loss: 1.0 }, beside)];
        let params: Params = serde_json::from_str(r#"{"points": 3, "margin": 0.5}"#).unwrap();
        let [xs, ys] = axes(&plane, &drawn, &params);
        assert_eq!((xs, ys), (vec![-0.5, 0.5, 1.5], vec![-2.5, 0.5, 3.5]));
    }
}
