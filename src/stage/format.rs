//! The formats of outputs, read without knowing what is in them: where two contents first differ, in words.
//!
//! Knows safetensors, CSV and bytes by their file names; no stage.

use crate::engine::stage::{CellChange, Changes, first_byte};
use csv::{ReaderBuilder, StringRecord};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// Where two contents of `file` first differ: an array's element, a table's cell, or a byte. Values are told of the one as
/// `cached`, of the other as `again`.
pub(super) fn difference(file: &str, cached: &[u8], again: &[u8]) -> String {
    let known = match file.rsplit_once('.') {
        Some((_, "safetensors")) => arrays(cached, again),
        Some((_, "csv")) => cells(cached, again),
        _ => None,
    };
    known.unwrap_or_else(|| first_byte(cached, again))
}

/// `None` if one is not safetensors, or all arrays are equal.
fn arrays(cached: &[u8], again: &[u8]) -> Option<String> {
    let (cached, again) =
        (SafeTensors::deserialize(cached).ok()?, SafeTensors::deserialize(again).ok()?);
    let names: BTreeSet<&str> = cached.names().into_iter().chain(again.names()).collect();
    names.into_iter().find_map(|name| {
        let there = |tensors: &SafeTensors| {
            if tensors.tensor(name).is_ok() { "there" } else { "not there" }
        };
        let (Ok(a), Ok(b)) = (cached.tensor(name), again.tensor(name)) else {
            return Some(format!(
                "array `{name}`: cached {}, again {}",
                there(&cached),
                there(&again)
            ));
        };
        element(&a, &b).map(|difference| format!("array `{name}`, {difference}"))
    })
}

fn element(cached: &TensorView, again: &TensorView) -> Option<String> {
    let form = |tensor: &TensorView| format!("{:?} {:?}", tensor.dtype(), tensor.shape());
    if form(cached) != form(again) {
        return Some(format!("its form: cached {}, again {}", form(cached), form(again)));
    }
    let size = (cached.dtype().bitsize() / 8).max(1);
    let (mut a, mut b) = (cached.data().chunks(size), again.data().chunks(size));
    let at = a.by_ref().zip(b.by_ref()).position(|(a, b)| a != b)?;
    let value =
        |tensor: &TensorView| number(tensor.dtype(), &tensor.data()[at * size..(at + 1) * size]);
    Some(format!(
        "element {:?}: cached {}, again {}",
        index(at, cached.shape()),
        value(cached),
        value(again)
    ))
}

/// The index by dimension of the element that is the `at`-th in memory, the last dimension fastest.
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

/// A number in its shortest form that reads back the same; bytes where the type is not one of the common ones.
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

/// An f32 is told in its own digits. A NaN is told by its bits: there are many.
fn float(x: f64, bytes: &[u8]) -> String {
    match bytes.len() {
        _ if x.is_nan() => format!("NaN ({})", hex(bytes)),
        4 => (x as f32).to_string(),
        _ => x.to_string(),
    }
}

/// The most significant byte first, as numbers are written.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// What has changed between two tables, or two JSON files, whose leaves are told by their paths.
pub(super) fn changes(file: &str, before: &[u8], after: &[u8]) -> Option<Changes> {
    match file.rsplit_once('.')?.1 {
        "csv" => rows(before, after),
        "json" => leaves(before, after),
        _ => None,
    }
}

/// The leaves that are not equal.
fn leaves(before: &[u8], after: &[u8]) -> Option<Changes> {
    let read = |bytes| -> Option<BTreeMap<String, String>> {
        let mut leaves = BTreeMap::new();
        flatten("", &serde_json::from_slice(bytes).ok()?, &mut leaves);
        Some(leaves)
    };
    let (before, after) = (read(before)?, read(after)?);
    let mut changes = Changes {
        added: after.keys().filter(|path| !before.contains_key(*path)).count(),
        removed: before.keys().filter(|path| !after.contains_key(*path)).count(),
        ..Changes::default()
    };
    for (path, after) in &after {
        if let Some(before) = before.get(path).filter(|before| *before != after) {
            let (row, column) = path.rsplit_once('.').unwrap_or(("", path));
            let [row, column, before, after] = [row, column, before, after].map(str::to_owned);
            changes.cells.push(CellChange { row, column, before, after });
        }
    }
    Some(changes)
}

/// By path, as `a.b.0`: texts as they are, all else as JSON.
fn flatten(path: &str, value: &Json, leaves: &mut BTreeMap<String, String>) {
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Json::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(name, value)| flatten(&below(name), value, leaves));
        }
        Json::Array(list) if !list.is_empty() => {
            list.iter()
                .enumerate()
                .for_each(|(k, value)| flatten(&below(&k.to_string()), value, leaves));
        }
        Json::String(text) => _ = leaves.insert(path.to_owned(), text.clone()),
        value => _ = leaves.insert(path.to_owned(), value.to_string()),
    }
}

