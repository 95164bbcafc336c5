//! Markdown of small elements, and of a report.

use super::document::{Block, Cell, Document};
use super::table::Table;

/// Escapes `text` for Markdown, on one line; also valid in a table.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '#' => {
                escaped.extend(['\\', c])
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// A paragraph with the image at `path`; the caption is Markdown.
pub fn figure(caption: &str, path: &str) -> String {
    format!("![{caption}](<{}>)\n", url(path))
}

/// The relative URL of the file at `path`, without characters that are special in Markdown or HTML.
pub fn url(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '/' | '-' | '_' | '.' | '=' | '@' | ',' => url.push(c),
            c if c.is_alphanumeric() => url.push(c),
            c => c
                .encode_utf8(&mut [0; 4])
                .bytes()
                .for_each(|byte| url.push_str(&format!("%{byte:02X}"))),
        }
    }
    url
}

/// The report as Markdown. A first version: without sources, notes in cells and folded parts.
pub fn to_markdown(document: &Document) -> String {
    let mut text = format!("# {}\n\n", escape(&document.title));
    push_blocks(&document.blocks, &mut text);
    text
}

fn push_blocks(blocks: &[Block], text: &mut String) {
    for block in blocks {
        match block {
            Block::Heading { level, text: heading, .. } => {
                *text += &format!("{} {}\n\n", "#".repeat(usize::from(*level)), escape(heading));
            }
            Block::Text(markdown) => *text += &format!("{}\n\n", markdown.trim_end()),
            Block::Facts(facts) => {
                for (label, value) in facts {
                    *text += &format!("- {}: {}\n", escape(label), escape(value));
                }
                text.push('\n');
            }
            Block::Details { summary, blocks } => {
                *text += &format!("**{}**\n\n", escape(summary));
                push_blocks(blocks, text);
            }
            Block::Figure(block) => {
                let caption = format!("**{}** {}", escape(&block.title), block.caption.trim_end());
                *text += &format!("{}\n", figure(&caption, &block.path));
            }
            Block::Table(table) => {
                let cell = |cell: &Cell| format!("{} {}", cell.text, cell.note).trim().to_owned();
                let columns = table.columns.iter();
                let rows = table.rows.iter().map(|row| row.iter().map(cell).collect());
                let body = Table {
                    columns: columns.map(|column| (column.heading.clone(), column.align)).collect(),
                    rows: rows.collect(),
                };
                *text += &format!("**{}**\n\n{}\n", escape(&table.title), body.to_markdown());
                *text += &format!("{}\n\n", table.caption.trim_end());
            }
            Block::Contents | Block::Html(_) | Block::Explorer(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pulldown_cmark::{Event, Options, Parser};

    proptest! {
        #[test]
        fn escaped_text_is_rendered_unchanged(text in "[ -~]{0,20}") {
            let cell = format!("x{text}x");
            let table = format!("| {} |\n| --- |\n", escape(&cell));
            let read: String = Parser::new_ext(&table, Options::ENABLE_TABLES)
                .filter_map(|event| match event {
                    Event::Text(text) => Some(text.to_string()),
                    _ => None,
                })
                .collect();
            prop_assert_eq!(read, cell);
        }
    }
}
