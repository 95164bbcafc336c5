//! YAML values that remember where they stand, and their way into typed parameters.
//!
//! `pipeline.yaml` is first read as a tree of [`Node`]s. A stage's parameters are then deserialised from that tree, after
//! grids have been expanded, by the [`serde::Deserializer`] here, so that a wrong field deep inside a grid is still
//! reported with its line, its path and the nearest known name. This file knows no stage and no field.

use serde::de::{self, Deserialize, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_yaml::Spanned;
use std::fmt;

/// A position in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands; `None` for what was given on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub place: Option<Place>,
    /// What stands there.
    pub value: Value,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in written order; keys are text and unique.
    Map(Vec<Entry>),
}

/// One `key: value` of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Option<Place>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Reads a YAML document; only `true` and `false` are booleans, so `n` is a text. Duplicate keys, unbounded aliases and anything else that is not YAML are refused.
    pub fn parse(text: &str) -> Result<Node, Misfit> {
        let options = serde_yaml::options! { strict_booleans: true };
        let parsed = serde_yaml::from_str_with_options::<Spanned<Value>>(text, options);
        let node = parsed.map(Node::from).map_err(|error| {
            let place = error.location().map(Place::from);
            match error.without_snippet() {
                serde_yaml::Error::DuplicateMappingKey { key, .. } => {
                    let key = key.as_ref().map_or_else(|| "a key".into(), |key| format!("`{key}`"));
                    let hint = "remove one of the two, or give one another name";
                    Misfit::at(place, format!("{key} is given twice"), Some(hint.into()))
                }
                other if other.to_string().contains("budget breached") => {
                    let hint = "write it out, with fewer aliases within aliases";
                    Misfit::at(place, "there is too much in this file once it is unfolded", Some(hint.into()))
                }
                serde_yaml::Error::NonFiniteFloat { value, .. } => {
                    Misfit::at(place, format!("`{value}` is not a finite number"), Some("write a finite number".into()))
                }
                other => {
                    let hint = "this is not YAML: look at the indentation, brackets and quotes there and just before";
                    Misfit::at(place, first_line(&other.to_string()), Some(hint.into()))
                }
            }
        })?;
        node.refuse_rounded(text)?;
        Ok(node)
    }

    /// Refuses a whole number that only a float would hold: it would be another. `text` is where all of this stands.
    fn refuse_rounded(&self, text: &str) -> Result<(), Misfit> {
        match &self.value {
            Value::Float(x) if x.abs() >= i64::MAX as f64 => {
                let written = self.place.map_or("", |place| scalar_at(text, place));
                let digits = written.trim_start_matches(['-', '+']);
                let whole = digits.starts_with("0x") || !digits.contains(['.', 'e', 'E']);
                if !whole || !digits.starts_with(|c: char| c.is_ascii_digit()) {
                    return Ok(());
                }
                let hint = "write it in quotes, as a text";
                Err(Misfit::at(self.place, format!("`{written}` is too large for a whole number"), Some(hint.into())))
            }
            Value::List(items) => items.iter().try_for_each(|item| item.refuse_rounded(text)),
            Value::Map(entries) => entries.iter().try_for_each(|entry| entry.value.refuse_rounded(text)),
            _ => Ok(()),
        }
    }

    /// The entries, if this is a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same value without its places.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(x) => Json::from(*x),
            Value::Int(x) => Json::from(*x),
            Value::Float(x) => Json::from(*x),
            Value::Text(x) => Json::from(x.as_str()),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Map(entries) => entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect(),
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(x) => format!("`{x}`"),
            Value::Int(x) => format!("`{x}`"),
            Value::Float(x) => format!("`{x}`"),
            Value::Text(x) => format!("`{x}`"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

/// The plain scalar that begins at `place`; nothing if nothing does.
fn scalar_at(text: &str, place: Place) -> &str {
    let before = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.lines().nth(before(place.line)).unwrap_or_default();
    let begins = line.char_indices().nth(before(place.column)).map_or(line.len(), |(at, _)| at);
    let scalar = &line[begins..];
    &scalar[..scalar.find([' ', '\t', ',', ']', '}']).unwrap_or(scalar.len())]
}

/// Without the place, which is told first.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    line.split_once(" at line ").map_or(line, |(before, _)| before).to_owned()
}

