//! Tables of the page, with the attributes by which scripts sort and filter them.

use super::escape;
use crate::report::document::{Cell, Column, TableBlock};
use crate::report::table::Align;
use std::fmt::Write as _;

/// The table with the label `name`, which is escaped.
pub(super) fn table(table: &TableBlock, name: &str) -> String {
    let mut html = format!("<table aria-label=\"{name}\">\n<thead>\n<tr>");
    for column in &table.columns {
        let _ = write!(
            html,
            "<th scope=\"col\"{}{}>{}</th>",
            class(column),
            facet_of_column(column),
            escape(&column.heading)
        );
    }
    html += "</tr>\n</thead>\n<tbody>\n";
    for row in &table.rows {
        html += &self::row(&table.columns, row);
    }
    html + "</tbody>\n</table>"
}

fn row(columns: &[Column], row: &[Cell]) -> String {
    let empty = Cell::default();
    let cells = || columns.iter().enumerate().map(|(i, c)| (i, c, row.get(i).unwrap_or(&empty)));
    let mut html = "<tr".to_owned();
    for (_, column, cell) in cells() {
        if let Some(name) = column.facet_of_rows.as_deref().filter(|name| is_name(name)) {
            let value = if cell.facet.is_empty() { &cell.text } else { &cell.facet };
            html += &facet(name, value);
        }
    }
    html.push('>');
    for (i, column, cell) in cells() {
        // The first cell names the row.
        let (start, end) = if i == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
        let _ = write!(html, "<{start}{}{}", class(column), facet_of_column(column));
        if let Some(name) = column.facet_of_rows.as_deref().filter(|name| is_name(name)) {
            let _ = write!(html, " data-facet=\"{name}\"");
        }
        if let Some(value) = cell.value.filter(|value| value.is_finite()) {
            let _ = write!(html, " data-value=\"{value}\"");
        }
        let _ = write!(html, ">{}", escape(&cell.text));
        if !cell.note.is_empty() {
            // With a space, since the text of the cell is also read without its style.
            let _ = write!(html, " <small>{}</small>", escape(&cell.note));
        }
        let _ = write!(html, "</{end}>");
    }
    html + "</tr>\n"
}

fn class(column: &Column) -> &'static str {
    match column.align {
        Align::Left => "",
        Align::Right => " class=\"r\"",
        Align::Center => " class=\"c\"",
    }
}

fn facet_of_column(column: &Column) -> String {
    column.facet.as_ref().map_or(String::new(), |(name, value)| facet(name, value))
}

/// The attribute of an element about one value of a facet.
pub(super) fn facet(name: &str, value: &str) -> String {
    if is_name(name) { format!(" data-{name}=\"{}\"", escape(value)) } else { String::new() }
}

/// Whether the text can be part of an attribute's name.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_have_the_values_of_their_facets() {
        let column = |heading: &str, align, facet: Option<&str>, of_rows: Option<&str>| Column {
            heading: heading.into(),
            align,
            facet: facet.map(|value| ("hidden".into(), value.into())),
            facet_of_rows: of_rows.map(str::to_owned),
        };
        let number = |text: &str, note: &str, value| Cell {
            text: text.into(),
            note: note.into(),
            value,
            ..Cell::default()
        };
        let method =
            Cell { text: "Linear + OT".into(), facet: "linear+ot".into(), ..Cell::default() };
        let block = TableBlock {
            columns: vec![
                column("method", Align::Left, None, Some("method")),
                column("h = 10", Align::Right, Some("10"), None),
                column("<b>", Align::Center, None, None),
            ],
            rows: vec![
                vec![method, number("45.7", "talk: 46 <", Some(45.7)), number("1 & 2", "", None)],
                vec![number("arc", "", None), number("-", "", Some(f64::NAN))],
            ],
            ..TableBlock::default()
        };
        insta::assert_snapshot!(table(&block, "Table 1"), @r#"
        <table aria-label="Table 1">
        <thead>
        <tr><th scope="col">method</th><th scope="col" class="r" data-hidden="10">h = 10</th><th scope="col" class="c">&lt;b&gt;</th></tr>
        </thead>
        <tbody>
        <tr data-method="linear+ot"><th scope="row" data-facet="method">Linear + OT</th><td class="r" data-hidden="10" data-value="45.7">45.7 <small>talk: 46 &lt;</small></td><td class="c">1 &amp; 2</td></tr>
        <tr data-method="arc"><th scope="row" data-facet="method">arc</th><td class="r" data-hidden="10">-</td><td class="c"></td></tr>
        </tbody>
        </table>
        "#);
    }
}
