//! Nets, their training, and their quality.

mod autodiff;
mod engine;
mod engine_kind;
mod init;
mod kernel_engine;
mod mlp;
mod optimizer;
mod prior;
mod train;

pub use engine::{Batch, BatchStats, Engine};
pub use engine_kind::EngineKind;
pub use init::Init;
pub use mlp::{CLASSES, INPUTS, Mlp};
pub use optimizer::{Adam, Optimizer, Sgd, lr_factor};
pub use prior::{DropoutMask, Prior, PriorKind};
pub use train::{EpochRecord, TrainError, TrainSettings, Trained, train};

use crate::kernel::dense::{logits, relu};
use crate::kernel::product::{Panels, project};
use crate::kernel::softmax::cross_entropy;
use crate::kernel::sparse::Sparse;
use std::ops::Range;

/// Images whose activations are in memory at once: 4 MB at h = 2000.
const BLOCK: usize = 512;

/// The quality of a net on some images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Misclassified images, in %.
    pub error: f64,
    /// Mean cross-entropy, in nats.
    pub loss: f64,
}

impl Quality {
    /// From the sum of losses and the number of misclassified images out of `images`; NaN if there
    /// are none.
    pub fn of_sums(loss: f64, wrong: usize, images: usize) -> Quality {
        Quality { error: 100.0 * wrong as f64 / images as f64, loss: loss / images as f64 }
    }
}

/// Error and loss of `net` on `images` `[n, 784]` with their `labels` `[n]`; NaN if there are none.
///
/// # Panics
/// If the numbers of images and labels differ.
pub fn evaluate(net: &Mlp, images: &Sparse, labels: &[u8]) -> Quality {
    pass(net, images, labels, |_| ())
}

/// Signs that a prior has made a net collapse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// Square root of the sum of squares of W1.
    pub norm_w1: f64,
    /// Square root of the sum of squares of W2.
    pub norm_w2: f64,
    /// Neurons that fire on at least one image.
    pub active_neurons: usize,
}

/// As [`evaluate`], and the health of `net` on the same images.
///
/// # Panics
/// If the numbers of images and labels differ.
pub fn examine(net: &Mlp, images: &Sparse, labels: &[u8]) -> (Quality, Health) {
    let mut fires = vec![false; net.hidden()];
    let quality = pass(net, images, labels, |activations| {
        for (fires, &a) in fires.iter_mut().zip(activations) {
            *fires |= a > 0.0;
        }
    });
    let norm =
        |layer: &[f32]| layer.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
    let health = Health {
        norm_w1: norm(net.w1()),
        norm_w2: norm(net.w2()),
        active_neurons: fires.into_iter().filter(|&fires| fires).count(),
    };
    (quality, health)
}

/// A net in the layout of forward passes.
pub(super) struct Forward<'a> {
    net: &'a Mlp,
    w1: Panels,
}

impl<'a> Forward<'a> {
    pub(super) fn of(net: &'a Mlp) -> Forward<'a> {
        Forward { net, w1: Panels::pack(net.w1(), net.hidden(), INPUTS) }
    }

    /// Sets `hidden` [n, h] to the activations on the images `rows`.
    pub(super) fn hidden(&self, images: &Sparse, rows: Range<usize>, hidden: &mut Vec<f32>) {
        hidden.resize(rows.len() * self.net.hidden(), 0.0);
        project(images, rows, &self.w1, hidden);
        relu(hidden);
    }

    /// Sets `outputs` [n, 10] to the logits on the images `rows`, and `hidden` to the activations.
    pub(super) fn outputs(
        &self,
        images: &Sparse,
        rows: Range<usize>,
        hidden: &mut Vec<f32>,
        outputs: &mut [f32],
    ) {
        self.hidden(images, rows, hidden);
        logits(hidden, self.net.w2(), self.net.hidden(), outputs);
    }
}

/// A forward pass in blocks that calls `each` with every image's activations `[h]`.
fn pass(net: &Mlp, images: &Sparse, labels: &[u8], mut each: impl FnMut(&[f32])) -> Quality {
    assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
    let forward = Forward::of(net);
    let (mut hidden, mut outputs) = (Vec::new(), Vec::new());
    let mut stats = BatchStats::default();
    for (block, labels) in labels.chunks(BLOCK).enumerate() {
        let first = block * BLOCK;
        outputs.resize(labels.len() * CLASSES, 0.0);
        forward.outputs(images, first..first + labels.len(), &mut hidden, &mut outputs);
        hidden.chunks_exact(net.hidden()).for_each(&mut each);
        cross_entropy(&outputs, labels, &mut stats);
    }
    Quality::of_sums(stats.loss, stats.wrong, labels.len())
}

#[cfg(test)]
mod test {
    //! Examples that a net learns quickly.

