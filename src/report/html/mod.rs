//! Writes a document as a page: one HTML file without network access, complete without scripts.
//!
//! The scripts of the page, `src/report/page/`, find their places by these attributes:
//!
//! - `main > header`: the title; the toolbar follows it.
//! - `section.lead`: the first screen, with `dl.facts`.
//! - `[data-hidden]`, `[data-prior]`, `[data-method]`: a table, a row, or the heading or a cell of
//!   a column, about one value of a facet, as in the CSV.
//! - `[data-facet="prior"]`: in a row, the cell with the label of the row's value.
//! - `[data-value]`: a cell, and the number by which its column is sorted.
//! - `.scroll`: the region in which a table scrolls; `figure.table#ID` is around it.
//! - `figure#ID`: a figure; `.chart[data-chart=NAME]` in it is of [`fragment`](super::fragment).
//! - `a[data-file="tables/summary.csv"]`: a link to a file beside the page, for downloads.
//! - `script[data-path="tables/summary.csv"]`: the embedded file: base64 of raw deflate.
//! - `[data-explorer="pairs"]`, `"training"`: the empty place of an explorer.
//! - `[data-provenance]`: the empty place of the provenance, at the end of its section.
//! - `script#provenance`: JSON, empty in the cache.
//!
//! `data-theme="light"` or `"dark"` on the root element overrides the reader's preference.

mod embed;
mod figure;
mod page;
mod table;
mod text;

pub use embed::{data_url, packed};
pub use page::to_html;

/// Escapes `text` for HTML and XML, including attributes. Characters that neither permits are
/// replaced.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
