//! The workflow of examples/github-actions: it parses, and its commands work.

use crate::space::{Space, nothing};
use serde_json::Value as Json;
use std::path::Path;

/// The commands of the workflow that run this program.
fn commands() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-actions/workflow.yml");
    let text = std::fs::read_to_string(path).unwrap();
    let workflow: Json = parse(&text);
    let job = &workflow["jobs"]["report"];
    assert!(workflow["on"]["push"].is_object() && job["runs-on"].is_string(), "{workflow}");
    let steps = job["steps"].as_array().unwrap();
    for step in steps {
        assert!(step["uses"].is_string() != step["run"].is_string(), "{step}");
    }
    let runs = steps.iter().filter_map(|step| step["run"].as_str());
    let words = |run: &str| run.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    runs.map(words).filter(|words| words[0] == "repro").map(|words| words[1..].to_vec()).collect()
}

fn parse(text: &str) -> Json {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn the_workflow_restores_a_report_from_a_remote_and_computes_nothing() {
    let commands = commands();
    assert_eq!(commands, [&["pull"][..], &["run", "--locked", "--require-cached"]]);
    let remote = tempfile::tempdir().unwrap();
    let url = format!("file://{}", remote.path().display());
    let first = Space::run_tiny().env("REPRO_REMOTE", &url);
    first.ok(&["lock"]);
    let checkout = |space: Space| {
        space.write("pipeline.lock", first.read("pipeline.lock"));
        space.env("REPRO_REMOTE", &url)
    };
    let early = checkout(Space::tiny());
    early.ok(&["pull"]);
    early.exits(3, &["run", "--locked", "--require-cached"]);
    first.ok(&["push"]);
    let space = checkout(Space::tiny());
    for command in &commands {
        let output = space.ok(&command.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.stderr.matches(": ran ").count(), 0, "{}", output.stderr);
    }
    assert!(space.join("reports/default/report.html").is_file());
    assert_eq!(space.ran(&["--remote", ""]), nothing());
}
