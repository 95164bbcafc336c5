//! Compares two versions of an output: safetensors, CSV and JSON by content, other files by byte.

use crate::engine::stage::{CellChange, Changes, first_byte};
use csv::{ReaderBuilder, StringRecord};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
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

/// The changes between two versions of a table or of a JSON file; `None` for other formats.
pub(super) fn changes(file: &str, before: &[u8], after: &[u8]) -> Option<Changes> {
    match file.rsplit_once('.')?.1 {
        "csv" => table_changes(before, after),
        "json" => json_changes(before, after),
        _ => None,
    }
}

fn json_changes(before: &[u8], after: &[u8]) -> Option<Changes> {
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

/// Collects the leaves of `value` by path, such as `a.b.0`.
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

/// Compares rows by key: the shortest prefix of the shared columns that is unique in both tables.
/// Where key values were replaced by equally many others, rows are matched across the replacement.
fn table_changes(before: &[u8], after: &[u8]) -> Option<Changes> {
    let (before, after) = (CsvTable::read(before)?, CsvTable::read(after)?);
    let shared: Vec<&String> =
        before.header.iter().filter(|name| after.header.contains(name)).collect();
    let width = (0..=shared.len())
        .find(|n| before.is_unique(&shared[..*n]) && after.is_unique(&shared[..*n]))?;
    let (keys, values) = shared.split_at(width);
    let (old, new) = (before.by(keys), after.by(keys));
    let removed: Vec<_> = before.keys(keys).filter(|key| !new.contains_key(key)).collect();
    let added: Vec<_> = after.keys(keys).filter(|key| !old.contains_key(key)).collect();
    let renamed = renamed(&removed, &added);
    let mut changes = Changes {
        added: added.len() - renamed.len(),
        removed: removed.len() - renamed.len(),
        ..Changes::default()
    };
    let only_in = |one: &CsvTable, other: &CsvTable| -> Vec<String> {
        one.header.iter().filter(|name| !other.header.contains(name)).cloned().collect()
    };
    changes.columns = [only_in(&before, &after), only_in(&after, &before)].concat();
    // In the order of the second table.
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

/// Keys of added rows with the keys of the removed rows that they replace. The two differ in
/// columns where no removed value was also added; if there are equally many of both, the values
/// replace each other in order.
fn renamed<'a>(
    removed: &[Vec<&'a str>],
    added: &[Vec<&'a str>],
) -> BTreeMap<Vec<&'a str>, Vec<&'a str>> {
    let columns = removed.first().map_or(0, Vec::len);
    let values = |rows: &[Vec<&'a str>], column: usize| {
        rows.iter().map(|row| row[column]).collect::<BTreeSet<_>>()
    };
    let replaced: Vec<usize> = (0..columns)
        .filter(|&column| values(removed, column).is_disjoint(&values(added, column)))
        .collect();
    let picked =
        |row: &Vec<&'a str>| replaced.iter().map(|&column| row[column]).collect::<Vec<_>>();
    let distinct = |rows: &[Vec<&'a str>]| -> Vec<Vec<&'a str>> {
        let mut seen = BTreeSet::new();
        rows.iter().map(picked).filter(|values| seen.insert(values.clone())).collect()
    };
    let (old, new) = (distinct(removed), distinct(added));
    if replaced.is_empty() || old.len() != new.len() {
        return BTreeMap::new();
    }
    let replacements: BTreeMap<_, _> = old.into_iter().zip(new).collect();
    let added: BTreeSet<&Vec<&str>> = added.iter().collect();
    let mut renamed = BTreeMap::new();
    for was in removed {
        let mut is = was.clone();
        for (&column, value) in replaced.iter().zip(&replacements[&picked(was)]) {
            is[column] = value;
        }
        if added.contains(&is) {
            renamed.insert(is, was.clone());
        }
    }
    renamed
}

/// A table.
struct CsvTable {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl CsvTable {
    fn read(bytes: &[u8]) -> Option<CsvTable> {
        let mut rows = records(bytes)?.into_iter().map(|(_, row)| row);
        Some(CsvTable { header: rows.next()?, rows: rows.collect() })
    }

    fn cells<'a>(&self, row: &'a [String], columns: &[&String]) -> Vec<&'a str> {
        let cell = |name: &&String| {
            let at = self.header.iter().position(|known| known == *name);
            at.and_then(|at| row.get(at)).map_or("", String::as_str)
        };
        columns.iter().map(cell).collect()
    }

    /// The key of each row.
    fn keys<'a>(&'a self, keys: &[&String]) -> impl Iterator<Item = Vec<&'a str>> {
        self.rows.iter().map(move |row| self.cells(row, keys))
    }

    fn by<'a>(&'a self, keys: &[&String]) -> BTreeMap<Vec<&'a str>, &'a Vec<String>> {
        self.rows.iter().map(|row| (self.cells(row, keys), row)).collect()
    }

    fn is_unique(&self, keys: &[&String]) -> bool {
        self.by(keys).len() == self.rows.len()
    }
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
    fn rows_are_matched_by_the_shortest_unique_prefix_of_columns() {
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

    fn changed(file: &str, before: &str, after: &str) -> (Vec<String>, usize, usize) {
        let Changes { cells, added, removed, .. } =
            changes(file, before.as_bytes(), after.as_bytes()).unwrap();
        let text = |cell: &CellChange| {
            format!("{}: {} {} -> {}", cell.row, cell.column, cell.before, cell.after)
        };
        (cells.iter().map(text).collect(), added, removed)
    }

    #[test]
    fn rows_are_matched_across_a_replaced_key_value() {
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
    fn several_replaced_key_values_are_matched_in_order() {
        let before = "prior,variance,pair,error\nn-1,1,1,5\nn-2,2,1,6\nn-1,1,2,7\nn-2,2,2,8\n";
        let after = "prior,variance,pair,error\nn-3,3,1,5\nn-4,4,1,7\nn-3,3,2,7\nn-4,4,2,8\n";
        let (cells, added, removed) = changed("t.csv", before, after);
        assert_eq!(cells, ["prior=n-2 → n-4, variance=2 → 4, pair=1: error 6 -> 7"]);
        assert_eq!((added, removed), (0, 0));
    }

    #[test]
    fn comparing_long_tables_takes_less_than_quadratic_time() {
        let table = |from: usize| {
            (from..from + 50_000).fold("id,x\n".to_owned(), |text, id| text + &format!("{id},1\n"))
        };
        let (before, after) = (table(0), table(50_000));
        let began = std::time::Instant::now();
        let (cells, added, removed) = changed("t.csv", &before, &after);
        assert_eq!((cells.len(), added, removed), (0, 0, 0));
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }

    #[test]
    fn added_key_values_do_not_match_any_row() {
        let (cells, added, removed) =
            changed("t.csv", "a,x\none,1\n", "a,x\none,1\ntwo,2\nthree,3\n");
        assert_eq!((cells.len(), added, removed), (0, 2, 0));
        let (cells, added, removed) = changed("t.csv", "a,x\none,1\n", "a,x\ntwo,2\nthree,3\n");
        assert_eq!(
            (cells.len(), added, removed),
            (0, 2, 1),
            "it is ambiguous which of the two replaces it"
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
