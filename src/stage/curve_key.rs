//! What identifies a curve between two nets in tables, and what is refused before it is computed.

use super::artifact::NetCard;
use super::names::PairName;
use crate::engine::stage::Hinted;
use crate::study::curve::refit::Targets;
use crate::study::curve::{Center, CurveSpec, Method};
use crate::study::net::{Hidden, Prior, Shape};
use anyhow::Result;
use std::fmt;

/// The columns that identify a curve.
pub(super) struct CurveKey {
    pub(super) hidden: Hidden,
    pub(super) prior: Prior,
    pub(super) method: Method,
    pub(super) pair: PairName,
}

impl CurveKey {
    /// The key of `curve` from `a` to `b`; without refit, the `targets` do not matter.
    pub(super) fn of(
        a: &NetCard,
        b: &NetCard,
        curve: CurveSpec,
        center: Center,
        targets: Targets,
    ) -> Result<CurveKey> {
        if (a.hidden, a.prior) != (b.hidden, b.prior) {
            let name = |card: &NetCard| format!("`hidden={}, prior={}`", card.hidden, card.prior);
            let cause = format!("a net of {} cannot be joined to one of {}", name(a), name(b));
            let hint = "join nets that differ in nothing but their name, for example with `where: \
                        { keep: [...] }`, or in stages of their own";
            return Err(Hinted::new(cause, hint).into());
        }
        let pair = PairName::of(&a.name, &b.name).map_err(|cause| {
            let hint = "give the ends different nets: `a: { stage: nets, rename: { net: a } }`, \
                        the same for `b`, and `where: a < b`";
            Hinted::new(cause, hint)
        })?;
        let method = Method {
            curve: curve.curve,
            center,
            alignment: b.aligned,
            adjustment: curve.refitted.then_some(targets),
        };
        Ok(CurveKey { hidden: a.hidden, prior: a.prior, method, pair })
    }
}

impl fmt::Display for CurveKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let CurveKey { hidden, prior, method, pair } = self;
        write!(f, "hidden={hidden}, prior={prior}, method={method}, pair={pair}")
    }
}

/// The center in a key: the default for a curve that does not use it.
pub(super) fn used_center(curve: CurveSpec, center: Center) -> Center {
    if curve.curve.uses_center() { center } else { Center::default() }
}

/// Refuses targets that only nets of one hidden layer have, before anything is computed.
pub(super) fn check_targets(curve: CurveSpec, targets: Targets, shape: Shape) -> Result<()> {
    let depth = shape.widths.depth();
    if curve.refitted && targets == Targets::Blend && depth > 1 {
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
