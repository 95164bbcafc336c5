//! `log` and `diff`: past runs, and the differences between two of them.

use crate::space::{SMALL, Space};
use serde_json::Value as Json;

/// Collapses spaces, so that the widths of columns do not matter.
fn words(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn json(space: &Space, arguments: &[&str]) -> Json {
    serde_json::from_str(&space.ok(arguments).stdout).unwrap()
}

/// Three runs with fixed ids: runs within one second have ids that differ only in the process id.
fn three_runs() -> Space {
    let space = Space::with(SMALL);
    for (i, arguments) in
        [&["run"][..], &["run"], &["run", "--profile", "twice", "-S", "data.test=30"]]
            .iter()
            .enumerate()
    {
        let before = if i == 0 { Default::default() } else { space.files("runs") };
        space.ok(arguments);
        let after = space.files("runs");
        let made = after.difference(&before).next().unwrap();
        let id = format!("179543690{i}-{}", 100 + i);
        std::fs::rename(made, space.join(format!("cache/v2/runs/{id}.jsonl"))).unwrap();
    }
    space
}

#[test]
fn the_log_lists_runs_newest_first() {
    let space = three_runs();
    let log = space.ok(&["log"]).stdout;
    let runs: Vec<Vec<&str>> =
        log.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(runs.len(), 3);
    let did: Vec<_> =
        runs.iter().map(|run| [run[0], run[1], run[2], run[3], run[4], run[5], run[7]]).collect();
    assert_eq!(
        did,
        [
            ["1795436902-102", "2026-11-23T12:28:22Z", "twice", "0", "8", "0", "done"],
            ["1795436901-101", "2026-11-23T12:28:21Z", "once", "8", "0", "0", "done"],
            ["1795436900-100", "2026-11-23T12:28:20Z", "once", "0", "8", "0", "done"],
        ]
    );
    assert!(log.lines().nth(1).unwrap().ends_with("done  -S data.test=30"), "{log}");
    let limited = space.ok(&["log", "--limit", "1"]).stdout;
    assert!(limited.contains("1795436902-102") && !limited.contains("1795436901-101"), "{limited}");
    assert!(limited.ends_with("2 more; run `repro log --limit 3`\n"), "{limited}");
    let whole = json(&space, &["log", "--json"]);
    assert_eq!((&whole["schema"], &whole["total"]), (&2.into(), &3.into()));
    assert_eq!(
        (&whole["runs"][0]["outcome"], &whole["runs"][0]["ran"]),
        (&"done".into(), &8.into())
    );
}

#[test]
fn the_log_of_one_run_lists_its_nodes_with_reasons_and_times() {
    let space = three_runs();
    let stdout = space.ok(&["log", "last"]).stdout;
    assert!(
        stdout.starts_with("run 1795436902-102, 2026-11-23T12:28:22Z: profile `twice`, 8 nodes\n"),
        "{stdout}"
    );
    assert!(stdout.contains("override: data.test=30\n"), "{stdout}");
    let net = stdout.lines().find(|line| line.contains("nets@prior=none,end=a")).unwrap();
    assert!(
        net.starts_with("  ran      nets@prior=none,end=a: ")
            && net.contains(" (param epochs 1 -> 2; "),
        "{net}"
    );
    for name in ["last~1", "1795436901", "101"] {
        let cached = space.ok(&["log", name]).stdout;
        assert_eq!(
            cached.lines().filter(|line| line.starts_with("  cached   ")).count(),
            8,
            "{cached}"
        );
    }
    let whole = json(&space, &["log", "102", "--json"]);
    assert_eq!((&whole["schema"], whole["nodes"].as_array().unwrap().len()), (&2.into(), 8));
    assert_eq!(whole["nodes"][0]["key"].as_str().unwrap().len(), 64);
}

#[test]
fn a_killed_run_is_in_the_log_as_far_as_it_got() {
    let space = three_runs();
    let path = "cache/v2/runs/1795436902-102.jsonl";
    let text = space.read(path);
    space.write(path, &text[..text.len() * 2 / 3]);
    let log = space.ok(&["log"]).stdout;
    assert!(log.lines().nth(1).unwrap().contains("  killed"), "{log}");
    space.ok(&["log", "last"]);
}

#[test]
fn a_failed_run_names_the_failed_node_and_the_skipped_ones() {
    let space = Space::with(
        "stages:\n  bad: { command: { run: 'echo no >&2; exit 3', outputs: [out] } }\n  \
         after:\n    \
         command: { run: 'cat inputs/x/out > out', outputs: [out], inputs: { x: bad } }\n",
    );
    space.exits(1, &["run"]);
    assert!(space.ok(&["log"]).stdout.lines().nth(1).unwrap().ends_with("  failed"));
    let stdout = space.ok(&["log", "last"]).stdout;
    assert!(
        stdout.contains("\n  failed   bad: ")
            && stdout.contains("\n  skipped  after: `bad` failed\n"),
        "{stdout}"
    );
    let whole = json(&space, &["log", "last", "--json"]);
    assert_eq!((&whole["outcome"], &whole["failed"]), (&"failed".into(), &1.into()));
}

#[test]
fn an_empty_log_is_no_error_and_an_unknown_run_is_one() {
    let space = Space::with(SMALL);
    assert_eq!(space.ok(&["log"]).stdout, "no runs yet\n");
    let refused = space.exits(2, &["log", "last"]).stderr;
    assert!(
        refused.contains("there are no runs yet")
            && refused.contains("hint: run `repro run` first"),
        "{refused}"
    );
    let space = three_runs();
    let refused = space.exits(2, &["log", "last~3"]).stderr;
    assert!(
        refused.contains("there is no run `last~3`") && refused.contains("lists all 3 runs"),
        "{refused}"
    );
}

#[test]
fn a_diff_of_two_runs_lists_parameters_metrics_and_files() {
    let space = three_runs();
    let text = space.ok(&["diff", "last~1", "last"]).stdout;
    assert!(
        text.starts_with(
            "# Changes from run `1795436901-101`, profile `once` \
             to run `1795436902-102`, profile `twice`, `-S data.test=30`\n"
        ),
        "{text}"
    );
    for line in ["| data.test | 20 | 30 |", "| nets.epochs | 1 | 2 |"] {
        assert!(words(&text).contains(line), "`{line}` in:\n{text}");
    }
    assert!(text.contains("## Metrics: tables, summary.csv"), "{text}");
    assert!(text.contains(" more rows; pass `--limit "), "long tables are cut: {text}");
    let nets = text
        .lines()
        .find(|line| line.starts_with("| nets ") && line.contains("net.safetensors"))
        .unwrap();
    let cells: Vec<&str> = nets.split('|').map(str::trim).collect();
    assert_eq!(cells[3..7], ["0", "4", "0", "0"], "same, changed, removed, added: {nets}");

    let whole = json(&space, &["diff", "last~1", "last", "--json"]);
    assert_eq!(whole["schema"], 2);
    let tables = whole["tables"].as_array().unwrap();
    let summary =
        tables.iter().find(|t| t["node"] == "tables" && t["file"] == "endpoints.csv").unwrap();
    let cell = &summary["changes"]["cells"][0];
    let number = |side: &str| cell[side].as_str().unwrap().parse::<f64>().unwrap();
    assert_eq!(cell["change"].as_f64().unwrap(), number("after") - number("before"));
    assert!(cell["row"].as_str().unwrap().starts_with("hidden=3, prior="), "{cell}");
}

#[test]
fn a_diff_of_two_equal_runs_is_empty() {
    let space = three_runs();
    let text = space.ok(&["diff", "last~2", "last~1"]).stdout;
    assert!(text.ends_with("\nNo differences.\n"), "{text}");
    assert!(!text.contains("## Parameters") && !text.contains("## Metrics"), "{text}");
    let whole = json(&space, &["diff", "last~2", "last~1", "--json"]);
    assert!(
        whole["files"].as_array().unwrap().iter().all(|file| file["state"] == "same"),
        "{whole}"
    );
}

#[test]
fn a_diff_of_two_profiles_works_if_one_has_not_run() {
    let space = Space::with(SMALL);
    space.ok(&["run"]);
    let text = space.ok(&["diff", "--profiles", "once", "twice"]).stdout;
    assert!(text.starts_with("# Changes from profile `once` to profile `twice`\n"), "{text}");
    assert!(words(&text).contains("| nets.epochs | 1 | 2 |") && !text.contains("seed"), "{text}");
    assert!(words(&text).contains("| nets | 4 | 0 | 0 | 0 | 4 |"), "{text}");
    space.ok(&["run", "--profile", "twice"]);
    let text = space.ok(&["diff", "--profiles", "once", "twice"]).stdout;
    assert!(
        text.contains("## Metrics: tables, endpoints.csv") && !text.contains("not cached"),
        "{text}"
    );
    let refused = space.exits(2, &["diff", "--profiles", "once", "thrice"]).stderr;
    assert!(refused.contains("there is no profile `thrice`"), "{refused}");
}

#[test]
fn a_diff_omits_the_tables_of_nodes_that_another_stage_aggregates() {
    let space = Space::run_tiny();
    space.ok(&["run", "-S", "nets.epochs=3"]);
    let text = space.ok(&["diff"]).stdout;
    assert!(
        text.contains("## Metrics: tables, summary.csv") && !text.contains("## Metrics: curves"),
        "{text}"
    );
    let omitted = text.lines().find(|line| line.starts_with("Omitted ")).unwrap();
    assert!(omitted.contains("16 tables of `nets`"), "{omitted}");
    let whole = json(&space, &["diff", "--json"]);
    let tables = whole["tables"].as_array().unwrap();
    assert_eq!(
        tables.iter().filter(|table| table["node"].as_str().unwrap().starts_with("nets@")).count(),
        16
    );
}
