//! Ensembles: the mean of the probabilities that several nets predict, and its calibration.
//!
//! p(c | x) = (1/K) sum_k softmax(f_k(x))_c, the average of B. Lakshminarayanan, A. Pritzel and
//! C. Blundell (*Simple and scalable predictive uncertainty estimation using deep ensembles*,
//! NeurIPS 2017), also that of Garipov et al. (arXiv 1802.10026). Logits are f32; everything after
//! them is f64, each sum in ascending order: over classes, over members, then over images.
//!
//! This file does not depend on where the members come from.

use super::{BLOCK, Forward, Net};
use crate::kernel::parallel::parallel_for;
use crate::kernel::sparse::Sparse;
use std::num::NonZero;

/// The number of bins of confidence.
pub const BINS: usize = 15;

/// The quality of an ensemble on some images; NaN if there are none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EnsembleQuality {
    /// Misclassified images, in %.
    pub error: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
    /// The expected calibration error, in percentage points.
    ///
    /// The confidence of a prediction is its probability. Images are divided by confidence into
    /// [`BINS`] bins of equal width, the m-th of which is ((m - 1)/15, m/15]. Each bin's difference
    /// between the share of correct predictions and the mean confidence counts by its share of the
    /// images: sum_m |B_m|/n |acc(B_m) - conf(B_m)| (C. Guo, G. Pleiss, Y. Sun and K. Weinberger,
    /// *On calibration of modern neural networks*, ICML 2017).
    pub ece: f64,
}

impl EnsembleQuality {
    /// The arithmetic mean of two qualities.
    pub fn mean(self, other: EnsembleQuality) -> EnsembleQuality {
        EnsembleQuality {
            error: (self.error + other.error) / 2.0,
            loss: (self.loss + other.loss) / 2.0,
            ece: (self.ece + other.ece) / 2.0,
        }
    }
}

/// An ensemble's prediction for one image.
#[derive(Clone, Copy, Debug, Default)]
struct Prediction {
    /// The probability of the predicted class; of equal ones, the lowest class is predicted.
    confidence: f64,
    is_correct: bool,
    /// Cross-entropy, in nats.
    loss: f64,
}

/// What a thread needs for the images of a block.
#[derive(Clone, Default)]
struct Workspace {
    hidden: Vec<Vec<f32>>,
    logits: Vec<f32>,
    /// The probabilities by each net, [n, classes].
    probabilities: Vec<Vec<f64>>,
    /// The logarithm of the label's probability by each net, `[n]`.
    of_label: Vec<Vec<f64>>,
    /// The sum over members, `[classes]`.
    sums: Vec<f64>,
}

/// The quality of each of `ensembles`, lists of indices of `nets`, on `images` [n, inputs] with
/// their `labels` `[n]`. Each net reads the images once. The number of `threads` does not affect
/// the bits; the order of an ensemble's members affects them by rounding alone.
///
/// # Panics
/// If the numbers of images and labels differ, the images do not fit the nets, a label is not one
/// of the nets' classes, or an ensemble has no members or one that is not among the nets.
pub fn measure_ensembles(
    nets: &[Net],
    ensembles: &[Vec<usize>],
    images: &Sparse,
    labels: &[u16],
    threads: NonZero<usize>,
) -> Vec<EnsembleQuality> {
    assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
    assert!(ensembles.iter().all(|members| !members.is_empty()), "an ensemble has no members");
    let forwards: Vec<Forward> = nets.iter().map(Forward::of).collect();
    let count = ensembles.len();
    let mut predictions = vec![Prediction::default(); labels.len() * count];
    let blocks = predictions.chunks_mut((BLOCK * count).max(1)).zip(labels.chunks(BLOCK));
    let mut workspaces = vec![Workspace::default(); threads.get()];
    parallel_for(&mut workspaces, blocks.enumerate(), |work, (block, (predictions, labels))| {
        work.predict(nets, &forwards, images, block * BLOCK, labels);
        for (image, predictions) in predictions.chunks_exact_mut(count).enumerate() {
            for (prediction, members) in predictions.iter_mut().zip(ensembles) {
                *prediction = work.combine(members, image, labels[image]);
            }
        }
    });
    let of_ensemble = |e: usize| quality(predictions.iter().skip(e).step_by(count).copied());
    (0..count).map(of_ensemble).collect()
}

