//! A user's own text for the report: Markdown with placeholders for values, figures, tables,
//! sections and extras. `syntax` is the grammar, and `value` selects values.
//!
//! The template replaces the blocks of the report's document; what it places comes from that
//! document. Settings and provenance follow at the end if the template does not place them, and so
//! do the values with the rows from which they come, and the extras: no page is without them.

mod syntax;
mod value;

use self::syntax::{BlockKind, Content, Part, Query};
use super::extras::{self, Extras, HINT, Placed, Target, resolve};
use super::sheet::{Sheet, number};
use super::{EXPORTED, Report, SUMMARY, TABLES};
use crate::engine::stage::{Context, FILES, Hinted, Input, suggest};
use crate::fs;
use crate::report::document::{Block, Cell, Column, Document, TableBlock};
use crate::report::markdown::{escape, url};
use crate::report::prose::{Piece, Problem, pieces, slug};
use crate::report::table::Align;
use anyhow::{Context as _, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A template.
pub(super) struct Template {
    /// The file's name, for messages and for the report.
    name: String,
    text: String,
}

/// The sections at the end of every page, if the template does not place them.
const KEPT: [&str; 4] = [VALUES, EXTRAS, "settings", "provenance"];
/// The section of the values in the text.
const VALUES: &str = "values";
/// The section of the extras.
const EXTRAS: &str = "extras";

/// The sources of what a template places.
struct Sources<'a> {
    document: Document,
    extras: &'a Extras,
    tables: &'a Input,
    /// The command that computes the tables.
    command: String,
}

/// A value in the text, with its placeholder.
struct Shown {
    offset: usize,
    query: Query,
    value: value::Value,
}

/// A placeholder of blocks.
struct Placement {
    offset: usize,
    kind: BlockKind,
    name: String,
}

impl Placement {
    /// Whether it is the section of the extras.
    fn is_rest(&self) -> bool {
        self.kind == BlockKind::Section && self.name == EXTRAS
    }
}

/// A template with its values in place.
#[derive(Default)]
struct Filled {
    text: String,
    /// Ranges of the text, each with the range of the template that it comes from.
    origins: Vec<(Range<usize>, Range<usize>)>,
    /// The offsets of the blocks' marks in the text.
    marks: Vec<usize>,
    /// The blocks, by mark.
    blocks: Vec<Placement>,
    values: Vec<Shown>,
}

impl Filled {
    fn push(&mut self, text: &str, origin: Range<usize>) {
        let start = self.text.len();
        self.text.push_str(text);
        self.origins.push((start..self.text.len(), origin));
    }

    /// The offset in the template of an offset in the text.
    fn origin(&self, offset: usize) -> usize {
        let part = self.origins.iter().rev().find(|(range, _)| range.start <= offset);
        part.map_or(0, |(range, origin)| match range.len() == origin.len() {
            true => origin.start + (offset - range.start),
            false => origin.start,
        })
    }
}

impl Template {
    /// The template of the report, if there is one.
    pub(super) fn read(cx: &Context) -> Result<Option<Template>> {
        let Some(files) = cx.inputs(FILES).first() else { return Ok(None) };
        let mut names = files.artifact.keys();
        let (Some(name), None) = (names.next(), names.next()) else {
            let cause = "`template` is a folder with several files";
            return Err(Hinted::new(cause, "write `template: FILE.md`").into());
        };
        let bytes = fs::read(files.path(name)?)?;
        let Ok(text) = String::from_utf8(bytes) else {
            let cause = format!("the template `{name}` is not UTF-8");
            return Err(Hinted::new(cause, "save it as UTF-8").into());
        };
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        Ok(Some(Template { name: name.clone(), text }))
    }

    /// The document of the template.
    ///
    /// # Errors
    /// The first placeholder, link, image or heading that is invalid, with its place.
    pub(super) fn apply(&self, document: Document, report: &Report) -> Result<Document> {
        let Report { tables, extras, .. } = report;
        let command = report.source(SUMMARY.file)?.command;
        self.compose(Sources { document, extras, tables, command })
    }

    fn compose(&self, sources: Sources) -> Result<Document> {
        let parts = syntax::parse(&self.text).map_err(|problem| self.located(&problem))?;
        let filled = self.fill(&parts, &sources)?;
        Composer::new(self, &filled, sources).compose()
    }

