//! Pairs the rows of two tables, or the nodes of two states, by their keys.
//!
//! Equal keys are paired. So are keys that differ only in values that replaced each other, if there
//! is no doubt which value replaced which: a changed parameter says so, or the other columns do.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A value of a column, and the value that replaced it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Move {
    /// The column, or the axis of nodes.
    pub column: String,
    /// The old value.
    pub before: String,
    /// The new value.
    pub after: String,
}

/// Values of a column that are only in one of the two and have no counterpart in the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unpaired {
    /// The column, or the axis of nodes.
    pub column: String,
    /// Only in the first.
    pub before: Vec<String>,
    /// Only in the second.
    pub after: Vec<String>,
}

/// The values that replaced each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moves {
    /// Values with a counterpart.
    pub paired: Vec<Move>,
    /// Values without one.
    pub unpaired: Vec<Unpaired>,
}

impl Moves {
    /// Whether all values are in both.
    pub fn is_empty(&self) -> bool {
        self.paired.is_empty() && self.unpaired.is_empty()
    }

    /// Adds the moves of other keys, which may write values in another form. A value that has a
    /// counterpart there has one.
    pub fn add(&mut self, others: &Moves) {
        let are_alike = |one: &str, other: &str| canonical(one) == canonical(other);
        for found in &others.paired {
            let is_known = |known: &Move| {
                known.column == found.column
                    && are_alike(&known.before, &found.before)
                    && are_alike(&known.after, &found.after)
            };
            if !self.paired.iter().any(is_known) {
                self.paired.push(found.clone());
            }
        }
        for Unpaired { column, before, after } in &others.unpaired {
            let position = self.unpaired.iter().position(|known| known.column == *column);
            let position = position.unwrap_or_else(|| {
                let (before, after) = (Vec::new(), Vec::new());
                self.unpaired.push(Unpaired { column: column.clone(), before, after });
                self.unpaired.len() - 1
            });
            let known = &mut self.unpaired[position];
            for (known, new) in [(&mut known.before, before), (&mut known.after, after)] {
                let seen: BTreeSet<String> = known.iter().map(|value| canonical(value)).collect();
                let is_new = |value: &&String| !seen.contains(&canonical(value));
                known.extend(new.iter().filter(is_new).cloned());
            }
        }
        let paired = &self.paired;
        let is_paired = |column: &str, value: &str, end: fn(&Move) -> &str| {
            paired.iter().any(|known| known.column == column && are_alike(end(known), value))
        };
        self.unpaired.retain_mut(|Unpaired { column, before, after }| {
            before.retain(|value| !is_paired(column, value, |known| &known.before));
            after.retain(|value| !is_paired(column, value, |known| &known.after));
            !(before.is_empty() && after.is_empty())
        });
    }
}

/// The pairs of two lists of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// For each key of the second list, the position of its counterpart in the first.
    pub counterparts: Vec<Option<usize>>,
    /// The moves across which keys were paired, and the values for which this was not possible.
    pub moves: Moves,
}

/// Pairs the keys `before` and `after`, which are distinct within each list. A key has a value for
/// each of `columns`. Values that are `known` to have no counterpart are never paired.
pub fn pair(columns: &[&str], before: &[Vec<&str>], after: &[Vec<&str>], known: &Moves) -> Pairing {
    let mut counterparts = vec![None; after.len()];
    let mut is_taken = vec![false; before.len()];
    let positions: BTreeMap<&[&str], usize> =
        after.iter().enumerate().map(|(i, key)| (&key[..], i)).collect();
    let mut take = |key: &[&str], i: usize| {
        let position = positions.get(key).filter(|at| counterparts[**at].is_none());
        position.is_some_and(|at| {
            counterparts[*at] = Some(i);
            true
        })
    };
    for (i, key) in before.iter().enumerate() {
        is_taken[i] = take(key, i);
    }
    let here = as_written(columns, before, after, &known.paired);
    let rewritten: Vec<Vec<&str>> = before.iter().map(|key| rewrite(columns, key, &here)).collect();
    for (i, key) in rewritten.iter().enumerate().filter(|(i, key)| **key != before[*i]) {
        is_taken[i] = is_taken[i] || take(key, i);
    }
    let removed: Vec<usize> = (0..before.len()).filter(|i| !is_taken[*i]).collect();
    let added: Vec<usize> = (0..after.len()).filter(|i| counterparts[*i].is_none()).collect();
    for (i, at) in by_other_columns(columns, &rewritten, &removed, after, &added, known) {
        counterparts[at] = Some(i);
    }
    let moves = moves(columns, before, after, &counterparts);
    Pairing { counterparts, moves }
}

