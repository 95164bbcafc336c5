//! Snapshots of runs that left all nodes up to date. If nothing has changed since, the next run
//! needs no plan.
//!
//! A plan depends on the pipeline file, the profile, this program and the project's files; a key
//! depends on the plan and the results upstream. A [`Snapshot`] contains a digest of the plan's
//! [`Origin`], the digests of the project's files and, for each node, its key, the digest of its
//! entry and its outputs. If all of these are unchanged, a plan would find every node in the cache
//! under the same key.
//!
//! A snapshot is checked like a lookup: each entry is read, unless its file is known to be
//! unchanged ([`Witness`](crate::fs::Witness)), and each object is checked. If a file was removed,
//! damaged or edited, or the snapshot is unreadable or from another program, the run computes its
//! plan. Runs with targets, `-S`, `--force` or `--locked`, and runs that use a fallback, have no
//! snapshot.
//!
//! Knows no stage kind.

use crate::engine::cache::entry::Stored;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Digest, Key};
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::spec::sources::Sources;
use crate::engine::stage::Declared;
use crate::fs::Stat;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

/// A digest of the sources of this program and of its dependencies.
const PROGRAM: &str = env!("REPRO_SOURCES");

/// The smallest number of nodes for which another thread is started.
const PER_THREAD: usize = 500;

/// The data that a plan depends on, except the project's files.
pub struct Origin<'a> {
    /// The project's folder, absolute.
    pub project: &'a Path,
    /// The pipeline file.
    pub pipeline: &'a Path,
    /// Its content.
    pub text: &'a [u8],
    /// The requested profile.
    pub profile: Option<&'a str>,
}

impl Origin<'_> {
    /// The name of its snapshot. There is one for each profile of a pipeline file.
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

/// The results of a run that left the whole pipeline up to date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// See [`Origin`].
    origin: Digest,
    /// The profile, if there is one.
    pub profile: Option<String>,
    /// The stage kinds, by name.
    kinds: Vec<String>,
    /// The files of the project that the stages declare, and their digests.
    files: Vec<(Vec<Declared>, Artifact)>,
    /// The exported outputs, by node.
    pub exports: Vec<(String, Artifact)>,
    /// The nodes; inputs come before their users.
    pub nodes: Vec<NodeSnapshot>,
}

/// A node whose result is in the cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// Its name.
    pub name: String,
    kind: usize,
    /// Its key.
    pub key: Key,
    /// The digest of its entry's file.
    entry: Digest,
    /// The metadata of that file, if every change to the file would change the metadata.
    stat: Option<Stat>,
    /// The duration of the job that computed it, in seconds.
    pub seconds: f64,
    objects: Vec<Stored>,
}

