//! `repro run`: brings nodes up to date and exports the reports.

mod changes;

use super::args::{Common, ExecutorName, RunArgs};
use super::output::{Output, join, state};
use super::session::jobs::{Jobs, provenance_arguments};
use super::session::remote::{Pusher, Use};
use super::session::unchanged::Whole;
use super::session::{Session, lockfile, pipeline_name};
use crate::engine::cache::lock::CacheLock;
use crate::engine::cache::process::ProcessId;
use crate::engine::cache::store::Store;
use crate::engine::cache::transfer::{Notice, Transferred};
use crate::engine::error::Error;
use crate::engine::key::Artifact;
use crate::engine::provenance::{Commit, Provenance};
use crate::engine::record::export::{Annotation, Exported, export, folder_name};
use crate::engine::record::lockfile::Expected;
use crate::engine::record::provenance::provenance;
use crate::engine::run::event::{Event, Observer, SCHEMA, Summary};
use crate::engine::run::executor::Choice;
use crate::engine::run::expected::ExpectedResults;
use crate::engine::run::progress::{All, Json, Lines, Terminal, Verbosity};
use crate::engine::run::schedule::{self, Settings};
use crate::engine::run::snapshot::Snapshot;
use crate::engine::run::status::{Checked, PlanStatus, Status, StatusChecker};
use crate::engine::spec::plan::NodeId;
use crate::engine::spec::sources::Sources;
use crate::engine::stage::Kind;
use crate::stage::KINDS;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The folder of exported outputs, in the project's folder.
const REPORTS: &str = "reports";

pub(super) fn run(common: &Common, output: &Output, args: &RunArgs) -> Result<String> {
    let is_whole = args.targets.is_empty() && !args.force && !args.locked && !args.push;
    let whole = if is_whole { Whole::of(common)? } else { None };
    if let Some(whole) = &whole
        && run_unchanged(common, output, args, whole)?
    {
        return Ok(String::new());
    }
    let mut session = Session::open(common)?;
    let how = Use { required: args.require_remote, writes: args.push };
    let notice = session.attach(common, how)?;
    let lock = if args.locked { Some(lockfile::open(common, &mut session)?) } else { None };
    let expected = lock.as_ref().map(|lock| lockfile::expected(lock, &session)).transpose()?;
    let targets = session.select(&args.targets)?;
    let requested = session.plan.closure(&targets);
    let (plan, store) = (&session.plan, &session.store);
    let _lock = lock_cache(common, args, store)?;
    let profile = session.profile.as_deref();
    let (id, mut observer) = begin(common, output, store, profile, &args.targets, requested.len())?;
    report_notices(notice, &mut observer);
    let checker = session.checker(session.forced(args.force, &targets));
    // Removes the history of a run that fails before its first job.
    let forget = |_: &anyhow::Error| _ = store.remove_run(&id);
    let checked = check(common, &session, &checker, &requested, args.require_cached);
    report_notices(store.notices(), &mut observer);
    let (plan_status, pulled) = checked.inspect_err(forget)?;
    if pulled.results > 0 {
        observer.observe(&Event::Pulled { results: pulled.results, bytes: pulled.bytes });
    }
    let pusher = match args.push && store.has_remote() {
        true => {
            let (pusher, pushing) = Pusher::start(store)?;
            observer.0.push(pushing);
            Some(pusher)
        }
        false => None,
    };
    let is_stale = plan_status.status.values().any(|status| !matches!(status, Status::Cached(_)));
    // Both are for provenance only, and needed only if a job may run.
    let commit = if is_stale { Commit::of(&common.project()?, REPORTS) } else { None };
    let arguments = if is_stale { provenance_arguments(commit.as_ref())? } else { Vec::new() };
    let (choice, retries) = match args.executor {
        ExecutorName::Local => (Choice::Local, 0),
        ExecutorName::Slurm => {
            let settings = session.pipeline.executors.slurm(&args.sbatch);
            let retries = settings.resources.retries;
            (Choice::Slurm(settings, store.clone()), retries)
        }
    };
    let mut jobs =
        Jobs::new(common, arguments, args.jobs, store.scratch()?, choice).inspect_err(forget)?;
    if let Some(commit) = commit {
        observer.observe(&Event::Commit(commit));
    }
    let settings = Settings {
        keep_going: args.keep_going,
        retries: args.retries.max(retries),
        interrupted: &jobs.interrupted,
        stream: !common.json && streams(common.verbosity(), args.jobs),
        expected: expected.as_ref().map(|expected| expected as &dyn ExpectedResults),
    };
    let (mut summary, result) = schedule::run(
        plan,
        store,
        &checker,
        &plan_status,
        &mut *jobs.executor,
        &settings,
        &mut observer,
    );
    let outcome = result.and_then(|artifacts| {
        jobs.executor.close()?;
        finish(
            common,
            (&session, &checker, &plan_status),
            &id,
            &artifacts,
            expected.as_ref(),
            &mut observer,
        )?;
        Ok(artifacts)
    });
    let outcome = match pusher {
        // After a signal, there is no time to wait for the network.
        Some(pusher) if !jobs.interrupted.load(Ordering::Relaxed) => {
            let pushed = pusher.finish(common).map(|pushed| {
                let Transferred { results, unchanged, bytes, .. } = pushed;
                observer.observe(&Event::Pushed { results, unchanged, bytes });
            });
            outcome.and_then(|artifacts| pushed.map(|()| artifacts))
        }
        _ => outcome,
    };
    report_notices(store.notices(), &mut observer);
    summary.outcome = schedule::ending(&outcome);
    observer.observe(&Event::Ended(summary));
    drop(jobs);
    let artifacts = outcome?;
    if let Some(whole) = whole {
        whole.remember(plan, profile, store, &artifacts);
    }
    // Swept again, because processes of an earlier run that was killed may have ended meanwhile.
    store.sweep();
    // Not dropped, because the process ends now, and freeing many nodes takes a tenth of the time
    // of an unchanged run.
    std::mem::forget((plan_status, artifacts, session));
    Ok(String::new())
}

