//! What a user reads when pipeline.yaml, `-S`, a profile or a target is wrong: the place, the cause, a hint; exit code 2.

use crate::space::Space;
use std::time::{Duration, Instant};

/// All of standard error.
#[track_caller]
fn refused(pipeline: &str, arguments: &[&str]) -> String {
    let space = Space::with(pipeline);
    let plan = [&["plan"], arguments].concat();
    let refused = space.exits(2, &plan);
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.contains("\nhint: "), "a hint is missing: {}", refused.stderr);
    let run = [&["run"], arguments].concat();
    assert_eq!(space.exits(2, &run).stderr, refused.stderr, "`run` says the same");
    assert!(!space.join("cache").exists(), "and leaves no trace");
    refused.stderr
}

#[test]
fn a_billion_nodes_take_no_time_to_refuse() {
    let began = Instant::now();
    let many = (1..=200).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let grids: String =
        ["hidden", "pair", "epochs", "batch"].map(|axis| format!(", {axis}: [{many}]")).concat();
    let data = "stages:\n  data: { fetch: { dataset: digits } }\n";
    let said = refused(&format!("{data}  nets: {{ train: {{ data: data{grids} }} }}\n"), &[]);
    assert!(said.contains("expands to more than 200000 nodes"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_missing_file_is_refused_with_where_it_was_looked_for() {
    let space = Space::tiny();
    std::fs::remove_file(space.join("pipeline.yaml")).unwrap();
    insta::assert_snapshot!(space.exits(2, &["plan"]).stderr, @r"
    error: ./pipeline.yaml: no such file
    hint: pass the project folder with `-C DIR`, or the file with `--pipeline FILE`
    ");
    insta::assert_snapshot!(space.exits(2, &["-C", "nowhere", "plan", "--pipeline", "other.yaml"]).stderr, @r"
    error: nowhere/other.yaml: no such file
    hint: pass the project folder with `-C DIR`, or the file with `--pipeline FILE`
    ");
    space.write("pipeline.yaml", b"stages: \xff\xfe");
    insta::assert_snapshot!(space.exits(2, &["plan"]).stderr, @r"
    error: ./pipeline.yaml: invalid UTF-8
    hint: pass the project folder with `-C DIR`, or the file with `--pipeline FILE`
    ");
}

#[test]
fn a_pipeline_file_with_the_other_ending_is_named() {
    let space = Space::with("");
    std::fs::rename(space.join("pipeline.yaml"), space.join("pipeline.yml")).unwrap();
    let refused = space.exits(2, &["plan"]).stderr;
    assert!(
        refused.ends_with("hint: there is a `pipeline.yml`: pass `--pipeline pipeline.yml`\n"),
        "{refused}"
    );
}

#[test]
fn an_unknown_stage_kind_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetsh: { dataset: digits }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:3:5: stage `data`: unknown stage kind `fetsh`
    hint: did you mean `fetch`?
    ");
}

#[test]
fn an_unknown_field_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hiden: 3 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:26: stage `nets`: unknown field `hiden`
    hint: did you mean `hidden`?
    ");
}

#[test]
fn an_unknown_field_deep_inside_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: [none, { normal: { varience: 0.01 } }] }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:63: stage `nets`: `prior.normal`: unknown field `varience`
    hint: did you mean `variance`?
    ");
}

#[test]
fn an_unknown_top_level_field_is_refused() {
    let said = refused(
        "\
stage:
  data: {}
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:1:1: unknown top-level field `stage`
    hint: did you mean `stages`?
    ");
}

#[test]
fn a_text_for_a_number_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: wide }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a whole number, zero or more, found `wide`
    hint: write a whole number, zero or more
    ");
}

#[test]
fn a_fraction_for_a_whole_number_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 2.5 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a whole number, zero or more, found `2.5`
    hint: write a whole number, zero or more
    ");
}

#[test]
fn a_mapping_for_a_number_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: { width: 3 } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a whole number, zero or more, found a mapping
    hint: write a whole number, zero or more
    ");
}