    fn located(&self, problem: &Problem) -> anyhow::Error {
        extras::located(&self.name, &self.text, problem)
    }

    /// `12:7`
    fn place(&self, offset: usize) -> String {
        let (line, column) = extras::position(&self.text, offset);
        format!("{}:{line}:{column}", self.name)
    }

    /// Replaces values by their texts and blocks by marks.
    fn fill(&self, parts: &[Part], sources: &Sources) -> Result<Filled> {
        let mut filled = Filled::default();
        let mut sheets: BTreeMap<String, Sheet> = BTreeMap::new();
        for part in parts {
            match part {
                Part::Text(range) => filled.push(&self.text[range.clone()], range.clone()),
                Part::Braces(at) => filled.push("{{", *at..*at + 4),
                Part::Placeholder(placeholder) => {
                    let range = placeholder.range.clone();
                    match &placeholder.content {
                        Content::Value(query) => {
                            let value = self.value(query, range.start, sources, &mut sheets)?;
                            filled.push(&value.markdown(query), range.clone());
                            let query = query.clone();
                            filled.values.push(Shown { offset: range.start, query, value });
                        }
                        Content::Blocks(kind, name) => {
                            self.check_alone(&range)?;
                            filled.marks.push(filled.text.len());
                            filled.push(&format!("<!--{}-->", filled.marks.len()), range);
                            let (offset, name) = (placeholder.range.start, name.clone());
                            filled.blocks.push(Placement { offset, kind: *kind, name });
                        }
                    }
                }
            }
        }
        Ok(filled)
    }

    /// Rejects a block that is not alone on its lines.
    fn check_alone(&self, range: &Range<usize>) -> Result<()> {
        let before = self.text[..range.start].rsplit('\n').next().unwrap_or_default();
        let after = self.text[range.end..].split('\n').next().unwrap_or_default();
        if before.trim().is_empty() && after.trim().is_empty() {
            return Ok(());
        }
        let cause = "only a value can be within text";
        let hint = "put the placeholder on a line of its own";
        Err(self.located(&Problem::new(range.start, cause, hint)))
    }

    fn value(
        &self,
        query: &Query,
        offset: usize,
        sources: &Sources,
        sheets: &mut BTreeMap<String, Sheet>,
    ) -> Result<value::Value> {
        let name = &query.table.text;
        let file = name.strip_prefix("tables/").filter(|file| TABLES.contains(file));
        if let Some(file) = file
            && !sheets.contains_key(name)
        {
            let bytes = fs::read(sources.tables.path(file)?)?;
            let sheet = Sheet::parse(&bytes)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("BUG: `{name}` is not CSV"))?;
            sheets.insert(name.clone(), sheet);
        }
        let Some(sheet) = sheets.get(name).or_else(|| sources.extras.sheet(name)) else {
            let tables = TABLES.iter().map(|file| format!("tables/{file}"));
            let known: Vec<String> = tables.chain(sources.extras.sheets()).collect();
            let hint = suggest(name, known.iter().map(String::as_str)).unwrap_or_default();
            let cause = format!("there is no table `{name}`");
            return Err(self.located(&Problem::new(query.table.offset, cause, hint)));
        };
        query.evaluate(sheet, offset).map_err(|problem| self.located(&problem))
    }
}

impl value::Value {
    /// A link to the list of values, with the row as its title.
    fn markdown(&self, query: &Query) -> String {
        let selection = query.selection();
        let row = if selection.is_empty() { String::new() } else { format!(" where {selection}") };
        let source = format!("{}{row}: {} = {}", query.table.text, query.column.text, self.cell);
        // Backslashes hide from Markdown what would end the title or a cell of a table.
        let mut title = String::new();
        for c in source.chars() {
            match c {
                c if c.is_control() => title.push(' '),
                '\\' | '"' | '|' | '&' | '<' | '>' | '`' => title.extend(['\\', c]),
                c => title.push(c),
            }
        }
        format!("[{}](#{VALUES} \"{title}\")", escape(&self.text))
    }
}

/// Builds the document of a template.
struct Composer<'a> {
    template: &'a Template,
    filled: &'a Filled,
    sources: Sources<'a>,
    placed: Placed,
    /// By kind and name, the offset of the placeholder that placed it.
    places: BTreeMap<(BlockKind, String), usize>,
}

