//! The published datasets: the four files of each, their digests, and the two sets that they form.
//!
//! Sources: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to
//! document recognition", Proc. IEEE 86, 1998 (MNIST); H. Xiao, K. Rasul, R. Vollgraf,
//! "Fashion-MNIST", arXiv 1708.07747; T. Clanuwat et al., "Deep learning for classical Japanese
//! literature", arXiv 1812.01718 (KMNIST). This file does no I/O.
//!
//! MNIST is checked by the SHA-256 of the uncompressed files, since mirrors may compress
//! differently. For the other two, torchvision publishes the MD5 of the gzipped files, and that is
//! what is checked: it detects damaged and mistaken files, but not files that were made to have the
//! same MD5.

use super::{Dataset, Examples, idx};
use flate2::read::MultiGzDecoder;
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::io::Read;
use thiserror::Error;

/// A published dataset in four files of the same names: training images and labels, then test
/// images and labels.
#[derive(Debug)]
pub struct Published {
    /// Its name in messages.
    pub title: &'static str,
    /// The four files, in the order of [`assemble`].
    pub files: [PublishedFile; 4],
    /// Base addresses; a file's name and `.gz` are appended.
    pub mirrors: &'static [&'static str],
    /// The subfolders of a data folder to look into, besides the folder itself.
    pub folders: &'static [&'static str],
}

/// One of the four files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its name when uncompressed; mirrors serve it with `.gz` appended.
    pub name: &'static str,
    /// Its length when uncompressed, in bytes.
    pub bytes: usize,
    /// Its published digest.
    pub digest: PublishedDigest,
}

/// A published digest, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedDigest {
    /// SHA-256 of the uncompressed bytes.
    Sha256(&'static str),
    /// MD5 of the gzipped bytes.
    Md5OfGzip(&'static str),
}

impl PublishedDigest {
    /// Its digits.
    pub fn text(&self) -> &'static str {
        match self {
            PublishedDigest::Sha256(text) | PublishedDigest::Md5OfGzip(text) => text,
        }
    }
}

impl fmt::Display for PublishedDigest {
    /// The name of the function.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            PublishedDigest::Sha256(_) => "SHA-256",
            PublishedDigest::Md5OfGzip(_) => "MD5",
        })
    }
}

/// The files with these digests.
const fn files(digests: [PublishedDigest; 4]) -> [PublishedFile; 4] {
    let [a, b, c, d] = digests;
    [
        PublishedFile { name: "train-images-idx3-ubyte", bytes: 47_040_016, digest: a },
        PublishedFile { name: "train-labels-idx1-ubyte", bytes: 60_008, digest: b },
        PublishedFile { name: "t10k-images-idx3-ubyte", bytes: 7_840_016, digest: c },
        PublishedFile { name: "t10k-labels-idx1-ubyte", bytes: 10_008, digest: d },
    ]
}