impl From<serde_yaml::Location> for Place {
    fn from(location: serde_yaml::Location) -> Place {
        Place { line: location.line(), column: location.column() }
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Node {
        Node { place: Some(spanned.referenced.into()), value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct AnyValue;
        impl<'de> Visitor<'de> for AnyValue {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, x: bool) -> Result<Value, E> {
                Ok(Value::Bool(x))
            }
            fn visit_i64<E>(self, x: i64) -> Result<Value, E> {
                Ok(Value::Int(x))
            }
            fn visit_u64<E>(self, x: u64) -> Result<Value, E> {
                Ok(i64::try_from(x).map_or(Value::Float(x as f64), Value::Int))
            }
            fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
                Ok(Value::Float(x))
            }
            fn visit_str<E>(self, x: &str) -> Result<Value, E> {
                Ok(Value::Text(x.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<Spanned<Value>>()? {
                    items.push(item.into());
                }
                Ok(Value::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    let value = map.next_value::<Spanned<Value>>()?;
                    entries.push(Entry { place: Some(key.referenced.into()), key: key.value, value: value.into() });
                }
                Ok(Value::Map(entries))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

/// Why a value does not fit: where, under which path, what is wrong and what would help.
#[derive(Clone, Debug, PartialEq)]
pub struct Misfit {
    /// Where the value stands.
    pub place: Option<Place>,
    /// The fields that lead to it, outermost first.
    pub path: Vec<String>,
    /// One sentence, lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Misfit {
    /// A misfit that does not know its place yet.
    pub fn new(message: impl Into<String>) -> Misfit {
        Misfit { place: None, path: Vec::new(), message: message.into(), hint: None }
    }

    /// One at `place`, with a hint.
    pub fn at(place: Option<Place>, message: impl Into<String>, hint: Option<String>) -> Misfit {
        Misfit { place, path: Vec::new(), message: message.into(), hint }
    }

    fn located(mut self, place: Option<Place>) -> Misfit {
        self.place = self.place.or(place);
        self
    }

    fn under(mut self, field: &str) -> Misfit {
        self.path.insert(0, field.to_owned());
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.path.join("."), self.message)
        }
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    /// What a type says of a value that it refuses; serde carries text alone, so a hint rides behind `; `.
    fn custom<T: fmt::Display>(message: T) -> Misfit {
        let text = message.to_string();
        match text.split_once("; ") {
            Some((message, hint)) => Misfit::at(None, message, Some(hint.to_owned())),
            None => Misfit::new(text),
        }
    }

    fn invalid_type(found: de::Unexpected, expected: &dyn de::Expected) -> Misfit {
        let found = match found {
            de::Unexpected::Bool(x) => format!("`{x}`"),
            de::Unexpected::Signed(x) => format!("`{x}`"),
            de::Unexpected::Unsigned(x) => format!("`{x}`"),
            de::Unexpected::Float(x) => format!("`{x}`"),
            de::Unexpected::Str(x) => format!("`{x}`"),
            de::Unexpected::Unit => "nothing".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a mapping".to_owned(),
            other => other.to_string(),
        };
        let expected = plain(&expected.to_string()).to_owned();
        Misfit::at(None, format!("expected {expected}, found {found}"), Some(format!("write {expected}")))
    }

    fn invalid_value(found: de::Unexpected, expected: &dyn de::Expected) -> Misfit {
        Misfit::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Misfit {
        Misfit { hint: suggest(field, known.iter().copied()), ..Misfit::new(format!("unknown field `{field}`")) }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Misfit {
        Misfit { hint: suggest(variant, known.iter().copied()), ..Misfit::new(format!("unknown value `{variant}`")) }
    }

    fn missing_field(field: &'static str) -> Misfit {
        Misfit::at(None, format!("the field `{field}` is missing"), Some(format!("write `{field}: ...` there")))
    }

    fn duplicate_field(field: &'static str) -> Misfit {
        Misfit::new(format!("the field `{field}` is given twice"))
    }
}

/// Rust's names of types in a user's words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, zero or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "string" | "str" => "a text",
        "map" => "a mapping",
        other if other.starts_with("struct ") || other.starts_with("struct variant ") => "a mapping of fields",
        other if other.starts_with("unit variant") => "the bare name, with nothing below it",
        other => other,
    }
}

/// A hint for a name that is none of `known`: the nearest one if it is near, else all of them.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().max_by(|a, b| likeness(name, a).total_cmp(&likeness(name, b)))?;
    if likeness(name, nearest) >= 0.75 {
        return Some(format!("did you mean `{nearest}`?"));
    }
    const SHOWN: usize = 12;
    let list = known.iter().take(SHOWN).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let more = if known.len() > SHOWN { format!(" and {} more", known.len() - SHOWN) } else { String::new() };
    Some(format!("known: {list}{more}"))
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(&a.to_lowercase(), &b.to_lowercase())
}

/// Reads a `T` out of `node`.
pub fn read<'a, T: Deserialize<'a>>(node: &'a Node) -> Result<T, Misfit> {
    T::deserialize(node)
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let outcome = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(x) => visitor.visit_bool(*x),
            Value::Int(x) => visitor.visit_i64(*x),
            Value::Float(x) => visitor.visit_f64(*x),
            Value::Text(x) => visitor.visit_borrowed_str(x),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), current: None }),
        };
        outcome.map_err(|e| e.located(self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self).map_err(|e: Misfit| e.located(self.place))
    }

