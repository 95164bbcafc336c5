//! The blocks of a document as HTML.

use super::escape;
use super::prose::prose;
use crate::report::document::*;
use crate::report::graph;
use crate::report::markdown::url;
use crate::report::numbers::Numbers;
use crate::report::table::Align;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use std::fmt::Write as _;

/// Writes blocks in order.
pub(super) struct Writer<'a> {
    document: &'a Document,
    numbers: Numbers,
    html: String,
}

impl<'a> Writer<'a> {
    pub(super) fn new(document: &'a Document) -> Writer<'a> {
        Writer { document, numbers: Numbers::default(), html: String::new() }
    }

    pub(super) fn finish(self) -> String {
        self.html
    }

    pub(super) fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.block(block);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading { level, id, text } => self.heading(*level, id, text),
            Block::Text(markdown) => self.html += &prose(markdown),
            Block::Facts(facts) => self.facts(facts),
            Block::Contents => self.contents(),
            Block::Details { summary, blocks } => {
                self.line(format!("<details>\n<summary>{}</summary>", escape(summary)));
                self.blocks(blocks);
                self.line("</details>");
            }
            Block::Figure(figure) => self.figure(figure),
            Block::Table(table) => self.table(table),
            Block::Graph(graph) => self.graph(graph),
            Block::Html(html) => self.frame(html),
            Block::Explorer(explorer) => self.explorer(*explorer),
        }
    }

    fn line(&mut self, html: impl AsRef<str>) {
        self.html += html.as_ref();
        self.html.push('\n');
    }

    fn heading(&mut self, level: u8, id: &str, text: &str) {
        let (level, id, text) = (level.clamp(2, 4), escape(id), escape(text));
        self.line(format!(
            "<h{level} id=\"{id}\">{text} <a class=\"anchor\" href=\"#{id}\" \
             aria-label=\"Link to: {text}\">#</a></h{level}>"
        ));
    }

    fn facts(&mut self, facts: &[(String, String)]) {
        self.line("<dl class=\"facts\">");
        for (label, value) in facts {
            let (label, value) = (escape(label), escape(value));
            self.line(format!("<div><dt>{label}</dt><dd>{value}</dd></div>"));
        }
        self.line("</dl>");
    }

    /// Links to all headings of the second and third level after the first [`Block::Contents`].
    fn contents(&mut self) {
        let blocks = &self.document.blocks;
        let start = blocks.iter().position(|block| *block == Block::Contents).unwrap_or(0);
        self.line("<nav class=\"contents\" aria-label=\"Contents\">\n<ul>");
        self.line("<li><a href=\"#top\">Top</a></li>");
        let mut is_nested = false;
        for block in &blocks[start..] {
            let Block::Heading { level: level @ 2..=3, id, text } = block else { continue };
            let link = format!("<a href=\"#{}\">{}</a>", escape(id), escape(text));
            match (level, is_nested) {
                (2, _) => {
                    let end = if is_nested { "</ul>\n" } else { "" };
                    self.line(format!("{end}<li>{link}</li>"));
                    is_nested = false;
                }
                (_, false) => {
                    self.line(format!("<ul class=\"nested\">\n<li>{link}</li>"));
                    is_nested = true;
                }
                (_, true) => self.line(format!("<li>{link}</li>")),
            }
        }
        if is_nested {
            self.line("</ul>");
        }
        self.line("</ul>\n</nav>");
    }

    fn figure(&mut self, figure: &FigureBlock) {
        let number = self.numbers.figure();
        let (id, title) = (escape(&figure.id), escape(&figure.title));
        self.line(format!("<figure id=\"{id}\">"));
        if !figure.message.is_empty() {
            self.line(format!("<div class=\"message\">{}</div>", prose(&figure.message)));
        }
        match &figure.image {
            Image::Markup(markup) => {
                let label = format!("Figure {number}. {title}");
                self.line(format!(
                    "<div class=\"drawing\" tabindex=\"0\" role=\"group\" \
                     aria-label=\"{label}\">\n{}\n</div>",
                    markup.trim_end()
                ));
            }
            Image::File { media_type, bytes } => {
                let data = BASE64_STANDARD.encode(bytes);
                self.line(format!(
                    "<div class=\"drawing image\"><img alt=\"{title}\" \
                     src=\"data:{media_type};base64,{data}\"></div>"
                ));
            }
        }
        self.line("<figcaption>");
        self.line(format!(
            "<p><a href=\"#{id}\"><strong>Figure {number}.</strong></a> <strong>{title}.</strong></p>"
        ));
        self.html += &prose(&figure.caption);
        self.line("</figcaption>");
        self.source(&figure.source);
        self.line("</figure>");
    }

    fn table(&mut self, table: &TableBlock) {
        let number = self.numbers.table();
        let (id, title) = (escape(&table.id), escape(&table.title));
        self.line(format!("<figure class=\"table\" id=\"{id}\"{}>", facets(&table.facets)));
        self.line(format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"group\" \
             aria-label=\"Table {number}. {title}\">\n<table data-sortable>\n<caption>\
             <a href=\"#{id}\"><strong>Table {number}.</strong></a> {title}</caption>\n<thead>\n<tr>"
        ));
        for column in &table.columns {
            let facet = facets(column.facet.as_slice());
            self.line(format!(
                "<th scope=\"col\"{}{facet}>{}</th>",
                class(column.align),
                escape(&column.heading)
            ));
        }
        self.line("</tr>\n</thead>\n<tbody>");
        for row in &table.rows {
            self.row(&table.columns, row);
        }
        self.line("</tbody>\n</table>\n</div>");
        if !table.caption.is_empty() {
            self.line(format!("<figcaption>\n{}</figcaption>", prose(&table.caption)));
        }
        if let Some(source) = &table.source {
            self.source(source);
        }
        self.line("</figure>");
    }

    fn row(&mut self, columns: &[Column], row: &[Cell]) {
        let cells = || (0..columns.len()).map(|i| (&columns[i], row.get(i)));
        let named = cells().filter_map(|(column, cell)| {
            let (name, cell) = (column.facet_of_rows.clone()?, cell?);
            let value = if cell.facet.is_empty() { &cell.text } else { &cell.facet };
            Some((name, value.clone()))
        });
        let mut html = format!("<tr{}>", facets(&named.collect::<Vec<_>>()));
        for (i, (column, cell)) in cells().enumerate() {
            let Cell { text, note, value, .. } = cell.cloned().unwrap_or_default();
            let value = value.map_or(String::new(), |value| format!(" data-value=\"{value}\""));
            let note = match note.is_empty() {
                true => String::new(),
                false => format!("<small>{}</small>", escape(&note)),
            };
            let label = column.facet_of_rows.as_ref();
            let label = label.map_or(String::new(), |name| format!(" data-facet=\"{name}\""));
            let attributes =
                [class(column.align), &value, &facets(column.facet.as_slice()), &label].concat();
            let text = escape(&text);
            let _ = match i {
                0 => write!(html, "<th scope=\"row\"{attributes}>{text}{note}</th>"),
                _ => write!(html, "<td{attributes}>{text}{note}</td>"),
            };
        }
        self.line(html + "</tr>");
    }

    fn graph(&mut self, graph: &GraphBlock) {
        let number = self.numbers.figure();
        let (id, title) = (escape(&graph.id), escape(&graph.title));
        self.line(format!(
            "<figure id=\"{id}\">\n<div class=\"drawing graph\" tabindex=\"0\" role=\"group\" \
             aria-label=\"Figure {number}. {title}\">\n{}</div>\n<figcaption>\n\
             <p><a href=\"#{id}\"><strong>Figure {number}.</strong></a> \
             <strong>{title}.</strong></p>\n{}</figcaption>\n</figure>",
            graph::stages(graph),
            prose(&graph.caption)
        ));
    }

    fn frame(&mut self, html: &HtmlBlock) {
        let number = self.numbers.figure();
        let (id, title) = (escape(&html.id), escape(&html.title));
        // The fragment has no scripts, and a background of its own, so that it is readable in both
        // themes.
        let fragment = escape(&format!(
            "<style>body{{font:15px system-ui,sans-serif;background:#fff;color:#222}}</style>{}",
            html.html
        ));
        self.line(format!(
            "<figure id=\"{id}\">\n<iframe sandbox=\"\" title=\"{title}\" \
             srcdoc=\"{fragment}\"></iframe>\n<figcaption>\n\
             <p><a href=\"#{id}\"><strong>Figure {number}.</strong></a> \
             <strong>{title}.</strong></p>\n{}</figcaption>",
            prose(&html.caption)
        ));
        self.source(&html.source);
        self.line("</figure>");
    }

    fn explorer(&mut self, explorer: Explorer) {
        let name = match explorer {
            Explorer::Pairs => "pairs",
            Explorer::Training => "training",
        };
        self.line(format!("<div class=\"explorer\" data-explorer=\"{name}\"></div>"));
    }

    /// Digest, command, recipe and downloads, folded.
    fn source(&mut self, source: &Source) {
        let mut rows = Vec::new();
        let code = |text: &str| format!("<code>{}</code>", escape(text));
        if !source.path.is_empty() {
            let path = &source.path;
            let link = format!(
                "<a href=\"{}\" download data-file=\"{}\">{}</a>",
                url(path),
                escape(path),
                escape(path)
            );
            rows.push(("file".to_owned(), link));
        }
        rows.push(("BLAKE3".to_owned(), code(&source.digest)));
        rows.push(("command".to_owned(), code(&source.command)));
        let recipe = source.recipe.iter().map(|(name, value)| (escape(name), escape(value)));
        self.line("<details class=\"source\">\n<summary>Source and recipe</summary>\n<dl>");
        for (name, value) in rows.into_iter().chain(recipe) {
            self.line(format!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
        }
        self.line("</dl>\n</details>");
    }
}

/// The attributes for the values of facets.
fn facets(facets: &[(String, String)]) -> String {
    let attribute =
        |(name, value): &(String, String)| format!(" data-{}=\"{}\"", escape(name), escape(value));
    facets.iter().map(attribute).collect()
}

fn class(align: Align) -> &'static str {
    match align {
        Align::Left => "",
        Align::Right => " class=\"right\"",
        Align::Center => " class=\"center\"",
    }
}
