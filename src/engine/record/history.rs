//! The histories of runs, read from the events that each run recorded.
//!
//! Lines that are incomplete or of another version are skipped. This module knows recorded events,
//! but neither the plan nor the results in the cache.

use crate::engine::cache::process::ProcessId;
use crate::engine::cache::store::Store;
use crate::engine::error::Diagnostic;
use crate::engine::key::Key;
use crate::engine::located::suggest;
use crate::engine::provenance::Commit;
use crate::engine::run::event::Ending;
use crate::engine::run::reason::{PastKeys, Reason};
use crate::fs;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A run, as recorded in its history.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    /// The id.
    pub run: String,
    /// Start time in seconds since 1970 UTC, from the id.
    pub began: Option<u64>,
    /// The profile.
    pub profile: Option<String>,
    /// The pipeline file, as in [`Event::Started`](crate::engine::run::event::Event::Started);
    /// `None` for runs of versions that did not record it.
    pub pipeline: Option<String>,
    /// The arguments of `-S`.
    pub overrides: Vec<String>,
    /// The project's commit, if a job could run and it was known.
    pub commit: Option<Commit>,
    /// The targets; none for the whole pipeline.
    pub targets: Vec<String>,
    /// Number of requested nodes.
    pub wanted: usize,
    /// Number of cached nodes.
    pub cached: usize,
    /// Number of nodes that were run.
    pub ran: usize,
    /// Number of failed nodes.
    pub failed: usize,
    /// Duration; `None` if the run has not ended, or was killed.
    pub seconds: Option<f64>,
    /// How the run ended; `None` if it has not ended, or was killed.
    pub outcome: Option<Ending>,
    /// Whether the run has not ended and its process is alive.
    pub running: bool,
    /// The process of the run, if recorded.
    #[serde(skip)]
    pub process: Option<ProcessId>,
    /// The nodes, in the order of their first event.
    pub nodes: Vec<NodeRecord>,
}

/// A node of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeRecord {
    /// The name.
    pub node: String,
    /// The last state.
    pub state: State,
    /// The key.
    pub key: Option<Key>,
    /// The reasons why it ran.
    pub reasons: Vec<Reason>,
    /// Duration of the job, in this run or an earlier one.
    pub seconds: Option<f64>,
    /// Why it failed or was skipped.
    pub cause: Option<String>,
}

/// The state of a [`NodeRecord`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The result was in the cache.
    Cached,
    /// The job has started, and its end is not recorded.
    Began,
    /// The job succeeded.
    Ran,
    /// The job failed.
    Failed,
    /// An upstream node failed.
    Skipped,
}

/// A recorded event, with the fields that are used here.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    Started {
        profile: Option<String>,
        #[serde(default)]
        pipeline: Option<String>,
        overrides: Vec<String>,
        #[serde(default)]
        targets: Vec<String>,
        nodes: usize,
        #[serde(default)]
        process: String,
    },
    Commit(Commit),
    Cached {
        node: String,
        key: Option<Key>,
        saved_seconds: f64,
    },
    #[serde(alias = "queued")]
    Running {
        node: String,
        key: Key,
        reasons: Vec<Reason>,
    },
    Finished {
        node: String,
        key: Key,
        seconds: f64,
    },
    Failed {
        node: String,
        cause: String,
    },
    Skipped {
        node: String,
        because: String,
    },
    Ended {
        seconds: f64,
        outcome: Option<Ending>,
    },
    #[serde(other)]
    Other,
}

impl Run {
    /// Parses the history of run `id`.
    fn parse(id: &str, text: &str) -> Run {
        let began = id.split('-').next().and_then(|seconds| seconds.parse().ok());
        let mut run = Run { run: id.to_owned(), began, ..Run::default() };
        let mut positions = BTreeMap::new();
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            run.apply(line, &mut positions);
        }
        let count = |state| run.nodes.iter().filter(|node| node.state == state).count();
        (run.cached, run.ran, run.failed) =
            (count(State::Cached), count(State::Ran), count(State::Failed));
        run
    }

    fn apply(&mut self, line: Line, positions: &mut BTreeMap<String, usize>) {
        let mut node = |name: &str| {
            let position = positions.get(name).copied().unwrap_or(self.nodes.len());
            if position == self.nodes.len() {
                positions.insert(name.to_owned(), position);
                let (node, key, reasons, seconds, cause) =
                    (name.to_owned(), None, Vec::new(), None, None);
                self.nodes.push(NodeRecord {
                    node,
                    state: State::Began,
                    key,
                    reasons,
                    seconds,
                    cause,
                });
            }
            position
        };
        match line {
            Line::Started { profile, pipeline, overrides, targets, nodes, process } => {
                (self.pipeline, self.targets) = (pipeline, targets);
                (self.profile, self.overrides, self.wanted) = (profile, overrides, nodes);
                self.process = ProcessId::from_tag(&process);
            }
            Line::Commit(commit) => self.commit = Some(commit),
            Line::Cached { node: name, key, saved_seconds } => {
                let node = node(&name);
                let node = &mut self.nodes[node];
                (node.state, node.key, node.seconds) = (State::Cached, key, Some(saved_seconds));
            }
            Line::Running { node: name, key, reasons } => {
                let node = node(&name);
                let node = &mut self.nodes[node];
                (node.key, node.reasons) = (Some(key), reasons);
            }
            Line::Finished { node: name, key, seconds } => {
                let node = node(&name);
                let node = &mut self.nodes[node];
                (node.state, node.key, node.seconds) = (State::Ran, Some(key), Some(seconds));
            }
            Line::Failed { node: name, cause } => {
                let node = node(&name);
                let node = &mut self.nodes[node];
                (node.state, node.cause) = (State::Failed, Some(cause));
            }
            Line::Skipped { node: name, because } => {
                let node = node(&name);
                let node = &mut self.nodes[node];
                (node.state, node.cause) = (State::Skipped, Some(format!("`{because}` failed")));
            }
            Line::Ended { seconds, outcome } => {
                (self.seconds, self.outcome) = (Some(seconds), outcome)
            }
            Line::Other => {}
        }
    }
}