/// Locks the cache against `gc`, and registers this pipeline as one of its users.
fn lock_cache(common: &Common, args: &RunArgs, store: &Store) -> Result<CacheLock> {
    store.prepare()?;
    let lock = store.lock_shared(args.wait_for_lock)?;
    store.record_pipeline(&common.directory, &common.pipeline_path()?)?;
    store.sweep();
    Ok(lock)
}

/// Starts the history of a run of `nodes` nodes. Returns the id of the run and its observers.
fn begin(
    common: &Common,
    output: &Output,
    store: &Store,
    profile: Option<&str>,
    targets: &[String],
    nodes: usize,
) -> Result<(String, All)> {
    let (id, history) = store.begin_history()?;
    let mut observer = observers(common, output, history);
    observer.observe(&Event::Started {
        schema: SCHEMA,
        run: id.clone(),
        profile: profile.map(str::to_owned),
        pipeline: pipeline_of(common, store)?,
        overrides: common.set.clone(),
        targets: targets.to_vec(),
        nodes,
        process: ProcessId::this().tag(),
    });
    Ok((id, observer))
}

/// Runs without a plan if nothing has changed since the last run. Returns `false` if a plan is
/// needed.
fn run_unchanged(common: &Common, output: &Output, args: &RunArgs, whole: &Whole) -> Result<bool> {
    let (began, store) = (Instant::now(), common.store());
    let Some(mut snapshot) = whole.snapshot(&store)? else { return Ok(false) };
    store.recover()?;
    let _lock = lock_cache(common, args, &store)?;
    let files = common.files(&store);
    let known = snapshot.known();
    if !snapshot.holds(&store, &files) {
        return Ok(false);
    }
    let kind = |name: &str| KINDS.iter().map(|kind| kind.name()).find(|kind| *kind == name);
    let nodes: Option<Vec<_>> =
        snapshot.nodes.iter().map(|node| Some((node, kind(snapshot.kind_of(node))?))).collect();
    let Some(nodes) = nodes else { return Ok(false) };
    write_source_index(&files, &store)?;
    // For a few nodes, writing the snapshot would take longer than the time that it saves.
    if snapshot.known().saturating_sub(known) * 50 > nodes.len() {
        whole.write(&snapshot, &store);
    }
    let profile = snapshot.profile.as_deref();
    let (id, mut observer) = begin(common, output, &store, profile, &[], nodes.len())?;
    let mut summary = Summary { nodes: nodes.len(), cached: nodes.len(), ..Summary::default() };
    for (node, kind) in nodes {
        let (name, key, saved_seconds) = (node.name.clone(), node.key.to_string(), node.seconds);
        summary.saved_seconds += saved_seconds;
        observer.observe(&Event::Cached { node: name, kind, key, saved_seconds });
    }
    let exported = files.check_unchanged().and_then(|()| {
        let exports: Vec<Export> = exports(common, &snapshot);
        let total = exports.len();
        let names: Vec<&str> = exports.iter().map(|export| export.name).collect();
        let written = export_all(common, &store, profile, (exports, total), false, &mut observer)?;
        // The report on disk is of another run, for example one with other overrides.
        if written > 0 {
            changes::write(common, &store, &id, profile, &names, &mut observer)?;
        }
        Ok(())
    });
    summary.outcome = schedule::ending(&exported);
    summary.seconds = began.elapsed().as_secs_f64();
    observer.observe(&Event::Ended(summary));
    exported?;
    store.sweep();
    Ok(true)
}

