//! The change of a number: how large it is, and with how many digits it is printed.

use std::cmp::Ordering;

/// A number before and after, with the interval (low, high) of each if there are two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    before: f64,
    after: f64,
    intervals: Option<[[f64; 2]; 2]>,
    /// Decimals of the given texts.
    given: usize,
}

/// A change as text, all numbers with the same decimals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rounded {
    /// The old value, and its interval in brackets.
    pub before: [String; 2],
    /// The new value, and its interval in brackets.
    pub after: [String; 2],
    /// The signed difference.
    pub change: String,
    /// The signed difference in percent of the old value; empty if that is zero.
    pub percent: String,
}

/// The number of significant digits of a value without an interval.
const DIGITS: i32 = 4;

/// The number of significant digits of half an interval: its second digit is already uncertain.
const INTERVAL_DIGITS: i32 = 2;

/// The largest number of decimals; smaller numbers are written with an exponent.
const MAX_DECIMALS: i32 = 6;

/// Relative differences up to this may come from the order of additions alone.
const ROUNDING: f64 = 1e-12;

impl Change {
    /// The change between two texts; `None` if one of them is not a finite number.
    pub fn of(before: &str, after: &str, intervals: Option<[[f64; 2]; 2]>) -> Option<Change> {
        let number = |text: &str| text.parse().ok().filter(|x: &f64| x.is_finite());
        let intervals = intervals.filter(|both| both.iter().flatten().all(|end| end.is_finite()));
        let given = decimals(before).max(decimals(after));
        Some(Change { before: number(before)?, after: number(after)?, intervals, given })
    }

    /// The new value minus the old one.
    pub fn difference(&self) -> f64 {
        self.after - self.before
    }

    /// The difference relative to the larger of the two absolute values: 0 to 2.
    pub fn relative(&self) -> f64 {
        let scale = self.before.abs().max(self.after.abs());
        if scale > 0.0 { self.difference().abs() / scale } else { 0.0 }
    }

    /// The difference relative to the sum of the half intervals between the two values: above 1
    /// exactly if the intervals do not overlap. Zero for a difference of mere rounding.
    pub fn ratio(&self) -> Option<f64> {
        let [[low_before, high_before], [low_after, high_after]] = self.intervals?;
        let between = match self.difference() > 0.0 {
            true => (high_before - self.before) + (self.after - low_after),
            false => (self.before - low_before) + (high_after - self.after),
        };
        let between = between.max(0.0);
        let difference = self.difference().abs();
        match (self.relative() > ROUNDING, between > 0.0) {
            (false, _) => Some(0.0),
            (true, true) => Some(difference / between),
            (true, false) => Some(f64::INFINITY),
        }
    }

    /// Whether the intervals do not overlap, and the difference is not of mere rounding.
    pub fn is_beyond(&self) -> Option<bool> {
        self.ratio().map(|ratio| ratio > 1.0)
    }

