//! A user's own text for the report: `examples/template`, and messages for invalid placeholders.

use crate::extras::example;
use crate::space::{Space, TINY, nothing, set};

/// The cell of the summary in `column`, in the row that begins with `key`.
fn cell(space: &Space, key: &str, column: &str) -> f64 {
    let table = space.output("tables", "summary.csv");
    let mut lines = table.lines();
    let at = lines.next().unwrap().split(',').position(|name| name == column).unwrap();
    let row = lines.find(|line| line.starts_with(&format!("{key},"))).unwrap();
    row.split(',').nth(at).unwrap().parse().unwrap()
}

#[test]
fn the_example_is_the_report_with_values_figures_and_tables() {
    let space = example("template", &["paper.md"]);
    space.ok(&["run"]);
    let report = space.read("reports/default/report.md");
    let page = space.read("reports/default/report.html");
    assert!(report.starts_with("# Straight lines and arcs between small nets\n"), "{report}");
    assert!(page.contains("<title>Straight lines and arcs between small nets</title>"));
    let line = cell(&space, "16,normal 0.01,linear,test,max_error", "mean");
    for part in [
        &format!("latter is [{line:.1}](<#values> \"") as &str,
        "(<figures/error-by-width.svg>)",
        "**Errors of the nets",
        "`{{ value: tables/summary.csv where hidden=4, ... column=mean }}`",
        "Elsewhere, {{ stands for two braces.",
        "## Sources of the values",
        "## Settings and definitions",
        "## Provenance",
    ] {
        let part = part.trim_start_matches("**").replace("(<#values>", "(#values");
        assert!(report.contains(&part), "`{part}` is not in:\n{report}");
    }
    for absent in ["## Verdict", "A comment", "(<figures/error-by-method.svg>)"] {
        assert!(!report.contains(absent), "`{absent}` is in:\n{report}");
    }
    assert!(page.contains(&format!("{line:.1}</a>")), "the page has the value");
    assert_eq!(space.ran(&[]), nothing());
    let paper = space.read("paper.md");
    space.write("paper.md", paper.replace("Straight lines", "Lines"));
    assert_eq!(space.ran(&[]), set(["report"]), "only the report depends on the template");
    assert!(space.read("reports/default/report.md").starts_with("# Lines and arcs"));
    std::fs::rename(space.join("paper.md"), space.join("moved.md")).unwrap();
    space.edit("template: paper.md", "template: ./moved.md").write("moved.md", "text\n");
    assert_eq!(space.ran(&[]), set(["report"]));
}

/// A project that has run, with this template for its report.
fn space(template: &str) -> Space {
    let space = Space::run_tiny();
    space.edit("figures: figures }", "figures: figures, template: text/paper.md }");
    space.write("text/paper.md", template);
    space
}

/// The cause and the hint of the report's failure.
#[track_caller]
fn failure(space: &Space) -> String {
    let failed = space.exits(1, &["run"]).stderr;
    let lines = failed.lines().skip_while(|line| !line.contains("report: failed: "));
    let lines: Vec<&str> = lines.take(2).collect();
    let (_, cause) = lines[0].split_once("failed: ").unwrap();
    format!("{cause}\n  {}", lines[1].trim())
}

