//! The provenance of a node and of everything upstream, from the entries in the cache.

use crate::engine::cache::store::Store;
use crate::engine::key::Key;
use crate::engine::provenance::{NodeProvenance, Provenance};
use crate::engine::spec::plan::{NodeId, Plan};
use anyhow::Result;

/// The provenance of the node `id`. `key` returns the keys of it and of nodes upstream.
pub fn provenance(
    plan: &Plan,
    store: &Store,
    id: NodeId,
    key: impl Fn(NodeId) -> Result<Key>,
) -> Result<Provenance> {
    let node = |id: NodeId| -> Result<NodeProvenance> {
        let (node, key) = (plan.node(id), key(id)?);
        let record = store.entry(key)?.map(|entry| entry.record());
        Ok(NodeProvenance { name: node.name.clone(), kind: node.kind.name(), key, record })
    };
    Ok(Provenance {
        node: plan.node(id).name.clone(),
        profile: plan.profile.clone(),
        nodes: plan.closure(&[id]).into_iter().map(node).collect::<Result<_>>()?,
    })
}
