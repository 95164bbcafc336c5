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
        let heading = self.columns.iter().map(|(name, _)| escape(name)).collect();
        let rows = self.rows.iter().map(|row| {
            (0..self.columns.len())
                .map(|i| row.get(i).map_or(String::new(), |cell| escape(cell)))
                .collect()
        });
        let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|i| lines.iter().map(|line| line[i].chars().count()).fold(3, usize::max))
            .collect();
        let mut text = String::new();
        for (n, line) in lines.iter().enumerate() {
            let padded = line.iter().zip(&self.columns).zip(&widths);
            push(&mut text, padded.map(|((cell, (_, align)), &width)| pad(cell, *align, width)));
            if n == 0 {
                push(
                    &mut text,
                    self.columns
                        .iter()
                        .zip(&widths)
                        .map(|((_, align), &width)| rule(*align, width)),
                );
            }
        }
        text
    }
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
