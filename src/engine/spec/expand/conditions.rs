//! The field `where` of a stage, which keeps some of its nodes.
//!
//! Each condition compares two axes (`a < b`), or lists combinations of values to keep or to leave
//! out. A condition is also evaluated for a partial join, whose other axes have no value yet: it
//! leaves out a partial join only if it leaves out every node with these values.

use super::axes::{Axis, AxisList};
use super::{Builder, MAX_NODES};
use crate::engine::error::Diagnostic;
use crate::engine::located::{Location, Value, ValueError, YamlField, YamlNode, suggest};
use crate::engine::spec::grid::{alternatives, render, width};
use crate::engine::spec::pipeline::StageDecl;
use serde_json::{Value as Json, json};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of the field.
pub(in crate::engine::spec) const WHERE: &str = "where";

/// Keeps nodes that match one of the combinations.
pub(in crate::engine::spec) const KEEP: &str = "keep";

/// Keeps nodes that match none of the combinations.
pub(in crate::engine::spec) const LEAVE_OUT: &str = "leave-out";

/// The conditions of a stage, which must all hold.
#[derive(Default)]
pub(super) struct Conditions {
    all: Vec<Condition>,
    location: Option<Location>,
    /// The values of the axes, for messages.
    axes: String,
}

enum Condition {
    /// Compares the places of the values of two axes in the list that they come from.
    Compare { left: String, operator: Operator, right: String, list: Arc<AxisList> },
    /// Whether to keep or to leave out nodes that match one of the combinations.
    Combinations { keep: bool, any: Vec<Combination> },
}

/// By axis, the values of the nodes that match. A node matches if it does so on every axis.
type Combination = BTreeMap<String, BTreeSet<String>>;

/// The text of an operator, and the orders for which it holds.
type Operator = (&'static str, &'static [Ordering]);

/// Longer texts come first, since they begin with shorter ones.
const OPERATORS: [Operator; 6] = [
    ("<=", &[Ordering::Less, Ordering::Equal]),
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("==", &[Ordering::Equal]),
    ("!=", &[Ordering::Less, Ordering::Greater]),
    ("<", &[Ordering::Less]),
    (">", &[Ordering::Greater]),
];

impl Condition {
    fn may_hold<'a, I: Iterator<Item = (&'a str, &'a str)>>(&self, axes: &impl Fn() -> I) -> bool {
        let value = |name: &str| axes().find(|(axis, _)| *axis == name).map(|(_, value)| value);
        match self {
            Condition::Compare { left, operator, right, list } => {
                let place = |axis: &str| value(axis).and_then(|value| list.place(value));
                let places = place(left).zip(place(right));
                places.is_none_or(|(left, right)| operator.1.contains(&left.cmp(&right)))
            }
            Condition::Combinations { keep: true, any } => any.iter().any(|combination| {
                let mut each = combination.iter();
                each.all(|(axis, values)| value(axis).is_none_or(|value| values.contains(value)))
            }),
            Condition::Combinations { keep: false, any } => !any.iter().any(|combination| {
                let mut each = combination.iter();
                each.all(|(axis, values)| value(axis).is_some_and(|value| values.contains(value)))
            }),
        }
    }

    /// The condition in the form of pipeline.yaml, with sorted combinations.
    fn to_json(&self) -> Json {
        match self {
            Condition::Compare { left, operator: (operator, _), right, .. } => {
                format!("{left} {operator} {right}").into()
            }
            Condition::Combinations { keep, any } => {
                let any: BTreeSet<&Combination> = any.iter().collect();
                json!({ if *keep { KEEP } else { LEAVE_OUT }: any })
            }
        }
    }
}

