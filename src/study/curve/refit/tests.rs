//! Tests of whole refitted curves.

use super::super::fixture::{images, images_of, net, shaped};
use super::super::{CURVES, Center};
use super::normal::{Normal, RIDGE};
use super::segment::{BLOCK, Refitter, Segment, rarest_first, sums_at_once};
use super::*;
use crate::kernel::test::{bits, on_every_isa};
use crate::study::net::{Quality, Shape, evaluate};
use std::collections::BTreeMap;

const IMAGES: usize = BLOCK + 200;
const INPUTS: usize = 784;
const CLASSES: usize = 10;
const ONE: NonZero<usize> = NonZero::<usize>::MIN;

fn joined<'a>(curve: usize, a: &'a Net, b: &'a Net) -> Path<'a> {
    Path::new(CURVES[curve], Center::Neurons, a, b).expect("equal widths")
}

/// Settings without refinement.
fn settings(targets: Targets, points: u32) -> RefitSettings {
    RefitSettings { targets, points, refine: 0 }
}

fn refining(targets: Targets, points: u32) -> RefitSettings {
    RefitSettings { targets, points, refine: 2 }
}

/// What layer `l` reads, and its pre-activations, by a separate forward pass in f64, from the
/// definition.
fn forward(net: &Net, l: usize, images: &Sparse) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let shape = net.shape();
    let apply = |l: usize, x: &[f64]| -> Vec<f64> {
        let rows = net.weights(l).chunks(shape.fan_in(l)).enumerate();
        let dot = |(j, row): (usize, &[f32])| {
            let bias = net.biases(l).get(j).map_or(0.0, |&b| f64::from(b));
            row.iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum::<f64>() + bias
        };
        rows.map(dot).collect()
    };
    let pass = |i: usize| {
        let mut x = vec![0.0; shape.inputs];
        images.row(i).for_each(|(pixel, value)| x[pixel] = f64::from(value));
        for l in 0..l {
            x = apply(l, &x).into_iter().map(|z| z.max(0.0)).collect();
        }
        let z = apply(l, &x);
        (x, z)
    };
    (0..images.rows()).map(pass).unzip()
}

#[test]
fn a_refitted_curve_starts_at_a_and_ends_at_b_bit_for_bit() {
    let (x, labels) = images(300);
    let (a, b) = (net(12, "a"), net(12, "b"));
    for (targets, points) in [(Targets::A, 7), (Targets::Blend, 4)] {
        for curve in 0..CURVES.len() {
            let refitted = refit(joined(curve, &a, &b), settings(targets, 4), &x, &labels, ONE)
                .expect("a refit");
            let nets: Vec<Net> = refitted.nets().collect();
            assert_eq!((nets.len(), &nets[0], &nets[points - 1]), (points, &a, &b), "{targets:?}");
            let ts: Vec<f64> = refitted.steps.iter().map(|step| step.t).collect();
            assert_eq!(ts, grid(points as u32));
        }
    }
}

#[test]
fn refinement_adds_points_beside_the_largest_error_and_keeps_the_others() {
    let (x, labels) = images(300);
    let (a, b) = (net(12, "a"), net(12, "b"));
    let bits_by_t = |refitted: &Refitted| -> BTreeMap<u64, Vec<u32>> {
        refitted.steps.iter().map(|step| (step.t.to_bits(), bits(&step.above.weights))).collect()
    };
    for (targets, first_ends) in [(Targets::A, 0.5), (Targets::Blend, 1.0)] {
        let at = |refine| {
            let settings = RefitSettings { refine, ..settings(targets, 5) };
            refit(joined(1, &a, &b), settings, &x, &labels, ONE).expect("a refit")
        };
        let coarse = at(0);
        for rounds in 1..5 {
            let fine = at(rounds);
            let added = fine.steps.len() - coarse.steps.len();
            assert!(
                (rounds as usize..=2 * rounds as usize).contains(&added),
                "{added} in {rounds} rounds"
            );
            assert_eq!(fine.first_segment(), coarse.first_segment() + added);
            assert_eq!(fine.steps[fine.first_segment() - 1].t, first_ends);
            let (kept, all) = (bits_by_t(&coarse), bits_by_t(&fine));
            assert!(kept.iter().all(|(t, w2)| all.get(t) == Some(w2)), "{targets:?}");

            let first = &fine.measure(&x, &labels, ONE)[..fine.first_segment()];
            let worst = first.iter().map(|point| point.error).fold(0.0, f64::max);
            let spacing = first_ends / 4.0 / f64::from(1 << rounds);
            let is_near = |i: usize| (first[i].t - first[i - 1].t - spacing).abs() < 1e-12;
            let is_refined =
                |i: usize| (i == 0 || is_near(i)) && (i + 1 == first.len() || is_near(i + 1));
            assert!(
                (0..first.len()).any(|i| first[i].error == worst && is_refined(i)),
                "{first:?}"
            );
        }
    }
}

