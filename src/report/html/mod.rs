//! Writes a [`Document`] as a single HTML page that needs no network and no other file.
//!
//! The page is complete without scripts. Scripts find their subjects by these attributes:
//!
//! | element | attributes |
//! |---|---|
//! | column, row, or figure around a table, for one value of a facet | `data-hidden`, `data-prior`, `data-method` |
//! | cell with the label of a facet's value | `data-facet` |
//! | cell | `data-value`, the number by which to sort |
//! | link to a file of the report | `data-file`, the path of the embedded file |
//! | explorer | `data-explorer` |
//! | embedded file | `script[type="application/x-deflate"]` with `data-path`: base64 of raw deflate |
//! | provenance | `script#provenance` |

mod blocks;
mod embed;
mod prose;

use self::blocks::Writer;
use super::document::{Block, Document};
use super::provenance::PLACE;
use super::style;

/// The style sheet of the page.
const STYLE: &str = concat!(include_str!("../page.css"), include_str!("../page/scripted.css"));

/// The scripts of the page: one module.
const SCRIPT: &str = concat!(
    include_str!("../page/base.js"),
    include_str!("../page/choice.js"),
    include_str!("../page/tables.js"),
    include_str!("../page/charts.js"),
    include_str!("../page/explorers.js"),
    include_str!("../page/provenance.js"),
    include_str!("../page/main.js"),
);

/// Forbids every access to a network.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src data: blob:; base-uri 'none'; form-action 'none'";

/// The document as a page. Equal documents give equal bytes.
pub fn to_html(document: &Document) -> String {
    let mut writer = Writer::new(document);
    writer.blocks(&document.blocks);
    let (title, description) = (escape(&document.title), escape(&document.description));
    let (body, charts) = (writer.finish(), style::css());
    let files: String = document.files.iter().map(embed::file).collect();
    let has_contents = document.blocks.iter().any(|block| matches!(block, Block::Contents));
    let layout = if has_contents { " class=\"with-contents\"" } else { "" };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"description\" content=\"{description}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}{charts}</style>\n</head>\n<body{layout}>\n\
         <main id=\"top\">\n<header><h1>{title}</h1></header>\n{body}</main>\n{PLACE}\n{files}\
         <script type=\"module\">\n{SCRIPT}</script>\n</body>\n</html>\n"
    )
}

/// Escapes `text` for HTML and XML, including attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
