//! YAML values with their locations, and how typed parameters are read from them.
//!
//! `pipeline.yaml` is parsed into a tree of [`YamlNode`]s. Grids are expanded in that tree. The
//! [`serde::Deserializer`] in this file then reads the parameters of a stage from the tree, so that
//! an error deep inside a grid has a location, a path and a hint with the nearest name. This module
//! knows no stage and no field.

mod value_error;

use serde::Serialize;
use serde::de::{
    self, Deserialize, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value as Json;
use serde_yaml::budget::BudgetBreach;
use serde_yaml::{Budget, Spanned};
use std::fmt;

pub use value_error::{ValueError, nearest, suggest};

/// A position in a file. Lines and columns are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A YAML value with its location.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlNode {
    /// The location of the value; `None` if it comes from the command line.
    pub location: Option<Location>,
    /// The value.
    pub value: Value,
}

/// A YAML value. A plain scalar keeps its text: `0x1F` is read as the number 31 or as the text
/// `0x1F`, depending on the type of the parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`, and its text.
    Bool(bool, String),
    /// An integer, and its text.
    Int(i64, String),
    /// Any other finite number, and its text.
    Float(f64, String),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<YamlNode>),
    /// A mapping, in file order; keys are unique texts.
    Map(Vec<YamlField>),
}

/// One `key: value` of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlField {
    /// The key.
    pub key: String,
    /// The location of the key.
    pub location: Option<Location>,
    /// The value.
    pub value: YamlNode,
}

impl YamlNode {
    /// Parses a YAML document. Only spellings of `true` and `false` are booleans, so `n` is a text.
    /// A number that is not finite is a text, too. Duplicate keys and unbounded aliases are errors.
    pub fn parse(text: &str) -> Result<YamlNode, ValueError> {
        let options = serde_yaml::options! {
            strict_booleans: true,
            non_finite_float_policy: serde_yaml::NonFiniteFloatPolicy::PassThrough,
            budget: Some(budget(text.len())),
        };
        let parsed = serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options);
        parsed.map(|raw| raw.value.with_text(raw.referenced, raw.defined, text)).map_err(|error| {
            let location = error.location().map(Location::from);
            let (message, hint) = explain(error.without_snippet());
            ValueError::at(location, message, Some(hint.into()))
        })
    }

    /// The fields, if this is a mapping.
    pub fn as_map(&self) -> Option<&[YamlField]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The text of a scalar, as written in the file.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Bool(_, text)
            | Value::Int(_, text)
            | Value::Float(_, text)
            | Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The value without locations.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(x, _) => Json::from(*x),
            Value::Int(x, _) => Json::from(*x),
            Value::Float(x, _) => Json::from(*x),
            Value::Text(x) => Json::from(x.as_str()),
            Value::List(items) => items.iter().map(YamlNode::to_json).collect(),
            Value::Map(entries) => {
                entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect()
            }
        }
    }

    /// The value as it is passed to a program. A boolean or number whose JSON text differs from the
    /// text in the file is passed as that text.
    pub fn verbatim(&self) -> Json {
        match (&self.value, self.to_json()) {
            (Value::List(items), _) => items.iter().map(YamlNode::verbatim).collect(),
            (Value::Map(entries), _) => {
                entries.iter().map(|e| (e.key.clone(), e.value.verbatim())).collect()
            }
            (Value::Null | Value::Text(_), json) => json,
            (Value::Bool(_, text) | Value::Int(_, text) | Value::Float(_, text), json) => {
                let shown = json.to_string();
                if shown == *text { json } else { Json::from(text.as_str()) }
            }
        }
    }

    /// A description of the value for messages.
    pub fn kind(&self) -> String {
        match (&self.value, self.as_text()) {
            (_, Some(text)) => format!("`{text}`"),
            (Value::List(_), None) => "a list".into(),
            (Value::Map(_), None) => "a mapping".into(),
            (_, None) => "nothing".into(),
        }
    }
}

