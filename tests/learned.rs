//! Learned curves in a pipeline: what `learn` writes, what runs after a change, and which mistakes
//! are refused before anything runs.

use crate::space::{Space, set};

/// Bends between two nets, with and without alignment, and the report on their curves.
const PIPELINE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100, validation: 50 }
  nets:
    train: { data: data, hidden: 6, end: [a, b], epochs: 3, batch: 16 }
  matched:
    align: { a: nets@end=a, b: nets@end=b }
  bends:
    learn:
      { a: nets@end=a, b: nets@end=b, data: data, curve: [bezier, chain:2], epochs: 3, batch: 16 }
  matched-bends:
    learn: { a: nets@end=a, b: matched, data: data, curve: bezier, epochs: 3, batch: 16 }
  lines:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: [linear, arc], points: 7 }
  curves:
    evaluate:
      { a: nets@end=a, b: nets@end=b, data: data, bends: bends, curve: learned, points: 7 }
  matched-curves:
    evaluate:
      { a: nets@end=a, b: matched, data: data, bends: matched-bends, curve: learned, points: 7 }
  tables:
    aggregate: { curves: [lines, curves, matched-curves], nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: [overview, error-by-method] }
  report:
    report: { data: data, tables: tables, figures: figures }
";

/// The value in `column` on the training images in the table `metrics.csv` of `node`.
fn on_train(space: &Space, node: &str, column: &str) -> String {
    let table = space.output(node, "metrics.csv");
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let row = lines.find(|row| row[at("split")] == "train").unwrap();
    row[at(column)].to_owned()
}

#[test]
fn learned_curves_are_measured_and_reported_beside_the_others() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let expected = [
        ("curves@curve=bezier", "bezier"),
        ("curves@curve=chain:2", "chain:2"),
        ("matched-curves", "bezier+ot"),
    ];
    let barrier = |node: &str| on_train(&space, node, "barrier_loss").parse::<f64>().unwrap();
    for (node, method) in expected {
        assert_eq!(on_train(&space, node, "method"), method);
        for end in ["error_a", "error_b"] {
            let on_line = on_train(&space, "lines@curve=linear", end);
            assert_eq!(on_train(&space, node, end), on_line, "{node}, {end}");
        }
    }
    for node in ["curves@curve=bezier", "curves@curve=chain:2"] {
        assert!(barrier(node) <= barrier("lines@curve=linear"), "{node}");
    }
    let history = space.output("bends@curve=bezier", "history.csv");
    assert_eq!(history.lines().count(), 4, "{history}");
    let report = space.read("reports/default/report.md");
    for text in ["Bezier + OT", "Chain (2)", "A learned curve: (1 - t)", "The bends of a learned"] {
        assert!(report.contains(text), "`{text}` is not in the report");
    }
}

#[test]
fn another_number_of_epochs_reruns_the_learned_curves_alone() {
    let space = Space::with(PIPELINE);
    space.ok(&["run", "curves", "lines"]);
    space.edit("curve: [bezier, chain:2], epochs: 3", "curve: [bezier, chain:2], epochs: 2");
    let expected = set([
        "bends@curve=bezier",
        "bends@curve=chain:2",
        "curves@curve=bezier",
        "curves@curve=chain:2",
    ]);
    assert_eq!(space.ran(&["curves", "lines"]), expected);
}

#[test]
fn bends_and_curves_that_do_not_fit_are_refused_before_anything_runs() {
    let space = Space::with(PIPELINE);
    space.edit("bends: bends, curve: learned", "curve: learned");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(refused.contains("stage `curves`: `curve: learned` needs `bends`"), "{refused}");
    assert!(refused.contains("hint: write `bends: STAGE`"), "{refused}");
    let space = Space::with(PIPELINE);
    space.edit("bends: bends, curve: learned", "bends: bends, curve: arc");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(refused.contains("stage `curves`: `curve: arc` has no `bends`"), "{refused}");
}

#[test]
fn bends_between_other_nets_are_refused() {
    let space = Space::with(PIPELINE);
    space.edit("bends: matched-bends", "bends: bends@curve=bezier");
    let failed = space.exits(1, &["run", "matched-curves"]).stderr;
    assert!(
        failed.contains("`bends` were learned between other nets than `a` and `b`"),
        "{failed}"
    );
}
