//! MNIST: its four files, their digests, and the two sets that they form.
//!
//! Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document
//! recognition", Proc. IEEE 86, 1998. Digests are of the uncompressed files, since mirrors may
//! compress differently. This file does no I/O.

use super::{Examples, idx};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::io::Read;
use thiserror::Error;

/// One of the four files.
#[derive(Debug, PartialEq, Eq)]
pub struct MnistFile {
    /// Its name when uncompressed; mirrors serve it with `.gz` appended.
    pub name: &'static str,
    /// Its length when uncompressed, in bytes.
    pub bytes: usize,
    /// SHA-256 of the uncompressed bytes, in hexadecimal.
    pub sha256: &'static str,
}

/// The files in the order of [`assemble`]: training images and labels, then test images and labels.
pub const FILES: [MnistFile; 4] = [
    MnistFile {
        name: "train-images-idx3-ubyte",
        bytes: 47_040_016,
        sha256: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    },
    MnistFile {
        name: "train-labels-idx1-ubyte",
        bytes: 60_008,
        sha256: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    MnistFile {
        name: "t10k-images-idx3-ubyte",
        bytes: 7_840_016,
        sha256: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    },
    MnistFile {
        name: "t10k-labels-idx1-ubyte",
        bytes: 10_008,
        sha256: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
];

/// Base addresses; a file's name and `.gz` are appended.
pub const MIRRORS: [&str; 2] = [
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
];

/// An error in the files of MNIST.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages describe the fields")]
pub enum MnistError {
    /// The digest is not the published one.
    #[error("`{file}` has the SHA-256 `{found}`, not the published `{expected}`")]
    Digest { file: String, expected: String, found: String },
    /// Not a gzip stream, or a damaged one.
    #[error("`{file}` cannot be unzipped")]
    Gzip {
        file: String,
        #[source]
        cause: std::io::Error,
    },
    /// A gzip stream that is longer than the file.
    #[error("`{file}` unzips to more than {limit} bytes")]
    TooLong { file: String, limit: usize },
    /// An error in the IDX file.
    #[error(transparent)]
    Idx(#[from] idx::IdxError),
}

/// Checks the digest of the uncompressed `bytes` of `file`.
pub fn verify(file: &MnistFile, bytes: &[u8]) -> Result<(), MnistError> {
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != file.sha256 {
        return Err(MnistError::Digest {
            file: file.name.to_owned(),
            expected: file.sha256.to_owned(),
            found,
        });
    }
    Ok(())
}

/// Decompresses the gzip stream `bytes`, at most `limit` bytes; errors call it `name`.
///
/// A stream may have several members, as written by `pigz` and `cat`. Decompression stops after
/// `limit` bytes.
pub fn gunzip(name: &str, bytes: &[u8], limit: usize) -> Result<Vec<u8>, MnistError> {
    let mut unzipped = Vec::new();
    let one_more = limit as u64 + 1;
    match MultiGzDecoder::new(bytes).take(one_more).read_to_end(&mut unzipped) {
        // Trailing data after the last member, as `gzip` allows; the digest detects missing bytes.
        Err(_) if unzipped.len() == limit => Ok(unzipped),
        Err(cause) => Err(MnistError::Gzip { file: name.to_owned(), cause }),
        Ok(_) if unzipped.len() > limit => {
            Err(MnistError::TooLong { file: name.to_owned(), limit })
        }
        Ok(_) => Ok(unzipped),
    }
}

/// The training and test sets from the four files' uncompressed bytes, in the order of [`FILES`].
///
/// Checks their format only; [`verify`] checks their digests.
pub fn assemble(files: &[Vec<u8>; 4]) -> Result<(Examples, Examples), MnistError> {
    let named = |i: usize| (FILES[i].name, files[i].as_slice());
    Ok((idx::read_examples(named(0), named(1))?, idx::read_examples(named(2), named(3))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::data::{ImageShape, PIXELS};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn images(pixels: &[u8]) -> Vec<u8> {
        idx::write_images(pixels, ImageShape::default())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_pinned_digests_and_sizes_are_well_formed() {
        for file in &FILES {
            assert_eq!(file.sha256.len(), 64);
            assert!(file.sha256.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
        }
        assert_eq!(
            FILES.each_ref().map(|f| f.bytes),
            [16 + 60_000 * PIXELS, 8 + 60_000, 16 + 10_000 * PIXELS, 8 + 10_000]
        );
    }

    #[test]
    fn wrong_bytes_are_refused_with_both_digests() {
        // The digest of the empty string in FIPS 180-4.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let file = MnistFile { name: "f", bytes: 0, sha256: empty };
        assert!(verify(&file, b"").is_ok());
        let message = verify(&FILES[1], b"").unwrap_err().to_string();
        let published = FILES[1].sha256;
        assert_eq!(
            message,
            format!(
                "`train-labels-idx1-ubyte` has the SHA-256 `{empty}`, not the published \
                 `{published}`"
            )
        );
    }

    #[test]
    fn a_stream_is_unzipped_up_to_its_limit_only() {
        let zeros = vec![0; 100_000];
        let stream = gzip(&zeros);
        assert_eq!(gunzip("f.gz", &stream, zeros.len()).unwrap(), zeros);
        let bomb = gunzip("f.gz", &stream, zeros.len() - 1).unwrap_err();
        assert_eq!(bomb.to_string(), "`f.gz` unzips to more than 99999 bytes");
    }

    #[test]
    fn a_stream_of_several_members_is_unzipped_whole_despite_trailing_data() {
        let mut stream = [gzip(b"one small "), gzip(b""), gzip(b"step")].concat();
        assert_eq!(gunzip("f.gz", &stream, 14).unwrap(), b"one small step");
        stream.extend([0; 512]);
        assert_eq!(gunzip("f.gz", &stream, 14).unwrap(), b"one small step");
    }

    #[test]
    fn a_damaged_stream_is_refused_with_its_name() {
        let stream = gzip(b"one small step");
        for broken in [&b"not gzip"[..], &[], &stream[..stream.len() - 1]] {
            assert_eq!(
                gunzip("f.gz", broken, 100).unwrap_err().to_string(),
                "`f.gz` cannot be unzipped"
            );
        }
    }

    #[test]
    fn four_files_make_two_sets() {
        let files = [
            images(&[1; 2 * PIXELS]),
            idx::write_labels(&[3, 4], 10),
            images(&[2; PIXELS]),
            idx::write_labels(&[5], 10),
        ];
        let (train, test) = assemble(&files).unwrap();
        assert_eq!((train.labels, test.labels), (vec![3, 4], vec![5]));
        assert_eq!((train.pixels[0], test.pixels[0]), (1, 2));
    }

    #[test]
    fn sets_of_unequal_files_are_refused() {
        let (images, labels) = (images(&[1; PIXELS]), idx::write_labels(&[3, 4], 10));
        let message =
            assemble(&[images.clone(), labels.clone(), images, labels]).unwrap_err().to_string();
        let [images, labels, ..] = FILES.each_ref().map(|file| file.name);
        assert_eq!(message, format!("`{images}` holds 1 images, but `{labels}` holds 2 labels"));
    }
}