/// The pipeline file in the history: its path in the project or, if another project may use the
/// cache, its absolute path.
fn pipeline_of(common: &Common, store: &Store) -> Result<String> {
    let (project, path) = (common.project()?, common.pipeline_path()?);
    let path = if store.is_inside(&project) { path } else { project.join(path) };
    Ok(path.display().to_string())
}

/// The outputs to export of a run in which nothing has changed. Their provenance is that of the
/// last run; it is found with a plan, if a copy must be written again.
fn exports<'a>(common: &'a Common, snapshot: &'a Snapshot) -> Vec<Export<'a>> {
    let kind_of = |name: &str| {
        let node = snapshot.nodes.iter().find(|node| node.name == name)?;
        KINDS.iter().copied().find(|kind| kind.name() == snapshot.kind_of(node))
    };
    let export = |(name, artifact): &'a (String, Artifact)| {
        let provenance = move || {
            let session = Session::open(common)?;
            let nodes = session.select(std::slice::from_ref(name))?;
            let node = *nodes.first().context("BUG: a name selects no node")?;
            session.provenance(node, &session.plan_status(&nodes)?)
        };
        let provenance = Box::new(provenance);
        kind_of(name).map(|kind| Export { name, kind, artifact, provenance })
    };
    snapshot.exports.iter().filter_map(export).collect()
}

/// The last steps of a run in which all nodes succeeded.
fn finish(
    common: &Common,
    (session, checker, plan_status): (&Session, &StatusChecker, &PlanStatus),
    id: &str,
    artifacts: &BTreeMap<NodeId, Arc<Artifact>>,
    expected: Option<&Expected>,
    observer: &mut dyn Observer,
) -> Result<()> {
    session.plan.files.check_unchanged()?;
    if let Some(expected) = expected {
        let (lock, root) = (expected.source().to_owned(), expected.root().to_string());
        observer.observe(&Event::LockMatched { lock, root, nodes: artifacts.len() });
    }
    let exports = |id: &NodeId| session.plan.node(*id).kind.exports();
    let key = |id| match plan_status.checked.get(&id) {
        Some(Checked { key, status: Status::Cached(_), .. }) => Ok(*key),
        _ => Ok(checker.recipe(id, |up| &*artifacts[&up])?.key()),
    };
    let mut exported = Vec::new();
    for (&id, artifact) in artifacts.iter().filter(|(id, _)| exports(id)) {
        let node = session.plan.node(id);
        let found = move || provenance(&session.plan, &session.store, id, key);
        let (name, kind) = (&node.name, node.kind);
        exported.push(Export { name, kind, artifact, provenance: Box::new(found) });
    }
    let total = session.plan.ids().filter(exports).count();
    let names: Vec<&str> = exported.iter().map(|export| export.name).collect();
    let profile = session.profile.as_deref();
    // Nodes upstream may have been computed again.
    export_all(common, &session.store, profile, (exported, total), true, observer)?;
    changes::write(common, &session.store, id, profile, &names, observer)?;
    session.store.write_index()
}

/// The status of the nodes before the first job, after results were copied from the remote cache.
fn check(
    common: &Common,
    session: &Session,
    checker: &StatusChecker,
    requested: &BTreeSet<NodeId>,
    require_cached: bool,
) -> Result<(PlanStatus, Transferred)> {
    let refuse = |plan_status: &PlanStatus| match require_cached {
        true => refuse_stale(session, plan_status),
        false => Ok(()),
    };
    let (plan_status, pulled) = session.pull(common, checker, requested, &refuse)?;
    write_source_index(&session.plan.files, &session.store)?;
    if session.refetch {
        forget_fallbacks(session, &plan_status)?;
    }
    Ok((plan_status, pulled))
}

