//! Axes: the range that a panel shows, the ticks and their labels.
//!
//! Independent of pixels: a `Ruler` maps values to positions from 0 (low end) to 1 (high end).

/// How values are spaced along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By logarithm; values that are not above zero have no position.
    Log,
}

/// The specification of an axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// The quantity, with its unit.
    pub label: String,
    /// How values are spaced.
    pub scale: Scale,
    /// The minimal range, low end first, extended to include all data. `None` fits the axis to the
    /// data, with a margin.
    pub range: Option<(f64, f64)>,
    /// The ticks; `None` selects round numbers.
    pub ticks: Option<Vec<f64>>,
}

impl Axis {
    /// A linear axis, fitted to the data.
    pub fn linear(label: impl Into<String>) -> Self {
        Axis { label: label.into(), ..Axis::default() }
    }

    /// A logarithmic axis, fitted to the data.
    pub fn log(label: impl Into<String>) -> Self {
        Axis { scale: Scale::Log, ..Axis::linear(label) }
    }

    /// With the minimal range `low` to `high`.
    pub fn range(self, low: f64, high: f64) -> Self {
        Axis { range: Some((low, high)), ..self }
    }

    /// With exactly these ticks.
    pub fn ticks(self, ticks: impl Into<Vec<f64>>) -> Self {
        Axis { ticks: Some(ticks.into()), ..self }
    }
}

/// An axis fitted to data.
#[derive(Debug)]
pub(super) struct Ruler {
    scale: Scale,
    /// The ends, as logarithms if the scale is.
    low: f64,
    high: f64,
    /// Positions, 0 to 1, and labels.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Ruler {
    /// The ruler of `axis` for `data`; `None` without data.
    pub(super) fn new(axis: &Axis, data: impl Iterator<Item = f64>) -> Option<Ruler> {
        Ruler::with_bands(axis, data, std::iter::empty())
    }

    /// Like [`Ruler::new`], with space for the ends of bands. An interval of few values may be much
    /// wider than the data, so bands extend the axis by at most half of the data's range on either
    /// side, and are clipped beyond.
    pub(super) fn with_bands(
        axis: &Axis,
        data: impl Iterator<Item = f64>,
        bands: impl Iterator<Item = f64>,
    ) -> Option<Ruler> {
        let level = |value| level(axis.scale, value);
        let extent = |values: &mut dyn Iterator<Item = f64>| {
            let none = (f64::INFINITY, f64::NEG_INFINITY);
            values.filter_map(level).fold(none, |(low, high), x| (low.min(x), high.max(x)))
        };
        let (mut low, mut high) = extent(&mut { data });
        let (lowest, highest) = extent(&mut { bands });
        if low <= high {
            let (least, most) = widen(axis.scale, low, high);
            let margin = 0.5 * (most - least);
            (low, high) = (low.min(lowest.max(low - margin)), high.max(highest.min(high + margin)));
        }
        let minimal = axis.range.and_then(|(low, high)| Some((level(low)?, level(high)?)));
        (low, high) = match minimal {
            Some((first, last)) => (low.min(first), high.max(last)),
            None if low <= high => widen(axis.scale, low, high),
            None => return None,
        };
        if low >= high {
            return None;
        }
        let mut ruler = Ruler { scale: axis.scale, low, high, ticks: Vec::new() };
        let ticks = axis.ticks.clone().unwrap_or_else(|| ruler.round_numbers());
        // All ticks of a linear axis have the same number of decimals.
        let gaps = ticks
            .windows(2)
            .filter(|_| axis.scale == Scale::Linear)
            .map(|pair| (pair[1] - pair[0]).abs());
        let spacing = gaps.fold(f64::INFINITY, f64::min);
        let placed = ticks
            .into_iter()
            .filter_map(|tick| Some((ruler.position(tick)?, number(tick, spacing))));
        ruler.ticks = placed.filter(|(at, _)| (-1e-9..=1.0 + 1e-9).contains(at)).collect();
        Some(ruler)
    }

    /// The values at the low and at the high end.
    pub(super) fn ends(&self) -> (f64, f64) {
        match self.scale {
            Scale::Linear => (self.low, self.high),
            Scale::Log => (libm::pow(10.0, self.low), libm::pow(10.0, self.high)),
        }
    }

    /// The position of `value`, 0 at the low end and 1 at the high end; `None` if the scale cannot
    /// show it.
    pub(super) fn position(&self, value: f64) -> Option<f64> {
        level(self.scale, value).map(|x| (x - self.low) / (self.high - self.low))
    }