/// Limits for a file of `bytes` bytes. They never refuse a file without aliases; aliases may add a
/// fixed number of values.
fn budget(bytes: usize) -> Budget {
    let mut budget = Budget::default();
    budget.max_nodes = budget.max_nodes.saturating_add(bytes);
    budget.max_events = budget.max_events.saturating_add(bytes.saturating_mul(2));
    budget.max_anchors = budget.max_anchors.saturating_add(bytes);
    budget.max_aliases = budget.max_aliases.saturating_add(bytes);
    budget.max_merge_keys = budget.max_merge_keys.saturating_add(bytes);
    budget
}

/// The message and hint for an error of the YAML parser. The parser's own messages mention its
/// functions.
fn explain(error: &serde_yaml::Error) -> (String, &'static str) {
    use serde_yaml::Error as E;
    const NOT_YAML: &str =
        "this is not YAML: look at the indentation, brackets and quotes there and just before";
    const EXPANDED: &str = "use fewer aliases inside other anchors";
    match error {
        E::DuplicateMappingKey { key, .. } => {
            let key = key.as_ref().map_or_else(|| "a key".into(), |key| format!("`{key}`"));
            (format!("{key} is given twice"), "remove one of the two, or give one another name")
        }
        E::MultipleDocuments { .. } => (
            "a second document begins here".into(),
            "remove the line `---`, or put what follows it into another file",
        ),
        E::UnknownAnchor { .. } => (
            "this alias names no anchor before it".into(),
            "write `&name` before the value and `*name` after it",
        ),
        E::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an alias is inside its own anchor".into(), "write the value out instead")
        }
        E::MergeValueNotMapOrSeqOfMaps { .. } => (
            "the value of `<<` is not a mapping".into(),
            "write `<<: *name`, where `&name` marks a mapping",
        ),
        E::Eof { .. } => ("the text ends too early".into(), NOT_YAML),
        E::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            ("lists and mappings are nested too deep".into(), "nest them at most 64 deep")
        }
        E::Budget { breach: BudgetBreach::ScalarBytes { .. }, .. } => (
            "the texts in this file add up to more than 64 MiB".into(),
            "move long texts to separate files",
        ),
        E::Budget { .. }
        | E::AliasReplayCounterOverflow { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => {
            ("this file is too large once its aliases are expanded".into(), EXPANDED)
        }
        E::AliasError { error, .. } => explain(error),
        // These messages of the parser are about YAML only.
        E::ExternalMessage { msg, .. } => (without_location(msg), NOT_YAML),
        E::FoldedBlockScalarMustIndentContent { .. } => (
            "a text after `>` or `|` is not indented".into(),
            "indent its lines deeper than its key",
        ),
        E::InvalidBinaryBase64 { .. } | E::BinaryNotUtf8 { .. } | E::UnsupportedTag { .. } => (
            "this tag does not fit its value".into(),
            "remove the tag, the word that begins with `!`",
        ),
        E::InvalidScalar { .. } | E::InvalidBooleanStrict { .. } => (
            "the value does not fit its tag".into(),
            "remove the tag, the word that begins with `!`",
        ),
        _ => ("the value cannot be read".into(), NOT_YAML),
    }
}

/// Removes the location at the start of the message.
fn without_location(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.split_once(" at line ").map_or(line, |(before, _)| before).to_owned()
}

impl From<serde_yaml::Location> for Location {
    fn from(location: serde_yaml::Location) -> Location {
        Location { line: location.line(), column: location.column() }
    }
}

