//! What a run changed: `repro diff` across a changed parameter, and the files beside the report.

use crate::space::{SMALL, Space};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Three pairs, so that there are intervals.
const PAIRS: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 100, test: 50 }
  nets:
    train: { data: data, hidden: 3, prior: [none, { normal: { variance: 0.01 } }], \
     pair: [1, 2, 3], end: [a, b], epochs: 1 }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 3 }
  tables:
    aggregate: { curves: curves, nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: [error-by-method] }
  report:
    report: { data: data, tables: tables, figures: figures }
";

const PATH: &str = "reports/default/changes.md";

fn json(space: &Space, arguments: &[&str]) -> Json {
    serde_json::from_str(&space.ok(arguments).stdout).unwrap()
}

/// [`PAIRS`] run twice: with a variance of 0.01, and with 0.005.
fn moved() -> (Space, String) {
    let space = Space::with(PAIRS);
    let first = space.ok(&["run"]);
    assert!(!first.stderr.contains("changes since"), "{}", first.stderr);
    assert!(!space.join(PATH).exists(), "a first run has nothing to compare with");
    space.edit("0.01", "0.005");
    let stderr = space.ok(&["run"]).stderr;
    (space, stderr)
}

#[test]
fn a_run_says_which_parameter_changed_and_how_much_moved() {
    let space = Space::with(PAIRS);
    space.ok(&["run"]);
    space.edit("0.01", "0.005");
    let output = space.ok(&["run", "--json"]);
    let ran = output.ran();
    let has = |part: &str| ran.iter().any(|node| node.contains(part));
    assert!(has("nets@prior=normal-0.005") && !has("nets@prior=none"), "{ran:?}");
    assert!(has("tables") && has("figures") && has("report"), "{ran:?}");
    let events: Vec<Json> =
        output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let changed = events.iter().find(|event| event["event"] == "changed").unwrap();
    assert_eq!(
        changed["parameters"],
        serde_json::json!(["nets.prior.normal.variance 0.01 -> 0.005"])
    );
    assert_eq!((&changed["figures"], &changed["path"]), (&1.into(), &PATH.into()));
    assert!(changed["cells"].as_u64().unwrap() > 0 && changed["beyond"].is_u64(), "{changed}");
    assert_eq!(events.last().unwrap()["event"], "ended");
}

#[test]
fn the_last_line_of_a_run_names_the_file_with_the_changes() {
    let (space, stderr) = moved();
    let last = stderr.lines().last().unwrap();
    let start = "changes since run ";
    assert!(last.starts_with(start), "{stderr}");
    assert!(
        last.contains(": nets.prior.normal.variance 0.01 -> 0.005; ")
            && last.contains(" and 1 figure moved, ")
            && last.ends_with(&format!(" beyond their intervals: {PATH}")),
        "{last}"
    );
    let text = space.read(PATH);
    for line in [
        "- Rows of prior `normal 0.01` are compared with those of `normal 0.005`.",
        "| nets.prior.normal.variance | 0.01",
        "## Metrics: tables, summary.csv",
        "- figures@figure=error-by-method, figure.svg",
    ] {
        assert!(text.contains(line), "`{line}` in:\n{text}");
    }
    let page = space.read("reports/default/changes.html");
    assert_eq!(page.matches("data:image/svg+xml;base64,").count(), 2, "before and after");
    assert!(space.read("reports/default/report.md").len() > 100, "the report is still there");
}

#[test]
fn an_unchanged_run_keeps_the_files_and_says_nothing() {
    let (space, _) = moved();
    let before = space.read(PATH);
    for arguments in [&["run"][..], &["run", "report"], &["run", "-S", "nets.epochs=1"]] {
        let stderr = space.ok(arguments).stderr;
        assert!(!stderr.contains("changes since"), "{arguments:?}: {stderr}");
        assert_eq!(space.read(PATH), before, "{arguments:?}");
    }
    space.ok(&["run", "--force"]);
    assert_eq!(space.read(PATH), before, "equal results");
}