/// Reads the run with this id.
pub fn read(store: &Store, id: &str) -> Result<Run> {
    let text = fs::read(&store.history(id))?;
    let mut run = Run::parse(id, &String::from_utf8_lossy(&text));
    run.running = run.outcome.is_none()
        && run.process.as_ref().is_some_and(|process| store.is_alive(process));
    Ok(run)
}

/// The last run before run `id` that succeeded, has its profile and pipeline, and includes `nodes`.
pub fn previous(store: &Store, id: &str, nodes: &[&str]) -> Result<Option<Run>> {
    let this = read(store, id)?;
    let earlier = store.runs()?.into_iter().rev().skip_while(|run| run != id).skip(1);
    let mut left = MAX_BYTES;
    for id in earlier {
        // `gc` may have removed it, or the user replaced it.
        let Some(bytes) = fs::read_if_regular(&store.history(&id))? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        left = left.saturating_sub(text.len() as u64);
        let is_alike = matches!(
            text.lines().next().and_then(|line| serde_json::from_str(line).ok()),
            Some(Line::Started { profile, pipeline, .. })
                if profile == this.profile && pipeline.is_some() && pipeline == this.pipeline
        );
        let is_done = || {
            let last = text.lines().next_back().and_then(|line| serde_json::from_str(line).ok());
            matches!(last, Some(Line::Ended { outcome: Some(Ending::Done), .. }))
        };
        if is_alike && is_done() {
            let run = Run::parse(&id, &text);
            let includes = |node: &&str| run.nodes.iter().any(|known| known.node == **node);
            if nodes.iter().all(includes) {
                return Ok(Some(run));
            }
        }
        if left == 0 {
            break;
        }
    }
    Ok(None)
}

/// The largest number of bytes that [`names`] and [`previous`] read: about a hundred thousand
/// nodes.
const MAX_BYTES: u64 = 32 << 20;

