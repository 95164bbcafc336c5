//! The stages that the report depends on, as a graph whose boxes lead to their results.

use super::recipe::{node_of, stage_and_values};
use super::{EXTRAS, Report};
use crate::engine::stage::{Stage as _, StageOutline, Upstream};
use crate::report::document::{Block, GraphBlock, GraphStage};
use crate::stage::aggregate::AggregateStage;
use crate::stage::evaluate::EvaluateStage;
use crate::stage::fetch::FetchStage;
use crate::stage::train::TrainStage;
use std::collections::BTreeMap;

/// The graph; `None` if the stages are unknown.
pub(super) fn graph(report: &Report) -> Option<Block> {
    let upstream = report.params.upstream.as_ref()?;
    let index: BTreeMap<&str, usize> =
        upstream.stages.iter().enumerate().map(|(i, stage)| (stage.name.as_str(), i)).collect();
    let mut arrows = Vec::new();
    for (to, stage) in upstream.stages.iter().enumerate() {
        let inputs = stage.inputs.values().flatten();
        arrows.extend(inputs.filter_map(|name| Some((*index.get(name.as_str())?, to))));
    }
    arrows.sort_unstable();
    arrows.dedup();
    let figures = figures(report, upstream);
    let stage = |stage: &StageOutline| GraphStage {
        name: stage.name.clone(),
        kind: stage.kind.clone(),
        nodes: stage.nodes,
        link: figures.get(stage.name.as_str()).cloned().or_else(|| link(stage, upstream)),
    };
    Some(Block::Graph(GraphBlock {
        id: "stages".to_owned(),
        title: "The stages behind this report".to_owned(),
        caption: "An arrow leads from a stage to one that uses its output. A stage with a link \
                  leads to its first figure, its tables or the section about it.\n"
            .to_owned(),
        stages: upstream.stages.iter().map(stage).collect(),
        arrows,
    }))
}

/// The anchor of the first figure of each stage.
fn figures<'u>(report: &Report, upstream: &'u Upstream) -> BTreeMap<&'u str, String> {
    let mut figures = BTreeMap::new();
    for figure in &report.figures {
        if let Some(node) = node_of(upstream, "figures", &figure.artifact) {
            let (stage, _) = stage_and_values(node);
            figures.entry(stage).or_insert_with(|| format!("figure-{}", figure.card.name));
        }
    }
    figures
}

/// The anchor of the section about a stage.
fn link(stage: &StageOutline, upstream: &Upstream) -> Option<String> {
    let is_extra =
        |slot: &str, node: &str| slot == EXTRAS && stage_and_values(node).0 == stage.name;
    if upstream.inputs.iter().any(|input| is_extra(&input.slot, &input.node)) {
        return Some("extras".to_owned());
    }
    let sections = [
        (FetchStage::NAME, "settings"),
        (TrainStage::NAME, "training"),
        (EvaluateStage::NAME, "all-curves"),
        (AggregateStage::NAME, "tables"),
    ];
    let section = sections.iter().find(|(kind, _)| *kind == stage.kind);
    section.map(|(_, anchor)| (*anchor).to_owned())
}
