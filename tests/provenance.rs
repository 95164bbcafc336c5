//! Provenance: what entries record of a run, and the copy of the report that shows it.

use crate::space::{Space, containing, nothing, set};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use repro::engine::key::Digest;
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

const PAGE: &str = "reports/default/report.html";
const START: &str = "<script type=\"application/json\" id=\"provenance\">";

/// Two stages, the second of which reads the first.
const TWO: &str = "\
stages:
  one:
    command: { run: 'echo one > out', outputs: [out] }
  two:
    command: { run: 'cat inputs/one/out > out', inputs: { one: one }, outputs: [out] }
";

/// Runs git in the project, independently of the caller's configuration.
fn git(space: &Space, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(space.path()).args(arguments);
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a@example.org"),
    ] {
        git.env(name, value);
    }
    let output = git.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits all files; returns the commit.
fn commit(space: &Space) -> String {
    git(space, &["add", "--all"]);
    git(space, &["commit", "--quiet", "--allow-empty", "--message", "all"]);
    git(space, &["rev-parse", "HEAD"])
}

/// A project in a repository, with its files committed.
fn repository(pipeline: &str) -> (Space, String) {
    let space = Space::with(pipeline).env("GIT_CONFIG_GLOBAL", "/dev/null");
    git(&space, &["init", "--quiet"]);
    let commit = commit(&space);
    (space, commit)
}

/// The entry of a node.
fn entry(space: &Space, node: &str) -> Json {
    let shown: Json = serde_json::from_str(&space.ok(&["show", node, "--json"]).stdout).unwrap();
    shown["nodes"][0]["entry"].clone()
}

/// The commit in the entry of a node.
fn commit_of(space: &Space, node: &str) -> Json {
    entry(space, node)["environment"]["commit"].clone()
}

/// The provenance in a page, and the page without it.
fn split(page: &str) -> (Json, String) {
    let (before, rest) = page.split_once(START).unwrap();
    let (inside, after) = rest.split_once("</script>").unwrap();
    let json = serde_json::from_str(inside).unwrap_or(Json::Null);
    (json, [before, START, "</script>", after].concat())
}