impl Conditions {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a node with the values of `axes` can be kept, whatever its values on other axes.
    pub(super) fn may_hold<'a, I: Iterator<Item = (&'a str, &'a str)>>(
        &self,
        axes: impl Fn() -> I,
    ) -> bool {
        self.all.iter().all(|condition| condition.may_hold(&axes))
    }

    /// The conditions in the form of pipeline.yaml, sorted.
    pub(super) fn to_json(&self) -> Vec<Json> {
        let mut all: Vec<Json> = self.all.iter().map(Condition::to_json).collect();
        all.sort_by_key(Json::to_string);
        all
    }

    fn read(node: &YamlNode, axes: &[Axis]) -> Result<Conditions, ValueError> {
        let items = match &node.value {
            Value::List(items) => &items[..],
            _ => std::slice::from_ref(node),
        };
        if items.is_empty() {
            let hint = "list a condition such as `x < y`, or remove the field".to_owned();
            return Err(ValueError::at(node.location, "the list is empty", Some(hint)));
        }
        let all = items.iter().map(|item| condition(item, axes)).collect::<Result<_, _>>()?;
        let values = |axis: &Axis| {
            let (shown, values) = (12, axis.values());
            let more = if values.len() > shown { ", ..." } else { "" };
            let list: Vec<&str> = values.into_iter().take(shown).collect();
            format!("`{}`: {}{more}", axis.name, list.join(", "))
        };
        let axes: Vec<String> = axes.iter().map(values).collect();
        Ok(Conditions { all, location: node.location, axes: axes.join("; ") })
    }
}

fn condition(node: &YamlNode, axes: &[Axis]) -> Result<Condition, ValueError> {
    const FORMS: &str =
        "write `x < y` with two axes, `{ keep: [{ axis: value }] }` or `{ leave-out: [...] }`";
    if let Some(text) = node.as_text() {
        return compare(text, node.location, axes);
    }
    let refuse = |found: String| {
        let message = format!("expected a condition, found {found}");
        ValueError::at(node.location, message, Some(FORMS.into()))
    };
    let fields = node.as_map().ok_or_else(|| refuse(node.kind()))?;
    let is_known = |field: &&YamlField| [KEEP, LEAVE_OUT].contains(&field.key.as_str());
    if let Some(field) = fields.iter().find(|field| !is_known(field)) {
        let message = format!("unknown field `{}`", field.key);
        return Err(ValueError::at(
            field.location,
            message,
            suggest(&field.key, [KEEP, LEAVE_OUT]),
        ));
    }
    let field = match fields {
        [] => return Err(refuse("an empty mapping".into())),
        [field] => field,
        [_, second, ..] => {
            let hint =
                format!("write two conditions: `[{{ {KEEP}: [...] }}, {{ {LEAVE_OUT}: [...] }}]`");
            let message = format!("`{KEEP}` and `{LEAVE_OUT}` in one condition");
            return Err(ValueError::at(second.location, message, Some(hint)));
        }
    };
    let any = combinations(field, axes).map_err(|error| error.under(&field.key))?;
    Ok(Condition::Combinations { keep: field.key == KEEP, any })
}

/// Reads `x < y`.
fn compare(text: &str, location: Option<Location>, axes: &[Axis]) -> Result<Condition, ValueError> {
    let refuse = |message: String, hint: String| ValueError::at(location, message, Some(hint));
    let parts = text.find(['<', '>', '=', '!']).and_then(|at| {
        let (left, rest) = text.split_at(at);
        let operator = OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator))?;
        Some((left.trim(), operator, rest[operator.0.len()..].trim()))
    });
    let is_name = |text: &str| !text.is_empty() && !text.contains(['<', '>', '=', '!']);
    let (left, operator, right) = match parts {
        Some((left, operator, right)) if is_name(left) && is_name(right) => (left, operator, right),
        _ => {
            let sides: Vec<&str> = text.split('=').map(str::trim).collect();
            let hint = match &sides[..] {
                [left, right] if is_name(left) && is_name(right) => {
                    format!("did you mean `{left} == {right}`?")
                }
                _ => "write `x < y` with the names of two axes; the operators are \
                      `<`, `<=`, `>`, `>=`, `==` and `!=`, and a list has several conditions"
                    .to_owned(),
            };
            return Err(refuse(format!("`{text}` is not a condition"), hint));
        }
    };
    let find = |name: &str| {
        find_axis(name, axes).map_err(|mut error| {
            error.location = location;
            // Values are chosen in another form.
            let other = if name == left { right } else { left };
            if let Ok(axis) = find_axis(other, axes)
                && axis.values().contains(&name)
            {
                error.hint = Some(format!(
                    "a condition compares two axes; \
                     write `{{ {KEEP}: [{{ {other}: {name} }}] }}` to choose a value"
                ));
            }
            error
        })
    };
    let (of_left, of_right) = (find(left)?, find(right)?);
    if left == right {
        let hint = "compare two axes".to_owned();
        return Err(refuse(format!("`{text}` compares an axis with itself"), hint));
    }
    let Some(list) = of_left.common_list(of_right) else {
        let message = format!(
            "`{text}` compares places in a list, but `{left}` and `{right}` are not from one list"
        );
        let hint = "compare two axes that were renamed from the same axis, or choose values with \
                    `keep` or `leave-out`";
        return Err(refuse(message, hint.into()));
    };
    Ok(Condition::Compare {
        left: left.to_owned(),
        operator: *operator,
        right: right.to_owned(),
        list: Arc::clone(list),
    })
}

