//! Curves with rescaled neurons (REPAIR) and dropout-stable paths in a pipeline: what is measured
//! and reported, what runs after a change, and which mistakes are refused before anything runs.

use crate::space::{Space, set};

/// Curves of every kind between two nets, and the report on them.
const PIPELINE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100, validation: 50 }
  nets:
    train:
      { data: data, hidden: [6, 6x5], bias: [false, true], end: [a, b], epochs: 3, batch: 16 }
  matched:
    align: { a: nets@end=a, b: nets@end=b, data: data, cost: activations }
  lines:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 7 }
  paths:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: dropout-path, points: 15 }
  repaired:
    evaluate:
      { a: nets@end=a, b: matched, data: data, curve: linear, repair: true, points: 7 }
  tables:
    aggregate: { curves: [lines, paths, repaired], nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: [overview, error-by-method] }
  report:
    report: { data: data, tables: tables, figures: figures }
";

const SHAPES: [&str; 4] =
    ["hidden=6,bias=false", "hidden=6,bias=true", "hidden=6x5,bias=false", "hidden=6x5,bias=true"];

/// The values of a `column` in a table of `node`, on the training images.
fn on_train(space: &Space, node: &str, table: &str, column: &str) -> Vec<String> {
    let table = space.output(node, table);
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let at = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let rows = lines.filter(|row| row[at("split")] == "train");
    rows.map(|row| row[at(column)].to_owned()).collect()
}

#[test]
fn repaired_curves_and_dropout_paths_are_measured_and_reported_beside_the_others() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    for shape in SHAPES {
        let [line, path, repaired] =
            ["lines", "paths", "repaired"].map(|stage| format!("{stage}@{shape}"));
        let metric = |node: &str, column: &str| on_train(&space, node, "metrics.csv", column);
        assert_eq!(metric(&path, "method"), ["dropout-path"]);
        assert_eq!(metric(&repaired, "method"), ["linear+ot:activations+repair"]);
        for end in ["error_a", "error_b"] {
            for node in [&path, &repaired] {
                assert_eq!(metric(node, end), metric(&line, end), "{node}, {end}");
            }
        }
        let points = |node: &str| on_train(&space, node, "points.csv", "t").len();
        // Seven segments of two steps, or eleven of two.
        let expected = if shape.contains("6x5") { 23 } else { 15 };
        assert_eq!([points(&path), points(&repaired)], [expected, 7], "{shape}");
        let log = space.ok(&["logs", &repaired]).stdout;
        assert_eq!(log, "neurons are rescaled by their statistics on 250 training images\n");
    }
    let report = space.read("reports/default/report.md");
    let texts =
        ["Dropout path", "Linear + OT (activations) + REPAIR", "arXiv:2211.08403", "1906.06247"];
    for text in texts {
        assert!(report.contains(text), "`{text}` is not in the report");
    }
}

#[test]
fn show_says_what_a_curve_is() {
    let space = Space::with(PIPELINE);
    space.ok(&["run", "lines", "paths", "repaired"]);
    let shown = |stage: &str| space.ok(&["show", &format!("{stage}@{}", SHAPES[0])]).stdout;
    let line = "  method   The straight line from A to B in parameter space, (1 - t) A + t B.\n";
    assert!(shown("lines").contains(line));
    assert!(shown("repaired").contains(line));
    let repair = "  method   At each point of the curve, from the first layer upwards";
    assert!(shown("repaired").contains(repair) && !shown("lines").contains(repair));
    assert!(shown("paths").contains("  method   Straight segments from A to B over nets"));
}

#[test]
fn a_repair_is_in_the_key_only_where_it_acts() {
    let space = Space::with(PIPELINE);
    space.ok(&["run", "lines", "repaired"]);
    space.edit("curve: linear, points: 7", "curve: linear, repair_images: 50, points: 7");
    space.edit("repair: true,", "repair: true, repair_images: 10000,");
    assert_eq!(space.ran(&["lines", "repaired"]), set([]));
    space.edit("repair_images: 10000,", "repair_images: 50,");
    let repaired = SHAPES.map(|shape| format!("repaired@{shape}"));
    let repaired = repaired.each_ref().map(String::as_str);
    assert_eq!(space.ran(&["lines", "repaired"]), set(repaired));
}

#[test]
fn repairs_and_paths_that_do_not_fit_are_refused() {
    let space = Space::with(PIPELINE);
    space.edit("curve: linear, repair: true", "curve: linear+wa, repair: true");
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(refused.contains("`curve: linear+wa` has no `repair: true`"), "{refused}");
    assert!(refused.contains("hint: write `curve: linear`, or leave `repair` out"), "{refused}");
    let space = Space::with(PIPELINE);
    space.edit("hidden: [6, 6x5]", "hidden: 6x1");
    let failed = space.exits(1, &["run", "paths"]).stderr;
    assert!(failed.contains("layer 2 has one neuron"), "{failed}");
}
