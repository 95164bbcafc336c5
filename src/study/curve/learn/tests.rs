use super::super::fixture::{images_of, shaped};
use super::super::permutation::Permutations;
use super::super::{CURVES, Center, Path, grid};
use super::*;
use crate::kernel::test::{bits, on_every_isa};
use crate::study::data::{Examples, digits::digits};
use crate::study::net::{
    DropoutMask, Optimizer, Prior, PriorKind, Sgd, Shape, TrainSettings, train,
};

const ONE: NonZero<usize> = NonZero::<usize>::MIN;
const NAMES: [&str; 2] = ["0", "curve"];

fn curve(name: &str) -> LearnedCurve {
    name.parse().expect("a learned curve")
}

fn settings(name: &str, epochs: u32) -> LearnSettings {
    let training = TrainSettings {
        epochs: epochs.try_into().expect("in bounds"),
        batch: 16.try_into().expect("in bounds"),
        ..TrainSettings::new("1".parse().expect("widths"))
    };
    LearnSettings { curve: curve(name), fit: training.fit(), engine: EngineKind::Kernel }
}

/// Plain gradient descent, whose step is the gradient times the rate.
fn plain(fit: FitSettings) -> FitSettings {
    let momentum = 0.0.try_into().expect("in bounds");
    FitSettings { optimizer: Optimizer::Sgd(Sgd { momentum, ..Sgd::default() }), ..fit }
}

fn none() -> Labelled {
    Labelled::from(&Examples::default())
}

fn labelled(n: usize, shape: Shape) -> Labelled {
    let (images, labels) = images_of(n, shape.inputs, shape.classes as u32);
    Labelled { images, labels, classes: shape.classes }
}

fn ends(shape: Shape) -> [Net; 2] {
    ["a", "b"].map(|end| shaped(shape, end))
}

/// One with a fast engine of its own, and one with two layers and biases.
fn shapes() -> [Shape; 2] {
    [Shape::of(20, &[6], 10, false), Shape::of(15, &[5, 4], 3, true)]
}

/// The objective at the parameters `w`, in f64: the mean cross-entropy of `data` under the dropout
/// `masks`, and the prior.
fn objective(shape: Shape, w: &[f64], data: &Labelled, masks: &[DropoutMask], prior: Prior) -> f64 {
    let mut loss = 0.0;
    for (row, &label) in data.labels.iter().enumerate() {
        let mut x = vec![0.0; shape.inputs];
        data.images.row(row).for_each(|(column, value)| x[column] = f64::from(value));
        let mut rest = w;
        for l in 0..shape.layers() {
            let (fan_in, fan_out) = (shape.fan_in(l), shape.fan_out(l));
            let (weights, after) = rest.split_at(fan_in * fan_out);
            let (biases, after) = after.split_at(if shape.biases { fan_out } else { 0 });
            rest = after;
            let mut next = Vec::new();
            for j in 0..fan_out {
                let row_of = &weights[j * fan_in..][..fan_in];
                let sum: f64 = row_of.iter().zip(&x).map(|(w, x)| w * x).sum();
                let z = sum + biases.get(j).unwrap_or(&0.0);
                next.push(if l + 1 == shape.layers() {
                    z
                } else {
                    let factor = masks.get(l).map_or(1.0, |mask| {
                        let is_kept = mask.flags[row * fan_out + j];
                        if is_kept { f64::from(mask.scale) } else { 0.0 }
                    });
                    z.max(0.0) * factor
                });
            }
            x = next;
        }
        loss += x.iter().map(|f| f.exp()).sum::<f64>().ln() - x[usize::from(label)];
    }
    let n = data.len();
    let squares: f64 = w.iter().map(|w| w * w).sum();
    let absolute: f64 = w.iter().map(|w| w.abs()).sum();
    loss / n as f64 + prior.decay(n) / 2.0 * squares + prior.shrink(n) * absolute
}

