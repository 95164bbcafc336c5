//! Runs in which nothing changed: a snapshot of a run that left everything up to date saves the next
//! one its plan.
//!
//! A plan follows from the pipeline file, the profile, this program and the project's files; a
//! node's key from the plan and the results upstream; a result from its entry. A [`Snapshot`] names
//! the first by their digests ([`Origin`]), and of each node its key, the digest of its entry's file
//! and its outputs. Where all of these are as they were, planning and looking anew would find every
//! node in the cache, under the key that it had.
//!
//! Nothing is trusted that a lookup would not trust: each entry is read, unless its file shows that
//! it is what it was ([`Witness`]), and each object looked at. If anything has been removed, damaged
//! or edited, the snapshot does not hold, and the run makes its plan. A snapshot that is torn,
//! foreign or of another program is none. Runs of some targets, with `-S`, `--force` or `--locked`,
//! and those in which a fallback is used, have none.
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
    /// Of the file of its entry.
    entry: Digest,
    /// What tells that file from what it was, if anything does.
    stat: Option<Stat>,
    /// What it took when it ran.
    pub seconds: f64,
    objects: Vec<Stored>,
}

impl Snapshot {
    /// Of a run of all of `plan`, with profile `profile`, that came to `artifacts`; none if a node is
    /// not cached, or not under its own key.
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

