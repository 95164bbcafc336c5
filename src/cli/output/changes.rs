//! The differences between two states as a document: for `diff`, and beside the reports of `run`.

use crate::engine::cache::local::ObjectState;
use crate::engine::cache::store::Store;
use crate::engine::key::Digest;
use crate::engine::record::diff::{
    Change, Diff, FieldDiff, FileDiff, Omitted, StageDiff, TableDiff,
};
use crate::engine::stage::pairing::Unpaired;
use crate::engine::stage::{CellChange, Role};
use crate::report::change::Change as NumberChange;
use crate::report::document::{
    Block, Cell, Column, Document, FigureBlock, Image, Source, TableBlock,
};
use crate::report::html::data_url;
use crate::report::markdown::escape;
use crate::report::table::{Align, Table};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What moved, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Totals {
    /// Changed cells: results, but neither their bounds nor attributes, of tables with intervals;
    /// if there are none, of all tables.
    pub(in crate::cli) cells: usize,
    /// Changed cells whose intervals do not overlap; `None` if no changed cell has intervals.
    pub(in crate::cli) beyond: Option<usize>,
    /// Changed figures.
    pub(in crate::cli) figures: usize,
    /// Nodes and outputs that cannot be compared, because the cache no longer has them.
    pub(in crate::cli) lost: usize,
}

impl Totals {
    /// Whether nothing moved.
    pub(in crate::cli) fn is_zero(&self) -> bool {
        self.cells + self.figures + self.lost == 0
    }

    pub(in crate::cli) fn of(diff: &Diff) -> Totals {
        let has_intervals = diff.tables.iter().any(|table| table.changes.has_intervals);
        let counted = |table: &&TableDiff| !has_intervals || table.changes.has_intervals;
        let cells: Vec<&CellChange> = diff.tables.iter().filter(counted).flat_map(values).collect();
        let beyond: Vec<bool> = cells
            .iter()
            .filter_map(|cell| number(cell).and_then(|change| change.is_beyond()))
            .collect();
        Totals {
            cells: cells.len(),
            beyond: (!beyond.is_empty()).then(|| beyond.iter().filter(|is| **is).count()),
            figures: figures(diff).len(),
            lost: diff.stages.iter().map(|stage| stage.not_cached).sum::<usize>()
                + diff.files.iter().filter(|file| file.is_lost).count(),
        }
    }

    /// One sentence without a full stop, such as `180 cells and 6 figures moved, 44 beyond their
    /// intervals`.
    pub(in crate::cli) fn sentence(&self) -> String {
        let beyond = match self.beyond {
            Some(beyond) if self.cells > 0 => format!(", {beyond} beyond their intervals"),
            _ => String::new(),
        };
        let lost = match self.lost {
            0 => String::new(),
            1 => ", 1 result is not comparable".to_owned(),
            lost => format!(", {lost} results are not comparable"),
        };
        let (cells, figures) = (many(self.cells, "cell"), many(self.figures, "figure"));
        format!("{cells} and {figures} moved{beyond}{lost}")
    }
}

/// The changed parameters, such as `nets.prior.normal.variance 0.01 -> 0.005`.
pub(in crate::cli) fn parameters(diff: &Diff) -> Vec<String> {
    let text = |found: &FieldDiff| match (found.before.is_empty(), found.after.is_empty()) {
        (false, true) => format!("{} removed {}", found.field, found.before.join(", ")),
        (true, false) => format!("{} added {}", found.field, found.after.join(", ")),
        _ => format!("{} {} -> {}", found.field, found.before.join(", "), found.after.join(", ")),
    };
    diff.parameters.iter().flat_map(|parameter| &parameter.fields).map(text).collect()
}