impl Workspace {
    /// The probabilities by each net for the images from `first` on, one per label.
    fn predict(
        &mut self,
        nets: &[Net],
        forwards: &[Forward],
        images: &Sparse,
        first: usize,
        labels: &[u16],
    ) {
        let n = labels.len();
        self.probabilities.resize(nets.len(), Vec::new());
        self.of_label.resize(nets.len(), Vec::new());
        for (k, (net, forward)) in nets.iter().zip(forwards).enumerate() {
            let classes = net.shape().classes;
            self.logits.resize(n * classes, 0.0);
            forward.outputs(images, first..first + n, &mut self.hidden, &mut self.logits);
            let (probabilities, of_label) = (&mut self.probabilities[k], &mut self.of_label[k]);
            probabilities.resize(n * classes, 0.0);
            of_label.clear();
            let rows =
                self.logits.chunks_exact(classes).zip(probabilities.chunks_exact_mut(classes));
            for ((logits, probabilities), &label) in rows.zip(labels) {
                of_label.push(softmax(logits, probabilities, label));
            }
        }
    }

    /// The mean of the probabilities by `members` for one image of the block.
    fn combine(&mut self, members: &[usize], image: usize, label: u16) -> Prediction {
        let classes = self.probabilities[members[0]].len() / self.of_label[members[0]].len();
        self.sums.clear();
        self.sums.resize(classes, 0.0);
        for &member in members {
            let row = &self.probabilities[member][image * classes..][..classes];
            self.sums.iter_mut().zip(row).for_each(|(sum, p)| *sum += p);
        }
        let better = |best, class| if self.sums[class] > self.sums[best] { class } else { best };
        let best = (1..classes).fold(0, better);
        // By logarithms, so that probabilities which are all rounded to zero have a finite loss.
        let logs = || members.iter().map(|&member| self.of_label[member][image]);
        let largest = logs().fold(f64::NEG_INFINITY, f64::max);
        let sum = logs().fold(0.0, |sum, log| sum + libm::exp(log - largest));
        let count = members.len() as f64;
        Prediction {
            confidence: self.sums[best] / count,
            is_correct: best == usize::from(label),
            loss: libm::log(count) - (largest + libm::log(sum)),
        }
    }
}

/// Sets `probabilities` to the softmax of `logits`, both `[classes]`, and returns the logarithm of
/// that of `label`.
fn softmax(logits: &[f32], probabilities: &mut [f64], label: u16) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted = |logit: f32| f64::from(logit) - f64::from(largest);
    let mut sum = 0.0;
    for (p, &logit) in probabilities.iter_mut().zip(logits) {
        *p = libm::exp(shifted(logit));
        sum += *p;
    }
    probabilities.iter_mut().for_each(|p| *p /= sum);
    shifted(logits[usize::from(label)]) - libm::log(sum)
}

/// The index of the bin of a confidence.
fn bin(confidence: f64) -> usize {
    // A mean of probabilities may exceed 1 by its rounding.
    (libm::ceil(confidence * BINS as f64) as usize).clamp(1, BINS) - 1
}

