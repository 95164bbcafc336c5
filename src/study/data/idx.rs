//! IDX, the format of MNIST: a big-endian magic number, the dimensions, then the elements.
//!
//! Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats". Every
//! error names the file. Counts in a header are checked against the length of the file before
//! anything is allocated.
//!
//! Artifacts have images of bytes, or of f32 in [0, 1], [n, rows, columns], and labels `[n]`: bytes
//! for ten classes, as MNIST has them, or 16 bits for any other number of classes.

use super::{Examples, ImageShape, MOST_CLASSES, MOST_INPUTS};
use crate::kernel::CLASSES;
use std::fmt;
use thiserror::Error;

/// The type of an element: the third byte of the magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Element {
    /// An unsigned byte.
    U8 = 0x08,
    /// A signed byte.
    I8 = 0x09,
    /// A signed number of 16 bits.
    I16 = 0x0b,
    /// A signed number of 32 bits.
    I32 = 0x0c,
    /// A float of 32 bits.
    F32 = 0x0d,
    /// A float of 64 bits.
    F64 = 0x0e,
}

impl Element {
    const ALL: [Element; 6] =
        [Element::U8, Element::I8, Element::I16, Element::I32, Element::F32, Element::F64];

    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::I16 => 2,
            Element::I32 | Element::F32 => 4,
            Element::F64 => 8,
        }
    }

    /// The magic number of a file with `dimensions` dimensions.
    const fn magic(self, dimensions: u32) -> Magic {
        Magic((self as u32) << 8 | dimensions)
    }
}

/// The name of the type in NumPy.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Element::U8 => "uint8",
            Element::I8 => "int8",
            Element::I16 => "int16",
            Element::I32 => "int32",
            Element::F32 => "float32",
            Element::F64 => "float64",
        })
    }
}

/// The first four bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Magic(u32);

impl fmt::Display for Magic {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

const BYTE_IMAGES: Magic = Element::U8.magic(3);
const FLOAT_IMAGES: Magic = Element::F32.magic(3);
const BYTE_LABELS: Magic = Element::U8.magic(1);
const WIDE_LABELS: Magic = Element::I16.magic(1);

/// An error in an IDX file.
#[derive(Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages describe the fields")]
pub enum IdxError {
    /// The magic number is that of another kind of file.
    #[error("`{file}` starts with `{found}`, not with `{}` or `{}`", expected[0], expected[1])]
    Magic { file: String, expected: [Magic; 2], found: Magic },
    /// The magic number is that of no IDX file.
    #[error("`{file}` starts with `{found}`: it is not an IDX file")]
    NotIdx { file: String, found: Magic },
    /// Images without pixels, or with too many.
    #[error("`{file}` holds images of {rows} x {columns} numbers, not of 1 to {MOST_INPUTS}")]
    Sides { file: String, rows: u32, columns: u32 },
    /// The length differs from the header, or is too short for one.
    #[error("`{file}` has {found} bytes but its header specifies {expected}")]
    Length { file: String, expected: u128, found: u64 },
    /// A label of no class.
    #[error("`{file}` has the label `{label}` at index {index}, not one from 0 to {largest}")]
    Label { file: String, index: usize, label: i16, largest: usize },
    /// An image file and a label file with different counts.
    #[error("`{images_file}` holds {images} images, but `{labels_file}` holds {labels} labels")]
    Pair { images_file: String, images: usize, labels_file: String, labels: usize },
}

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type of its elements.
    pub element: Element,
    /// The dimensions, the slowest first.
    pub dimensions: Vec<u32>,
}

/// The largest number of dimensions.
const MOST_DIMENSIONS: usize = 8;

/// Bytes of the longest header.
pub const LONGEST_HEADER: usize = 4 + 4 * MOST_DIMENSIONS;

