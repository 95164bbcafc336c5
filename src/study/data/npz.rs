//! NumPy's `.npz`: a zip archive of arrays, stored or deflated.
//!
//! Source: NumPy's documentation of `numpy.lib.format`. Sizes in headers are checked before
//! anything is allocated, and no pickle is read.

use super::array::{Array, ArrayError, Title, Values, check_size, each, read_exactly};
use half::f16;
use npyz::{DType, Endianness, NpyHeader, Order, TypeChar, TypeStr};
use std::io::{Cursor, Read as _};
use zip::ZipArchive;

/// An archive in memory.
pub struct Npz<'a> {
    file: String,
    archive: ZipArchive<Cursor<&'a [u8]>>,
    packed: usize,
}

/// The end of the name of an array's file.
pub const NPY: &str = ".npy";

/// The first bytes of an array's file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Bytes of the longest header: those of arrays without fields have 128.
const LONGEST_HEADER: usize = 1024;

/// Opening brackets of a kind in a header: a shape has one, a type with fields has more.
const MOST_BRACKETS: usize = 8;

/// The hint for arrays in files of their own.
pub const JOIN: &str = "save the arrays in one `.npz`: `numpy.savez(\"data.npz\", x_train=..., \
                        y_train=..., x_test=..., y_test=...)`";

const SAVE: &str = "save it again: `numpy.savez_compressed(\"data.npz\", x_train=..., ...)`";

impl<'a> Npz<'a> {
    /// The archive `file` with these bytes.
    pub fn open(file: &str, bytes: &'a [u8]) -> Result<Npz<'a>, ArrayError> {
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|cause| {
            ArrayError::new(format!("`{file}` is not a zip archive: {cause}"), SAVE)
        })?;
        Ok(Npz { file: file.to_owned(), archive, packed: bytes.len() })
    }

    /// The names of the arrays, without `.npy`, sorted.
    pub fn names(&self) -> Vec<String> {
        let files = (0..self.archive.len()).filter_map(|at| self.archive.name_for_index(at)?.ok());
        let mut names: Vec<String> =
            files.filter_map(|name| Some(name.strip_suffix(NPY)?.to_owned())).collect();
        names.sort_unstable();
        names
    }

    /// The array `name`, which must exist.
    pub fn array(&mut self, name: &str) -> Result<Array, ArrayError> {
        let title = Title { name: name.to_owned(), archive: Some(self.file.clone()) };
        let damaged = |cause: &dyn std::fmt::Display| {
            ArrayError::new(format!("{title} cannot be read: {cause}"), SAVE)
        };
        let file = self.archive.by_name(&format!("{name}{NPY}"));
        let mut file = file.map_err(|cause| damaged(&cause))?;
        let mut start = [0; 12];
        file.read_exact(&mut start).map_err(|cause| damaged(&cause))?;
        if !start.starts_with(MAGIC) {
            return Err(damaged(&"it is not an array of NumPy"));
        }
        // Version 1 has 16 bits for the length of the header, later ones have 32.
        let header = match start[6] {
            1 => usize::from(u16::from_le_bytes([start[8], start[9]])) + 10,
            _ => (u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize)
                .saturating_add(12),
        };
        if header > LONGEST_HEADER {
            let cause = format!("{title} has a header of {header} bytes");
            return Err(ArrayError::new(cause, "expected an array of numbers, without fields"));
        }
        let mut bytes = start.to_vec();
        let mut rest = vec![0; header.saturating_sub(start.len())];
        file.read_exact(&mut rest).map_err(|cause| damaged(&cause))?;
        bytes.extend_from_slice(&rest);
        let (text, body) = bytes.split_at(header.min(bytes.len()));
        // The parser takes exponential time for nested brackets, which no array of numbers has.
        let brackets = |open: u8| text.iter().filter(|&&c| c == open).count();
        if brackets(b'(') > MOST_BRACKETS || brackets(b'[') > MOST_BRACKETS {
            return Err(damaged(&"its header is not that of an array of numbers"));
        }
        let header = NpyHeader::from_reader(text).map_err(|cause| damaged(&cause))?;
        let number = number_of(&title, &header.dtype())?;
        let dimensions: Option<Vec<usize>> =
            header.shape().iter().map(|&n| usize::try_from(n).ok()).collect();
        let dimensions = dimensions.ok_or_else(|| damaged(&"its dimensions are too large"))?;
        let elements =
            dimensions.iter().fold(number.size as u128, |n, &of| n.saturating_mul(of as u128));
        let length = check_size(&title, elements, self.packed)?;
        let data = read_exactly(&title, &mut body.chain(&mut file), length)?;
        let mut values = number.read(&data);
        if header.order() == Order::Fortran {
            values = match values {
                Values::U8(x) => Values::U8(c_order(&x, &dimensions)),
                Values::I64(x) => Values::I64(c_order(&x, &dimensions)),
                Values::F32(x) => Values::F32(c_order(&x, &dimensions)),
                Values::F64(x) => Values::F64(c_order(&x, &dimensions)),
            };
        }
        Ok(Array { title, dimensions, values })
    }
}