/// Error, cross-entropy and calibration, summed image by image.
fn quality(predictions: impl Iterator<Item = Prediction>) -> EnsembleQuality {
    let (mut n, mut wrong, mut loss) = (0_usize, 0_usize, 0.0);
    // Correct predictions minus the sum of the confidences, by bin.
    let mut gaps = [(0_usize, 0.0); BINS];
    for Prediction { confidence, is_correct, loss: of_image } in predictions {
        n += 1;
        wrong += usize::from(!is_correct);
        loss += of_image;
        let (correct, sum) = &mut gaps[bin(confidence)];
        *correct += usize::from(is_correct);
        *sum += confidence;
    }
    let gap = gaps.iter().fold(0.0, |all, (correct, sum)| all + (*correct as f64 - sum).abs());
    let n = n as f64;
    EnsembleQuality { error: 100.0 * wrong as f64 / n, loss: loss / n, ece: 100.0 * gap / n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::net::{Shape, evaluate};
    use crate::study::rng;
    use proptest::prelude::*;

    const ONE: NonZero<usize> = NonZero::new(1).unwrap();

    /// A net of one hidden neuron per class that passes its input on: its logits are `scale` times
    /// the inputs.
    fn passing(classes: usize, scale: f32) -> Net {
        let mut net = Net::zeros(Shape::of(classes, &[classes], classes, false));
        for c in 0..classes {
            net.weights_mut(0)[c * classes + c] = scale;
            net.weights_mut(1)[c * classes + c] = 1.0;
        }
        net
    }

    /// Nets and images, at random.
    fn random(shape: Shape, count: usize, n: usize) -> (Vec<Net>, Sparse, Vec<u16>) {
        let net = |k: usize| {
            let mut rng = rng::stream("ensemble", &format!("net {k}"));
            let mut net = Net::zeros(shape);
            net.params_mut().iter_mut().for_each(|w| *w = rng::normal(&mut rng) as f32);
            net
        };
        let mut rng = rng::stream("ensemble", "images");
        let pixels: Vec<u8> =
            (0..n * shape.inputs).map(|_| rng::below(&mut rng, 256) as u8).collect();
        let labels = (0..n).map(|_| rng::below(&mut rng, shape.classes as u32) as u16).collect();
        ((0..count).map(net).collect(), Sparse::from_pixels(&pixels, shape.inputs), labels)
    }

    /// The definitions, from probabilities by image and class.
    fn reference(probabilities: &[Vec<f64>], labels: &[u16]) -> EnsembleQuality {
        let n = labels.len() as f64;
        let (mut error, mut loss, mut ece) = (0.0, 0.0, 0.0);
        let predicted: Vec<(usize, f64)> = probabilities
            .iter()
            .map(|p| {
                let largest = p.iter().copied().fold(0.0, f64::max);
                (p.iter().position(|&x| x == largest).unwrap(), largest)
            })
            .collect();
        for ((p, (class, _)), &label) in probabilities.iter().zip(&predicted).zip(labels) {
            error += if *class == usize::from(label) { 0.0 } else { 100.0 / n };
            loss -= p[usize::from(label)].ln() / n;
        }
        for m in 1..=15 {
            let (low, high) = (f64::from(m - 1) / 15.0, f64::from(m) / 15.0);
            let inside: Vec<usize> = (0..labels.len())
                .filter(|&i| low < predicted[i].1 && (predicted[i].1 <= high || m == 15))
                .collect();
            if inside.is_empty() {
                continue;
            }
            let size = inside.len() as f64;
            let correct = inside.iter().filter(|&&i| predicted[i].0 == usize::from(labels[i]));
            let accuracy = correct.count() as f64 / size;
            let confidence = inside.iter().map(|&i| predicted[i].1).sum::<f64>() / size;
            ece += 100.0 * size / n * (accuracy - confidence).abs();
        }
        EnsembleQuality { error, loss, ece }
    }

    #[track_caller]
    fn close(found: EnsembleQuality, expected: EnsembleQuality) {
        let pairs =
            [(found.error, expected.error), (found.loss, expected.loss), (found.ece, expected.ece)];
        let is_close = |(x, y): (f64, f64)| (x - y).abs() <= 1e-9 * y.abs().max(1.0);
        assert!(pairs.into_iter().all(is_close), "{found:?}, not {expected:?}");
    }

    /// Logits (s, 0) have the probabilities (e^s, 1)/(e^s + 1): 3/4 for s = ln 3, and 9/10 for
    /// s = ln 9.
    #[test]
    fn two_nets_on_two_images_have_the_values_computed_by_hand() {
        // Logits of both images under the nets: (ln 3, 0) and (0, ln 3); (ln 9, 0) and (0, ln 9).
        let nets = [3.0_f32, 9.0].map(|x| passing(2, x.ln()));
        let images = Sparse::from_pixels(&[255, 0, 0, 255], 2);
        let found =
            measure_ensembles(&nets, &[vec![0], vec![1], vec![0, 1]], &images, &[0, 0], ONE);
        // The first image is right with p, the second one wrong with the same confidence: in one
        // bin, the share of correct ones is 1/2.
        let expected = |p: f64| EnsembleQuality {
            error: 50.0,
            loss: -(p.ln() + (1.0 - p).ln()) / 2.0,
            ece: 100.0 * (p - 0.5),
        };
        for (found, p) in found.into_iter().zip([0.75, 0.9, 0.825]) {
            let expected = expected(p);
            assert!((found.error - expected.error).abs() < 1e-12, "{found:?}");
            assert!((found.loss - expected.loss).abs() < 1e-6, "{found:?}, not {expected:?}");
            assert!((found.ece - expected.ece).abs() < 1e-4, "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn a_confidence_at_the_edge_of_two_bins_belongs_to_the_lower_one() {
        let bins = [0.0, 1e-9, 1.0 / 15.0, 0.0667, 0.2, 0.99, 1.0, 1.0 + 1e-15].map(bin);
        assert_eq!(bins, [0, 0, 0, 1, 2, 14, 14, 14]);
    }

    /// 0.9 and 0.8 are in different bins: |1 - 0.9| / 4 + |1 + 0 + 0 - 2.4| / 4.
    #[test]
    fn the_calibration_error_weights_each_bin_by_its_images() {
        let of = |(confidence, is_correct)| Prediction { confidence, is_correct, loss: 1.0 };
        let predictions = [(0.9, true), (0.8, true), (0.8, false), (0.8, false)].map(of);
        let found = quality(predictions.into_iter());
        close(found, EnsembleQuality { error: 50.0, loss: 1.0, ece: 100.0 * (0.1 + 1.4) / 4.0 });
        let overconfident = [(1.0, false); 3].map(of);
        assert_eq!(quality(overconfident.into_iter()).ece, 100.0);
        let calibrated = [(0.5, true), (0.5, false)].map(of);
        assert_eq!(quality(calibrated.into_iter()).ece, 0.0);
    }

    #[test]
    fn an_image_that_no_member_explains_has_a_finite_loss() {
        let nets = [passing(2, 1e30), passing(2, 1e30)];
        let images = Sparse::from_pixels(&[255, 0], 2);
        let found = measure_ensembles(&nets, &[vec![0, 1]], &images, &[1], ONE)[0];
        assert!((found.loss / 1e30 - 1.0).abs() < 1e-6, "{found:?}");
        assert_eq!((found.error, found.ece), (100.0, 100.0));
    }

    #[test]
    fn an_ensemble_without_images_has_no_quality() {
        let (nets, ..) = random(Shape::talk(3), 1, 0);
        let found = measure_ensembles(&nets, &[vec![0]], &Sparse::with_columns(784), &[], ONE)[0];
        assert!([found.error, found.loss, found.ece].iter().all(|x| x.is_nan()), "{found:?}");
    }

    #[test]
    fn the_number_of_threads_does_not_affect_the_bits() {
        let (nets, images, labels) = random(Shape::talk(7), 3, 2 * BLOCK + 5);
        let ensembles = [vec![0], vec![2, 0, 1]];
        let bits = |threads: usize| -> Vec<u64> {
            let threads = NonZero::new(threads).unwrap();
            let found = measure_ensembles(&nets, &ensembles, &images, &labels, threads);
            found.iter().flat_map(|q| [q.error, q.loss, q.ece].map(f64::to_bits)).collect()
        };
        assert_eq!(bits(1), bits(2));
        assert_eq!(bits(1), bits(5));
    }

    #[test]
    #[should_panic(expected = "an ensemble has no members")]
    fn an_ensemble_without_members_is_refused() {
        let (nets, images, labels) = random(Shape::talk(3), 1, 1);
        measure_ensembles(&nets, &[vec![]], &images, &labels, ONE);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn ensembles_agree_with_the_definitions_in_any_order_and_one_net_with_its_own_quality(
            inputs in 1usize..12,
            widths in prop::collection::vec(1usize..7, 1..4),
            classes in 2usize..13,
            biases: bool,
            count in 1usize..5,
            n in 1usize..60,
        ) {
            let (nets, images, labels) =
                random(Shape::of(inputs, &widths, classes, biases), count, n);
            let all: Vec<usize> = (0..count).collect();
            let reversed: Vec<usize> = all.iter().rev().copied().collect();
            let ensembles = [vec![0], all.clone(), reversed];
            let found = measure_ensembles(&nets, &ensembles, &images, &labels, ONE);

            let one = evaluate(&nets[0], &images, &labels);
            prop_assert_eq!(found[0].error, one.error);
            prop_assert!((found[0].loss - one.loss).abs() <= 1e-6 * one.loss.max(1.0));

            // Probabilities of each image, by the definition.
            let mean = |i: usize| -> Vec<f64> {
                let mut mean = vec![0.0; classes];
                for net in &nets {
                    let (mut hidden, mut logits) = (Vec::new(), vec![0.0; classes]);
                    Forward::of(net).outputs(&images, i..i + 1, &mut hidden, &mut logits);
                    let exp: Vec<f64> = logits.iter().map(|&z| f64::from(z).exp()).collect();
                    let sum: f64 = exp.iter().sum();
                    mean.iter_mut().zip(exp).for_each(|(p, x)| *p += x / sum / count as f64);
                }
                mean
            };
            let probabilities: Vec<Vec<f64>> = (0..n).map(mean).collect();
            if probabilities.iter().flatten().all(|p| *p > 1e-200 && p.is_finite()) {
                close(found[1], reference(&probabilities, &labels));
            }
            close(found[2], found[1]);
        }
    }
}
