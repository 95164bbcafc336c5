//! The sources of figures and tables, in one line each and a folded recipe.

use super::url;
use crate::report::document::Source;
use crate::report::html::escape;
use crate::report::outline::Entry;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The hex digits of a digest in the text. Enough to find it, and whole ones are in the page.
const DIGITS: usize = 16;

/// The recipes that the text has so far. Figures and tables share most of theirs, which is written
/// once.
#[derive(Default)]
pub(super) struct Recipes {
    /// The end of a recipe, and the block that has it: anchor and label.
    ends: BTreeMap<Vec<(String, String)>, (String, String)>,
}

impl Recipes {
    /// The source as HTML, which Markdown permits and in which a whole command fits into a fold.
    pub(super) fn write(&mut self, source: &Source, at: &Entry) -> String {
        let mut parts = Vec::new();
        if !source.path.is_empty() {
            parts.push(format!("<a href=\"{}\">{}</a>", url(&source.path), escape(&source.path)));
        }
        if !source.digest.is_empty() {
            let digits: String = source.digest.chars().take(DIGITS).collect();
            parts.push(format!("BLAKE3 <code>{}</code>", escape(&digits)));
        }
        if source.command.is_empty() && source.recipe.is_empty() {
            return match parts.is_empty() {
                true => String::new(),
                false => format!("<sub>{}</sub>\n\n", parts.join(" · ")),
            };
        }
        parts.push("how it was made".to_owned());
        let mut text =
            format!("<details>\n<summary><sub>\n{}\n</sub></summary>\n", parts.join(" · "));
        if !source.command.is_empty() {
            let _ = writeln!(text, "<pre>{}</pre>", one_line(&source.command));
        }
        let lines = self.lines(&source.recipe, at);
        if !lines.is_empty() {
            let _ = writeln!(text, "<ul>\n{}\n</ul>", lines.join("\n"));
        }
        text + "</details>\n\n"
    }

    /// The lines of a recipe, up to those that another block has.
    fn lines(&mut self, recipe: &[(String, String)], at: &Entry) -> Vec<String> {
        let known = (0..recipe.len())
            .find_map(|i| self.ends.get(&recipe[i..]).map(|block| (i, block.clone())));
        let own = known.as_ref().map_or(recipe.len(), |(i, _)| *i);
        let mut lines: Vec<String> = recipe[..own]
            .iter()
            .map(|(name, value)| format!("<li><b>{}</b>: {}</li>", one_line(name), one_line(value)))
            .collect();
        if let Some((_, (id, label))) = known {
            let what = if own == 0 { "as for" } else { "the rest as for" };
            lines.push(format!("<li>{what} <a href=\"#{}\">{}</a></li>", escape(&id), label));
        }
        for i in 0..own {
            self.ends
                .entry(recipe[i..].to_vec())
                .or_insert_with(|| (at.id.clone(), at.label.clone()));
        }
        lines
    }
}

/// Escaped text on one line: an empty line would end the HTML.
fn one_line(text: &str) -> String {
    escape(&text.replace(['\n', '\r'], " "))
}
