//! Parameters that are passed to a program as text: a scalar, exactly as written, or a list of
//! scalars.

use crate::engine::stage::Verbatim;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Unexpected};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::borrow::Cow;

/// A text. A number or a boolean is read exactly as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Text(pub(super) String);

/// A text, or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Texts {
    /// `x`
    One(Text),
    /// `[x, y]`
    Many(Vec<Text>),
}

impl Texts {
    /// All texts, in order.
    pub(super) fn all(&self) -> &[Text] {
        match self {
            Texts::One(text) => std::slice::from_ref(text),
            Texts::Many(texts) => texts,
        }
    }
}

/// The text of a scalar; `None` for null, a list or a mapping.
pub(super) fn scalar_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Bool(_) | Json::Number(_) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn text<E: Error>(value: &Json) -> Result<Text, E> {
    scalar_text(value).map(Text).ok_or_else(|| match value {
        Json::Array(_) => E::invalid_type(Unexpected::Seq, &"a text"),
        Json::Object(_) => E::invalid_type(Unexpected::Map, &"a text"),
        _ => E::invalid_type(Unexpected::Unit, &"a text, with quotes if it is `null` or `~`"),
    })
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        text(&Verbatim::deserialize(deserializer)?.0)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        match Verbatim::deserialize(deserializer)?.0 {
            Json::Array(items) => items.iter().map(text).collect::<Result<_, _>>().map(Texts::Many),
            one => text(&one).map(Texts::One),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_scalar_is_a_text_and_nothing_else_is() {
        for (value, expected) in
            [(json!("3.10"), "3.10"), (json!(3), "3"), (json!(-0.5), "-0.5"), (json!(true), "true")]
        {
            assert_eq!(from_value::<Text>(value).unwrap().0, expected);
        }
        for value in [json!(null), json!([]), json!({})] {
            assert!(from_value::<Text>(value.clone()).is_err(), "{value}");
            assert!(from_value::<Texts>(json!(["a", value])).is_err(), "{value}");
        }
        assert_eq!(
            from_value::<Texts>(json!(["a", 1])).unwrap().all(),
            [Text("a".into()), Text("1".into())]
        );
    }

    #[test]
    fn a_text_and_a_list_of_one_text_serialize_as_they_were_written() {
        for value in [json!("x"), json!(["x"])] {
            assert_eq!(json!(from_value::<Texts>(value.clone()).unwrap()), value);
        }
    }
}
