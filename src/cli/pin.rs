//! `repro pin` and `repro unpin`: protect results from `gc`.

use super::args::Common;
use super::output::json;
use super::session::Session;
use crate::engine::error::Error;
use crate::engine::key::Key;
use crate::engine::run::status::{Checked, Status};
use crate::engine::spec::plan::NodeId;
use crate::engine::text::count;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeSet;

/// A pin, and the name that its node had when it was pinned.
type Pin = (Key, String);

pub(super) fn pin(common: &Common, targets: &[String]) -> Result<String> {
    let session = Session::open(common)?;
    let pins = cached(&session, targets)?;
    session.store.prepare()?;
    let _lock = session.store.lock_shared(true)?;
    for (key, node) in &pins {
        session.store.pin(*key, node)?;
    }
    Ok(describe(common, "pinned", &pins, format!("{} pinned\n", count(pins.len()))))
}

pub(super) fn list(common: &Common) -> Result<String> {
    let mut pins = common.store().pins()?;
    pins.sort_by(|(a, before), (b, after)| (before, a).cmp(&(after, b)));
    let width = pins.iter().map(|(_, node)| node.len()).max().unwrap_or_default();
    let lines: String =
        pins.iter().map(|(key, node)| format!("{node:<width$}  {}\n", key.short())).collect();
    let text = if pins.is_empty() { "no pinned nodes\n".to_owned() } else { lines };
    Ok(describe(common, "pinned", &pins, text))
}

/// Removes pins by the names of nodes: the node of a pin may have another key now, or no longer be
/// in the pipeline.
pub(super) fn unpin(common: &Common, targets: &[String]) -> Result<String> {
    let session = Session::open(common)?;
    let pins = session.store.pins()?;
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for target in targets {
        match session.plan.select(target) {
            Ok(nodes) => {
                names.extend(nodes.into_iter().map(|id| session.plan.node(id).name.as_str()))
            }
            Err(_) if pins.iter().any(|(_, node)| node == target) => {}
            Err(diagnostic) => return Err(Error::from(diagnostic).into()),
        }
        names.insert(target);
    }
    session.store.prepare()?;
    let _lock = session.store.lock_shared(true)?;
    let removed: Vec<Pin> =
        pins.into_iter().filter(|(_, node)| names.contains(node.as_str())).collect();
    for (key, node) in &removed {
        session.store.unpin(*key, node)?;
    }
    let plural = if removed.len() == 1 { "" } else { "s" };
    let text = format!("{} pin{plural} removed\n", removed.len());
    Ok(describe(common, "unpinned", &removed, text))
}

/// The keys of `targets`. Fails if one is not up to date: only cached results can be kept.
fn cached(session: &Session, targets: &[String]) -> Result<Vec<Pin>> {
    let targets = session.select(targets)?;
    let plan_status = session.plan_status(&targets)?;
    let pin = |id: &NodeId| match plan_status.checked.get(id)? {
        Checked { key, status: Status::Cached(_), .. } => {
            Some((*key, session.plan.node(*id).name.clone()))
        }
        _ => None,
    };
    let found: Vec<Pin> = targets.iter().filter_map(pin).collect();
    let others = targets.len() - found.len();
    if others > 0 {
        return Err(session.not_up_to_date(others).into());
    }
    Ok(found)
}

/// `text`, or the pins as JSON under `field`.
fn describe(common: &Common, field: &str, pins: &[Pin], text: String) -> String {
    if !common.json {
        return text;
    }
    let pins: Vec<_> = pins.iter().map(|(key, node)| json!({ "node": node, "key": key })).collect();
    json(json!({ field: pins }))
}
