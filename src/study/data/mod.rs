//! Images with their labels: datasets and splits.

pub mod array;
pub mod digits;
pub mod idx;
pub mod npz;
pub mod published;

use super::registry::named_enum;
use super::rng;
use crate::kernel::sparse::Sparse;
use std::fmt;

/// Side of an image of MNIST in pixels.
pub const SIDE: usize = 28;
/// Pixels of an image of MNIST.
pub const PIXELS: usize = SIDE * SIDE;

/// The largest number of classes.
pub const MOST_CLASSES: usize = 1000;

/// The largest number of inputs: an image of 1024 x 1024 pixels.
pub const MOST_INPUTS: usize = 1 << 20;

/// The largest number of images.
pub const MOST_IMAGES: usize = 1_000_000;

named_enum! {
    "dataset"
    /// A dataset.
    pub enum Dataset {
        /// Handwritten digits.
        Mnist = "mnist",
        /// Photographs of clothes, in the format of MNIST.
        FashionMnist = "fashion-mnist",
        /// Handwritten Japanese characters, in the format of MNIST.
        Kmnist = "kmnist",
        /// Digits generated from the seed: no files, no network.
        Digits = "digits",
    }
}

impl Dataset {
    /// Whether the images depend on the seed.
    pub fn is_generated(self) -> bool {
        match self {
            Dataset::Mnist | Dataset::FashionMnist | Dataset::Kmnist => false,
            Dataset::Digits => true,
        }
    }
}

named_enum! {
    "split"
    /// The part of the data that a number was measured on.
    pub enum Split {
        /// The images that nets are fitted to.
        Train = "train",
        /// Held out of the training images by seed: the only split to choose anything by.
        Validation = "validation",
        /// The images that results are reported on.
        Test = "test",
    }
}

/// The shape of an image. Its numbers are stored row by row, and are the inputs of a net in that
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Numbers per pixel.
    pub channels: usize,
}

impl ImageShape {
    /// The numbers of an image.
    pub fn inputs(&self) -> usize {
        self.height * self.width * self.channels
    }
}

/// An image of MNIST.
impl Default for ImageShape {
    fn default() -> ImageShape {
        ImageShape { height: SIDE, width: SIDE, channels: 1 }
    }
}

/// `28 x 28`, or `32 x 32 x 3` with several channels.
impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ImageShape { height, width, channels } = self;
        match channels {
            1 => write!(f, "{height} x {width}"),
            _ => write!(f, "{height} x {width} x {channels}"),
        }
    }
}

/// Images of one shape and their labels. A pixel is a byte, 0 = background, 255 = ink, or an f32 in
/// [0, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Examples<T = u8> {
    /// [n, inputs].
    pub pixels: Vec<T>,
    /// `[n]`, below [`MOST_CLASSES`].
    pub labels: Vec<u16>,
    /// The shape of each image.
    pub shape: ImageShape,
}

/// No images, of MNIST's shape.
impl<T> Default for Examples<T> {
    fn default() -> Examples<T> {
        Examples { pixels: Vec::new(), labels: Vec::new(), shape: ImageShape::default() }
    }
}

impl<T: Copy> Examples<T> {
    /// The number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The examples at `indices`, in that order.
    pub fn select(&self, indices: &[u32]) -> Examples<T> {
        let inputs = self.shape.inputs();
        let mut chosen = Examples { shape: self.shape, ..Examples::default() };
        chosen.pixels.reserve_exact(indices.len() * inputs);
        for &i in indices {
            let i = i as usize;
            chosen.pixels.extend_from_slice(&self.pixels[i * inputs..(i + 1) * inputs]);
            chosen.labels.push(self.labels[i]);
        }
        chosen
    }

    /// Keeps the first `n` examples, or all if there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.pixels.truncate(n.saturating_mul(self.shape.inputs()));
        self.labels.truncate(n);
    }

    /// Splits off `held_out` examples drawn by `seed`; both parts keep their order. Returns (rest,
    /// held out).
    ///
    /// # Panics
    /// If `held_out` exceeds the number of examples.
    pub fn split_off(&self, held_out: usize, seed: &str) -> (Examples<T>, Examples<T>) {
        let n = self.len();
        let mut order: Vec<u32> = (0..n as u32).collect();
        rng::shuffle(&mut rng::stream(seed, "validation split"), &mut order);
        let (rest, out) = order.split_at_mut(n - held_out);
        rest.sort_unstable();
        out.sort_unstable();
        (self.select(rest), self.select(out))
    }
}

/// Images and their labels as inputs of nets.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// [n, inputs]: pixel / 255, or the number of a float image.
    pub images: Sparse,
    /// `[n]`, below `classes`.
    pub labels: Vec<u16>,
    /// The number of classes.
    pub classes: usize,
}

impl Labelled {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The first `n` images, or all if there are fewer.
    pub fn head(&self, n: usize) -> Labelled {
        let images = self.images.head(n);
        let labels = self.labels[..images.rows()].to_vec();
        Labelled { images, labels, classes: self.classes }
    }
}

/// Ten classes.
impl From<&Examples> for Labelled {
    fn from(examples: &Examples) -> Labelled {
        Labelled {
            images: Sparse::from_pixels(&examples.pixels, examples.shape.inputs()),
            labels: examples.labels.clone(),
            classes: crate::kernel::CLASSES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(n: usize) -> Examples {
        let pixels = (0..n).flat_map(|i| [i as u8; PIXELS]).collect();
        let labels = (0..n).map(|i| (i % 10) as u16).collect();
        Examples { pixels, labels, shape: ImageShape::default() }
    }

    #[test]
    fn a_split_partitions_the_examples_and_depends_on_the_seed() {
        let all = numbered(50);
        let (rest, out) = all.split_off(15, "0");
        assert_eq!((rest.len(), out.len()), (35, 15));
        let mut firsts: Vec<u8> =
            rest.pixels.iter().chain(&out.pixels).step_by(PIXELS).copied().collect();
        firsts.sort_unstable();
        assert_eq!(firsts, (0..50).collect::<Vec<u8>>());
        assert_eq!(all.split_off(15, "0").1, out);
        assert_ne!(all.split_off(15, "1").1, out);
    }

    #[test]
    fn holding_out_zero_examples_changes_nothing() {
        let all = numbered(7);
        assert_eq!(all.split_off(0, "0"), (all.clone(), Examples::default()));
    }
}
