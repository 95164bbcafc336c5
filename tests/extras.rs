//! Files of the user's own stages in the report: `examples/extras`, and messages for files that a
//! report cannot show.

use crate::space::{Space, nothing, set};
use std::path::Path;
use std::process::Command;

/// Whether there is a Python that a command finds without `PATH` of the caller.
#[expect(clippy::print_stdout, reason = "the test's output shows that it was skipped")]
fn has_python() -> bool {
    let found = Command::new("/usr/bin/env")
        .args(["-i", "PATH=/usr/local/bin:/usr/bin:/bin", "python3", "-V"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: there is no python3 in /usr/local/bin, /usr/bin or /bin");
    }
    found
}

/// A project with the files of an example.
pub(crate) fn example(name: &str, files: &[&str]) -> Space {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let space = Space::with(&read("pipeline.yaml"));
    files.iter().for_each(|file| _ = space.write(file, read(file)));
    space
}

#[test]
fn the_example_shows_a_file_of_each_format_in_the_report() {
    if !has_python() {
        return;
    }
    let space = example("extras", &["explore.py"]);
    space.ok(&["run"]);
    let report = space.read("reports/default/report.md");
    for part in [
        "### What the curves cost",
        "#### Numbers",
        "(<extras/explore/excess.svg>)",
        "**Mean excess error by curve and width",
        "Largest error on the curve minus that at the worse end.",
        "**Excess error as grey levels",
        "*white* is lowest.",
        "(<extras/explore/rows.html>)",
        "mean excess, %",
        "[a table](<extras/explore/excess.csv>)",
        "computed by `repro run explore`, which runs `python3 explore.py`.",
        "Not shown, of `explore`: `raw.json`.",
    ] {
        let part = part.trim_start_matches("**");
        assert!(report.contains(part), "`{part}` is not in:\n{report}");
    }
    assert_eq!(report.matches("(<extras/explore/excess.svg>)").count(), 1, "shown once");
    let page = space.read("reports/default/report.html");
    for part in ["src=\"data:image/png;base64,", "src=\"data:image/svg+xml;base64,", "<iframe "] {
        assert_eq!(page.matches(part).count(), 1, "{part}");
    }
    for file in ["notes.md", "excess.csv", "excess.svg", "heatmap.png", "rows.html"] {
        let exported = std::fs::read(space.join(format!("reports/default/extras/explore/{file}")));
        let stored = std::fs::read(space.object(&space.digests()["explore"][file]));
        assert_eq!(exported.unwrap(), stored.unwrap(), "{file}");
    }
    assert!(!space.join("reports/default/extras/explore/raw.json").exists());
    assert_eq!(space.ran(&[]), nothing());
    space.edit("Excess error as bars", "As bars");
    assert_eq!(space.ran(&[]), set(["report"]), "a caption is a parameter of the report");
    let script = space.read("explore.py");
    space.write("explore.py", script.replace("one column for each pair;", "by pair;"));
    assert_eq!(space.ran(&[]), set(["explore", "report"]));
}

/// The smallest pipeline with a report whose `extras` is a command.
fn pipeline(run: &str, outputs: &str, report: &str) -> String {
    format!(
        "stages:
  data:
    fetch: {{ dataset: digits, train: 100, test: 20 }}
  nets:
    train: {{ data: data, hidden: 3, end: [a, b], epochs: 1 }}
  curves:
    evaluate: {{ a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 3 }}
  tables:
    aggregate: {{ curves: curves, nets: nets }}
  figures:
    plot: {{ data: data, tables: tables, figure: error-by-width }}
  draw:
    command: {{ run: \"{run}\", outputs: {outputs} }}
  report:
    report: {{ data: data, tables: tables, figures: figures, extras: draw{report} }}
"
    )
}

#[test]
fn a_file_that_cannot_be_shown_fails_the_report_with_its_reason_and_a_hint() {
    #[track_caller]
    fn case(run: &str, outputs: &str, report: &str, message: &str) {
        let failed = Space::with(&pipeline(run, outputs, report)).exits(1, &["run"]).stderr;
        assert!(failed.contains(&format!("report: failed: {message}")), "{failed}");
    }
    let choice = "`show: { draw: [FILE, ...] }` chooses the files to show";
    case(
        "echo x > a.pdf",
        "[a.pdf]",
        "",
        &format!(
            "the report cannot show `draw/a.pdf`: files of type `.pdf` are not supported\n    \
             hint: write it as SVG or PNG; {choice}"
        ),
    );
    case(
        "echo x > a.png",
        "[a.png]",
        "",
        &format!(
            "the report cannot show `draw/a.png`: it is not of type image/png\n    hint: {choice}"
        ),
    );
    case(
        "printf 'a,b\\\\n1\\\\n' > a.csv",
        "[a.csv]",
        "",
        &format!(
            "the report cannot show `draw/a.csv`: line 2 has 1 cell, but line 1 has 2 cells\n    \
             hint: write it as in RFC 4180; {choice}"
        ),
    );
    case(
        "echo '![x](b.png)' > a.md",
        "[a.md]",
        "",
        "draw/a.md:1:1: the image `b.png` is not in `extras`\n    hint: write the image as another \
         output of the stage",
    );
    case(
        "echo x > a.md",
        "[a.md]",
        ", show: { darw: [a.md] }",
        "unknown stage `darw` in `show`\n    hint: did you mean `draw`?",
    );
    case(
        "echo x > a.md",
        "[a.md]",
        ", captions: { draw/b.md: { title: x } }",
        "unknown name `draw/b.md` in `captions`\n    hint: did you mean `draw/a.md`?",
    );
}

#[test]
fn files_with_hostile_names_are_shown_and_stay_in_the_folder_of_the_report() {
    let names = ["a b.md", "`x`.md", "<b>.md", "[x](y).md", "..x.md", "ä|*_.md"];
    let outputs = names.map(|name| format!("\"{name}\"")).join(", ");
    let run =
        "for name in 'a b' '`x`' '<b>' '[x](y)' ..x 'ä|*_'; do echo text > \\\"$name.md\\\"; done";
    let space = Space::with(&pipeline(run, &format!("[{outputs}]"), ""));
    space.ok(&["run"]);
    for name in names {
        assert_eq!(space.read(format!("reports/default/extras/draw/{name}")), "text\n", "{name}");
    }
    let page = space.read("reports/default/report.html");
    assert!(!page.contains("<b>.md") && page.contains("&lt;b&gt;.md"), "names are escaped");
}
