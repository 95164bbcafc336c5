//! `repro run`.

use super::interrupt::{INTERRUPTED, end_jobs_on_request};
use super::output::Stdout;
use super::unchanged::{self, Whole};
use super::{CACHE_VARIABLE, Common, NO_LOCK_VARIABLE, RunArgs, Session, lock, plan, without_yaml};
use crate::engine::cache::lock::CacheLock;
use crate::engine::cache::process::ProcessId;
use crate::engine::cache::store::Store;
use crate::engine::key::{Artifact, Digest};
use crate::engine::record::export::{Exported, export, folder_name};
use crate::engine::record::lockfile::Expected;
use crate::engine::run::event::{Event, Observer, SCHEMA, Summary};
use crate::engine::run::executor::local::Local;
use crate::engine::run::progress::{All, Json, Lines, Terminal, Verbosity};
use crate::engine::run::schedule::{self, Settings};
use crate::engine::run::status::{PlanStatus, Status, StatusChecker};
use crate::engine::spec::plan::{NodeId, Plan};
use crate::engine::spec::sources::Sources;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub(super) fn run(common: &Common, args: &RunArgs) -> Result<String> {
    if args.dry_run {
        return plan::plan(common, &args.targets, false, args.force);
    }
    let whole = if args.targets.is_empty() && !args.force && !args.locked {
        Whole::of(common)?
    } else {
        None
    };
    if let Some(whole) = &whole
        && repeat(common, args, whole)?
    {
        return Ok(String::new());
    }
    let mut session = Session::open(common)?;
    let locked = if args.locked { Some(lock::hold(common, &mut session)?) } else { None };
    let expected = locked.as_ref().map(|lock| lock::expected(lock, &session)).transpose()?;
    let targets = session.select(&args.targets)?;
    let wanted = session.plan.closure(&targets);
    let (plan, store) = (&session.plan, &session.store);
    let _hold = enter(common, args, store)?;
    let (id, mut observer) = begin(common, store, session.profile.as_deref(), wanted.len())?;
    let checker = StatusChecker::new(
        plan,
        store,
        plan::forced(&session, args.force, &targets),
        session.refetch,
    );
    // What is refused here is no run.
    let forget = |_: &anyhow::Error| _ = store.remove_run(&id);
    let plan_status = look(&session, &checker, &wanted, args.require_cached).inspect_err(forget)?;
    let due = plan_status.status.values().any(|status| !matches!(status, Status::Cached(_)));
    let mut executor =
        local_executor(common, slots(args.jobs), due, store.scratch()?).inspect_err(forget)?;
    end_jobs_on_request(&executor).inspect_err(forget)?;
    let settings = Settings {
        keep_going: args.keep_going,
        retries: args.retries,
        interrupted: &INTERRUPTED,
        stream: !common.json && streams(common.verbosity(), args.jobs),
        expected: expected.as_ref(),
    };
    let (mut summary, made) =
        schedule::run(plan, store, &checker, &plan_status, &mut executor, &settings, &mut observer);
    let outcome = made.and_then(|artifacts| {
        executor.close()?;
        finish(common, &session, &artifacts, expected.as_ref(), &mut observer)?;
        Ok(artifacts)
    });
    summary.outcome = schedule::ending(&outcome);
    observer.observe(&Event::Ended(summary));
    drop(executor);
    let artifacts = outcome?;
    if let Some(whole) = whole {
        whole.remember(plan, session.profile.as_deref(), store, &artifacts);
    }
    // Once more: what was killed along with an earlier run may have taken its time to die.
    store.sweep();
    // The process is about to end, and to take many nodes apart takes a tenth of a run in which nothing changed.
    std::mem::forget((plan_status, artifacts, session));
    Ok(String::new())
}

/// Takes its place among those who work in the cache.
fn enter(common: &Common, args: &RunArgs, store: &Store) -> Result<CacheLock> {
    store.prepare()?;
    let hold = store.lock_shared(args.wait_for_lock)?;
    store.record_pipeline(&common.directory, &common.pipeline_path()?)?;
    store.sweep();
    Ok(hold)
}

/// Begins a run of so many nodes; gives its id.
fn begin(
    common: &Common,
    store: &Store,
    profile: Option<&str>,
    nodes: usize,
) -> Result<(String, All)> {
    let (id, history) = store.begin_history()?;
    let mut observer = observers(common, history);
    observer.observe(&Event::Started {
        schema: SCHEMA,
        run: id.clone(),
        profile: profile.map(str::to_owned),
        overrides: common.set.clone(),
        nodes,
        process: ProcessId::this().tag(),
    });
    Ok((id, observer))
}

