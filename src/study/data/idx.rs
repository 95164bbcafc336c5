//! IDX, the format of MNIST: a big-endian magic number, the dimensions, then one byte per element.
//!
//! Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats". Every
//! error names the file. Counts in a header are checked against the length of the file before
//! anything is allocated.

use super::{Examples, PIXELS, SIDE};
use thiserror::Error;

/// Unsigned bytes in three dimensions: [n, rows, columns].
const IMAGES_MAGIC: u32 = 0x0803;
/// Unsigned bytes in one dimension: `[n]`.
const LABELS_MAGIC: u32 = 0x0801;

/// An error in an IDX file.
#[derive(Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages describe the fields")]
pub enum IdxError {
    /// The magic number is that of another kind of file.
    #[error("`{file}` starts with `{found:#06x}`, not with `{expected:#06x}`")]
    Magic { file: String, expected: u32, found: u32 },
    /// Images of another size.
    #[error("`{file}` holds images of {rows} x {columns} pixels, not 28 x 28")]
    Sides { file: String, rows: u32, columns: u32 },
    /// The length differs from the header, or is too short for one.
    #[error("`{file}` has {found} bytes but its header specifies {expected}")]
    Length { file: String, expected: u64, found: u64 },
    /// A label above 9.
    #[error("`{file}` has the label `{label}` at index {index}: not a digit")]
    Label { file: String, index: usize, label: u8 },
    /// An image file and a label file with different counts.
    #[error("`{images_file}` holds {images} images, but `{labels_file}` holds {labels} labels")]
    Pair { images_file: String, images: usize, labels_file: String, labels: usize },
}

/// Bytes of an image file before its pixels.
pub const IMAGES_HEADER: usize = 16;

/// The number of images in the image file `name` of `length` bytes. `first` are its first
/// [`IMAGES_HEADER`] bytes or more, or all of a shorter file. Allows reading the file in pieces.
pub fn count_images(name: &str, first: &[u8], length: u64) -> Result<usize, IdxError> {
    let ([count, rows, columns], _) = header(name, first, IMAGES_MAGIC)?;
    if (rows, columns) != (SIDE as u32, SIDE as u32) {
        return Err(IdxError::Sides { file: name.to_owned(), rows, columns });
    }
    exactly(name, length, IMAGES_HEADER as u64 + u64::from(count) * PIXELS as u64)?;
    Ok(count as usize)
}

/// The pixels, [n, 784], of an image file; errors call it `name`.
pub fn read_images(name: &str, bytes: &[u8]) -> Result<Vec<u8>, IdxError> {
    count_images(name, bytes, bytes.len() as u64)?;
    Ok(bytes[IMAGES_HEADER..].to_vec())
}

/// The labels, `[n]`, each 0..=9, of a label file; errors call it `name`.
pub fn read_labels(name: &str, bytes: &[u8]) -> Result<Vec<u16>, IdxError> {
    let ([count], labels) = header(name, bytes, LABELS_MAGIC)?;
    exactly(name, bytes.len() as u64, (bytes.len() - labels.len()) as u64 + u64::from(count))?;
    match labels.iter().position(|&label| label > 9) {
        Some(index) => Err(IdxError::Label { file: name.to_owned(), index, label: labels[index] }),
        None => Ok(labels.iter().map(|&label| u16::from(label)).collect()),
    }
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

/// The examples of an image file and its label file, each as (name, bytes).
pub fn read_examples(images: (&str, &[u8]), labels: (&str, &[u8])) -> Result<Examples, IdxError> {
    let examples = Examples {
        pixels: read_images(images.0, images.1)?,
        labels: read_labels(labels.0, labels.1)?,
    };
    check_pair((images.0, examples.pixels.len() / PIXELS), (labels.0, examples.len()))?;
    Ok(examples)
}

/// The image file of `pixels`, [n, 784].
///
/// # Panics
/// If `pixels` is not a whole number of images, or more than 2^32 - 1 of them.
pub fn write_images(pixels: &[u8]) -> Vec<u8> {
    assert!(pixels.len().is_multiple_of(PIXELS), "pixels must come in whole images");
    file([IMAGES_MAGIC, dimension(pixels.len() / PIXELS), SIDE as u32, SIDE as u32], pixels)
}

/// The label file of `labels`, `[n]`.
///
/// # Panics
/// If there are more than 2^32 - 1 of them.
pub fn write_labels(labels: &[u16]) -> Vec<u8> {
    let bytes: Vec<u8> = labels.iter().map(|&label| label as u8).collect();
    file([LABELS_MAGIC, dimension(labels.len())], &bytes)
}

/// Checks the magic number; returns the `D` dimensions and the bytes after them.
fn header<'a, const D: usize>(
    name: &str,
    bytes: &'a [u8],
    magic: u32,
) -> Result<([u32; D], &'a [u8]), IdxError> {
    let (words, body) = bytes.split_at(bytes.len().min(4 + 4 * D));
    let mut words =
        words.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    let short = || IdxError::Length {
        file: name.to_owned(),
        expected: 4 + 4 * D as u64,
        found: bytes.len() as u64,
    };
    let found = words.next().ok_or_else(short)?;
    if found != magic {
        return Err(IdxError::Magic { file: name.to_owned(), expected: magic, found });
    }
    let mut dimensions = [0; D];
    for dimension in &mut dimensions {
        *dimension = words.next().ok_or_else(short)?;
    }
    Ok((dimensions, body))
}

