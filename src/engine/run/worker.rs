//! Computes recorded recipes in this process. `repro exec` calls it, on this machine or on a
//! cluster.
//!
//! Knows the store and the contract of stages, but not the plan.

use crate::engine::cache::entry::{Entry, Stored};
use crate::engine::cache::lease::Claim;
use crate::engine::cache::local::ObjectState;
use crate::engine::cache::local::SyncPolicy;
use crate::engine::cache::process::{ProcessId, host};
use crate::engine::cache::store::Store;
use crate::engine::cache::workspace::Workbench;
use crate::engine::error::Error;
use crate::engine::key::{Digest, Key, Recipe};
use crate::engine::provenance::{Commit, Environment};
use crate::engine::stage::{Context, Input, Kind, belongs};
use crate::{fs, process};
use anyhow::{Result, anyhow, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZero;
use std::path::Path;
use std::time::{Instant, SystemTime};

/// Nothing to compute: another process computes the key, or has just computed it.
#[derive(Debug, thiserror::Error)]
pub struct AlreadyRunning(pub Option<ProcessId>);

impl fmt::Display for AlreadyRunning {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.0 {
            Some(process) => write!(f, "the job is already running in {process}"),
            None => write!(f, "another process has just computed the result"),
        }
    }
}

/// The options of a job.
#[derive(Clone, Copy, Debug)]
pub struct ExecOptions<'a> {
    /// This program's digest, for the entry, if the caller knows it.
    pub program: Option<Digest>,
    /// The project's commit when the run started, for the entry, if the caller knows it.
    pub commit: Option<&'a Commit>,
    /// The number of threads that the job may use.
    pub threads: NonZero<usize>,
    /// Compute the result even if it is cached.
    pub force: bool,
    /// Whether the caller calls [`Store::sync`] after several jobs.
    pub sync_later: bool,
    /// The project's folder, absolute. It is not part of the key.
    pub project: Option<&'a Path>,
}