/// Reports the problems with the remote cache.
fn report_notices(notices: impl IntoIterator<Item = Notice>, observer: &mut dyn Observer) {
    for Notice { message, hint } in notices {
        observer.observe(&Event::RemoteNotice { message, hint });
    }
}

/// Writes the digests of the project's files for the next command.
fn write_source_index(files: &Sources, store: &Store) -> Result<()> {
    files.updated_index().map_or(Ok(()), |index| store.write_source_index(&index))
}

/// Deletes the records of fallbacks of nodes that are not cached.
fn forget_fallbacks(session: &Session, plan_status: &PlanStatus) -> Result<()> {
    for (id, checked) in &plan_status.checked {
        let is_cached = matches!(checked.status, Status::Cached(_));
        if !is_cached && session.plan.node(*id).resolved.fallback.is_some() {
            session.store.remove_fallback(checked.key)?;
        }
    }
    Ok(())
}

/// Fails with the reasons of the first node that is not cached.
fn refuse_stale(session: &Session, plan_status: &PlanStatus) -> Result<()> {
    let is_stale = |(_, status): &(&NodeId, &Status)| !matches!(status, Status::Cached(_));
    let mut stale = plan_status.status.iter().filter(is_stale);
    let Some((first, status)) = stale.next() else { return Ok(()) };
    let node = &session.plan.node(*first).name;
    let reasons = join(state(status).1);
    let hint = format!("run `repro run {node}` to compute it (reason: {reasons})");
    let nodes = 1 + stale.count();
    let error = anyhow::Error::from(Error::Pending { nodes, hint });
    Err(error.context(format!("`{node}` is not cached")))
}

/// Whether to print the output of jobs: with `--verbose`, or if one job runs at a time.
fn streams(verbosity: Verbosity, jobs: Option<u16>) -> bool {
    verbosity == Verbosity::Verbose || verbosity == Verbosity::Normal && jobs == Some(1)
}

/// The observers of a run. Progress is written to standard error, JSON to standard output, and the
/// history to the cache.
fn observers(common: &Common, output: &Output, history: File) -> All {
    let verbosity = common.verbosity();
    let shown: Box<dyn Observer> = if common.json {
        Box::new(Json::new(output.clone()))
    } else if stderr().is_terminal() {
        Box::new(Terminal::new(verbosity))
    } else {
        Box::new(Lines::new(stderr(), verbosity))
    };
    All(vec![shown, Box::new(Json::new(history))])
}

/// A node whose outputs are exported.
struct Export<'a> {
    name: &'a str,
    kind: &'static dyn Kind,
    artifact: &'a Artifact,
    provenance: Box<dyn Fn() -> Result<Provenance> + 'a>,
}

/// Exports the outputs of nodes to the folder of the profile; if the pipeline exports several
/// (`total`) nodes, each to its own folder below that folder. Returns the number of files that were
/// written or removed.
fn export_all(
    common: &Common,
    store: &Store,
    profile: Option<&str>,
    (nodes, total): (Vec<Export>, usize),
    may_differ: bool,
    observer: &mut dyn Observer,
) -> Result<usize> {
    let reports = reports_folder(common, profile)?;
    let mut all = 0;
    // Another run may export to the same folders with other overrides. The lock ensures that all
    // files of a folder come from one run.
    let _update = store.lock_update()?;
    for Export { name, kind, artifact, provenance } in nodes {
        let folder = if total == 1 { reports.clone() } else { reports.join(folder_name(name)) };
        let folder = folder.display().to_string();
        let annotation = Annotation { kind, provenance: &*provenance, may_differ };
        let Exported { written, removed } =
            export(store, artifact, &common.directory, &folder, &annotation)?;
        observer.observe(&Event::Exported { folder, written, files: artifact.len(), removed });
        all += written + removed;
    }
    Ok(all)
}

/// `reports/<profile>`. Another pipeline has its own folder, since it may have a profile of the
/// same name: `reports/small/<profile>` for `small.yaml`.
fn reports_folder(common: &Common, profile: Option<&str>) -> Result<PathBuf> {
    let (reports, pipeline) = (Path::new(REPORTS), common.pipeline_path()?);
    let folder = match pipeline.as_path() == Path::new("pipeline.yaml") {
        true => reports.to_owned(),
        false => reports.join(folder_name(&pipeline_name(&pipeline).to_string_lossy())),
    };
    Ok(folder.join(profile.unwrap_or("default")))
}