impl<'a> Composer<'a> {
    fn new(template: &'a Template, filled: &'a Filled, sources: Sources<'a>) -> Composer<'a> {
        Composer { template, filled, sources, placed: Placed::default(), places: BTreeMap::new() }
    }

    /// The error for a problem in the filled text.
    fn error(&self, mut problem: Problem) -> anyhow::Error {
        problem.offset = self.filled.origin(problem.offset);
        self.template.located(&problem)
    }

    fn compose(mut self) -> Result<Document> {
        let anchors: RefCell<Vec<(String, usize)>> = RefCell::default();
        let links = |url: &str, offset: usize| self.link(url, offset, &anchors);
        let pieces = pieces(&self.filled.text, &self.filled.marks, &links)
            .map_err(|problem| self.error(problem))?;
        let mut placed = self.place_all(&pieces)?;
        let tail = self.tail()?;
        let mut title = None;
        let mut blocks = Vec::new();
        for (i, piece) in pieces.into_iter().enumerate() {
            match piece {
                Piece::Heading { level: 1, text } if title.is_none() => title = Some(text),
                Piece::Heading { level, text } => {
                    let id = self.placed.anchors.unique(&slug(&text));
                    blocks.push(Block::Heading { level: level.clamp(2, 4), id, text });
                }
                Piece::Text(text) => blocks.push(Block::Text(text)),
                Piece::Mark(_) | Piece::Image { .. } => {
                    blocks.extend(placed.remove(&i).unwrap_or_default());
                }
            }
        }
        blocks.extend(tail);
        let known = anchors_of(&blocks);
        for (anchor, offset) in anchors.into_inner() {
            if !known.contains(&anchor) {
                let cause = format!("the link `#{anchor}` leads to no heading, figure or table");
                let hint = suggest(&anchor, known.iter().map(String::as_str)).unwrap_or_default();
                return Err(self.error(Problem::new(offset, cause, hint)));
            }
        }
        let document = self.sources.document;
        let title = title.unwrap_or(document.title);
        Ok(Document { title, blocks, ..document })
    }

    /// The blocks of placeholders and images, by the index of their piece. They keep their anchors,
    /// which headings of the template avoid.
    fn place_all(&mut self, pieces: &[Piece]) -> Result<BTreeMap<usize, Vec<Block>>> {
        let mut placed = BTreeMap::new();
        let mut level = 1;
        let mut rest = None;
        for (i, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Heading { level: own, .. } => level = *own,
                // The section of the extras contains those that no other placeholder places.
                Piece::Mark(mark) if self.filled.blocks[*mark].is_rest() && rest.is_none() => {
                    rest = Some((i, *mark));
                }
                Piece::Mark(mark) => _ = placed.insert(i, self.placeholder(*mark, level)?),
                Piece::Image { offset, text, url } => {
                    placed.insert(i, vec![self.image(*offset, text, url)?]);
                }
                Piece::Text(_) => {}
            }
        }
        if let Some((i, mark)) = rest {
            placed.insert(i, self.placeholder(mark, 1)?);
        }
        Ok(placed)
    }

