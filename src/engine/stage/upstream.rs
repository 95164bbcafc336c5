//! What is upstream of a node, for kinds that show it: stages, their parameters and inputs.

use crate::engine::key::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The stages upstream of a node, and the nodes in its own slots. It depends on the pipeline and on
/// results, but not on the order of stages, values or references in the pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The stages; inputs come before their users, and otherwise they are sorted by name.
    pub stages: Vec<StageOutline>,
    /// The node's own inputs, sorted by slot and name.
    pub inputs: Vec<NamedInput>,
}

/// A stage with nodes upstream of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageOutline {
    /// The name of the stage.
    pub name: String,
    /// The name of its kind.
    pub kind: String,
    /// The version of its kind.
    pub version: u32,
    /// The number of its nodes that are upstream.
    pub nodes: usize,
    /// The distinct values of each parameter over these nodes, sorted: all parameters that can be
    /// part of a key, including those at their default, except empty ones. A parameter that the
    /// stage declares under `params` is called `params.NAME`. Of a fallback, only the parameters
    /// that are not at their default.
    pub params: BTreeMap<String, Vec<Json>>,
    /// By slot: the names of the stages that fill it, sorted.
    pub inputs: BTreeMap<String, Vec<String>>,
    /// By slot: the inputs whose axes are renamed, sorted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub renamed: BTreeMap<String, Vec<RenamedInput>>,
    /// The conditions of the stage, in the form of pipeline.yaml, sorted. The values are those in
    /// the names of nodes.
    #[serde(default, rename = "where", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Json>,
}

/// An input whose axes are renamed, in the form of pipeline.yaml.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenamedInput {
    /// The reference to a stage.
    pub stage: String,
    /// The new name of each renamed axis.
    pub rename: BTreeMap<String, String>,
}

/// A node in a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedInput {
    /// The slot.
    pub slot: String,
    /// The name of the node.
    pub node: String,
    /// The [`root`](crate::engine::key::root) of [`Input::artifact`](super::Input::artifact).
    pub artifact: Digest,
}
