//! Compares two versions of an output: safetensors, CSV and JSON by content, other files by byte.

mod changes;

pub(super) use changes::changes;

use crate::engine::stage::first_byte;
use csv::{ReaderBuilder, StringRecord};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeSet;
use std::fmt::Display;

/// The first difference between two versions of `file`: an element of an array, a cell of a table,
/// or a byte.
pub(super) fn difference(file: &str, cached: &[u8], recomputed: &[u8]) -> String {
    let found = match file.rsplit_once('.') {
        Some((_, "safetensors")) => array_difference(cached, recomputed),
        Some((_, "csv")) => cell_difference(cached, recomputed),
        _ => None,
    };
    found.unwrap_or_else(|| first_byte(cached, recomputed))
}

fn both(cached: impl Display, recomputed: impl Display) -> String {
    format!("cached {cached}, recomputed {recomputed}")
}

/// `None` if one version is not safetensors, or if all arrays are equal.
fn array_difference(cached: &[u8], recomputed: &[u8]) -> Option<String> {
    let (cached, recomputed) =
        (SafeTensors::deserialize(cached).ok()?, SafeTensors::deserialize(recomputed).ok()?);
    let names: BTreeSet<&str> = cached.names().into_iter().chain(recomputed.names()).collect();
    names.into_iter().find_map(|name| {
        let difference = match (cached.tensor(name), recomputed.tensor(name)) {
            (Ok(a), Ok(b)) => element_difference(&a, &b)?,
            (Ok(_), Err(_)) => ": missing in the recomputed file".to_owned(),
            (Err(_), _) => ": missing in the cached file".to_owned(),
        };
        Some(format!("array `{name}`{difference}"))
    })
}

fn element_difference(cached: &TensorView, recomputed: &TensorView) -> Option<String> {
    let form = |tensor: &TensorView| format!("{:?} {:?}", tensor.dtype(), tensor.shape());
    if form(cached) != form(recomputed) {
        return Some(format!(": type and shape: {}", both(form(cached), form(recomputed))));
    }
    let size = (cached.dtype().bitsize() / 8).max(1);
    let (mut a, mut b) = (cached.data().chunks(size), recomputed.data().chunks(size));
    let at = a.by_ref().zip(b.by_ref()).position(|(a, b)| a != b)?;
    let value =
        |tensor: &TensorView| number(tensor.dtype(), &tensor.data()[at * size..(at + 1) * size]);
    let index = index(at, cached.shape());
    Some(format!(", element {index:?}: {}", both(value(cached), value(recomputed))))
}

/// The index by dimension of the element at position `at` in memory, in row-major order.
fn index(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|n| {
            let here = at % n;
            at /= n;
            here
        })
        .collect();
    index.reverse();
    index
}

/// A number with the fewest digits that restore its bits; the bytes of less common types.
fn number(dtype: Dtype, bytes: &[u8]) -> String {
    match (dtype, bytes) {
        (Dtype::F32, [a, b, c, d]) => float(f32::from_le_bytes([*a, *b, *c, *d]).into(), bytes),
        (Dtype::F64, [a, b, c, d, e, f, g, h]) => {
            float(f64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), bytes)
        }
        (Dtype::U8, [a]) => a.to_string(),
        (Dtype::I64, [a, b, c, d, e, f, g, h]) => {
            i64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]).to_string()
        }
        _ => hex(bytes),
    }
}

/// Digits as needed by the type; a NaN with its bits.
fn float(x: f64, bytes: &[u8]) -> String {
    match bytes.len() {
        _ if x.is_nan() => format!("NaN ({})", hex(bytes)),
        4 => (x as f32).to_string(),
        _ => x.to_string(),
    }
}

/// The bytes of a little-endian number, the most significant first.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// `None` if one version is not CSV, or if all cells are equal.
fn cell_difference(cached: &[u8], recomputed: &[u8]) -> Option<String> {
    let (cached, recomputed) = (records(cached)?, records(recomputed)?);
    let header = cached.first().map_or(&[][..], |(_, record)| record);
    for i in 0..cached.len().max(recomputed.len()) {
        let (a, b) = (cached.get(i), recomputed.get(i));
        let line = a.or(b).map_or(0, |(line, _)| *line);
        let (Some((_, a)), Some((_, b))) = (a, b) else {
            let shown = |row: Option<&(u64, Vec<String>)>| {
                row.map_or("no such line".into(), |(_, r)| format!("`{}`", r.join(",")))
            };
            return Some(format!("line {line}: {}", both(shown(a), shown(b))));
        };
        let width = a.len().max(b.len());
        if let Some(at) = (0..width).find(|at| a.get(*at) != b.get(*at)) {
            let column =
                header.get(at).map_or_else(|| (at + 1).to_string(), |name| format!("`{name}`"));
            let shown = |row: &[String]| {
                row.get(at).map_or("no such column".to_owned(), |cell| format!("`{cell}`"))
            };
            return Some(format!("line {line}, column {column}: {}", both(shown(a), shown(b))));
        }
    }
    None
}