/// A YAML value as parsed, with locations instead of the texts of scalars.
enum Raw {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Raw {
    /// Adds locations and the texts of scalars from `text`, the whole document. `at` is the
    /// location at which the value is used; for an alias, `defined` is that of its anchor.
    fn with_text(
        self,
        at: serde_yaml::Location,
        defined: serde_yaml::Location,
        text: &str,
    ) -> YamlNode {
        let inside = |Spanned { value, referenced, defined }: Spanned<Raw>| {
            value.with_text(referenced, defined, text)
        };
        let written = |json: Json| plain_scalar(text, defined).unwrap_or_else(|| json.to_string());
        let value = match self {
            Raw::Null => Value::Null,
            Raw::Bool(x) => Value::Bool(x, written(x.into())),
            Raw::Int(x) => Value::Int(x, written(x.into())),
            Raw::Float(x) if x.is_finite() => Value::Float(x, written(x.into())),
            Raw::Float(x) => {
                Value::Text(plain_scalar(text, defined).unwrap_or_else(|| x.to_string()))
            }
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => Value::List(items.into_iter().map(inside).collect()),
            Raw::Map(entries) => {
                let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| YamlField {
                    location: Some(key.referenced.into()),
                    key: key.value,
                    value: inside(value),
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        YamlNode { location: Some(at.into()), value }
    }
}

/// The text of the plain scalar at `location`; `None` for a quoted text or block that a tag turns
/// into a number.
fn plain_scalar(text: &str, location: serde_yaml::Location) -> Option<String> {
    let index = |n: Option<u64>| usize::try_from(n?).ok();
    let begin = index(location.span().byte_offset())?;
    let end = begin.checked_add(index(location.span().byte_len())?)?;
    let scalar = text.get(begin..end)?.trim();
    (!scalar.is_empty() && !scalar.contains(['"', '\'', '|', '>', '!', '&']))
        .then(|| scalar.to_owned())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_bool<E>(self, x: bool) -> Result<Raw, E> {
                Ok(Raw::Bool(x))
            }
            fn visit_i64<E>(self, x: i64) -> Result<Raw, E> {
                Ok(Raw::Int(x))
            }
            fn visit_u64<E>(self, x: u64) -> Result<Raw, E> {
                Ok(i64::try_from(x).map_or(Raw::Float(x as f64), Raw::Int))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Raw, E> {
                Ok(Raw::Float(x))
            }
            fn visit_str<E>(self, x: &str) -> Result<Raw, E> {
                Ok(Raw::Text(x.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

/// A value that is passed to a program: [`YamlNode::verbatim`] of a YAML value, or a JSON value
/// itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Verbatim(pub Json);

/// The struct name by which the deserializer of [`YamlNode`] recognises [`Verbatim`].
const VERBATIM: &str = "repro::Verbatim";

impl<'de> Deserialize<'de> for Verbatim {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Verbatim, D::Error> {
        struct Inside;
        impl<'de> Visitor<'de> for Inside {
            type Value = Verbatim;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_newtype_struct<D: de::Deserializer<'de>>(
                self,
                inner: D,
            ) -> Result<Verbatim, D::Error> {
                Json::deserialize(inner).map(Verbatim)
            }
        }
        deserializer.deserialize_newtype_struct(VERBATIM, Inside)
    }
}

/// Reads a `T` from `node`.
pub fn read<'a, T: Deserialize<'a>>(node: &'a YamlNode) -> Result<T, ValueError> {
    T::deserialize(node)
}

impl<'de> de::Deserializer<'de> for &'de YamlNode {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let outcome = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(x, _) => visitor.visit_bool(*x),
            Value::Int(x, _) => visitor.visit_i64(*x),
            Value::Float(x, _) => visitor.visit_f64(*x),
            Value::Text(x) => visitor.visit_borrowed_str(x),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => {
                visitor.visit_map(Entries { rest: entries.iter(), current: None })
            }
        };
        outcome.map_err(|e| e.located(self.location))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if name == VERBATIM {
            return visitor
                .visit_newtype_struct(self.verbatim())
                .map_err(|e| ValueError::new(e.to_string()));
        }
        visitor.visit_newtype_struct(self).map_err(|e: ValueError| e.located(self.location))
    }

    /// Any scalar can be read as a string, which is its text.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.as_text() {
            Some(text) => {
                visitor.visit_borrowed_str(text).map_err(|e: ValueError| e.located(self.location))
            }
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.deserialize_str(visitor)
    }

    /// `name` or `{ name: content }`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let outcome = match &self.value {
            Value::Text(name) => visitor.visit_enum(Variant { name, content: None }),
            Value::Map(entries) if entries.len() == 1 => {
                let entry = &entries[0];
                visitor.visit_enum(Variant { name: &entry.key, content: Some(&entry.value) })
            }
            _ => Err(ValueError::new(format!(
                "expected a name or `{{ name: ... }}`, found {}",
                self.kind()
            ))),
        };
        outcome.map_err(|e| e.located(self.location))
    }

    /// Refuses a list of field values, which serde accepts by default.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match &self.value {
            Value::List(_) => Err(ValueError::at(
                self.location,
                "expected a mapping of fields, found a list",
                None,
            )),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, YamlNode>);

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = ValueError;
    fn next_element_seed<T: DeserializeSeed<'a>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ValueError> {
        self.0
            .next()
            .map(|item| seed.deserialize(item).map_err(|e| e.located(item.location)))
            .transpose()
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, YamlField>,
    current: Option<&'a YamlField>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ValueError> {
        self.current = self.rest.next();
        let key =
            self.current.map(|entry| (entry.key.as_str().into_deserializer(), entry.location));
        key.map(|(key, location)| {
            seed.deserialize(key).map_err(|e: ValueError| e.located(location))
        })
        .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        let entry = self.current.expect("BUG: a value is read before its key");
        seed.deserialize(&entry.value)
            .map_err(|e| e.located(entry.value.location).under(&entry.key))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: Option<&'a YamlNode>,
}

impl<'a> Variant<'a> {
    fn content(self) -> Result<(&'a str, &'a YamlNode), ValueError> {
        let hint = || Some(format!("write `{{ {}: ... }}`", self.name));
        let missing = || ValueError::at(None, format!("`{}` needs a value", self.name), hint());
        self.content.map(|content| (self.name, content)).ok_or_else(missing)
    }
}

impl<'a> de::EnumAccess<'a> for Variant<'a> {
    type Error = ValueError;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), ValueError> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self))
    }
}