/// A run that finds everything as the last one left it, and makes no plan; gives whether it was one.
fn repeat(common: &Common, args: &RunArgs, whole: &Whole) -> Result<bool> {
    let (began, store) = (Instant::now(), common.store());
    let Some(mut snapshot) = whole.snapshot(&store)? else { return Ok(false) };
    store.recover()?;
    let _hold = enter(common, args, &store)?;
    let files = unchanged::files(common, &store);
    let known = snapshot.known();
    if !snapshot.holds(&store, &files) {
        return Ok(false);
    }
    let kind =
        |name: &str| crate::stage::KINDS.iter().map(|kind| kind.name()).find(|kind| *kind == name);
    let nodes: Option<Vec<_>> =
        snapshot.nodes.iter().map(|node| Some((node, kind(snapshot.kind_of(node))?))).collect();
    let Some(nodes) = nodes else { return Ok(false) };
    write_source_index(&files, &store)?;
    // Writing costs as much as is saved by so few.
    if snapshot.known().saturating_sub(known) * 50 > nodes.len() {
        whole.write(&snapshot, &store);
    }
    let (_, mut observer) = begin(common, &store, snapshot.profile.as_deref(), nodes.len())?;
    let mut summary = Summary { nodes: nodes.len(), cached: nodes.len(), ..Summary::default() };
    for (node, kind) in nodes {
        let (name, key, saved_seconds) = (node.name.clone(), node.key.to_string(), node.seconds);
        summary.saved_seconds += saved_seconds;
        observer.observe(&Event::Cached { node: name, kind, key, saved_seconds });
    }
    let delivered = files.check_unchanged().and_then(|()| {
        let exports =
            snapshot.exports.iter().map(|(node, artifact)| (node.as_str(), artifact)).collect();
        deliver_all(
            common,
            &store,
            snapshot.profile.as_deref(),
            exports,
            snapshot.exports.len(),
            &mut observer,
        )
    });
    (summary.outcome, summary.seconds) =
        (schedule::ending(&delivered), began.elapsed().as_secs_f64());
    observer.observe(&Event::Ended(summary));
    delivered?;
    store.sweep();
    Ok(true)
}

/// What a run still has to do when all is made; it may fail at that.
fn finish(
    common: &Common,
    session: &Session,
    artifacts: &BTreeMap<NodeId, Arc<Artifact>>,
    expected: Option<&Expected>,
    observer: &mut dyn Observer,
) -> Result<()> {
    session.plan.files.check_unchanged()?;
    if let Some(expected) = expected {
        let (lock, root) = (expected.source().to_owned(), expected.root().to_string());
        observer.observe(&Event::AsLocked { lock, root, nodes: artifacts.len() });
    }
    let exports = |id: &NodeId| session.plan.node(*id).kind.exports();
    let made = artifacts.iter().filter(|(id, _)| exports(id));
    let made =
        made.map(|(id, artifact)| (session.plan.node(*id).name.as_str(), &**artifact)).collect();
    let of = session.plan.ids().filter(exports).count();
    deliver_all(common, &session.store, session.profile.as_deref(), made, of, observer)?;
    session.store.write_index()
}

fn write_source_index(files: &Sources, store: &Store) -> Result<()> {
    files.updated_index().map_or(Ok(()), |index| store.write_source_index(&index))
}

/// Where everything stands before anything runs; refused if it is not all cached and should be.
fn look(
    session: &Session,
    checker: &StatusChecker,
    wanted: &BTreeSet<NodeId>,
    require_cached: bool,
) -> Result<PlanStatus> {
    let plan_status = checker.plan_status(wanted)?;
    write_source_index(&session.plan.files, &session.store)?;
    if session.refetch {
        forget_choices(&session.plan, &session.store, &plan_status.checked)?;
    }
    if require_cached {
        plan::require_cached(session, &plan_status)?;
    }
    Ok(plan_status)
}

/// Whether what the jobs write is shown as they write it: where it was asked for, and where one runs at a time.
fn streams(verbosity: Verbosity, jobs: Option<u16>) -> bool {
    verbosity == Verbosity::Verbose || verbosity == Verbosity::Normal && jobs == Some(1)
}