    /// Like [`Ruler::position`], but 0 for values that a log scale cannot show.
    pub(super) fn position_or_low(&self, value: f64) -> Option<f64> {
        self.position(value).or((value <= 0.0).then_some(0.0))
    }

    /// About five ticks: 1, 2 and 5 times powers of ten, or only powers if those are many.
    fn round_numbers(&self) -> Vec<f64> {
        if self.scale == Scale::Linear {
            return multiples(self.low, self.high);
        }
        let decades = libm::floor(self.low) as i32..=libm::floor(self.high) as i32;
        let times = |factors: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|k| factors.iter().map(move |&f| scaled(f, k)));
            all.filter(|&tick| {
                level(Scale::Log, tick).is_some_and(|x| self.low <= x && x <= self.high)
            })
            .collect()
        };
        let (fine, coarse) = (times(&[1.0, 2.0, 5.0]), times(&[1.0]));
        match fine.len() {
            0..3 => multiples(libm::pow(10.0, self.low), libm::pow(10.0, self.high)),
            3..9 => fine,
            _ => {
                let every = coarse.len().div_ceil(POWERS);
                coarse.into_iter().step_by(every).collect()
            }
        }
    }
}

/// The largest number of ticks on a log axis that are all powers of ten.
const POWERS: usize = 8;

/// The value, or its logarithm on a log scale.
fn level(scale: Scale, value: f64) -> Option<f64> {
    match scale {
        Scale::Linear => value.is_finite().then_some(value),
        Scale::Log => (value.is_finite() && value > 0.0).then(|| libm::log10(value)),
    }
}

/// Adds a margin around the data. A linear axis that would start near zero starts at zero.
fn widen(scale: Scale, low: f64, high: f64) -> (f64, f64) {
    let margin = match scale {
        _ if high > low => 0.06 * (high - low),
        Scale::Linear if low != 0.0 => 0.5 * low.abs(),
        _ => 0.5,
    };
    let near_zero = scale == Scale::Linear && low >= 0.0 && low < 0.5 * high;
    (if near_zero { 0.0 } else { low - margin }, high + margin)
}

/// The multiples in `low..=high` of the largest step, 1, 2 or 5 times a power of ten, with at least
/// four of them.
fn multiples(low: f64, high: f64) -> Vec<f64> {
    let power = libm::floor(libm::log10(high - low)) as i32;
    let steps = [
        (5.0, power),
        (2.0, power),
        (1.0, power),
        (5.0, power - 1),
        (2.0, power - 1),
        (1.0, power - 1),
    ];
    let within = |(factor, power): (f64, i32)| -> Vec<f64> {
        let step = scaled(factor, power);
        let (first, last) =
            (libm::ceil(low / step - 1e-9) as i64, libm::floor(high / step + 1e-9) as i64);
        (first..=last).map(|i| scaled(i as f64 * factor, power)).collect()
    };
    steps.into_iter().map(within).find(|ticks| ticks.len() >= 4).unwrap_or_default()
}

/// `x` times 10^`power`, rounded once if the power is exact (up to 10^22), so 3 * 10^-1 is 0.3.
fn scaled(x: f64, power: i32) -> f64 {
    let ten = (0..power.abs()).fold(1.0, |ten, _| 10.0 * ten);
    if power < 0 { x / ten } else { x * ten }
}

/// A tick's label, with enough decimals to distinguish it from a tick at the distance `spacing`.
fn number(value: f64, spacing: f64) -> String {
    let size = value.abs();
    let text = if size != 0.0 && !(1e-4..1e6).contains(&size) {
        power_notation(value)
    } else {
        let step = if size > 0.0 { size.min(spacing) } else { spacing };
        // A step of 0.5 needs one decimal, a step of 0.25 two.
        let decimals = (0..8).find(|&d| is_whole(scaled(step, d))).unwrap_or(8) as usize;
        format!("{value:.decimals$}")
    };
    text.replace('-', "\u{2212}")
}

fn is_whole(x: f64) -> bool {
    !x.is_finite()
        || (x - libm::round(x)).abs() < 1e-6 * x.abs().max(1e-300) && libm::round(x) != 0.0
}

