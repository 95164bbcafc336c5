//! The anchors and numbers of a document: one entry for each block that a link can lead to, in the
//! order of the document.

use super::document::{Block, Document};
use std::collections::{BTreeMap, BTreeSet};

/// A block that a link can lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The anchor, unique in the document.
    pub(super) id: String,
    /// The level of a heading; `None` for figures and tables.
    pub(super) level: Option<u8>,
    /// The heading or title: plain text.
    pub(super) text: String,
    /// `Figure 1`; empty for headings.
    pub(super) label: String,
    /// Whether it is the heading of the contents, which do not list themselves.
    pub(super) is_contents: bool,
}

/// The entries of a document.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    entries: Vec<Entry>,
    /// The anchors as in the document, of the entries that have another one.
    renamed: BTreeMap<String, String>,
    figures: usize,
    tables: usize,
}

impl Outline {
    /// The outline of `document`. No entry has an anchor of `reserved`.
    pub(super) fn new(document: &Document, reserved: &[&str]) -> Outline {
        let mut outline = Outline::default();
        outline.add(&document.blocks);
        // The first block with an anchor keeps it, even if the name made for another one is equal.
        let wanted: Vec<String> = outline.entries.iter().map(|entry| entry.id.clone()).collect();
        let mut taken: BTreeSet<String> = reserved.iter().map(|&id| id.to_owned()).collect();
        let originals: BTreeSet<&String> = wanted.iter().collect();
        for (entry, id) in outline.entries.iter_mut().zip(&wanted) {
            if !taken.insert(id.clone()) || id.is_empty() {
                let stem = if id.is_empty() { "part" } else { id };
                let new = (2..)
                    .map(|n| format!("{stem}-{n}"))
                    .find(|new| !originals.contains(new) && !taken.contains(new));
                entry.id = new.unwrap_or_default();
                taken.insert(entry.id.clone());
                outline.renamed.entry(id.clone()).or_insert_with(|| entry.id.clone());
            }
        }
        for id in &wanted {
            if outline.entries.iter().any(|entry| entry.id == *id) {
                outline.renamed.remove(id);
            }
        }
        outline
    }

    fn add(&mut self, blocks: &[Block]) {
        for block in blocks {
            let (id, level, text) = match block {
                Block::Heading { level, id, text } => (id, Some((*level).clamp(2, 4)), text),
                Block::Figure(figure) => (&figure.id, None, &figure.title),
                Block::Html(html) => (&html.id, None, &html.title),
                Block::Graph(graph) => (&graph.id, None, &graph.title),
                Block::Table(table) => (&table.id, None, &table.title),
                Block::Details { blocks, .. } => {
                    self.add(blocks);
                    continue;
                }
                Block::Contents => {
                    if let Some(last) = self.entries.last_mut().filter(|e| e.level == Some(2)) {
                        last.is_contents = true;
                    }
                    continue;
                }
                Block::Text(_) | Block::Facts(_) | Block::Explorer(_) => continue,
            };
            let label = match block {
                Block::Heading { .. } => String::new(),
                Block::Table(_) => {
                    self.tables += 1;
                    format!("Table {}", self.tables)
                }
                _ => {
                    self.figures += 1;
                    format!("Figure {}", self.figures)
                }
            };
            let entry =
                Entry { id: id.clone(), level, text: text.clone(), label, is_contents: false };
            self.entries.push(entry);
        }
    }

    /// The headings of level 2 and 3.
    pub(super) fn contents(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.level, Some(2 | 3)) && !entry.is_contents)
    }

    /// The URL of the entry with this anchor in the document; `None` without one.
    pub(super) fn url(&self, anchor: &str) -> Option<String> {
        let id = self.renamed.get(anchor).map_or(anchor, String::as_str);
        self.entries.iter().any(|entry| entry.id == id).then(|| format!("#{id}"))
    }

    /// The URL of a link in the document; a link to an anchor that was renamed follows it.
    pub(super) fn link(&self, url: &str) -> Option<String> {
        let renamed = self.renamed.get(url.strip_prefix('#')?)?;
        Some(format!("#{renamed}"))
    }
}

/// Follows the entries of an outline while a writer walks through the document.
pub(super) struct Walk<'a> {
    entries: std::slice::Iter<'a, Entry>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(outline: &'a Outline) -> Walk<'a> {
        Walk { entries: outline.entries.iter() }
    }

    /// The entry of the block that the writer has reached.
    pub(super) fn next(&mut self) -> &'a Entry {
        self.entries.next().expect("BUG: a block is not in the outline")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::TableBlock;

    #[test]
    fn anchors_are_unique_and_blocks_are_numbered_by_kind() {
        let heading = |id: &str| Block::Heading { level: 2, id: id.into(), text: "x".into() };
        let table = |id: &str| Block::Table(TableBlock { id: id.into(), ..Default::default() });
        let details = Block::Details { summary: "more".into(), blocks: vec![table("a")] };
        let blocks = vec![
            heading("provenance"),
            table("a"),
            details,
            heading("a-2"),
            heading(""),
            table("a"),
        ];
        let document = Document { blocks, ..Document::default() };
        let outline = Outline::new(&document, &["provenance"]);
        let entries: Vec<(&str, &str)> =
            outline.entries.iter().map(|e| (e.id.as_str(), e.label.as_str())).collect();
        assert_eq!(
            entries,
            [
                ("provenance-2", ""),
                ("a", "Table 1"),
                ("a-3", "Table 2"),
                ("a-2", ""),
                ("part-2", ""),
                ("a-4", "Table 3"),
            ]
        );
        assert_eq!(outline.link("#provenance").as_deref(), Some("#provenance-2"));
        assert_eq!(outline.link("#a"), None);
    }
}
