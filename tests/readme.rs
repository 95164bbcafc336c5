//! README.md, the shipped pipeline.yaml and .ci/run agree with the program.

use crate::space::Space;
use std::path::{Path, PathBuf};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project(path)).unwrap_or_else(|e| panic!("cannot read {path}: {e}"))
}

/// The lines of the code blocks of README.md in a language.
fn code(language: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = None;
    for line in read("README.md").lines() {
        match (line.strip_prefix("```"), &inside) {
            (Some(opened), None) => inside = Some(opened.trim().to_owned()),
            (Some(_), Some(_)) => inside = None,
            (None, Some(opened)) if opened == language => lines.push(line.to_owned()),
            (None, _) => {}
        }
    }
    assert_eq!(inside, None, "a code block is not closed");
    lines
}

/// The shipped pipeline in a temporary project.
fn shipped() -> Space {
    Space::with(&read("pipeline.yaml"))
}

const RUN: &str = "cargo run --release -- run";
const TEST: &str = "cargo test --release";

#[test]
fn the_first_commands_in_readme_run_the_study_and_the_tests() {
    let blocks = code("sh");
    let commands: Vec<&str> =
        blocks.iter().map(|line| line.split('#').next().unwrap().trim()).collect();
    assert_eq!(commands[..2], [RUN, TEST]);
}

#[test]
fn ci_runs_the_test_command_of_readme() {
    assert!(read(".ci/run").lines().any(|line| line.trim() == TEST));
}

#[test]
fn ci_checks_the_ci_profile_against_the_lock() {
    let script = read(".ci/run");
    assert!(script.contains("cp pipeline.yaml pipeline.lock \"$space/\""), "{script}");
    assert!(script.lines().any(|line| line.ends_with(" run --profile ci --locked")), "{script}");
}

/// The `repro` commands in README.md, in code blocks and between backticks.
fn commands() -> Vec<String> {
    let text = read("README.md");
    let quoted = text.split('`').skip(1).step_by(2).filter(|quote| !quote.contains('\n'));
    let lines =
        code("sh").into_iter().map(|line| line.split(" #").next().unwrap().trim().to_owned());
    let all = lines.chain(quoted.map(str::to_owned));
    let ours = all.map(|line| line.replace("cargo run --release -- ", "repro "));
    ours.filter(|line| line.starts_with("repro ")).collect()
}

