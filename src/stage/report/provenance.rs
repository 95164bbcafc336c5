//! Where the numbers come from, and how to check them.

use super::{Params, Report, stage_graph};
use crate::report::document::{Block, Cell, Column, TableBlock};
use anyhow::Result;

pub(super) fn section(report: &Report) -> Result<Vec<Block>> {
    let params = report.params;
    let mut text = String::new();
    if let Some(root) = params.root {
        text += &format!(
            "Root of all outputs that this report depends on: `{root}`. {}\n\n",
            root_check(params)
        );
    }
    text += &format!(
        "`{}` prints the recipe, the key and the digests of a stage, and `{}` exports a stage's \
         outputs. The same pipeline gives the same bytes on every machine, so that a digest can be \
         checked by running.\n\n",
        params.command("show STAGE"),
        params.command("export STAGE DIR"),
    );
    let versions: Vec<String> =
        params.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    text += &format!("Versions: {}.\n", versions.join(", "));
    let mut blocks = vec![Block::Text(text)];
    blocks.extend(stage_graph::graph(report));
    blocks.push(Block::Table(digests(report)));
    Ok(blocks)
}

/// The digests of all tables and figures.
fn digests(report: &Report) -> TableBlock {
    let cell = |text: String| Cell { text, ..Cell::default() };
    let column = |heading: &str| Column { heading: heading.to_owned(), ..Column::default() };
    let tables = report.tables.artifact.iter();
    let tables = tables.map(|(file, content)| (format!("tables/{file}"), content.to_string()));
    let figures = report.figures.iter().map(|figure| (figure.path(), figure.digest.to_string()));
    TableBlock {
        id: "digests".to_owned(),
        title: "BLAKE3 digests of tables and figures".to_owned(),
        caption: "Long tables are not copied to the report; `repro export` writes them.\n"
            .to_owned(),
        columns: vec![column("file"), column("BLAKE3 digest")],
        rows: tables.chain(figures).map(|(file, digest)| vec![cell(file), cell(digest)]).collect(),
        source: None,
        facets: Vec::new(),
    }
}

/// How a reader can check the root.
pub(super) fn root_check(params: &Params) -> String {
    if !params.overrides.is_empty() {
        return "A run with the same overrides has the same root.".to_owned();
    }
    format!(
        "If the report depends on all other stages of the profile, this is the profile's root in \
         the lock file: `{}` writes it with the digest of every output, unless a dataset was \
         unavailable, and `{}` recomputes the outputs and fails at the first one that differs.",
        params.command("lock"),
        params.command("run --locked")
    )
}