    use super::INPUTS;
    use crate::study::data::Examples;
    use crate::study::rng::{below, stream};

    /// The first of the pixels that are blank in every example.
    pub(super) const BLANK: usize = 700;

    /// `n` examples drawn by `seed`: a digit inks most of its own 50 pixels and a few of the
    /// others.
    pub(super) fn examples(n: usize, seed: &str) -> Examples {
        let mut rng = stream(seed, "test examples");
        let mut examples = Examples::default();
        for _ in 0..n {
            let label = below(&mut rng, 10) as usize;
            let own = label * 60..label * 60 + 50;
            for pixel in 0..INPUTS {
                let inked = pixel < BLANK
                    && below(&mut rng, 100) < if own.contains(&pixel) { 70 } else { 8 };
                let ink = 1 + below(&mut rng, 255) as u8;
                examples.pixels.push(if inked { ink } else { 0 });
            }
            examples.labels.push(label as u8);
        }
        examples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::rng;

    fn net(hidden: u32) -> Mlp {
        Init::Normal { std: 0.1.try_into().unwrap() }
            .draw(hidden.try_into().unwrap(), &mut rng::stream("0", "net"))
    }

    #[test]
    fn evaluation_in_blocks_equals_the_definition() {
        let data = test::examples(BLOCK + 90, "0");
        let (net, n, h) = (net(11), data.len(), 11);
        let (mut loss, mut wrong) = (0.0, 0);
        for (pixels, &label) in data.pixels.chunks(INPUTS).zip(&data.labels) {
            let dot = |w: &[f32], x: &[f64]| {
                w.iter().zip(x).map(|(&w, &x)| f64::from(w) * x).sum::<f64>()
            };
            let x: Vec<f64> = pixels.iter().map(|&p| f64::from(p) / 255.0).collect();
            let a: Vec<f64> = net.w1().chunks(INPUTS).map(|row| dot(row, &x).max(0.0)).collect();
            let f: Vec<f64> = net.w2().chunks(h).map(|row| dot(row, &a)).collect();
            let best =
                (0..CLASSES).rfold(0, |best, class| if f[class] >= f[best] { class } else { best });
            wrong += usize::from(best != usize::from(label));
            loss += f.iter().map(|f| f.exp()).sum::<f64>().ln() - f[usize::from(label)];
        }
        let quality = evaluate(&net, &Sparse::from_pixels(&data.pixels, INPUTS), &data.labels);
        assert_eq!(quality.error, 100.0 * wrong as f64 / n as f64);
        assert!(
            (quality.loss - loss / n as f64).abs() < 1e-5,
            "{} {}",
            quality.loss,
            loss / n as f64
        );
    }

    #[test]
    fn the_quality_on_no_images_is_nan() {
        let quality = evaluate(&net(3), &Sparse::from_pixels(&[], INPUTS), &[]);
        assert!(quality.error.is_nan() && quality.loss.is_nan());
    }

    #[test]
    fn a_neuron_is_active_if_it_fires_on_a_single_image() {
        let mut net = Mlp::zeros(4);
        let (w1, w2) = net.layers_mut();
        w1[5] = 3.0; // neuron 0 fires on image 700 alone
        w1[INPUTS + 6] = -4.0; // neuron 1 is negative on that image
        w1[2 * INPUTS + 9] = 12.0; // neuron 2 depends on a pixel that is always blank
        w2[0] = -2.0;
        let mut pixels = vec![0; 800 * INPUTS];
        pixels[700 * INPUTS + 5] = 1;
        pixels[700 * INPUTS + 6] = 255;
        let images = Sparse::from_pixels(&pixels, INPUTS);
        let (quality, health) = examine(&net, &images, &[3; 800]);
        assert_eq!(health, Health { norm_w1: 13.0, norm_w2: 2.0, active_neurons: 1 });
        assert_eq!(quality, evaluate(&net, &images, &[3; 800]));
    }
}