    /// The number of a kind. There are few.
    fn kind(&mut self, name: &str) -> usize {
        self.kinds.iter().position(|kind| kind == name).unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        })
    }

    /// The last that was written for `origin`, if it is of this program and of the file as it is. One that cannot be read is
    /// none: it only saves time.
    pub fn read(origin: &Origin, store: &Store) -> Result<Option<Snapshot>> {
        let known: Option<Snapshot> = store.read_snapshot(origin.name()?).ok().flatten();
        let digest = origin.digest()?;
        let is_sound =
            |known: &Snapshot| known.nodes.iter().all(|node| node.kind < known.kinds.len());
        Ok(known.filter(|known| known.origin == digest && is_sound(known)))
    }

    /// Writes it down for the next run.
    pub fn write(&self, origin: &Origin, store: &Store) -> Result<()> {
        store.write_snapshot(origin.name()?, self)
    }

    /// Whether the project's files, the entries and the objects are as they were. What cannot be read is not: the run that
    /// makes its plan says why. Learns to know the entries' files.
    pub fn holds(&mut self, store: &Store, files: &Sources) -> bool {
        let as_before = |(declared, was): &(Vec<Declared>, Artifact)| {
            files.artifact(declared).is_ok_and(|now| now == *was)
        };
        if !self.files.iter().all(as_before) {
            return false;
        }
        let witness = store.witness();
        let is_cached = |NodeSnapshot { key, entry, stat, objects, .. }: &mut NodeSnapshot| {
            store.has((*key, *entry), stat, &witness, objects).unwrap_or(false)
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(self.nodes.len() / WORTH + 1);
        let share = self.nodes.len().div_ceil(threads).max(1);
        std::thread::scope(|scope| {
            let look = |nodes: &'_ mut [NodeSnapshot]| nodes.iter_mut().all(is_cached);
            let looks: Vec<_> = self
                .nodes
                .chunks_mut(share)
                .map(|nodes| scope.spawn(move || look(nodes)))
                .collect();
            looks.into_iter().all(|look| look.join().unwrap_or(false))
        })
    }

    /// How many of the entries' files are known without reading them.
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
    fn run(bench: &TestSpace, yaml: &str) -> Snapshot {
        let (plan, ran) = (plan(yaml).unwrap(), bench.run(yaml));
        let artifact = |id: NodeId| (id, Arc::new(ran.artifacts[&plan.node(id).name].clone()));
        let artifacts = plan.ids().map(artifact).collect();
        let snapshot =
            Snapshot::of(&origin(yaml), &plan, None, &bench.store, &artifacts).unwrap().unwrap();
        snapshot.write(&origin(yaml), &bench.store).unwrap();
        snapshot
    }

    /// Whether the last snapshot is of `yaml` and holds.
    fn holds(bench: &TestSpace, yaml: &str) -> bool {
        let snapshot = Snapshot::read(&origin(yaml), &bench.store).unwrap();
        snapshot.is_some_and(|mut snapshot| snapshot.holds(&bench.store, &Sources::default()))
    }

    #[test]
    fn an_entry_or_an_object_that_is_gone_or_damaged_is_noticed_and_one_that_is_back_counts() {
        let bench = TestSpace::new();
        let snapshot = run(&bench, YAML);
        assert!(holds(&bench, YAML));
        for node in &snapshot.nodes {
            let (entry, object) =
                (bench.store.entry_path(node.key), bench.store.object(node.objects[0].digest));
            for path in [entry, object] {
                let aside = path.with_extension("aside");
                std::fs::rename(&path, &aside).unwrap();
                assert!(!holds(&bench, YAML), "{} is gone", path.display());
                std::fs::write(&path, "other").unwrap();
                assert!(!holds(&bench, YAML), "{} is damaged", path.display());
                std::fs::rename(&aside, &path).unwrap();
                assert!(holds(&bench, YAML));
            }
        }
    }

    #[test]
    fn an_entry_that_its_file_does_not_show_to_be_the_same_is_read() {
        let bench = TestSpace::new();
        let mut snapshot = run(&bench, YAML);
        let (key, entry) = (snapshot.nodes[0].key, snapshot.nodes[0].entry);
        let witness = Witness::trusting(bench.path());
        let has = |snapshot: &mut Snapshot| {
            bench.store.has((key, entry), &mut snapshot.nodes[0].stat, &witness, &[]).unwrap()
        };
        assert!(has(&mut snapshot) && snapshot.known() == 1, "it is known from now on");
        let path = bench.store.entry_path(key);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert!(has(&mut snapshot), "another file, with the same bytes");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        assert!(!has(&mut snapshot));
    }

    #[test]
    fn a_snapshot_that_is_torn_foreign_or_of_another_program_is_none() {
        let bench = TestSpace::new();
        let snapshot = run(&bench, YAML);
        let path = bench.store.snapshot(origin(YAML).name().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        for torn in [&b""[..], b"{", &bytes[..bytes.len() / 2]] {
            overwrite(&path, torn);
            assert!(!holds(&bench, YAML));
        }
        let other = Snapshot { origin: Digest::of(b"another program"), ..snapshot.clone() };
        other.write(&origin(YAML), &bench.store).unwrap();
        assert!(!holds(&bench, YAML));
        let profile = Origin { profile: Some("p"), ..origin(YAML) };
        std::fs::write(bench.store.snapshot(profile.name().unwrap()), &bytes).unwrap();
        assert_eq!(Snapshot::read(&profile, &bench.store).unwrap(), None, "another profile's");
        snapshot.write(&origin(YAML), &bench.store).unwrap();
        assert!(holds(&bench, YAML));
    }

    #[test]
    fn a_run_in_which_a_node_is_not_under_its_own_key_leaves_no_snapshot() {
        let bench = TestSpace::new();
        let (plan, ran) = (plan(YAML).unwrap(), bench.run(YAML));
        let artifact = |id: NodeId| (id, Arc::new(ran.artifacts[&plan.node(id).name].clone()));
        let mut artifacts: BTreeMap<_, _> = plan.ids().map(artifact).collect();
        let key = plan.recipe(NodeId(0), false, |up| &*artifacts[&up]).unwrap().key();
        let of = |artifacts: &_| {
            Snapshot::of(&origin(YAML), &plan, None, &bench.store, artifacts).unwrap()
        };
        assert!(of(&artifacts).is_some());
        artifacts.insert(NodeId(0), Arc::default());
        assert_eq!(of(&artifacts), None, "another artifact");
        bench.store.remove_result(key).unwrap();
        assert_eq!(of(&plan.ids().map(artifact).collect()), None, "no entry");
    }

    fn pipelines() -> impl Strategy<Value = String> {
        let texts = prop::sample::select(vec!["x", "[x]", "[x, y]", "[y, x]", "[z, x, y]"]);
        let widths = prop::sample::select(vec!["1", "[1, 2]", "[2, 3]"]);
        let last = prop::sample::select(vec!["pair: { left: s }", "gather: { all: s }"]);
        (texts, widths, last).prop_map(|(texts, widths, last)| {
            format!("stages:\n  s: {{ source: {{ text: {texts}, width: {widths} }} }}\n  l: {{ {last} }}\n")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_snapshot_that_holds_names_the_nodes_and_keys_of_a_plan_made_anew(
            yamls in prop::collection::vec(pipelines(), 1..5)
        ) {
            let bench = TestSpace::new();
            let mut last = None;
            for yaml in &yamls {
                prop_assert_eq!(holds(&bench, yaml), last == Some(yaml), "it is of the file as it is");
                run(&bench, yaml);
                last = Some(yaml);
                prop_assert!(holds(&bench, yaml));
                let snapshot = Snapshot::read(&origin(yaml), &bench.store).unwrap().unwrap();
                let trial = bench.trial(yaml);
                let plan_status = trial.plan_status();
                let anew: Vec<_> = trial.plan.ids().map(|id| {
                    let node = trial.plan.node(id);
                    (node.name.clone(), node.kind.name().to_owned(), plan_status.checked[&id].key)
                }).collect();
                let told: Vec<_> = snapshot.nodes.iter()
                    .map(|node| (node.name.clone(), snapshot.kind_of(node).to_owned(), node.key)).collect();
                prop_assert_eq!(told, anew);
            }
        }
    }
}
