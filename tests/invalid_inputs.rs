//! Errors in the inputs of stages: missing or unknown stages and instances, wrong kinds, cycles.

use crate::malformed::{nets_and, refused, train};

#[test]
fn a_missing_input_is_refused() {
    let error = refused(&train("hidden: 3"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:5: stage `nets`: the input `data` is missing
    hint: write `data: data`
    ");
}

#[test]
fn an_input_of_a_kind_that_no_stage_has_is_refused() {
    let error = refused(
        "\
stages:
  nets:
    train: { hidden: 3 }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:3:5: stage `nets`: the input `data` is missing
    hint: add a stage of kind `fetch` or `images`
    ");
}

#[test]
fn an_unknown_stage_in_an_input_is_refused() {
    let error = refused(&train("data: dato, hidden: 3"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:20: stage `nets`: `data` names no stage: `dato`
    hint: did you mean `data`?
    ");
}

#[test]
fn an_unknown_instance_in_an_input_is_refused() {
    let error = refused(&nets_and("  matched:\n    align: { a: nets@end=a, b: nets@end=c }\n"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:32: stage `matched`: no instance matches `b: nets@end=c`
    hint: did you mean `nets@end=b`?
    ");
}

#[test]
fn an_input_of_the_wrong_kind_is_refused() {
    let error = refused(&nets_and("  matched:\n    align: { a: data, b: nets@end=b }\n"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:17: stage `matched`: `a` needs the output `net.safetensors`, which `data` does not have
    hint: write `a: nets`
    ");
}

#[test]
fn a_list_for_one_input_is_refused() {
    let error = refused(&nets_and(
        "  matched:\n    \
         align: { a: [nets@end=a, nets@end=b], b: nets@end=b }\n",
    ));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:17: stage `matched`: `a` must name a stage, not a list
    hint: write `a: STAGE`, or `a: STAGE@axis=value` for some of its instances
    ");
}

#[test]
fn a_cycle_is_refused_and_printed() {
    let error = refused(
        "\
stages:
  one:
    align: { a: two, b: two }
  two:
    align: { a: three, b: three }
  three:
    align: { a: one, b: one }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:3: cyclic dependency: one -> two -> three -> one
    hint: remove one of these inputs
    ");
}

#[test]
fn a_stage_that_uses_itself_is_refused() {
    let error = refused(
        "\
stages:
  one:
    align: { a: one, b: one }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:3: cyclic dependency: one -> one
    hint: remove one of these inputs
    ");
}