#[test]
fn an_invalid_template_fails_the_report_with_its_place_and_a_hint() {
    let space = space("");
    let row = "where hidden=3, prior=none, method=linear, split=test, metric=max_error";
    let templates = [
        "a\n\nb {{ vlaue: tables/summary.csv column=mean }}\n".to_owned(),
        "{{ value: tables/sumary.csv column=mean }}".to_owned(),
        format!("{{{{ value: tables/summary.csv {row} column=maen }}}}"),
        "{{ value: tables/summary.csv where hidden=5 column=mean }}".to_owned(),
        "{{ value: tables/summary.csv where hidden=3, prior=none, method=linear column=mean }}"
            .to_owned(),
        format!("é {{{{ value: tables/summary.csv {row} column=low }}}}"),
        "a {{ figure: error-by-width }}\n".to_owned(),
        "{{ figure: eror-by-width }}".to_owned(),
        "{{ figure: error-by-width }}\n\n{{ figure: error-by-width }}\n".to_owned(),
        "- a\n\n  {{ figure: error-by-width }}\n".to_owned(),
        "{{ table: endpoint-errors }}".to_owned(),
        "{{ section: setings }}".to_owned(),
        "{{ extra: draw/figure.svg }}".to_owned(),
        "a {{".to_owned(),
        "[a](#setings)".to_owned(),
        "[a](b.md)".to_owned(),
        "![a](b.png)".to_owned(),
        "a <b>c</b>".to_owned(),
    ];
    let failures = templates.map(|template| {
        space.write("text/paper.md", template);
        failure(&space)
    });
    insta::assert_snapshot!(failures.join("\n"), @r"
    paper.md:3:3: unknown placeholder `vlaue`
      hint: did you mean `value`?; write `{{{{` for two braces
    paper.md:1:11: there is no table `tables/sumary.csv`
      hint: did you mean `tables/summary.csv`?
    paper.md:1:109: `tables/summary.csv` has no column `maen`
      hint: did you mean `mean`?
    paper.md:1:43: no row of `tables/summary.csv` has `hidden=5`
      hint: `hidden` is `3` or `4`
    paper.md:1:1: 24 rows of `tables/summary.csv` have `hidden=3, prior=none, method=linear`, and the value needs one
      hint: add conditions on `split` (`test` or `train`), `metric` (`barrier_error`, `barrier_loss`, `error_a`, `error_b`, `excess_error`, `length_over_chord` or 6 others)
    paper.md:1:3: `low` of this row of `tables/summary.csv` is empty
      hint: the table has no such value; for example, an interval requires several pairs
    paper.md:1:3: only a value can be within text
      hint: put the placeholder on a line of its own
    paper.md:1:1: there is no figure `eror-by-width`
      hint: did you mean `error-by-width`?
    paper.md:3:1: the figure `error-by-width` is placed twice
      hint: its first place is paper.md:1:1
    paper.md:3:3: the placeholder is in a list or a quote
      hint: begin its line with `{{`, after an empty line
    paper.md:1:1: there is no table `endpoint-errors`
      hint: did you mean `endpoints-errors`?
    paper.md:1:1: there is no section `setings`
      hint: did you mean `settings`?
    paper.md:1:1: there is no extra `draw/figure.svg`
      hint: `extras` has no files
    paper.md:1:3: the placeholder has no name
      hint: known: `value`, `figure`, `table`, `section`, `extra`; write `{{{{` for two braces
    paper.md:1:1: the link `#setings` leads to no heading, figure or table
      hint: did you mean `settings`?
    paper.md:1:1: the link `b.md` leads to no file of the report
      hint: write a URL with `https://`, or the name of a file or heading of the report
    paper.md:1:1: the image `b.png` is not in the report
      hint: write the image in a stage, add the stage to `extras`, and write `STAGE/FILE`; `{{ figure: NAME }}` places a figure of the study
    paper.md:1:3: HTML is not shown in Markdown
      hint: write Markdown, put it between backticks, or show an `.html` file of a stage
    ");
}

#[test]
fn a_template_that_is_missing_empty_or_no_text_is_an_error() {
    let space = space("x\n");
    space.write("text/other.md", "y\n");
    space.edit("template: text/paper.md", "template: text/papers.md");
    let refused = space.exits(2, &["run"]).stderr;
    assert!(refused.contains("there is no file or folder `text/papers.md`"), "{refused}");
    space.edit("template: text/papers.md", "template: \"\"");
    let refused = space.exits(2, &["run"]).stderr;
    assert!(refused.contains("`template` is empty\nhint: write `template: FILE.md`"), "{refused}");
    space.edit("template: \"\"", "template: text");
    assert_eq!(
        failure(&space),
        "`template` is a folder with several files\n  hint: write `template: FILE.md`"
    );
    space.edit("template: text", "template: text/paper.md").write("text/paper.md", b"\xff");
    assert_eq!(failure(&space), "the template `paper.md` is not UTF-8\n  hint: save it as UTF-8");
}

#[test]
fn a_template_without_placeholders_is_the_text_of_the_report() {
    let text = "Some *text* with `{{ code }}`.\n\n- a list\n  1. of lists\n\n\
                | h | error |\n| - | ----: |\n| 3 | 1.5 |\n\n```text\n{{ code }}\n```";
    let space = space(&format!("# A title\n\n{text}\n\n## Settings\n\n[here](#settings)\n"));
    assert_eq!(space.ran(&[]), set(["report"]));
    let report = space.read("reports/default/report.md");
    assert!(report.starts_with(&format!("# A title\n\n{text}\n")), "{report}");
    // The template's own heading has another anchor than the section that follows.
    assert!(report.contains("<a id=\"settings-1\"></a>\n\n## Settings\n"), "{report}");
    assert!(report.contains("<a id=\"settings\"></a>\n\n## Settings and definitions\n"));
}

#[test]
fn a_placed_section_is_not_repeated_at_the_end() {
    let space = space("{{ section: provenance }}\n\n## End\n\n{{ section: settings }}\n");
    space.ok(&["run"]);
    let report = space.read("reports/default/report.md");
    let at = |text: &str| {
        assert_eq!(report.matches(text).count(), 1, "`{text}` in:\n{report}");
        report.find(text).unwrap()
    };
    assert!(at("## Provenance\n") < at("## End\n") && at("## End\n") < at("## Settings and"));
    assert!(TINY.contains("figures: figures }"));
}