/// The differences as a document, with at most `limit` rows in each table. The page also contains
/// the figures, which are read from `store`.
pub(in crate::cli) fn document(diff: &Diff, limit: usize, store: &Store) -> Result<Document> {
    let title = title(diff).replace('`', "");
    let description = Totals::of(diff).sentence();
    if diff.is_empty() {
        let blocks = vec![Block::Text("No differences.".into())];
        return Ok(Document { title, description, blocks, files: Vec::new() });
    }
    let mut blocks = vec![Block::Text(format!("{description}."))];
    parameter_table(&mut blocks, diff, limit);
    pairs(&mut blocks, diff);
    metrics(&mut blocks, diff, limit);
    figure_blocks(&mut blocks, diff, store)?;
    nodes(&mut blocks, diff, limit);
    files(&mut blocks, diff, limit);
    Ok(Document { title, description, blocks, files: Vec::new() })
}

/// The title, as Markdown.
fn title(diff: &Diff) -> String {
    format!("Changes from {} to {}", diff.before, diff.after).replace(['\n', '\r'], " ")
}

/// The document of `diff` as plain Markdown, which also reads well in a terminal. Figures become a
/// list.
pub(in crate::cli) fn text(diff: &Diff, document: &Document) -> String {
    let mut text = format!("# {}\n", title(diff));
    let mut is_in_list = false;
    for block in &document.blocks {
        let is_item = matches!(block, Block::Figure(_));
        if !(is_item && is_in_list) {
            text.push('\n');
        }
        is_in_list = is_item;
        // Writing to a string cannot fail.
        let _ = match block {
            Block::Heading { text: title, .. } => writeln!(text, "## {}", title),
            Block::Text(markdown) => writeln!(text, "{}", markdown.trim_end()),
            Block::Table(table) => write!(text, "{}", markdown_table(table)),
            Block::Figure(figure) => writeln!(text, "- {}", escape(&figure.title)),
            _ => Ok(()),
        };
    }
    text
}

fn markdown_table(table: &TableBlock) -> String {
    let cell = |cell: &Cell| match cell.note.is_empty() {
        true => cell.text.clone(),
        false => format!("{} ({})", cell.text, cell.note),
    };
    let columns = table.columns.iter().map(|column| (column.heading.clone(), column.align));
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect());
    Table { columns: columns.collect(), rows: rows.collect() }.to_markdown()
}

/// A cell's change as a number, if both values are numbers.
pub(in crate::cli) fn number(cell: &CellChange) -> Option<NumberChange> {
    NumberChange::of(&cell.before, &cell.after, cell.intervals)
}

fn values(table: &TableDiff) -> impl Iterator<Item = &CellChange> {
    table.changes.cells.iter().filter(|cell| cell.role == Role::Value)
}

fn many(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

fn plain(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), ..Cell::default() }
}

fn instance_of(node: &str) -> &str {
    node.split_once('@').map_or("", |(_, instance)| instance)
}

/// Adds a heading and a table, unless the table has no rows.
fn section(
    blocks: &mut Vec<Block>,
    title: &str,
    lead: Option<String>,
    columns: &[(&str, Align)],
    mut rows: Vec<Vec<Cell>>,
    limit: usize,
) {
    let id = format!("section-{}", blocks.len());
    let heading = Block::Heading { level: 2, id: id.clone(), text: title.to_owned() };
    if rows.is_empty() && lead.is_none() {
        return;
    }
    blocks.push(heading);
    blocks.extend(lead.map(Block::Text));
    let all = rows.len();
    rows.truncate(limit);
    let column = |(heading, align): &(&str, Align)| Column::new(*heading, *align);
    if all > 0 {
        blocks.push(Block::Table(TableBlock {
            id: format!("{id}-table"),
            title: title.to_owned(),
            columns: columns.iter().map(column).collect(),
            rows,
            ..TableBlock::default()
        }));
    }
    if all > limit {
        let more = all - limit;
        blocks.push(Block::Text(format!("{more} more rows; pass `--limit {all}` to print all.")));
    }
}

