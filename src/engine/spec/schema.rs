//! The JSON Schema of pipeline.yaml, made from the kinds: what an editor completes and underlines.
//!
//! It knows names, types, choices and defaults; what needs the whole pipeline (whether an input is there and fits, a grid's
//! twins, bounds that a type tells in words) only `repro plan` knows.

use super::pipeline::OPEN_FIELDS;
use crate::engine::stage::{Arity, Kind};
use serde_json::{Map, Value as Json, json};

/// What a stage's or a profile's name looks like.
const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";

/// Where what stands under each kind is defined.
const DEFINITIONS: &str = "#/$defs";

/// The schema of a pipeline of `kinds`.
pub fn schema(kinds: &[&'static dyn Kind]) -> Json {
    let definitions: Map<String, Json> =
        kinds.iter().map(|kind| (kind.name().to_owned(), fields(*kind))).collect();
    let refer = |path: &str| json!({ "$ref": format!("{DEFINITIONS}/{path}") });
    let of_kind: Map<String, Json> =
        kinds.iter().map(|kind| (kind.name().to_owned(), refer(kind.name()))).collect();
    // A profile names no kinds: a field there is as in any of those that have it.
    let mut of_field: Map<String, Json> = Map::new();
    for (kind, fields) in &definitions {
        for name in fields["properties"].as_object().into_iter().flat_map(Map::keys) {
            let forms = of_field.entry(name.clone()).or_insert_with(|| json!({ "anyOf": [] }));
            if let Some(forms) = forms["anyOf"].as_array_mut() {
                forms.push(match OPEN_FIELDS.contains(&name.as_str()) {
                    true => with_removal(&fields["properties"][name]),
                    false => refer(&format!("{kind}/properties/{name}")),
                });
            }
        }
    }
    for forms in of_field.values_mut().filter_map(|field| field["anyOf"].as_array_mut()) {
        forms.push(json!({ "type": "null" }));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a pipeline of repro",
        "type": "object",
        "additionalProperties": false,
        "required": ["stages"],
        "properties": {
            "seed": { "description": "Keys every random stream.", "type": ["integer", "string"], "default": 0 },
            "profile": { "description": "The profile to use when none is asked for.", "type": "string" },
            "stages": {
                "description": "Each stage by its name: `name: { kind: { field: value } }`.",
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": NAME },
                "additionalProperties": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "additionalProperties": false,
                    "properties": of_kind,
                },
            },
            "profiles": {
                "description": "Each profile by its name: the fields it sets instead, by stage. In `params`, `env` and `inputs` it sets single keys; `null` removes a field or a key.",
                "type": ["object", "null"],
                "propertyNames": { "pattern": NAME },
                "additionalProperties": {
                    "type": ["object", "null"],
                    "propertyNames": { "pattern": NAME },
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": of_field,
                    },
                },
            },
        },
        "$defs": definitions,
    })
}

/// What stands under a kind: its parameters, each a value or a grid, and its inputs.
fn fields(kind: &dyn Kind) -> Json {
    let own = kind.schema();
    let mut properties = Map::new();
    let mut required: Vec<Json> = own["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in own["properties"].as_object().into_iter().flatten() {
        let whole = kind.lists().contains(&name.as_str());
        properties.insert(
            name.clone(),
            if whole {
                field.clone()
            } else {
                grid(field, &format!("{DEFINITIONS}/{}/properties/{name}", kind.name()))
            },
        );
    }
    for slot in kind.slots() {
        properties.insert(slot.name.to_owned(), reference(slot.arity, slot.files));
        if !slot.arity.may_be_empty() {
            required.push(json!(slot.name));
        }
    }
    if kind.is_open() {
        let each = json!({ "anyOf": [text(), { "type": "array", "items": text() }] });
        let description =
            "Inputs by name: a stage or some instances of it, or a list of them to gather.";
        properties.insert(
            "inputs".to_owned(),
            json!({ "description": description, "type": "object", "additionalProperties": each }),
        );
    }
    // Nothing at all is as good as no fields.
    let form = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    json!({ "type": form, "additionalProperties": false, "required": required, "properties": properties })
}

/// A mapping whose keys the user chooses, as a profile sets it: any of them may be removed.
fn with_removal(field: &Json) -> Json {
    let mut field = field.clone();
    let form = if field["anyOf"][0]["additionalProperties"].is_null() {
        &mut field
    } else {
        &mut field["anyOf"][0]
    };
    if let Some(value) = form.get_mut("additionalProperties").filter(|value| value.is_object()) {
        *value = json!({ "anyOf": [value.clone(), { "type": "null" }] });
    }
    field
}

fn text() -> Json {
    json!({ "type": "string" })
}

fn reference(arity: Arity, files: &[&str]) -> Json {
    let description =
        format!("A stage, or some of its instances (`nets@end=a`), with {}.", files.join(", "));
    match arity.gathers() {
        false => json!({ "description": description, "type": "string" }),
        true => json!({
            "description": description,
            "anyOf": [text(), { "type": "array", "items": text() }],
        }),
    }
}

/// A value, a list of values, or a mapping with such lists in it; it stands `at` this place of the schema.
fn grid(value: &Json, at: &str) -> Json {
    let mut one = value.clone();
    let mut outer = Map::new();
    if let Some(one) = one.as_object_mut() {
        // What is said of the field stands outside, where editors look.
        for told in ["description", "default"] {
            outer.extend(one.remove(told).map(|text| (told.to_owned(), text)));
        }
    }
    let first = format!("{at}/anyOf/0");
    inside(&mut one, &first);
    outer.insert("anyOf".to_owned(), json!([one, { "type": "array", "items": { "$ref": first } }]));
    Json::Object(outer)
}

/// Grids in the fields of a mapping, or of those among several forms.
fn inside(value: &mut Json, at: &str) {
    for choice in ["anyOf", "oneOf"] {
        let forms = value.get_mut(choice).and_then(Json::as_array_mut).into_iter().flatten();
        forms.enumerate().for_each(|(i, form)| inside(form, &format!("{at}/{choice}/{i}")));
    }
    if let Some(properties) = value.get_mut("properties").and_then(Json::as_object_mut) {
        properties
            .iter_mut()
            .for_each(|(name, field)| *field = grid(field, &format!("{at}/properties/{name}")));
    }
}