impl<'a> de::VariantAccess<'a> for Variant<'a> {
    type Error = ValueError;

    fn unit_variant(self) -> Result<(), ValueError> {
        match self.content {
            None | Some(YamlNode { value: Value::Null, .. }) => Ok(()),
            Some(content) => {
                let message = format!("`{}` takes no value, found {}", self.name, content.kind());
                Err(ValueError::at(
                    content.location,
                    message,
                    Some(format!("write `{}` alone", self.name)),
                ))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, ValueError> {
        let (name, content) = self.content()?;
        seed.deserialize(content).map_err(|e| e.located(content.location).under(name))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, ValueError> {
        self.struct_variant(&[], visitor)
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let (name, content) = self.content()?;
        de::Deserializer::deserialize_struct(content, "", &[], visitor)
            .map_err(|e| e.located(content.location).under(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        width: u32,
        #[serde(default)]
        prior: Prior,
    }

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Prior {
        #[default]
        None,
        Normal {
            variance: f64,
        },
        Dropout(f64),
    }

    fn settings(yaml: &str) -> Result<Settings, String> {
        let node = YamlNode::parse(yaml).unwrap();
        read(&node).map_err(|e: ValueError| {
            let location = e.location.map(|p| p.to_string()).unwrap_or_default();
            format!("{location}: {e}; {}", e.hint.clone().unwrap_or_default())
        })
    }

    #[test]
    fn messages_name_types_in_the_terms_of_yaml() {
        let node = YamlNode::parse("x").unwrap();
        let message = |error: ValueError| error.message;
        assert_eq!(message(read::<Vec<String>>(&node).unwrap_err()), "expected a list, found `x`");
        let map = read::<std::collections::BTreeMap<String, String>>(&node).unwrap_err();
        assert_eq!(message(map), "expected a mapping, found `x`");
    }

    #[test]
    fn a_large_file_without_aliases_is_within_the_limits() {
        let stage = |i| format!("  s{i}: {{ command: {{ run: x, outputs: [y] }} }}\n");
        let text = format!("stages:\n{}", (0..40_000).map(stage).collect::<String>());
        let node = YamlNode::parse(&text).unwrap();
        assert_eq!(node.as_map().unwrap()[0].value.as_map().unwrap().len(), 40_000);
    }

    #[test]
    fn no_message_names_internals_of_the_parser() {
        const INTERNALS: [&str; 12] = [
            "from_", "Options", "Policy", "u64", "i64", "f64", "usize", "enum", "struct", "tuple",
            "visitor", "::",
        ];
        let deep = "[".repeat(1000);
        let wrong = [
            "a: 1\n---\nb: 2\n",
            "a: *b",
            "a: &a [*a]",
            "a: 1\na: 2",
            "a: [",
            "a: }",
            "a: \"x",
            "? [1]\n: 2",
            "\t- a",
            "<<: 3",
            "a: !!int x",
            "a: !!bool 7",
            "a: !!binary %",
            "a: 'x' y",
            "- a\nb: c",
            "a: b: c",
            "@a",
            "a: %x\n%y",
            "{a: 1, b",
            "!!map [1]",
            "a: |x\n  y",
            "a: \"\\q\"",
            "*",
            "&",
            "[1]: 2",
            "{a: 1}: 2",
            "~: 3",
            &deep,
        ];
        let mut refused = 0;
        for text in wrong {
            let Err(error) = YamlNode::parse(text) else { continue };
            let message = format!("{error}; {}", error.hint.as_deref().unwrap_or_default());
            assert!(!INTERNALS.iter().any(|name| message.contains(name)), "{text}: {message}");
            assert!(error.hint.is_some(), "{text}: {message}");
            refused += 1;
        }
        assert!(refused > wrong.len() / 2, "{refused} are refused");
        let second = YamlNode::parse("a: 1\n---\nb: 2\n").unwrap_err();
        assert_eq!(second.message, "a second document begins here");
    }

    #[test]
    fn typed_values_are_read_from_the_tree() {
        assert_eq!(settings("width: 3"), Ok(Settings { width: 3, prior: Prior::None }));
        assert_eq!(
            settings("{ width: 3, prior: none }"),
            Ok(Settings { width: 3, prior: Prior::None })
        );
        let normal = Prior::Normal { variance: 1.0 };
        assert_eq!(
            settings("width: 3\nprior: { normal: { variance: 1 } }"),
            Ok(Settings { width: 3, prior: normal })
        );
        assert_eq!(
            settings("width: 3\nprior:\n  dropout: 0.5"),
            Ok(Settings { width: 3, prior: Prior::Dropout(0.5) })
        );
    }

    #[test]
    fn an_error_has_location_path_cause_and_hint() {
        let case = |yaml: &str, message: &str| assert_eq!(settings(yaml), Err(message.to_owned()));
        case(
            "width: -3",
            "1:8: `width`: expected a whole number, zero or more, found `-3`; \
             write a whole number, zero or more",
        );
        case(
            "width: wide",
            "1:8: `width`: expected a whole number, zero or more, found `wide`; \
             write a whole number, zero or more",
        );
        case("widht: 3", "1:1: unknown field `widht`; did you mean `width`?");
        case("prior: none", "1:1: the field `width` is missing; write `width: ...` there");
        case(
            "width: 3\nprior: { normal: { varience: 1 } }",
            "2:20: `prior.normal`: unknown field `varience`; did you mean `variance`?",
        );
        case(
            "width: 3\nprior: normal",
            "2:8: `prior`: `normal` needs a value; write `{ normal: ... }`",
        );
        case(
            "width: 3\nprior: { none: 1 }",
            "2:16: `prior`: `none` takes no value, found `1`; write `none` alone",
        );
        case(
            "width: 3\nprior: gaussian",
            "2:8: `prior`: unknown value `gaussian`; known: `none`, `normal`, `dropout`",
        );
        case("[1]", "1:1: expected a mapping of fields, found a list; ");
    }

    #[test]
    fn invalid_yaml_is_an_error_with_a_location() {
        let refusal = |yaml: &str| YamlNode::parse(yaml).unwrap_err();
        assert_eq!(refusal("a: 1\na: 2").location, Some(Location { line: 2, column: 1 }));
        assert_eq!(refusal("a: 1\na: 2").message, "`a` is given twice");
        assert_eq!(refusal("a: [1, 2").location.map(|p| p.line), Some(1));
        let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
            + &(b'b'..b'k')
                .map(|c| {
                    let (name, before) = (c as char, (c - 1) as char);
                    let aliases = vec![format!("*{before}"); 6].join(", ");
                    format!("{name}: &{name} [{aliases}]\n")
                })
                .collect::<String>();
        assert!(YamlNode::parse(&bomb).is_err(), "an alias bomb is refused");
    }

    /// Spellings of scalars that YAML 1.2 does not read as texts.
    const SPELLINGS: [&str; 38] = [
        "0",
        "-0",
        "7",
        "007",
        "001",
        "+5",
        "0x1F",
        "0o17",
        "0b101",
        "1_000",
        "2024_01_15",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "0xFFFFFFFFFFFFFFFF",
        "1.0",
        "-0.0",
        "3.10",
        "3.1",
        "0.10",
        ".5",
        "5.",
        "+.5",
        "1e3",
        "1E3",
        "1e+3",
        "58899e0",
        "1e-7",
        "0.0000001",
        "1e16",
        "1e400",
        "5e-324",
        ".inf",
        "-.INF",
        ".NaN",
        "true",
        "FALSE",
    ];

    #[test]
    fn a_scalar_keeps_its_text_in_every_context() {
        for written in SPELLINGS {
            for yaml in [
                written.to_owned(),
                format!("  {written}  # why"),
                format!("\u{feff}{written}"),
                format!("# \u{fc}\u{1F600}\r\nx: {written}\r\n"),
                format!("\u{fc}: [\u{1F600}, {written}, 2]"),
                format!("{{a: {written}, b: 2}}"),
                format!("a: &n {written}\nb: *n"),
                format!("a: &m {{ x: {written} }}\nb: {{ <<: *m, y: 1 }}"),
                format!("- - {written}\n  - 2"),
            ] {
                let mut texts = Vec::new();
                scalars(&YamlNode::parse(&yaml).unwrap(), &mut texts);
                let count = texts.iter().filter(|text| **text == written).count();
                assert_eq!(count, if yaml.contains('*') { 2 } else { 1 }, "{yaml}: {texts:?}");
            }
        }
    }

    fn scalars(node: &YamlNode, texts: &mut Vec<String>) {
        texts.extend(node.as_text().map(str::to_owned));
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| scalars(item, texts)),
            Value::Map(entries) => entries.iter().for_each(|entry| scalars(&entry.value, texts)),
            _ => {}
        }
    }

    #[test]
    fn a_number_is_passed_to_a_program_with_the_text_of_the_file() {
        for written in SPELLINGS {
            let json = read::<Verbatim>(&YamlNode::parse(written).unwrap()).unwrap().0;
            let shown = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
            assert_eq!(shown, written);
            assert_eq!(read::<String>(&YamlNode::parse(written).unwrap()).unwrap(), written);
        }
        let verbatim = |yaml: &str| YamlNode::parse(yaml).unwrap().verbatim().to_string();
        assert_eq!(
            verbatim("[1, 0.5, -0.0, 1e-7, true, x, null, {a: 01}]"),
            r#"[1,0.5,-0.0,1e-7,true,"x",null,{"a":"01"}]"#
        );
        assert_eq!(verbatim("[1.50, True, 0x10, .inf]"), r#"["1.50","True","0x10",".inf"]"#);
    }

    #[test]
    fn a_tag_turns_a_quoted_text_into_a_number() {
        let verbatim = |yaml: &str| YamlNode::parse(yaml).unwrap().verbatim().to_string();
        assert_eq!(
            verbatim("[!!int '7', !!str 007, !!float \"1e3\", !!bool 'true']"),
            r#"[7,"007",1000.0,true]"#
        );
    }

    #[test]
    fn every_spelling_of_a_number_is_read_where_a_number_is_expected() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Wanted(f64);
        for (written, x) in [
            ("1e-2", 0.01),
            ("0.010", 0.01),
            ("1_000", 1000.0),
            ("0x10", 16.0),
            (".5", 0.5),
            ("1e19", 1e19),
        ] {
            assert_eq!(read(&YamlNode::parse(written).unwrap()), Ok(Wanted(x)), "{written}");
        }
        assert_eq!(read(&YamlNode::parse("0x10").unwrap()), Ok(16u32));
        for written in [".inf", ".nan", "1e999"] {
            let refused = read::<f64>(&YamlNode::parse(written).unwrap()).unwrap_err();
            assert_eq!(refused.message, format!("expected a number, found `{written}`"));
        }
    }
}
