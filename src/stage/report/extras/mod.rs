//! Files of the user's own stages: Markdown, tables, HTML and images. A file that the report cannot
//! show is an error, and the names of files that `show` leaves out are listed.

mod format;
mod links;
mod origin;

use self::format::{Content, MAX_TOTAL, Refusal};
pub(super) use self::links::{HINT, Target, resolve};
use self::origin::{PROGRAM, anchor, escape_code, folder_name, full_recipe, run_command};
use super::sheet::{Sheet, number};
use super::{Caption, Params};
use crate::engine::key::root;
use crate::engine::stage::{Context, Hinted, Input, Upstream, suggest};
use crate::fs;
use crate::report::document::{
    Block, Cell, Column, EmbeddedFile, FigureBlock, HtmlBlock, Source, TableBlock,
};
use crate::report::markdown::{escape, url};
use crate::report::prose::{Anchors, Piece, Problem, pieces, slug};
use crate::report::table::Align;
use anyhow::Result;
use glob::Pattern;
use std::collections::BTreeSet;

/// A file of one of the user's own stages.
pub(super) struct Extra {
    /// The nodes that write it, with equal outputs; at least one.
    nodes: Vec<String>,
    /// Its name in their outputs.
    file: String,
    /// The path in the report's folder.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    /// The anchor.
    id: String,
    /// Plain text.
    title: String,
    /// Whether the title is more than the file's name.
    is_titled: bool,
    /// Markdown.
    caption: String,
    content: Content,
    source: Source,
}

/// The files of the user's own stages, by node and name.
pub(super) struct Extras {
    pub(super) files: Vec<Extra>,
    /// By node: the files that `show` leaves out.
    hidden: Vec<(String, Vec<String>)>,
}

/// The name of the stage of a node.
fn stage(node: &str) -> &str {
    node.split_once('@').map_or(node, |(stage, _)| stage)
}

/// An artifact in the slot, with the nodes that computed it.
struct Group<'a> {
    nodes: Vec<String>,
    input: &'a Input,
}

impl Group<'_> {
    /// Whether `key` names one of the nodes or its stage.
    fn is(&self, key: &str) -> bool {
        self.nodes.iter().any(|node| node == key || stage(node) == key)
    }

    /// The names by which parameters refer to the nodes.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().flat_map(|node| [node.as_str(), stage(node)])
    }
}

/// The artifacts in the slot with their nodes, sorted by node.
fn groups<'a>(inputs: &'a [Input], upstream: Option<&Upstream>) -> Vec<Group<'a>> {
    let group = |input: &'a Input| {
        let digest = root([&input.artifact]);
        let named = upstream.iter().flat_map(|upstream| &upstream.inputs);
        let named = named.filter(|named| named.slot == SLOT && named.artifact == digest);
        let mut nodes: Vec<String> = named.map(|named| named.node.clone()).collect();
        if nodes.is_empty() {
            nodes.push(SLOT.to_owned());
        }
        Group { nodes, input }
    };
    let mut groups: Vec<Group> = inputs.iter().map(group).collect();
    groups.sort_by(|a, b| a.nodes.cmp(&b.nodes));
    groups
}

/// The slot, and the folder of the report for its files.
const SLOT: &str = "extras";

/// The title of the section.
pub(super) const TITLE: &str = "Further material";

impl Extras {
    /// The files of the nodes in the slot.
    ///
    /// # Errors
    /// If a file cannot be shown, or if `show` or `captions` contain an unknown name.
    pub(super) fn read(inputs: &[Input], params: &Params) -> Result<Extras> {
        let upstream = params.upstream.as_ref();
        let groups = groups(inputs, upstream);
        check_show(params, &groups)?;
        let mut extras = Extras { files: Vec::new(), hidden: Vec::new() };
        let (mut folders, mut anchors) = (Anchors::default(), Anchors::default());
        let mut total = 0;
        for group in &groups {
            let node = &group.nodes[0];
            let folder = folders.unique(&folder_name(node));
            let shown = shown(params, group)?;
            let mut hidden = Vec::new();
            for (file, content) in &group.input.artifact {
                let Some(digest) = content.digest() else { continue };
                if !shown.as_ref().is_none_or(|shown| shown.iter().any(|p| p.matches(file))) {
                    hidden.push(file.clone());
                    continue;
                }
                let bytes = fs::read(group.input.path(file)?)?;
                let content = Content::read(file, &bytes)
                    .map_err(|refusal| refused(&format!("{node}/{file}"), node, refusal))?;
                total += bytes.len();
                if total > MAX_TOTAL {
                    let cause = format!(
                        "the files in `extras` have more than {} MiB, and a report shows no more",
                        MAX_TOTAL >> 20
                    );
                    let hint = "choose fewer files with `show`, or write smaller ones";
                    return Err(Hinted::new(cause, hint).into());
                }
                let path = format!("{SLOT}/{folder}/{file}");
                let source = Source {
                    path: path.clone(),
                    digest: digest.to_string(),
                    command: run_command(params, &group.nodes),
                    recipe: full_recipe(upstream, &group.nodes),
                };
                extras.files.push(Extra {
                    nodes: group.nodes.clone(),
                    file: file.clone(),
                    path,
                    bytes,
                    id: anchors.unique(&anchor(node, file)),
                    title: String::new(),
                    is_titled: false,
                    caption: String::new(),
                    content,
                    source,
                });
            }
            if !hidden.is_empty() {
                extras.hidden.push((node.clone(), hidden));
            }
        }
        extras.add_captions(params)?;
        Ok(extras)
    }

