//! Arrays of images and labels, as users have them, and what they must be.

use super::idx::{Element, Header, LONGEST_HEADER};
use super::npz;
use super::{ImageShape, MOST_CLASSES, MOST_IMAGES, MOST_INPUTS};
use flate2::read::MultiGzDecoder;
use std::fmt::{self, Display};
use std::io::Read;
use thiserror::Error;

/// An error in an array, with a hint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{cause}")]
pub struct ArrayError {
    /// One sentence, which names the array.
    pub cause: String,
    /// The hint.
    pub hint: String,
}

impl ArrayError {
    /// An error with this cause and hint.
    pub fn new(cause: impl Into<String>, hint: impl Into<String>) -> ArrayError {
        ArrayError { cause: cause.into(), hint: hint.into() }
    }
}

/// What messages call an array, with backticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Title {
    /// The name of the array in an archive, or of the file.
    pub name: String,
    /// The archive.
    pub archive: Option<String>,
}

impl Title {
    /// What messages call the number with these indices.
    fn at(&self, indices: impl Display) -> String {
        let Title { name, archive } = self;
        Title { name: format!("{name}[{indices}]"), archive: archive.clone() }.to_string()
    }
}

impl Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Title { name, archive } = self;
        match archive {
            Some(archive) => write!(f, "`{name}` in `{archive}`"),
            None => write!(f, "`{name}`"),
        }
    }
}

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// What messages call it.
    pub title: Title,
    /// The dimensions, the slowest first.
    pub dimensions: Vec<usize>,
    /// Its numbers.
    pub values: Values,
}

/// The numbers of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Bytes.
    U8(Vec<u8>),
    /// Whole numbers of any other type.
    I64(Vec<i64>),
    /// Floats of 32 bits or fewer.
    F32(Vec<f32>),
    /// Floats of 64 bits.
    F64(Vec<f64>),
}

/// The pixels of images, [n, inputs].
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// 0 to 255.
    Bytes(Vec<u8>),
    /// In [0, 1].
    Floats(Vec<f32>),
}

/// Where an array of images has its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// [n, channels, height, width].
    First,
    /// [n, height, width, channels], or no dimension of channels.
    Last,
}

/// An array that is images.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// [n, inputs], in the order of the array.
    pub pixels: Pixels,
    /// The shape of each image.
    pub shape: ImageShape,
    /// Which dimension is the channels.
    pub channels: Channels,
    /// The dimensions of the array; the first is the number of images.
    pub dimensions: Vec<usize>,
}

/// Bytes that a file may always unpack to.
const ALWAYS_ALLOWED: u128 = 1 << 28;

/// How many times its size a larger file may unpack to.
const LARGEST_RATIO: u128 = 200;

/// Refuses an array of `bytes` bytes in a file of `packed` bytes if it is too large, or if only a
/// file that is made to exhaust memory unpacks to so much.
pub(super) fn check_size(title: &Title, bytes: u128, packed: usize) -> Result<usize, ArrayError> {
    let most = (MOST_IMAGES as u128) << 14;
    let is_bomb = bytes > ALWAYS_ALLOWED && bytes > LARGEST_RATIO * packed as u128;
    match usize::try_from(bytes) {
        Ok(fits) if bytes <= most && !is_bomb => Ok(fits),
        _ => {
            let cause = format!("{title} would have {bytes} bytes, in a file of {packed}");
            Err(ArrayError::new(cause, "the file is damaged, or has more than this program reads"))
        }
    }
}

/// Reads exactly `length` bytes, and no more memory than the stream fills.
pub(super) fn read_exactly(
    title: &Title,
    stream: &mut impl Read,
    length: usize,
) -> Result<Vec<u8>, ArrayError> {
    let mut bytes = Vec::new();
    let again = "the file is damaged or incomplete; copy or save it again";
    if let Err(cause) = stream.take(length as u64 + 1).read_to_end(&mut bytes) {
        return Err(ArrayError::new(format!("{title} cannot be unpacked: {cause}"), again));
    }
    if bytes.len() != length {
        let found = if bytes.len() > length { "more" } else { &*bytes.len().to_string() };
        let cause = format!("{title} has {found} bytes, but its header specifies {length}");
        return Err(ArrayError::new(cause, again));
    }
    Ok(bytes)
}

