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
            return Err(ValueError::at(node.location, "an empty list", Some(hint)));
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
        let none = || Some("the stage has no axes: none of its lists has several values".into());
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
        return Err(ValueError::at(node.location, "an empty list", hint()));
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

    /// For hints: the stages with conditions whose nodes `stage` uses.
    pub(super) fn also_where(&self, stage: &StageDecl) -> String {
        let used = self.uses.get(stage.name.as_str()).into_iter().flatten();
        let all = used.map(String::as_str).chain([stage.name.as_str()]);
        let filtered: BTreeSet<&str> = all
            .filter(|name| self.selections.get(*name).is_some_and(|s| !s.conditions.is_empty()))
            .collect();
        if filtered.is_empty() {
            return String::new();
        }
        let names: Vec<String> = filtered.iter().map(|name| format!("`{name}`")).collect();
        format!(", and the field `{WHERE}` of {}", names.join(" and "))
    }
}
