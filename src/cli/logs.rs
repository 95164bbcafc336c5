//! `repro logs`: what a node wrote when it last ran, or writes now.

use super::output::print;
use super::{Common, Session};
use crate::engine::error::{Diagnostic, Error};
use crate::engine::key::Key;
use crate::engine::record::history;
use crate::engine::run::event::SCHEMA;
use crate::engine::run::executor::log::Follower;
use crate::engine::spec::plan::NodeId;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

/// How often a log that grows is looked at.
const PAUSE: Duration = Duration::from_millis(100);

/// The logs of the nodes that `target` names; with `follow`, until the job of the only one has ended.
pub(super) fn logs(common: &Common, target: &str, follow: bool) -> Result<String> {
    let session = Session::open(common)?;
    let nodes = session.select(&[target.to_owned()])?;
    if follow && nodes.len() > 1 {
        let first = &session.plan.node(nodes[0]).name;
        return Err(Error::Usage(Diagnostic {
            source: "logs --follow".into(),
            location: None,
            message: format!("`{target}` names {} nodes; only one can be followed", nodes.len()),
            hint: Some(format!("name one of them, as `{first}`")),
        })
        .into());
    }
    let keys = keys(&session, &nodes)?;
    if common.json {
        let of = |(id, key): (&NodeId, &Option<Key>)| -> Result<_> {
            let lines =
                key.map(|key| Follower::new(session.store.log(key)).finish()).unwrap_or_default();
            let running = key.is_some_and(|key| {
                session.store.lease_holder(key).is_ok_and(|process| process.is_some())
            });
            Ok(
                json!({ "node": session.plan.node(*id).name, "key": key, "running": running, "lines": lines }),
            )
        };
        let nodes = nodes.iter().zip(&keys).map(of).collect::<Result<Vec<_>>>()?;
        return Ok(format!("{:#}\n", json!({ "schema": SCHEMA, "nodes": nodes })));
    }
    for (id, key) in nodes.iter().zip(keys) {
        if nodes.len() > 1 {
            print(&format!("==> {} <==\n", session.plan.node(*id).name), false);
        }
        if let Some(key) = key {
            show(&session, key, follow)?;
        }
    }
    Ok(String::new())
}

/// Prints the log of `key`. With `follow`, prints what is appended until the job ends.
fn show(session: &Session, key: Key, follow: bool) -> Result<()> {
    let mut log = Follower::new(session.store.log(key));
    loop {
        // Asked first: what the job wrote last is read after it has ended.
        let running = follow && session.store.lease_holder(key)?.is_some();
        let lines = if running { log.read() } else { log.finish() };
        print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>(), false);
        if !running {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The keys under which nodes ran last: their own if they are known and have run, or those in the history.
fn keys(session: &Session, nodes: &[NodeId]) -> Result<Vec<Option<Key>>> {
    let plan_status = session.plan_status(nodes)?;
    let has_run = |key: &Key| {
        let store = &session.store;
        let is_running = || store.lease_holder(*key).is_ok_and(|process| process.is_some());
        store.log(*key).exists()
            || store.entry(*key).is_ok_and(|entry| entry.is_some())
            || is_running()
    };
    let mut keys: Vec<Option<Key>> = nodes
        .iter()
        .map(|id| plan_status.checked.get(id).map(|checked| checked.key).filter(has_run))
        .collect();
    for run in session.store.runs()?.iter().rev() {
        if keys.iter().all(Option::is_some) {
            break;
        }
        let run = history::read(&session.store, run)?;
        for (id, key) in nodes.iter().zip(&mut keys).filter(|(_, key)| key.is_none()) {
            let name = &session.plan.node(*id).name;
            *key = run
                .nodes
                .iter()
                .find(|node| node.node == *name)
                .and_then(|node| node.key)
                .filter(has_run);
        }
    }
    Ok(keys)
}
