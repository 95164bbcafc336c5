//! What identifies a curve between two nets in tables, and what is refused before it is computed.

use super::artifact::{BENDS, NetCard, digests_of_ends, read_bends};
use super::names::PairName;
use super::tables::{
    METRICS, POINTS, REFITS, SHARED_METRICS, SHARED_POINTS, SHARED_REFITS, TableSchema,
};
use crate::engine::stage::{Context, Hinted};
use crate::study::curve::dropout_path::dropout_path;
use crate::study::curve::refit::Targets;
use crate::study::curve::{Center, Controls, CurveKind, CurveSpec, Joined, Method, Path};
use crate::study::net::{Hidden, Net, Prior, Shape};
use anyhow::{Result, anyhow};
use std::fmt;

/// The columns that identify a curve.
pub(super) struct CurveKey {
    pub(super) hidden: Hidden,
    pub(super) prior: Prior,
    /// The first epochs that the two nets share; `None` if they have nothing random in common.
    pub(super) shared_epochs: Option<u32>,
    pub(super) method: Method,
    pub(super) pair: PairName,
}

impl CurveKey {
    /// The key of a curve by `method` between the nets of `pair`, of which one is `net`.
    pub(super) fn of(net: &NetCard, method: Method, pair: PairName) -> CurveKey {
        let NetCard { hidden, prior, shared_epochs, .. } = *net;
        CurveKey { hidden, prior, shared_epochs, method, pair }
    }

    /// The tables of points, metrics and refits.
    pub(super) fn tables(&self) -> [&'static TableSchema; 3] {
        match self.shared_epochs {
            None => [&POINTS, &METRICS, &REFITS],
            Some(_) => [&SHARED_POINTS, &SHARED_METRICS, &SHARED_REFITS],
        }
    }

    /// The cells of the key columns that these tables have in common.
    pub(super) fn cells(&self) -> Vec<&dyn fmt::Display> {
        let CurveKey { hidden, prior, shared_epochs, method, pair } = self;
        let mut cells: Vec<&dyn fmt::Display> = vec![hidden, prior];
        cells.extend(shared_epochs.as_ref().map(|epochs| epochs as &dyn fmt::Display));
        cells.extend([method as &dyn fmt::Display, pair]);
        cells
    }
}

impl fmt::Display for CurveKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let CurveKey { hidden, prior, method, pair, .. } = self;
        write!(f, "hidden={hidden}, prior={prior}, method={method}, pair={pair}")
    }
}

/// The center in a key: the default for a curve that does not use it.
pub(super) fn used_center(curve: CurveSpec, center: Center) -> Center {
    if curve.uses_center() { center } else { Center::default() }
}

/// Refuses bends of another curve than a learned one, and a learned curve without bends.
pub(super) fn check_bends(curve: CurveSpec, filled: &[&str]) -> Result<(), Hinted> {
    match (curve, filled.contains(&"bends")) {
        (CurveSpec::Learned, false) => Err(Hinted::new(
            "`curve: learned` needs `bends`",
            "write `bends: STAGE` with a stage of the kind `learn`",
        )),
        (curve @ (CurveSpec::ClosedForm { .. } | CurveSpec::DropoutPath), true) => {
            Err(Hinted::new(
                format!("`curve: {curve}` has no `bends`"),
                "write `curve: learned`, in a stage of its own",
            ))
        }
        _ => Ok(()),
    }
}

/// The curve from `a` to `b` that a stage is to measure, and its kind. A learned one is read from
/// the slot `bends`.
pub(super) fn join<'n>(
    curve: CurveSpec,
    center: Center,
    [a, b]: [&'n Net; 2],
    cx: &Context,
) -> Result<(CurveKind, Joined<'n>)> {
    match curve {
        CurveSpec::ClosedForm { curve, .. } => {
            let path = Path::new(curve, center, a, b).map_err(|e| anyhow!("{e}"))?;
            Ok((CurveKind::ClosedForm(curve), Joined::ClosedForm(path)))
        }
        CurveSpec::DropoutPath => {
            let controls = dropout_path(a, b).map_err(|cause| {
                Hinted::new(
                    cause,
                    "restrict these curves to nets of two neurons or more in each \
                 hidden layer, for example with `where: { keep: [...] }`",
                )
            })?;
            Ok((CurveKind::DropoutPath, Joined::Controls(controls)))
        }
        CurveSpec::Learned => {
            let (bends, card) = read_bends(cx.input("bends")?.path(BENDS)?, a.shape())?;
            if card.ends != digests_of_ends(cx)? {
                let cause = "`bends` were learned between other nets than `a` and `b`";
                let hint = "give this stage the `a` and `b` of the stage that learned them";
                return Err(Hinted::new(cause, hint).into());
            }
            let nets = [vec![a.clone()], bends, vec![b.clone()]].concat();
            let controls = Controls::new(card.curve.basis(), nets).map_err(|e| anyhow!("{e}"))?;
            Ok((CurveKind::Learned(card.curve), Joined::Controls(controls)))
        }
    }
}

/// Refuses targets that only nets of one hidden layer have, before anything is computed.
pub(super) fn check_targets(curve: CurveSpec, targets: Targets, shape: Shape) -> Result<()> {
    let depth = shape.widths.depth();
    if curve.is_refitted() && targets == Targets::Blend && depth > 1 {
        let cause =
            format!("`wa_targets: blend` is for nets of one hidden layer, and these have {depth}");
        return Err(Hinted::new(cause, "write `wa_targets: a`").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bends_are_for_learned_curves_and_needed_there() {
        let check = |curve: &str, filled: &[&str]| {
            check_bends(curve.parse().expect("known"), filled).map_err(|error| error.cause)
        };
        assert_eq!(check("learned", &["a", "b", "data", "bends"]), Ok(()));
        assert_eq!(check("arc+wa", &["a", "b", "data"]), Ok(()));
        let missing = "`curve: learned` needs `bends`";
        assert_eq!(check("learned", &["a", "b"]), Err(missing.to_owned()));
        let superfluous = "`curve: arc+wa` has no `bends`";
        assert_eq!(check("arc+wa", &["bends"]), Err(superfluous.to_owned()));
    }

    #[test]
    fn targets_that_the_nets_do_not_have_are_refused() {
        let spec = |name: &str| name.parse::<CurveSpec>().expect("known");
        let check = |curve: &str, targets, shape| {
            check_targets(spec(curve), targets, shape).map_err(|error| error.to_string())
        };
        let deep = Shape::of(64, &[5, 4], 3, true);
        let refusal = "`wa_targets: blend` is for nets of one hidden layer, and these have 2";
        assert_eq!(check("arc+wa", Targets::Blend, deep), Err(refusal.to_owned()));
        assert_eq!(check("arc+wa", Targets::Blend, Shape::talk(5)), Ok(()));
        assert_eq!(check("arc+wa", Targets::A, deep), Ok(()));
        assert_eq!(check("arc", Targets::Blend, deep), Ok(()), "nothing is refitted");
    }
}
