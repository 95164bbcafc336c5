//! The provenance in the page, as JSON. docs/provenance.md describes it.

use crate::engine::stage::{Commit, NodeProvenance, Provenance, Record};
use crate::report::html::packed;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

/// Raised when a field is removed or changes its meaning.
const SCHEMA: u32 = 1;

/// The values in a row, in this order.
const COLUMNS: [&str; 8] =
    ["name", "kind", "key", "outputs", "finished", "seconds", "threads", "environment"];

/// The number of hex digits of keys and digests in rows. Whole ones cannot be compressed, and would
/// be most of the file.
const DIGITS: usize = 16;

/// A distinct environment of jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Environment<'a> {
    host: &'a str,
    system: Option<&'a str>,
    processor: Option<&'a str>,
    cores: Option<usize>,
    program: Option<String>,
    commit: Option<&'a str>,
    clean: Option<bool>,
}

impl<'a> Environment<'a> {
    fn of(record: &'a Record) -> Environment<'a> {
        let known = record.environment.as_ref();
        let commit = commit(record);
        Environment {
            host: &record.host,
            system: known.map(|known| known.system.as_str()),
            processor: known.and_then(|known| known.processor.as_deref()),
            cores: known.map(|known| known.cores),
            program: record.program.map(|program| program.to_string()),
            commit: commit.map(|commit| commit.id.as_str()),
            clean: commit.map(|commit| commit.clean),
        }
    }
}

fn commit(record: &Record) -> Option<&Commit> {
    record.environment.as_ref()?.commit.as_ref()
}

/// The provenance as JSON.
pub(super) fn to_json(provenance: &Provenance) -> String {
    let Provenance { node, profile, nodes } = provenance;
    let records = || nodes.iter().filter_map(|node| node.record.as_ref());
    let environments: BTreeSet<Environment> = records().map(Environment::of).collect();
    let environments: Vec<Environment> = environments.into_iter().collect();
    let kinds: BTreeSet<&str> = nodes.iter().map(|node| node.kind).collect();
    let kinds: Vec<&str> = kinds.into_iter().collect();
    let row = |node: &NodeProvenance| row(node, &kinds, &environments);
    let rows: Vec<Json> = nodes.iter().map(row).collect();
    let hosts: BTreeSet<&str> = records().map(|record| record.host.as_str()).collect();
    let commits: BTreeSet<&str> = environments.iter().filter_map(|known| known.commit).collect();
    let date = |seconds: Option<u64>| {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds?))?;
        Some(humantime::format_rfc3339_seconds(time).to_string())
    };
    json!({
        "schema": SCHEMA,
        "node": node,
        "profile": profile,
        "summary": {
            "nodes": nodes.len(),
            "first": date(records().map(|record| record.finished).min()),
            "last": date(records().map(|record| record.finished).max()),
            "seconds": rounded(records().map(|record| record.seconds).sum()),
            "hosts": hosts,
            "commits": commits,
            "clean": is_clean(nodes),
        },
        "environments": environments,
        "kinds": kinds,
        "columns": COLUMNS,
        "nodes": packed(Json::from(rows).to_string().as_bytes()),
    })
    .to_string()
}

/// Whether all nodes were computed at a commit without differences; `None` if that is unknown.
fn is_clean(nodes: &[NodeProvenance]) -> Option<bool> {
    let clean = |node: &NodeProvenance| commit(node.record.as_ref()?).map(|commit| commit.clean);
    if nodes.iter().any(|node| clean(node) == Some(false)) {
        return Some(false);
    }
    nodes.iter().all(|node| clean(node) == Some(true)).then_some(true)
}

fn row(node: &NodeProvenance, kinds: &[&str], environments: &[Environment]) -> Json {
    let kind = kinds.binary_search(&node.kind).ok();
    let key = short(&node.key);
    let Some(record) = &node.record else {
        return json!([node.name, kind, key, null, null, null, null, null]);
    };
    let environment = environments.binary_search(&Environment::of(record)).ok();
    let threads = record.environment.as_ref().map(|known| known.threads);
    let (outputs, seconds) = (short(&record.outputs), rounded(record.seconds));
    json!([node.name, kind, key, outputs, record.finished, seconds, threads, environment])
}

fn short(hash: &impl Display) -> String {
    hash.to_string()[..DIGITS].to_owned()
}