    /// `name` or `{ name: content }`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let outcome = match &self.value {
            Value::Text(name) => visitor.visit_enum(Variant { name, content: None }),
            Value::Map(entries) if entries.len() == 1 => {
                let entry = &entries[0];
                visitor.visit_enum(Variant { name: &entry.key, content: Some(&entry.value) })
            }
            _ => Err(Misfit::new(format!("expected a name or `{{ name: ... }}`, found {}", self.kind()))),
        };
        outcome.map_err(|e| e.located(self.place))
    }

    /// Fields have names: a list in their place is refused, which serde by itself would take.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.value {
            Value::List(_) => Err(Misfit::at(self.place, "expected a mapping of fields, found a list", None)),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Misfit;
    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        self.0.next().map(|item| seed.deserialize(item).map_err(|e| e.located(item.place))).transpose()
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        self.current = self.rest.next();
        let key = self.current.map(|entry| (entry.key.as_str().into_deserializer(), entry.place));
        key.map(|(key, place)| seed.deserialize(key).map_err(|e: Misfit| e.located(place))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let entry = self.current.expect("BUG: a value is asked for before its key");
        seed.deserialize(&entry.value).map_err(|e| e.located(entry.value.place).under(&entry.key))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: Option<&'a Node>,
}

impl<'a> Variant<'a> {
    fn content(self) -> Result<(&'a str, &'a Node), Misfit> {
        let hint = || Some(format!("write `{{ {}: ... }}`", self.name));
        let missing = || Misfit::at(None, format!("`{}` wants a value", self.name), hint());
        self.content.map(|content| (self.name, content)).ok_or_else(missing)
    }
}

impl<'a> de::EnumAccess<'a> for Variant<'a> {
    type Error = Misfit;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        Ok((seed.deserialize(self.name.into_deserializer())?, self))
    }
}