fn find_axis<'a>(name: &str, axes: &'a [Axis]) -> Result<&'a Axis, ValueError> {
    axes.iter().find(|axis| axis.name == name).ok_or_else(|| {
        let none = || Some("the stage has no axes; only a list of values is an axis".to_owned());
        let hint = suggest(name, axes.iter().map(|axis| axis.name.as_str())).or_else(none);
        ValueError::at(None, format!("unknown axis `{name}`"), hint)
    })
}

/// Reads the combinations of `keep` or `leave-out`.
fn combinations(field: &YamlField, axes: &[Axis]) -> Result<Vec<Combination>, ValueError> {
    let hint = || Some(format!("write `{}: [{{ axis: value }}]`", field.key));
    let node = &field.value;
    let Value::List(items) = &node.value else {
        let message = format!("expected a list of combinations, found {}", node.kind());
        return Err(ValueError::at(node.location, message, hint()));
    };
    if items.is_empty() {
        return Err(ValueError::at(node.location, "the list is empty", hint()));
    }
    let combination = |item: &YamlNode| {
        let Some(fields) = item.as_map().filter(|fields| !fields.is_empty()) else {
            let found =
                if item.as_map().is_some() { "an empty mapping".into() } else { item.kind() };
            let message = format!("expected a combination, found {found}");
            return Err(ValueError::at(item.location, message, hint()));
        };
        let values = |field: &YamlField| {
            let axis = find_axis(&field.key, axes).map_err(|mut error| {
                error.location = field.location;
                error
            })?;
            Ok((field.key.clone(), values(field, axis).map_err(|error| error.under(&field.key))?))
        };
        fields.iter().map(values).collect()
    };
    items.iter().map(combination).collect()
}

/// The values of an axis that a combination names, as texts in names.
fn values(field: &YamlField, axis: &Axis) -> Result<BTreeSet<String>, ValueError> {
    let node = &field.value;
    if !width(node).is_some_and(|n| (1..=MAX_NODES).contains(&n)) {
        let hint = format!("write `{}: VALUE` or a list of values", field.key);
        return Err(ValueError::at(node.location, "no value, or too many values", Some(hint)));
    }
    let known = axis.values();
    let mut found = BTreeSet::new();
    for value in alternatives(node) {
        let texts = [value.as_text().map(str::to_owned), Some(render(&value.to_json()))];
        let texts: Vec<String> = texts.into_iter().flatten().collect();
        let Some(text) = texts.iter().find(|text| known.contains(&text.as_str())) else {
            let text = &texts[0];
            let message = format!("the axis `{}` has no value `{text}`", axis.name);
            let hint = suggest(text, known.iter().copied());
            return Err(ValueError::at(value.location.or(node.location), message, hint));
        };
        found.insert(text.clone());
    }
    Ok(found)
}