impl Header {
    /// The header in `bytes`, the first ones of the file `name`, which has `length` bytes.
    pub fn parse(name: &str, bytes: &[u8], length: u64) -> Result<Header, IdxError> {
        let (words, _) = bytes.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_be_bytes(*word));
        let short = |expected: usize| IdxError::Length {
            file: name.to_owned(),
            expected: expected as u128,
            found: length,
        };
        let magic = words.next().ok_or_else(|| short(4))?;
        let dimensions = (magic & 0xff) as usize;
        let element = Element::ALL.into_iter().find(|element| *element as u32 == magic >> 8);
        let is_idx = (1..=MOST_DIMENSIONS).contains(&dimensions);
        let Some(element) = element.filter(|_| is_idx) else {
            return Err(IdxError::NotIdx { file: name.to_owned(), found: Magic(magic) });
        };
        let dimensions = (0..dimensions).map(|_| words.next()).collect::<Option<Vec<u32>>>();
        let dimensions = dimensions.ok_or_else(|| short(4 + 4 * (magic & 0xff) as usize))?;
        Ok(Header { element, dimensions })
    }

    /// Bytes of the header.
    pub fn length(&self) -> usize {
        4 + 4 * self.dimensions.len()
    }

    /// Bytes of the whole file.
    pub fn file_length(&self) -> u128 {
        let elements = self.dimensions.iter().map(|&n| u128::from(n));
        // 32 x 8 bits do not fit: a file of that size does not exist.
        let elements = elements.fold(1, u128::saturating_mul);
        elements.saturating_mul(self.element.size() as u128).saturating_add(self.length() as u128)
    }

    fn magic(&self) -> Magic {
        self.element.magic(self.dimensions.len() as u32)
    }

    /// Checks the length of the file `name`, and that it starts with one of two magic numbers.
    fn check(&self, name: &str, length: u64, expected: [Magic; 2]) -> Result<(), IdxError> {
        if !expected.contains(&self.magic()) {
            let found = self.magic();
            return Err(IdxError::Magic { file: name.to_owned(), expected, found });
        }
        if u128::from(length) != self.file_length() {
            let (file, expected) = (name.to_owned(), self.file_length());
            return Err(IdxError::Length { file, expected, found: length });
        }
        Ok(())
    }
}

/// Bytes of an image file before its pixels.
pub const IMAGES_HEADER: usize = 16;

/// What an image file of an artifact holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagesHeader {
    /// Whether a pixel is an f32, not a byte.
    pub floats: bool,
    /// The number of images.
    pub count: usize,
    /// Rows of an image.
    pub rows: usize,
    /// Columns of an image, times the numbers of a pixel.
    pub columns: usize,
}

/// The header of the image file `name` of `length` bytes. `first` are its first [`IMAGES_HEADER`]
/// bytes or more, or all of a shorter file. Allows reading the file in pieces.
pub fn images_header(name: &str, first: &[u8], length: u64) -> Result<ImagesHeader, IdxError> {
    let header = Header::parse(name, first, length)?;
    header.check(name, length, [BYTE_IMAGES, FLOAT_IMAGES])?;
    let [count, rows, columns] = [0, 1, 2].map(|at| header.dimensions[at]);
    if !(1..=MOST_INPUTS as u64).contains(&(u64::from(rows) * u64::from(columns))) {
        return Err(IdxError::Sides { file: name.to_owned(), rows, columns });
    }
    Ok(ImagesHeader {
        floats: header.element == Element::F32,
        count: count as usize,
        rows: rows as usize,
        columns: columns as usize,
    })
}

/// The labels, `[n]`, of the label file `name`, and the number of classes that they imply: ten for
/// bytes, and one more than the largest label, or none, for 16 bits.
pub fn read_labels(name: &str, bytes: &[u8]) -> Result<(Vec<u16>, usize), IdxError> {
    let header = Header::parse(name, bytes, bytes.len() as u64)?;
    header.check(name, bytes.len() as u64, [BYTE_LABELS, WIDE_LABELS])?;
    let body = &bytes[header.length()..];
    let (labels, most): (Vec<i16>, usize) = match header.element {
        Element::U8 => (body.iter().map(|&label| i16::from(label)).collect(), CLASSES),
        _ => {
            let (labels, _) = body.as_chunks::<2>();
            (labels.iter().map(|label| i16::from_be_bytes(*label)).collect(), MOST_CLASSES)
        }
    };
    let in_range = |label: i16| usize::try_from(label).ok().filter(|&label| label < most);
    let mut classes = if most == CLASSES { CLASSES } else { 0 };
    for (index, &label) in labels.iter().enumerate() {
        let Some(label) = in_range(label) else {
            let file = name.to_owned();
            return Err(IdxError::Label { file, index, label, largest: most - 1 });
        };
        classes = classes.max(label + 1);
    }
    Ok((labels.into_iter().map(|label| label as u16).collect(), classes))
}

/// Checks that an image file and a label file, each as (name, count), have equal counts.
pub fn check_pair(images: (&str, usize), labels: (&str, usize)) -> Result<(), IdxError> {
    if images.1 != labels.1 {
        return Err(IdxError::Pair {
            images_file: images.0.to_owned(),
            images: images.1,
            labels_file: labels.0.to_owned(),
            labels: labels.1,
        });
    }
    Ok(())
}