/// The keys of each node name in the latest runs: first those of `profile`, the newest first.
pub fn names(store: &Store, profile: Option<&str>) -> Result<PastKeys> {
    let mut left = MAX_BYTES;
    let mut texts = Vec::new();
    for id in store.runs()?.iter().rev() {
        let text = String::from_utf8_lossy(&fs::read(&store.history(id))?).into_owned();
        left = left.saturating_sub(text.len() as u64);
        texts.push(text);
        if left == 0 {
            break;
        }
    }
    // Nodes of different profiles can have the same name.
    texts.sort_by_key(|text| !is_of(text, profile));
    let mut names = PastKeys::new();
    for (node, key) in texts.iter().flat_map(|text| text.lines().rev()).filter_map(named) {
        let keys = names.entry(node).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(names)
}

/// Whether the history in `text` is of a run of `profile`.
fn is_of(text: &str, profile: Option<&str>) -> bool {
    let first = text.lines().next().and_then(|line| serde_json::from_str(line).ok());
    matches!(first, Some(Line::Started { profile: of, .. }) if of.as_deref() == profile)
}

/// The node and its key, if a line has both.
fn named(line: &str) -> Option<(String, Key)> {
    match serde_json::from_str(line).ok()? {
        Line::Cached { node, key, .. } => Some((node, key?)),
        Line::Running { node, key, .. } | Line::Finished { node, key, .. } => Some((node, key)),
        _ => None,
    }
}

/// The last run that computed the result of each key, if its history still exists.
pub fn computed_by(store: &Store, keys: &BTreeSet<Key>) -> Result<BTreeMap<Key, Arc<Run>>> {
    let mut found = BTreeMap::new();
    for id in store.runs()?.iter().rev() {
        if found.len() == keys.len() {
            break;
        }
        let run = Arc::new(read(store, id)?);
        for key in
            run.nodes.iter().filter(|node| node.state == State::Ran).filter_map(|node| node.key)
        {
            if keys.contains(&key) {
                found.entry(key).or_insert_with(|| Arc::clone(&run));
            }
        }
    }
    Ok(found)
}

/// Resolves the name of a run: `last`, `last~1` (the run before it), an id, or a unique prefix or
/// suffix of an id.
pub fn find(store: &Store, name: &str) -> Result<String> {
    let ids = store.runs()?;
    let diagnostic = |message: String, hint: Option<String>| -> anyhow::Error {
        crate::engine::error::Error::from(Diagnostic {
            source: "run".into(),
            location: None,
            message,
            hint,
        })
        .into()
    };
    if ids.is_empty() {
        return Err(diagnostic(
            "there are no runs yet".into(),
            Some("run `repro run` first".into()),
        ));
    }
    if let Some(back) = name.strip_prefix("last") {
        let back = if back.is_empty() {
            Some(0)
        } else {
            back.strip_prefix('~').and_then(|n| n.parse::<usize>().ok())
        };
        let found = back.and_then(|back| ids.iter().rev().nth(back));
        let form = || {
            format!(
                "write `last`, `last~1`, ... or an id: `repro log` lists all {} runs",
                ids.len()
            )
        };
        return found
            .cloned()
            .ok_or_else(|| diagnostic(format!("there is no run `{name}`"), Some(form())));
    }
    let fits = |id: &&String| id.starts_with(name) || id.ends_with(name);
    let fitting: Vec<&String> = ids.iter().filter(fits).collect();
    match (ids.iter().find(|id| *id == name), &fitting[..]) {
        (Some(id), _) => Ok(id.clone()),
        (None, [id]) => Ok((*id).clone()),
        (None, []) => {
            let near = suggest(name, ids.iter().map(String::as_str)).unwrap_or_default();
            Err(diagnostic(
                format!("there is no run `{name}`"),
                Some(format!("{near}; `repro log` lists all runs")),
            ))
        }
        (None, [first, .., last]) => {
            let hint = Some(format!("for example `{first}` and `{last}`; type more of the id"));
            Err(diagnostic(format!("{} runs begin or end with `{name}`", fitting.len()), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::TestSpace;

    const KEY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    #[test]
    fn incomplete_and_foreign_lines_are_skipped() {
        let text = format!(
            "{{\"event\":\"started\",\"schema\":1,\"run\":\"7-1\",\
             \"profile\":\"ci\",\"overrides\":[\"a.b=1\"],\"nodes\":4}}\n\
             not json\n\
             {{\"event\":\"invented-later\",\"node\":\"x\"}}\n\
             {{\"event\":\"cached\",\"node\":\"a\",\"kind\":\"k\",\"saved_seconds\":2.5}}\n\
             {{\"event\":\"running\",\"node\":\"b\",\"kind\":\"k\",\"key\":\"{KEY}\",\
             \"reasons\":[{{\"kind\":\"first-time\"}}]}}\n\
             {{\"event\":\"queued\",\"node\":\"c\",\"kind\":\"k\",\"key\":\"{KEY}\",\
             \"reasons\":[]}}\n\
             {{\"event\":\"finished\",\"node\":\"b\",\"kind\":\"k\",\"key\":\"{KEY}\",\
             \"seconds\":1.5}}\n\
             {{\"event\":\"finished\",\"node\":\"c\",\"ki"
        );
        let run = Run::parse("7-1", &text);
        assert_eq!((run.began, run.profile.as_deref(), run.wanted), (Some(7), Some("ci"), 4));
        assert_eq!((run.cached, run.ran, run.failed, run.outcome), (1, 1, 0, None));
        let nodes: Vec<_> =
            run.nodes.iter().map(|n| (n.node.as_str(), n.state, n.seconds)).collect();
        assert_eq!(
            nodes,
            [
                ("a", State::Cached, Some(2.5)),
                ("b", State::Ran, Some(1.5)),
                ("c", State::Began, None)
            ]
        );
        assert_eq!(run.nodes[1].reasons, [Reason::FirstTime]);
    }

    #[test]
    fn a_run_is_named_by_its_age_or_a_unique_part_of_its_id() {
        let space = TestSpace::new();
        let find = |name: &str| find(&space.store, name).map_err(|error| error.to_string());
        assert_eq!(find("last"), Err("run: there are no runs yet".into()));
        for id in ["1000-7", "1001-7", "1002-77"] {
            fs::write(&space.store.history(id), "").unwrap();
        }
        let found = |name: &str| find(name).unwrap();
        assert_eq!((found("last"), found("last~2")), ("1002-77".into(), "1000-7".into()));
        assert_eq!(
            (found("1001"), found("-77"), found("1000-7")),
            ("1001-7".into(), "1002-77".into(), "1000-7".into())
        );
        assert_eq!(find("100"), Err("run: 3 runs begin or end with `100`".into()));
        for name in ["last~3", "last~x", "lastly", "9"] {
            assert_eq!(find(name), Err(format!("run: there is no run `{name}`")));
        }
    }
}
