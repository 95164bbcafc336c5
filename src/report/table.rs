//! Markdown tables with aligned columns.

use super::markdown::escape;

/// The alignment of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers.
    Right,
    /// Marks.
    Center,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Headings, each with the alignment of its column.
    pub columns: Vec<(String, Align)>,
    /// Plain text. Missing cells are empty; cells beyond the columns are ignored.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as Markdown, with escaped cells and a final newline.
    pub fn to_markdown(&self) -> String {
        let columns: Vec<(String, Align)> =
            self.columns.iter().map(|(name, align)| (escape(name), *align)).collect();
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
        pipes(&columns, &rows)
    }
}

/// Longer cells are not padded, since they would make every line of the table as long.
const PADDED: usize = 48;

/// A table of headings and cells that are Markdown.
pub(super) fn pipes(columns: &[(String, Align)], rows: &[Vec<String>]) -> String {
    let heading: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let cells = |row: &'_ Vec<String>| -> Vec<String> {
        (0..columns.len()).map(|i| row.get(i).cloned().unwrap_or_default()).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            let cells = rows.iter().map(|row| row[i].as_str()).chain([heading[i]]);
            cells.map(|cell| cell.chars().count()).fold(3, usize::max).min(PADDED)
        })
        .collect();
    let padded = |row: &[&str]| -> Vec<String> {
        let cells = row.iter().zip(columns).zip(&widths);
        cells.map(|((cell, (_, align)), &width)| pad(cell, *align, width)).collect()
    };
    let mut text = String::new();
    push(&mut text, padded(&heading).into_iter());
    push(&mut text, columns.iter().zip(&widths).map(|((_, align), &width)| rule(*align, width)));
    for row in &rows {
        push(&mut text, padded(&row.iter().map(String::as_str).collect::<Vec<_>>()).into_iter());
    }
    text
}

fn push(text: &mut String, cells: impl Iterator<Item = String>) {
    text.push('|');
    for cell in cells {
        text.push_str(&format!(" {cell} |"));
    }
    text.push('\n');
}

fn pad(cell: &str, align: Align, width: usize) -> String {
    match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
        Align::Center => format!("{cell:^width$}"),
    }
}

fn rule(align: Align, width: usize) -> String {
    match align {
        Align::Left => "-".repeat(width),
        Align::Right => format!("{}:", "-".repeat(width - 1)),
        Align::Center => format!(":{}:", "-".repeat(width - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_are_escaped() {
        let table = Table {
            columns: vec![
                ("method".into(), Align::Left),
                ("h = 10".into(), Align::Right),
                ("".into(), Align::Center),
            ],
            rows: vec![
                vec!["linear".into(), "45.7 ± 1.2".into(), "✓".into()],
                vec!["arc | *mu*\nrow".into(), "9.53".into()],
                vec!["a".into(), "b".into(), "c".into(), "one too many".into()],
            ],
        };
        insta::assert_snapshot!(table.to_markdown(), @r"
        | method            |     h = 10 |     |
        | ----------------- | ---------: | :-: |
        | linear            | 45.7 ± 1.2 |  ✓  |
        | arc \| \*mu\* row |       9.53 |     |
        | a                 |          b |  c  |
        ");
    }

    #[test]
    fn a_table_without_rows_has_a_heading() {
        let table = Table { columns: vec![("x".into(), Align::Left)], rows: vec![] };
        assert_eq!(table.to_markdown(), "| x   |\n| --- |\n");
    }
}