/// Rows are told apart by as few of the leading columns as will do, and compared by the values there: a number that moved
/// is a change of its row, not another row. Where values there were replaced by as many others, rows of the old are
/// compared with rows of the new.
fn rows(before: &[u8], after: &[u8]) -> Option<Changes> {
    let (before, after) = (Rows::read(before)?, Rows::read(after)?);
    let shared: Vec<&String> =
        before.header.iter().filter(|name| after.header.contains(name)).collect();
    let width = (0..=shared.len())
        .find(|n| before.told_apart(&shared[..*n]) && after.told_apart(&shared[..*n]))?;
    let (keys, values) = shared.split_at(width);
    let (old, new) = (before.by(keys), after.by(keys));
    let gone: Vec<_> = before.keys(keys).filter(|key| !new.contains_key(key)).collect();
    let come: Vec<_> = after.keys(keys).filter(|key| !old.contains_key(key)).collect();
    let renamed = renamed(&gone, &come);
    let mut changes = Changes {
        added: come.len() - renamed.len(),
        removed: gone.len() - renamed.len(),
        ..Changes::default()
    };
    let alone = |one: &Rows, other: &Rows| -> Vec<String> {
        one.header.iter().filter(|name| !other.header.contains(name)).cloned().collect()
    };
    changes.columns = [alone(&before, &after), alone(&after, &before)].concat();
    // In the second table's order.
    for row in &after.rows {
        let key = after.cells(row, keys);
        let key_before = renamed.get(&key).unwrap_or(&key);
        let Some(was) = old.get(key_before) else { continue };
        let cells =
            values.iter().zip(before.cells(was, values).into_iter().zip(after.cells(row, values)));
        for (column, (before, after)) in cells.filter(|(_, (before, after))| before != after) {
            let named = keys.iter().zip(key_before.iter().zip(&key)).map(|(name, (was, is))| {
                match was == is {
                    true => format!("{name}={is}"),
                    false => format!("{name}={was} → {is}"),
                }
            });
            let named: Vec<String> = named.collect();
            let (before, after) = (before.to_owned(), after.to_owned());
            changes.cells.push(CellChange {
                row: named.join(", "),
                column: (*column).clone(),
                before,
                after,
            });
        }
    }
    Some(changes)
}

/// The keys of rows that have come, with those of the rows that are gone in whose places they are: equal but in columns
/// where no value that is gone has come too. Such values replace each other in their order, if they are equally many.
fn renamed<'a>(
    gone: &[Vec<&'a str>],
    come: &[Vec<&'a str>],
) -> BTreeMap<Vec<&'a str>, Vec<&'a str>> {
    let columns = gone.first().map_or(0, Vec::len);
    let values = |rows: &[Vec<&'a str>], column: usize| {
        rows.iter().map(|row| row[column]).collect::<BTreeSet<_>>()
    };
    let replaced: Vec<usize> = (0..columns)
        .filter(|&column| values(gone, column).is_disjoint(&values(come, column)))
        .collect();
    let picked =
        |row: &Vec<&'a str>| replaced.iter().map(|&column| row[column]).collect::<Vec<_>>();
    let distinct = |rows: &[Vec<&'a str>]| -> Vec<Vec<&'a str>> {
        let mut seen = BTreeSet::new();
        rows.iter().map(picked).filter(|values| seen.insert(values.clone())).collect()
    };
    let (old, new) = (distinct(gone), distinct(come));
    if replaced.is_empty() || old.len() != new.len() {
        return BTreeMap::new();
    }
    let replacements: BTreeMap<_, _> = old.into_iter().zip(new).collect();
    let come: BTreeSet<&Vec<&str>> = come.iter().collect();
    let mut renamed = BTreeMap::new();
    for was in gone {
        let mut is = was.clone();
        for (&column, value) in replaced.iter().zip(&replacements[&picked(was)]) {
            is[column] = value;
        }
        if come.contains(&is) {
            renamed.insert(is, was.clone());
        }
    }
    renamed
}

/// A table under its header.
struct Rows {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Rows {
    fn read(bytes: &[u8]) -> Option<Rows> {
        let mut rows = records(bytes)?.into_iter().map(|(_, row)| row);
        Some(Rows { header: rows.next()?, rows: rows.collect() })
    }

    fn cells<'a>(&self, row: &'a [String], columns: &[&String]) -> Vec<&'a str> {
        let cell = |name: &&String| {
            let at = self.header.iter().position(|known| known == *name);
            at.and_then(|at| row.get(at)).map_or("", String::as_str)
        };
        columns.iter().map(cell).collect()
    }

    /// What tells each row apart, in their order.
    fn keys<'a>(&'a self, keys: &[&String]) -> impl Iterator<Item = Vec<&'a str>> {
        self.rows.iter().map(move |row| self.cells(row, keys))
    }

    fn by<'a>(&'a self, keys: &[&String]) -> BTreeMap<Vec<&'a str>, &'a Vec<String>> {
        self.rows.iter().map(|row| (self.cells(row, keys), row)).collect()
    }

    fn told_apart(&self, keys: &[&String]) -> bool {
        self.by(keys).len() == self.rows.len()
    }
}

