//! Writes a document as Markdown that reads well on GitHub: captions as text, since GitHub hides
//! those of images; anchors as HTML, since GitHub and others derive different ones from headings.

use super::source::Recipes;
use super::wide::parts;
use super::{escape, url};
use crate::report::document::{
    Block, Cell, Document, FigureBlock, GraphBlock, HtmlBlock, Source, TableBlock,
};
use crate::report::html::escape as escape_html;
use crate::report::outline::{Entry, Outline, Walk};
use crate::report::table::{Align, pipes};
use std::fmt::Write as _;

/// The largest number of rows of a table that is also a file of the report.
const ROWS: usize = 100;

/// The document as Markdown.
pub fn to_markdown(document: &Document) -> String {
    let outline = Outline::new(document, &[]);
    let mut writer = Writer {
        text: format!("# {}\n\n", escape(&document.title)),
        walk: Walk::new(&outline),
        outline: &outline,
        recipes: Recipes::default(),
    };
    writer.blocks(&document.blocks);
    writer.text.truncate(writer.text.trim_end().len());
    writer.text + "\n"
}

struct Writer<'a> {
    text: String,
    outline: &'a Outline,
    walk: Walk<'a>,
    recipes: Recipes,
}

impl Writer<'_> {
    fn blocks(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.block(block);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading { text, .. } => {
                let entry = self.walk.next();
                let marks = "#".repeat(usize::from(entry.level.unwrap_or(2)));
                self.push(&format!("{}\n\n{marks} {}", anchor(entry), escape(text)));
            }
            Block::Text(text) => self.push(text),
            Block::Facts(facts) => {
                let fact = |(label, value): &(String, String)| {
                    format!("**{}:** {}", escape(label), escape(value))
                };
                self.push(&facts.iter().map(fact).collect::<Vec<_>>().join(" · "));
            }
            Block::Contents => self.contents(),
            Block::Details { summary, blocks } => {
                self.push(&format!(
                    "<details>\n<summary>{}</summary>",
                    escape_html(&summary.replace(['\n', '\r'], " "))
                ));
                self.blocks(blocks);
                self.push("</details>");
            }
            Block::Figure(figure) => self.figure(figure),
            Block::Table(table) => self.table(table),
            Block::Graph(graph) => self.graph(graph),
            Block::Html(html) => self.html(html),
            Block::Explorer(_) => {}
        }
    }

    /// Adds text, followed by an empty line.
    fn push(&mut self, text: &str) {
        let text = text.trim_end();
        if !text.is_empty() {
            self.text += text;
            self.text += "\n\n";
        }
    }

    /// The sections, each with its parts in one line.
    fn contents(&mut self) {
        let mut text = String::new();
        let mut is_first_part = true;
        for entry in self.outline.contents() {
            let link = format!("[{}](#{})", escape(&entry.text), url(&entry.id));
            match (entry.level, text.is_empty()) {
                (Some(2), _) | (_, true) => {
                    let _ = write!(text, "\n- {link}");
                    is_first_part = true;
                }
                _ => {
                    text += if is_first_part { ": " } else { " · " };
                    text += &link;
                    is_first_part = false;
                }
            }
        }
        self.push(text.trim_start_matches('\n'));
    }

    fn figure(&mut self, figure: &FigureBlock) {
        let entry = self.walk.next();
        if figure.path.is_empty() {
            self.push(&anchor(entry));
        } else {
            let image = format!("![{}](<{}>)", escape(&figure.title), url(&figure.path));
            self.push(&format!("{}\n{image}", anchor(entry)));
        }
        self.caption(entry, &figure.message, &figure.caption);
        self.source(&figure.source, entry);
    }

    fn html(&mut self, html: &HtmlBlock) {
        let entry = self.walk.next();
        self.push(&anchor(entry));
        self.caption(entry, "", &html.caption);
        self.push(&format!("[Open {}](<{}>)", escape(&html.path), url(&html.path)));
        self.source(&html.source, entry);
    }

    /// Number and title, what to see, and how it was made.
    fn caption(&mut self, entry: &Entry, message: &str, caption: &str) {
        self.push(&format!("{} {}", title(entry), message.trim()));
        self.push(caption);
    }

    fn table(&mut self, table: &TableBlock) {
        let entry = self.walk.next();
        self.push(&anchor(entry));
        self.caption(entry, "", &table.caption);
        let heading = |i: &usize| (escape(&table.columns[*i].heading), table.columns[*i].align);
        let has_file = table.source.as_ref().is_some_and(|source| !source.path.is_empty());
        let shown = if has_file { table.rows.len().min(ROWS) } else { table.rows.len() };
        for part in parts(&table.columns) {
            let columns: Vec<(String, Align)> = part.iter().map(heading).collect();
            let row = |row: &Vec<Cell>| -> Vec<String> {
                part.iter().map(|i| row.get(*i).map_or(String::new(), cell)).collect()
            };
            let rows: Vec<Vec<String>> = table.rows[..shown].iter().map(row).collect();
            self.push(&pipes(&columns, &rows));
        }
        if shown < table.rows.len()
            && let Some(Source { path, .. }) = &table.source
        {
            let (count, name, url) = (table.rows.len(), escape(path), url(path));
            self.push(&format!("The first {shown} of {count} rows; all are in [{name}](<{url}>)."));
        }
        if let Some(source) = &table.source {
            self.source(source, entry);
        }
    }

    /// A Mermaid diagram, which GitHub draws.
    fn graph(&mut self, graph: &GraphBlock) {
        let entry = self.walk.next();
        self.push(&anchor(entry));
        let mut text = "```mermaid\nflowchart LR\n".to_owned();
        for (i, stage) in graph.stages.iter().enumerate() {
            let nodes =
                if stage.nodes > 1 { format!(", {} nodes", stage.nodes) } else { "".into() };
            let label = format!("{} ({}{nodes})", stage.name, stage.kind);
            let _ = writeln!(text, "  n{i}[\"{}\"]", mermaid(&label));
        }
        for (from, to) in &graph.arrows {
            let _ = writeln!(text, "  n{from} --> n{to}");
        }
        self.push(&(text + "```"));
        self.caption(entry, "", &graph.caption);
    }

    fn source(&mut self, source: &Source, entry: &Entry) {
        let text = self.recipes.write(source, entry);
        self.push(&text);
    }
}

