//! Markdown of users, split into the pieces of a report: headings, images and text.
//!
//! The text keeps its bytes, except for links: a link by reference becomes an inline link, so that
//! each piece can be read alone, and the caller may replace the URL. What a report cannot show is
//! an error with its place: raw HTML, footnotes, images within text, headings in lists and quotes.

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};
use std::collections::BTreeSet;
use std::ops::Range;

/// The extensions of CommonMark in the report.
const OPTIONS: Options = Options::ENABLE_TABLES.union(Options::ENABLE_STRIKETHROUGH);

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A heading.
    Heading {
        /// 1 to 6.
        level: u8,
        /// Plain text.
        text: String,
    },
    /// Paragraphs, lists, tables, quotes and code: Markdown without headings and images.
    Text(String),
    /// An image that is a paragraph, or a line of a paragraph of images.
    Image {
        /// The offset in the text.
        offset: usize,
        /// The alternative text, as plain text.
        text: String,
        /// The URL as written.
        url: String,
    },
    /// The mark with this index.
    Mark(usize),
}

/// A part of a text that a report cannot show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The offset in the text, in bytes.
    pub offset: usize,
    /// One sentence.
    pub cause: String,
    /// The hint.
    pub hint: String,
}

impl Problem {
    /// A problem at `offset`.
    pub fn new(offset: usize, cause: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem { offset, cause: cause.into(), hint: hint.into() }
    }
}

/// Returns the URL for a link to a URL at an offset, or its problem.
pub type Links<'a> = &'a dyn Fn(&str, usize) -> Result<String, Problem>;

/// The pieces of `text`. `marks` are the offsets of HTML comments, each alone on its line, that
/// become [`Piece::Mark`]; other comments are removed.
///
/// # Errors
/// The first part that a report cannot show.
pub fn pieces(text: &str, marks: &[usize], links: Links) -> Result<Vec<Piece>, Problem> {
    let mut splitter =
        Splitter { text, marks, links, pieces: Vec::new(), chunk: None, edits: Vec::new() };
    let events: Vec<(Event, Range<usize>)> =
        Parser::new_ext(text, OPTIONS).into_offset_iter().collect();
    let mut at = 0;
    while let Some((event, range)) = events.get(at) {
        let length = block_length(&events[at..]);
        splitter.block(&events[at..at + length], event, range.clone())?;
        at += length;
    }
    splitter.end_chunk();
    let found = |mark: &usize| splitter.pieces.contains(&Piece::Mark(*mark));
    match (0..marks.len()).find(|mark| !found(mark)) {
        None => Ok(splitter.pieces),
        Some(mark) => Err(Problem::new(
            marks[mark],
            "the placeholder is in a list or a quote",
            "begin its line with `{{`, after an empty line",
        )),
    }
}