/// The type of a number.
struct Number {
    kind: TypeChar,
    size: usize,
    is_big_endian: bool,
}

/// The type of an array's numbers; refuses all that are not numbers.
fn number_of(title: &Title, dtype: &DType) -> Result<Number, ArrayError> {
    let refuse_with =
        |what: &str, hint: &str| Err(ArrayError::new(format!("{title} {what}"), hint));
    let numbers = "expected uint8, or floats in [0, 1], for images, and whole numbers for labels";
    let refuse = |what: &str| refuse_with(what, numbers);
    if dtype.uses_pickled_array() {
        return refuse("is an array of objects, which contains a pickle");
    }
    let DType::Plain(plain) = dtype else { return refuse("is an array with fields") };
    let (kind, size) = (plain.type_char(), plain.size_field());
    let is_read = match kind {
        TypeChar::Uint | TypeChar::Int => matches!(size, 1 | 2 | 4 | 8),
        TypeChar::Float => matches!(size, 2 | 4 | 8),
        _ => false,
    };
    if matches!(kind, TypeChar::ByteStr | TypeChar::UnicodeStr) {
        let what = format!("is text, of the type `{}`", type_name(plain));
        let hint = "expected whole numbers for labels: number the classes from 0, in the same way \
                    for training and test";
        return refuse_with(&what, hint);
    }
    if !is_read {
        return refuse(&format!("is of the type `{}`", type_name(plain)));
    }
    let is_big_endian = matches!(plain.endianness(), Endianness::Big);
    Ok(Number { kind, size: size as usize, is_big_endian })
}

/// The name of a type in NumPy.
fn type_name(plain: &TypeStr) -> String {
    match plain.type_char() {
        TypeChar::Bool => "bool".to_owned(),
        TypeChar::Complex => format!("complex{}", plain.size_field().saturating_mul(8)),
        TypeChar::Float => format!("float{}", plain.size_field().saturating_mul(8)),
        _ => plain.to_string(),
    }
}

impl Number {
    fn read(&self, bytes: &[u8]) -> Values {
        let big = self.is_big_endian;
        /// The bytes of a number in little-endian order.
        fn little<const N: usize>(mut x: [u8; N], big: bool) -> [u8; N] {
            if big {
                x.reverse();
            }
            x
        }
        // A label of 2^63 or more is as wrong as the largest i64.
        let whole = |x: u64| i64::try_from(x).unwrap_or(i64::MAX);
        let is_signed = matches!(self.kind, TypeChar::Int);
        if matches!(self.kind, TypeChar::Float) {
            return match self.size {
                2 => Values::F32(each(bytes, |x| f16::from_le_bytes(little(x, big)).to_f32())),
                4 => Values::F32(each(bytes, |x| f32::from_le_bytes(little(x, big)))),
                _ => Values::F64(each(bytes, |x| f64::from_le_bytes(little(x, big)))),
            };
        }
        match (self.size, is_signed) {
            (1, false) => Values::U8(bytes.to_vec()),
            (1, true) => Values::I64(each(bytes, |x| i64::from(i8::from_le_bytes(x)))),
            (2, false) => Values::I64(each(bytes, |x| u16::from_le_bytes(little(x, big)).into())),
            (2, true) => Values::I64(each(bytes, |x| i16::from_le_bytes(little(x, big)).into())),
            (4, false) => Values::I64(each(bytes, |x| u32::from_le_bytes(little(x, big)).into())),
            (4, true) => Values::I64(each(bytes, |x| i32::from_le_bytes(little(x, big)).into())),
            (_, false) => Values::I64(each(bytes, |x| whole(u64::from_le_bytes(little(x, big))))),
            (_, true) => Values::I64(each(bytes, |x| i64::from_le_bytes(little(x, big)))),
        }
    }
}

/// The numbers of an array in Fortran order, whose first dimension is the fastest, in C order.
fn c_order<T: Copy>(fortran: &[T], dimensions: &[usize]) -> Vec<T> {
    let mut strides = Vec::with_capacity(dimensions.len());
    let mut stride = 1;
    for &n in dimensions {
        strides.push(stride);
        stride *= n;
    }
    let mut indices = vec![0; dimensions.len()];
    let mut at = 0;
    let mut ordered = Vec::with_capacity(fortran.len());
    for _ in 0..fortran.len() {
        ordered.push(fortran[at]);
        // The next index in C order: the last dimension is the fastest.
        for d in (0..dimensions.len()).rev() {
            indices[d] += 1;
            at += strides[d];
            if indices[d] < dimensions[d] {
                break;
            }
            at -= strides[d] * dimensions[d];
            indices[d] = 0;
        }
    }
    ordered
}
