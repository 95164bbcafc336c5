//! REPAIR: rescales the hidden neurons at each point of a curve (K. Jordan, H. Sedghi, O. Saukh, R.
//! Entezari, B. Neyshabur, REPAIR: REnormalizing Permuted Activations for Interpolation Repair,
//! ICLR 2023, arXiv 2211.08403).
//!
//! Between two nets, the pre-activations of hidden neurons vary less than in either, and even less
//! in each layer above. At t, each neuron is rescaled such that over some training images the mean
//! and the standard deviation of its pre-activation z are those between the ends:
//!
//! z' = (sigma_t / sigma) (z - mu) + mu_t, with mu_t = (1 - t) mu_A + t mu_B and sigma_t = (1 - t)
//! sigma_A + t sigma_B.
//!
//! mu and sigma are those of z at t, in the net that is rescaled already in the layers below; mu_A,
//! sigma_A, mu_B and sigma_B are those in A and in B. The row of incoming weights is multiplied by
//! sigma_t / sigma, and the bias changes accordingly. Without biases, z' = (sigma_t / sigma) z:
//! only the standard deviation is restored. A neuron whose z is the same on all images is not
//! changed, nor are the ends, nor the last layer.
//!
//! Statistics are sums in f64 over the images in order, of differences from the first image, so
//! that those of a constant neuron are exactly zero. Threads divide the points.

use super::layer::{Activations, Layer, Packed, Stack};
use super::measure::{Sweep, piece};
use super::{Joined, Path, Point};
use crate::kernel::parallel::parallel_for;
use crate::kernel::sparse::Sparse;
use crate::study::net::{Net, Quality, evaluate};
use std::num::NonZero;

/// What a repair does, in one sentence of plain text.
pub const DEFINITION: &str = "At each point of the curve, from the first layer upwards, the \
    pre-activation z of every hidden neuron becomes (sigma_t / sigma) (z - mu) + mu_t, or without \
    biases (sigma_t / sigma) z, where mu and sigma are its mean and standard deviation over \
    training images, mu_t = (1 - t) mu_A + t mu_B and sigma_t = (1 - t) sigma_A + t sigma_B \
    (Jordan et al., arXiv 2211.08403).";

/// A curve whose hidden neurons are rescaled at each point.
#[derive(Clone, Debug)]
pub struct Repaired<'a> {
    original: Joined<'a>,
    ts: Vec<f64>,
    /// The maps of each point; none where the net is not changed.
    maps: Vec<Option<Maps>>,
}

/// The maps of the pre-activations, by hidden layer and neuron.
type Maps = Vec<Vec<Map>>;

/// z' = scale z + shift.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Map {
    scale: f64,
    shift: f64,
}

/// The mean and the standard deviation of a pre-activation over images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    mean: f64,
    deviation: f64,
}

/// Rescales the nets at `ts` on a curve by the statistics of their pre-activations on `images` [n,
/// inputs]; the number of `threads` does not affect the bits.
///
/// # Errors
/// If there are no images, or a rescaled parameter is not finite.
///
/// # Panics
/// If the images do not fit the nets.
pub fn repair<'a>(
    original: Joined<'a>,
    ts: &[f64],
    images: &Sparse,
    threads: NonZero<usize>,
) -> Result<Repaired<'a>, String> {
    if images.rows() == 0 {
        return Err("a repair needs images".to_owned());
    }
    let mut workspaces = vec![Workspace::default(); threads.get()];
    let mut of_ends = [Vec::new(), Vec::new()];
    let ends = original.ends().into_iter().zip(&mut of_ends);
    parallel_for(&mut workspaces, ends, |work, (net, moments)| {
        *moments = (0..net.layers() - 1).map(|l| work.moments(net, l, images)).collect();
    });
    let mut maps = vec![None; ts.len()];
    let points = ts.iter().zip(&mut maps).filter(|(t, _)| !is_end(**t));
    parallel_for(&mut workspaces, points, |work, (&t, maps)| {
        *maps = Some(work.maps(original.point(t), t, &of_ends, images));
    });
    let repaired = Repaired { original, ts: ts.to_vec(), maps };
    for (&t, net) in ts.iter().zip(repaired.nets()) {
        if !net.params().iter().all(|w| w.is_finite()) {
            return Err(format!(
                "the net at t = {t} has parameters that are not finite numbers once its neurons \
                 are rescaled"
            ));
        }
    }
    Ok(repaired)
}

