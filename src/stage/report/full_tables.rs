//! Every number of the run: tables by prior, and one long table of all curves.

use super::Report;
use super::measured::{Mark, Measured, mean_text};
use crate::report::document::{Block, Cell, Column, Explorer, TableBlock};
use crate::report::table::Align;
use crate::stage::rows::{CurveGroup, GroupMean, Metric};
use crate::stage::tables::SUMMARY;
use crate::stage::talk::Published;
use crate::study::net::{Hidden, Prior};
use crate::study::stats::Interval;
use anyhow::Result;
use std::collections::BTreeMap;

/// The number of rows above which a table is folded.
const UNFOLDED: usize = 40;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let measured = &report.measured;
    if measured.summaries.is_empty() {
        return Ok(Vec::new());
    }
    let mut blocks = vec![heading("largest-errors", "Largest test error on the curve, %")];
    blocks.push(Block::Text(explanation(measured)));
    for prior in measured.priors() {
        blocks.push(Block::Table(TableBlock {
            id: format!("largest-error-{}", slug(&prior.to_string())),
            title: format!("Largest test error, %: {}", prior_title(prior)),
            caption: marks_caption(measured, prior),
            source: Some(report.source(SUMMARY.file)?),
            facets: vec![("prior".to_owned(), prior.to_string())],
            ..methods_by_widths(measured, prior, |group| largest_error(measured, group))
        }));
    }
    blocks.push(heading("barriers", "Barriers"));
    blocks.push(Block::Text(
        "Each cell is the barrier of the test loss in nats / of the test error in percentage \
         points, as the mean over pairs. The barrier of the loss is the largest excess of the loss \
         L(t) on the curve over (1 - t) L\\_A + t L\\_B, the straight line between the losses of \
         its ends; the barrier of the error is defined likewise.\n"
            .to_owned(),
    ));
    for prior in measured.priors() {
        blocks.push(Block::Table(TableBlock {
            id: format!("barriers-{}", slug(&prior.to_string())),
            title: format!("Barriers of loss and error: {}", prior_title(prior)),
            source: Some(report.source(SUMMARY.file)?),
            facets: vec![("prior".to_owned(), prior.to_string())],
            ..methods_by_widths(measured, prior, |group| barriers(measured, group))
        }));
    }
    blocks.push(heading("all-curves", "All curves"));
    let table = all_curves(report)?;
    blocks.push(folded(table, &format!("curves by prior, method and {}", measured.kind_of_nets())));
    blocks.push(Block::Explorer(Explorer::Pairs));
    Ok(blocks)
}

fn heading(id: &str, text: &str) -> Block {
    Block::Heading { level: 3, id: id.to_owned(), text: text.to_owned() }
}

fn prior_title(prior: Prior) -> String {
    match prior {
        Prior::None => "no prior".to_owned(),
        prior => format!("prior {prior}"),
    }
}

/// The text as an anchor: letters, digits and hyphens.
pub(super) fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    text.chars().map(plain).collect()
}

/// What a cell of the tables of largest errors contains.
fn explanation(measured: &Measured) -> String {
    let mut text = "Each cell is our mean over pairs ± half the width of its 95 % interval. With \
                    one or two pairs"
        .to_owned();
    if !measured.has_disjoint_pairs() {
        text += ", or pairs of three nets,";
    }
    text += " there is no interval, and the values or their range are listed.\n";
    let comparable = measured.comparable();
    if comparable.is_empty() {
        return text;
    }
    text += &format!(
        "\nThe number published in the talk, if any, follows with a mark: {} within the 95 % \
         prediction interval for a pair of new nets (`pair_low` to `pair_high` in the CSV), {} \
         outside, but within two standard errors of the difference of two test errors, {} \
         otherwise. A number has no mark if there are too few pairs for a prediction interval. The \
         talk does not state how many pairs it averaged over.\n",
        Mark::Inside.symbol(),
        Mark::Near.symbol(),
        Mark::Outside.symbol()
    );
    let sum = marks(measured, &comparable);
    if let (Some(sum), Some(agreement)) = (sum, measured.agreement()) {
        text += &format!(
            "\nIn all tables: {sum}. {} of {} are expected to be within their interval. The median \
             half-width of the intervals is {:.0} % of our mean; {} of them exceed 50 %.\n",
            agreement.expected,
            agreement.total,
            100.0 * agreement.half_width,
            agreement.wide
        );
    }
    text
}

/// The sum of the marks of a prior's table; empty without marks.
fn marks_caption(measured: &Measured, prior: Prior) -> String {
    let published: Vec<&Published> =
        measured.comparable().into_iter().filter(|number| number.prior == prior).collect();
    marks(measured, &published).map_or(String::new(), |sum| format!("Beside the talk: {sum}.\n"))
}

/// `35 within (=), 1 near (≈), 0 outside (≠)`; `None` if no number has a mark.
fn marks(measured: &Measured, published: &[&Published]) -> Option<String> {
    let mut counts: BTreeMap<Mark, usize> = BTreeMap::new();
    for mark in published.iter().filter_map(|number| measured.mark(number)) {
        *counts.entry(mark).or_default() += 1;
    }
    let count = |mark: Mark| {
        let name = match mark {
            Mark::Inside => "within the interval",
            Mark::Near => "near",
            Mark::Outside => "outside",
        };
        format!("{} {name} ({})", counts.get(&mark).unwrap_or(&0), mark.symbol())
    };
    (!counts.is_empty()).then(|| Mark::ALL.map(count).join(", "))
}

