//! The metrics of a curve (SCIENCE: "Metrics, per curve").
//!
//! A maximum over noisy points is biased upwards: compare only curves that are measured on the same
//! grid.

use super::Point;
use crate::study::net::Net;
use crate::study::stats::trapezoid;

/// The metrics of a curve on one split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// The largest error on the curve, in %.
    pub max_error: f64,
    /// The t where it is first attained.
    pub t_at_max: f64,
    /// Its excess over the worse of the two ends, in points.
    pub excess_error: f64,
    /// The mean error over t (trapezoid), in %.
    pub mean_error: f64,
    /// The mean error by arc length, in %; over t if the curve has no length. Methods are compared
    /// by this mean, since over t the second segment of WA would be half of it, however short.
    pub mean_error_by_length: f64,
    /// The mean error over the t of the first segment, in %; `mean_error` if there is only one.
    pub mean_error_first_segment: f64,
    /// The curve's length over the distance between its ends; `None` if the ends are equal.
    pub length_over_chord: Option<f64>,
    /// The largest excess of the loss over the straight line between the losses of the ends, in
    /// nats.
    pub barrier_loss: f64,
    /// The same for the error, in points.
    pub barrier_error: f64,
}

/// The positions of nets along a curve, and the distance between its ends: Euclidean, over all
/// parameters, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// The length of the polygonal chain up to each point, starting with 0.
    pub cumulative: Vec<f64>,
    /// The distance from the first net to the last.
    pub chord: f64,
}

impl Lengths {
    /// The lengths of the chain through `nets`, in order.
    pub fn of(nets: impl IntoIterator<Item = Net>) -> Lengths {
        let mut nets = nets.into_iter();
        let Some(first) = nets.next() else {
            return Lengths { cumulative: Vec::new(), chord: 0.0 };
        };
        let (mut cumulative, mut length, mut last) = (vec![0.0], 0.0, first.clone());
        for net in nets {
            length += distance(&last, &net);
            cumulative.push(length);
            last = net;
        }
        Lengths { cumulative, chord: distance(&first, &last) }
    }
}

fn distance(a: &Net, b: &Net) -> f64 {
    let differences = a.params().iter().zip(b.params()).map(|(&a, &b)| f64::from(a) - f64::from(b));
    differences.map(|d| d * d).sum::<f64>().sqrt()
}