    /// The sections at the end, without what the template has placed.
    fn tail(&mut self) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        for id in KEPT {
            if self.places.contains_key(&(BlockKind::Section, id.to_owned())) {
                continue;
            }
            if id == EXTRAS {
                blocks.extend(self.rest()?);
                continue;
            }
            let mut section = self.section(id).unwrap_or_default();
            let anchors = &self.placed.anchors;
            section.retain(|block| !anchor_of(block).is_some_and(|id| anchors.has(id)));
            self.add_anchors(&section);
            blocks.extend(section);
        }
        Ok(blocks)
    }

    fn add_anchors(&mut self, blocks: &[Block]) {
        anchors_of(blocks).iter().for_each(|id| _ = self.placed.anchors.insert(id));
    }

    /// The blocks of a placeholder below a heading of this level.
    fn placeholder(&mut self, mark: usize, level: u8) -> Result<Vec<Block>> {
        let filled = self.filled;
        let Placement { offset, kind, name } = &filled.blocks[mark];
        let template = self.template;
        let refuse = |cause: String, hint: String| {
            Err(template.located(&Problem::new(*offset, cause, hint)))
        };
        let mut name = name.clone();
        let mut index = 0;
        if *kind == BlockKind::Extra {
            index = match self.sources.extras.find(&name) {
                Ok(index) => index,
                Err(Hinted { cause, hint }) => return refuse(cause, hint),
            };
            name = self.sources.extras.files[index].name();
        }
        if let Some(before) = self.places.insert((*kind, name.clone()), *offset) {
            let cause = format!("the {} `{name}` is placed twice", kind.name());
            return refuse(cause, format!("its first place is {}", template.place(before)));
        }
        let found = match kind {
            BlockKind::Extra if self.placed.extras.contains(&index) => {
                let cause = format!("the extra `{name}` is placed twice");
                return refuse(cause, "remove the placeholder, or the image before it".into());
            }
            BlockKind::Extra => {
                let level = (level + 1).clamp(2, 4);
                return self.sources.extras.place(index, level, &mut self.placed);
            }
            BlockKind::Section if name == EXTRAS => return self.rest(),
            BlockKind::Section => self.section(&name),
            BlockKind::Figure | BlockKind::Table => self.block(*kind, &name),
        };
        let Some(blocks) = found else {
            let known = self.known(*kind);
            let hint = suggest(&name, known.iter().map(String::as_str)).unwrap_or_default();
            return refuse(format!("there is no {} `{name}`", kind.name()), hint);
        };
        let anchors = anchors_of(&blocks);
        if let Some(twice) = anchors.iter().find(|id| self.placed.anchors.has(id)) {
            let cause = match twice == &name {
                true => format!("the {} `{name}` is placed twice", kind.name()),
                false => format!(
                    "the {} `{name}` contains `{twice}`, which is placed twice",
                    kind.name()
                ),
            };
            return refuse(cause, "remove one of the placeholders".to_owned());
        }
        self.add_anchors(&blocks);
        Ok(blocks)
    }

    /// The names of everything of a kind.
    fn known(&self, kind: BlockKind) -> Vec<String> {
        let mut names = Vec::new();
        let blocks = &self.sources.document.blocks;
        match kind {
            BlockKind::Section => {
                names.extend(blocks.iter().filter_map(section_id).map(str::to_owned));
                names.extend([VALUES, EXTRAS].map(str::to_owned));
                names.sort();
                names.dedup();
            }
            _ => visit(blocks, &mut |block| names.extend(name_of(block, kind).map(str::to_owned))),
        }
        names
    }

    /// A figure or table of the document.
    fn block(&self, kind: BlockKind, name: &str) -> Option<Vec<Block>> {
        let mut found = None;
        visit(&self.sources.document.blocks, &mut |block| {
            if name_of(block, kind) == Some(name) {
                found = Some(vec![block.clone()]);
            }
        });
        found
    }

    /// A section with its heading.
    fn section(&self, id: &str) -> Option<Vec<Block>> {
        if id == VALUES {
            return Some(self.values());
        }
        let all = &self.sources.document.blocks;
        let start = all.iter().position(|block| section_id(block) == Some(id))?;
        let rest = all[start + 1..].iter().take_while(|block| section_id(block).is_none());
        Some(std::iter::once(&all[start]).chain(rest).cloned().collect())
    }

    /// The section of the extras that are not placed.
    fn rest(&mut self) -> Result<Vec<Block>> {
        let mut blocks = self.sources.extras.rest(&mut self.placed)?;
        if !blocks.is_empty() {
            let (id, text) = (EXTRAS.to_owned(), extras::TITLE.to_owned());
            self.placed.anchors.insert(EXTRAS);
            blocks.insert(0, Block::Heading { level: 2, id, text });
        }
        Ok(blocks)
    }

    /// The block of an image in the template: an extra, or a figure of the report.
    fn image(&mut self, offset: usize, words: &str, url: &str) -> Result<Block> {
        let extras = self.sources.extras;
        if let Target::File(path) = resolve("", url) {
            if let Ok(index) = extras.find(&path)
                && extras.is_image(index)
            {
                return Ok(extras.place_image(index, words, &mut self.placed));
            }
            if let Some(name) = path.strip_prefix("figures/").and_then(|f| f.strip_suffix(".svg"))
                && let Some(mut blocks) = self.block(BlockKind::Figure, name)
                && self.places.insert((BlockKind::Figure, name.to_owned()), offset).is_none()
            {
                self.add_anchors(&blocks);
                return Ok(blocks.remove(0));
            }
        }
        let cause = format!("the image `{url}` is not in the report");
        let hint = "write the image in a stage, add the stage to `extras`, and write \
                    `STAGE/FILE`; `{{ figure: NAME }}` places a figure of the study";
        Err(self.error(Problem::new(offset, cause, hint)))
    }

    /// The URL of a link in the template.
    fn link(
        &self,
        link: &str,
        offset: usize,
        anchors: &RefCell<Vec<(String, usize)>>,
    ) -> Result<String, Problem> {
        match resolve("", link) {
            Target::Web => Ok(link.to_owned()),
            Target::Anchor(name) => {
                anchors.borrow_mut().push((name, offset));
                Ok(link.to_owned())
            }
            Target::File(path) => {
                let is_exported = |path: &&String| {
                    path.strip_prefix("tables/").is_some_and(|file| EXPORTED.contains(&file))
                        || self.sources.document.files.iter().any(|file| file.path == **path)
                };
                let found = Some(&path).filter(is_exported).map(|path| url(path));
                found.or_else(|| self.sources.extras.url_of(&path)).ok_or_else(|| {
                    let cause = format!("the link `{link}` leads to no file of the report");
                    Problem::new(offset, cause, HINT)
                })
            }
            Target::Refused(cause) => Err(Problem::new(offset, cause, HINT)),
        }
    }

    /// The list of the values in the text.
    fn values(&self) -> Vec<Block> {
        if self.filled.values.is_empty() {
            return Vec::new();
        }
        let row = |shown: &Shown| {
            let Shown { offset, query, value } = shown;
            let texts = [
                self.template.place(*offset),
                value.text.clone(),
                value.cell.clone(),
                query.table.text.clone(),
                query.selection(),
                query.column.text.clone(),
            ];
            let cell = |text: String| Cell { value: number(&text), ..Cell::text(text) };
            texts.into_iter().map(cell).collect()
        };
        let table = TableBlock {
            id: "values-table".to_owned(),
            title: "Values in the text".to_owned(),
            caption: format!(
                "Each value that the text takes from a table, with the row from which it comes. \
                 `{}` computes the tables of the study.",
                self.sources.command
            ),
            columns: vec![
                Column::new("place", Align::Left),
                Column::new("in the text", Align::Right),
                Column::new("in the table", Align::Right),
                Column::new("table", Align::Left),
                Column::new("row", Align::Left),
                Column::new("column", Align::Left),
            ],
            rows: self.filled.values.iter().map(row).collect(),
            source: None,
            facets: Vec::new(),
        };
        let (id, text) = (VALUES.to_owned(), "Sources of the values".to_owned());
        vec![Block::Heading { level: 2, id, text }, Block::Table(table)]
    }
}

