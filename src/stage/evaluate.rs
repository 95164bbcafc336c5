//! `evaluate`: measures error and loss along a curve between two nets, on each split.

use super::artifact::{Csv, IMAGES, NET, NetCard, OrEmpty, read_net};
use super::compare;
use super::names::PairName;
use super::quality::Splits;
use super::tables::{METRICS, POINTS, REFITS};
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Hinted, Invocation, Slot, Stage};
use crate::kernel::sparse::Sparse;
use crate::study::bounded::{GridPoints, ImageCount, Rounds};
use crate::study::curve::metrics::{Lengths, Metrics, metrics};
use crate::study::curve::refit::{Fit, RefitSettings, Targets, refit};
use crate::study::curve::{Center, CurveSpec, Method, Path, Point, grid};
use crate::study::data::{Labelled, Split};
use crate::study::net::{Hidden, Prior, Shape};
use anyhow::{Result, anyhow, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct EvaluateStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The curve; with `+wa`, the layer above the one that moves is refitted along it.
    curve: CurveSpec,
    /// Points on the curve, both ends included. A refitted curve has `wa_points` instead.
    #[serde(default = "points")]
    points: GridPoints,
    /// The center that an arc rotates about.
    #[serde(default)]
    center: Center,
    /// Points per segment of a refitted curve, before refinement.
    #[serde(default = "wa_points")]
    wa_points: GridPoints,
    /// Rounds of refinement. Each halves the intervals on both sides of the largest training error.
    ///
    /// A round costs two refits and never affects the last, straight segment. With 21 points, the
    /// default adds at most 4 refits to 20, for points 4 times as dense at the peak of a narrow
    /// net.
    #[serde(default = "wa_refine")]
    wa_refine: Rounds,
    /// The outputs that a layer is refitted to; `blend` is for one hidden layer.
    #[serde(default)]
    wa_targets: Targets,
    /// The number of training images for the refit, taken from the beginning; all by default.
    #[serde(default)]
    wa_images: Option<ImageCount>,
    /// The number of training images on which the curve is measured, taken from the beginning; all
    /// by default. The other splits are always measured whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    train_images: Option<ImageCount>,
}

fn points() -> GridPoints {
    GridPoints::try_from(61).expect("a default in bounds")
}

fn wa_points() -> GridPoints {
    GridPoints::try_from(21).expect("a default in bounds")
}

fn wa_refine() -> Rounds {
    Rounds::try_from(2).expect("a default in bounds")
}

impl Stage for EvaluateStage {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 2;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        Slot { name: "data", arity: Arity::One, files: IMAGES },
    ];
    const OUTPUTS: &'static [&'static str] = &[POINTS.file, METRICS.file, REFITS.file];
    const ENDS: Option<[&'static str; 2]> = Some(["a", "b"]);
    type Params = Params;

    /// Parameters that the curve does not use are not part of the key.
    fn key_params(params: Params, _: &Invocation) -> Params {
        let center =
            if params.curve.curve.uses_center() { params.center } else { Center::default() };
        if params.curve.refitted {
            return Params { points: points(), center, ..params };
        }
        let (wa_points, wa_refine, wa_targets) = (wa_points(), wa_refine(), Targets::default());
        Params { wa_points, wa_refine, wa_targets, wa_images: None, center, ..params }
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        compare::changes(file, before, after, known)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let (a, card_a) = read_net(cx.input("a")?.path(NET)?)?;
        let (b, card_b) = read_net(cx.input("b")?.path(NET)?)?;
        let key = CurveKey::of(&card_a, &card_b, &params)?;
        let data = cx.input("data")?;
        let splits = Splits::read(data)?;
        let path =
            Path::new(params.curve.curve, params.center, &a, &b).map_err(|e| anyhow!("{e}"))?;
        check_targets(&params, a.shape())?;
        splits.each().into_iter().try_for_each(|(split, x)| check_images(split, x, a.shape()))?;
        let correlation = path.correlation();
        let head =
            |count: Option<ImageCount>| count.map(|n| splits.training.head(n.get() as usize));
        let measured_train = head(params.train_images);
        let along = |measure: &dyn Fn(&Sparse, &[u16]) -> Vec<Point>| -> Vec<(Split, Vec<Point>)> {
            let measured = splits.each().map(|(split, data)| match &measured_train {
                Some(head) if split == Split::Train => (split, head),
                _ => (split, data),
            });
            let present = measured.into_iter().filter(|(_, data)| !data.is_empty());
            present.map(|(split, data)| (split, measure(&data.images, &data.labels))).collect()
        };
        let measured = if params.curve.refitted {
            let refit_train = head(params.wa_images);
            let Labelled { images, labels, .. } = refit_train.as_ref().unwrap_or(&splits.training);
            let settings = RefitSettings {
                targets: params.wa_targets,
                points: params.wa_points.get(),
                refine: params.wa_refine.get(),
            };
            let refitted = refit(path, settings, images, labels, cx.threads());
            let refitted = refitted.map_err(|e| anyhow!("{e}"))?;
            Measured {
                points: along(&|images, labels| refitted.measure(images, labels, cx.threads())),
                first_segment: refitted.first_segment(),
                lengths: Lengths::of(refitted.nets()),
                correlation,
                fits: refitted.fits().map(|fit| (images.rows(), fit)).collect(),
            }
        } else {
            let ts = grid(params.points.get());
            Measured {
                points: along(&|images, labels| path.measure(&ts, images, labels, cx.threads())),
                first_segment: ts.len(),
                lengths: Lengths::of(ts.iter().map(|&t| path.point(t))),
                correlation,
                fits: Vec::new(),
            }
        };
        measured.write(&key, cx)
    }
}

