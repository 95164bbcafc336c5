//! `ensemble`: measures ensembles of the nets along a curve between two nets, of the two nets
//! themselves, and the midpoint of the curve, on each split.

pub(super) mod results;

use super::artifact::{BENDS, Csv, IMAGES, NET, read_net};
use super::compare;
use super::curve_key::{CurveKey, check_bends, check_targets, join, used_center};
use super::quality::Splits;
use super::tables::ENSEMBLES;
use crate::engine::stage::pairing::Moves;
use crate::engine::stage::{Arity, Changes, Context, Hinted, Invocation, Slot, Stage};
use crate::study::bounded::{ImageCount, Members};
use crate::study::curve::ensemble::{CurveNets, EnsembleKind};
use crate::study::curve::refit::Targets;
use crate::study::curve::{Center, CurveSpec, Joined, Method};
use crate::study::data::Split;
use crate::study::net::EnsembleQuality;
use anyhow::{Result, anyhow, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) struct EnsembleStage;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The curve; with `+wa`, the layer above the one that moves is refitted along it.
    curve: CurveSpec,
    /// The number of nets on the curve, equally spaced in t, both ends included.
    #[serde(default = "members")]
    members: Members,
    /// The center that an arc rotates about.
    #[serde(default)]
    center: Center,
    /// The outputs that a layer is refitted to; `blend` is for one hidden layer.
    #[serde(default)]
    wa_targets: Targets,
    /// The number of training images for the refit, taken from the beginning; all by default.
    #[serde(default)]
    wa_images: Option<ImageCount>,
    /// The number of training images on which the ensembles are measured, taken from the beginning;
    /// all by default. The other splits are always measured whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    train_images: Option<ImageCount>,
}

fn members() -> Members {
    Members::try_from(5).expect("a default in bounds")
}

impl Stage for EnsembleStage {
    const NAME: &'static str = "ensemble";
    const VERSION: u32 = 1;
    const SLOTS: &'static [Slot] = &[
        Slot { name: "a", arity: Arity::One, files: &[NET] },
        Slot { name: "b", arity: Arity::One, files: &[NET] },
        Slot { name: "data", arity: Arity::One, files: IMAGES },
        Slot { name: "bends", arity: Arity::Optional, files: &[BENDS] },
    ];
    const OUTPUTS: &'static [&'static str] = &[ENSEMBLES.file];
    const ENDS: Option<[&'static str; 2]> = Some(["a", "b"]);
    type Params = Params;

    fn check_slots(params: &Params, filled: &[&str]) -> Result<(), Hinted> {
        check_bends(params.curve, filled)
    }

    /// Parameters that the curve does not use are not part of the key.
    fn key_params(params: Params, _: &Invocation) -> Params {
        let center = used_center(params.curve, params.center);
        match params.curve.is_refitted() {
            true => Params { center, ..params },
            false => Params { center, wa_targets: Targets::default(), wa_images: None, ..params },
        }
    }

    fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
        compare::difference(file, cached, recomputed)
    }

    fn changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
        compare::changes(file, before, after, known)
    }

    fn run(params: Params, cx: &Context) -> Result<()> {
        let Params { curve, members, center, wa_targets, wa_images, train_images } = params;
        let (a, card_a) = read_net(cx.input("a")?.path(NET)?)?;
        let (b, card_b) = read_net(cx.input("b")?.path(NET)?)?;
        let pair = card_a.pair_with(&card_b)?;
        if card_a.shared_epochs.is_some() {
            let cause = "the nets have a shared start, and ensembles are of independent nets";
            return Err(Hinted::new(cause, "remove `shared_epochs` from the nets").into());
        }
        let (kind, joined) = join(curve, center, [&a, &b], cx)?;
        let splits = Splits::read(cx.input("data")?)?;
        check_targets(curve, wa_targets, a.shape())?;
        splits.check(a.shape())?;
        let (members, threads) = (members.get(), cx.threads());
        let nets = match joined {
            Joined::ClosedForm(path) if curve.is_refitted() => {
                let training = splits.training_head(wa_images);
                let (images, labels) = (&training.images, &training.labels);
                CurveNets::refitted(path, wa_targets, members, images, labels, threads)
                    .map_err(|e| anyhow!("{e}"))?
            }
            joined => CurveNets::along(|t| joined.point(t), members),
        };
        let adjustment = curve.is_refitted().then_some(wa_targets);
        let method =
            Method { curve: kind, center, alignment: card_b.aligned, repair: false, adjustment };
        let key = CurveKey::of(&card_a, method, pair);
        let measured =
            splits.measure(train_images, |data| nets.measure(&data.images, &data.labels, threads));
        table(&key, members, &measured)?.write(&cx.output(ENSEMBLES.file))
    }
}

/// The rows of a pair, by kind and split.
fn table(
    key: &CurveKey,
    members: u32,
    measured: &[(Split, Vec<(EnsembleKind, EnsembleQuality)>)],
) -> Result<Csv> {
    let CurveKey { hidden, prior, method, pair, .. } = key;
    let mut csv = Csv::new(&ENSEMBLES.names());
    for (at, kind) in EnsembleKind::ALL.iter().enumerate() {
        let (nets, trained) = (kind.nets(members), kind.trained());
        for (split, qualities) in measured {
            let EnsembleQuality { error, loss, ece } = qualities[at].1;
            if !loss.is_finite() || !ece.is_finite() {
                bail!("`{key}` on `{split}`: the loss of `{kind}` is not a finite number");
            }
            csv.row(&[
                hidden, prior, method, pair, kind, &nets, split, &trained, &error, &loss, &ece,
            ]);
        }
    }
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_the_curve_does_not_use_are_not_in_the_key() {
        let key = |json| {
            let params: Params = serde_json::from_value(json).unwrap();
            EnsembleStage::key_params(params, &Invocation::default())
        };
        let unused = serde_json::json!({
            "curve": "linear", "center": "zero", "wa_targets": "blend", "wa_images": 9
        });
        assert_eq!(key(unused), key(serde_json::json!({"curve": "linear"})));
        for field in [
            serde_json::json!({"curve": "arc+wa", "center": "zero"}),
            serde_json::json!({"curve": "arc+wa", "wa_targets": "blend"}),
            serde_json::json!({"curve": "arc+wa", "wa_images": 9}),
            serde_json::json!({"curve": "arc+wa", "members": 3}),
            serde_json::json!({"curve": "arc+wa", "train_images": 3}),
        ] {
            assert_ne!(key(field), key(serde_json::json!({"curve": "arc+wa"})));
        }
    }

    #[test]
    fn a_loss_that_is_not_finite_is_an_error_with_curve_split_and_kind() {
        let key = CurveKey {
            hidden: "5".parse().unwrap(),
            prior: "none".parse().unwrap(),
            shared_epochs: None,
            method: "arc+ot".parse().unwrap(),
            pair: "2".parse().unwrap(),
        };
        let quality = |loss| EnsembleQuality { error: 1.0, loss, ece: 1.0 };
        let of = |kind| (kind, quality(if kind == EnsembleKind::Soup { f64::NAN } else { 1.0 }));
        let measured = [(Split::Test, EnsembleKind::ALL.iter().copied().map(of).collect())];
        let error = table(&key, 3, &measured).err().expect("refused").to_string();
        let expected = "`hidden=5, prior=none, method=arc+ot, pair=2` on `test`: the loss of \
                        `soup` is not a finite number";
        assert_eq!(error, expected);
    }
}