/// Checks that the length of a file is the expected one.
fn exactly(name: &str, found: u64, expected: u64) -> Result<(), IdxError> {
    if found != expected {
        return Err(IdxError::Length { file: name.to_owned(), expected, found });
    }
    Ok(())
}

fn dimension(n: usize) -> u32 {
    u32::try_from(n).expect("an IDX dimension has 32 bits")
}

fn file<const W: usize>(header: [u32; W], body: &[u8]) -> Vec<u8> {
    header.into_iter().flat_map(u32::to_be_bytes).chain(body.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal<T: std::fmt::Debug>(result: Result<T, IdxError>) -> String {
        result.unwrap_err().to_string()
    }

    proptest! {
        #[test]
        fn a_written_file_reads_back(labels in prop::collection::vec(0..10u16, 0..5), fill: u8) {
            let pixels = (0..labels.len() * PIXELS).map(|i| (i as u8).wrapping_mul(fill));
            let pixels: Vec<u8> = pixels.collect();
            let (images_file, labels_file) = (write_images(&pixels), write_labels(&labels));
            let read = read_examples(("images", &images_file), ("labels", &labels_file));
            prop_assert_eq!(read, Ok(Examples { pixels, labels }));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            magic in prop::sample::select(vec![0, IMAGES_MAGIC, LABELS_MAGIC]),
            sides in prop::sample::select(vec![0, 1, 28, u32::MAX]),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            cut in 0..60usize,
        ) {
            for header in [vec![magic], vec![magic, u32::MAX, sides, sides]] {
                let bytes = header.into_iter().flat_map(u32::to_be_bytes).chain(tail.clone());
                let mut bytes: Vec<u8> = bytes.collect();
                bytes.truncate(cut);
                prop_assert!(read_images("f", &bytes).is_err(), "no image fits into 40 bytes");
                if let Ok(labels) = read_labels("f", &bytes) {
                    prop_assert_eq!(labels.len() + 8, bytes.len());
                }
            }
        }
    }

    #[test]
    fn the_other_kind_of_file_is_refused_with_its_name() {
        let message = refusal(read_images("train-images", &write_labels(&[1])));
        assert_eq!(message, "`train-images` starts with `0x0801`, not with `0x0803`");
        assert!(matches!(read_labels("f", &write_images(&[])), Err(IdxError::Magic { .. })));
    }

    #[test]
    fn other_side_lengths_are_refused() {
        let message = refusal(read_images("f", &file([IMAGES_MAGIC, 1, 14, 56], &[0; PIXELS])));
        assert_eq!(message, "`f` holds images of 14 x 56 pixels, not 28 x 28");
    }

    #[test]
    fn a_byte_too_few_or_too_many_is_refused() {
        for (file, read) in [
            (
                write_images(&[7; 2 * PIXELS]),
                (|name, bytes| read_images(name, bytes).map(drop))
                    as fn(&str, &[u8]) -> Result<(), IdxError>,
            ),
            (write_labels(&[1, 2, 3]), |name, bytes| read_labels(name, bytes).map(drop)),
        ] {
            let whole = file.len();
            let longer = [&file[..], &[0]].concat();
            assert_eq!(
                refusal(read("f", &longer)),
                format!("`f` has {} bytes but its header specifies {whole}", whole + 1)
            );
            assert!(
                (0..whole).all(|n| matches!(read("f", &file[..n]), Err(IdxError::Length { .. })))
            );
        }
    }

    #[test]
    fn a_wrong_count_is_refused_before_allocation() {
        let message =
            refusal(read_images("f", &file([IMAGES_MAGIC, u32::MAX, 28, 28], &[0; PIXELS])));
        assert_eq!(message, "`f` has 800 bytes but its header specifies 3367254359296");
    }

    #[test]
    fn a_label_above_nine_is_refused_with_its_index() {
        assert_eq!(
            refusal(read_labels("f", &write_labels(&[9, 0, 10]))),
            "`f` has the label `10` at index 2: not a digit"
        );
    }

    #[test]
    fn images_and_labels_must_agree_in_number() {
        let (images, labels) = (write_images(&[0; 2 * PIXELS]), write_labels(&[1]));
        let message = refusal(read_examples(("images", &images), ("labels", &labels)));
        assert_eq!(message, "`images` holds 2 images, but `labels` holds 1 labels");
    }
}