#[test]
fn the_intervals_beside_the_worst_point_are_halved_and_ties_are_broken_by_loss() {
    let case = |errors: &[(f64, f64)], expected: &[f64]| {
        let points: Vec<Point> = (0..)
            .zip(errors)
            .map(|(i, &(error, loss))| Point { t: f64::from(i), error, loss })
            .collect();
        let middles: Vec<f64> =
            beside_worst(&points).iter().map(|&i| (points[i - 1].t + points[i].t) / 2.0).collect();
        assert_eq!(middles, expected, "{errors:?}");
    };
    case(&[(1.0, 0.0), (3.0, 0.0), (2.0, 0.0), (1.0, 0.0)], &[0.5, 1.5]);
    case(&[(1.0, 0.0), (3.0, 0.1), (3.0, 0.2), (1.0, 0.0)], &[1.5, 2.5]);
    case(&[(1.0, 0.0), (3.0, 0.1), (3.0, 0.1), (1.0, 0.0)], &[0.5, 1.5]);
    case(&[(4.0, 0.0), (3.0, 0.0), (3.0, 0.0)], &[0.5]);
    case(&[(1.0, 0.0), (1.0, 0.0), (3.0, 0.0)], &[1.5]);
}

#[test]
fn measurements_have_the_bits_of_an_evaluation_where_the_moving_layer_is_that_of_an_end() {
    let deep = deep().into_iter().map(|shape| (shape, Targets::A));
    let plain = Targets::ALL.iter().map(|&targets| (Shape::talk(12), targets));
    for (shape, targets) in plain.chain(deep) {
        let (x, labels) = images_of(300, shape.inputs, 10);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        let refitted =
            refit(joined(1, &a, &b), settings(targets, 4), &x, &labels, ONE).expect("a refit");
        let points = refitted.measure(&x, &labels, ONE);
        for ((net, step), Point { error, loss, .. }) in
            refitted.nets().zip(&refitted.steps).zip(points)
        {
            let evaluated = evaluate(&net, &x, &labels);
            let case = format!("{shape} {targets:?} {} {}", step.segment, step.s);
            if step.s == 0.0 || step.s == 1.0 {
                assert_eq!(Quality { error, loss }, evaluated, "{case}");
            } else {
                // Pre-activations are rounded before they are combined.
                assert!((loss / evaluated.loss - 1.0).abs() < 1e-6, "{case}");
                assert!((error - evaluated.error).abs() < 150.0 / 300.0, "{case}");
            }
        }
    }
}

/// A plain net with either target, and a deep one with biases.
fn repeatable() -> [(Shape, Targets); 3] {
    let deep = Shape::of(40, &[23, 19], 10, true);
    [(Shape::talk(50), Targets::A), (Shape::talk(50), Targets::Blend), (deep, Targets::A)]
}

#[test]
fn refits_have_the_same_bits_for_any_number_of_points_and_threads() {
    for (shape, targets) in repeatable() {
        let (x, labels) = images_of(IMAGES, shape.inputs, 10);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        let refitted = |together, threads| {
            let threads = NonZero::new(threads).expect("some");
            let refitted = refit_together(
                NonZero::new(together),
                joined(1, &a, &b),
                refining(targets, 5),
                &x,
                &labels,
                threads,
            );
            let refitted = refitted.expect("a refit");
            (refitted.nets().collect::<Vec<_>>(), refitted.fits().collect::<Vec<_>>())
        };
        let expected = refitted(1, 1);
        for (together, threads) in [(2, 1), (3, 2), (20, 1), (0, 3)] {
            let found = refitted(together, threads);
            assert!(
                found == expected,
                "{shape} {targets:?}, {together} together, {threads} threads"
            );
        }
    }
}

#[test]
fn the_sums_of_at_least_one_point_fit_at_every_width() {
    assert_eq!(
        [10, 1350, 2000, 100_000].map(|h| sums_at_once(h, CLASSES).min(20)),
        [20, 20, 10, 1]
    );
}

/// Nets of one to four layers of neurons, with and without biases.
fn deep() -> Vec<Shape> {
    vec![
        Shape::of(784, &[20], 10, true),
        Shape::of(60, &[20, 17], 10, false),
        Shape::of(60, &[12, 20, 14], 10, true),
        Shape::of(33, &[9, 12, 11, 8], 10, true),
    ]
}

