//! The built-in dataset: ten digits, drawn stroke by stroke, about as sparse and as hard as MNIST.
//!
//! A digit starts as one of a few skeletons (strokes through hand-set points). Each image bends it
//! (a random cubic B-spline deformation, as in Rueckert et al., IEEE TMI 18, 1999; the idea of
//! elastic distortion is Simard et al., ICDAR 2003), slants, rotates and stretches it, trims the
//! ends of its strokes, and draws it with a pen of random width and softness. Size and position are
//! those of MNIST's images: a 20 x 20 box, the center of the ink at the center of the image.
//!
//! Image i depends only on the seed, the split and i, so a smaller set is a prefix of a larger one.
//! All arithmetic is IEEE f64 and `libm`, so the bits are the same on every machine. Nothing is
//! derived from MNIST's images. The spreads below were chosen once, by how hard a net finds the
//! digits.

use super::{Examples, ImageShape, PIXELS, SIDE, rng};
use rand_chacha::ChaCha8Rng;

/// A point of a skeleton, in per cent of the digit's box, x to the right and y down.
type Knot = (i8, i8);
/// Strokes, each a smooth curve through its knots; at a corner one stroke ends and another begins.
type Skeleton = &'static [&'static [Knot]];
/// A point in the plane.
type Xy = (f64, f64);

/// The variants of each digit; each image draws one, with equal probability.
const SKELETONS: [&[Skeleton]; 10] = [
    &[
        &[&[
            (50, 0),
            (20, 15),
            (8, 50),
            (20, 85),
            (50, 100),
            (80, 85),
            (92, 50),
            (80, 15),
            (50, 0),
        ]],
        &[&[(66, 4), (36, 6), (14, 36), (15, 74), (42, 99), (74, 84), (87, 48), (76, 14), (44, 3)]],
    ],
    &[
        &[&[(50, 0), (50, 50), (50, 100)]],
        &[&[(50, 0), (48, 50), (50, 100)]],
        &[&[(28, 24), (54, 0)], &[(54, 0), (52, 100)]],
    ],
    &[
        &[
            &[(12, 24), (26, 6), (52, 0), (80, 14), (80, 38), (54, 70), (10, 100)],
            &[(10, 100), (50, 96), (92, 99)],
        ],
        &[&[
            (14, 22),
            (44, 0),
            (80, 14),
            (76, 44),
            (48, 76),
            (18, 97),
            (8, 86),
            (24, 77),
            (52, 90),
            (94, 94),
        ]],
    ],
    &[
        &[
            &[(14, 12), (44, 0), (78, 12), (76, 34), (42, 47)],
            &[(42, 47), (80, 58), (86, 82), (52, 100), (10, 90)],
        ],
        &[
            &[(14, 2), (84, 0)],
            &[(84, 0), (42, 42)],
            &[(42, 42), (80, 54), (86, 80), (56, 100), (12, 92)],
        ],
    ],
    &[
        &[
            &[(20, 2), (14, 28), (12, 54)],
            &[(12, 54), (50, 54), (92, 50)],
            &[(78, 0), (74, 50), (70, 100)],
        ],
        &[&[(64, 0), (38, 34), (8, 66)], &[(8, 66), (94, 64)], &[(64, 0), (62, 100)]],
        &[&[(16, 4), (12, 36), (34, 54), (76, 42)], &[(84, 0), (74, 50), (72, 100)]],
    ],
    &[
        &[
            &[(86, 0), (28, 3)],
            &[(28, 3), (20, 42)],
            &[(20, 42), (56, 36), (86, 60), (70, 94), (36, 100), (8, 88)],
        ],
        &[&[(88, 4), (52, 2), (24, 16), (32, 38), (66, 50), (84, 76), (56, 99), (10, 92)]],
    ],
    &[
        &[&[
            (74, 2),
            (42, 20),
            (18, 50),
            (14, 82),
            (40, 100),
            (72, 92),
            (80, 70),
            (58, 55),
            (30, 64),
            (15, 82),
        ]],
        &[&[
            (52, 0),
            (28, 34),
            (13, 68),
            (28, 97),
            (64, 97),
            (84, 76),
            (64, 58),
            (36, 64),
            (16, 80),
        ]],
    ],
    &[
        &[&[(10, 5), (50, 3), (88, 2)], &[(88, 2), (60, 46), (42, 100)]],
        &[&[(10, 5), (50, 3), (88, 2)], &[(88, 2), (60, 46), (42, 100)], &[(32, 50), (80, 46)]],
        &[&[(12, 24), (10, 4)], &[(10, 4), (50, 6), (86, 0)], &[(86, 0), (66, 46), (60, 100)]],
    ],
    &[
        &[&[
            (80, 12),
            (50, 0),
            (22, 14),
            (28, 36),
            (56, 52),
            (82, 72),
            (72, 96),
            (46, 100),
            (16, 88),
            (20, 68),
            (48, 50),
            (74, 34),
            (80, 12),
        ]],
        &[
            &[(50, 0), (24, 10), (26, 38), (50, 48), (74, 38), (76, 10), (50, 0)],
            &[(50, 48), (18, 62), (18, 90), (50, 100), (82, 90), (82, 62), (50, 48)],
        ],
    ],
    &[
        &[
            &[(80, 18), (54, 0), (22, 14), (20, 40), (48, 52), (76, 38), (82, 14)],
            &[(82, 14), (78, 60), (72, 100)],
        ],
        &[
            &[(82, 16), (54, 0), (20, 14), (18, 40), (48, 52), (80, 34)],
            &[(82, 16), (82, 58), (64, 92), (22, 97)],
        ],
    ],
];

