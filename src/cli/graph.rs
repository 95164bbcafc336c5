//! `repro graph`: the pipeline as a graph, coloured by status.

use super::args::{Common, GraphFormat};
use super::output::json;
use super::session::Session;
use crate::engine::run::status::Status;
use crate::engine::spec::plan::NodeId;
use crate::report::graph::{Block, Colour, svg};
use anyhow::Result;
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

/// The states of nodes. A box has the colour of the last of these states that one of its nodes has.
const STATES: [Colour; 3] = [
    Colour { name: "cached", fill: "#e3f4e6", line: "#3a8f4d" },
    Colour { name: "maybe-stale", fill: "#e6ecfa", line: "#5b77b8" },
    Colour { name: "stale", fill: "#ffe9cf", line: "#c9701a" },
];

/// The content of a box: a stage or, with `--full`, a node.
struct Unit {
    name: String,
    kind: &'static str,
    /// The number of its nodes in each of [`STATES`].
    states: [usize; 3],
}

impl Unit {
    fn colour(&self) -> usize {
        self.states.iter().rposition(|n| *n > 0).unwrap_or(0)
    }

    fn counts(&self) -> String {
        let counts = self.states.iter().zip(STATES).filter(|(n, _)| **n > 0);
        counts.map(|(n, state)| format!("{n} {}", state.name)).collect::<Vec<_>>().join(", ")
    }

    fn label(&self, full: bool) -> String {
        match self.states.iter().sum::<usize>() {
            _ if full => self.name.clone(),
            1 => format!("{} ({})", self.name, self.kind),
            n => format!("{} ({}, {n} nodes)", self.name, self.kind),
        }
    }

    fn block(&self, full: bool) -> Block {
        let nodes = self.states.iter().sum::<usize>();
        let lines = match full {
            true => vec![self.name.clone()],
            false if nodes == 1 => vec![self.name.clone(), self.kind.to_owned(), self.counts()],
            false => {
                vec![self.name.clone(), format!("{}, {nodes} nodes", self.kind), self.counts()]
            }
        };
        let parts = if nodes > 1 { self.states.to_vec() } else { Vec::new() };
        Block { lines, colour: self.colour(), parts }
    }
}

/// Edges point from inputs to the nodes that use them.
pub(super) fn graph(common: &Common, format: GraphFormat, full: bool) -> Result<String> {
    let session = Session::open(common)?;
    let plan = &session.plan;
    let ids: Vec<NodeId> = plan.ids().collect();
    let plan_status = session.plan_status(&ids)?;
    let mut units: Vec<Unit> = Vec::new();
    let mut unit_of_stage: HashMap<&str, usize> = HashMap::new();
    let mut unit_of: Vec<usize> = Vec::with_capacity(ids.len());
    let mut edges: BTreeSet<(usize, usize)> = BTreeSet::new();
    for id in ids {
        let node = plan.node(id);
        let known = if full { None } else { unit_of_stage.get(node.stage.as_str()).copied() };
        let unit = known.unwrap_or_else(|| {
            let name = if full { &node.name } else { &node.stage };
            units.push(Unit { name: name.clone(), kind: node.kind.name(), states: [0; 3] });
            units.len() - 1
        });
        unit_of_stage.insert(&node.stage, unit);
        unit_of.push(unit);
        let state = match plan_status.status[&id] {
            Status::Cached(_) => 0,
            Status::MaybeStale(_) => 1,
            Status::Stale(_) => 2,
        };
        units[unit].states[state] += 1;
        // In a plan, inputs come before the nodes that use them.
        edges.extend(node.upstream().into_iter().map(|up| (unit_of[up.0], unit)));
    }
    if common.json {
        let node = |unit: &Unit| {
            let [cached, maybe_stale, stale] = unit.states;
            json!({
                "name": unit.name, "label": unit.label(full),
                "cached": cached, "maybe_stale": maybe_stale, "stale": stale,
            })
        };
        let nodes: Vec<_> = units.iter().map(node).collect();
        let edges: Vec<_> =
            edges.iter().map(|(from, to)| [&units[*from].name, &units[*to].name]).collect();
        return Ok(json(json!({ "nodes": nodes, "edges": edges })));
    }
    let mut text = String::new();
    match format {
        GraphFormat::Svg => {
            let blocks: Vec<Block> = units.iter().map(|unit| unit.block(full)).collect();
            return Ok(svg(&blocks, &edges.into_iter().collect::<Vec<_>>(), &STATES));
        }
        GraphFormat::Mermaid => {
            writeln!(text, "flowchart LR")?;
            for (i, unit) in units.iter().enumerate() {
                writeln!(
                    text,
                    "  n{i}[\"{}\"]:::{}",
                    unit.label(full).replace('"', "#quot;"),
                    class(STATES[unit.colour()])
                )?;
            }
            for (from, to) in &edges {
                writeln!(text, "  n{from} --> n{to}")?;
            }
            for state in STATES {
                let (class, Colour { fill, line, .. }) = (class(state), state);
                writeln!(text, "  classDef {class} fill:{fill},stroke:{line},color:#000000")?;
            }
        }
        GraphFormat::Dot => {
            writeln!(
                text,
                "digraph {:?} {{\n  rankdir=LR;\n  node [shape=box, style=filled];",
                session.pipeline.source
            )?;
            for (i, unit) in units.iter().enumerate() {
                let Colour { fill, line, .. } = STATES[unit.colour()];
                writeln!(
                    text,
                    "  n{i} [label={:?}, fillcolor={fill:?}, color={line:?}];",
                    unit.label(full)
                )?;
            }
            for (from, to) in &edges {
                writeln!(text, "  n{from} -> n{to};")?;
            }
            writeln!(text, "}}")?;
        }
    }
    Ok(text)
}

/// The Mermaid class of a state.
fn class(state: Colour) -> String {
    state.name.replace('-', "_")
}
