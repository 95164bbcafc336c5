//! Where the numbers come from, and how to check them.

use super::recipe::stage_and_values;
use super::{Params, Report, ReportFigure};
use crate::engine::stage::{Stage as _, StageOutline, Upstream};
use crate::report::document::{Block, Cell, Column, GraphBlock, GraphStage, TableBlock};
use crate::report::table::Align;
use crate::stage::command::CommandStage;
use crate::stage::evaluate::EvaluateStage;
use crate::stage::fetch::FetchStage;
use crate::stage::images::ImagesStage;
use crate::stage::import::ImportStage;
use crate::stage::train::TrainStage;
use anyhow::Result;
use std::collections::BTreeSet;

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
    blocks.extend(params.upstream.as_ref().map(|upstream| Block::Graph(graph(report, upstream))));
    blocks.push(Block::Table(digests(report)));
    Ok(blocks)
}

/// The stages that the report depends on. A stage of figures is linked to the first of them, that
/// of the tables to the full tables, and others to the section about their kind.
fn graph(report: &Report, upstream: &Upstream) -> GraphBlock {
    let index = |name: &String| upstream.stages.iter().position(|stage| stage.name == *name);
    let mut arrows = Vec::new();
    for (to, stage) in upstream.stages.iter().enumerate() {
        let inputs: BTreeSet<&String> = stage.inputs.values().flatten().collect();
        arrows.extend(inputs.into_iter().filter_map(index).map(|from| (from, to)));
    }
    let first_figure = |stage: &str| {
        let nodes = report.figures.iter().filter_map(|figure| Some((report.node(figure)?, figure)));
        let of_stage = |(node, _): &(&str, &ReportFigure)| stage_and_values(node).0 == stage;
        nodes.into_iter().find(of_stage).map(|(_, figure)| figure.id())
    };
    let tables = report.node_of_tables().map(|node| stage_and_values(node).0);
    let stage = |stage: &StageOutline| GraphStage {
        name: stage.name.clone(),
        kind: stage.kind.clone(),
        nodes: stage.nodes,
        link: match tables == Some(stage.name.as_str()) {
            true => Some("tables".to_owned()),
            false => first_figure(&stage.name).or_else(|| section_about(&stage.kind)),
        },
    };
    GraphBlock {
        id: "stages".to_owned(),
        title: "The stages behind this report".to_owned(),
        caption: "Arrows go from a stage to those that read its outputs.\n".to_owned(),
        stages: upstream.stages.iter().map(stage).collect(),
        arrows,
    }
}

/// The anchor of the section about the stages of a kind.
fn section_about(kind: &str) -> Option<String> {
    let sections = [
        (FetchStage::NAME, "settings"),
        (ImagesStage::NAME, "settings"),
        (TrainStage::NAME, "training"),
        (ImportStage::NAME, "training"),
        (EvaluateStage::NAME, "all-curves"),
        (CommandStage::NAME, "extras"),
    ];
    let section = sections.iter().find(|(name, _)| *name == kind);
    section.map(|(_, anchor)| (*anchor).to_owned())
}

/// The digests of all tables and figures.
fn digests(report: &Report) -> TableBlock {
    let column = |heading: &str| Column::new(heading, Align::Left);
    let tables = report.tables.artifact.iter();
    let tables = tables.map(|(file, content)| (format!("tables/{file}"), content.to_string()));
    let figures = report.figures.iter().map(|figure| (figure.path(), figure.digest.to_string()));
    TableBlock {
        id: "digests".to_owned(),
        title: "BLAKE3 digests of tables and figures".to_owned(),
        caption: "Long tables are not copied to the report; `repro export` writes them.\n"
            .to_owned(),
        columns: vec![column("file"), column("BLAKE3 digest")],
        rows: tables
            .chain(figures)
            .map(|(file, digest)| vec![Cell::text(file), Cell::text(digest)])
            .collect(),
        ..TableBlock::default()
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