fn nodes(blocks: &mut Vec<Block>, diff: &Diff, limit: usize) {
    let row = |stage: &StageDiff| {
        let StageDiff { stage, both, paired, removed, added, not_cached } = stage;
        let counts = [both, paired, removed, added, not_cached];
        let number = |n: &usize| Cell { value: Some(*n as f64), ..plain(n.to_string()) };
        [plain(stage.as_str())].into_iter().chain(counts.map(number)).collect()
    };
    let columns = [
        ("stage", Align::Left),
        ("in both", Align::Right),
        ("of these paired", Align::Right),
        ("removed", Align::Right),
        ("added", Align::Right),
        ("not cached", Align::Right),
    ];
    let lost: usize = diff.stages.iter().map(|stage| stage.not_cached).sum();
    let lead = (lost > 0).then(|| {
        let verb = if lost == 1 { "is" } else { "are" };
        let nodes = many(lost, "node");
        format!("The results of {nodes} {verb} not in the cache and cannot be compared.")
    });
    section(blocks, "Nodes", lead, &columns, diff.stages.iter().map(row).collect(), limit);
}

fn parameter_table(blocks: &mut Vec<Block>, diff: &Diff, limit: usize) {
    let values =
        |values: &[String]| plain(if values.is_empty() { "-".into() } else { values.join(", ") });
    let row = |found: &FieldDiff| {
        vec![plain(found.field.as_str()), values(&found.before), values(&found.after)]
    };
    let fields = diff.parameters.iter().flat_map(|parameter| &parameter.fields);
    let columns = [("parameter", Align::Left), ("before", Align::Left), ("after", Align::Left)];
    section(blocks, "Parameters", None, &columns, fields.map(row).collect(), limit);
}

/// Says which rows are compared with which.
fn pairs(blocks: &mut Vec<Block>, diff: &Diff) {
    let mut lines: Vec<String> = Vec::new();
    let mut by_column: BTreeMap<&str, usize> = BTreeMap::new();
    for found in &diff.moves.paired {
        *by_column.entry(&found.column).or_default() += 1;
        lines.push(format!(
            "- Rows of {} `{}` are compared with those of `{}`.",
            escape(&found.column),
            found.before,
            found.after
        ));
    }
    for (column, _) in by_column.into_iter().filter(|(_, n)| *n > 1) {
        lines.push(format!(
            "- Several values of {} were replaced; the pairs above follow their other fields and \
             their sizes.",
            escape(column)
        ));
    }
    for Unpaired { column, before, after } in &diff.moves.unpaired {
        let (column, before_list, after_list) = (escape(column), list(before), list(after));
        lines.push(match (before.is_empty(), after.is_empty()) {
            (true, _) => format!("- Rows of {column} {after_list} are only in the second."),
            (_, true) => format!("- Rows of {column} {before_list} are only in the first."),
            _ => format!(
                "- Rows of {column} {before_list} are not compared with those of {after_list}: it \
                 is ambiguous which replaced which."
            ),
        });
    }
    if !lines.is_empty() {
        section(blocks, "Pairs", Some(lines.join("\n")), &[], Vec::new(), 0);
    }
}

/// The largest number of values in a sentence.
const NAMED: usize = 6;

fn list(values: &[String]) -> String {
    let named: Vec<String> = values.iter().take(NAMED).map(|value| format!("`{value}`")).collect();
    let more = values.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}