/// Cells of the deformation's lattice along each side of the digit's box.
const CELLS: usize = 3;
/// Nodes along each side: a cubic B-spline reaches one node back and two ahead.
const NODES: usize = CELLS + 3;
/// Standard deviation of a node's displacement, in heights of the box; about half of it reaches a
/// stroke.
const BEND: f64 = 0.18;
/// Straight segments of a stroke between two of its knots.
const PIECES: usize = 6;
/// The box that MNIST's digits are fitted into, in pixels.
const FIT: f64 = 20.0;

/// The training and test sets, of `train` and `test` examples, drawn by `seed`.
///
/// Every ten in a row contain each digit once, in random order.
pub fn digits(seed: &str, train: usize, test: usize) -> (Examples, Examples) {
    (set(seed, "train", train), set(seed, "test", test))
}

fn set(seed: &str, name: &str, n: usize) -> Examples {
    let mut labels = Vec::with_capacity(n);
    for ten in 0..n.div_ceil(10) {
        let mut order = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        rng::shuffle(&mut rng::stream(seed, &format!("digits/{name}/labels/{ten}")), &mut order);
        labels.extend_from_slice(&order[..(n - labels.len()).min(10)]);
    }
    let mut pixels = vec![0; n * PIXELS];
    for (i, (image, &label)) in pixels.chunks_exact_mut(PIXELS).zip(&labels).enumerate() {
        draw(&mut rng::stream(seed, &format!("digits/{name}/{i}")), label, image);
    }
    let labels = labels.into_iter().map(u16::from).collect();
    Examples { pixels, labels, shape: ImageShape::default() }
}

/// Draws the digit `label` into `image` `[784]`, which must be blank.
fn draw(rng: &mut ChaCha8Rng, label: u8, image: &mut [u8]) {
    let variants = SKELETONS[usize::from(label)];
    let skeleton = variants[rng::below(rng, variants.len() as u32) as usize];
    let deformation = Deformation::new(rng);
    let mut segments = Vec::with_capacity(128);
    for stroke in skeleton {
        let ends = (0.06 * rng::uniform(rng), 1.0 - 0.06 * rng::uniform(rng));
        let points = (0..=PIECES * (stroke.len() - 1)).map(|i| {
            let t = i as f64 / (PIECES * (stroke.len() - 1)) as f64;
            deformation.apply(along(stroke, ends.0 + t * (ends.1 - ends.0)))
        });
        let points: Vec<Xy> = points.collect();
        segments.extend(points.windows(2).map(|pair| (pair[0], pair[1])));
    }
    let pen = Pen::new(rng);
    fit(&mut segments, FIT * (0.94 + 0.06 * rng::uniform(rng)) - 2.0 * pen.radius);
    pen.draw(&segments, image);
}