/// Splits a line like a shell, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn every_command_in_readme_is_valid() {
    let commands = commands();
    assert!(commands.len() >= 8, "{commands:?}");
    let space = shipped();
    for line in commands {
        let line =
            line.replace("[TARGET...]", "").replace("TARGET", "nets").replace(" DIR", " folder");
        let mut arguments = words(&line);
        arguments.remove(0);
        if arguments.first().is_none_or(|first| first != "help") {
            arguments.push("--help".to_owned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let help = space.ok(&arguments).stdout;
        assert!(help.contains("Usage: "), "`{line}`:\n{help}");
    }
}

#[test]
fn every_plan_in_readme_succeeds() {
    let plans: Vec<String> =
        commands().into_iter().filter(|line| line.starts_with("repro plan ")).collect();
    assert!(!plans.is_empty());
    for line in plans {
        let arguments = words(&line);
        shipped().ok(&arguments[1..].iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn every_option_and_target_in_readme_is_valid() {
    let text = read("README.md");
    let quoted: Vec<&str> =
        text.split('`').skip(1).step_by(2).filter(|quote| !quote.contains('\n')).collect();
    let space = shipped();
    let (mut targets, mut overrides) = (0, 0);
    for quote in quoted {
        if quote.starts_with("-S ") || quote.starts_with("--profile ") {
            overrides += 1;
            space.ok(&[&["plan"], &*words(quote).iter().map(String::as_str).collect::<Vec<_>>()]
                .concat());
        } else if quote.contains('@') && !quote.contains(' ') {
            targets += 1;
            space.ok(&["plan", quote]);
        }
    }
    assert!(targets > 0 && overrides > 0);
}

#[test]
fn every_profile_has_the_expected_number_of_nodes() {
    // For each width and prior: the nets; for each pair of them two alignments, three curves, the
    // same three after one alignment, one after the other. Then the curves with WA, which are fewer
    // where a profile restricts them, and data, tables, figures and report.
    let case = |profile: &str, cells: usize, nets: usize, wa: usize, figures: usize| {
        let pairs = nets * (nets - 1) / 2;
        let expected = cells * (nets + (2 + 3 + 3 + 1) * pairs) + wa + 1 + 1 + figures + 1;
        assert_eq!(shipped().plan(&["--profile", profile]).len(), expected, "{profile}");
    };
    case("quick", 3 * 3, 4, 3 * 3 * 6 * 3, 10);
    case("tables", 6 * 3, 6, (4 * 15 + 2 * 3) * 3 * 3, 10);
    case("deep", 4 * 2, 4, 4 * 2 * 2 * 2, 5);
    case("ci", 2 * 2, 4, 2 * (6 + 2) * 2 + 2 * 2 * 6, 10);
    let declared = read("pipeline.yaml").split_once("profiles:\n").unwrap().1.to_owned();
    let profiles = declared
        .lines()
        .filter(|l| l.starts_with("  ") && !l.starts_with("   ") && !l.contains('#'));
    let profiles: Vec<&str> = profiles.map(|line| line.trim().trim_end_matches(':')).collect();
    assert_eq!(
        profiles,
        ["quick", "tables", "paper", "deep", "ci"],
        "add the new profile to this test"
    );
}

#[test]
fn paper_has_every_curve_and_prior() {
    let nodes = shipped().plan(&["--profile", "paper"]);
    let count = |stage: &str| {
        let of_stage = |node: &&serde_json::Value| {
            node["node"].as_str().unwrap().split('@').next() == Some(stage)
        };
        nodes.iter().filter(of_stage).count()
    };
    // Six nets of seven widths without prior, four of four widths with each of seven priors.
    let (nets, pairs) = (7 * 6 + 7 * 4 * 4, 7 * 15 + 7 * 4 * 6);
    assert_eq!([count("nets"), count("matched"), count("curves")], [nets, pairs, 3 * pairs]);
    // Pairs without a common net.
    let disjoint = 7 * 3 + 7 * 4 * 2;
    let others = ["activations-curves", "dropout-curves", "repair-curves"];
    assert_eq!(others.map(count), [disjoint; 3]);
    assert_eq!(count("blend-curves"), disjoint - 7 * 2);
    assert_eq!(count("bezier-curves"), disjoint - 6 * 2);
    assert_eq!(["matched-bezier-curves", "chain-curves"].map(count), [7 * 3, 2 * 3]);
    assert_eq!([count("planes"), count("shared-curves")], [2, 2 * 4 * 6]);
}

#[test]
fn every_profile_has_rho_arc_with_and_without_ot_and_wa_after_ot() {
    for profile in ["quick", "tables", "paper", "deep", "ci"] {
        let nodes = shipped().plan(&["--profile", profile]);
        let has = |start: &str, end: &str| {
            let mut names = nodes.iter().map(|node| node["node"].as_str().unwrap());
            names.any(|name| name.starts_with(start) && name.ends_with(end))
        };
        let rho_arc = ",curve=rho-arc";
        assert!(has("curves@", rho_arc) && has("matched-curves@", rho_arc), "{profile}");
        assert!(has("incoming-curves@", "") && has("incoming-wa-curves@", ""), "{profile}");
    }
}

#[test]
fn quick_is_the_default_profile() {
    let stdout = shipped().ok(&["plan"]).stdout;
    assert!(stdout.starts_with("profile `quick`: "), "{stdout}");
}

#[test]
fn a_report_is_exported_to_the_folder_of_its_profile_and_names_it() {
    let space = shipped();
    space.ok(&["run", "--profile", "ci", "-S", "nets.net=[1, 2, 3, 4]"]);
    let report = space.read("reports/ci/report.md");
    assert!(
        report.contains("repro run --profile ci -S 'nets.net=[1, 2, 3, 4]' tables"),
        "{report}"
    );
    assert!(
        !report.contains("The smallest run"),
        "with an override, the description of the profile may be wrong"
    );
}

#[test]
fn files_that_readme_links_to_exist() {
    let text = read("README.md");
    let links: Vec<&str> =
        text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    let local: Vec<&&str> =
        links.iter().filter(|link| !link.contains("://") && !link.starts_with('#')).collect();
    assert!(local.len() >= 3, "{links:?}");
    for link in local {
        assert!(project(link).exists(), "{link}");
    }
}