/// Whether these are the first bytes of a gzip stream.
fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Whether these can be the first bytes of an IDX file, gzipped or not.
pub fn is_idx(bytes: &[u8]) -> bool {
    is_gzip(bytes) || bytes.starts_with(&[0, 0])
}

/// The array in the IDX file `file`, gzipped or not.
pub fn read_idx(file: &str, bytes: &[u8]) -> Result<Array, ArrayError> {
    if is_gzip(bytes) {
        read_idx_stream(file, &mut MultiGzDecoder::new(bytes), bytes.len())
    } else {
        read_idx_stream(file, &mut &bytes[..], bytes.len())
    }
}

fn read_idx_stream(file: &str, stream: &mut impl Read, packed: usize) -> Result<Array, ArrayError> {
    let title = Title { name: file.to_owned(), archive: None };
    let mut start = Vec::new();
    let read = stream.by_ref().take(LONGEST_HEADER as u64).read_to_end(&mut start);
    let not_idx = |cause: String| {
        let hint = match start.starts_with(npz::MAGIC) {
            true => npz::JOIN,
            false => "expected an IDX file, as MNIST has them",
        };
        ArrayError::new(cause, hint)
    };
    read.map_err(|cause| not_idx(format!("{title} cannot be unpacked: {cause}")))?;
    let header = Header::parse(file, &start, start.len() as u64);
    let header = header.map_err(|error| not_idx(error.to_string()))?;
    let length = check_size(&title, header.file_length(), packed)?;
    let mut rest = start.chain(stream);
    let bytes = read_exactly(&title, &mut rest, length)?;
    let body = &bytes[header.length()..];
    let values = match header.element {
        Element::U8 => Values::U8(body.to_vec()),
        Element::I8 => Values::I64(each(body, |x| i64::from(i8::from_be_bytes(x)))),
        Element::I16 => Values::I64(each(body, |x| i64::from(i16::from_be_bytes(x)))),
        Element::I32 => Values::I64(each(body, |x| i64::from(i32::from_be_bytes(x)))),
        Element::F32 => Values::F32(each(body, f32::from_be_bytes)),
        Element::F64 => Values::F64(each(body, f64::from_be_bytes)),
    };
    let dimensions = header.dimensions.iter().map(|&n| n as usize).collect();
    Ok(Array { title, dimensions, values })
}

/// The numbers of `N` bytes each.
pub(super) fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|x| read(*x)).collect()
}

impl Array {
    /// Whether it can be labels, and not images.
    pub fn is_flat(&self) -> bool {
        matches!(self.dimensions[..], [_] | [_, 1])
    }

    /// The indices of number `at`, as in `3, 0, 5`.
    fn position(&self, mut at: usize) -> String {
        let mut indices = Vec::new();
        for &n in self.dimensions.iter().rev() {
            indices.push((at % n.max(1)).to_string());
            at /= n.max(1);
        }
        indices.reverse();
        indices.join(", ")
    }