impl Snapshot {
    /// The snapshot of a run of `plan` with profile `profile` and results `artifacts`; `None` if a
    /// node is not cached under its own key.
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
            let key = plan.recipe(id, |_| false, |up| &*artifacts[&up])?.key();
            let found = store.entry_with_digest(key)?;
            let Some((entry, file)) = found.filter(|(entry, _)| entry.artifact() == **artifact)
            else {
                return Ok(None);
            };
            let files = &node.resolved.files[..];
            if !files.is_empty() && !declared.contains_key(files) {
                declared.insert(files, plan.source_files(id)?);
            }
            if node.kind.exports() {
                snapshot.exports.push((node.name.clone(), entry.artifact()));
            }
            let kind = snapshot.kind(node.kind.name());
            snapshot.nodes.push(NodeSnapshot {
                name: node.name.clone(),
                kind,
                key,
                entry: file,
                stat: None,
                seconds: entry.seconds,
                objects: entry.outputs.into_values().collect(),
            });
        }
        snapshot.files =
            declared.into_iter().map(|(files, artifact)| (files.to_vec(), artifact)).collect();
        Ok(Some(snapshot))
    }

    /// The index of a kind. There are few.
    fn kind(&mut self, name: &str) -> usize {
        self.kinds.iter().position(|kind| kind == name).unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        })
    }

    /// Reads the snapshot of `origin`; `None` if there is none, it is unreadable, or it is from
    /// another program or another content of the pipeline file.
    pub fn read(origin: &Origin, store: &Store) -> Result<Option<Snapshot>> {
        let known: Option<Snapshot> = store.read_snapshot(origin.name()?).ok().flatten();
        let digest = origin.digest()?;
        let is_sound =
            |known: &Snapshot| known.nodes.iter().all(|node| node.kind < known.kinds.len());
        Ok(known.filter(|known| known.origin == digest && is_sound(known)))
    }

    /// Writes the snapshot for the next run.
    pub fn write(&self, origin: &Origin, store: &Store) -> Result<()> {
        store.write_snapshot(origin.name()?, self)
    }

    /// Whether the project's files, the entries and the objects are unchanged. Unreadable files
    /// count as changed; the run then computes its plan and reports the error. Records the metadata
    /// of the entries' files.
    pub fn holds(&mut self, store: &Store, files: &Sources) -> bool {
        let is_unchanged = |(declared, earlier): &(Vec<Declared>, Artifact)| {
            files.artifact(declared).is_ok_and(|now| now == *earlier)
        };
        if !self.files.iter().all(is_unchanged) {
            return false;
        }
        let witness = store.witness();
        let is_cached = |NodeSnapshot { key, entry, stat, objects, .. }: &mut NodeSnapshot| {
            store.has((*key, *entry), stat, &witness, objects).unwrap_or(false)
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(self.nodes.len() / PER_THREAD + 1);
        let per_thread = self.nodes.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let check = |nodes: &'_ mut [NodeSnapshot]| nodes.iter_mut().all(is_cached);
            let checks: Vec<_> = self
                .nodes
                .chunks_mut(per_thread)
                .map(|nodes| scope.spawn(move || check(nodes)))
                .collect();
            checks.into_iter().all(|check| check.join().unwrap_or(false))
        })
    }

    /// The number of entries whose metadata is recorded.
    pub fn known(&self) -> usize {
        self.nodes.iter().filter(|node| node.stat.is_some()).count()
    }

    /// The name of a node's stage kind.
    pub fn kind_of(&self, node: &NodeSnapshot) -> &str {
        &self.kinds[node.kind]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{TestSpace, overwrite, plan};
    use crate::fs::Witness;
    use proptest::prelude::*;

    const YAML: &str =
        "stages:\n  s: { source: { text: [x, v], width: [1, 2] } }\n  g: { gather: { all: s } }\n";

    fn origin(text: &str) -> Origin<'_> {
        let (project, pipeline) = (Path::new("/project"), Path::new("pipeline.yaml"));
        Origin { project, pipeline, text: text.as_bytes(), profile: None }
    }

    /// Runs `yaml` and writes its snapshot.
    fn run(space: &TestSpace, yaml: &str) -> Snapshot {
        let (plan, ran) = (plan(yaml).unwrap(), space.run(yaml));
        let artifact = |id: NodeId| (id, Arc::new(ran.artifacts[&plan.node(id).name].clone()));
        let artifacts = plan.ids().map(artifact).collect();
        let snapshot =
            Snapshot::of(&origin(yaml), &plan, None, &space.store, &artifacts).unwrap().unwrap();
        snapshot.write(&origin(yaml), &space.store).unwrap();
        snapshot
    }

    /// Whether there is a valid snapshot of `yaml`.
    fn holds(space: &TestSpace, yaml: &str) -> bool {
        let snapshot = Snapshot::read(&origin(yaml), &space.store).unwrap();
        snapshot.is_some_and(|mut snapshot| snapshot.holds(&space.store, &Sources::default()))
    }

    #[test]
    fn a_missing_or_damaged_entry_or_object_invalidates_the_snapshot_until_it_is_restored() {
        let space = TestSpace::new();
        let snapshot = run(&space, YAML);
        assert!(holds(&space, YAML));
        for node in &snapshot.nodes {
            let (entry, object) =
                (space.store.entry_path(node.key), space.store.object(node.objects[0].digest));
            for path in [entry, object] {
                let moved = path.with_extension("moved");
                std::fs::rename(&path, &moved).unwrap();
                assert!(!holds(&space, YAML), "{} is missing", path.display());
                std::fs::write(&path, "other").unwrap();
                assert!(!holds(&space, YAML), "{} is damaged", path.display());
                std::fs::rename(&moved, &path).unwrap();
                assert!(holds(&space, YAML));
            }
        }
    }

    #[test]
    fn an_entry_whose_file_may_have_changed_is_read() {
        let space = TestSpace::new();
        let mut snapshot = run(&space, YAML);
        let (key, entry) = (snapshot.nodes[0].key, snapshot.nodes[0].entry);
        let witness = Witness::trusting(space.path());
        let has = |snapshot: &mut Snapshot| {
            space.store.has((key, entry), &mut snapshot.nodes[0].stat, &witness, &[]).unwrap()
        };
        assert!(has(&mut snapshot) && snapshot.known() == 1, "its state is recorded");
        let path = space.store.entry_path(key);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert!(has(&mut snapshot), "another file, with the same bytes");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        assert!(!has(&mut snapshot));
    }

    #[test]
    fn a_truncated_snapshot_or_one_of_another_program_or_profile_is_ignored() {
        let space = TestSpace::new();
        let snapshot = run(&space, YAML);
        let path = space.store.snapshot(origin(YAML).name().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        for truncated in [&b""[..], b"{", &bytes[..bytes.len() / 2]] {
            overwrite(&path, truncated);
            assert!(!holds(&space, YAML));
        }
        let other = Snapshot { origin: Digest::of(b"another program"), ..snapshot.clone() };
        other.write(&origin(YAML), &space.store).unwrap();
        assert!(!holds(&space, YAML));
        let profile = Origin { profile: Some("p"), ..origin(YAML) };
        std::fs::write(space.store.snapshot(profile.name().unwrap()), &bytes).unwrap();
        assert_eq!(Snapshot::read(&profile, &space.store).unwrap(), None, "another profile's");
        snapshot.write(&origin(YAML), &space.store).unwrap();
        assert!(holds(&space, YAML));
    }

    #[test]
    fn a_run_with_a_node_that_is_not_under_its_own_key_has_no_snapshot() {
        let space = TestSpace::new();
        let (plan, ran) = (plan(YAML).unwrap(), space.run(YAML));
        let artifact = |id: NodeId| (id, Arc::new(ran.artifacts[&plan.node(id).name].clone()));
        let mut artifacts: BTreeMap<_, _> = plan.ids().map(artifact).collect();
        let key = plan.recipe(NodeId(0), |_| false, |up| &*artifacts[&up]).unwrap().key();
        let of = |artifacts: &_| {
            Snapshot::of(&origin(YAML), &plan, None, &space.store, artifacts).unwrap()
        };
        assert!(of(&artifacts).is_some());
        artifacts.insert(NodeId(0), Arc::default());
        assert_eq!(of(&artifacts), None, "another artifact");
        space.store.remove_result(key).unwrap();
        assert_eq!(of(&plan.ids().map(artifact).collect()), None, "no entry");
    }

    fn pipelines() -> impl Strategy<Value = String> {
        let texts = prop::sample::select(vec!["x", "[x]", "[x, y]", "[y, x]", "[z, x, y]"]);
        let widths = prop::sample::select(vec!["1", "[1, 2]", "[2, 3]"]);
        let last = prop::sample::select(vec!["pair: { left: s }", "gather: { all: s }"]);
        (texts, widths, last).prop_map(|(texts, widths, last)| {
            let source = format!("{{ text: {texts}, width: {widths} }}");
            format!("stages:\n  s: {{ source: {source} }}\n  l: {{ {last} }}\n")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 32, failure_persistence: None, ..ProptestConfig::default()
        })]

        #[test]
        fn a_snapshot_that_holds_has_the_nodes_and_keys_of_a_new_plan(
            yamls in prop::collection::vec(pipelines(), 1..5)
        ) {
            let space = TestSpace::new();
            let mut last = None;
            for yaml in &yamls {
                let is_same = last == Some(yaml);
                prop_assert_eq!(holds(&space, yaml), is_same, "it holds for the same file only");
                run(&space, yaml);
                last = Some(yaml);
                prop_assert!(holds(&space, yaml));
                let snapshot = Snapshot::read(&origin(yaml), &space.store).unwrap().unwrap();
                let test_run = space.test_run(yaml);
                let plan_status = test_run.plan_status();
                let planned: Vec<_> = test_run.plan.ids().map(|id| {
                    let node = test_run.plan.node(id);
                    (node.name.clone(), node.kind.name().to_owned(), plan_status.checked[&id].key)
                }).collect();
                let recorded: Vec<_> = snapshot.nodes.iter().map(|node| {
                    (node.name.clone(), snapshot.kind_of(node).to_owned(), node.key)
                }).collect();
                prop_assert_eq!(recorded, planned);
            }
        }
    }
}
