//! Where a file comes from: its command and recipe, and the folder and anchor named after its node.

use crate::engine::stage::Upstream;
use crate::stage::report::Params;
use crate::stage::report::recipe::{recipe, stage_and_values};
use serde_json::Value as Json;

/// The command that computes the nodes.
pub(super) fn run_command(params: &Params, nodes: &[String]) -> String {
    let quoted = |node: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "@=,./_+-:%".contains(c);
        match node.chars().all(is_plain) {
            true => node.clone(),
            false => format!("'{}'", node.replace('\'', "'\\''")),
        }
    };
    let nodes: Vec<String> = nodes.iter().map(quoted).collect();
    params.command(&format!("run {}", nodes.join(" ")))
}

/// The name of the program in a recipe.
pub(super) const PROGRAM: &str = "program";

/// The program of the nodes, and their recipe back to the data.
pub(super) fn full_recipe(upstream: Option<&Upstream>, nodes: &[String]) -> Vec<(String, String)> {
    let Some(upstream) = upstream else { return Vec::new() };
    let (name, values) = stage_and_values(&nodes[0]);
    let outline = upstream.stages.iter().find(|outline| outline.name == name);
    let program = outline.and_then(|outline| outline.params.get("run"));
    let program = program.map(|values| values.iter().map(words).collect::<Vec<_>>().join("; "));
    let program = program.map(|program| (PROGRAM.to_owned(), program));
    program.into_iter().chain(recipe(upstream, name, &values)).collect()
}

/// A value as text; a list as its items.
fn words(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// The maximum length of a folder name, in bytes.
const MAX_NAME: usize = 120;

/// A folder name for a node.
pub(super) fn folder_name(node: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || "@=,.-_+".contains(c);
    let mut name = node.replace(|c| !fits(c), "-");
    while name.len() > MAX_NAME {
        name.pop();
    }
    if name.chars().all(|c| c == '.') { "extra".to_owned() } else { name }
}

/// The anchor of a file: letters, digits and single hyphens.
pub(super) fn anchor(node: &str, file: &str) -> String {
    let name = format!("extra {node} {file}").to_lowercase();
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut anchor = words.collect::<Vec<_>>().join("-");
    while anchor.len() > MAX_NAME {
        anchor.pop();
    }
    anchor
}

/// Text for a code span with single backticks.
pub(super) fn escape_code(text: &str) -> String {
    let kept = |c: char| {
        if c == '`' {
            '\''
        } else if c.is_control() {
            ' '
        } else {
            c
        }
    };
    text.chars().map(kept).collect()
}