/// The metrics of the curve through `points`, the first `first_segment` of which form its first
/// segment. The first and last point are its ends; the others need not be equally spaced.
///
/// # Errors
/// If an error, a loss or a length is not finite: a maximum ignores NaN, so that a barrier would
/// read 0.
///
/// # Panics
/// If there are fewer than two points in all or in the first segment, or `lengths` is of another
/// number of points.
pub fn metrics(
    points: &[Point],
    first_segment: usize,
    lengths: &Lengths,
) -> Result<Metrics, String> {
    assert!(points.len() >= first_segment && first_segment > 1, "a curve has two ends");
    assert_eq!(points.len(), lengths.cumulative.len(), "points and lengths differ in number");
    for &Point { t, error, loss } in points {
        for (name, value) in [("error", error), ("loss", loss)] {
            if !value.is_finite() {
                return Err(format!("the {name} at t = {t} is `{value}`, not a finite number"));
            }
        }
    }
    let length = lengths.cumulative[points.len() - 1];
    if !(length.is_finite() && lengths.chord.is_finite()) {
        return Err("the length is not a finite number".to_owned());
    }
    let (a, b) = (points[0], points[points.len() - 1]);
    let worst = points
        .iter()
        .fold(a, |worst, &point| if point.error > worst.error { point } else { worst });
    let ts: Vec<f64> = points.iter().map(|point| point.t).collect();
    let errors: Vec<f64> = points.iter().map(|point| point.error).collect();
    let mean_over = |x: &[f64]| trapezoid(x, &errors[..x.len()]) / (x[x.len() - 1] - x[0]);
    let barrier = |of: fn(&Point) -> f64| {
        let excess = |p: &Point| of(p) - ((1.0 - p.t) * of(&a) + p.t * of(&b));
        points.iter().map(excess).fold(0.0, f64::max)
    };
    Ok(Metrics {
        max_error: worst.error,
        t_at_max: worst.t,
        excess_error: worst.error - a.error.max(b.error),
        mean_error: mean_over(&ts),
        mean_error_by_length: mean_over(if length > 0.0 { &lengths.cumulative } else { &ts }),
        mean_error_first_segment: mean_over(&ts[..first_segment]),
        length_over_chord: (lengths.chord > 0.0).then(|| length / lengths.chord),
        barrier_loss: barrier(|point| point.loss),
        barrier_error: barrier(|point| point.error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::net::Shape;

    fn point(t: f64, error: f64, loss: f64) -> Point {
        Point { t, error, loss }
    }

    fn lengths(cumulative: &[f64], chord: f64) -> Lengths {
        Lengths { cumulative: cumulative.to_vec(), chord }
    }

    /// The metrics of a curve with one segment.
    fn whole(points: &[Point], lengths: &Lengths) -> Metrics {
        metrics(points, points.len(), lengths).expect("finite")
    }

    #[test]
    fn the_metrics_of_a_curve_by_hand() {
        let points = [point(0.0, 2.0, 0.1), point(0.5, 6.0, 0.5), point(1.0, 4.0, 0.3)];
        let found = whole(&points, &lengths(&[0.0, 3.0, 4.0], 2.0));
        assert_eq!((found.max_error, found.t_at_max, found.excess_error), (6.0, 0.5, 2.0));
        assert_eq!((found.mean_error, found.mean_error_by_length), (4.5, (3.0 * 4.0 + 5.0) / 4.0));
        assert_eq!(found.mean_error_first_segment, found.mean_error);
        assert_eq!(found.length_over_chord, Some(2.0));
        assert_eq!(found.barrier_error, 3.0);
        assert!((found.barrier_loss - 0.3).abs() < 1e-15);
    }

    #[test]
    fn a_curve_below_the_line_of_its_ends_has_no_barrier_and_no_excess() {
        let points = [point(0.0, 2.0, 0.2), point(0.25, 1.0, 0.1), point(1.0, 2.0, 0.2)];
        let found = whole(&points, &lengths(&[0.0, 1.0, 2.0], 2.0));
        assert_eq!((found.barrier_loss, found.barrier_error, found.excess_error), (0.0, 0.0, 0.0));
        assert_eq!((found.max_error, found.t_at_max), (2.0, 0.0), "the first of equals");
    }

    #[test]
    fn a_net_joined_to_itself_has_an_error_and_no_length() {
        let found =
            whole(&[point(0.0, 2.0, 0.2), point(1.0, 2.0, 0.2)], &lengths(&[0.0, 0.0], 0.0));
        assert_eq!((found.length_over_chord, found.mean_error_by_length), (None, 2.0));
    }

    #[test]
    fn a_flat_second_segment_lowers_only_the_mean_over_t() {
        // The error rises from 2 to 10 and falls to 2 again; a short segment follows.
        let peak = [point(0.0, 2.0, 0.2), point(0.25, 10.0, 0.9), point(0.5, 2.0, 0.2)];
        let tail = [point(0.75, 2.0, 0.2), point(1.0, 2.0, 0.2)];
        let found =
            metrics(&[&peak[..], &tail].concat(), 3, &lengths(&[0.0, 5.0, 10.0, 10.5, 11.0], 9.0));
        let found = found.expect("finite");
        assert_eq!((found.mean_error, found.mean_error_first_segment), (4.0, 6.0));
        assert_eq!(found.mean_error_by_length, (10.0 * 6.0 + 2.0) / 11.0);
    }

    #[test]
    fn a_refined_grid_keeps_the_means_of_a_piecewise_linear_curve() {
        let coarse = [point(0.0, 2.0, 0.2), point(0.5, 10.0, 0.9), point(1.0, 2.0, 0.2)];
        let [a, top, b] = coarse;
        let fine =
            [a, point(0.25, 6.0, 0.5), point(0.375, 8.0, 0.7), top, point(0.75, 6.0, 0.5), b];
        let (long_first, refined) = ([0.0, 7.0, 9.0], [0.0, 3.5, 5.25, 7.0, 8.0, 9.0]);
        let (found, again) =
            (whole(&coarse, &lengths(&long_first, 5.0)), whole(&fine, &lengths(&refined, 5.0)));
        assert_eq!(found, again);
        assert_eq!((found.mean_error, found.mean_error_by_length), (6.0, 6.0));
    }

    #[test]
    fn metrics_of_numbers_that_are_not_finite_are_refused() {
        let good = [point(0.0, 2.0, 0.2), point(0.5, 3.0, 0.3), point(1.0, 2.0, 0.2)];
        let (even, broken) =
            (lengths(&[0.0, 1.0, 2.0], 2.0), lengths(&[0.0, f64::NAN, f64::NAN], 2.0));
        for (bad, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")]
        {
            for at in 0..3 {
                let refusal = |change: fn(&mut Point) -> &mut f64| {
                    let mut points = good;
                    *change(&mut points[at]) = bad;
                    metrics(&points, 3, &even).expect_err("refused")
                };
                let t = good[at].t;
                let expected =
                    |name: &str| format!("the {name} at t = {t} is `{shown}`, not a finite number");
                assert_eq!(refusal(|point| &mut point.error), expected("error"));
                assert_eq!(refusal(|point| &mut point.loss), expected("loss"));
            }
        }
        assert_eq!(metrics(&good, 3, &broken), Err("the length is not a finite number".to_owned()));
    }

    #[test]
    fn lengths_add_up_along_the_chain() {
        let at = |x: f32, y: f32| {
            let mut net = Net::zeros(Shape::talk(1));
            net.params_mut()[3] = x;
            net.params_mut()[790] = y;
            net
        };
        let chain = Lengths::of([at(0.0, 0.0), at(3.0, 4.0), at(3.0, 0.0)]);
        assert_eq!(chain, lengths(&[0.0, 5.0, 9.0], 3.0));
        assert_eq!(Lengths::of([at(1.0, 1.0)]), lengths(&[0.0], 0.0));
    }
}
