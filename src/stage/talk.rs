//! The talk's published tables: the largest test error on a curve, in %.

use super::rows::CurveGroup;
use crate::study::curve::Method;
use crate::study::net::{Hidden, Prior};

/// `prior,method,hidden,max_error_percent`, as published.
const TABLES: &str = include_str!("talk_tables.csv");

/// A number of the talk's tables.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Published {
    pub(super) prior: Prior,
    pub(super) method: Method,
    pub(super) hidden: Hidden,
    /// In %.
    pub(super) max_error: f64,
}

impl Published {
    /// The curves that the number is for.
    pub(super) fn group(&self) -> CurveGroup {
        let Published { prior, method, hidden, max_error: _ } = *self;
        CurveGroup { hidden, prior, method }
    }
}

/// The numbers to compare with, in the talk's order; none if the data are not MNIST.
pub(super) fn published(is_mnist: bool) -> Vec<Published> {
    if is_mnist { numbers() } else { Vec::new() }
}

fn numbers() -> Vec<Published> {
    TABLES.lines().skip(1).filter_map(number).collect()
}

fn number(line: &str) -> Option<Published> {
    let mut fields = line.split(',');
    Some(Published {
        prior: fields.next()?.parse().ok()?,
        method: fields.next()?.parse().ok()?,
        hidden: fields.next()?.parse().ok()?,
        max_error: fields.next()?.parse().ok()?,
    })
}

/// The talk's methods, in its order.
fn methods() -> Vec<Method> {
    let mut methods: Vec<Method> = Vec::new();
    for Published { method, .. } in numbers() {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods
}

/// The methods that the talk's figures along curves show: those without WA.
pub(super) fn methods_along() -> Vec<Method> {
    methods().into_iter().filter(|method| method.adjustment.is_none()).collect()
}

/// The methods of `all` without duplicates: first the talk's, in its order, then others by name.
pub(super) fn in_order(all: impl IntoIterator<Item = Method>) -> Vec<Method> {
    let mut all: Vec<Method> = all.into_iter().collect();
    all.sort_unstable();
    all.dedup();
    let talk = methods();
    all.sort_by_key(|method| talk.iter().position(|known| known == method).unwrap_or(talk.len()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Method {
        name.parse().expect("a method")
    }

    #[test]
    fn the_published_tables_are_complete() {
        let numbers = published(true);
        assert_eq!(numbers.len(), 2 * 6 * 6);
        assert_eq!(
            numbers[0],
            Published {
                prior: Prior::None,
                method: method("linear"),
                hidden: "10".parse().expect("a width"),
                max_error: 45.74
            }
        );
        assert_eq!(published(false), []);
    }

    #[test]
    fn the_talks_methods_come_first_in_its_order() {
        let talk = ["linear", "arc", "linear+wa", "arc+wa", "linear+ot", "arc+ot"].map(method);
        assert_eq!(methods(), talk);
        let mixed = ["rho-arc", "arc", "arc:zero", "linear", "arc"].map(method);
        assert_eq!(in_order(mixed), ["linear", "arc", "arc:zero", "rho-arc"].map(method));
    }
}