fn is_end(t: f64) -> bool {
    t == 0.0 || t == 1.0
}

impl Repaired<'_> {
    /// The rescaled net at each point, in order.
    pub fn nets(&self) -> impl Iterator<Item = Net> + '_ {
        (0..self.ts.len()).map(|point| self.net(point))
    }

    fn net(&self, point: usize) -> Net {
        let mut net = self.original.point(self.ts[point]);
        for (l, maps) in self.maps[point].iter().flatten().enumerate() {
            rescale(&mut net, l, maps);
        }
        net
    }

    /// Error and loss at each point, on `images` [n, inputs] with their `labels` `[n]`; the number
    /// of `threads` does not affect the bits. At the ends exactly those of the ends.
    ///
    /// # Panics
    /// As [`Path::measure`].
    pub fn measure(&self, images: &Sparse, labels: &[u16], threads: NonZero<usize>) -> Vec<Point> {
        match &self.original {
            Joined::ClosedForm(path) if !path.a.shape().biases => {
                self.measure_scales(path, images, labels, threads)
            }
            _ => self.measure_nets(images, labels, threads),
        }
    }

    /// By a forward pass of each net. Threads divide the points.
    fn measure_nets(&self, images: &Sparse, labels: &[u16], threads: NonZero<usize>) -> Vec<Point> {
        let mut points: Vec<Point> =
            self.ts.iter().map(|&t| Point { t, error: 0.0, loss: 0.0 }).collect();
        let items = points.iter_mut().enumerate();
        parallel_for(&mut vec![(); threads.get()], items, |(), (index, point)| {
            let Quality { error, loss } = evaluate(&self.net(index), images, labels);
            *point = Point { error, loss, ..*point };
        });
        points
    }

    /// Without biases: by the projections of the `path`. Since relu(s z) w = relu(z) (s w) for s >=
    /// 0, the scales of the first layer are factors of the weights above it.
    fn measure_scales(
        &self,
        path: &Path,
        images: &Sparse,
        labels: &[u16],
        threads: NonZero<usize>,
    ) -> Vec<Point> {
        let a = path.a;
        let ends = [a, path.b].map(|net| Layer::of(net, 0));
        let points: Vec<_> = self.ts.iter().map(|&t| (t, t)).collect();
        let sweep = Sweep {
            below: Stack::of(a, 0),
            moving: path.moving(0, ends, &Vec::from_iter(0..a.width(0))),
            points: &points,
            layers: a.layers(),
            above: &|point: usize, l: usize| self.above(path.layer(l, self.ts[point]), point, l),
            classes: a.shape().classes,
        };
        sweep.measure(images, labels, threads)
    }

    /// The `layer` `l` of a net without biases, rescaled; the scales of the first layer are factors
    /// of the second.
    fn above(&self, mut layer: Layer<'static>, point: usize, l: usize) -> Layer<'static> {
        let Some(maps) = &self.maps[point] else { return layer };
        let fan_in = layer.fan_in();
        for (j, row) in layer.weights.to_mut().chunks_exact_mut(fan_in).enumerate() {
            let scale = maps.get(l).map_or(1.0, |maps| maps[j].scale);
            let below = |i: usize| if l == 1 { maps[0][i].scale } else { 1.0 };
            for (i, w) in row.iter_mut().enumerate() {
                *w = (f64::from(*w) * scale * below(i)) as f32;
            }
        }
        layer
    }
}

