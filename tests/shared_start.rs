//! Nets with a shared start, from training to the report, and priors with a number for each layer.

use crate::space::{Space, name};
use std::collections::BTreeSet;

const PIPELINE: &str = "\
seed: 0
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b], epochs: 2 }
  shared:
    train:
      { data: data, hidden: 3, pair: [1, 2, 3], end: [a, b], shared_epochs: [0, 1, 2], epochs: 2 }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear, points: 5 }
  shared-curves:
    evaluate: { a: shared@end=a, b: shared@end=b, data: data, curve: linear, points: 5 }
  tables:
    aggregate: { curves: curves, nets: nets }
  shared-tables:
    aggregate: { curves: shared-curves, nets: shared, shared_start: true }
  figures:
    plot: { data: data, tables: tables, figure: error-by-method }
  shared-figures:
    plot: { data: data, tables: tables, shared: shared-tables, figure: shared-start }
  report:
    report:
      { data: data, tables: tables, shared: shared-tables, figures: [figures, shared-figures] }
";

/// The cell of `column` in the only row of a table that begins with `keys`.
fn cell(table: &str, keys: &str, column: &str) -> String {
    let at = table.lines().next().unwrap().split(',').position(|name| name == column).unwrap();
    let rows: Vec<&str> = table.lines().filter(|row| row.starts_with(keys)).collect();
    let [row] = &rows[..] else { panic!("{keys}: {rows:?}") };
    row.split(',').nth(at).unwrap().to_owned()
}

#[test]
fn barriers_by_shared_epochs_are_a_section_of_the_report_with_trunks_as_the_sample() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let means = space.read("reports/default/tables/shared-start.csv");
    let of = |k: u32, metric: &str, column: &str| {
        cell(&means, &format!("3,none,linear,{k},test,{metric},"), column)
    };
    let number = |text: String| text.parse::<f64>().unwrap();
    for k in [0, 1, 2] {
        assert_eq!([of(k, "barrier_loss", "nets"), of(k, "barrier_loss", "pairs")], ["6", "3"]);
        assert!(number(of(k, "max_error", "low")) <= number(of(k, "max_error", "high")));
    }
    // After all epochs, both ends are the trunk.
    assert_eq!(of(2, "barrier_loss", "most"), "0.0");
    assert_eq!(of(2, "excess_error", "most"), "0.0");
    let undefined = "3,none,linear,2,test,length_over_chord,";
    assert!(!means.contains(undefined), "there is no chord between equal nets");
    let report = space.read("reports/default/report.md");
    let heading = "## Shared start: after how many epochs do minima stay connected?";
    let (_, section) = report.split_once(heading).unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    assert!(section.contains("The barrier of the error on the straight line is below 1 point"));
    assert!(section.contains("the barrier of the loss is ") && section.contains(" nats at k = 0"));
    assert!(section.contains("figures/shared-start.svg"), "{section}");
    assert!(section.contains("trunks, 3 for each mean"), "{section}");
    let is_row = |line: &&str| line.starts_with("|      3 | none  | Linear ");
    assert_eq!(section.lines().filter(is_row).count(), 3);
    assert!(section.contains("; shared_start=true; ") && !section.contains("shared_start=false"));
    // The others are as without them.
    let summary = space.read("reports/default/tables/summary.csv");
    space.edit(", shared: shared-tables, figures: [figures, shared-figures]", ", figures: figures");
    space.ok(&["run"]);
    assert_eq!(space.read("reports/default/tables/summary.csv"), summary);
    assert!(!space.read("reports/default/report.md").contains("## Shared start"));
    assert!(!space.join("reports/default/tables/shared-start.csv").exists());
}

