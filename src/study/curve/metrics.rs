//! A curve in a few numbers (SCIENCE: "Metrics, per curve").
//!
//! A maximum over noisy points is biased up: compare only curves measured on the same grid. This file does not know
//! how the points were measured.

use super::Point;
use crate::study::net::Mlp;
use crate::study::stats::trapezoid;

/// What a curve is judged by, on one split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metrics {
    /// The largest error on the curve, in %.
    pub max_error: f64,
    /// Where it is first attained.
    pub t_at_max: f64,
    /// Its excess over the worse of the two ends, in points.
    pub excess_error: f64,
    /// The mean error over t (trapezoid), in %.
    pub mean_error: f64,
    /// The mean error by arc length, in %; over t if the curve has no length.
    pub mean_error_by_length: f64,
    /// The curve's length over the distance of its ends; `None` if the ends are the same.
    pub length_over_chord: Option<f64>,
    /// The most that the loss exceeds the straight line between the losses of the ends, in nats.
    pub barrier_loss: f64,
    /// The same for the error, in points.
    pub barrier_error: f64,
}

/// How far along its curve each net is, and how far apart the ends are: Euclidean, over all parameters, in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths {
    /// The length of the polygonal chain up to each point, starting with 0.
    pub cumulative: Vec<f64>,
    /// The distance from the first net to the last.
    pub chord: f64,
}

impl Lengths {
    /// Of the chain through `nets`, in order.
    pub fn of(nets: impl IntoIterator<Item = Mlp>) -> Lengths {
        let mut nets = nets.into_iter();
        let Some(first) = nets.next() else { return Lengths { cumulative: Vec::new(), chord: 0.0 } };
        let (mut cumulative, mut length, mut last) = (vec![0.0], 0.0, first.clone());
        for net in nets {
            length += distance(&last, &net);
            cumulative.push(length);
            last = net;
        }
        Lengths { cumulative, chord: distance(&first, &last) }
    }
}

fn distance(a: &Mlp, b: &Mlp) -> f64 {
    let differences = a.params().iter().zip(b.params()).map(|(&a, &b)| f64::from(a) - f64::from(b));
    differences.map(|d| d * d).sum::<f64>().sqrt()
}

/// The metrics of the curve through `points`, whose first and last are its ends.
///
/// # Panics
/// If there are fewer than two points, or not as many `lengths`.
pub fn metrics(points: &[Point], lengths: &Lengths) -> Metrics {
    assert!(points.len() > 1, "a curve has two ends");
    assert_eq!(points.len(), lengths.cumulative.len(), "points and lengths differ in number");
    let (a, b) = (points[0], points[points.len() - 1]);
    let worst = points.iter().fold(a, |worst, &point| if point.error > worst.error { point } else { worst });
    let ts: Vec<f64> = points.iter().map(|point| point.t).collect();
    let errors: Vec<f64> = points.iter().map(|point| point.error).collect();
    let mean_over = |x: &[f64]| trapezoid(x, &errors) / (x[x.len() - 1] - x[0]);
    let barrier = |of: fn(&Point) -> f64| {
        let excess = |p: &Point| of(p) - ((1.0 - p.t) * of(&a) + p.t * of(&b));
        points.iter().map(excess).fold(0.0, f64::max)
    };
    let length = lengths.cumulative[points.len() - 1];
    Metrics {
        max_error: worst.error,
        t_at_max: worst.t,
        excess_error: worst.error - a.error.max(b.error),
        mean_error: mean_over(&ts),
        mean_error_by_length: mean_over(if length > 0.0 { &lengths.cumulative } else { &ts }),
        length_over_chord: (lengths.chord > 0.0).then(|| length / lengths.chord),
        barrier_loss: barrier(|point| point.loss),
        barrier_error: barrier(|point| point.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(t: f64, error: f64, loss: f64) -> Point {
        Point { t, error, loss }
    }

    fn lengths(cumulative: &[f64], chord: f64) -> Lengths {
        Lengths { cumulative: cumulative.to_vec(), chord }
    }

    #[test]
    fn the_metrics_of_a_curve_worked_by_hand() {
        let points = [point(0.0, 2.0, 0.1), point(0.5, 6.0, 0.5), point(1.0, 4.0, 0.3)];
        let found = metrics(&points, &lengths(&[0.0, 3.0, 4.0], 2.0));
        assert_eq!((found.max_error, found.t_at_max, found.excess_error), (6.0, 0.5, 2.0));
        assert_eq!((found.mean_error, found.mean_error_by_length), (4.5, (3.0 * 4.0 + 5.0) / 4.0));
        assert_eq!(found.length_over_chord, Some(2.0));
        assert_eq!(found.barrier_error, 3.0);
        assert!((found.barrier_loss - 0.3).abs() < 1e-15);
    }

    #[test]
    fn a_curve_below_the_line_of_its_ends_has_no_barrier_and_no_excess() {
        let points = [point(0.0, 2.0, 0.2), point(0.25, 1.0, 0.1), point(1.0, 2.0, 0.2)];
        let found = metrics(&points, &lengths(&[0.0, 1.0, 2.0], 2.0));
        assert_eq!((found.barrier_loss, found.barrier_error, found.excess_error), (0.0, 0.0, 0.0));
        assert_eq!((found.max_error, found.t_at_max), (2.0, 0.0), "the first of equals");
    }

    #[test]
    fn a_net_joined_to_itself_has_no_length_but_an_error() {
        let found = metrics(&[point(0.0, 2.0, 0.2), point(1.0, 2.0, 0.2)], &lengths(&[0.0, 0.0], 0.0));
        assert_eq!((found.length_over_chord, found.mean_error_by_length), (None, 2.0));
    }

    #[test]
    fn lengths_add_up_along_the_chain() {
        let at = |x: f32, y: f32| {
            let mut net = Mlp::zeros(1);
            net.params_mut()[3] = x;
            net.params_mut()[790] = y;
            net
        };
        let chain = Lengths::of([at(0.0, 0.0), at(3.0, 4.0), at(3.0, 0.0)]);
        assert_eq!(chain, lengths(&[0.0, 5.0, 9.0], 3.0));
        assert_eq!(Lengths::of([at(1.0, 1.0)]), lengths(&[0.0], 0.0));
    }
}