#[test]
fn a_missing_parameter_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, epochs: 3 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:5: stage `nets`: the field `hidden` is missing
    hint: write `hidden: ...` there
    ");
}

#[test]
fn a_missing_input_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { hidden: 3 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:5: stage `nets`: the input `data` is missing
    hint: write `data: data`
    ");
}

#[test]
fn an_input_that_no_stage_could_give_is_refused() {
    let said = refused(
        "\
stages:
  nets:
    train: { hidden: 3 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:3:5: stage `nets`: the input `data` is missing
    hint: it needs a stage of kind `fetch`, and there is none
    ");
}

#[test]
fn an_unknown_stage_in_an_input_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: dato, hidden: 3 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:20: stage `nets`: `data` names no stage: `dato`
    hint: did you mean `data`?
    ");
}

#[test]
fn an_unknown_instance_in_an_input_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
  matched:
    align: { a: nets@end=a, b: nets@end=c }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:7:32: stage `matched`: no instance matches `b: nets@end=c`
    hint: did you mean `nets@end=b`?
    ");
}

#[test]
fn an_input_of_the_wrong_kind_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
  matched:
    align: { a: data, b: nets@end=b }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:7:17: stage `matched`: `a` needs the output `net.safetensors`, which `data` does not have
    hint: write `a: nets`
    ");
}

#[test]
fn a_list_for_one_input_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
  matched:
    align: { a: [nets@end=a, nets@end=b], b: nets@end=b }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:7:17: stage `matched`: `a` must name a stage, not a list
    hint: write `a: STAGE`, or `a: STAGE@axis=value` for some of its instances
    ");
}

#[test]
fn a_cycle_is_refused_and_printed() {
    let said = refused(
        "\
stages:
  one:
    align: { a: two, b: two }
  two:
    align: { a: three, b: three }
  three:
    align: { a: one, b: one }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:3: the stages go round in a circle: one -> two -> three -> one
    hint: one of them must not use the next; `one` is the first
    ");
}

#[test]
fn a_stage_that_uses_itself_is_refused() {
    let said = refused(
        "\
stages:
  one:
    align: { a: one, b: one }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:3: the stages go round in a circle: one -> one
    hint: one of them must not use the next; `one` is the first
    ");
}

#[test]
fn a_duplicate_stage_name_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  data:
    fetch: { dataset: mnist }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:4:3: `data` is given twice
    hint: remove one of the two, or give one another name
    ");
}

#[test]
fn a_duplicate_field_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, hidden: 4 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:37: `hidden` is given twice
    hint: remove one of the two, or give one another name
    ");
}

#[test]
fn a_duplicate_value_in_a_grid_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: [3, 4, 3] }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:41: stage `nets`: `hidden` lists the value `3` twice
    hint: remove one
    ");
}

#[test]
fn an_empty_grid_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: [] }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:34: stage `nets`: the grid `hidden` is empty
    hint: list one value at least
    ");
}

#[test]
fn a_stage_of_two_kinds_is_refused() {
    let said = refused(
        "\
stages:
  data: { fetch: { dataset: digits }, train: { hidden: 3 } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:9: the stage `data` must have its kind as its single key
    hint: write `data: { kind: { ... } }`, with one kind
    ");
}

#[test]
fn a_name_that_would_leave_its_folder_is_refused() {
    let said = refused(
        "\
stages:
  ../data: { fetch: { dataset: digits } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:3: `../data` cannot be a name
    hint: a name is 1 to 64 letters, digits, `-` and `_`
    ");
}

#[test]
fn a_negative_variance_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: { normal: { variance: -0.01 } } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:66: stage `nets`: `prior.normal.variance`: `-0.01` is out of bounds
    hint: write a number above zero
    ");
}

#[test]
fn a_negative_variance_among_others_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: [none, { normal: { variance: [0.1, -0.01] } }] }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:79: stage `nets`: `prior.normal.variance`: `-0.01` is out of bounds
    hint: write a number above zero
    ");
}

#[test]
fn a_variance_that_is_not_a_number_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: { normal: { variance: .nan } } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:66: stage `nets`: `prior.normal.variance`: expected a number, found `.nan`
    hint: write a number
    ");
}