/// Calls `each` with every block, including folded ones.
fn visit<'b>(blocks: &'b [Block], each: &mut dyn FnMut(&'b Block)) {
    for block in blocks {
        each(block);
        if let Block::Details { blocks, .. } = block {
            visit(blocks, each);
        }
    }
}

/// The anchors of all blocks.
fn anchors_of(blocks: &[Block]) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    visit(blocks, &mut |block| anchors.extend(anchor_of(block).map(str::to_owned)));
    anchors
}

fn anchor_of(block: &Block) -> Option<&str> {
    match block {
        Block::Heading { id, .. } => Some(id),
        Block::Figure(figure) => Some(&figure.id),
        Block::Table(table) => Some(&table.id),
        Block::Html(html) => Some(&html.id),
        _ => None,
    }
}

/// The name of a section, if the block is its heading.
fn section_id(block: &Block) -> Option<&str> {
    match block {
        Block::Heading { level: 2, id, .. } => Some(id),
        _ => None,
    }
}

/// The name by which a template places a block.
fn name_of(block: &Block, kind: BlockKind) -> Option<&str> {
    match (block, kind) {
        (Block::Figure(figure), BlockKind::Figure) => {
            figure.path.strip_prefix("figures/")?.strip_suffix(".svg")
        }
        (Block::Table(table), BlockKind::Table) => Some(&table.id),
        _ => None,
    }
}
