//! Figures of the page, and the sources of figures and tables.

use super::embed::data_url;
use super::escape;
use crate::report::document::{HtmlBlock, Image, Source};
use crate::report::markdown::url;
use std::fmt::Write as _;

/// The hex digits of a digest in the line that is always shown.
const DIGITS: usize = 12;

/// A figure's drawing.
pub(super) fn drawing(image: &Image, title: &str) -> String {
    match image {
        Image::Markup(markup) => format!("<div class=\"drawing\">\n{}\n</div>", markup.trim_end()),
        Image::File { media_type, bytes } => format!(
            "<div class=\"drawing card\"><img src=\"{}\" alt=\"{}\" /></div>",
            data_url(media_type, bytes),
            escape(title)
        ),
    }
}

/// HTML of the user in a frame that runs no scripts and has no access to the page.
pub(super) fn frame(html: &HtmlBlock) -> String {
    let content = format!("<!DOCTYPE html><meta charset=\"utf-8\">{}", html.html);
    format!(
        "<div class=\"drawing card\"><iframe sandbox=\"\" title=\"{}\" srcdoc=\"{}\"></iframe>\
         </div>",
        escape(&html.title),
        escape(&content)
    )
}

/// The file, its digest and, folded, the command and recipe behind it.
pub(super) fn source(source: &Source) -> String {
    if *source == Source::default() {
        return String::new();
    }
    let mut html = "<div class=\"source\">".to_owned();
    if !source.path.is_empty() {
        let extension = source.path.rsplit_once('.').map_or("file", |(_, extension)| extension);
        let _ = write!(
            html,
            "<a href=\"{}\" data-file=\"{}\" download=\"\" aria-label=\"Download {}\">{}</a>",
            url(&source.path),
            escape(&source.path),
            escape(&source.path),
            escape(&extension.to_uppercase())
        );
    }
    let name = match source.path.as_str() {
        "" => String::new(),
        path => format!("{} ", escape(path)),
    };
    let digits: String = source.digest.chars().take(DIGITS).collect();
    let summary = match digits.as_str() {
        "" => "How it was made".to_owned(),
        digits => format!("How it was made: {name}<code>{}</code>", escape(digits)),
    };
    let mut lines: Vec<(&str, String)> = Vec::new();
    if !source.command.is_empty() {
        lines.push(("command", format!("<code>{}</code>", escape(&source.command))));
    }
    if !source.digest.is_empty() {
        lines.push(("BLAKE3 digest", format!("<code>{}</code>", escape(&source.digest))));
    }
    for (name, value) in &source.recipe {
        lines.push((name, escape(value)));
    }
    if lines.is_empty() {
        return html + "</div>\n";
    }
    let _ = write!(html, "<details><summary>{summary}</summary><dl>");
    for (name, value) in lines {
        let _ = write!(html, "<dt>{}</dt><dd>{value}</dd>", escape(name));
    }
    html + "</dl></details></div>\n"
}