#[test]
fn a_width_of_zero_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 0 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: `0` is out of bounds
    hint: write a number of neurons from 1 to 8192
    ");
}

#[test]
fn a_negative_width_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: -3 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a whole number, zero or more, found `-3`
    hint: write a whole number, zero or more
    ");
}

#[test]
fn a_dropout_of_one_and_a_half_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: { dropout: 1.5 } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:55: stage `nets`: `prior.dropout`: `1.5` is out of bounds
    hint: write a number from 0 up to, but not including, 1
    ");
}

#[test]
fn an_unknown_prior_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: gaussian }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:44: stage `nets`: `prior`: unknown value `gaussian`
    hint: known: `none`, `normal`, `laplace`, `dropout`
    ");
}

#[test]
fn a_prior_without_its_value_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, prior: normal }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:44: stage `nets`: `prior`: `normal` needs a value
    hint: write `{ normal: ... }`
    ");
}

#[test]
fn an_unknown_curve_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: [linear, arcc] }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:7:75: stage `curves`: `curve`: unknown curve `arcc`
    hint: known are `linear`, `arc`, `rho-arc`, `linear+wa`, `arc+wa`, `rho-arc+wa`
    ");
}

#[test]
fn an_unknown_figure_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
  curves:
    evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear }
  tables:
    aggregate: { curves: curves, nets: nets }
  figures:
    plot: { data: data, tables: tables, figure: error-by-metod }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:11:49: stage `figures`: `figure`: unknown value `error-by-metod`
    hint: did you mean `error-by-method`?
    ");
}

#[test]
fn a_stage_without_fields_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch:
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:3:5: stage `data`: the field `dataset` is missing
    hint: write `dataset: ...` there
    ");
}

#[test]
fn a_stage_that_is_a_bare_word_is_refused() {
    let said = refused(
        "\
stages:
  data: fetch
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:9: the stage `data` must have its kind as its single key
    hint: write `data: { kind: { ... } }`, with one kind
    ");
}

#[test]
fn more_images_than_there_are_are_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 70000 }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:3: stage `data`: there are 60000 training and 10000 test images, not 70000 and 10000
    hint: ask for fewer
    ");
}

#[test]
fn a_billion_nodes_are_refused_at_once() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train:
      data: data
      hidden: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      pair: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      epochs: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      batch: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      prior: { normal: { variance: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] } }
      optimizer: { adam: { rate: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], epsilon: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], beta1: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], beta2: [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] } }
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:12:7: stage `nets` expands to more than 200000 nodes
    hint: shorten its lists
    ");
}

