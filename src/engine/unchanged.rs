//! Runs in which nothing changed: a snapshot of a run that left everything up to date, so that the next one need make no plan.
//!
//! A plan follows from the pipeline file, the profile, this program and the project's files; a node's key from the plan and
//! the results upstream; a result from its entry. A [`Snapshot`] names the first by their digests ([`Origin`]), and of each node its
//! key, the digest of its entry's file and its outputs. Where all of these are as they were, planning and looking anew
//! would find every node in the cache, under the key that it had.
//!
//! Nothing is trusted that a lookup would not trust: each entry is read, each object looked at. Whatever has been removed,
//! damaged or edited, the snapshot does not hold, and the run makes its plan. A snapshot that is torn, foreign or of another
//! program is none. Runs of some targets, with `-S`, `--force` or `--locked`, and those in which a fallback is used, have none.
//!
//! Knows no stage kind.

use super::entry::{Entry, Stored};
use super::envelope;
use super::files::Files;
use super::key::{Artifact, Digest, Key};
use super::plan::{NodeId, Plan};
use super::stage::Declared;
use super::store::Store;
use crate::fs;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

/// Stands for the sources that this program was built from, those of its libraries included.
const PROGRAM: &str = env!("REPRO_SOURCES");

/// How many nodes are worth a thread.
const WORTH: usize = 500;

/// What a plan is made from, besides the project's files.
pub struct Origin<'a> {
    /// The project's folder, absolute.
    pub project: &'a Path,
    /// The pipeline file.
    pub pipeline: &'a Path,
    /// What is in it.
    pub text: &'a [u8],
    /// The profile that was asked for.
    pub profile: Option<&'a str>,
}

impl Origin<'_> {
    /// What its snapshot is called: there is one for each profile of a pipeline file.
    fn name(&self) -> Result<Digest> {
        let paths = [self.project, self.pipeline].map(|path| path.as_os_str().as_encoded_bytes());
        digest(&(paths, self.profile))
    }

    fn digest(&self) -> Result<Digest> {
        digest(&(PROGRAM, self.profile, Digest::of(self.text)))
    }
}

fn digest(of: &impl Serialize) -> Result<Digest> {
    let bytes = serde_json::to_vec(of).context("cannot name a snapshot")?;
    Ok(Digest::of(&bytes))
}

/// A run of a whole pipeline that left everything up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// See [`Origin`].
    origin: Digest,
    /// The profile, if there is one.
    pub profile: Option<String>,
    /// The stage kinds, by name.
    kinds: Vec<String>,
    /// What the stages declare of the project's files, and what that was.
    files: Vec<(Vec<Declared>, Artifact)>,
    /// By node, the outputs that are laid out for people.
    pub exports: Vec<(String, Artifact)>,
    /// Inputs before those that use them.
    pub nodes: Vec<Node>,
}

/// A node whose result is in the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    kind: usize,
    /// Its key.
    pub key: Key,
    /// Of the file of its entry.
    entry: Digest,
    /// What it took when it ran.
    pub seconds: f64,
    objects: Vec<Stored>,
}

impl Snapshot {
    /// Of a run of all of `plan`, with profile `profile`, that came to `artifacts`; none if a node is not cached, or not under its own key.
    pub fn of(
        origin: &Origin,
        plan: &Plan,
        profile: Option<&str>,
        store: &Store,
        artifacts: &BTreeMap<NodeId, Arc<Artifact>>,
    ) -> Result<Option<Snapshot>> {
        let mut snapshot = Snapshot {
            origin: origin.digest()?,
            profile: profile.map(str::to_owned),
            kinds: Vec::new(),
            files: Vec::new(),
            exports: Vec::new(),
            nodes: Vec::with_capacity(plan.nodes.len()),
        };
        let mut declared: BTreeMap<&[Declared], Artifact> = BTreeMap::new();
        for id in plan.ids() {
            let node = plan.node(id);
            let Some(artifact) = artifacts.get(&id) else { return Ok(None) };
            let key = plan.recipe(id, false, |up| &*artifacts[&up])?.key();
            let Some(bytes) = store.entry_bytes(key)? else { return Ok(None) };
            let path = store.relative(&store.entry_path(key));
            let entry = envelope::unwrap(&path, &bytes).filter(|entry: &Entry| entry.artifact() == **artifact);
            let Some(entry) = entry else { return Ok(None) };
            let files = &node.question.files[..];
            if !files.is_empty() && !declared.contains_key(files) {
                declared.insert(files, plan.look_at_files(id)?);
            }
            if node.kind.delivers() {
                snapshot.exports.push((node.name.clone(), entry.artifact()));
            }
            let kind = snapshot.kind(node.kind.name());
            snapshot.nodes.push(Node {
                name: node.name.clone(),
                kind,
                key,
                entry: Digest::of(&bytes),
                seconds: entry.seconds,
                objects: entry.outputs.into_values().collect(),
            });
        }
        snapshot.files = declared.into_iter().map(|(files, artifact)| (files.to_vec(), artifact)).collect();
        Ok(Some(snapshot))
    }

    /// The number of a kind. There are few.
    fn kind(&mut self, name: &str) -> usize {
        self.kinds.iter().position(|kind| kind == name).unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        })
    }

    /// The last that was written for `origin`, if it is of this program and of the file as it is.
    pub fn read(origin: &Origin, store: &Store) -> Result<Option<Snapshot>> {
        let known: Option<Snapshot> = store.read_enveloped(&store.snapshot(origin.name()?))?;
        let digest = origin.digest()?;
        let is_sound = |known: &Snapshot| known.nodes.iter().all(|node| node.kind < known.kinds.len());
        Ok(known.filter(|known| known.origin == digest && is_sound(known)))
    }

    /// Writes it down for the next run.
    pub fn write(&self, origin: &Origin, store: &Store) -> Result<()> {
        let path = store.snapshot(origin.name()?);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        store.write_enveloped(&path, self)
    }

    /// Whether the project's files, the entries and the objects are as they were. What cannot be read is not: the run that
    /// makes its plan says why.
    pub fn holds(&self, store: &Store, files: &Files) -> bool {
        let as_before =
            |(declared, was): &(Vec<Declared>, Artifact)| files.artifact(declared).is_ok_and(|now| now == *was);
        let is_cached = |node: &Node| store.has(node.key, node.entry, &node.objects).unwrap_or(false);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(self.nodes.len() / WORTH + 1);
        let share = self.nodes.len().div_ceil(threads).max(1);
        self.files.iter().all(as_before)
            && std::thread::scope(|scope| {
                let look = |nodes| scope.spawn(move || <[Node]>::iter(nodes).all(is_cached));
                let looks: Vec<_> = self.nodes.chunks(share).map(look).collect();
                looks.into_iter().all(|look| look.join().unwrap_or(false))
            })
    }

    /// The name of a node's stage kind.
    pub fn kind_of(&self, node: &Node) -> &str {
        &self.kinds[node.kind]
    }
}
