//! Planes through three nets: what the stage `plane` measures, and what depends on it.

use crate::space::{Space, name};

const PIPELINE: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 200, test: 40 }
  nets:
    train: { data: data, hidden: [4, 9], end: [a, b], epochs: 1 }
  matched:
    align: { a: nets@end=a, b: nets@end=b }
  curves:
    evaluate: { a: nets@end=a, b: matched, data: data, curve: linear, points: 3 }
  planes:
    plane: { a: nets@end=a, b: nets@end=b, c: matched, data: data, points: 5 }
  tables:
    aggregate: { curves: curves, nets: nets }
  figures:
    plot: { data: data, tables: tables, planes: planes, figure: [overview, planes, error-planes] }
  report:
    report: { data: data, tables: tables, figures: figures }
";

/// The stages of the nodes that are not cached.
fn stale(space: &Space) -> Vec<String> {
    let plan = space.plan(&[]);
    let stale = plan.iter().filter(|node| node["state"] != "cached");
    let mut stages: Vec<String> =
        stale.map(|node| name(node).split('@').next().unwrap_or_default().to_owned()).collect();
    stages.dedup();
    stages
}

#[test]
fn a_plane_is_measured_drawn_and_reported() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    let plane = space.output("planes@hidden=4", "plane.csv");
    let mut lines = plane.lines();
    assert_eq!(lines.next(), Some("hidden,prior,pair,third,split,x,y,error,loss"));
    assert_eq!(lines.clone().count(), 25);
    assert!(lines.all(|line| line.starts_with("4,none,1,pi(B),test,")), "{plane}");
    let nets = space.output("planes@hidden=4", "plane-nets.csv");
    let nets: Vec<&str> = nets.lines().collect();
    assert!(nets[1].starts_with("4,none,1,A,0,0,") && nets[2].starts_with("4,none,1,B,1,0,"));
    assert!(nets[3].starts_with("4,none,1,pi(B),"));
    let curves = space.output("planes@hidden=4", "plane-curves.csv");
    let names = ["linear", "arc", "linear+ot", "arc+ot"];
    for curve in names {
        let points = curves.lines().filter(|line| line.split(',').nth(3) == Some(curve));
        assert_eq!(points.count(), 61, "{curve}");
    }
    let report = space.read("reports/default/report.md");
    assert!(report.contains("## Planes: what lies between the minima?"), "{report}");
    assert!(report.contains("on the straight line from A to π(B)"), "{report}");
    let figure = space.read("reports/default/figures/planes.svg");
    for text in [">A<", ">B<", ">π(B)<", "h = 9, without prior", "test loss, nats"] {
        assert!(figure.contains(text), "{text}");
    }
    assert!(figure.len() < 200_000, "{}", figure.len());
}

#[test]
fn another_grid_measures_the_planes_again_and_no_curve() {
    let space = Space::with(PIPELINE);
    space.ok(&["run"]);
    assert_eq!(stale(&space), Vec::<String>::new());
    space.write("pipeline.yaml", PIPELINE.replace("points: 5", "points: 6"));
    assert_eq!(stale(&space), ["planes", "figures", "report"]);
    space.write("pipeline.yaml", PIPELINE.replace("points: 5", "points: 5, margin: 0.25"));
    assert_eq!(stale(&space), Vec::<String>::new(), "the default");
}

#[test]
fn nets_without_a_plane_are_refused() {
    let space = Space::with(&PIPELINE.replace("c: matched", "c: nets@end=b"));
    let ended = space.run(&["run", "planes"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let cause = "there is no plane through the nets: C is on the line through A and B";
    assert!(ended.stderr.contains(cause), "{}", ended.stderr);
}