/// The rows with their first lines, the header included.
fn records(bytes: &[u8]) -> Option<Vec<(u64, Vec<String>)>> {
    let row = |record: StringRecord| {
        (
            record.position().map_or(0, csv::Position::line),
            record.iter().map(str::to_owned).collect(),
        )
    };
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    reader.records().map(|record| record.ok().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(w1: &[f32], w2: &[f32]) -> Vec<u8> {
        let bytes =
            |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let (one, two) = (bytes(w1), bytes(w2));
        let view = |bytes, columns, n: usize| {
            TensorView::new(Dtype::F32, vec![n / columns, columns], bytes).unwrap()
        };
        let views = [("w1", view(&one, 3, w1.len())), ("w2", view(&two, 2, w2.len()))];
        safetensors::serialize(views, None).unwrap()
    }

    #[test]
    fn the_difference_of_arrays_is_the_first_differing_element() {
        let base = tensors(&[0., 1., 2., 3., 4., 5.], &[6., 7.]);
        let case = |other: Vec<u8>, expected: &str| {
            assert_eq!(difference("net.safetensors", &base, &other), expected)
        };
        case(
            tensors(&[0., 1., 2., 3., 0.1, 9.], &[6., 7.]),
            "array `w1`, element [1, 1]: cached 4, recomputed 0.1",
        );
        case(
            tensors(&[0., 1., 2., 3., 4., 5.], &[6., 8.]),
            "array `w2`, element [0, 1]: cached 7, recomputed 8",
        );
        case(
            tensors(&[-0., 1., 2., 3., 4., 5.], &[6., 7.]),
            "array `w1`, element [0, 0]: cached 0, recomputed -0",
        );
        case(
            tensors(&[0., 1., 2.], &[6., 7.]),
            "array `w1`: type and shape: cached F32 [2, 3], recomputed F32 [1, 3]",
        );
        let nan = tensors(&[f32::NAN, 1., 2., 3., 4., 5.], &[6., 7.]);
        case(nan, "array `w1`, element [0, 0]: cached 0, recomputed NaN (0x7fc00000)");
    }

    #[test]
    fn the_difference_of_tables_is_the_first_differing_cell() {
        let case = |a: &str, b: &str, expected: &str| {
            assert_eq!(difference("t.csv", a.as_bytes(), b.as_bytes()), expected);
        };
        case(
            "t,error\n0,1\n1,2\n",
            "t,error\n0,1\n1,2.5\n",
            "line 3, column `error`: cached `2`, recomputed `2.5`",
        );
        case(
            "t\n\"a\nb\"\nc\n",
            "t\n\"a\nb\"\nd\n",
            "line 4, column `t`: cached `c`, recomputed `d`",
        );
        case(
            "t,error\n0,1\n",
            "t,error\n0,1\n1,2\n",
            "line 3: cached no such line, recomputed `1,2`",
        );
        case("t\n0\n", "t\n0,1\n", "line 2, column 2: cached no such column, recomputed `1`");
        case("t\n0\n", "t\n\"0\"\n", "byte 2: cached 0x30, recomputed 0x22");
    }

    #[test]
    fn the_difference_of_other_files_is_the_first_differing_byte() {
        assert_eq!(difference("a.svg", b"<svg>", b"<swg>"), "byte 2: cached 0x76, recomputed 0x77");
        assert_eq!(difference("a", b"ab", b"abc"), "byte 2: cached none, recomputed 0x63");
        assert_eq!(
            difference("a.safetensors", b"ab", b"ac"),
            "byte 1: cached 0x62, recomputed 0x63",
            "not a safetensors file"
        );
        assert_eq!(difference("a.csv", b"\xff", b"\xfe"), "byte 0: cached 0xff, recomputed 0xfe");
    }
}