/// One table for each output of a stage, over all its nodes; those with intervals come first.
fn metrics(blocks: &mut Vec<Block>, diff: &Diff, limit: usize) {
    let mut tables: Vec<(&str, &str, Vec<&TableDiff>)> = Vec::new();
    for table in &diff.tables {
        let same = |(stage, file, _): &&mut (&str, &str, Vec<&TableDiff>)| {
            *stage == table.stage && *file == table.file
        };
        match tables.iter_mut().find(same) {
            Some((_, _, nodes)) => nodes.push(table),
            None => tables.push((&table.stage, &table.file, vec![table])),
        }
    }
    let cells =
        |nodes: &[&TableDiff]| nodes.iter().map(|table| values(table).count()).sum::<usize>();
    tables.sort_by_key(|(_, _, nodes)| (!nodes[0].changes.has_intervals, cells(nodes)));
    let order = "Within each table, the largest change is first: relative to the intervals or, \
                 without intervals, relative to the larger of the two values. A change is beyond \
                 the intervals if they do not overlap; the factor is the change divided by the \
                 halves of both intervals that lie between the two values.";
    for (i, (stage, file, nodes)) in tables.iter().enumerate() {
        let lead = (i == 0).then(|| order.to_owned());
        metric_table(blocks, &format!("Metrics: {stage}, {file}"), lead, nodes, limit);
    }
    let mut omitted: BTreeMap<&str, usize> = BTreeMap::new();
    for Omitted { stage, nodes, .. } in &diff.omitted {
        *omitted.entry(stage).or_default() += nodes;
    }
    if !omitted.is_empty() {
        let each: Vec<String> = omitted
            .iter()
            .map(|(stage, n)| format!("{} of `{stage}`", many(*n, "table")))
            .collect();
        blocks.push(Block::Text(format!("Omitted (see `diff --json`): {}.", each.join(", "))));
    }
}

fn metric_table(
    blocks: &mut Vec<Block>,
    title: &str,
    lead: Option<String>,
    nodes: &[&TableDiff],
    limit: usize,
) {
    let mut cells: Vec<(&str, &CellChange, Option<NumberChange>)> = nodes
        .iter()
        .flat_map(|table| values(table).map(|cell| (instance_of(&table.node), cell, number(cell))))
        .collect();
    // Texts come last.
    cells.sort_by(|(_, _, a), (_, _, b)| match (a, b) {
        (Some(a), Some(b)) => a.largest_first(b),
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
    let common = common_parts(&cells);
    let has_nodes = nodes.iter().any(|table| !instance_of(&table.node).is_empty());
    let columns_used: BTreeSet<&str> = cells.iter().map(|(_, cell, _)| &*cell.column).collect();
    let has_columns = columns_used.iter().any(|column| *column != "mean");
    let has_intervals = nodes.iter().any(|table| table.changes.has_intervals);
    let row = |(node, cell, change): &(&str, &CellChange, Option<NumberChange>)| {
        let mut row = Vec::new();
        row.extend(has_nodes.then(|| plain(*node)));
        let is_own = |part: &&str| !common.contains(part);
        let own: Vec<&str> = cell.row.split(SEPARATOR).filter(is_own).collect();
        row.push(plain(own.join(SEPARATOR)));
        row.extend(has_columns.then(|| plain(cell.column.as_str())));
        row.extend(number_cells(cell, change.as_ref()));
        row.extend(has_intervals.then(|| beyond(change.as_ref())));
        row
    };
    let columns = [
        (has_nodes, "node", Align::Left),
        (true, "row", Align::Left),
        (has_columns, "column", Align::Left),
        (true, "before", Align::Right),
        (true, "after", Align::Right),
        (true, "change", Align::Right),
        (true, "%", Align::Right),
        (has_intervals, "beyond", Align::Left),
    ];
    let columns: Vec<(&str, Align)> =
        columns.into_iter().filter(|c| c.0).map(|(_, heading, align)| (heading, align)).collect();
    let mut lines = notes(nodes);
    if !common.is_empty() {
        let parts: Vec<String> = common.iter().map(|part| format!("`{part}`")).collect();
        lines.insert(0, format!("In all rows: {}.", parts.join(", ")));
    }
    let lead = match (lead, lines.is_empty()) {
        (None, true) => None,
        (lead, _) => Some([lead.into_iter().collect(), lines].concat().join("\n\n")),
    };
    section(blocks, title, lead, &columns, cells.iter().map(row).collect(), limit);
}

/// Separates the parts of a row's key.
const SEPARATOR: &str = ", ";

/// The parts of the key that all of several rows have in common.
fn common_parts<'a>(cells: &[(&str, &'a CellChange, Option<NumberChange>)]) -> Vec<&'a str> {
    let Some(((_, first, _), others)) = cells.split_first().filter(|(_, rest)| !rest.is_empty())
    else {
        return Vec::new();
    };
    let has = |row: &str, part: &str| row.split(SEPARATOR).any(|other| other == part);
    let mut common: Vec<&str> =
        first.row.split(SEPARATOR).filter(|part| !part.is_empty()).collect();
    common.retain(|part| others.iter().all(|(_, cell, _)| has(&cell.row, part)));
    common
}