/// The point at `t` in [0, 1] of the Catmull-Rom spline through a stroke's knots, in the unit box
/// around the origin.
fn along(stroke: &[Knot], t: f64) -> Xy {
    let knot = |i: isize| {
        let (x, y) = stroke[i.clamp(0, stroke.len() as isize - 1) as usize];
        (f64::from(x) / 100.0 - 0.5, f64::from(y) / 100.0 - 0.5)
    };
    let spans = (stroke.len() - 1) as f64;
    let i = (t * spans).floor().min(spans - 1.0);
    let (u, i) = (t * spans - i, i as isize);
    let (a, b, c, d) = (knot(i - 1), knot(i), knot(i + 1), knot(i + 2));
    let cubic = |a: f64, b: f64, c: f64, d: f64| {
        b + 0.5
            * u
            * ((c - a) + u * ((2.0 * a - 5.0 * b + 4.0 * c - d) + u * (3.0 * (b - c) + d - a)))
    };
    (cubic(a.0, b.0, c.0, d.0), cubic(a.1, b.1, c.1, d.1))
}

/// The deformation of one digit: a smooth bend of the plane, then stretch, slant and rotation.
struct Deformation {
    /// Displacements of the lattice's nodes.
    bend: [[Xy; NODES]; NODES],
    /// The affine part, row-major.
    affine: [f64; 4],
}

impl Deformation {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        let mut bend = [[(0.0, 0.0); NODES]; NODES];
        for node in bend.as_flattened_mut() {
            *node = (BEND * rng::normal(rng), BEND * rng::normal(rng));
        }
        let stretch = 0.72 * libm::exp(0.22 * rng::normal(rng));
        let slant = 0.12 + 0.25 * rng::normal(rng);
        let rotation = 0.15 * rng::normal(rng);
        let (sin, cos) = (libm::sin(rotation), libm::cos(rotation));
        // rotation * slant * stretch; y points down, so a slant to the right moves lower points to
        // the left.
        Deformation {
            bend,
            affine: [cos * stretch, -cos * slant - sin, sin * stretch, cos - sin * slant],
        }
    }

    /// The deformed position of a point of the skeleton's box.
    fn apply(&self, (x, y): Xy) -> Xy {
        let ((columns, i), (rows, j)) = (weights(x), weights(y));
        let (mut px, mut py) = (x, y);
        for (row, nodes) in rows.iter().zip(&self.bend[j..]) {
            for (column, node) in columns.iter().zip(&nodes[i..]) {
                px += row * column * node.0;
                py += row * column * node.1;
            }
        }
        let [a, b, c, d] = self.affine;
        (a * px + b * py, c * px + d * py)
    }
}