#[test]
fn ends_are_equal_after_all_epochs_and_independent_nets_keep_their_keys() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let weights = |node: &str| {
        // The header states the name of the net.
        let net = std::fs::read(space.object(&space.digests()[node]["net.safetensors"])).unwrap();
        net[net.len() - 4 * 3 * (784 + 10)..].to_vec()
    };
    let of = |k: u32, end: &str| weights(&format!("shared@pair=1,end={end},shared_epochs={k}"));
    assert_eq!(of(2, "a"), of(2, "b"));
    let all: BTreeSet<Vec<u8>> =
        [0, 1].iter().flat_map(|&k| ["a", "b"].map(|end| of(k, end))).collect();
    assert_eq!(all.len(), 4);
    assert!(!all.contains(&weights("nets@end=a")));
    // `shared_epochs` is in the key only where it is given.
    let keys = |space: &Space, stage: &str| -> BTreeSet<String> {
        let nodes = space.plan(&[stage]).into_iter();
        nodes
            .filter(|node| name(node).starts_with(stage))
            .map(|node| node["key"].to_string())
            .collect()
    };
    let independent = keys(&space, "nets");
    space.edit(", shared_epochs: [0, 1, 2], epochs: 2", ", epochs: 2");
    assert!(independent.is_subset(&keys(&space, "shared")), "pair 1 is the default");
}

#[test]
fn nets_with_a_shared_start_are_not_mixed_with_others() {
    let space = Space::with(PIPELINE);
    space.edit(
        "curves: shared-curves, nets: shared, shared_start: true",
        "curves: shared-curves, nets: shared",
    );
    space
        .edit("shared: shared-tables, figure: ", "figure: ")
        .edit("shared: shared-tables, figures: ", "figures: ");
    let failed = space.exits(1, &["run", "shared-tables"]).stderr;
    assert!(failed.contains("some nets of `curves` have a shared start"), "{failed}");
    assert!(failed.contains("a stage with `shared_start: true`"), "{failed}");
    let space = Space::with(PIPELINE);
    space.edit(
        "aggregate: { curves: curves, nets: nets }",
        "aggregate: { curves: curves, nets: nets, shared_start: true }",
    );
    let failed = space.exits(2, &["run", "tables"]).stderr;
    assert!(failed.contains("`tables` needs the output `curves.csv`"), "{failed}");
    let space = Space::with(PIPELINE);
    space.edit(
        "a: shared@end=a, b: shared@end=b",
        "a: 'shared@end=a,shared_epochs=0', b: 'shared@end=b,shared_epochs=1'",
    );
    let failed = space.exits(1, &["run", "shared-curves"]).stderr;
    let cause = "a net of `hidden=3, prior=none, shared_epochs=0` cannot be joined to one of \
                 `hidden=3, prior=none, shared_epochs=1`";
    assert!(failed.contains(cause), "{failed}");
}

#[test]
fn shared_epochs_beyond_the_training_and_priors_of_other_depths_are_errors_of_the_plan() {
    let space = Space::with(PIPELINE);
    space.edit("shared_epochs: [0, 1, 2]", "shared_epochs: [0, 3]");
    let invalid = space.exits(2, &["plan"]).stderr;
    assert!(invalid.contains("`shared_epochs` is 3, but `epochs` is 2"), "{invalid}");
    let space = Space::with(PIPELINE);
    let prior = "hidden: 3, prior: { normal: { variance: [0.01, 0.01x0.1] } }, end: [a, b]";
    space.edit("hidden: 3, end: [a, b]", prior);
    let nodes: BTreeSet<String> = space.plan(&["nets"]).iter().map(name).collect();
    let by_layer = nodes.iter().filter(|node| node.contains("0.01x0.1")).count();
    assert_eq!((nodes.len(), by_layer), (5, 2), "{nodes:?}");
    space.edit("hidden: 3, prior", "hidden: 3x3, prior");
    let invalid = space.exits(2, &["plan"]).stderr;
    let cause =
        "the prior `normal 0.01x0.1` is for 2 layers, but a net with the hidden layers `3x3` has 3";
    assert!(invalid.contains(cause), "{invalid}");
    space.edit("0.01x0.1", "0.01x0x1");
    let invalid = space.exits(2, &["plan"]).stderr;
    assert!(invalid.contains("a number above zero, or one for each layer"), "{invalid}");
}