    /// Orders changes by size, the largest first: by [`Change::ratio`], then those without
    /// intervals by [`Change::relative`].
    pub fn largest_first(&self, other: &Change) -> Ordering {
        let by = |a: f64, b: f64| b.total_cmp(&a);
        match (self.ratio(), other.ratio()) {
            (Some(a), Some(b)) => by(a, b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => by(self.relative(), other.relative()),
        }
    }

    /// The decimals that the numbers deserve: two significant digits of the smaller half interval
    /// or, without intervals, a few significant digits of the larger number, but not more than the
    /// numbers were given with. A few more, if both would look equal.
    fn decimals(&self) -> i32 {
        let halves = self.intervals.into_iter().flatten().map(|[low, high]| (high - low) / 2.0);
        let half = halves.filter(|half| *half > 0.0).fold(f64::INFINITY, f64::min);
        let given = i32::try_from(self.given).unwrap_or(i32::MAX);
        let largest = magnitude(self.before.abs().max(self.after.abs()));
        let wanted = match half.is_finite() {
            true => INTERVAL_DIGITS - 1 - magnitude(half),
            false => DIGITS - 1 - largest,
        };
        // Small numbers have an exponent; large ones with a tiny interval are cut.
        let most = if DIGITS - 1 - largest > MAX_DECIMALS { i32::MAX } else { MAX_DECIMALS };
        let wanted = wanted.min(given).min(most).max(0);
        let are_equal = |decimals| fixed(self.before, decimals) == fixed(self.after, decimals);
        let more = (wanted..=given.min(MAX_DECIMALS)).find(|decimals| !are_equal(*decimals));
        more.unwrap_or(wanted)
    }

    /// The numbers as text.
    pub fn rounded(&self) -> Rounded {
        let decimals = self.decimals();
        let text = |x: f64| match decimals > MAX_DECIMALS {
            true => format!("{x:.*e}", usize::try_from(DIGITS - 1).unwrap_or_default()),
            false => fixed(x, decimals),
        };
        let interval = |side: usize| {
            let ends = self.intervals.map(|both| both[side].map(text));
            ends.map_or(String::new(), |[low, high]| format!("{low} to {high}"))
        };
        let change = text(self.difference());
        let is_zero = change.chars().all(|c| matches!(c, '0' | '.'));
        let change = match (is_zero && self.difference() != 0.0, change.starts_with('-')) {
            (true, _) => format!("{:+.0e}", self.difference()),
            (_, true) => change,
            _ => format!("+{change}"),
        };
        let percent = match self.before == 0.0 {
            true => String::new(),
            false => format!("{:+.1}", 100.0 * self.difference() / self.before.abs()),
        };
        Rounded {
            before: [text(self.before), interval(0)],
            after: [text(self.after), interval(1)],
            change,
            percent,
        }
    }
}

/// The number of decimals of a text; that of `1e-5` is 5.
fn decimals(text: &str) -> usize {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let shift: i64 = exponent.parse().unwrap_or_default();
    let digits = mantissa.split_once('.').map_or(0, |(_, digits)| digits.len());
    usize::try_from(i64::try_from(digits).unwrap_or_default().saturating_sub(shift))
        .unwrap_or_default()
        .min(400)
}

/// The exponent of the first digit.
fn magnitude(x: f64) -> i32 {
    // From the text, since a logarithm may round up just below a power of ten.
    let text = format!("{x:e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or_default()
}

/// Without a minus sign before zero.
fn fixed(x: f64, decimals: i32) -> String {
    let text = format!("{x:.*}", usize::try_from(decimals).unwrap_or_default());
    let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { text.trim_start_matches('-').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(before: &str, after: &str, intervals: Option<[[f64; 2]; 2]>) -> Change {
        Change::of(before, after, intervals).unwrap()
    }

    #[test]
    fn an_interval_decides_the_digits() {
        let rounded = change("10.123456", "12.98765", Some([[9.5, 10.75], [12.0, 14.0]])).rounded();
        assert_eq!(rounded.before, ["10.12", "9.50 to 10.75"]);
        assert_eq!(rounded.after, ["12.99", "12.00 to 14.00"]);
        assert_eq!((&rounded.change[..], &rounded.percent[..]), ("+2.86", "+28.3"));
    }

    #[test]
    fn a_number_without_interval_has_a_few_digits_but_no_more_than_given() {
        let text = |before: &str, after: &str| {
            let Rounded { before, after, change, .. } = change(before, after, None).rounded();
            format!("{} {} {change}", before[0], after[0])
        };
        assert_eq!(text("9.53", "9.1"), "9.53 9.10 -0.43", "errors of 10,000 images");
        assert_eq!(text("0.123456789", "0.2"), "0.1235 0.2000 +0.0765");
        assert_eq!(text("20", "30"), "20 30 +10");
        assert_eq!(text("12345.678", "12000"), "12346 12000 -346");
        assert_eq!(text("1.0000001", "1.0000002"), "1.000 1.000 +1e-7");
        assert_eq!(text("0.00000012", "0.00000034"), "1.200e-7 3.400e-7 +2.200e-7");
        assert_eq!(text("1.00001", "1.00002"), "1.00001 1.00002 +0.00001", "more digits");
        let noise =
            change("1.0000000000000002", "1", Some([[1.0, 1.0], [1.0, 1.0000000000000002]]));
        assert_eq!((noise.rounded().change.as_str(), noise.is_beyond()), ("-2e-16", Some(false)));
        assert_eq!(text("-0.001", "0.5"), "-0.001 0.500 +0.501");
    }

    #[test]
    fn changes_are_ordered_by_their_size_relative_to_the_intervals() {
        let small = change("100", "130", Some([[50., 150.], [80., 180.]]));
        let large = change("1", "2", Some([[0.9, 1.1], [1.9, 2.1]]));
        let [without, least] = [change("1", "3", None), change("10", "11", None)];
        let mut all = [least, without, small, large];
        all.sort_by(Change::largest_first);
        assert_eq!(all, [large, small, without, least]);
        assert_eq!([large, small].map(|c| c.is_beyond()), [Some(true), Some(false)]);
        assert_eq!(without.is_beyond(), None);
        let point = change("1", "2", Some([[1.0, 1.0], [2.0, 2.0]]));
        assert_eq!(point.is_beyond(), Some(true));
    }

    #[test]
    fn texts_and_infinities_are_no_numbers() {
        assert_eq!(Change::of("a", "1", None), None);
        assert_eq!(Change::of("inf", "1", None), None);
        assert_eq!(change("1", "2", Some([[f64::NAN, 1.0], [1.0, 3.0]])).ratio(), None);
    }

    fn value() -> impl Strategy<Value = (f64, [f64; 2])> {
        let parts = (-1000.0..1000.0f64, 0.0..100.0f64, 0.0..100.0f64);
        parts.prop_map(|(x, below, above)| (x, [x - below, x + above]))
    }

    proptest! {
        #[test]
        fn swapping_before_and_after_negates_the_change(old in value(), new in value()) {
            let of = |a: (f64, [f64; 2]), b: (f64, [f64; 2])| {
                change(&a.0.to_string(), &b.0.to_string(), Some([a.1, b.1]))
            };
            let (there, back) = (of(old, new), of(new, old));
            prop_assert_eq!(there.difference(), -back.difference());
            prop_assert_eq!(there.relative(), back.relative());
            prop_assert_eq!(there.ratio(), back.ratio());
            prop_assert_eq!(there.rounded().before, back.rounded().after);
            prop_assert_eq!(of(old, old).ratio(), Some(0.0));
            let overlap = old.1[0] <= new.1[1] && new.1[0] <= old.1[1];
            if (there.ratio().unwrap() - 1.0).abs() > 1e-9 && there.relative() > 1e-9 {
                prop_assert_eq!(there.is_beyond(), Some(!overlap));
            }
        }
    }
}
