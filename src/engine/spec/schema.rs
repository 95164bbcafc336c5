//! The JSON Schema of pipeline.yaml, for completion and checks in editors.
//!
//! It is derived from the stage kinds and has names, types, choices and defaults. Only `repro plan`
//! checks the rest: whether inputs exist and fit, repeated values in grids, bounds of numbers.

use super::expand::{KEEP, LEAVE_OUT, RENAME, STAGE, WHERE};
use super::pipeline::{OPEN_FIELDS, STAGES};
use crate::engine::resources::{ExecutorFields, RESOURCES, ResourceFields};
use crate::engine::stage::{Arity, Kind};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value as Json, json};

/// The pattern of names of stages and profiles.
const NAME: &str = "^[A-Za-z0-9_-]{1,64}$";

/// The section that defines the fields of each kind, an input, and the field `where`.
const DEFINITIONS: &str = "#/$defs";

/// The schema of a pipeline of `kinds`.
pub fn schema(kinds: &[&'static dyn Kind]) -> Json {
    let mut definitions: Map<String, Json> =
        kinds.iter().map(|kind| (kind.name().to_owned(), fields(*kind))).collect();
    let refer = |path: &str| json!({ "$ref": format!("{DEFINITIONS}/{path}") });
    let of_kind: Map<String, Json> =
        kinds.iter().map(|kind| (kind.name().to_owned(), refer(kind.name()))).collect();
    // A profile does not name kinds, so a field may have the schema of any kind that has it.
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
    let stages = json!({
        "description": "The stages, each as `name: { kind: { field: value } }`.",
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
    });
    let mut stages_of_profile = stages.clone();
    stages_of_profile["description"] = "The stages that only this profile has.".into();
    definitions.insert(INPUT.to_owned(), input());
    definitions.insert(WHERE.to_owned(), conditions());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "repro pipeline",
        "type": "object",
        "additionalProperties": false,
        "required": ["stages"],
        "properties": {
            "seed": {
                "description": "The seed of all random streams.",
                "type": ["integer", "string"],
                "default": 0,
            },
            "profile": { "description": "The default profile.", "type": "string" },
            "remote": {
                "description": "The remote cache, such as `s3://bucket/prefix`. \
                    `--remote` and `REPRO_REMOTE` replace it. Not part of any key.",
                "type": "string",
            },
            STAGES: stages,
            "profiles": {
                "description": "The profiles, each with the fields that it sets, by stage. \
                    Its field `stages` declares further stages. A profile sets single keys \
                    of `params`, `env`, `inputs` and `resources`. \
                    `null` removes a field or a key.",
                "type": ["object", "null"],
                "propertyNames": { "pattern": NAME },
                "additionalProperties": {
                    "type": ["object", "null"],
                    "propertyNames": { "pattern": NAME },
                    "properties": { STAGES: stages_of_profile },
                    "additionalProperties": {
                        "type": "object",
                        "additionalProperties": false,
                        "properties": of_field,
                    },
                },
            },
            "executors": executors(),
        },
        "$defs": definitions,
    })
}

/// The schema of the fields of a kind: its parameters, each a value or a grid, and its inputs.
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
        let each = json!({ "anyOf": inputs(true) });
        let description =
            "Inputs by name: a stage or some of its nodes (`nets@end=a`), or a list of them.";
        properties.insert(
            "inputs".to_owned(),
            json!({ "description": description, "type": "object", "additionalProperties": each }),
        );
    }
    properties.insert(RESOURCES.to_owned(), resources());
    properties.insert(WHERE.to_owned(), json!({ "$ref": format!("{DEFINITIONS}/{WHERE}") }));
    // `null` is accepted in place of an empty mapping.
    let form = if required.is_empty() { json!(["object", "null"]) } else { json!("object") };
    json!({
        "type": form,
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

/// The schema of an open mapping in a profile, where `null` removes a key.
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

/// The schema of the field `resources`.
fn resources() -> Json {
    inline::<ResourceFields>("The resources of each job of the stage.")
}

/// The schema of the section `executors`.
fn executors() -> Json {
    inline::<ExecutorFields>("The settings of executors. They are not part of any key.")
}

/// The schema of a type, without references.
fn inline<T: JsonSchema>(description: &str) -> Json {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.retain(|name, _| name != "$schema" && name != "title");
        schema.insert("description".to_owned(), description.into());
    }
    schema
}

fn text() -> Json {
    json!({ "type": "string" })
}

fn reference(arity: Arity, files: &[&str]) -> Json {
    let description =
        format!("A stage or some of its nodes (`nets@end=a`), with {}.", files.join(", "));
    json!({ "description": description, "anyOf": inputs(arity.gathers()) })
}

/// The name of the definition of an input, which no kind has.
const INPUT: &str = "input";

/// The forms of a slot: an input, or also a list of inputs.
fn inputs(gathers: bool) -> Vec<Json> {
    let input = json!({ "$ref": format!("{DEFINITIONS}/{INPUT}") });
    let list = json!({ "type": "array", "minItems": 1, "items": input });
    if gathers { vec![input, list] } else { vec![input] }
}

/// The schema of an input: a reference, or one with new names of axes.
fn input() -> Json {
    let renamed = json!({
        "description": "A stage or some of its nodes, with new names of axes.",
        "type": "object",
        "additionalProperties": false,
        "required": [STAGE],
        "properties": {
            STAGE: text(),
            RENAME: {
                "description": "The new name of each renamed axis.",
                "type": "object",
                "minProperties": 1,
                "additionalProperties": { "type": "string", "pattern": NAME },
            },
        },
    });
    json!({ "anyOf": [text(), renamed] })
}

/// The schema of the field `where`.
fn conditions() -> Json {
    let combinations = |name: &str, description: &str| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": [name],
            "properties": {
                name: {
                    "description": description,
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "object", "minProperties": 1 },
                },
            },
        })
    };
    let forms = [
        json!({
            "description": "Compares the places of two values in the list of their axis: `x < y`.",
            "type": "string",
            "pattern": "^[^<>=!]+([<>]=?|[=!]=)[^<>=!]+$",
        }),
        combinations(KEEP, "Keeps nodes with one of these combinations of values on axes."),
        combinations(LEAVE_OUT, "Leaves out nodes with one of these combinations."),
    ];
    let list = json!({ "type": "array", "minItems": 1, "items": { "anyOf": forms } });
    let all: Vec<Json> = forms.into_iter().chain([list]).collect();
    json!({ "description": "Conditions that all nodes of the stage meet.", "anyOf": all })
}

/// The schema of a grid: a value, a list of values, or a mapping that contains lists. `at` is its
/// path in the schema.
fn grid(value: &Json, at: &str) -> Json {
    let mut one = value.clone();
    let mut outer = Map::new();
    if let Some(one) = one.as_object_mut() {
        // Editors read the description of the outer schema.
        for name in ["description", "default"] {
            outer.extend(one.remove(name).map(|text| (name.to_owned(), text)));
        }
    }
    let first = format!("{at}/anyOf/0");
    inside(&mut one, &first);
    outer.insert("anyOf".to_owned(), json!([one, { "type": "array", "items": { "$ref": first } }]));
    Json::Object(outer)
}

/// Turns the fields of a mapping, or of each of several variants, into grids.
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
