//! Errors and reports of the study's stages.

use crate::space::Space;

#[test]
fn rows_with_the_same_key_are_not_averaged_as_pairs() {
    let space = Space::tiny();
    let failed = space.edit("epochs: 2", "epochs: [1, 2]").exits(1, &["run"]).stderr;
    assert!(failed.contains("two rows of `points.csv` have the same key `hidden=3,"), "{failed}");
    assert!(failed.contains("aggregate them in separate stages"), "{failed}");
}

#[test]
fn a_curve_between_nets_of_different_priors_is_an_error() {
    let space = Space::tiny();
    space.edit(
        "evaluate: { a: nets@end=a, b: nets@end=b,",
        "evaluate: { a: nets@prior=none,end=a, b: nets@prior=normal-0.01,end=b,",
    );
    let invalid = space.exits(2, &["run"]).stderr;
    assert!(invalid.contains("hint: write a reference with a comma in quotes"), "{invalid}");
    space.edit("nets@prior=none,end=a", "\"nets@prior=none,end=a\"");
    space.edit("nets@prior=normal-0.01,end=b", "\"nets@prior=normal-0.01,end=b\"");
    let failed = space.exits(1, &["run", "-k"]).stderr;
    let cause = "a net of `hidden=3, prior=none` cannot be joined to one of `hidden=3, \
                 prior=normal 0.01`";
    assert!(failed.contains(cause), "{failed}");
}

#[test]
fn two_reports_are_exported_to_separate_folders() {
    let space = Space::tiny();
    space.edit("figures: figures }", "figures: figures, about: [one, two] }").ok(&["run"]);
    for about in ["one", "two"] {
        let report = space.read(format!("reports/default/report@about={about}/report.md"));
        assert!(report.contains(&format!("\n{about}\n")), "{report}");
    }
}

#[test]
fn the_report_begins_with_the_verdict_and_has_no_empty_section() {
    let report = Space::run_tiny().read("reports/default/report.md");
    let headings: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(
        headings,
        [
            "Verdict",
            "Contents",
            "Methods: which curve has the lowest error?",
            "Widths: when do minima cease to be isolated?",
            "Priors: do they connect the minima better?",
            "Training and endpoints: which nets are connected?",
            "Full tables",
            "Settings and definitions",
            "Provenance",
            "Glossary",
            "References",
            "How to cite",
        ]
    );
    let (_, verdict) = report.split_once("## Verdict\n").unwrap();
    let (verdict, _) = verdict.split_once("## Contents").unwrap();
    // One pair of generated images: every number is shown, and nothing is decided.
    let leads: Vec<&str> = verdict
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once(".**"))
        .map(|(lead, _)| lead)
        .collect();
    assert_eq!(
        leads[..2],
        ["There are too few pairs for a verdict", "The effect of the width is not tested"]
    );
    assert!(verdict.contains("The images are generated (`digits`), not MNIST."), "{verdict}");
    assert!(!report.contains("NaN") && !report.contains("talk: "), "{report}");
}

#[test]
fn the_report_has_training_and_barriers() {
    let space = Space::run_tiny();
    let (report, histories) = ("reports/default/report.md", "reports/default/tables/histories.csv");
    // 2 widths, 2 priors and 2 ends, 2 epochs each.
    let rows: Vec<String> = space.read(histories).lines().map(str::to_owned).collect();
    assert_eq!(rows.len(), 1 + 2 * 2 * 2 * 2);
    assert!(rows[1].starts_with("3,none,1a,1,"), "{}", rows[1]);
    let text = space.read(report);
    assert!(text.contains("- Prior none, 4 nets: training error "), "{text}");
    let summary = space.read("reports/default/tables/summary.csv");
    let header: Vec<&str> = summary.lines().next().unwrap().split(',').collect();
    let at = header.iter().position(|column| *column == "mean").unwrap();
    let mean = |metric: &str| -> f64 {
        let row = summary
            .lines()
            .find(|line| line.starts_with(&format!("3,none,linear,test,{metric},")))
            .unwrap();
        row.split(',').nth(at).unwrap().parse().unwrap()
    };
    let (_, barriers) = text.split_once("Barriers of loss and error: no prior").unwrap();
    let cell = format!("{:.3} / {:.2}", mean("barrier_loss"), mean("barrier_error"));
    let linear = barriers.lines().find(|line| line.starts_with("| Linear ")).unwrap();
    assert!(linear.contains(&cell), "{cell}: {linear}");
}

#[test]
fn an_unknown_axis_gives_a_hint_with_the_nearest_name() {
    let error = Space::tiny().exits(2, &["plan", "nets@hiden=3"]);
    insta::assert_snapshot!(error.stderr, @r"
    error: target: `nets` has no `hiden`
    hint: did you mean `hidden`?
    ");
}
