//! `evaluate`: measures error and loss along a curve between two nets, on each split.

use super::artifact::{BENDS, Csv, IMAGES, NET, NetCard, OrEmpty, read_net};
use super::compare;
use super::curve_key::{CurveKey, check_bends, check_targets, join, used_center};
use super::names::PairName;
use super::quality::Splits;
use super::tables::{METRICS, POINTS, REFITS, TableSchema};
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Hinted, Invocation, Slot, Stage};
use crate::kernel::sparse::Sparse;
use crate::study::bounded::{GridPoints, ImageCount, Rounds};
use crate::study::curve::dropout_path::grid_with_controls;
use crate::study::curve::metrics::{Lengths, Metrics, metrics};
use crate::study::curve::refit::{Fit, RefitSettings, Targets, refit};
use crate::study::curve::repair::{self, repair};
use crate::study::curve::{Center, CurveKind, CurveSpec, Joined, Method, Path, Point, grid};
use crate::study::data::{Labelled, Split};
use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io::Write as _;

pub(super) struct EvaluateStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The curve; with `+wa`, the layer above the one that moves is refitted along it. `learned` is
    /// the curve whose bends are in the slot `bends`.
    curve: CurveSpec,
    /// Points on the curve, both ends included. A refitted curve has `wa_points` instead. A
    /// dropout-stable path has as many more as it takes to include the ends of its segments.
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
    /// Whether the hidden neurons are rescaled at each point (REPAIR), so that the statistics of
    /// their pre-activations are those between the ends; neither for `+wa` nor for `dropout-path`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    repair: bool,
    /// The number of training images for these statistics, taken from the beginning; all if there
    /// are fewer.
    #[serde(default = "repair_images", skip_serializing_if = "is_default_for_repair")]
    repair_images: ImageCount,
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

fn repair_images() -> ImageCount {
    ImageCount::try_from(10_000).expect("a default in bounds")
}

fn is_default_for_repair(images: &ImageCount) -> bool {
    *images == repair_images()
}

