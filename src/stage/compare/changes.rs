//! The changes between two versions of a table: which cells of which rows.

use super::records;
use crate::engine::stage::pairing::{Moves, pair};
use crate::engine::stage::{CellChange, Changes, Role};
use crate::stage::tables::{TABLES, TableSchema};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};

/// The changes between two versions of a table or of a JSON file; `None` for other formats, and if
/// the rows of a table have no unique key.
pub(in crate::stage) fn changes(
    file: &str,
    before: &[u8],
    after: &[u8],
    known: &Moves,
) -> Option<Changes> {
    match file.rsplit_once('.')?.1 {
        "csv" => table_changes(file, before, after, known),
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
            let (role, intervals) = (Role::Value, None);
            changes.cells.push(CellChange { row, column, before, after, role, intervals });
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

/// Compares rows by key: the keys of a table of the study; of another table, the shortest prefix of
/// the shared columns that is unique in both.
fn table_changes(file: &str, before: &[u8], after: &[u8], known: &Moves) -> Option<Changes> {
    let (before, after) = (CsvTable::read(before)?, CsvTable::read(after)?);
    let shared: Vec<&str> = before
        .header
        .iter()
        .filter(|name| after.header.contains(name))
        .map(String::as_str)
        .collect();
    let schema = TABLES.into_iter().find(|schema| {
        let name = file.rsplit('/').next().unwrap_or(file);
        schema.file == name && shared.starts_with(&schema.key_names())
    });
    let width = match schema {
        Some(schema) => schema.keys.len(),
        None => (0..=shared.len())
            .find(|n| before.is_unique(&shared[..*n]) && after.is_unique(&shared[..*n]))?,
    };
    let (keys, values) = shared.split_at(width);
    let (old, new) = (before.select(keys), after.select(keys));
    if [&old, &new].iter().any(|keys| keys.iter().collect::<BTreeSet<_>>().len() < keys.len()) {
        return None;
    }
    let pairing = pair(keys, &old, &new, known);
    let both = pairing.counterparts.iter().flatten().count();
    let only_in = |one: &CsvTable, other: &CsvTable| -> Vec<String> {
        one.header.iter().filter(|name| !other.header.contains(name)).cloned().collect()
    };
    let columns = Columns { schema, shared: &shared };
    let mut changes = Changes {
        cells: Vec::new(),
        added: new.len() - both,
        removed: old.len() - both,
        columns: [only_in(&before, &after), only_in(&after, &before)].concat(),
        moves: pairing.moves,
        has_intervals: values.iter().any(|column| columns.interval_of(column).is_some()),
    };
    let (cells_before, cells_after) = (before.select(values), after.select(values));
    for (at, counterpart) in pairing.counterparts.iter().enumerate() {
        let Some(i) = *counterpart else { continue };
        let cells = [&cells_before[i], &cells_after[at]];
        if cells[0] == cells[1] {
            continue;
        }
        let cell = |side: usize, name: &str| {
            let position = values.iter().position(|column| *column == name);
            position.map_or("", |position| cells[side][position])
        };
        let named = keys.iter().zip(old[i].iter().zip(&new[at])).map(|(name, (was, is))| {
            if was == is { format!("{name}={is}") } else { format!("{name}={was} → {is}") }
        });
        let row = named.collect::<Vec<_>>().join(", ");
        let has_changed = |name: &str| cell(0, name) != cell(1, name);
        for column in values.iter().filter(|name| has_changed(name)) {
            let interval = |side: usize| -> Option<[f64; 2]> {
                let [low, high] = columns.interval_of(column)?;
                Some([cell(side, &low).parse().ok()?, cell(side, &high).parse().ok()?])
            };
            changes.cells.push(CellChange {
                row: row.clone(),
                column: (*column).to_owned(),
                before: cell(0, column).to_owned(),
                after: cell(1, column).to_owned(),
                role: columns.role(column, &has_changed),
                intervals: interval(0).zip(interval(1)).map(|(before, after)| [before, after]),
            });
        }
    }
    Some(changes)
}

/// The columns of a table, and what they contain.
struct Columns<'a> {
    schema: Option<&'static TableSchema>,
    shared: &'a [&'a str],
}