/// A value in the form of the names of nodes: tables have `normal 0.01` for `normal-0.01`.
fn canonical(value: &str) -> String {
    value.replace(' ', "-")
}

/// The column, and the old and the new value as they are in the keys.
type MoveHere<'a> = (usize, &'a str, &'a str);

/// The known moves of values that are in the keys.
fn as_written<'a>(
    columns: &[&str],
    before: &[Vec<&'a str>],
    after: &[Vec<&'a str>],
    moves: &[Move],
) -> Vec<MoveHere<'a>> {
    let mut found = Vec::new();
    for (column, name) in columns.iter().enumerate() {
        let of_column: Vec<&Move> = moves.iter().filter(|known| known.column == *name).collect();
        if of_column.is_empty() {
            continue;
        }
        let values = |keys: &[Vec<&'a str>]| -> BTreeSet<&'a str> {
            keys.iter().map(|key| key[column]).collect()
        };
        let (old, new) = (values(before), values(after));
        for known in of_column {
            let like = |values: &BTreeSet<&'a str>, wanted: &str| {
                let is_like = |value: &&&str| canonical(value) == canonical(wanted);
                // The value itself, before values that only look like it.
                let exact = values.get(wanted).or_else(|| values.iter().find(is_like));
                exact.copied()
            };
            let both = like(&old, &known.before).zip(like(&new, &known.after));
            found.extend(both.map(|(was, is)| (column, was, is)));
        }
    }
    found
}