impl<'a> de::VariantAccess<'a> for Variant<'a> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        match self.content {
            None | Some(Node { value: Value::Null, .. }) => Ok(()),
            Some(content) => {
                let message = format!("`{}` takes no value, found {}", self.name, content.kind());
                Err(Misfit::at(content.place, message, Some(format!("write `{}` alone", self.name))))
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Misfit> {
        let (name, content) = self.content()?;
        seed.deserialize(content).map_err(|e| e.located(content.place).under(name))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Misfit> {
        self.struct_variant(&[], visitor)
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Misfit> {
        let (name, content) = self.content()?;
        de::Deserializer::deserialize_struct(content, "", &[], visitor)
            .map_err(|e| e.located(content.place).under(name))
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
        let node = Node::parse(yaml).unwrap();
        read(&node).map_err(|e: Misfit| {
            let place = e.place.map(|p| p.to_string()).unwrap_or_default();
            format!("{place}: {e}; {}", e.hint.clone().unwrap_or_default())
        })
    }

    #[test]
    fn typed_values_come_out_of_the_tree() {
        assert_eq!(settings("width: 3"), Ok(Settings { width: 3, prior: Prior::None }));
        assert_eq!(settings("{ width: 3, prior: none }"), Ok(Settings { width: 3, prior: Prior::None }));
        let normal = Prior::Normal { variance: 1.0 };
        assert_eq!(settings("width: 3\nprior: { normal: { variance: 1 } }"), Ok(Settings { width: 3, prior: normal }));
        assert_eq!(settings("width: 3\nprior:\n  dropout: 0.5"), Ok(Settings { width: 3, prior: Prior::Dropout(0.5) }));
    }

    #[test]
    fn a_misfit_names_place_path_cause_and_hint() {
        let case = |yaml: &str, message: &str| assert_eq!(settings(yaml), Err(message.to_owned()));
        case(
            "width: -3",
            "1:8: `width`: expected a whole number, zero or more, found `-3`; write a whole number, zero or more",
        );
        case(
            "width: wide",
            "1:8: `width`: expected a whole number, zero or more, found `wide`; write a whole number, zero or more",
        );
        case("widht: 3", "1:1: unknown field `widht`; did you mean `width`?");
        case("prior: none", "1:1: the field `width` is missing; write `width: ...` there");
        case(
            "width: 3\nprior: { normal: { varience: 1 } }",
            "2:20: `prior.normal`: unknown field `varience`; did you mean `variance`?",
        );
        case("width: 3\nprior: normal", "2:8: `prior`: `normal` wants a value; write `{ normal: ... }`");
        case("width: 3\nprior: { none: 1 }", "2:16: `prior`: `none` takes no value, found `1`; write `none` alone");
        case("width: 3\nprior: gaussian", "2:8: `prior`: unknown value `gaussian`; known: `none`, `normal`, `dropout`");
        case("[1]", "1:1: expected a mapping of fields, found a list; ");
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let refusal = |yaml: &str| Node::parse(yaml).unwrap_err();
        assert_eq!(refusal("a: 1\na: 2").place, Some(Place { line: 2, column: 1 }));
        assert_eq!(refusal("a: 1\na: 2").message, "`a` is given twice");
        assert_eq!(refusal("a: [1, 2").place.map(|p| p.line), Some(1));
        let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
            + &(b'b'..b'k')
                .map(|c| {
                    let (name, before) = (c as char, (c - 1) as char);
                    format!("{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n")
                })
                .collect::<String>();
        assert!(Node::parse(&bomb).is_err(), "an alias bomb is refused");
    }

    #[test]
    fn a_whole_number_that_only_a_float_would_hold_is_refused_with_its_place() {
        let case = |yaml: &str, column: u64, written: &str| {
            let refused = Node::parse(yaml).unwrap_err();
            assert_eq!(refused.place, Some(Place { line: 2, column }), "{yaml}");
            assert_eq!(refused.message, format!("`{written}` is too large for a whole number"), "{yaml}");
            assert_eq!(refused.hint.as_deref(), Some("write it in quotes, as a text"));
        };
        case("a: 1\nb: 9223372036854775808", 4, "9223372036854775808");
        case("a: 1\nb: [ü, 18446744073709551615]", 8, "18446744073709551615");
        case("a: 1\nb: { c: 18446744073709551616}", 9, "18446744073709551616");
        case("a: 1\nb: -9223372036854775809 # low", 4, "-9223372036854775809");
        case("a: 1\nb: 0xFFFFFFFFFFFFFFFF", 4, "0xFFFFFFFFFFFFFFFF");
        case("a: 1\nb: &n 18446744073709551615\nc: *n", 7, "18446744073709551615");
        let read = |text: &str| Node::parse(text).unwrap().value;
        assert_eq!(
            (read("9223372036854775807"), read("-9223372036854775808")),
            (Value::Int(i64::MAX), Value::Int(i64::MIN))
        );
        assert_eq!((read("1e20"), read("18446744073709551616.0")), (Value::Float(1e20), Value::Float(2f64.powi(64))));
        assert_eq!(read("'18446744073709551615'"), Value::Text("18446744073709551615".into()));
        assert!(Node::parse("a: &x 1.0e+30\nb: *x").is_ok());
    }
}