fn anchor(entry: &Entry) -> String {
    format!("<a id=\"{}\"></a>", escape_html(&entry.id))
}

/// `**Figure 1. Title.**`
fn title(entry: &Entry) -> String {
    let text = entry.text.trim();
    let stop = if text.ends_with(['.', '?', '!', ':']) { "" } else { "." };
    format!("**{}. {}{stop}**", entry.label, escape(text))
}

fn cell(cell: &Cell) -> String {
    match cell.note.as_str() {
        "" => escape(&cell.text),
        note => format!("{}<br>{}", escape(&cell.text), escape(note)),
    }
}

/// A label of Mermaid, in which `#` begins an entity.
fn mermaid(label: &str) -> String {
    let mut text = String::new();
    for c in label.chars() {
        match c {
            '"' | '#' | '<' | '>' | '&' | ';' | '`' | '\\' => {
                let _ = write!(text, "#{};", c as u32);
            }
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{document, with_text};
    use pulldown_cmark::{Event, Options, Parser, Tag};
    use std::collections::BTreeSet;

    fn events(markdown: &str) -> Vec<Event<'_>> {
        Parser::new_ext(markdown, Options::ENABLE_TABLES).collect()
    }

    #[test]
    fn a_document_as_markdown() {
        insta::assert_snapshot!(to_markdown(&document()), @r##"
        # normal 0.01

        <a id="verdict"></a>

        ## normal 0.01

        Errors **fall**; [more](#provenance).

        <a id="overview"></a>
        ![normal 0.01](<figures/overview.svg>)

        **Figure 1. normal 0.01.** The error *falls*.

        Mean over 3 pairs; see [the table](#summary).

        <details>
        <summary><sub>
        <a href="a.csv">a.csv</a> · BLAKE3 <code>0123456789abcdef</code> · how it was made
        </sub></summary>
        <pre>repro run -S 'normal 0.01' tables</pre>
        <ul>
        <li><b>tables</b>: normal 0.01</li>
        <li><b>normal 0.01</b>: fetch, version 1</li>
        </ul>
        </details>

        **nets:** normal 0.01

        <a id="contents"></a>

        ## normal 0.01

        - [normal 0.01](#verdict)
        - [normal 0.01](#tables)
        - [normal 0.01](#provenance)

        <a id="tables"></a>

        ## normal 0.01

        <a id="full"></a>

        #### normal 0.01

        <a id="summary"></a>

        **Table 1. normal 0.01.**

        |             |         normal 0.01 | normal 0.01 | normal 0.01 | normal 0.01 |
        | ----------- | ------------------: | ----------: | ----------: | ----------: |
        | normal 0.01 | 45.7<br>normal 0.01 |             |             |             |

        |             | normal 0.01 | normal 0.01 | normal 0.01 | normal 0.01 |
        | ----------- | ----------: | ----------: | ----------: | ----------: |
        | normal 0.01 |             |             |             |             |

        <details>
        <summary><sub>
        <a href="a.csv">a.csv</a> · BLAKE3 <code>0123456789abcdef</code> · how it was made
        </sub></summary>
        <pre>repro run -S 'normal 0.01' tables</pre>
        <ul>
        <li>as for <a href="#overview">Figure 1</a></li>
        </ul>
        </details>

        <details>
        <summary>normal 0.01</summary>

        <a id="summary-2"></a>

        **Table 2. normal 0.01.**

        |             |         normal 0.01 | normal 0.01 | normal 0.01 | normal 0.01 |
        | ----------- | ------------------: | ----------: | ----------: | ----------: |
        | normal 0.01 | 45.7<br>normal 0.01 |             |             |             |

        |             | normal 0.01 | normal 0.01 | normal 0.01 | normal 0.01 |
        | ----------- | ----------: | ----------: | ----------: | ----------: |
        | normal 0.01 |             |             |             |             |

        <details>
        <summary><sub>
        <a href="a.csv">a.csv</a> · BLAKE3 <code>0123456789abcdef</code> · how it was made
        </sub></summary>
        <pre>repro run -S 'normal 0.01' tables</pre>
        <ul>
        <li>as for <a href="#overview">Figure 1</a></li>
        </ul>
        </details>

        </details>

        <a id="provenance"></a>

        ## normal 0.01

        <a id="stages"></a>

        ```mermaid
        flowchart LR
          n0["normal 0.01 (normal 0.01, 2 nodes)"]
          n1["normal 0.01 (normal 0.01, 2 nodes)"]
          n0 --> n1
        ```

        **Figure 2. normal 0.01.**

        <a id="extra"></a>

        **Figure 3. normal 0.01.**

        Of the user.

        [Open extras/a.html](<extras/a.html>)

        <a id="photo"></a>
        ![normal 0.01](<figures/photo.svg>)

        **Figure 4. normal 0.01.** The error *falls*.

        Mean over 3 pairs; see [the table](#summary).

        <details>
        <summary><sub>
        <a href="a.csv">a.csv</a> · BLAKE3 <code>0123456789abcdef</code> · how it was made
        </sub></summary>
        <pre>repro run -S 'normal 0.01' tables</pre>
        <ul>
        <li>as for <a href="#overview">Figure 1</a></li>
        </ul>
        </details>
        "##);
    }

    #[test]
    fn tables_have_at_most_seven_columns() {
        let markdown = to_markdown(&document());
        let widths: Vec<usize> = events(&markdown)
            .iter()
            .filter_map(|event| match event {
                Event::Start(Tag::Table(alignment)) => Some(alignment.len()),
                _ => None,
            })
            .collect();
        assert_eq!(widths, [5, 5, 5, 5]);
    }

    #[test]
    fn anchors_are_unique_and_links_resolve() {
        let markdown = to_markdown(&document());
        let mut ids = BTreeSet::new();
        for part in markdown.split("<a id=\"").skip(1) {
            assert!(ids.insert(part.split('"').next().unwrap()), "{part}");
        }
        let html = markdown.split("href=\"#").skip(1).map(|part| part.split('"').next().unwrap());
        let links = markdown.split("](#").skip(1).map(|part| part.split(')').next().unwrap());
        let links: Vec<&str> = links.chain(html).collect();
        assert!(links.len() > 5);
        for link in links {
            assert!(ids.contains(link), "#{link}");
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "</details><script>x</script>\"'`|<b>&\n\n# x [a](b) ![c](d) #;";
        let count = |markdown: &str| {
            let is_block = |event: &&Event| {
                matches!(
                    event,
                    Event::Start(
                        Tag::Heading { .. } | Tag::Table(_) | Tag::Link { .. } | Tag::Image { .. }
                    )
                )
            };
            let html = |event: &Event| match event {
                Event::Html(text) | Event::InlineHtml(text) => Some(text.to_string()),
                _ => None,
            };
            let html: String = events(markdown).iter().filter_map(html).collect();
            (
                events(markdown).iter().filter(is_block).count(),
                html.matches("<script").count(),
                html.matches("</details>").count(),
            )
        };
        assert_eq!(count(&to_markdown(&with_text(hostile))), count(&to_markdown(&document())));
    }
}