#[test]
fn a_refit_is_the_least_squares_solution_in_every_segment() {
    for shape in [Shape::talk(20)].into_iter().chain(deep()) {
        let (x, labels) = images_of(IMAGES, shape.inputs, 10);
        let [a, b] = ["a", "b"].map(|end| {
            let mut net = shaped(shape, end);
            // Activations that keep their size from layer to layer, so that biases do not make the
            // features of a deep layer nearly constant.
            for l in 1..net.layers() - 1 {
                net.weights_mut(l).iter_mut().for_each(|w| *w *= 5.0);
            }
            net
        });
        let refitted =
            refit(joined(0, &a, &b), settings(Targets::A, 4), &x, &labels, ONE).expect("a refit");
        assert_eq!(refitted.fits().count(), 3 * shape.widths.depth(), "{shape}");
        for (step, net) in refitted.steps.iter().zip(refitted.nets()) {
            let Some(fit) = step.fit else { continue };
            let l = step.segment + 1;
            let targets = forward(&a, l, &x).1.concat();
            let (hidden, found) = forward(&net, l, &x);
            let miss: Vec<f64> = found.concat().iter().zip(&targets).map(|(y, t)| y - t).collect();
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let all = norm(&mut targets.iter().copied());
            let relative = norm(&mut miss.iter().copied()) / all;
            let case = format!("{shape} {fit:?} {relative}");
            assert!((fit.residual - relative).abs() < 1e-3 * relative + 1e-4, "{case}");
            assert!(fit.residual <= fit.residual_kept + 1e-6, "{case}");
            assert_eq!(fit.s, step.segment as f64 + step.s, "{case}");
            let features = shape.fan_in(l) + usize::from(shape.biases);
            let feature = |j: usize| hidden.iter().map(move |x| x.get(j).copied().unwrap_or(1.0));
            let norms: Vec<f64> = (0..features).map(|j| norm(&mut feature(j))).collect();
            // In a random deep net, some neurons are dead.
            let alive = norms.iter().filter(|&&norm| norm > 0.0).count();
            assert!(fit.rank <= alive && fit.ridge == RIDGE, "{alive} {case}");
            assert!(shape != Shape::talk(20) || fit.rank == 20, "{case}");
            let largest = norms.iter().copied().fold(0.0, f64::max);
            // The residual is orthogonal to every feature, the constant of the biases included.
            let outputs = shape.fan_out(l);
            for (j, output) in (0..features).flat_map(|j| (0..outputs).map(move |o| (j, o))) {
                let miss = || miss[output..].iter().step_by(outputs).copied();
                let dot: f64 = feature(j).zip(miss()).map(|(f, m)| f * m).sum();
                // The ridge matters to a neuron that hardly fires.
                let cosine = dot / (norms[j].max(0.01 * largest) * norm(&mut miss()));
                // Where the features reproduce the targets, the residual is rounding.
                assert!(
                    cosine.abs() < 1e-4 || relative < 1e-4,
                    "neuron {j} {output}: {cosine} {case}"
                );
            }
        }
    }
}

#[test]
fn a_deep_refitted_curve_moves_layer_by_layer_from_a_to_b() {
    for shape in deep() {
        let (x, labels) = images_of(200, shape.inputs, 10);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        for refine in [0, 3] {
            let settings = RefitSettings { refine, ..settings(Targets::A, 4) };
            let refitted = refit(joined(1, &a, &b), settings, &x, &labels, ONE).expect("a refit");
            let nets: Vec<Net> = refitted.nets().collect();
            assert_eq!((&nets[0], &nets[nets.len() - 1]), (&a, &b), "{shape}");
            assert!(refitted.steps.is_sorted_by(|a, b| a.t < b.t), "{shape}");
            let ts: Vec<f64> = refitted.steps.iter().map(|step| step.t).collect();
            let base = grid(shape.layers() as u32 * 3 + 1);
            assert!(base.iter().all(|t| ts.contains(t)), "{shape} {ts:?}");
            if refine == 0 {
                assert_eq!(ts, base, "{shape}");
            } else {
                assert!(ts.len() > base.len(), "{shape}");
            }
            let per_t = shape.layers() as f64;
            for (step, net) in refitted.steps.iter().zip(&nets) {
                let same = |l: usize, end: &Net| {
                    net.weights(l) == end.weights(l) && net.biases(l) == end.biases(l)
                };
                assert!((0..step.segment).all(|l| same(l, &b)), "{shape} {step:?}");
                assert!(
                    (step.segment + 2..shape.layers()).all(|l| same(l, &a)),
                    "{shape} {step:?}"
                );
                let place = (step.segment as f64 + step.s) / per_t;
                let is_last = step.t > 1.0 - 1.0 / per_t + 1e-9;
                assert!(is_last || (step.t - place).abs() < 1e-12, "{shape} {step:?}");
            }
        }
    }
}