/// `None` if one is not CSV, or all cells are equal.
fn cells(cached: &[u8], again: &[u8]) -> Option<String> {
    let (cached, again) = (records(cached)?, records(again)?);
    let header = cached.first().map_or(&[][..], |(_, record)| record);
    for i in 0..cached.len().max(again.len()) {
        let (a, b) = (cached.get(i), again.get(i));
        let line = a.or(b).map_or(0, |(line, _)| *line);
        let (Some((_, a)), Some((_, b))) = (a, b) else {
            let shown = |row: Option<&(u64, Vec<String>)>| {
                row.map_or("no such line".into(), |(_, r)| format!("`{}`", r.join(",")))
            };
            return Some(format!("line {line}: cached {}, again {}", shown(a), shown(b)));
        };
        let width = a.len().max(b.len());
        if let Some(at) = (0..width).find(|at| a.get(*at) != b.get(*at)) {
            let column =
                header.get(at).map_or_else(|| (at + 1).to_string(), |name| format!("`{name}`"));
            let shown = |row: &[String]| {
                row.get(at).map_or("nothing".to_owned(), |cell| format!("`{cell}`"))
            };
            return Some(format!(
                "line {line}, column {column}: cached {}, again {}",
                shown(a),
                shown(b)
            ));
        }
    }
    None
}

