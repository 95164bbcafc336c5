//! Errors in the structure of pipeline.yaml. Each message has a location, a cause and a hint; the
//! exit code is 2.

use crate::space::Space;

/// A stage `data`, in lines 1 to 3.
pub(crate) const DATA: &str = "\
stages:
  data:
    fetch: { dataset: digits, train: 300, test: 100 }
";

/// [`DATA`] and a stage `nets` with these fields, in lines 4 and 5.
pub(crate) fn train(fields: &str) -> String {
    data_and(&format!("  nets:\n    train: {{ {fields} }}\n"))
}

/// [`DATA`] and these lines.
pub(crate) fn data_and(lines: &str) -> String {
    [DATA, lines].concat()
}

/// [`DATA`], a stage `nets` of two instances, in lines 4 and 5, and these lines.
pub(crate) fn nets_and(lines: &str) -> String {
    train("data: data, hidden: 3, end: [a, b]") + lines
}

/// The message with which `repro plan` and `repro run` refuse this pipeline.
#[track_caller]
pub(crate) fn refused(pipeline: &str) -> String {
    refused_with(pipeline, &[])
}

/// The message with which `repro plan` and `repro run` refuse these arguments.
#[track_caller]
pub(crate) fn refused_with(pipeline: &str, arguments: &[&str]) -> String {
    let space = Space::with(pipeline);
    let plan = [&["plan"], arguments].concat();
    let refused = space.exits(2, &plan);
    assert_eq!(refused.stdout, "");
    assert!(refused.stderr.contains("\nhint: "), "a hint is missing: {}", refused.stderr);
    let run = [&["run"], arguments].concat();
    assert_eq!(space.exits(2, &run).stderr, refused.stderr, "`run` prints the same");
    assert!(!space.join("cache").exists(), "no cache is created");
    refused.stderr
}

#[test]
fn a_pipeline_file_that_is_missing_or_not_utf8_is_refused() {
    let space = Space::tiny();
    std::fs::remove_file(space.join("pipeline.yaml")).unwrap();
    insta::assert_snapshot!(space.exits(2, &["plan"]).stderr, @r"
    error: ./pipeline.yaml: no such file
    hint: pass the project folder with `-C DIR` or the file with `--pipeline FILE`; `repro init` starts a project
    ");
    let other_folder = ["-C", "nowhere", "plan", "--pipeline", "other.yaml"];
    insta::assert_snapshot!(space.exits(2, &other_folder).stderr, @r"
    error: nowhere/other.yaml: no such file
    hint: pass the project folder with `-C DIR` or the file with `--pipeline FILE`; `repro init` starts a project
    ");
    space.write("pipeline.yaml", b"stages: \xff\xfe");
    insta::assert_snapshot!(space.exits(2, &["plan"]).stderr, @r"
    error: ./pipeline.yaml: invalid UTF-8
    hint: pass the project folder with `-C DIR` or the file with `--pipeline FILE`; `repro init` starts a project
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
fn an_empty_file_is_refused() {
    let error = refused("");
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:1:1: the pipeline has no `stages`
    hint: for example, write `stages: { data: { fetch: { dataset: mnist } } }`
    ");
}

#[test]
fn a_file_without_stages_is_refused() {
    let error = refused("seed: 3\n");
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:1:1: the pipeline has no `stages`
    hint: for example, write `stages: { data: { fetch: { dataset: mnist } } }`
    ");
}

#[test]
fn a_list_for_the_pipeline_is_refused() {
    let error = refused(
        "\
- data
- nets
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:1:1: a pipeline must be a mapping, not a list
    hint: write one `name: ...` per line
    ");
}

#[test]
fn an_unknown_top_level_field_is_refused() {
    let error = refused(
        "\
stage:
  data: {}
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:1:1: unknown top-level field `stage`
    hint: did you mean `stages`?
    ");
}

#[test]
fn an_unclosed_bracket_is_refused() {
    let error = refused(
        "\
stages: {
  data: [
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:9: unclosed bracket '['
    hint: this is not YAML: look at the indentation, brackets and quotes there and just before
    ");
}

#[test]
fn tabs_are_refused() {
    let error = refused(
        "\
stages:
\tdata: 3
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:2: tabs disallowed within this context (block indentation)
    hint: this is not YAML: look at the indentation, brackets and quotes there and just before
    ");
}

#[test]
fn an_alias_bomb_is_refused() {
    let error = refused(
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
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:7:8: this file is too large once its aliases are expanded
    hint: use fewer aliases inside other anchors
    ");
}

#[test]
fn a_text_for_a_stage_is_refused() {
    let error = refused(
        "\
stages:
  data: fetch
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:9: the stage `data` must have its kind as its single key
    hint: write `data: { kind: { ... } }`, with one kind
    ");
}

#[test]
fn an_unknown_stage_kind_is_refused() {
    let error = refused(
        "\
stages:
  data:
    fetsh: { dataset: digits }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:3:5: stage `data`: unknown stage kind `fetsh`
    hint: did you mean `fetch`?
    ");
}

#[test]
fn a_stage_of_two_kinds_is_refused() {
    let error = refused(
        "\
stages:
  data: { fetch: { dataset: digits }, train: { hidden: 3 } }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:9: the stage `data` must have its kind as its single key
    hint: write `data: { kind: { ... } }`, with one kind
    ");
}

#[test]
fn a_stage_name_with_slashes_is_refused() {
    let error = refused(
        "\
stages:
  ../data: { fetch: { dataset: digits } }
",
    );
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:2:3: `../data` cannot be a name
    hint: a name is 1 to 64 letters, digits, `-` and `_`
    ");
}

#[test]
fn a_duplicate_stage_name_is_refused() {
    let error = refused(&data_and("  data:\n    fetch: { dataset: mnist }\n"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:4:3: `data` is given twice
    hint: remove one of the two, or give one another name
    ");
}

#[test]
fn a_duplicate_field_is_refused() {
    let error = refused(&train("data: data, hidden: 3, hidden: 4"));
    insta::assert_snapshot!(error, @r"
    error: pipeline.yaml:5:37: `hidden` is given twice
    hint: remove one of the two, or give one another name
    ");
}
