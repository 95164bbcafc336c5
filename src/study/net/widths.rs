//! The hidden layers of a net: their widths, and whether there are biases.

use crate::study::bounded::Width;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The largest number of hidden layers.
pub(super) const MOST_LAYERS: usize = 32;

/// The widths of the hidden layers, from the first to the last: the parameter `hidden`, written
/// `50` or `512x256`.
///
/// Ordered layer by layer, which is the natural order of the texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Widths {
    // Unused entries are 0, so that a net that extends another one comes after it.
    widths: [u16; MOST_LAYERS],
}

impl Widths {
    /// One hidden layer.
    pub fn one(width: Width) -> Widths {
        let mut widths = [0; MOST_LAYERS];
        widths[0] = width.get() as u16;
        Widths { widths }
    }

    /// The widths, one per hidden layer; at least one.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = usize> + Clone {
        self.widths[..self.depth()].iter().map(|&width| usize::from(width))
    }

    /// The number of hidden layers.
    pub fn depth(&self) -> usize {
        self.widths.iter().take_while(|&&width| width > 0).count()
    }

    /// The width of the hidden layer `l`, counted from 0.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn get(&self, l: usize) -> usize {
        assert!(l < self.depth(), "there is no hidden layer {l}");
        usize::from(self.widths[l])
    }

    /// The width, if there is one hidden layer.
    pub fn single(&self) -> Option<usize> {
        (self.depth() == 1).then(|| self.get(0))
    }
}

impl TryFrom<&[usize]> for Widths {
    type Error = String;

    fn try_from(given: &[usize]) -> Result<Widths, String> {
        if given.is_empty() || given.len() > MOST_LAYERS {
            return Err(format!("{} hidden layers are not 1 to {MOST_LAYERS}", given.len()));
        }
        let mut widths = [0; MOST_LAYERS];
        for (to, &width) in widths.iter_mut().zip(given) {
            let checked = Width::try_from(u32::try_from(width).unwrap_or(u32::MAX))?;
            *to = checked.get() as u16;
        }
        Ok(Widths { widths })
    }
}

impl fmt::Display for Widths {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let texts: Vec<String> = self.iter().map(|width| width.to_string()).collect();
        f.pad(&texts.join("x"))
    }
}

impl fmt::Debug for Widths {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Widths {
    type Err = String;

    fn from_str(text: &str) -> Result<Widths, String> {
        parse(text).map_err(|expected| format!("`{text}` is not {expected}"))
    }
}

/// The widths in a text, or what is expected in its place.
fn parse(text: &str) -> Result<Widths, String> {
    let parts = text.split('x').map(|part| {
        let is_plain = !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
        part.parse().ok().filter(|_| is_plain).ok_or(RULE)
    });
    let given = parts.collect::<Result<Vec<usize>, _>>()?;
    if given.len() > MOST_LAYERS {
        return Err(format!("at most {MOST_LAYERS} hidden layers"));
    }
    let widths = Widths::try_from(&given[..]).map_err(|_| RULE)?;
    // With two texts for the same widths, a list could contain the same net twice.
    if widths.to_string() != text {
        return Err(format!("`{widths}`, without leading zeros"));
    }
    Ok(widths)
}

/// What a value must be.
const RULE: &str =
    "a number of neurons from 1 to 8192, or one for each hidden layer, such as `512x256`";

impl Serialize for Widths {
    /// One layer as a number, so that recipes keep the keys that they had before deep nets.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(width) => serializer.serialize_u32(width as u32),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Widths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Widths, D::Error> {
        struct Widest;

        impl Visitor<'_> for Widest {
            type Value = Widths;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(RULE)
            }

            fn visit_u64<E: serde::de::Error>(self, width: u64) -> Result<Widths, E> {
                let refuse = |_| E::invalid_value(Unexpected::Unsigned(width), &RULE);
                let width = usize::try_from(width).unwrap_or(usize::MAX);
                Widths::try_from(&[width][..]).map_err(refuse)
            }

            fn visit_i64<E: serde::de::Error>(self, width: i64) -> Result<Widths, E> {
                match u64::try_from(width) {
                    Ok(width) => self.visit_u64(width),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(width), &RULE)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Widths, E> {
                let refuse = |e: String| E::invalid_value(Unexpected::Str(text), &e.as_str());
                parse(text).map_err(refuse)
            }
        }

        deserializer.deserialize_any(Widest)
    }
}

impl JsonSchema for Widths {
    fn schema_name() -> Cow<'static, str> {
        "Widths".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": RULE,
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 8192 },
                { "type": "string", "pattern": "^[0-9]+(x[0-9]+)*$" }
            ]
        })
    }
}

