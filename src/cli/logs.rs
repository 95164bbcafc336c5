//! `repro logs`: the output of a node's job.

use super::args::Common;
use super::output::{Output, json};
use super::session::{Session, usage_error};
use crate::engine::key::Key;
use crate::engine::record::history;
use crate::engine::run::executor::log::Follower;
use crate::engine::spec::plan::NodeId;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

/// The shortest and the longest time between two reads of a growing log. The cache may be on a disk
/// that many share.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

pub(super) fn logs(common: &Common, output: &Output, target: &str, follow: bool) -> Result<String> {
    let session = Session::open(common)?;
    let nodes = session.select(&[target.to_owned()])?;
    if follow && nodes.len() > 1 {
        let first = &session.plan.node(nodes[0]).name;
        let message = format!("`{target}` selects {} nodes, expected one", nodes.len());
        return Err(usage_error("--follow", message, format!("for example, `{first}`")).into());
    }
    let keys = keys(&session, &nodes)?;
    if common.json {
        let of = |(id, key): (&NodeId, &Option<Key>)| -> Result<_> {
            let lines =
                key.map(|key| Follower::new(session.store.log(key)).finish()).unwrap_or_default();
            let running = key.is_some_and(|key| {
                session.store.lease_holder(key).is_ok_and(|process| process.is_some())
            });
            let node = &session.plan.node(*id).name;
            Ok(json!({ "node": node, "key": key, "running": running, "lines": lines }))
        };
        let nodes = nodes.iter().zip(&keys).map(of).collect::<Result<Vec<_>>>()?;
        return Ok(json(json!({ "nodes": nodes })));
    }
    for (id, key) in nodes.iter().zip(keys) {
        if nodes.len() > 1 {
            output.print(&format!("==> {} <==\n", session.plan.node(*id).name));
        }
        if let Some(key) = key {
            print_log(&session, output, key, follow)?;
        }
    }
    Ok(String::new())
}

/// Prints the log of `key`. With `follow`, prints new lines until the job ends.
fn print_log(session: &Session, output: &Output, key: Key, follow: bool) -> Result<()> {
    let mut log = Follower::new(session.store.log(key));
    let mut pause = PAUSES.0;
    loop {
        // Checked before reading, so that the last lines of a job that has just ended are read too.
        let running = follow && session.store.lease_holder(key)?.is_some();
        let lines = if running { log.read() } else { log.finish() };
        output.print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        if !running {
            return Ok(());
        }
        pause = if lines.is_empty() { (pause * 3 / 2).min(PAUSES.1) } else { PAUSES.0 };
        std::thread::sleep(pause);
    }
}

/// The keys of the last jobs of nodes: a current key if its job has run, or else the last key in
/// the history.
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