/// The examples of an image file of bytes and its label file of ten classes, each as (name, bytes).
pub fn read_examples(images: (&str, &[u8]), labels: (&str, &[u8])) -> Result<Examples, IdxError> {
    let length = images.1.len() as u64;
    let header = images_header(images.0, images.1, length)?;
    if header.floats {
        let (found, expected) = (FLOAT_IMAGES, [BYTE_IMAGES; 2]);
        return Err(IdxError::Magic { file: images.0.to_owned(), expected, found });
    }
    let (read, _) = read_labels(labels.0, labels.1)?;
    check_pair((images.0, header.count), (labels.0, read.len()))?;
    let shape = ImageShape { height: header.rows, width: header.columns, channels: 1 };
    Ok(Examples { pixels: images.1[IMAGES_HEADER..].to_vec(), labels: read, shape })
}

/// A pixel of an artifact.
pub trait Pixel: Copy {
    /// Its type.
    const ELEMENT: Element;

    /// The bytes of several.
    fn bytes(pixels: &[Self]) -> impl Iterator<Item = u8>;
}

impl Pixel for u8 {
    const ELEMENT: Element = Element::U8;

    fn bytes(pixels: &[u8]) -> impl Iterator<Item = u8> {
        pixels.iter().copied()
    }
}

impl Pixel for f32 {
    const ELEMENT: Element = Element::F32;

    fn bytes(pixels: &[f32]) -> impl Iterator<Item = u8> {
        pixels.iter().flat_map(|pixel| pixel.to_be_bytes())
    }
}

/// The image file of `pixels`, [n, inputs]; the columns of a row include the channels.
///
/// # Panics
/// If `pixels` is not a whole number of images, or more than 2^32 - 1 of them.
pub fn write_images<T: Pixel>(pixels: &[T], shape: ImageShape) -> Vec<u8> {
    assert!(pixels.len().is_multiple_of(shape.inputs()), "pixels must come in whole images");
    let dimensions =
        [pixels.len() / shape.inputs(), shape.height, shape.width * shape.channels].map(dimension);
    let mut bytes = start(T::ELEMENT, &dimensions);
    bytes.reserve_exact(size_of_val(pixels));
    bytes.extend(T::bytes(pixels));
    bytes
}

/// The label file of `labels`, `[n]`, of `classes` classes: bytes if there are ten.
///
/// # Panics
/// If there are more than 2^32 - 1 of them.
pub fn write_labels(labels: &[u16], classes: usize) -> Vec<u8> {
    let element = if classes == CLASSES { Element::U8 } else { Element::I16 };
    let mut bytes = start(element, &[dimension(labels.len())]);
    for label in labels.iter().map(|label| label.to_be_bytes()) {
        bytes.extend_from_slice(&label[2 - element.size()..]);
    }
    bytes
}

fn dimension(n: usize) -> u32 {
    u32::try_from(n).expect("an IDX dimension has 32 bits")
}