#[test]
fn a_bend_moves_by_the_slope_of_the_objective_at_psi_under_every_prior() {
    const RATE: f64 = 0.5;
    let curves = ["bezier", "chain:2"].map(curve);
    for (shape, curve) in shapes().into_iter().flat_map(|shape| curves.map(|c| (shape, c))) {
        for prior in PriorKind::ALL.iter().map(|kind| kind.example()) {
            let data = labelled(6, shape);
            let chosen: Vec<u32> = (0..6).collect();
            let masks = prior.dropout_masks(6, shape.widths, &mut rng::stream("0", "dropout"));
            let batch = Batch {
                images: &data.images,
                labels: &data.labels,
                chosen: &chosen,
                masks: &masks,
            };
            let nets: Vec<Net> = (0..curve.bends() + 2)
                .map(|k| {
                    let mut net = shaped(shape, &format!("control {k}"));
                    net.params_mut().iter_mut().for_each(|w| *w *= 4.0);
                    net
                })
                .collect();
            let controls = Controls::new(curve.basis(), nets).expect("equal shapes");
            let fit = plain(FitSettings { prior, ..settings("bezier", 1).fit });
            let mut learner = CurveLearner::new(&controls, EngineKind::Kernel, ONE);
            let t = rng::uniform(&mut rng::stream("0", "t"));
            let step = Step::new(&fit, 1, RATE, 6);
            let stats = learner.step(&batch, &step, &mut rng::stream("0", "t"));

            let c = controls.coefficients(t);
            let mut psi = vec![0.0; shape.params()];
            for (c, net) in c.iter().zip(controls.nets()) {
                psi.iter_mut().zip(net.params()).for_each(|(w, &p)| *w += c * f64::from(p));
            }
            let loss = objective(shape, &psi, &data, &masks, Prior::None);
            assert!((stats.loss / 6.0 - loss).abs() < 1e-4, "{shape}, {curve}, {prior}");
            let mut slopes = Vec::new();
            for at in 0..psi.len() {
                let here = psi[at];
                let mut shifted = |by: f64| {
                    psi[at] = here + by;
                    let value = objective(shape, &psi, &data, &masks, prior);
                    psi[at] = here;
                    value
                };
                slopes.push((shifted(1e-6) - shifted(-1e-6)) / 2e-6);
            }
            assert!(slopes.iter().filter(|slope| slope.abs() > 1e-3).count() > 20);
            for ((k, before), after) in
                controls.nets().iter().enumerate().skip(1).zip(learner.bends())
            {
                let moved = before.params().iter().zip(after.params());
                for (at, ((&before, &after), slope)) in moved.zip(&slopes).enumerate() {
                    let found = (f64::from(before) - f64::from(after)) / RATE;
                    let case = format!("{shape}, {curve}, {prior}, bend {k}, {at}");
                    assert!((found - c[k] * slope).abs() < 1e-5, "{case}: {found} {slope}");
                }
            }
        }
    }
}

#[test]
fn both_engines_learn_the_same_bends_under_every_prior() {
    for shape in shapes() {
        let ([a, b], data) = (ends(shape), labelled(60, shape));
        for prior in PriorKind::ALL.iter().map(|kind| kind.example()) {
            let bends = |engine| {
                let base = settings("chain:2", 3);
                let settings =
                    LearnSettings { engine, fit: FitSettings { prior, ..base.fit }, ..base };
                let learned =
                    learn(&settings, [&a, &b], NAMES, &data, &none(), ONE).expect("learned");
                learned.controls.nets().to_vec()
            };
            for (found, expected) in
                bends(EngineKind::Kernel).iter().zip(bends(EngineKind::Autodiff))
            {
                for (found, expected) in found.params().iter().zip(expected.params()) {
                    assert!((found - expected).abs() < 1e-4, "{shape}, {prior}");
                }
            }
        }
    }
}

#[test]
fn the_ends_do_not_move_and_the_bends_start_on_the_chord() {
    for (shape, curve) in
        shapes().into_iter().flat_map(|s| LearnedCurve::all().map(move |c| (s, c)))
    {
        let ([a, b], data) = (ends(shape), labelled(20, shape));
        let of = |epochs| {
            let settings = LearnSettings { curve, ..settings("bezier", epochs) };
            learn(&settings, [&a, &b], NAMES, &data, &none(), ONE).expect("learned")
        };
        let (start, end) = (of(0), of(1));
        assert_eq!((start.history.len(), end.history.len()), (0, 1));
        for learned in [&start, &end] {
            assert_eq!(learned.controls.nets().len(), curve.bends() + 2);
            assert_eq!(bits(learned.controls.point(0.0).params()), bits(a.params()));
            assert_eq!(bits(learned.controls.point(1.0).params()), bits(b.params()));
        }
        let chord = Path::new(CURVES[0], Center::Zero, &a, &b).expect("equal shapes");
        for t in grid(7) {
            let (found, expected) = (start.controls.point(t), chord.point(t));
            for (found, expected) in found.params().iter().zip(expected.params()) {
                assert!((found - expected).abs() < 1e-6, "{shape}, {curve}");
            }
        }
        let moved = start.controls.nets().iter().zip(end.controls.nets());
        // Two batches reach at most four bends of a chain.
        let moved = moved.filter(|(a, b)| a != b).count();
        assert!((1..=curve.bends()).contains(&moved), "{shape}, {curve}: {moved} bends moved");
    }
}

