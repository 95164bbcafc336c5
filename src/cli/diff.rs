//! `repro diff`: compares two runs or two profiles, as Markdown or JSON.

use super::args::Common;
use super::output::json;
use super::session::Session;
use crate::engine::record::diff::{
    Change, Diff, FileDiff, ParameterDiff, StageDiff, State, TableDiff, diff,
};
use crate::engine::record::history;
use crate::engine::stage::CellChange;
use crate::engine::text::count;
use crate::report::table::{Align, Table};
use crate::stage::KINDS;
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Compares two runs; by default the last two.
pub(super) fn runs(
    common: &Common,
    before: Option<String>,
    after: Option<String>,
    limit: usize,
) -> Result<String> {
    let store = common.store();
    let state = |name: Option<String>, default: &str| {
        let run =
            history::read(&store, &history::find(&store, name.as_deref().unwrap_or(default))?)?;
        State::of_run(&store, KINDS, &run)
    };
    let (before, after) = (state(before, "last~1")?, state(after, "last")?);
    print(common, &diff(&store, &before, &after)?, limit)
}

/// Compares the cached outputs of two profiles.
pub(super) fn profiles(
    common: &Common,
    before: Option<String>,
    after: Option<String>,
    limit: usize,
) -> Result<String> {
    let state = |profile: Option<String>| -> Result<State> {
        let name = profile.clone().unwrap_or_default();
        let session = Session::open(&Common { profile, ..common.clone() })?;
        let all: Vec<_> = session.plan.ids().collect();
        Ok(State::of_plan(&name, &session.plan, &session.plan_status(&all)?))
    };
    let (before, after) = (state(before)?, state(after)?);
    print(common, &diff(&common.store(), &before, &after)?, limit)
}

fn print(common: &Common, diff: &Diff, limit: usize) -> Result<String> {
    if common.json {
        let mut whole = json!(diff);
        // The change as a number, so that readers can sort by it without parsing cells.
        for table in whole["tables"].as_array_mut().into_iter().flatten() {
            for cell in table["changes"]["cells"].as_array_mut().into_iter().flatten() {
                let [before, after] =
                    ["before", "after"].map(|side| cell[side].as_str().unwrap_or_default());
                cell["change"] =
                    json!(numbers(before, after).map(|(before, after)| after - before));
            }
        }
        return Ok(json(whole));
    }
    let mut text = format!("# Changes from {} to {}\n", diff.before, diff.after);
    stages(&mut text, diff, limit)?;
    parameters(&mut text, diff, limit)?;
    metrics(&mut text, diff, limit)?;
    files(&mut text, diff, limit)?;
    if diff.stages.is_empty()
        && diff.parameters.is_empty()
        && diff.files.iter().all(|file| file.state == Change::Same)
    {
        writeln!(text, "\nNo differences.")?;
    }
    Ok(text)
}

fn stages(text: &mut String, diff: &Diff, limit: usize) -> Result<()> {
    let row = |stage: &StageDiff| {
        let counts = [stage.both, stage.removed, stage.added, stage.not_cached];
        [stage.stage.clone()].into_iter().chain(counts.map(|n| n.to_string())).collect()
    };
    let columns = [
        ("stage", false),
        ("in both", true),
        ("removed", true),
        ("added", true),
        ("not cached", true),
    ];
    section(text, "Nodes", &columns, diff.stages.iter().map(row).collect(), limit)
}

fn parameters(text: &mut String, diff: &Diff, limit: usize) -> Result<()> {
    let row = |p: &ParameterDiff| {
        let values =
            |values: &[String]| if values.is_empty() { "-".to_owned() } else { values.join(", ") };
        vec![p.stage.clone(), p.parameter.clone(), values(&p.before), values(&p.after)]
    };
    let columns = [("stage", false), ("parameter", false), ("before", false), ("after", false)];
    section(text, "Parameters", &columns, diff.parameters.iter().map(row).collect(), limit)
}

fn stage_of(node: &str) -> &str {
    node.split('@').next().unwrap_or(node)
}

