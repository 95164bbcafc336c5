//! Nets, their training, and their quality.

mod autodiff;
mod deep_engine;
mod engine;
mod engine_kind;
mod ensemble;
mod feed_forward;
mod init;
mod kernel_engine;
mod optimizer;
mod per_layer;
mod prior;
mod train;
mod widths;

pub use engine::{Batch, BatchStats, Engine, Run, Updates, Visit};
pub use engine_kind::EngineKind;
pub use ensemble::{BINS, EnsembleQuality, measure_ensembles};
pub use feed_forward::{Net, Shape};
pub use init::Init;
pub use optimizer::{Adam, Optimizer, Sgd, lr_factor};
pub use per_layer::PerLayer;
pub use prior::{DropoutMask, Prior, PriorKind};
pub use train::{
    EpochRecord, FitSettings, Labels, Learner, Step, TrainError, TrainSettings, Trained, Trunk,
    fit, train,
};
pub use widths::{Hidden, Widths};

use crate::kernel::dense::{logits, relu};
use crate::kernel::panels::Panels;
use crate::kernel::product::project;
use crate::kernel::softmax::cross_entropy;
use crate::kernel::sparse::Sparse;
use std::ops::Range;

/// Classes of the datasets of handwritten digits, for which there are faster kernels.
pub const CLASSES: usize = crate::kernel::CLASSES;

/// Inputs of the nets of the talk: the pixels of a 28 x 28 image.
pub const INPUTS: usize = 784;

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

/// Error and loss of `net` on `images` [n, inputs] with their `labels` `[n]`; NaN if there are
/// none.
///
/// # Panics
/// If the numbers of images and labels differ.
pub fn evaluate(net: &Net, images: &Sparse, labels: &[u16]) -> Quality {
    pass(net, images, labels, |_, _| ())
}

/// Signs that a prior has made a net collapse.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Square root of the sum of squares of each layer's weights, from the first to the last.
    pub norms: Vec<f64>,
    /// Neurons of each hidden layer that fire on at least one image.
    pub active_neurons: Vec<usize>,
}

/// As [`evaluate`], and the health of `net` on the same images.
///
/// # Panics
/// If the numbers of images and labels differ.
pub fn examine(net: &Net, images: &Sparse, labels: &[u16]) -> (Quality, Health) {
    let mut fires: Vec<Vec<bool>> =
        net.shape().widths.iter().map(|width| vec![false; width]).collect();
    let quality = pass(net, images, labels, |l, activations| {
        for activations in activations.chunks_exact(net.width(l)) {
            for (fires, &a) in fires[l].iter_mut().zip(activations) {
                *fires |= a > 0.0;
            }
        }
    });
    let norm =
        |layer: &[f32]| layer.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
    let health = Health {
        norms: (0..net.layers()).map(|l| norm(net.weights(l))).collect(),
        active_neurons: fires
            .into_iter()
            .map(|layer| layer.into_iter().filter(|&fires| fires).count())
            .collect(),
    };
    (quality, health)
}

/// Layer `l` of `net`, as the kernels read it.
fn packed(net: &Net, l: usize) -> Panels {
    pack(net.weights(l), net.biases(l), net.shape().fan_in(l))
}

/// A layer of `weights` [fan-out, fan-in], as the kernels read it: [fan-in, fan-out], and its
/// `biases`, if there are any, as one more row.
pub(super) fn pack(weights: &[f32], biases: &[f32], fan_in: usize) -> Panels {
    let fan_out = weights.len() / fan_in;
    if biases.is_empty() {
        return Panels::pack(weights, fan_out, fan_in);
    }
    let mut rows = Vec::with_capacity(weights.len() + fan_out);
    for (row, &bias) in weights.chunks_exact(fan_in).zip(biases) {
        rows.extend_from_slice(row);
        rows.push(bias);
    }
    Panels::pack(&rows, fan_out, fan_in + 1)
}

/// A net in the layout of forward passes.
pub(super) struct Forward<'a> {
    net: &'a Net,
    /// The layers; of a plain net only the first.
    layers: Vec<Panels>,
}

/// The activations of each hidden layer, [n, width].
pub(super) type Activations = Vec<Vec<f32>>;