/// Applies the `maps` of its neurons to the hidden layer `l`. Without biases there are no shifts.
fn rescale(net: &mut Net, l: usize, maps: &[Map]) {
    let fan_in = net.shape().fan_in(l);
    for (row, map) in net.weights_mut(l).chunks_exact_mut(fan_in).zip(maps) {
        row.iter_mut().for_each(|w| *w = (map.scale * f64::from(*w)) as f32);
    }
    for (bias, map) in net.biases_mut(l).iter_mut().zip(maps) {
        *bias = (map.scale * f64::from(*bias) + map.shift) as f32;
    }
}

/// What a thread needs for the statistics of a layer.
#[derive(Clone, Default)]
struct Workspace {
    activations: Activations,
    /// The pre-activations of some images.
    z: Vec<f32>,
}

impl Workspace {
    /// The maps of every hidden layer of `net`, which is psi(t).
    fn maps(&mut self, mut net: Net, t: f64, ends: &[Vec<Vec<Moments>>; 2], x: &Sparse) -> Maps {
        let has_biases = net.shape().biases;
        let mut maps = Maps::new();
        for l in 0..net.layers() - 1 {
            let [a, b] = [0, 1].map(|end| ends[end][l].iter());
            let between = self.moments(&net, l, x).into_iter().zip(a.zip(b));
            let of_layer = between.map(|(found, (a, b))| {
                let straight = |a: f64, b: f64| (1.0 - t) * a + t * b;
                let mean = straight(a.mean, b.mean);
                found.map_to(Moments { mean, deviation: straight(a.deviation, b.deviation) })
            });
            let of_layer = of_layer.map(|map| match has_biases {
                true => map,
                false => Map { shift: 0.0, ..map },
            });
            maps.push(of_layer.collect());
            rescale(&mut net, l, &maps[l]);
        }
        maps
    }

    /// The statistics of the pre-activations of the hidden layer `l` on the images `x`.
    fn moments(&mut self, net: &Net, l: usize, x: &Sparse) -> Vec<Moments> {
        let (below, layer) = (Stack::of(net, l), Packed::of(&Layer::of(net, l)));
        let (n, width) = (x.rows(), net.width(l));
        let mut first = Vec::new();
        let mut sums = vec![[0.0; 2]; width];
        // As many images as one thread of several projects at once elsewhere.
        let images = piece(NonZero::<usize>::MIN);
        for start in (0..n).step_by(images) {
            let rows = start..n.min(start + images);
            self.z.resize(rows.len() * width, 0.0);
            layer.apply(below.apply(x, rows, &mut self.activations), &mut self.z);
            if start == 0 {
                first = self.z[..width].iter().map(|&z| f64::from(z)).collect();
            }
            for row in self.z.chunks_exact(width) {
                for ((&z, first), [sum, squares]) in row.iter().zip(&first).zip(&mut sums) {
                    let difference = f64::from(z) - first;
                    *sum += difference;
                    *squares += difference * difference;
                }
            }
        }
        let n = n as f64;
        let moments = first.into_iter().zip(sums).map(|(first, [sum, squares])| {
            let mean = sum / n;
            let variance = squares / n - mean * mean;
            Moments { mean: first + mean, deviation: variance.max(0.0).sqrt() }
        });
        moments.collect()
    }
}