/// The number of events of the block that begins with the first of `events`.
fn block_length(events: &[(Event, Range<usize>)]) -> usize {
    let mut depth = 0;
    for (i, (event, _)) in events.iter().enumerate() {
        match event {
            Event::Start(_) => depth += 1,
            Event::End(_) => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    events.len()
}

struct Splitter<'a> {
    text: &'a str,
    marks: &'a [usize],
    links: Links<'a>,
    pieces: Vec<Piece>,
    /// The blocks of text since the last other piece.
    chunk: Option<Range<usize>>,
    /// Replacements in the chunk, in order.
    edits: Vec<(Range<usize>, String)>,
}

impl Splitter<'_> {
    /// Adds a block of the top level.
    fn block(
        &mut self,
        events: &[(Event, Range<usize>)],
        first: &Event,
        range: Range<usize>,
    ) -> Result<(), Problem> {
        match first {
            Event::Start(Tag::HtmlBlock) => return self.html(range),
            Event::Start(Tag::Heading { level, .. }) => {
                self.check(events, true)?;
                self.end_chunk();
                let level = *level as u8;
                self.pieces.push(Piece::Heading { level, text: plain(events) });
            }
            Event::Start(Tag::Paragraph) if is_images(events) => {
                self.end_chunk();
                for (i, (event, range)) in events.iter().enumerate() {
                    let Event::Start(Tag::Image { dest_url, .. }) = event else { continue };
                    let length = block_length(&events[i..]);
                    self.pieces.push(Piece::Image {
                        offset: range.start,
                        text: plain(&events[i..i + length]),
                        url: dest_url.to_string(),
                    });
                }
            }
            _ => {
                self.check(events, false)?;
                self.edit_links(events)?;
                self.extend_chunk(range);
            }
        }
        Ok(())
    }

    /// Adds a mark, or removes a comment.
    fn html(&mut self, range: Range<usize>) -> Result<(), Problem> {
        let html = &self.text[range.clone()];
        let mut rest = html;
        while let Some(comment) = rest.trim_start().strip_prefix("<!--") {
            let Some((_, after)) = comment.split_once("-->") else { break };
            let offset = range.end - comment.len() - "<!--".len();
            if let Some(mark) = self.marks.iter().position(|mark| *mark == offset) {
                self.end_chunk();
                self.pieces.push(Piece::Mark(mark));
            }
            rest = after;
        }
        match rest.trim() {
            "" => Ok(()),
            left => Err(is_html(range.start + html.find(left).unwrap_or_default())),
        }
    }

    /// Rejects what a report cannot show in `events`, a block.
    fn check(&self, events: &[(Event, Range<usize>)], is_heading: bool) -> Result<(), Problem> {
        for (i, (event, range)) in events.iter().enumerate() {
            let refuse = |cause: &str, hint: &str| Err(Problem::new(range.start, cause, hint));
            match event {
                Event::Html(html) | Event::InlineHtml(html) if !is_comment(html) => {
                    return Err(is_html(range.start));
                }
                Event::Start(Tag::Heading { .. }) if !(is_heading && i == 0) => {
                    return refuse("a heading is in a list or a quote", "begin its line with `#`");
                }
                Event::Start(Tag::Image { dest_url, .. }) => {
                    let cause = format!("the image `{dest_url}` is within text");
                    return refuse(&cause, "put it into a paragraph of its own");
                }
                Event::Start(Tag::Link { link_type, .. })
                    if !matches!(link_type, LinkType::Inline | LinkType::Autolink)
                        && self.text[range.clone()].starts_with("[^") =>
                {
                    return refuse("footnotes are not supported", "write the note in the text");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes the replacements of links and comments in `events`.
    fn edit_links(&mut self, events: &[(Event, Range<usize>)]) -> Result<(), Problem> {
        // The end of the last event within a link is the end of the link's text.
        let mut open: Vec<usize> = Vec::new();
        let mut edits = Vec::new();
        for (event, range) in events {
            match event {
                Event::Html(_) | Event::InlineHtml(_) => {
                    edits.push((range.clone(), String::new()));
                }
                Event::Start(Tag::Link { .. }) => open.push(range.start + 1),
                Event::End(TagEnd::Link) => _ = open.pop(),
                _ => {}
            }
            if !matches!(event, Event::Start(Tag::Link { .. })) {
                open.iter_mut().for_each(|end| *end = range.end.max(*end));
            }
            let Event::Start(Tag::Link { link_type, dest_url, title, .. }) = event else {
                continue;
            };
            if matches!(link_type, LinkType::Autolink | LinkType::Email) {
                continue;
            }
            let url = (self.links)(dest_url, range.start)?;
            if *link_type == LinkType::Inline && url == dest_url.as_ref() {
                continue;
            }
            let from = self.end_of_text(range, *link_type, events);
            // The range of a link such as `[a][]` ends before its last two brackets.
            let is_collapsed = *link_type == LinkType::Collapsed
                && self.text[range.end..].starts_with("[]")
                && from == range.end - 1;
            let end = if is_collapsed { range.end + 2 } else { range.end };
            let title = match title.as_ref() {
                "" => String::new(),
                title => format!(" \"{}\"", escape_title(title)),
            };
            edits.push((from..end, format!("](<{}>{title})", escape_url(&url))));
        }
        edits.sort_by_key(|(range, _)| range.start);
        let (Some((_, first)), Some((_, last))) = (events.first(), events.last()) else {
            return Ok(());
        };
        let block = first.start..last.end;
        // The parser's ranges of unusual links are not exact.
        let edited = edited(self.text, block.clone(), &edits);
        let read: Vec<_> = Parser::new_ext(&edited, OPTIONS).map(|event| (event, 0..0)).collect();
        if !edits.is_empty() && plain(&read) != plain(events) {
            let hint = "write it as `[text](URL)`, with a backslash before brackets in the text";
            return Err(Problem::new(block.start, "a link of this block is ambiguous", hint));
        }
        self.edits.append(&mut edits);
        Ok(())
    }

    /// The offset of the bracket that ends the text of a link.
    fn end_of_text(
        &self,
        link: &Range<usize>,
        link_type: LinkType,
        events: &[(Event, Range<usize>)],
    ) -> usize {
        match link_type {
            LinkType::Collapsed if self.text[link.clone()].ends_with("[]") => link.end - 3,
            LinkType::Shortcut | LinkType::Collapsed => link.end - 1,
            // A label contains no brackets, except escaped ones.
            LinkType::Reference => {
                let label = &self.text[link.start..link.end - 1];
                let is_start = |&(at, _): &(usize, &str)| !label[..at].ends_with('\\');
                let start = label.rmatch_indices('[').find(is_start);
                start.map_or(link.end - 1, |(at, _)| link.start + at - 1)
            }
            _ => {
                let inside = |range: &Range<usize>| {
                    range != link && range.start > link.start && range.end < link.end
                };
                let ends = events.iter().filter(|(_, range)| inside(range));
                let last = ends.map(|(_, range)| range.end).max().unwrap_or(link.start + 1);
                self.text[last..link.end].find(']').map_or(last, |at| last + at)
            }
        }
    }

    fn extend_chunk(&mut self, range: Range<usize>) {
        match &mut self.chunk {
            Some(chunk) => {
                // Between two blocks are only empty lines, comments and definitions of links.
                let gap = &self.text[chunk.end..range.start];
                if !gap.trim().is_empty() {
                    let has_break = self.text[..chunk.end].ends_with('\n');
                    let gap = if has_break { "\n" } else { "\n\n" };
                    self.edits.push((chunk.end..range.start, gap.to_owned()));
                }
                chunk.end = range.end;
            }
            None => {
                // The indentation of the first line is not in the range of the block.
                let line = self.text[..range.start].rfind('\n').map_or(0, |at| at + 1);
                let is_indented = self.text[line..range.start].trim().is_empty();
                let start = if is_indented { line } else { range.start };
                self.chunk = Some(start..range.end);
            }
        }
    }

    fn end_chunk(&mut self) {
        let mut edits = std::mem::take(&mut self.edits);
        let Some(chunk) = self.chunk.take() else { return };
        edits.sort_by_key(|(range, _)| range.start);
        let written = edited(self.text, chunk, &edits);
        self.pieces.push(Piece::Text(written.trim_end().to_owned()));
    }
}

/// The text in `range` with replacements, which are sorted.
fn edited(text: &str, range: Range<usize>, edits: &[(Range<usize>, String)]) -> String {
    let mut edited = String::new();
    let mut at = range.start;
    for (replaced, replacement) in edits {
        edited.push_str(text.get(at..replaced.start).unwrap_or_default());
        edited.push_str(replacement);
        at = replaced.end;
    }
    edited.push_str(text.get(at..range.end).unwrap_or_default());
    edited
}

fn is_html(offset: usize) -> Problem {
    let hint = "write Markdown, put it between backticks, or show an `.html` file of a stage";
    Problem::new(offset, "HTML is not shown in Markdown", hint)
}

fn is_comment(html: &str) -> bool {
    let html = html.trim();
    html.starts_with("<!--") && html.ends_with("-->")
}

/// Whether a paragraph consists of images, spaces and line breaks.
fn is_images(paragraph: &[(Event, Range<usize>)]) -> bool {
    let mut at = 1;
    let mut images = 0;
    while let Some((event, _)) = paragraph.get(at) {
        match event {
            Event::Start(Tag::Image { .. }) => {
                images += 1;
                at += block_length(&paragraph[at..]);
                continue;
            }
            Event::SoftBreak | Event::HardBreak => {}
            Event::Text(text) if text.trim().is_empty() => {}
            Event::End(TagEnd::Paragraph) => return images > 0,
            _ => return false,
        }
        at += 1;
    }
    false
}

/// The ranges of code spans, code blocks and HTML comments in `text`.
pub fn verbatim(text: &str) -> Vec<Range<usize>> {
    let events = Parser::new_ext(text, OPTIONS).into_offset_iter();
    let is_verbatim = |event: &Event| match event {
        Event::Code(_) | Event::Start(Tag::CodeBlock(_)) => true,
        Event::Html(html) | Event::InlineHtml(html) => is_comment(html),
        _ => false,
    };
    events.filter(|(event, _)| is_verbatim(event)).map(|(_, range)| range).collect()
}

/// The text of events, without markup.
fn plain(events: &[(Event, Range<usize>)]) -> String {
    let mut plain = String::new();
    for (event, _) in events {
        match event {
            Event::Text(text) | Event::Code(text) => plain.push_str(text),
            Event::SoftBreak | Event::HardBreak => plain.push(' '),
            _ => {}
        }
    }
    plain.trim().to_owned()
}

fn escape_title(title: &str) -> String {
    title.replace('\\', "\\\\").replace('"', "\\\"").replace('|', "\\|")
}

fn escape_url(url: &str) -> String {
    url.replace('\\', "%5C").replace('<', "%3C").replace('>', "%3E").replace('|', "%7C")
}

/// The anchor of a heading, as GitHub forms it, without characters other than letters, digits and
/// hyphens.
pub fn slug(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let slug: String = kept.map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    if slug.contains(char::is_alphanumeric) { slug } else { "section".to_owned() }
}

/// The anchors of a document.
#[derive(Clone, Debug, Default)]
pub struct Anchors(BTreeSet<String>);

impl Anchors {
    /// Adds an anchor; returns whether it is new.
    pub fn insert(&mut self, id: &str) -> bool {
        self.0.insert(id.to_owned())
    }

    /// Adds `id`, with a number if there is such an anchor already.
    pub fn unique(&mut self, id: &str) -> String {
        let numbered = (1..).map(|n| format!("{id}-{n}"));
        let mut all = std::iter::once(id.to_owned()).chain(numbered);
        all.find(|id| self.0.insert(id.clone())).unwrap_or_default()
    }

    /// Whether it is one of the anchors.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pieces of a text, one per line or paragraph; links get the prefix `to/`.
    fn split(text: &str) -> Result<Vec<Piece>, Problem> {
        pieces(text, &[], &|url, _| Ok(format!("to/{url}")))
    }

    fn texts(text: &str) -> Vec<String> {
        let shown = |piece| match piece {
            Piece::Text(text) => text,
            other => format!("{other:?}"),
        };
        split(text).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn a_text_is_split_at_headings_and_images() {
        let text = "Before.\n\n# A *b* `c`\n\n- x\n- y\n\n| h |\n| - |\n| 1 |\n\nSub\nhead\n----\n\
                    ![one](a.svg)\n![t*w*o](<b c.png> \"title\")\n\n    # code\n\n\
                    ```\n# code\n```\n";
        let image = |offset: usize, text: &str, url: &str| Piece::Image {
            offset,
            text: text.into(),
            url: url.into(),
        };
        let heading = |level: u8, text: &str| Piece::Heading { level, text: text.into() };
        assert_eq!(
            split(text).unwrap(),
            [
                Piece::Text("Before.".into()),
                heading(1, "A b c"),
                Piece::Text("- x\n- y\n\n| h |\n| - |\n| 1 |".into()),
                heading(2, "Sub head"),
                image(text.find("![one").unwrap(), "one", "a.svg"),
                image(text.find("![t").unwrap(), "two", "b c.png"),
                Piece::Text("    # code\n\n```\n# code\n```".into()),
            ]
        );
    }

    #[test]
    fn links_are_inline_with_the_url_of_the_caller() {
        let case = |text: &str, expected: &str| assert_eq!(texts(text), [expected], "{text}");
        case("[a *b* `]`](c \"d\")", "[a *b* `]`](<to/c> \"d\")");
        case("[a][b c], x\n\n[b  C]: <u v> 'a \"t\"'\n", "[a](<to/u v> \"a \\\"t\\\"\"), x");
        case("[b][] and [b]\n\n[b]: u\n", "[b](<to/u>) and [b](<to/u>)");
        case("[a [b\\]](c)\n", "[a [b\\]](<to/c>)");
        case("[a\\]](c)\n", "[a\\]](<to/c>)");
        case("[](c)\n", "[](<to/c>)");
        case("x\n\n[b]: u\n\ny [b]\n", "x\n\ny [b](<to/u>)");
        case("<https://a.b> [x] `[b]`\n\n[b]: u\n", "<https://a.b> [x] `[b]`");
        assert_eq!(
            texts("- [a](b)\n\n  | h |\n  | - |\n  | [c](d) |\n"),
            ["- [a](<to/b>)\n\n  | h |\n  | - |\n  | [c](<to/d>) |"]
        );
        let refuse = |_: &str, offset: usize| Err(Problem::new(offset, "no", "write"));
        assert_eq!(pieces("x [a](b)", &[], &refuse), Err(Problem::new(2, "no", "write")));
    }

    #[test]
    fn comments_are_removed_and_marks_kept() {
        let text =
            "a <!-- x --> b\n<!--1-->\n\n<!--2-->\n<!-- y\n# z\n-->\nc\n\n1. d\n<!--3-->\n2. e\n";
        let marks: Vec<usize> =
            ["<!--1", "<!--2", "<!--3"].iter().map(|mark| text.find(mark).unwrap()).collect();
        let found = pieces(text, &marks, &|url, _| Ok(url.to_owned())).unwrap();
        let text = |text: &str| Piece::Text(text.into());
        assert_eq!(
            found,
            [
                text("a  b"),
                Piece::Mark(0),
                Piece::Mark(1),
                text("c\n\n1. d"),
                Piece::Mark(2),
                text("2. e"),
            ]
        );
    }

    #[test]
    fn what_a_report_cannot_show_is_a_problem_with_its_place() {
        let case = |text: &str, at: &str, cause: &str| {
            let problem = split(text).unwrap_err();
            assert_eq!((problem.offset, problem.cause.as_str()), (text.find(at).unwrap(), cause));
        };
        case("a <b>c</b>", "<b>", "HTML is not shown in Markdown");
        case("a\n\n<div>\n\nb\n", "<div>", "HTML is not shown in Markdown");
        case("<!-- a --> <div>\n", "<div>", "HTML is not shown in Markdown");
        case("# a <b>\n", "<b>", "HTML is not shown in Markdown");
        case("> # a\n", "# a", "a heading is in a list or a quote");
        case("- a\n\n  b\n  ---\n", "b", "a heading is in a list or a quote");
        case("a ![b](c)\n", "![b", "the image `c` is within text");
        case("[![b](c)](d)\n", "![b", "the image `c` is within text");
        case("# ![b](c)\n", "![b", "the image `c` is within text");
        case("a[^1]\n\n[^1]: b\n", "[^1]", "footnotes are not supported");
        for text in ["- a\n  <!--x-->\n", "> <!--x-->\n", "<div>\n<!--x-->\n", "`<!--x-->`\n"] {
            let mark = text.find("<!--").unwrap();
            let problem = pieces(text, &[mark], &|url, _| Ok(url.to_owned())).unwrap_err();
            assert!(problem.offset <= mark, "{problem:?}");
        }
    }

    #[test]
    fn anchors_are_those_of_github_and_unique() {
        assert_eq!(slug("Über 2 Netze: `a_b`, c-d!"), "über-2-netze-a-b-c-d");
        assert_eq!(slug("!?"), "section");
        let mut anchors = Anchors::default();
        assert_eq!(
            ["a", "a", "a-1", "a"].map(|id| anchors.unique(id)),
            ["a", "a-1", "a-1-1", "a-2"]
        );
        assert!(anchors.has("a-2") && !anchors.insert("a") && anchors.insert("b"));
    }

    #[test]
    fn code_and_comments_are_verbatim() {
        let text = "a `b` <!-- c --> d\n\n    e\n\n```\nf\n```\n";
        let found: Vec<&str> = verbatim(text).into_iter().map(|range| text[range].trim()).collect();
        assert_eq!(found, ["`b`", "<!-- c -->", "e", "```\nf\n```"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_text_is_split_without_a_panic(text in "[-#>a\\[\\]()!`<\\\\:*|_ \n\"1.&é]{0,40}") {
            _ = split(&text);
            _ = verbatim(&text);
        }

        /// The text and the targets of links are the same in the pieces.
        #[test]
        fn links_keep_their_text_and_target(
            text in r"(\[|\]|\(|\)|a|b| |\*|`|\\|\[a\]|\(b\)|\[\]|!|<|\n){0,24}",
        ) {
            let definitions = "\n\n[a]: to-a\n[b]: to-b 'title'\n";
            let read = |text: &str| -> Vec<String> {
                let mut seen = String::new();
                for event in Parser::new_ext(text, OPTIONS) {
                    match event {
                        Event::Text(text) => seen.push_str(&text),
                        Event::Code(code) => seen.push_str(&format!("`{code}`")),
                        Event::Start(Tag::Link { dest_url, title, .. }) => {
                            seen.push_str(&format!("[{dest_url} {title}|"));
                        }
                        Event::End(_) | Event::SoftBreak | Event::HardBreak => seen.push('|'),
                        _ => {}
                    }
                }
                let parts = seen.split('|').map(str::trim).filter(|part| !part.is_empty());
                parts.map(str::to_owned).collect()
            };
            let text = format!("x{text}{definitions}");
            let keep = |url: &str, _: usize| Ok(url.to_owned());
            if let Ok(pieces) = pieces(&text, &[], &keep)
                && let [Piece::Text(written)] = pieces.as_slice()
            {
                prop_assert_eq!(read(written), read(&text), "{}", written);
            }
        }

        /// Words, lists, quotes, tables and code, without headings, images, links and HTML.
        #[test]
        fn text_without_links_keeps_its_bytes(
            blocks in prop::collection::vec("(- |> |1\\. |    )?[a-z*`_|{}.é]{1,12}", 1..6),
        ) {
            let text = blocks.join("\n\n");
            let pieces = pieces(&text, &[], &|url, _| Ok(url.to_owned())).unwrap();
            prop_assert_eq!(pieces, [Piece::Text(text)]);
        }
    }
}
