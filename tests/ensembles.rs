//! The stage `ensemble`, and how its results reach the figure and the report.

use crate::space::Space;
use std::collections::BTreeMap;

/// All pairs of four nets at two widths, by three methods.
const PIPELINE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 200, validation: 50 }
  nets:
    train: { data: data, hidden: [6, 12], net: [1, 2, 3, 4], epochs: 2 }
  matched:
    align:
      a: &a { stage: nets, rename: { net: a } }
      b: &b { stage: nets, rename: { net: b } }
      where: a < b
  curves:
    evaluate: { a: *a, b: *b, where: a < b, data: data, curve: linear, points: 3 }
  tables:
    aggregate: { curves: curves, nets: nets }
  ensembles:
    ensemble:
      a: *a
      b: *b
      where: a < b
      data: data
      curve: [linear, linear+wa]
      members: [2, 5]
  matched-ensembles:
    ensemble: { a: *a, b: matched, data: data, curve: linear }
  figures:
    plot: { data: data, tables: tables, figure: max-error-by-width }
  ensemble-figure:
    plot:
      data: data
      tables: tables
      ensembles: [ensembles, matched-ensembles]
      figure: ensembles
  report:
    report:
      data: data
      tables: tables
      figures: [figures, ensemble-figure]
      ensembles: [ensembles, matched-ensembles]
";

/// The rows of a table by (kind, split): error, loss and ECE.
fn rows(csv: &str) -> BTreeMap<(String, String), [String; 3]> {
    let header = csv.lines().next().unwrap();
    assert_eq!(header, "hidden,prior,method,pair,kind,members,split,trained,error,loss,ece");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let key = (cells[4].to_owned(), cells[6].to_owned());
        (key, [8, 9, 10].map(|i: usize| cells[i].to_owned()))
    };
    csv.lines().skip(1).map(row).collect()
}

#[test]
fn ensembles_are_measured_drawn_and_reported() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let node = |curve: &str, members: u32| {
        let node = format!("ensembles@hidden=6,a=1,b=2,curve={curve},members={members}");
        rows(&space.output(&node, "ensembles.csv"))
    };
    let of = |rows: &BTreeMap<_, [String; 3]>, kind: &str, split: &str| {
        rows[&(kind.to_owned(), split.to_owned())].clone()
    };
    let (two, five) = (node("linear", 2), node("linear", 5));
    for split in ["train", "validation", "test"] {
        let curve = |rows| of(rows, "curve", split);
        assert_eq!(curve(&two), of(&two, "independent", split), "two members are the two nets");
        assert_ne!(curve(&five), curve(&two));
        for kind in ["single", "independent", "soup"] {
            assert_eq!(of(&two, kind, split), of(&five, kind, split), "{kind} on {split}");
        }
    }
    // The single net is the mean of both, as in the table of nets.
    let errors = ["1", "2"].map(|net| {
        let csv = space.output(&format!("nets@hidden=6,net={net}"), "nets.csv");
        let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let (header, row) = (lines.next().unwrap(), lines.next().unwrap());
        let at = header.iter().position(|name| *name == "test_error").unwrap();
        row[at].parse::<f64>().unwrap()
    });
    let single: f64 = of(&two, "single", "test")[0].parse().unwrap();
    assert!((single - (errors[0] + errors[1]) / 2.0).abs() < 1e-9, "{single} {errors:?}");

    let report = space.read("reports/default/report.md");
    let section = report.split("## Ensembles: ").nth(1).expect("a section").split("\n## ").next();
    let section = section.unwrap();
    for text in [
        "At equal training cost, ",
        "figures/ensembles.svg",
        "Linear + OT, 5 nets on the curve / two nets",
        "Linear + WA, 2 nets on the curve",
        "Linear, midpoint",
        "cross-entropy",
        "two nets together",
        "two nets / one net of width 2h",
        "averaged over h = 6, without prior",
        "Left out, without such a net in the run: h = 12.",
    ] {
        assert!(section.contains(text), "{text}: {section}");
    }
    assert!(report.contains("On calibration of modern neural networks"));
    let table = space.read("reports/default/tables/ensembles.csv");
    // Six pairs, three splits; the ends and midpoints of both numbers of members are the same rows.
    let per_pair = [2 + 2 + 1, 2 + 2 + 1, 2 + 1 + 1].iter().sum::<usize>();
    assert_eq!(table.lines().count() - 1, 2 * 6 * 3 * per_pair);
}

#[test]
fn refusals_of_an_ensemble_name_the_field_and_the_rule() {
    let space = Space::with(PIPELINE);
    let refused = |from: &str, to: &str| {
        space.write("pipeline.yaml", PIPELINE.replace(from, to));
        space.exits(2, &["plan"]).stderr
    };
    let error = refused("members: [2, 5]", "members: 1");
    assert!(error.contains("a number of nets from 2 to 100"), "{error}");
    let error = refused("members: [2, 5]", "points: 61");
    assert!(error.contains("unknown field `points`"), "{error}");
}