    /// Writes the files to the report's folder.
    pub(super) fn write(&self, cx: &Context) -> Result<()> {
        for extra in &self.files {
            let path = cx.output(&extra.path);
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, &extra.bytes)?;
        }
        Ok(())
    }

    /// The files that the page contains for downloads. It contains images and HTML anyway.
    pub(super) fn embedded(&self) -> impl Iterator<Item = EmbeddedFile> {
        let is_text =
            |content: &Content| matches!(content, Content::Table(_) | Content::Markdown(_));
        let texts = self.files.iter().filter(move |extra| is_text(&extra.content));
        texts.map(|extra| EmbeddedFile { path: extra.path.clone(), bytes: extra.bytes.clone() })
    }

    /// Sets the titles and captions.
    fn add_captions(&mut self, params: &Params) -> Result<()> {
        let known: BTreeSet<String> = self.files.iter().flat_map(Extra::keys).collect();
        for (key, caption) in &params.captions {
            if !known.contains(key) {
                let cause = format!("unknown name `{key}` in `captions`");
                let hint = suggest(key, known.iter().map(String::as_str));
                let hint = hint.unwrap_or_else(|| "`extras` has no files".to_owned());
                return Err(Hinted::new(cause, hint).into());
            }
            check_caption(key, caption)?;
        }
        for extra in &mut self.files {
            let given: Vec<&Caption> =
                extra.keys().iter().filter_map(|key| params.captions.get(key)).collect();
            let title = given.iter().find_map(|caption| caption.title.clone());
            let caption = given.iter().find_map(|caption| caption.caption.clone());
            let (title_of_file, caption_of_file) = extra.content.captions();
            extra.is_titled = title.is_some() || title_of_file.is_some();
            extra.title = title.or(title_of_file).unwrap_or_else(|| extra.file.clone());
            extra.caption = caption.or(caption_of_file).unwrap_or_default();
        }
        Ok(())
    }

    /// The file called `name`: `NODE/FILE`, `STAGE/FILE` if a single node has the file, or the path
    /// in the report.
    pub(super) fn find(&self, name: &str) -> Result<usize, Hinted> {
        let exact = self.files.iter().position(|extra| {
            extra.path == name
                || extra.nodes.iter().any(|node| format!("{node}/{}", extra.file) == name)
        });
        if let Some(index) = exact {
            return Ok(index);
        }
        let is_in_stage = |extra: &Extra| {
            extra.nodes.iter().any(|node| format!("{}/{}", stage(node), extra.file) == name)
        };
        let matches: Vec<usize> =
            (0..self.files.len()).filter(|i| is_in_stage(&self.files[*i])).collect();
        match matches.as_slice() {
            [index] => Ok(*index),
            [] => {
                let known: Vec<String> = self.files.iter().map(Extra::name).collect();
                let hint = suggest(name, known.iter().map(String::as_str));
                let hint = hint.unwrap_or_else(|| "`extras` has no files".to_owned());
                Err(Hinted::new(format!("there is no extra `{name}`"), hint))
            }
            several => {
                let cause = format!("{} nodes have the extra `{name}`", several.len());
                let names: Vec<String> = several
                    .iter()
                    .take(4)
                    .map(|i| format!("`{}`", self.files[*i].name()))
                    .collect();
                Err(Hinted::new(cause, format!("write one of {}", names.join(", "))))
            }
        }
    }

    /// The table called `name`.
    pub(super) fn sheet(&self, name: &str) -> Option<&Sheet> {
        match &self.files[self.find(name).ok()?].content {
            Content::Table(sheet) => Some(sheet),
            _ => None,
        }
    }

    /// The names of all tables.
    pub(super) fn sheets(&self) -> impl Iterator<Item = String> {
        let is_table = |extra: &&Extra| matches!(extra.content, Content::Table(_));
        self.files.iter().filter(is_table).map(Extra::name)
    }

    /// The content of the section.
    pub(super) fn section(&self) -> Result<Vec<Block>> {
        self.rest(&mut Placed::default())
    }

    /// The blocks of all files that are not placed, and the list of files that are not shown.
    pub(super) fn rest(&self, placed: &mut Placed) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        // A text shows the images to which it refers; they are not shown twice.
        let is_text = |extra: &Extra| matches!(extra.content, Content::Markdown(_));
        let mut within: BTreeSet<usize> = BTreeSet::new();
        for (i, extra) in self.files.iter().enumerate() {
            if is_text(extra) && !placed.extras.contains(&i) {
                within.extend(self.images_within(i)?);
            }
        }
        for i in 0..self.files.len() {
            if !placed.extras.contains(&i) && !within.contains(&i) {
                blocks.extend(self.place(i, 3, placed)?);
            }
        }
        let name = |file: &String| format!("`{}`", escape_code(file));
        for (node, files) in &self.hidden {
            let files: Vec<String> = files.iter().map(name).collect();
            blocks.push(Block::Text(format!(
                "Not shown, of `{}`: {}.",
                escape_code(node),
                files.join(", ")
            )));
        }
        Ok(blocks)
    }

    /// The blocks of a file, with a heading of this level if it is a text.
    pub(super) fn place(&self, index: usize, level: u8, placed: &mut Placed) -> Result<Vec<Block>> {
        placed.extras.insert(index);
        let extra = &self.files[index];
        let (id, title, caption) = (extra.id.clone(), extra.title.clone(), extra.caption.clone());
        placed.anchors.insert(&id);
        let (path, source) = (extra.path.clone(), extra.source.clone());
        Ok(match &extra.content {
            Content::Image { .. } => vec![Block::Figure(extra.figure())],
            Content::Table(sheet) => vec![Block::Table(TableBlock {
                id,
                title,
                caption,
                columns: columns(sheet),
                rows: rows(sheet),
                source: Some(source),
                facets: Vec::new(),
            })],
            Content::Html(html) => {
                let html = html.clone();
                vec![Block::Html(HtmlBlock { id, title, caption, path, html, source })]
            }
            Content::Markdown(text) => self.text(index, text, level, placed)?,
        })
    }

    /// The blocks of a Markdown file.
    fn text(&self, index: usize, text: &str, level: u8, placed: &mut Placed) -> Result<Vec<Block>> {
        let extra = &self.files[index];
        let located = |problem: Problem| located(&extra.name(), text, &problem);
        let heading = |level: u8, id: String, text: String| Block::Heading { level, id, text };
        let mut blocks = vec![heading(level, extra.id.clone(), extra.title.clone())];
        if !extra.caption.is_empty() {
            blocks.push(Block::Text(extra.caption.clone()));
        }
        // The anchors of the file's headings, to which its links refer.
        let unlinked = pieces(text, &[], &|url, _| Ok(url.to_owned())).map_err(&located)?;
        let headings: Vec<(u8, &str)> = unlinked
            .iter()
            .filter_map(|piece| match piece {
                Piece::Heading { level, text } => Some((*level, text.as_str())),
                _ => None,
            })
            .collect();
        let highest = headings.iter().map(|(level, _)| *level).min().unwrap_or(1);
        let is_title = |i: usize| i == 0 && headings[0].1 == extra.title;
        let ids: Vec<String> = headings
            .iter()
            .enumerate()
            .map(|(i, (_, text))| match is_title(i) {
                true => extra.id.clone(),
                false => placed.anchors.unique(&format!("{}-{}", extra.id, slug(text))),
            })
            .collect();
        let anchor = |name: &str| {
            let at = headings.iter().position(|(_, text)| slug(text) == name)?;
            Some(ids[at].clone())
        };
        let links = |url: &str, offset: usize| {
            self.link(extra, url, &anchor).map_err(|cause| Problem::new(offset, cause, HINT))
        };
        let mut headings = headings.iter().enumerate();
        for piece in pieces(text, &[], &links).map_err(&located)? {
            match piece {
                Piece::Heading { level: own, text } => {
                    let Some((i, _)) = headings.next().filter(|(i, _)| !is_title(*i)) else {
                        continue;
                    };
                    let level = (level + 1 + own - highest).min(4);
                    blocks.push(heading(level, ids[i].clone(), text));
                }
                Piece::Text(text) => blocks.push(Block::Text(text)),
                Piece::Image { offset, text: words, url } => {
                    let refuse = |(cause, hint): (String, String)| {
                        located(Problem::new(offset, cause, hint))
                    };
                    let image = self.image(extra, &url).map_err(refuse)?;
                    blocks.push(self.place_image(image, &words, placed));
                }
                Piece::Mark(_) => {}
            }
        }
        blocks.push(Block::Text(extra.source_line()));
        Ok(blocks)
    }

    /// The images to which a Markdown file refers.
    fn images_within(&self, index: usize) -> Result<BTreeSet<usize>> {
        let extra = &self.files[index];
        let Content::Markdown(text) = &extra.content else { return Ok(BTreeSet::new()) };
        let pieces = pieces(text, &[], &|url, _| Ok(url.to_owned()))
            .map_err(|problem| located(&extra.name(), text, &problem))?;
        let image = |piece: &Piece| match piece {
            Piece::Image { url, .. } => self.image(extra, url).ok(),
            _ => None,
        };
        Ok(pieces.iter().filter_map(image).collect())
    }

    /// The block of an image: the figure, or a link to it if it has been placed.
    pub(super) fn place_image(&self, index: usize, words: &str, placed: &mut Placed) -> Block {
        let extra = &self.files[index];
        if !placed.extras.insert(index) {
            let words = if words.is_empty() { &extra.title } else { words };
            return Block::Text(format!("See [{}](#{}).", escape(words), extra.id));
        }
        placed.anchors.insert(&extra.id);
        let mut figure = extra.figure();
        if !extra.is_titled && !words.is_empty() {
            figure.title = words.to_owned();
        }
        Block::Figure(figure)
    }

    /// The image at a URL in the Markdown file `from`.
    fn image(&self, from: &Extra, url: &str) -> Result<usize, (String, String)> {
        let at = match resolve(&from.file, url) {
            Target::File(file) => {
                let is_there = |extra: &Extra| extra.nodes == from.nodes && extra.file == file;
                self.files.iter().position(is_there)
            }
            _ => None,
        };
        let beside: Vec<&str> = self
            .files
            .iter()
            .filter(|extra| extra.nodes == from.nodes)
            .filter(|extra| matches!(extra.content, Content::Image { .. }))
            .map(|extra| extra.file.as_str())
            .collect();
        match at {
            Some(at) if matches!(self.files[at].content, Content::Image { .. }) => Ok(at),
            _ => {
                let cause = format!("the image `{url}` is not in `extras`");
                let hint = suggest(url, beside)
                    .unwrap_or_else(|| "write the image as another output of the stage".into());
                Err((cause, hint))
            }
        }
    }

    /// The URL of a link in the Markdown file `from`; `anchor` returns the anchor of a heading.
    fn link(
        &self,
        from: &Extra,
        link: &str,
        anchor: &dyn Fn(&str) -> Option<String>,
    ) -> Result<String, String> {
        match resolve(&from.file, link) {
            Target::Web => Ok(link.to_owned()),
            Target::Anchor(name) => {
                let id = anchor(&name).map(|id| format!("#{id}"));
                id.ok_or_else(|| format!("there is no heading for the link `#{name}`"))
            }
            Target::File(file) => {
                let is_there = |extra: &&Extra| extra.nodes == from.nodes && extra.file == file;
                let found = self.files.iter().find(is_there).map(|extra| url(&extra.path));
                found.ok_or_else(|| format!("the link `{link}` leads to no file in `extras`"))
            }
            Target::Refused(cause) => Err(cause),
        }
    }

    /// The URL of a relative link in a template: the path of a file in the report.
    pub(super) fn url_of(&self, name: &str) -> Option<String> {
        self.find(name).ok().map(|index| url(&self.files[index].path))
    }

    /// Whether a file is an image.
    pub(super) fn is_image(&self, index: usize) -> bool {
        matches!(self.files[index].content, Content::Image { .. })
    }
}