/// One table for each output of a stage, over all its nodes.
fn metrics(text: &mut String, diff: &Diff, limit: usize) -> Result<()> {
    let mut tables: BTreeMap<(&str, &str), Vec<&TableDiff>> = BTreeMap::new();
    for table in &diff.tables {
        tables.entry((stage_of(&table.node), &table.file)).or_default().push(table);
    }
    // The tables of a stage with many nodes are left out if another stage aggregates them.
    let mut nodes_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for table in &diff.tables {
        nodes_of.entry(stage_of(&table.node)).or_default().insert(&table.node);
    }
    let gathered = nodes_of.values().any(|nodes| nodes.len() == 1);
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    for ((stage, file), nodes) in tables {
        if gathered && nodes_of[stage].len() > 1 {
            *left_out.entry(stage).or_default() += nodes.len();
            continue;
        }
        let mut rows = Vec::new();
        let (mut added, mut removed, mut columns) = (0, 0, Vec::new());
        for table in nodes {
            let instance = table.node.split_once('@').map_or("", |(_, instance)| instance);
            rows.extend(table.changes.cells.iter().map(|cell| metric(instance, cell)));
            added += table.changes.added;
            removed += table.changes.removed;
            columns.extend(table.changes.columns.iter().map(|column| format!("`{column}`")));
        }
        let headings = [
            ("node", false),
            ("row", false),
            ("column", false),
            ("before", true),
            ("after", true),
            ("change", true),
            ("%", true),
        ];
        let title = format!("Metrics: {stage}, {file}");
        if rows.is_empty() {
            writeln!(text, "\n## {title}\n")?;
        }
        section(text, &title, &headings, rows, limit)?;
        if added + removed > 0 {
            writeln!(text, "\nRows: {added} added, {removed} removed.")?;
        }
        if !columns.is_empty() {
            columns.sort();
            columns.dedup();
            writeln!(text, "\nColumns in only one of the two: {}.", columns.join(", "))?;
        }
    }
    if !left_out.is_empty() {
        let each: Vec<String> =
            left_out.iter().map(|(stage, n)| format!("{} of `{stage}`", count(*n))).collect();
        writeln!(text, "\nOmitted (see `--json`): tables of {}.", each.join(", "))?;
    }
    Ok(())
}

fn metric(instance: &str, cell: &CellChange) -> Vec<String> {
    let (mut change, mut percent) = (String::new(), String::new());
    if let Some((before, after)) = numbers(&cell.before, &cell.after) {
        change = Short(after - before).to_string();
        if before != 0.0 {
            percent = format!("{:+.1}", 100.0 * (after - before) / before.abs());
        }
    }
    let (mut before, mut after) = (rounded(&cell.before), rounded(&cell.after));
    if before == after {
        // The numbers differ only in digits that are normally not printed.
        (before, after) = (cell.before.clone(), cell.after.clone());
    }
    vec![instance.to_owned(), cell.row.clone(), cell.column.clone(), before, after, change, percent]
}

/// The number of significant digits that are printed.
const DIGITS: usize = 6;

/// Rounds a number to [`DIGITS`] digits. Returns any other text unchanged.
fn rounded(text: &str) -> String {
    let digits =
        text.split(['e', 'E']).next().unwrap_or_default().chars().filter(char::is_ascii_digit);
    let significant = digits.skip_while(|digit| *digit == '0').count();
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && text.contains(['.', 'e', 'E']) && significant > DIGITS => {
            format!("{x:.*e}", DIGITS - 1)
                .parse()
                .map_or_else(|_| text.to_owned(), |x: f64| x.to_string())
        }
        _ => text.to_owned(),
    }
}

/// A signed number with a few significant digits.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.0.abs() {
            x if x != 0.0 && !(1e-3..1e6).contains(&x) => write!(f, "{:+.3e}", self.0),
            _ => write!(f, "{:+.4}", self.0),
        }
    }
}

fn numbers(before: &str, after: &str) -> Option<(f64, f64)> {
    Some((before.parse().ok()?, after.parse().ok()?))
}

/// One row for each output of a stage, with the names of some nodes whose output changed.
fn files(text: &mut String, diff: &Diff, limit: usize) -> Result<()> {
    let mut outputs: BTreeMap<(&str, &str), Vec<&FileDiff>> = BTreeMap::new();
    diff.files
        .iter()
        .for_each(|file| outputs.entry((&file.stage, &file.file)).or_default().push(file));
    let row = |((stage, file), all): ((&str, &str), Vec<&FileDiff>)| {
        let changed: Vec<&str> =
            all.iter().filter(|file| file.state != Change::Same).map(|f| f.node.as_str()).collect();
        let shown: Vec<&str> = changed
            .iter()
            .take(3)
            .map(|node| node.split_once('@').map_or(*node, |(_, i)| i))
            .collect();
        let more = changed.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let count = |change| all.iter().filter(|file| file.state == change).count().to_string();
        let counts = [
            count(Change::Same),
            count(Change::Changed),
            count(Change::Removed),
            count(Change::Added),
        ];
        [vec![stage.to_owned(), file.to_owned()], counts.into(), vec![shown.join("; ") + &more]]
            .concat()
    };
    let columns = [
        ("stage", false),
        ("file", false),
        ("same", true),
        ("changed", true),
        ("removed", true),
        ("added", true),
        ("where", false),
    ];
    let rows: Vec<Vec<String>> = outputs.into_iter().map(row).collect();
    section(text, "Files", &columns, rows, limit)
}

/// Writes a heading and a table, unless the table has no rows.
fn section(
    text: &mut String,
    title: &str,
    columns: &[(&str, bool)],
    mut rows: Vec<Vec<String>>,
    limit: usize,
) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let all = rows.len();
    rows.truncate(limit);
    let align = |right: bool| if right { Align::Right } else { Align::Left };
    let columns = columns.iter().map(|(name, right)| ((*name).to_owned(), align(*right))).collect();
    write!(text, "\n## {title}\n\n{}", Table { columns, rows }.to_markdown())?;
    if all > limit {
        writeln!(text, "\n{} more rows; pass `--limit {all}` to print all.", all - limit)?;
    }
    Ok(())
}