/// Writes 3·10⁻⁵ and 10⁻⁵.
fn power_notation(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let raised = |c| match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        c => char::from_u32('⁰' as u32 + c as u32 - '0' as u32).unwrap_or(c),
    };
    let power = format!("10{}", exponent.chars().map(raised).collect::<String>());
    if mantissa == "1" { power } else { format!("{mantissa}·{power}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, data: &[f64]) -> Vec<String> {
        Ruler::new(axis, data.iter().copied())
            .unwrap()
            .ticks
            .into_iter()
            .map(|(_, label)| label)
            .collect()
    }

    #[test]
    fn linear_ticks_are_round_numbers_with_equal_decimals() {
        assert_eq!(
            labels(&Axis::linear("t").range(0.0, 1.0), &[]),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(&Axis::linear("error, %"), &[2.1, 45.0]), ["0", "10", "20", "30", "40"]);
        assert_eq!(
            labels(&Axis::linear("x"), &[-3.0, 3.0]),
            ["−3", "−2", "−1", "0", "1", "2", "3"]
        );
    }

    #[test]
    fn log_ticks_are_one_two_and_five_times_powers_of_ten_or_powers_if_those_are_many() {
        assert_eq!(labels(&Axis::log("error, %"), &[2.0, 45.0]), ["2", "5", "10", "20", "50"]);
        assert_eq!(
            labels(&Axis::log("x"), &[1e-6, 1.0]),
            ["10⁻⁶", "10⁻⁵", "0.0001", "0.001", "0.01", "0.1", "1"]
        );
    }

    #[test]
    fn a_long_log_axis_has_few_ticks_at_equal_distances() {
        assert_eq!(
            labels(&Axis::log("x"), &[1e-17, 1.0]),
            ["10⁻¹⁸", "10⁻¹⁵", "10⁻¹²", "10⁻⁹", "10⁻⁶", "0.001", "1"]
        );
    }

    #[test]
    fn a_short_log_axis_has_ticks() {
        assert!(labels(&Axis::log("x"), &[2.1, 2.6]).len() >= 4);
        assert!(!labels(&Axis::log("x"), &[3.0]).is_empty());
    }

    #[test]
    fn only_the_given_ticks_that_are_on_the_axis_are_shown() {
        let widths = Axis::log("hidden neurons").ticks([10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0]);
        assert_eq!(labels(&widths, &[10.0, 1000.0]), ["10", "50", "100", "500", "1000"]);
    }

    #[test]
    fn a_minimal_range_is_extended_to_include_the_data() {
        let ruler = Ruler::new(&Axis::linear("").range(0.0, 1.0), [3.0].into_iter()).unwrap();
        assert_eq!(
            (ruler.position(0.0), ruler.position(1.5), ruler.position(3.0)),
            (Some(0.0), Some(0.5), Some(1.0))
        );
    }

    #[test]
    fn a_wide_band_extends_the_axis_by_a_limited_amount() {
        let ruler = |bands: [f64; 2]| {
            Ruler::with_bands(&Axis::linear(""), [100.0, 110.0].into_iter(), bands.into_iter())
                .unwrap()
        };
        let positions = |bands| [100.0, 110.0].map(|x| ruler(bands).position(x).unwrap());
        let [low, high] = positions([-1e6, 1e6]);
        assert!((0.4..0.5).contains(&(high - low)), "{low} {high}");
        let [low, high] = positions([99.0, 111.0]);
        assert!(high - low > 0.7, "a narrow band: {low} {high}");
        assert_eq!(positions([102.0, 105.0]), positions([f64::NAN; 2]), "a band within the data");
    }

    #[test]
    fn values_that_are_not_above_zero_have_no_position_on_a_log_axis() {
        let ruler =
            Ruler::new(&Axis::log(""), [0.0, -1.0, f64::NAN, 1.0, 10.0].into_iter()).unwrap();
        assert_eq!(
            (ruler.position(0.0), ruler.position(-1.0), ruler.position(f64::INFINITY)),
            (None, None, None)
        );
        assert_eq!(
            (ruler.position_or_low(0.0), ruler.position_or_low(f64::NAN)),
            (Some(0.0), None)
        );
        assert!(Ruler::new(&Axis::log(""), [0.0, -1.0].into_iter()).is_none());
    }

    #[test]
    fn the_axis_of_a_single_value_has_a_margin_around_it() {
        for value in [0.0, 1.0, -7.5, 1e-3] {
            let ruler = Ruler::new(&Axis::linear(""), [value; 3].into_iter()).unwrap();
            assert!(
                ruler.position(value).is_some_and(|at| (0.0..1.0).contains(&at)),
                "{value}: {ruler:?}"
            );
        }
    }
}