#[test]
fn the_arc_of_a_later_segment_turns_about_the_mean_of_its_own_ends() {
    let shape = Shape::of(30, &[9, 8], 10, true);
    let (x, labels) = images_of(200, 30, 10);
    let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
    let refitted =
        refit(joined(1, &a, &b), settings(Targets::A, 3), &x, &labels, ONE).expect("a refit");
    // Points: A, 1/2 and 1 of the first segment, 1/2 and 1 of the second.
    let nets: Vec<Net> = refitted.nets().collect();
    let (start, middle, end) = (&nets[2], &nets[3], &nets[4]);
    let column = |net: &Net, i: usize| -> Vec<f64> {
        let rows = net.weights(1).chunks(9).zip(net.biases(1));
        rows.map(|(row, &bias)| f64::from(*row.get(i).unwrap_or(&bias))).collect()
    };
    for i in 0..10 {
        let (start, end) = (column(start, i), column(end, i));
        let mean = start.iter().chain(&end).sum::<f64>() / 16.0;
        for ((p, q), found) in start.iter().zip(&end).zip(column(middle, i)) {
            let expected = mean + 0.5f64.sqrt() * (p - mean + q - mean);
            assert!((found - expected).abs() < 1e-6, "{i}: {found} for {expected}");
        }
    }
}

#[test]
fn blended_targets_are_refused_for_several_hidden_layers_only() {
    let (x, labels) = images_of(100, 30, 10);
    let with = |widths: &[usize]| {
        let shape = Shape::of(30, widths, 10, true);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        let refitted = refit(joined(1, &a, &b), settings(Targets::Blend, 4), &x, &labels, ONE)?;
        assert_eq!(
            (refitted.nets().next(), refitted.nets().last()),
            (Some(a.clone()), Some(b.clone()))
        );
        Ok(())
    };
    assert_eq!(with(&[9]), Ok(()));
    let refusal = "the targets `blend` are for nets of one hidden layer, and these have 2";
    assert_eq!(with(&[9, 8]), Err(refusal.to_owned()));
}

#[test]
fn the_loss_on_the_straight_segment_never_exceeds_its_ends() {
    for shape in [Shape::talk(12)].into_iter().chain(deep()) {
        let (x, labels) = images_of(300, shape.inputs, 10);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        let points = refit(joined(1, &a, &b), settings(Targets::A, 9), &x, &labels, ONE)
            .expect("a refit")
            .measure(&x, &labels, ONE);
        let tail = &points[8 * shape.widths.depth()..];
        let worst_end = tail[0].loss.max(tail[tail.len() - 1].loss);
        assert!(tail.iter().all(|point| point.loss <= worst_end + 1e-9), "{shape} {tail:?}");
    }
}

#[test]
fn halfway_only_the_center_distinguishes_the_arc_from_the_line() {
    // Without a center the arc's W1 is a multiple of the line's, which the refit compensates.
    let (x, labels) = images(300);
    let (a, b) = (net(12, "a"), net(12, "b"));
    let middle = |curve: usize, center| {
        let path = Path::new(CURVES[curve], center, &a, &b).expect("equal widths");
        let refitted = refit(path, settings(Targets::Blend, 3), &x, &labels, ONE).expect("a refit");
        refitted.fits().next().expect("one refit").residual
    };
    assert!((middle(0, Center::Zero) - middle(1, Center::Zero)).abs() < 1e-5);
    assert!((middle(0, Center::Neurons) - middle(1, Center::Neurons)).abs() > 1e-4);
}