/// Refuses targets that only nets of one hidden layer have, before anything is computed.
fn check_targets(params: &Params, shape: Shape) -> Result<()> {
    let depth = shape.widths.depth();
    if params.curve.refitted && params.wa_targets == Targets::Blend && depth > 1 {
        let cause =
            format!("`wa_targets: blend` is for nets of one hidden layer, and these have {depth}");
        return Err(Hinted::new(cause, "write `wa_targets: a`").into());
    }
    Ok(())
}

/// Refuses images of another size than the nets' inputs, and labels that are none of their classes.
pub(super) fn check_images(split: Split, data: &Labelled, shape: Shape) -> Result<()> {
    let inputs = data.images.columns();
    if !data.is_empty() && inputs != shape.inputs {
        bail!("`{split}`: images of {inputs} numbers do not fit nets of shape `{shape}`");
    }
    match data.labels.iter().max() {
        Some(&label) if usize::from(label) >= shape.classes => {
            bail!("`{split}`: the label {label} is not a class of nets of shape `{shape}`")
        }
        _ => Ok(()),
    }
}

/// The columns that identify a curve.
struct CurveKey {
    hidden: Hidden,
    prior: Prior,
    method: Method,
    pair: PairName,
}

impl CurveKey {
    fn of(a: &NetCard, b: &NetCard, params: &Params) -> Result<CurveKey> {
        let pair = pair(a, b)?;
        let method = Method {
            curve: params.curve.curve,
            center: params.center,
            alignment: b.aligned,
            adjustment: params.curve.refitted.then_some(params.wa_targets),
        };
        Ok(CurveKey { hidden: a.hidden, prior: a.prior, method, pair })
    }
}

/// The name of the pair of two nets of the same hidden layers and prior.
pub(super) fn pair(a: &NetCard, b: &NetCard) -> Result<PairName> {
    if (a.hidden, a.prior) != (b.hidden, b.prior) {
        let name = |card: &NetCard| format!("`hidden={}, prior={}`", card.hidden, card.prior);
        let cause = format!("a net of {} cannot be joined to one of {}", name(a), name(b));
        let hint = "join nets that differ in nothing but their name, for example with `where: \
                    { keep: [...] }`, or in stages of their own";
        return Err(Hinted::new(cause, hint).into());
    }
    PairName::of(&a.name, &b.name).map_err(|cause| {
        let hint = "give the ends different nets: `a: { stage: nets, rename: { net: a } }`, the \
                    same for `b`, and `where: a < b`";
        Hinted::new(cause, hint).into()
    })
}

struct Measured {
    points: Vec<(Split, Vec<Point>)>,
    first_segment: usize,
    lengths: Lengths,
    correlation: f64,
    fits: Vec<(usize, Fit)>,
}

impl Measured {
    fn metrics(&self, key: &CurveKey, split: Split, points: &[Point]) -> Result<Metrics> {
        let CurveKey { hidden, prior, method, pair } = key;
        metrics(points, self.first_segment, &self.lengths).map_err(|e| {
            anyhow!(
                "`hidden={hidden}, prior={prior}, method={method}, pair={pair}` on `{split}`: {e}"
            )
        })
    }