impl Columns<'_> {
    /// The columns with the interval of `column`: `low` and `high` of `mean`, `x_low` and `x_high`
    /// of any other column `x`.
    fn interval_of(&self, column: &str) -> Option<[String; 2]> {
        let ends = match column {
            "mean" => ["low".to_owned(), "high".to_owned()],
            _ => [format!("{column}_low"), format!("{column}_high")],
        };
        ends.iter().all(|end| self.shared.contains(&end.as_str())).then_some(ends)
    }

    fn role(&self, column: &str, has_changed: &dyn Fn(&str) -> bool) -> Role {
        let is = |names: &[(&str, _)]| names.iter().any(|(name, _)| *name == column);
        let suffixes = ["_low", "_high"];
        let bounded = match column {
            "low" | "high" => Some("mean"),
            // The prediction interval and the range over pairs.
            "pair_low" | "pair_high" | "least" | "most" if self.schema.is_some() => Some("mean"),
            _ => suffixes.iter().find_map(|suffix| column.strip_suffix(suffix)),
        };
        if self.schema.is_some_and(|schema| is(schema.attributes)) {
            Role::Attribute
        } else if bounded.is_some_and(|of| self.interval_of(of).is_some() && has_changed(of)) {
            Role::Bound
        } else {
            Role::Value
        }
    }
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

    /// The cells of `columns`, by row. Missing cells are empty.
    fn select(&self, columns: &[&str]) -> Vec<Vec<&str>> {
        let position = |name: &&str| self.header.iter().position(|known| known == *name);
        let positions: Vec<Option<usize>> = columns.iter().map(position).collect();
        let mut selected = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let cell =
                |at: &Option<usize>| at.and_then(|at| row.get(at)).map_or("", String::as_str);
            selected.push(positions.iter().map(cell).collect());
        }
        selected
    }

    fn is_unique(&self, keys: &[&str]) -> bool {
        self.select(keys).into_iter().collect::<BTreeSet<_>>().len() == self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stage::pairing::Move;

    fn changed(file: &str, before: &str, after: &str) -> (Vec<String>, usize, usize) {
        across(file, before, after, &[])
    }

    /// The changed cells and the numbers of added and removed rows, with known moves of columns.
    fn across(
        file: &str,
        before: &str,
        after: &str,
        moves: &[[&str; 3]],
    ) -> (Vec<String>, usize, usize) {
        let moved = |[column, before, after]: &[&str; 3]| Move {
            column: (*column).into(),
            before: (*before).into(),
            after: (*after).into(),
        };
        let known = Moves { paired: moves.iter().map(moved).collect(), unpaired: Vec::new() };
        let Changes { cells, added, removed, .. } =
            changes(file, before.as_bytes(), after.as_bytes(), &known).unwrap();
        let text = |cell: &CellChange| {
            format!("{}: {} {} -> {}", cell.row, cell.column, cell.before, cell.after)
        };
        (cells.iter().map(text).collect(), added, removed)
    }

    #[test]
    fn rows_are_matched_by_the_shortest_unique_prefix_of_columns() {
        let before = "hidden,prior,error\n10,none,1\n10,normal,2\n50,none,3\n";
        let after = "hidden,prior,error\n10,normal,2.5\n10,none,1\n100,none,4\n";
        let (cells, added, removed) = changed("t.csv", before, after);
        assert_eq!(
            cells,
            [
                "hidden=10, prior=normal: error 2 -> 2.5",
                "hidden=50 → 100, prior=none: error 3 -> 4"
            ]
        );
        assert_eq!((added, removed), (0, 0));
        let none = Moves::default();
        let found = changes("t.csv", b"error,loss\n1,2\n", b"error,norm\n2,2\n", &none).unwrap();
        assert_eq!((found.cells.len(), &found.cells[0].row[..]), (1, ""), "one row has no name");
        assert_eq!(found.columns, ["loss", "norm"]);
        let same = changes("t.csv", b"a\n1\n1\n", b"a\n1\n2\n", &none);
        assert_eq!(same, None, "two rows that are the same");
        assert_eq!(changes("t.svg", b"a", b"b", &none), None);
    }

    const SUMMARY: &str = "hidden,prior,method,split,metric,nets,pairs,average,mean,low,high,\
                           pair_low,pair_high,least,most\n";

    #[test]
    fn a_mean_has_the_intervals_of_its_row_and_their_changes_are_bounds() {
        let row = |prior: &str, nets: u8, rest: &str| {
            format!("{SUMMARY}10,{prior},linear,test,max_error,{nets},3,arithmetic,{rest}\n")
        };
        let (before, after) = (row("n-1", 6, "5,4,6.5,1,9,3,7"), row("n-2", 8, "8,7.5,9,1,9,3,8"));
        let found =
            changes("summary.csv", before.as_bytes(), after.as_bytes(), &Moves::default()).unwrap();
        let role = |column: &str| {
            found.cells.iter().find(|cell| cell.column == column).map(|cell| cell.role)
        };
        let roles = ["mean", "low", "most", "nets", "least"].map(role);
        let expected =
            [Some(Role::Value), Some(Role::Bound), Some(Role::Bound), Some(Role::Attribute), None];
        assert_eq!(roles, expected);
        let mean = found.cells.iter().find(|cell| cell.column == "mean").unwrap();
        assert_eq!(mean.intervals, Some([[4.0, 6.5], [7.5, 9.0]]));
        assert!(found.has_intervals && found.moves.paired[0].column == "prior");
        let before = "a,x,x_low,x_high\n1,2,1,3\n";
        let after = "a,x,x_low,x_high\n1,2.5,,3\n";
        let found =
            changes("mine.csv", before.as_bytes(), after.as_bytes(), &Moves::default()).unwrap();
        assert_eq!(found.cells[0].intervals, None, "an end is missing");
        assert_eq!(found.cells[1].role, Role::Bound);
    }

    #[test]
    fn a_key_of_a_table_of_the_study_is_never_compared_as_a_value() {
        let table = |method: &str, mean: f64| {
            format!("{SUMMARY}10,none,{method},test,max_error,2,1,arithmetic,{mean},,,,,1,1\n")
        };
        let (cells, ..) = changed("summary.csv", &table("linear", 1.0), &table("arc", 2.0));
        let row = "hidden=10, prior=none, method=linear → arc, split=test, metric=max_error";
        assert_eq!(cells, [format!("{row}: mean 1 -> 2")]);
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
    fn several_replaced_key_values_are_matched_only_if_the_moves_are_known() {
        let before = "prior,variance,pair,error\nn-1,1,1,5\nn-2,2,1,6\nn-1,1,2,7\nn-2,2,2,8\n";
        let after = "prior,variance,pair,error\nn-3,3,1,5\nn-4,4,1,7\nn-3,3,2,7\nn-4,4,2,8\n";
        let (cells, added, removed) = changed("t.csv", before, after);
        assert_eq!((cells.len(), added, removed), (0, 4, 4));
        let moves = [["prior", "n-1", "n-3"], ["prior", "n-2", "n-4"]];
        let (cells, added, removed) = across("t.csv", before, after, &moves);
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
        assert_eq!((cells.len(), added, removed), (0, 50_000, 50_000));
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