/// What has been placed in the document.
#[derive(Default)]
pub(super) struct Placed {
    pub(super) anchors: Anchors,
    /// Indices of files.
    pub(super) extras: BTreeSet<usize>,
}

impl Extra {
    /// `NODE/FILE`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.nodes[0], self.file)
    }

    /// The keys of `captions` for this file, the most specific first.
    fn keys(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        let files = nodes.clone().map(|node| format!("{node}/{}", self.file));
        let of_stages = nodes.clone().map(|node| format!("{}/{}", stage(node), self.file));
        let stages = nodes.clone().map(|node| stage(node).to_owned());
        files.chain(of_stages).chain(nodes.clone().cloned()).chain(stages).collect()
    }

    /// The source of a text, as Markdown.
    fn source_line(&self) -> String {
        let Source { path, digest, command, recipe } = &self.source;
        let program = recipe.iter().find(|(name, _)| name == PROGRAM).map(|(_, words)| words);
        let program = program.map(|words| format!(", which runs `{}`", escape_code(words)));
        format!(
            "Source: [`{}`](<{}>), artifact `{digest}`, computed by `{}`{}.",
            escape_code(&self.file),
            url(path),
            escape_code(command),
            program.unwrap_or_default()
        )
    }

    fn figure(&self) -> FigureBlock {
        let Content::Image { image, .. } = &self.content else {
            unreachable!("BUG: `{}` is not an image", self.file)
        };
        FigureBlock {
            id: self.id.clone(),
            title: self.title.clone(),
            message: String::new(),
            caption: self.caption.clone(),
            path: self.path.clone(),
            image: image.clone(),
            source: self.source.clone(),
        }
    }
}