impl Stage for EvaluateStage {
    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 2;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        Slot { name: "data", arity: Arity::One, files: IMAGES },
        // For `curve: learned` only.
        Slot { name: "bends", arity: Arity::Optional, files: &[BENDS] },
    ];
    const OUTPUTS: &'static [&'static str] = &[POINTS.file, METRICS.file, REFITS.file];
    const ENDS: Option<[&'static str; 2]> = Some(["a", "b"]);
    type Params = Params;

    fn check(params: &Params) -> Result<(), Hinted> {
        if !params.repair {
            return Ok(());
        }
        let (reason, hint) = match params.curve {
            CurveSpec::ClosedForm { curve, refitted: true } => {
                ("its layers are refitted", format!("write `curve: {}`, or ", curve.name()))
            }
            CurveSpec::DropoutPath => ("half its neurons are switched off", String::new()),
            CurveSpec::ClosedForm { .. } | CurveSpec::Learned => return Ok(()),
        };
        let cause = format!("`curve: {}` has no `repair: true`: {reason}", params.curve);
        Err(Hinted::new(cause, hint + "leave `repair` out"))
    }

    fn explain(params: &Params) -> Vec<String> {
        let mut sentences: Vec<String> = match params.curve {
            CurveSpec::ClosedForm { curve, .. } => vec![curve.definition().to_owned()],
            CurveSpec::DropoutPath => vec![CurveKind::DropoutPath.definition().to_owned()],
            // The bends say of which kind their curve is.
            CurveSpec::Learned => Vec::new(),
        };
        if params.curve.uses_center() {
            sentences.push(format!("The center M is {}.", params.center.definition()));
        }
        if params.curve.is_refitted() {
            let targets = params.wa_targets.definition();
            sentences.push(format!(
                "While a layer moves along the curve, the next one is refitted by least squares: \
                 with one hidden layer to logits, {targets}."
            ));
        }
        if params.repair {
            sentences.push(repair::DEFINITION.to_owned());
        }
        sentences
    }

    fn check_slots(params: &Params, filled: &[&str]) -> Result<(), Hinted> {
        check_bends(params.curve, filled)
    }

    /// Parameters that the curve does not use are not part of the key.
    fn key_params(params: Params, _: &Invocation) -> Params {
        let repair_images = if params.repair { params.repair_images } else { repair_images() };
        let params = Params { repair_images, ..params };
        let center = used_center(params.curve, params.center);
        if params.curve.is_refitted() {
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
        let pair = card_a.pair_with(&card_b)?;
        let (kind, joined) = join(params.curve, params.center, [&a, &b], cx)?;
        let key = params.key(&card_a, &card_b, kind, pair);
        let splits = Splits::read(cx.input("data")?)?;
        check_targets(params.curve, params.wa_targets, a.shape())?;
        splits.check(a.shape())?;
        let correlation = match &joined {
            Joined::ClosedForm(path) => path.correlation(),
            Joined::Controls(_) => {
                Path::straight(&a, &b).map_err(|e| anyhow!("{e}"))?.correlation()
            }
        };
        let along = |measure: &dyn Fn(&Sparse, &[u16]) -> Vec<Point>| {
            splits.measure(params.train_images, |data| measure(&data.images, &data.labels))
        };
        let points = params.points.get();
        let ts = match (params.curve, &joined) {
            (CurveSpec::DropoutPath, Joined::Controls(path)) => grid_with_controls(path, points),
            _ => grid(points),
        };
        let measured = match joined {
            joined if params.repair => {
                let training = splits.training_head(Some(params.repair_images));
                let repaired = repair(joined, &ts, &training.images, cx.threads());
                let repaired = repaired.map_err(|e| anyhow!("{e}"))?;
                log_images(training.images.rows());
                Measured {
                    points: along(&|images, labels| repaired.measure(images, labels, cx.threads())),
                    first_segment: ts.len(),
                    lengths: Lengths::of(repaired.nets()),
                    correlation,
                    fits: Vec::new(),
                }
            }
            Joined::ClosedForm(path) if params.curve.is_refitted() => {
                let training = splits.training_head(params.wa_images);
                let Labelled { images, labels, .. } = &*training;
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
            }
            joined => Measured {
                points: along(&|images, labels| joined.measure(&ts, images, labels, cx.threads())),
                first_segment: ts.len(),
                lengths: Lengths::of(ts.iter().map(|&t| joined.point(t))),
                correlation,
                fits: Vec::new(),
            },
        };
        measured.write(&key, cx)
    }
}

impl Params {
    fn key(&self, a: &NetCard, b: &NetCard, curve: CurveKind, pair: PairName) -> CurveKey {
        let method = Method {
            curve,
            center: self.center,
            alignment: b.aligned,
            repair: self.repair,
            adjustment: self.curve.is_refitted().then_some(self.wa_targets),
        };
        CurveKey::of(a, method, pair)
    }
}

/// Prints how many images the neurons were rescaled by.
fn log_images(images: usize) {
    // The log is for people: a full disk must not fail the stage.
    let _ = writeln!(
        std::io::stderr(),
        "neurons are rescaled by their statistics on {images} training images"
    );
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
        let metrics = metrics(points, self.first_segment, &self.lengths);
        metrics.map_err(|e| anyhow!("`{key}` on `{split}`: {e}"))
    }

    fn write(&self, key: &CurveKey, cx: &Context) -> Result<()> {
        let [points_csv, metrics_csv, refits_csv] = key.tables().map(TableSchema::names);
        let mut points_csv = Csv::new(&points_csv);
        let mut metrics_csv = Csv::new(&metrics_csv);
        let curve = key.cells();
        for (split, points) in &self.points {
            for Point { t, error, loss } in points {
                points_csv.row(&[&curve[..], &[split, t, error, loss]].concat());
            }
            let m = self.metrics(key, *split, points)?;
            let (first, last) = (points[0], points[points.len() - 1]);
            let cells: [&dyn Display; 13] = [
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
            ];
            metrics_csv.row(&[&curve[..], &cells].concat());
        }
        let mut refits_csv = Csv::new(&refits_csv);
        for (images, Fit { s, rank, ridge, residual, residual_kept }) in &self.fits {
            let cells: [&dyn Display; 6] = [s, images, rank, ridge, residual, residual_kept];
            refits_csv.row(&[&curve[..], &cells].concat());
        }
        points_csv.write(&cx.output(POINTS.file))?;
        metrics_csv.write(&cx.output(METRICS.file))?;
        refits_csv.write(&cx.output(REFITS.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::names::End;
    use crate::stage::names::NetName;
    use crate::study::curve::align::Cost;
    use crate::study::net::Prior;

    fn name(json: serde_json::Value, aligned: Option<Cost>) -> String {
        let params = EvaluateStage::key_params(
            serde_json::from_value(json).unwrap(),
            &Invocation::default(),
        );
        let prior = Prior::None;
        let hidden = "5".parse().unwrap();
        let card = |end, aligned| {
            let name = NetName::End { pair: 1, end };
            NetCard { hidden, prior, shared_epochs: None, name, aligned }
        };
        let kind = match params.curve {
            CurveSpec::ClosedForm { curve, .. } => CurveKind::ClosedForm(curve),
            CurveSpec::DropoutPath => CurveKind::DropoutPath,
            CurveSpec::Learned => CurveKind::Learned("chain:3".parse().unwrap()),
        };
        let key =
            params.key(&card(End::A, None), &card(End::B, aligned), kind, "1".parse().unwrap());
        key.method.name()
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
            shared_epochs: None,
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
    fn a_repair_is_in_the_key_only_where_it_acts() {
        let key = |json| {
            let params = serde_json::from_value(json).expect("parameters");
            EvaluateStage::key_params(params, &Invocation::default())
        };
        let plain = serde_json::to_value(key(serde_json::json!({"curve": "linear"})));
        let plain = plain.expect("a map");
        assert!(plain.get("repair").is_none() && plain.get("repair_images").is_none());
        let unused = key(serde_json::json!({"curve": "linear", "repair_images": 50}));
        assert_eq!(serde_json::to_value(unused).expect("a map"), plain);
        let used = key(serde_json::json!({
            "curve": "linear", "repair": true, "repair_images": 50
        }));
        let used = serde_json::to_value(used).expect("a map");
        assert_eq!((&used["repair"], &used["repair_images"]), (&true.into(), &50.into()));
    }

    #[test]
    fn a_repair_of_a_refitted_curve_or_a_dropout_path_is_refused() {
        let refusal = |curve: &str| {
            let json = serde_json::json!({"curve": curve, "repair": true});
            let params = serde_json::from_value(json).expect("parameters");
            EvaluateStage::check(&params).map_err(|Hinted { cause, hint }| [cause, hint])
        };
        assert_eq!([refusal("arc"), refusal("learned")], [Ok(()), Ok(())]);
        assert_eq!(
            refusal("arc+wa").expect_err("refused"),
            [
                "`curve: arc+wa` has no `repair: true`: its layers are refitted",
                "write `curve: arc`, or leave `repair` out"
            ]
        );
        assert_eq!(
            refusal("dropout-path").expect_err("refused"),
            [
                "`curve: dropout-path` has no `repair: true`: half its neurons are switched off",
                "leave `repair` out"
            ]
        );
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
            serde_json::json!({"curve": "linear", "repair": true}),
            Some(Cost::Neurons),
            "linear+ot+repair",
        );
        case(serde_json::json!({"curve": "learned", "center": "zero"}), None, "chain:3");
        case(serde_json::json!({"curve": "dropout-path", "center": "zero"}), None, "dropout-path");
        case(serde_json::json!({"curve": "learned"}), Some(Cost::Neurons), "chain:3+ot");
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
