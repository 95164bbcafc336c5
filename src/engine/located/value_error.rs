//! Errors of values, and hints with the nearest name.

use super::Location;
use serde::de;
use std::fmt;

/// An error in a value: location, path, cause and hint.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueError {
    /// The location of the value.
    pub location: Option<Location>,
    /// The fields that lead to the value, outermost first.
    pub path: Vec<String>,
    /// The cause: one sentence, lower case.
    pub message: String,
    /// The hint.
    pub hint: Option<String>,
    /// The name of the field, if the field is unknown.
    pub unknown_field: Option<String>,
}

impl ValueError {
    /// An error without location and hint.
    pub fn new(message: impl Into<String>) -> ValueError {
        ValueError::at(None, message, None)
    }

    /// An error at `location`, with a hint.
    pub fn at(
        location: Option<Location>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> ValueError {
        let message = message.into();
        ValueError { location, path: Vec::new(), message, hint, unknown_field: None }
    }

    pub(super) fn located(mut self, location: Option<Location>) -> ValueError {
        self.location = self.location.or(location);
        self
    }

    /// Adds the field that contains the value to the path.
    pub(crate) fn under(mut self, field: &str) -> ValueError {
        self.path.insert(0, field.to_owned());
        self
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.path.join("."), self.message)
        }
    }
}

impl std::error::Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> ValueError {
        ValueError::new(message.to_string())
    }

    fn invalid_type(found: de::Unexpected, expected: &dyn de::Expected) -> ValueError {
        let found = match found {
            de::Unexpected::Bool(x) => format!("`{x}`"),
            de::Unexpected::Signed(x) => format!("`{x}`"),
            de::Unexpected::Unsigned(x) => format!("`{x}`"),
            de::Unexpected::Float(x) => format!("`{x}`"),
            // A text that is written without quotes is what the field expects.
            de::Unexpected::Str(x @ ("true" | "false")) => format!("the text `\"{x}\"`"),
            de::Unexpected::Str(x) => format!("`{x}`"),
            de::Unexpected::Unit => "nothing".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a mapping".to_owned(),
            other => other.to_string(),
        };
        let expected = plain(&expected.to_string()).to_owned();
        ValueError::at(
            None,
            format!("expected {expected}, found {found}"),
            Some(format!("write {expected}")),
        )
    }

    fn invalid_value(found: de::Unexpected, expected: &dyn de::Expected) -> ValueError {
        ValueError::invalid_type(found, expected)
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> ValueError {
        ValueError {
            hint: suggest(field, known.iter().copied()),
            unknown_field: Some(field.to_owned()),
            ..ValueError::new(format!("unknown field `{field}`"))
        }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> ValueError {
        ValueError {
            hint: suggest(variant, known.iter().copied()),
            ..ValueError::new(format!("unknown value `{variant}`"))
        }
    }

    fn missing_field(field: &'static str) -> ValueError {
        ValueError::at(
            None,
            format!("the field `{field}` is missing"),
            Some(format!("write `{field}: ...` there")),
        )
    }

    fn duplicate_field(field: &'static str) -> ValueError {
        ValueError::new(format!("the field `{field}` is given twice"))
    }
}

/// Describes a Rust type for users.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, zero or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "string" | "str" => "a text",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "map" | "a map" => "a mapping",
        other if other.starts_with("struct ") || other.starts_with("struct variant ") => {
            "a mapping of fields"
        }
        other if other.starts_with("unit variant") => "the bare name, with nothing below it",
        other => other,
    }
}

/// The hint for a name that is not in `known`: the nearest name if one is close, or else all names.
pub fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(nearest) = nearest(name, known.iter().copied()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    if known.is_empty() {
        return None;
    }
    const SHOWN: usize = 12;
    let list = known.iter().take(SHOWN).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    let more = if known.len() > SHOWN {
        format!(" and {} more", known.len() - SHOWN)
    } else {
        String::new()
    };
    Some(format!("known: {list}{more}"))
}

/// The name in `known` that is closest to `name`, if it is close.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (likeness(name, known), known));
    let close = scored.filter(|(likeness, _)| *likeness >= 0.75);
    close.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known)
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(&a.to_lowercase(), &b.to_lowercase())
}