impl Builder<'_> {
    /// The conditions of a stage with these axes.
    pub(super) fn conditions(
        &self,
        stage: &StageDecl,
        axes: &[Axis],
    ) -> Result<Conditions, Diagnostic> {
        let Some(field) = stage.fields.iter().find(|field| field.key == WHERE) else {
            return Ok(Conditions::default());
        };
        Conditions::read(&field.value, axes).map_err(|error| self.error(stage, &error.under(WHERE)))
    }

    /// The error for conditions that leave no node.
    pub(super) fn none_left(&self, stage: &StageDecl, conditions: &Conditions) -> Diagnostic {
        let message = format!("stage `{}`: `{WHERE}` leaves no node", stage.name);
        let hint = format!("compare it with the values of the axes: {}", conditions.axes);
        self.pipeline.diagnostic(conditions.location.or(stage.location), message, Some(hint))
    }

    /// Whether a stage has conditions.
    pub(super) fn is_filtered(&self, stage: &str) -> bool {
        self.selections.get(stage).is_some_and(|selection| !selection.conditions.is_empty())
    }

    /// For hints: the stages with conditions whose nodes `stage` uses.
    pub(super) fn also_where(&self, stage: &StageDecl) -> String {
        let used = self.uses.get(stage.name.as_str()).into_iter().flatten().map(String::as_str);
        let all = used.chain([stage.name.as_str()]);
        let filtered: BTreeSet<&str> = all.filter(|name| self.is_filtered(name)).collect();
        if filtered.is_empty() {
            return String::new();
        }
        let names: Vec<String> = filtered.iter().map(|name| format!("`{name}`")).collect();
        format!(", and the field `{WHERE}` of {}", names.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::spec::plan::Plan;
    use crate::engine::testing::{inputs, names, plan, refusal};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    /// All pairs of the nodes of `s`, with further fields of the pairs.
    fn pairs_of(source: &str, fields: &str) -> String {
        format!(
            "stages:\n  s: {{ source: {{ text: x, {source} }} }}\n  p: {{ pair: {{ \
             left: {{ stage: s, rename: {{ width: a }} }}, \
             right: {{ stage: s, rename: {{ width: b }} }}, {fields} }} }}\n"
        )
    }

    /// The names of the nodes of `p`, without `p@`.
    fn kept(source: &str, fields: &str) -> Vec<String> {
        let all = names(&pairs_of(source, fields));
        all.iter().filter_map(|name| name.strip_prefix("p@").map(str::to_owned)).collect()
    }

    #[test]
    fn a_comparison_keeps_each_pair_of_different_values_once() {
        let some = kept("width: [1, 2, 3]", "where: a < b");
        assert_eq!(some, ["a=1,b=2", "a=1,b=3", "a=2,b=3"]);
        let with = |operator: &str| kept("width: [1, 2]", &format!("where: 'a{operator}b'"));
        assert_eq!(with(" <= "), ["a=1,b=1", "a=1,b=2", "a=2,b=2"]);
        assert_eq!(with(">"), ["a=2,b=1"]);
        assert_eq!(with(" >="), ["a=1,b=1", "a=2,b=1", "a=2,b=2"]);
        assert_eq!(with("=="), ["a=1,b=1", "a=2,b=2"]);
        assert_eq!(with("!= "), ["a=1,b=2", "a=2,b=1"], "both directions");
    }

    #[test]
    fn a_comparison_compares_places_in_the_list_and_not_values() {
        assert_eq!(kept("width: [10, 9]", "where: a < b"), ["a=10,b=9"]);
    }

    #[test]
    fn all_conditions_of_a_list_must_hold() {
        let some = kept(
            "end: [a, b], width: [1, 2, 3]",
            "where: [a < b, { leave-out: [{ a: 1, b: [3] }] }, { keep: [{ end: a }, { b: 3 }] }]",
        );
        assert_eq!(some, ["end=a,a=1,b=2", "end=a,a=2,b=3", "end=b,a=2,b=3"]);
    }

    #[test]
    fn combinations_apply_to_own_lists_before_the_parameters_are_checked() {
        // A width of zero is invalid.
        let yaml = "stages: { s: { source: { text: [x, y], width: [0, 1], \
                    where: { leave-out: [{ width: 0 }] } } } }";
        assert_eq!(names(yaml), ["s@text=x,width=1", "s@text=y,width=1"]);
        let (message, _) = refusal(&yaml.replace("{ width: 0 }", "{ text: x, width: 0 }"));
        assert!(message.ends_with("`width` must not be zero"), "{message}");
    }

    #[test]
    fn values_in_combinations_are_written_as_in_the_list_or_as_in_names() {
        let some = |condition: &str| {
            names(&format!(
                "stages: {{ s: {{ source: {{ text: ['007', 7a, 1.50], ratio: [0.5, 1e-3, 2], \
                 style: [plain, {{ framed: {{ by: [1, 2] }} }}], where: {condition} }} }} }}"
            ))
            .len()
        };
        assert_eq!(some("{ keep: [{ text: 007 }] }"), 9);
        assert_eq!(some("{ keep: [{ text: '1.50' }] }"), 9);
        assert_eq!(some("{ keep: [{ ratio: 0.50 }, { ratio: 0.001 }] }"), 18);
        assert_eq!(some("{ keep: [{ ratio: 2.0 }, { ratio: 0.001 }] }"), 18);
        assert_eq!(some("{ keep: [{ style: { framed: { by: 1 } } }] }"), 9);
        assert_eq!(some("{ keep: [{ style: { framed: { by: [1, 2] } } }] }"), 18);
        assert_eq!(some("{ keep: [{ style: [plain, framed-1] }] }"), 18);
        assert_eq!(some("{ leave-out: [{ style: plain, ratio: [0.5, 2], text: 7a }] }"), 25);
    }

    #[test]
    fn a_join_with_a_filtered_stage_has_only_the_nodes_with_partners() {
        let yaml = pairs_of("width: [1, 2, 3]", "where: a < b");
        let join = "  q: { pair: { left: { stage: s, rename: { width: a } }, right: p } }\n";
        let plan = plan(&format!("{yaml}{join}")).unwrap();
        let of = |plan: &Plan| -> Vec<String> {
            let nodes = plan.nodes.iter().filter(|node| node.stage == "q");
            nodes.map(|node| node.name.clone()).collect()
        };
        assert_eq!(of(&plan), ["q@a=1,b=2", "q@a=1,b=3", "q@a=2,b=3"]);
        assert_eq!(
            inputs(&plan, "q@a=1,b=3"),
            [("left", vec!["s@width=1"]), ("right", vec!["p@a=1,b=3"])]
        );
        let (message, hint) = refusal(&format!(
            "{yaml}  q: {{ pair: {{ left: {{ stage: s@width=3, rename: {{ end: a }} }}, \
             right: p }} }}\n"
        ));
        assert!(message.contains("has no axis `end`"), "{message} {hint:?}");
    }

    #[test]
    fn a_join_or_a_gather_without_partners_names_the_stages_with_conditions() {
        let yaml = pairs_of("width: [1, 2]", "where: a < b");
        let only = "  t: { source: { text: x, width: [2] } }\n";
        let (message, hint) = refusal(&format!(
            "{yaml}{only}  q: {{ pair: {{ left: {{ stage: t, rename: {{ width: a }} }}, \
             right: p }} }}\n"
        ));
        assert_eq!(message, "test.yaml:5:3: stage `q`: its inputs have no axis values in common");
        assert_eq!(
            hint.as_deref(),
            Some("compare the grids of the stages it uses, and the field `where` of `p`")
        );
        let (message, hint) = refusal(&format!(
            "{yaml}{only}  g: {{ gather: {{ all: {{ stage: p, rename: {{ a: width }} }}, \
             width: [1, 2] }} }}\n"
        ));
        assert!(message.ends_with("no instance of `all: p` has `width=2`"), "{message}");
        assert!(hint.is_some_and(|hint| hint.contains("the field `where` of `p`")));
        let (message, hint) = refusal(&format!("{yaml}  q: {{ pair: {{ left: 'p@a=2,b=1' }} }}"));
        assert!(message.ends_with("no instance matches `left: p@a=2,b=1`"), "{message}");
        assert_eq!(hint.as_deref(), Some("did you mean `p@a=1,b=2`? `p` has the field `where`"));
    }

    #[test]
    fn conditions_are_not_part_of_a_key() {
        let node = |fields: &str| {
            let mut nodes = plan(&pairs_of("width: [1, 2]", fields)).unwrap().nodes;
            nodes.retain(|node| node.name == "p@a=1,b=2");
            nodes.remove(0).resolved
        };
        assert_eq!(node("where: a < b"), node("note: null"));
    }

    #[test]
    fn the_limit_applies_to_the_nodes_that_are_kept() {
        let list = |n: u32| (1..=n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let began = Instant::now();
        let of = |n: u32| pairs_of(&format!("width: [{}]", list(n)), "where: a < b");
        assert_eq!(plan(&of(600)).unwrap().nodes.len(), 600 + 600 * 599 / 2);
        for n in [1000, 3000] {
            let (message, hint) = refusal(&of(n));
            assert_eq!(message, "test.yaml:3:3: stage `p` expands to more than 200000 nodes");
            assert_eq!(hint.as_deref(), Some("shorten its lists"));
        }
        let own = |keep: &str| {
            format!(
                "stages: {{ s: {{ source: {{ text: x, width: [{}], ratio: [{}], \
                 where: {{ keep: [{keep}] }} }} }} }}",
                list(1000),
                list(1000)
            )
        };
        assert_eq!(names(&own("{ width: 7, ratio: [2, 3] }, { width: 8, ratio: 8 }")).len(), 3);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }

    #[test]
    fn an_invalid_condition_is_an_error_with_location_and_hint() {
        let case = |condition: &str, message: &str, hint: &str| {
            let yaml = pairs_of("end: [a, b], width: [1, 2]", &format!("\n    where: {condition}"));
            let (actual, help) = refusal(&yaml);
            let lead = "test.yaml:4:";
            let (at, actual) = actual.strip_prefix(lead).unwrap().split_once(": ").unwrap();
            let actual = actual.strip_prefix("stage `p`: `where").unwrap();
            assert_eq!((format!("{at}{actual}").as_str(), help.as_deref()), (message, Some(hint)));
        };
        let form = "write `x < y` with the names of two axes; the operators are `<`, `<=`, `>`, \
                    `>=`, `==` and `!=`, and a list has several conditions";
        let forms = "write `x < y` with two axes, `{ keep: [{ axis: value }] }` or \
                     `{ leave-out: [...] }`";
        let keep = "write `keep: [{ axis: value }]`";
        case("a", "12`: `a` is not a condition", form);
        case("5", "12`: `5` is not a condition", form);
        case("a < b < end", "12`: `a < b < end` is not a condition", form);
        case("'a <'", "12`: `a <` is not a condition", form);
        case("a =< b", "12`: `a =< b` is not a condition", form);
        case("a = b", "12`: `a = b` is not a condition", "did you mean `a == b`?");
        case("a < a", "12`: `a < a` compares an axis with itself", "compare two axes");
        case("a < c", "12`: unknown axis `c`", "known: `end`, `a`, `b`");
        case("a < endd", "12`: unknown axis `endd`", "did you mean `end`?");
        case(
            "a != 2",
            "12`: unknown axis `2`",
            "a condition compares two axes; write `{ keep: [{ a: 2 }] }` to choose a value",
        );
        case(
            "a < end",
            "12`: `a < end` compares places in a list, but `a` and `end` are not from one list",
            "compare two axes that were renamed from the same axis, or choose values with `keep` \
             or `leave-out`",
        );
        case("", "10`: expected a condition, found nothing", forms);
        case(
            "[]",
            "12`: the list is empty",
            "list a condition such as `x < y`, or remove the field",
        );
        case("[[a < b]]", "13`: expected a condition, found a list", forms);
        case("{}", "12`: expected a condition, found an empty mapping", forms);
        case("{ kep: [] }", "14`: unknown field `kep`", "did you mean `keep`?");
        case(
            "{ keep: [{ a: 1 }], leave-out: [{ a: 2 }] }",
            "32`: `keep` and `leave-out` in one condition",
            "write two conditions: `[{ keep: [...] }, { leave-out: [...] }]`",
        );
        case(
            "{ keep: { a: 1 } }",
            "20.keep`: expected a list of combinations, found a mapping",
            keep,
        );
        case("{ keep: [] }", "20.keep`: the list is empty", keep);
        case("{ keep: [a] }", "21.keep`: expected a combination, found `a`", keep);
        case("{ keep: [{}] }", "21.keep`: expected a combination, found an empty mapping", keep);
        case("{ keep: [{ ebd: a }] }", "23.keep`: unknown axis `ebd`", "did you mean `end`?");
        case(
            "{ keep: [{ a: [1, 3] }] }",
            "30.keep.a`: the axis `a` has no value `3`",
            "known: `1`, `2`",
        );
        case(
            "{ leave-out: [{ a: [] }] }",
            "31.leave-out.a`: no value, or too many values",
            "write `a: VALUE` or a list of values",
        );
    }

    #[test]
    fn conditions_that_leave_no_node_are_an_error() {
        let case = |fields: &str| {
            let (message, hint) = refusal(&pairs_of("end: [a, b], width: [1]", fields));
            let (_, message) = message.split_once(": ").unwrap();
            assert_eq!(message, "stage `p`: `where` leaves no node", "{fields}");
            let values = "compare it with the values of the axes: `end`: a, b; `a`: 1; `b`: 1";
            assert_eq!(hint.as_deref(), Some(values), "{fields}");
        };
        case("where: a < b");
        case("where: [{ keep: [{ end: a }] }, { keep: [{ end: b }] }]");
        case("where: { leave-out: [{ end: [a, b] }] }");
    }

    #[test]
    fn a_profile_and_an_override_replace_the_conditions() {
        use crate::engine::spec::pipeline::Pipeline;
        use crate::engine::testing::KINDS;
        let yaml = pairs_of("width: [1, 2, 3]", "where: a < b")
            + "profiles: { all: { p: { where: null } }, \
               some: { p: { where: { keep: [{ a: 1 }] } } } }";
        let pairs = |profile: Option<&str>, assignment: &str| {
            let mut pipeline = Pipeline::parse("test.yaml", &yaml).unwrap();
            pipeline.apply_profile(profile).unwrap();
            if !assignment.is_empty() {
                pipeline.apply_override(assignment).unwrap();
            }
            Plan::new(&pipeline, KINDS).unwrap().nodes.len() - 3
        };
        assert_eq!(pairs(None, ""), 3);
        assert_eq!(pairs(Some("all"), ""), 9);
        assert_eq!(pairs(Some("some"), ""), 3);
        assert_eq!(pairs(None, "p.where=a <= b"), 6);
        assert_eq!(pairs(None, "p.where=null"), 9);
        assert_eq!(pairs(Some("some"), "p.where.keep=[{ b: [1, 2] }]"), 6);
        assert_eq!(pairs(Some("some"), "p.where.leave-out=[{ b: 1 }]"), 6);
        assert_eq!(pairs(None, "p.where={ leave-out: [{ b: 1 }] }"), 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn every_two_of_n_values_are_one_pair(n in 2usize..12) {
            let list: Vec<String> = (1..=n).rev().map(|i| i.to_string()).collect();
            let widths = format!("width: [{}]", list.join(", "));
            let of = |condition: &str| kept(&widths, &format!("where: '{condition}'"));
            prop_assert_eq!(of("a < b").len(), n * (n - 1) / 2);
            prop_assert_eq!(of("a != b").len(), n * (n - 1));
            prop_assert_eq!(of("a == b").len(), n);
            let all: BTreeSet<String> = kept(&widths, "note: null").into_iter().collect();
            let (less, rest) = (of("a < b"), of("a >= b"));
            prop_assert_eq!(less.len() + rest.len(), all.len());
            prop_assert_eq!(less.into_iter().chain(rest).collect::<BTreeSet<_>>(), all);
        }

        #[test]
        fn keep_and_leave_out_split_the_nodes(
            chosen in prop::collection::vec((0u8..4, prop::collection::vec(1u8..4, 1..3)), 1..4),
        ) {
            let combination = |(which, widths): &(u8, Vec<u8>)| {
                let axes = ["a", "b", "a"];
                match which {
                    3 => format!("{{ end: b, b: {widths:?} }}"),
                    n => format!("{{ {}: {widths:?} }}", axes[usize::from(*n)]),
                }
            };
            let list: Vec<String> = chosen.iter().map(combination).collect();
            let of = |form: &str| {
                let fields = format!("where: {{ {form}: [{}] }}", list.join(", "));
                match plan(&pairs_of("end: [a, b], width: [1, 2, 3]", &fields)) {
                    Ok(plan) => plan.nodes.into_iter().skip(6).map(|node| node.name).collect(),
                    Err(error) => {
                        assert!(error.message.ends_with("leaves no node"), "{error}");
                        BTreeSet::new()
                    }
                }
            };
            let (kept, left_out) = (of("keep"), of("leave-out"));
            prop_assert!(kept.is_disjoint(&left_out));
            prop_assert_eq!(kept.len() + left_out.len(), 18);
        }
    }
}