impl Moments {
    /// The map after which a pre-activation of these statistics has those of `target`; the identity
    /// if it is constant.
    fn map_to(self, target: Moments) -> Map {
        if self.deviation == 0.0 {
            return Map { scale: 1.0, shift: 0.0 };
        }
        let scale = target.deviation / self.deviation;
        Map { scale, shift: target.mean - scale * self.mean }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{images_of, shaped};
    use super::super::permutation::Permutations;
    use super::super::{Basis, CURVES, Center, Controls, Curve, curve, grid};
    use super::*;
    use crate::kernel::test::{bits, on_every_isa};
    use crate::study::net::Shape;
    use crate::study::rng;

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;
    /// More than two pieces, the last one ragged.
    const IMAGES: usize = 600;

    /// Nets of one to three layers of neurons, with and without biases.
    fn shapes() -> Vec<Shape> {
        vec![
            Shape::talk(21),
            Shape::of(50, &[19], 3, true),
            Shape::of(50, &[14, 12], 10, false),
            Shape::of(40, &[12, 23, 14], 20, true),
        ]
    }

    fn curves_and_centers() -> impl Iterator<Item = (&'static dyn Curve, Center)> {
        CURVES.iter().flat_map(|&curve| Center::ALL.iter().map(move |&center| (curve, center)))
    }

    fn ends(shape: Shape) -> [Net; 2] {
        ["a", "b"].map(|end| shaped(shape, end))
    }

    /// The mean and standard deviation of each neuron of the hidden layer `l`, by a forward pass
    /// and two passes over its results in f64.
    fn naive(net: &Net, l: usize, x: &Sparse) -> Vec<Moments> {
        let shape = net.shape();
        let z = (0..x.rows()).map(|i| {
            let mut input = vec![0.0; shape.inputs];
            x.row(i).for_each(|(column, x)| input[column] = f64::from(x));
            for k in 0..=l {
                let rows = net.weights(k).chunks(shape.fan_in(k));
                let sums = rows.map(|row| -> f64 {
                    row.iter().zip(&input).map(|(&w, x)| f64::from(w) * x).sum()
                });
                let mut sums: Vec<f64> = sums.collect();
                sums.iter_mut().zip(net.biases(k)).for_each(|(sum, &b)| *sum += f64::from(b));
                if k < l {
                    sums.iter_mut().for_each(|z| *z = z.max(0.0));
                }
                input = sums;
            }
            input
        });
        let (z, n): (Vec<Vec<f64>>, f64) = (z.collect(), x.rows() as f64);
        let moments = (0..shape.fan_out(l)).map(|j| {
            let mean = z.iter().map(|z| z[j]).sum::<f64>() / n;
            let variance = z.iter().map(|z| (z[j] - mean).powi(2)).sum::<f64>() / n;
            Moments { mean, deviation: variance.sqrt() }
        });
        moments.collect()
    }

    #[test]
    fn every_neuron_has_the_statistics_between_those_of_the_ends() {
        for shape in shapes() {
            let (x, _) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [a, b] = ends(shape);
            let depth = shape.widths.depth();
            let of_ends = [&a, &b].map(|net| (0..depth).map(|l| naive(net, l, &x)).collect());
            let [of_a, of_b]: [Vec<_>; 2] = of_ends;
            for (curve, center) in curves_and_centers() {
                let path = Path::new(curve, center, &a, &b).expect("equal shapes");
                let repaired = repair(Joined::ClosedForm(path.clone()), &[0.25, 0.6], &x, ONE)
                    .expect("finite");
                for (t, net) in [0.25, 0.6].into_iter().zip(repaired.nets()) {
                    for l in 0..depth {
                        let found = naive(&net, l, &x);
                        for ((found, a), b) in found.iter().zip(&of_a[l]).zip(&of_b[l]) {
                            let case = format!("{shape} {curve:?} {center:?} {t} {l} {found:?}");
                            let deviation = (1.0 - t) * a.deviation + t * b.deviation;
                            let near = |x: f64, y: f64| (x - y).abs() < 1e-5 * deviation;
                            assert!(near(found.deviation, deviation), "{case}");
                            let mean = (1.0 - t) * a.mean + t * b.mean;
                            assert!(!shape.biases || near(found.mean, mean), "{case}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_ends_are_a_and_b_bit_for_bit_and_have_exactly_their_quality() {
        for shape in shapes() {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [mut a, mut b] = ends(shape);
            // Includes the sign of a zero.
            [&mut a, &mut b].into_iter().for_each(|net| net.params_mut()[0] = -0.0);
            for (curve, center) in curves_and_centers() {
                let path = Path::new(curve, center, &a, &b).expect("equal shapes");
                let repaired =
                    repair(Joined::ClosedForm(path.clone()), &grid(3), &x, ONE).expect("finite");
                let nets: Vec<Net> = repaired.nets().collect();
                let points = repaired.measure(&x, &labels, ONE);
                for (end, index) in [(&a, 0), (&b, 2)] {
                    assert_eq!(bits(nets[index].params()), bits(end.params()), "{shape}");
                    let Point { error, loss, .. } = points[index];
                    assert_eq!(Quality { error, loss }, evaluate(end, &x, &labels), "{shape}");
                }
            }
        }
    }

    #[test]
    fn the_curve_is_continuous_at_its_ends() {
        for shape in shapes() {
            let (x, _) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [a, b] = ends(shape);
            let path = Path::new(CURVES[0], Center::Neurons, &a, &b).expect("equal shapes");
            let repaired =
                repair(Joined::ClosedForm(path.clone()), &[0.0, 1e-5, 1.0 - 1e-5, 1.0], &x, ONE)
                    .expect("finite");
            let nets: Vec<Net> = repaired.nets().collect();
            for (one, other) in [(&nets[0], &nets[1]), (&nets[3], &nets[2])] {
                for (x, y) in one.params().iter().zip(other.params()) {
                    assert!((x - y).abs() < 1e-4, "{shape}: {x} {y}");
                }
            }
        }
    }

    #[test]
    fn measurements_are_those_of_a_forward_pass_of_each_net() {
        for shape in shapes() {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [a, b] = ends(shape);
            for (curve, center) in curves_and_centers() {
                let path = Path::new(curve, center, &a, &b).expect("equal shapes");
                let repaired =
                    repair(Joined::ClosedForm(path.clone()), &grid(5), &x, ONE).expect("finite");
                let points = repaired.measure(&x, &labels, ONE);
                assert_eq!(points.iter().map(|point| point.t).collect::<Vec<_>>(), grid(5));
                for (point, net) in points.iter().zip(repaired.nets()) {
                    let reference = evaluate(&net, &x, &labels);
                    let case = format!("{shape} {curve:?} {center:?} {point:?} {reference:?}");
                    assert!((point.loss / reference.loss - 1.0).abs() < 1e-5, "{case}");
                    let difference = (point.error - reference.error).abs();
                    assert!(difference < 150.0 / IMAGES as f64, "{case}");
                }
            }
        }
    }

    #[test]
    fn a_curve_of_control_nets_is_repaired_between_its_ends() {
        for shape in shapes() {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let nets = ["a", "bend", "b"].map(|net| shaped(shape, net)).to_vec();
            let curve = Controls::new(Basis::Bezier, nets).expect("equal shapes");
            let repaired =
                repair(Joined::Controls(curve.clone()), &grid(3), &x, ONE).expect("finite");
            let nets: Vec<Net> = repaired.nets().collect();
            let [a, b] = [0, 2].map(|k| &curve.nets()[k]);
            assert_eq!([&nets[0], &nets[2]], [a, b]);
            let of = |net| naive(net, 0, &x);
            for ((found, a), b) in of(&nets[1]).iter().zip(of(a)).zip(of(b)) {
                let deviation = 0.5 * (a.deviation + b.deviation);
                assert!((found.deviation / deviation - 1.0).abs() < 1e-5, "{shape}");
            }
            for (point, net) in repaired.measure(&x, &labels, ONE).iter().zip(&nets) {
                let Point { error, loss, .. } = *point;
                assert_eq!(Quality { error, loss }, evaluate(net, &x, &labels), "{shape}");
            }
        }
    }

    #[test]
    fn a_permutation_of_both_nets_does_not_change_the_curve() {
        for shape in shapes() {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [a, b] = ends(shape);
            let mut order = Permutations::identity(shape);
            order.shuffle(&mut rng::stream("0", "order"));
            let [c, d] = [&a, &b].map(|net| order.apply(net).expect("the same shape"));
            for (curve, center) in curves_and_centers() {
                let measured = |a, b| {
                    let path = Path::new(curve, center, a, b).expect("equal shapes");
                    let repaired = repair(Joined::ClosedForm(path.clone()), &grid(4), &x, ONE)
                        .expect("finite");
                    repaired.measure(&x, &labels, ONE)
                };
                for (plain, permuted) in measured(&a, &b).iter().zip(&measured(&c, &d)) {
                    let case = format!("{shape} {curve:?} {plain:?} {permuted:?}");
                    assert!((plain.loss / permuted.loss - 1.0).abs() < 1e-4, "{case}");
                }
            }
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads_or_the_isa() {
        for shape in shapes() {
            let (x, labels) = images_of(IMAGES, shape.inputs, shape.classes as u32);
            let [a, b] = ends(shape);
            let path = Path::new(CURVES[1], Center::Neurons, &a, &b).expect("equal shapes");
            let on = |threads| {
                let threads = NonZero::new(threads).expect("some");
                let repaired = repair(Joined::ClosedForm(path.clone()), &grid(4), &x, threads)
                    .expect("finite");
                let nets: Vec<_> = repaired.nets().map(|net| bits(net.params())).collect();
                (nets, repaired.measure(&x, &labels, threads))
            };
            let expected = on(1);
            assert!(on(2) == expected && on(5) == expected, "{shape}");
            on_every_isa(|isa| assert!(on(1) == expected, "{shape} {isa:?}"));
        }
    }

    #[test]
    fn constant_neurons_are_not_changed() {
        // Neuron 0 is constant at every t, neuron 1 only in A and B.
        for biases in [false, true] {
            let shape = Shape::of(30, &[6, 5], 4, biases);
            let (x, _) = images_of(100, 30, 4);
            let [mut a, mut b] = ends(shape);
            for net in [&mut a, &mut b] {
                net.weights_mut(0)[..60].fill(0.0);
            }
            let linear = Path::new(CURVES[0], Center::Neurons, &a, &b).expect("equal shapes");
            let plain = linear.point(0.5);
            let repaired =
                repair(Joined::ClosedForm(linear.clone()), &[0.5], &x, ONE).expect("finite");
            let net = repaired.nets().next().expect("one");
            assert_eq!(net.weights(0)[..60], plain.weights(0)[..60]);
            assert_eq!(net.biases(0).get(..2), plain.biases(0).get(..2));
            assert_ne!(net.weights(0)[60..], plain.weights(0)[60..]);
        }
    }

    #[test]
    fn the_middle_of_a_line_between_independent_nets_varies_less_and_is_scaled_up() {
        let shape = Shape::of(40, &[60, 60], 10, true);
        let (x, _) = images_of(IMAGES, 40, 10);
        let [a, b] = ends(shape);
        let linear = curve("linear").expect("known");
        let path = Path::new(linear, Center::Neurons, &a, &b).expect("equal shapes");
        let repaired = repair(Joined::ClosedForm(path.clone()), &[0.5], &x, ONE).expect("finite");
        let mean_scale = |l: usize| {
            let maps = &repaired.maps[0].as_ref().expect("not an end")[l];
            maps.iter().map(|map| map.scale).sum::<f64>() / maps.len() as f64
        };
        // Independent rows: the standard deviation falls by the square root of 2.
        assert!((mean_scale(0) - 2f64.sqrt()).abs() < 0.15, "{}", mean_scale(0));
        assert!(mean_scale(1) > 1.2, "{}", mean_scale(1));
    }

    #[test]
    fn a_repair_without_images_is_refused() {
        let [a, b] = ends(Shape::talk(3));
        let path = Path::new(CURVES[0], Center::Neurons, &a, &b).expect("equal shapes");
        let error =
            repair(Joined::ClosedForm(path.clone()), &grid(3), &Sparse::with_columns(784), ONE)
                .expect_err("refused");
        assert_eq!(error, "a repair needs images");
    }
}