impl Content {
    /// The title (plain text) and the caption (Markdown) that the file contains.
    fn captions(&self) -> (Option<String>, Option<String>) {
        match self {
            Content::Image { title, description, .. } => {
                (title.clone(), description.as_deref().map(escape))
            }
            Content::Markdown(text) => {
                let pieces = pieces(text, &[], &|url, _| Ok(url.to_owned())).unwrap_or_default();
                let title = pieces.into_iter().find_map(|piece| match piece {
                    Piece::Heading { text, .. } if !text.is_empty() => Some(text),
                    _ => None,
                });
                (title, None)
            }
            Content::Table(_) | Content::Html(_) => (None, None),
        }
    }
}

fn columns(sheet: &Sheet) -> Vec<Column> {
    let column = |(i, heading): (usize, &String)| {
        Column::new(heading, if sheet.is_numeric(i) { Align::Right } else { Align::Left })
    };
    sheet.columns.iter().enumerate().map(column).collect()
}

fn rows(sheet: &Sheet) -> Vec<Vec<Cell>> {
    let is_numeric: Vec<bool> =
        (0..sheet.columns.len()).map(|column| sheet.is_numeric(column)).collect();
    let cell = |(text, is_numeric): (&String, &bool)| Cell {
        text: text.clone(),
        value: number(text).filter(|_| *is_numeric),
        ..Cell::default()
    };
    sheet.rows.iter().map(|row| row.iter().zip(&is_numeric).map(cell).collect()).collect()
}