    /// Its images.
    ///
    /// [n, width] is n images of one row. Of four dimensions, the last one is the channels, or else
    /// the second one if it is small; the numbers keep their order.
    pub fn into_images(self) -> Result<Images, ArrayError> {
        let Array { title, dimensions, .. } = &self;
        const MOST_CHANNELS: usize = 4;
        let shape = |height, width, channels| ImageShape { height, width, channels };
        let (n, shape, channels) = match dimensions[..] {
            [n, width] => (n, shape(1, width, 1), Channels::Last),
            [n, height, width] => (n, shape(height, width, 1), Channels::Last),
            [n, channels, height, width] if channels <= MOST_CHANNELS && width > MOST_CHANNELS => {
                (n, shape(height, width, channels), Channels::First)
            }
            [n, height, width, channels] => (n, shape(height, width, channels), Channels::Last),
            _ => {
                let cause = format!("{title} has the shape {dimensions:?}: it is not images");
                let hint = "expected [n, height, width] or [n, height, width, channels]";
                return Err(ArrayError::new(cause, hint));
            }
        };
        if n == 0 {
            return Err(ArrayError::new(format!("{title} has no images"), "save at least one"));
        }
        // The dimensions of an array in memory cannot overflow, unless one of them is 0.
        let inputs = [shape.height, shape.width, shape.channels]
            .into_iter()
            .fold(1usize, usize::saturating_mul);
        if !(1..=MOST_INPUTS).contains(&inputs) {
            let cause = format!("{title} has images of {shape}, {inputs} numbers");
            return Err(ArrayError::new(cause, format!("expected 1 to {MOST_INPUTS} numbers")));
        }
        if n > MOST_IMAGES || n as u64 * inputs as u64 > u64::from(u32::MAX) {
            let cause = format!("{title} has {n} images of {shape}, which is too much");
            let hint = format!("expected at most {MOST_IMAGES} images and 2^32 - 1 numbers");
            return Err(ArrayError::new(cause, hint));
        }
        let pixels = match self.values {
            Values::U8(pixels) => Pixels::Bytes(pixels),
            Values::I64(_) => {
                let cause = format!("{title} is of whole numbers that are not uint8");
                let hint = "expected uint8, or floats in [0, 1]; in Python: `x.astype(\"uint8\")`";
                return Err(ArrayError::new(cause, hint));
            }
            Values::F32(ref pixels) => {
                self.check_pixels(pixels.iter().map(|&x| f64::from(x)))?;
                Pixels::Floats(pixels.clone())
            }
            Values::F64(ref pixels) => {
                self.check_pixels(pixels.iter().copied())?;
                Pixels::Floats(pixels.iter().map(|&x| x as f32).collect())
            }
        };
        Ok(Images { pixels, shape, channels, dimensions: self.dimensions })
    }

    fn check_pixels(&self, pixels: impl Iterator<Item = f64> + Clone) -> Result<(), ArrayError> {
        let Some((at, x)) = pixels.clone().enumerate().find(|(_, x)| !(0.0..=1.0).contains(x))
        else {
            return Ok(());
        };
        let cause = format!("{} is {x}, not in [0, 1]", self.title.at(self.position(at)));
        let hint = match pixels.clone().all(|x| x >= 0.0 && x.is_finite()) {
            true => match pixels.fold(0.0, f64::max) {
                // Numbers up to 16 are not bytes: scikit-learn's digits are 0 to 16.
                largest if largest > 16.0 && largest <= 255.0 => {
                    "expected floats in [0, 1]: divide by the largest possible value; in Python, \
                     of bytes: `x / 255`"
                }
                _ => "expected floats in [0, 1]: divide by the largest possible value",
            },
            false => "expected uint8, or floats in [0, 1]",
        };
        Err(ArrayError::new(cause, hint))
    }

    /// Its labels, `[n]`; the array may be [n, 1].
    pub fn labels(&self) -> Result<Vec<u16>, ArrayError> {
        let Array { title, dimensions, values } = self;
        if !self.is_flat() {
            let cause = format!("{title} has the shape {dimensions:?}: it is not labels");
            let hint = "expected [n], one class per image; in Python, of one column per class: \
                        `y.argmax(axis=1)`";
            return Err(ArrayError::new(cause, hint));
        }
        match values {
            Values::U8(x) => classes(title, x, |&x| f64::from(x)),
            Values::I64(x) => classes(title, x, |&x| x as f64),
            Values::F32(x) => classes(title, x, |&x| f64::from(x)),
            Values::F64(x) => classes(title, x, |&x| x),
        }
    }
}

/// The labels in the array `title`, each of which must be a class.
fn classes<T: Display>(
    title: &Title,
    labels: &[T],
    number: impl Fn(&T) -> f64,
) -> Result<Vec<u16>, ArrayError> {
    let label = |(at, label): (usize, &T)| {
        let x = number(label);
        let is_class = x >= 0.0 && x < MOST_CLASSES as f64 && x.fract() == 0.0;
        is_class.then_some(x as u16).ok_or_else(|| {
            let cause = format!("{} is {label}, which is not a class", title.at(at));
            let hint = format!("expected a whole number from 0 to {}", MOST_CLASSES - 1);
            ArrayError::new(cause, hint)
        })
    };
    labels.iter().enumerate().map(label).collect()
}