/// Values, change and percentage.
fn number_cells(cell: &CellChange, change: Option<&NumberChange>) -> [Cell; 4] {
    let Some(change) = change else {
        let text = |text: &str| plain(if text.is_empty() { "-" } else { text });
        return [text(&cell.before), text(&cell.after), plain(""), plain("")];
    };
    let rounded = change.rounded();
    let with = |text: String, value: f64| Cell { value: Some(value), ..plain(text) };
    let value = |[text, interval]: [String; 2], value: &str| Cell {
        note: interval,
        ..with(text, value.parse().unwrap_or_default())
    };
    [
        value(rounded.before, &cell.before),
        value(rounded.after, &cell.after),
        with(rounded.change, change.difference()),
        with(rounded.percent, change.difference().signum() * change.relative()),
    ]
}

fn beyond(change: Option<&NumberChange>) -> Cell {
    let Some(ratio) = change.and_then(NumberChange::ratio) else { return plain("") };
    let answer = if ratio > 1.0 { "yes" } else { "no" };
    Cell { value: Some(ratio), ..plain(format!("{answer} ({ratio:.1}×)")) }
}

/// Sentences about rows and columns that are in one version only, and about attributes.
fn notes(nodes: &[&TableDiff]) -> Vec<String> {
    let sum = |of: fn(&TableDiff) -> usize| nodes.iter().map(|table| of(table)).sum::<usize>();
    let (added, removed) = (sum(|table| table.changes.added), sum(|table| table.changes.removed));
    let mut lines = Vec::new();
    if added + removed > 0 {
        lines.push(format!("Rows: {added} added, {removed} removed."));
    }
    let columns: BTreeSet<String> =
        nodes.iter().flat_map(|table| &table.changes.columns).map(|c| format!("`{c}`")).collect();
    if !columns.is_empty() {
        let columns: Vec<String> = columns.into_iter().collect();
        lines.push(format!("Columns in only one of the two: {}.", columns.join(", ")));
    }
    let mut attributes: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for cell in nodes.iter().flat_map(|table| &table.changes.cells) {
        if cell.role == Role::Attribute {
            *attributes.entry((&cell.column, &cell.before, &cell.after)).or_default() += 1;
        }
    }
    let text = |((column, before, after), n): (&(&str, &str, &str), &usize)| {
        format!("`{column}` {before} → {after} in {}", many(*n, "row"))
    };
    let shown: Vec<String> = attributes.iter().take(NAMED).map(text).collect();
    if !shown.is_empty() {
        let more = attributes.len() - shown.len();
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        lines.push(format!("Attributes: {}{more}.", shown.join("; ")));
    }
    lines
}

/// The media type of an image that a page can show.
fn media_type(file: &str) -> Option<&'static str> {
    match file.rsplit_once('.')?.1 {
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        _ => None,
    }
}

/// The changed figures. Copies, as in a report, are left out.
fn figures(diff: &Diff) -> Vec<&FileDiff> {
    let mut seen = BTreeSet::new();
    diff.files
        .iter()
        .filter(|file| file.state == Change::Changed && media_type(&file.file).is_some())
        .filter(|file| seen.insert((file.before, file.after)))
        .collect()
}