fn rewrite<'a>(columns: &[&str], key: &[&'a str], moves: &[MoveHere<'a>]) -> Vec<&'a str> {
    let value = |column: usize| {
        let is_moved = |known: &&MoveHere| known.0 == column && known.1 == key[column];
        moves.iter().find(is_moved).map_or(key[column], |known| known.2)
    };
    (0..columns.len()).map(value).collect()
}

/// Pairs keys by the columns that have a value in common. The others were replaced as a whole.
/// Returns no pairs if two keys fit one, or if a value would replace several values.
fn by_other_columns(
    columns: &[&str],
    before: &[Vec<&str>],
    removed: &[usize],
    after: &[Vec<&str>],
    added: &[usize],
    known: &Moves,
) -> Vec<(usize, usize)> {
    let is_unpaired = |column: usize| {
        let of = |unpaired: &&Unpaired| unpaired.column == columns[column];
        let unpaired = known.unpaired.iter().find(of);
        unpaired.is_some_and(|u| !u.before.is_empty() && !u.after.is_empty())
    };
    let replaced: Vec<usize> = (0..columns.len())
        .filter(|&column| {
            let old: BTreeSet<&str> = removed.iter().map(|i| before[*i][column]).collect();
            added.iter().all(|i| !old.contains(after[*i][column])) && !is_unpaired(column)
        })
        .collect();
    let rest = |key: &[&str]| -> Vec<String> {
        let kept = key.iter().enumerate().filter(|(column, _)| !replaced.contains(column));
        kept.map(|(_, value)| (*value).to_owned()).collect()
    };
    let unique = |keys: &[Vec<&str>], positions: &[usize]| {
        let mut found = BTreeMap::new();
        let is_unique = positions.iter().all(|&i| found.insert(rest(&keys[i]), i).is_none());
        is_unique.then_some(found)
    };
    let Some((old, new)) = unique(before, removed).zip(unique(after, added)) else {
        return Vec::new();
    };
    let pairs: Vec<(usize, usize)> =
        new.iter().filter_map(|(key, at)| Some((*old.get(key)?, *at))).collect();
    for column in replaced {
        let (mut onto, mut from) = (BTreeMap::new(), BTreeMap::new());
        for (i, at) in &pairs {
            let (was, is) = (before[*i][column], after[*at][column]);
            if *onto.entry(was).or_insert(is) != is || *from.entry(is).or_insert(was) != was {
                return Vec::new();
            }
        }
    }
    pairs
}

/// The moves of paired keys, and the values of the other keys that are only in one of the lists.
fn moves(
    columns: &[&str],
    before: &[Vec<&str>],
    after: &[Vec<&str>],
    counterparts: &[Option<usize>],
) -> Moves {
    let mut moves = Moves::default();
    for (column, name) in columns.iter().enumerate() {
        let values = |keys: &[Vec<&str>]| -> Vec<String> {
            let mut seen = BTreeSet::new();
            let distinct = keys.iter().map(|key| key[column]).filter(|value| seen.insert(*value));
            distinct.map(str::to_owned).collect()
        };
        let mut seen = BTreeSet::new();
        for (key, counterpart) in after.iter().zip(counterparts) {
            let Some(was) = counterpart.map(|i| before[i][column]) else { continue };
            let is = key[column];
            if was != is && seen.insert((was, is)) {
                moves.paired.push(Move {
                    column: (*name).to_owned(),
                    before: was.to_owned(),
                    after: is.to_owned(),
                });
            }
        }
        let (old, new) = (values(before), values(after));
        let only = |these: &[String], others: &[String], end: fn(&(&str, &str)) -> String| {
            let others: BTreeSet<&String> = others.iter().collect();
            let moved: BTreeSet<String> = seen.iter().map(end).collect();
            let is_only = |value: &&String| !others.contains(value) && !moved.contains(*value);
            these.iter().filter(is_only).cloned().collect::<Vec<_>>()
        };
        let before = only(&old, &new, |(was, _)| (*was).to_owned());
        let after = only(&new, &old, |(_, is)| (*is).to_owned());
        if !before.is_empty() || !after.is_empty() {
            moves.unpaired.push(Unpaired { column: (*name).to_owned(), before, after });
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COLUMNS: [&str; 2] = ["prior", "method"];

    fn moved(column: &str, before: &str, after: &str) -> Move {
        Move { column: column.into(), before: before.into(), after: after.into() }
    }

    /// The pairs as text, and the moves as text.
    fn paired(before: &[[&str; 2]], after: &[[&str; 2]], known: &Moves) -> (Vec<String>, String) {
        let (old, new): (Vec<_>, Vec<_>) = (
            before.iter().map(|row| row.to_vec()).collect(),
            after.iter().map(|row| row.to_vec()).collect(),
        );
        let Pairing { counterparts, moves } = pair(&COLUMNS, &old, &new, known);
        let text = |(at, i): (usize, &Option<usize>)| {
            i.map(|i| format!("{}>{}", before[i].join("/"), after[at].join("/")))
        };
        let pairs = counterparts.iter().enumerate().filter_map(text).collect();
        let shown = |moved: &Move| format!("{} {}>{}", moved.column, moved.before, moved.after);
        let lone = |u: &Unpaired| format!("{} {:?} {:?}", u.column, u.before, u.after);
        let all = moves.paired.iter().map(shown).chain(moves.unpaired.iter().map(lone));
        (pairs, all.collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn a_known_move_pairs_keys_and_other_values_keep_theirs() {
        let before = [["none", "arc"], ["n-1", "arc"], ["n-2", "arc"]];
        let after = [["n-2", "arc"], ["n-3", "arc"], ["none", "arc"]];
        let known = Moves { paired: vec![moved("prior", "n-1", "n-3")], unpaired: vec![] };
        let (pairs, moves) = paired(&before, &after, &known);
        assert_eq!(pairs, ["n-2/arc>n-2/arc", "n-1/arc>n-3/arc", "none/arc>none/arc"]);
        assert_eq!(moves, "prior n-1>n-3");
    }

    #[test]
    fn a_known_move_may_have_the_form_of_names_of_nodes() {
        let before = [["normal 0.1", "arc"], ["normal 1", "arc"]];
        let after = [["normal 0.2", "arc"], ["normal 2", "arc"]];
        let moves = [("normal-0.1", "normal-0.2"), ("normal-1", "normal-2")];
        let paired_moves = moves.iter().map(|(was, is)| moved("prior", was, is)).collect();
        let known = Moves { paired: paired_moves, unpaired: vec![] };
        let (pairs, moves) = paired(&before, &after, &known);
        assert_eq!(pairs, ["normal 0.1/arc>normal 0.2/arc", "normal 1/arc>normal 2/arc"]);
        assert_eq!(moves, "prior normal 0.1>normal 0.2; prior normal 1>normal 2");
        let mut all =
            Moves { paired: vec![moved("prior", "normal 0.1", "normal 0.2")], unpaired: vec![] };
        all.add(&known);
        assert_eq!(all.paired.len(), 2, "{all:?}");
    }

    #[test]
    fn keys_are_paired_by_the_other_columns_if_these_identify_them() {
        let (pairs, moves) = paired(
            &[["a", "linear"], ["b", "linear"]],
            &[["b", "arc"], ["a", "arc"]],
            &Moves::default(),
        );
        assert_eq!(pairs, ["b/linear>b/arc", "a/linear>a/arc"]);
        assert_eq!(moves, "method linear>arc");
        let one = paired(&[["a", "linear"]], &[["b", "arc"]], &Moves::default());
        assert_eq!(one.1, "prior a>b; method linear>arc");
    }

    #[test]
    fn ambiguous_keys_are_not_paired_and_their_values_are_named() {
        let (pairs, moves) = paired(&[["a", "x"]], &[["b", "x"], ["c", "x"]], &Moves::default());
        assert_eq!(pairs, [""; 0]);
        assert_eq!(moves, r#"prior ["a"] ["b", "c"]"#);
        let (pairs, _) =
            paired(&[["a", "x"], ["b", "x"]], &[["c", "x"], ["d", "x"]], &Moves::default());
        assert_eq!(pairs, [""; 0], "two values were replaced by two others");
        let (pairs, _) =
            paired(&[["a", "x"], ["b", "y"]], &[["c", "x"], ["c", "y"]], &Moves::default());
        assert_eq!(pairs, [""; 0], "one value would replace two");
    }

    #[test]
    fn values_that_are_known_to_have_no_counterpart_are_not_paired() {
        let lone =
            Unpaired { column: "prior".into(), before: vec!["a".into()], after: vec!["b".into()] };
        let known = Moves { paired: vec![], unpaired: vec![lone] };
        let (pairs, moves) = paired(&[["a", "x"]], &[["b", "x"]], &known);
        assert_eq!((pairs.len(), moves.as_str()), (0, r#"prior ["a"] ["b"]"#));
    }

    #[test]
    fn added_and_removed_values_are_named() {
        let (pairs, moves) = paired(
            &[["a", "x"], ["b", "x"]],
            &[["a", "x"], ["c", "x"], ["d", "x"]],
            &Moves::default(),
        );
        assert_eq!(pairs, ["a/x>a/x"]);
        assert_eq!(moves, r#"prior ["b"] ["c", "d"]"#);
    }

    proptest! {
        #[test]
        fn swapping_the_lists_swaps_the_pairs(
            old in proptest::collection::btree_set((0u8..4, 0u8..3), 0..8),
            new in proptest::collection::btree_set((0u8..4, 0u8..3), 0..8),
        ) {
            let texts: Vec<String> = (0..4).map(|i| i.to_string()).collect();
            let keys = |set: &BTreeSet<(u8, u8)>| -> Vec<Vec<&str>> {
                let text = |i: u8| texts[usize::from(i)].as_str();
                set.iter().map(|(a, b)| vec![text(*a), text(*b)]).collect()
            };
            let (old, new) = (keys(&old), keys(&new));
            let pairs = |from: &[Vec<&str>], to: &[Vec<&str>]| -> Vec<(usize, usize)> {
                let found = pair(&COLUMNS, from, to, &Moves::default()).counterparts;
                found.iter().enumerate().filter_map(|(at, i)| Some(((*i)?, at))).collect()
            };
            let mut back: Vec<_> = pairs(&new, &old).into_iter().map(|(i, at)| (at, i)).collect();
            back.sort_unstable();
            let mut there = pairs(&old, &new);
            there.sort_unstable();
            prop_assert_eq!(there, back);
            let same = pair(&COLUMNS, &old, &old, &Moves::default());
            prop_assert!(same.moves.is_empty());
            prop_assert!(same.counterparts.iter().enumerate().all(|(at, i)| *i == Some(at)));
        }
    }
}