#[test]
fn learning_has_the_same_bits_on_any_number_of_threads_and_every_isa() {
    // The wide one is above the least number of parameters for threads.
    for shape in [Shape::of(784, &[200], 10, false), Shape::of(15, &[5, 4], 3, true)] {
        let ([a, b], data) = (ends(shape), labelled(40, shape));
        let run = |threads: usize| {
            let threads = threads.try_into().expect("some");
            let learned =
                learn(&settings("bezier", 1), [&a, &b], NAMES, &data, &data, threads).unwrap();
            (bits(learned.controls.nets()[1].params()), format!("{:?}", learned.history))
        };
        let expected = run(1);
        assert_eq!((run(2), run(5)), (expected.clone(), expected.clone()), "{shape}");
        on_every_isa(|isa| assert_eq!(run(1), expected, "{shape}, {isa:?}"));
    }
}

#[test]
fn a_permutation_of_both_ends_permutes_the_bends() {
    for shape in shapes() {
        let ([a, b], data) = (ends(shape), labelled(40, shape));
        let mut order = Permutations::identity(shape);
        order.shuffle(&mut rng::stream("0", "order"));
        let permuted = |net: &Net| order.apply(net).expect("fits");
        let bend = |a: &Net, b: &Net| {
            let learned = learn(&settings("bezier", 2), [a, b], NAMES, &data, &none(), ONE);
            learned.expect("learned").controls.nets()[1].clone()
        };
        let (expected, found) = (permuted(&bend(&a, &b)), bend(&permuted(&a), &permuted(&b)));
        for (found, expected) in found.params().iter().zip(expected.params()) {
            assert!((found - expected).abs() < 1e-4, "{shape}: {found} {expected}");
        }
    }
}

#[test]
fn a_learned_curve_has_a_lower_largest_training_loss_than_the_chord() {
    let (images, _) = digits("0", 800, 1);
    let data = Labelled::from(&images);
    let training = TrainSettings {
        epochs: 8.try_into().expect("in bounds"),
        batch: 16.try_into().expect("in bounds"),
        ..TrainSettings::new("12".parse().expect("widths"))
    };
    let [a, b] =
        ["a", "b"].map(|end| train(&training, "0", end, &data, &none(), ONE).expect("trained").net);
    let worst = |points: Vec<super::super::Point>| {
        points.iter().map(|point| point.loss).fold(0.0, f64::max)
    };
    let chord = Path::new(CURVES[0], Center::Zero, &a, &b).expect("equal shapes");
    let on_chord = worst(chord.measure(&grid(21), &data.images, &data.labels, ONE));
    for name in ["bezier", "chain:1", "chain:3"] {
        let settings = LearnSettings { fit: training.fit(), ..settings(name, 8) };
        let learned = learn(&settings, [&a, &b], NAMES, &data, &none(), ONE).expect("learned");
        let points = learned.controls.measure(&grid(21), &data.images, &data.labels, ONE);
        let on_curve = worst(points);
        assert!(on_curve < 0.8 * on_chord, "{name}: {on_curve} is not below {on_chord}");
    }
}

#[test]
fn what_cannot_be_learned_is_refused() {
    let shape = Shape::of(15, &[5, 4], 3, true);
    let ([a, b], data) = (ends(shape), labelled(20, shape));
    let refusal = |settings: LearnSettings, b: &Net, data: &Labelled| {
        learn(&settings, [&a, b], NAMES, data, &none(), ONE).expect_err("refused")
    };
    let other = shaped(Shape::of(15, &[5, 5], 3, true), "b");
    assert_eq!(
        refusal(settings("bezier", 1), &other, &data),
        "a net of shape `15-5x4-3 with biases` cannot be joined to one of shape `15-5x5-3 with \
         biases`"
    );
    let error = refusal(settings("bezier", 1), &b, &none());
    assert_eq!(error, "no training images are left");
    let shape = shapes()[0];
    let ([a, b], data) = (ends(shape), labelled(60, shape));
    let mut fast = settings("chain:3", 3);
    let rate = 1e30.try_into().expect("in bounds");
    fast.fit.optimizer = Optimizer::Sgd(Sgd { rate, ..Sgd::default() });
    let error = learn(&fast, [&a, &b], NAMES, &data, &none(), ONE).expect_err("refused");
    assert!(error.starts_with("training diverged in epoch 1"), "{error}");
}

#[test]
fn every_learned_curve_parses_back_from_its_name() {
    let names: Vec<String> = LearnedCurve::all().map(String::from).collect();
    assert_eq!(names[..3], ["bezier", "chain:1", "chain:2"]);
    assert_eq!((names.len(), names[9].as_str()), (10, "chain:9"));
    for (name, kind) in names.iter().zip(LearnedCurve::all()) {
        assert_eq!(name.parse(), Ok(kind));
        let read: LearnedCurve = serde_json::from_value(name.clone().into()).expect("known");
        assert_eq!(serde_json::to_value(read).expect("a string"), *name);
    }
    for name in ["chain", "chain:0", "chain:10", "bezier:1", "linear"] {
        assert!(name.parse::<LearnedCurve>().is_err(), "{name}");
    }
}
