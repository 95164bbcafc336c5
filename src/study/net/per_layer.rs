//! A number for all layers of a net, or one for each.

use super::widths::MOST_LAYERS;
use crate::study::bounded::Positive;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The hidden layers and the output layer.
const MOST: usize = MOST_LAYERS + 1;

/// A number above zero for all layers, written `0.01`, or one for each layer from the first to the
/// output layer, written `0.01x0.1`: the variance or the scale of a prior.
///
/// A text, not a list, since a list is a grid axis.
#[derive(Clone, Copy, PartialEq)]
pub struct PerLayer {
    // Unused entries are 0.
    numbers: [f64; MOST],
}

impl PerLayer {
    /// The same number for all layers.
    pub fn all(number: Positive) -> PerLayer {
        let mut numbers = [0.0; MOST];
        numbers[0] = number.get();
        PerLayer { numbers }
    }

    /// The number of all layers; `None` if they differ.
    pub fn single(&self) -> Option<f64> {
        self.layers().is_none().then_some(self.numbers[0])
    }

    /// The number of layers with a number of their own; `None` if all have the same.
    pub fn layers(&self) -> Option<usize> {
        Some(self.iter().count()).filter(|&count| count > 1)
    }

    /// The number of layer `l`, counted from 0.
    ///
    /// # Panics
    /// If there are numbers for other layers only.
    pub fn get(&self, l: usize) -> Positive {
        let number = self.numbers[if self.layers().is_none() { 0 } else { l }];
        Positive::try_from(number).expect("a number for the layer")
    }

    fn iter(&self) -> impl Iterator<Item = f64> {
        self.numbers.into_iter().take_while(|&number| number > 0.0)
    }
}

impl Eq for PerLayer {}

impl PartialOrd for PerLayer {
    fn partial_cmp(&self, other: &PerLayer) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Layer by layer.
impl Ord for PerLayer {
    fn cmp(&self, other: &PerLayer) -> Ordering {
        let pairs = self.numbers.iter().zip(&other.numbers);
        pairs.fold(Ordering::Equal, |order, (a, b)| order.then(a.total_cmp(b)))
    }
}

impl TryFrom<f64> for PerLayer {
    type Error = String;

    fn try_from(number: f64) -> Result<PerLayer, String> {
        Positive::try_from(number).map(PerLayer::all)
    }
}

impl fmt::Display for PerLayer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let texts: Vec<String> = self.iter().map(|number| number.to_string()).collect();
        f.pad(&texts.join("x"))
    }
}

impl fmt::Debug for PerLayer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PerLayer {
    type Err = String;

    fn from_str(text: &str) -> Result<PerLayer, String> {
        parse(text).map_err(|expected| format!("`{text}` is not {expected}"))
    }
}

/// What a value must be.
const RULE: &str = "a number above zero, or one for each layer, such as `0.01x0.1`";

/// The numbers in a text, or what is expected in its place.
fn parse(text: &str) -> Result<PerLayer, String> {
    let mut numbers = [0.0; MOST];
    for (l, part) in text.split('x').enumerate() {
        let number = part.parse::<f64>().ok().and_then(|x| Positive::try_from(x).ok());
        let to = numbers.get_mut(l).ok_or_else(|| format!("at most {MOST} layers"))?;
        *to = number.ok_or(RULE)?.get();
    }
    let mut parsed = PerLayer { numbers };
    if parsed.iter().all(|number| number == parsed.numbers[0]) {
        parsed.numbers[1..].fill(0.0);
    }
    // With two texts for the same numbers, a list could contain the same prior twice.
    if parsed.to_string() != text {
        return Err(format!("`{parsed}`, its shortest form"));
    }
    Ok(parsed)
}

impl Serialize for PerLayer {
    /// The same number for all layers as a number, so that recipes keep their keys.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.single() {
            Some(number) => serializer.serialize_f64(number),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for PerLayer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PerLayer, D::Error> {
        struct Numbers;

        impl Visitor<'_> for Numbers {
            type Value = PerLayer;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(RULE)
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<PerLayer, E> {
                let found = match number.fract() == 0.0 && (0.0..9e15).contains(&number) {
                    true => Unexpected::Unsigned(number as u64),
                    false => Unexpected::Float(number),
                };
                PerLayer::try_from(number)
                    .map_err(|_| E::invalid_value(found, &"a number above zero"))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<PerLayer, E> {
                self.visit_f64(number as f64)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<PerLayer, E> {
                self.visit_f64(number as f64)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PerLayer, E> {
                let refuse = |e: String| E::invalid_value(Unexpected::Str(text), &e.as_str());
                parse(text).map_err(refuse)
            }
        }

        deserializer.deserialize_any(Numbers)
    }
}

impl JsonSchema for PerLayer {
    fn schema_name() -> Cow<'static, str> {
        "PerLayer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": RULE,
            "anyOf": [
                { "type": "number" },
                { "type": "string", "pattern": "^[0-9.]+(x[0-9.]+)*$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn a_number_for_all_layers_is_a_number_and_several_are_a_text() {
        for value in [json!(0.01), json!(3.0), json!("0.01x0.1"), json!("1x0.5x0.000001")] {
            let numbers: PerLayer = from_value(value.clone()).expect("numbers");
            assert_eq!(to_value(numbers).expect("a value"), value);
            assert_eq!(numbers.to_string().parse(), Ok(numbers));
        }
        assert_eq!(from_value::<PerLayer>(json!(3)).expect("whole"), "3".parse().unwrap());
        let numbers: PerLayer = "0.01x0.1".parse().expect("numbers");
        assert_eq!((numbers.single(), numbers.layers()), (None, Some(2)));
        assert_eq!([0, 1].map(|l| numbers.get(l).get()), [0.01, 0.1]);
        let one: PerLayer = "0.5".parse().expect("a number");
        assert_eq!((one.single(), one.layers(), one.get(7).get()), (Some(0.5), None, 0.5));
    }

    #[test]
    fn every_other_value_is_refused_with_the_rule() {
        let texts = ["", "x", "0.1x", "0x1", "1x-1", "nan", "infx1", "1 x 1", "0.1X0.2"];
        for text in texts {
            let error = text.parse::<PerLayer>().expect_err("refused");
            assert_eq!(error, format!("`{text}` is not {RULE}"));
        }
        for (text, shortest) in [("0.10x1", "0.1x1"), ("1e-1x2", "0.1x2"), ("2x2x2", "2")] {
            let error = from_value::<PerLayer>(json!(text)).expect_err("refused").to_string();
            let expected = format!("expected `{shortest}`, its shortest form");
            assert!(error.ends_with(&expected), "{error}");
        }
        let error = from_value::<PerLayer>(json!(-0.5)).expect_err("refused").to_string();
        assert!(error.ends_with("`-0.5`, expected a number above zero"), "{error}");
        assert!(from_value::<PerLayer>(json!(true)).is_err());
        let deep = vec!["1"; MOST + 1].join("x");
        assert!(deep.parse::<PerLayer>().expect_err("refused").ends_with("at most 33 layers"));
    }

    #[test]
    fn numbers_are_ordered_layer_by_layer() {
        let texts = ["0.01", "0.01x0.1", "0.01x0.2", "0.1", "0.1x0.01"];
        let numbers = texts.map(|text| text.parse::<PerLayer>().expect("numbers"));
        assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}