/// Seconds, to milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::{Digest, Key};
    use crate::engine::stage::Environment as JobEnvironment;
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use std::io::Read as _;

    fn node(name: &str, finished: u64, commit: Option<(&str, bool)>) -> NodeProvenance {
        let digest = Digest::of(name.as_bytes());
        let commit = commit.map(|(id, clean)| Commit { id: id.repeat(40), clean });
        let environment = JobEnvironment {
            threads: 1,
            cores: 2,
            system: "Linux 6.1 x86_64".into(),
            processor: None,
            commit,
        };
        let record = Record {
            outputs: digest,
            finished,
            seconds: 1.00049,
            host: "lab".into(),
            program: Some(Digest::of(b"program")),
            environment: Some(environment),
        };
        let key: Key = digest.to_string().parse().unwrap();
        NodeProvenance { name: name.into(), kind: "train", key, record: Some(record) }
    }

    fn read(nodes: Vec<NodeProvenance>) -> (Json, Json) {
        let provenance = Provenance { node: "report".into(), profile: None, nodes };
        let json: Json = serde_json::from_str(&to_json(&provenance)).unwrap();
        let bytes = BASE64_STANDARD.decode(json["nodes"].as_str().unwrap()).unwrap();
        let mut rows = String::new();
        flate2::read::DeflateDecoder::new(&bytes[..]).read_to_string(&mut rows).unwrap();
        let rows = serde_json::from_str(&rows).unwrap();
        (json, rows)
    }

    #[test]
    fn equal_environments_are_listed_once_and_rows_refer_to_them() {
        let clean = Some(("a", true));
        let (json, rows) = read(vec![
            node("nets@end=a", 0, clean),
            node("nets@end=b", 86_400, clean),
            node("report", 9, Some(("b", true))),
        ]);
        let summary = json!({
            "nodes": 3,
            "first": "1970-01-01T00:00:00Z",
            "last": "1970-01-02T00:00:00Z",
            "seconds": 3.001,
            "hosts": ["lab"],
            "commits": ["a".repeat(40), "b".repeat(40)],
            "clean": true,
        });
        assert_eq!(json["summary"], summary);
        assert_eq!(json["environments"].as_array().unwrap().len(), 2);
        assert_eq!(json["environments"][1]["commit"], json!("b".repeat(40)));
        let key = &Digest::of(b"report").to_string()[..DIGITS];
        assert_eq!(rows[2], json!(["report", 0, key, key, 9, 1.0, 1, 1]));
        assert_eq!([&rows[0][7], &rows[1][7]], [&json!(0), &json!(0)]);
    }

    #[test]
    fn the_tree_is_clean_only_if_it_is_known_to_be_clean_for_all_nodes() {
        let clean = |commits: &[Option<(&str, bool)>]| {
            let nodes = commits.iter().map(|commit| node("n", 1, *commit)).collect();
            read(nodes).0["summary"]["clean"].clone()
        };
        let (yes, no) = (Some(("a", true)), Some(("a", false)));
        assert_eq!(clean(&[yes, yes]), json!(true));
        assert_eq!(clean(&[yes, no, None]), json!(false));
        assert_eq!(clean(&[yes, None]), json!(null));
        assert_eq!(clean(&[]), json!(true));
    }

    #[test]
    fn unknown_records_are_null() {
        let lost = NodeProvenance { record: None, ..node("lost", 1, None) };
        let mut old = node("old", 1, None);
        old.record.as_mut().unwrap().environment = None;
        let (json, rows) = read(vec![lost, old]);
        assert_eq!(json["environments"][0]["cores"], json!(null));
        assert_eq!(rows[0].as_array().unwrap()[3..], vec![json!(null); 5]);
        assert_eq!(rows[1][6], json!(null));
        assert_eq!(rows[1][7], json!(0));
    }

    #[test]
    fn the_provenance_of_four_thousand_nodes_takes_less_than_300_kb() {
        let name =
            |i: u32| format!("nets@hidden={},prior=normal-0.0{},pair={i},end=a", i % 7, i % 9);
        let nodes = (0..4000).map(|i| node(&name(i), u64::from(i) * 7919, None)).collect();
        let provenance = Provenance { node: "report".into(), profile: None, nodes };
        let bytes = to_json(&provenance).len();
        assert!(bytes < 300_000, "{bytes} bytes");
    }
}