    fn write(&self, key: &CurveKey, cx: &Context) -> Result<()> {
        let CurveKey { hidden, prior, method, pair } = key;
        let mut points_csv = Csv::new(&POINTS.names());
        let mut metrics_csv = Csv::new(&METRICS.names());
        for (split, points) in &self.points {
            for Point { t, error, loss } in points {
                points_csv.row(&[hidden, prior, method, pair, split, t, error, loss]);
            }
            let m = self.metrics(key, *split, points)?;
            let (first, last) = (points[0], points[points.len() - 1]);
            metrics_csv.row(&[
                hidden,
                prior,
                method,
                pair,
                split,
                &m.max_error,
                &m.t_at_max,
                &m.excess_error,
                &m.mean_error,
                &m.mean_error_by_length,
                &m.mean_error_first_segment,
                &OrEmpty(m.length_over_chord),
                &self.correlation,
                &m.barrier_loss,
                &m.barrier_error,
                &first.error,
                &last.error,
            ]);
        }
        let mut refits_csv = Csv::new(&REFITS.names());
        for (images, Fit { s, rank, ridge, residual, residual_kept }) in &self.fits {
            refits_csv.row(&[
                hidden,
                prior,
                method,
                pair,
                s,
                images,
                rank,
                ridge,
                residual,
                residual_kept,
            ]);
        }
        points_csv.write(&cx.output(POINTS.file))?;
        metrics_csv.write(&cx.output(METRICS.file))?;
        refits_csv.write(&cx.output(REFITS.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::artifact::End;
    use crate::stage::names::NetName;
    use crate::study::curve::align::Cost;

    fn name(json: serde_json::Value, aligned: Option<Cost>) -> String {
        let params = EvaluateStage::key_params(
            serde_json::from_value(json).unwrap(),
            &Invocation::default(),
        );
        let prior = Prior::None;
        let hidden = "5".parse().unwrap();
        let card =
            |end, aligned| NetCard { hidden, prior, name: NetName::End { pair: 1, end }, aligned };
        let key = CurveKey::of(&card(End::A, None), &card(End::B, aligned), &params);
        key.unwrap().method.name()
    }

    #[test]
    fn a_loss_that_is_not_finite_is_an_error_with_curve_and_t() {
        let measured = Measured {
            points: Vec::new(),
            first_segment: 2,
            lengths: Lengths { cumulative: vec![0.0, 1.0], chord: 1.0 },
            correlation: 0.0,
            fits: Vec::new(),
        };
        let method = "arc+ot".parse().expect("a method");
        let key = CurveKey {
            hidden: "5".parse().unwrap(),
            prior: Prior::None,
            method,
            pair: "2".parse().unwrap(),
        };
        let point = |t, loss| Point { t, error: 2.0, loss };
        let points = [point(0.0, 0.1), point(1.0, f64::NAN)];
        let error = measured.metrics(&key, Split::Test, &points).unwrap_err().to_string();
        assert_eq!(
            error,
            "`hidden=5, prior=none, method=arc+ot, pair=2` on `test`: the loss at t = 1 is `NaN`, \
             not a finite number"
        );
    }

    #[test]
    fn images_and_targets_that_do_not_fit_the_nets_are_refused() {
        let data = |inputs: usize, labels: Vec<u16>| Labelled {
            images: Sparse::from_pixels(&vec![1; inputs * labels.len()], inputs),
            labels,
            classes: 10,
        };
        let shape = Shape::of(64, &[5, 4], 3, true);
        let refusal = |data: Labelled| {
            check_images(Split::Test, &data, shape).expect_err("refused").to_string()
        };
        assert!(check_images(Split::Test, &data(64, vec![0, 2]), shape).is_ok());
        assert!(check_images(Split::Test, &data(784, vec![]), shape).is_ok(), "an empty split");
        let shape_text = "nets of shape `64-5x4-3 with biases`";
        assert_eq!(
            refusal(data(784, vec![0])),
            format!("`test`: images of 784 numbers do not fit {shape_text}")
        );
        assert_eq!(
            refusal(data(64, vec![0, 3])),
            format!("`test`: the label 3 is not a class of {shape_text}")
        );
        let params = |json| serde_json::from_value::<Params>(json).unwrap();
        let blend = params(serde_json::json!({"curve": "arc+wa", "wa_targets": "blend"}));
        let error = check_targets(&blend, shape).expect_err("refused").to_string();
        assert_eq!(error, "`wa_targets: blend` is for nets of one hidden layer, and these have 2");
        assert!(check_targets(&blend, Shape::talk(5)).is_ok());
        assert!(check_targets(&params(serde_json::json!({"curve": "arc+wa"})), shape).is_ok());
    }

    #[test]
    fn the_name_of_a_method_has_every_choice_that_is_not_the_default() {
        let case = |json, aligned, expected: &str| assert_eq!(name(json, aligned), expected);
        case(serde_json::json!({"curve": "linear"}), None, "linear");
        case(serde_json::json!({"curve": "arc"}), Some(Cost::Neurons), "arc+ot");
        case(serde_json::json!({"curve": "arc", "center": "zero"}), None, "arc:zero");
        case(serde_json::json!({"curve": "rho-arc", "center": "zero"}), None, "rho-arc:zero");
        case(serde_json::json!({"curve": "rho-arc"}), Some(Cost::Neurons), "rho-arc+ot");
        case(serde_json::json!({"curve": "linear", "center": "zero"}), None, "linear");
        case(
            serde_json::json!({"curve": "linear+wa", "wa_targets": "blend"}),
            None,
            "linear+wa:blend",
        );
        case(
            serde_json::json!({"curve": "arc+wa", "center": "outputs"}),
            Some(Cost::Incoming),
            "arc:outputs+ot:incoming+wa",
        );
    }
}