/// Standard error for people, standard output for `--json`, the cache for the history.
fn observers(common: &Common, history: File) -> All {
    let verbosity = common.verbosity();
    let shown: Box<dyn Observer> = if common.json {
        Box::new(Json::new(Stdout))
    } else if stderr().is_terminal() {
        Box::new(Terminal::new(verbosity))
    } else {
        Box::new(Lines::new(stderr(), verbosity))
    };
    All(vec![shown, Box::new(Json::new(history))])
}

/// How many jobs at once: as many as asked for, or as there are cores.
pub(super) fn slots(jobs: Option<u16>) -> usize {
    jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

/// This program again. Its digest is taken once, if anything is `due`.
fn local_executor(common: &Common, slots: usize, due: bool, scratch: PathBuf) -> Result<Local> {
    let digest = due.then(|| Digest::of_file(&itself()?)).transpose()?;
    let told = digest
        .into_iter()
        .flat_map(|digest| ["--program".into(), digest.to_string().into()])
        .collect();
    child_processes(common, told, slots, scratch)
}

/// This program again, in the same folder, with the same cache and data folder, `slots` at once; `exec` is also `told` this. Its
/// logs are in `scratch`.
pub(super) fn child_processes(
    common: &Common,
    told: Vec<OsString>,
    slots: usize,
    scratch: PathBuf,
) -> Result<Local> {
    let mut arguments: Vec<OsString> =
        vec!["-C".into(), common.directory.clone().into(), "exec".into()];
    arguments.extend(told);
    let variable = |name: &str, value: PathBuf| (name.to_owned(), value);
    let data = common.data_folder()?.map(|folder| variable(crate::stage::DATA_VARIABLE, folder));
    let cache = common.cache.clone().map(|folder| variable(CACHE_VARIABLE, folder));
    let no_lock = common.no_lock.then(|| variable(NO_LOCK_VARIABLE, "true".into()));
    let environment = [data, cache, no_lock].into_iter().flatten().collect();
    Ok(Local::new(itself()?, arguments, environment, slots, scratch).called(path()?))
}

/// The program that runs now. Where the system tells it by its file, not by its path, it is that one whatever has been put
/// in its place since: who builds anew during a run neither fails it nor mixes two programs' answers.
fn itself() -> Result<PathBuf> {
    let file = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && file.exists() { Ok(file.to_owned()) } else { path() }
}

/// Where it lies, or lay when it began.
fn path() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}

fn forget_choices(
    plan: &Plan,
    store: &Store,
    checked: &BTreeMap<NodeId, crate::engine::run::status::Checked>,
) -> Result<()> {
    for (id, checked) in checked {
        let due = !matches!(checked.status, Status::Cached(_));
        if due && plan.node(*id).resolved.fallback.is_some() {
            store.remove_fallback(checked.key)?;
        }
    }
    Ok(())
}

/// Lays out the outputs of nodes that deliver, which the pipeline has `of`, in [`reports`], or in a folder each below it if
/// there are several.
fn deliver_all(
    common: &Common,
    store: &Store,
    profile: Option<&str>,
    made: Vec<(&str, &Artifact)>,
    of: usize,
    observer: &mut dyn Observer,
) -> Result<()> {
    let reports = reports(common, profile)?;
    // Another run may write the same folders with other overrides. All their files are of one run:
    // the last to finish.
    let _turn = store.lock_update()?;
    for (node, artifact) in made {
        // Several would overwrite each other.
        let folder = if of == 1 { reports.clone() } else { reports.join(folder_name(node)) };
        let folder = folder.display().to_string();
        let Exported { written, removed } = export(store, artifact, &common.directory, &folder)?;
        observer.observe(&Event::Delivered { folder, written, files: artifact.len(), removed });
    }
    Ok(())
}

/// The folder of a profile's reports: `reports/<profile>/`, and that in a folder of its own for a pipeline that is not
/// `pipeline.yaml`, since both may have such a profile: `reports/small/<profile>/` for `small.yaml`,
/// `reports/small.yml/<profile>/` for `small.yml`.
fn reports(common: &Common, profile: Option<&str>) -> Result<PathBuf> {
    let (reports, pipeline) = (Path::new("reports"), common.pipeline_path()?);
    let folder = match pipeline.as_path() == Path::new("pipeline.yaml") {
        true => reports.to_owned(),
        false => reports.join(folder_name(&without_yaml(&pipeline).to_string_lossy())),
    };
    Ok(folder.join(profile.unwrap_or("default")))
}