/// The rows of all nodes.
fn rows(provenance: &Json) -> Vec<Vec<Json>> {
    let bytes = BASE64_STANDARD.decode(provenance["nodes"].as_str().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::DeflateDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn modified(space: &Space, file: &str) -> std::time::SystemTime {
    fs::metadata(space.join(file)).unwrap().modified().unwrap()
}

#[test]
fn the_copy_of_the_page_has_the_provenance_of_all_nodes_and_the_cached_page_has_none() {
    let space = Space::run_tiny();
    let (provenance, plain) = split(&space.read(PAGE));
    let digest = space.digests()["report"]["report.html"].clone();
    assert_eq!(Digest::of(plain.as_bytes()).to_string(), digest, "the rest is the cached page");
    assert_eq!(split(&space.read(space.object(&digest))).0, Json::Null);
    let nodes = space.nodes();
    let names: BTreeSet<String> =
        rows(&provenance).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, nodes, "the report depends on all nodes of this pipeline");
    assert_eq!(provenance["summary"]["nodes"], json!(nodes.len()));
    let entry = entry(&space, "report");
    let environment = &provenance["environments"][0];
    assert_eq!(environment["host"], entry["host"]);
    assert_eq!(environment["program"], entry["program"]);
    assert_eq!(environment["cores"], entry["environment"]["cores"]);
    let last = rows(&provenance).pop().unwrap();
    assert_eq!((&last[0], &last[4]), (&json!("report"), &entry["finished"]));
}

#[test]
fn an_unchanged_run_writes_no_page_and_an_edited_copy_is_restored() {
    let space = Space::run_tiny();
    let (page, written) = (space.read(PAGE), modified(&space, PAGE));
    for arguments in [&["run"][..], &["run", "report"]] {
        space.ok(arguments);
        assert_eq!(modified(&space, PAGE), written, "{arguments:?}");
    }
    let edits = [
        page.replace("</body>", "mine</body>"),
        page.replace("\"schema\":1", "\"schema\":1,\"clean\":true"),
        split(&page).1,
    ];
    for edited in edits {
        assert_ne!(edited, page);
        for arguments in [&["run"][..], &["run", "report"]] {
            space.write(PAGE, &edited);
            let printed = space.ok(arguments).stderr;
            assert!(printed.contains("reports/default: 1 of"), "{printed}");
            assert_eq!(space.read(PAGE), page, "{arguments:?}");
        }
    }
    fs::remove_file(space.join(PAGE)).unwrap();
    space.ok(&["run"]);
    assert_eq!(space.read(PAGE), page, "a deleted copy is filled too");
}

#[test]
fn comparisons_see_the_page_without_provenance() {
    let space = Space::run_tiny();
    space.ok(&["lock"]);
    space.ok(&["run", "--force"]);
    space.ok(&["run", "--locked"]);
    space.ok(&["verify", "--locked"]);
    space.ok(&["verify", "--recompute", "report"]);
    let diff = space.ok(&["diff"]).stdout;
    assert!(!diff.contains("report.html"), "{diff}");
    space.ok(&["export", "report", "out"]);
    assert_eq!(split(&space.read("out/report.html")).0, Json::Null);
}

#[test]
fn a_node_that_is_computed_again_changes_the_provenance_of_a_cached_report() {
    let space = Space::run_tiny();
    let before = split(&space.read(PAGE));
    // The times of entries have a resolution of one second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let ran = space.ran(&["--force", "data"]);
    assert_eq!(ran, set(["data"]));
    space.ok(&["run"]);
    let after = split(&space.read(PAGE));
    assert_ne!(after.0["summary"]["seconds"], Json::Null);
    let finished = |provenance: &Json| rows(provenance)[0][4].as_u64().unwrap();
    assert!(finished(&after.0) > finished(&before.0));
    assert_eq!(after.1, before.1);
}

#[test]
fn entries_have_the_commit_of_the_run_that_computed_them_and_keys_do_not() {
    let (space, first) = repository(TWO);
    space.ok(&["run"]);
    let clean = |id: &str| json!({ "id": id, "clean": true });
    assert_eq!(commit_of(&space, "one"), clean(&first));
    let second = commit(&space);
    assert_ne!(second, first);
    assert_eq!(space.ran(&[]), nothing(), "the commit is not part of a key");
    space.edit("> out', inputs", ">out', inputs");
    assert_eq!(space.ran(&[]), set(["two"]));
    assert_eq!(commit_of(&space, "one"), clean(&first));
    let dirty = json!({ "id": second, "clean": false });
    assert_eq!(commit_of(&space, "two"), dirty, "pipeline.yaml differs from the commit");
    let shown = space.ok(&["show", "two"]).stdout;
    assert!(shown.contains(&format!("  commit   {second}, with changes\n")), "{shown}");
    let short = &second[..10];
    let why = space.ok(&["why", "two"]).stdout;
    assert!(why.contains(&format!(" at commit {short} (with changes), key ")), "{why}");
    let why: Json = serde_json::from_str(&space.ok(&["why", "two", "--json"]).stdout).unwrap();
    assert_eq!(why["nodes"][0]["record"]["environment"]["commit"], dirty);
    let log = space.ok(&["log", "last"]).stdout;
    assert!(log.contains(&format!("\ncommit: {short} (with changes)\n")), "{log}");
    let log: Json = serde_json::from_str(&space.ok(&["log", "last", "--json"]).stdout).unwrap();
    assert_eq!(log["commit"], dirty);
}

#[test]
fn the_cache_and_the_reports_are_not_changes_and_other_untracked_files_are() {
    let (space, first) = repository(TWO);
    space.ok(&["run"]);
    space.write("reports/default/mine.txt", "mine").ok(&["run", "--force"]);
    assert_eq!(commit_of(&space, "two"), json!({ "id": first, "clean": true }));
    space.write("notes.txt", "mine").ok(&["run", "--force"]);
    assert_eq!(commit_of(&space, "two"), json!({ "id": first, "clean": false }));
    assert_eq!(git(&space, &["status", "--porcelain"]), "?? notes.txt\n?? reports/");
}

#[test]
fn without_git_or_a_repository_or_a_commit_an_entry_has_no_commit() {
    let runs = |space: &Space| {
        let printed = space.ok(&["run"]).stderr;
        assert!(!printed.contains("git") && !printed.contains("commit"), "{printed}");
        let environment = entry(space, "one")["environment"].clone();
        assert_eq!(environment.get("commit"), None, "{environment}");
        assert!(environment["cores"].as_u64().unwrap() >= 1);
    };
    runs(&Space::with(TWO));
    let empty = Space::with(TWO);
    git(&empty, &["init", "--quiet"]);
    runs(&empty);
    let (space, _) = repository(TWO);
    runs(&space.env("PATH", "/nowhere"));
    let (space, _) = repository(TWO);
    space.write(".git/config", "damaged [");
    runs(&space);
    if rustix::process::geteuid().is_root() {
        let (space, _) = repository(TWO);
        let other = Some(rustix::process::Uid::from_raw(12_345));
        for path in [space.path().to_owned(), space.join(".git")] {
            rustix::fs::chown(path, other, None).unwrap();
        }
        runs(&space);
    }
}

#[test]
fn variables_of_a_git_hook_do_not_select_another_repository() {
    let (other, _) = repository(TWO);
    let (space, own) = repository(TWO);
    let space = space.env("GIT_DIR", other.join(".git").to_str().unwrap());
    space.ok(&["run"]);
    assert_eq!(commit_of(&space, "one"), json!({ "id": own, "clean": true }));
}

/// Writes the entry of `path` again without its environment, as older versions did.
fn make_old(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let (head, rest) = text.split_once(",\"path\"").unwrap();
    let start = rest.find(",\"environment\":{").unwrap();
    let end = start + rest[start..].find('}').unwrap() + 1;
    // The environment without a commit has no inner braces.
    let rest = format!("\"path\"{}{}", &rest[..start], &rest[end..]);
    let digest = Digest::of(rest.as_bytes());
    assert!(head.starts_with("{\"checksum\":"));
    fs::remove_file(path).unwrap();
    fs::write(path, format!("{{\"checksum\":\"{digest}\",{rest}")).unwrap();
}

#[test]
fn entries_of_older_versions_are_used() {
    let space = Space::with(TWO);
    space.ok(&["run"]);
    space.files("entries").iter().for_each(|path| make_old(path));
    assert_eq!(space.ran(&[]), nothing());
    assert_eq!(entry(&space, "one").get("environment"), None);
    let shown = space.ok(&["show", "one"]).stdout;
    assert!(!shown.contains("  system "), "{shown}");
}

#[test]
fn a_change_upstream_is_explained_by_its_parameter() {
    let space = Space::run_tiny();
    space.edit("epochs: 2", "epochs: 1").ok(&["run", "nets", "curves", "matched", "tables"]);
    space.ok(&["run", "figures"]);
    assert_eq!(space.pending(&[]), containing(&space.nodes(), &["report"]));
    let why = space.ok(&["why", "report"]).stdout;
    assert!(why.contains("\n  upstream: parameter epochs of `nets` 2 -> 1\n"), "{why}");
    assert!(!why.contains("{\""), "{why}");
    let shown = space.ok(&["show", "report"]).stdout;
    assert!(shown.contains("\n  upstream data (1 node), nets (8 nodes), "), "{shown}");
}