#[test]
fn a_run_is_compared_with_the_run_that_wrote_the_report_before() {
    let (space, _) = moved();
    let last = |stderr: &str| stderr.lines().last().unwrap().to_owned();
    // Targets that do not include the report do not count.
    space.ok(&["run", "nets", "-S", "nets.epochs=2"]);
    let with = last(&space.ok(&["run", "-S", "nets.epochs=2"]).stderr);
    assert!(with.contains(": nets.epochs (default) -> 2; ") || with.contains("1 -> 2"), "{with}");
    assert!(space.read(PATH).contains("`-S nets.epochs=2`"));
    // Nothing changed since the last run without overrides, but the report did.
    let back = last(&space.ok(&["run"]).stderr);
    assert!(back.contains("nets.epochs 2 -> "), "{back}");
}

#[test]
fn earlier_results_that_are_not_in_the_cache_are_no_error() {
    let space = Space::with(PAIRS);
    space.ok(&["run"]);
    for folder in ["entries", "recipes"] {
        for file in space.files(folder) {
            fs::remove_file(file).unwrap();
        }
    }
    space.edit("0.01", "0.005");
    let stderr = space.ok(&["run"]).stderr;
    assert!(stderr.lines().last().unwrap().contains("results are not comparable"), "{stderr}");
    assert!(space.read(PATH).contains("not in the cache and cannot be compared"));
}

#[test]
fn nodes_and_rows_are_paired_and_the_largest_change_is_first() {
    let (space, _) = moved();
    let whole = json(&space, &["diff", "--json"]);
    let nets = whole["stages"].as_array().unwrap().iter().find(|s| s["stage"] == "nets").unwrap();
    assert_eq!(
        ["both", "paired", "removed", "added"].map(|count| nets[count].as_u64().unwrap()),
        [12, 6, 0, 0]
    );
    let moves = whole["moves"]["paired"].as_array().unwrap();
    assert_eq!(
        moves,
        &[serde_json::json!({
            "column": "prior", "before": "normal 0.01", "after": "normal 0.005"
        })]
    );
    assert_eq!(whole["moves"]["unpaired"], serde_json::json!([]));
    let tables = whole["tables"].as_array().unwrap();
    let net = tables.iter().find(|table| table["stage"] == "nets").unwrap();
    assert!(net["node"].as_str().unwrap().contains("normal-0.005"), "{net}");
    assert!(net["node_before"].as_str().unwrap().contains("normal-0.01"), "{net}");
    let summary =
        tables.iter().find(|t| t["stage"] == "tables" && t["file"] == "summary.csv").unwrap();
    let cells = summary["changes"]["cells"].as_array().unwrap();
    let mean = cells.iter().find(|c| c["column"] == "mean" && c["ratio"].is_number()).unwrap();
    assert!(mean["row"].as_str().unwrap().contains("prior=normal 0.01 → normal 0.005"), "{mean}");
    assert_eq!(mean["beyond"], mean["ratio"].as_f64().unwrap() > 1.0);
    assert!(cells.iter().all(|cell| !cell["row"].as_str().unwrap().contains("none")), "unchanged");

    let text = space.ok(&["diff", "--limit", "1000"]).stdout;
    let section = text.split("## Metrics: tables, summary.csv").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let factors: Vec<f64> = section
        .lines()
        .filter_map(|line| line.rsplit_once('(')?.1.split_once('×')?.0.parse().ok())
        .collect();
    assert!(factors.len() > 3 && factors.is_sorted_by(|a, b| a >= b), "{factors:?}\n{section}");
}

#[test]
fn swapping_the_runs_negates_the_changes() {
    let (space, _) = moved();
    let cells = |before: &str, after: &str| -> BTreeSet<String> {
        let whole = json(&space, &["diff", before, after, "--json"]);
        let sign = if before == "last" { -1.0 } else { 1.0 };
        let mut found = BTreeSet::new();
        for table in whole["tables"].as_array().unwrap() {
            for cell in table["changes"]["cells"].as_array().unwrap() {
                let change = cell["change"].as_f64().map(|change| sign * change);
                found.insert(format!("{} {} {change:?}", table["file"], cell["column"]));
            }
        }
        found
    };
    let there = cells("last~1", "last");
    assert!(there.len() > 10);
    assert_eq!(there, cells("last", "last~1"));
}