impl<'a> Forward<'a> {
    pub(super) fn of(net: &'a Net) -> Forward<'a> {
        let layers = if net.shape().is_plain() { 1 } else { net.layers() };
        Forward { net, layers: (0..layers).map(|l| packed(net, l)).collect() }
    }

    /// Sets `hidden` to the activations of every hidden layer on the images `rows`.
    pub(super) fn hidden(&self, images: &Sparse, rows: Range<usize>, hidden: &mut Activations) {
        hidden.resize_with(self.net.shape().widths.depth(), Vec::new);
        for l in 0..hidden.len() {
            let (below, layer) = hidden.split_at_mut(l);
            layer[0].resize(rows.len() * self.net.width(l), 0.0);
            match below.last() {
                None => project(images, rows.clone(), &self.layers[0], &mut layer[0]),
                Some(below) => self.above(l, below, &mut layer[0]),
            }
            relu(&mut layer[0]);
        }
    }

    /// Sets `out` [n, fan-out] to the pre-activations of layer `l` above the activations `below`.
    fn above(&self, l: usize, below: &[f32], out: &mut [f32]) {
        // Half of the activations are zero, which the products skip.
        let below = Sparse::from_values(below, self.net.width(l - 1));
        project(&below, 0..below.rows(), &self.layers[l], out);
    }

    /// Sets `outputs` [n, classes] to the logits on the images `rows`, and `hidden` to the
    /// activations.
    pub(super) fn outputs(
        &self,
        images: &Sparse,
        rows: Range<usize>,
        hidden: &mut Activations,
        outputs: &mut [f32],
    ) {
        self.hidden(images, rows, hidden);
        let last = self.net.layers() - 1;
        if self.net.shape().is_plain() {
            logits(&hidden[0], self.net.weights(1), self.net.width(0), outputs);
        } else {
            self.above(last, &hidden[last - 1], outputs);
        }
    }
}

/// A forward pass in blocks that calls `each` with the activations [n, width] of each hidden layer.
fn pass(
    net: &Net,
    images: &Sparse,
    labels: &[u16],
    mut each: impl FnMut(usize, &[f32]),
) -> Quality {
    assert_eq!(images.rows(), labels.len(), "images and labels differ in number");
    let forward = Forward::of(net);
    let (mut hidden, mut outputs) = (Vec::new(), Vec::new());
    let mut stats = BatchStats::default();
    for (block, labels) in labels.chunks(BLOCK).enumerate() {
        let first = block * BLOCK;
        outputs.resize(labels.len() * net.shape().classes, 0.0);
        forward.outputs(images, first..first + labels.len(), &mut hidden, &mut outputs);
        hidden.iter().enumerate().for_each(|(l, activations)| each(l, activations));
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
            examples.labels.push(label as u16);
        }
        examples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(hidden: usize) -> Net {
        Init::Normal { std: 0.1.try_into().unwrap() }.draw(Shape::talk(hidden), "0", "net")
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
            let a: Vec<f64> =
                net.weights(0).chunks(INPUTS).map(|row| dot(row, &x).max(0.0)).collect();
            let f: Vec<f64> = net.weights(1).chunks(h).map(|row| dot(row, &a)).collect();
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
        let mut net = Net::zeros(Shape::talk(4));
        let w1 = net.weights_mut(0);
        w1[5] = 3.0; // neuron 0 fires on image 700 alone
        w1[INPUTS + 6] = -4.0; // neuron 1 is negative on that image
        w1[2 * INPUTS + 9] = 12.0; // neuron 2 depends on a pixel that is always blank
        net.weights_mut(1)[0] = -2.0;
        let mut pixels = vec![0; 800 * INPUTS];
        pixels[700 * INPUTS + 5] = 1;
        pixels[700 * INPUTS + 6] = 255;
        let images = Sparse::from_pixels(&pixels, INPUTS);
        let (quality, health) = examine(&net, &images, &[3; 800]);
        assert_eq!(health, Health { norms: vec![13.0, 2.0], active_neurons: vec![1] });
        assert_eq!(quality, evaluate(&net, &images, &[3; 800]));
    }
}
