//! The page as a whole: head, contents, sections and embedded files.

use super::embed::{POLICY, SCRIPTS, STYLES, element};
use super::{escape, figure, table, text};
use crate::report::document::{Block, Document, Explorer, GraphBlock, Source, TableBlock};
use crate::report::graph;
use crate::report::outline::{Entry, Outline, Walk};
use crate::report::provenance::PLACE;
use crate::report::style;
use std::fmt::Write as _;

/// The anchors that the page itself uses.
const RESERVED: &[&str] = &["main", PROVENANCE];

/// The anchor of the section on provenance, and of the element with its data.
const PROVENANCE: &str = "provenance";

/// The section of the first screen.
const LEAD: &str = "verdict";

/// The document as a page.
pub fn to_html(document: &Document) -> String {
    let outline = Outline::new(document, RESERVED);
    let mut writer = Writer {
        html: String::new(),
        walk: Walk::new(&outline),
        outline: &outline,
        level: 1,
        has_provenance: false,
    };
    writer.document(&document.blocks);
    let title = escape(&document.title);
    let styles = style::css() + &STYLES.concat();
    let files: String = document.files.iter().map(element).collect();
    let scripts = SCRIPTS.concat();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\" />\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\" />\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n\
         <meta name=\"color-scheme\" content=\"light dark\" />\n\
         <title>{title}</title>\n<meta name=\"description\" content=\"{}\" />\n\
         <style>\n{styles}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n<div class=\"layout\">\n{}\
         <main id=\"main\">\n<header>\n<h1>{title}</h1>\n</header>\n{}</main>\n</div>\n{files}\
         {PLACE}\n<script type=\"module\">\n{scripts}</script>\n</body>\n</html>\n",
        escape(&document.description),
        sidebar(&outline),
        writer.html,
    )
}

/// The contents beside the text, on wide screens.
fn sidebar(outline: &Outline) -> String {
    match contents(outline) {
        list if list.is_empty() => String::new(),
        list => format!(
            "<nav class=\"sidebar\" aria-label=\"Contents\">\n\
             <p><a href=\"#main\">Contents</a></p>\n\
             {list}</nav>\n"
        ),
    }
}

/// The headings as nested lists of links; empty without headings.
fn contents(outline: &Outline) -> String {
    let mut html = String::new();
    let mut depth = 0;
    for entry in outline.contents() {
        let level = if entry.level == Some(2) || depth == 0 { 1 } else { 2 };
        while depth > level {
            html += "</li>\n</ul>\n";
            depth -= 1;
        }
        html += match (depth == level, depth) {
            (true, _) => "</li>\n",
            (false, 0) => "<ul>\n",
            (false, _) => "\n<ul>\n",
        };
        depth = level;
        let _ = write!(html, "<li><a href=\"#{}\">{}</a>", escape(&entry.id), escape(&entry.text));
    }
    html + &"</li>\n</ul>\n".repeat(depth)
}

struct Writer<'a> {
    html: String,
    walk: Walk<'a>,
    outline: &'a Outline,
    /// The level of the last heading.
    level: u8,
    has_provenance: bool,
}

