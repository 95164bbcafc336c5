//! Writes a [`Document`] as Markdown that reads well on GitHub, and escapes text.

use super::document::*;
use super::numbers::Numbers;
use super::table::{Align, Table};
use std::fmt::Write as _;

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

/// The number of columns that GitHub shows without scrolling.
const COLUMNS: usize = 7;

/// The document as Markdown.
pub fn to_markdown(document: &Document) -> String {
    let mut writer = Writer { document, numbers: Numbers::default(), text: String::new() };
    writer.line(format!("# {}\n", escape(&document.title)));
    writer.blocks(&document.blocks);
    writer.text
}

/// Writes blocks in order.
struct Writer<'a> {
    document: &'a Document,
    numbers: Numbers,
    text: String,
}

impl Writer<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        self.text += text.as_ref();
        self.text.push('\n');
    }

    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.block(block);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading { level, id, text } => {
                let marks = "#".repeat(usize::from(*level));
                self.line(format!("{}\n\n{marks} {}\n", anchor(id), escape(text)));
            }
            Block::Text(markdown) => self.line(format!("{}\n", markdown.trim_end())),
            Block::Facts(facts) => {
                for (label, value) in facts {
                    self.line(format!("- {}: **{}**", escape(label), escape(value)));
                }
                self.line("");
            }
            Block::Contents => self.contents(),
            Block::Details { summary, blocks } => {
                self.line(format!("<details>\n<summary>{}</summary>\n", html(summary)));
                self.blocks(blocks);
                self.line("</details>\n");
            }
            Block::Figure(figure) => {
                let number = self.numbers.figure();
                let (title, path) = (escape(&figure.title), url(&figure.path));
                if !figure.message.is_empty() {
                    self.line(format!("{}\n", figure.message.trim_end()));
                }
                self.line(format!("{}\n\n![{title}](<{path}>)\n", anchor(&figure.id)));
                self.caption(&format!("Figure {number}. {title}"), &figure.caption);
                self.source(&figure.source);
            }
            Block::Table(table) => self.table(table),
            Block::Graph(graph) => self.graph(graph),
            Block::Html(block) => {
                let number = self.numbers.figure();
                let (title, path) = (escape(&block.title), url(&block.path));
                self.line(format!("{}\n\n[{title}](<{path}>)\n", anchor(&block.id)));
                self.caption(&format!("Figure {number}. {title}"), &block.caption);
                self.source(&block.source);
            }
            Block::Explorer(_) => {}
        }
    }

    /// Links to the headings of the second level after the first [`Block::Contents`].
    fn contents(&mut self) {
        let blocks = &self.document.blocks;
        let start = blocks.iter().position(|block| *block == Block::Contents).unwrap_or(0);
        let mut lines = String::new();
        for block in &blocks[start..] {
            if let Block::Heading { level: level @ 2..=3, id, text } = block {
                let indent = if *level == 2 { "" } else { "  " };
                let _ = writeln!(lines, "{indent}- [{}](#{id})", escape(text));
            }
        }
        self.line(lines);
    }

    fn caption(&mut self, title: &str, caption: &str) {
        let caption = caption.trim_end();
        let space = if caption.is_empty() { "" } else { " " };
        self.line(format!("**{title}.**{space}{caption}\n"));
    }

    /// A wide table becomes several, each with the first column.
    fn table(&mut self, table: &TableBlock) {
        let number = self.numbers.table();
        self.line(format!("{}\n", anchor(&table.id)));
        self.caption(&format!("Table {number}. {}", escape(&table.title)), &table.caption);
        let cell = |row: &[Cell], i: usize| row.get(i).map_or(String::new(), line_of);
        let others: Vec<usize> = (1..table.columns.len()).collect();
        let parts: Vec<&[usize]> = match others.is_empty() {
            true => vec![&[]],
            false => others.chunks(COLUMNS - 1).collect(),
        };
        for part in parts {
            let picked: Vec<usize> = std::iter::once(0).chain(part.iter().copied()).collect();
            let column = |i: &usize| (table.columns[*i].heading.clone(), table.columns[*i].align);
            let columns: Vec<(String, Align)> = picked.iter().map(column).collect();
            let row = |row: &Vec<Cell>| picked.iter().map(|i| cell(row, *i)).collect();
            let rows = table.rows.iter().map(row).collect();
            self.line(Table { columns, rows }.to_markdown());
        }
        if let Some(source) = &table.source {
            self.source(source);
        }
    }

    fn graph(&mut self, graph: &GraphBlock) {
        let number = self.numbers.figure();
        let mut text = "```mermaid\nflowchart LR\n".to_owned();
        for (i, stage) in graph.stages.iter().enumerate() {
            let nodes =
                if stage.nodes == 1 { "1 node".into() } else { format!("{} nodes", stage.nodes) };
            let name = stage.name.replace('"', "#quot;");
            let _ = writeln!(text, "  s{i}[\"{name} ({}, {nodes})\"]", stage.kind);
        }
        for (from, to) in &graph.arrows {
            let _ = writeln!(text, "  s{from} --> s{to}");
        }
        self.line(format!("{}\n\n{text}```\n", anchor(&graph.id)));
        self.caption(&format!("Figure {number}. {}", escape(&graph.title)), &graph.caption);
    }

    /// Digest, command and recipe, folded.
    fn source(&mut self, source: &Source) {
        self.line("<details>\n<summary>Source and recipe</summary>\n");
        if !source.path.is_empty() {
            self.line(format!("- file: [`{}`](<{}>)", source.path, url(&source.path)));
        }
        self.line(format!("- BLAKE3: `{}`\n- command: `{}`", source.digest, source.command));
        for (name, value) in &source.recipe {
            self.line(format!("- {}: {}", escape(name), escape(value)));
        }
        self.line("\n</details>\n");
    }
}

fn line_of(cell: &Cell) -> String {
    match cell.note.is_empty() {
        true => cell.text.clone(),
        false => format!("{} / {}", cell.text, cell.note),
    }
}

fn anchor(id: &str) -> String {
    format!("<a id=\"{id}\"></a>")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
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
