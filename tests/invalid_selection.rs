//! Errors in profiles, overrides (`-S`) and targets.

use crate::malformed::{DATA, data_and, nets_and, refused, refused_with};

#[test]
fn an_unknown_profile_is_refused() {
    let error =
        refused_with(&data_and("profiles:\n  quick: {}\n  tables: {}\n"), &["--profile", "tabels"]);
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml: there is no profile `tabels`
    hint: did you mean `tables`?
    ");
}

#[test]
fn a_profile_of_a_pipeline_without_profiles_is_refused() {
    let error = refused_with(DATA, &["--profile", "quick"]);
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml: there is no profile `quick`
    hint: no profile is declared under `profiles`
    ");
}

#[test]
fn an_unknown_default_profile_is_refused() {
    let error = refused(
        "\
profile: quik
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
profiles:
  quick: {}
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:1:10: there is no profile `quik`
    hint: did you mean `quick`?
    ");
}

#[test]
fn a_profile_with_an_unknown_stage_is_refused() {
    let error = refused_with(
        &data_and("profiles:\n  quick: { dato: { train: 3 } }\n"),
        &["--profile", "quick"],
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:12: profile `quick`: there is no stage `dato`
    hint: did you mean `data`?
    ");
}

#[test]
fn a_profile_with_an_unknown_field_is_refused() {
    let error = refused_with(
        &data_and("profiles:\n  quick: { data: { trian: 3 } }\n"),
        &["--profile", "quick"],
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:20: stage `data`: unknown field `trian`
    hint: did you mean `train`?
    ");
}

#[test]
fn an_override_without_a_value_is_refused() {
    let error = refused_with(DATA, &["-S", "data.train"]);
    insta::assert_snapshot!(error, @r"
    error: -S data.train: there is no `=`
    hint: write `-S stage.field=value`, such as `-S nets.epochs=10`
    ");
}

#[test]
fn an_override_without_a_field_is_refused() {
    let error = refused_with(DATA, &["-S", "data=3"]);
    insta::assert_snapshot!(error, @r"
    error: -S data=3: no field is named
    hint: write `-S stage.field=value`, such as `-S nets.epochs=10`
    ");
}

#[test]
fn an_override_of_an_unknown_stage_is_refused() {
    let error = refused_with(DATA, &["-S", "dato.train=3"]);
    insta::assert_snapshot!(error, @r"
    error: -S dato.train=3: there is no stage `dato`
    hint: did you mean `data`?
    ");
}

#[test]
fn an_override_of_an_unknown_field_is_refused() {
    let error = refused_with(DATA, &["-S", "data.trian=3"]);
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:3:5: stage `data`: unknown field `trian` (with `-S data.trian=3`)
    hint: did you mean `train`?
    ");
}

#[test]
fn an_override_with_an_invalid_value_is_refused() {
    let error = refused_with(DATA, &["-S", "data.train=-3"]);
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:3:5: stage `data`: `train`: expected a whole number, zero or more, found `-3` (with `-S data.train=-3`)
    hint: write a whole number, zero or more
    ");
}

#[test]
fn an_override_that_is_not_yaml_is_refused() {
    let error = refused_with(DATA, &["-S", "data.train=[3"]);
    insta::assert_snapshot!(error, @r"
    error: -S data.train=[3: unclosed bracket '['
    hint: this is not YAML: look at the indentation, brackets and quotes there and just before
    ");
}

#[test]
fn an_unknown_target_is_refused() {
    let error = refused_with(&nets_and(""), &["net"]);
    insta::assert_snapshot!(error, @r"
    error: target: there is no stage or kind `net`
    hint: did you mean `nets`?
    ");
}

#[test]
fn a_target_that_no_instance_matches_is_refused() {
    let error = refused_with(&nets_and(""), &["nets@end=c"]);
    insta::assert_snapshot!(error, @r"
    error: target: no node matches `nets@end=c`
    hint: did you mean `nets@end=b`?
    ");
}

#[test]
fn a_target_condition_without_a_value_is_refused() {
    let error = refused_with(&nets_and(""), &["nets@end"]);
    insta::assert_snapshot!(error, @r"
    error: target: `end` in `nets@end` is not `name=value`
    hint: write `stage@name=value,name=value`
    ");
}