/// The hidden layers of a net in tables: `50`, `512x256`, `50+bias`, `512x256+bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hidden {
    /// The widths of the layers.
    pub widths: Widths,
    /// Whether every layer has biases, the output layer included.
    pub biases: bool,
}

/// Follows the widths of a net with biases.
const BIAS: &str = "+bias";

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(&format!("{}{}", self.widths, if self.biases { BIAS } else { "" }))
    }
}

impl FromStr for Hidden {
    type Err = String;

    fn from_str(text: &str) -> Result<Hidden, String> {
        let (widths, biases) = match text.strip_suffix(BIAS) {
            Some(widths) => (widths, true),
            None => (text, false),
        };
        Ok(Hidden { widths: widths.parse()?, biases })
    }
}

impl Serialize for Hidden {
    /// One layer without biases as a number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.biases { serializer.collect_str(self) } else { self.widths.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hidden, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Width(u32),
            Text(String),
        }
        let text = match Given::deserialize(deserializer)? {
            Given::Width(width) => width.to_string(),
            Given::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json, to_value};

    #[test]
    fn widths_are_a_number_for_one_layer_and_a_text_for_several() {
        for value in [json!(50), json!("512x256"), json!("1x8192x3")] {
            let widths: Widths = from_value(value.clone()).expect("widths");
            assert_eq!(to_value(widths).expect("a value"), value);
            assert_eq!(widths.to_string().parse(), Ok(widths));
        }
        let one: Widths = from_value(json!("50")).expect("a text of one layer");
        assert_eq!((one.single(), to_value(one).expect("a value")), (Some(50), json!(50)));
    }

    #[test]
    fn widths_out_of_bounds_are_refused_with_the_rule() {
        let refused: Vec<Value> = vec![
            json!(0),
            json!(8193),
            json!(-1),
            json!(1.5),
            json!(""),
            json!("x"),
            json!("5x"),
            json!("5X5"),
            json!("5x0"),
            json!("00"),
            json!("+5"),
            json!("5 x 5"),
            json!([5]),
            json!(u64::MAX),
            json!("99999999999999999999"),
            json!(null),
            json!(true),
        ];
        for value in refused {
            let error = from_value::<Widths>(value.clone()).expect_err("refused").to_string();
            assert!(error.contains(RULE), "{value}: {error}");
        }
    }

    #[test]
    fn more_than_32_hidden_layers_are_refused_with_that_limit() {
        let texts = [32, 33].map(|depth| vec!["9"; depth].join("x"));
        assert_eq!(texts[0].parse::<Widths>().map(|widths| widths.depth()), Ok(32));
        let error = format!("`{}` is not at most 32 hidden layers", texts[1]);
        assert_eq!(texts[1].parse::<Widths>(), Err(error));
        let error = from_value::<Widths>(json!(texts[1])).expect_err("refused").to_string();
        assert!(error.ends_with("expected at most 32 hidden layers"), "{error}");
    }

    #[test]
    fn leading_zeros_are_refused_with_the_text_to_write() {
        for (text, plain) in [("05", "5"), ("0512x4", "512x4"), ("512x0004", "512x4")] {
            let rule = format!("`{plain}`, without leading zeros");
            assert_eq!(text.parse::<Widths>(), Err(format!("`{text}` is not {rule}")));
            let error = from_value::<Widths>(json!(text)).expect_err("refused").to_string();
            assert!(error.ends_with(&format!("expected {rule}")), "{error}");
            assert!(format!("{text}+bias").parse::<Hidden>().is_err());
        }
    }

    #[test]
    fn widths_are_ordered_layer_by_layer() {
        let texts = ["10", "10x10", "10x10x10", "10x50", "50", "100", "100x10"];
        let widths = texts.map(|text| text.parse::<Widths>().expect("widths"));
        assert!(widths.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn hidden_layers_parse_back_from_their_text_and_from_json() {
        for (text, value) in [
            ("50", json!(50)),
            ("512x256", json!("512x256")),
            ("50+bias", json!("50+bias")),
            ("512x256+bias", json!("512x256+bias")),
        ] {
            let hidden: Hidden = text.parse().expect("hidden layers");
            assert_eq!((hidden.to_string().as_str(), to_value(hidden).ok()), (text, Some(value)));
            assert_eq!(from_value::<Hidden>(to_value(hidden).expect("a value")).ok(), Some(hidden));
        }
        assert!("50+biases".parse::<Hidden>().is_err());
    }
}