/// Rejects keys of `show` that are no node in the slot, and patterns that fit no file.
fn check_show(params: &Params, groups: &[Group]) -> Result<()> {
    for (key, patterns) in &params.show {
        let of_key: Vec<&Group> = groups.iter().filter(|group| group.is(key)).collect();
        if of_key.is_empty() {
            let cause = format!("unknown stage `{key}` in `show`");
            let known: BTreeSet<&str> = groups.iter().flat_map(Group::names).collect();
            let hint = suggest(key, known).unwrap_or_else(|| "`extras` has no stages".to_owned());
            return Err(Hinted::new(cause, hint).into());
        }
        for text in patterns.all() {
            let pattern = pattern(key, &text.0)?;
            let files = of_key.iter().flat_map(|group| group.input.artifact.keys());
            let files: BTreeSet<&str> = files.map(String::as_str).collect();
            if !files.iter().any(|file| pattern.matches(file)) {
                let cause = format!("no file of `{key}` fits `{}` in `show`", text.0);
                let hint = suggest(&text.0, files).unwrap_or_default();
                return Err(Hinted::new(cause, hint).into());
            }
        }
    }
    Ok(())
}

/// The patterns of the files to show of a node; `None` for all files.
fn shown(params: &Params, group: &Group) -> Result<Option<Vec<Pattern>>> {
    let Some((key, patterns)) = group.names().find_map(|name| params.show.get_key_value(name))
    else {
        return Ok(None);
    };
    patterns.all().iter().map(|text| pattern(key, &text.0)).collect::<Result<_>>().map(Some)
}

fn pattern(key: &str, text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(|e| {
        let cause = format!("invalid pattern `{text}` for `{key}` in `show`: {}", e.msg);
        Hinted::new(cause, "write a name or a pattern such as `*.svg`").into()
    })
}

/// Rejects a caption with headings, images, or links into files.
fn check_caption(key: &str, caption: &Caption) -> Result<()> {
    let Some(text) = &caption.caption else { return Ok(()) };
    let links = |url: &str, offset: usize| match resolve("", url) {
        Target::Web => Ok(url.to_owned()),
        _ => {
            let cause = format!("the link `{url}` is not a web address");
            Err(Problem::new(offset, cause, "write a URL with `https://`"))
        }
    };
    let pieces = pieces(text, &[], &links).map_err(|problem| {
        Hinted::new(format!("`{key}` in `captions`: {}", problem.cause), problem.hint)
    })?;
    if pieces.iter().any(|piece| !matches!(piece, Piece::Text(_))) {
        let cause = format!("the caption of `{key}` contains a heading or an image");
        return Err(Hinted::new(cause, "write text only").into());
    }
    Ok(())
}

/// The error for a file that cannot be shown.
fn refused(name: &str, node: &str, refusal: Refusal) -> anyhow::Error {
    let cause = format!("the report cannot show `{name}`: {}", refusal.reason);
    let show = format!("`show: {{ {}: [FILE, ...] }}` chooses the files to show", stage(node));
    let hint = refusal.hint.map_or(show.clone(), |hint| format!("{hint}; {show}"));
    Hinted::new(cause, hint).into()
}

/// The error for a part of a Markdown file.
pub(super) fn located(file: &str, text: &str, problem: &Problem) -> anyhow::Error {
    let (line, column) = position(text, problem.offset);
    Hinted::new(format!("{file}:{line}:{column}: {}", problem.cause), problem.hint.clone()).into()
}