#[test]
fn dead_and_duplicated_neurons_lower_the_rank() {
    let (x, labels) = images(300);
    let (mut a, mut b) = (net(12, "a"), net(12, "b"));
    for net in [&mut a, &mut b] {
        let w1 = net.weights_mut(0);
        w1[..INPUTS].fill(-1.0); // neuron 0 is dead
        w1.copy_within(INPUTS..2 * INPUTS, 2 * INPUTS); // neuron 2 duplicates 1
        w1.copy_within(INPUTS..2 * INPUTS, 3 * INPUTS); // and so does 3
    }
    let refitted =
        refit(joined(0, &a, &b), settings(Targets::A, 3), &x, &labels, ONE).expect("a refit");
    for (fit, net) in refitted.fits().zip(refitted.nets().skip(1)) {
        assert_eq!(fit.rank, 9, "{fit:?}");
        assert!(fit.residual <= fit.residual_kept + 1e-6 && fit.residual < 1.0, "{fit:?}");
        let w2 = net.weights(1);
        assert_eq!(w2[0], 0.0, "a dead neuron gets no weight");
        assert!(
            (w2[1] - w2[2]).abs() < 1e-3 * w2[1].abs(),
            "duplicated neurons share the weight: {} {}",
            w2[1],
            w2[2]
        );
    }
}

#[test]
fn a_refit_of_dead_neurons_is_zero() {
    let (x, labels) = images(20);
    let (a, mut b) = (net(3, "a"), net(3, "b"));
    b.weights_mut(0).fill(-1.0);
    let refitted =
        refit(joined(0, &a, &b), settings(Targets::A, 2), &x, &labels, ONE).expect("a refit");
    let fit = refitted.fits().next().expect("one refit");
    assert_eq!((fit.rank, fit.ridge, fit.residual), (0, 0.0, 1.0));
    assert!(refitted.steps[1].above.weights.iter().all(|&w| w == 0.0));
}

#[test]
fn fewer_images_than_neurons_are_fitted_exactly() {
    let (x, labels) = images(10);
    let (a, b) = (net(40, "a"), net(40, "b"));
    let refitted =
        refit(joined(0, &a, &b), settings(Targets::A, 3), &x, &labels, ONE).expect("a refit");
    for fit in refitted.fits() {
        assert!(fit.residual < 1e-3, "{fit:?}");
        assert!((10..20).contains(&fit.rank), "ten, but for rounding: {fit:?}");
    }
}

#[test]
fn the_sums_do_not_depend_on_the_order_of_the_neurons_on_any_isa() {
    let shape = Shape::of(30, &[17, 23], 10, true);
    let (x, _) = images_of(IMAGES, 30, 10);
    let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
    let path = joined(0, &a, &b);
    for index in 0..2 {
        let segment = || {
            let ends = [Layer::of(&a, index), Layer::of(&b, index)];
            Segment { path: &path, index, ends, targets: Targets::A }
        };
        let sums = |order: &[usize]| {
            let refitter = Refitter::in_order(segment(), order.to_vec(), None, &x, ONE);
            let sums = refitter.sums(&[(0.0, 0.3)]).pop().expect("one");
            let normal = Normal::of(sums, order, true);
            let numbers = [normal.g, normal.right.concat().concat()].concat();
            numbers.iter().map(|g| g.to_bits()).collect::<Vec<_>>()
        };
        let (own, rarest) =
            (Vec::from_iter(0..shape.widths.get(index)), rarest_first(&segment(), &x));
        assert_ne!(own, rarest, "the orders must differ");
        on_every_isa(|isa| assert!(sums(&rarest) == sums(&own), "{isa:?}"));
    }
}

#[test]
fn refits_have_the_same_bits_on_every_isa() {
    for (shape, targets) in repeatable() {
        let (x, labels) = images_of(100, shape.inputs, 10);
        let [a, b] = ["a", "b"].map(|end| shaped(shape, end));
        let found = || {
            let refitted = refit(joined(1, &a, &b), settings(targets, 4), &x, &labels, ONE);
            let refitted = refitted.expect("a refit");
            let nets: Vec<Net> = refitted.nets().collect();
            (nets, refitted.fits().collect::<Vec<_>>(), refitted.measure(&x, &labels, ONE))
        };
        let expected = found();
        on_every_isa(|isa| assert!(found() == expected, "{shape} {isa:?}"));
    }
}

#[test]
fn infinite_features_and_logits_are_refused() {
    let (a, mut b) = (net(3, "a"), net(3, "b"));
    let refused = |a: &Net, b: &Net, n| {
        let (x, labels) = images(n);
        refit(joined(0, a, b), settings(Targets::A, 3), &x, &labels, ONE).map(drop)
    };
    assert_eq!(refused(&a, &b, 0), Err("a refit needs images".to_owned()));
    // Numbers whose squares overflow.
    b.params_mut()[..INPUTS].fill(1e30);
    assert!(refused(&a, &b, 20).unwrap_err().contains("of the hidden features are not finite"));
    let (mut a, b) = (a, net(3, "b"));
    a.weights_mut(1).fill(1e30);
    assert!(refused(&a, &b, 20).unwrap_err().contains("of the targets are not finite"));
}
