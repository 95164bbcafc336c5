//! The names of nets and of pairs of nets in tables.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// An end of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    #[default]
    A,
    B,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            End::A => "a",
            End::B => "b",
        })
    }
}

/// The name of a net: `3`, the path of an imported file, or `1a` for end a of pair 1. Ordered
/// naturally, see [`natural`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum NetName {
    /// An end of a pair, in recipes with `pair` and `end`.
    End { pair: u32, end: End },
    /// One of several nets, every two of which can be joined.
    Net { net: String },
}

impl fmt::Display for NetName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NetName::End { pair, end } => f.pad(&format!("{pair}{end}")),
            NetName::Net { net } => f.pad(net),
        }
    }
}

/// Separates the two nets in the name of a pair; no net has it in its name.
pub(super) const PAIR_SEPARATOR: char = ':';

/// The name of a pair of nets: `1:3`, from net 1 to net 3, or `1`, from `1a` to `1b`. Ordered
/// naturally, see [`natural`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PairName(String);

impl PairName {
    /// The pair of the curve from `a` to `b`.
    ///
    /// # Errors
    /// If they are the same net, or not of the same pair.
    pub(super) fn of(a: &NetName, b: &NetName) -> Result<PairName, String> {
        match (a, b) {
            (NetName::End { pair, .. }, NetName::End { pair: other, .. }) if pair == other => {
                Ok(PairName(pair.to_string()))
            }
            (NetName::Net { net: a }, NetName::Net { net: b }) if a != b => {
                Ok(PairName(format!("{a}{PAIR_SEPARATOR}{b}")))
            }
            _ if a == b => Err(format!("`{a}` cannot be joined to itself")),
            _ => Err(format!("`{a}` and `{b}` are not the ends of the same pair")),
        }
    }

    /// The pair in the direction in which its two nets are in natural order. `1:2` and `2:1` are
    /// the two directions of one pair.
    pub(super) fn undirected(&self) -> PairName {
        match self.0.split_once(PAIR_SEPARATOR) {
            Some((a, b)) if natural(b, a).is_lt() => PairName(format!("{b}{PAIR_SEPARATOR}{a}")),
            _ => self.clone(),
        }
    }

    /// The names of its two nets, in the direction of the curve.
    pub(super) fn nets(&self) -> [String; 2] {
        match self.0.split_once(PAIR_SEPARATOR) {
            Some((a, b)) => [a.to_owned(), b.to_owned()],
            None => ["a", "b"].map(|end| format!("{}{end}", self.0)),
        }
    }
}

impl fmt::Display for PairName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PairName {
    type Err = String;

    fn from_str(text: &str) -> Result<PairName, String> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(PAIR_SEPARATOR);
        let is_pair = match text.split_once(PAIR_SEPARATOR) {
            Some((a, b)) => is_name(a) && is_name(b) && a != b,
            None => is_name(text),
        };
        let refuse = || format!("`{text}` is not a pair of nets");
        is_pair.then(|| PairName(text.to_owned())).ok_or_else(refuse)
    }
}

impl Ord for PairName {
    fn cmp(&self, other: &PairName) -> Ordering {
        natural(&self.0, &other.0)
    }
}

impl PartialOrd for PairName {
    fn partial_cmp(&self, other: &PairName) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Natural order: runs of digits are compared as numbers, all else byte by byte. Different texts
/// are never equal.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let (head_x, rest_x) = piece(x);
        let (head_y, rest_y) = piece(y);
        if head_x.is_empty() || head_y.is_empty() {
            // One is a prefix of the other, or they differ in zeros before a number.
            return head_x.len().cmp(&head_y.len()).then(a.cmp(b));
        }
        let is_number = |head: &str| head.starts_with(|c: char| c.is_ascii_digit());
        let order = if is_number(head_x) && is_number(head_y) {
            let [x, y] = [head_x, head_y].map(|digits| digits.trim_start_matches('0'));
            x.len().cmp(&y.len()).then(x.cmp(y))
        } else {
            head_x.cmp(head_y)
        };
        if order.is_ne() {
            return order;
        }
        (x, y) = (rest_x, rest_y);
    }
}

/// The digits at the front of `text`, or its first character, and the rest.
fn piece(text: &str) -> (&str, &str) {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let first = text.chars().next().map_or(0, char::len_utf8);
    text.split_at(if digits > 0 { digits } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(pair: u32, end: End) -> NetName {
        NetName::End { pair, end }
    }

    fn net(name: &str) -> NetName {
        NetName::Net { net: name.to_owned() }
    }

    #[test]
    fn a_pair_is_named_by_its_nets_or_by_its_number() {
        let old = PairName::of(&end(2, End::A), &end(2, End::B)).expect("a pair");
        assert_eq!((old.to_string(), old.nets()), ("2".into(), ["2a".into(), "2b".into()]));
        let new = PairName::of(&net("3"), &net("1")).expect("a pair");
        assert_eq!((new.to_string(), new.nets()), ("3:1".into(), ["3".into(), "1".into()]));
        for pair in [old, new] {
            assert_eq!(pair.to_string().parse(), Ok(pair));
        }
        assert!(
            ["", ":", "1:", ":1", "1:1", "1:2:3"].iter().all(|x| x.parse::<PairName>().is_err())
        );
    }

    #[test]
    fn both_directions_are_one_pair() {
        let undirected = |name: &str| name.parse::<PairName>().expect("a pair").undirected();
        for (name, expected) in [("10:9", "9:10"), ("9:10", "9:10"), ("2", "2"), ("b:a", "a:b")] {
            assert_eq!(undirected(name).to_string(), expected);
        }
    }

    #[test]
    fn nets_that_make_no_pair_are_refused() {
        let refusal = |a, b| PairName::of(&a, &b).expect_err("refused");
        assert_eq!(refusal(net("1"), net("1")), "`1` cannot be joined to itself");
        let message = "`1a` and `2b` are not the ends of the same pair";
        assert_eq!(refusal(end(1, End::A), end(2, End::B)), message);
    }

    #[test]
    fn runs_of_digits_are_ordered_as_numbers() {
        let texts =
            ["", "1", "1a", "1b", "2", "10", "10+bias", "10x9", "10x10", "50", "a1", "a02", "a2"];
        let texts: Vec<&str> = texts.to_vec();
        assert!(texts.is_sorted_by(|a, b| natural(a, b).is_lt()), "{texts:?}");
    }

    const NAME: &str = "[0-9a-bx+]{0,6}";

    proptest! {
        #[test]
        fn the_natural_order_is_total([a, b, c] in [NAME, NAME, NAME]) {
            prop_assert_eq!(natural(&a, &b), natural(&b, &a).reverse());
            prop_assert_eq!(natural(&a, &b).is_eq(), a == b);
            if natural(&a, &b).is_le() && natural(&b, &c).is_le() {
                prop_assert!(natural(&a, &c).is_le());
            }
        }
    }
}
