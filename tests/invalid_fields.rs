//! Errors in the fields, values and grids of stages.

use crate::malformed::{data_and, nets_and, refused, train};
use crate::schema::names_of;
use std::time::{Duration, Instant};

#[test]
fn an_unknown_field_is_refused() {
    let error = refused(&train("data: data, hiden: 3"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:26: stage `nets`: unknown field `hiden`
    hint: did you mean `hidden`?
    ");
}

#[test]
fn an_unknown_nested_field_is_refused() {
    let error =
        refused(&train("data: data, hidden: 3, prior: [none, { normal: { varience: 0.01 } }]"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:63: stage `nets`: `prior.normal`: unknown field `varience`
    hint: did you mean `variance`?
    ");
}

#[test]
fn a_missing_parameter_is_refused() {
    let error = refused(&train("data: data, epochs: 3"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:5: stage `nets`: the field `hidden` is missing
    hint: write `hidden: ...` there
    ");
}

#[test]
fn a_stage_without_fields_is_refused() {
    let error = refused(
        "\
stages:
  data:
    fetch:
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:3:5: stage `data`: the field `dataset` is missing
    hint: write `dataset: ...` there
    ");
}

#[test]
fn a_text_for_a_number_is_refused() {
    let error = refused(&train("data: data, hidden: wide"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`, found `wide`
    hint: write a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`
    ");
}

#[test]
fn a_fraction_for_a_whole_number_is_refused() {
    let error = refused(&train("data: data, hidden: 2.5"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`, found `2.5`
    hint: write a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`
    ");
}

#[test]
fn a_mapping_for_a_number_is_refused() {
    let error = refused(&train("data: data, hidden: { width: 3 }"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`, found a mapping
    hint: write a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`
    ");
}

#[test]
fn a_width_of_zero_is_refused() {
    let error = refused(&train("data: data, hidden: 0"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`, found `0`
    hint: write a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`
    ");
}

#[test]
fn a_negative_width_is_refused() {
    let error = refused(&train("data: data, hidden: -3"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:34: stage `nets`: `hidden`: expected a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`, found `-3`
    hint: write a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`
    ");
}

#[test]
fn a_negative_variance_is_refused() {
    let error = refused(&train("data: data, hidden: 3, prior: { normal: { variance: -0.01 } }"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:66: stage `nets`: `prior.normal.variance`: expected a number above zero, found `-0.01`
    hint: write a number above zero
    ");
}

#[test]
fn a_negative_variance_among_others_is_refused() {
    let error = refused(&train(
        "data: data, hidden: 3, prior: [none, { normal: { variance: [0.1, -0.01] } }]",
    ));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:79: stage `nets`: `prior.normal.variance`: expected a number above zero, found `-0.01`
    hint: write a number above zero
    ");
}

#[test]
fn a_variance_of_nan_is_refused() {
    let error = refused(&train("data: data, hidden: 3, prior: { normal: { variance: .nan } }"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:66: stage `nets`: `prior.normal.variance`: expected a number above zero, or one for each layer, such as `0.01x0.1`, found `.nan`
    hint: write a number above zero, or one for each layer, such as `0.01x0.1`
    ");
}

#[test]
fn a_dropout_above_one_is_refused() {
    let error = refused(&train("data: data, hidden: 3, prior: { dropout: 1.5 }"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:55: stage `nets`: `prior.dropout`: expected a number from 0 up to, but not including, 1, found `1.5`
    hint: write a number from 0 up to, but not including, 1
    ");
}

#[test]
fn an_unknown_prior_is_refused_with_the_known_ones() {
    let error = refused(&train("data: data, hidden: 3, prior: gaussian"));
    let known: Vec<String> =
        names_of("train", "prior").iter().map(|name| format!("`{name}`")).collect();
    assert_eq!(
        error,
        format!(
            "error: pipeline.yaml:5:44: stage `nets`: `prior`: unknown value `gaussian`\n\
             hint: known: {}\n",
            known.join(", ")
        )
    );
}

#[test]
fn a_prior_without_its_value_is_refused() {
    let error = refused(&train("data: data, hidden: 3, prior: normal"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:44: stage `nets`: `prior`: `normal` needs a value
    hint: write `{ normal: ... }`
    ");
}

#[test]
fn an_unknown_curve_is_refused_with_the_known_ones() {
    let error = refused(&nets_and(
        "  curves:\n    \
         evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: [linear, arcc] }\n",
    ));
    let known: Vec<String> =
        names_of("evaluate", "curve").iter().map(|name| format!("`{name}`")).collect();
    assert_eq!(
        error,
        format!(
            "error: pipeline.yaml:7:75: stage `curves`: `curve`: \
             expected one of {0}, found `arcc`\n\
             hint: write one of {0}\n",
            known.join(", ")
        )
    );
}

#[test]
fn an_unknown_figure_is_refused() {
    let error = refused(&nets_and(
        "  curves:\n    \
         evaluate: { a: nets@end=a, b: nets@end=b, data: data, curve: linear }\n  \
         tables:\n    \
         aggregate: { curves: curves, nets: nets }\n  \
         figures:\n    \
         plot: { data: data, tables: tables, figure: error-by-metod }\n",
    ));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:11:49: stage `figures`: `figure`: unknown value `error-by-metod`
    hint: did you mean `error-by-method`?
    ");
}

#[test]
fn a_request_for_more_images_than_the_dataset_has_is_refused() {
    let error = refused(
        "\
stages:
  data:
    fetch: { dataset: digits, train: 70000 }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:3: stage `data`: 70000 training and 10000 test images are more than the dataset has
    hint: use at most 60000 and 10000
    ");
}

#[test]
fn a_duplicate_value_in_a_grid_is_refused() {
    let error = refused(&train("data: data, hidden: [3, 4, 3]"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:41: stage `nets`: `hidden` lists the value `3` twice
    hint: remove one
    ");
}

#[test]
fn an_empty_grid_is_refused() {
    let error = refused(&train("data: data, hidden: []"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:34: stage `nets`: the grid `hidden` is empty
    hint: list at least one value
    ");
}

#[test]
fn a_billion_nodes_are_refused_at_once() {
    let values = (1..=200).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let axes = ["hidden", "pair", "epochs", "batch"];
    let axes = axes.map(|field| format!("      {field}: [{values}]\n")).concat();
    let start = Instant::now();
    let error = refused(&data_and(&format!("  nets:\n    train:\n      data: data\n{axes}")));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:9:7: stage `nets` expands to more than 200000 nodes
    hint: shorten its lists
    ");
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// Both ends of each pair of nets in the slots of `align`, with these inputs and fields.
fn aligned(fields: &str) -> String {
    nets_and(&format!("  matched:\n    align: {{ {fields} }}\n"))
}

#[test]
fn an_unknown_axis_cannot_be_renamed() {
    let error = refused(&aligned("a: { stage: nets, rename: { emd: x } }, b: nets@end=b"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:42: stage `matched`: `a.rename`: `nets` has no axis `emd`
    hint: did you mean `end`?
    ");
}

#[test]
fn a_parameter_with_a_single_value_cannot_be_renamed() {
    let error = refused(&aligned("a: { stage: nets, rename: { hidden: x } }, b: nets@end=b"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:42: stage `matched`: `a.rename`: `nets` has no axis `hidden`
    hint: known: `end`
    ");
}

#[test]
fn an_axis_that_the_reference_fixes_cannot_be_renamed() {
    let error = refused(&aligned("a: { stage: nets@end=a, rename: { end: x } }, b: nets@end=b"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:48: stage `matched`: `a.rename`: `nets@end=a` has one value of `end`, so it is no axis here
    hint: remove `end` from the reference or from `rename`
    ");
}

#[test]
fn an_input_without_a_stage_is_refused() {
    let error = refused(&aligned("a: { rename: { end: x } }, b: nets@end=b"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:17: stage `matched`: `a`: the field `stage` is missing
    hint: write `a: { stage: NAME, rename: { axis: name } }`
    ");
}

/// All pairs of ends, `x` and `y`, with this condition.
fn crossed(condition: &str) -> String {
    aligned(&format!(
        "a: {{ stage: nets, rename: {{ end: x }} }}, \
         b: {{ stage: nets, rename: {{ end: y }} }},\n      where: {condition}"
    ))
}

#[test]
fn a_condition_on_an_unknown_axis_is_refused() {
    let error = refused(&crossed("x < yy"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:8:14: stage `matched`: `where`: unknown axis `yy`
    hint: did you mean `y`?
    ");
}

#[test]
fn a_condition_on_a_value_is_refused_with_the_form_that_chooses_values() {
    let error = refused(&crossed("x == b"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:8:14: stage `matched`: `where`: unknown axis `b`
    hint: a condition compares two axes; write `{ keep: [{ x: b }] }` to choose a value
    ");
}

#[test]
fn a_condition_on_an_unknown_value_is_refused() {
    let error = refused(&crossed("{ leave-out: [{ x: [a, c] }] }"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:8:37: stage `matched`: `where.leave-out.x`: the axis `x` has no value `c`
    hint: known: `a`, `b`
    ");
}

#[test]
fn a_text_that_is_no_condition_is_refused() {
    let error = refused(&crossed("x before y"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:8:14: stage `matched`: `where`: `x before y` is not a condition
    hint: write `x < y` with the names of two axes; the operators are `<`, `<=`, `>`, `>=`, `==` and `!=`, and a list has several conditions
    ");
}

#[test]
fn a_condition_of_another_type_is_refused() {
    let error = refused(&crossed("{ keep: x < y }"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:8:22: stage `matched`: `where.keep`: expected a list of combinations, found `x < y`
    hint: write `keep: [{ axis: value }]`
    ");
}

#[test]
fn conditions_that_leave_no_node_are_refused() {
    let error = refused(&crossed("[x < y, x > y]"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:8:14: stage `matched`: `where` leaves no node
    hint: compare it with the values of the axes: `x`: a, b; `y`: a, b
    ");
}