/// Rows with the lines they begin on, the header first.
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
    fn the_first_differing_element_of_the_first_differing_array_is_told_by_index_and_value() {
        let base = tensors(&[0., 1., 2., 3., 4., 5.], &[6., 7.]);
        let case = |other: Vec<u8>, said: &str| {
            assert_eq!(difference("net.safetensors", &base, &other), said)
        };
        case(
            tensors(&[0., 1., 2., 3., 0.1, 9.], &[6., 7.]),
            "array `w1`, element [1, 1]: cached 4, again 0.1",
        );
        case(
            tensors(&[0., 1., 2., 3., 4., 5.], &[6., 8.]),
            "array `w2`, element [0, 1]: cached 7, again 8",
        );
        case(
            tensors(&[-0., 1., 2., 3., 4., 5.], &[6., 7.]),
            "array `w1`, element [0, 0]: cached 0, again -0",
        );
        case(
            tensors(&[0., 1., 2.], &[6., 7.]),
            "array `w1`, its form: cached F32 [2, 3], again F32 [1, 3]",
        );
        let nan = tensors(&[f32::NAN, 1., 2., 3., 4., 5.], &[6., 7.]);
        case(nan, "array `w1`, element [0, 0]: cached 0, again NaN (0x7fc00000)");
    }

    #[test]
    fn the_first_differing_cell_is_told_by_line_and_column() {
        let case = |a: &str, b: &str, said: &str| {
            assert_eq!(difference("t.csv", a.as_bytes(), b.as_bytes()), said);
        };
        case(
            "t,error\n0,1\n1,2\n",
            "t,error\n0,1\n1,2.5\n",
            "line 3, column `error`: cached `2`, again `2.5`",
        );
        case("t\n\"a\nb\"\nc\n", "t\n\"a\nb\"\nd\n", "line 4, column `t`: cached `c`, again `d`");
        case("t,error\n0,1\n", "t,error\n0,1\n1,2\n", "line 3: cached no such line, again `1,2`");
        case("t\n0\n", "t\n0,1\n", "line 2, column 2: cached nothing, again `1`");
        case("t\n0\n", "t\n\"0\"\n", "byte 2: cached 0x30, again 0x22");
    }

    #[test]
    fn rows_are_matched_by_the_leading_columns_that_tell_them_apart() {
        let before = "hidden,prior,error\n10,none,1\n10,normal,2\n50,none,3\n";
        let after = "hidden,prior,error\n10,normal,2.5\n10,none,1\n100,none,4\n";
        let found = changes("t.csv", before.as_bytes(), after.as_bytes()).unwrap();
        let cell = |row: &str, column: &str, before: &str, after: &str| CellChange {
            row: row.into(),
            column: column.into(),
            before: before.into(),
            after: after.into(),
        };
        let moved = cell("hidden=10, prior=normal", "error", "2", "2.5");
        let replaced = cell("hidden=50 → 100, prior=none", "error", "3", "4");
        assert_eq!(found, Changes { cells: vec![moved, replaced], ..Changes::default() });
        let found = changes("t.csv", b"error,loss\n1,2\n", b"error,norm\n2,2\n").unwrap();
        assert_eq!(found.cells, [cell("", "error", "1", "2")], "a single row needs no name");
        assert_eq!(found.columns, ["loss", "norm"]);
        assert_eq!(
            changes("t.csv", b"a\n1\n1\n", b"a\n1\n2\n"),
            None,
            "two rows that are the same"
        );
        assert_eq!(changes("t.svg", b"a", b"b"), None);
    }

    #[test]
    fn anything_else_is_told_by_its_first_differing_byte() {
        assert_eq!(difference("a.svg", b"<svg>", b"<swg>"), "byte 2: cached 0x76, again 0x77");
        assert_eq!(difference("a", b"ab", b"abc"), "byte 2: cached none, again 0x63");
        assert_eq!(
            difference("a.safetensors", b"ab", b"ac"),
            "byte 1: cached 0x62, again 0x63",
            "not what it is called"
        );
        assert_eq!(difference("a.csv", b"\xff", b"\xfe"), "byte 0: cached 0xff, again 0xfe");
    }

    fn changed(file: &str, before: &str, after: &str) -> (Vec<String>, usize, usize) {
        let Changes { cells, added, removed, .. } =
            changes(file, before.as_bytes(), after.as_bytes()).unwrap();
        let told = |cell: &CellChange| {
            format!("{}: {} {} -> {}", cell.row, cell.column, cell.before, cell.after)
        };
        (cells.iter().map(told).collect(), added, removed)
    }

    #[test]
    fn rows_of_a_value_that_replaces_another_are_compared_with_those_of_that_one() {
        let table = |prior: &str, error: f64| {
            format!(
                "hidden,prior,error\n10,none,1.5\n10,{prior},{error}\n50,none,1.25\n50,{prior},1\n"
            )
        };
        let (cells, added, removed) =
            changed("t.csv", &table("normal-0.01", 2.0), &table("normal-0.02", 3.0));
        assert_eq!(cells, ["hidden=10, prior=normal-0.01 → normal-0.02: error 2 -> 3"]);
        assert_eq!((added, removed), (0, 0));
    }

    #[test]
    fn several_values_replace_several_in_their_order_and_columns_may_change_together() {
        let before = "prior,variance,pair,error\nn-1,1,1,5\nn-2,2,1,6\nn-1,1,2,7\nn-2,2,2,8\n";
        let after = "prior,variance,pair,error\nn-3,3,1,5\nn-4,4,1,7\nn-3,3,2,7\nn-4,4,2,8\n";
        let (cells, added, removed) = changed("t.csv", before, after);
        assert_eq!(cells, ["prior=n-2 → n-4, variance=2 → 4, pair=1: error 6 -> 7"]);
        assert_eq!((added, removed), (0, 0));
    }

    #[test]
    fn a_long_table_with_another_name_in_every_row_is_compared_at_once() {
        let table = |from: usize| {
            (from..from + 50_000).fold("id,x\n".to_owned(), |text, id| text + &format!("{id},1\n"))
        };
        let (before, after) = (table(0), table(50_000));
        let began = std::time::Instant::now();
        let (cells, added, removed) = changed("t.csv", &before, &after);
        assert_eq!((cells.len(), added, removed), (0, 0, 0));
        assert!(began.elapsed().as_secs() < 5, "{:?}: not each with every other", began.elapsed());
    }

    #[test]
    fn a_value_beside_others_has_no_row_to_be_compared_with() {
        let (cells, added, removed) =
            changed("t.csv", "a,x\none,1\n", "a,x\none,1\ntwo,2\nthree,3\n");
        assert_eq!((cells.len(), added, removed), (0, 2, 0));
        let (cells, added, removed) = changed("t.csv", "a,x\none,1\n", "a,x\ntwo,2\nthree,3\n");
        assert_eq!(
            (cells.len(), added, removed),
            (0, 2, 1),
            "which of the two replaces it nobody knows"
        );
    }

    #[test]
    fn leaves_of_json_are_compared_by_their_paths() {
        let before = r#"{"fit": {"loss": 0.5, "name": "a"}, "runs": [1, 2], "old": null}"#;
        let after = r#"{"fit": {"loss": 0.25, "name": "b"}, "runs": [1, 3], "new": true}"#;
        let (cells, added, removed) = changed("m.json", before, after);
        assert_eq!(cells, ["fit: loss 0.5 -> 0.25", "fit: name a -> b", "runs: 1 2 -> 3"]);
        assert_eq!((added, removed), (1, 1));
    }
}