/// The magic number and the dimensions.
fn start(element: Element, dimensions: &[u32]) -> Vec<u8> {
    let Magic(magic) = element.magic(dimensions.len() as u32);
    [magic].iter().chain(dimensions).flat_map(|word| word.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::data::PIXELS;
    use proptest::prelude::*;

    fn refusal<T: std::fmt::Debug>(result: Result<T, IdxError>) -> String {
        result.unwrap_err().to_string()
    }

    fn images(pixels: &[u8]) -> Vec<u8> {
        write_images(pixels, ImageShape::default())
    }

    fn read_header(bytes: &[u8]) -> Result<ImagesHeader, IdxError> {
        images_header("f", bytes, bytes.len() as u64)
    }

    proptest! {
        #[test]
        fn a_written_file_reads_back(
            labels in prop::collection::vec(0..10u16, 0..5),
            fill: u8,
            (height, width, channels) in (1..5usize, 1..5usize, 1..4usize),
        ) {
            let shape = ImageShape { height, width, channels };
            let pixels = (0..labels.len() * shape.inputs()).map(|i| (i as u8).wrapping_mul(fill));
            let pixels: Vec<u8> = pixels.collect();
            let (images, labels_file) = (write_images(&pixels, shape), write_labels(&labels, 10));
            let read = read_examples(("images", &images), ("labels", &labels_file));
            let shape = ImageShape { height, width: width * channels, channels: 1 };
            prop_assert_eq!(read, Ok(Examples { pixels, labels, shape }));
        }

        #[test]
        fn labels_of_any_number_of_classes_read_back(
            labels in prop::collection::vec(0..1000u16, 1..9),
        ) {
            let classes = usize::from(*labels.iter().max().unwrap()) + 1;
            let file = write_labels(&labels, classes);
            prop_assert_eq!(read_labels("f", &file), Ok((labels, classes)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            magic in prop_oneof![
                prop::sample::select(vec![0, BYTE_IMAGES.0, FLOAT_IMAGES.0, BYTE_LABELS.0,
                    WIDE_LABELS.0, 0x0e08, 0x0d00]),
                any::<u32>(),
            ],
            sides in prop::sample::select(vec![0, 1, 28, u32::MAX]),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            cut in 0..60usize,
        ) {
            for header in [vec![magic], vec![magic, u32::MAX, sides, sides]] {
                let bytes = header.into_iter().flat_map(u32::to_be_bytes).chain(tail.clone());
                let mut bytes: Vec<u8> = bytes.collect();
                bytes.truncate(cut);
                prop_assert!(bytes.len() < 16 || read_header(&bytes).is_err());
                if let Ok((labels, _)) = read_labels("f", &bytes) {
                    prop_assert!(labels.len() <= bytes.len() - 8);
                }
            }
        }
    }

    #[test]
    fn ten_classes_are_bytes_and_any_other_number_is_not() {
        assert_eq!(write_labels(&[1, 9], 10), [0, 0, 8, 1, 0, 0, 0, 2, 1, 9]);
        assert_eq!(read_labels("f", &write_labels(&[1, 2], 10)), Ok((vec![1, 2], 10)));
        for classes in [3, 11] {
            let file = write_labels(&[1, 2], classes);
            assert_eq!(file, [0, 0, 11, 1, 0, 0, 0, 2, 0, 1, 0, 2]);
            assert_eq!(read_labels("f", &file), Ok((vec![1, 2], 3)));
        }
    }

    #[test]
    fn floats_are_written_bit_for_bit() {
        let pixels = [0.0, 0.1f32, 1.0, f32::MIN_POSITIVE];
        let file = write_images(&pixels, ImageShape { height: 1, width: 2, channels: 1 });
        let header = ImagesHeader { floats: true, count: 2, rows: 1, columns: 2 };
        assert_eq!(read_header(&file), Ok(header));
        let (words, _) = file[IMAGES_HEADER..].as_chunks::<4>();
        assert!(words.iter().map(|word| f32::from_be_bytes(*word)).eq(pixels));
    }

    #[test]
    fn the_other_kind_of_file_is_refused_with_its_name() {
        let file = write_labels(&[1], 10);
        let message = refusal(images_header("train-images", &file, file.len() as u64));
        assert_eq!(message, "`train-images` starts with `0x0801`, not with `0x0803` or `0x0d03`");
        assert!(matches!(read_labels("f", &images(&[])), Err(IdxError::Magic { .. })));
        let message = refusal(read_labels("f", b"a text"));
        assert_eq!(message, "`f` starts with `0x61207465`: it is not an IDX file");
    }

    #[test]
    fn images_without_pixels_are_refused() {
        let [none, many] = [[2, 0, 5], [0, 1 << 16, 1 << 16]];
        let message = refusal(read_header(&start(Element::U8, &none)));
        assert_eq!(message, "`f` holds images of 0 x 5 numbers, not of 1 to 1048576");
        assert!(refusal(read_header(&start(Element::U8, &many))).contains("65536 x 65536"));
    }

    #[test]
    fn a_byte_too_few_or_too_many_is_refused() {
        type Read = fn(&[u8]) -> Result<(), IdxError>;
        for (file, read) in [
            (images(&[7; 2 * PIXELS]), (|bytes| read_header(bytes).map(drop)) as Read),
            (write_labels(&[1, 2, 3], 10), |bytes| read_labels("f", bytes).map(drop)),
        ] {
            let whole = file.len();
            let longer = [&file[..], &[0]].concat();
            assert_eq!(
                refusal(read(&longer)),
                format!("`f` has {} bytes but its header specifies {whole}", whole + 1)
            );
            assert!((0..whole).all(|n| matches!(read(&file[..n]), Err(IdxError::Length { .. }))));
        }
    }

    #[test]
    fn a_wrong_count_is_refused_before_allocation() {
        let file = [start(Element::U8, &[u32::MAX, 28, 28]), vec![0; PIXELS]].concat();
        let message = refusal(read_header(&file));
        assert_eq!(message, "`f` has 800 bytes but its header specifies 3367254359296");
    }

    #[test]
    fn a_label_of_no_class_is_refused_with_its_index() {
        assert_eq!(
            refusal(read_labels("f", &write_labels(&[9, 0, 10], 10))),
            "`f` has the label `10` at index 2, not one from 0 to 9"
        );
        assert_eq!(
            refusal(read_labels("f", &write_labels(&[9, 1000], 11))),
            "`f` has the label `1000` at index 1, not one from 0 to 999"
        );
    }

    #[test]
    fn images_and_labels_must_agree_in_number() {
        let (images, labels) = (images(&[0; 2 * PIXELS]), write_labels(&[1], 10));
        let message = refusal(read_examples(("images", &images), ("labels", &labels)));
        assert_eq!(message, "`images` holds 2 images, but `labels` holds 1 labels");
    }
}