/// The line and the column of an offset, in characters from 1.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::key::Artifact;
    use crate::report::document::Document;
    use crate::report::html::to_html;
    use crate::report::markdown::to_markdown;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    const SVG: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";

    /// The outputs of a node: names and contents.
    type Outputs<'a> = &'a [(&'a str, &'a str)];

    /// The extras of nodes with these outputs. Of `params`, the fields that the run sets are set.
    fn read(nodes: &[(&str, Outputs)], params: Json) -> Result<Extras> {
        let folder = tempfile::tempdir().unwrap();
        let mut inputs = Vec::new();
        let mut named = Vec::new();
        for (k, (node, outputs)) in nodes.iter().enumerate() {
            let path = |i: usize| folder.path().join(format!("{k}-{i}"));
            outputs.iter().enumerate().for_each(|(i, (_, text))| {
                fs::write(&path(i), text).unwrap();
            });
            let digest = |text: &str| crate::engine::key::Digest::of(text.as_bytes());
            let artifact: Artifact = outputs
                .iter()
                .map(|(name, text)| ((*name).to_owned(), digest(text).into()))
                .collect();
            let paths = outputs.iter().enumerate();
            let paths = paths.map(|(i, (name, _))| ((*name).to_owned(), path(i))).collect();
            named.push(json!({ "slot": SLOT, "node": node, "artifact": root([&artifact]) }));
            if !inputs.iter().any(|input: &Input| input.artifact == artifact) {
                inputs.push(Input::new(artifact, paths));
            }
        }
        let mut params: Params = serde_json::from_value(params).unwrap();
        let draw = json!({
            "name": "draw", "kind": "command", "version": 2, "nodes": 1,
            "params": { "run": [["python3", "draw.py"]] }, "inputs": {},
        });
        let upstream = json!({ "stages": [draw], "inputs": named });
        params.upstream = Some(serde_json::from_value(upstream).unwrap());
        Extras::read(&inputs, &params)
    }

    fn document(extras: &Extras) -> Document {
        let (title, blocks) = ("t".to_owned(), extras.section().unwrap());
        Document { title, blocks, ..Document::default() }
    }

    /// `cause (hint)`
    fn refusal(result: Result<impl Sized>) -> String {
        let error = result.err().expect("an error");
        let Hinted { cause, hint } = error.downcast_ref::<Hinted>().expect("an error with a hint");
        format!("{cause} ({hint})")
    }

    /// Titles, captions and paths of the blocks, one line each.
    fn outline(blocks: &[Block]) -> String {
        let line = |block: &Block| match block {
            Block::Heading { level, id, text } => {
                format!("{} {text} #{id}", "#".repeat(*level as usize))
            }
            Block::Text(text) => text.replace('\n', " "),
            Block::Figure(f) => {
                format!("figure {} | {} | {} #{}", f.path, f.title, f.caption, f.id)
            }
            Block::Table(t) => format!("table {} | {} #{}", t.title, t.caption, t.id),
            Block::Html(h) => format!("html {} | {} | {} #{}", h.path, h.title, h.caption, h.id),
            other => format!("{other:?}"),
        };
        blocks.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_format_is_shown_with_title_caption_and_source() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"><title>A &lt; B</title>\
                   <desc>d_1</desc></svg>";
        let outputs: Outputs = &[
            ("a.csv", "x,y\n1,a\n,b\n"),
            ("a.svg", svg),
            ("b/a.svg", SVG),
            ("c.html", "<p>x</p>"),
            ("d.md", "# T `x`\n\nText.\n\n## Sub\n\n# Next\n"),
        ];
        let captions = json!({
            "draw": { "caption": "Of *all*." },
            "draw/b/a.svg": { "title": "B", "caption": "Of [b](https://b.c)." },
        });
        let extras = read(&[("draw", outputs)], json!({ "captions": captions })).unwrap();
        let blocks = extras.section().unwrap();
        insta::assert_snapshot!(outline(&blocks), @r##"
        table a.csv | Of *all*. #extra-draw-a-csv
        figure extras/draw/a.svg | A < B | Of *all*. #extra-draw-a-svg
        figure extras/draw/b/a.svg | B | Of [b](https://b.c). #extra-draw-b-a-svg
        html extras/draw/c.html | c.html | Of *all*. #extra-draw-c-html
        ### T x #extra-draw-d-md
        Of *all*.
        Text.
        #### Sub #extra-draw-d-md-sub
        #### Next #extra-draw-d-md-next
        Source: [`d.md`](<extras/draw/d.md>), artifact `59ab7d87481383928810fa62ea98c72e478fc2a62950edd440beba13e08b6d74`, computed by `repro run draw`, which runs `python3 draw.py`.
        "##);
        let Block::Table(table) = &blocks[0] else { panic!() };
        assert_eq!(
            table.columns.iter().map(|c| c.align).collect::<Vec<_>>(),
            [Align::Right, Align::Left]
        );
        assert_eq!((table.rows[0][0].value, table.rows[1][0].value), (Some(1.0), None));
        let source = table.source.as_ref().unwrap();
        assert_eq!(source.command, "repro run draw");
        assert_eq!(source.recipe[0], ("program".into(), "python3 draw.py".into()));
    }

    #[test]
    fn a_text_shows_the_images_to_which_it_refers_once() {
        let outputs: Outputs = &[
            ("a.svg", SVG),
            ("d/text.md", "![words](../a.svg)\n\n![](../a.svg)\n\nSee [the table](../t.csv).\n"),
            ("t.csv", "x\n1\n"),
        ];
        let extras = read(&[("draw", outputs)], json!({})).unwrap();
        insta::assert_snapshot!(outline(&extras.section().unwrap()), @r##"
        ### d/text.md #extra-draw-d-text-md
        figure extras/draw/a.svg | words |  #extra-draw-a-svg
        See [a.svg](#extra-draw-a-svg).
        See [the table](<extras/draw/t.csv>).
        Source: [`d/text.md`](<extras/draw/d/text.md>), artifact `df0d3820af90fd7e4d3ee75c0cbd39459eb62fea6d959463b01a0aef191ce881`, computed by `repro run draw`, which runs `python3 draw.py`.
        table t.csv |  #extra-draw-t-csv
        "##);
    }

    #[test]
    fn headings_of_a_text_are_below_its_title_and_its_links_lead_to_them() {
        let text =
            "## First\n\n[a](#second) [b](#first)\n\n### Second\n\n#### Third\n\n## Second\n";
        let extras = read(&[("draw", &[("d.md", text)])], json!({})).unwrap();
        insta::assert_snapshot!(outline(&extras.section().unwrap()), @r##"
        ### First #extra-draw-d-md
        [a](<#extra-draw-d-md-second>) [b](<#extra-draw-d-md>)
        #### Second #extra-draw-d-md-second
        #### Third #extra-draw-d-md-third
        #### Second #extra-draw-d-md-second-1
        Source: [`d.md`](<extras/draw/d.md>), artifact `f3c976678fea65d5df4d00b61b4a2d2c782f7138ad3fb83ad6d234e517bf6c78`, computed by `repro run draw`, which runs `python3 draw.py`.
        "##);
    }

    #[test]
    fn nodes_with_equal_outputs_share_them_and_others_have_folders_of_their_own() {
        let (one, other): (Outputs, Outputs) = (&[("a.svg", SVG)], &[("a.csv", "x\n")]);
        let extras =
            read(&[("n@k=a b", one), ("n@k=c", one), ("n@k=a-b", other)], json!({})).unwrap();
        let paths: Vec<&str> = extras.files.iter().map(|extra| extra.path.as_str()).collect();
        assert_eq!(paths, ["extras/n@k=a-b/a.svg", "extras/n@k=a-b-1/a.csv"]);
        assert_eq!(extras.files[0].source.command, "repro run 'n@k=a b' n@k=c");
        for name in ["n@k=a b/a.svg", "n@k=c/a.svg", "n/a.svg", "extras/n@k=a-b/a.svg"] {
            assert_eq!(extras.find(name).unwrap(), 0, "{name}");
        }
    }

    #[test]
    fn files_that_are_not_shown_are_named() {
        let outputs: Outputs = &[("a.svg", SVG), ("b.json", "{}"), ("c`.log", "x")];
        let show = json!({ "show": { "draw": "*.svg" } });
        let extras = read(&[("draw", outputs)], show).unwrap();
        assert_eq!(extras.files.len(), 1);
        let blocks = extras.section().unwrap();
        assert_eq!(blocks[1], Block::Text("Not shown, of `draw`: `b.json`, `c'.log`.".into()));
    }

    #[test]
    fn markdown_has_at_most_seven_columns_and_a_hundred_rows_and_links_to_the_file() {
        let row = |x: usize| (0..20).map(|k| format!("{}", x + k)).collect::<Vec<_>>().join(",");
        let table = (0..151).map(row).collect::<Vec<_>>().join("\n");
        let extras = read(&[("draw", &[("t.csv", &table)])], json!({})).unwrap();
        let markdown = to_markdown(&document(&extras));
        let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.iter().all(|row| row.matches('|').count() <= 8), "{markdown}");
        assert!(markdown.contains(
            "The first 100 of 150 rows; all are in [extras/draw/t.csv](<extras/draw/t.csv>)."
        ));
        assert_eq!(rows.iter().filter(|row| row.starts_with("|   1 |")).count(), 4);
        let page = to_html(&document(&extras));
        assert_eq!(page.matches("<tr").count(), 151, "the page has all rows and columns");
    }

    #[test]
    fn a_node_in_show_precedes_its_stage() {
        let outputs: Outputs = &[("a.svg", SVG), ("b.csv", "x\n")];
        let other: Outputs = &[("a.svg", SVG), ("b.csv", "y\n")];
        let show = json!({ "show": { "n": ["a.svg"], "n@k=2": ["b.csv"] } });
        let extras = read(&[("n@k=1", outputs), ("n@k=2", other)], show).unwrap();
        let names: Vec<String> = extras.files.iter().map(Extra::name).collect();
        assert_eq!(names, ["n@k=1/a.svg", "n@k=2/b.csv"]);
    }

    #[test]
    fn what_cannot_be_shown_is_refused_with_its_reason_and_a_hint() {
        let file =
            |name: &str, text: &str| refusal(read(&[("draw@k=1", &[(name, text)])], json!({})));
        let text = |text: &str| {
            let outputs: Outputs = &[("a.md", text), ("b.svg", SVG)];
            refusal(read(&[("draw", outputs)], json!({})).unwrap().section())
        };
        let with = |params: Json| {
            let outputs: Outputs = &[("a.csv", "x\n"), ("b.svg", SVG)];
            refusal(read(&[("draw", outputs), ("n@k=1", &[("a.svg", SVG)])], params))
        };
        let large = "x,y\n".repeat(10_001);
        let captions =
            |key: &str, caption: &str| with(json!({ "captions": { key: { "caption": caption } } }));
        let refused = [
            file("a.json", "{}"),
            file("a", "x"),
            file("b/a.png", "x"),
            file("a.svg", ""),
            file("a.csv", "x,y\n1\n"),
            file("a.csv", &large),
            text("a\n\n![x](c.svg)\n"),
            text("![x](https://a.b/c.svg)\n"),
            text("[x](c.csv)\n"),
            text("é [x](javascript:alert(1))\n"),
            text("[x](#y)\n"),
            text("a <b>c</b>\n"),
            with(json!({ "show": { "drw": ["*"] } })),
            with(json!({ "show": { "draw": ["*.cvs"] } })),
            with(json!({ "show": { "draw": ["a.cvs"] } })),
            with(json!({ "show": { "draw": ["["] } })),
            captions("draw/a.cvs", ""),
            captions("m", ""),
            captions("draw", "# x"),
            captions("draw", "![x](y)"),
            captions("draw", "[x](y)"),
        ];
        insta::assert_snapshot!(refused.join("\n"), @r##"
        the report cannot show `draw@k=1/a.json`: files of type `.json` are not supported (write it as CSV; `show: { draw: [FILE, ...] }` chooses the files to show)
        the report cannot show `draw@k=1/a`: its name has no extension (write it as Markdown, CSV, HTML, SVG, PNG, JPEG, GIF or WebP; `show: { draw: [FILE, ...] }` chooses the files to show)
        the report cannot show `draw@k=1/b/a.png`: it is not of type image/png (`show: { draw: [FILE, ...] }` chooses the files to show)
        the report cannot show `draw@k=1/a.svg`: it is empty (`show: { draw: [FILE, ...] }` chooses the files to show)
        the report cannot show `draw@k=1/a.csv`: line 2 has 1 cell, but line 1 has 2 cells (write it as in RFC 4180; `show: { draw: [FILE, ...] }` chooses the files to show)
        the report cannot show `draw@k=1/a.csv`: it has 20002 cells, and a report shows at most 20000 (write a table with fewer rows; `show: { draw: [FILE, ...] }` chooses the files to show)
        draw/a.md:3:1: the image `c.svg` is not in `extras` (did you mean `b.svg`?)
        draw/a.md:1:1: the image `https://a.b/c.svg` is not in `extras` (known: `b.svg`)
        draw/a.md:1:1: the link `c.csv` leads to no file in `extras` (write a URL with `https://`, or the name of a file or heading of the report)
        draw/a.md:1:3: links of the scheme `javascript` are not shown (write a URL with `https://`, or the name of a file or heading of the report)
        draw/a.md:1:1: there is no heading for the link `#y` (write a URL with `https://`, or the name of a file or heading of the report)
        draw/a.md:1:3: HTML is not shown in Markdown (write Markdown, put it between backticks, or show an `.html` file of a stage)
        unknown stage `drw` in `show` (did you mean `draw`?)
        no file of `draw` fits `*.cvs` in `show` (did you mean `a.csv`?)
        no file of `draw` fits `a.cvs` in `show` (did you mean `a.csv`?)
        invalid pattern `[` for `draw` in `show`: invalid range pattern (write a name or a pattern such as `*.svg`)
        unknown name `draw/a.cvs` in `captions` (did you mean `draw/a.csv`?)
        unknown name `m` in `captions` (known: `draw`, `draw/a.csv`, `draw/b.svg`, `n`, `n/a.svg`, `n@k=1`, `n@k=1/a.svg`)
        the caption of `draw` contains a heading or an image (write text only)
        the caption of `draw` contains a heading or an image (write text only)
        `draw` in `captions`: the link `y` is not a web address (write a URL with `https://`)
        "##);
    }

    #[test]
    fn an_extra_that_is_not_one_file_is_an_error() {
        let outputs: Outputs = &[("a.svg", SVG)];
        let other: Outputs = &[("a.svg", SVG), ("b.csv", "x\n")];
        let extras = read(&[("n@k=1", outputs), ("n@k=2", other)], json!({})).unwrap();
        let refusal = |name: &str| extras.find(name).unwrap_err();
        assert_eq!(extras.find("n/b.csv").unwrap(), 2);
        assert_eq!(
            refusal("n/a.svg"),
            Hinted::new(
                "2 nodes have the extra `n/a.svg`",
                "write one of `n@k=1/a.svg`, `n@k=2/a.svg`"
            )
        );
        assert_eq!(
            refusal("n@k=1/a.svgg"),
            Hinted::new("there is no extra `n@k=1/a.svgg`", "did you mean `n@k=1/a.svg`?")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_name_and_title_is_escaped_in_markdown_and_html(
            stem in r#"[ -~äé\n\t]{1,12}"#,
            title in r#"[ -~äé]{1,20}"#,
            extension in prop::sample::select(vec!["svg", "csv", "html", "md"]),
        ) {
            prop_assume!(!stem.contains('/') && !title.trim().is_empty());
            let text = match extension {
                "svg" => SVG,
                "csv" => "x\n1\n",
                _ => "<!DOCTYPE html>",
            };
            let text = if extension == "md" { "plain" } else { text };
            let name = format!("{stem}.{extension}");
            let params = json!({ "captions": { "draw": { "title": title } } });
            let extras = read(&[("draw", &[(&name, text)])], params).unwrap();
            let document = document(&extras);
            let page = to_html(&document);
            let body = page.split("<h1>").nth(1).unwrap().split("</main>").next().unwrap();
            let shown = html_text(body);
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert!(words(&shown).join(" ").contains(&words(&title).join(" ")), "{}", shown);
            let markdown = to_markdown(&document);
            let read = markdown_text(&markdown);
            prop_assert!(words(&read).join(" ").contains(&words(&title).join(" ")), "{}", markdown);
        }
    }

    /// The text of HTML without its elements.
    fn html_text(html: &str) -> String {
        let mut text = String::new();
        let mut rest = html;
        while let Some((before, after)) = rest.split_once('<') {
            text.push_str(before);
            rest = after.split_once('>').map_or("", |(_, rest)| rest);
        }
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
            .iter()
            .fold(text + rest, |text, (escaped, plain)| text.replace(escaped, plain))
    }

    /// The text of Markdown without its markup.
    fn markdown_text(markdown: &str) -> String {
        use pulldown_cmark::{Event, Options, Parser};
        Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH)
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.to_string()),
                Event::SoftBreak | Event::HardBreak => Some(" ".to_owned()),
                _ => None,
            })
            .collect()
    }
}