fn figure_blocks(blocks: &mut Vec<Block>, diff: &Diff, store: &Store) -> Result<()> {
    let figures = figures(diff);
    if figures.is_empty() {
        return Ok(());
    }
    section(blocks, "Figures", Some("Changed:".into()), &[], Vec::new(), 0);
    for (i, file) in figures.into_iter().enumerate() {
        let title = match &file.node_before {
            None => format!("{}, {}", file.node, file.file),
            Some(before) => format!("{before} → {}, {}", file.node, file.file),
        };
        let sides = [("Before", file.before), ("After", file.after)];
        let mut markup = "<div style=\"display: grid; gap: 1rem; grid-template-columns: \
                          repeat(auto-fit, minmax(min(100%, 24rem), 1fr))\">\n"
            .to_owned();
        for (label, digest) in sides {
            markup += &format!("<div><p><strong>{label}</strong></p>\n");
            markup += &image(store, &file.file, label, digest)?;
            markup += "</div>\n";
        }
        markup += "</div>";
        let digest = |digest: Option<Digest>| digest.map(|d| d.to_string()).unwrap_or_default();
        blocks.push(Block::Figure(FigureBlock {
            id: format!("figure-{}", i + 1),
            title,
            message: String::new(),
            caption: String::new(),
            path: file.file.clone(),
            image: Image::Markup(markup),
            source: Source {
                digest: digest(file.after),
                command: format!("repro run {}", file.node),
                recipe: vec![("before, BLAKE3".to_owned(), digest(file.before))],
                ..Source::default()
            },
        }));
    }
    Ok(())
}

fn image(store: &Store, file: &str, label: &str, digest: Option<Digest>) -> Result<String> {
    let bytes = match digest {
        Some(digest) if store.check_object(digest)? == ObjectState::Intact => {
            store.read_object(digest)?
        }
        _ => return Ok("<p>no longer in the cache</p>\n".to_owned()),
    };
    let url = data_url(media_type(file).unwrap_or_default(), &bytes);
    Ok(format!(
        "<img alt=\"{label}\" style=\"display: block; width: 100%; height: auto\" src=\"{url}\">\n"
    ))
}

/// One row for each output of a stage, with the names of some nodes whose output changed.
fn files(blocks: &mut Vec<Block>, diff: &Diff, limit: usize) {
    let mut outputs: BTreeMap<(&str, &str), Vec<&FileDiff>> = BTreeMap::new();
    diff.files
        .iter()
        .for_each(|file| outputs.entry((&file.stage, &file.file)).or_default().push(file));
    let row = |((stage, file), all): ((&str, &str), Vec<&FileDiff>)| {
        let changed: Vec<&str> =
            all.iter().filter(|file| file.state != Change::Same).map(|f| &*f.node).collect();
        let shown: Vec<&str> = changed.iter().take(3).map(|node| instance_of(node)).collect();
        let more = changed.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let count = |change| {
            let n = all.iter().filter(|file| file.state == change).count();
            Cell { value: Some(n as f64), ..plain(n.to_string()) }
        };
        vec![
            plain(stage),
            plain(file),
            count(Change::Same),
            count(Change::Changed),
            count(Change::Removed),
            count(Change::Added),
            plain(shown.join("; ") + &more),
        ]
    };
    let columns = [
        ("stage", Align::Left),
        ("file", Align::Left),
        ("same", Align::Right),
        ("changed", Align::Right),
        ("removed", Align::Right),
        ("added", Align::Right),
        ("where", Align::Left),
    ];
    let lost = diff.files.iter().filter(|file| file.is_lost).count();
    let lead = (lost > 0).then(|| {
        format!("Of {}, one version is no longer in the cache.", many(lost, "changed output"))
    });
    section(blocks, "Files", lead, &columns, outputs.into_iter().map(row).collect(), limit);
}