/// The four weights of the uniform cubic B-spline at `x` in [-0.5, 0.5], and their first node.
fn weights(x: f64) -> ([f64; 4], usize) {
    let at = ((x + 0.5) * CELLS as f64).clamp(0.0, CELLS as f64);
    let cell = at.floor().min(CELLS as f64 - 1.0);
    let (u, v) = (at - cell, 1.0 - (at - cell));
    let middle = |u: f64| (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0;
    ([v * v * v / 6.0, middle(u), middle(v), u * u * u / 6.0], cell as usize)
}

/// Scales the segments so that their longer side is `side` pixels, and centers them by length.
fn fit(segments: &mut [(Xy, Xy)], side: f64) {
    let (mut low, mut high) = ((f64::MAX, f64::MAX), (f64::MIN, f64::MIN));
    let (mut length, mut middle) = (0.0, (0.0, 0.0));
    for &(a, b) in segments.iter() {
        for (x, y) in [a, b] {
            low = (low.0.min(x), low.1.min(y));
            high = (high.0.max(x), high.1.max(y));
        }
        let piece = ((b.0 - a.0) * (b.0 - a.0) + (b.1 - a.1) * (b.1 - a.1)).sqrt();
        length += piece;
        middle = (middle.0 + 0.5 * piece * (a.0 + b.0), middle.1 + 0.5 * piece * (a.1 + b.1));
    }
    let scale = side / (high.0 - low.0).max(high.1 - low.1);
    let center = 0.5 * SIDE as f64;
    let place = |(x, y): Xy| {
        (center + scale * (x - middle.0 / length), center + scale * (y - middle.1 / length))
    };
    for segment in segments {
        *segment = (place(segment.0), place(segment.1));
    }
}

/// A round pen; lengths in pixels.
struct Pen {
    /// Half the width of its line, measured where the ink is half as dark.
    radius: f64,
    /// Half the width of the border over which the ink fades.
    blur: f64,
}

impl Pen {
    fn new(rng: &mut ChaCha8Rng) -> Self {
        Pen {
            radius: 1.15 * libm::exp(0.2 * rng::normal(rng)),
            blur: 0.6 + 0.5 * rng::uniform(rng),
        }
    }

    /// Draws the segments, in pixels from the upper left corner, into the blank `image` `[784]`.
    fn draw(&self, segments: &[(Xy, Xy)], image: &mut [u8]) {
        let reach = self.radius + self.blur;
        // Squared distance of each pixel's center to the nearest segment, at most the pen's reach.
        let mut nearest = [reach * reach; PIXELS];
        for &(a, b) in segments {
            let (dx, dy) = (b.0 - a.0, b.1 - a.1);
            let per_square = 1.0 / (dx * dx + dy * dy).max(1e-12);
            let span = |p: f64, q: f64| {
                let (first, last) = (p.min(q) - reach - 0.5, p.max(q) + reach - 0.5);
                // `as` saturates: outside the image the range is empty.
                (first.ceil() as usize)..((last.floor() + 1.0).min(SIDE as f64) as usize)
            };
            for row in span(a.1, b.1) {
                for column in span(a.0, b.0) {
                    let (x, y) = (column as f64 + 0.5 - a.0, row as f64 + 0.5 - a.1);
                    let t = ((x * dx + y * dy) * per_square).clamp(0.0, 1.0);
                    let (x, y) = (x - t * dx, y - t * dy);
                    let pixel = &mut nearest[row * SIDE + column];
                    *pixel = pixel.min(x * x + y * y);
                }
            }
        }
        for (pixel, square) in image.iter_mut().zip(nearest) {
            let dark = ((reach - square.sqrt()) / (2.0 * self.blur)).clamp(0.0, 1.0);
            *pixel = (255.0 * dark * dark * (3.0 - 2.0 * dark) + 0.5) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_set_is_a_prefix_of_a_larger_one() {
        let ((mut train, mut test), small) = (digits("0", 57, 23), digits("0", 34, 9));
        train.truncate(34);
        test.truncate(9);
        assert_eq!((train, test), small);
        assert_eq!(digits("0", 0, 0), Default::default());
    }

    #[test]
    fn the_images_depend_on_the_seed_and_the_split() {
        let (train, test) = digits("0", 20, 20);
        assert_ne!(train.pixels, test.pixels);
        assert_ne!(train.pixels, digits("1", 20, 0).0.pixels);
    }

    #[test]
    fn the_digits_are_balanced_and_in_random_order() {
        let labels = digits("0", 1000, 0).0.labels;
        assert!((0..10).all(|digit| labels.iter().filter(|&&label| label == digit).count() == 100));
        assert_ne!(labels[..10], labels[10..20]);
    }

    #[test]
    fn the_images_are_as_sparse_as_those_of_mnist_and_their_corners_are_blank() {
        let pixels = digits("0", 2000, 0).0.pixels;
        let ink = pixels.iter().filter(|&&pixel| pixel > 0).count() as f64 / pixels.len() as f64;
        assert!((0.16..0.22).contains(&ink), "{ink}");
        let brightest = pixels.chunks(PIXELS).map(|image| image.iter().max());
        assert!(brightest.into_iter().all(|max| max >= Some(&200)));
        let corners = pixels
            .chunks(PIXELS)
            .filter(|image| [0, 27, 756, 783].iter().any(|&corner| image[corner] > 0));
        assert_eq!(corners.count(), 0);
    }

    #[test]
    fn the_bits_are_the_same_on_every_machine() {
        let train = digits("0", 100, 0).0;
        let digest = blake3::hash(
            &train
                .pixels
                .into_iter()
                .chain(train.labels.into_iter().map(|label| label as u8))
                .collect::<Vec<u8>>(),
        );
        assert_eq!(
            digest.to_hex().as_str(),
            "770d6a0b80b1117f5c5199d7f66a5712afca037adb810d136098a66aa7829259"
        );
    }
}