#[test]
fn what_is_not_yaml_is_refused() {
    let said = refused(
        "\
stages: {
  data: [
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:9: unclosed bracket '['
    hint: this is not YAML: look at the indentation, brackets and quotes there and just before
    ");
}

#[test]
fn tabs_are_refused() {
    let said = refused(
        "\
stages:
\tdata: 3
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:2:2: tabs disallowed within this context (block indentation)
    hint: this is not YAML: look at the indentation, brackets and quotes there and just before
    ");
}

#[test]
fn an_empty_file_is_refused() {
    let said = refused("", &[]);
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:1:1: the pipeline has no `stages`
    hint: write `stages: { data: { fetch: { dataset: mnist } } }`, for one
    ");
}

#[test]
fn a_file_without_stages_is_refused() {
    let said = refused(
        "\
seed: 3
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:1:1: the pipeline has no `stages`
    hint: write `stages: { data: { fetch: { dataset: mnist } } }`, for one
    ");
}

#[test]
fn a_list_for_the_pipeline_is_refused() {
    let said = refused(
        "\
- data
- nets
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:1:1: a pipeline must be a mapping, not a list
    hint: write one `name: ...` per line
    ");
}

#[test]
fn an_alias_bomb_is_refused() {
    let said = refused(
        "\
a: &a [x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d]
f: &f [*e, *e, *e, *e, *e, *e, *e]
g: &g [*f, *f, *f, *f, *f, *f, *f]
h: &h [*g, *g, *g, *g, *g, *g, *g]
i: &i [*h, *h, *h, *h, *h, *h, *h]
j: &j [*i, *i, *i, *i, *i, *i, *i]
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:7:8: this file is too large once its aliases are expanded
    hint: use fewer aliases inside other anchors
    ");
}

#[test]
fn an_unknown_profile_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
profiles:
  quick: {}
  tables: {}
",
        &["--profile", "tabels"],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml: there is no profile `tabels`
    hint: did you mean `tables`?
    ");
}

#[test]
fn a_profile_where_none_is_declared_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["--profile", "quick"],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml: there is no profile `quick`
    hint: no profile is declared under `profiles`
    ");
}

#[test]
fn an_unknown_default_profile_is_refused() {
    let said = refused(
        "\
profile: quik
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
profiles:
  quick: {}
",
        &[],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:1:10: there is no profile `quik`
    hint: did you mean `quick`?
    ");
}

#[test]
fn a_profile_of_an_unknown_stage_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
profiles:
  quick: { dato: { train: 3 } }
",
        &["--profile", "quick"],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:12: profile `quick`: there is no stage `dato`
    hint: did you mean `data`?
    ");
}

#[test]
fn a_profile_with_an_unknown_field_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
profiles:
  quick: { data: { trian: 3 } }
",
        &["--profile", "quick"],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:5:20: stage `data`: unknown field `trian`
    hint: did you mean `train`?
    ");
}

#[test]
fn an_override_without_a_value_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["-S", "data.train"],
    );
    insta::assert_snapshot!(said, @r"
    error: -S data.train: there is no `=`
    hint: write `-S stage.field=value`, such as `-S nets.epochs=10`
    ");
}

#[test]
fn an_override_without_a_field_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["-S", "data=3"],
    );
    insta::assert_snapshot!(said, @r"
    error: -S data=3: no field is named
    hint: write `-S stage.field=value`, such as `-S nets.epochs=10`
    ");
}

#[test]
fn an_override_of_an_unknown_stage_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["-S", "dato.train=3"],
    );
    insta::assert_snapshot!(said, @r"
    error: -S dato.train=3: there is no stage `dato`
    hint: did you mean `data`?
    ");
}

#[test]
fn an_override_of_an_unknown_field_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["-S", "data.trian=3"],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:3:5: stage `data`: unknown field `trian` (with `-S data.trian=3`)
    hint: did you mean `train`?
    ");
}

#[test]
fn an_override_with_an_absurd_value_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["-S", "data.train=-3"],
    );
    insta::assert_snapshot!(said, @r"
    error: pipeline.yaml:3:5: stage `data`: `train`: expected a whole number, zero or more, found `-3` (with `-S data.train=-3`)
    hint: write a whole number, zero or more
    ");
}

#[test]
fn an_override_that_is_not_yaml_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
",
        &["-S", "data.train=[3"],
    );
    insta::assert_snapshot!(said, @r"
    error: -S data.train=[3: unclosed bracket '['
    hint: this is not YAML: look at the indentation, brackets and quotes there and just before
    ");
}

#[test]
fn an_unknown_target_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
",
        &["net"],
    );
    insta::assert_snapshot!(said, @r"
    error: target: there is no stage or kind `net`
    hint: did you mean `nets`?
    ");
}

#[test]
fn a_target_that_no_instance_matches_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
",
        &["nets@end=c"],
    );
    insta::assert_snapshot!(said, @r"
    error: target: no node matches `nets@end=c`
    hint: did you mean `nets@end=b`?
    ");
}

#[test]
fn a_target_with_half_a_condition_is_refused() {
    let said = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
  nets:
    train: { data: data, hidden: 3, end: [a, b] }
",
        &["nets@end"],
    );
    insta::assert_snapshot!(said, @r"
    error: target: `end` in `nets@end` is not `name=value`
    hint: write `stage@name=value,name=value`
    ");
}