#[test]
fn ambiguous_replacements_are_not_paired_and_the_output_says_so() {
    let space = Space::with(SMALL);
    space.ok(&["run"]);
    space.ok(&["run", "-S", "nets.prior=[none, { dropout: 0.25 }, { dropout: 0.75 }]"]);
    let text = space.ok(&["diff"]).stdout;
    assert!(
        text.contains(
            "- Rows of prior `dropout 0.5` are not compared with those of `dropout 0.25`, \
             `dropout 0.75`: it is ambiguous which replaced which."
        ),
        "{text}"
    );
    space.ok(&["run", "-S", "nets.prior=[none, { normal: { variance: 0.1 } }]"]);
    let text = space.ok(&["diff", "last~2", "last"]).stdout;
    assert!(
        text.contains("- Rows of prior `dropout 0.5` are compared with those of `normal 0.1`."),
        "{text}"
    );
}

#[test]
fn a_scalar_that_becomes_an_axis_keeps_its_nodes() {
    let space = Space::with(SMALL);
    space.ok(&["run"]);
    space.ok(&["run", "-S", "nets.hidden=[3, 4]"]);
    let whole = json(&space, &["diff", "--json"]);
    let nets = whole["stages"].as_array().unwrap().iter().find(|s| s["stage"] == "nets").unwrap();
    assert_eq!(
        ["both", "removed", "added"].map(|count| nets[count].as_u64().unwrap()),
        [4, 0, 4],
        "{whole}"
    );
}

#[test]
fn the_page_of_a_diff_shows_figures_before_and_after() {
    let (space, _) = moved();
    space.ok(&["diff", "--html", "diff.html"]);
    let page = space.read("diff.html");
    assert_eq!(page.matches("data:image/svg+xml;base64,").count(), 2);
    assert!(!page.contains("src=\"http"), "no network");
    space.ok(&["diff", "last", "last", "--html", "same.html"]);
    assert!(space.read("same.html").contains("No differences."));
}

/// Replaces ids of runs, which differ from run to run.
fn without_ids(text: &str) -> String {
    let is_id = |word: &str| {
        word.split_once('-').is_some_and(|(seconds, number)| {
            seconds.len() == 10
                && [seconds, number].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    let separators = |c: char| !c.is_ascii_digit() && c != '-';
    let id = text.split(separators).find(|word| is_id(word)).map(str::to_owned);
    match id {
        Some(id) => without_ids(&text.replace(&id, "ID")),
        None => text.to_owned(),
    }
}

/// The words of `text` without ids of runs. Long lines are wrapped in the example, and the rules of
/// tables have other lengths.
fn words(text: &str) -> String {
    let word = |word: &str| match word.trim_matches('-') {
        "" | ":" => "-".to_owned(),
        _ => word.to_owned(),
    };
    without_ids(text).split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_diff_example_prints_what_its_readme_shows() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/diff");
    let readme = fs::read_to_string(example.join("README.md")).unwrap();
    let space = Space::with(&fs::read_to_string(example.join("pipeline.yaml")).unwrap());
    let mut commands = 0;
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for step in block.split("$ ").skip(1) {
            let (command, shown) = step.split_once('\n').unwrap();
            commands += 1;
            let Some(arguments) = command.strip_prefix("repro ") else {
                let mut shell = space.command_for("sh", &["-c", command]);
                assert!(shell.status().unwrap().success(), "{command}");
                continue;
            };
            let arguments: Vec<&str> = arguments.split_whitespace().collect();
            let output = space.ok(&arguments);
            let printed = words(&format!("{}{}", output.stderr, output.stdout));
            let mut rest = &printed[..];
            for part in shown.split("...\n").map(words).filter(|part| !part.is_empty()) {
                let Some((_, after)) = rest.split_once(&part) else {
                    panic!("`{command}` prints:\n{printed}\nwithout:\n{part}");
                };
                rest = after;
            }
        }
    }
    assert!(commands == 4, "only {commands} commands");
}