/// MNIST.
pub static MNIST: Published = Published {
    title: "MNIST",
    files: files([
        PublishedDigest::Sha256("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        PublishedDigest::Sha256("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        PublishedDigest::Sha256("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        PublishedDigest::Sha256("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    ]),
    mirrors: &[
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ],
    folders: &["MNIST/raw", "raw", "mnist"],
};

/// Fashion-MNIST.
pub static FASHION_MNIST: Published = Published {
    title: "Fashion-MNIST",
    files: files([
        PublishedDigest::Md5OfGzip("8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        PublishedDigest::Md5OfGzip("25c81989df183df01b3e8a0aad5dffbe"),
        PublishedDigest::Md5OfGzip("bef4ecab320f06d8554ea6380940ec79"),
        PublishedDigest::Md5OfGzip("bb300cfdad3c16e7a12a480ee83cd310"),
    ]),
    mirrors: &["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    folders: &["fashion-mnist", "FashionMNIST/raw"],
};

/// KMNIST.
pub static KMNIST: Published = Published {
    title: "KMNIST",
    files: files([
        PublishedDigest::Md5OfGzip("bdb82020997e1d708af4cf47b453dcf7"),
        PublishedDigest::Md5OfGzip("e144d726b3acfaa3e44228e80efcd344"),
        PublishedDigest::Md5OfGzip("5c965bf0a639b31b8f53240b1b52f4d7"),
        PublishedDigest::Md5OfGzip("7320c461ea6c1c855c0b718fb2a4b134"),
    ]),
    mirrors: &["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
    folders: &["kmnist", "KMNIST/raw"],
};

/// The files of `dataset`; `None` if it is generated.
pub fn published(dataset: Dataset) -> Option<&'static Published> {
    match dataset {
        Dataset::Mnist => Some(&MNIST),
        Dataset::FashionMnist => Some(&FASHION_MNIST),
        Dataset::Kmnist => Some(&KMNIST),
        Dataset::Digits => None,
    }
}

/// An error in the files of a published dataset.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages describe the fields")]
pub enum PublishedError {
    /// The digest is not the published one.
    #[error("`{file}` has the {expected} `{found}`, not the published `{}`", expected.text())]
    Digest { file: String, expected: PublishedDigest, found: String },
    /// The published digest is that of the gzipped file.
    #[error("it cannot be checked: the published MD5 is that of `{file}.gz`")]
    Unpacked { file: String },
    /// An error in the gzip stream.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// An error in the IDX file.
    #[error(transparent)]
    Idx(#[from] idx::IdxError),
}

/// An error in a gzip stream.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages describe the fields")]
pub enum GzipError {
    /// Not a gzip stream, or a damaged one.
    #[error("`{file}` cannot be unzipped")]
    Damaged {
        file: String,
        #[source]
        cause: std::io::Error,
    },
    /// A gzip stream that is longer than the file.
    #[error("`{file}` unzips to more than {limit} bytes")]
    TooLong { file: String, limit: usize },
}

impl PublishedFile {
    /// The uncompressed bytes of the file, from its gzipped bytes, if they are the published ones.
    pub fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, PublishedError> {
        if let PublishedDigest::Md5OfGzip(_) = self.digest {
            self.check(&Md5::digest(packed))?;
        }
        let bytes = gunzip(self.name, packed, self.bytes)?;
        if let PublishedDigest::Sha256(_) = self.digest {
            self.verify(&bytes)?;
        }
        Ok(bytes)
    }

    /// Checks the uncompressed `bytes`.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), PublishedError> {
        match self.digest {
            PublishedDigest::Sha256(_) => self.check(&Sha256::digest(bytes)),
            PublishedDigest::Md5OfGzip(_) => {
                Err(PublishedError::Unpacked { file: self.name.to_owned() })
            }
        }
    }

    fn check(&self, digest: &[u8]) -> Result<(), PublishedError> {
        let mut found = String::new();
        for byte in digest {
            // Writing to a string cannot fail.
            let _ = write!(found, "{byte:02x}");
        }
        if found != self.digest.text() {
            let (file, expected) = (self.name.to_owned(), self.digest);
            return Err(PublishedError::Digest { file, expected, found });
        }
        Ok(())
    }
}

/// Whether the files of training images and labels and of test images and labels, uncompressed,
/// are those of MNIST.
pub fn is_mnist(files: [&[u8]; 4]) -> bool {
    MNIST.files.iter().zip(files).all(|(file, bytes)| file.verify(bytes).is_ok())
}

/// Decompresses the gzip stream `bytes`, at most `limit` bytes; errors call it `name`.
///
/// A stream may have several members, as written by `pigz` and `cat`. Decompression stops after
/// `limit` bytes.
pub fn gunzip(name: &str, bytes: &[u8], limit: usize) -> Result<Vec<u8>, GzipError> {
    let mut unzipped = Vec::new();
    let one_more = limit as u64 + 1;
    match MultiGzDecoder::new(bytes).take(one_more).read_to_end(&mut unzipped) {
        // Trailing data after the last member, as `gzip` allows; the digest detects missing bytes.
        Err(_) if unzipped.len() == limit => Ok(unzipped),
        Err(cause) => Err(GzipError::Damaged { file: name.to_owned(), cause }),
        Ok(_) if unzipped.len() > limit => Err(GzipError::TooLong { file: name.to_owned(), limit }),
        Ok(_) => Ok(unzipped),
    }
}

/// The training and test sets from the four files' uncompressed bytes, in the order of
/// [`Published::files`].
///
/// Checks their format only; [`PublishedFile::unpack`] checks their digests.
pub fn assemble(files: &[Vec<u8>; 4]) -> Result<(Examples, Examples), PublishedError> {
    let named = |i: usize| (MNIST.files[i].name, files[i].as_slice());
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
        for dataset in Dataset::ALL.iter().filter_map(|dataset| published(*dataset)) {
            for file in &dataset.files {
                let digits = if file.digest.to_string() == "MD5" { 32 } else { 64 };
                assert_eq!(file.digest.text().len(), digits);
                assert!(file.digest.text().bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
            }
            assert_eq!(
                dataset.files.each_ref().map(|f| f.bytes),
                [16 + 60_000 * PIXELS, 8 + 60_000, 16 + 10_000 * PIXELS, 8 + 10_000]
            );
        }
    }

    #[test]
    fn wrong_bytes_are_refused_with_both_digests() {
        // The digest of the empty string in FIPS 180-4.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = PublishedDigest::Sha256(empty);
        let file = PublishedFile { name: "f", bytes: 0, digest };
        assert!(file.verify(b"").is_ok());
        assert_eq!(file.unpack(&gzip(b"")).unwrap(), b"");
        let message = MNIST.files[1].verify(b"").unwrap_err().to_string();
        let published = MNIST.files[1].digest.text();
        assert_eq!(
            message,
            format!(
                "`train-labels-idx1-ubyte` has the SHA-256 `{empty}`, not the published \
                 `{published}`"
            )
        );
    }

    #[test]
    fn an_md5_is_that_of_the_gzipped_file() {
        // The digest of "abc" in RFC 1321.
        let digest = PublishedDigest::Md5OfGzip("900150983cd24fb0d6963f7d28e17f72");
        let file = PublishedFile { name: "f", bytes: 3, digest };
        assert_eq!(file.unpack(b"abc").unwrap_err().to_string(), "`f` cannot be unzipped");
        let wrong = file.unpack(&gzip(b"abc")).unwrap_err().to_string();
        assert!(wrong.starts_with("`f` has the MD5 `"), "{wrong}");
        assert_eq!(
            file.verify(b"abc").unwrap_err().to_string(),
            "it cannot be checked: the published MD5 is that of `f.gz`"
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
        let [images, labels, ..] = MNIST.files.each_ref().map(|file| file.name);
        assert_eq!(message, format!("`{images}` holds 1 images, but `{labels}` holds 2 labels"));
    }
}