impl Writer<'_> {
    fn document(&mut self, blocks: &[Block]) {
        let is_start = |block: &Block| matches!(block, Block::Heading { level: 2, .. });
        for section in blocks.chunk_by(|_, next| !is_start(next)) {
            match section {
                [Block::Heading { level: 2, id, .. }, content @ ..] => self.section(id, content),
                // The blocks before the first heading.
                content => self.blocks(content),
            }
        }
        if !self.has_provenance {
            self.html += RECORD;
        }
    }

    fn section(&mut self, id: &str, content: &[Block]) {
        let entry = self.walk.next();
        let class = match (id == LEAD, entry.is_contents) {
            (true, _) => " class=\"lead\"",
            (_, true) => " class=\"toc\"",
            _ => "",
        };
        let label = escape(&entry.id);
        let _ = writeln!(self.html, "<section{class} aria-labelledby=\"{label}\">");
        self.heading(2, entry);
        let is_figure = |block: &Block| matches!(block, Block::Figure(_));
        match content.iter().position(is_figure).filter(|_| id == LEAD) {
            // The text comes first, then the verdict and its figure, side by side where there
            // is room.
            Some(figure) => {
                let question = usize::from(figure > 1);
                self.blocks(&content[..question]);
                self.html += "<div class=\"beside\">\n<div>\n";
                self.blocks(&content[question..figure]);
                self.html += "</div>\n";
                self.block(&content[figure]);
                self.html += "</div>\n";
                self.blocks(&content[figure + 1..]);
            }
            None => self.blocks(content),
        }
        if id == PROVENANCE && !self.has_provenance {
            self.html += RECORD;
            self.has_provenance = true;
        }
        self.html += "</section>\n";
    }

    fn blocks(&mut self, blocks: &[Block]) {
        blocks.iter().for_each(|block| self.block(block));
    }

    fn heading(&mut self, level: u8, entry: &Entry) {
        self.level = level;
        let (id, text) = (escape(&entry.id), escape(&entry.text));
        let _ = writeln!(
            self.html,
            "<h{level} id=\"{id}\">{text} \
             <a class=\"anchor\" href=\"#{id}\" aria-label=\"Link to: {text}\">#</a></h{level}>"
        );
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading { level, .. } => {
                // No level is skipped, so that the headings form a tree.
                let level = (*level).clamp(2, 4).min(self.level + 1);
                let entry = self.walk.next();
                self.heading(level, entry);
            }
            Block::Text(markdown) => self.html += &text::blocks(markdown, self.level, self.outline),
            Block::Facts(facts) => {
                self.html += "<dl class=\"facts\">\n";
                for (label, value) in facts {
                    let (label, value) = (escape(label), escape(value));
                    let _ = writeln!(self.html, "<div><dt>{label}</dt><dd>{value}</dd></div>");
                }
                self.html += "</dl>\n";
            }
            Block::Contents => {
                let _ = write!(
                    self.html,
                    "<details class=\"contents\"><summary>Sections</summary>\n{}</details>\n",
                    contents(self.outline)
                );
            }
            Block::Details { summary, blocks } => {
                let _ = writeln!(
                    self.html,
                    "<details class=\"fold\"><summary>{}</summary>",
                    escape(summary)
                );
                self.blocks(blocks);
                self.html += "</details>\n";
            }
            Block::Figure(block) => {
                let drawing = figure::drawing(&block.image, &block.title);
                self.figure(&block.message, &drawing, &block.caption, &block.source);
            }
            Block::Html(html) => {
                self.figure("", &figure::frame(html), &html.caption, &html.source);
            }
            Block::Graph(graph) => self.graph(graph),
            Block::Table(table) => self.table(table),
            Block::Explorer(explorer) => {
                let name = match explorer {
                    Explorer::Pairs => "pairs",
                    Explorer::Training => "training",
                };
                let _ =
                    writeln!(self.html, "<div class=\"explorer\" data-explorer=\"{name}\"></div>");
            }
        }
    }

    fn figure(&mut self, message: &str, drawing: &str, caption: &str, source: &Source) {
        let entry = self.walk.next();
        let _ = writeln!(
            self.html,
            "<figure id=\"{}\">\n<figcaption>{}\n{}</figcaption>\n{drawing}\n{}{}</figure>",
            escape(&entry.id),
            title(entry),
            self.note("message", message),
            self.note("caption", caption),
            figure::source(source)
        );
    }

    fn graph(&mut self, block: &GraphBlock) {
        let drawing = format!(
            "<div class=\"scroll graph\" tabindex=\"0\" role=\"group\" aria-label=\"{}\">\n{}\
             </div>",
            escape(&block.title),
            graph::linked(block, &|anchor| self.outline.url(anchor))
        );
        self.figure("", &drawing, &block.caption, &Source::default());
    }

    fn table(&mut self, table: &TableBlock) {
        let entry = self.walk.next();
        let name = escape(&format!("{}: {}", entry.label, entry.text));
        let facets = table.facets.iter().map(|(name, value)| table::facet(name, value));
        let _ = writeln!(
            self.html,
            "<figure class=\"table\" id=\"{}\"{}>\n<figcaption>{}\n{}</figcaption>\n\
             <div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{name}\">\n{}\n\
             </div>\n{}</figure>",
            escape(&entry.id),
            facets.collect::<String>(),
            title(entry),
            self.note("caption", &table.caption),
            table::table(table, &name),
            table.source.as_ref().map_or(String::new(), figure::source)
        );
    }

    /// Markdown in an element of a class; nothing without text.
    fn note(&self, class: &str, markdown: &str) -> String {
        match markdown.trim() {
            "" => String::new(),
            markdown => format!(
                "<div class=\"{class}\">{}</div>\n",
                text::blocks(markdown, self.level, self.outline).trim_end()
            ),
        }
    }
}