/// Runs the stage of the recipe `key` and publishes its result. Fails with [`AlreadyRunning`] if
/// another process computes it or has just computed it.
pub fn exec(
    store: &Store,
    kinds: &[&'static dyn Kind],
    key: Key,
    options: ExecOptions,
    workbench: &mut Workbench,
) -> Result<Entry> {
    let ExecOptions { program, commit, threads, force, sync_later, project } = options;
    let (recipe, kind) = recipe_and_kind(store, kinds, key)?;
    let _lease = match store.claim(key)? {
        Claim::Acquired(lease) => lease,
        Claim::Held(process) => bail!(AlreadyRunning(Some(process))),
    };
    // The previous holder of the lease may have published the result.
    if !force && store.lookup(key)?.usable().is_some() {
        bail!(AlreadyRunning(None));
    }
    let inputs = place_inputs(store, &recipe)?;
    let declared = kind.outputs_for(&recipe.params)?;
    check_threads(kind)?;
    let [folder, scratch] = workbench.clear()?;
    let began = Instant::now();
    kind.run(
        &Context::new(recipe, inputs, [folder.clone(), scratch], threads).of_project(project),
    )?;
    let seconds = began.elapsed().as_secs_f64();
    let sync = match sync_later {
        true => SyncPolicy::for_job(seconds),
        false => SyncPolicy::Immediate,
    };
    let store = &store.with_sync(sync);
    let (outputs, empty_folders) = collect(store, kind.name(), declared.as_deref(), &folder)?;
    let entry = Entry {
        outputs,
        empty_folders,
        seconds,
        peak_memory: process::peak_memory(),
        finished: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
        host: host(),
        program,
        environment: Some(Environment::here(threads, commit)),
    };
    store.publish(key, &entry)?;
    Ok(entry)
}

/// Runs the stage of the recipe `key`, which writes its outputs to `folder`. Publishes nothing.
pub fn exec_recompute(
    store: &Store,
    kinds: &[&'static dyn Kind],
    key: Key,
    options: ExecOptions,
    folder: &Path,
    workbench: &mut Workbench,
) -> Result<()> {
    let (recipe, kind) = recipe_and_kind(store, kinds, key)?;
    fs::create_dir_all(folder)?;
    let inputs = place_inputs(store, &recipe)?;
    let declared = kind.outputs_for(&recipe.params)?;
    check_threads(kind)?;
    let [_, scratch] = workbench.clear()?;
    let ExecOptions { threads, project, .. } = options;
    kind.run(
        &Context::new(recipe, inputs, [folder.to_owned(), scratch], threads).of_project(project),
    )?;
    written(kind.name(), declared.as_deref(), folder).map(drop)
}

/// Fails if the system refuses the threads that a stage needs: rayon and polars would panic.
fn check_threads(kind: &dyn Kind) -> Result<()> {
    if kind.spawns() {
        return Ok(());
    }
    let requested =
        std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    process::check_threads(requested.unwrap_or_else(cores))
}

fn recipe_and_kind(
    store: &Store,
    kinds: &[&'static dyn Kind],
    key: Key,
) -> Result<(Recipe, &'static dyn Kind)> {
    let recipe =
        store.recipe(key)?.ok_or_else(|| anyhow!("no recipe is recorded under `{key}`"))?;
    let unknown =
        || anyhow!("this program has no stage `{}` of version {}", recipe.kind, recipe.version);
    let kind = *kinds.iter().find(|kind| kind.name() == recipe.kind).ok_or_else(unknown)?;
    // Checked before the parameters, which may differ between versions: this message is clearer.
    if recipe.version > kind.version()
        || kind.version_of(&recipe.params).is_ok_and(|version| version != recipe.version)
    {
        return Err(unknown());
    }
    Ok((recipe, kind))
}

fn place_inputs(store: &Store, recipe: &Recipe) -> Result<BTreeMap<String, Vec<Input>>> {
    let mut inputs = BTreeMap::new();
    for (slot, artifacts) in &recipe.inputs {
        let mut placed = Vec::new();
        for artifact in artifacts {
            let mut paths = BTreeMap::new();
            for (file, content) in artifact {
                let Some(digest) = content.digest() else { continue };
                // The object may have changed since the scheduler's lookup.
                let problem = match store.check_object(digest)? {
                    ObjectState::Intact => {
                        paths.insert(file.clone(), store.object(digest));
                        continue;
                    }
                    ObjectState::Missing => "is missing",
                    ObjectState::Damaged => "was changed on disk",
                };
                let message = format!("the input `{slot}/{file}` ({digest}) {problem}");
                let hint = "run `repro run` again: it computes this input first".into();
                return Err(Error::Corrupt { message, hint }.into());
            }
            placed.push(Input::new(artifact.clone(), paths));
        }
        inputs.insert(slot.clone(), placed);
    }
    Ok(inputs)
}

/// Moves the outputs to the store. Returns them, and the names of empty folders.
fn collect(
    store: &Store,
    kind: &str,
    declared: Option<&[String]>,
    workspace: &Path,
) -> Result<(BTreeMap<String, Stored>, BTreeSet<String>)> {
    let (mut outputs, mut empty_folders) = (BTreeMap::new(), BTreeSet::new());
    for name in written(kind, declared, workspace)? {
        if name.ends_with('/') {
            empty_folders.insert(name);
        } else {
            let stored = store.ingest(&workspace.join(&name))?;
            outputs.insert(name, stored);
        }
    }
    Ok((outputs, empty_folders))
}

/// The outputs in `workspace`. Fails if a declared output is missing, or if there is an undeclared
/// one.
fn written(kind: &str, declared: Option<&[String]>, workspace: &Path) -> Result<Vec<String>> {
    let fs::Tree { files: mut found, empty_folders, others } = fs::tree(workspace, &[])?;
    found.extend(empty_folders);
    if let Some((name, why)) = others.first() {
        bail!("the output `{name}` {why}");
    }
    if let Some(missing) = declared
        .unwrap_or_default()
        .iter()
        .find(|declared| !found.iter().any(|name| belongs(name, declared)))
    {
        bail!("the stage `{kind}` did not write its output `{missing}`");
    }
    let beyond = |name: &&String| {
        declared.is_some_and(|all| !all.iter().any(|declared| belongs(name, declared)))
    };
    if let Some(name) = found.iter().find(beyond) {
        bail!("the stage `{kind}` wrote `{name}`, which it does not declare");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cache::store::Lookup;
    use crate::engine::key::Artifact;
    use crate::engine::spec::pipeline::Pipeline;
    use crate::engine::spec::plan::{NodeId, Plan};
    use crate::engine::stage::{Arity, KindOf, Slot, Stage};
    use crate::engine::testing::{TestSpace, overwrite, publish};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    /// Declares a file and a folder, and writes the files that its parameters list.
    struct Writer;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Files {
        /// File names, separated by spaces.
        files: String,
        link: Option<String>,
    }

    impl Stage for Writer {
        const NAME: &'static str = "writer";
        const VERSION: u32 = 3;
        const SLOTS: &'static [Slot] =
            &[Slot { name: "from", arity: Arity::Optional, files: &["table.csv", "figures/"] }];
        const OUTPUTS: &'static [&'static str] = &["table.csv", "figures/"];
        type Params = Files;

        fn run(params: Files, cx: &Context) -> Result<()> {
            for file in params.files.split(' ').filter(|file| !file.is_empty()) {
                let path = cx.output(file);
                fs::create_dir_all(path.parent().unwrap())?;
                fs::write(&path, file)?;
            }
            if let Some(link) = params.link {
                std::os::unix::fs::symlink("/etc/hostname", cx.output(&link))?;
            }
            Ok(())
        }
    }

    const PLAIN: ExecOptions = ExecOptions {
        program: None,
        commit: None,
        threads: NonZero::<usize>::MIN,
        force: false,
        sync_later: false,
        project: None,
    };

    const KINDS: &[&'static dyn Kind] = &[&KindOf::<Writer>::KIND];

    fn recipe(files: &[&str], link: Option<&str>) -> Recipe {
        let params = [
            ("files".to_owned(), serde_json::json!(files.join(" "))),
            ("link".to_owned(), serde_json::json!(link)),
        ];
        Recipe {
            kind: "writer".into(),
            version: 3,
            params: params.into(),
            inputs: BTreeMap::new(),
            seed: None,
        }
    }

    fn run(store: &Store, key: Key, options: ExecOptions) -> Result<Entry> {
        exec(store, KINDS, key, options, &mut store.workbench()?)
    }

    /// The files in this process's scratch folder, except its heartbeat.
    fn left(store: &Store) -> Vec<String> {
        let names = fs::list(&store.scratch().unwrap()).unwrap();
        names.into_iter().filter(|name| name != "heartbeat").collect()
    }

    /// Runs a recipe that must fail and leave no other files.
    fn refusal(recipe: &Recipe) -> anyhow::Error {
        let space = TestSpace::new();
        let key = space.store.record_recipe(recipe).unwrap();
        let error = run(&space.store, key, PLAIN).unwrap_err();
        assert_eq!(space.store.lookup(key).unwrap(), Lookup::Absent);
        assert_eq!(left(&space.store), [""; 0], "the workspace is gone");
        error
    }

    #[test]
    fn declared_files_and_all_files_of_declared_folders_are_published() {
        let space = TestSpace::new();
        let files = ["table.csv", "figures/b.svg", "figures/deep/a.svg"];
        let key = space.store.record_recipe(&recipe(&files, None)).unwrap();
        let program = Some(Digest::of(b"program"));
        let entry = run(&space.store, key, ExecOptions { program, ..PLAIN }).unwrap();
        let stored = |file: &str| {
            let (digest, bytes) = (Digest::of(file.as_bytes()), file.len() as u64);
            (file.to_owned(), Stored { digest, bytes, executable: false })
        };
        assert_eq!(entry.outputs, files.map(stored).into());
        assert_eq!(entry.program, program);
        assert_eq!(space.store.lookup(key).unwrap(), Lookup::Hit(entry.into()));
        assert_eq!(left(&space.store), [""; 0], "the workspace is gone");
    }

    #[test]
    fn an_undeclared_output_fails_the_job() {
        let error = refusal(&recipe(&["table.csv", "figures/a.svg", "notes.txt"], None));
        assert_eq!(
            error.to_string(),
            "the stage `writer` wrote `notes.txt`, which it does not declare"
        );
    }

    #[test]
    fn a_missing_output_fails_the_job() {
        let error = refusal(&recipe(&["figures/a.svg"], None));
        assert_eq!(error.to_string(), "the stage `writer` did not write its output `table.csv`");
        let error = refusal(&recipe(&["table.csv"], None));
        assert_eq!(error.to_string(), "the stage `writer` did not write its output `figures/`");
    }

    #[test]
    fn an_output_that_is_a_symbolic_link_fails_the_job() {
        for link in ["table.csv", "figures/a.svg"] {
            let files: Vec<&str> =
                ["table.csv", "figures/b.svg"].into_iter().filter(|file| *file != link).collect();
            let error = refusal(&recipe(&files, Some(link)));
            assert_eq!(
                error.to_string(),
                format!("the output `{link}` is neither a file nor a folder")
            );
        }
    }

    #[test]
    fn an_output_whose_name_is_not_utf_8_fails_the_job() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("table.csv"), "").unwrap();
        fs::write(&dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.svg")), "").unwrap();
        let error = written("writer", None, dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "the output `\u{fffd}.svg` has a name that is not UTF-8");
    }

    #[test]
    fn a_slot_for_a_folder_gets_all_files_in_it() {
        let yaml =
            "stages: { a: { writer: { files: '' } }, b: { writer: { from: a, files: '' } } }";
        let plan = Plan::new(&Pipeline::parse("test.yaml", yaml).unwrap(), KINDS).unwrap();
        let file = |name: &str| (name.to_owned(), Digest::of(name.as_bytes()).into());
        let made: Artifact = ["table.csv", "figures/b.svg", "figures/deep/a.svg"].map(file).into();
        let recipe = plan.recipe(NodeId(1), |_| false, |_| &made).unwrap();
        assert_eq!(recipe.inputs["from"], [made]);
    }

    #[test]
    fn a_missing_input_is_corruption() {
        let digest = Digest::of(b"gone");
        let input: Artifact = [("table.csv".to_owned(), digest.into())].into();
        let inputs = [("from".to_owned(), vec![input])].into();
        let error = refusal(&Recipe { inputs, ..recipe(&["table.csv", "figures/a.svg"], None) });
        assert_eq!(error.to_string(), format!("the input `from/table.csv` ({digest}) is missing"));
        assert!(matches!(error.downcast_ref(), Some(Error::Corrupt { .. })));
    }

    #[test]
    fn an_input_that_changed_since_its_lookup_is_corruption() {
        let space = TestSpace::new();
        let (_, entry) = publish(&space.store, "source", b"bytes");
        let digest = entry.outputs["out"].digest;
        overwrite(&space.store.object(digest), b"bytez");
        let input: Artifact = [("table.csv".to_owned(), digest.into())].into();
        let inputs = [("from".to_owned(), vec![input])].into();
        let recipe = Recipe { inputs, ..recipe(&["table.csv", "figures/a.svg"], None) };
        let key = space.store.record_recipe(&recipe).unwrap();
        let error = run(&space.store, key, PLAIN).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the input `from/table.csv` ({digest}) was changed on disk")
        );
        assert_eq!(
            space.store.lookup(key).unwrap(),
            Lookup::Absent,
            "no result of changed bytes is published"
        );
    }

    #[test]
    fn a_recipe_that_is_not_recorded_or_of_another_version_fails_the_job() {
        let space = TestSpace::new();
        let key = recipe(&[], None).key();
        let error = run(&space.store, key, PLAIN).unwrap_err();
        assert_eq!(error.to_string(), format!("no recipe is recorded under `{key}`"));
        let error = refusal(&Recipe { version: 2, ..recipe(&[], None) });
        assert_eq!(error.to_string(), "this program has no stage `writer` of version 2");
    }
}