/// The table, folded if it is long; `rows` is what its rows are, in the plural.
pub(super) fn folded(table: TableBlock, rows: &str) -> Block {
    match table.rows.len() {
        0..=UNFOLDED => Block::Table(table),
        count => Block::Details {
            summary: format!("All {count} {rows}"),
            blocks: vec![Block::Table(table)],
        },
    }
}

/// The cell of hidden layers; a page sorts widths as numbers, and other texts by their numbers.
pub(super) fn hidden_cell(hidden: Hidden) -> Cell {
    let value = if hidden.biases { None } else { hidden.widths.single() };
    let value = value.map(|width| width as f64);
    Cell { value, ..Cell::text(hidden.to_string()) }
}

/// The columns and rows of a table of methods by widths.
fn methods_by_widths(
    measured: &Measured,
    prior: Prior,
    cell: impl Fn(CurveGroup) -> Option<Cell>,
) -> TableBlock {
    let widths = measured.hiddens();
    let mut columns = vec![Column::of_facet("method", Align::Left)];
    columns.extend(widths.iter().map(|hidden| Column {
        facet: Some(("hidden".to_owned(), hidden.to_string())),
        ..Column::new(format!("h = {hidden}"), Align::Right)
    }));
    let rows = measured.methods().into_iter().filter_map(|method| {
        let cells = widths.iter().map(|&hidden| cell(CurveGroup { hidden, prior, method }));
        let cells: Vec<Option<Cell>> = cells.collect();
        // Every prior may have methods of its own.
        cells.iter().any(Option::is_some).then(|| {
            let title = Cell { facet: method.name(), ..Cell::text(method.title()) };
            std::iter::once(title).chain(cells.into_iter().map(Option::unwrap_or_default)).collect()
        })
    });
    TableBlock { rows: rows.collect(), columns, ..TableBlock::default() }
}

/// Our mean, and below it the published number with its mark.
fn largest_error(measured: &Measured, group: CurveGroup) -> Option<Cell> {
    let mean = measured.mean(group, Metric::MaxError)?;
    let published = measured.published.iter().find(|number| number.group() == group);
    let note = published.map_or(String::new(), |number| {
        let mark = measured.mark(number).map_or("", Mark::symbol);
        format!("talk: {} {mark}", number.max_error).trim_end().to_owned()
    });
    Some(Cell { note, ..Cell::number(Some(mean.mean), |_| mean_text(mean, 2)) })
}

fn barriers(measured: &Measured, group: CurveGroup) -> Option<Cell> {
    let loss = measured.mean(group, Metric::LossBarrier)?.mean;
    let error = measured.mean(group, Metric::ErrorBarrier)?.mean;
    Some(Cell::number(Some(loss), |loss| format!("{loss:.3} / {error:.2}")))
}

/// One row for each prior, method and width.
fn all_curves(report: &Report) -> Result<TableBlock> {
    let measured = &report.measured;
    let column = |heading: &str| Column::new(heading, Align::Right);
    let columns = vec![
        Column::of_facet("prior", Align::Left),
        Column::of_facet("method", Align::Left),
        Column::of_facet("hidden", Align::Right),
        column("largest error, %"),
        column("95 % interval"),
        column("excess, points"),
        column("mean error, %"),
    ];
    let mut rows = Vec::new();
    for prior in measured.priors() {
        for method in measured.methods() {
            for hidden in measured.hiddens() {
                let group = CurveGroup { hidden, prior, method };
                if measured.mean(group, Metric::MaxError).is_some() {
                    rows.push(row(measured, group));
                }
            }
        }
    }
    Ok(TableBlock {
        id: "curves".to_owned(),
        title: "Largest, excess and mean test error of all curves".to_owned(),
        caption: "Means over pairs. The excess is over the error of the worse net; the mean error \
                  is by arc length. Without an interval, the range over pairs is in parentheses.\n"
            .to_owned(),
        columns,
        rows,
        source: Some(report.source(SUMMARY.file)?),
        facets: Vec::new(),
    })
}

fn row(measured: &Measured, group: CurveGroup) -> Vec<Cell> {
    let CurveGroup { hidden, prior, method } = group;
    let number = |metric| {
        let mean = measured.mean(group, metric).map(|mean| mean.mean);
        Cell::number(mean, |x| format!("{x:.2}"))
    };
    let interval = measured.mean(group, Metric::MaxError).map_or(String::new(), interval_text);
    vec![
        Cell::text(prior.to_string()),
        Cell { facet: method.name(), ..Cell::text(method.title()) },
        hidden_cell(hidden),
        number(Metric::MaxError),
        Cell::text(interval),
        number(Metric::ExcessError),
        number(Metric::MeanErrorByLength),
    ]
}

/// The interval of a mean, or the range over pairs in parentheses.
fn interval_text(mean: &GroupMean) -> String {
    let (least, most) = mean.range;
    match mean.interval {
        Some(Interval { low, high }) => format!("{low:.2} to {high:.2}"),
        None if mean.count == 1 => String::new(),
        None => format!("({least:.2} to {most:.2})"),
    }
}