/// Where scripts show the provenance of a copy.
const RECORD: &str = "<div data-provenance=\"\"></div>\n";

/// The number, which is a link to the block itself, and the title.
fn title(entry: &Entry) -> String {
    format!(
        "<p class=\"title\"><a href=\"#{}\">{}</a> {}</p>",
        escape(&entry.id),
        entry.label,
        escape(&entry.text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::document;
    use std::collections::BTreeSet;

    /// The page as XML: without the content of style sheets and scripts, which are not.
    fn as_xml(page: &str) -> String {
        let mut text = String::new();
        let mut rest = page;
        while let Some(start) = ["<style>", "<script"].iter().filter_map(|at| rest.find(at)).min() {
            let open = start + rest[start..].find('>').unwrap() + 1;
            let close = open + rest[open..].find("</s").unwrap();
            text += &rest[..open];
            rest = &rest[close..];
            let end = rest.find('>').unwrap() + 1;
            text += &rest[..end];
            rest = &rest[end..];
        }
        text + rest
    }

    fn parsed<T>(page: &str, read: impl Fn(&roxmltree::Document) -> T) -> T {
        let xml = as_xml(page);
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(&xml, options);
        read(&document.unwrap_or_else(|error| panic!("{error}\n{xml}")))
    }

    /// The elements of the page with anchors, classes and the beginnings of texts.
    fn sketch(node: roxmltree::Node, depth: usize, lines: &mut Vec<String>) {
        for child in node.children() {
            if child.is_text() && !child.text().unwrap_or_default().trim().is_empty() {
                let text: String = child.text().unwrap_or_default().chars().take(30).collect();
                lines.push(format!("{}{:?}", "  ".repeat(depth), text.trim()));
            }
            if !child.is_element() || matches!(child.tag_name().name(), "svg" | "thead" | "dl") {
                continue;
            }
            let mut line = "  ".repeat(depth) + child.tag_name().name();
            for (name, mark) in [("id", '#'), ("class", '.')] {
                if let Some(value) = child.attribute(name) {
                    line.push(mark);
                    line += value;
                }
            }
            lines.push(line);
            sketch(child, depth + 1, lines);
        }
    }

    #[test]
    fn the_main_part_of_a_page() {
        let lines = parsed(&to_html(&document()), |page| {
            let mut lines = Vec::new();
            let main = page.descendants().find(|node| node.has_tag_name("main")).unwrap();
            sketch(main, 0, &mut lines);
            lines.join("\n")
        });
        insta::assert_snapshot!(lines, @r##"
        header
          h1
            "normal 0.01"
        section.lead
          h2#verdict
            "normal 0.01"
            a.anchor
              "#"
          div.beside
            div
              p
                "Errors"
                strong
                  "fall"
                ";"
                a
                  "more"
                "."
            figure#overview
              figcaption
                p.title
                  a
                    "Figure 1"
                  "normal 0.01"
                div.message
                  p
                    "The error"
                    em
                      "falls"
                    "."
              div.drawing
                div.chart
              div.caption
                p
                  "Mean over 3 pairs; see"
                  a
                    "the table"
                  "."
              div.source
                a
                  "CSV"
                details
                  summary
                    "How it was made: a.csv"
                    code
                      "0123456789ab"
        section.toc
          h2#contents
            "normal 0.01"
            a.anchor
              "#"
          details.contents
            summary
              "Sections"
            ul
              li
                a
                  "normal 0.01"
              li
                a
                  "normal 0.01"
              li
                a
                  "normal 0.01"
        section
          h2#tables
            "normal 0.01"
            a.anchor
              "#"
          h3#full
            "normal 0.01"
            a.anchor
              "#"
          figure#summary.table
            figcaption
              p.title
                a
                  "Table 1"
                "normal 0.01"
            div.scroll
              table
                tbody
                  tr
                    th
                      "normal 0.01"
                    td.r
                      "45.7"
                      small
                        "normal 0.01"
                    td.r
                    td.r
                    td.r
                    td.r
                    td.r
                    td.r
                    td.r
            div.source
              a
                "CSV"
              details
                summary
                  "How it was made: a.csv"
                  code
                    "0123456789ab"
          div.explorer
          details.fold
            summary
              "normal 0.01"
            figure#summary-2.table
              figcaption
                p.title
                  a
                    "Table 2"
                  "normal 0.01"
              div.scroll
                table
                  tbody
                    tr
                      th
                        "normal 0.01"
                      td.r
                        "45.7"
                        small
                          "normal 0.01"
                      td.r
                      td.r
                      td.r
                      td.r
                      td.r
                      td.r
                      td.r
              div.source
                a
                  "CSV"
                details
                  summary
                    "How it was made: a.csv"
                    code
                      "0123456789ab"
        section
          h2#provenance-2
            "normal 0.01"
            a.anchor
              "#"
          figure#stages
            figcaption
              p.title
                a
                  "Figure 2"
                "normal 0.01"
            div.scroll graph
          figure#extra
            figcaption
              p.title
                a
                  "Figure 3"
                "normal 0.01"
            div.drawing card
              iframe
            div.caption
              p
                "Of the user."
          figure#photo
            figcaption
              p.title
                a
                  "Figure 4"
                "normal 0.01"
              div.message
                p
                  "The error"
                  em
                    "falls"
                  "."
            div.drawing card
              img
            div.caption
              p
                "Mean over 3 pairs; see"
                a
                  "the table"
                "."
            div.source
              a
                "CSV"
              details
                summary
                  "How it was made: a.csv"
                  code
                    "0123456789ab"
          div
        "##);
    }

    #[test]
    fn a_page_is_well_formed_its_anchors_are_unique_and_its_links_resolve() {
        parsed(&to_html(&document()), |page| {
            let of = |name: &str| {
                let values = page.descendants().filter_map(|node| node.attribute(name));
                values.map(str::to_owned).collect::<Vec<String>>()
            };
            let ids = of("id");
            let unique: BTreeSet<&String> = ids.iter().collect();
            assert_eq!(unique.len(), ids.len(), "{ids:?}");
            let links = of("href");
            let inside: Vec<&str> = links.iter().filter_map(|url| url.strip_prefix('#')).collect();
            assert!(inside.len() > 10);
            for anchor in inside {
                assert!(unique.contains(&anchor.to_owned()), "#{anchor}");
            }
            for label in of("aria-labelledby") {
                assert!(unique.contains(&label), "{label}");
            }
        });
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "</script><script>alert(1)</script>\"'`|<b>&\u{0}\u{fffe}\n\n# x [a](b)";
        let page = to_html(&crate::report::testing::with_text(hostile));
        let elements = |page: &str, name: &str| {
            parsed(page, |xml| xml.descendants().filter(|node| node.has_tag_name(name)).count())
        };
        let plain = to_html(&document());
        for name in ["script", "b", "h1", "h2", "h3", "iframe", "img", "svg"] {
            assert_eq!(elements(&page, name), elements(&plain, name), "{name}");
        }
    }

    #[test]
    fn a_page_refers_to_no_other_host_and_forbids_access_to_one() {
        let page = to_html(&document());
        assert!(page.contains(&format!("content=\"{POLICY}\"")));
        for outside in ["<link", "src=\"http", "@import", "url(http", "<base"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(SCRIPTS.iter().all(|script| !script.contains("</script")));
        assert!(STYLES.iter().all(|style| !style.contains("</style") && !style.contains("url(")));
    }

    #[test]
    fn a_page_has_one_empty_place_for_the_provenance() {
        for document in [document(), Document::default()] {
            let page = to_html(&document);
            let filled = crate::report::provenance::fill(&page, "{}").unwrap();
            assert_eq!(crate::report::provenance::empty(&filled), Some(page.clone()));
            assert_eq!(page.matches("data-provenance=\"\"").count(), 1);
        }
    }

    #[test]
    fn levels_of_headings_are_not_skipped() {
        parsed(&to_html(&document()), |page| {
            let level = |node: roxmltree::Node| {
                node.tag_name().name().strip_prefix('h').and_then(|n| n.parse::<u8>().ok())
            };
            let levels: Vec<u8> = page.descendants().filter_map(level).collect();
            assert_eq!(levels[0], 1);
            assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
        });
    }

    #[test]
    fn equal_documents_give_equal_bytes() {
        assert_eq!(to_html(&document()), to_html(&document()));
    }
}
